use std::error::Error as StdError;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use crate::error::Error;
use crate::request::AssertionClaimSet;
use crate::secret::Secret;
use crate::time::TimeSource;

/// The future of a [`ClientAssertionProvider`], with the assertion or an error.
pub type ClientAssertionFuture<'a> =
    Pin<Box<dyn Future<Output = Result<String, Box<dyn StdError + Send + Sync>>> + Send + 'a>>;

/// A source of client assertions that somebody else signs ([RFC 7523 section 2.2]).
///
/// A workload's platform, a signing service or another application can sign an assertion for this
/// application. The client calls the provider for every attempt of a token request and waits for at
/// most ten seconds. The client never caches an assertion, so the returned assertion must be valid.
/// If Microsoft Entra ID rejects an assertion as expired (AADSTS700024), the client calls the
/// provider again, and retries the token request once with another assertion.
///
/// These types are providers:
///
/// - a closure that takes an [`AssertionContext`] and returns a future,
/// - [`FederatedTokenFile`](crate::credential::FederatedTokenFile),
/// - [`ManagedIdentity`](crate::credential::ManagedIdentity) and
///   [`ManagedIdentityClient`](crate::ManagedIdentityClient), whose token for the cloud's exchange
///   scope is the assertion,
/// - [`TokenProvider`](crate::TokenProvider), whose token for the scope
///   `api://AzureADTokenExchange/.default` is the assertion of another application.
///
/// ```
/// use bytes::Bytes;
/// use confidential_client::ConfidentialClient;
/// use confidential_client::credential::AssertionContext;
/// use http::{Request, Response};
///
/// # async fn sign(_: &str, _: &str) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
/// #     Ok("e30.e30.c2ln".to_owned())
/// # }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let client = ConfidentialClient::builder("11111111-2222-3333-4444-555555555555")
///     .tenant("contoso.onmicrosoft.com")
///     .client_assertion(|context: AssertionContext| async move {
///         // Call a signing service here.
///         sign(context.client_id(), context.audience()).await
///     })
/// #   .transport(|request: Request<Bytes>| async move {
/// #       let form = String::from_utf8(request.into_body().to_vec())?;
/// #       assert!(form.contains("client_assertion=e30.e30.c2ln"));
/// #       let body = r#"{"token_type":"Bearer","expires_in":3599,"access_token":"abc"}"#;
/// #       Ok(Response::new(Bytes::from(body)))
/// #   })
///     .build()?;
/// client.acquire_token_for_client("https://graph.microsoft.com/.default").await?;
/// # Ok(())
/// # }
/// ```
///
/// [RFC 7523 section 2.2]: https://www.rfc-editor.org/rfc/rfc7523#section-2.2
#[doc(alias = "ClientAssertionCredential")]
#[doc(alias = "client_assertion")]
pub trait ClientAssertionProvider: Send + Sync + 'static {
    /// Creates, fetches or reads an assertion for one token request.
    ///
    /// # Errors
    ///
    /// The client returns [`Error::Credential`](crate::Error::Credential) with this error as its
    /// source. The error must not contain the assertion.
    ///
    /// The assertion must be a JWT. Quotation marks, `Bearer ` and JSON around the JWT are removed,
    /// as for [`FederatedTokenFile`](crate::credential::FederatedTokenFile). An empty or other text
    /// is an error that says what the text looks like, and is not sent.
    fn client_assertion(&self, context: AssertionContext) -> ClientAssertionFuture<'_>;

    /// Describes the provider for `Debug` output and error messages. The text must not contain an
    /// assertion.
    fn describe(&self) -> String {
        "client assertion".to_owned()
    }

    /// Returns the provider that a client calls in the place of this one, if there is another.
    ///
    /// A description such as a managed identity becomes a provider with a cache.
    #[doc(hidden)]
    fn prepare(
        &self,
        _: &ProviderSettings,
    ) -> Option<Result<Arc<dyn ClientAssertionProvider>, Error>> {
        None
    }
}

/// The settings of a client that its assertion provider shares.
#[doc(hidden)]
#[derive(Debug)]
pub struct ProviderSettings {
    pub(crate) clock: TimeSource,
}

impl<F, R> ClientAssertionProvider for F
where
    F: Fn(AssertionContext) -> R + Send + Sync + 'static,
    R: Future<Output = Result<String, Box<dyn StdError + Send + Sync>>> + Send + 'static,
{
    fn client_assertion(&self, context: AssertionContext) -> ClientAssertionFuture<'_> {
        Box::pin(self(context))
    }
}

/// The parameters of the token request that needs an assertion.
#[derive(Clone)]
pub struct AssertionContext {
    pub(crate) client_id: String,
    pub(crate) tenant_id: Option<String>,
    pub(crate) token_endpoint: String,
    pub(crate) audience: String,
    pub(crate) correlation_id: String,
    pub(crate) claims: Option<Arc<str>>,
    pub(crate) capabilities: Arc<[String]>,
    pub(crate) attempt: u32,
    pub(crate) fmi_path: Option<String>,
    /// The claims that the caller adds to an assertion of the client. Empty for other assertions.
    pub(crate) extra_claims: AssertionClaimSet,
    pub(crate) rejected_assertion: Option<Secret>,
}

impl AssertionContext {
    /// Returns the application's client id, the `iss` and `sub` of a self-issued assertion.
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// Returns the id or the domain of the tenant, or `None` if the provider has no tenants.
    pub fn tenant_id(&self) -> Option<&str> {
        self.tenant_id.as_deref()
    }

    /// Returns the `aud` of a self-issued assertion.
    ///
    /// The audience is the token endpoint for Microsoft Entra ID, and the issuer for an OpenID
    /// provider.
    pub fn audience(&self) -> &str {
        &self.audience
    }

    /// Returns the URL that receives the assertion.
    pub fn token_endpoint(&self) -> &str {
        &self.token_endpoint
    }

    /// Returns the correlation id of the token request.
    pub fn correlation_id(&self) -> &str {
        &self.correlation_id
    }

    /// Returns the claims of an API's challenge, as JSON, or `None`.
    ///
    /// The claims are those of [`TokenRequest::claims`](crate::TokenRequest::claims), without the
    /// client's capabilities. A provider with a cache of its own fetches a new assertion if there
    /// are claims.
    pub fn claims(&self) -> Option<&str> {
        self.claims.as_deref()
    }

    /// Returns the capabilities that the client declares, such as `cp1`.
    pub fn client_capabilities(&self) -> &[String] {
        &self.capabilities
    }

    /// Returns the assertion that the identity provider rejected as expired (AADSTS700024), or
    /// `None`.
    ///
    /// The client retries the token request once with another assertion. A provider with a cache of
    /// its own removes the rejected assertion from the cache. If the provider returns the rejected
    /// assertion again, the client sends no further request, and returns the rejection.
    pub fn rejected_assertion(&self) -> Option<&str> {
        self.rejected_assertion.as_ref().map(Secret::expose)
    }

    /// Returns the number of this attempt of the token request. The first attempt has number 1, and
    /// so has the first attempt after a [rejected assertion](Self::rejected_assertion).
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Returns the request's form parameter `fmi_path`, the path of a federated identity.
    pub fn fmi_path(&self) -> Option<&str> {
        self.fmi_path.as_deref()
    }
}

/// Omits the query of the token endpoint, which may contain a key.
impl fmt::Debug for AssertionContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AssertionContext")
            .field("client_id", &self.client_id)
            .field("tenant_id", &self.tenant_id)
            .field("token_endpoint", &self.token_endpoint.split('?').next())
            .field("correlation_id", &self.correlation_id)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}
