//! Nonces of servers and differences of clocks, as a client with a proof key learns them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use confidential_client::testing::{Application, ManualClock, self_signed_certificate};
use confidential_client::time::Clock;
use confidential_client::{
    Authority, Certificate, ConfidentialClient, ConfidentialClientBuilder, Error, RetryPolicy,
};
use http::{Request, Response};
use serde_json::Value;

use crate::support::dpop::{
    JudgedProof, ORDERS, RESOURCE, client_of, http, key, seconds, start, token_proofs,
};
use crate::support::{CLIENT_ID, Provider, SECRET, TENANT};

const TOKEN_ENDPOINT: &str = "https://id.example.org/token";
const API: &str = "https://orders.example.org/v1/orders";

/// Returns the builder of a client of an in-memory OpenID provider.
fn builder(provider: &Provider) -> ConfidentialClientBuilder {
    let authority = Authority::oidc("https://id.example.org").token_endpoint(TOKEN_ENDPOINT);
    ConfidentialClient::builder("daemon")
        .authority(authority)
        .client_secret(SECRET)
        .retry(RetryPolicy::none())
        .dpop(key())
        .transport(provider.transport())
}

/// Adds a token response with these headers.
fn issue(provider: &Provider, token: &str, headers: &[(&str, &str)]) {
    let body = format!(r#"{{"token_type":"DPoP","expires_in":3599,"access_token":"{token}"}}"#);
    answer(provider, 200, &body, headers);
}

/// Adds the refusal of a proof.
fn refuse(provider: &Provider, error: &str, headers: &[(&str, &str)]) {
    answer(provider, 400, &format!(r#"{{"error":"{error}"}}"#), headers);
}

fn answer(provider: &Provider, status: u16, body: &str, headers: &[(&str, &str)]) {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    let body = Bytes::copy_from_slice(body.as_bytes());
    provider.answer_with(response.body(body).unwrap());
}

fn proof(provider: &Provider, request: usize) -> JudgedProof {
    let header = provider.header(request, "dpop").unwrap();
    JudgedProof::of(header.to_str().unwrap())
}

/// Makes the proof of a request to an API.
async fn proof_for(client: &ConfidentialClient, uri: &str) -> JudgedProof {
    let token = client.acquire_token_for_client("orders").await.unwrap();
    let mut request = Request::get(uri).body(()).unwrap();
    client.authorize(&token, &mut request).await.unwrap();
    JudgedProof::of(request.headers()["dpop"].to_str().unwrap())
}

#[tokio::test]
async fn a_required_nonce_is_sent_at_once_again_and_then_always() {
    let (local, api) = start().await;
    local.require_dpop_nonce();
    let client = client_of(&local).dpop(key()).build().unwrap();
    client.acquire_token_for_client(ORDERS).await.unwrap();
    let proofs = token_proofs(&local);
    assert_eq!(proofs.len(), 2, "one repetition");
    assert_eq!(proofs[0].claims.get("nonce"), None);
    assert_ne!(proofs[0].text("jti"), proofs[1].text("jti"));
    let nonce = proofs[1].text("nonce").to_owned();

    client.cache().clear();
    client.acquire_token_for_client(ORDERS).await.unwrap();
    let proofs = token_proofs(&local);
    assert_eq!(proofs.len(), 3, "the nonce is known");
    assert_eq!(proofs[2].text("nonce"), nonce);

    local.require_dpop_nonce();
    client.cache().clear();
    client.acquire_token_for_client(ORDERS).await.unwrap();
    let proofs = token_proofs(&local);
    assert_eq!(proofs.len(), 5, "a rotated nonce");
    assert_eq!(proofs[3].text("nonce"), nonce);
    assert_ne!(proofs[4].text("nonce"), nonce);
    drop(api);
}

#[tokio::test]
async fn the_repetition_has_a_new_assertion_and_is_no_retry() {
    let (local, _api) = start().await;
    let pem = self_signed_certificate("daemon").unwrap();
    let certificate = Certificate::from_pem(pem).unwrap();
    let application = Application::new(CLIENT_ID).certificate(&certificate);
    local.register(
        TENANT,
        application
            .role(RESOURCE, "Read")
            .dpop_bound_access_tokens(),
    );
    local.require_dpop_nonce();
    let issuer = local.issuer(TENANT).unwrap();
    let (tenant, _) = issuer.rsplit_once("/v2.0").unwrap();
    let endpoint = format!("{tenant}/oauth2/v2.0/token");
    let client = ConfidentialClient::builder(CLIENT_ID)
        .authority(Authority::oidc(issuer).client_assertion_audience(endpoint))
        .certificate(certificate)
        .retry(RetryPolicy::none())
        .dpop(key())
        .build()
        .unwrap();
    client.acquire_token_for_client(ORDERS).await.unwrap();
    let requests = local.token_requests();
    assert_eq!(requests.len(), 2);
    let id = |request: usize| {
        let claims = requests[request].assertion_claims().unwrap();
        serde_json::from_str::<Value>(&claims).unwrap()["jti"].clone()
    };
    assert_ne!(id(0), id(1), "an assertion is valid once");
}

#[tokio::test]
async fn a_nonce_is_learned_from_a_good_response() {
    let provider = Provider::open();
    let client = builder(&provider).build().unwrap();
    issue(&provider, "one", &[("dpop-nonce", "n1")]);
    issue(&provider, "two", &[("dpop-nonce", "n2")]);
    issue(&provider, "three", &[]);
    issue(&provider, "four", &[]);
    for (request, nonce) in [(0, ""), (1, "n1"), (2, "n2"), (3, "n2")] {
        client.cache().clear();
        client.acquire_token_for_client("orders").await.unwrap();
        assert_eq!(proof(&provider, request).text("nonce"), nonce);
    }
    // The API has another origin.
    assert_eq!(proof_for(&client, API).await.text("nonce"), "");
}

#[tokio::test]
async fn a_request_is_repeated_once_and_only_for_another_nonce() {
    let provider = Provider::open();
    for (name, answers, requests) in [
        ("no nonce", &[None][..], 1),
        ("a nonce, refused again", &[Some("n1"), Some("n2")], 2),
        (
            "the same nonce, refused again",
            &[Some("n1"), Some("n1")],
            2,
        ),
        ("two nonces at once", &[Some("a, b\"")], 1),
    ] {
        let client = builder(&provider).build().unwrap();
        let before = provider.requests();
        for nonce in answers {
            let headers: Vec<_> = nonce.iter().map(|nonce| ("dpop-nonce", *nonce)).collect();
            refuse(&provider, "use_dpop_nonce", &headers);
        }
        let error = client.acquire_token_for_client("orders").await.unwrap_err();
        let Error::Server(server) = &error else {
            panic!("{name}: {error:?}");
        };
        assert_eq!(server.error(), "use_dpop_nonce", "{name}");
        assert!(server.help().unwrap().contains("DPoP-Nonce"), "{error}");
        assert_eq!(provider.requests() - before, requests, "{name}");
    }
}

#[tokio::test]
async fn a_client_without_a_proof_key_repeats_nothing() {
    let provider = Provider::open();
    let authority = Authority::oidc("https://id.example.org").token_endpoint(TOKEN_ENDPOINT);
    let client = ConfidentialClient::builder("daemon")
        .authority(authority)
        .client_secret(SECRET)
        .retry(RetryPolicy::none())
        .transport(provider.transport())
        .build()
        .unwrap();
    refuse(&provider, "use_dpop_nonce", &[("dpop-nonce", "n1")]);
    let error = client.acquire_token_for_client("orders").await.unwrap_err();
    assert!(error.to_string().contains("dpop(..)"), "{error}");
    assert_eq!(provider.requests(), 1);
    assert_eq!(provider.header(0, "dpop"), None);
}

#[tokio::test]
async fn a_clock_that_is_off_is_corrected_by_the_date_of_the_refusal() {
    for (off, corrected) in [(900_i64, true), (-900, true), (3, false), (100_000, false)] {
        let provider = Provider::open();
        let clock = ManualClock::new();
        let client = builder(&provider).clock(clock.clone()).build().unwrap();
        let server = match off < 0 {
            true => clock.wall() - Duration::from_secs(900),
            false => clock.wall() + Duration::from_secs(off.unsigned_abs()),
        };
        let date = httpdate(server);
        refuse(&provider, "invalid_dpop_proof", &[("date", &date)]);
        issue(&provider, "token", &[]);
        let result = client.acquire_token_for_client("orders").await;
        assert_eq!(result.is_ok(), corrected, "{off}: {result:?}");
        let iat = |request| proof(&provider, request).claims["iat"].as_u64().unwrap();
        assert_eq!(iat(0), seconds(clock.wall()));
        if corrected {
            assert_eq!(provider.requests(), 2);
            assert_eq!(iat(1), seconds(server), "{off}");
            // The next proof is right at once, and the API has a clock of its own.
            client.cache().clear();
            issue(&provider, "token", &[]);
            client.acquire_token_for_client("orders").await.unwrap();
            assert_eq!(iat(2), seconds(server));
            let other = proof_for(&client, API).await.claims["iat"].as_u64();
            assert_eq!(other, Some(seconds(clock.wall())));
        }
    }
}

#[tokio::test]
async fn a_corrected_clock_follows_this_machines_clock() {
    let provider = Provider::open();
    let clock = ManualClock::new();
    let client = builder(&provider).clock(clock.clone()).build().unwrap();
    let server = clock.wall() + Duration::from_secs(900);
    let date = httpdate(server);
    refuse(&provider, "invalid_dpop_proof", &[("date", &date)]);
    issue(&provider, "token", &[]);
    client.acquire_token_for_client("orders").await.unwrap();
    // An operator corrects this machine's clock. The server refuses the proofs of the future.
    clock.advance_wall(Duration::from_secs(900));
    client.cache().clear();
    refuse(&provider, "invalid_dpop_proof", &[("date", &date)]);
    issue(&provider, "token", &[]);
    client.acquire_token_for_client("orders").await.unwrap();
    let iat = |request| proof(&provider, request).claims["iat"].as_u64().unwrap();
    assert_eq!(iat(2), seconds(server) + 900);
    assert_eq!(iat(3), seconds(server));
}

#[tokio::test]
async fn a_caller_gives_the_headers_of_an_api_back() {
    let provider = Provider::open();
    let clock = ManualClock::new();
    let client = builder(&provider).clock(clock.clone()).build().unwrap();
    issue(&provider, "token", &[]);
    let challenge = |error: &str| format!(r#"DPoP algs="ES256", error="{error}""#);
    let headers = |pairs: &[(&str, &str)]| {
        let mut response = Response::builder();
        for (name, value) in pairs {
            response = response.header(*name, *value);
        }
        response.body(()).unwrap().into_parts().0.headers
    };
    let refused = challenge("use_dpop_nonce");
    let good = headers(&[("dpop-nonce", "n1")]);
    assert!(!client.record_nonce(API, &good), "nothing to repeat");
    assert_eq!(proof_for(&client, API).await.text("nonce"), "n1");
    let rotated = headers(&[("dpop-nonce", "n2"), ("www-authenticate", &refused)]);
    let uri = "https://ORDERS.example.org:443/other?a=b";
    assert!(client.record_nonce(uri, &rotated), "worth a repetition");
    assert_eq!(proof_for(&client, API).await.text("nonce"), "n2");
    for (uri, response) in [
        (API, headers(&[("www-authenticate", &refused)])),
        (
            "/v1/orders",
            headers(&[("dpop-nonce", "n3"), ("www-authenticate", &refused)]),
        ),
        (
            API,
            headers(&[("dpop-nonce", "n\\3"), ("www-authenticate", &refused)]),
        ),
        (
            API,
            headers(&[
                ("dpop-nonce", "a"),
                ("dpop-nonce", "b"),
                ("www-authenticate", &refused),
            ]),
        ),
    ] {
        assert!(!client.record_nonce(uri, &response), "{uri} {response:?}");
    }
    assert_eq!(proof_for(&client, API).await.text("nonce"), "n2");
    let elsewhere = "https://other.example.org/";
    assert_eq!(proof_for(&client, elsewhere).await.text("nonce"), "");

    let server = clock.wall() + Duration::from_secs(900);
    let (refused, date) = (challenge("invalid_dpop_proof"), httpdate(server));
    let refused = headers(&[("date", &date), ("www-authenticate", &refused)]);
    assert!(client.record_nonce(API, &refused));
    let iat = proof_for(&client, API).await.claims["iat"].as_u64();
    assert_eq!(iat, Some(seconds(server)));
    assert!(
        client.record_nonce(API, &refused),
        "made before the correction"
    );

    let bearer = Provider::open().client();
    assert!(!bearer.record_nonce(API, &rotated), "no proof key");
}

/// 1,000 callers at once: one token request, one repetition, and a proof for each API request.
#[tokio::test]
async fn many_callers_share_a_token_and_not_a_proof() {
    let (local, api) = start().await;
    local.require_dpop_nonce();
    api.require_dpop_nonce();
    let client = client_of(&local).dpop(key()).build().unwrap();
    let provider = client.token_provider(ORDERS).unwrap();
    let url: reqwest::Url = api.base_url().parse().unwrap();
    let ids = Arc::new(std::sync::Mutex::new(std::collections::HashSet::new()));
    let accepted = Arc::new(AtomicUsize::new(0));
    let http = http();
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..1000 {
        let (provider, url, http) = (provider.clone(), url.clone(), http.clone());
        let (ids, accepted) = (Arc::clone(&ids), Arc::clone(&accepted));
        callers.spawn(async move {
            for _ in 0..2 {
                let mut request = reqwest::Request::new(http::Method::GET, url.clone());
                provider.authorize(&mut request).await.unwrap();
                let proof = request.headers()["dpop"].to_str().unwrap().to_owned();
                assert!(ids.lock().unwrap().insert(proof));
                let response = http.execute(request).await.unwrap();
                let repeat = provider.record_nonce(&url, response.headers());
                if !repeat {
                    assert_eq!(response.status(), 200);
                    accepted.fetch_add(1, Ordering::SeqCst);
                    return;
                }
            }
        });
    }
    while let Some(caller) = callers.join_next().await {
        caller.unwrap();
    }
    assert_eq!(accepted.load(Ordering::SeqCst), 1000);
    assert_eq!(
        local.token_requests().len(),
        2,
        "one, and one for the nonce"
    );
    let ids = ids.lock().unwrap();
    let jti = |proof: &String| JudgedProof::of(proof).text("jti").to_owned();
    let distinct: std::collections::HashSet<_> = ids.iter().map(jti).collect();
    assert_eq!(distinct.len(), api.requests());
}

fn httpdate(time: SystemTime) -> String {
    httpdate::fmt_http_date(time)
}
