use std::fmt;

use super::TokenProvider;
use super::thread::ClientThread;
use crate::client::{CredentialChainClientBuilder, TokenCache};
use crate::credential::CredentialChain;
use crate::error::Error;
use crate::request::IntoTokenRequest;
use crate::token::AccessToken;

/// A blocking [`CredentialChainClient`](crate::CredentialChainClient).
///
/// Create one client per process, and share the client between the threads. A client is cheap to
/// clone, and the clones share the cache, the HTTP connections and the hidden thread.
///
/// ```
/// # use bytes::Bytes;
/// use confidential_client::blocking::CredentialChainClient;
/// use confidential_client::credential::{CredentialChain, HostEnvironment};
///
/// # fn main() -> Result<(), confidential_client::Error> {
/// # let host = HostEnvironment::from_variables([
/// #     ("AZURE_TENANT_ID", "contoso.onmicrosoft.com"),
/// #     ("AZURE_CLIENT_ID", "11111111-2222-3333-4444-555555555555"),
/// #     ("AZURE_CLIENT_SECRET", "the secret's value"),
/// # ]);
/// let client = CredentialChainClient::builder(CredentialChain::default())
/// #   .environment(host)
/// #   .transport(|_: http::Request<Bytes>| async {
/// #       let body = r#"{"token_type":"Bearer","expires_in":3599,"access_token":"abc"}"#;
/// #       Ok(http::Response::new(Bytes::from(body)))
/// #   })
///     .build_blocking()?;
/// let token = client.acquire_token("https://vault.azure.net/.default")?;
/// # assert_eq!((token.secret(), client.selected_link()), ("abc", Some("environment")));
/// # Ok(())
/// # }
/// ```
#[doc(alias = "DefaultAzureCredential")]
#[doc(alias = "ChainedTokenCredential")]
#[doc(alias = "DeveloperToolsCredential")]
#[derive(Clone)]
pub struct CredentialChainClient {
    client: crate::CredentialChainClient,
    thread: ClientThread,
}

impl CredentialChainClientBuilder {
    /// Checks all settings, and builds a client for a program that is not async.
    ///
    /// Does what [`build`](Self::build) does. Starts no thread.
    ///
    /// # Errors
    ///
    /// The errors of [`build`](Self::build).
    pub fn build_blocking(self) -> Result<CredentialChainClient, Error> {
        self.build().map(CredentialChainClient::from)
    }
}

/// Uses the cache and the connections of the async client.
impl From<crate::CredentialChainClient> for CredentialChainClient {
    fn from(client: crate::CredentialChainClient) -> Self {
        let thread = ClientThread::default();
        Self { client, thread }
    }
}

impl CredentialChainClient {
    /// Creates a client of a chain, with the default settings.
    ///
    /// # Errors
    ///
    /// The errors of [`build`](CredentialChainClientBuilder::build).
    pub fn new(chain: CredentialChain) -> Result<Self, Error> {
        Self::builder(chain).build_blocking()
    }

    /// Returns a builder, whose [`build_blocking`](CredentialChainClientBuilder::build_blocking)
    /// creates the client.
    pub fn builder(chain: CredentialChain) -> CredentialChainClientBuilder {
        crate::CredentialChainClient::builder(chain)
    }

    /// Returns the async client with the same cache, for the async part of a program and for the
    /// adapters.
    pub fn as_async(&self) -> &crate::CredentialChainClient {
        &self.client
    }

    /// Acquires a token of the first available credential for one resource, like
    /// [`acquire_token`](crate::CredentialChainClient::acquire_token).
    ///
    /// A cached token is returned without the hidden thread. Many threads that wait for the same
    /// token share one token request.
    ///
    /// # Errors
    ///
    /// The errors of the async method, and the [errors of a blocking call](super#errors).
    #[doc(alias = "get_token")]
    pub fn acquire_token(&self, request: impl IntoTokenRequest) -> Result<AccessToken, Error> {
        let acquirer = self.client.acquirer();
        acquirer.acquire_for_application_with(request, |request| {
            let instead = "client.as_async().acquire_token(..)";
            self.thread.acquire(instead, acquirer, request)
        })
    }

    /// Returns a [`TokenProvider`] for repeated calls with the same request, like
    /// [`token_provider`](crate::CredentialChainClient::token_provider). Does no I/O.
    ///
    /// # Errors
    ///
    /// The errors of the async client's method.
    #[doc(alias = "get_bearer_token_provider")]
    pub fn token_provider(&self, request: impl IntoTokenRequest) -> Result<TokenProvider, Error> {
        let provider = self.client.token_provider(request)?;
        Ok(TokenProvider::new(provider, self.thread.clone()))
    }

    /// Returns the name of the link that issues the tokens, like
    /// [`selected_link`](crate::CredentialChainClient::selected_link).
    pub fn selected_link(&self) -> Option<&str> {
        self.client.selected_link()
    }

    /// Removes a token from the cache that an API rejected, like
    /// [`invalidate`](crate::CredentialChainClient::invalidate). Does no I/O.
    pub fn invalidate(&self, token: &AccessToken) {
        self.client.invalidate(token);
    }

    /// Returns the client's token cache: its size, its statistics, and a way to clear it.
    pub fn cache(&self) -> TokenCache<'_> {
        self.client.cache()
    }
}

impl fmt::Debug for CredentialChainClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.client.fmt(f)
    }
}
