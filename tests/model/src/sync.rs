//! Loom's in place of what the library's `sync.rs` names.

use std::sync::Arc;

use loom::sync::atomic::AtomicUsize;
pub(super) use loom::sync::atomic::Ordering;
pub(super) use loom::sync::{Mutex, MutexGuard};
pub(super) use std::sync::PoisonError;
// Written under the lock of the map, or only a hint.
pub(super) use std::sync::atomic::AtomicU32;

/// An `ArcSwapOption`: every load and store is a moment at which loom may go on with another
/// thread, and a load without the lock may see a value that has been replaced.
pub(super) struct Current<T> {
    latest: AtomicUsize,
    /// All that were ever stored. Loom runs one thread at a time, so nobody waits for this lock.
    values: std::sync::Mutex<Vec<Value<T>>>,
}

type Value<T> = Arc<Option<Arc<T>>>;

impl<T> Current<T> {
    pub(super) fn load(&self) -> Value<T> {
        let latest = self.latest.load(Ordering::Acquire);
        Arc::clone(&self.values.lock().unwrap()[latest])
    }

    pub(super) fn store(&self, value: Option<Arc<T>>) {
        let latest = {
            let mut values = self.values.lock().unwrap();
            values.push(Arc::new(value));
            values.len() - 1
        };
        self.latest.store(latest, Ordering::Release);
    }
}

impl<T> Default for Current<T> {
    fn default() -> Self {
        Self {
            latest: AtomicUsize::new(0),
            values: std::sync::Mutex::new(vec![Arc::default()]),
        }
    }
}
