//! A cache with room for one slot.

use model::{Ask, Fate, Told, World, in_every_order, in_many_orders};

const HOUR: Fate = Fate::Token(3600);

/// The world itself sees to it that no key has two flights at once.
#[test]
fn a_slot_in_use_is_not_evicted() {
    in_many_orders(|| {
        let world = World::new(1);
        let callers = ["a", "a", "b"].map(|key| {
            let world = world.clone();
            loom::thread::spawn(move || world.place(key, &[HOUR]).token(0, Ask::PLAIN))
        });
        for caller in callers {
            assert_eq!(caller.join().unwrap(), Told::Token(1));
        }
        world.place("c", &[]);
        assert_eq!(world.entries(), 1);
    });
}

#[test]
fn a_key_that_two_come_with_has_one_slot() {
    in_every_order(|| {
        let world = World::new(9);
        let other = {
            let world = world.clone();
            loom::thread::spawn(move || world.place("a", &[HOUR]).token(0, Ask::PLAIN))
        };
        assert_eq!(
            world.place("a", &[HOUR]).token(0, Ask::PLAIN),
            Told::Token(1)
        );
        assert_eq!(other.join().unwrap(), Told::Token(1));
        assert_eq!((world.entries(), world.flights("a")), (1, 1));
    });
}
