use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{ConfidentialClient, TokenFetcher};
use crate::authority::{Authority, Cloud};
use crate::cache::CacheOptions;
use crate::certificate::Certificate;
use crate::client_auth::TokenEndpointAuthMethod;
use crate::credential::{
    ClientAssertionProvider, CredentialConfig, CredentialSource, CredentialStore, Rotating,
};
use crate::endpoint::Endpoints;
use crate::error::Error;
use crate::metrics::{Acquisition, Observer};
use crate::request::claims::Capabilities;
use crate::retry::{RetryBudget, RetryPolicy};
use crate::secret::Secret;
use crate::time::{Clock, TimeSource};
use crate::transport::{Transport, TransportConfig, no_time};

/// Collects what a [`ConfidentialClient`] needs: a tenant or an authority, and one credential.
///
/// Nothing is checked before [`build`](Self::build).
#[must_use]
pub struct ConfidentialClientBuilder {
    client_id: String,
    tenant: Option<String>,
    authority: Option<Authority>,
    credentials: Vec<CredentialConfig>,
    auth_method: Option<TokenEndpointAuthMethod>,
    capabilities: Vec<String>,
    cache: CacheOptions,
    retry: RetryPolicy,
    attempt_timeout: Duration,
    observer: Observer,
    sending: TransportConfig,
    clock: TimeSource,
}

impl ConfidentialClientBuilder {
    pub(crate) fn new(client_id: String) -> Self {
        Self {
            client_id,
            tenant: None,
            authority: None,
            credentials: Vec::new(),
            auth_method: None,
            capabilities: Vec::new(),
            cache: CacheOptions::default(),
            retry: RetryPolicy::default(),
            attempt_timeout: ATTEMPT_TIMEOUT,
            observer: Observer::default(),
            sending: TransportConfig::default(),
            clock: TimeSource::default(),
        }
    }

