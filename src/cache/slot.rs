use std::sync::Arc;
use std::time::Instant;

use super::bounded_map::Evictable;
use super::circuit_breaker::{CircuitBreaker, FlightId};
use super::cool_down::CoolDown;
use super::rejections::Rejections;
use super::requirements::Requirements;
use super::sync::{Current, Mutex, MutexGuard, PoisonError};
use crate::error::Error;
use crate::time::Now;
use crate::token::{CacheKey, IssuedToken, Stage};

/// The place of one key: its token, the one flight that may be fetching another, and the memory of
/// what went wrong. `F` is a handle on a flight; nothing here knows what one is.
///
/// | | what it does |
/// |---|---|
/// | [`get`](Self::get) | reads the token and never waits |
/// | [`join`](Self::join) | nothing to serve: joins the flight, or starts one |
/// | [`renew`](Self::renew) | a token is due: starts a flight, if there is none |
/// | [`land`](Self::land) | a flight brought a token or an error |
/// | [`store`](Self::store) | a token came without a flight |
/// | [`forgive`](Self::forgive) | what failed was mended |
/// | [`abandon`](Self::abandon) | a flight brought nothing and never will |
/// | [`invalidate`](Self::invalidate) | an API did not take the token |
/// | [`clear`](Self::clear) | everything is forgotten but a flight |
/// | [`forget`](Self::forget) | everything is, and what a flight brings |
pub(crate) struct Slot<F> {
    key: Arc<CacheKey>,
    /// Read without the lock, and never cleared by a failure.
    current: Current<IssuedToken>,
    state: Mutex<State<F>>,
}

struct State<F> {
    /// Boxed, as most slots have none most of the time.
    flight: Option<Box<Running<F>>>,
    /// How many flights have started: the number of the latest.
    generation: u64,
    /// The last flight that nothing is kept of.
    forgotten: u64,
    cool_down: CoolDown,
    rejections: Rejections,
}

struct Running<F> {
    generation: u64,
    handle: F,
    /// Past it the flight is taken for lost, and another may start.
    overdue: Instant,
    claims: Option<Arc<str>>,
    after_rejection: bool,
}

/// What a slot has for a caller.
pub(crate) enum Cached {
    Fresh(Arc<IssuedToken>),
    /// Good, and due to be renewed behind the caller's back.
    Stale(Arc<IssuedToken>),
    /// Nothing to serve.
    Miss,
}

/// What became of a caller who found nothing to serve.
pub(crate) enum Joined<F> {
    Served(Arc<IssuedToken>),
    Refused(Error),
    /// A flight would have to be started, and the caller may not.
    Full,
    Aboard {
        generation: u64,
        flight: F,
    },
    /// The flight under way is for other claims; its end is to be waited for.
    Behind {
        generation: u64,
        flight: F,
    },
}

impl<F: Clone> Slot<F> {
    pub(crate) fn new(key: Arc<CacheKey>) -> Self {
        Self {
            key,
            current: Current::default(),
            state: Mutex::new(State {
                flight: None,
                generation: 0,
                forgotten: 0,
                cool_down: CoolDown::default(),
                rejections: Rejections::default(),
            }),
        }
    }

    pub(crate) fn key(&self) -> &Arc<CacheKey> {
        &self.key
    }

    /// The one decision of the fast path.
    #[inline]
    pub(crate) fn get(&self, now: &Now, requirements: &Requirements) -> Cached {
        let current = self.current.load();
        let Some(issued) = &*current else {
            return Cached::Miss;
        };
        match issued.lifetime.stage(now) {
            Stage::Ended => Cached::Miss,
            _ if !requirements.are_met_by(issued, now) => Cached::Miss,
            Stage::Due => Cached::Stale(Arc::clone(issued)),
            Stage::Fresh => Cached::Fresh(Arc::clone(issued)),
        }
    }

