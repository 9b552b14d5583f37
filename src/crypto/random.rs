//! The first random octet of a library, drawn before a caller needs random numbers.

use std::sync::Once;
use std::thread;

/// Draws one random octet from aws-lc on a separate thread, once per process.
///
/// aws-lc collects entropy at the first draw of a process, for some 30 milliseconds. Without this
/// call, the first TLS handshake or signature would wait for the entropy.
pub(crate) fn draw_ahead() {
    static ONCE: Once = Once::new();
    draw_ahead_by(&ONCE, || {
        let _ = aws_lc_rs::rand::fill(&mut [0]);
    });
}

/// Runs `draw` on a separate thread, if `once` has not run yet.
///
/// Nothing waits for the thread. If the thread cannot be started, the first user of random numbers
/// waits, and nothing else changes.
pub(crate) fn draw_ahead_by(once: &Once, draw: impl FnOnce() + Send + 'static) {
    #[cfg(test)]
    tests::CALLS.set(tests::CALLS.get() + 1);
    once.call_once(|| {
        let thread = thread::Builder::new().name("confidential-client".to_owned());
        let _ = thread.spawn(draw);
    });
}

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::Cell;
    use std::sync::mpsc;

    use super::*;

    thread_local! {
        /// Number of calls of [`draw_ahead_by`] on this thread.
        pub(crate) static CALLS: Cell<usize> = const { Cell::new(0) };
    }

    #[test]
    fn only_the_first_call_draws() {
        static ONCE: Once = Once::new();
        let (sender, drawn) = mpsc::channel();
        for call in 0..3 {
            let sender = sender.clone();
            let caller = thread::current().id();
            draw_ahead_by(&ONCE, move || {
                assert_ne!(thread::current().id(), caller);
                sender.send(call).unwrap();
            });
        }
        drop(sender);
        assert_eq!(drawn.into_iter().collect::<Vec<_>>(), [0]);
    }
}
