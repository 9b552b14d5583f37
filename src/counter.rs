//! Counters that many threads raise.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, ErrorKind};
use crate::thread_number::thread_number;

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

/// A number that only grows, for threads that count at the same time.
///
/// Threads count in different cells, each in cache lines of its own. A cell that several threads
/// write would move from processor to processor, and cost more than the counted cache hit.
#[derive(Default)]
pub(crate) struct ShardedCounter([Padded; CELLS]);

/// A cell with two cache lines to itself, since processors fetch lines in pairs.
#[derive(Default)]
#[repr(align(128))]
struct Padded(AtomicU64);

impl ShardedCounter {
    /// Adds one.
    #[inline]
    pub(crate) fn count(&self) {
        if let Some(Padded(cell)) = self.0.get(thread_number() as usize % CELLS) {
            // Threads beyond the number of cells share one.
            cell.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn get(&self) -> u64 {
        let cells = self.0.iter();
        cells.map(|Padded(cell)| cell.load(Ordering::Relaxed)).sum()
    }
}

const CELLS: usize = 16;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sharded_counter_loses_no_count_of_more_threads_than_cells() {
        let counter = ShardedCounter::default();
        std::thread::scope(|scope| {
            for _ in 0..2 * CELLS {
                scope.spawn(|| (0..1000).for_each(|_| counter.count()));
            }
        });
        assert_eq!(counter.get(), 2 * CELLS as u64 * 1000);
        let used = counter
            .0
            .iter()
            .filter(|cell| cell.0.load(Ordering::Relaxed) > 0);
        assert!(used.count() > 1, "threads have cells of their own");
    }
}
