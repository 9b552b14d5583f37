use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;

use crate::error::Error;
use crate::time::{Deadline, Now};
use crate::token::Issued;

/// The place of one key: its token, the one flight that may be fetching another, and the memory of
/// the last failure. `F` is a handle on a flight; nothing here knows what one is.
///
/// | | what it does |
/// |---|---|
/// | [`get`](Self::get) | reads the token and never waits |
/// | [`join`](Self::join) | nothing to serve: joins the flight, or starts one |
/// | [`renew`](Self::renew) | a token is due: starts a flight, if there is none |
/// | [`land`](Self::land) | a flight brought a token or an error |
/// | [`abandon`](Self::abandon) | a flight brought nothing and never will |
/// | [`clear`](Self::clear) | everything is forgotten but a flight |
pub(crate) struct Slot<F> {
    /// Read without the lock, and never cleared by a failure.
    current: ArcSwapOption<Issued>,
    state: Mutex<State<F>>,
}

struct State<F> {
    flight: Option<Running<F>>,
    /// How many flights have started: the number of the latest.
    generation: u64,
    cool_down: Option<CoolDown>,
    failures: u32,
}

struct Running<F> {
    generation: u64,
    handle: F,
    /// Past it the flight is taken for lost, and another may start. Monotonic alone: the flight's
    /// own timer is, and a step of the wall clock loses no flight.
    overdue: Instant,
}

/// For how long the last failure is everybody's answer.
struct CoolDown {
    error: Error,
    over: Deadline,
}

/// What a slot has for a caller.
pub(crate) enum Answer {
    Fresh(Arc<Issued>),
    /// Good, and due to be renewed behind the caller's back.
    Stale(Arc<Issued>),
    /// Nothing to serve.
    Wait,
}

/// What became of a caller who found nothing to serve.
pub(crate) enum Joined<F> {
    Served(Arc<Issued>),
    Refused(Error),
    Aboard { generation: u64, flight: F },
}

impl<F: Clone> Slot<F> {
    pub(crate) fn new() -> Self {
        Self {
            current: ArcSwapOption::empty(),
            state: Mutex::new(State {
                flight: None,
                generation: 0,
                cool_down: None,
                failures: 0,
            }),
        }
    }

    /// The one decision of the fast path.
    pub(crate) fn get(&self, now: &Now) -> Answer {
        match &*self.current.load() {
            Some(issued) if issued.lifetime.unusable.reached(now) => Answer::Wait,
            Some(issued) if issued.lifetime.refresh.reached(now) => {
                Answer::Stale(Arc::clone(issued))
            }
            Some(issued) => Answer::Fresh(Arc::clone(issued)),
            None => Answer::Wait,
        }
    }

    /// Joins the running flight; where there is none, starts what `launch` announces, unless the
    /// last failure still answers for it. `launch` is given the flight's generation and the overdue
    /// flight that it replaces, if any.
    pub(crate) fn join(&self, now: &Now, launch: impl FnOnce(u64, Option<F>) -> F) -> Joined<F> {
        let mut state = self.lock();
        // Another caller's flight may have stored a token while this one waited for the lock.
        if let Answer::Fresh(issued) | Answer::Stale(issued) = self.get(now) {
            return Joined::Served(issued);
        }
        if let Some(running) = state.running(now) {
            return Joined::Aboard {
                generation: running.generation,
                flight: running.handle.clone(),
            };
        }
        if let Some(CoolDown { error, over }) = state.cooling(now) {
            return Joined::Refused(error.with_retry_after(over.remaining(now)));
        }
        let (generation, flight) = state.start(now, launch);
        Joined::Aboard { generation, flight }
    }

    /// Starts a flight as [`join`](Self::join) does, to renew a token that is due, unless one is
    /// under way, has just landed or has just failed.
    pub(crate) fn renew(&self, now: &Now, launch: impl FnOnce(u64, Option<F>) -> F) {
        let mut state = self.lock();
        // Another caller's flight may have stored a token while this one waited for the lock.
        if let Answer::Fresh(_) = self.get(now) {
            return;
        }
        if state.running(now).is_some() || state.cooling(now).is_some() {
            return;
        }
        state.start(now, launch);
    }

