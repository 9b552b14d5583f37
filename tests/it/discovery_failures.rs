//! Discovery that fails, hangs or returns a wrong document.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use confidential_client::credential::AssertionContext;
use confidential_client::testing::ManualClock;
use confidential_client::{
    Authority, Cloud, ConfidentialClient, ConfidentialClientBuilder, Error, RetryPolicy, Secret,
};
use http::{Method, Request, Response};
use serde_json::json;
use tokio::runtime::Builder;
use tokio::task::JoinSet;

use crate::support::{CLIENT_ID, Provider, SCOPE, SECRET, TENANT, scope, success};

const ISSUER: &str = "https://id.example.org";
const A_DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn custom() -> Authority {
    Authority::entra(Cloud::Custom("login.example.org".into()), TENANT)
}

fn configuration(endpoint: &str) -> Response<Bytes> {
    let document = json!({ "issuer": ISSUER, "token_endpoint": endpoint });
    Response::new(document.to_string().into())
}

/// A client whose token endpoint works, and whose `n`th look-up gets `answer(n)`; none for silence.
fn client(
    authority: Authority,
    answer: impl Fn(usize) -> Option<Response<Bytes>> + Send + Sync + 'static,
) -> (ConfidentialClientBuilder, Arc<AtomicUsize>) {
    let looked_up = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&looked_up);
    let builder = ConfidentialClient::builder(CLIENT_ID)
        .authority(authority)
        .client_secret(SECRET)
        .transport(move |request: Request<Bytes>| {
            let answer = match *request.method() {
                Method::GET => answer(count.fetch_add(1, Ordering::SeqCst) + 1),
                _ => Some(success("token", 3599)),
            };
            async move {
                match answer {
                    Some(answer) => Ok(answer),
                    None => std::future::pending().await,
                }
            }
        });
    (builder, looked_up)
}

fn short() -> RetryPolicy {
    RetryPolicy::default().deadline(Duration::from_secs(8))
}

