use std::error::Error as StdError;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::CONNECTION;
use http::uri::Authority;
use http::{HeaderValue, Request, Response, Uri};
use reqwest::redirect::Policy;
use tokio::task::yield_now;
use url::Url;

use crate::authority::address::is_loopback;
use crate::error::Error;
use crate::response::LARGEST_BODY;
use crate::transport::driver::{Driver, DriverTask, SendOn};
use crate::transport::environment_proxy::ProxyEnvironment;
use crate::transport::explanation::{Explanation, SettingNames};
#[cfg(any(feature = "ring", feature = "rustls"))]
use crate::transport::mutual_tls::{ConnectionTls, from_caller};
use crate::transport::proxies::{Proxies, is_without_address, shown_proxies};
use crate::transport::tls::{self, built, lacks_ca_certificates, without_ca_certificates};
use crate::transport::{SendOnce, Transport, TransportFuture};

/// The default transport.
pub(crate) struct ReqwestTransport {
    exchange: Arc<Exchange>,
    /// Drives the connections of requests from current-thread runtimes.
    driver: Driver,
}

/// The settings of the default transport.
pub(crate) struct ReqwestSettings<'a> {
    /// The longest time of a connection attempt.
    pub(crate) connect_timeout: Duration,
    /// The URL whose scheme and host the transport has to reach.
    pub(crate) origin: &'a Url,
    /// The name of the builder that takes a reqwest builder, for messages.
    pub(crate) builder: &'static str,
    /// The TLS of a client with a certificate, or with CA certificates of its own.
    #[cfg(any(feature = "ring", feature = "rustls"))]
    pub(crate) tls: Option<&'a ConnectionTls>,
}

/// The parts of the transport that one request needs.
struct Exchange {
    client: reqwest::Client,
    origin: Origin,
    proxies: Proxies,
    names: SettingNames,
    connect_timeout: Duration,
}

impl ReqwestTransport {
    /// Builds the client from the caller's configuration or the default configuration.
    ///
    /// Redirects are always disabled, because a 307 would send the credential to another host. So
    /// are the caller's retries, because a code and a refresh token are sent once. An authority on
    /// a loopback address is reached without a proxy.
    pub(crate) fn new(
        caller: Option<reqwest::ClientBuilder>,
        settings: &ReqwestSettings<'_>,
    ) -> Result<Self, Error> {
        let limited = |builder: reqwest::ClientBuilder| {
            builder
                .redirect(Policy::none())
                .connect_timeout(settings.connect_timeout)
        };
        let (client, proxies) = match caller {
            None => with_default_builder(limited, settings)?,
            Some(builder) => {
                // The caller's retries would send a code or a refresh token a second time.
                let builder = limited(builder).retry(reqwest::retry::never());
                #[cfg(any(feature = "ring", feature = "rustls"))]
                let builder = match settings.tls {
                    Some(tls) => tls.configure(builder),
                    None => builder,
                };
                with_callers_builder(builder, settings)?
            }
        };
        let exchange = Exchange {
            client,
            origin: Origin::of(settings.origin),
            proxies,
            names: settings.names(),
            connect_timeout: settings.connect_timeout,
        };
        Ok(Self {
            exchange: Arc::new(exchange),
            driver: Driver::default(),
        })
    }
}

impl ReqwestSettings<'_> {
    /// Returns the names of the settings that a message suggests.
    fn names(&self) -> SettingNames {
        #[cfg(any(feature = "ring", feature = "rustls"))]
        if let Some(tls) = self.tls {
            return SettingNames::of_mutual_tls(tls.subject());
        }
        SettingNames::of_builder(self.builder)
    }
}

/// Without TLS by rustls, no handshake needs the caller's runtime.
#[cfg(not(any(feature = "ring", feature = "rustls")))]
fn from_caller<F: Future>(request: F) -> F {
    request
}

/// Returns whether the authority is reached without a proxy.
///
/// A proxy would read a request over http, which is allowed for loopback and in tests.
fn is_direct(origin: &Url) -> bool {
    is_loopback(origin) || origin.scheme() == "http"
}

