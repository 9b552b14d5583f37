//! Retries of token requests: how often, and when.

use std::time::Duration;

use confidential_client::testing::ManualClock;
use confidential_client::{
    Authority, Certificate, ConfidentialClient, Error, RetryPolicy, TokenRequest, TokenSource,
};
use http::Response;

use crate::support::{
    CLIENT_ID, PEM, Provider, SCOPE, SECRET, claims_of, in_memory, let_others_run, scope,
};

fn answer(provider: &Provider, status: u16, retry_after: Option<u64>) {
    let mut response = Response::builder().status(status);
    if let Some(seconds) = retry_after {
        response = response.header("retry-after", seconds);
    }
    provider.answer_with(response.body("no".into()).unwrap());
}

/// What time may cure is tried three times, within tokio's paused time.
#[tokio::test(start_paused = true)]
async fn only_transient_failures_are_retried() {
    for (name, status, retry_after, requests) in [
        ("no answer", 0, None, 3),
        ("408", 408, None, 3),
        ("500", 500, None, 3),
        ("503", 503, None, 3),
        ("503, to wait a moment", 503, Some(2), 3),
        ("503, to wait", 503, Some(30), 1),
        ("429", 429, None, 1),
        ("429, to wait a moment", 429, Some(2), 3),
        ("429, to wait", 429, Some(6), 1),
        ("400", 400, None, 1),
        ("401", 401, None, 1),
        ("403", 403, Some(1), 1),
        ("404", 404, None, 1),
        ("302", 302, None, 1),
        ("200 that is no token", 200, None, 1),
    ] {
        let provider = Provider::open();
        for _ in 0..requests {
            match status {
                0 => provider.fail("connection reset"),
                _ => answer(&provider, status, retry_after),
            }
        }
        let builder = provider.builder().retry(RetryPolicy::default());
        let client = builder.build().unwrap();
        let started = tokio::time::Instant::now();
        let error = client.acquire_token_for_client(SCOPE).await.unwrap_err();
        assert_eq!(provider.requests(), requests, "{name}: {error}");
        let waited = started.elapsed().as_millis();
        let least = if retry_after == Some(2) { 4000 } else { 0 };
        let most = if requests == 3 { least + 1500 } else { 0 };
        assert!((least..=most).contains(&waited), "{name}: {waited} ms");
        if status == 500 {
            assert!(error.to_string().contains("(3 attempts)"), "{error}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_before_a_successful_retry_is_hidden() {
    let provider = Provider::open();
    provider.fail("connection reset");
    answer(&provider, 503, None);
    let builder = provider.builder().retry(RetryPolicy::default());
    let client = builder.build().unwrap();
    let id = "a1a2a3a4-b1b2-c1c2-d1d2-e1e2e3e4e5e6";
    let request = TokenRequest::new(SCOPE).correlation_id(id);
    let token = client.acquire_token_for_client(request).await.unwrap();
    assert_eq!(token.source(), TokenSource::IdentityProvider);
    assert_eq!(provider.requests(), 3);
    for attempt in 0..3 {
        assert_eq!(provider.header(attempt, "client-request-id").unwrap(), id);
    }
}

#[tokio::test(start_paused = true)]
async fn each_attempt_has_an_assertion_of_its_own() {
    let provider = Provider::open();
    provider.fail("connection reset");
    answer(&provider, 500, None);
    let client = in_memory(&provider)
        .certificate(Certificate::from_pem(&*PEM).unwrap())
        .retry(RetryPolicy::default())
        .build()
        .unwrap();
    client.acquire_token_for_client(SCOPE).await.unwrap();
    let jti = |request: usize| {
        let assertion = provider.field(request, "client_assertion").unwrap();
        claims_of(&assertion)["jti"].as_str().unwrap().to_owned()
    };
    assert!(jti(0) != jti(1) && jti(1) != jti(2));
}

/// All attempts and waits are one flight's, and those who come meanwhile share it.
#[tokio::test(start_paused = true)]
async fn the_deadline_is_for_all_attempts_together() {
    let provider = Provider::gated();
    let policy = RetryPolicy::default()
        .max_attempts(100)
        .base_delay(Duration::ZERO)
        .deadline(Duration::from_secs(10));
    let client = provider
        .builder()
        .retry(policy)
        .attempt_timeout(Duration::from_secs(4))
        .build()
        .unwrap();
    let started = tokio::time::Instant::now();
    let (one, other) = tokio::join!(
        client.acquire_token_for_client(SCOPE),
        client.acquire_token_for_client(SCOPE)
    );
    assert_eq!(started.elapsed().as_secs(), 10);
    assert_eq!(provider.requests(), 3, "4 s, 4 s and 2 s");
    for error in [one.unwrap_err(), other.unwrap_err()] {
        assert!(matches!(error, Error::Transport(_)), "{error:?}");
        assert!(
            error.to_string().contains("within 2 s (3 attempts)"),
            "{error}"
        );
    }
    // No wait that would end too late is begun.
    let provider = Provider::open();
    answer(&provider, 503, Some(3));
    let policy = RetryPolicy::default().deadline(Duration::from_secs(2));
    let client = provider.builder().retry(policy).build().unwrap();
    let started = tokio::time::Instant::now();
    client.acquire_token_for_client(SCOPE).await.unwrap_err();
    assert_eq!(
        (started.elapsed(), provider.requests()),
        (Duration::ZERO, 1)
    );
}

/// An outage does not multiply the requests of a client with many keys.
#[tokio::test(start_paused = true)]
async fn the_retry_budget_limits_retries_in_an_outage() {
    let provider = Provider::open();
    for _ in 0..1000 {
        provider.fail("no route");
    }
    let builder = provider.builder().retry(RetryPolicy::default());
    let client = builder.build().unwrap();
    let mut callers = tokio::task::JoinSet::new();
    for number in 0..100 {
        let client = client.clone();
        callers.spawn(async move { client.acquire_token_for_client(scope(number)).await });
    }
    assert!(callers.join_all().await.iter().all(Result::is_err));
    assert_eq!(provider.requests(), 120);
}

/// A renewal in the background is repeated like any other request, and its failure is hidden.
#[tokio::test(start_paused = true)]
async fn a_renewal_is_repeated_while_the_token_is_served() {
    let clock = ManualClock::new();
    let provider = Provider::open();
    let builder = provider.builder().retry(RetryPolicy::default());
    let client = builder.clock(clock.clone()).build().unwrap();
    let token = client.acquire_token_for_client(SCOPE).await.unwrap();
    clock.advance(Duration::from_secs(3400));
    answer(&provider, 500, None);
    answer(&provider, 500, None);
    let served = client.acquire_token_for_client(SCOPE).await.unwrap();
    assert_eq!(served.secret(), token.secret());
    while provider.requests() < 4 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let_others_run().await;
    let renewed = client.acquire_token_for_client(SCOPE).await.unwrap();
    assert_eq!(renewed.secret(), "token-4");
}

#[test]
fn a_policy_that_cannot_work_is_refused() {
    let client = || {
        ConfidentialClient::builder(CLIENT_ID)
            .authority(Authority::parse(
                "https://login.microsoftonline.com/contoso.com",
            ))
            .client_secret(SECRET)
    };
    let policy = RetryPolicy::default;
    let zero = Duration::ZERO;
    for (builder, text) in [
        (
            client().retry(policy().max_attempts(0)),
            "max_attempts must be at least 1",
        ),
        (
            client().retry(policy().deadline(zero)),
            "deadline must be greater than zero and at most ten minutes, but is 0ns",
        ),
        (
            client().retry(policy().deadline(Duration::MAX)),
            "at most ten minutes",
        ),
        (
            client().attempt_timeout(zero),
            "attempt_timeout must be greater than zero",
        ),
        (
            client().connect_timeout(zero),
            "connect_timeout must be greater than zero",
        ),
        (
            client()
                .connect_timeout(Duration::from_secs(1))
                .transport(Provider::open().transport()),
            "connect_timeout(..) is for reqwest",
        ),
    ] {
        let error = builder.build().unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        assert!(error.to_string().contains(text), "{text}: {error}");
    }
}
