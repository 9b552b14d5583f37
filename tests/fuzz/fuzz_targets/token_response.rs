//! Reads arbitrary responses of a token endpoint: the result is a token or a printable error.
//!
//! The first byte selects the status. If the second byte is odd, `Retry-After` follows up to the
//! first line break. The rest is the body.
#![no_main]

use std::cell::RefCell;
use std::error::Error as _;

use bytes::Bytes;
use confidential_client::{ConfidentialClient, Error};
use http::{HeaderValue, Request, Response};
use libfuzzer_sys::fuzz_target;
use tokio::runtime::{Builder, Runtime};

const SECRET: &str = "Zq9~fuzzed.Secret-Value_7Yx";
const STATUSES: [u16; 12] = [200, 200, 200, 201, 204, 302, 400, 401, 404, 429, 500, 503];

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
        .tenant("contoso.com")
        .client_secret(SECRET)
        .transport(move |_: Request<Bytes>| {
            let response = response.clone();
            async move { Ok(response) }
        })
        .build()
        .unwrap();
    let acquired = RUNTIME.with_borrow(|runtime| {
        runtime.block_on(client.acquire_token_for_client("api://a/.default"))
    });
    match acquired {
        Ok(token) => {
            assert!((200..300).contains(&status));
            assert!(!token.secret().trim().is_empty());
            assert!(token.expires_on() >= token.refresh_on());
            assert!(!format!("{token:?}").contains(token.secret()) || token.secret().len() < 8);
        }
        Err(error) => check(&error),
    }
});

fn check(error: &Error) {
    let text = format!("{error} {error:?}");
    assert!(!text.contains(SECRET), "{text}");
    assert!(error.to_string().chars().all(|c| !c.is_control()), "{text}");
    assert!(error.status().is_some(), "{text}");
    assert!(
        error
            .retry_after()
            .is_some_and(|wait| wait.as_secs() <= 3600)
    );
    assert!(error.source().is_none());
    let _ = (
        error.is_transient(),
        error.claims_challenge(),
        error.needs_user_interaction(),
    );
}
