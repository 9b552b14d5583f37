//! Reads arbitrary responses to a pushed authorization request: the result is the URL of a sign-in
//! page with a reference, or a printable error.
//!
//! The first byte selects the status. If the second byte is odd, `Retry-After` follows up to the
//! first line break. The rest is the body.
#![no_main]

use std::cell::RefCell;
use std::error::Error as _;

use bytes::Bytes;
use confidential_client::delegated::AuthorizationRequest;
use confidential_client::{Authority, ConfidentialClient, Error, RetryPolicy};
use http::{HeaderValue, Request, Response};
use libfuzzer_sys::fuzz_target;
use tokio::runtime::{Builder, Runtime};

const SECRET: &str = "Zq9~fuzzed.Secret-Value_7Yx";
const STATUSES: [u16; 12] = [201, 201, 201, 201, 200, 204, 302, 400, 401, 404, 429, 503];
const METADATA: &str = r#"{"issuer":"https://id.example","token_endpoint":"https://id.example/token",
    "authorization_endpoint":"https://id.example/authorize","jwks_uri":"https://id.example/keys",
    "token_endpoint_auth_methods_supported":["client_secret_post"],
    "pushed_authorization_request_endpoint":"https://id.example/par"}"#;

thread_local! {
    static RUNTIME: RefCell<Runtime> =
        RefCell::new(Builder::new_current_thread().enable_time().build().unwrap());
}

fuzz_target!(|input: &[u8]| {
    let [status, headers, rest @ ..] = input else {
        return;
    };
    let status = STATUSES[usize::from(*status) % STATUSES.len()];
    let (retry_after, body) = match rest.iter().position(|byte| *byte == b'\n') {
        Some(at) if headers % 2 == 1 => (&rest[..at], &rest[at + 1..]),
        _ => (&b""[..], rest),
    };
    let mut response = Response::new(Bytes::copy_from_slice(body));
    *response.status_mut() = status.try_into().unwrap();
    if let Ok(value) = HeaderValue::from_bytes(retry_after) {
        response.headers_mut().insert("retry-after", value.clone());
        response.headers_mut().insert("date", value.clone());
        response.headers_mut().insert("content-type", value);
    }
    let client = ConfidentialClient::builder("client")
        .authority(Authority::oidc("https://id.example"))
        .client_secret(SECRET)
        .retry(RetryPolicy::none())
        .transport(move |request: Request<Bytes>| {
            let response = match request.uri().path() {
                "/par" => response.clone(),
                _ => Response::new(Bytes::from_static(METADATA.as_bytes())),
            };
            async move { Ok(response) }
        })
        .build()
        .unwrap();
    let sign_in = AuthorizationRequest::new("https://app.example/back", "read").pushed();
    let begun =
        RUNTIME.with_borrow(|runtime| runtime.block_on(client.authorization_request_url(&sign_in)));
    match begun {
        Ok((page, flow)) => {
            assert_eq!(status, 201);
            let query = page.strip_prefix("https://id.example/authorize?client_id=client&");
            let reference = query.and_then(|query| query.strip_prefix("request_uri="));
            let reference = reference.unwrap();
            // One parameter, which cannot begin another.
            assert!(
                !reference.is_empty() && !reference.contains(['&', '#', ' ']),
                "{page}"
            );
            assert!(
                reference.bytes().all(|byte| byte.is_ascii_graphic()),
                "{page}"
            );
            assert!(
                !page.contains(flow.state()) && !page.contains(SECRET),
                "{page}"
            );
        }
        Err(error) => check(&error),
    }
});

fn check(error: &Error) {
    let text = format!("{error} {error:?}");
    assert!(!text.contains(SECRET), "{text}");
    assert!(error.to_string().chars().all(|c| !c.is_control()), "{text}");
    assert!(error.status().is_some(), "{text}");
    assert!(error.source().is_none());
    assert!(
        !error.needs_user_interaction() || error.server_error().is_some(),
        "{text}"
    );
    let _ = (
        error.is_transient(),
        error.claims_challenge(),
        error.retry_after(),
    );
}
