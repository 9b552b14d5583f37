use std::fmt;

use super::TokenProvider;
use super::thread::ClientThread;
use crate::client::{ManagedIdentityClientBuilder, TokenCache};
use crate::error::Error;
use crate::managed_identity::ManagedIdentity;
use crate::request::IntoTokenRequest;
use crate::token::AccessToken;

/// A blocking [`ManagedIdentityClient`](crate::ManagedIdentityClient).
///
/// Create one client per process, and share the client between the threads. A client is cheap to
/// clone, and the clones share the cache, the HTTP connections and the hidden thread.
///
/// ```
/// # use bytes::Bytes;
/// use confidential_client::blocking::ManagedIdentityClient;
/// use confidential_client::credential::ManagedIdentity;
///
/// # fn main() -> Result<(), confidential_client::Error> {
/// let client = ManagedIdentityClient::builder(ManagedIdentity::system_assigned())
/// #   .environment(confidential_client::credential::HostEnvironment::from_fn(|_| None))
/// #   .transport(|_: http::Request<Bytes>| async {
/// #       let body = r#"{"token_type":"Bearer","expires_in":"3599","access_token":"abc"}"#;
/// #       Ok(http::Response::new(Bytes::from(body)))
/// #   })
///     .build_blocking()?;
/// let token = client.acquire_token("https://vault.azure.net/.default")?;
/// # assert_eq!(token.secret(), "abc");
/// # Ok(())
/// # }
/// ```
#[doc(alias = "ManagedIdentityApplication")]
#[doc(alias = "ManagedIdentityCredential")]
#[derive(Clone)]
pub struct ManagedIdentityClient {
    client: crate::ManagedIdentityClient,
    thread: ClientThread,
}

impl ManagedIdentityClientBuilder {
    /// Checks all settings, and builds a client for a program that is not async.
    ///
    /// Does what [`build`](Self::build) does. Starts no thread.
    ///
    /// # Errors
    ///
    /// The errors of [`build`](Self::build).
    pub fn build_blocking(self) -> Result<ManagedIdentityClient, Error> {
        self.build().map(ManagedIdentityClient::from)
    }
}

/// Uses the cache and the connections of the async client.
impl From<crate::ManagedIdentityClient> for ManagedIdentityClient {
    fn from(client: crate::ManagedIdentityClient) -> Self {
        let thread = ClientThread::default();
        Self { client, thread }
    }
}

impl ManagedIdentityClient {
    /// Creates a client of an identity, with the default settings. Does no I/O.
    ///
    /// # Errors
    ///
    /// The errors of [`build`](ManagedIdentityClientBuilder::build).
    pub fn new(identity: ManagedIdentity) -> Result<Self, Error> {
        Self::builder(identity).build_blocking()
    }

    /// Returns a builder, whose [`build_blocking`](ManagedIdentityClientBuilder::build_blocking)
    /// creates the client.
    pub fn builder(identity: ManagedIdentity) -> ManagedIdentityClientBuilder {
        crate::ManagedIdentityClient::builder(identity)
    }

    /// Creates a client of the identity that the environment names, like
    /// [`ManagedIdentityClient::from_env`](crate::ManagedIdentityClient::from_env).
    ///
    /// # Errors
    ///
    /// The errors of that function.
    pub fn from_env() -> Result<Self, Error> {
        ManagedIdentityClientBuilder::from_env()?.build_blocking()
    }

    /// Returns the async client with the same cache, for the async part of a program and for the
    /// adapters.
    pub fn as_async(&self) -> &crate::ManagedIdentityClient {
        &self.client
    }

    /// Acquires a token of the identity for one resource, like
    /// [`acquire_token`](crate::ManagedIdentityClient::acquire_token).
    ///
    /// A cached token is returned without the hidden thread. Many threads that wait for the same
    /// token share one token request.
    ///
    /// # Errors
    ///
    /// The errors of the async method, and the [errors of a blocking call](super#errors).
    #[doc(alias = "get_token")]
    #[doc(alias = "acquire_token_for_managed_identity")]
    pub fn acquire_token(&self, request: impl IntoTokenRequest) -> Result<AccessToken, Error> {
        let acquirer = self.client.acquirer();
        acquirer.acquire_for_application_with(request, |request| {
            let instead = "client.as_async().acquire_token(..)";
            self.thread.acquire(instead, acquirer, request)
        })
    }

    /// Returns a [`TokenProvider`] for repeated calls with the same request, like
    /// [`token_provider`](crate::ManagedIdentityClient::token_provider). Does no I/O.
    ///
    /// # Errors
    ///
    /// The errors of the async client's method.
    #[doc(alias = "get_bearer_token_provider")]
    pub fn token_provider(&self, request: impl IntoTokenRequest) -> Result<TokenProvider, Error> {
        let provider = self.client.token_provider(request)?;
        Ok(TokenProvider::new(provider, self.thread.clone()))
    }

    /// Removes a token from the cache that an API rejected, like
    /// [`invalidate`](crate::ManagedIdentityClient::invalidate). Does no I/O.
    pub fn invalidate(&self, token: &AccessToken) {
        self.client.invalidate(token);
    }

    /// Returns the client's token cache: its size, its statistics, and a way to clear it.
    pub fn cache(&self) -> TokenCache<'_> {
        self.client.cache()
    }
}

impl fmt::Debug for ManagedIdentityClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.client.fmt(f)
    }
}