    /// The tenant, by its id (a GUID) or one of its domains, in the worldwide cloud. For another
    /// cloud use [`authority`](Self::authority).
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.tenant = Some(tenant.into());
        self
    }

    /// The identity provider and the tenant in it.
    pub fn authority(mut self, authority: Authority) -> Self {
        self.authority = Some(authority);
        self
    }

    /// Proves the client's identity with a secret: its *value*, shown once when it is created, not
    /// its id.
    pub fn client_secret(mut self, secret: impl Into<Secret>) -> Self {
        self.credentials
            .push(CredentialConfig::Secret(secret.into()));
        self
    }

    /// The same with a secret that may be replaced while the program runs: read from a file by
    /// [`SecretFile`](crate::credential::SecretFile), or fetched from a vault by a closure.
    pub fn client_secret_source(mut self, source: impl CredentialSource<Secret>) -> Self {
        let source = Rotating::new(source);
        self.credentials
            .push(CredentialConfig::SecretSource(source));
        self
    }

    /// How the client proves its identity at the token endpoint. Unless set, it is what an OpenID
    /// provider's metadata says (for a secret the form before the header, where it takes both), and
    /// elsewhere a secret is sent in the form. Microsoft Entra ID takes both ways.
    pub fn token_endpoint_auth_method(mut self, method: TokenEndpointAuthMethod) -> Self {
        self.auth_method = Some(method);
        self
    }

    /// Declares what the client can do beyond what every client can. `cp1` says that it answers claims
    /// challenges: Microsoft Entra ID then issues tokens of up to 24 hours, which an API such as
    /// Microsoft Graph may take back at any moment (continuous access evaluation). Each token
    /// request carries it in its `claims`.
    ///
    /// Declare it only if every call to such an API passes a challenge on, as the adapters do:
    /// see [`TokenRequest::claims`](crate::TokenRequest::claims).
    pub fn client_capabilities<C: Into<String>>(
        mut self,
        capabilities: impl IntoIterator<Item = C>,
    ) -> Self {
        self.capabilities = capabilities.into_iter().map(Into::into).collect();
        self
    }

    /// Proves the client's identity with a certificate registered with the application: each token
    /// request carries an assertion signed with its key, and the key stays where it is.
    pub fn certificate(mut self, certificate: Certificate) -> Self {
        self.credentials
            .push(CredentialConfig::Certificate(certificate));
        self
    }

    /// The same with a certificate that may be replaced while the program runs: read from a file by
    /// [`CertificateFile`](crate::credential::CertificateFile), or fetched from a vault by a closure.
    pub fn certificate_source(mut self, source: impl CredentialSource<Certificate>) -> Self {
        let source = Rotating::new(source);
        self.credentials
            .push(CredentialConfig::CertificateSource(source));
        self
    }

    /// Proves the client's identity with assertions made elsewhere: by a workload's platform, as
    /// [`FederatedTokenFile`](crate::credential::FederatedTokenFile) reads them, by a signing service, or by
    /// another application.
    pub fn client_assertion(mut self, provider: impl ClientAssertionProvider) -> Self {
        self.credentials
            .push(CredentialConfig::Assertion(Arc::new(provider)));
        self
    }

    /// Sets how many tokens are kept in memory, and how many are fetched at once.
    pub fn cache(mut self, options: CacheOptions) -> Self {
        self.cache = options;
        self
    }

    /// Sets how often a token request is repeated that brought nothing, and how long it may take in
    /// all: see [`RetryPolicy`]. [`RetryPolicy::none()`] repeats none.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// How long one attempt of a token request may take, from the connection to the last byte of the
    /// answer: 15 seconds unless set, and never longer than is left of the
    /// [deadline](RetryPolicy::with_deadline) for all of them. It holds for every transport.
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.attempt_timeout = timeout;
        self
    }

    /// How long reqwest may take to connect, TLS included: 5 seconds unless set. Another transport
    /// has limits of its own.
    #[cfg(feature = "reqwest")]
    #[cfg_attr(docsrs, doc(cfg(feature = "reqwest")))]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.sending.connect_timeout = Some(timeout);
        self
    }

    /// Sends token requests by this transport instead of reqwest.
    pub fn transport(mut self, transport: impl Transport) -> Self {
        self.sending.transport = Some(Arc::new(transport));
        self
    }

    /// Configures the HTTP client that sends token requests: a proxy, a private CA, a local
    /// address. Redirects are switched off and [`connect_timeout`](Self::connect_timeout) is set on
    /// top, and a loopback authority is never asked through a proxy. Those of the environment
    /// (`HTTPS_PROXY`, `NO_PROXY`) are used unless the builder says otherwise. On a current-thread tokio
    /// runtime its connections are not kept for the next request, since nobody drives them between
    /// two `block_on`s; without this call they are, for requests of the same thread.
    #[cfg(feature = "reqwest")]
    #[cfg_attr(docsrs, doc(cfg(feature = "reqwest")))]
    pub fn reqwest(mut self, builder: reqwest::ClientBuilder) -> Self {
        self.sending.reqwest = Some(builder);
        self
    }

    /// Tells `observer` how each token request went, for metrics. It is called on the tokio runtime,
    /// once for each, and must not block. [`TokenCache::stats`](crate::TokenCache::stats) has the counts without it.
    ///
    /// With the `metrics` crate it would be:
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use confidential_client::ConfidentialClient;
    /// # use confidential_client::metrics::Acquisition;
    /// # struct Handle;
    /// # impl Handle { fn increment(&self, _: u64) {} fn record(&self, _: Duration) {} }
    /// # macro_rules! counter { ($($any:tt)*) => { Handle } }
    /// # macro_rules! histogram { ($($any:tt)*) => { Handle } }
    /// let builder = ConfidentialClient::builder("11111111-2222-3333-4444-555555555555")
    ///     .observer(|acquisition: Acquisition| {
    ///         let outcome = acquisition.outcome.as_str();
    ///         counter!("token_requests_total", "outcome" => outcome).increment(1);
    ///         histogram!("token_request_seconds").record(acquisition.duration);
    ///     });
    /// # let _ = builder;
    /// ```
    pub fn observer(mut self, observer: impl Fn(Acquisition) + Send + Sync + 'static) -> Self {
        self.observer = Observer::new(observer);
        self
    }

    /// Reads the time from `clock` instead of the operating system: for tests.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = TimeSource::Injected(Arc::new(clock));
        self
    }

    /// Checks everything and makes the client. Does no network I/O, so it says nothing about
    /// whether the identity provider will accept the credential.
    ///
    /// # Errors
    ///
    /// [`Error::Config`], saying what to do: an empty client id; no tenant, or two that differ; a
    /// tenant that is neither id nor domain; an authority that is not https (loopback addresses
    /// excepted); a URL given to [`Authority::parse`] that is no authority; no credential, or two; an empty secret, or one with white space around it; no
    /// transport, or https without TLS compiled in. [`Error::Credential`]: a certificate outside
    /// its validity, with an algorithm that does not go with its key, or with a P-256 key for
    /// Microsoft Entra ID. What a source has is not looked at yet.
    pub fn build(self) -> Result<ConfidentialClient, Error> {
        check_client_id(&self.client_id)?;
        let authority = authority(self.tenant, self.authority)?;
        let endpoints = Endpoints::of(&authority)?;
        self.cache.check()?;
        let given = one_credential(self.credentials)?;
        self.retry.check()?;
        let now = self.clock.now().wall;
        let credential =
            CredentialStore::new(given, endpoints.rules(), self.retry.step_limit(), now)?;
        check_auth_method(self.auth_method, credential.is_secret())?;
        if self.capabilities.iter().any(|name| name.trim().is_empty()) {
            return Err(Error::config(
                "a client capability has no name; declare one such as 'cp1', or leave client_capabilities(..) out",
            ));
        }
        if self.attempt_timeout.is_zero() {
            return Err(no_time());
        }
        let transport = self.sending.transport(&endpoints)?;
        let fetcher = TokenFetcher {
            client_id: self.client_id,
            endpoints,
            credential,
            auth_method: self.auth_method,
            capabilities: Capabilities::new(&self.capabilities),
            retry: self.retry,
            budget: RetryBudget::default(),
            attempt_timeout: self.attempt_timeout,
            observer: self.observer,
            transport,
            clock: self.clock,
        };
        Ok(ConfidentialClient::new(&self.cache, fetcher))
    }
}