    /// Takes what a flight brought, and gives back what its passengers are to be told: of an error,
    /// also for how long it will be remembered. A token is stored if it outlives the one at hand;
    /// an error never removes one. `jitter`, from 0 to 1, moves the end of the cool-down.
    pub(crate) fn land(
        &self,
        generation: u64,
        outcome: Result<Arc<Issued>, Error>,
        now: &Now,
        jitter: f64,
    ) -> Result<Arc<Issued>, Error> {
        let mut state = self.lock();
        let overtaken = generation != state.generation;
        let told = match outcome {
            Ok(issued) => {
                if !overtaken || self.is_outlived_by(&issued) {
                    self.current.store(Some(Arc::clone(&issued)));
                    state.cool_down = None;
                    state.failures = 0;
                }
                Ok(issued)
            }
            // A flight that another has overtaken has no say in what is remembered.
            Err(error) if overtaken => Err(error),
            Err(error) => {
                // Failures of one kind add up: after an outage, a refusal is the first of its own.
                let last = state.cool_down.as_ref();
                if last.is_some_and(|last| last.error.is_transient() != error.is_transient()) {
                    state.failures = 0;
                }
                state.failures = state.failures.saturating_add(1);
                let length = cool_down(&error, state.failures, jitter);
                let error = error.with_retry_after(length);
                state.cool_down = Some(CoolDown {
                    error: error.clone(),
                    over: now.plus(length),
                });
                Err(error)
            }
        };
        state.end(generation);
        told
    }

    /// Forgets a flight that will not land: it went down with its runtime.
    pub(crate) fn abandon(&self, generation: u64) {
        self.lock().end(generation);
    }

    /// Whether there is neither a token to serve nor a failure to remember.
    pub(crate) fn is_idle(&self, now: &Now) -> bool {
        matches!(self.get(now), Answer::Wait) && self.lock().cooling(now).is_none()
    }

    /// Forgets the token and the last failure; a flight under way goes on.
    pub(crate) fn clear(&self) {
        let mut state = self.lock();
        state.cool_down = None;
        state.failures = 0;
        self.current.store(None);
    }

    /// The flight under way, if any.
    pub(crate) fn flight(&self) -> Option<F> {
        let state = self.lock();
        state.flight.as_ref().map(|running| running.handle.clone())
    }

