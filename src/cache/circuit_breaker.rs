use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cool_down::transient;
use super::sync::{Mutex, MutexGuard, PoisonError};
use crate::error::Error;
use crate::lease::{Lease, LeaseId};
use crate::time::{Deadline, Now};
use crate::token::IssuedToken;

/// A circuit breaker for the authority's host, shared by all slots.
///
/// Three failures in a row on different slots, each without a response or with a 5xx, open the
/// circuit. While the circuit is open, one flight at a time passes as the probe, first after a
/// second and later every 30 seconds. All other flights fail at once. Any response closes the
/// circuit.
pub(crate) struct CircuitBreaker {
    /// The time after which a flight is considered lost.
    overdue: Duration,
    state: Mutex<Circuit>,
}

#[derive(Default)]
struct Circuit {
    /// The slots that failed since the last response, each once.
    failed_slots: Vec<usize>,
    open: Option<OpenCircuit>,
}

struct OpenCircuit {
    error: Error,
    failures: u32,
    next_probe: Deadline,
    probe: Lease<FlightId>,
}

/// The identity of a flight across all slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FlightId {
    /// The slot's address. If a new slot gets the address of a removed one, two failures count as
    /// one.
    pub(super) slot: usize,
    pub(super) generation: LeaseId,
}

impl CircuitBreaker {
    pub(crate) fn new(overdue: Duration) -> Self {
        Self {
            overdue,
            state: Mutex::new(Circuit::default()),
        }
    }

    /// Returns the time at which a flight that starts now is considered lost.
    ///
    /// Monotonic time alone, as the flight's own timer: a step of the wall clock loses no flight.
    pub(super) fn overdue(&self, now: &Now) -> Instant {
        now.plus(self.overdue).monotonic()
    }

    /// Lets a flight pass.
    ///
    /// # Errors
    ///
    /// The circuit is open. The error says why, and when to retry.
    pub(super) fn try_pass(&self, flight: FlightId, now: &Now) -> Result<(), Error> {
        let mut state = self.lock();
        let Some(open) = &mut state.open else {
            return Ok(());
        };
        let passed = open.try_probe(flight, self.overdue(now), now);
        passed.map_err(|wait| open.error.with_retry_after(wait))
    }

    /// Lets a flight pass that no caller waits for. Returns `false` if the circuit is open.
    pub(super) fn allows(&self, flight: FlightId, now: &Now) -> bool {
        let mut state = self.lock();
        let open = state.open.as_mut();
        open.is_none_or(|open| open.try_probe(flight, self.overdue(now), now).is_ok())
    }

    /// Counts the outcome of a flight. Returns `true` if the outcome opens the circuit.
    pub(super) fn report(
        &self,
        flight: FlightId,
        outcome: &Result<Arc<IssuedToken>, Error>,
        now: &Now,
        jitter: f64,
    ) -> bool {
        let mut state = self.lock();
        let was_probe = state.end_probe(flight);
        let error = match outcome {
            Err(error) if error.host_is_down() == Some(true) => error,
            // No request was sent to the host.
            Err(error) if error.host_is_down().is_none() => return false,
            // The host responded, even if only with an error or a `Retry-After`.
            _ => {
                *state = Circuit::default();
                return false;
            }
        };
        state.fail(flight.slot, was_probe, error, now, jitter)
    }

    /// Ends the probe if this flight is the probe, without counting an outcome.
    pub(super) fn drop_flight(&self, flight: FlightId) {
        self.lock().end_probe(flight);
    }

    /// Closes the circuit and forgets all failures.
    pub(crate) fn reset(&self) {
        *self.lock() = Circuit::default();
    }

