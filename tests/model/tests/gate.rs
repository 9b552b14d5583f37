//! Slots that share one authority, which does not answer.

use model::{Ask, Fate, Place, Told, World, in_every_order, in_many_orders};

const HOUR: Fate = Fate::Token(3600);

/// Three slots have found that the authority is down. The first probe may go a second later.
fn down() -> World {
    let world = World::new(9);
    for key in ["a", "b", "c"] {
        let place = world.place(key, &[Fate::NoAnswer]);
        assert_eq!(place.token(0, Ask::PLAIN), Told::Failed);
    }
    assert_eq!(world.closings(), 1);
    world.expect_one_probe_at_a_time();
    world
}

fn ask(place: &Place, at: u64) -> Told {
    place.token(at, Ask::PLAIN)
}

#[test]
fn three_slots_that_fail_at_once_close_it_once() {
    in_many_orders(|| {
        let world = World::new(9);
        let places = ["a", "b", "c"].map(|key| world.place(key, &[Fate::NoAnswer]));
        let callers = places.map(|place| place.spawn(|place| ask(place, 0)));
        for caller in callers {
            assert_eq!(caller.join().unwrap(), Told::Failed);
        }
        assert_eq!(world.closings(), 1);
        assert_eq!(ask(&world.place("d", &[]), 0), Told::Refused);
    });
}

#[test]
fn it_lets_one_probe_through() {
    in_many_orders(|| {
        let world = down();
        let places = ["d", "e", "f"].map(|key| world.place(key, &[Fate::NoAnswer]));
        let callers = places.map(|place| place.spawn(|place| ask(place, 1)));
        let told = callers.map(|caller| caller.join().unwrap());
        let probes = told.iter().filter(|told| **told == Told::Failed);
        assert_eq!(probes.count(), 1, "{told:?}");
        let refused = told.iter().filter(|told| **told == Told::Refused);
        assert_eq!(refused.count(), 2, "{told:?}");
    });
}

#[test]
fn a_probe_that_is_lost_makes_room_for_another_and_never_for_two() {
    in_many_orders(|| {
        let world = down();
        let callers = [
            world.place("d", &[Fate::Lost, Fate::NoAnswer]),
            world.place("e", &[Fate::NoAnswer]),
            world.place("f", &[Fate::NoAnswer]),
        ]
        .map(|place| place.spawn(|place| ask(place, 1)));
        for caller in callers {
            let told = caller.join().unwrap();
            assert!([Told::Failed, Told::Refused].contains(&told), "{told:?}");
        }
        assert_eq!(ask(&world.place("g", &[HOUR]), 3), Told::Token(1));
    });
}

#[test]
fn an_answer_opens_it_for_everybody() {
    in_every_order(|| {
        let world = down();
        assert_eq!(ask(&world.place("d", &[HOUR]), 1), Told::Token(1));
        let other = world.place("e", &[HOUR]).spawn(|place| ask(place, 1));
        assert_eq!(ask(&world.place("f", &[HOUR]), 1), Told::Token(1));
        assert_eq!(other.join().unwrap(), Told::Token(1));
    });
}

#[test]
fn those_who_come_with_the_probe_are_refused_or_served() {
    in_many_orders(|| {
        let world = down();
        let places = ["d", "e", "f"].map(|key| world.place(key, &[HOUR]));
        let callers = places.map(|place| place.spawn(|place| ask(place, 1)));
        let told = callers.map(|caller| caller.join().unwrap());
        assert!(told.contains(&Told::Token(1)), "{told:?}");
        let expected = [Told::Token(1), Told::Refused];
        assert!(told.iter().all(|told| expected.contains(told)), "{told:?}");
        assert_eq!(ask(&world.place("g", &[HOUR]), 1), Told::Token(1));
    });
}
