use std::error::Error as StdError;
use std::fmt;
use std::pin::Pin;

/// What a [`ClientAssertionProvider`] returns: the assertion, or why there is none.
pub type ClientAssertionFuture<'a> =
    Pin<Box<dyn Future<Output = Result<String, Box<dyn StdError + Send + Sync>>> + Send + 'a>>;

/// Where client assertions come from that are made elsewhere: by a workload's platform, a signing
/// service, or another application that vouches for this one ([RFC 7523 section 2.2]).
///
/// Asked for every attempt of a token request, given ten seconds, and never cached here: what it
/// returns must be good now. Closures that return a future are providers, and so are
/// [`FederatedTokenFile`](crate::credential::FederatedTokenFile) and [`TokenProvider`](crate::TokenProvider):
/// the token of one application as the assertion of another, for the scope
/// `api://AzureADTokenExchange/.default`.
///
/// ```
/// use bytes::Bytes;
/// use confidential_client::ConfidentialClient;
/// use confidential_client::credential::AssertionContext;
/// use http::{Request, Response};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let client = ConfidentialClient::builder("11111111-2222-3333-4444-555555555555")
///     .tenant("contoso.onmicrosoft.com")
///     .client_assertion(|context: AssertionContext| async move {
///         // A signing service is asked here.
///         Ok(format!("an assertion for {}", context.audience()))
///     })
/// #   .transport(|request: Request<Bytes>| async move {
/// #       let form = String::from_utf8(request.into_body().to_vec())?;
/// #       assert!(form.contains("client_assertion=an+assertion+for+https"));
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
pub trait ClientAssertionProvider: Send + Sync + 'static {
    /// Makes, fetches or reads an assertion for one token request.
    ///
    /// # Errors
    ///
    /// Any error becomes the source of [`Error::Credential`](crate::Error::Credential), and so does
    /// an empty assertion. It must not contain the assertion.
    fn client_assertion(&self, context: AssertionContext) -> ClientAssertionFuture<'_>;

    /// What it is, for `Debug` of the client: never the assertion.
    fn describe(&self) -> String {
        "client assertion".to_owned()
    }
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

/// The token request that an assertion is for.
#[derive(Clone)]
pub struct AssertionContext {
    pub(crate) client_id: String,
    pub(crate) tenant_id: Option<String>,
    pub(crate) token_endpoint: String,
    pub(crate) audience: String,
    pub(crate) correlation_id: String,
}

impl AssertionContext {
    /// The application's client id: the assertion's `iss` and `sub`, where it is self-issued.
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// The tenant that is asked, by its id or a domain; `None` where the provider has none.
    pub fn tenant_id(&self) -> Option<&str> {
        self.tenant_id.as_deref()
    }

    /// The assertion's `aud`, where it is self-issued: the token endpoint for Microsoft Entra ID,
    /// another provider's issuer.
    pub fn audience(&self) -> &str {
        &self.audience
    }

    /// The URL that the assertion is sent to.
    pub fn token_endpoint(&self) -> &str {
        &self.token_endpoint
    }

    /// The correlation id of the token request.
    pub fn correlation_id(&self) -> &str {
        &self.correlation_id
    }
}

/// Without the query of the token endpoint, which may hold a key.
impl fmt::Debug for AssertionContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AssertionContext")
            .field("client_id", &self.client_id)
            .field("tenant_id", &self.tenant_id)
            .field("token_endpoint", &self.token_endpoint.split('?').next())
            .field("correlation_id", &self.correlation_id)
            .finish_non_exhaustive()
    }
}
