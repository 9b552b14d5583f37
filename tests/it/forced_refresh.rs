//! Refreshes that a caller asks for: rejected tokens, claims, `force_refresh`, `min_remaining`.

use std::time::Duration;

use confidential_client::testing::ManualClock;
use confidential_client::{AccessToken, ConfidentialClient, Error, TokenRequest, TokenSource};

use crate::support::{Provider, SCOPE, let_others_run, poll_once};

const CLAIMS: &str = r#"{"access_token":{"nbf":{"essential":true,"value":"1604106651"}}}"#;
const OTHER_CLAIMS: &str = r#"{"access_token":{"acrs":{"essential":true,"value":"c1"}}}"#;

fn request() -> TokenRequest {
    TokenRequest::new(SCOPE)
}

async fn acquire(client: &ConfidentialClient, request: TokenRequest) -> Result<String, Error> {
    let token = client.acquire_token_for_client(request).await?;
    Ok(token.secret().to_owned())
}

/// Callers who have all been turned down with `token-1`, and then have the answer they are given.
async fn turned_down(
    provider: &Provider,
    client: &ConfidentialClient,
    request: impl Fn(usize, &AccessToken) -> TokenRequest,
) -> Vec<String> {
    let token = client.acquire_token_for_client(SCOPE).await.unwrap();
    provider.hold();
    let mut callers: Vec<_> = (0..1_000)
        .map(|number| Box::pin(client.acquire_token_for_client(request(number, &token))))
        .collect();
    for caller in &mut callers {
        assert!(poll_once(caller).is_pending());
    }
    provider.release();
    let mut secrets = Vec::new();
    for caller in callers {
        secrets.push(caller.await.unwrap().secret().to_owned());
    }
    secrets
}

/// docs/failures.md M20.
#[tokio::test]
async fn one_revocation_is_one_request_however_many_callers() {
    let provider = Provider::open();
    let client = provider.client();
    let secrets = turned_down(&provider, &client, |_, token| {
        request().claims(CLAIMS).rejected_token(token)
    })
    .await;
    assert!(secrets.iter().all(|secret| secret == "token-2"));
    assert_eq!(provider.requests(), 2);
    assert_eq!(provider.field(0, "claims"), None);
    assert_eq!(provider.field(1, "claims").as_deref(), Some(CLAIMS));
    let body = provider.body(1);
    let (scope, claims) = (
        body.find("&scope=").unwrap(),
        body.find("&claims=").unwrap(),
    );
    assert!(scope < claims && claims < body.find("&grant_type=").unwrap());
}

#[tokio::test]
async fn two_different_challenges_are_two_requests() {
    let provider = Provider::open();
    let client = provider.client();
    let secrets = turned_down(&provider, &client, |number, token| {
        let claims = [CLAIMS, OTHER_CLAIMS][number % 2];
        request().claims(claims).rejected_token(token)
    })
    .await;
    for (number, secret) in secrets.iter().enumerate() {
        assert_eq!(secret, ["token-2", "token-3"][number % 2]);
    }
    assert_eq!(provider.requests(), 3);
    assert_eq!(provider.field(2, "claims").as_deref(), Some(OTHER_CLAIMS));
}

#[tokio::test]
async fn a_rejected_token_is_refreshed_once() {
    let provider = Provider::open();
    let client = provider.client();
    let secrets = turned_down(&provider, &client, |_, token| {
        request().rejected_token(token)
    })
    .await;
    assert!(secrets.iter().all(|secret| secret == "token-2"));
    assert_eq!(provider.requests(), 2);
}

/// An API that takes no token at all.
#[tokio::test]
async fn an_api_that_rejects_every_token_causes_few_requests() {
    let clock = ManualClock::new();
    let provider = Provider::open();
    let client = provider.client_at(&clock);
    let mut token = client.acquire_token_for_client(SCOPE).await.unwrap();
    for round in 0..600 {
        let again = match round % 3 {
            0 => request().rejected_token(&token),
            1 => request().rejected_token(&token).claims(CLAIMS),
            _ => {
                client.invalidate(&token);
                request()
            }
        };
        token = client.acquire_token_for_client(again).await.unwrap();
        clock.advance(Duration::from_secs(1));
    }
    let requests = provider.requests();
    assert!((20..=42).contains(&requests), "{requests} in ten minutes");
}

/// docs/failures.md F13.
#[tokio::test]
async fn a_thousand_reports_of_one_token_cause_one_refresh() {
    let provider = Provider::open();
    let client = provider.client();
    let bound = client.token_provider(SCOPE).unwrap();
    let first = bound.token().await.unwrap();
    for _ in 0..1_000 {
        client.invalidate(&first);
        assert_ne!(bound.token().await.unwrap().secret(), first.secret());
    }
    assert_eq!(provider.requests(), 2);
}

