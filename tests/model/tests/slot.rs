//! One slot and those who come to it at the same time.

use model::{Ask, Fate, Place, Told, World, in_every_order, in_many_orders};

const HOUR: Fate = Fate::Token(3600);
/// When a token of an hour is due to be renewed, and still good.
const DUE: u64 = 3400;

fn place(fates: &'static [Fate]) -> Place {
    World::new(9).place("a", fates)
}

/// A place with the first flight's token.
fn with_a_token(fates: &'static [Fate]) -> Place {
    let place = place(fates);
    assert_eq!(place.token(0, Ask::PLAIN), Told::Token(1));
    place
}

#[test]
fn callers_who_find_nothing_share_one_flight() {
    in_many_orders(|| {
        let place = place(&[HOUR]);
        let others = [(); 2].map(|()| place.spawn(|place| place.token(0, Ask::PLAIN)));
        assert_eq!(place.token(0, Ask::PLAIN), Told::Token(1));
        for other in others {
            assert_eq!(other.join().unwrap(), Told::Token(1));
        }
        assert!(!place.has_a_flight());
    });
}

/// A panic, too, lands as a failure.
#[test]
fn a_failure_is_told_to_everybody_and_remembered() {
    in_many_orders(|| {
        let place = place(&[Fate::NoAnswer]);
        let others = [(); 2].map(|()| place.spawn(|place| place.token(0, Ask::PLAIN)));
        let mut told = vec![place.token(0, Ask::PLAIN)];
        told.extend(others.map(|other| other.join().unwrap()));
        assert!(told.contains(&Told::Failed), "{told:?}");
        assert!(
            told.iter()
                .all(|told| [Told::Failed, Told::Refused].contains(told)),
            "{told:?}"
        );
        assert!(!place.has_a_flight());
        assert_eq!(place.token(0, Ask::PLAIN), Told::Refused);
    });
}

#[test]
fn a_token_that_is_due_is_renewed_by_one_flight_and_nobody_waits() {
    in_many_orders(|| {
        let place = with_a_token(&[HOUR, HOUR]);
        let others = [(); 2].map(|()| place.spawn(|place| place.token(DUE, Ask::PLAIN)));
        assert!(matches!(place.token(DUE, Ask::PLAIN), Told::Token(_)));
        for other in others {
            assert!(matches!(other.join().unwrap(), Told::Token(_)));
        }
        assert_eq!(place.cached(DUE), Some(2));
        assert!(!place.has_a_flight());
    });
}

#[test]
fn a_failure_takes_no_token_away() {
    in_many_orders(|| {
        let place = with_a_token(&[HOUR, Fate::NoAnswer]);
        let forced = place.spawn(|place| place.token(DUE, Ask::FORCED));
        let reader = place.spawn(|place| place.cached(DUE));
        assert_eq!(place.token(DUE, Ask::PLAIN), Told::Token(1));
        assert_eq!(forced.join().unwrap(), Told::Token(1));
        assert_eq!(reader.join().unwrap(), Some(1));
        assert_eq!(place.flights(), 2);
        assert_eq!(place.cached(DUE), Some(1));
    });
}

#[test]
fn a_caller_who_is_cancelled_strands_nobody() {
    in_many_orders(|| {
        let place = place(&[HOUR]);
        let cancelled = place.spawn(|place| place.token_cancelled(0));
        let other = place.spawn(|place| place.token(0, Ask::PLAIN));
        assert_eq!(place.token(0, Ask::PLAIN), Told::Token(1));
        assert_eq!(other.join().unwrap(), Told::Token(1));
        cancelled.join().unwrap();
    });
}

#[test]
fn a_flight_that_is_lost_is_replaced_by_one() {
    in_many_orders(|| {
        let place = place(&[Fate::Lost, HOUR]);
        let others = [(); 2].map(|()| place.spawn(|place| place.token(0, Ask::PLAIN)));
        assert_eq!(place.token(0, Ask::PLAIN), Told::Token(2));
        for other in others {
            assert_eq!(other.join().unwrap(), Told::Token(2));
        }
        assert!(!place.has_a_flight());
    });
}

#[test]
fn who_loses_two_flights_is_told_so() {
    in_every_order(|| {
        let place = place(&[Fate::Lost, Fate::Lost, HOUR]);
        let other = place.spawn(|place| place.token(0, Ask::PLAIN));
        let told = [place.token(0, Ask::PLAIN), other.join().unwrap()];
        assert!(
            told.iter()
                .all(|told| [Told::Lost, Told::Token(3)].contains(told)),
            "{told:?}"
        );
        assert!(!place.has_a_flight());
    });
}

#[test]
fn a_renewal_that_is_overdue_is_replaced_by_one() {
    in_many_orders(|| {
        let place = with_a_token(&[HOUR, Fate::Stuck, HOUR]);
        assert_eq!(place.token(DUE - 40, Ask::PLAIN), Told::Token(1));
        assert_eq!(place.token(DUE - 10, Ask::PLAIN), Told::Token(1));
        let others = [(); 2].map(|()| place.spawn(|place| place.token(DUE, Ask::PLAIN)));
        for other in others {
            assert!(matches!(other.join().unwrap(), Told::Token(1 | 3)));
        }
        assert_eq!(place.cached(DUE), Some(3));
        assert!(!place.has_a_flight());
    });
}