fn with_default_builder(
    limited: impl Fn(reqwest::ClientBuilder) -> reqwest::ClientBuilder,
    settings: &ReqwestSettings<'_>,
) -> Result<(reqwest::Client, Proxies), Error> {
    let builder = || Ok::<_, Error>(limited(tls::default_builder(settings)?));
    if is_direct(settings.origin) {
        let client = match builder()?.no_proxy().build() {
            Err(error) if lacks_ca_certificates(&error) && settings.origin.scheme() == "http" => {
                without_ca_certificates(builder()?.no_proxy()).build()
            }
            built => built,
        };
        return Ok((built(client, settings)?, Proxies::default()));
    }
    let environment = ProxyEnvironment::of_process(settings.origin);
    let proxy = match environment.proxy() {
        Err(_) if environment.exempts(settings.origin) => None,
        proxy => proxy?,
    };
    let builder = match &proxy {
        Some(proxy) => builder()?.proxy(proxy.to_reqwest()),
        None => builder()?,
    };
    let client = built(builder.build(), settings)?;
    let shown = shown_proxies(&format!("{client:?}"));
    let proxies = Proxies {
        could_use_environment: proxy.is_none()
            && shown.as_deref().is_none_or(is_without_address)
            && !environment.exempts(settings.origin),
        shown,
        shown_set_by: "the system's settings".to_owned(),
        environment: proxy,
    };
    Ok((client, proxies))
}

fn with_callers_builder(
    mut builder: reqwest::ClientBuilder,
    settings: &ReqwestSettings<'_>,
) -> Result<(reqwest::Client, Proxies), Error> {
    if is_direct(settings.origin) {
        builder = builder.no_proxy();
        // The builder builds only once, so the machine's CA certificates are tried beforehand.
        if settings.origin.scheme() == "http" && tls::machine_lacks_ca_certificates(settings) {
            builder = without_ca_certificates(builder);
        }
        return Ok((tls::build(builder, settings)?, Proxies::default()));
    }
    let environment = ProxyEnvironment::of_process(settings.origin);
    let callers = shown_proxies(&format!("{builder:?}"));
    let is_exempt = environment.exempts(settings.origin);
    // The caller has set no proxy, so only the environment could add one.
    if callers.is_none() && is_exempt {
        builder = builder.no_proxy();
    }
    let client = tls::build(builder, settings)?;
    let shown = shown_proxies(&format!("{client:?}"));
    let uses_environment = callers.is_none() && shown.is_some();
    let proxy = match uses_environment {
        true => environment.proxy()?,
        false => None,
    };
    if let Some(proxy) = &proxy {
        proxy.check_read_by_reqwest(settings.builder)?;
    }
    let proxies = Proxies {
        could_use_environment: uses_environment
            && proxy.is_none()
            && shown.as_deref().is_none_or(is_without_address)
            && !is_exempt,
        environment: proxy,
        shown,
        shown_set_by: match uses_environment {
            true => "the system's settings".to_owned(),
            false => format!("{}::reqwest(..)", settings.builder),
        },
    };
    Ok((client, proxies))
}

impl Transport for ReqwestTransport {
    fn send(&self, request: Request<Bytes>) -> TransportFuture<'_> {
        Box::pin(async move {
            let retries = request.extensions().get::<SendOnce>().is_none();
            let mut request = self.exchange.to_reqwest(request)?;
            match self.driver.send_on() {
                SendOn::CallersRuntime => self.exchange.run(request, retries).await,
                SendOn::Driver(driver) => {
                    let exchange = Arc::clone(&self.exchange);
                    let task = from_caller(async move {
                        let response = exchange.run(request, retries).await;
                        // The connection returns to the pool before the next request comes.
                        yield_now().await;
                        response
                    });
                    DriverTask::spawn(&driver, task).await?
                }
                SendOn::CallersRuntimeOnce => {
                    request.headers_mut().insert(CONNECTION, CLOSE);
                    self.exchange.run(request, retries).await
                }
            }
        })
    }
}

impl Exchange {
    /// Converts a request. A URL of the known origin is not parsed as a whole.
    fn to_reqwest(
        &self,
        request: Request<Bytes>,
    ) -> Result<reqwest::Request, Box<dyn StdError + Send + Sync>> {
        let (parts, body) = request.into_parts();
        let url = match self.origin.url(&parts.uri) {
            Some(url) => url,
            None => Url::parse(&parts.uri.to_string())?,
        };
        let mut request = reqwest::Request::new(parts.method, url);
        *request.headers_mut() = parts.headers;
        *request.body_mut() = Some(body.into());
        Ok(request)
    }

