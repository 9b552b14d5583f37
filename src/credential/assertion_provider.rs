use std::error::Error as StdError;
use std::fmt;
use std::path::{Path, PathBuf};
use std::pin::Pin;

/// What a [`ClientAssertionProvider`] returns: the assertion, or why there is none.
pub type ClientAssertionFuture<'a> =
    Pin<Box<dyn Future<Output = Result<String, Box<dyn StdError + Send + Sync>>> + Send + 'a>>;

/// Where client assertions come from that are made elsewhere: by a workload's platform, a signing
/// service, or another application that vouches for this one ([RFC 7523 section 2.2]).
///
/// Asked for every token request, and never cached here: what it returns must be good now. Closures
/// that return a future are providers, and so are [`FederatedTokenFile`] and
/// [`TokenProvider`](crate::TokenProvider): the token of one application as the assertion of
/// another, for the scope `api://AzureADTokenExchange/.default`.
///
/// ```
/// use bytes::Bytes;
/// use confidential_client::{AssertionContext, ConfidentialClient};
/// use http::{Request, Response};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let client = ConfidentialClient::builder("11111111-2222-3333-4444-555555555555")
///     .tenant("contoso.onmicrosoft.com")
///     .client_assertion(|context: AssertionContext| async move {
///         // A signing service is asked here.
///         Ok(format!("an assertion for {}", context.token_endpoint()))
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
#[derive(Clone, Debug)]
pub struct AssertionContext {
    client_id: String,
    tenant_id: String,
    token_endpoint: String,
    correlation_id: String,
}

impl AssertionContext {
    pub(crate) fn new(
        client_id: &str,
        tenant_id: &str,
        token_endpoint: &str,
        correlation_id: &str,
    ) -> Self {
        Self {
            client_id: client_id.to_owned(),
            tenant_id: tenant_id.to_owned(),
            token_endpoint: token_endpoint.to_owned(),
            correlation_id: correlation_id.to_owned(),
        }
    }

    /// The application's client id: the assertion's `iss` and `sub`, where it is self-issued.
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// The tenant that is asked, by its id or a domain.
    pub fn tenant_id(&self) -> &str {
        &self.tenant_id
    }

    /// The URL that the assertion is sent to: its `aud`, where it is self-issued.
    pub fn token_endpoint(&self) -> &str {
        &self.token_endpoint
    }

    /// The correlation id of the token request.
    pub fn correlation_id(&self) -> &str {
        &self.correlation_id
    }
}

/// A file that holds an assertion and is kept fresh by somebody else, as Kubernetes does for
/// workload identity. It is read anew for every token request.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use confidential_client::{ConfidentialClient, FederatedTokenFile};
///
/// let client = ConfidentialClient::builder("11111111-2222-3333-4444-555555555555")
///     .tenant("contoso.onmicrosoft.com")
///     .client_assertion(FederatedTokenFile::new("/var/run/secrets/azure/tokens/azure-identity-token"))
///     .build()?; // does not read the file yet
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct FederatedTokenFile {
    path: PathBuf,
}

impl FederatedTokenFile {
    /// A file by its path, which need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }
}

impl ClientAssertionProvider for FederatedTokenFile {
    fn client_assertion(&self, _: AssertionContext) -> ClientAssertionFuture<'_> {
        let path = self.path.clone();
        Box::pin(async move {
            let read = tokio::task::spawn_blocking(move || match std::fs::read_to_string(&path) {
                // A file usually ends in a newline.
                Ok(assertion) => Ok(assertion.trim().to_owned()),
                Err(source) => Err(Unreadable { path, source }),
            });
            Ok(read.await??)
        })
    }

    fn describe(&self) -> String {
        format!("federated token file {}", shown(&self.path))
    }
}

/// The federated token file cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the federated token file {} cannot be read", shown(.path))]
struct Unreadable {
    path: PathBuf,
    source: std::io::Error,
}

fn shown(path: &Path) -> impl fmt::Display {
    path.display().to_string()
}
