//! A model of the protocol by which processes share a rotating refresh token, and a search for a
//! schedule that breaks a promise. See `docs/shared-cache-protocol.md`.
//!
//! A pause has no length in the model: a lock may expire and a mark may become old at any time.

use explore::{Found, every_schedule, random_schedules};
use rules::{RecordBehindMemory, Rules, SignOut};
use world::{Faults, Violation, World};

mod explore;
mod process;
mod real_store;
mod rules;
mod store;
mod world;

const CALM: Faults = Faults {
    lock_expires: false,
    mark_ages: false,
    empty_records_expire: false,
    timeouts: 0,
    crashes: 0,
    fail_overs: 0,
    empty_restarts: 0,
    sign_ins: 0,
    sign_outs: 0,
    lost_responses: 0,
};
/// Pauses that are longer than every limit.
const PAUSES: Faults = Faults {
    lock_expires: true,
    mark_ages: true,
    empty_records_expire: true,
    ..CALM
};

/// A pause that outlives the lock, and no mark.
const SLOW: Faults = Faults {
    lock_expires: true,
    ..CALM
};

/// Searches every schedule of two processes with two attempts each.
fn search(faults: Faults, rules: &Rules) -> Found {
    every_schedule(World::new(2, 2, faults, rules), rules)
}

/// Each rule is switched off alone, and a schedule then breaks a promise.
#[test]
fn every_rule_of_the_session_protocol_prevents_a_violation() {
    let rules = Rules::DOCUMENTED;
    let twice = Violation::PresentedTwice;
    for (name, without, faults, expected) in [
        (
            "a refresh token is sent without a mark",
            Rules {
                marks_before_sending: false,
                ..rules
            },
            SLOW,
            twice,
        ),
        (
            "a record in doubt is redeemed once more",
            Rules {
                signs_in_when_in_doubt: false,
                ..rules
            },
            PAUSES,
            twice,
        ),
        (
            "the mark is not on the replica",
            Rules {
                waits_for_replica: false,
                ..rules
            },
            Faults {
                fail_overs: 1,
                ..CALM
            },
            twice,
        ),
        (
            "an owner is a process instead of an attempt, and an earlier cancellation is late",
            Rules {
                has_new_owners: false,
                ..rules
            },
            Faults {
                timeouts: 2,
                ..SLOW
            },
            twice,
        ),
        (
            "a rotation creates a record: a put is retried after the store restarted empty",
            Rules {
                rotation_only_replaces: false,
                ..rules
            },
            Faults {
                timeouts: 1,
                empty_restarts: 1,
                ..SLOW
            },
            twice,
        ),
        (
            "a sign-in creates its record, and retries after a time-out",
            Rules {
                sign_in_creates_empty: false,
                ..rules
            },
            Faults {
                timeouts: 1,
                sign_ins: 1,
                ..CALM
            },
            twice,
        ),
        (
            "generations start again after a sign-out, and a rotation replaces another sign-in",
            Rules {
                generations_only_rise: false,
                ..rules
            },
            Faults {
                sign_ins: 1,
                sign_outs: 1,
                empty_records_expire: true,
                ..CALM
            },
            Violation::SignedOutAndBack,
        ),
        (
            "the remembered refresh token is redeemed when the store is empty",
            Rules {
                leaves_absent_records_absent: false,
                ..rules
            },
            Faults {
                empty_restarts: 1,
                ..CALM
            },
            twice,
        ),
        (
            "a record that was read in doubt is put back without doubt",
            Rules {
                remembers_doubt: false,
                ..rules
            },
            Faults {
                lost_responses: 1,
                fail_overs: 1,
                ..SLOW
            },
            twice,
        ),
        (
            "a request without a response is sent again",
            Rules {
                sends_once: false,
                ..rules
            },
            Faults {
                lost_responses: 1,
                ..CALM
            },
            twice,
        ),
        (
            "the mark of a request without a response is cancelled",
            Rules {
                cancels_only_what_was_not_sent: false,
                ..rules
            },
            Faults {
                lost_responses: 1,
                ..CALM
            },
            twice,
        ),
    ] {
        let found = search(faults, &without).violation;
        let violation = found.as_ref().map(|(violation, _)| *violation);
        assert_eq!(violation, Some(expected), "{name}");
        let found = search(faults, &rules);
        assert_eq!(found.violation, None, "with the rule against: {name}");
        assert!(!found.at_rest.is_empty(), "{name}");
    }
}