/// docs/failures.md M17.
#[tokio::test(start_paused = true)]
async fn a_short_deadline_leaves_time_after_a_hanging_discovery() {
    let (builder, _) = client(custom(), |_| None);
    let in_a_cut_off_cloud = builder.retry(short()).build().unwrap();
    in_a_cut_off_cloud
        .acquire_token_for_client(SCOPE)
        .await
        .unwrap();

    let clock = ManualClock::new();
    let once = |number| (number == 1).then(|| configuration("https://t.example/t"));
    let (builder, _) = client(Authority::oidc(ISSUER), once);
    let builder = builder.retry(short()).clock(clock.clone());
    let with_an_old_document = builder.build().unwrap();
    with_an_old_document
        .acquire_token_for_client("a")
        .await
        .unwrap();
    clock.advance(A_DAY);
    with_an_old_document
        .acquire_token_for_client("a")
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_short_deadline_leaves_time_for_the_last_good_credential() {
    let clock = ManualClock::new();
    let asked = AtomicUsize::new(0);
    let client = ConfidentialClient::builder(CLIENT_ID)
        .tenant(TENANT)
        .client_secret_source(move || {
            let is_first = asked.fetch_add(1, Ordering::SeqCst) == 0;
            async move {
                match is_first {
                    true => Ok(Secret::from(SECRET)),
                    false => std::future::pending().await,
                }
            }
        })
        .retry(short())
        .clock(clock.clone())
        .transport(Provider::open().transport())
        .build()
        .unwrap();
    client.acquire_token_for_client(SCOPE).await.unwrap();
    clock.advance(A_DAY);
    client.acquire_token_for_client(SCOPE).await.unwrap();
}

/// While there is an old answer, no caller waits long for another.
#[tokio::test(start_paused = true)]
async fn an_expired_document_is_used_when_discovery_fails() {
    let clock = ManualClock::new();
    let once = |number| (number == 1).then(|| configuration("https://t.example/t"));
    let (builder, looked_up) = client(Authority::oidc(ISSUER), once);
    let client = builder.clock(clock.clone()).build().unwrap();
    client.acquire_token_for_client(scope(0)).await.unwrap();
    clock.advance(A_DAY);
    let started = tokio::time::Instant::now();
    for number in 1..10 {
        client
            .acquire_token_for_client(scope(number))
            .await
            .unwrap();
    }
    assert_eq!(started.elapsed().as_secs(), 2);
    assert_eq!(looked_up.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_rejected_host_stays_rejected_while_discovery_fails() {
    let clock = ManualClock::new();
    let provider = Provider::open();
    provider.answer(400, r#"{"error":"invalid_instance"}"#);
    let client = ConfidentialClient::builder(CLIENT_ID)
        .authority(custom())
        .client_secret(SECRET)
        .retry(RetryPolicy::none())
        .clock(clock.clone())
        .transport(provider.transport())
        .build()
        .unwrap();
    client.acquire_token_for_client(SCOPE).await.unwrap_err();
    for (status, body) in [(503, ""), (302, ""), (200, "<html>"), (200, "{}")] {
        clock.advance(Duration::from_secs(5 * 60));
        provider.answer(status, body);
        let error = client.acquire_token_for_client(SCOPE).await.unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
    }
    let sent = (0..provider.requests()).filter(|request| provider.method(*request) == Method::POST);
    assert_eq!((provider.requests(), sent.count()), (5, 0));
}

/// The provider moved its token endpoint; what was kept for a day is doubted, and not storms away.
#[tokio::test]
async fn a_missing_endpoint_causes_another_discovery() {
    let moved = Arc::new(AtomicBool::new(false));
    let (has_moved, gone) = (Arc::clone(&moved), Arc::new(AtomicUsize::new(0)));
    let (clock, looked_up) = (ManualClock::new(), Arc::new(AtomicUsize::new(0)));
    let (at_old, asked) = (Arc::clone(&gone), Arc::clone(&looked_up));
    let client = ConfidentialClient::builder(CLIENT_ID)
        .authority(Authority::oidc(ISSUER))
        .client_secret(SECRET)
        .retry(RetryPolicy::none())
        .clock(clock.clone())
        .transport(move |request: Request<Bytes>| {
            let moved = has_moved.load(Ordering::SeqCst);
            let now = if moved {
                "https://new.example/t"
            } else {
                "https://old.example/t"
            };
            let answer = match request.uri() == now {
                _ if *request.method() == Method::GET => {
                    asked.fetch_add(1, Ordering::SeqCst);
                    configuration(now)
                }
                true => success("token", 3599),
                false => {
                    at_old.fetch_add(1, Ordering::SeqCst);
                    Response::builder().status(404).body(Bytes::new()).unwrap()
                }
            };
            std::future::ready(Ok(answer))
        })
        .build()
        .unwrap();
    client.acquire_token_for_client(scope(0)).await.unwrap();
    moved.store(true, Ordering::SeqCst);
    // Doubted within a minute, it could be a moment's.
    client.acquire_token_for_client(scope(1)).await.unwrap_err();
    client.acquire_token_for_client(scope(2)).await.unwrap_err();
    assert_eq!(looked_up.load(Ordering::SeqCst), 1);
    clock.advance(Duration::from_secs(60));
    client.acquire_token_for_client(scope(1)).await.unwrap_err();
    client.acquire_token_for_client(scope(2)).await.unwrap();
    assert_eq!(
        (
            looked_up.load(Ordering::SeqCst),
            gone.load(Ordering::SeqCst)
        ),
        (2, 3)
    );
}

#[tokio::test]
async fn clear_removes_discovered_documents() {
    let bad = json!({
        "issuer": ISSUER,
        "token_endpoint": "https://t.example/t",
        "token_endpoint_auth_methods_supported": ["private_key_jwt"],
    });
    let (builder, _) = client(Authority::oidc(ISSUER), move |number| {
        Some(match number {
            1 => Response::new(bad.to_string().into()),
            _ => configuration("https://t.example/t"),
        })
    });
    let client = builder.build().unwrap();
    let error = client.acquire_token_for_client("a").await.unwrap_err();
    assert!(
        error.to_string().contains("accepts no client secret"),
        "{error}"
    );
    client.cache().clear();
    client.acquire_token_for_client("a").await.unwrap();
}

#[tokio::test]
async fn a_wrong_issuer_causes_one_discovery_for_all_keys() {
    let clock = ManualClock::new();
    let none = |_| Some(Response::builder().status(404).body(Bytes::new()).unwrap());
    let (builder, looked_up) = client(Authority::oidc(ISSUER), none);
    let client = builder.clock(clock.clone()).build().unwrap();
    for number in 0..100 {
        client
            .acquire_token_for_client(scope(number))
            .await
            .unwrap_err();
    }
    assert_eq!(looked_up.load(Ordering::SeqCst), 1);
    clock.advance(Duration::from_secs(5));
    client
        .acquire_token_for_client(scope(100))
        .await
        .unwrap_err();
    assert_eq!(looked_up.load(Ordering::SeqCst), 2);
}

/// Whoever was at it is on a runtime that stands still: one of those who wait takes over.
#[test]
fn a_stalled_discovery_is_taken_over_once() {
    let first_is_silent = |number| (number > 1).then(|| configuration("https://t.example/t"));
    let (builder, looked_up) = client(Authority::oidc(ISSUER), first_is_silent);
    let client = builder.build().unwrap();
    let runtime = || {
        Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap()
    };
    let (stalled, running) = (runtime(), runtime());
    stalled.block_on(async {
        let call = client.acquire_token_for_client("leader");
        tokio::time::timeout(Duration::from_millis(1), call)
            .await
            .unwrap_err();
    });
    let served = running.block_on(async {
        let mut all = JoinSet::new();
        for number in 0..100 {
            let client = client.clone();
            all.spawn(async move { client.acquire_token_for_client(scope(number)).await });
        }
        all.join_all()
            .await
            .iter()
            .filter(|token| token.is_ok())
            .count()
    });
    assert_eq!((served, looked_up.load(Ordering::SeqCst)), (100, 2));
}

/// A task that is dropped in the middle of it leaves its turn to the next.
#[tokio::test(start_paused = true)]
async fn a_hanging_discovery_blocks_no_caller() {
    let first_is_silent = |number| (number > 1).then(|| configuration("https://t.example/t"));
    let (builder, looked_up) = client(Authority::oidc(ISSUER), first_is_silent);
    let client = builder
        .attempt_timeout(Duration::from_secs(3))
        .build()
        .unwrap();
    let started = tokio::time::Instant::now();
    let mut all = JoinSet::new();
    for number in 0..10 {
        let client = client.clone();
        all.spawn(async move { client.acquire_token_for_client(scope(number)).await });
    }
    assert!(all.join_all().await.iter().all(Result::is_ok));
    assert!(
        started.elapsed() < Duration::from_secs(4),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(looked_up.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn metadata_that_is_throttled_or_elsewhere_says_so() {
    for (answer, throttled, text) in [
        (
            Response::builder().status(429).header("retry-after", 60),
            true,
            "the response is 429 ",
        ),
        (
            Response::builder().status(503).header("retry-after", 60),
            true,
            "the response is 503 ",
        ),
        (
            Response::builder().status(500),
            false,
            "the response is 500 ",
        ),
        (
            Response::builder()
                .status(302)
                .header("location", "//evil.example/x?y=hunter2"),
            false,
            "a redirect to 'evil.example'",
        ),
    ] {
        let provider = Provider::open();
        provider.answer_with(answer.body(Bytes::new()).unwrap());
        let client = ConfidentialClient::builder(CLIENT_ID)
            .authority(Authority::oidc(ISSUER))
            .client_secret(SECRET)
            .retry(RetryPolicy::none())
            .transport(provider.transport())
            .build()
            .unwrap();
        let error = client.acquire_token_for_client("a").await.unwrap_err();
        assert_eq!(matches!(error, Error::Throttled(_)), throttled, "{error:?}");
        assert!(error.to_string().contains(text), "{error}");
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
}

/// The deadline falls into the second attempt's proof, and the first one's error says more.
#[tokio::test(start_paused = true)]
async fn a_deadline_during_authentication_keeps_the_cause() {
    let client = ConfidentialClient::builder(CLIENT_ID)
        .tenant(TENANT)
        .client_assertion(|_: AssertionContext| async {
            tokio::time::sleep(Duration::from_secs(9)).await;
            Ok("a.b.c".to_owned())
        })
        .transport(|_: Request<Bytes>| async {
            std::future::pending::<()>().await;
            Ok(Response::new(Bytes::new()))
        })
        .build()
        .unwrap();
    let error = client.acquire_token_for_client(SCOPE).await.unwrap_err();
    assert!(matches!(error, Error::Transport(_)), "{error}");
    assert!(
        error
            .to_string()
            .contains("no response from the token endpoint"),
        "{error}"
    );
}
