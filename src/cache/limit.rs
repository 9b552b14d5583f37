use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

/// How many flights may be under way at once. Those who would start another wait for their turn;
/// who joins one that is under way does not, and a renewal that finds no place is left for later.
pub(super) struct Limit(Option<Arc<Permits>>);

struct Permits {
    /// After this time a flight is taken for lost.
    overdue: Duration,
    free: Semaphore,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    latest: u64,
    /// By when a flight has to be over. A task on a runtime that stands still holds its place until
    /// then.
    until: HashMap<u64, Instant>,
}

/// A flight's place, given back when it is dropped.
pub(super) struct Permit(Option<(Arc<Permits>, u64)>);

impl Limit {
    pub(super) fn new(at_once: Option<usize>, overdue: Duration) -> Self {
        Self(at_once.map(|at_once| {
            Arc::new(Permits {
                overdue,
                free: Semaphore::new(at_once.min(Semaphore::MAX_PERMITS)),
                taken: Mutex::default(),
            })
        }))
    }

    pub(super) fn try_place(&self) -> Option<Permit> {
        let Some(places) = &self.0 else {
            return Some(Permit(None));
        };
        places.free.try_acquire().ok()?.forget();
        Some(places.take())
    }

    /// Waits for a place, on the waiter's own runtime.
    pub(super) async fn place(&self) -> Permit {
        let Some(places) = &self.0 else {
            return Permit(None);
        };
        loop {
            let turn = timeout_at(places.next_overdue(), places.free.acquire());
            if let Ok(Ok(permit)) = turn.await {
                permit.forget();
                return places.take();
            }
        }
    }
}

impl Permits {
    fn take(self: &Arc<Self>) -> Permit {
        let mut taken = self.lock();
        taken.latest = taken.latest.wrapping_add(1);
        let number = taken.latest;
        taken.until.insert(number, Instant::now() + self.overdue);
        Permit(Some((Arc::clone(self), number)))
    }

    fn give_back(&self, number: u64) {
        // Once: it may have been taken back already.
        if self.lock().until.remove(&number).is_some() {
            self.free.add_permits(1);
        }
    }

    /// Takes back the places of flights that must be over, and says when the next has to be.
    fn next_overdue(&self) -> Instant {
        let now = Instant::now();
        let mut taken = self.lock();
        let before = taken.until.len();
        taken.until.retain(|_, overdue| *overdue > now);
        self.free.add_permits(before - taken.until.len());
        let next = taken.until.values().min().copied();
        next.unwrap_or(now + self.overdue)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some((places, number)) = &self.0 {
            places.give_back(*number);
        }
    }
}
