//! The number of times a validator fetches the issuer's keys, and validation during an outage.

use std::time::Duration;

use bytes::Bytes;
use confidential_client::resource::{RejectionReason, TokenValidator};
use confidential_client::testing::ManualClock;
use http::{Request, Response};
use serde_json::json;
use tokio::task::JoinSet;

use crate::support::issuer::{
    ISSUER, Issuer, NEXT, RSA, STRANGER, TENANT_ID, header, user_claims, user_token, with,
};
use crate::support::{let_others_run, poll_once};

const FIVE_MINUTES: Duration = Duration::from_secs(300);
const A_DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Returns a token signed with the key that is published later. The token is valid for days.
fn next_token() -> String {
    let exp = jsonwebtoken::get_current_timestamp() + 7 * 86_400;
    NEXT.sign(
        &with(header(), "kid", "next"),
        &with(user_claims(), "exp", exp),
    )
}

/// Returns a token signed with the first key. The token is valid for days.
fn lasting_token() -> String {
    let exp = jsonwebtoken::get_current_timestamp() + 7 * 86_400;
    RSA.sign(&header(), &with(user_claims(), "exp", exp))
}

fn publish_next(issuer: &Issuer) {
    issuer.publish(&[RSA.jwk.clone(), NEXT.jwk.clone()]);
}