    /// Joins the running flight; where there is none, starts what `launch` announces, unless the
    /// last failure still answers for it, or the gate is closed. `launch` is given the flight's
    /// generation and the overdue flight that it replaces, if any.
    pub(crate) fn join(
        &self,
        now: &Now,
        requirements: &Requirements,
        gate: &CircuitBreaker,
        launch: Option<impl FnOnce(u64, Option<F>) -> F>,
    ) -> Joined<F> {
        let mut state = self.lock();
        let current = self.usable(now);
        // Another caller's flight may have stored a token while this one waited for the lock.
        if let Some(issued) = &current
            && requirements.are_met_by_current(issued, state.rejections.came_by(), now)
        {
            return Joined::Served(Arc::clone(issued));
        }
        if let Some(running) = state.running(now) {
            let (generation, flight) = (running.generation, running.handle.clone());
            return if requirements.are_met_by_flight(running.claims.as_deref()) {
                Joined::Aboard { generation, flight }
            } else {
                Joined::Behind { generation, flight }
            };
        }
        if let (Some(issued), true) = (current, requirements.are_of_a_rejection())
            && !state.rejections.allow(requirements.claims(), now)
        {
            return Joined::Served(issued);
        }
        if let Some(error) = state.cool_down.answer(requirements.claims(), now) {
            return Joined::Refused(error);
        }
        let Some(launch) = launch else {
            return Joined::Full;
        };
        if let Err(error) = gate.pass(self.flight_id(state.next()), now) {
            return Joined::Refused(error);
        }
        let (generation, flight) = state.start(gate.overdue(now), requirements, launch);
        Joined::Aboard { generation, flight }
    }

    /// Starts a flight as [`join`](Self::join) does, to renew a token that is due, unless one is
    /// under way, has just landed or has just failed.
    pub(crate) fn renew(
        &self,
        now: &Now,
        gate: &CircuitBreaker,
        launch: impl FnOnce(u64, Option<F>) -> F,
    ) {
        let mut state = self.lock();
        // Another caller's flight may have stored a token while this one waited for the lock.
        if let Cached::Fresh(_) = self.get(now, &Requirements::NONE) {
            return;
        }
        if state.running(now).is_none()
            && state.cool_down.is_over(None, now)
            && gate.lets_through(self.flight_id(state.next()), now)
        {
            state.start(gate.overdue(now), &Requirements::NONE, launch);
        }
    }

    /// Takes what a flight brought, and gives back what its passengers are to be told: of an error,
    /// also for how long it will be remembered. A token is stored if it outlives the one at hand;
    /// an error never removes one. `jitter`, from 0 to 1, moves the end of the cool-down.
    pub(crate) fn land(
        &self,
        generation: u64,
        outcome: Result<Arc<IssuedToken>, Error>,
        now: &Now,
        jitter: f64,
    ) -> Result<Arc<IssuedToken>, Error> {
        let mut state = self.lock();
        let overtaken = generation != state.generation;
        let (claims, after_rejection) = match state.end(generation) {
            Some(running) => (running.claims, running.after_rejection),
            None => (None, false),
        };
        if generation <= state.forgotten {
            return outcome;
        }
        match outcome {
            Ok(issued) => {
                if !overtaken || self.is_outlived_by(&issued) {
                    self.current.store(Some(Arc::clone(&issued)));
                    state.cool_down = CoolDown::default();
                    if after_rejection {
                        state.rejections.renewed(claims.clone(), now);
                    }
                    state.rejections.comes_by(claims);
                }
                Ok(issued)
            }
            // A flight that another has overtaken has no say in what is remembered.
            Err(error) if overtaken => Err(error),
            Err(error) => Err(state.cool_down.begin(error, claims, now, jitter)),
        }
    }

