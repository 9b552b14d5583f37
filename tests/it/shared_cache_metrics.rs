//! Counters, observers and spans of clients with a shared cache.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use confidential_client::cache::{
    CacheStats, EncryptionKey, LockOwner, SharedCache, SharedCacheOptions,
};
use confidential_client::metrics::{Acquisition, Outcome};
use confidential_client::testing::{LocalSharedCache, ManualClock, StoreFault};
use confidential_client::{
    ConfidentialClient, ConfidentialClientBuilder, Error, ErrorKind, TokenRequest, TokenSource,
};
use http::Request;

use crate::support::log_capture::Log;
use crate::support::{Provider, SCOPE, let_others_run, scope};

/// One process of a fleet, with all that its observer received.
struct Process {
    client: ConfidentialClient,
    seen: Arc<Mutex<Vec<Acquisition>>>,
}

impl Process {
    fn new(builder: ConfidentialClientBuilder, store: &LocalSharedCache) -> Self {
        let key = EncryptionKey::from_bytes([1; 32]);
        let options = SharedCacheOptions::encrypted("the name key of the tests", [key]);
        let seen = Arc::<Mutex<Vec<Acquisition>>>::default();
        let list = Arc::clone(&seen);
        let builder = builder.shared_cache(store.clone(), options);
        let builder = builder.observer(move |acquisition| list.lock().unwrap().push(acquisition));
        Self {
            client: builder.build().unwrap(),
            seen,
        }
    }

    async fn acquire(&self) -> Result<TokenSource, Error> {
        let token = self.client.acquire_token_for_client(SCOPE).await?;
        let_others_run().await;
        Ok(token.source())
    }

    fn stats(&self) -> CacheStats {
        self.client.cache().stats()
    }

    /// Returns the only acquisition since the last call.
    fn acquisition(&self) -> Acquisition {
        let seen = std::mem::take(&mut *self.seen.lock().unwrap());
        let [acquisition] = &seen[..] else {
            panic!("{seen:?}");
        };
        acquisition.clone()
    }
}

/// Returns the counters with the values that are not zero.
fn stats(count: impl FnOnce(&mut CacheStats)) -> CacheStats {
    let mut stats = CacheStats::default();
    count(&mut stats);
    stats
}

#[tokio::test]
async fn each_level_that_answers_is_counted_and_observed() {
    let (provider, store) = (Provider::open(), LocalSharedCache::new());
    let process = || Process::new(provider.builder(), &store);
    let (first, second) = (process(), process());

    assert_eq!(
        first.acquire().await.unwrap(),
        TokenSource::IdentityProvider
    );
    let seen = first.acquisition();
    assert_eq!(seen.source, TokenSource::IdentityProvider);
    assert_eq!((seen.outcome, seen.attempts), (Outcome::Issued, 1));
    assert!(!seen.shared_cache_failed && seen.lock_wait.is_none());
    let expected = stats(|stats| (stats.misses, stats.requests) = (1, 1));
    assert_eq!(first.stats(), expected);

    assert_eq!(second.acquire().await.unwrap(), TokenSource::SharedCache);
    let seen = second.acquisition();
    assert_eq!(seen.source, TokenSource::SharedCache);
    assert_eq!((seen.outcome, seen.attempts), (Outcome::Issued, 0));
    assert!(!seen.shared_cache_failed && seen.lock_wait.is_none());
    let expected = stats(|stats| (stats.misses, stats.shared_tokens) = (1, 1));
    assert_eq!(second.stats(), expected);

    assert_eq!(second.acquire().await.unwrap(), TokenSource::Cache);
    assert_eq!(second.stats(), expected);
    assert!(second.seen.lock().unwrap().is_empty());
}

