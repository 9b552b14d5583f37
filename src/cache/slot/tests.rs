use std::time::Duration;

use super::super::requirements::SpecialRequirements;
use super::*;
use crate::error::Failure;
use crate::time::TimeSource;

/// A slot whose flights are their own numbers, at a time that only the test moves.
struct Bench {
    slot: Slot<u64>,
    breaker: CircuitBreaker,
    now: Now,
}

impl Bench {
    fn new() -> Self {
        Self {
            slot: Slot::new(CacheKey::sample("t")),
            breaker: CircuitBreaker::new(Duration::from_secs(31)),
            now: TimeSource::System.now(),
        }
    }

    fn sleep(&mut self, seconds: u64) {
        self.now = self.now.later(seconds);
    }

    fn token(&self, name: &str, seconds: u64) -> Result<Arc<IssuedToken>, Error> {
        Ok(Arc::new(IssuedToken::sample("t", name, seconds, self.now)))
    }

    fn complete(&self, generation: u64, outcome: Result<Arc<IssuedToken>, Error>) {
        let _ = self.slot.complete(generation, outcome, &self.now, 0.0);
    }

    /// What a caller meets, in a word and a number.
    fn join(&self) -> String {
        self.join_with(SpecialRequirements::default())
    }

    fn join_with(&self, special: SpecialRequirements) -> String {
        let requirements = Requirements::new(special);
        // A flight's handle is the generation that it will have.
        let flight = self.slot.with_state(|state| state.flight.next());
        let joined = self
            .slot
            .join(&self.now, &requirements, &self.breaker, Some(flight));
        match joined {
            JoinOutcome::Served(issued) => format!("served {}", issued.secret()),
            JoinOutcome::NeedsFlight => unreachable!("it has one"),
            JoinOutcome::Blocked { flight, .. } => format!("blocked by {flight}"),
            JoinOutcome::Failed(error) => {
                format!("failed for {}", error.retry_after().unwrap().as_secs())
            }
            JoinOutcome::Started(started) => format!("started {}", started.generation),
            JoinOutcome::Joined { flight, .. } => format!("joined {flight}"),
        }
    }

    fn refreshes(&self) -> bool {
        let flight = self.slot.with_state(|state| state.flight.next());
        let needed = self.slot.needs_refresh(&self.now);
        let started = self
            .slot
            .refresh(&self.now, &self.breaker, flight)
            .is_some();
        assert!(needed || !started, "a look without the lock missed it");
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
            Cached::Miss => "miss",
        }
    }
}

fn no_answer() -> Result<Arc<IssuedToken>, Error> {
    Err(Error::Transport(Failure::new("no answer").into()))
}

#[test]
fn a_token_is_fresh_then_stale_then_expired() {
    let mut bench = Bench::new();
    assert_eq!(bench.get(), "miss");
    bench.join();
    bench.complete(1, bench.token("a", 3600));
    for (seconds, answer) in [
        (0, "fresh"),
        (3299, "fresh"),
        (1, "stale"),
        (289, "stale"),
        (1, "miss"),
    ] {
        bench.sleep(seconds);
        assert_eq!(bench.get(), answer);
    }
}

#[test]
fn a_token_expires_as_soon_as_either_clock_says_so() {
    let mut bench = Bench::new();
    bench.join();
    bench.complete(1, bench.token("a", 3600));
    bench.now = bench.now.moved(3590, 0);
    assert_eq!(bench.get(), "miss", "the machine was suspended");
    bench.now = bench.now.moved(-7200, 0);
    assert_eq!(bench.get(), "fresh", "the wall clock was set back");
    bench.now = bench.now.moved(0, 3590);
    assert_eq!(bench.get(), "miss", "and the token lived on while it was");
}

#[test]
fn all_callers_join_one_flight() {
    let bench = Bench::new();
    assert_eq!(bench.join(), "started 1");
    assert_eq!(bench.join(), "joined 1");
    assert!(!bench.refreshes());
    bench.complete(1, bench.token("a", 3600));
    assert_eq!(bench.join(), "served a");
}

#[test]
fn a_due_token_is_refreshed_by_one_flight() {
    let mut bench = Bench::new();
    bench.join();
    bench.complete(1, bench.token("a", 3600));
    assert!(!bench.refreshes(), "it is fresh");
    bench.sleep(3300);
    assert!(bench.refreshes());
    assert!(!bench.refreshes(), "a flight is under way");
    bench.complete(2, bench.token("b", 3600));
    assert!(!bench.refreshes(), "another caller's flight has landed");
}

