//! Several clients with one shared cache, as several processes have.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use confidential_client::cache::{EncryptionKey, SharedCacheOptions};
use confidential_client::testing::{LocalSharedCache, ManualClock, StoreFault};
use confidential_client::time::Clock;
use confidential_client::{
    ConfidentialClient, ConfidentialClientBuilder, Error, TokenRequest, TokenSource,
};
use http::Response;
use tokio::task::JoinSet;

use crate::support::{Provider, SCOPE, let_others_run};

const NAME_KEY: &str = "the name key of the tests";

fn options() -> SharedCacheOptions {
    SharedCacheOptions::encrypted(NAME_KEY, [EncryptionKey::from_bytes([1; 32])])
}

fn replica(provider: &Provider, store: &LocalSharedCache) -> ConfidentialClientBuilder {
    provider.builder().shared_cache(store.clone(), options())
}

/// A fleet whose clocks and store a test moves together.
struct Fleet {
    clock: ManualClock,
    provider: Provider,
    store: LocalSharedCache,
}

impl Fleet {
    fn new() -> Self {
        let clock = ManualClock::new();
        Self {
            store: LocalSharedCache::with_clock(clock.clone()),
            provider: Provider::open(),
            clock,
        }
    }

    fn replica(&self) -> ConfidentialClient {
        let builder = replica(&self.provider, &self.store);
        builder.clock(self.clock.clone()).build().unwrap()
    }
}

async fn token(client: &ConfidentialClient) -> (String, TokenSource) {
    let token = client.acquire_token_for_client(SCOPE).await.unwrap();
    (token.secret().to_owned(), token.source())
}

/// docs/failures.md S1.
#[tokio::test]
async fn fifty_replicas_with_twenty_callers_each_make_one_request() {
    let provider = Provider::gated();
    let store = LocalSharedCache::new();
    let mut callers = JoinSet::new();
    for _ in 0..50 {
        let client = replica(&provider, &store).build().unwrap();
        for _ in 0..20 {
            let client = client.clone();
            callers.spawn(async move { token(&client).await.0 });
        }
    }
    while provider.requests() == 0 {
        tokio::task::yield_now().await;
    }
    provider.release();
    for secret in callers.join_all().await {
        assert_eq!(secret, "token-1");
    }
    assert_eq!(provider.requests(), 1);
}