/// A clock that is behind gives a later sign-in the lower generation. A process that remembers the
/// earlier sign-in must not write its refresh token back.
#[test]
fn a_record_of_another_sign_in_wins_over_memory() {
    let rules = Rules {
        another_family_wins: false,
        ..Rules::DOCUMENTED
    };
    let faults = Faults {
        empty_restarts: 1,
        sign_ins: 2,
        ..CALM
    };
    let start = |rules| World::new(3, 1, faults, rules);
    let found = every_schedule(start(&rules), &rules).violation;
    let violation = found.map(|(violation, _)| violation);
    assert_eq!(violation, Some(Violation::PresentedTwice));
    // All 800,000 worlds with the rule take ten seconds, and have no violation either.
    let start = start(&Rules::DOCUMENTED);
    let walks = random_schedules(&start, &Rules::DOCUMENTED, WALKS, 100);
    assert_eq!(walks.shortest, None);
}

/// docs/failures.md S4.
#[test]
fn no_schedule_of_two_processes_presents_a_refresh_token_twice() {
    for (name, faults) in [
        (
            "crashes",
            Faults {
                crashes: 2,
                ..PAUSES
            },
        ),
        (
            "time-outs that take effect later",
            Faults {
                timeouts: 1,
                lost_responses: 1,
                ..PAUSES
            },
        ),
        (
            "a fail-over, and a crash",
            Faults {
                fail_overs: 1,
                crashes: 1,
                ..PAUSES
            },
        ),
        (
            "an empty restart, and a sign-in",
            Faults {
                empty_restarts: 1,
                sign_ins: 1,
                ..PAUSES
            },
        ),
        (
            "a sign-out, and a sign-in",
            Faults {
                sign_outs: 1,
                sign_ins: 1,
                ..PAUSES
            },
        ),
    ] {
        assert_eq!(search(faults, &Rules::DOCUMENTED).violation, None, "{name}");
    }
}

#[test]
fn no_random_schedule_of_four_processes_presents_a_refresh_token_twice() {
    let faults = Faults {
        timeouts: 4,
        crashes: 2,
        fail_overs: 2,
        empty_restarts: 1,
        sign_ins: 2,
        sign_outs: 1,
        lost_responses: 2,
        ..PAUSES
    };
    let rules = Rules::DOCUMENTED;
    let start = World::new(4, 4, faults, &rules);
    let walks = random_schedules(&start, &rules, WALKS, 200);
    assert_eq!(walks.shortest, None);
    // The schedules do something: refresh tokens are redeemed, and some users sign in again.
    assert!(walks.redemptions > 2 * WALKS, "{walks:?}");
    assert!(walks.sign_ins < WALKS, "{walks:?}");
    // The same schedules find what one rule less allows.
    let without = Rules {
        waits_for_replica: false,
        ..rules
    };
    let walks = random_schedules(&World::new(4, 4, faults, &without), &without, WALKS, 200);
    assert!(walks.violations > 0, "{walks:?}");
}

#[test]
fn an_undisturbed_schedule_does_not_end_in_a_sign_in() {
    for (name, faults) in [("calm", CALM), ("the lock expires", SLOW)] {
        let found = search(faults, &Rules::DOCUMENTED);
        assert_eq!(found.sign_in, None, "{name}");
        assert!(!found.at_rest.is_empty(), "{name}");
        assert!(found.at_rest.iter().all(World::is_session_alive), "{name}");
    }
}

/// A fail-over that loses the new refresh token costs no session, if a process remembers the
/// token. The condition on the mark's owner is not needed.
#[test]
fn a_remembered_refresh_token_is_put_back_after_a_fail_over() {
    let faults = Faults {
        fail_overs: 1,
        ..SLOW
    };
    for (behind, is_alive) in [
        (RecordBehindMemory::PutBackUsable, true),
        (RecordBehindMemory::PutBackUsableWithOwnMark, false),
        (RecordBehindMemory::PutBackInDoubt, false),
        (RecordBehindMemory::Ignored, false),
    ] {
        let rules = Rules {
            record_behind_memory: behind,
            ..Rules::DOCUMENTED
        };
        let found = search(faults, &rules);
        assert_eq!(found.violation, None, "{behind:?}");
        let all_alive = found.at_rest.iter().all(World::is_session_alive);
        assert_eq!(all_alive, is_alive, "{behind:?}");
    }
}

/// A record that a sign-out removes can be created again by a late call of the sign-in.
#[test]
fn a_sign_out_puts_an_empty_record() {
    let without = Rules {
        sign_out: SignOut::Removes,
        ..Rules::DOCUMENTED
    };
    let faults = Faults {
        timeouts: 2,
        sign_ins: 1,
        sign_outs: 1,
        ..PAUSES
    };
    let search = |rules| every_schedule(World::new(2, 0, faults, &rules), &rules).violation;
    let violation = search(without).map(|(violation, _)| violation);
    assert_eq!(violation, Some(Violation::SignedOutAndBack));
    assert_eq!(search(Rules::DOCUMENTED), None);
}

const WALKS: u32 = 2_000;