    /// Sends the request, and reads the whole response.
    ///
    /// With `retries`, the request is sent again if the runtime of its connection has stopped.
    async fn run(
        &self,
        request: reqwest::Request,
        retries: bool,
    ) -> Result<Response<Bytes>, Box<dyn StdError + Send + Sync>> {
        let retry = retries.then(|| request.try_clone()).flatten();
        let sent = match (self.client.execute(request).await, retry) {
            (Err(error), Some(retry)) if is_from_stopped_runtime(&error) => {
                self.client.execute(retry).await
            }
            (sent, _) => sent,
        };
        let mut response = match sent {
            Ok(response) => response,
            Err(error) => {
                let url = error.url().unwrap_or(&self.origin.url).clone();
                return Err(self.explanation(error, &url).explain().await);
            }
        };
        let mut body = Body::default();
        // The rest of a longer body is dropped. The parser rejects such a body as too long and
        // keeps the status.
        while body.len() <= LARGEST_BODY {
            match response.chunk().await {
                Ok(Some(chunk)) => body.push(chunk),
                Ok(None) => break,
                // The status and the headers of an error response count without a body, too.
                Err(_) if !response.status().is_success() => break,
                Err(error) => return Err(error.without_url().into()),
            }
        }
        let mut result = Response::new(body.into_bytes());
        *result.status_mut() = response.status();
        *result.headers_mut() = std::mem::take(response.headers_mut());
        Ok(result)
    }

    fn explanation<'a>(&'a self, error: reqwest::Error, url: &'a Url) -> Explanation<'a> {
        Explanation {
            error: error.without_url(),
            url,
            proxies: &self.proxies,
            names: &self.names,
            limit: self.connect_timeout,
        }
    }
}

/// The URL that most requests go to, apart from the path.
struct Origin {
    url: Url,
    authority: String,
    /// The first URL that a request went to. Most clients have one token endpoint.
    first: OnceLock<(Uri, Url)>,
}

impl Origin {
    fn of(url: &Url) -> Self {
        Self {
            url: url.clone(),
            authority: url.authority().to_owned(),
            first: OnceLock::new(),
        }
    }

    /// Returns the URL of a request to the origin. Returns `None` for a request to another host.
    fn url(&self, uri: &Uri) -> Option<Url> {
        if let Some((first, url)) = self.first.get()
            && first == uri
        {
            return Some(url.clone());
        }
        let is_same = uri.scheme_str() == Some(self.url.scheme())
            && uri.authority().map(Authority::as_str) == Some(&self.authority);
        is_same.then(|| {
            let mut url = self.url.clone();
            url.set_path(uri.path());
            url.set_query(uri.query());
            // Set already, for a client with several endpoints.
            let _ = self.first.set((uri.clone(), url.clone()));
            url
        })
    }
}

/// The body of a response, which most often arrives in one piece.
#[derive(Default)]
struct Body {
    first: Bytes,
    all: BytesMut,
}

impl Body {
    fn len(&self) -> usize {
        self.first.len().max(self.all.len())
    }

    fn push(&mut self, chunk: Bytes) {
        if self.first.is_empty() {
            self.first = chunk;
            return;
        }
        if self.all.is_empty() {
            self.all.extend_from_slice(&self.first);
        }
        self.all.extend_from_slice(&chunk);
    }

    fn into_bytes(self) -> Bytes {
        match self.all.is_empty() {
            true => self.first,
            false => self.all.freeze(),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_of_the_origin_is_the_url_that_a_whole_parse_gives() {
        for origin in [
            "https://login.example.org",
            "http://[::1]:81/a/token",
            "http://127.0.0.1",
        ] {
            let origin = Origin::of(&Url::parse(origin).unwrap());
            let authority = &origin.authority;
            for path in [
                "/t/oauth2/v2.0/token",
                "/u/oauth2/v2.0/token?a=b%20c",
                "/t/oauth2/v2.0/token",
                "/a/../b/./c",
                "/%7e'\"",
                "/?",
                "/",
                "",
            ] {
                let text = format!("{}://{authority}{path}", origin.url.scheme());
                let expected = Url::parse(&text).unwrap();
                let uri = text.parse().unwrap();
                assert_eq!(origin.url(&uri), Some(expected), "{text}");
            }
        }
    }

    #[test]
    fn a_url_of_another_host_is_not_of_the_origin() {
        let origin = Origin::of(&Url::parse("https://login.example.org").unwrap());
        for other in [
            "http://login.example.org/t",
            "https://login.example.org:444/t",
            "https://login.example.com/t",
            "https://user@login.example.org/t",
            "/t",
        ] {
            assert_eq!(origin.url(&other.parse().unwrap()), None, "{other}");
        }
    }

    #[test]
    fn a_body_is_the_sum_of_its_pieces() {
        for pieces in [
            &[][..],
            &["a"],
            &["", "a"],
            &["a", ""],
            &["a", "b"],
            &["a", "b", "c"],
        ] {
            let mut body = Body::default();
            for piece in pieces {
                body.push(Bytes::from_static(piece.as_bytes()));
            }
            let expected = pieces.concat();
            assert_eq!(body.len(), expected.len(), "{pieces:?}");
            assert_eq!(body.into_bytes(), expected, "{pieces:?}");
        }
    }
}