/// docs/failures.md F1, F3 and M9.
#[test]
fn a_failure_never_removes_a_token_and_is_retried() {
    let mut bench = Bench::new();
    bench.join();
    bench.complete(1, bench.token("a", 3600));
    bench.sleep(3300);
    assert!(bench.refreshes());
    bench.complete(2, no_answer());
    assert_eq!(bench.get(), "stale");
    assert!(!bench.refreshes(), "cooling down");
    bench.sleep(1);
    assert!(bench.refreshes());
}

#[test]
fn a_failure_answers_the_next_callers_until_its_cool_down_ends() {
    let mut bench = Bench::new();
    bench.join();
    bench.complete(1, no_answer());
    assert_eq!(bench.join(), "failed for 1");
    bench.sleep(1);
    assert_eq!(bench.join(), "started 2");
    bench.complete(2, no_answer());
    assert_eq!(bench.join(), "failed for 2", "twice in a row");
    bench.sleep(2);
    assert_eq!(bench.join(), "started 3");
    bench.complete(3, bench.token("a", 1));
    bench.sleep(1);
    assert_eq!(bench.join(), "started 4", "a success clears the memory");
    bench.complete(4, no_answer());
    assert_eq!(bench.join(), "failed for 1", "and the count");
}

#[test]
fn a_waiting_caller_receives_the_length_of_the_cool_down() {
    let bench = Bench::new();
    bench.join();
    let told = bench.slot.complete(1, no_answer(), &bench.now, 0.0);
    assert_eq!(
        told.err().and_then(|error| error.retry_after()),
        Some(Duration::from_secs(1))
    );
}

#[test]
fn a_dropped_flight_is_replaced_at_once() {
    let bench = Bench::new();
    assert_eq!(bench.join(), "started 1");
    bench.slot.drop_flight(1);
    assert_eq!(bench.join(), "started 2");
    bench.slot.drop_flight(1);
    assert_eq!(
        bench.join(),
        "joined 2",
        "what is over cannot end its successor"
    );
}

/// docs/failures.md F7: a flight is known by its generation.
#[test]
fn an_overdue_flight_is_replaced_and_its_late_token_kept_only_if_it_lasts_longer() {
    let mut bench = Bench::new();
    assert_eq!(bench.join(), "started 1");
    let late = bench.token("late", 3600);
    bench.sleep(30);
    assert_eq!(bench.join(), "joined 1");
    bench.sleep(1);
    assert_eq!(bench.join(), "started 2");
    bench.complete(2, bench.token("in time", 3600));
    bench.complete(1, late);
    assert_eq!(bench.fresh(), "in time");
    bench.complete(1, bench.token("later still", 7000));
    assert_eq!(bench.fresh(), "later still");
}

#[test]
fn a_step_of_the_wall_clock_loses_no_flight() {
    let mut bench = Bench::new();
    assert_eq!(bench.join(), "started 1");
    bench.now = bench.now.moved(7200, 0);
    assert_eq!(bench.join(), "joined 1");
}

#[test]
fn a_rejection_after_an_outage_starts_its_own_count() {
    let mut bench = Bench::new();
    for generation in 1..=5 {
        bench.join();
        bench.complete(generation, no_answer());
        bench.sleep(30);
    }
    bench.join();
    bench.complete(6, Err(Error::config("refused")));
    assert_eq!(bench.join(), "failed for 5");
    bench.sleep(5);
    bench.join();
    bench.complete(7, Err(Error::config("refused")));
    assert_eq!(bench.join(), "failed for 10");
}

#[test]
fn a_late_error_is_not_remembered() {
    let mut bench = Bench::new();
    bench.join();
    bench.sleep(31);
    assert_eq!(bench.join(), "started 2");
    bench.complete(1, no_answer());
    bench.slot.drop_flight(2);
    assert_eq!(bench.join(), "started 3");
}

#[test]
fn a_late_token_clears_the_failure_of_the_flight_that_replaced_its_own() {
    let mut bench = Bench::new();
    bench.join();
    bench.sleep(31);
    assert_eq!(bench.join(), "started 2");
    bench.complete(2, Err(Error::config("refused")));
    bench.complete(1, bench.token("late", 1));
    bench.sleep(1);
    assert_eq!(bench.join(), "started 3");
}

