//! The request that is sent again after a challenge, and what the adapters do without a retry.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use confidential_client::ConfidentialClient;
use confidential_client::adapter::{BearerAuth, BearerAuthLayer};
use confidential_client::testing::ManualClock;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{Extensions, HeaderMap, HeaderValue, Method, Request, Response, Version};
use reqwest::ResponseBuilderExt;
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware, Middleware, Next};
use tower::{Layer, Service, ServiceExt};

use crate::support::{Provider, SCOPE, let_others_run};

const GRAPH: &str = "https://graph.microsoft.com";
const URL: &str = "https://graph.microsoft.com/v1.0/users?$top=1&$select=id#part";
const CHALLENGE: &str = r#"Bearer error="invalid_token""#;

fn auth(client: &ConfidentialClient) -> BearerAuth {
    BearerAuth::new(client.token_provider(SCOPE).unwrap(), [GRAPH]).unwrap()
}

/// Headers with two values of a name, a sensitive value and octets that are no text.
fn headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.append("accept", HeaderValue::from_static("application/json"));
    headers.append("x-custom", HeaderValue::from_bytes(b"caf\xe9").unwrap());
    headers.append("accept", HeaderValue::from_static("text/html"));
    let mut cookie = HeaderValue::from_static("a=b");
    cookie.set_sensitive(true);
    headers.append("cookie", cookie);
    headers
}

/// Everything of a header but the token.
fn without_token(headers: &HeaderMap) -> Vec<(String, Vec<u8>, bool)> {
    let others = headers.iter().filter(|(name, _)| **name != AUTHORIZATION);
    let all = others.map(|(name, value)| {
        let value = (value.as_bytes().to_owned(), value.is_sensitive());
        (name.to_string(), value.0, value.1)
    });
    all.collect()
}

fn token(headers: &HeaderMap) -> Option<&str> {
    headers.get(AUTHORIZATION)?.to_str().ok()
}

/// A tower service that rejects the first token, and records requests and its own clones.
#[derive(Default)]
struct Api {
    seen: Arc<Mutex<Vec<Request<Bytes>>>>,
    clones: Arc<AtomicUsize>,
}

impl Clone for Api {
    fn clone(&self) -> Self {
        self.clones.fetch_add(1, Ordering::SeqCst);
        Self {
            seen: Arc::clone(&self.seen),
            clones: Arc::clone(&self.clones),
        }
    }
}

impl Service<Request<Bytes>> for Api {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Response<()>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let response = Response::builder();
        let response = match token(request.headers()) {
            Some("Bearer token-1") => response.status(401).header(WWW_AUTHENTICATE, CHALLENGE),
            _ => response,
        };
        self.seen.lock().unwrap().push(request);
        std::future::ready(Ok(response.body(()).unwrap()))
    }
}

fn order(body: &'static str) -> Request<Bytes> {
    let mut request = Request::new(Bytes::from_static(body.as_bytes()));
    *request.method_mut() = Method::from_bytes(b"QUERY").unwrap();
    *request.uri_mut() = URL.parse().unwrap();
    *request.version_mut() = Version::HTTP_2;
    *request.headers_mut() = headers();
    request.extensions_mut().insert("an extension");
    request
}

#[tokio::test]
async fn a_layer_retries_the_same_request_with_another_token() {
    for is_cached in [false, true] {
        let (provider, api) = (Provider::open(), Api::default());
        let client = provider.client();
        if is_cached {
            client.acquire_token_for_client(SCOPE).await.unwrap();
        }
        let layer =
            BearerAuthLayer::new(auth(&client)).retry_with(|body: &Bytes| Some(body.clone()));
        let response = layer.layer(api.clone()).oneshot(order("body")).await;
        assert_eq!(response.unwrap().status(), 200);
        let seen = api.seen.lock().unwrap();
        let tokens: Vec<_> = seen.iter().map(|sent| token(sent.headers())).collect();
        assert_eq!(tokens, [Some("Bearer token-1"), Some("Bearer token-2")]);
        for sent in &*seen {
            assert_eq!(sent.method(), "QUERY");
            assert_eq!(sent.uri(), order("body").uri());
            assert_eq!(sent.version(), Version::HTTP_2);
            assert_eq!(without_token(sent.headers()), without_token(&headers()));
            assert_eq!(sent.extensions().get(), Some(&"an extension"));
            assert_eq!(sent.body(), "body");
        }
    }
}

/// Clones of a service cost more than the token: a clone of a channel of tonic allocates.
#[tokio::test]
async fn a_request_that_is_not_retried_does_not_clone_the_service() {
    let (provider, api) = (Provider::open(), Api::default());
    let client = provider.client();
    client.acquire_token_for_client(SCOPE).await.unwrap();
    let layer = BearerAuthLayer::new(auth(&client));
    let mut service = layer.layer(api.clone());
    let mut elsewhere = order("body");
    *elsewhere.uri_mut() = "https://elsewhere.example/".parse().unwrap();
    for (request, tokens) in [(elsewhere, None), (order("body"), Some("Bearer token-1"))] {
        let before = api.clones.load(Ordering::SeqCst);
        service.ready().await.unwrap().call(request).await.unwrap();
        assert_eq!(api.clones.load(Ordering::SeqCst), before, "{tokens:?}");
        let seen = api.seen.lock().unwrap();
        assert_eq!(token(seen.last().unwrap().headers()), tokens);
    }
}

