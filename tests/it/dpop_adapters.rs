//! The adapters with a client that has a proof key: a proof per request and per retry, and nonces.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use azure_core::credentials::TokenCredential;
use bytes::Bytes;
use confidential_client::adapter::{
    AzureCredential, BearerAuth, BearerAuthError, BearerAuthLayer, BearerAuthService,
};
use confidential_client::testing::{LocalAuthority, ManualClock, ProtectedApi};
use confidential_client::time::Clock;
use confidential_client::{Authority, ConfidentialClient, Error};
use http::{Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use reqwest_middleware::ClientWithMiddleware;
use tower::{Layer, Service, ServiceExt};

use crate::support::dpop::{JudgedProof, ORDERS, client_of, hash, http, key, start, vault_key};
use crate::support::raw_server::{Act, RawServer, answer};
use crate::support::{Provider, SECRET};

const API: &str = "https://orders.example.org";

fn client(local: &LocalAuthority) -> ConfidentialClient {
    client_of(local).dpop(key()).build().unwrap()
}

fn auth(local: &LocalAuthority, api: &ProtectedApi) -> BearerAuth {
    let provider = client(local).token_provider(ORDERS).unwrap();
    BearerAuth::new(provider, [api.base_url()]).unwrap()
}

fn middleware(auth: BearerAuth) -> ClientWithMiddleware {
    reqwest_middleware::ClientBuilder::new(http())
        .with(auth)
        .build()
}

/// An API over tower that gives scripted answers, and records the requests.
#[derive(Clone, Default)]
struct Api {
    seen: Arc<Mutex<Vec<Request<Bytes>>>>,
    answers: Arc<Mutex<VecDeque<Response<()>>>>,
}

impl Api {
    /// Adds a 401 with a challenge and further headers.
    fn reject(&self, challenge: &str, headers: &[(&str, &str)]) {
        let mut response = Response::builder().status(401);
        response = response.header("www-authenticate", challenge);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        let response = response.body(()).unwrap();
        self.answers.lock().unwrap().push_back(response);
    }

    /// Returns the token and the proof of each request so far.
    fn requests(&self) -> Vec<(String, JudgedProof)> {
        let seen = self.seen.lock().unwrap();
        let parts = seen.iter().map(|request| {
            let text = |name: &str| request.headers()[name].to_str().unwrap().to_owned();
            assert_eq!(request.headers().get_all("dpop").iter().count(), 1);
            (text("authorization"), JudgedProof::of(&text("dpop")))
        });
        parts.collect()
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
        self.seen.lock().unwrap().push(request);
        let scripted = self.answers.lock().unwrap().pop_front();
        std::future::ready(Ok(scripted.unwrap_or_else(|| Response::new(()))))
    }
}

/// Returns a service over the API, whose client has in-memory tokens `t1`, `t2` and so on.
fn service(api: &Api, clock: &ManualClock) -> BearerAuthService<Api, Bytes> {
    let provider = Provider::open();
    for number in 1..5 {
        let token = format!("t{number}");
        let body = r#"{"token_type":"DPoP","expires_in":3599,"access_token":"TOKEN"}"#;
        provider.answer(200, &body.replace("TOKEN", &token));
    }
    let authority = Authority::oidc("https://id.example.org");
    let client = ConfidentialClient::builder("daemon")
        .authority(authority.token_endpoint("https://id.example.org/token"))
        .client_secret(SECRET)
        .dpop(key())
        .clock(clock.clone())
        .transport(provider.transport())
        .build()
        .unwrap();
    let auth = BearerAuth::new(client.token_provider("orders").unwrap(), [API]).unwrap();
    let layer = BearerAuthLayer::new(auth).default_origin(API).unwrap();
    let layer = layer.retry_with(|body: &Bytes| Some(body.clone()));
    layer.layer(api.clone())
}

async fn call(service: &BearerAuthService<Api, Bytes>) -> u16 {
    let request = Request::post(format!("{API}/v1/orders?page=2"));
    let request = request.header("accept", "text/plain").body("body".into());
    let response = service.clone().oneshot(request.unwrap()).await.unwrap();
    response.status().as_u16()
}

const USE_NONCE: &str = r#"DPoP error="use_dpop_nonce", algs="ES256""#;

#[tokio::test]
async fn a_middleware_sends_a_proof_with_every_request_and_learns_nonces() {
    let (local, api) = start().await;
    let http = middleware(auth(&local, &api));
    let mut sent = 0;
    for (requires, attempts) in [(false, 1), (false, 1), (true, 2), (false, 1), (true, 2)] {
        if requires {
            api.require_dpop_nonce();
        }
        let request = http.post(format!("{}/v1/orders?a=b#c", api.base_url()));
        let response = request.body("an order").send().await.unwrap();
        assert_eq!(response.status(), 200);
        sent += attempts;
        assert_eq!(api.requests(), sent);
    }
    assert_eq!(local.token_requests().len(), 1, "the token stays");
}

#[tokio::test]
async fn a_stream_is_not_sent_twice_and_the_next_call_has_the_nonce() {
    let (local, api) = start().await;
    api.require_dpop_nonce();
    let http = middleware(auth(&local, &api));
    for (status, sent) in [(401, 1), (200, 2)] {
        let chunks = futures_util::stream::iter([Ok::<_, Infallible>("an order")]);
        let body = reqwest::Body::wrap_stream(chunks);
        let response = http.post(api.base_url()).body(body).send().await.unwrap();
        assert_eq!((response.status().as_u16(), api.requests()), (status, sent));
    }
}

/// A server that the API redirects to is not the one that the nonces are for.
#[tokio::test]
async fn a_challenge_after_a_redirect_is_ignored() {
    let (server, other) = (RawServer::start().await, RawServer::start().await);
    let (local, _api) = start().await;
    let provider = client(&local).token_provider(ORDERS).unwrap();
    let http = middleware(BearerAuth::new(provider, [server.base()]).unwrap());
    let redirect = format!("location: {}/\r\n", other.base());
    let challenge = format!("www-authenticate: {USE_NONCE}\r\ndpop-nonce: evil\r\n");
    for _ in 0..2 {
        server.act(Act::Say(answer("307 There", &redirect, "").into_bytes()));
        other.act(Act::Say(answer("401 No", &challenge, "").into_bytes()));
        let response = http.get(server.base()).send().await.unwrap();
        assert_eq!(response.status(), 401);
    }
    assert_eq!((server.requests(), other.requests()), (2, 2));
    for request in 0..2 {
        let proof = server.header(request, "dpop").unwrap();
        assert_eq!(JudgedProof::of(&proof).text("nonce"), "");
        assert_eq!(other.header(request, "authorization"), None);
    }
}

#[tokio::test]
async fn a_layer_over_hyper_sends_a_proof_with_every_request_and_learns_nonces() {
    let (local, api) = start().await;
    let hyper: Client<_, String> = Client::builder(TokioExecutor::new()).build_http();
    let layer = BearerAuthLayer::new(auth(&local, &api));
    let layer = layer.retry_with(|body: &String| Some(body.clone()));
    let service = layer.layer(hyper);
    let mut sent = 0;
    for (requires, attempts) in [(false, 1), (true, 2), (false, 1), (true, 2)] {
        if requires {
            api.require_dpop_nonce();
        }
        let request = Request::put(format!("{}/v1/orders/1", api.base_url()));
        let request = request.body("an order".to_owned()).unwrap();
        let response = service.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), 200);
        sent += attempts;
        assert_eq!(api.requests(), sent);
    }
    assert_eq!(local.token_requests().len(), 1, "the token stays");
}

