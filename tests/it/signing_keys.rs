//! Signing keys that are replaced, withdrawn or out of reach, and those of a single application.

use std::slice::from_ref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use confidential_client::delegated::AuthorizationRequest;
use confidential_client::resource::{RejectionReason, TokenRejection, TokenValidator};
use confidential_client::testing::{Application, LocalAuthority, ManualClock, User};
use confidential_client::transport::Transport;
use confidential_client::{Authority, Cloud, ConfidentialClient, Error, RetryPolicy};
use http::{Request, Response};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::issuer::{
    API, ISSUER, Issuer, NEXT, P256, RSA, STRANGER, TEMPLATE, TENANT_ID, header, user_claims,
    user_token, with, without,
};
use crate::support::log_capture::Log;
use crate::support::{let_others_run, poll_once};

const MINUTE: Duration = Duration::from_secs(60);
const FIVE_MINUTES: Duration = Duration::from_secs(5 * 60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const A_DAY: Duration = Duration::from_secs(24 * 60 * 60);
const A_SECOND: Duration = Duration::from_secs(1);

/// Returns claims that stay valid for months.
fn lasting_claims() -> Value {
    let exp = jsonwebtoken::get_current_timestamp() + 400 * 86_400;
    with(user_claims(), "exp", exp)
}

/// Returns a token that names the key `first` and is signed by the key that replaces it.
fn replaced_token() -> String {
    STRANGER.sign(&header(), &lasting_claims())
}

fn lasting_token() -> String {
    RSA.sign(&header(), &lasting_claims())
}

async fn reason(validator: &TokenValidator, token: &str) -> Option<RejectionReason> {
    let rejection = validator.validate(token).await.err();
    rejection.as_ref().map(TokenRejection::reason)
}

/// docs/failures.md O7.
#[tokio::test]
async fn a_key_replaced_under_its_name_or_without_a_name_does_not_cause_a_day_of_401() {
    let nameless = |jwk: &Value| without(jwk.clone(), "kid");
    let null_name = |jwk: &Value| with(jwk.clone(), "kid", json!(null));
    let no_name = || without(header(), "kid");
    let renamed = with(P256.jwk.clone(), "kid", "first");
    let for_pss = with(STRANGER.jwk.clone(), "alg", "PS256");
    for (name, before, after, header) in [
        (
            "another key of the same name",
            vec![RSA.jwk.clone()],
            vec![STRANGER.jwk.clone()],
            header(),
        ),
        (
            "keys without names",
            vec![nameless(&RSA.jwk)],
            vec![nameless(&STRANGER.jwk)],
            no_name(),
        ),
        (
            "keys whose name is null",
            vec![null_name(&RSA.jwk)],
            vec![null_name(&STRANGER.jwk)],
            with(header(), "kid", json!(null)),
        ),
        (
            "a key of another type",
            vec![renamed],
            vec![STRANGER.jwk.clone()],
            header(),
        ),
        (
            "a key for another algorithm",
            vec![for_pss],
            vec![STRANGER.jwk.clone()],
            header(),
        ),
        (
            "several keys and then one, for a token without a name",
            vec![RSA.jwk.clone(), NEXT.jwk.clone()],
            vec![STRANGER.jwk.clone()],
            no_name(),
        ),
        (
            "a name that was not there",
            vec![NEXT.jwk.clone()],
            vec![STRANGER.jwk.clone()],
            header(),
        ),
        (
            "a header with a nonce, as in tokens of Graph",
            vec![RSA.jwk.clone()],
            vec![STRANGER.jwk.clone()],
            with(header(), "nonce", "n"),
        ),
    ] {
        let issuer = Issuer::new();
        issuer.publish(&before);
        let validator = issuer.validator();
        let token = STRANGER.sign(&header, &user_claims());
        assert!(validator.validate(&token).await.is_err(), "{name}");
        assert_eq!(issuer.asked(), (1, 1), "{name}");
        issuer.publish(&after);
        let accepted = validator.validate(&token).await;
        accepted.unwrap_or_else(|rejection| panic!("{name}: {rejection}"));
        validator.validate(&token).await.unwrap();
        assert_eq!(issuer.asked(), (2, 2), "{name}");
    }
}

#[tokio::test]
async fn a_token_with_another_flaw_causes_no_lookup() {
    let issuer = Issuer::new();
    let validator = issuer.validator();
    validator.validate(&user_token()).await.unwrap();
    for (claim, value) in [
        ("aud", json!("other")),
        ("aud", json!("https://graph.microsoft.com")),
        ("exp", json!(1)),
        ("iss", json!("https://other.example")),
        ("tid", json!(null)),
    ] {
        let token = RSA.sign(&header(), &with(user_claims(), claim, value));
        validator.validate(&token).await.unwrap_err();
    }
    assert_eq!(issuer.asked(), (1, 1));
}

#[tokio::test]
async fn a_flood_of_bad_signatures_causes_one_lookup_and_delays_no_good_token() {
    let issuer = Issuer::new();
    let clock = ManualClock::new();
    let validator = issuer.validator_at(&clock);
    validator.validate(&lasting_token()).await.unwrap();
    for round in 1..=3 {
        issuer.hold();
        let mut attackers = JoinSet::new();
        for _ in 0..200 {
            let validator = validator.clone();
            attackers.spawn(async move { reason(&validator, &replaced_token()).await });
        }
        let_others_run().await;
        assert_eq!(issuer.asked().0, 1 + round);
        // The lookup is in flight, and a good token does not even wait for the next poll.
        let token = lasting_token();
        let mut good = Box::pin(validator.validate(&token));
        assert!(matches!(
            poll_once(&mut good),
            std::task::Poll::Ready(Ok(_))
        ));
        issuer.open();
        for reason in attackers.join_all().await {
            assert_eq!(reason, Some(RejectionReason::InvalidSignature));
        }
        for _ in 0..100 {
            let reason = reason(&validator, &replaced_token()).await;
            assert_eq!(reason, Some(RejectionReason::InvalidSignature));
        }
        assert_eq!(issuer.asked(), (1 + round, 1 + round));
        clock.advance(FIVE_MINUTES);
    }
}

/// Returns a validator whose provider needs seconds for each of two documents.
fn slow_validator(issuer: &Issuer, clock: &ManualClock) -> TokenValidator {
    let transport = Arc::new(issuer.transport());
    let slow = move |request: Request<Bytes>| {
        let transport = Arc::clone(&transport);
        async move {
            tokio::time::sleep(3 * A_SECOND).await;
            transport.send(request).await
        }
    };
    let authority = Authority::entra(Cloud::Public, TENANT_ID);
    TokenValidator::builder(authority)
        .audience(API)
        .single_tenant()
        .transport(slow)
        .clock(clock.clone())
        .build()
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_slow_provider_does_not_cause_401_after_a_replaced_key() {
    let issuer = Issuer::new();
    let validator = slow_validator(&issuer, &ManualClock::new());
    validator.validate(&user_token()).await.unwrap();
    issuer.publish(from_ref(&STRANGER.jwk));
    assert_eq!(reason(&validator, &replaced_token()).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_slow_provider_does_not_keep_a_withdrawn_key_valid() {
    let (issuer, clock) = (Issuer::new(), ManualClock::new());
    let validator = slow_validator(&issuer, &clock);
    let token = lasting_token();
    validator.validate(&token).await.unwrap();
    issuer.publish(from_ref(&NEXT.jwk));
    clock.advance(A_DAY);
    // This caller waits for two seconds of the six, and the lookup goes on.
    assert_eq!(reason(&validator, &token).await, None);
    tokio::time::sleep(10 * A_SECOND).await;
    let found = reason(&validator, &token).await;
    assert_eq!(found, Some(RejectionReason::NoMatchingKey));
}

#[tokio::test]
async fn unknown_names_and_bad_signatures_share_one_lookup_in_five_minutes() {
    let issuer = Issuer::new();
    let clock = ManualClock::new();
    let validator = issuer.validator_at(&clock);
    validator.validate(&lasting_token()).await.unwrap();
    let unknown = NEXT.sign(&with(header(), "kid", "next"), &lasting_claims());
    for _ in 0..10 {
        let found = reason(&validator, &replaced_token()).await;
        assert_eq!(found, Some(RejectionReason::InvalidSignature));
        let found = reason(&validator, &unknown).await;
        assert_eq!(found, Some(RejectionReason::NoMatchingKey));
    }
    assert_eq!(issuer.asked(), (2, 2));
}

#[tokio::test]
async fn a_bad_signature_during_an_outage_is_a_401_and_no_503() {
    let issuer = Issuer::new();
    let validator = issuer.validator();
    validator.validate(&user_token()).await.unwrap();
    issuer.is_down(true);
    for _ in 0..10 {
        let found = reason(&validator, &replaced_token()).await;
        assert_eq!(found, Some(RejectionReason::InvalidSignature));
        validator.validate(&user_token()).await.unwrap();
    }
    assert_eq!(issuer.asked(), (2, 1));
}

/// Signs a user in, replaces the key, and signs the user in with an ID token that `key` signs.
///
/// Returns whether the user is signed in, and the number of fetches.
async fn sign_in_after_a_replaced_key(key: &'static crate::support::issuer::Key) -> (bool, usize) {
    let issuer = Issuer::new();
    let keys = Arc::new(issuer.transport());
    let next_id_token = Arc::new(Mutex::new((&*RSA, String::new())));
    let id_token = Arc::clone(&next_id_token);
    let transport = move |request: Request<Bytes>| {
        let (key, nonce) = id_token.lock().unwrap().clone();
        let is_token = request.uri().path().ends_with("/token");
        let keys = Arc::clone(&keys);
        async move {
            if !is_token {
                return keys.send(request).await;
            }
            let claims = with(with(user_claims(), "aud", "client"), "nonce", nonce);
            let body = json!({
                "token_type": "Bearer", "access_token": "token", "expires_in": 3599,
                "id_token": key.sign(&header(), &without(claims, "azp")),
            });
            Ok(Response::new(Bytes::from(body.to_string())))
        }
    };
    let client = ConfidentialClient::builder("client")
        .authority(Authority::entra(Cloud::Public, TENANT_ID))
        .client_secret("s3cret")
        .retry(RetryPolicy::none())
        .transport(transport)
        .build()
        .unwrap();
    let mut is_signed_in = false;
    // The first sign-in caches the keys.
    for key in [&*RSA, key, key] {
        let request = AuthorizationRequest::new("https://app.example/back", "api://x/Read");
        let (page, flow) = client.authorization_request_url(&request).await.unwrap();
        let page = url::Url::parse(&page).unwrap();
        let sent_nonce = page.query_pairs().find(|(name, _)| name == "nonce");
        *next_id_token.lock().unwrap() = (key, sent_nonce.unwrap().1.into_owned());
        let back = format!("https://app.example/back?code=c&state={}", flow.state());
        let result = client.acquire_token_by_authorization_code(flow, back).await;
        is_signed_in = result.is_ok();
        issuer.publish(from_ref(&STRANGER.jwk));
    }
    (is_signed_in, issuer.asked().0)
}

#[tokio::test]
async fn a_key_replaced_under_its_name_does_not_end_all_sign_ins() {
    assert_eq!(sign_in_after_a_replaced_key(&STRANGER).await, (true, 2));
    // The cached key verifies until the keys are fetched again.
    assert_eq!(sign_in_after_a_replaced_key(&RSA).await, (true, 1));
    assert_eq!(sign_in_after_a_replaced_key(&NEXT).await, (false, 2));
}

#[tokio::test]
async fn refreshed_keys_do_not_verify_a_withdrawn_key() {
    let issuer = Issuer::new();
    let validator = issuer.validator();
    validator.validate(&user_token()).await.unwrap();
    issuer.publish(from_ref(&NEXT.jwk));
    validator.validate(&user_token()).await.unwrap();
    validator.refresh_keys().await.unwrap();
    assert_eq!(issuer.asked(), (2, 2));
    let found = reason(&validator, &user_token()).await;
    assert_eq!(found, Some(RejectionReason::NoMatchingKey));
    // The rate of five minutes does not hold the operator back.
    assert_eq!(issuer.asked(), (3, 3));
    issuer.publish(from_ref(&RSA.jwk));
    for _ in 0..3 {
        validator.refresh_keys().await.unwrap();
    }
    assert_eq!(issuer.asked(), (6, 6));
    validator.validate(&user_token()).await.unwrap();
}

#[tokio::test]
async fn concurrent_refreshes_share_one_fetch_that_no_caller_can_cancel() {
    let issuer = Issuer::new();
    let validator = issuer.validator();
    validator.validate(&user_token()).await.unwrap();
    issuer.hold();
    let mut first = Box::pin(validator.refresh_keys());
    assert!(poll_once(&mut first).is_pending());
    let_others_run().await;
    drop(first);
    let mut callers = JoinSet::new();
    for _ in 0..100 {
        let validator = validator.clone();
        callers.spawn(async move { validator.refresh_keys().await });
    }
    let_others_run().await;
    issuer.open();
    for result in callers.join_all().await {
        result.unwrap();
    }
    assert_eq!(issuer.asked(), (2, 2));
}

#[tokio::test]
async fn a_failed_refresh_does_not_lose_the_cached_keys() {
    let issuer = Issuer::new();
    let clock = ManualClock::new();
    let validator = issuer.validator_at(&clock);
    // Without cached keys the error is the same.
    issuer.is_down(true);
    assert!(matches!(
        validator.refresh_keys().await.unwrap_err(),
        Error::Transport(_)
    ));
    issuer.is_down(false);
    validator.refresh_keys().await.unwrap();
    validator.validate(&lasting_token()).await.unwrap();
    issuer.is_down(true);
    issuer.hold();
    let mut callers = JoinSet::new();
    for _ in 0..10 {
        let validator = validator.clone();
        callers.spawn(async move { validator.refresh_keys().await });
    }
    let_others_run().await;
    issuer.open();
    for result in callers.join_all().await {
        let error = result.unwrap_err();
        assert!(error.to_string().contains("/v2.0/.well-known"), "{error}");
    }
    // Two requests of the refresh before, and one for all callers here.
    assert_eq!(issuer.asked(), (3, 1));
    validator.validate(&lasting_token()).await.unwrap();
    clock.advance(A_DAY);
    validator.validate(&lasting_token()).await.unwrap();
}

#[test]
fn outside_a_runtime_a_refresh_says_so() {
    let validator = Issuer::new().validator();
    let mut refresh = Box::pin(validator.refresh_keys());
    let std::task::Poll::Ready(Err(error)) = poll_once(&mut refresh) else {
        panic!("it waits for a runtime");
    };
    assert!(matches!(error, Error::Config(_)), "{error:?}");
}

#[tokio::test]
async fn a_cold_start_with_an_unknown_key_fetches_once_and_leaves_the_next_lookup_free() {
    let issuer = Issuer::gated();
    let validator = issuer.validator();
    let unknown = || NEXT.sign(&with(header(), "kid", "next"), &user_claims());
    let mut callers = JoinSet::new();
    for number in 0..100 {
        let validator = validator.clone();
        let token = match number % 2 {
            0 => unknown(),
            _ => replaced_token(),
        };
        callers.spawn(async move { reason(&validator, &token).await });
    }
    let_others_run().await;
    issuer.open();
    for found in callers.join_all().await {
        let (unknown, bad) = (
            RejectionReason::NoMatchingKey,
            RejectionReason::InvalidSignature,
        );
        assert!(found == Some(unknown) || found == Some(bad), "{found:?}");
    }
    assert_eq!(issuer.asked(), (1, 1));
    issuer.publish(from_ref(&NEXT.jwk));
    validator.validate(&unknown()).await.unwrap();
    assert_eq!(issuer.asked(), (2, 2));
}

/// A transport that changes the responses of an issuer.
fn changed(
    issuer: &Issuer,
    change: impl Fn(bool, Response<Bytes>) -> Response<Bytes> + Send + Sync + 'static,
) -> impl Transport {
    let inner = Arc::new(issuer.transport());
    let change = Arc::new(change);
    move |request: Request<Bytes>| {
        let is_metadata = request.uri().path().ends_with("/openid-configuration");
        let (inner, change) = (Arc::clone(&inner), Arc::clone(&change));
        async move { Ok(change(is_metadata, inner.send(request).await?)) }
    }
}

#[tokio::test]
async fn a_long_retry_after_does_not_reject_every_token_for_an_hour() {
    for (at_metadata, status, retry_after) in [
        (true, 429, "3600"),
        (false, 429, "3600"),
        (true, 503, "300"),
        (false, 429, "99999999999999999999"),
        (true, 429, "61"),
    ] {
        let issuer = Issuer::new();
        let clock = ManualClock::new();
        let is_throttled = Arc::new(Mutex::new(true));
        let throttled = Arc::clone(&is_throttled);
        let transport = changed(&issuer, move |is_metadata, response| {
            match *throttled.lock().unwrap() && is_metadata == at_metadata {
                true => Response::builder()
                    .status(status)
                    .header("retry-after", retry_after)
                    .body(Bytes::new())
                    .unwrap(),
                false => response,
            }
        });
        let validator = issuer.builder(TENANT_ID).single_tenant();
        let validator = validator.transport(transport).clock(clock.clone());
        let validator = validator.build().unwrap();
        for _ in 0..10 {
            let rejection = validator.validate(&user_token()).await.unwrap_err();
            assert_eq!(rejection.reason(), RejectionReason::KeysUnavailable);
            assert_eq!(rejection.retry_after(), Some(MINUTE), "{retry_after}");
        }
        assert_eq!(issuer.asked().0, 1, "the provider's wait is respected");
        *is_throttled.lock().unwrap() = false;
        clock.advance(MINUTE - A_SECOND);
        validator.validate(&user_token()).await.unwrap_err();
        clock.advance(A_SECOND);
        validator.validate(&user_token()).await.unwrap();
    }
}

#[tokio::test]
async fn a_withdrawn_key_is_not_accepted_for_longer_than_cache_control_says() {
    let hour = "max-age=3600";
    for (metadata, keys, time) in [
        (None, None, A_DAY),
        (None, Some(hour), HOUR),
        (Some(hour), None, HOUR),
        (
            Some("max-age=86400, private"),
            Some("public, max-age=7200"),
            2 * HOUR,
        ),
        (None, Some("max-age=15"), FIVE_MINUTES),
        (None, Some("no-store"), FIVE_MINUTES),
        (None, Some("no-cache"), FIVE_MINUTES),
        (None, Some("max-age=864000"), A_DAY),
        (None, Some("max-age=never"), FIVE_MINUTES),
    ] {
        let issuer = Issuer::new();
        let clock = ManualClock::new();
        let transport = changed(&issuer, move |is_metadata, mut response| {
            if let Some(value) = if is_metadata { metadata } else { keys } {
                let value = value.parse().unwrap();
                response.headers_mut().insert("cache-control", value);
            }
            response
        });
        let validator = issuer.builder(TENANT_ID).single_tenant();
        let validator = validator.transport(transport).clock(clock.clone());
        let validator = validator.build().unwrap();
        validator.validate(&lasting_token()).await.unwrap();
        issuer.publish(from_ref(&NEXT.jwk));
        clock.advance(time - A_SECOND);
        validator.validate(&lasting_token()).await.unwrap();
        assert_eq!(issuer.asked(), (1, 1));
        clock.advance(A_SECOND);
        let found = reason(&validator, &lasting_token()).await;
        assert_eq!(found, Some(RejectionReason::NoMatchingKey), "{keys:?}");
        assert_eq!(issuer.asked(), (2, 2), "{keys:?}");
    }
}

#[tokio::test]
async fn old_keys_do_not_serve_without_end() {
    let week = 7 * A_DAY;
    for (set, bound) in [
        (None, week),
        (Some(HOUR), HOUR),
        (Some(FIVE_MINUTES), FIVE_MINUTES),
        (Some(30 * A_DAY), 30 * A_DAY),
    ] {
        let issuer = Issuer::new();
        let clock = ManualClock::new();
        let builder = issuer.builder(TENANT_ID).single_tenant();
        let builder = match set {
            Some(max_key_age) => builder.max_key_age(max_key_age),
            None => builder,
        };
        let validator = builder.clock(clock.clone()).build().unwrap();
        validator.validate(&lasting_token()).await.unwrap();
        issuer.is_down(true);
        clock.advance(bound - A_SECOND);
        validator.validate(&lasting_token()).await.unwrap();
        clock.advance(A_SECOND);
        for _ in 0..3 {
            let rejection = validator.validate(&lasting_token()).await.unwrap_err();
            assert_eq!(rejection.reason(), RejectionReason::KeysUnavailable);
            assert_eq!(rejection.status(), 503);
        }
        issuer.is_down(false);
        clock.advance(MINUTE);
        validator.validate(&lasting_token()).await.unwrap();
    }
}

#[tokio::test]
async fn keys_that_are_too_old_do_not_serve_during_a_lookup() {
    let issuer = Issuer::new();
    let clock = ManualClock::new();
    let validator = issuer.validator_at(&clock);
    validator.validate(&lasting_token()).await.unwrap();
    issuer.hold();
    clock.advance(7 * A_DAY);
    let token = lasting_token();
    let mut first = Box::pin(validator.validate(&token));
    let mut second = Box::pin(validator.validate(&token));
    assert!(poll_once(&mut first).is_pending());
    let_others_run().await;
    assert!(poll_once(&mut second).is_pending());
    issuer.is_down(true);
    issuer.open();
    for caller in [first, second] {
        let rejection = caller.await.unwrap_err();
        assert_eq!(rejection.reason(), RejectionReason::KeysUnavailable);
    }
    assert_eq!(issuer.asked(), (2, 1));
}

#[tokio::test]
async fn keys_are_refreshed_in_time_before_they_are_too_old() {
    let issuer = Issuer::new();
    let clock = ManualClock::new();
    let builder = issuer.builder(TENANT_ID).single_tenant().max_key_age(HOUR);
    let validator = builder.clock(clock.clone()).build().unwrap();
    validator.validate(&lasting_token()).await.unwrap();
    clock.advance(HOUR / 2);
    issuer.is_down(true);
    validator.validate(&lasting_token()).await.unwrap();
    assert_eq!(issuer.asked(), (2, 1));
    // One failure does not reject a token, and the next lookup is in time.
    issuer.is_down(false);
    clock.advance(FIVE_MINUTES);
    validator.validate(&lasting_token()).await.unwrap();
    assert_eq!(issuer.asked(), (3, 2));
    clock.advance(HOUR / 2);
    validator.validate(&lasting_token()).await.unwrap();
}

#[tokio::test]
async fn an_outage_is_not_warned_about_more_often_than_once_a_day() {
    let log = Log::start();
    let issuer = Issuer::new();
    let clock = ManualClock::new();
    let validator = issuer.validator_at(&clock);
    let warnings = || {
        let text = log.text();
        let lines = text.lines().filter(|line| line.contains(" WARN "));
        let about_keys = lines.filter(|line| line.contains("could not be refreshed"));
        about_keys.map(ToOwned::to_owned).collect::<Vec<_>>()
    };
    // A fetch runs as a task of this thread, so the log is captured.
    validator.validate(&lasting_token()).await.unwrap();
    issuer.is_down(true);
    clock.advance(A_DAY);
    for day in 1..=5 {
        for _ in 0..24 * 12 {
            validator.validate(&lasting_token()).await.unwrap();
            clock.advance(FIVE_MINUTES);
        }
        assert_eq!(warnings().len(), day);
    }
    assert!(
        warnings()[0].contains("age_in_hours=24"),
        "{:?}",
        warnings()[0]
    );
    assert!(
        warnings()[4].contains("age_in_hours=120"),
        "{:?}",
        warnings()[4]
    );
    // A new outage is a new warning.
    issuer.is_down(false);
    validator.validate(&lasting_token()).await.unwrap();
    issuer.is_down(true);
    clock.advance(A_DAY);
    validator.validate(&lasting_token()).await.unwrap();
    assert_eq!(warnings().len(), 6);
}

#[test]
fn build_rejects_key_settings_that_cannot_work() {
    let entra = || Authority::entra(Cloud::Public, TENANT_ID);
    let api = "11111111-2222-3333-4444-555555555555";
    let base = |authority: Authority| {
        TokenValidator::builder(authority)
            .audience(API)
            .transport(Issuer::new().transport())
    };
    let many = Authority::entra(Cloud::Public, "organizations");
    let b2c = Authority::b2c("contoso.b2clogin.com", "contoso.com", "B2C_1_in");
    for (name, builder, why) in [
        (
            "no time",
            base(entra()).single_tenant().max_key_age(Duration::ZERO),
            "max_key_age is 0 s",
        ),
        (
            "a short time",
            base(entra())
                .single_tenant()
                .max_key_age(FIVE_MINUTES - A_SECOND),
            "max_key_age is 299 s",
        ),
        (
            "no bound",
            base(entra()).single_tenant().max_key_age(Duration::MAX),
            "to 365 days",
        ),
        (
            "application keys of B2C",
            base(b2c).single_tenant().application_keys(api),
            "contoso.b2clogin.com/contoso.com/B2C_1_in",
        ),
        (
            "application keys of AD FS",
            base(Authority::adfs("fs.contoso.com"))
                .single_tenant()
                .application_keys(api),
            "'https://fs.contoso.com/adfs' is not Microsoft Entra ID",
        ),
        (
            "application keys of an OpenID provider",
            base(Authority::oidc("https://id.example"))
                .single_tenant()
                .application_keys(api),
            "'https://id.example' is not Microsoft Entra ID",
        ),
        (
            "application keys of many tenants",
            base(many).any_tenant().application_keys(api),
            "one validator for each tenant",
        ),
        (
            "application keys of listed tenants",
            base(entra()).tenants([TENANT_ID]).application_keys(api),
            "one validator for each tenant",
        ),
        (
            "no client id",
            base(entra()).single_tenant().application_keys(""),
            "application_keys(\"\") is not a client id",
        ),
        (
            "an audience in place of the client id",
            base(entra())
                .single_tenant()
                .application_keys("api://orders"),
            "application_keys(\"api://orders\") is not a client id",
        ),
        (
            "white space",
            base(entra())
                .single_tenant()
                .application_keys(format!("{api}\n")),
            "is not a client id",
        ),
    ] {
        let error = builder.build().unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{name}: {error:?}");
        assert!(error.to_string().contains(why), "{name}: {error}");
    }
    let ok = base(entra()).single_tenant().application_keys(api);
    ok.max_key_age(365 * A_DAY).build().unwrap();
    let external = Authority::external_id("contoso.ciamlogin.com", TENANT_ID);
    base(external)
        .single_tenant()
        .application_keys(api)
        .build()
        .unwrap();
}

/// Real signatures over real HTTP.
#[tokio::test]
async fn a_token_signed_with_an_applications_own_key_is_not_rejected_forever() {
    let orders = "11111111-2222-3333-4444-555555555555";
    let local = LocalAuthority::start().await.unwrap();
    let api = Application::new(orders).access_token_version(2);
    local.register(TENANT_ID, api);
    local.register(TENANT_ID, Application::new("daemon").secret("s3cret"));
    let client = ConfidentialClient::builder("daemon")
        .authority(local.authority(TENANT_ID))
        .client_secret("s3cret")
        .build()
        .unwrap();
    let token = async |force: bool| {
        let request = confidential_client::TokenRequest::new(format!("api://{orders}/.default"));
        let request = match force {
            true => request.force_refresh(),
            false => request,
        };
        client.acquire_token_for_client(request).await.unwrap()
    };
    let builder = || {
        TokenValidator::builder(local.authority(TENANT_ID))
            .audience(orders)
            .single_tenant()
    };
    let plain = builder().build().unwrap();
    let own = builder().application_keys(orders).build().unwrap();
    let of_other = builder().application_keys("daemon").build().unwrap();
    // Before there is an own key, the tenant's keys are the application's.
    let by_tenant = token(false).await;
    for validator in [&plain, &own, &of_other] {
        validator.validate(by_tenant.secret()).await.unwrap();
    }
    local.roll_application_key(orders).unwrap();
    let by_own = token(true).await;
    own.validate(by_own.secret()).await.unwrap();
    for validator in [&plain, &of_other] {
        let rejection = validator.validate(by_own.secret()).await.unwrap_err();
        assert_eq!(rejection.reason(), RejectionReason::NoMatchingKey);
        let is_hinted = rejection
            .chain()
            .to_string()
            .contains("application_keys(..)");
        assert_eq!(is_hinted, std::ptr::eq(validator, &plain), "{rejection}");
    }
    // The own key is replaced, too.
    local.roll_application_key(orders).unwrap();
    local.retire_old_keys();
    own.refresh_keys().await.unwrap();
    own.validate(token(true).await.secret()).await.unwrap();
    let rejection = own.validate(by_own.secret()).await.unwrap_err();
    assert_eq!(rejection.reason(), RejectionReason::NoMatchingKey);
}

/// Real signatures over real HTTP.
#[tokio::test]
async fn users_can_sign_in_to_an_application_with_its_own_key() {
    let (app, back) = (
        "11111111-2222-3333-4444-555555555555",
        "https://app.example/back",
    );
    let local = LocalAuthority::start().await.unwrap();
    let application = Application::new(app).secret("s3cret").redirect_uri(back);
    local.register(
        TENANT_ID,
        application.delegated("api://drive", "Files.Read"),
    );
    local.register_user(TENANT_ID, User::new("adele@contoso.com"));
    local.consent(
        TENANT_ID,
        app,
        "adele@contoso.com",
        "api://drive/Files.Read",
    );
    let client = ConfidentialClient::builder(app)
        .authority(local.authority(TENANT_ID))
        .client_secret("s3cret")
        .build()
        .unwrap();
    let sign_in = async || {
        let request = AuthorizationRequest::new(back, "api://drive/Files.Read");
        let (page, flow) = client.authorization_request_url(&request).await.unwrap();
        let back = local.sign_in(page, "adele@contoso.com").await.unwrap();
        client.acquire_token_by_authorization_code(flow, back).await
    };
    sign_in().await.unwrap();
    local.roll_application_key(app).unwrap();
    sign_in().await.unwrap();
    sign_in().await.unwrap();
    local.roll_application_key(app).unwrap();
    local.retire_old_keys();
    sign_in().await.unwrap();
}

#[tokio::test]
async fn the_keys_of_an_application_are_asked_for_by_its_id_alone() {
    let issuer = Issuer::new();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (inner, urls) = (Arc::new(issuer.transport()), Arc::clone(&asked));
    let transport = move |mut request: Request<Bytes>| {
        let url = request.uri().to_string();
        // The issuer of the tests does not know the parameter.
        *request.uri_mut() = url.split('?').next().unwrap().parse().unwrap();
        urls.lock().unwrap().push(url);
        let inner = Arc::clone(&inner);
        async move { inner.send(request).await }
    };
    let validator = issuer
        .builder(TENANT_ID)
        .single_tenant()
        .transport(transport);
    let validator = validator.application_keys("A1b2.c_d-3").build().unwrap();
    validator.validate(&user_token()).await.unwrap();
    assert_eq!(
        asked.lock().unwrap()[0],
        format!("{ISSUER}/.well-known/openid-configuration?appid=A1b2.c_d-3")
    );
}

#[tokio::test]
async fn an_unknown_key_of_a_provider_without_application_keys_gets_no_hint() {
    let unknown = NEXT.sign(&with(header(), "kid", "next"), &user_claims());
    let issuer = Issuer::new();
    let entra = issuer.validator();
    let oidc = TokenValidator::builder(Authority::oidc("https://id.example"))
        .audience(API)
        .single_tenant()
        .transport(issuer.transport());
    for (validator, is_hinted) in [(entra, true), (oidc.build().unwrap(), false)] {
        let rejection = validator.validate(&unknown).await.unwrap_err();
        assert_eq!(rejection.reason(), RejectionReason::NoMatchingKey);
        let text = rejection.chain().to_string();
        assert!(text.contains("'next'"), "{text}");
        assert_eq!(text.contains("application_keys(..)"), is_hinted, "{text}");
        assert!(!rejection.to_string().contains("application_keys"));
    }
}

#[tokio::test]
async fn metadata_for_a_domain_that_name_every_tenant_accept_no_token() {
    let issuer = Issuer::new();
    let transport = changed(&issuer, |is_metadata, response| match is_metadata {
        true => Response::new(Bytes::from(
            json!({ "issuer": TEMPLATE, "jwks_uri": "https://keys.example" }).to_string(),
        )),
        false => response,
    });
    let validator = issuer
        .builder("contoso.com")
        .single_tenant()
        .transport(transport);
    let rejection = validator.build().unwrap().validate(&user_token()).await;
    let rejection = rejection.unwrap_err();
    assert!(
        rejection
            .to_string()
            .contains("is not accepted by this API"),
        "{rejection}"
    );
}

#[tokio::test]
async fn metadata_of_another_tenant_than_asked_for_by_id_verify_no_token() {
    let other = "10000000-0000-4000-8000-000000000001";
    let issuer = Issuer::new();
    let transport = changed(&issuer, |is_metadata, response| match is_metadata {
        true => Response::new(Bytes::from(
            json!({ "issuer": ISSUER, "jwks_uri": "https://keys.example" }).to_string(),
        )),
        false => response,
    });
    let validator = issuer.builder(other).single_tenant().transport(transport);
    let rejection = validator.build().unwrap().validate(&user_token()).await;
    let rejection = rejection.unwrap_err();
    assert_eq!(rejection.reason(), RejectionReason::KeysUnavailable);
    let error = std::error::Error::source(&rejection).unwrap().to_string();
    assert!(error.contains(ISSUER) && error.contains(other), "{error}");
}

#[tokio::test]
async fn a_null_in_metadata_is_absent() {
    for (member, why) in [
        ("issuer", Some("no 'issuer'")),
        ("jwks_uri", Some("no 'jwks_uri'")),
        ("authorization_endpoint", None),
        ("access_token_issuer", None),
        ("keys", Some("no 'keys'")),
    ] {
        let issuer = Issuer::new();
        let requests = AtomicUsize::new(0);
        let transport = changed(&issuer, move |_, response| {
            requests.fetch_add(1, Ordering::SeqCst);
            let mut body: Value = serde_json::from_slice(response.body()).unwrap();
            body[member] = json!(null);
            Response::new(Bytes::from(body.to_string()))
        });
        let validator = issuer.builder(TENANT_ID).single_tenant();
        let validator = validator.transport(transport).build().unwrap();
        let validated = validator.validate(&user_token()).await;
        match (validated, why) {
            (Ok(_), None) => {}
            (Err(rejection), Some(why)) => {
                let error = std::error::Error::source(&rejection).unwrap();
                assert!(error.to_string().contains(why), "{member}: {error}");
            }
            (result, _) => panic!("{member}: {:?}", result.err()),
        }
    }
}