    fn is_outlived_by(&self, issued: &Issued) -> bool {
        match &*self.current.load() {
            Some(current) => issued.lifetime.unusable.wall > current.lifetime.unusable.wall,
            None => true,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<F>> {
        // Nothing panics while it is held; were it so, every field is still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F: Clone> State<F> {
    fn running(&self, now: &Now) -> Option<&Running<F>> {
        self.flight
            .as_ref()
            .filter(|running| now.monotonic < running.overdue)
    }

    /// The last failure, as long as it answers for the next attempt.
    fn cooling(&self, now: &Now) -> Option<&CoolDown> {
        self.cool_down
            .as_ref()
            .filter(|last| !last.over.reached(now))
    }

    fn start(&mut self, now: &Now, launch: impl FnOnce(u64, Option<F>) -> F) -> (u64, F) {
        self.generation = self.generation.wrapping_add(1);
        let replaced = self.flight.take().map(|running| running.handle);
        let handle = launch(self.generation, replaced);
        self.flight = Some(Running {
            generation: self.generation,
            handle: handle.clone(),
            overdue: now.monotonic + OVERDUE,
        });
        (self.generation, handle)
    }

    fn end(&mut self, generation: u64) {
        // By generation: what ends may have been replaced.
        self.flight
            .take_if(|running| running.generation == generation);
    }
}

/// How long a failure answers for further attempts. What the server asked for counts; without it,
/// attempts thin out: from one second to 30 for what time may cure, from five to 60 for a refusal.
fn cool_down(error: &Error, failures: u32, jitter: f64) -> Duration {
    if let Some(asked) = error.retry_after() {
        return asked;
    }
    let doubled = |first: u64, longest: u64| {
        let factor = 2_u64.saturating_pow(failures.saturating_sub(1));
        Duration::from_secs(first.saturating_mul(factor).min(longest))
    };
    if error.is_transient() {
        // Up to a quarter more, so that a fleet that failed together does not return together.
        doubled(1, 30).mul_f64(1.0 + 0.25 * jitter.clamp(0.0, 1.0))
    } else {
        doubled(5, 60)
    }
}

/// The limit on a whole flight, every attempt included: what it runs has to end by then.
pub(crate) const FLIGHT_LIMIT: Duration = Duration::from_secs(30);
/// A little later, a flight that did not is given up by those who wait.
pub(crate) const OVERDUE: Duration = Duration::from_secs(31);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Failure;
    use crate::time::TimeSource;

    /// A slot whose flights are their own numbers, at a time that only the test moves.
    struct Bench {
        slot: Slot<u64>,
        now: Now,
    }

    impl Bench {
        fn new() -> Self {
            Self {
                slot: Slot::new(),
                now: TimeSource::System.now(),
            }
        }

        fn sleep(&mut self, seconds: u64) {
            self.now.wall += Duration::from_secs(seconds);
            self.now.monotonic += Duration::from_secs(seconds);
        }

        fn token(&self, name: &str, seconds: u64) -> Result<Arc<Issued>, Error> {
            Ok(Arc::new(Issued::sample("t", name, seconds, self.now)))
        }

        fn land(&self, generation: u64, outcome: Result<Arc<Issued>, Error>) {
            let _ = self.slot.land(generation, outcome, &self.now, 0.0);
        }

        /// What a caller meets, in a word and a number.
        fn join(&self) -> String {
            let mut started = false;
            let joined = self.slot.join(&self.now, |generation, _| {
                started = true;
                generation
            });
            match joined {
                Joined::Served(_) => "served".to_owned(),
                Joined::Refused(error) => {
                    format!("refused for {}", error.retry_after().unwrap().as_secs())
                }
                Joined::Aboard { flight, .. } if started => format!("started {flight}"),
                Joined::Aboard { flight, .. } => format!("joined {flight}"),
            }
        }

        fn renews(&self) -> bool {
            let mut started = false;
            self.slot.renew(&self.now, |generation, _| {
                started = true;
                generation
            });
            started
        }

        /// Which token is there.
        fn fresh(&self) -> String {
            match self.slot.get(&self.now) {
                Answer::Fresh(issued) => issued.text().to_owned(),
                _ => "none".to_owned(),
            }
        }

        fn get(&self) -> &'static str {
            match self.slot.get(&self.now) {
                Answer::Fresh(_) => "fresh",
                Answer::Stale(_) => "stale",
                Answer::Wait => "wait",
            }
        }
    }

    fn no_answer() -> Result<Arc<Issued>, Error> {
        Err(Error::Transport(Failure::new("no answer").into()))
    }

    #[test]
    fn a_token_is_fresh_then_stale_then_gone() {
        let mut bench = Bench::new();
        assert_eq!(bench.get(), "wait");
        bench.join();
        bench.land(1, bench.token("a", 3600));
        for (seconds, answer) in [
            (0, "fresh"),
            (3299, "fresh"),
            (1, "stale"),
            (289, "stale"),
            (1, "wait"),
        ] {
            bench.sleep(seconds);
            assert_eq!(bench.get(), answer);
        }
    }

    #[test]
    fn either_clock_ends_a_token() {
        let mut bench = Bench::new();
        bench.join();
        bench.land(1, bench.token("a", 3600));
        bench.now.wall += Duration::from_secs(3590);
        assert_eq!(bench.get(), "wait", "the machine was suspended");
        bench.now.wall -= Duration::from_secs(7200);
        assert_eq!(bench.get(), "fresh", "the wall clock was set back");
        bench.now.monotonic += Duration::from_secs(3590);
        assert_eq!(bench.get(), "wait", "and the token lived on while it was");
    }

    #[test]
    fn one_flight_and_everybody_joins_it() {
        let bench = Bench::new();
        assert_eq!(bench.join(), "started 1");
        assert_eq!(bench.join(), "joined 1");
        assert!(!bench.renews());
        bench.land(1, bench.token("a", 3600));
        assert_eq!(bench.join(), "served");
    }

    #[test]
    fn a_due_token_is_renewed_by_one_flight() {
        let mut bench = Bench::new();
        bench.join();
        bench.land(1, bench.token("a", 3600));
        assert!(!bench.renews(), "it is fresh");
        bench.sleep(3300);
        assert!(bench.renews());
        assert!(!bench.renews(), "a flight is under way");
        bench.land(2, bench.token("b", 3600));
        assert!(!bench.renews(), "another caller's flight has landed");
    }

    /// failures.md F1, F3 and M9.
    #[test]
    fn a_failure_never_removes_a_token_and_is_tried_again() {
        let mut bench = Bench::new();
        bench.join();
        bench.land(1, bench.token("a", 3600));
        bench.sleep(3300);
        assert!(bench.renews());
        bench.land(2, no_answer());
        assert_eq!(bench.get(), "stale");
        assert!(!bench.renews(), "cooling down");
        bench.sleep(1);
        assert!(bench.renews());
    }

    #[test]
    fn a_failure_answers_for_those_who_come_in_the_next_moments() {
        let mut bench = Bench::new();
        bench.join();
        bench.land(1, no_answer());
        assert_eq!(bench.join(), "refused for 1");
        bench.sleep(1);
        assert_eq!(bench.join(), "started 2");
        bench.land(2, no_answer());
        assert_eq!(bench.join(), "refused for 2", "twice in a row");
        bench.sleep(2);
        assert_eq!(bench.join(), "started 3");
        bench.land(3, bench.token("a", 1));
        bench.sleep(1);
        assert_eq!(bench.join(), "started 4", "a success clears the memory");
        bench.land(4, no_answer());
        assert_eq!(bench.join(), "refused for 1", "and the count");
    }

    #[test]
    fn whoever_waited_is_told_for_how_long_the_failure_is_remembered() {
        let bench = Bench::new();
        bench.join();
        let told = bench.slot.land(1, no_answer(), &bench.now, 0.0);
        assert_eq!(
            told.err().and_then(|error| error.retry_after()),
            Some(Duration::from_secs(1))
        );
    }

    #[test]
    fn a_cool_down_has_the_length_that_its_cause_asks_for() {
        let no_answer = || Error::Transport(Failure::new("no answer").into());
        let told_to_wait = || {
            let failure = Failure::new("wait").retry_after(Some(Duration::from_secs(7)));
            Error::Throttled(failure.into())
        };
        for (name, error, failures, jitter, seconds) in [
            ("transient", no_answer(), 1, 0.0, 1.0),
            ("transient, doubled", no_answer(), 4, 0.0, 8.0),
            ("transient, at its longest", no_answer(), 9, 0.0, 30.0),
            ("after years", no_answer(), u32::MAX, 0.0, 30.0),
            ("jitter adds up to a quarter", no_answer(), 4, 1.0, 10.0),
            ("refused", Error::config("no"), 1, 0.0, 5.0),
            (
                "refused, doubled, without jitter",
                Error::config("no"),
                2,
                1.0,
                10.0,
            ),
            ("refused, at its longest", Error::config("no"), 9, 0.0, 60.0),
            ("Retry-After, to the letter", told_to_wait(), 9, 1.0, 7.0),
        ] {
            let length = cool_down(&error, failures, jitter).as_secs_f64();
            assert_eq!(length, seconds, "{name}");
        }
    }

    #[test]
    fn an_abandoned_flight_is_replaced_at_once() {
        let bench = Bench::new();
        assert_eq!(bench.join(), "started 1");
        bench.slot.abandon(1);
        assert_eq!(bench.join(), "started 2");
        bench.slot.abandon(1);
        assert_eq!(
            bench.join(),
            "joined 2",
            "what is over cannot end its successor"
        );
    }

    /// failures.md F7: a flight is known by its generation.
    #[test]
    fn an_overdue_flight_is_replaced_and_its_late_token_kept_only_if_it_lasts_longer() {
        let mut bench = Bench::new();
        assert_eq!(bench.join(), "started 1");
        let late = bench.token("late", 3600);
        bench.sleep(30);
        assert_eq!(bench.join(), "joined 1");
        bench.sleep(1);
        assert_eq!(bench.join(), "started 2");
        bench.land(2, bench.token("in time", 3600));
        bench.land(1, late);
        assert_eq!(bench.fresh(), "in time");
        bench.land(1, bench.token("later still", 7000));
        assert_eq!(bench.fresh(), "later still");
    }

    #[test]
    fn a_step_of_the_wall_clock_loses_no_flight() {
        let mut bench = Bench::new();
        assert_eq!(bench.join(), "started 1");
        bench.now.wall += Duration::from_secs(7200);
        assert_eq!(bench.join(), "joined 1");
    }

    #[test]
    fn a_refusal_after_an_outage_is_the_first_of_its_kind() {
        let mut bench = Bench::new();
        for generation in 1..=5 {
            bench.join();
            bench.land(generation, no_answer());
            bench.sleep(30);
        }
        bench.join();
        bench.land(6, Err(Error::config("refused")));
        assert_eq!(bench.join(), "refused for 5");
        bench.sleep(5);
        bench.join();
        bench.land(7, Err(Error::config("refused")));
        assert_eq!(bench.join(), "refused for 10");
    }

    #[test]
    fn a_late_error_is_not_remembered() {
        let mut bench = Bench::new();
        bench.join();
        bench.sleep(31);
        assert_eq!(bench.join(), "started 2");
        bench.land(1, no_answer());
        bench.slot.abandon(2);
        assert_eq!(bench.join(), "started 3");
    }

    #[test]
    fn a_late_token_ends_the_memory_of_its_successors_failure() {
        let mut bench = Bench::new();
        bench.join();
        bench.sleep(31);
        assert_eq!(bench.join(), "started 2");
        bench.land(2, Err(Error::config("refused")));
        bench.land(1, bench.token("late", 1));
        bench.sleep(1);
        assert_eq!(bench.join(), "started 3");
    }

    #[test]
    fn a_token_shorter_than_the_one_at_hand_replaces_it_when_asked_for() {
        let mut bench = Bench::new();
        bench.join();
        bench.land(1, bench.token("long", 3600));
        bench.sleep(3300);
        bench.renews();
        bench.land(2, bench.token("short", 200));
        assert_eq!(bench.fresh(), "short");
    }
}
