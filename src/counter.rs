//! Counters that many threads raise.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, ErrorKind};

/// A number that only grows.
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

/// The numbers of token requests, and of failed ones by the kind of the error.
#[derive(Default)]
pub(crate) struct RequestCounters {
    pub(crate) sent: Counter,
    /// By the discriminant of the [`ErrorKind`].
    failed: [Counter; ErrorKind::ALL.len()],
}

impl RequestCounters {
    pub(crate) fn count_failed(&self, error: &Error) {
        if let Some(counter) = self.failed.get(error.kind() as usize) {
            counter.add(1);
        }
    }

    pub(crate) fn failed(&self, kind: ErrorKind) -> u64 {
        self.failed.get(kind as usize).map_or(0, Counter::get)
    }
}
