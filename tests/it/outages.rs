//! Outages of the identity provider: what callers get.

use std::time::Duration;

use confidential_client::testing::ManualClock;
use confidential_client::{
    Authority, Cloud, ConfidentialClient, Error, RetryPolicy, TokenRequest, TokenSource,
};
use http::Response;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{CLIENT_ID, Provider, SCOPE, SECRET, TENANT, let_others_run};

/// docs/failures.md F1, F3, M8 and M9.
#[tokio::test]
async fn a_cached_token_is_returned_until_the_expiry() {
    let clock = ManualClock::new();
    let provider = Provider::open();
    let client = provider.client_at(&clock);
    client.acquire_token_for_client(SCOPE).await.unwrap();

    clock.advance(Duration::from_secs(3400));
    while clock_left(&client, &clock).await > Duration::from_secs(11) {
        provider.fail("connection refused");
        let token = client.acquire_token_for_client(SCOPE).await.unwrap();
        assert_eq!(
            (token.secret(), token.source()),
            ("token-1", TokenSource::Cache)
        );
        let_others_run().await;
        clock.advance(Duration::from_secs(1));
    }
    let failed = provider.requests() - 1;
    assert!(
        (5..=20).contains(&failed),
        "{failed} attempts in three minutes"
    );

    clock.advance(Duration::from_secs(2));
    let error = client.acquire_token_for_client(SCOPE).await.unwrap_err();
    assert!(matches!(error, Error::Transport(_)), "{error:?}");
}

async fn clock_left(
    client: &confidential_client::ConfidentialClient,
    clock: &ManualClock,
) -> Duration {
    let token = client.acquire_token_for_client(SCOPE).await.unwrap();
    let now = confidential_client::time::Clock::wall(clock);
    token.expires_on().duration_since(now).unwrap_or_default()
}

#[tokio::test]
async fn a_failure_is_remembered_for_a_moment_and_then_tried_again() {
    let clock = ManualClock::new();
    let provider = Provider::open();
    provider.fail("connection refused");
    let client = provider.client_at(&clock);
    for _ in 0..100 {
        let error = client.acquire_token_for_client(SCOPE).await.unwrap_err();
        assert!(matches!(error, Error::Transport(_)), "{error:?}");
        assert!(error.is_transient());
        assert!(error.correlation_id().is_some());
        let source = std::error::Error::source(&error).unwrap();
        assert_eq!(source.to_string(), "connection refused");
    }
    assert_eq!(provider.requests(), 1);
    let error = client.acquire_token_for_client(SCOPE).await.unwrap_err();
    clock.advance(error.retry_after().unwrap());
    client.acquire_token_for_client(SCOPE).await.unwrap();
    assert_eq!(provider.requests(), 2);
}

/// docs/failures.md M6: any body, the same memory; M7: nothing is signed meanwhile, since no flight is.
#[tokio::test]
async fn retry_after_is_heeded_whatever_the_body() {
    let json = r#"{"error":"temporarily_unavailable","error_codes":[90055]}"#;
    for body in ["Too Many Requests", "", json] {
        let clock = ManualClock::new();
        let provider = Provider::open();
        let response = Response::builder().status(429).header("retry-after", "60");
        provider.answer_with(response.body(body.into()).unwrap());
        let client = provider.client_at(&clock);

        let error = client.acquire_token_for_client(SCOPE).await.unwrap_err();
        assert!(matches!(error, Error::Throttled(_)), "{error:?}");
        assert_eq!(error.retry_after(), Some(Duration::from_secs(60)));
        assert!(error.correlation_id().is_some());
        clock.advance(Duration::from_secs(45));
        let error = client.acquire_token_for_client(SCOPE).await.unwrap_err();
        assert!(matches!(error, Error::Throttled(_)), "{error:?}");
        assert_eq!(error.retry_after(), Some(Duration::from_secs(15)));
        assert_eq!(provider.requests(), 1);

        let other = "api://another/.default";
        client.acquire_token_for_client(other).await.unwrap();
        assert_eq!(provider.requests(), 2, "another key is not kept waiting");

        clock.advance(Duration::from_secs(15));
        client.acquire_token_for_client(SCOPE).await.unwrap();
        assert_eq!(provider.requests(), 3);
    }
}

