//! Many callers share one token request, shown by counting requests.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use confidential_client::testing::{Application, LocalAuthority, ManualClock};
use confidential_client::{AccessToken, ConfidentialClient, Error, TokenRequest, TokenSource};
use http::Request;
use tokio::sync::Barrier;

use crate::support::{
    CLIENT_ID, Provider, SCOPE, SECRET, TENANT, client_of, client_that_hangs, let_others_run,
    poll_once, success,
};

const CALLERS: usize = 1_000;

/// Callers who have all found nothing in the cache, and wait.
fn waiting(
    client: &ConfidentialClient,
) -> Vec<Pin<Box<impl Future<Output = Result<AccessToken, Error>>>>> {
    let caller = |_| Box::pin(client.acquire_token_for_client(SCOPE));
    let mut callers: Vec<_> = (0..CALLERS).map(caller).collect();
    for caller in &mut callers {
        assert!(poll_once(caller).is_pending());
    }
    callers
}

/// docs/failures.md M1.
#[tokio::test]
async fn a_thousand_callers_and_one_request() {
    let provider = Provider::gated();
    let client = provider.client();
    let callers = waiting(&client);
    provider.release();
    for caller in callers {
        let token = caller.await.unwrap();
        assert_eq!(token.secret(), "token-1");
        assert_eq!(token.source(), TokenSource::IdentityProvider);
    }
    assert_eq!(provider.requests(), 1);
}

/// docs/failures.md F8: they all find that the token has just ended.
#[tokio::test]
async fn a_thousand_callers_at_the_end_of_a_token_and_one_request() {
    let clock = ManualClock::new();
    let provider = Provider::open();
    let client = provider.client_at(&clock);
    client.acquire_token_for_client(SCOPE).await.unwrap();
    clock.advance(Duration::from_secs(3589));
    provider.hold();
    let callers = waiting(&client);
    let_others_run().await;
    provider.release();
    for caller in callers {
        assert_eq!(caller.await.unwrap().secret(), "token-2");
    }
    assert_eq!(provider.requests(), 2);
}