#[tokio::test]
async fn a_layer_refreshes_a_token_that_is_due_and_sends_the_request_with_it() {
    let (provider, clock) = (Provider::open(), ManualClock::new());
    let client = provider.client_at(&clock);
    client.acquire_token_for_client(SCOPE).await.unwrap();
    clock.advance(Duration::from_secs(3_500));
    let echo = tower::service_fn(|request: Request<Bytes>| async move {
        let token = token(request.headers()).map(str::to_owned);
        Ok::<_, Infallible>(Response::new(token))
    });
    let service = BearerAuthLayer::new(auth(&client)).layer(echo);
    let response = service.oneshot(order("body")).await.unwrap();
    let_others_run().await;
    assert_eq!(response.body().as_deref(), Some("Bearer token-1"));
    assert_eq!(provider.requests(), 2);
}

/// The last middleware of a chain, which rejects the first token and records the requests.
#[derive(Clone, Default)]
struct ApiOfReqwest(Arc<Mutex<Vec<reqwest::Request>>>);

#[async_trait::async_trait]
impl Middleware for ApiOfReqwest {
    async fn handle(
        &self,
        request: reqwest::Request,
        _: &mut Extensions,
        _: Next<'_>,
    ) -> reqwest_middleware::Result<reqwest::Response> {
        let mut url = request.url().clone();
        url.set_fragment(None);
        let response = Response::builder().url(url);
        let response = match token(request.headers()) {
            Some("Bearer token-1") => response.status(401).header(WWW_AUTHENTICATE, CHALLENGE),
            _ => response,
        };
        self.0.lock().unwrap().push(request);
        Ok(response.body("").unwrap().into())
    }
}

fn chain(client: &ConfidentialClient, api: &ApiOfReqwest) -> ClientWithMiddleware {
    ClientBuilder::new(reqwest::Client::new())
        .with(auth(client))
        .with(api.clone())
        .build()
}

#[tokio::test]
async fn a_middleware_retries_the_same_request_with_another_token() {
    let large = "x".repeat(100_000);
    for (body, timeout) in [
        (None, None),
        (Some(""), None),
        (Some("body"), Some(Duration::from_secs(7))),
        (Some(&large[..4 * 1024]), None),
        (Some(&large), Some(Duration::from_secs(7))),
    ] {
        let length = body.map(str::len);
        let (provider, api) = (Provider::open(), ApiOfReqwest::default());
        let http = chain(&provider.client(), &api);
        let method = Method::from_bytes(b"QUERY").unwrap();
        let mut request = reqwest::Request::new(method, URL.parse().unwrap());
        *request.headers_mut() = headers();
        *request.version_mut() = Version::HTTP_2;
        *request.body_mut() = body.map(|body| reqwest::Body::from(body.to_owned()));
        if timeout.is_some() {
            *request.timeout_mut() = timeout;
        }
        let response = http.execute(request).await.unwrap();
        assert_eq!(response.status(), 200, "{length:?}");
        let seen = api.0.lock().unwrap();
        let tokens: Vec<_> = seen.iter().map(|sent| token(sent.headers())).collect();
        assert_eq!(tokens, [Some("Bearer token-1"), Some("Bearer token-2")]);
        for sent in &*seen {
            assert_eq!(sent.method(), "QUERY");
            assert_eq!(sent.url().as_str(), URL);
            assert_eq!(sent.version(), Version::HTTP_2);
            assert_eq!(sent.timeout().copied(), timeout, "{length:?}");
            assert_eq!(without_token(sent.headers()), without_token(&headers()));
            let sent = sent.body().map(|body| body.as_bytes().unwrap());
            assert_eq!(sent, body.map(str::as_bytes));
        }
    }
}

#[tokio::test]
async fn a_large_body_is_not_copied_for_the_retry() {
    let (provider, api) = (Provider::open(), ApiOfReqwest::default());
    let http = chain(&provider.client(), &api);
    let request = http.post(URL).body("x".repeat(100_000));
    request.send().await.unwrap();
    let seen = api.0.lock().unwrap();
    let bodies = seen
        .iter()
        .map(|sent| sent.body().unwrap().as_bytes().unwrap());
    let bodies: Vec<_> = bodies.map(<[u8]>::as_ptr).collect();
    assert_eq!(bodies.len(), 2);
    assert_eq!(bodies[0], bodies[1]);
}

#[tokio::test]
async fn a_stream_is_not_retried_and_the_next_token_is_fresh() {
    let (provider, api) = (Provider::open(), ApiOfReqwest::default());
    let http = chain(&provider.client(), &api);
    let chunks = futures_util::stream::iter([Ok::<_, Infallible>("body")]);
    let stream = http.post(URL).body(reqwest::Body::wrap_stream(chunks));
    assert_eq!(stream.send().await.unwrap().status(), 401);
    assert_eq!(http.post(URL).send().await.unwrap().status(), 200);
    let seen = api.0.lock().unwrap();
    let tokens: Vec<_> = seen.iter().map(|sent| token(sent.headers())).collect();
    assert_eq!(tokens, [Some("Bearer token-1"), Some("Bearer token-2")]);
    assert_eq!(provider.requests(), 2);
}