    /// Keeps a token that came without a flight, as by a user's signing in; what failed before has
    /// no say any more, nor has what was asked for before.
    pub(crate) fn store(&self, issued: Arc<IssuedToken>) {
        let mut state = self.lock();
        state.forgotten = state.generation;
        state.cool_down = CoolDown::default();
        self.current.store(Some(issued));
    }

    /// Forgets the last failure alone: what it was about has been mended.
    pub(crate) fn forgive(&self) {
        self.lock().cool_down = CoolDown::default();
    }

    /// Forgets a flight that will not land: it went down with its runtime.
    pub(crate) fn abandon(&self, generation: u64) {
        self.lock().end(generation);
    }

    /// Removes the token if it is still this one, unless that has just been done.
    pub(crate) fn invalidate(&self, rejected: &IssuedToken, now: &Now) -> Invalidated {
        let mut state = self.lock();
        match &*self.current.load() {
            Some(issued) if issued.is_same_token(rejected) => {}
            _ => return Invalidated::Replaced,
        }
        if !state.rejections.allow(None, now) {
            return Invalidated::TooSoon;
        }
        state.rejections.renewed(None, now);
        self.current.store(None);
        Invalidated::Removed
    }

    /// Forgets the token and the last failure; a flight under way goes on.
    pub(crate) fn clear(&self) {
        let mut state = self.lock();
        state.cool_down = CoolDown::default();
        state.rejections = Rejections::default();
        self.current.store(None);
    }

    /// Forgets the token and what a flight under way will bring: aborted, it may land all the same.
    pub(crate) fn forget(&self) {
        let mut state = self.lock();
        state.forgotten = state.generation;
        drop(state);
        self.clear();
    }

    /// The flight under way, if any.
    pub(crate) fn flight(&self) -> Option<F> {
        let state = self.lock();
        state.flight.as_ref().map(|running| running.handle.clone())
    }

    pub(super) fn flight_id(&self, generation: u64) -> FlightId {
        FlightId {
            slot: std::ptr::from_ref(self).addr(),
            generation,
        }
    }

    fn usable(&self, now: &Now) -> Option<Arc<IssuedToken>> {
        match self.get(now, &Requirements::NONE) {
            Cached::Fresh(issued) | Cached::Stale(issued) => Some(issued),
            Cached::Miss => None,
        }
    }