/// The wall clock is set by two hours, either way, while the provider is down and while a token is
/// served: no wait gets longer by it, and no token is served beyond its end by either clock.
#[tokio::test]
async fn a_clock_that_is_set_neither_prolongs_a_wait_nor_a_token() {
    let two_hours = Duration::from_secs(2 * 60 * 60);
    let second = Duration::from_secs(1);
    for forward in [true, false] {
        let set = |clock: &ManualClock| match forward {
            true => clock.advance_wall(two_hours),
            false => clock.turn_wall_back(two_hours),
        };
        let clock = ManualClock::new();
        let provider = Provider::open();
        provider.fail("no route");
        let client = provider.client_at(&clock);
        let error = client.acquire_token_for_client(SCOPE).await.unwrap_err();
        set(&clock);
        let still = client.acquire_token_for_client(SCOPE).await;
        assert_eq!(
            still.is_ok(),
            forward,
            "the wait is over once either clock says so"
        );
        clock.advance(error.retry_after().unwrap());
        client.acquire_token_for_client(SCOPE).await.unwrap();
        assert_eq!(provider.requests(), 2);

        // Good for an hour, by the clock it was issued at.
        provider.fail("no route");
        set(&clock);
        let after = client.acquire_token_for_client(SCOPE).await;
        assert_eq!(after.is_ok(), !forward, "two hours later it has ended");
        provider.fail("no route");
        clock.advance(Duration::from_secs(3599) + second);
        let error = client.acquire_token_for_client(SCOPE).await.unwrap_err();
        assert!(matches!(error, Error::Transport(_)), "{error:?}");
    }
}

/// docs/failures.md F6: the time limit of one caller is nobody else's.
#[tokio::test(start_paused = true)]
async fn a_callers_timeout_does_not_affect_other_callers() {
    let provider = Provider::gated();
    let client = provider
        .builder()
        .retry(RetryPolicy::default())
        .build()
        .unwrap();
    let mut patient = Box::pin(client.acquire_token_for_client(SCOPE));
    for _ in 0..3 {
        let second = Duration::from_secs(1);
        let hasty = tokio::time::timeout(second, client.acquire_token_for_client(SCOPE));
        assert!(hasty.await.is_err());
    }
    provider.release();
    let token = (&mut patient).await.unwrap();
    assert_eq!((token.secret(), provider.requests()), ("token-1", 1));
}

/// docs/failures.md F2.
#[tokio::test]
async fn no_error_is_for_ever() {
    let clock = ManualClock::new();
    let provider = Provider::open();
    for status in [400, 401, 403, 404, 500] {
        provider.answer(status, "no");
    }
    let client = provider.client_at(&clock);
    for _ in 0..5 {
        client.acquire_token_for_client(SCOPE).await.unwrap_err();
        clock.advance(Duration::from_secs(61));
    }
    client.acquire_token_for_client(SCOPE).await.unwrap();
    assert_eq!(provider.requests(), 6);
}

/// docs/failures.md M10: whatever hangs, the caller is told within 30 seconds (of tokio's paused time).
#[tokio::test(start_paused = true)]
async fn a_provider_that_never_answers_is_given_up() {
    let provider = Provider::gated();
    let client = provider
        .builder()
        .retry(RetryPolicy::default())
        .build()
        .unwrap();
    let started = tokio::time::Instant::now();
    let id = "a1a2a3a4-b1b2-c1c2-d1d2-e1e2e3e4e5e6";
    let request = TokenRequest::new(SCOPE).correlation_id(id);
    let error = client.acquire_token_for_client(request).await.unwrap_err();
    assert_eq!(started.elapsed().as_secs(), 30);
    assert_eq!(error.correlation_id(), Some(id));
    assert!(matches!(error, Error::Transport(_)), "{error:?}");
    assert!(error.to_string().contains("(2 attempts)"), "{error}");
    assert_eq!(provider.requests(), 2, "of 15 s, and what was left");
}

/// A raw server, since a polite one does not stop in the middle of an answer.
#[tokio::test]
async fn a_rejection_with_an_incomplete_body_is_a_rejection() {
    let head = "HTTP/1.1 429 Too Many Requests\r\nretry-after: 60\r\n";
    for (name, answer) in [
        (
            "broken off",
            format!("{head}content-length: 100\r\n\r\n{{\"error\""),
        ),
        (
            "3 MB",
            format!(
                "{head}content-length: 3000000\r\n\r\n{}",
                "x".repeat(3_000_000)
            ),
        ),
    ] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            let _ = socket.read(&mut request).await.unwrap();
            // The client hangs up once it has read enough.
            let _ = socket.write_all(answer.as_bytes()).await;
        });
        let client = ConfidentialClient::builder(CLIENT_ID)
            .authority(Authority::entra(Cloud::Custom(base), TENANT))
            .client_secret(SECRET)
            .build()
            .unwrap();
        let error = client.acquire_token_for_client(SCOPE).await.unwrap_err();
        assert!(matches!(error, Error::Throttled(_)), "{name}: {error:?}");
        assert_eq!(error.retry_after(), Some(Duration::from_secs(60)), "{name}");
    }
}
