use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::Error;

/// What a client has done since it was made, in numbers that only grow: see
/// [`TokenCache::stats`](crate::TokenCache::stats).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStats {
    /// Calls that found no token to serve, and joined a token request, made one or were told of the
    /// last failure. All other calls were served from memory, and are not counted: counting would
    /// cost them more than all the rest.
    pub misses: u64,
    /// Token requests, refreshes included. A request that is repeated, or with another credential, is
    /// one.
    pub requests: u64,
    /// Token requests in the background, for a token that was still good.
    pub refreshes: u64,
    /// Tokens, and memories of a failure, that went to make room for others, as [`CacheOptions`](crate::CacheOptions) says.
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
    config_errors: Counter,
    credential_errors: Counter,
    transport_errors: Counter,
    server_errors: Counter,
    throttled_errors: Counter,
    invalid_response_errors: Counter,
    interaction_required_errors: Counter,
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
        let counter = match error {
            Error::Config(_) => &self.config_errors,
            Error::Credential(_) => &self.credential_errors,
            Error::Transport(_) => &self.transport_errors,
            Error::Server(_) => &self.server_errors,
            Error::Throttled(_) => &self.throttled_errors,
            Error::InvalidResponse(_) => &self.invalid_response_errors,
            Error::InteractionRequired(_) => &self.interaction_required_errors,
        };
        counter.add(1);
    }

    pub(super) fn read(&self) -> CacheStats {
        CacheStats {
            misses: self.misses.get(),
            requests: self.requests.get(),
            refreshes: self.refreshes.get(),
            evictions: self.evictions.get(),
            config_errors: self.config_errors.get(),
            credential_errors: self.credential_errors.get(),
            transport_errors: self.transport_errors.get(),
            server_errors: self.server_errors.get(),
            throttled_errors: self.throttled_errors.get(),
            invalid_response_errors: self.invalid_response_errors.get(),
            interaction_required_errors: self.interaction_required_errors.get(),
        }
    }
}
