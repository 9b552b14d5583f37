use std::error::Error as StdError;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::CONNECTION;
use http::{HeaderValue, Request, Response};
use reqwest::redirect::Policy;

use crate::error::{Error, Failure};
use crate::response::LARGEST_BODY;
use crate::transport::driver::{Driver, DriverTask, SendOn};
use crate::transport::{SendOnce, Transport, TransportFuture};

/// The default transport.
pub(crate) struct ReqwestTransport {
    client: reqwest::Client,
    /// Drives the connections of requests from current-thread runtimes.
    driver: Driver,
}

/// The connection settings that override the caller's configuration.
#[derive(Clone, Copy)]
struct ConnectionLimits {
    connect: Duration,
    /// The authority is on a loopback address, so no proxy is used.
    loopback: bool,
}

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
        let client = client(builder.unwrap_or_else(default_builder), limits);
        let client = client.map_err(|error| {
            let failure = Failure::new("the HTTP client cannot be built");
            Error::Config(failure.source(Box::new(error)).into())
        })?;
        Ok(Self {
            client,
            driver: Driver::default(),
        })
    }
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
            let retries = request.extensions().get::<SendOnce>().is_none();
            let mut request = reqwest::Request::try_from(request)?;
            let client = self.client.clone();
            match self.driver.send_on() {
                SendOn::CallersRuntime => exchange(client, request, host, retries).await,
                SendOn::Driver(driver) => {
                    DriverTask::spawn(&driver, exchange(client, request, host, retries)).await?
                }
                SendOn::CallersRuntimeOnce => {
                    request.headers_mut().insert(CONNECTION, CLOSE);
                    exchange(client, request, host, retries).await
                }
            }
        })
    }
}

/// Sends a request, and reads the whole response.
async fn exchange(
    client: reqwest::Client,
    request: reqwest::Request,
    host: String,
    retries: bool,
) -> Result<Response<Bytes>, Box<dyn StdError + Send + Sync>> {
    let retry = retries.then(|| request.try_clone()).flatten();
    let sent = match (client.execute(request).await, retry) {
        (Err(error), Some(retry)) if is_from_stopped_runtime(&error) => client.execute(retry).await,
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
/// The request was not sent, or no task is left to read the response, so a retry is safe.
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