#[test]
fn a_refreshed_token_replaces_one_that_expires_later() {
    let mut bench = Bench::new();
    bench.join();
    bench.complete(1, bench.token("long", 3600));
    bench.sleep(3300);
    bench.refreshes();
    bench.complete(2, bench.token("short", 200));
    assert_eq!(bench.fresh(), "short");
}

/// What an API says about a token.
fn rejected(token: &Result<Arc<IssuedToken>, Error>, claims: Option<&str>) -> SpecialRequirements {
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
    bench.complete(1, token.clone());
    (bench, token)
}

/// docs/failures.md M20.
#[test]
fn one_rejected_token_is_replaced_by_one_flight() {
    let (bench, a) = with_a_token();
    assert_eq!(bench.join_with(rejected(&a, None)), "started 2");
    assert_eq!(bench.join_with(rejected(&a, None)), "joined 2");
    assert_eq!(bench.fresh(), "a", "for those who know nothing of it");
    bench.complete(2, bench.token("b", 3600));
    assert_eq!(bench.join_with(rejected(&a, None)), "served b");
}

#[test]
fn a_rejected_token_issued_again_is_still_rejected() {
    let (mut bench, a) = with_a_token();
    bench.join_with(rejected(&a, None));
    bench.complete(2, bench.token("a", 3600));
    bench.sleep(30);
    assert_eq!(bench.join_with(rejected(&a, None)), "started 3");
}

#[test]
fn claims_need_their_own_flight_and_other_claims_wait_for_its_end() {
    let (bench, a) = with_a_token();
    assert_eq!(bench.join_with(rejected(&a, Some("1"))), "started 2");
    assert_eq!(bench.join_with(rejected(&a, Some("1"))), "joined 2");
    assert_eq!(bench.join_with(with_claims("1")), "joined 2");
    assert_eq!(bench.join_with(rejected(&a, Some("2"))), "blocked by 2");
    assert_eq!(bench.join_with(forced()), "joined 2");
    bench.complete(2, bench.token("b", 3600));
    assert_eq!(bench.join_with(rejected(&a, Some("1"))), "served b");
    assert_eq!(
        bench.join_with(rejected(&a, Some("2"))),
        "started 3",
        "b came by other claims"
    );
    assert_eq!(bench.join_with(with_claims("1")), "blocked by 3");
}

#[test]
fn a_plain_refresh_meets_no_claims_but_replaces_a_rejected_token() {
    let (mut bench, a) = with_a_token();
    bench.sleep(3300);
    assert!(bench.refreshes());
    assert_eq!(bench.join_with(rejected(&a, Some("1"))), "blocked by 2");
    assert_eq!(bench.join_with(with_claims("1")), "blocked by 2");
    bench.complete(2, bench.token("b", 3600));
    assert_eq!(bench.join_with(rejected(&a, Some("1"))), "served b");
    assert_eq!(bench.join_with(with_claims("1")), "started 3");
}

#[test]
fn an_api_that_rejects_every_token_causes_one_request_in_30_seconds() {
    let (mut bench, a) = with_a_token();
    bench.join_with(rejected(&a, None));
    let b = bench.token("b", 3600);
    bench.complete(2, b.clone());
    assert_eq!(bench.join_with(rejected(&b, None)), "served b", "again");
    bench.sleep(29);
    assert_eq!(bench.join_with(rejected(&b, None)), "served b");
    bench.sleep(1);
    assert_eq!(bench.join_with(rejected(&b, None)), "started 3");
}

#[test]
fn different_claims_cause_two_requests_in_30_seconds() {
    let (bench, _) = with_a_token();
    for (generation, claims) in [(2, "1"), (3, "2")] {
        bench.join_with(with_claims(claims));
        bench.complete(generation, bench.token(claims, 3600));
    }
    for claims in ["1", "2", "3"] {
        assert_eq!(bench.join_with(with_claims(claims)), "served 2");
    }
}

/// The ration is of tokens; attempts that fail are thinned out by the cool-down.
#[test]
fn a_failed_request_does_not_use_up_the_ration() {
    let (mut bench, a) = with_a_token();
    bench.join_with(rejected(&a, None));
    bench.complete(2, no_answer());
    assert_eq!(bench.join_with(rejected(&a, None)), "failed for 1");
    bench.sleep(1);
    assert_eq!(bench.join_with(rejected(&a, None)), "started 3");
}

