use std::fmt;
use std::sync::Arc;

use super::issuer::Issuer;
use super::{TokenAcquirer, TokenCache, TokenProvider};
use crate::cache::CacheOptions;
use crate::error::Error;
use crate::managed_identity::ManagedIdentity;
use crate::request::IntoTokenRequest;
use crate::token::AccessToken;

mod assertion;
mod builder;
mod fetch;

pub use builder::ManagedIdentityClientBuilder;
pub(super) use fetch::IdentityFetcher;

/// A client of the managed identity that Azure gives to the host of the program.
///
/// The program needs no secret, no client ID and no tenant. Create one client per process, and
/// share the client. A client is cheap to clone (two `Arc`s inside), and holds the token cache and
/// the HTTP connections. Every method takes `&self`. A token that is due for refresh is refreshed
/// in the background, and many callers share one token request, as with
/// [`ConfidentialClient`](crate::ConfidentialClient).
///
/// ```
/// # use bytes::Bytes;
/// use confidential_client::credential::ManagedIdentity;
/// use confidential_client::{ManagedIdentityClient, TokenSource};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let client = ManagedIdentityClient::builder(ManagedIdentity::system_assigned())
/// #   .environment(confidential_client::credential::HostEnvironment::from_fn(|_| None))
/// #   .transport(|request: http::Request<Bytes>| async move {
/// #       assert_eq!(request.headers()["metadata"], "true");
/// #       let body = r#"{"token_type":"Bearer","expires_in":"3599","access_token":"abc"}"#;
/// #       Ok(http::Response::new(Bytes::from(body)))
/// #   })
///     .build()?;
/// let vault = "https://vault.azure.net/.default";
/// let token = client.acquire_token(vault).await?;
/// assert_eq!(token.source(), TokenSource::IdentityProvider);
/// let token = client.acquire_token(vault).await?;
/// assert_eq!(token.source(), TokenSource::Cache);
/// # Ok(())
/// # }
/// ```
///
/// # Sources
///
/// The environment of the program decides which endpoint issues the tokens. No proxy is used, and
/// no redirect is followed.
///
/// | host | selected by | user-assigned identity by |
/// |---|---|---|
/// | Service Fabric | `IDENTITY_ENDPOINT`, `IDENTITY_HEADER`, `IDENTITY_SERVER_THUMBPRINT` | object ID |
/// | App Service, Functions, Container Apps | `IDENTITY_ENDPOINT`, `IDENTITY_HEADER` | any ID |
/// | Azure Machine Learning | `MSI_ENDPOINT`, `MSI_SECRET` | client ID |
/// | Cloud Shell | `MSI_ENDPOINT` | none |
/// | Azure Arc | `IDENTITY_ENDPOINT`, `IMDS_ENDPOINT`, or the installed agent | any ID |
/// | virtual machines, scale sets, AKS, Container Instances (IMDS) | none of these | any ID |
///
/// The first row whose variables are set is selected. A host without managed identities looks like
/// the last row, and its token requests fail after the connection attempts.
///
/// # The host's own cache
///
/// The endpoints of Azure's hosts cache tokens for up to 24 hours. A role that is assigned today
/// may be missing in the tokens of the next 24 hours. Neither
/// [`force_refresh`](crate::TokenRequest::force_refresh) nor [`invalidate`](Self::invalidate)
/// changes that. Service Fabric alone issues another token, after [`invalidate`](Self::invalidate)
/// or if the request has [`claims`](crate::TokenRequest::claims) or a
/// [`rejected_token`](crate::TokenRequest::rejected_token). Service Fabric receives the SHA-256 of
/// the rejected token.
#[doc(alias = "ManagedIdentityApplication")]
#[doc(alias = "ManagedIdentityCredential")]
#[doc(alias = "DefaultAzureCredential")]
#[derive(Clone)]
pub struct ManagedIdentityClient {
    acquirer: TokenAcquirer,
    identity: Arc<ManagedIdentity>,
}

impl ManagedIdentityClient {
    /// Creates a client of an identity, with the default settings.
    ///
    /// Does no I/O.
    ///
    /// # Errors
    ///
    /// The errors of [`build`](ManagedIdentityClientBuilder::build).
    pub fn new(identity: ManagedIdentity) -> Result<Self, Error> {
        Self::builder(identity).build()
    }

    /// Returns a builder for a client of an identity.
    pub fn builder(identity: ManagedIdentity) -> ManagedIdentityClientBuilder {
        ManagedIdentityClientBuilder::new(identity)
    }

    fn from_parts(options: &CacheOptions, fetcher: IdentityFetcher) -> Self {
        let (limit, clock) = (fetcher.deadline(), fetcher.clock().clone());
        let identity = Arc::new(fetcher.identity().clone());
        let issuer = Issuer::ManagedIdentity(Arc::new(fetcher));
        Self {
            identity,
            acquirer: TokenAcquirer::new(options, limit, clock, issuer),
        }
    }
}

/// # Acquiring tokens
impl ManagedIdentityClient {
    /// Acquires a token of the identity for one resource.
    ///
    /// The request is the resource's `/.default` scope, such as `https://vault.azure.net/.default`,
    /// or the resource alone. Both spellings share one cache entry.
    ///
    /// Returns the cached token while the token is valid. Otherwise one token request is sent to
    /// the endpoint of the host, however many callers wait for the same token. Dropping the
    /// returned future does not cancel the request for other callers. A token that is due for
    /// refresh is returned at once and refreshed in the background. After a failure, further calls
    /// receive the same error without another request for a while.
    ///
    /// The token request is retried after 404, 408, 429, most 5xx and a missing response. IMDS is
    /// also retried after 410, for the 70 seconds of an update.
    /// [`deadline`](ManagedIdentityClientBuilder::deadline) limits all attempts together.
    ///
    /// # Errors
    ///
    /// Before the network, [`Error::Config`]: no scope, scopes of two resources, a tenant, an extra
    /// parameter, a correlation ID that is no GUID, a variable of the host that cannot be used, an
    /// ID that the host's source does not accept, or no tokio runtime.
    ///
    /// After it:
    ///
    /// - [`Error::Server`], [`Error::Throttled`]: the endpoint rejected the request. The
    ///   [`help`](crate::ServerError::help) says what to assign.
    /// - [`Error::InvalidResponse`]: the response is no token, or a token of another identity.
    /// - [`Error::Transport`]: no response. The message names the variables that selected the
    ///   source.
    /// - [`Error::Credential`]: the key file of the Azure Arc agent cannot be read.
    #[doc(alias = "get_token")]
    #[doc(alias = "acquire_token_for_managed_identity")]
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
        let request = IdentityFetcher::resolve(request.into_token_request())?;
        self.acquirer.bind(request)
    }

    /// Removes a token from the cache that an API rejected, so that the next call acquires another.
    ///
    /// Does no I/O. A token that was refreshed since then stays cached. Within 30 seconds after a
    /// token was replaced for this reason the next one stays cached, too. The host's own cache may
    /// return the same token for up to 24 hours. Service Fabric issues another token, because the
    /// next token request has the SHA-256 of the removed token.
    pub fn invalidate(&self, token: &AccessToken) {
        self.acquirer.invalidate(token);
    }

    /// Returns the client's token cache: its size, its statistics, and a way to clear it.
    pub fn cache(&self) -> TokenCache<'_> {
        TokenCache::new(&self.acquirer)
    }

    fn identity(&self) -> &ManagedIdentity {
        &self.identity
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

impl fmt::Debug for ManagedIdentityClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.acquirer.fmt(f)
    }
}