#[tokio::test]
async fn a_layer_without_retries_learns_the_nonce_for_the_next_call() {
    let (local, api) = start().await;
    api.require_dpop_nonce();
    let hyper: Client<_, String> = Client::builder(TokioExecutor::new()).build_http();
    let service = BearerAuthLayer::new(auth(&local, &api)).layer(hyper);
    for status in [401, 200] {
        let request = Request::get(format!("{}/", api.base_url()));
        let request = request.body(String::new()).unwrap();
        let response = service.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), status);
    }
}

/// The conformance suite's module `rs-dpop-auth-scheme-case-insensitivity`.
#[tokio::test]
async fn a_challenge_whose_scheme_has_another_case_is_read() {
    for scheme in ["dpop", "DPOP", "dPoP"] {
        let (api, clock) = (Api::default(), ManualClock::new());
        let service = service(&api, &clock);
        let challenge = USE_NONCE.replace("DPoP", scheme);
        api.reject(&challenge, &[("dpop-nonce", "n1")]);
        assert_eq!(call(&service).await, 200, "{scheme}");
        let requests = api.requests();
        assert_eq!(requests.len(), 2, "{scheme}");
        assert_eq!(requests[1].1.text("nonce"), "n1", "{scheme}");
    }
}

#[tokio::test]
async fn a_nonce_and_then_a_rejected_token_are_one_repetition_each() {
    let (api, clock) = (Api::default(), ManualClock::new());
    let service = service(&api, &clock);
    api.reject(USE_NONCE, &[("dpop-nonce", "n1")]);
    api.reject(r#"DPoP error="invalid_token""#, &[("dpop-nonce", "n2")]);
    assert_eq!(call(&service).await, 200);
    let requests = api.requests();
    let seen = requests
        .iter()
        .map(|(token, proof)| (&**token, proof.text("nonce")));
    let seen: Vec<_> = seen.collect();
    assert_eq!(
        seen,
        [("DPoP t1", ""), ("DPoP t1", "n1"), ("DPoP t2", "n2")]
    );
    let ids = requests.iter().map(|(_, proof)| proof.text("jti"));
    let ids: std::collections::HashSet<_> = ids.collect();
    assert_eq!(ids.len(), 3, "each request has its own proof");
    for (number, (token, proof)) in requests.iter().enumerate() {
        assert_eq!(proof.text("htm"), "POST");
        assert_eq!(proof.text("htu"), format!("{API}/v1/orders"), "{number}");
        let token = token.strip_prefix("DPoP ").unwrap();
        assert_eq!(proof.text("ath"), hash(token));
    }
    for request in &*api.seen.lock().unwrap() {
        assert_eq!(request.body(), "body");
        assert_eq!(request.headers()["accept"], "text/plain");
        assert_eq!(request.headers().len(), 3);
    }
}

#[tokio::test]
async fn a_second_refusal_is_for_the_caller() {
    for (name, first, second, sent) in [
        ("a nonce", USE_NONCE, USE_NONCE, 2),
        ("no error", "DPoP", "DPoP", 1),
        (
            "a bearer challenge",
            r#"Bearer error="invalid_token""#,
            "Bearer",
            1,
        ),
        (
            "another error",
            r#"DPoP error="insufficient_scope""#,
            "DPoP",
            1,
        ),
        (
            "a token",
            r#"DPoP error="invalid_token""#,
            r#"DPoP error="invalid_token""#,
            2,
        ),
    ] {
        let (api, clock) = (Api::default(), ManualClock::new());
        let service = service(&api, &clock);
        api.reject(first, &[("dpop-nonce", "n1")]);
        api.reject(second, &[("dpop-nonce", "n2")]);
        assert_eq!(call(&service).await, 401, "{name}");
        assert_eq!(api.requests().len(), sent, "{name}");
    }
}

#[tokio::test]
async fn a_clock_that_is_off_is_corrected_by_the_date_of_the_api() {
    let (api, clock) = (Api::default(), ManualClock::new());
    let service = service(&api, &clock);
    let date = httpdate::fmt_http_date(clock.wall() + Duration::from_secs(900));
    api.reject(r#"DPoP error="invalid_dpop_proof""#, &[("date", &date)]);
    assert_eq!(call(&service).await, 200);
    let iat = |(_, proof): &(String, JudgedProof)| proof.claims["iat"].as_u64().unwrap();
    let times: Vec<_> = api.requests().iter().map(iat).collect();
    assert_eq!(times.len(), 2);
    assert!(times[1].abs_diff(times[0] + 900) <= 1, "{times:?}");
}

#[tokio::test]
async fn a_request_without_origin_gets_the_proof_of_the_default_origin() {
    let (api, clock) = (Api::default(), ManualClock::new());
    let service = service(&api, &clock);
    let request = Request::get("/v1/orders?a").body(Bytes::new()).unwrap();
    service.oneshot(request).await.unwrap();
    let requests = api.requests();
    assert_eq!(requests[0].1.text("htu"), format!("{API}/v1/orders"));
    assert_eq!(
        api.seen.lock().unwrap()[0].uri(),
        "/v1/orders?a",
        "unchanged"
    );
}

#[tokio::test]
async fn a_request_to_another_origin_gets_neither_token_nor_proof() {
    let (api, clock) = (Api::default(), ManualClock::new());
    let service = service(&api, &clock);
    let request = Request::get("https://evil.example/").body(Bytes::new());
    service.oneshot(request.unwrap()).await.unwrap();
    assert!(api.seen.lock().unwrap()[0].headers().is_empty());
}

#[tokio::test]
async fn a_proof_that_cannot_be_signed_is_the_error_of_the_call() {
    let provider = Provider::open();
    let body = r#"{"token_type":"DPoP","expires_in":3599,"access_token":"t"}"#;
    provider.answer(200, body);
    // The vault signs the proof of the token request, and no other.
    let calls = AtomicUsize::new(0);
    let key = vault_key(move || calls.fetch_add(1, Ordering::SeqCst) == 0);
    let authority = Authority::oidc("https://id.example.org");
    let client = ConfidentialClient::builder("daemon")
        .authority(authority.token_endpoint("https://id.example.org/token"))
        .client_secret(SECRET)
        .dpop(key)
        .transport(provider.transport())
        .build()
        .unwrap();
    let auth = BearerAuth::new(client.token_provider("orders").unwrap(), [API]).unwrap();
    let api = Api::default();
    let service = BearerAuthLayer::new(auth).layer(api.clone());
    let request = Request::get(format!("{API}/")).body(Bytes::new()).unwrap();
    let error = service.oneshot(request).await.unwrap_err();
    let BearerAuthError::Token(error) = error else {
        panic!("{error:?}");
    };
    assert!(matches!(error, Error::Credential(_)), "{error:?}");
    let text = error.chain().to_string();
    assert!(text.contains("the vault is closed"), "{text}");
    assert!(api.seen.lock().unwrap().is_empty(), "nothing was sent");
}

#[tokio::test]
async fn the_azure_sdk_gets_an_error_and_no_token() {
    let provider = Provider::open();
    let authority = Authority::oidc("https://id.example.org");
    let client = ConfidentialClient::builder("daemon")
        .authority(authority.token_endpoint("https://id.example.org/token"))
        .client_secret(SECRET)
        .dpop(key())
        .transport(provider.transport())
        .build()
        .unwrap();
    let credential = AzureCredential::new(client);
    let error = credential.get_token(&["orders"], None).await.unwrap_err();
    let error = error.downcast_ref::<Error>().unwrap();
    assert!(matches!(error, Error::Config(_)), "{error:?}");
    assert!(
        error.to_string().contains("have the scheme DPoP"),
        "{error}"
    );
    assert_eq!(provider.requests(), 0);
}