#[test]
fn without_a_cached_token_nothing_is_rationed() {
    let bench = Bench::new();
    for (generation, seconds) in [(1, 3600), (2, 3600)] {
        assert_eq!(
            bench.join_with(with_claims("1")),
            format!("started {generation}")
        );
        bench.complete(generation, bench.token("a", seconds));
        assert_eq!(bench.join_with(with_claims("1")), "served a");
        bench.slot.current.store(None);
    }
}

/// docs/failures.md F13.
#[test]
fn a_token_refreshed_since_is_not_invalidated() {
    let (mut bench, a) = with_a_token();
    let a = a.unwrap();
    assert_eq!(bench.slot.invalidate(&a, &bench.now), Invalidated::Removed);
    assert_eq!(bench.slot.invalidate(&a, &bench.now), Invalidated::Replaced);
    assert_eq!(bench.join(), "started 2");
    let b = bench.token("b", 3600).unwrap();
    bench.complete(2, Ok(Arc::clone(&b)));
    assert_eq!(bench.slot.invalidate(&a, &bench.now), Invalidated::Replaced);
    assert_eq!(bench.slot.invalidate(&b, &bench.now), Invalidated::TooSoon);
    assert_eq!(bench.fresh(), "b");
    bench.sleep(30);
    assert_eq!(bench.slot.invalidate(&b, &bench.now), Invalidated::Removed);
}

#[test]
fn the_removed_token_is_remembered_until_another_token_is_stored() {
    let (mut bench, a) = with_a_token();
    let a = a.unwrap();
    assert_eq!(bench.slot.rejected_token(), None);
    bench.sleep(3300);
    assert!(bench.refreshes());
    bench.slot.invalidate(&a, &bench.now);
    assert_eq!(bench.slot.rejected_token(), Some(a.hash()));
    bench.complete(2, no_answer());
    assert_eq!(bench.slot.rejected_token(), Some(a.hash()), "no token came");
    bench.sleep(1);
    bench.join();
    bench.complete(3, bench.token("a", 3600));
    assert_eq!(bench.slot.rejected_token(), Some(a.hash()), "it came again");
    bench.join_with(forced());
    bench.complete(4, bench.token("b", 3600));
    assert_eq!(bench.slot.rejected_token(), None);

    let (bench, a) = with_a_token();
    bench.slot.invalidate(&a.unwrap(), &bench.now);
    bench.slot.store(bench.token("signed in", 60).unwrap());
    assert_eq!(bench.slot.rejected_token(), None);
    let signed_in = bench.token("signed in", 60).unwrap();
    let later = bench.now.later(30);
    bench.slot.invalidate(&signed_in, &later);
    assert_eq!(bench.slot.rejected_token(), Some(signed_in.hash()));
    bench.slot.clear();
    assert_eq!(bench.slot.rejected_token(), None);
}

#[test]
fn a_forced_refresh_joins_a_flight_and_heeds_a_failure() {
    let (mut bench, _) = with_a_token();
    assert_eq!(bench.join_with(forced()), "started 2");
    assert_eq!(bench.join_with(forced()), "joined 2");
    bench.complete(2, no_answer());
    assert_eq!(bench.join_with(forced()), "failed for 1");
    bench.sleep(1);
    assert_eq!(bench.join_with(forced()), "started 3");
    bench.complete(3, bench.token("b", 3600));
    assert_eq!(bench.join_with(forced()), "started 4", "it is not rationed");
}

#[test]
fn a_token_with_less_left_than_min_remaining_is_refreshed_first() {
    let (mut bench, _) = with_a_token();
    assert_eq!(bench.join_with(lasting(600)), "served a");
    bench.sleep(2990);
    assert_eq!(bench.join_with(lasting(600)), "served a");
    bench.sleep(1);
    assert_eq!(bench.join_with(lasting(600)), "started 2");
    assert_eq!(bench.fresh(), "a", "others are served");
}

#[test]
fn a_short_token_is_not_refreshed_before_half_its_lifetime() {
    let (mut bench, _) = with_a_token();
    assert_eq!(bench.join_with(lasting(7200)), "served a");
    bench.sleep(1794);
    assert_eq!(bench.join_with(lasting(7200)), "served a");
    bench.sleep(1);
    assert_eq!(bench.join_with(lasting(7200)), "started 2");
}