#[tokio::test]
async fn invalidating_a_token_removes_only_that_token() {
    let provider = Provider::open();
    let client = provider.client();
    let other = request().tenant("fabrikam.com");
    let token = client.acquire_token_for_client(SCOPE).await.unwrap();
    client.acquire_token_for_client(&other).await.unwrap();
    client.invalidate(&token);
    assert!(client.token_provider(SCOPE).unwrap().cached().is_none());
    assert!(client.token_provider(&other).unwrap().cached().is_some());
    assert_eq!(token.secret(), "token-1");

    // Of a client that never had it.
    provider.client().invalidate(&token);
}

#[tokio::test]
async fn a_rejected_token_is_not_served_when_its_renewal_fails() {
    let clock = ManualClock::new();
    let provider = Provider::open();
    let client = provider.client_at(&clock);
    let token = client.acquire_token_for_client(SCOPE).await.unwrap();
    for again in [
        request().rejected_token(&token),
        request().claims(CLAIMS),
        request().claims(CLAIMS).rejected_token(&token),
    ] {
        provider.fail("connection refused");
        for _ in 0..3 {
            let error = acquire(&client, again.clone()).await.unwrap_err();
            assert!(matches!(error, Error::Transport(_)), "{error:?}");
        }
        assert_eq!(acquire(&client, request()).await.unwrap(), "token-1");
        clock.advance(Duration::from_secs(30));
    }
    assert_eq!(provider.requests(), 4);
}

#[tokio::test]
async fn a_failed_forced_refresh_keeps_the_cached_token() {
    let clock = ManualClock::new();
    let provider = Provider::open();
    let client = provider.client_at(&clock);
    acquire(&client, request()).await.unwrap();
    let forced = || client.acquire_token_for_client(request().force_refresh());
    let token = forced().await.unwrap();
    assert_eq!(token.secret(), "token-2");
    assert_eq!(token.source(), TokenSource::IdentityProvider);

    provider.answer_with(
        http::Response::builder()
            .status(429)
            .header("retry-after", 60)
            .body("".into())
            .unwrap(),
    );
    for _ in 0..60 {
        let token = forced().await.unwrap();
        assert_eq!(
            (token.secret(), token.source()),
            ("token-2", TokenSource::Cache)
        );
        clock.advance(Duration::from_secs(1));
    }
    assert_eq!(provider.requests(), 3, "Retry-After is heeded");
    assert_eq!(forced().await.unwrap().secret(), "token-4");

    clock.advance(Duration::from_secs(3600));
    provider.fail("connection refused");
    forced().await.unwrap_err();
}

const UNKNOWN_APPLICATION: &str = r#"{"error":"unauthorized_client","error_codes":[700016]}"#;

#[tokio::test]
async fn a_forced_refresh_after_the_consent_ignores_the_rejection_before_it() {
    let clock = ManualClock::new();
    let provider = Provider::open();
    let client = provider.client_at(&clock);
    provider.answer(400, UNKNOWN_APPLICATION);
    for _ in 0..3 {
        acquire(&client, request()).await.unwrap_err();
    }
    assert_eq!(provider.requests(), 1);
    let token = acquire(&client, request().force_refresh()).await.unwrap();
    assert_eq!(token, "token-2");
    assert_eq!(acquire(&client, request()).await.unwrap(), "token-2");
}

#[tokio::test]
async fn a_loop_of_forced_refreshes_is_no_storm_after_a_rejection() {
    let clock = ManualClock::new();
    let provider = Provider::open();
    let client = provider.client_at(&clock);
    for _ in 0..600 {
        provider.answer(400, UNKNOWN_APPLICATION);
    }
    for _ in 0..600 {
        for _ in 0..5 {
            let forced = request().force_refresh();
            acquire(&client, forced).await.unwrap_err();
        }
        clock.advance(Duration::from_secs(1));
    }
    let requests = provider.requests();
    assert!((20..=24).contains(&requests), "{requests} in ten minutes");
}

#[tokio::test]
async fn a_forced_refresh_obeys_the_retry_after_of_a_rejection() {
    let clock = ManualClock::new();
    let provider = Provider::open();
    let client = provider.client_at(&clock);
    provider.answer_with(
        http::Response::builder()
            .status(400)
            .header("retry-after", 60)
            .body(UNKNOWN_APPLICATION.into())
            .unwrap(),
    );
    for _ in 0..60 {
        let forced = request().force_refresh();
        acquire(&client, forced).await.unwrap_err();
        clock.advance(Duration::from_secs(1));
    }
    assert_eq!(provider.requests(), 1);
}

