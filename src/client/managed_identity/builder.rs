use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{IdentityFetcher, ManagedIdentityClient};
use crate::cache::CacheOptions;
use crate::client::builder::{ATTEMPT_TIMEOUT, check_capabilities};
use crate::error::Error;
use crate::managed_identity::{
    FetcherSettings, HostEnvironment, ManagedIdentity, ManagedIdentityFetcher,
};
use crate::metrics::{Acquisition, Observer};
use crate::retry::RetryPolicy;
use crate::time::{Clock, TimeSource};
use crate::transport::{Transport, zero_timeout};

/// A builder of a [`ManagedIdentityClient`].
///
/// No method fails. [`build`](Self::build) checks everything.
#[must_use]
pub struct ManagedIdentityClientBuilder {
    identity: ManagedIdentity,
    environment: HostEnvironment,
    capabilities: Vec<String>,
    cache: CacheOptions,
    deadline: Option<Duration>,
    attempt_timeout: Duration,
    connect_timeout: Option<Duration>,
    observer: Observer,
    transport: Option<Arc<dyn Transport>>,
    pub(in crate::client) clock: TimeSource,
}

impl ManagedIdentityClientBuilder {
    pub(super) fn new(identity: ManagedIdentity) -> Self {
        Self {
            identity,
            environment: HostEnvironment::of_process(),
            capabilities: Vec::new(),
            cache: CacheOptions::default(),
            deadline: None,
            attempt_timeout: ATTEMPT_TIMEOUT,
            connect_timeout: None,
            observer: Observer::default(),
            transport: None,
            clock: TimeSource::default(),
        }
    }

    /// Sets the environment that selects the source of the tokens.
    ///
    /// The default is the environment of the process. A test describes another host by a value.
    ///
    /// ```
    /// # use bytes::Bytes;
    /// # use http::{Request, Response};
    /// use confidential_client::ManagedIdentityClient;
    /// use confidential_client::credential::{HostEnvironment, ManagedIdentity};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let app_service = HostEnvironment::from_variables([
    ///     ("IDENTITY_ENDPOINT", "http://127.0.0.1:41741/msi/token"),
    ///     ("IDENTITY_HEADER", "a key of the host"),
    /// ]);
    /// let client = ManagedIdentityClient::builder(ManagedIdentity::system_assigned())
    ///     .environment(app_service)
    /// #   .transport(|request: Request<Bytes>| async move {
    /// #       assert_eq!(request.headers()["x-identity-header"], "a key of the host");
    /// #       let body = r#"{"token_type":"Bearer","expires_in":3599,"access_token":"abc"}"#;
    /// #       Ok(Response::new(Bytes::from(body)))
    /// #   })
    ///     .build()?;
    /// let token = client.acquire_token("https://vault.azure.net/.default").await?;
    /// assert_eq!(token.secret(), "abc");
    /// # Ok(())
    /// # }
    /// ```
    pub fn environment(mut self, environment: HostEnvironment) -> Self {
        self.environment = environment;
        self
    }

    /// Declares capabilities of the client, such as `cp1`.
    ///
    /// Service Fabric alone receives the capabilities, in a request after a rejected token.
    pub fn client_capabilities<C: Into<String>>(
        mut self,
        capabilities: impl IntoIterator<Item = C>,
    ) -> Self {
        self.capabilities = capabilities.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the limits of the token cache and of concurrent token requests.
    pub fn cache(mut self, options: CacheOptions) -> Self {
        self.cache = options;
        self
    }

    /// Sets the time limit of a token request with all retries.
    ///
    /// The default is 75 seconds for IMDS, because an update of IMDS lasts up to 70 seconds, and 30
    /// seconds for the other sources. The maximum is ten minutes. A longer limit gives an update of
    /// IMDS more time. After other failures the number of retries is fixed.
    ///
    /// An application that has the client as its
    /// [`client_assertion`](crate::ConfidentialClientBuilder::client_assertion) waits for an
    /// assertion for at most ten seconds. The token request of the identity continues, and the next
    /// token request of the application joins it.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Sets the time limit of one attempt. The default is 15 seconds.
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.attempt_timeout = timeout;
        self
    }

    /// Sets the time limit of reqwest for connecting, TLS included. The default is 5 seconds.
    ///
    /// Another transport has its own limits.
    #[cfg(feature = "reqwest")]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = Some(timeout);
        self
    }

    /// Sends token requests by this transport instead of reqwest.
    ///
    /// The transport must use no proxy and follow no redirect. For Service Fabric the transport
    /// must compare the server's certificate with `IDENTITY_SERVER_THUMBPRINT`.
    pub fn transport(mut self, transport: impl Transport) -> Self {
        self.transport = Some(Arc::new(transport));
        self
    }

    /// Sets an observer of token requests, for metrics.
    ///
    /// The client calls the observer on the tokio runtime, once for each token request. The
    /// observer must not block.
    pub fn observer(mut self, observer: impl Fn(Acquisition) + Send + Sync + 'static) -> Self {
        self.observer.set(observer);
        self
    }

    /// Adds the resource to each [`Acquisition`](crate::metrics::Acquisition).
    pub fn observe_resources(mut self) -> Self {
        self.observer.name_tenants();
        self
    }

    /// Sets the clock that replaces the operating system's, for tests.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = TimeSource::Injected(Arc::new(clock));
        self
    }

    /// Checks all settings, and builds the client.
    ///
    /// Does no I/O. Whether the host has the identity is known after the first token request. The
    /// variables of the host are read for each token request, because App Service replaces
    /// `IDENTITY_HEADER` while the program runs.
    ///
    /// # Errors
    ///
    /// [`Error::Config`]: an ID that is empty, of another kind or no GUID; a variable of the host
    /// that cannot be used; an ID that the source does not accept; a limit of zero; a capability
    /// without a name; no transport. The message says what to do.
    pub fn build(self) -> Result<ManagedIdentityClient, Error> {
        self.cache.check()?;
        check_capabilities(&self.capabilities)?;
        match self.connect_timeout {
            Some(limit) if limit.is_zero() => return Err(zero_timeout("connect_timeout")),
            Some(_) if self.transport.is_some() => {
                return Err(Error::config(
                    "connect_timeout(..) is for reqwest, and a custom transport is set; set the limit in the transport and remove connect_timeout(..)",
                ));
            }
            _ => {}
        }
        if cfg!(not(feature = "reqwest")) && self.transport.is_none() {
            return Err(Error::config(
                "no transport is set; call transport(..), or enable the feature 'reqwest' of confidential-client",
            ));
        }
        let fetcher = ManagedIdentityFetcher::new(FetcherSettings {
            identity: self.identity,
            environment: self.environment,
            capabilities: self.capabilities,
            transport: self.transport,
            connect_timeout: self.connect_timeout,
            attempt_timeout: self.attempt_timeout,
            clock: self.clock.clone(),
        })?;
        let deadline = self.deadline.unwrap_or_else(|| fetcher.default_deadline());
        RetryPolicy::default().deadline(deadline).check()?;
        let fetcher = IdentityFetcher {
            fetcher,
            deadline,
            observer: self.observer,
            clock: self.clock,
        };
        Ok(ManagedIdentityClient::from_parts(&self.cache, fetcher))
    }
}

impl fmt::Debug for ManagedIdentityClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManagedIdentityClientBuilder")
            .field("identity", &self.identity)
            .field("environment", &self.environment)
            .finish_non_exhaustive()
    }
}
