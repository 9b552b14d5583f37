//! Numbers of threads, by which threads share less.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering};

/// Returns the number of this thread. The first is 0, and all are below [`MAX`].
#[inline]
pub(crate) fn thread_number() -> u32 {
    thread_local! {
        static THREAD: Cell<u32> = const { Cell::new(u32::MAX) };
    }
    static NEXT: AtomicU32 = AtomicU32::new(0);
    THREAD.with(|thread| match thread.get() {
        u32::MAX => {
            let number = NEXT.fetch_add(1, Ordering::Relaxed) % MAX;
            thread.set(number);
            number
        }
        number => number,
    })
}

/// The number after which threads share numbers. Leaves six bits of a `u32` free.
pub(crate) const MAX: u32 = u32::MAX >> 6;
