use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, ErrorKind};

/// Counters of a client's work since it was built, from
/// [`TokenCache::stats`](crate::TokenCache::stats). The counters only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStats {
    /// Calls without a cached token. Each sent or joined a token request, or received the last
    /// failure.
    ///
    /// Cache hits are not counted: counting would cost more than the hit.
    pub misses: u64,
    /// Token requests, refreshes included. Retries of a request do not count, even with another
    /// credential.
    pub requests: u64,
    /// Token requests in the background, for a token that was still valid.
    pub refreshes: u64,
    /// Entries evicted by the maximum in [`CacheOptions`](crate::CacheOptions).
    pub evictions: u64,
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

#[derive(Default)]
pub(super) struct Counters {
    pub(super) misses: Counter,
    pub(super) requests: Counter,
    pub(super) refreshes: Counter,
    pub(super) evictions: Counter,
    /// Failed token requests, by the discriminant of the [`ErrorKind`].
    failures: [Counter; ErrorKind::ALL.len()],
}

#[derive(Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counters {
    pub(super) fn failed(&self, error: &Error) {
        if let Some(counter) = self.failures.get(error.kind() as usize) {
            counter.add(1);
        }
    }

    pub(super) fn read(&self) -> CacheStats {
        let failed = |kind: ErrorKind| self.failures.get(kind as usize).map_or(0, Counter::get);
        CacheStats {
            misses: self.misses.get(),
            requests: self.requests.get(),
            refreshes: self.refreshes.get(),
            evictions: self.evictions.get(),
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
