use std::error::Error as StdError;
use std::sync::{Mutex, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::CONNECTION;
use http::{HeaderValue, Request, Response};
use reqwest::redirect::Policy;
use tokio::runtime::{Handle, RuntimeFlavor};

use crate::error::{Error, Failure};
use crate::response::LARGEST_BODY;
use crate::transport::{SendOnce, Transport, TransportFuture};

/// The default transport.
pub(crate) struct ReqwestTransport(Clients);

/// The reqwest clients of the transport.
///
/// A current-thread runtime drives its connections only during `block_on`. If another thread took
/// an idle connection of such a runtime from the pool, the request would hang.
enum Clients {
    /// The caller's client. On a current-thread runtime each request closes its connection.
    Custom(reqwest::Client),
    /// A default client, replaced when requests come from another current-thread runtime.
    Default {
        limits: ConnectionLimits,
        /// The latest client, with the runtime thread of the requests so far.
        latest: Mutex<(Option<RuntimeThread>, reqwest::Client)>,
    },
}

/// The connection settings that override the caller's configuration.
#[derive(Clone, Copy)]
struct ConnectionLimits {
    connect: Duration,
    /// The authority is on a loopback address, so no proxy is used.
    loopback: bool,
}

/// The thread of a current-thread runtime, or `None` on a multi-thread runtime.
type RuntimeThread = Option<ThreadId>;

impl ReqwestTransport {
    /// Builds the client from the caller's configuration or the default configuration.
    ///
    /// Redirects are always disabled, because a 307 would send the credential to another host.
    /// `connect` limits each connection attempt.
    pub(crate) fn new(
        builder: Option<reqwest::ClientBuilder>,
        connect: Duration,
        loopback: bool,
    ) -> Result<Self, Error> {
        let limits = ConnectionLimits { connect, loopback };
        let clients = match builder {
            Some(builder) => client(builder, limits).map(Clients::Custom),
            None => client(default_builder(), limits).map(|client| Clients::Default {
                limits,
                latest: Mutex::new((None, client)),
            }),
        };
        clients.map(Self).map_err(|error| {
            let failure = Failure::new("the HTTP client cannot be built");
            Error::Config(failure.source(Box::new(error)).into())
        })
    }
}

impl Clients {
    /// Returns the client for a request from this thread, and `true` if the request must close the
    /// connection.
    fn client(&self) -> Result<(reqwest::Client, bool), reqwest::Error> {
        let thread = runtime_thread();
        match self {
            Self::Custom(client) => Ok((client.clone(), thread.is_some())),
            Self::Default { limits, latest } => {
                let mut latest = latest.lock().unwrap_or_else(PoisonError::into_inner);
                if latest.0.is_some_and(|used| used != thread) {
                    latest.1 = client(default_builder(), *limits)?;
                }
                latest.0 = Some(thread);
                Ok((latest.1.clone(), false))
            }
        }
    }
}

/// Returns the current thread if its tokio runtime is a current-thread runtime.
fn runtime_thread() -> RuntimeThread {
    let flavor = Handle::try_current().map(|runtime| runtime.runtime_flavor());
    matches!(flavor, Ok(RuntimeFlavor::CurrentThread)).then(|| thread::current().id())
}

fn client(
    builder: reqwest::ClientBuilder,
    limits: ConnectionLimits,
) -> Result<reqwest::Client, reqwest::Error> {
    let mut builder = builder
        .redirect(Policy::none())
        .connect_timeout(limits.connect);
    if limits.loopback {
        builder = builder.no_proxy();
    }
    builder.build().map_err(reqwest::Error::without_url)
}

/// Returns a builder with the TLS backend that this crate's features select.
///
/// Otherwise a feature that another crate enables could change reqwest's default backend.
fn default_builder() -> reqwest::ClientBuilder {
    let builder = reqwest::Client::builder();
    #[cfg(feature = "rustls")]
    let builder = builder.tls_backend_rustls();
    builder
}

impl Transport for ReqwestTransport {
    fn send(&self, request: Request<Bytes>) -> TransportFuture<'_> {
        Box::pin(async move {
            let host = request.uri().authority().map(ToString::to_string);
            let host = host.unwrap_or_default();
            let is_sent_once = request.extensions().get::<SendOnce>().is_some();
            let mut request = reqwest::Request::try_from(request)?;
            let (client, close) = self.0.client()?;
            if close {
                request.headers_mut().insert(CONNECTION, CLOSE);
            }
            let retry = match is_sent_once {
                true => None,
                false => request.try_clone(),
            };
            let sent = match (client.execute(request).await, retry) {
                (Err(error), Some(retry)) if is_from_stopped_runtime(&error) => {
                    client.execute(retry).await
                }
                (sent, _) => sent,
            };
            let mut response = sent.map_err(|error| with_advice(error, &host))?;
            let mut body = BytesMut::new();
            // The rest of a longer body is dropped. The parser rejects such a body as too long and
            // keeps the status.
            while body.len() <= LARGEST_BODY {
                match response.chunk().await {
                    Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                    Ok(None) => break,
                    // The status and the headers of an error response count without a body, too.
                    Err(_) if !response.status().is_success() => break,
                    Err(error) => return Err(error.without_url().into()),
                }
            }
            let mut result = Response::new(body.freeze());
            *result.status_mut() = response.status();
            *result.headers_mut() = std::mem::take(response.headers_mut());
            Ok(result)
        })
    }
}

/// Adds advice to an error about an untrusted TLS certificate.
fn with_advice(error: reqwest::Error, host: &str) -> Box<dyn StdError + Send + Sync> {
    let error = error.without_url();
    let mut source = error.source();
    while let Some(cause) = source {
        // The certificate of a proxy. The causes name the proxy's tunnel.
        if cause.to_string().contains("tunnel") {
            break;
        }
        // rustls and native-tls share no error type, so only the text identifies the cause.
        if cause.source().is_none() && cause.to_string().contains("certificate") {
            let host = host.to_owned();
            return Box::new(UntrustedCertificate { host, error });
        }
        source = cause.source();
    }
    error.into()
}

/// The error for a TLS certificate that is not trusted for the host.
#[derive(Debug, thiserror::Error)]
#[error(
    "the TLS certificate of '{host}' is not accepted; if a private CA issued the certificate, add that CA to the machine's trusted CAs, or to reqwest::ClientBuilder::tls_certs_merge(..) in ConfidentialClientBuilder::reqwest(..)"
)]
struct UntrustedCertificate {
    host: String,
    #[source]
    error: reqwest::Error,
}

/// Returns `true` if the pooled connection was closed because its runtime stopped.
///
/// The request was not sent, or no task is left to read the response. A retry is safe for a grant
/// that is valid more than once.
fn is_from_stopped_runtime(error: &reqwest::Error) -> bool {
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<hyper::Error>() {
            return error.is_user();
        }
        source = error.source();
    }
    false
}

const CLOSE: HeaderValue = HeaderValue::from_static("close");
