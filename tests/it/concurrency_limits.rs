//! The limit on concurrent token requests, the circuit breaker, and the counters.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use confidential_client::testing::ManualClock;
use confidential_client::{
    CacheOptions, Certificate, ConfidentialClient, Error, TokenRequest, TokenSource,
};
use http::Request;
use tokio::runtime::Builder;

use crate::support::{
    CLIENT_ID, PEM, Provider, SCOPE, SECRET, TENANT, let_others_run, poll_once, success,
};

fn at(tenant: usize) -> TokenRequest {
    TokenRequest::new(SCOPE).tenant(format!("tenant-{tenant}.example"))
}

fn limited(provider: &Provider, at_once: usize) -> ConfidentialClient {
    let options = CacheOptions::default().max_concurrent_requests(at_once);
    provider.builder().cache(options).build().unwrap()
}

#[tokio::test]
async fn no_more_requests_are_under_way_than_allowed() {
    let (under_way, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counted, peak) = (Arc::clone(&under_way), Arc::clone(&most));
    let options = CacheOptions::default().max_concurrent_requests(3);
    let client = ConfidentialClient::builder(CLIENT_ID)
        .tenant(TENANT)
        .client_secret(SECRET)
        .cache(options)
        .transport(move |_: Request<Bytes>| {
            let (counted, peak) = (Arc::clone(&counted), Arc::clone(&peak));
            async move {
                peak.fetch_max(counted.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                let_others_run().await;
                counted.fetch_sub(1, Ordering::SeqCst);
                Ok(success("token", 3599))
            }
        })
        .build()
        .unwrap();
    let tasks: Vec<_> = (0..200)
        .map(|caller| {
            let client = client.clone();
            // Ten callers for each tenant.
            tokio::spawn(async move { client.acquire_token_for_client(at(caller % 20)).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(most.load(Ordering::SeqCst), 3);
    assert_eq!(client.cache().stats().requests, 20);
}

#[tokio::test]
async fn joined_and_dropped_calls_need_no_permit() {
    let provider = Provider::gated();
    let client = limited(&provider, 1);
    let caller = |tenant| Box::pin(client.acquire_token_for_client(at(tenant)));
    let mut callers = [caller(1), caller(2), caller(1), caller(3)];
    for caller in &mut callers {
        assert!(poll_once(caller).is_pending());
    }
    let [first, dropped, joined, last] = callers;
    let_others_run().await;
    assert_eq!(provider.requests(), 1);
    drop(dropped);
    provider.release();
    assert_eq!(first.await.unwrap().secret(), "token-1");
    assert_eq!(joined.await.unwrap().secret(), "token-1");
    assert_eq!(last.await.unwrap().secret(), "token-2");
}

#[tokio::test]
async fn a_failed_request_returns_the_permit() {
    let provider = Provider::open();
    let client = limited(&provider, 1);
    for tenant in 0..2 {
        provider.answer(400, r#"{"error":"invalid_scope"}"#);
        client
            .acquire_token_for_client(at(tenant))
            .await
            .unwrap_err();
    }
    client.acquire_token_for_client(at(2)).await.unwrap();
}

#[tokio::test]
async fn a_refresh_without_a_permit_is_postponed() {
    let clock = ManualClock::new();
    let provider = Provider::open();
    let options = CacheOptions::default().max_concurrent_requests(1);
    let builder = provider.builder().cache(options).clock(clock.clone());
    let client = builder.build().unwrap();
    client.acquire_token_for_client(at(1)).await.unwrap();
    clock.advance(Duration::from_secs(3400));
    provider.hold();
    let mut other = Box::pin(client.acquire_token_for_client(at(2)));
    assert!(poll_once(&mut other).is_pending());
    for _ in 0..10 {
        let token = client.acquire_token_for_client(at(1)).await.unwrap();
        assert_eq!(token.secret(), "token-1");
        let_others_run().await;
    }
    assert_eq!(provider.requests(), 2);
    provider.release();
    other.await.unwrap();
    client.acquire_token_for_client(at(1)).await.unwrap();
    let_others_run().await;
    assert_eq!(provider.requests(), 3);
}

/// A request on a runtime that nobody drives any more does not keep its place for ever (in tokio's
/// paused time, over an in-memory transport).
#[test]
fn a_permit_on_a_stalled_runtime_is_reclaimed() {
    let provider = Provider::gated();
    let client = limited(&provider, 1);
    let runtime = |paused| {
        let mut builder = Builder::new_current_thread();
        builder.enable_all().start_paused(paused).build().unwrap()
    };
    let (stalled, second) = (runtime(false), runtime(true));
    stalled.block_on(async {
        let mut caller = Box::pin(client.acquire_token_for_client(at(1)));
        assert!(poll_once(&mut caller).is_pending());
        let_others_run().await;
    });
    provider.release();
    second.block_on(async {
        for tenant in 2..5 {
            client.acquire_token_for_client(at(tenant)).await.unwrap();
        }
    });
    stalled.block_on(let_others_run());
    second.block_on(async {
        // The place that came back late was not given twice.
        provider.hold();
        let mut callers =
            [6, 7].map(|tenant| Box::pin(client.acquire_token_for_client(at(tenant))));
        for caller in &mut callers {
            assert!(poll_once(caller).is_pending());
        }
        let before = provider.requests();
        let_others_run().await;
        assert_eq!(provider.requests(), before + 1);
    });
}

#[test]
fn a_limit_of_zero_is_rejected() {
    let options = CacheOptions::default().max_concurrent_requests(0);
    let error = Provider::open().builder().cache(options).build();
    let error = error.unwrap_err().to_string();
    assert!(error.contains("must be at least 1"), "{error}");
}

/// A host that is down is asked by one at a time, whoever comes.
#[tokio::test]
async fn an_open_circuit_sends_only_probes() {
    let clock = ManualClock::new();
    let provider = Provider::open();
    let client = provider.client_at(&clock);
    client.acquire_token_for_client(at(0)).await.unwrap();
    clock.advance(Duration::from_secs(3400));
    for _ in 0..4 {
        provider.answer(503, "");
    }
    for tenant in 1..1_000 {
        let error = client
            .acquire_token_for_client(at(tenant))
            .await
            .unwrap_err();
        assert_eq!(error.status().unwrap(), 503);
        assert!(error.retry_after().unwrap() <= Duration::from_secs(2));
        let token = client.acquire_token_for_client(at(0)).await.unwrap();
        assert_eq!(token.source(), TokenSource::Cache);
        let_others_run().await;
    }
    assert_eq!(provider.requests(), 1 + 3);

    // The probe fails, the next succeeds and opens the way for all.
    clock.advance(Duration::from_secs(2));
    client.acquire_token_for_client(at(1)).await.unwrap_err();
    client.acquire_token_for_client(at(2)).await.unwrap_err();
    assert_eq!(provider.requests(), 1 + 4);
    clock.advance(Duration::from_secs(3));
    for tenant in (0..1_000).rev() {
        client.acquire_token_for_client(at(tenant)).await.unwrap();
    }
    let_others_run().await;
    assert_eq!(provider.requests(), 1 + 4 + 1_000);
}

#[tokio::test]
async fn clearing_the_cache_closes_the_circuit() {
    let provider = Provider::open();
    let client = provider.client();
    for tenant in 0..3 {
        provider.fail("connection refused");
        client
            .acquire_token_for_client(at(tenant))
            .await
            .unwrap_err();
    }
    let error = client.acquire_token_for_client(at(4)).await.unwrap_err();
    assert!(matches!(error, Error::Transport(_)), "{error:?}");
    client.cache().clear();
    client.acquire_token_for_client(at(4)).await.unwrap();
}

/// What says nothing about the host does not close the way to it.
#[tokio::test]
async fn rejections_and_throttling_do_not_open_the_circuit() {
    let provider = Provider::open();
    let client = provider.client();
    for tenant in 0..20 {
        match tenant % 2 {
            0 => provider.answer(429, ""),
            _ => provider.answer(400, r#"{"error":"unauthorized_client"}"#),
        }
        client
            .acquire_token_for_client(at(tenant))
            .await
            .unwrap_err();
    }
    assert_eq!(provider.requests(), 20);
}

#[tokio::test]
async fn everything_but_a_hit_is_counted() {
    let clock = ManualClock::new();
    let provider = Provider::open();
    let options = CacheOptions::default().max_entries(2);
    let builder = provider.builder().cache(options).clock(clock.clone());
    let client = builder.build().unwrap();
    for tenant in [1, 1, 2, 3] {
        client.acquire_token_for_client(at(tenant)).await.unwrap();
    }
    provider.answer(401, r#"{"error":"invalid_client"}"#);
    provider.answer(429, "");
    provider.answer(200, "<html>");
    provider.fail("connection refused");
    for tenant in [4, 5, 6, 7, 7] {
        client
            .acquire_token_for_client(at(tenant))
            .await
            .unwrap_err();
    }
    let token = client.acquire_token_for_client(at(8)).await.unwrap();
    clock.advance(Duration::from_secs(3400));
    client.acquire_token_for_client(at(8)).await.unwrap();
    let_others_run().await;
    client.invalidate(&token);
    client.acquire_token_for_client(at(8)).await.unwrap();

    let stats = client.cache().stats();
    assert_eq!(stats.misses, 3 + 5 + 1);
    assert_eq!(stats.requests, 3 + 4 + 1 + 1);
    assert_eq!(stats.requests, provider.requests() as u64);
    assert_eq!(stats.refreshes, 1);
    assert_eq!(stats.evictions, 1 + 4 + 1);
    let errors = [
        stats.config_errors,
        stats.credential_errors,
        stats.transport_errors,
        stats.server_errors,
        stats.throttled_errors,
        stats.invalid_response_errors,
    ];
    assert_eq!(errors, [0, 0, 1, 1, 1, 1]);
}

/// What a panicking transport does for some tenants is no word about the host.
#[tokio::test]
async fn panics_do_not_open_the_circuit() {
    let client = ConfidentialClient::builder(CLIENT_ID)
        .tenant(TENANT)
        .client_secret(SECRET)
        .transport(|request: Request<Bytes>| async move {
            assert!(
                !request.uri().path().contains("bad"),
                "a transport with a bug"
            );
            Ok(success("token", 3599))
        })
        .build()
        .unwrap();
    for tenant in ["bad-1.example", "bad-2.example", "bad-3.example"] {
        let request = TokenRequest::new(SCOPE).tenant(tenant);
        client.acquire_token_for_client(request).await.unwrap_err();
    }
    let good = client.acquire_token_for_client(at(1)).await;
    assert!(good.is_ok(), "{good:?}");
}

/// Where no thread is free to sign, the host was not asked.
#[test]
fn a_hanging_signer_does_not_open_the_circuit() {
    let provider = Provider::open();
    let client = ConfidentialClient::builder(CLIENT_ID)
        .tenant(TENANT)
        .certificate(Certificate::from_pem(PEM.as_bytes()).unwrap())
        .transport(provider.transport())
        .build()
        .unwrap();
    let runtime = Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .start_paused(true)
        .build()
        .unwrap();
    let (go, wait) = std::sync::mpsc::channel::<()>();
    runtime.block_on(async {
        let _busy = runtime.spawn_blocking(move || wait.recv());
        for tenant in 0..3 {
            let mut caller = Box::pin(client.acquire_token_for_client(at(tenant)));
            assert!(poll_once(&mut caller).is_pending());
            let_others_run().await;
            tokio::time::advance(Duration::from_secs(30)).await;
            let error = caller.await.unwrap_err();
            assert!(matches!(error, Error::Credential(_)), "{error:?}");
            assert!(error.to_string().contains("blocking thread"), "{error}");
            assert!(error.is_transient());
        }
        assert_eq!(provider.requests(), 0);
        go.send(()).unwrap();
        let token = client.acquire_token_for_client(at(9)).await;
        assert!(token.is_ok(), "{token:?}");
    });
}

#[tokio::test]
async fn a_failure_of_one_tenant_is_not_returned_for_another() {
    let provider = Provider::open();
    let client = provider.client();
    for tenant in 0..3 {
        provider.answer(
            500,
            r#"{"error":"server_error","error_description":"the tenant of Fabrikam is broken"}"#,
        );
        client
            .acquire_token_for_client(at(tenant))
            .await
            .unwrap_err();
    }
    let error = client.acquire_token_for_client(at(9)).await.unwrap_err();
    assert!(!error.to_string().contains("Fabrikam"), "{error}");
    assert_eq!(error.correlation_id(), None, "no request was made");
}

#[tokio::test]
async fn providers_leave_room_for_the_others() {
    let provider = Provider::open();
    let options = CacheOptions::default().max_entries(10);
    let client = provider.builder().cache(options).build().unwrap();
    let bound: Vec<_> = (0..10)
        .map(|t| client.token_provider(at(t)).unwrap())
        .collect();
    for _ in 0..100 {
        for tenant in [20, 21] {
            client.acquire_token_for_client(at(tenant)).await.unwrap();
        }
    }
    drop(bound);
    assert_eq!(
        provider.requests(),
        2,
        "with room for ten beside the providers"
    );
}

/// Who waits for a turn takes what comes before it.
#[tokio::test(start_paused = true)]
async fn a_call_that_waits_for_a_permit_returns_a_token_cached_meanwhile() {
    let client = ConfidentialClient::builder(CLIENT_ID)
        .tenant(TENANT)
        .client_secret(SECRET)
        .cache(CacheOptions::default().max_concurrent_requests(4))
        .transport(|_: Request<Bytes>| async move {
            tokio::time::sleep(Duration::from_secs(5)).await;
            Ok(success("token", 3599))
        })
        .build()
        .unwrap();
    let start = tokio::time::Instant::now();
    let mut tasks = Vec::new();
    for tenant in (0..5).chain(1000..1100).chain([4]) {
        let client = client.clone();
        tasks.push(tokio::spawn(async move {
            client.acquire_token_for_client(at(tenant)).await.unwrap();
            start.elapsed().as_secs()
        }));
        tokio::task::yield_now().await;
    }
    let last = tasks.pop().unwrap().await.unwrap();
    let first = tasks.swap_remove(4).await.unwrap();
    assert_eq!(last, first, "in simulated seconds, for one token");
}