/// docs/failures.md F7.
#[test]
fn a_late_token_never_takes_the_place_of_a_longer_one() {
    in_many_orders(|| {
        let place = place(&[Fate::LateToken(3600), HOUR]);
        let late = place.spawn(|place| place.token_cancelled(0));
        let reader = place.spawn(|place| (place.cached(31), place.cached(31)));
        let told = place.token(0, Ask::PLAIN);
        let (before, after) = reader.join().unwrap();
        assert!(before <= after, "{before:?}, then {after:?}");
        late.join().unwrap();
        let last = u64::try_from(place.flights()).unwrap();
        assert!((1..=last).any(|token| told == Told::Token(token)));
        assert_eq!(place.cached(50), Some(last));
        assert!(!place.has_a_flight());
    });
}

#[test]
fn a_late_failure_is_not_remembered() {
    in_many_orders(|| {
        let place = place(&[Fate::LateFailure, Fate::Token(5), HOUR]);
        let callers = [(); 2].map(|()| place.spawn(|place| place.token(0, Ask::PLAIN)));
        place.token_cancelled(0);
        let told = callers.map(|caller| caller.join().unwrap());
        assert!(!place.has_a_flight());
        if place.flights() == 1 {
            assert!(!told.contains(&Told::Token(1)));
        } else {
            // The second flight's token is over.
            assert_eq!(place.token(40, Ask::PLAIN), Told::Token(3));
        }
    });
}

/// docs/failures.md F13. So far apart, that nothing is rationed.
#[test]
fn a_token_is_invalidated_once_and_no_other_with_it() {
    in_many_orders(|| {
        let place = with_a_token(&[HOUR, HOUR]);
        let first = place.spawn(|place| place.invalidate(1, 10));
        let second = place.spawn(|place| place.invalidate(1, 45));
        let told = place.token(10, Ask::PLAIN);
        assert!(first.join().unwrap() != second.join().unwrap());
        match told {
            Told::Token(1) => assert_eq!(place.cached(50), None),
            _ => assert_eq!((told, place.cached(50)), (Told::Token(2), Some(2))),
        }
    });
}

#[test]
fn what_a_flight_brings_is_not_invalidated_with_what_it_replaced() {
    in_every_order(|| {
        let place = with_a_token(&[HOUR, HOUR]);
        let invalidating = place.spawn(|place| place.invalidate(1, 45));
        assert_eq!(place.token(10, Ask::FORCED), Told::Token(2));
        invalidating.join().unwrap();
        assert_eq!(place.cached(50), Some(2));
    });
}

#[test]
fn clearing_strands_nobody() {
    in_many_orders(|| {
        let world = World::new(9);
        let place = world.place("a", &[HOUR, HOUR]);
        let others = [(); 2].map(|()| place.spawn(|place| place.token(0, Ask::PLAIN)));
        world.clear();
        for other in others {
            assert!(matches!(other.join().unwrap(), Told::Token(_)));
        }
        assert!(!place.has_a_flight());
    });
}

#[test]
fn callers_with_claims_get_what_was_asked_for_with_them() {
    in_many_orders(|| {
        let place = place(&[HOUR; 3]);
        let x = place.spawn(|place| place.token(0, with_claims("x")));
        let y = place.spawn(|place| place.token(0, with_claims("y")));
        assert!(matches!(place.token(0, Ask::PLAIN), Told::Token(_)));
        for (caller, claims) in [(x, "x"), (y, "y")] {
            let told = caller.join().unwrap();
            assert_eq!(vec![told], came_by(&place, claims), "by one flight");
        }
    });
}

#[test]
fn who_waits_behind_a_flight_that_is_lost_is_next() {
    for lost in [&[Fate::Lost, HOUR, HOUR], &[Fate::Stuck, HOUR, HOUR]] {
        in_every_order(move || {
            let place = place(lost);
            let x = place.spawn(|place| place.token(0, with_claims("x")));
            let y = place.token(0, with_claims("y"));
            let x = x.join().unwrap();
            assert_eq!(came_by(&place, "x").last(), Some(&x));
            assert_eq!(came_by(&place, "y").last(), Some(&y));
            assert_eq!(place.flights(), 3);
        });
    }
}

fn with_claims(claims: &'static str) -> Ask {
    Ask {
        claims: Some(claims),
        ..Ask::PLAIN
    }
}

/// What the flights with these claims bring.
fn came_by(place: &Place, claims: &str) -> Vec<Told> {
    let flights = (1..).zip(place.claims());
    let own = flights.filter(|(_, with)| with.as_deref() == Some(claims));
    own.map(|(number, _)| Told::Token(number)).collect()
}

/// docs/failures.md M20.
#[test]
fn one_token_that_was_turned_down_is_replaced_by_one_flight() {
    in_many_orders(|| {
        let place = with_a_token(&[HOUR, HOUR]);
        let asks = [Some("x"), Some("x"), None].map(|claims| Ask {
            claims,
            rejected: Some(1),
            ..Ask::PLAIN
        });
        let callers = asks.map(|ask| place.spawn(move |place| place.token(10, ask)));
        for caller in callers {
            assert_eq!(caller.join().unwrap(), Told::Token(2));
        }
    });
}
