//! `TokenValidator`'s requests for the issuer's keys, counted.

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

/// By a key that was published later; it is valid for days.
fn next_token() -> String {
    let exp = jsonwebtoken::get_current_timestamp() + 7 * 86_400;
    NEXT.sign(
        &with(header(), "kid", "next"),
        &with(user_claims(), "exp", exp),
    )
}

/// By the first key; it is valid for days.
fn lasting_token() -> String {
    let exp = jsonwebtoken::get_current_timestamp() + 7 * 86_400;
    RSA.sign(&header(), &with(user_claims(), "exp", exp))
}

fn publish_next(issuer: &Issuer) {
    issuer.publish(&[RSA.jwk.clone(), NEXT.jwk.clone()]);
}

/// A thousand callers at once, who come while the issuer does not answer yet.
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
async fn a_thousand_first_callers_make_one_look_up() {
    let issuer = Issuer::gated();
    let validator = issuer.validator();
    a_thousand(&issuer, &validator, &user_token()).await;
    assert_eq!(issuer.asked(), (1, 1));
    validator.validate(&user_token()).await.unwrap();
    assert_eq!(issuer.asked(), (1, 1));
}

#[tokio::test]
async fn a_caller_who_hangs_up_takes_nothing_away_from_the_others() {
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

#[tokio::test]
async fn a_new_key_is_looked_up_once_for_a_thousand_who_need_it() {
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
async fn a_flood_of_keys_that_nobody_has_makes_one_look_up_in_five_minutes() {
    let issuer = Issuer::new();
    let clock = ManualClock::new();
    let validator = issuer.validator_at(&clock);
    validator.validate(&lasting_token()).await.unwrap();
    for round in 1..=3 {
        for number in 0..200 {
            let header = with(header(), "kid", format!("{round}-{number}"));
            let refusal = validator
                .validate(&STRANGER.sign(&header, &user_claims()))
                .await;
            assert_eq!(
                refusal.unwrap_err().reason(),
                RejectionReason::NoMatchingKey
            );
        }
        assert_eq!(issuer.asked(), (1 + round, 1 + round));
        clock.advance(FIVE_MINUTES);
    }
    // Nor do those whose signature is wrong, or who name no key.
    let nameless = STRANGER.sign(&json!({ "alg": "RS256" }), &user_claims());
    for token in [STRANGER.sign(&header(), &user_claims()), nameless] {
        let refusal = validator.validate(&token).await.unwrap_err();
        assert_eq!(refusal.reason(), RejectionReason::InvalidSignature);
    }
    assert_eq!(issuer.asked(), (4, 4));
}

#[tokio::test]
async fn a_flood_while_the_issuer_is_down_makes_no_more_and_old_keys_serve() {
    let issuer = Issuer::new();
    let clock = ManualClock::new();
    let validator = issuer.validator_at(&clock);
    validator.validate(&lasting_token()).await.unwrap();
    issuer.is_down(true);
    clock.advance(A_DAY);
    for _ in 0..100 {
        validator.validate(&lasting_token()).await.unwrap();
        let refusal = validator.validate(&next_token()).await.unwrap_err();
        assert_eq!(refusal.reason(), RejectionReason::NoMatchingKey);
    }
    // Once as the day was over, and once for the new key.
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
async fn without_keys_nobody_is_let_in_and_the_answer_says_when_to_come_again() {
    let issuer = Issuer::new();
    issuer.is_down(true);
    let clock = ManualClock::new();
    let validator = issuer.validator_at(&clock);
    for _ in 0..100 {
        let refusal = validator.validate(&user_token()).await.unwrap_err();
        assert_eq!(refusal.reason(), RejectionReason::KeysUnavailable);
        assert_eq!(refusal.status(), 503);
        assert!(refusal.www_authenticate().is_none());
        assert!(refusal.retry_after().unwrap() > Duration::ZERO);
        let error = std::error::Error::source(&refusal).unwrap();
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
async fn what_is_published_and_cannot_be_used_lets_nobody_in() {
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
            "is not accepted by this API",
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
        let refusal = validator
            .build()
            .unwrap()
            .validate(&user_token())
            .await
            .unwrap_err();
        let text = match std::error::Error::source(&refusal) {
            Some(error) => format!("{refusal}: {error}"),
            None => refusal.to_string(),
        };
        assert!(text.contains(why), "{name}: {text}");
    }
}

#[test]
fn outside_a_runtime_the_refusal_says_so() {
    let validator = Issuer::new().validator();
    let token = user_token();
    let mut validation = Box::pin(validator.validate(&token));
    let std::task::Poll::Ready(Err(refusal)) = poll_once(&mut validation) else {
        panic!("it waits for a runtime");
    };
    let error = std::error::Error::source(&refusal).unwrap();
    assert!(error.to_string().contains("no tokio runtime"), "{error}");
}
