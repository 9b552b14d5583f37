//! Which tokens and failures of other processes a token request accepts.

use std::time::Duration;

use confidential_client::cache::{EncryptionKey, SharedCacheOptions};
use confidential_client::testing::{LocalSharedCache, ManualClock, StoreFault};
use confidential_client::{ConfidentialClient, TokenRequest, TokenSource};

use crate::support::log_capture::Log;
use crate::support::{Provider, SCOPE, let_others_run, scope};

const CLAIMS: &str = r#"{"access_token":{"nbf":{"essential":true,"value":"1"}}}"#;
const OTHER_CLAIMS: &str = r#"{"access_token":{"nbf":{"essential":true,"value":"2"}}}"#;
const REJECTED: &str = r#"{"error":"invalid_scope"}"#;
const BUSY: &str = r#"{"error":"temporarily_unavailable"}"#;

struct Fleet {
    clock: ManualClock,
    provider: Provider,
    store: LocalSharedCache,
}

impl Fleet {
    fn new(provider: Provider) -> Self {
        let clock = ManualClock::new();
        let store = LocalSharedCache::with_clock(clock.clone());
        Self {
            clock,
            provider,
            store,
        }
    }

    fn process(&self) -> ConfidentialClient {
        let key = EncryptionKey::from_bytes([1; 32]);
        let options = SharedCacheOptions::encrypted("the name key of the tests", [key]);
        let builder = self.provider.builder().clock(self.clock.clone());
        let builder = builder.shared_cache(self.store.clone(), options);
        builder.build().unwrap()
    }

    /// Acquires a token in a new process, and lets the record be stored.
    async fn source(&self, request: TokenRequest) -> TokenSource {
        let token = self.process().acquire_token_for_client(request).await;
        let_others_run().await;
        token.unwrap().source()
    }

    /// Returns the wait of a failure in a new process.
    async fn wait(&self) -> Duration {
        let result = self.process().acquire_token_for_client(SCOPE).await;
        let_others_run().await;
        result.unwrap_err().retry_after().unwrap()
    }

    async fn until_requests(&self, requests: usize) {
        while self.provider.requests() < requests {
            tokio::task::yield_now().await;
        }
        let_others_run().await;
    }
}

fn plain() -> TokenRequest {
    TokenRequest::new(SCOPE)
}

#[tokio::test]
async fn a_failure_is_shared_for_its_wait_alone() {
    let fleet = Fleet::new(Provider::open());
    fleet.provider.answer(400, REJECTED);
    assert_eq!(fleet.wait().await, Duration::from_secs(5));
    fleet.clock.advance(Duration::from_secs(2));
    assert_eq!(fleet.wait().await, Duration::from_secs(3));
    fleet.clock.advance(Duration::from_secs(3));
    assert_eq!(fleet.source(plain()).await, TokenSource::IdentityProvider);
    assert_eq!(fleet.provider.requests(), 2);
}

/// The process that sent the request waits as long as the others.
#[tokio::test]
async fn all_processes_wait_for_the_same_time() {
    let fleet = Fleet::new(Provider::open());
    fleet.provider.answer(503, BUSY);
    let (first, second) = (fleet.wait().await, fleet.wait().await);
    assert_eq!(first.as_millis(), second.as_millis());
}

#[tokio::test]
async fn the_wait_doubles_over_the_failures_of_all_processes() {
    let fleet = Fleet::new(Provider::open());
    for seconds in [5, 10, 20] {
        fleet.provider.answer(400, REJECTED);
        assert_eq!(fleet.wait().await, Duration::from_secs(seconds));
        fleet.clock.advance(Duration::from_secs(seconds));
    }
    // The network of one process says little about the others.
    let fleet = Fleet::new(Provider::open());
    for _ in 0..3 {
        fleet.provider.fail("no route");
        let wait = fleet.wait().await;
        assert!(wait < Duration::from_secs(2), "{wait:?}");
        fleet.clock.advance(Duration::from_millis(1300));
    }
}

#[tokio::test]
async fn a_failure_with_claims_and_one_without_say_nothing_about_each_other() {
    for (failing, next) in [
        (plain().claims(CLAIMS), plain()),
        (plain(), plain().claims(CLAIMS)),
    ] {
        let fleet = Fleet::new(Provider::open());
        fleet.provider.answer(400, REJECTED);
        let result = fleet.process().acquire_token_for_client(failing).await;
        result.unwrap_err();
        let_others_run().await;
        assert_eq!(fleet.source(next).await, TokenSource::IdentityProvider);
    }
}

/// After a consent, the process that asks for it sends a token request. Other processes obey.
#[tokio::test]
async fn a_forced_refresh_ignores_the_rejection_of_another_process() {
    for (retry_after, expected) in [(None, true), (Some("60"), false)] {
        let fleet = Fleet::new(Provider::open());
        let mut response = http::Response::builder().status(400);
        if let Some(seconds) = retry_after {
            response = response.header("retry-after", seconds);
        }
        fleet
            .provider
            .answer_with(response.body(REJECTED.into()).unwrap());
        for request in [plain(), plain()] {
            let result = fleet.process().acquire_token_for_client(request).await;
            result.unwrap_err();
            let_others_run().await;
        }
        assert_eq!(fleet.provider.requests(), 1, "the record answers");
        let forced = plain().force_refresh();
        let result = fleet.process().acquire_token_for_client(forced).await;
        assert_eq!(result.is_ok(), expected, "{retry_after:?}: {result:?}");
    }
}