#[tokio::test]
async fn a_forced_refresh_joins_a_refresh_in_flight() {
    let clock = ManualClock::new();
    let provider = Provider::open();
    let client = provider.client_at(&clock);
    acquire(&client, request()).await.unwrap();
    provider.hold();
    clock.advance(Duration::from_secs(3400));
    acquire(&client, request()).await.unwrap();
    let mut forced = Box::pin(acquire(&client, request().force_refresh()));
    assert!(poll_once(&mut forced).is_pending());
    provider.release();
    assert_eq!(forced.await.unwrap(), "token-2");
    assert_eq!(provider.requests(), 2);
}

#[tokio::test]
async fn a_token_with_too_little_left_is_renewed_first() {
    let clock = ManualClock::new();
    let provider = Provider::open();
    let client = provider.client_at(&clock);
    let lasting = request().min_remaining(Duration::from_secs(1800));
    let bound = client.token_provider(&lasting).unwrap();
    assert_eq!(bound.token().await.unwrap().secret(), "token-1");
    clock.advance(Duration::from_secs(1700));
    assert_eq!(bound.token().await.unwrap().secret(), "token-1");
    clock.advance(Duration::from_secs(100));
    assert!(bound.cached().is_none());
    assert_eq!(acquire(&client, request()).await.unwrap(), "token-1");

    provider.fail("connection refused");
    let token = bound.token().await.unwrap();
    assert_eq!(
        (token.secret(), token.source()),
        ("token-1", TokenSource::Cache)
    );
    clock.advance(Duration::from_secs(2));
    assert_eq!(bound.token().await.unwrap().secret(), "token-3");
}

#[tokio::test]
async fn a_token_that_is_always_too_short_causes_no_endless_refreshes() {
    let clock = ManualClock::new();
    let provider = Provider::open();
    let client = provider.client_at(&clock);
    let lasting = request().min_remaining(Duration::from_secs(7200));
    for _ in 0..3600 {
        client.acquire_token_for_client(&lasting).await.unwrap();
        let_others_run().await;
        clock.advance(Duration::from_secs(1));
    }
    assert_eq!(provider.requests(), 3, "at half the life of each");
}

#[tokio::test]
async fn one_rejection_told_in_two_ways_counts_once() {
    let provider = Provider::open();
    let client = provider.client();
    let a = client.acquire_token_for_client(SCOPE).await.unwrap();
    client.invalidate(&a);
    let request = || TokenRequest::new(SCOPE);
    let b = client
        .acquire_token_for_client(request().rejected_token(&a))
        .await
        .unwrap();
    assert_eq!(b.secret(), "token-2");
    let c = client
        .acquire_token_for_client(request().claims(CLAIMS).rejected_token(&b))
        .await
        .unwrap();
    assert_eq!(c.secret(), "token-3", "the first challenge of its kind");
}

#[tokio::test]
async fn rejected_claims_do_not_fail_requests_without_claims() {
    let clock = ManualClock::new();
    let provider = Provider::open();
    let client = provider.client_at(&clock);
    let a = client.acquire_token_for_client(SCOPE).await.unwrap();
    let challenged = || TokenRequest::new(SCOPE).claims(CLAIMS).rejected_token(&a);
    // Each attempt with claims is refused; the first in any cool-down's end.
    for _ in 0..5 {
        provider.answer(
            400,
            r#"{"error":"invalid_request","error_codes":[9002325]}"#,
        );
        let error = client
            .acquire_token_for_client(challenged())
            .await
            .unwrap_err();
        clock.advance(error.retry_after().unwrap());
    }
    clock.advance(Duration::from_secs(3600));
    provider.answer(
        400,
        r#"{"error":"invalid_request","error_codes":[9002325]}"#,
    );
    client
        .acquire_token_for_client(challenged())
        .await
        .unwrap_err();
    let before = provider.requests();
    let plain = client.acquire_token_for_client(SCOPE).await;
    assert_eq!(
        provider.requests(),
        before + 1,
        "a plain request was never made: {plain:?}"
    );
}

#[tokio::test]
async fn requesting_nearly_a_whole_lifetime_causes_few_requests() {
    let clock = ManualClock::new();
    let provider = Provider::open();
    let client = provider.client_at(&clock);
    let lasting = TokenRequest::new(SCOPE).min_remaining(Duration::from_secs(3588));
    for _ in 0..3600 {
        client.acquire_token_for_client(&lasting).await.unwrap();
        clock.advance(Duration::from_secs(1));
    }
    assert_eq!(provider.requests(), 11, "at a tenth of the life of each");
}
