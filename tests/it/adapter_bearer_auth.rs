//! Tokens attached by reqwest-middleware and by a tower layer, and the retry after a challenge.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::response::Redirect;
use axum::routing::post;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use confidential_client::adapter::{BearerAuth, BearerAuthError, BearerAuthLayer};
use confidential_client::delegated::UserAssertion;
use confidential_client::testing::ManualClock;
use confidential_client::{ConfidentialClient, Error};
use http::header::{AUTHORIZATION, HOST, LOCATION, WWW_AUTHENTICATE};
use http::{Request, Response, StatusCode};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tower::{Layer, Service, ServiceExt};
use tower_http::follow_redirect::FollowRedirectLayer;

use crate::support::log_capture::Log;
use crate::support::raw_server::{Act, RawServer, answer};
use crate::support::{Provider, SCOPE, SECRET, let_others_run};

const GRAPH: &str = "https://graph.microsoft.com";
const CLAIMS: &str = r#"{"access_token":{"nbf":{"essential":true,"value":"1604106651"}}}"#;

/// An API that rejects some tokens and records the requests.
#[derive(Clone, Default)]
struct Api(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// The rejected `Authorization` headers, each with a status and a challenge.
    rejected: Vec<(String, StatusCode, String)>,
    challenge_to_all: Option<String>,
    seen: Vec<(String, Option<String>)>,
}

impl Api {
    fn reject(&self, token: &str, status: u16, challenge: &str) {
        let status = StatusCode::from_u16(status).unwrap();
        let header = format!("Bearer {token}");
        let entry = (header, status, challenge.to_owned());
        self.0.lock().unwrap().rejected.push(entry);
    }

    fn answer(&self, request: &Request<String>) -> Response<String> {
        let mut state = self.0.lock().unwrap();
        let header = request.headers().get(AUTHORIZATION);
        let header = header.map(|value| value.to_str().unwrap().to_owned());
        state.seen.push((request.uri().to_string(), header.clone()));
        let response = Response::builder();
        if request.uri().path() == "/elsewhere" {
            let response = response
                .status(302)
                .header(LOCATION, "https://evil.example/");
            return response.body(String::new()).unwrap();
        }
        let no = match &state.challenge_to_all {
            Some(challenge) => Some((StatusCode::UNAUTHORIZED, challenge.clone())),
            None => state
                .rejected
                .iter()
                .find(|(token, ..)| Some(token) == header.as_ref())
                .map(|(_, status, challenge)| (*status, challenge.clone())),
        };
        let response = match no {
            Some((status, challenge)) => {
                response.status(status).header(WWW_AUTHENTICATE, challenge)
            }
            None => response,
        };
        response.body(request.body().clone()).unwrap()
    }

    fn seen(&self) -> Vec<(String, Option<String>)> {
        self.0.lock().unwrap().seen.clone()
    }

    fn service(
        &self,
    ) -> impl Service<Request<String>, Response = Response<String>, Error = Infallible, Future: Send>
    + Clone
    + Send
    + use<> {
        let api = self.clone();
        tower::service_fn(move |request: Request<String>| {
            let answer = api.answer(&request);
            async move {
                tokio::task::yield_now().await;
                Ok(answer)
            }
        })
    }
}

