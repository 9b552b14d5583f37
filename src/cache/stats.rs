#[cfg(any(feature = "metrics", feature = "opentelemetry"))]
use std::sync::Arc;

use crate::counter::{Counter, RequestCounters, ShardedCounter};
#[cfg(doc)]
use crate::error::Error;
use crate::error::ErrorKind;
use crate::shared_cache::SharedCounters;

/// Counters of a client's work since it was built, from
/// [`TokenCache::stats`](crate::TokenCache::stats). The counters only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStats {
    /// Calls that the cache in memory served, [`TokenProvider::cached`] included.
    ///
    /// `None` unless [`CacheOptions::count_hits`] or an adapter for metrics turned counting on. The
    /// count starts at that time.
    ///
    /// [`CacheOptions::count_hits`]: crate::CacheOptions::count_hits
    /// [`TokenProvider::cached`]: crate::TokenProvider::cached
    pub hits: Option<u64>,
    /// Calls without a cached token in memory. Each sent or joined a token request, found a token
    /// in the shared cache, or received the last failure.
    pub misses: u64,
    /// Token requests of this process, refreshes included. Retries of a request do not count, even
    /// with another credential.
    pub requests: u64,
    /// Refreshes in the background, of a token that was still valid.
    ///
    /// Each sends a token request, unless the shared cache has the next token.
    pub refreshes: u64,
    /// Entries evicted by the maximum in [`CacheOptions`](crate::CacheOptions).
    pub evictions: u64,
    /// Tokens that the shared cache had, so that no token request was sent.
    pub shared_tokens: u64,
    /// Acquisitions that failed without a token request of this process. The shared cache had the
    /// failure of another process, or another process held the lock for too long.
    ///
    /// These failures are not among the errors below, which count this process's token requests.
    pub shared_errors: u64,
    /// Failed calls of the shared cache.
    ///
    /// After a failed call the client works without the shared cache for some seconds. The calls
    /// that the client leaves out in that time are not counted.
    pub shared_cache_failures: u64,
    /// Acquisitions that waited for the token request of another process.
    pub lock_waits: u64,
    /// Token requests that failed with [`Error::Config`].
    pub config_errors: u64,
    /// Token requests that failed with [`Error::Credential`].
    pub credential_errors: u64,
    /// Token requests that failed with [`Error::Transport`].
    pub transport_errors: u64,
    /// Token requests that failed with [`Error::Server`].
    pub server_errors: u64,
    /// Token requests that failed with [`Error::Throttled`].
    pub throttled_errors: u64,
    /// Token requests that failed with [`Error::InvalidResponse`].
    pub invalid_response_errors: u64,
    /// Token requests that failed with [`Error::InteractionRequired`].
    pub interaction_required_errors: u64,
}

/// Counters of the cache in memory.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) misses: Counter,
    pub(super) refreshes: Counter,
    pub(super) evictions: Counter,
    pub(super) requests: RequestCounters,
}

impl Counters {
    /// Returns the counters, together with those of a shared cache.
    pub(super) fn read(
        &self,
        hits: Option<&ShardedCounter>,
        shared: Option<&SharedCounters>,
    ) -> CacheStats {
        let counted = |counter: fn(&SharedCounters) -> &Counter| {
            shared.map_or(0, |shared| counter(shared).get())
        };
        let requests = [Some(&self.requests), shared.map(|shared| &shared.requests)];
        let failed = |kind: ErrorKind| {
            let requests = requests.iter().flatten();
            requests.map(|requests| requests.failed(kind)).sum()
        };
        CacheStats {
            hits: hits.map(ShardedCounter::get),
            misses: self.misses.get(),
            requests: self.requests.sent.get() + counted(|shared| &shared.requests.sent),
            refreshes: self.refreshes.get(),
            evictions: self.evictions.get(),
            shared_tokens: counted(|shared| &shared.tokens),
            shared_errors: counted(|shared| &shared.errors),
            shared_cache_failures: counted(|shared| &shared.failures),
            lock_waits: counted(|shared| &shared.waits),
            config_errors: failed(ErrorKind::Config),
            credential_errors: failed(ErrorKind::Credential),
            transport_errors: failed(ErrorKind::Transport),
            server_errors: failed(ErrorKind::Server),
            throttled_errors: failed(ErrorKind::Throttled),
            invalid_response_errors: failed(ErrorKind::InvalidResponse),
            interaction_required_errors: failed(ErrorKind::InteractionRequired),
        }
    }
}

/// The counters of a client, which outlive the client.
#[cfg(any(feature = "metrics", feature = "opentelemetry"))]
pub(crate) struct KeptCounters {
    pub(super) hits: Arc<ShardedCounter>,
    pub(super) memory: Arc<Counters>,
    pub(super) shared: Option<Arc<SharedCounters>>,
}

#[cfg(any(feature = "metrics", feature = "opentelemetry"))]
impl KeptCounters {
    pub(crate) fn read(&self) -> CacheStats {
        self.memory.read(Some(&self.hits), self.shared.as_deref())
    }
}
