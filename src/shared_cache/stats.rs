use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of a client's use of the shared cache.
#[derive(Default)]
pub(crate) struct SharedCounters {
    /// Tokens and failures that the store had.
    pub(crate) hits: Counter,
    /// Failed calls of the store, after the repetition.
    pub(crate) failures: Counter,
    /// Acquisitions that waited for another process.
    pub(crate) waits: Counter,
}

#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