fn claims_challenge() -> String {
    let claims = BASE64_STANDARD.encode(CLAIMS);
    format!(r#"Bearer realm="", error="insufficient_claims", claims="{claims}""#)
}

fn auth(client: &ConfidentialClient) -> BearerAuth {
    BearerAuth::new(client.token_provider(SCOPE).unwrap(), [GRAPH]).unwrap()
}

fn layer(client: &ConfidentialClient) -> BearerAuthLayer<String> {
    BearerAuthLayer::new(auth(client)).retry_with(|body: &String| Some(body.clone()))
}

fn get(uri: &str) -> Request<String> {
    Request::get(uri).body("body".to_owned()).unwrap()
}

fn users() -> Request<String> {
    get("https://graph.microsoft.com/v1.0/users")
}

#[tokio::test]
async fn the_first_request_without_a_token_is_logged_once() {
    let evil = "https://u:hunter2@evil.example:8443/a?code=hunter2";
    let own = {
        let mut request = get("https://other.example/");
        request
            .headers_mut()
            .insert(AUTHORIZATION, "Basic a".parse().unwrap());
        request
    };
    let renamed = {
        let mut request = users();
        request
            .headers_mut()
            .insert(HOST, "evil.example".parse().unwrap());
        request
    };
    for (requests, expected) in [
        (vec![users(), own], None),
        (
            vec![users(), get(evil), get("https://other.example/")],
            Some(
                "'https://evil.example:8443' was sent without a token, because BearerAuth::new(..) names only 'https://graph.microsoft.com'; add",
            ),
        ),
        (
            vec![renamed],
            Some("'https://graph.microsoft.com' was sent without a token, because its Host header"),
        ),
    ] {
        let log = Log::start();
        let (provider, api) = (Provider::open(), Api::default());
        let service = layer(&provider.client()).layer(api.service());
        for request in requests {
            service.clone().oneshot(request).await.unwrap();
        }
        let log = log.text();
        let warnings = log.matches("was sent without a token").count();
        assert_eq!(warnings, usize::from(expected.is_some()), "{log}");
        assert!(log.contains(expected.unwrap_or_default()), "{log}");
        assert!(!log.contains("hunter2"), "{log}");
    }
}

#[tokio::test]
async fn only_named_origins_get_the_token() {
    let (provider, api) = (Provider::open(), Api::default());
    let service = layer(&provider.client()).layer(api.service());
    for (uri, has_one) in [
        ("https://graph.microsoft.com/v1.0/users", true),
        ("https://graph.microsoft.com:443/", true),
        ("https://graph.microsoft.com:8443/", false),
        ("http://graph.microsoft.com/", false),
        ("https://graph.microsoft.com.evil.example/", false),
        ("https://evil.example/?graph.microsoft.com", false),
    ] {
        service.clone().oneshot(get(uri)).await.unwrap();
        let (_, header) = api.seen().pop().unwrap();
        assert_eq!(header.is_some(), has_one, "{uri}");
    }
    assert_eq!(provider.requests(), 1);
    let mut own = users();
    own.headers_mut()
        .insert(AUTHORIZATION, "Basic abc".parse().unwrap());
    service.oneshot(own).await.unwrap();
    assert_eq!(api.seen().pop().unwrap().1.as_deref(), Some("Basic abc"));
}

#[tokio::test]
async fn one_provider_may_serve_several_origins() {
    let (provider, api) = (Provider::open(), Api::default());
    let token = provider.client().token_provider(SCOPE).unwrap();
    let auth = BearerAuth::new(token, [GRAPH, "https://canary.example:8443"]).unwrap();
    let service = BearerAuthLayer::new(auth).layer(api.service());
    for (uri, has_one) in [
        ("https://graph.microsoft.com/v1.0/users", true),
        ("https://canary.example:8443/", true),
        ("https://graph.microsoft.com:8443/", false),
        ("https://canary.example/", false),
    ] {
        service.clone().oneshot(get(uri)).await.unwrap();
        let (_, header) = api.seen().pop().unwrap();
        assert_eq!(header.is_some(), has_one, "{uri}");
    }
}

/// The adapter cannot refresh a token that the caller supplied.
#[tokio::test]
async fn a_challenge_to_the_callers_own_token_is_returned() {
    let (provider, api) = (Provider::open(), Api::default());
    api.0.lock().unwrap().challenge_to_all = Some(r#"Bearer error="invalid_token""#.to_owned());
    let service = layer(&provider.client()).layer(api.service());
    let mut own = users();
    own.headers_mut()
        .insert(AUTHORIZATION, "Bearer own".parse().unwrap());
    let response = service.oneshot(own).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!((provider.requests(), api.seen().len()), (0, 1));
}

#[tokio::test]
async fn a_challenge_is_read_in_any_case() {
    let (provider, api) = (Provider::open(), Api::default());
    api.reject("token-1", 401, r#"bEARER Error="Invalid_Token""#);
    let service = layer(&provider.client()).layer(api.service());
    let response = service.oneshot(users()).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_layer_above_that_follows_redirects_forwards_no_token() {
    let (provider, api) = (Provider::open(), Api::default());
    let service = layer(&provider.client()).layer(api.service());
    let service = FollowRedirectLayer::new().layer(service);
    // Without a body, which that layer would have to clone.
    let request = Request::get("https://graph.microsoft.com/elsewhere").body(String::new());
    service.oneshot(request.unwrap()).await.unwrap();
    let seen = api.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0].1.as_deref(), Some("Bearer token-1"));
    assert_eq!(seen[1], ("https://evil.example/".to_owned(), None));
}

#[tokio::test]
async fn a_claims_challenge_gets_a_fresh_token_and_one_retry() {
    let (provider, api) = (Provider::open(), Api::default());
    let client = provider
        .builder()
        .client_capabilities(["cp1"])
        .build()
        .unwrap();
    api.reject("token-1", 401, &claims_challenge());
    let service = layer(&client).layer(api.service());
    let response = service.clone().oneshot(users()).await.unwrap();
    assert_eq!(
        (response.status(), &response.body()[..]),
        (StatusCode::OK, "body")
    );
    let sent = |request| provider.field(request, "claims").unwrap();
    assert_eq!(sent(0), r#"{"access_token":{"xms_cc":{"values":["cp1"]}}}"#);
    let both = r#"{"access_token":{"nbf":{"essential":true,"value":"1604106651"},"xms_cc":{"values":["cp1"]}}}"#;
    assert_eq!(sent(1), both);
    service.oneshot(users()).await.unwrap();
    assert_eq!((provider.requests(), api.seen().len()), (2, 3));
}

/// docs/failures.md M20 and F13.
#[tokio::test]
async fn a_thousand_callers_whose_token_was_revoked_make_one_token_request() {
    for challenge in [
        claims_challenge(),
        r#"Bearer error="invalid_token""#.to_owned(),
    ] {
        let (provider, api) = (Provider::open(), Api::default());
        let service = layer(&provider.client()).layer(api.service());
        service.clone().oneshot(users()).await.unwrap();
        api.reject("token-1", 401, &challenge);
        let mut callers = JoinSet::new();
        for _ in 0..1000 {
            let service = service.clone();
            callers.spawn(async move { service.oneshot(users()).await.unwrap().status() });
        }
        let all = callers.join_all().await;
        assert!(
            all.iter().all(|status| *status == StatusCode::OK),
            "{challenge}"
        );
        assert_eq!(provider.requests(), 2, "{challenge}");
    }
}

/// The response takes longer than the window in which refreshes are limited.
#[tokio::test]
async fn a_late_challenge_gets_the_token_that_was_acquired_since() {
    let (provider, api, clock) = (Provider::open(), Api::default(), ManualClock::new());
    api.reject("token-1", 401, &claims_challenge());
    let slow = Arc::new(Semaphore::new(0));
    let gate = Arc::clone(&slow);
    let service = tower::service_fn(move |request: Request<String>| {
        let (answer, gate) = (api.answer(&request), Arc::clone(&gate));
        async move {
            if request.uri().path() == "/slow" {
                let _ = gate.acquire().await;
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let service = layer(&provider.client_at(&clock)).layer(service);
    let late = service
        .clone()
        .oneshot(get("https://graph.microsoft.com/slow"));
    let late = tokio::spawn(late);
    let_others_run().await;
    service.oneshot(users()).await.unwrap();
    assert_eq!(provider.requests(), 2);
    clock.advance(Duration::from_secs(31));
    slow.close();
    assert_eq!(late.await.unwrap().unwrap().status(), StatusCode::OK);
    assert_eq!(provider.requests(), 2);
}

#[tokio::test]
async fn two_challenges_get_two_tokens() {
    let (provider, api) = (Provider::open(), Api::default());
    let service = layer(&provider.client()).layer(api.service());
    service.clone().oneshot(users()).await.unwrap();
    let other = BASE64_STANDARD.encode(r#"{"access_token":{"acrs":{"value":"c1"}}}"#);
    api.reject("token-1", 401, &claims_challenge());
    api.reject(
        "token-2",
        401,
        &format!("Bearer error=insufficient_claims, claims={other}"),
    );
    let status = service.clone().oneshot(users()).await.unwrap().status();
    assert_eq!(
        status,
        StatusCode::UNAUTHORIZED,
        "a request is retried once"
    );
    let status = service.oneshot(users()).await.unwrap().status();
    assert_eq!((status, provider.requests()), (StatusCode::OK, 3));
}

#[tokio::test]
async fn an_api_that_rejects_every_token_causes_no_storm() {
    for challenge in [
        claims_challenge(),
        r#"Bearer error="invalid_token""#.to_owned(),
    ] {
        let (provider, api) = (Provider::open(), Api::default());
        api.0.lock().unwrap().challenge_to_all = Some(challenge.clone());
        let service = layer(&provider.client()).layer(api.service());
        for _ in 0..100 {
            let status = service.clone().oneshot(users()).await.unwrap().status();
            assert_eq!(status, StatusCode::UNAUTHORIZED);
        }
        assert_eq!(provider.requests(), 2, "{challenge}");
        assert_eq!(
            api.seen().len(),
            101,
            "{challenge}: retried only with a fresh token"
        );
    }
}

/// The claims differ each time, so a limit for each value of the claims would not be enough.
#[tokio::test]
async fn an_api_that_asks_for_new_claims_each_time_causes_no_storm() {
    for is_refused in [true, false] {
        let (provider, api) = (Provider::open(), Api::default());
        let service = layer(&provider.client()).layer(api.service());
        service.clone().oneshot(users()).await.unwrap();
        for number in 0..100 {
            if is_refused {
                provider.answer(400, r#"{"error":"invalid_request"}"#);
            }
            let claims = BASE64_STANDARD.encode(format!(r#"{{"number":{number}}}"#));
            let challenge = format!("Bearer error=insufficient_claims, claims={claims}");
            api.0.lock().unwrap().challenge_to_all = Some(challenge);
            service.clone().oneshot(users()).await.unwrap();
        }
        assert_eq!(provider.requests(), 3, "refused: {is_refused}");
    }
}

/// A service with one connection, as hyper has, accepts the next request only after the body of the
/// last response is read or dropped.
#[tokio::test]
async fn a_response_is_dropped_before_the_retry() {
    let (provider, api) = (Provider::open(), Api::default());
    api.reject("token-1", 401, &claims_challenge());
    let connection = Arc::new(Semaphore::new(1));
    let service = tower::service_fn(move |request: Request<String>| {
        let (connection, answer) = (Arc::clone(&connection), api.answer(&request));
        async move {
            let permit = connection.try_acquire_owned();
            let permit = permit.map_err(|_| "the last answer is still there")?;
            Ok::<_, &str>(answer.map(|body| (body, permit)))
        }
    });
    let service = layer(&provider.client()).layer(service);
    let response = service.oneshot(users()).await.map_err(|_| "an error");
    assert_eq!(response.unwrap().status(), StatusCode::OK);
}

/// A service that panics if `call` runs before `poll_ready`. A clone is not ready.
struct Strict {
    api: Api,
    is_ready: bool,
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        Self {
            api: self.api.clone(),
            is_ready: false,
        }
    }
}

impl Service<Request<String>> for Strict {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Response<String>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.is_ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<String>) -> Self::Future {
        assert!(std::mem::take(&mut self.is_ready), "it is not ready");
        std::future::ready(Ok(self.api.answer(&request)))
    }
}

#[tokio::test]
async fn poll_ready_is_called_before_each_request() {
    let (provider, api) = (Provider::open(), Api::default());
    api.reject("token-1", 401, &claims_challenge());
    let service = Strict {
        api: api.clone(),
        is_ready: false,
    };
    let service = layer(&provider.client()).layer(service);
    let response = service.clone().oneshot(users()).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    service.oneshot(get("https://evil.example/")).await.unwrap();
    assert_eq!(api.seen().len(), 3);
}

/// A server may route a request by the `Host` header.
#[tokio::test]
async fn a_request_with_another_host_header_has_no_token() {
    let (provider, api) = (Provider::open(), Api::default());
    let service = layer(&provider.client()).layer(api.service());
    for (host, has_one) in [("evil.example", false), ("graph.microsoft.com", true)] {
        let mut request = users();
        request.headers_mut().insert(HOST, host.parse().unwrap());
        service.clone().oneshot(request).await.unwrap();
        let (_, header) = api.seen().pop().unwrap();
        assert_eq!(header.is_some(), has_one, "{host}");
    }
    let server = RawServer::start().await;
    let http = with_middleware(server.base(), &provider.client());
    let request = http.get(server.base()).header(HOST, "evil.example");
    request.send().await.unwrap();
    assert_eq!(server.header(0, "authorization"), None);
}

#[tokio::test]
async fn a_response_that_a_fresh_token_does_not_cure_is_returned() {
    for (status, challenge) in [
        (403, r#"Bearer error="insufficient_scope""#),
        (403, r#"Bearer error="invalid_token""#),
        (401, "Basic realm=x"),
        (
            401,
            r#"Bearer realm="", authorization_uri="https://login.microsoftonline.com/common/oauth2/authorize""#,
        ),
        (401, r#"Basic error="invalid_token""#),
        (401, r#"Bearer error="insufficient_claims""#),
        (401, r#"Bearer claims="eyJhIjoxfQ==""#),
        (
            401,
            r#"Bearer error="interaction_required", claims="eyJhIjoxfQ==""#,
        ),
        (
            401,
            r#"Bearer error="insufficient_claims", Basic claims="eyJhIjoxfQ==""#,
        ),
        (
            401,
            r#"Bearer error="insufficient_claims", claims="bnVsbA==""#,
        ),
        (401, "(,"),
    ] {
        let (provider, api) = (Provider::open(), Api::default());
        api.reject("token-1", status, challenge);
        let service = layer(&provider.client()).layer(api.service());
        let response = service.oneshot(users()).await.unwrap();
        assert_eq!(response.status(), status);
        assert!(response.headers().contains_key(WWW_AUTHENTICATE));
        assert_eq!(
            (provider.requests(), api.seen().len()),
            (1, 1),
            "{challenge}"
        );
    }
}

#[tokio::test]
async fn a_body_that_cannot_be_cloned_is_not_retried_and_the_next_token_is_fresh() {
    let (provider, api) = (Provider::open(), Api::default());
    api.reject("token-1", 401, &claims_challenge());
    let client = provider.client();
    let service = BearerAuthLayer::new(auth(&client)).layer(api.service());
    let response = service.clone().oneshot(users()).await.unwrap();
    assert_eq!(
        (response.status(), api.seen().len()),
        (StatusCode::UNAUTHORIZED, 1)
    );
    let response = service.oneshot(users()).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!((provider.requests(), api.seen().len()), (2, 2));
}

#[tokio::test]
async fn without_a_token_nothing_is_sent_and_the_error_is_the_clients() {
    let (provider, api) = (Provider::open(), Api::default());
    provider.answer(401, r#"{"error":"invalid_client"}"#);
    let service = layer(&provider.client()).layer(api.service());
    let error = service.oneshot(users()).await.unwrap_err();
    let BearerAuthError::Token(Error::Server(refusal)) = &error else {
        panic!("{error:?}");
    };
    assert_eq!(refusal.error(), "invalid_client");
    assert!(api.seen().is_empty());
}

#[test]
fn an_invalid_origin_is_rejected() {
    let client = Provider::open().client();
    let provider = client.token_provider(SCOPE).unwrap();
    for (origins, text) in [
        (&[][..], "no origin"),
        (
            &["https://graph.microsoft.com", "http://graph.microsoft.com"],
            "in the clear",
        ),
        (
            &["https://graph.microsoft.com/v1.0"],
            "scheme, host and port alone",
        ),
        (
            &["https://graph.microsoft.com", "https://*.example.com"],
            "a star is not a wildcard",
        ),
        (&["https://graph.microsoft.com:0"], "its port is 0"),
    ] {
        let error = BearerAuth::new(provider.clone(), origins).unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        assert!(error.to_string().contains(text), "{error}");
    }
}

/// The middleware, over real sockets.
fn with_middleware(
    origin: &str,
    client: &ConfidentialClient,
) -> reqwest_middleware::ClientWithMiddleware {
    let provider = client.token_provider(SCOPE).unwrap();
    let auth = BearerAuth::new(provider, [origin]).unwrap();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    reqwest_middleware::ClientBuilder::new(http)
        .with(auth)
        .build()
}

fn say(server: &RawServer, status: &str, headers: &str) {
    server.act(Act::Say(answer(status, headers, "").into_bytes()));
}

#[tokio::test]
async fn the_middleware_attaches_a_token_and_retries_once() {
    let (server, provider) = (RawServer::start().await, Provider::open());
    let http = with_middleware(server.base(), &provider.client());
    http.get(format!("{}/a", server.base()))
        .send()
        .await
        .unwrap();
    assert_eq!(
        server.header(0, "authorization").as_deref(),
        Some("Bearer token-1")
    );

    say(
        &server,
        "401 No",
        &format!("www-authenticate: {}\r\n", claims_challenge()),
    );
    // A fragment is not sent, and the URL of the response has none.
    let url = format!("{}/#part", server.base());
    let response = http.post(url).body("x").send().await.unwrap();
    assert_eq!((response.status().as_u16(), server.requests()), (401, 3));
    assert_eq!(
        server.header(2, "authorization").as_deref(),
        Some("Bearer token-2")
    );
    assert_eq!(provider.field(1, "claims").as_deref(), Some(CLAIMS));

    let chunks = [Ok::<_, Infallible>("x")];
    let stream = reqwest::Body::wrap_stream(futures_util::stream::iter(chunks));
    let response = http.post(server.base()).body(stream).send().await.unwrap();
    assert_eq!((response.status().as_u16(), server.requests()), (401, 4));
}

#[tokio::test]
async fn a_redirect_and_a_challenge_after_a_redirect_get_no_token() {
    let (server, other) = (RawServer::start().await, RawServer::start().await);
    let provider = Provider::open();
    let http = with_middleware(server.base(), &provider.client());
    let location = format!("location: {}/\r\n", other.base());
    for status in ["302 There", "307 There", "308 There"] {
        say(&server, status, &location);
        say(
            &other,
            "401 No",
            "www-authenticate: Bearer error=\"invalid_token\"\r\n",
        );
        let response = http.get(server.base()).send().await.unwrap();
        assert_eq!(response.status(), 401);
    }
    http.get(other.base()).send().await.unwrap();
    assert_eq!((server.requests(), other.requests()), (3, 4));
    let sent: HashSet<_> = (0..4)
        .map(|request| other.header(request, "authorization"))
        .collect();
    assert_eq!(sent, HashSet::from([None]));
    assert_eq!(
        provider.requests(),
        1,
        "the challenge of another origin is ignored"
    );
}

/// The API carries out the order before the redirect.
#[tokio::test]
async fn a_redirected_request_is_not_retried() {
    let orders = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&orders);
    let order = move || async move {
        counted.fetch_add(1, Ordering::SeqCst);
        Redirect::to("/orders/1")
    };
    let no = [(WWW_AUTHENTICATE, r#"Bearer error="invalid_token""#)];
    let router = axum::Router::new()
        .route("/orders", post(order))
        .fallback(async move || (StatusCode::UNAUTHORIZED, no));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(axum::serve(listener, router).into_future());
    let provider = Provider::open();
    let http = with_middleware(&base, &provider.client());
    let response = http.post(format!("{base}/orders")).body("x").send().await;
    assert_eq!(response.unwrap().status(), 401);
    assert_eq!((orders.load(Ordering::SeqCst), provider.requests()), (1, 1));
}

#[tokio::test]
async fn debug_and_errors_show_no_token() {
    let (provider, api) = (Provider::open(), Api::default());
    let client = provider.client();
    let service = layer(&client).layer(api.service());
    service.clone().oneshot(users()).await.unwrap();
    let server = RawServer::start().await;
    let http = with_middleware(server.base(), &client);
    let mut request = users();
    let token = client.acquire_token_for_client(SCOPE).await.unwrap();
    request
        .headers_mut()
        .insert(AUTHORIZATION, token.authorization_header());
    let error: BearerAuthError<Infallible> =
        BearerAuthError::Token(client.acquire_token_for_client("x").await.unwrap_err());
    let of_reqwest = reqwest::Client::new()
        .get(server.base())
        .header(AUTHORIZATION, token.authorization_header())
        .build()
        .unwrap();
    client.cache().clear();
    provider.answer(
        400,
        &format!(r#"{{"error":"invalid_client","error_description":"{SECRET}"}}"#),
    );
    let of_middleware = http.get(server.base()).send().await.unwrap_err();
    let shown = format!(
        "{:?} {service:?} {http:?} {request:?} {error:?} {error} {of_reqwest:?} {of_middleware:?} {of_middleware}",
        layer(&client)
    );
    assert!(shown.contains("invalid_client"), "{shown}");
    assert!(
        !shown.contains("token-1") && !shown.contains(SECRET),
        "{shown}"
    );
    assert!(shown.contains("graph.microsoft.com"), "{shown}");
}

/// After a challenge to a user's token, the retry carries a fresh token of the same user.
#[tokio::test]
async fn a_users_token_is_refreshed_for_the_same_user() {
    let (provider, api) = (Provider::open(), Api::default());
    let client = provider.client();
    let adele = UserAssertion::new("token-of-adele");
    let user = client.token_provider_on_behalf_of(&adele, SCOPE).unwrap();
    let service = BearerAuthLayer::new(BearerAuth::new(user, [GRAPH]).unwrap())
        .retry_with(|body: &String| Some(body.clone()))
        .layer(api.service());
    api.reject("token-1", 401, &claims_challenge());
    api.reject("token-2", 401, r#"Bearer error="invalid_token""#);
    for expected in ["token-2", "token-3"] {
        let answer = service.clone().oneshot(users()).await.unwrap();
        let sent = api.seen().pop().unwrap().1.unwrap();
        assert_eq!(sent, format!("Bearer {expected}"), "{}", answer.status());
    }
    for request in 0..3 {
        let sent = provider.field(request, "assertion");
        assert_eq!(sent.as_deref(), Some("token-of-adele"), "{request}");
    }
    assert_eq!(provider.field(1, "claims").as_deref(), Some(CLAIMS));
    assert_eq!(provider.requests(), 3);
}