    fn is_outlived_by(&self, issued: &IssuedToken) -> bool {
        match &*self.current.load() {
            Some(current) => issued.lifetime.expires_on() > current.lifetime.expires_on(),
            None => true,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<F>> {
        // Nothing panics while it is held; were it so, every field is still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F: Clone> Evictable for Slot<F> {
    /// Neither a token to serve nor a failure to remember.
    fn can_evict(&self, now: &Now) -> bool {
        self.usable(now).is_none() && self.lock().cool_down.is_over(None, now)
    }
}

impl<F: Clone> State<F> {
    fn running(&self, now: &Now) -> Option<&Running<F>> {
        self.flight
            .as_deref()
            .filter(|running| now.monotonic < running.overdue)
    }

    /// The generation of the next flight.
    fn next(&self) -> u64 {
        self.generation.wrapping_add(1)
    }

    fn start(
        &mut self,
        overdue: Instant,
        requirements: &Requirements,
        launch: impl FnOnce(u64, Option<F>) -> F,
    ) -> (u64, F) {
        self.generation = self.next();
        let replaced = self.flight.take().map(|running| running.handle);
        let handle = launch(self.generation, replaced);
        self.flight = Some(Box::new(Running {
            generation: self.generation,
            handle: handle.clone(),
            overdue,
            claims: requirements.claims().cloned(),
            after_rejection: requirements.are_of_a_rejection(),
        }));
        (self.generation, handle)
    }

    fn end(&mut self, generation: u64) -> Option<Box<Running<F>>> {
        // By generation: what ends may have been replaced.
        self.flight
            .take_if(|running| running.generation == generation)
    }
}

/// What became of a token that an API did not take.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Invalidated {
    Removed,
    /// There is another by now, or none.
    Replaced,
    /// The last renewal for such a reason was a moment ago.
    TooSoon,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::requirements::SpecialRequirements;
    use super::*;
    use crate::error::Failure;
    use crate::time::TimeSource;

    /// A slot whose flights are their own numbers, at a time that only the test moves.
    struct Bench {
        slot: Slot<u64>,
        gate: CircuitBreaker,
        now: Now,
    }

    impl Bench {
        fn new() -> Self {
            Self {
                slot: Slot::new(CacheKey::sample("t")),
                gate: CircuitBreaker::new(Duration::from_secs(31)),
                now: TimeSource::System.now(),
            }
        }

        fn sleep(&mut self, seconds: u64) {
            self.now.wall += Duration::from_secs(seconds);
            self.now.monotonic += Duration::from_secs(seconds);
        }

        fn token(&self, name: &str, seconds: u64) -> Result<Arc<IssuedToken>, Error> {
            Ok(Arc::new(IssuedToken::sample("t", name, seconds, self.now)))
        }

        fn land(&self, generation: u64, outcome: Result<Arc<IssuedToken>, Error>) {
            let _ = self.slot.land(generation, outcome, &self.now, 0.0);
        }

        /// What a caller meets, in a word and a number.
        fn join(&self) -> String {
            self.join_with(SpecialRequirements::default())
        }

        fn join_with(&self, special: SpecialRequirements) -> String {
            let mut started = false;
            let requirements = Requirements::new(special);
            let launch = |generation, _| {
                started = true;
                generation
            };
            let joined = self
                .slot
                .join(&self.now, &requirements, &self.gate, Some(launch));
            match joined {
                Joined::Served(issued) => format!("served {}", issued.secret()),
                Joined::Full => unreachable!("it may start"),
                Joined::Behind { flight, .. } => format!("behind {flight}"),
                Joined::Refused(error) => {
                    format!("refused for {}", error.retry_after().unwrap().as_secs())
                }
                Joined::Aboard { flight, .. } if started => format!("started {flight}"),
                Joined::Aboard { flight, .. } => format!("joined {flight}"),
            }
        }

        fn renews(&self) -> bool {
            let mut started = false;
            self.slot.renew(&self.now, &self.gate, |generation, _| {
                started = true;
                generation
            });
            started
        }

        /// Which token is there.
        fn fresh(&self) -> String {
            match self.slot.get(&self.now, &Requirements::NONE) {
                Cached::Fresh(issued) => issued.secret().to_owned(),
                _ => "none".to_owned(),
            }
        }

        fn get(&self) -> &'static str {
            match self.slot.get(&self.now, &Requirements::NONE) {
                Cached::Fresh(_) => "fresh",
                Cached::Stale(_) => "stale",
                Cached::Miss => "wait",
            }
        }
    }

    fn no_answer() -> Result<Arc<IssuedToken>, Error> {
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
        assert_eq!(bench.join(), "served a");
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

    /// What an API says about a token.
    fn rejected(
        token: &Result<Arc<IssuedToken>, Error>,
        claims: Option<&str>,
    ) -> SpecialRequirements {
        SpecialRequirements {
            claims: claims.map(Arc::from),
            rejected: token.as_ref().ok().cloned(),
            ..SpecialRequirements::default()
        }
    }

    fn with_claims(claims: &str) -> SpecialRequirements {
        rejected(&no_answer(), Some(claims))
    }

    fn forced() -> SpecialRequirements {
        SpecialRequirements {
            force_refresh: true,
            ..SpecialRequirements::default()
        }
    }

    fn lasting(seconds: u64) -> SpecialRequirements {
        SpecialRequirements {
            min_remaining: Duration::from_secs(seconds),
            ..SpecialRequirements::default()
        }
    }

    /// A slot with a token of an hour.
    fn with_a_token() -> (Bench, Result<Arc<IssuedToken>, Error>) {
        let bench = Bench::new();
        bench.join();
        let token = bench.token("a", 3600);
        bench.land(1, token.clone());
        (bench, token)
    }

    /// failures.md M20.
    #[test]
    fn one_rejected_token_is_renewed_by_one_flight() {
        let (bench, a) = with_a_token();
        assert_eq!(bench.join_with(rejected(&a, None)), "started 2");
        assert_eq!(bench.join_with(rejected(&a, None)), "joined 2");
        assert_eq!(bench.fresh(), "a", "for those who know nothing of it");
        bench.land(2, bench.token("b", 3600));
        assert_eq!(bench.join_with(rejected(&a, None)), "served b");
    }

    #[test]
    fn a_rejected_token_that_comes_again_is_the_same_token() {
        let (mut bench, a) = with_a_token();
        bench.join_with(rejected(&a, None));
        bench.land(2, bench.token("a", 3600));
        bench.sleep(30);
        assert_eq!(bench.join_with(rejected(&a, None)), "started 3");
    }

    #[test]
    fn claims_go_with_a_flight_of_their_own_and_others_wait_for_its_end() {
        let (bench, a) = with_a_token();
        assert_eq!(bench.join_with(rejected(&a, Some("1"))), "started 2");
        assert_eq!(bench.join_with(rejected(&a, Some("1"))), "joined 2");
        assert_eq!(bench.join_with(with_claims("1")), "joined 2");
        assert_eq!(bench.join_with(rejected(&a, Some("2"))), "behind 2");
        assert_eq!(bench.join_with(forced()), "joined 2");
        bench.land(2, bench.token("b", 3600));
        assert_eq!(bench.join_with(rejected(&a, Some("1"))), "served b");
        assert_eq!(
            bench.join_with(rejected(&a, Some("2"))),
            "started 3",
            "b came by other claims"
        );
        assert_eq!(bench.join_with(with_claims("1")), "behind 3");
    }

    #[test]
    fn a_plain_renewal_serves_no_claims_but_replaces_a_rejected_token() {
        let (mut bench, a) = with_a_token();
        bench.sleep(3300);
        assert!(bench.renews());
        assert_eq!(bench.join_with(rejected(&a, Some("1"))), "behind 2");
        assert_eq!(bench.join_with(with_claims("1")), "behind 2");
        bench.land(2, bench.token("b", 3600));
        assert_eq!(bench.join_with(rejected(&a, Some("1"))), "served b");
        assert_eq!(bench.join_with(with_claims("1")), "started 3");
    }

    #[test]
    fn an_api_that_takes_no_token_brings_a_renewal_in_30_seconds() {
        let (mut bench, a) = with_a_token();
        bench.join_with(rejected(&a, None));
        let b = bench.token("b", 3600);
        bench.land(2, b.clone());
        assert_eq!(bench.join_with(rejected(&b, None)), "served b", "again");
        bench.sleep(29);
        assert_eq!(bench.join_with(rejected(&b, None)), "served b");
        bench.sleep(1);
        assert_eq!(bench.join_with(rejected(&b, None)), "started 3");
    }

    #[test]
    fn different_claims_bring_two_renewals_in_30_seconds() {
        let (bench, _) = with_a_token();
        for (generation, claims) in [(2, "1"), (3, "2")] {
            bench.join_with(with_claims(claims));
            bench.land(generation, bench.token(claims, 3600));
        }
        for claims in ["1", "2", "3"] {
            assert_eq!(bench.join_with(with_claims(claims)), "served 2");
        }
    }

    /// The ration is of tokens; attempts that fail are thinned out by the cool-down.
    #[test]
    fn a_renewal_that_fails_takes_nothing_off_the_ration() {
        let (mut bench, a) = with_a_token();
        bench.join_with(rejected(&a, None));
        bench.land(2, no_answer());
        assert_eq!(bench.join_with(rejected(&a, None)), "refused for 1");
        bench.sleep(1);
        assert_eq!(bench.join_with(rejected(&a, None)), "started 3");
    }

    #[test]
    fn with_no_token_at_hand_nothing_is_rationed() {
        let bench = Bench::new();
        for (generation, seconds) in [(1, 3600), (2, 3600)] {
            assert_eq!(
                bench.join_with(with_claims("1")),
                format!("started {generation}")
            );
            bench.land(generation, bench.token("a", seconds));
            assert_eq!(bench.join_with(with_claims("1")), "served a");
            bench.slot.current.store(None);
        }
    }

    /// failures.md F13.
    #[test]
    fn a_token_that_was_renewed_since_is_not_invalidated() {
        let (mut bench, a) = with_a_token();
        let a = a.unwrap();
        assert_eq!(bench.slot.invalidate(&a, &bench.now), Invalidated::Removed);
        assert_eq!(bench.slot.invalidate(&a, &bench.now), Invalidated::Replaced);
        assert_eq!(bench.join(), "started 2");
        let b = bench.token("b", 3600).unwrap();
        bench.land(2, Ok(Arc::clone(&b)));
        assert_eq!(bench.slot.invalidate(&a, &bench.now), Invalidated::Replaced);
        assert_eq!(bench.slot.invalidate(&b, &bench.now), Invalidated::TooSoon);
        assert_eq!(bench.fresh(), "b");
        bench.sleep(30);
        assert_eq!(bench.slot.invalidate(&b, &bench.now), Invalidated::Removed);
    }

    #[test]
    fn a_forced_refresh_joins_a_flight_and_heeds_a_failure() {
        let (mut bench, _) = with_a_token();
        assert_eq!(bench.join_with(forced()), "started 2");
        assert_eq!(bench.join_with(forced()), "joined 2");
        bench.land(2, no_answer());
        assert_eq!(bench.join_with(forced()), "refused for 1");
        bench.sleep(1);
        assert_eq!(bench.join_with(forced()), "started 3");
        bench.land(3, bench.token("b", 3600));
        assert_eq!(bench.join_with(forced()), "started 4", "it is not rationed");
    }

    #[test]
    fn a_token_with_less_left_than_asked_for_is_renewed_first() {
        let (mut bench, _) = with_a_token();
        assert_eq!(bench.join_with(lasting(600)), "served a");
        bench.sleep(2990);
        assert_eq!(bench.join_with(lasting(600)), "served a");
        bench.sleep(1);
        assert_eq!(bench.join_with(lasting(600)), "started 2");
        assert_eq!(bench.fresh(), "a", "others are served");
    }

    #[test]
    fn a_token_that_is_short_by_nature_is_not_renewed_before_half_its_life() {
        let (mut bench, _) = with_a_token();
        assert_eq!(bench.join_with(lasting(7200)), "served a");
        bench.sleep(1794);
        assert_eq!(bench.join_with(lasting(7200)), "served a");
        bench.sleep(1);
        assert_eq!(bench.join_with(lasting(7200)), "started 2");
    }

    #[test]
    fn who_may_not_start_a_flight_may_join_one() {
        let (mut bench, _) = with_a_token();
        bench.sleep(3600);
        let join = |bench: &Bench| {
            let launch = None::<fn(u64, Option<u64>) -> u64>;
            bench
                .slot
                .join(&bench.now, &Requirements::NONE, &bench.gate, launch)
        };
        assert!(matches!(join(&bench), Joined::Full));
        bench.join();
        assert!(matches!(join(&bench), Joined::Aboard { .. }));
        bench.land(2, no_answer());
        assert!(matches!(join(&bench), Joined::Refused(_)));
    }

    #[test]
    fn a_slot_behind_a_closed_gate_serves_what_it_has() {
        let (mut bench, _) = with_a_token();
        bench.sleep(3300);
        for slot in 1..=3 {
            let flight = FlightId {
                slot,
                generation: 1,
            };
            bench.gate.report(flight, &no_answer(), &bench.now, 0.0);
        }
        assert_eq!(bench.join_with(forced()), "refused for 1");
        assert!(!bench.renews());
        assert_eq!(bench.get(), "stale");
        bench.sleep(1);
        assert!(bench.renews(), "as the probe");
    }

    #[test]
    fn a_plain_renewal_wipes_out_what_the_token_before_came_by() {
        let (mut bench, a) = with_a_token();
        bench.join_with(rejected(&a, Some("1")));
        let b = bench.token("b", 3600);
        bench.land(2, b.clone());
        bench.sleep(3300);
        assert!(bench.renews());
        bench.land(3, bench.token("c", 3600));
        assert_eq!(bench.join_with(rejected(&b, Some("2"))), "served c");
    }

    /// A provider may hold the slot of a user who has gone.
    #[test]
    fn what_was_asked_for_before_a_sign_out_or_a_sign_in_is_not_kept() {
        let bench = Bench::new();
        assert_eq!(bench.join(), "started 1");
        bench.slot.forget();
        bench.land(1, bench.token("late", 3600));
        assert_eq!(bench.fresh(), "none");
        assert_eq!(bench.join(), "started 2");
        bench.slot.store(bench.token("signed in", 60).unwrap());
        bench.land(2, bench.token("late", 3600));
        assert_eq!(bench.fresh(), "signed in");
        bench.join_with(forced());
        bench.land(3, bench.token("c", 3600));
        assert_eq!(bench.fresh(), "c");
    }

    #[test]
    fn clearing_forgets_the_rejections() {
        let (bench, a) = with_a_token();
        let a = a.unwrap();
        assert_eq!(bench.slot.invalidate(&a, &bench.now), Invalidated::Removed);
        bench.join();
        bench.land(2, Ok(Arc::clone(&a)));
        assert_eq!(bench.slot.invalidate(&a, &bench.now), Invalidated::TooSoon);
        bench.slot.clear();
        bench.join();
        bench.land(3, Ok(Arc::clone(&a)));
        assert_eq!(bench.slot.invalidate(&a, &bench.now), Invalidated::Removed);
    }

    #[test]
    fn claims_that_are_refused_are_remembered_for_themselves_alone() {
        let refusal = || Err(Error::config("no"));
        let bench = Bench::new();
        bench.join_with(with_claims("1"));
        bench.land(1, refusal());
        assert_eq!(bench.join_with(with_claims("1")), "refused for 5");
        assert_eq!(bench.join(), "started 2");
        bench.land(2, refusal());
        assert_eq!(
            bench.join_with(with_claims("1")),
            "refused for 10",
            "everybody's"
        );
        let bench = Bench::new();
        bench.join_with(with_claims("1"));
        bench.land(1, no_answer());
        assert_eq!(
            bench.join(),
            "refused for 1",
            "no answer is none for anybody"
        );
    }

    #[test]
    fn claims_that_are_new_each_time_and_refused_are_thinned_out() {
        let (mut bench, _) = with_a_token();
        for (generation, claims) in [(2, "1"), (3, "2")] {
            let joined = bench.join_with(with_claims(claims));
            assert_eq!(joined, format!("started {generation}"));
            bench.land(generation, Err(Error::config("no")));
        }
        for claims in ["1", "2", "3"] {
            assert_eq!(bench.join_with(with_claims(claims)), "refused for 10");
        }
        assert_eq!(bench.fresh(), "a", "who asks for none is served");
        bench.sleep(10);
        for (generation, claims) in [(4, "3"), (5, "4")] {
            let joined = bench.join_with(with_claims(claims));
            assert_eq!(joined, format!("started {generation}"));
            bench.land(generation, Err(Error::config("no")));
        }
    }
}
