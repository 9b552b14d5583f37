use std::fmt;
use std::sync::Arc;

use super::issuer::Issuer;
use super::{TokenAcquirer, TokenCache, TokenProvider};
use crate::cache::CacheOptions;
use crate::credential::CredentialChain;
use crate::error::Error;
use crate::request::IntoTokenRequest;
use crate::token::AccessToken;

mod application_link;
mod builder;
mod fetch;
mod missing_file_link;

pub use builder::CredentialChainClientBuilder;
pub(super) use fetch::ChainFetcher;

/// A client of the first available credential of a [`CredentialChain`].
///
/// One program runs with workload identity in Kubernetes, with a managed identity on other hosts of
/// Azure and with `az login` on a developer's machine. Create one client per process, and share the
/// client. A client is cheap to clone (two `Arc`s inside), and holds the token cache and the HTTP
/// connections. Every method takes `&self`. A token that is due for refresh is refreshed in the
/// background, and many callers share one token request, as with
/// [`ConfidentialClient`](crate::ConfidentialClient).
///
/// ```
/// # use bytes::Bytes;
/// use confidential_client::CredentialChainClient;
/// use confidential_client::credential::{CredentialChain, HostEnvironment};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // A test describes the host by a value. The default is the environment of the process.
/// let host = HostEnvironment::from_variables([
///     ("AZURE_TENANT_ID", "contoso.onmicrosoft.com"),
///     ("AZURE_CLIENT_ID", "11111111-2222-3333-4444-555555555555"),
///     ("AZURE_CLIENT_SECRET", "the secret's value"),
/// ]);
/// let client = CredentialChainClient::builder(CredentialChain::default())
///     .environment(host)
/// #   .transport(|request: http::Request<Bytes>| async move {
/// #       let path = "/contoso.onmicrosoft.com/oauth2/v2.0/token";
/// #       assert_eq!(request.uri().path(), path);
/// #       let body = r#"{"token_type":"Bearer","expires_in":3599,"access_token":"abc"}"#;
/// #       Ok(http::Response::new(Bytes::from(body)))
/// #   })
///     .build()?;
/// let token = client.acquire_token("https://vault.azure.net/.default").await?;
/// assert_eq!(token.secret(), "abc");
/// assert_eq!(client.selected_link(), Some("environment"));
/// # Ok(())
/// # }
/// ```
///
/// # The selection
///
/// | link | passed over if |
/// |---|---|
/// | environment | a variable of the link is not set |
/// | workload identity | a variable of the link is not set, or the token file does not exist |
/// | managed identity | the host has no endpoint or no system-assigned identity |
/// | managed identity | the host does not accept the kind of ID, such as any ID in Cloud Shell |
/// | Azure CLI, Azure Developer CLI | the program is not installed, fails, or needs a login |
///
/// Every other failure ends the chain, so that an outage never selects another identity. IMDS is
/// probed with one connection attempt, unless the managed identity is the only link. "No IMDS" is
/// remembered for a minute. A chain with one link passes nothing over:
/// [`build`](CredentialChainClientBuilder::build) rejects a missing token file and an ID that the
/// host does not accept.
///
/// The link that issued the first token issues all later tokens of the client and its clones. A
/// deployed program that knows its credential needs no chain: a
/// [`ManagedIdentityClient`](crate::ManagedIdentityClient) says sooner what is wrong. The variable
/// `AZURE_TOKEN_CREDENTIALS` with the value `prod` removes the developer's tools.
#[doc(alias = "DefaultAzureCredential")]
#[doc(alias = "ChainedTokenCredential")]
#[doc(alias = "DeveloperToolsCredential")]
#[derive(Clone)]
pub struct CredentialChainClient {
    acquirer: TokenAcquirer,
    fetcher: Arc<ChainFetcher>,
}

impl CredentialChainClient {
    /// Creates a client of a chain, with the default settings.
    ///
    /// # Errors
    ///
    /// The errors of [`build`](CredentialChainClientBuilder::build).
    pub fn new(chain: CredentialChain) -> Result<Self, Error> {
        Self::builder(chain).build()
    }

