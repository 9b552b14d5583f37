use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cool_down::transient;
use super::sync::{Mutex, MutexGuard, PoisonError};
use crate::error::Error;
use crate::time::{Deadline, Now};
use crate::token::IssuedToken;

/// Whether the authority's host is up, as all slots together know it.
///
/// After three failures in a row on different slots without an answer, or with a 5xx, it is taken
/// to be down. Then one flight at a time is let through, the probe, first after a second and in the
/// end every 30, and the others fail at once, told why. Any answer opens it.
pub(crate) struct CircuitBreaker {
    /// After this time a flight is taken for lost.
    overdue: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The slots that failed since the last answer, each once.
    failed: Vec<usize>,
    down: Option<Down>,
}

struct Down {
    error: Error,
    failures: u32,
    next_probe: Deadline,
    probe: Option<Probe>,
}

struct Probe {
    flight: FlightId,
    overdue: Instant,
}

/// A flight, as the gate knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FlightId {
    /// The slot's address. Should a new slot have that of one that is gone, two failures count as
    /// one.
    pub(super) slot: usize,
    pub(super) generation: u64,
}

impl CircuitBreaker {
    pub(crate) fn new(overdue: Duration) -> Self {
        Self {
            overdue,
            state: Mutex::new(State::default()),
        }
    }

    /// When a flight that departs now is taken for lost. Monotonic alone: the flight's own timer is,
    /// and a step of the wall clock loses no flight.
    pub(super) fn overdue(&self, now: &Now) -> Instant {
        now.plus(self.overdue).monotonic
    }

    /// Lets a flight go.
    ///
    /// # Errors
    ///
    /// The host is down: why it is thought so, and when to come again.
    pub(super) fn pass(&self, flight: FlightId, now: &Now) -> Result<(), Error> {
        let mut state = self.lock();
        let Some(down) = &mut state.down else {
            return Ok(());
        };
        let passed = down.pass(flight, self.overdue(now), now);
        passed.map_err(|wait| down.error.with_retry_after(wait))
    }

    /// Whether a flight that nobody waits for may go.
    pub(super) fn lets_through(&self, flight: FlightId, now: &Now) -> bool {
        let mut state = self.lock();
        let down = state.down.as_mut();
        down.is_none_or(|down| down.pass(flight, self.overdue(now), now).is_ok())
    }

    /// Learns from what a flight brought; whether the host is from now on taken to be down.
    pub(super) fn report(
        &self,
        flight: FlightId,
        outcome: &Result<Arc<IssuedToken>, Error>,
        now: &Now,
        jitter: f64,
    ) -> bool {
        let mut state = self.lock();
        let probed = state.end_probe(flight);
        let error = match outcome {
            Err(error) if error.host_is_down() == Some(true) => error,
            // It was not asked.
            Err(error) if error.host_is_down().is_none() => return false,
            // It answered, be it with a refusal or a request to wait.
            _ => {
                *state = State::default();
                return false;
            }
        };
        state.fail(flight.slot, probed, error, now, jitter)
    }

    /// A flight ended without bringing anything, or long ago.
    pub(super) fn abandon(&self, flight: FlightId) {
        self.lock().end_probe(flight);
    }

    pub(crate) fn open(&self) {
        *self.lock() = State::default();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held; were it so, every field is still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Down {
    /// # Errors
    ///
    /// For how long to wait.
    fn pass(&mut self, flight: FlightId, overdue: Instant, now: &Now) -> Result<(), Duration> {
        let probe = self.probe.as_ref();
        if probe.is_some_and(|probe| now.monotonic < probe.overdue) {
            return Err(transient(1, 0.0));
        }
        if !self.next_probe.reached(now) {
            return Err(self.next_probe.remaining(now));
        }
        self.probe = Some(Probe { flight, overdue });
        Ok(())
    }
}

impl State {
    fn fail(&mut self, slot: usize, probed: bool, error: &Error, now: &Now, jitter: f64) -> bool {
        let failures = match &self.down {
            Some(down) if probed => down.failures.saturating_add(1),
            // A flight from before the host was taken to be down.
            Some(_) => return false,
            None => {
                if !self.failed.contains(&slot) {
                    self.failed.push(slot);
                }
                if self.failed.len() < IN_A_ROW {
                    return false;
                }
                1
            }
        };
        self.down = Some(Down {
            error: error.for_other_callers(),
            failures,
            next_probe: now.plus(transient(failures, jitter)),
            probe: None,
        });
        failures == 1
    }

    /// Whether it was the probe.
    fn end_probe(&mut self, flight: FlightId) -> bool {
        let down = self.down.as_mut();
        let probe = down.and_then(|down| down.probe.take_if(|probe| probe.flight == flight));
        probe.is_some()
    }
}

const IN_A_ROW: usize = 3;

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::error::{ErrorResponse, Failure};
    use crate::time::TimeSource;

    type Outcome = Result<Arc<IssuedToken>, Error>;

    struct Bench {
        gate: CircuitBreaker,
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
                gate: CircuitBreaker::new(Duration::from_secs(31)),
                now: TimeSource::System.now(),
            }
        }

        /// Closed by three slots.
        fn closed() -> Self {
            let bench = Self::new();
            let closes = [1, 2, 3].map(|slot| bench.report(slot, no_answer()));
            assert_eq!(closes, [false, false, true]);
            bench
        }

        fn sleep(&mut self, seconds: u64) {
            self.now.wall += Duration::from_secs(seconds);
            self.now.monotonic += Duration::from_secs(seconds);
        }

        fn report(&self, slot: usize, outcome: Outcome) -> bool {
            self.gate.report(flight(slot), &outcome, &self.now, 0.0)
        }

        /// For how many seconds a slot has to wait.
        fn wait(&self, slot: usize) -> Option<u64> {
            let refused = self.gate.pass(flight(slot), &self.now).err()?;
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
    fn three_slots_in_a_row_close_it() {
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
        // Two failures, this, another: does it close, and would it without what came before?
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
        let mut bench = Bench::closed();
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
            let mut bench = Bench::closed();
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
        let mut bench = Bench::closed();
        bench.sleep(1);
        assert_eq!(bench.wait(4), None);
        assert!(!bench.report(5, no_answer()));
        assert_eq!(bench.wait(6), Some(1), "the probe is still under way");
        bench.report(7, answered(400));
        assert_eq!(bench.wait(6), None);
    }

    #[test]
    fn a_probe_that_is_lost_is_replaced() {
        let mut bench = Bench::closed();
        bench.sleep(1);
        assert_eq!(bench.wait(4), None);
        bench.gate.abandon(FlightId {
            slot: 4,
            generation: 2,
        });
        assert_eq!(bench.wait(5), Some(1), "another flight of that slot");
        bench.gate.abandon(flight(4));
        assert_eq!(bench.wait(5), None);
        bench.sleep(31);
        assert_eq!(bench.wait(6), None, "or overdue");
    }

    #[test]
    fn a_probe_that_asked_nothing_is_replaced() {
        let mut bench = Bench::closed();
        bench.sleep(1);
        assert_eq!(bench.wait(4), None);
        bench.report(4, Err(Error::credential("no")));
        assert_eq!(bench.wait(5), None);
    }
}
