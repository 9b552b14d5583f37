//! Observers and spans of token requests.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use confidential_client::metrics::{Acquisition, Outcome};
use confidential_client::testing::ManualClock;
use confidential_client::{
    ConfidentialClient, ConfidentialClientBuilder, ErrorKind, RetryPolicy, TokenRequest,
};

use crate::support::log_capture::Log;
use crate::support::{Provider, SCOPE, SECRET, let_others_run, scope};

fn observed(
    builder: ConfidentialClientBuilder,
) -> (ConfidentialClient, Arc<Mutex<Vec<Acquisition>>>) {
    let seen = Arc::<Mutex<Vec<Acquisition>>>::default();
    let list = Arc::clone(&seen);
    let builder = builder.observer(move |acquisition| list.lock().unwrap().push(acquisition));
    (builder.build().unwrap(), seen)
}

#[tokio::test(start_paused = true)]
async fn each_token_request_is_reported_once_with_the_outcome() {
    let provider = Provider::open();
    let (client, seen) = observed(provider.builder().retry(RetryPolicy::default()));
    let refused = r#"{"error":"invalid_client","error_codes":[7000215]}"#;
    for (name, answers, expected) in [
        ("a token", &[][..], (Outcome::Issued, 1, None, None)),
        ("a repeat", &[(0, "")], (Outcome::Issued, 2, None, None)),
        (
            "no answer",
            &[(0, ""); 3],
            (Outcome::Failed(ErrorKind::Transport), 3, None, None),
        ),
        (
            "a refusal",
            &[(401, refused)],
            (
                Outcome::Failed(ErrorKind::Server),
                1,
                Some(401),
                Some(7_000_215),
            ),
        ),
        (
            "told to wait",
            &[(429, "")],
            (Outcome::Failed(ErrorKind::Throttled), 1, Some(429), None),
        ),
        (
            "unreadable",
            &[(200, "<html>")],
            (
                Outcome::Failed(ErrorKind::InvalidResponse),
                1,
                Some(200),
                None,
            ),
        ),
    ] {
        for (status, body) in answers {
            match status {
                0 => provider.fail("no route"),
                _ => provider.answer(*status, body),
            }
        }
        let _ = client.acquire_token_for_client(scope(name.len())).await;
        // From memory, or the memory of the failure.
        let _ = client.acquire_token_for_client(scope(name.len())).await;
        let told = std::mem::take(&mut *seen.lock().unwrap());
        let [told] = &told[..] else {
            panic!("{name}: {told:?}");
        };
        let Acquisition {
            outcome,
            attempts,
            status,
            aadsts,
            ..
        } = told.clone();
        assert_eq!((outcome, attempts, status, aadsts), expected, "{name}");
        assert!(!told.is_refresh, "{name}");
        client.cache().clear();
    }
}

#[tokio::test]
async fn an_observer_receives_no_tenant_unless_the_program_asks() {
    let provider = Provider::open();
    let request = TokenRequest::new("https://vault.azure.net/.default").tenant("fabrikam.com");
    for (is_asked, expected) in [
        (false, (None, None)),
        (
            true,
            (Some("fabrikam.com"), Some("https://vault.azure.net")),
        ),
    ] {
        let builder = match is_asked {
            true => provider.builder().observe_tenants(),
            false => provider.builder(),
        };
        let (client, seen) = observed(builder);
        client.acquire_token_for_client(&request).await.unwrap();
        let seen = seen.lock().unwrap();
        let named = (seen[0].tenant.as_deref(), seen[0].resource.as_deref());
        assert_eq!(named, expected);
    }
}

#[tokio::test]
async fn a_refresh_is_reported_with_the_duration() {
    let (clock, provider) = (ManualClock::new(), Provider::open());
    let (client, seen) = observed(provider.builder().clock(clock.clone()));
    client.acquire_token_for_client(SCOPE).await.unwrap();
    clock.advance(Duration::from_secs(3400));
    provider.hold();
    client.acquire_token_for_client(SCOPE).await.unwrap();
    let_others_run().await;
    clock.advance(Duration::from_secs(3));
    provider.release();
    let_others_run().await;
    let told = seen.lock().unwrap().clone();
    assert_eq!(
        told.iter().map(|it| it.is_refresh).collect::<Vec<_>>(),
        [false, true]
    );
    assert_eq!(told[1].duration, Duration::from_secs(3));
}

#[tokio::test]
async fn an_observer_that_panics_costs_no_token() {
    let provider = Provider::open();
    let client = provider
        .builder()
        .observer(|_| panic!("a bug of the caller's"))
        .build()
        .unwrap();
    client.acquire_token_for_client(SCOPE).await.unwrap();
}

/// Named as OpenTelemetry names them, where it does; with nothing secret, and no tenant or scope.
#[tokio::test]
async fn a_token_request_is_a_span() {
    let log = Log::start();
    let provider = Provider::open();
    let client = provider.client();
    client.acquire_token_for_client(SCOPE).await.unwrap();
    provider.answer(
        400,
        r#"{"error":"unauthorized_client","error_codes":[700016]}"#,
    );
    client.acquire_token_for_client(scope(1)).await.unwrap_err();
    let text = log.text();
    let closed: Vec<&str> = text
        .lines()
        .filter(|line| line.contains(" close "))
        .collect();
    let [issued, refused] = &closed[..] else {
        panic!("{text}");
    };
    for part in [
        "acquire_token{",
        "tenant=\"contoso.onmicrosoft.com\"",
        "resource=\"https://graph.microsoft.com\"",
        "refresh=false",
        "outcome=\"issued\"",
        "attempts=1",
        "source=\"identity_provider\"",
        "duration_ms=",
        "correlation_id=",
    ] {
        assert!(issued.contains(part), "{part}: {issued}");
    }
    assert!(!issued.contains("error.type"), "{issued}");
    for part in [
        "error.type=\"server\"",
        "http.response.status_code=400",
        "aadsts=700016",
    ] {
        assert!(refused.contains(part), "{part}: {refused}");
    }
    for secret in [SECRET, "/.default", "token-1"] {
        assert!(!issued.contains(secret), "{issued}");
    }
}