/// One request meets the claims of two processes, unless the claims differ.
#[tokio::test(start_paused = true)]
async fn a_token_that_was_requested_meanwhile_serves_the_same_claims() {
    for (claims, requests) in [(CLAIMS, 1), (OTHER_CLAIMS, 2)] {
        let fleet = Fleet::new(Provider::gated());
        let acquire = |claims: &'static str| {
            let client = fleet.process();
            let request = plain().claims(claims);
            tokio::spawn(async move { client.acquire_token_for_client(request).await })
        };
        let first = acquire(CLAIMS);
        fleet.until_requests(1).await;
        let second = acquire(claims);
        let_others_run().await;
        fleet.provider.release();
        first.await.unwrap().unwrap();
        second.await.unwrap().unwrap();
        assert_eq!(fleet.provider.requests(), requests);
    }
}

#[tokio::test]
async fn a_stored_token_must_meet_the_requirements() {
    for (name, age, request, expected) in [
        ("plain", 0, plain(), TokenSource::SharedCache),
        (
            "forced",
            0,
            plain().force_refresh(),
            TokenSource::IdentityProvider,
        ),
        (
            "claims",
            0,
            plain().claims(CLAIMS),
            TokenSource::IdentityProvider,
        ),
        // The store keeps the record until the expiry.
        ("near its end", 3594, plain(), TokenSource::IdentityProvider),
    ] {
        let fleet = Fleet::new(Provider::open());
        fleet.source(plain()).await;
        fleet.clock.advance(Duration::from_secs(age));
        assert_eq!(fleet.source(request).await, expected, "{name}");
    }
}

/// A provider may issue the rejected token once more.
#[tokio::test]
async fn a_stored_token_that_was_rejected_serves_nobody() {
    let fleet = Fleet::new(Provider::open());
    let body = r#"{"token_type":"Bearer","expires_in":3599,"access_token":"same"}"#;
    for _ in 0..2 {
        fleet.provider.answer(200, body);
    }
    let client = fleet.process();
    let rejected = client.acquire_token_for_client(SCOPE).await.unwrap();
    let_others_run().await;
    let request = plain().rejected_token(&rejected);
    client.acquire_token_for_client(request).await.unwrap();
    let_others_run().await;
    assert_eq!(fleet.source(plain()).await, TokenSource::IdentityProvider);
    assert_eq!(fleet.provider.requests(), 3);
}

/// The lock expired, and two processes sent a request.
#[tokio::test(start_paused = true)]
async fn of_two_outcomes_a_token_stays() {
    for first_fails in [false, true] {
        let fleet = Fleet::new(Provider::gated());
        if first_fails {
            fleet.provider.answer(400, REJECTED);
        }
        let acquire = || {
            let client = fleet.process();
            tokio::spawn(async move { client.acquire_token_for_client(SCOPE).await })
        };
        let first = acquire();
        fleet.until_requests(1).await;
        fleet.store.expire_locks();
        let second = acquire();
        fleet.until_requests(2).await;
        fleet.provider.release();
        let first = first.await.unwrap();
        let second = second.await.unwrap().unwrap();
        let_others_run().await;
        let third = fleet.process().acquire_token_for_client(SCOPE).await;
        let third = third.unwrap();
        assert_eq!(third.source(), TokenSource::SharedCache);
        let expected = first.unwrap_or(second);
        assert_eq!(third.secret(), expected.secret(), "{first_fails}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_holder_extends_its_lock() {
    let fleet = Fleet::new(Provider::gated());
    let client = fleet.process();
    let acquiring = tokio::spawn(async move { client.acquire_token_for_client(SCOPE).await });
    fleet.until_requests(1).await;
    // Twice the lifetime of a lock.
    for _ in 0..10 {
        fleet.clock.advance(Duration::from_secs(1));
        tokio::time::advance(Duration::from_secs(1)).await;
        let_others_run().await;
    }
    let other = fleet.process();
    let waiting = tokio::spawn(async move { other.acquire_token_for_client(SCOPE).await });
    let_others_run().await;
    assert_eq!(fleet.provider.requests(), 1);
    fleet.provider.release();
    acquiring.await.unwrap().unwrap();
    assert_eq!(
        waiting.await.unwrap().unwrap().source(),
        TokenSource::SharedCache
    );
}

#[tokio::test]
async fn a_store_that_responds_again_is_used_at_once() {
    let fleet = Fleet::new(Provider::open());
    let client = fleet.process();
    fleet.store.begin_outage(StoreFault::Error);
    client.acquire_token_for_client(scope(1)).await.unwrap();
    fleet.store.end_outage();
    fleet.clock.advance(Duration::from_secs(3));
    for number in [2, 3] {
        client
            .acquire_token_for_client(scope(number))
            .await
            .unwrap();
        let_others_run().await;
        let request = TokenRequest::new(scope(number));
        assert_eq!(fleet.source(request).await, TokenSource::SharedCache);
    }
}

#[tokio::test]
async fn records_that_cannot_be_used_are_logged_once() {
    let log = Log::start();
    let fleet = Fleet::new(Provider::open());
    let client = fleet.process();
    for number in [1, 2] {
        client
            .acquire_token_for_client(scope(number))
            .await
            .unwrap();
        let_others_run().await;
    }
    for name in fleet.store.names() {
        fleet.store.set_value(&name, &b"\x01\x01changed"[..]);
    }
    client.cache().clear();
    for number in [1, 2] {
        client
            .acquire_token_for_client(scope(number))
            .await
            .unwrap();
    }
    let text = log.text();
    let warnings = text.matches("a record in the shared cache cannot be used");
    assert_eq!(warnings.count(), 1, "{text}");
}