#[tokio::test]
async fn a_thousand_callers_share_one_refusal() {
    let provider = Provider::gated();
    provider.answer(401, r#"{"error":"invalid_client","error_codes":[7000215]}"#);
    let client = provider.client();
    let callers = waiting(&client);
    provider.release();
    let mut ids = Vec::new();
    for caller in callers {
        let error = caller.await.unwrap_err();
        assert!(error.is_credential_rejected(), "{error:?}");
        ids.push(error.correlation_id().unwrap().to_owned());
    }
    ids.dedup();
    assert_eq!(ids.len(), 1, "one request's error, shared");
    assert_eq!(provider.requests(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_tasks_over_a_real_socket_and_one_request() {
    let local = LocalAuthority::start().await.unwrap();
    local.register(TENANT, Application::new(CLIENT_ID).secret(SECRET));
    let client = client_of(&local).client_secret(SECRET).build().unwrap();
    let barrier = Arc::new(Barrier::new(CALLERS));
    let tasks: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (client, barrier) = (client.clone(), Arc::clone(&barrier));
            tokio::spawn(async move {
                barrier.wait().await;
                client.acquire_token_for_client(SCOPE).await
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(local.token_requests().len(), 1);
}

/// docs/failures.md F6: the first caller is polled further and further before it is dropped, until it
/// gets its token.
#[tokio::test]
async fn the_first_caller_may_be_dropped_at_any_of_its_awaits() {
    for polls in 0.. {
        let provider = Provider::gated();
        let client = provider.client();
        let mut first = Box::pin(client.acquire_token_for_client(SCOPE));
        let mut others: Vec<_> = (1..CALLERS)
            .map(|_| Box::pin(client.acquire_token_for_client(SCOPE)))
            .collect();
        let mut served = false;
        for poll in 1..=polls {
            served = poll_once(&mut first).is_ready();
            match poll {
                1 => others.iter_mut().for_each(|caller| {
                    assert!(poll_once(caller).is_pending());
                }),
                2 => provider.release(),
                _ => {}
            }
            let_others_run().await;
        }
        drop(first);
        provider.release();
        for caller in others {
            assert_eq!(caller.await.unwrap().secret(), "token-1");
        }
        assert_eq!(provider.requests(), 1, "dropped after {polls} polls");
        if served {
            assert!(polls > 2, "it waited before it was served");
            return;
        }
    }
}

#[tokio::test]
async fn a_slow_scope_does_not_delay_a_hit_on_another() {
    let provider = Provider::gated();
    let slow = provider.transport();
    let slow = Arc::new(slow);
    let client = ConfidentialClient::builder(CLIENT_ID)
        .tenant(TENANT)
        .client_secret(SECRET)
        .transport(move |request: Request<Bytes>| {
            let slow = Arc::clone(&slow);
            async move {
                if String::from_utf8_lossy(request.body()).contains("slow") {
                    return confidential_client::transport::Transport::send(&*slow, request).await;
                }
                Ok(success("fast", 3599))
            }
        })
        .build()
        .unwrap();
    client
        .acquire_token_for_client("api://fast/.default")
        .await
        .unwrap();

    let mut slow = Box::pin(client.acquire_token_for_client("api://slow/.default"));
    assert!(poll_once(&mut slow).is_pending());
    let_others_run().await;
    assert_eq!(provider.requests(), 1, "the slow request is under way");

    let mut hit = Box::pin(client.acquire_token_for_client("api://fast/.default"));
    assert!(poll_once(&mut hit).is_ready(), "a hit awaits nothing");
    let mut miss = Box::pin(client.acquire_token_for_client("api://other/.default"));
    assert!(poll_once(&mut miss).is_pending());
    assert_eq!(
        miss.await.unwrap().secret(),
        "fast",
        "nor does a miss wait for it"
    );

    provider.release();
    assert_eq!(slow.await.unwrap().secret(), "token-1");
}

/// docs/failures.md M5 and M8.
#[tokio::test]
async fn a_due_token_is_served_at_once_and_renewed_by_one_request() {
    let clock = ManualClock::new();
    let provider = Provider::gated();
    let client = provider.client_at(&clock);
    let mut first = Box::pin(client.acquire_token_for_client(SCOPE));
    assert!(poll_once(&mut first).is_pending());
    provider.release();
    first.await.unwrap();

    clock.advance(Duration::from_secs(3400));
    for _ in 0..CALLERS {
        let mut caller = Box::pin(client.acquire_token_for_client(SCOPE));
        let std::task::Poll::Ready(token) = poll_once(&mut caller) else {
            panic!("a valid token is not waited for");
        };
        let token = token.unwrap();
        assert_eq!(token.secret(), "token-1");
        assert_eq!(token.source(), TokenSource::Cache);
    }
    let_others_run().await;
    assert_eq!(provider.requests(), 2);
    let token = client.acquire_token_for_client(SCOPE).await.unwrap();
    assert_eq!(
        (token.secret(), token.source()),
        ("token-2", TokenSource::Cache)
    );
}

/// docs/failures.md F10.
#[tokio::test]
async fn dropping_the_last_handle_ends_the_flight() {
    let (client, ended) = client_that_hangs();
    let provider = client.token_provider(SCOPE).unwrap();
    let mut caller = Box::pin(client.acquire_token_for_client(SCOPE));
    assert!(poll_once(&mut caller).is_pending());
    let_others_run().await;
    drop(caller);
    drop(client);
    let_others_run().await;
    assert_eq!(ended.load(Ordering::SeqCst), 0, "the provider is a handle");
    drop(provider);
    let_others_run().await;
    assert_eq!(ended.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_panicking_transport_is_an_error_for_everyone_and_not_tried_in_a_circle() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let clock = ManualClock::new();
    let client = ConfidentialClient::builder(CLIENT_ID)
        .tenant(TENANT)
        .client_secret(SECRET)
        .clock(clock.clone())
        .transport(move |_: Request<Bytes>| {
            let call = counted.fetch_add(1, Ordering::SeqCst);
            async move {
                assert!(call == 1, "a transport with a bug");
                Ok(success("token", 3599))
            }
        })
        .build()
        .unwrap();
    for _ in 0..10 {
        let error = client.acquire_token_for_client(SCOPE).await.unwrap_err();
        assert!(matches!(error, Error::Transport(_)), "{error:?}");
        assert!(error.to_string().contains("panicked"), "{error}");
    }
    assert_eq!(calls.load(Ordering::SeqCst), 1);

    clock.advance(Duration::from_secs(2));
    client.acquire_token_for_client(SCOPE).await.unwrap();
    clock.advance(Duration::from_secs(3400));
    for _ in 0..10 {
        client.acquire_token_for_client(SCOPE).await.unwrap();
        let_others_run().await;
    }
    assert_eq!(calls.load(Ordering::SeqCst), 3, "renewal panicked once");
    clock.advance(Duration::from_secs(2));
    client.acquire_token_for_client(SCOPE).await.unwrap();
    let_others_run().await;
    assert_eq!(calls.load(Ordering::SeqCst), 4, "and is tried again");
}

#[tokio::test]
async fn tenants_fetch_side_by_side() {
    let provider = Provider::gated();
    let client = provider.client();
    let mut callers: Vec<_> = (0..100)
        .map(|number| {
            let request = TokenRequest::new(SCOPE).tenant(format!("tenant-{number}.example"));
            Box::pin(client.acquire_token_for_client(request))
        })
        .collect();
    for caller in &mut callers {
        assert!(poll_once(caller).is_pending());
    }
    let_others_run().await;
    assert_eq!(provider.requests(), 100, "all under way before any answer");
    provider.release();
    for caller in callers {
        caller.await.unwrap();
    }
}