#[tokio::test]
async fn fifty_replicas_share_one_failure() {
    let provider = Provider::gated();
    provider.answer_with(
        Response::builder()
            .status(503)
            .header("retry-after", "7")
            .body(r#"{"error":"temporarily_unavailable"}"#.into())
            .unwrap(),
    );
    let store = LocalSharedCache::new();
    let mut callers = JoinSet::new();
    for _ in 0..50 {
        let client = replica(&provider, &store).build().unwrap();
        callers.spawn(async move { client.acquire_token_for_client(SCOPE).await.unwrap_err() });
    }
    while provider.requests() == 0 {
        tokio::task::yield_now().await;
    }
    provider.release();
    for error in callers.join_all().await {
        assert!(matches!(error, Error::Throttled(_)), "{error:?}");
        let wait = error.retry_after().unwrap();
        assert!(wait > Duration::from_secs(4) && wait <= Duration::from_secs(7));
    }
    assert_eq!(provider.requests(), 1);
}

#[tokio::test]
async fn a_hit_in_memory_does_not_read_the_store() {
    let fleet = Fleet::new();
    let client = fleet.replica();
    assert_eq!(
        token(&client).await,
        ("token-1".to_owned(), TokenSource::IdentityProvider)
    );
    let_others_run().await;
    assert_eq!(fleet.store.calls(), ["get", "lock", "put", "unlock"]);
    assert_eq!(token(&client).await.1, TokenSource::Cache);
    assert_eq!(fleet.store.calls().len(), 4);
    let second = fleet.replica();
    assert_eq!(
        token(&second).await,
        ("token-1".to_owned(), TokenSource::SharedCache)
    );
}

#[tokio::test]
async fn a_token_that_another_replica_refreshed_is_found_when_a_refresh_is_due() {
    let fleet = Fleet::new();
    let (first, second) = (fleet.replica(), fleet.replica());
    token(&first).await;
    let_others_run().await;
    token(&second).await;
    // Due in both, and valid.
    fleet.clock.advance(Duration::from_secs(3400));
    assert_eq!(token(&first).await.0, "token-1");
    let_others_run().await;
    assert_eq!(token(&first).await.0, "token-2");
    assert_eq!(token(&second).await.0, "token-1", "served while it reads");
    let_others_run().await;
    assert_eq!(token(&second).await.0, "token-2");
    assert_eq!(fleet.provider.requests(), 2);
}

/// A process finds its own token in the store, and the system clock moves during the look.
#[tokio::test]
async fn a_due_token_is_refreshed_while_the_clock_moves() {
    struct TickingClock(ManualClock);
    impl Clock for TickingClock {
        fn wall(&self) -> SystemTime {
            self.0.wall()
        }
        fn monotonic(&self) -> Instant {
            self.0.advance(Duration::from_millis(1));
            self.0.monotonic()
        }
    }
    let fleet = Fleet::new();
    let builder = replica(&fleet.provider, &fleet.store);
    let clock = TickingClock(fleet.clock.clone());
    let client = builder.clock(clock).build().unwrap();
    token(&client).await;
    let_others_run().await;
    fleet.clock.advance(Duration::from_secs(3400));
    assert_eq!(token(&client).await.0, "token-1");
    let_others_run().await;
    assert_eq!(token(&client).await.0, "token-2");
}

/// docs/failures.md S3: a token that an API rejected lives on in other processes.
#[tokio::test]
async fn one_revocation_is_one_request_for_the_fleet() {
    let fleet = Fleet::new();
    let (first, second, third) = (fleet.replica(), fleet.replica(), fleet.replica());
    let mut tokens = Vec::new();
    for client in [&first, &second] {
        tokens.push(client.acquire_token_for_client(SCOPE).await.unwrap());
        let_others_run().await;
    }
    for (client, rejected) in [&first, &second].into_iter().zip(&tokens) {
        let request = TokenRequest::new(SCOPE).rejected_token(rejected);
        let token = client.acquire_token_for_client(request).await.unwrap();
        assert_eq!(token.secret(), "token-2");
        let_others_run().await;
    }
    assert_eq!(token(&third).await.0, "token-2");
    assert_eq!(fleet.provider.requests(), 2);
}

/// The record with the failure keeps the token, which aged during the token request.
#[tokio::test]
async fn a_failed_refresh_does_not_lengthen_the_life_of_the_token() {
    let fleet = Fleet::new();
    let client = fleet.replica();
    token(&client).await;
    let_others_run().await;
    fleet.clock.advance(Duration::from_secs(3400));
    fleet.provider.hold();
    token(&client).await;
    let_others_run().await;
    assert_eq!(fleet.provider.requests(), 2, "the refresh is in flight");
    fleet.clock.advance(Duration::from_secs(150));
    fleet.provider.answer(400, r#"{"error":"invalid_scope"}"#);
    fleet.provider.release();
    let_others_run().await;
    assert_eq!(token(&fleet.replica()).await.1, TokenSource::SharedCache);
    fleet.clock.advance(Duration::from_secs(45));
    assert_eq!(token(&fleet.replica()).await.0, "token-3");
}

/// A process that starts after the rejection does not use the token.
#[tokio::test]
async fn an_invalidated_token_is_removed_for_the_fleet() {
    let fleet = Fleet::new();
    let (first, second) = (fleet.replica(), fleet.replica());
    let rejected = first.acquire_token_for_client(SCOPE).await.unwrap();
    let_others_run().await;
    let same = second.acquire_token_for_client(SCOPE).await.unwrap();
    first.invalidate(&rejected);
    let_others_run().await;
    assert_eq!(token(&fleet.replica()).await.0, "token-2");
    let_others_run().await;
    second.invalidate(&same);
    for client in [&first, &second] {
        assert_eq!(token(client).await.0, "token-2");
    }
    assert_eq!(fleet.provider.requests(), 2);
}

/// The process invalidates a token while the store still has it.
#[tokio::test]
async fn an_invalidated_token_does_not_come_back_from_the_store() {
    let fleet = Fleet::new();
    let client = fleet.replica();
    let rejected = client.acquire_token_for_client(SCOPE).await.unwrap();
    let_others_run().await;
    client.invalidate(&rejected);
    assert_eq!(token(&client).await.0, "token-2");
    let_others_run().await;
    assert_eq!(token(&fleet.replica()).await.0, "token-2");
}

#[tokio::test]
async fn an_api_that_rejects_every_token_causes_one_request_in_thirty_seconds() {
    let fleet = Fleet::new();
    let mut secrets = Vec::new();
    for _ in 0..5 {
        let client = fleet.replica();
        let rejected = client.acquire_token_for_client(SCOPE).await.unwrap();
        let_others_run().await;
        let request = TokenRequest::new(SCOPE).rejected_token(&rejected);
        let token = client.acquire_token_for_client(request).await.unwrap();
        let_others_run().await;
        secrets.push(token.secret().to_owned());
    }
    assert_eq!(secrets, ["token-2"; 5]);
    assert_eq!(fleet.provider.requests(), 2);
}

/// The machines' clocks differ by an hour; the age of a token follows from the store's clock.
#[tokio::test]
async fn the_clocks_of_two_machines_may_differ() {
    for is_ahead in [true, false] {
        let fleet = Fleet::new();
        let client = fleet.replica();
        token(&client).await;
        let_others_run().await;
        fleet.clock.advance(Duration::from_secs(600));
        let other_clock = ManualClock::new();
        match is_ahead {
            true => other_clock.advance_wall(Duration::from_secs(3600)),
            false => other_clock.turn_wall_back(Duration::from_secs(3600)),
        }
        let builder = replica(&fleet.provider, &fleet.store).clock(other_clock.clone());
        let other = builder.build().unwrap();
        assert_eq!(token(&other).await.0, "token-1", "{is_ahead}");
        // Ten minutes of the hour have passed.
        other_clock.advance(Duration::from_secs(3600 - 600 - 15));
        assert!(other.token_provider(SCOPE).unwrap().cached().is_some());
        other_clock.advance(Duration::from_secs(10));
        assert!(other.token_provider(SCOPE).unwrap().cached().is_none());
    }
}

/// docs/failures.md S2.
#[tokio::test(start_paused = true)]
async fn a_store_that_is_down_costs_one_timeout_in_some_seconds_and_no_caller_an_error() {
    for fault in [
        StoreFault::Error,
        StoreFault::Hang,
        StoreFault::LostResponse,
    ] {
        let provider = Provider::open();
        let store = LocalSharedCache::new();
        let client = replica(&provider, &store).build().unwrap();
        store.begin_outage(fault);
        for tenant in 0..20 {
            let request = TokenRequest::new(SCOPE).tenant(format!("tenant-{tenant}.com"));
            client.acquire_token_for_client(request).await.unwrap();
        }
        assert_eq!(store.calls(), ["get"], "{fault:?}");
        assert_eq!(provider.requests(), 20);
    }
}

#[tokio::test]
async fn records_that_cannot_be_used_count_as_absent() {
    let fleet = Fleet::new();
    token(&fleet.replica()).await;
    let_others_run().await;
    let name = fleet.store.names().remove(0);
    let good = fleet.store.value(&name).unwrap();
    let mut changed = good.to_vec();
    *changed.last_mut().unwrap() ^= 1;
    let mut newer = good.to_vec();
    newer[0] += 1;
    let plain = br#"{"lifetime_ms":1,"token":{"access_token":"forged"}}"#.to_vec();
    for (problem, value) in [
        ("changed", changed),
        ("of a newer version", newer),
        ("truncated", good[..40].to_vec()),
        ("empty", Vec::new()),
        ("plain", [&[1, 0], &plain[..]].concat()),
    ] {
        let before = fleet.provider.requests();
        fleet.store.set_value(&name, value);
        token(&fleet.replica()).await;
        let_others_run().await;
        assert_eq!(fleet.provider.requests(), before + 1, "{problem}");
    }
    // The last request stored a good record.
    assert_eq!(token(&fleet.replica()).await.1, TokenSource::SharedCache);
}

#[tokio::test]
async fn a_key_is_rotated_without_a_request() {
    let fleet = Fleet::new();
    let replica = |keys: &[u8]| {
        let keys: Vec<_> = keys
            .iter()
            .map(|key| EncryptionKey::from_bytes([*key; 32]))
            .collect();
        let options = SharedCacheOptions::encrypted(NAME_KEY, keys);
        let builder = fleet.provider.builder().clock(fleet.clock.clone());
        let builder = builder.shared_cache(fleet.store.clone(), options);
        builder.build().unwrap()
    };
    token(&replica(&[1])).await;
    let_others_run().await;
    for keys in [&[1, 2][..], &[2, 1]] {
        assert_eq!(token(&replica(keys)).await.1, TokenSource::SharedCache);
    }
    assert_eq!(token(&replica(&[2])).await.1, TokenSource::IdentityProvider);
}

/// docs/failures.md S6.
/// In the middle of a deployment some replicas handle claims challenges, and others do not.
#[tokio::test]
async fn replicas_with_other_capabilities_share_no_token() {
    let fleet = Fleet::new();
    let replica = |capabilities: &[&str]| {
        let builder = replica(&fleet.provider, &fleet.store).clock(fleet.clock.clone());
        let builder = builder.client_capabilities(capabilities.iter().copied());
        builder.build().unwrap()
    };
    for (capabilities, secret) in [
        (&[][..], "token-1"),
        (&["cp1"], "token-2"),
        (&[], "token-1"),
        (&["cp1"], "token-2"),
        (&["cp1", "cp2"], "token-3"),
        (&["cp2", "cp1", "cp1"], "token-3"),
    ] {
        assert_eq!(token(&replica(capabilities)).await.0, secret);
        let_others_run().await;
    }
}

#[tokio::test]
async fn the_store_sees_no_token_tenant_or_client() {
    let fleet = Fleet::new();
    token(&fleet.replica()).await;
    let_others_run().await;
    let name = fleet.store.names().remove(0);
    let value = fleet.store.value(&name).unwrap();
    for text in ["token-1", "contoso", "graph", "11111111"] {
        let bytes = text.as_bytes();
        assert!(!name.contains(text), "{text}");
        assert!(
            !value.windows(bytes.len()).any(|window| window == bytes),
            "{text}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_stops_delays_the_others_by_the_lifetime_of_its_lock() {
    let provider = Provider::gated();
    let store = LocalSharedCache::new();
    let holder = Arc::new(replica(&provider, &store).build().unwrap());
    let waiting = tokio::spawn({
        let holder = Arc::clone(&holder);
        async move { holder.acquire_token_for_client(SCOPE).await }
    });
    while provider.requests() == 0 {
        tokio::task::yield_now().await;
    }
    // The process is killed.
    waiting.abort();
    drop(holder);
    provider.release();
    let other = replica(&provider, &store).build().unwrap();
    let acquiring = tokio::spawn(async move { token(&other).await });
    let_others_run().await;
    assert_eq!(provider.requests(), 1, "the lock is held");
    store.expire_locks();
    assert_eq!(acquiring.await.unwrap().0, "token-2");
}
