//! The HTTP transport of token requests.
//!
//! ```
//! use bytes::Bytes;
//! use confidential_client::ConfidentialClient;
//! use confidential_client::transport::{Transport, TransportFuture};
//! use http::{Request, Response};
//!
//! /// Logs the host and the status of each request, and nothing secret.
//! struct Logged<T>(T);
//!
//! impl<T: Transport> Transport for Logged<T> {
//!     fn send(&self, request: Request<Bytes>) -> TransportFuture<'_> {
//!         Box::pin(async move {
//!             let host = request.uri().host().unwrap_or_default().to_owned();
//!             let response = self.0.send(request).await?;
//!             println!("{host}: {}", response.status());
//!             Ok(response)
//!         })
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let your_http_client = |_: Request<Bytes>| async {
//! #     let body = r#"{"token_type":"Bearer","expires_in":3599,"access_token":"abc"}"#;
//! #     Ok(Response::new(Bytes::from(body)))
//! # };
//! let client = ConfidentialClient::builder("11111111-2222-3333-4444-555555555555")
//!     .tenant("contoso.onmicrosoft.com")
//!     .client_secret("the secret's value")
//!     .transport(Logged(your_http_client))
//!     .build()?;
//! # let token = client.acquire_token_for_client("https://graph.microsoft.com/.default").await?;
//! # assert_eq!(token.secret(), "abc");
//! # Ok(())
//! # }
//! ```
//!
//! [`MutualTls`] is the client certificate of connections.
//!
//! - [`ConfidentialClientBuilder::transport`](crate::ConfidentialClientBuilder::transport) replaces
//!   the default transport, which is reqwest.
//! - [`attempt_timeout`] limits each attempt with any transport.
//! - [`RetryPolicy`](crate::RetryPolicy) sets the retries.
//!
//! [`attempt_timeout`]: crate::ConfidentialClientBuilder::attempt_timeout

use std::error::Error as StdError;
use std::pin::Pin;

use bytes::Bytes;
use http::{Request, Response};

#[cfg(all(feature = "reqwest", any(feature = "ring", feature = "rustls")))]
mod certificate_problem;
mod config;
mod connection_failure;
#[cfg(feature = "reqwest")]
mod driver;
#[cfg(feature = "reqwest")]
mod environment_proxy;
#[cfg(feature = "reqwest")]
mod explanation;
mod mutual_tls;
#[cfg(feature = "reqwest")]
mod no_proxy;
#[cfg(feature = "reqwest")]
mod proxies;
#[cfg(feature = "reqwest")]
mod reqwest;
#[cfg(feature = "reqwest")]
mod tls;
#[cfg(feature = "reqwest")]
mod tunnel;
mod unsent;

pub(crate) use config::{TransportConfig, zero_timeout};
#[cfg(all(feature = "reqwest", any(feature = "rustls", feature = "ring")))]
pub(crate) use connection_failure::causes;
pub(crate) use connection_failure::no_response;
pub use mutual_tls::MutualTls;
pub(crate) use mutual_tls::{RotationListener, TlsIdentity, TokenTransport};
#[cfg(all(feature = "reqwest", any(feature = "rustls", feature = "ring")))]
pub(crate) use mutual_tls::{rejects_certificate, signing_error};
#[cfg(all(feature = "reqwest", any(feature = "rustls", feature = "ring")))]
pub(crate) use tls::provider;
#[cfg(all(feature = "reqwest", feature = "ring", not(feature = "rustls")))]
pub(crate) use tls::trusting;
pub(crate) use unsent::{SendOnce, was_not_sent};

/// The future of [`Transport::send`], with the response or the error that prevented a response.
pub type TransportFuture<'a> = Pin<
    Box<dyn Future<Output = Result<Response<Bytes>, Box<dyn StdError + Send + Sync>>> + Send + 'a>,
>;

/// An HTTP client for token requests. The default is reqwest.
///
/// An implementation sends one request and returns the response, whatever the status. An
/// implementation must not follow redirects, because a redirect would send the credential to
/// another host. An implementation must not retry, because the client retries by
/// [`RetryPolicy`](crate::RetryPolicy). The client drops the future of an attempt after
/// [`attempt_timeout`](crate::ConfidentialClientBuilder::attempt_timeout).
///
/// The request's body contains the credential, and the `Debug` output of `http::Request` contains
/// the body. Never log a request, and never put a request into an error.
///
/// A closure that returns a future is a transport, so a test can supply the responses. Convert
/// errors of other types into the boxed error with `?` or `.into()`.
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
///     .client_secret("the secret's value")
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
#[doc(alias = "IHttpClient")]
#[doc(alias = "HttpClient")]
#[doc(alias = "IMsalHttpClientFactory")]
#[doc(alias = "http_client")]
pub trait Transport: Send + Sync + 'static {
    /// Sends the request and returns the response, each with the complete body in memory.
    ///
    /// # Errors
    ///
    /// Every error means that no response arrived. The client returns
    /// [`Error::Transport`](crate::Error::Transport) with the error as the source.
    ///
    /// An [`io::Error`](std::io::Error) of the kind `ConnectionRefused`, and a connection error of
    /// reqwest, among the causes say that the request was not sent. After any other error the
    /// client treats the authorization code or the refresh token in the request as possibly used.
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
