use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::CONNECTION;
use http::{HeaderValue, Request, Response};
use reqwest::redirect::Policy;
use tokio::runtime::{Handle, RuntimeFlavor};

use crate::error::{Error, Failure};
use crate::response::LARGEST_BODY;
use crate::transport::{Transport, TransportFuture};

/// The default transport: one reqwest client with its pool of connections.
pub(crate) struct ReqwestTransport(reqwest::Client);

impl ReqwestTransport {
    /// On top of what the caller configured: no redirects, since a 307 would send the credential
    /// on, and time limits.
    pub(crate) fn new(builder: reqwest::ClientBuilder, loopback: bool) -> Result<Self, Error> {
        let mut builder = builder
            .redirect(Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(ATTEMPT_TIMEOUT);
        if loopback {
            builder = builder.no_proxy();
        }
        match builder.build() {
            Ok(client) => Ok(Self(client)),
            Err(error) => Err(Error::Config(
                Failure::new("the HTTP client cannot be built")
                    .source(Box::new(error.without_url()))
                    .into(),
            )),
        }
    }

    /// A builder with the TLS this crate was compiled with. Without naming it, reqwest would
    /// change to another that some other crate of the program switched on.
    pub(crate) fn default_builder() -> reqwest::ClientBuilder {
        let builder = reqwest::Client::builder();
        #[cfg(feature = "rustls")]
        let builder = builder.tls_backend_rustls();
        builder
    }
}

impl Transport for ReqwestTransport {
    fn send(&self, request: Request<Bytes>) -> TransportFuture<'_> {
        Box::pin(async move {
            let mut request = reqwest::Request::try_from(request)?;
            if stands_still() {
                request.headers_mut().insert(CONNECTION, CLOSE);
            }
            let sent = self.0.execute(request).await;
            let mut response = sent.map_err(reqwest::Error::without_url)?;
            let mut body = BytesMut::new();
            // A longer body is cut where the parser knows it for too long; its status survives.
            while body.len() <= LARGEST_BODY {
                match response.chunk().await {
                    Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                    Ok(None) => break,
                    // What a refusal says in its status and headers counts, whatever its body.
                    Err(_) if !response.status().is_success() => break,
                    Err(error) => return Err(error.without_url().into()),
                }
            }
            let mut answer = Response::new(body.freeze());
            *answer.status_mut() = response.status();
            *answer.headers_mut() = std::mem::take(response.headers_mut());
            Ok(answer)
        })
    }
}

/// Whether the runtime does nothing between two `block_on`s, for its connections neither. A request
/// from another runtime that took such a connection from the pool would hang on it.
fn stands_still() -> bool {
    let flavor = Handle::try_current().map(|runtime| runtime.runtime_flavor());
    matches!(flavor, Ok(RuntimeFlavor::CurrentThread))
}

const CLOSE: HeaderValue = HeaderValue::from_static("close");
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(15);
