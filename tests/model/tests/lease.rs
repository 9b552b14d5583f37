//! A lease has one holder at a time, and a late holder publishes nothing.

use loom::thread;
use model::leased::Leased;

#[test]
fn two_threads_never_hold_a_lease_at_the_same_time() {
    model::in_every_order(|| {
        let leased = Leased::default();
        let threads = ["a", "b"].map(|name| {
            let leased = leased.clone();
            thread::spawn(move || leased.work(name, 0))
        });
        let worked = threads.map(|thread| thread.join().unwrap());
        assert!(worked.contains(&true));
        assert!(leased.published().is_some() && leased.is_free());
    });
}

#[test]
fn a_holder_that_was_replaced_after_its_expiry_publishes_nothing() {
    model::in_every_order(|| {
        let leased = Leased::default();
        let stalled = leased.take("stalled", 0).unwrap();
        let late = {
            let leased = leased.clone();
            thread::spawn(move || leased.publish(stalled))
        };
        assert!(leased.work("next", 31), "the lease has expired");
        late.join().unwrap();
        assert_eq!(leased.published(), Some("next"), "whichever was first");
    });
}