/// Starts a thousand concurrent callers before the issuer responds.
async fn a_thousand(issuer: &Issuer, validator: &TokenValidator, token: &str) {
    let mut callers = JoinSet::new();
    for _ in 0..1_000 {
        let (validator, token) = (validator.clone(), token.to_owned());
        callers.spawn(async move { validator.validate(&token).await.map(drop) });
    }
    let_others_run().await;
    issuer.open();
    while let Some(outcome) = callers.join_next().await {
        outcome.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_thousand_first_callers_share_one_fetch() {
    let issuer = Issuer::gated();
    let validator = issuer.validator();
    a_thousand(&issuer, &validator, &user_token()).await;
    assert_eq!(issuer.asked(), (1, 1));
    validator.validate(&user_token()).await.unwrap();
    assert_eq!(issuer.asked(), (1, 1));
}

#[tokio::test]
async fn a_cancelled_caller_does_not_cancel_the_fetch_of_the_others() {
    let issuer = Issuer::gated();
    let validator = issuer.validator();
    let token = user_token();
    let mut first = Box::pin(validator.validate(&token));
    assert!(poll_once(&mut first).is_pending());
    let_others_run().await;
    drop(first);
    let_others_run().await;
    a_thousand(&issuer, &validator, &token).await;
    assert_eq!(issuer.asked(), (1, 1));
}

/// The search for a new key did not end, so the next caller searches, and does not reject.
#[tokio::test]
async fn a_cancelled_search_does_not_reject_a_token_with_a_new_key() {
    let issuer = Issuer::new();
    let validator = issuer.validator();
    validator.validate(&lasting_token()).await.unwrap();
    publish_next(&issuer);
    issuer.hold();
    let token = next_token();
    let mut first = Box::pin(validator.validate(&token));
    assert!(poll_once(&mut first).is_pending());
    let_others_run().await;
    drop(first);
    issuer.open();
    validator.validate(&token).await.unwrap();
}

#[test]
fn a_search_on_a_stalled_runtime_does_not_reject_a_token_with_a_new_key() {
    let issuer = Issuer::new();
    let validator = issuer.validator();
    let runtime = |paused| {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().start_paused(paused).build().unwrap()
    };
    let (stalled, running) = (runtime(false), runtime(true));
    let token = next_token();
    stalled.block_on(async {
        validator.validate(&lasting_token()).await.unwrap();
        publish_next(&issuer);
        issuer.hold();
        let mut caller = Box::pin(validator.validate(&token));
        assert!(poll_once(&mut caller).is_pending());
        let_others_run().await;
        std::mem::forget(caller);
    });
    issuer.open();
    running.block_on(validator.validate(&token)).unwrap();
    assert_eq!(issuer.asked(), (3, 2), "the first search asked once");
}

#[tokio::test]
async fn a_thousand_callers_with_a_new_key_share_one_fetch() {
    let issuer = Issuer::new();
    let validator = issuer.validator();
    validator.validate(&lasting_token()).await.unwrap();
    publish_next(&issuer);
    issuer.hold();
    a_thousand(&issuer, &validator, &next_token()).await;
    assert_eq!(issuer.asked(), (2, 2));
    validator.validate(&lasting_token()).await.unwrap();
}

#[tokio::test]
async fn a_flood_of_unknown_keys_makes_one_fetch_in_five_minutes() {
    let issuer = Issuer::new();
    let clock = ManualClock::new();
    let validator = issuer.validator_at(&clock);
    validator.validate(&lasting_token()).await.unwrap();
    for round in 1..=3 {
        for number in 0..200 {
            let header = with(header(), "kid", format!("{round}-{number}"));
            let rejection = validator
                .validate(&STRANGER.sign(&header, &user_claims()))
                .await;
            assert_eq!(
                rejection.unwrap_err().reason(),
                RejectionReason::NoMatchingKey
            );
        }
        assert_eq!(issuer.asked(), (1 + round, 1 + round));
        clock.advance(FIVE_MINUTES);
    }
    // Tokens with an invalid signature, or without the name of a key, share that rate.
    let nameless = STRANGER.sign(&json!({ "alg": "RS256" }), &user_claims());
    for token in [STRANGER.sign(&header(), &user_claims()), nameless] {
        let rejection = validator.validate(&token).await.unwrap_err();
        assert_eq!(rejection.reason(), RejectionReason::InvalidSignature);
        assert_eq!(issuer.asked(), (5, 5));
    }
}

#[tokio::test]
async fn a_flood_during_an_outage_makes_no_more_fetches_and_cached_keys_stay_valid() {
    let issuer = Issuer::new();
    let clock = ManualClock::new();
    let validator = issuer.validator_at(&clock);
    validator.validate(&lasting_token()).await.unwrap();
    issuer.is_down(true);
    clock.advance(A_DAY);
    for _ in 0..100 {
        validator.validate(&lasting_token()).await.unwrap();
        let rejection = validator.validate(&next_token()).await.unwrap_err();
        assert_eq!(rejection.reason(), RejectionReason::NoMatchingKey);
    }
    // One fetch after the day, and one for the new key.
    assert_eq!(issuer.asked(), (3, 1));
    clock.advance(FIVE_MINUTES);
    validator.validate(&lasting_token()).await.unwrap();
    assert_eq!(issuer.asked(), (4, 1));
    issuer.is_down(false);
    publish_next(&issuer);
    clock.advance(FIVE_MINUTES);
    validator.validate(&next_token()).await.unwrap();
    assert_eq!(issuer.asked(), (5, 2));
}

#[tokio::test]
async fn without_keys_every_token_is_rejected_with_a_503_and_retry_after() {
    let issuer = Issuer::new();
    issuer.is_down(true);
    let clock = ManualClock::new();
    let validator = issuer.validator_at(&clock);
    for _ in 0..100 {
        let rejection = validator.validate(&user_token()).await.unwrap_err();
        assert_eq!(rejection.reason(), RejectionReason::KeysUnavailable);
        assert_eq!(rejection.status(), 503);
        assert!(rejection.www_authenticate().is_none());
        assert!(rejection.retry_after().unwrap() > Duration::ZERO);
        let error = std::error::Error::source(&rejection).unwrap();
        assert!(
            error
                .to_string()
                .starts_with("no response from https://login.microsoftonline.com/"),
            "{error}"
        );
    }
    assert_eq!(issuer.asked(), (1, 0));
    issuer.is_down(false);
    clock.advance(Duration::from_secs(1));
    validator.validate(&user_token()).await.unwrap();
    assert_eq!(issuer.asked(), (2, 1));
}

#[tokio::test]
async fn unusable_metadata_and_keys_reject_every_token() {
    let metadata = json!({ "issuer": ISSUER, "jwks_uri": "https://keys.example/" });
    let keys = json!({ "keys": [RSA.jwk.clone()] });
    for (name, metadata, keys, why) in [
        ("nothing", json!({}), keys.clone(), "no 'issuer'"),
        (
            "another issuer",
            with(metadata.clone(), "issuer", "https://evil.example/v2.0"),
            keys.clone(),
            "another authority's",
        ),
        (
            "many tenants",
            with(
                metadata.clone(),
                "issuer",
                "https://login.microsoftonline.com/{tenantid}/v2.0",
            ),
            keys.clone(),
            "which is not of the tenant '72f988bf-86f1-41af-91ab-2d7cd011db47'",
        ),
        (
            "no key set",
            with(metadata.clone(), "jwks_uri", json!(null)),
            keys.clone(),
            "no 'jwks_uri'",
        ),
        (
            "keys in the clear",
            with(metadata.clone(), "jwks_uri", "http://keys.example/"),
            keys.clone(),
            "the jwks_uri",
        ),
        (
            "keys in the clear on this machine",
            with(metadata.clone(), "jwks_uri", "http://127.0.0.1/"),
            keys.clone(),
            "is not https",
        ),
        (
            "a key set without keys",
            metadata.clone(),
            json!({}),
            "no 'keys'",
        ),
        (
            "no key",
            metadata.clone(),
            json!({ "keys": [] }),
            "none of its keys",
        ),
        (
            "a key for encryption",
            metadata.clone(),
            json!({ "keys": [with(RSA.jwk.clone(), "use", "enc")] }),
            "none of its keys",
        ),
        (
            "a secret",
            metadata,
            json!({ "keys": [{ "kty": "oct", "k": "c2VjcmV0", "kid": "first" }] }),
            "none of its keys",
        ),
    ] {
        let validator = Issuer::new().builder(TENANT_ID);
        let validator = validator
            .single_tenant()
            .transport(move |request: Request<Bytes>| {
                let is_metadata = request.uri().path().ends_with("/openid-configuration");
                let body = if is_metadata { &metadata } else { &keys }.to_string();
                async move { Ok(Response::new(Bytes::from(body))) }
            });
        let rejection = validator
            .build()
            .unwrap()
            .validate(&user_token())
            .await
            .unwrap_err();
        let text = match std::error::Error::source(&rejection) {
            Some(error) => format!("{rejection}: {error}"),
            None => rejection.to_string(),
        };
        assert!(text.contains(why), "{name}: {text}");
    }
}

#[test]
fn outside_a_runtime_the_rejection_says_so() {
    let validator = Issuer::new().validator();
    let token = user_token();
    let mut validation = Box::pin(validator.validate(&token));
    let std::task::Poll::Ready(Err(rejection)) = poll_once(&mut validation) else {
        panic!("it waits for a runtime");
    };
    let error = std::error::Error::source(&rejection).unwrap();
    assert!(error.to_string().contains("no tokio runtime"), "{error}");
}