fn check_client_id(client_id: &str) -> Result<(), Error> {
    if client_id.trim().is_empty() {
        return Err(Error::config(
            "the client id is empty; use the application (client) id of the app registration",
        ));
    }
    if client_id.trim() != client_id {
        return Err(Error::config(format!(
            "the client id {client_id:?} begins or ends with white space; trim what was read"
        )));
    }
    Ok(())
}

/// The one authority that tenant and authority together name.
fn authority(tenant: Option<String>, authority: Option<Authority>) -> Result<Authority, Error> {
    match (tenant, authority) {
        (None, None) => Err(Error::config(
            "no tenant; call tenant(..) with the directory's id or domain, or authority(..)",
        )),
        (Some(tenant), None) => Ok(Authority::entra(Cloud::Public, tenant)),
        // Which says itself why it cannot be used.
        (Some(_), Some(authority)) if authority.is_unreadable() => Ok(authority),
        (Some(tenant), Some(mut authority)) => match authority.tenant_mut() {
            // A cloud was pasted, and its tenant is said here.
            Some(named) if named.is_empty() => {
                *named = tenant;
                Ok(authority)
            }
            Some(named) if tenant.eq_ignore_ascii_case(named) => Ok(authority),
            Some(named) => Err(Error::config(format!(
                "two tenants, {tenant:?} by tenant(..) and {named:?} by authority(..); name one"
            ))),
            None => Err(Error::config(format!(
                "the tenant {tenant:?} cannot be used: the authority '{authority}' has no tenants; leave tenant(..) out"
            ))),
        },
        (None, Some(authority)) => Ok(authority),
    }
}

fn check_auth_method(
    method: Option<TokenEndpointAuthMethod>,
    is_secret: bool,
) -> Result<(), Error> {
    match method {
        Some(TokenEndpointAuthMethod::PrivateKeyJwt) if is_secret => Err(Error::config(
            "private_key_jwt sends an assertion, and the credential is a secret; use certificate(..) or client_assertion(..), or leave token_endpoint_auth_method(..) out",
        )),
        Some(
            TokenEndpointAuthMethod::ClientSecretPost | TokenEndpointAuthMethod::ClientSecretBasic,
        ) if !is_secret => Err(Error::config(
            "token_endpoint_auth_method(..) says how a secret is sent, and the credential is none; leave it out",
        )),
        _ => Ok(()),
    }
}

fn one_credential(credentials: Vec<CredentialConfig>) -> Result<CredentialConfig, Error> {
    let count = credentials.len();
    let mut credentials = credentials.into_iter();
    match credentials.next() {
        Some(credential) if count == 1 => Ok(credential),
        Some(_) => Err(Error::config(format!(
            "{count} credentials; a client proves its identity with one, so leave the others out"
        ))),
        None => Err(Error::config(
            "no credential; call client_secret(..), certificate(..) or client_assertion(..)",
        )),
    }
}

const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(15);

impl fmt::Debug for ConfidentialClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfidentialClientBuilder")
            .field("client_id", &self.client_id)
            .field("tenant", &self.tenant)
            .field("authority", &self.authority)
            .field("credentials", &self.credentials)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built() -> Result<ConfidentialClient, Error> {
        ConfidentialClientBuilder::new("client".to_owned())
            .tenant("contoso.com")
            .client_secret("s3cret")
            .build()
    }

    #[test]
    #[cfg(not(feature = "reqwest"))]
    fn without_reqwest_a_transport_is_asked_for() {
        let error = built().unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        assert!(error.to_string().starts_with("no transport"), "{error}");
    }

    #[test]
    #[cfg(all(
        feature = "reqwest",
        not(any(feature = "rustls", feature = "native-tls"))
    ))]
    fn without_tls_https_is_refused() {
        let error = built().unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        assert!(
            error.to_string().contains("no TLS is compiled in"),
            "{error}"
        );
    }

    #[test]
    #[cfg(any(feature = "rustls", feature = "native-tls"))]
    fn with_the_default_features_nothing_more_is_needed() {
        built().unwrap();
    }
}