    /// Returns a builder for a client of a chain.
    pub fn builder(chain: CredentialChain) -> CredentialChainClientBuilder {
        CredentialChainClientBuilder::new(chain)
    }

    fn from_parts(options: &CacheOptions, fetcher: ChainFetcher) -> Self {
        let (limit, clock) = (fetcher.deadline, fetcher.clock.clone());
        let fetcher = Arc::new(fetcher);
        let issuer = Issuer::CredentialChain(Arc::clone(&fetcher));
        Self {
            acquirer: TokenAcquirer::new(options, limit, clock, issuer),
            fetcher,
        }
    }
}

/// # Acquiring tokens
impl CredentialChainClient {
    /// Acquires a token of the first available credential for one resource.
    ///
    /// The request is the resource's `/.default` scope, such as `https://vault.azure.net/.default`,
    /// or the resource alone. Both spellings share one cache entry.
    ///
    /// Returns the cached token while the token is valid. Otherwise one token request runs through
    /// the chain, however many callers wait for the same token. Dropping the returned future does
    /// not cancel the request for other callers. A token that is due for refresh is returned at
    /// once and refreshed in the background. After a failure, further calls receive the same error
    /// without another request for a while.
    ///
    /// # Errors
    ///
    /// Before the network, [`Error::Config`]: no scope, scopes of two resources, a tenant, an extra
    /// parameter, a correlation ID that is no GUID, or no tokio runtime.
    ///
    /// After it:
    ///
    /// - [`Error::Credential`]: no link is available. The message has the reason of every link.
    /// - [`Error::InteractionRequired`]: an API requires claims from the account of a developer's
    ///   tool. The message has the command to run.
    /// - The error of the link that ended the chain, with the reasons of the links before it.
    #[doc(alias = "get_token")]
    pub async fn acquire_token(
        &self,
        request: impl IntoTokenRequest,
    ) -> Result<AccessToken, Error> {
        self.acquirer.acquire_for_application(request).await
    }

    /// Returns a [`TokenProvider`] for repeated calls with the same request: the fastest path.
    ///
    /// Does no I/O, and requests no token yet. The adapters of this crate accept the provider.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a request that [`acquire_token`](Self::acquire_token) rejects. Also
    /// for one with a correlation ID, claims, a rejected token or a forced refresh, which belong to
    /// a single call.
    #[doc(alias = "get_bearer_token_provider")]
    pub fn token_provider(&self, request: impl IntoTokenRequest) -> Result<TokenProvider, Error> {
        let request = ChainFetcher::resolve(request.into_token_request())?;
        self.acquirer.bind(request)
    }

    /// Returns the name of the link that issues the tokens, or `None` before the first token.
    ///
    /// The names are `environment`, `workload identity`, `managed identity`, `Azure CLI`,
    /// `Azure Developer CLI` and the names of
    /// [`ChainLink::from_fn`](crate::credential::ChainLink::from_fn).
    pub fn selected_link(&self) -> Option<&str> {
        self.fetcher.chain.winner()
    }

    /// Removes a token from the cache that an API rejected, so that the next call acquires another.
    ///
    /// Does no I/O. A token that was refreshed since then stays cached. Within 30 seconds after a
    /// token was replaced for this reason the next one stays cached, too. The host of a managed
    /// identity and the developer's tools have caches of their own, and may return the same token.
    /// Service Fabric issues another token, because the next token request has the SHA-256 of the
    /// removed token.
    pub fn invalidate(&self, token: &AccessToken) {
        self.acquirer.invalidate(token);
    }

    /// Returns the client's token cache: its size, its statistics, and a way to clear it.
    pub fn cache(&self) -> TokenCache<'_> {
        TokenCache::new(&self.acquirer)
    }

    /// Returns the part of the client that does not depend on the kind of the client.
    #[cfg(any(
        feature = "azure-core",
        feature = "blocking",
        feature = "metrics",
        feature = "opentelemetry"
    ))]
    pub(crate) fn acquirer(&self) -> &TokenAcquirer {
        &self.acquirer
    }
}

impl fmt::Debug for CredentialChainClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fetcher.fmt(f)
    }
}