#[test]
fn a_caller_without_a_permit_can_join_a_flight() {
    let (mut bench, _) = with_a_token();
    bench.sleep(3600);
    let join = |bench: &Bench| {
        bench
            .slot
            .join(&bench.now, &Requirements::NONE, &bench.breaker, None)
    };
    assert!(matches!(join(&bench), JoinOutcome::NeedsFlight));
    bench.join();
    assert!(matches!(join(&bench), JoinOutcome::Joined { .. }));
    bench.complete(2, no_answer());
    assert!(matches!(join(&bench), JoinOutcome::Failed(_)));
}

#[test]
fn an_open_circuit_does_not_withhold_the_cached_token() {
    let (mut bench, _) = with_a_token();
    bench.sleep(3300);
    for slot in 1..=3 {
        let flight = FlightId {
            slot,
            generation: 1,
        };
        bench.breaker.report(flight, &no_answer(), &bench.now, 0.0);
    }
    assert_eq!(bench.join_with(forced()), "failed for 1");
    assert!(!bench.refreshes());
    assert_eq!(bench.get(), "stale");
    bench.sleep(1);
    assert!(bench.refreshes(), "as the probe");
}

#[test]
fn a_plain_refresh_forgets_the_claims_of_the_token_before() {
    let (mut bench, a) = with_a_token();
    bench.join_with(rejected(&a, Some("1")));
    let b = bench.token("b", 3600);
    bench.complete(2, b.clone());
    bench.sleep(3300);
    assert!(bench.refreshes());
    bench.complete(3, bench.token("c", 3600));
    assert_eq!(bench.join_with(rejected(&b, Some("2"))), "served c");
}

/// A provider may hold the slot of a user who has gone.
#[test]
fn a_flight_from_before_a_sign_out_or_a_sign_in_stores_nothing() {
    let bench = Bench::new();
    assert_eq!(bench.join(), "started 1");
    bench.slot.clear_and_ignore_flight();
    bench.complete(1, bench.token("late", 3600));
    assert_eq!(bench.fresh(), "none");
    assert_eq!(bench.join(), "started 2");
    bench.slot.store(bench.token("signed in", 60).unwrap());
    bench.complete(2, bench.token("late", 3600));
    assert_eq!(bench.fresh(), "signed in");
    bench.join_with(forced());
    bench.complete(3, bench.token("c", 3600));
    assert_eq!(bench.fresh(), "c");
}

#[test]
fn clearing_resets_the_ration_of_rejections() {
    let (bench, a) = with_a_token();
    let a = a.unwrap();
    assert_eq!(bench.slot.invalidate(&a, &bench.now), Invalidated::Removed);
    bench.join();
    bench.complete(2, Ok(Arc::clone(&a)));
    assert_eq!(bench.slot.invalidate(&a, &bench.now), Invalidated::TooSoon);
    bench.slot.clear();
    bench.join();
    bench.complete(3, Ok(Arc::clone(&a)));
    assert_eq!(bench.slot.invalidate(&a, &bench.now), Invalidated::Removed);
}

#[test]
fn rejected_claims_do_not_fail_requests_without_them() {
    let refusal = || Err(Error::config("no"));
    let bench = Bench::new();
    bench.join_with(with_claims("1"));
    bench.complete(1, refusal());
    assert_eq!(bench.join_with(with_claims("1")), "failed for 5");
    assert_eq!(bench.join(), "started 2");
    bench.complete(2, refusal());
    assert_eq!(
        bench.join_with(with_claims("1")),
        "failed for 10",
        "everybody's"
    );
    let bench = Bench::new();
    bench.join_with(with_claims("1"));
    bench.complete(1, no_answer());
    assert_eq!(
        bench.join(),
        "failed for 1",
        "no answer is none for anybody"
    );
}

#[test]
fn claims_that_change_each_time_and_are_rejected_get_fewer_requests() {
    let (mut bench, _) = with_a_token();
    for (generation, claims) in [(2, "1"), (3, "2")] {
        let joined = bench.join_with(with_claims(claims));
        assert_eq!(joined, format!("started {generation}"));
        bench.complete(generation, Err(Error::config("no")));
    }
    for claims in ["1", "2", "3"] {
        assert_eq!(bench.join_with(with_claims(claims)), "failed for 10");
    }
    assert_eq!(bench.fresh(), "a", "who asks for none is served");
    bench.sleep(10);
    for (generation, claims) in [(4, "3"), (5, "4")] {
        let joined = bench.join_with(with_claims(claims));
        assert_eq!(joined, format!("started {generation}"));
        bench.complete(generation, Err(Error::config("no")));
    }
}

