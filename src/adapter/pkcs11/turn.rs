//! A value with an exclusive turn, for calls of a module that may never return.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A value behind a short lock, and the exclusive turn to work on the value for longer.
///
/// Nobody calls a module under a lock. The caller with the turn calls the module, and the others
/// wait for the end of the turn until their deadline.
#[derive(Default)]
pub(super) struct Turn<T> {
    state: Mutex<TurnState<T>>,
    changed: Condvar,
}

#[derive(Default)]
pub(super) struct TurnState<T> {
    /// The time after which the call of the caller with the turn hangs. `None` if the turn is free.
    taken_until: Option<Instant>,
    pub(super) value: T,
}

/// The lock of a [`Turn`].
pub(super) type Locked<'a, T> = MutexGuard<'a, TurnState<T>>;

/// The turn of one caller. A drop ends the turn, also after a panic.
pub(super) struct TurnTaken<'a, T>(&'a Turn<T>);

impl<T> Turn<T> {
    /// Locks the value, whether or not the turn is free.
    pub(super) fn lock(&self) -> Locked<'_, T> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks the value while the turn is free.
    ///
    /// Returns `None` if the turn does not end until the deadline. Returns `None` at once if the
    /// call of the caller with the turn hangs, which is past its own deadline.
    pub(super) fn lock_free(&self, deadline: Instant) -> Option<Locked<'_, T>> {
        let mut state = self.lock();
        while let Some(taken_until) = state.taken_until {
            let left = taken_until
                .min(deadline)
                .saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Some(state)
    }

    /// Takes a turn that is free.
    pub(super) fn take(&self, mut free: Locked<'_, T>, deadline: Instant) -> TurnTaken<'_, T> {
        // A caller that begins late gets some time, too, before others count it as hanging.
        free.taken_until = Some(deadline.max(Instant::now() + LEAST_TURN));
        TurnTaken(self)
    }

    /// Waits as long as a condition on the value holds, and at most until the deadline.
    pub(super) fn wait_while<'a>(
        &self,
        state: Locked<'a, T>,
        deadline: Instant,
        condition: impl Fn(&T) -> bool,
    ) -> Locked<'a, T> {
        let left = deadline.saturating_duration_since(Instant::now());
        let waited = self
            .changed
            .wait_timeout_while(state, left, |state| condition(&state.value));
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Wakes the callers that wait for a change of the value.
    pub(super) fn notify(&self) {
        self.changed.notify_all();
    }
}

impl<T> TurnTaken<'_, T> {
    /// Locks the value.
    pub(super) fn lock(&self) -> Locked<'_, T> {
        self.0.lock()
    }
}

impl<T> Drop for TurnTaken<'_, T> {
    fn drop(&mut self) {
        self.lock().taken_until = None;
        self.0.notify();
    }
}

/// Shortest time for a turn.
const LEAST_TURN: Duration = Duration::from_secs(1);

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_that_begins_late_does_not_count_as_hanging_at_once() {
        let (turn, now) = (Turn::<()>::default(), Instant::now());
        let taken = turn.take(turn.lock_free(now).unwrap(), now);
        assert!(turn.lock().taken_until.unwrap() > Instant::now());
        assert!(turn.lock_free(Instant::now()).is_none());
        drop(taken);
        assert!(turn.lock_free(now).is_some());
    }
}
