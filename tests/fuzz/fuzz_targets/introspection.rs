//! Introspects a token with arbitrary responses: no token is accepted that the response does not
//! say is active, for the API and not expired, and a failure of the endpoint is never a 401.
//!
//! The first byte selects the status. If the second byte is odd, a content type and `Retry-After`
//! follow up to the first line break. The rest is the body.
#![no_main]

use std::cell::RefCell;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use confidential_client::resource::{Claims, RejectionReason, TokenRejection, TokenValidator};
use confidential_client::time::Clock;
use confidential_client::{Authority, ConfidentialClient, RetryPolicy};
use http::{HeaderValue, Request, Response};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

const SECRET: &str = "Zq9~fuzzed.Secret-Value_7Yx";
const TOKEN: &str = "Wm3~fuzzed.Opaque-Token_2Kp";
const ISSUER: &str = "https://id.example";
const API: &str = "orders";
const STATUSES: [u16; 12] = [200, 200, 200, 200, 200, 204, 302, 400, 401, 404, 429, 503];
/// Earlier than the expiry of every seed.
const NOW: u64 = 1_700_000_000;

thread_local! {
    static RUNTIME: RefCell<Runtime> =
        RefCell::new(Builder::new_current_thread().enable_time().build().unwrap());
}

fuzz_target!(|input: &[u8]| {
    let [status, headers, rest @ ..] = input else {
        return;
    };
    let status = STATUSES[usize::from(*status) % STATUSES.len()];
    let (header, body) = match rest.iter().position(|byte| *byte == b'\n') {
        Some(at) if headers % 2 == 1 => (&rest[..at], &rest[at + 1..]),
        _ => (&b""[..], rest),
    };
    let mut response = Response::new(Bytes::copy_from_slice(body));
    *response.status_mut() = status.try_into().unwrap();
    if let Ok(value) = HeaderValue::from_bytes(header) {
        response.headers_mut().insert("retry-after", value.clone());
        response.headers_mut().insert("content-type", value);
    }
    let client = ConfidentialClient::builder("orders-api")
        .authority(Authority::oidc(ISSUER).token_endpoint("https://id.example/token"))
        .client_secret(SECRET)
        .retry(RetryPolicy::none())
        .clock(FixedClock(Instant::now()))
        .transport(move |_: Request<Bytes>| {
            let response = response.clone();
            async move { Ok(response) }
        })
        .build()
        .unwrap();
    let validator = TokenValidator::introspecting(&client)
        .introspection_endpoint("https://id.example/introspect")
        .audience(API)
        .single_tenant()
        .build()
        .unwrap();
    RUNTIME.with_borrow(|runtime| {
        runtime.block_on(async {
            let first = validator.validate(TOKEN).await;
            match &first {
                Ok(claims) => {
                    assert_eq!(status, 200);
                    check_claims(claims, body);
                }
                Err(rejection) => check_rejection(rejection),
            }
            // The remembered response has the same result.
            let reason = |result: Result<Claims, TokenRejection>| {
                result.err().map(|rejection| rejection.reason())
            };
            assert_eq!(reason(first), reason(validator.validate(TOKEN).await));
        });
    });
});

fn check_claims(claims: &Claims, body: &[u8]) {
    let body: Value = serde_json::from_slice(body).expect("it was read");
    assert_eq!(body["active"], true);
    let is_api = |audience: &Value| audience == API;
    assert!(
        is_api(&body["aud"])
            || body["aud"]
                .as_array()
                .is_some_and(|all| all.iter().any(is_api))
    );
    assert!(body["iss"].is_null() || body["iss"] == ISSUER);
    let end = body["exp"].as_f64().unwrap_or(f64::MAX);
    assert!(end > (NOW - 301) as f64);
    assert!(body["cnf"].is_null(), "a bound token is no bearer's");
    assert_eq!(claims.token(), TOKEN);
    assert!(!(claims.is_user() && claims.is_application()));
    assert!(!format!("{claims:?}").contains(TOKEN));
    let _ = (claims.to_json(), claims.json("scope"), claims.expires_on());
}

fn check_rejection(rejection: &TokenRejection) {
    let is_unavailable = rejection.reason() == RejectionReason::IntrospectionUnavailable;
    assert_eq!(rejection.status() == 503, is_unavailable);
    assert_eq!(rejection.www_authenticate().is_none(), is_unavailable);
    assert_eq!(rejection.retry_after().is_some(), is_unavailable);
    let chain = rejection.chain().to_string();
    assert!(!chain.contains(char::is_control), "{chain:?}");
    assert!(!chain.contains(SECRET), "{chain}");
    // A rejection names the compared members, and the fuzzer may write the token into one.
    assert!(!is_unavailable || !chain.contains(TOKEN), "{chain}");
}

struct FixedClock(Instant);

impl Clock for FixedClock {
    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(NOW)
    }

    fn monotonic(&self) -> Instant {
        self.0
    }
}