#[test]
fn a_forced_refresh_ignores_a_rejection_once_in_30_seconds() {
    let mut bench = Bench::new();
    bench.join();
    bench.complete(1, Err(Error::config("no")));
    assert_eq!(bench.join(), "failed for 5");
    assert_eq!(bench.join_with(forced()), "started 2");
    assert_eq!(bench.join_with(forced()), "joined 2");
    bench.complete(2, Err(Error::config("no")));
    assert_eq!(bench.join_with(forced()), "failed for 10");
    bench.sleep(10);
    assert_eq!(bench.join_with(forced()), "started 3", "the wait is over");
    bench.complete(3, Err(Error::config("no")));
    assert_eq!(bench.join_with(forced()), "failed for 20");
    bench.sleep(19);
    assert_eq!(
        bench.join_with(forced()),
        "failed for 1",
        "29 seconds after"
    );
    bench.sleep(1);
    bench.join();
    bench.complete(4, Err(Error::config("no")));
    assert_eq!(bench.join_with(forced()), "started 5", "the next ration");
}

#[test]
fn a_forced_refresh_waits_after_other_failures() {
    let asked_to_wait = Failure::new("wait").retry_after(Some(Duration::from_secs(7)));
    for (failure, expected) in [
        (no_answer(), "failed for 1"),
        (
            Err(Error::InvalidResponse(asked_to_wait.into())),
            "failed for 7",
        ),
    ] {
        let bench = Bench::new();
        bench.join();
        bench.complete(1, failure);
        assert_eq!(bench.join_with(forced()), expected);
    }
}

#[test]
fn a_forced_refresh_without_a_failure_takes_no_ration() {
    let (bench, _) = with_a_token();
    assert_eq!(bench.join_with(forced()), "started 2");
    bench.complete(2, Err(Error::config("no")));
    assert_eq!(bench.join_with(forced()), "started 3");
}

/// A cache has many slots, and few of them have a flight or a failure.
#[test]
fn an_idle_slot_keeps_the_number_of_its_latest_flight_alone() {
    let mut bench = Bench::new();
    let stored = |bench: &Bench| match &*bench.slot.lock() {
        StoredState::Idle(latest) => format!("idle after {latest}"),
        StoredState::Busy(_) => "busy".to_owned(),
    };
    assert!(bench.refreshes());
    assert_eq!(stored(&bench), "busy");
    bench.complete(1, bench.token("a", 60));
    assert_eq!(stored(&bench), "idle after 1");
    bench.sleep(60);
    assert_eq!(bench.join(), "started 2");
    bench.complete(2, no_answer());
    assert_eq!(stored(&bench), "busy", "a failure is remembered");
    bench.sleep(2);
    assert_eq!(bench.join(), "started 3");
    bench.slot.drop_flight(3);
    bench.slot.clear_failure();
    assert_eq!(stored(&bench), "idle after 3");
    bench.complete(2, no_answer());
    assert_eq!(
        bench.join(),
        "started 4",
        "a late failure is not remembered"
    );
    bench.slot.clear_and_ignore_flight();
    bench.complete(4, bench.token("b", 60));
    assert_eq!(stored(&bench), "busy", "the ignored flight is remembered");
}

/// The turns with one token say nothing of the next token, which one thread may use.
#[test]
fn a_new_token_has_no_copies_until_threads_take_turns_again() {
    let bench = Bench::new();
    let get = || match bench.slot.get(&bench.now, &Requirements::NONE) {
        Cached::Fresh(issued) => issued,
        _ => unreachable!("the token is fresh"),
    };
    bench.slot.store(bench.token("a", 3600).unwrap());
    let stored = || bench.slot.current.load().clone().unwrap();
    for _ in 0..100 {
        std::thread::scope(|scope| scope.spawn(get).join().unwrap());
        get();
    }
    assert!(!Arc::ptr_eq(&get(), &stored()), "this thread has a copy");
    bench.slot.store(bench.token("b", 3600).unwrap());
    for _ in 0..100 {
        assert!(Arc::ptr_eq(&get(), &stored()));
    }
}

#[test]
#[cfg(target_pointer_width = "64")]
fn an_entry_is_small() {
    assert_eq!(size_of::<Slot<u64>>(), 48);
    assert_eq!(size_of::<IssuedToken>(), 96);
    assert_eq!(size_of::<CacheKey>(), 72);
}