    #[cfg(any(feature = "metrics", feature = "opentelemetry"))]
    pub(super) fn is_open(&self) -> bool {
        self.lock().open.is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Circuit> {
        // No code panics under the lock, and every field would still be whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OpenCircuit {
    /// Lets a flight pass as the probe, or returns the time to wait.
    fn try_probe(&mut self, flight: FlightId, overdue: Instant, now: &Now) -> Result<(), Duration> {
        if self.probe.holder(now.monotonic()).is_some() {
            return Err(transient(1, 0.0));
        }
        if !self.next_probe.reached(now) {
            return Err(self.next_probe.remaining(now));
        }
        self.probe.grant(overdue, flight);
        Ok(())
    }
}

impl Circuit {
    /// Counts a failure of the host. Returns `true` if the failure opens the circuit.
    fn fail(
        &mut self,
        slot: usize,
        was_probe: bool,
        error: &Error,
        now: &Now,
        jitter: f64,
    ) -> bool {
        let failures = match &self.open {
            Some(open) if was_probe => open.failures.saturating_add(1),
            // The flight started before the circuit opened.
            Some(_) => return false,
            None => {
                if !self.failed_slots.contains(&slot) {
                    self.failed_slots.push(slot);
                }
                if self.failed_slots.len() < FAILURES_TO_OPEN {
                    return false;
                }
                1
            }
        };
        self.open = Some(OpenCircuit {
            error: error.for_other_callers(),
            failures,
            next_probe: now.plus(transient(failures, jitter)),
            probe: Lease::default(),
        });
        failures == 1
    }

    /// Ends the probe if `flight` is the probe. Returns `true` in that case.
    fn end_probe(&mut self, flight: FlightId) -> bool {
        let Some(open) = &mut self.open else {
            return false;
        };
        if open.probe.value() != Some(&flight) {
            return false;
        }
        let probe = open.probe.latest();
        open.probe.release(probe).is_some()
    }
}

const FAILURES_TO_OPEN: usize = 3;

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::error::{ErrorResponse, Failure};
    use crate::time::TimeSource;

    type Outcome = Result<Arc<IssuedToken>, Error>;

    struct Bench {
        breaker: CircuitBreaker,
        now: Now,
    }

    fn flight(slot: usize) -> FlightId {
        FlightId {
            slot,
            generation: 1,
        }
    }

    impl Bench {
        fn new() -> Self {
            Self {
                breaker: CircuitBreaker::new(Duration::from_secs(31)),
                now: TimeSource::System.now(),
            }
        }

        /// A circuit opened by the failures of three slots.
        fn open() -> Self {
            let bench = Self::new();
            let opens = [1, 2, 3].map(|slot| bench.report(slot, no_answer()));
            assert_eq!(opens, [false, false, true]);
            bench
        }

        fn sleep(&mut self, seconds: u64) {
            self.now = self.now.later(seconds);
        }

        fn report(&self, slot: usize, outcome: Outcome) -> bool {
            self.breaker.report(flight(slot), &outcome, &self.now, 0.0)
        }

        /// For how many seconds a slot has to wait.
        fn wait(&self, slot: usize) -> Option<u64> {
            let refused = self.breaker.try_pass(flight(slot), &self.now).err()?;
            assert!(matches!(refused, Error::Transport(_)), "{refused:?}");
            refused.retry_after().map(|wait| wait.as_secs())
        }
    }

    fn no_answer() -> Outcome {
        Err(Error::Transport(Failure::new("no answer").into()))
    }

    fn panicked() -> Error {
        Error::Transport(Failure::new("panicked").not_sent().into())
    }

    fn answered(status: u16) -> Outcome {
        let status = StatusCode::from_u16(status).unwrap();
        Err(Error::Server(
            ErrorResponse::new(status, "error".to_owned()).into(),
        ))
    }

    #[test]
    fn three_slots_in_a_row_open_the_circuit() {
        let bench = Bench::new();
        for slot in [1, 1, 1, 2] {
            assert!(!bench.report(slot, no_answer()));
            assert_eq!(bench.wait(9), None, "one slot counts once");
        }
        assert!(bench.report(3, no_answer()));
        assert_eq!(bench.wait(9), Some(1));
    }

    #[test]
    fn what_each_outcome_says_about_the_host() {
        let unreadable = |status: u16| -> Outcome {
            let failure = Failure::new("unreadable").status(StatusCode::from_u16(status).unwrap());
            Err(Error::InvalidResponse(failure.into()))
        };
        let throttled = |status: u16| -> Outcome {
            let failure = Failure::new("wait").status(StatusCode::from_u16(status).unwrap());
            Err(Error::Throttled(failure.into()))
        };
        let now = TimeSource::System.now();
        // Two failures, this, another: does it open, and would it without what came before?
        for (name, outcome, counts, forgives) in [
            ("no answer", no_answer(), true, false),
            ("500", answered(500), true, false),
            ("503, told to wait", throttled(503), true, false),
            ("a gateway's page", unreadable(502), true, false),
            ("429 is the slot's own", throttled(429), false, true),
            ("a refusal", answered(401), false, true),
            ("a captive portal", unreadable(200), false, true),
            (
                "a token",
                Ok(Arc::new(IssuedToken::sample("t", "t", 60, now))),
                false,
                true,
            ),
            ("no certificate", Err(Error::credential("no")), false, false),
            ("no request", Err(Error::config("no")), false, false),
            ("a panic", Err(panicked()), false, false),
        ] {
            let bench = Bench::new();
            bench.report(1, no_answer());
            bench.report(2, no_answer());
            assert_eq!(bench.report(3, outcome), counts, "{name}");
            if !counts {
                assert_eq!(bench.report(4, no_answer()), !forgives, "{name}");
            }
        }
    }

    #[test]
    fn one_probe_at_a_time_and_they_thin_out() {
        let mut bench = Bench::open();
        for (seconds, longer) in [(1, 2), (2, 4), (4, 8), (8, 16), (16, 30), (30, 30)] {
            assert_eq!(bench.wait(4), Some(seconds));
            bench.sleep(seconds);
            assert_eq!(bench.wait(4), None, "the probe");
            assert_eq!(bench.wait(5), Some(1), "while it is under way");
            assert!(!bench.report(4, no_answer()));
            assert_eq!(bench.wait(5), Some(longer));
        }
    }

    #[test]
    fn any_answer_opens_it() {
        for answer in [answered(400), answered(429)] {
            let mut bench = Bench::open();
            bench.sleep(1);
            assert_eq!(bench.wait(4), None);
            bench.report(4, answer);
            assert_eq!(bench.wait(5), None);
            assert_eq!(bench.wait(6), None);
            assert!(!bench.report(5, no_answer()), "counted from nothing");
        }
    }

    #[test]
    fn an_answer_to_a_flight_from_before_opens_it_and_a_failure_changes_nothing() {
        let mut bench = Bench::open();
        bench.sleep(1);
        assert_eq!(bench.wait(4), None);
        assert!(!bench.report(5, no_answer()));
        assert_eq!(bench.wait(6), Some(1), "the probe is still under way");
        bench.report(7, answered(400));
        assert_eq!(bench.wait(6), None);
    }

    #[test]
    fn a_probe_that_is_lost_is_replaced() {
        let mut bench = Bench::open();
        bench.sleep(1);
        assert_eq!(bench.wait(4), None);
        bench.breaker.drop_flight(FlightId {
            slot: 4,
            generation: 2,
        });
        assert_eq!(bench.wait(5), Some(1), "another flight of that slot");
        bench.breaker.drop_flight(flight(4));
        assert_eq!(bench.wait(5), None);
        bench.sleep(31);
        assert_eq!(bench.wait(6), None, "or overdue");
    }

    #[test]
    fn a_probe_that_asked_nothing_is_replaced() {
        let mut bench = Bench::open();
        bench.sleep(1);
        assert_eq!(bench.wait(4), None);
        bench.report(4, Err(Error::credential("no")));
        assert_eq!(bench.wait(5), None);
    }
}
