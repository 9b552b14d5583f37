//! The HTTP transport of token requests.

use std::error::Error as StdError;
use std::pin::Pin;

use bytes::Bytes;
use http::{Request, Response};

mod config;
#[cfg(feature = "reqwest")]
mod reqwest;

pub(crate) use config::{TransportConfig, no_time};

/// What a [`Transport`] returns: the answer, or why there is none.
pub type TransportFuture<'a> = Pin<
    Box<dyn Future<Output = Result<Response<Bytes>, Box<dyn StdError + Send + Sync>>> + Send + 'a>,
>;

/// How token requests reach the identity provider; the default is reqwest.
///
/// An implementation sends one request and returns its answer, whatever its status. It must not
/// follow redirects, which would hand the credential to another host, and must not retry, which the client
/// does by its [`RetryPolicy`](crate::RetryPolicy). The client drops the future when an attempt has
/// taken [too long](crate::ConfidentialClientBuilder::attempt_timeout).
///
/// The request's body holds the credential, and `http`'s `Debug` prints it: never log a request,
/// nor put one into an error.
///
/// Closures that return a future are transports, which is how a test answers for itself; errors of
/// other types become the boxed one with `?` or `.into()`:
///
/// ```
/// use bytes::Bytes;
/// use confidential_client::ConfidentialClient;
/// use http::{Request, Response};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let client = ConfidentialClient::builder("11111111-2222-3333-4444-555555555555")
///     .tenant("contoso.onmicrosoft.com")
///     .client_secret("s3cret")
///     .transport(|_request: Request<Bytes>| async {
///         let body = r#"{"token_type":"Bearer","expires_in":3599,"access_token":"abc"}"#;
///         Ok(Response::new(Bytes::from(body)))
///     })
///     .build()?;
/// let token = client.acquire_token_for_client("https://graph.microsoft.com/.default").await?;
/// assert_eq!(token.secret(), "abc");
/// # Ok(())
/// # }
/// ```
pub trait Transport: Send + Sync + 'static {
    /// Sends the request. The body is the whole of it, in memory; so is the answer's.
    ///
    /// # Errors
    ///
    /// Any error means that there was no answer, and becomes the source of
    /// [`Error::Transport`](crate::Error::Transport).
    fn send(&self, request: Request<Bytes>) -> TransportFuture<'_>;
}

impl<F, R> Transport for F
where
    F: Fn(Request<Bytes>) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Response<Bytes>, Box<dyn StdError + Send + Sync>>> + Send + 'static,
{
    fn send(&self, request: Request<Bytes>) -> TransportFuture<'_> {
        Box::pin(self(request))
    }
}
