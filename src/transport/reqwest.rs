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
use crate::transport::{Transport, TransportFuture};

/// The default transport.
pub(crate) struct ReqwestTransport(Clients);

/// A current-thread runtime stands still between two `block_on`s, and with it the connections it
/// opened: a request from elsewhere that took one of them from the pool would hang.
enum Clients {
    /// The caller's, of which there is one: it keeps no connection where a runtime may stand still.
    Custom(reqwest::Client),
    /// Our own, made anew for another thread's current-thread runtime.
    Default {
        limits: ConnectionLimits,
        /// With where it is used, once it is.
        latest: Mutex<(Option<Home>, reqwest::Client)>,
    },
}

/// What is set on top of any configuration.
#[derive(Clone, Copy)]
struct ConnectionLimits {
    connect: Duration,
    /// The authority is this machine, so there is no proxy before it.
    loopback: bool,
}

/// Where requests are sent from: the thread of a current-thread runtime, or none in particular.
type Home = Option<ThreadId>;

impl ReqwestTransport {
    /// On top of what the caller configured, if anything: no redirects, since a 307 would send the
    /// credential on, and a limit to connect.
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
    /// The client for a request from here, and whether its connection has to be closed behind it.
    fn client(&self) -> Result<(reqwest::Client, bool), reqwest::Error> {
        let home = home();
        match self {
            Self::Custom(client) => Ok((client.clone(), home.is_some())),
            Self::Default { limits, latest } => {
                let mut latest = latest.lock().unwrap_or_else(PoisonError::into_inner);
                if latest.0.is_some_and(|used| used != home) {
                    latest.1 = client(default_builder(), *limits)?;
                }
                latest.0 = Some(home);
                Ok((latest.1.clone(), false))
            }
        }
    }
}

fn home() -> Home {
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

/// A builder with the TLS this crate was compiled with. Without naming it, reqwest would change to
/// another that some other crate of the program switched on.
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
            let mut request = reqwest::Request::try_from(request)?;
            let (client, close) = self.0.client()?;
            if close {
                request.headers_mut().insert(CONNECTION, CLOSE);
            }
            let again = request.try_clone();
            let sent = match (client.execute(request).await, again) {
                (Err(error), Some(again)) if is_from_stopped_runtime(&error) => {
                    client.execute(again).await
                }
                (sent, _) => sent,
            };
            let mut response = sent.map_err(|error| explained(error, &host))?;
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

/// The same error, and what to do about it where the causes alone would leave somebody at a loss.
fn explained(error: reqwest::Error, host: &str) -> Box<dyn StdError + Send + Sync> {
    let error = error.without_url();
    let mut source = error.source();
    while let Some(cause) = source {
        // A proxy's own certificate: the causes say so.
        if cause.to_string().contains("tunnel") {
            break;
        }
        // No type says it for both rustls and the operating system's library.
        if cause.source().is_none() && cause.to_string().contains("certificate") {
            let host = host.to_owned();
            return Box::new(UntrustedCertificate { host, error });
        }
        source = cause.source();
    }
    error.into()
}

/// The server's certificate is not one that is trusted for this host.
#[derive(Debug, thiserror::Error)]
#[error(
    "the TLS certificate of '{host}' is not accepted; if a private CA issued it, add that CA to the machine's, or by ConfidentialClientBuilder::reqwest(..) with reqwest::ClientBuilder::tls_certs_merge(..)"
)]
struct UntrustedCertificate {
    host: String,
    #[source]
    error: reqwest::Error,
}

/// Whether the connection from the pool went down with the runtime that drove it, just as it was
/// taken: the request has not gone out, or there is nobody to read its answer.
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
