use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::time::{Deadline, Now};

/// A circuit breaker for the store.
///
/// A failed call opens the circuit. While the circuit is open, no call is made, and after some
/// seconds one call passes as the probe. A store that is down costs one time limit every few
/// seconds, and not one for each token.
#[derive(Default)]
pub(super) struct StoreCircuit(Mutex<Circuit>);

#[derive(Default)]
struct Circuit {
    /// The number of failed probes in a row, with the failure that opened the circuit.
    failures: u32,
    /// The time of the next probe, while the circuit is open.
    next_probe: Option<Deadline>,
    is_probing: bool,
}

impl StoreCircuit {
    /// Returns `true` if a call may be made. While the circuit is open, the caller becomes the
    /// probe, and no other caller passes until the probe should have ended.
    pub(super) fn try_pass(&self, now: &Now) -> bool {
        let mut circuit = self.lock();
        let wait = circuit.wait();
        match &mut circuit.next_probe {
            None => true,
            Some(next_probe) if next_probe.reached(now) => {
                *next_probe = now.plus(wait);
                circuit.is_probing = true;
                true
            }
            Some(_) => false,
        }
    }

    /// Closes the circuit. Returns `true` if the circuit was open.
    pub(super) fn close(&self) -> bool {
        let was_open = self.lock().next_probe.is_some();
        if was_open {
            *self.lock() = Circuit::default();
        }
        was_open
    }

    /// Counts a failed call. Returns `true` if the call opens the circuit, or was the probe.
    ///
    /// Calls that began before the circuit opened fail together, and count once.
    pub(super) fn open(&self, now: &Now) -> bool {
        let mut circuit = self.lock();
        if circuit.next_probe.is_some() && !circuit.is_probing {
            return false;
        }
        circuit.failures = circuit.failures.saturating_add(1);
        circuit.is_probing = false;
        circuit.next_probe = Some(now.plus(circuit.wait()));
        true
    }

    fn lock(&self) -> MutexGuard<'_, Circuit> {
        // No code panics under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Circuit {
    fn wait(&self) -> Duration {
        let factor = 2_u32.saturating_pow(self.failures.saturating_sub(1));
        SHORTEST_WAIT.saturating_mul(factor).min(LONGEST_WAIT)
    }
}

const SHORTEST_WAIT: Duration = Duration::from_secs(2);
const LONGEST_WAIT: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::TimeSource;

    #[test]
    fn a_store_that_is_down_is_called_once_in_some_seconds() {
        let start = TimeSource::System.now();
        let at = |seconds: u64| start.moved(i64::try_from(seconds).unwrap(), seconds);
        let circuit = StoreCircuit::default();
        assert!(
            circuit.try_pass(&at(0)) && circuit.try_pass(&at(0)),
            "closed"
        );
        assert!(circuit.open(&at(0)));
        assert!(!circuit.open(&at(0)), "the second of two calls at a time");
        assert!(!circuit.try_pass(&at(1)), "open");
        assert!(circuit.try_pass(&at(2)), "the probe");
        assert!(!circuit.try_pass(&at(3)), "one probe at a time");
        assert!(circuit.open(&at(3)), "the probe failed");
        assert!(!circuit.try_pass(&at(6)), "twice the wait");
        assert!(circuit.try_pass(&at(7)));
        assert!(circuit.close(), "the probe succeeded");
        assert!(!circuit.close());
        assert!(circuit.try_pass(&at(7)) && circuit.try_pass(&at(7)));
        for failure in 1..20 {
            assert!(circuit.try_pass(&at(100 * failure)), "at most 15 seconds");
            circuit.open(&at(100 * failure));
        }
    }
}