/// The failure of another process is no token request of this one.
#[tokio::test]
async fn a_failure_counts_in_the_process_that_sent_the_request() {
    let (provider, store) = (Provider::open(), LocalSharedCache::new());
    let process = || Process::new(provider.builder(), &store);
    let (first, second) = (process(), process());
    provider.answer(400, r#"{"error":"invalid_scope","error_codes":[70011]}"#);

    first.acquire().await.unwrap_err();
    let_others_run().await;
    let mut expected = first.acquisition();
    assert_eq!(expected.source, TokenSource::IdentityProvider);
    assert_eq!(expected.outcome, Outcome::Failed(ErrorKind::Server));
    let counted = stats(|stats| {
        (stats.misses, stats.requests, stats.server_errors) = (1, 1, 1);
    });
    assert_eq!(first.stats(), counted);

    second.acquire().await.unwrap_err();
    let seen = second.acquisition();
    (expected.source, expected.attempts) = (TokenSource::SharedCache, 0);
    expected.duration = seen.duration;
    assert_eq!(seen, expected);
    let counted = stats(|stats| (stats.misses, stats.shared_errors) = (1, 1));
    assert_eq!(second.stats(), counted);
}

#[tokio::test]
async fn a_token_request_that_panics_counts_as_failed() {
    let builder = Provider::open().builder().transport(|_: Request<_>| async {
        match std::hint::black_box(true) {
            true => panic!("a bug of the transport's"),
            false => Err("never".into()),
        }
    });
    let process = Process::new(builder, &LocalSharedCache::new());
    process.acquire().await.unwrap_err();
    let counted = stats(|stats| {
        (stats.misses, stats.requests, stats.transport_errors) = (1, 1, 1);
    });
    assert_eq!(process.stats(), counted);
}

#[tokio::test(start_paused = true)]
async fn a_token_request_ends_at_the_deadline_and_is_observed_once() {
    let process = Process::new(Provider::gated().builder(), &LocalSharedCache::new());
    let error = process.acquire().await.unwrap_err();
    assert!(error.to_string().contains("no response"), "{error}");
    let seen = process.acquisition();
    assert_eq!(seen.outcome, Outcome::Failed(ErrorKind::Transport));
    assert_eq!(seen.source, TokenSource::IdentityProvider);
    assert_eq!(process.stats().transport_errors, 1);
}

#[tokio::test(start_paused = true)]
async fn the_wait_for_another_process_is_counted_and_observed() {
    let log = Log::start();
    let (clock, provider) = (ManualClock::new(), Provider::gated());
    let store = LocalSharedCache::with_clock(clock.clone());
    let process = || Process::new(provider.builder().clock(clock.clone()), &store);
    let (first, second) = (process(), process());
    let ((), (), ()) = tokio::join!(
        async { assert!(first.acquire().await.is_ok()) },
        async { assert!(second.acquire().await.is_ok()) },
        async {
            while second.stats().lock_waits == 0 {
                tokio::task::yield_now().await;
            }
            clock.advance(Duration::from_secs(3));
            provider.release();
        }
    );
    assert_eq!(provider.requests(), 1);
    assert_eq!(first.acquisition().lock_wait, None);
    assert_eq!(first.stats().lock_waits, 0);
    let seen = second.acquisition();
    assert_eq!(seen.source, TokenSource::SharedCache);
    assert_eq!(seen.lock_wait, Some(Duration::from_secs(3)));
    assert_eq!(second.stats().lock_waits, 1, "however often it looked");
    let text = log.text();
    let mut closed = text.lines().filter(|line| line.contains(" close "));
    let shared = closed.find(|line| line.contains("source=\"shared_cache\""));
    for part in ["lock_wait_ms=3000", "attempts=0", "outcome=\"issued\""] {
        assert!(shared.unwrap().contains(part), "{part}: {text}");
    }
    assert!(!shared.unwrap().contains("shared_cache_failed"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_is_held_for_too_long_is_no_failed_request_of_this_process() {
    let clock = ManualClock::new();
    let (provider, store) = (Provider::open(), LocalSharedCache::with_clock(clock));
    let process = || Process::new(provider.builder(), &store);
    process().acquire().await.unwrap();
    let name = store.names().remove(0);
    store.clear();
    let day = Duration::from_secs(24 * 60 * 60);
    store.lock(&name, &LockOwner::random(), day).await.unwrap();

    let waiting = process();
    let error = waiting.acquire().await.unwrap_err();
    assert!(error.to_string().contains("another process"), "{error}");
    let seen = waiting.acquisition();
    assert_eq!(seen.outcome, Outcome::Failed(ErrorKind::Transport));
    assert_eq!(seen.source, TokenSource::SharedCache);
    let counted = stats(|stats| {
        (stats.misses, stats.shared_errors, stats.lock_waits) = (1, 1, 1);
    });
    assert_eq!(waiting.stats(), counted);
}

/// docs/failures.md S2.
#[tokio::test]
async fn an_acquisition_without_the_shared_cache_says_so() {
    let log = Log::start();
    let (provider, store) = (Provider::open(), LocalSharedCache::new());
    let process = Process::new(provider.builder(), &store);
    store.begin_outage(StoreFault::Error);
    // The second acquisition leaves the store out.
    for scope in [scope(1), scope(2)] {
        let request = TokenRequest::new(scope);
        process
            .client
            .acquire_token_for_client(request)
            .await
            .unwrap();
        let seen = process.acquisition();
        assert!(seen.shared_cache_failed);
        assert_eq!(seen.source, TokenSource::IdentityProvider);
    }
    let counted = stats(|stats| {
        (stats.misses, stats.requests, stats.shared_cache_failures) = (2, 2, 1);
    });
    assert_eq!(process.stats(), counted);
    let text = log.text();
    assert_eq!(
        text.matches("shared_cache_failed=true").count(),
        2,
        "{text}"
    );
}

#[tokio::test]
async fn a_refresh_may_be_served_by_the_shared_cache() {
    let (clock, provider) = (ManualClock::new(), Provider::open());
    let store = LocalSharedCache::with_clock(clock.clone());
    let process = || Process::new(provider.builder().clock(clock.clone()), &store);
    let (first, second) = (process(), process());
    first.acquire().await.unwrap();
    second.acquire().await.unwrap();
    clock.advance(Duration::from_secs(3400));
    for process in [&first, &second] {
        process.acquisition();
        process.acquire().await.unwrap();
        let_others_run().await;
    }
    assert_eq!(first.acquisition().source, TokenSource::IdentityProvider);
    let seen = second.acquisition();
    assert_eq!(seen.source, TokenSource::SharedCache);
    assert!(seen.is_refresh);
    let counted = stats(|stats| {
        (stats.misses, stats.refreshes, stats.shared_tokens) = (1, 1, 2);
    });
    assert_eq!(second.stats(), counted);
}
