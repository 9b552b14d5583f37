//! Wall clock and monotonic clock of the property tests.

use std::time::Duration;

/// Time of both clocks, each since the start of the clock.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    pub wall: Duration,
    pub monotonic: Duration,
}

/// A moment on both clocks, reached as soon as one clock reaches it.
#[derive(Clone, Copy)]
pub struct Until(Now);

impl Now {
    pub fn plus(self, duration: Duration) -> Until {
        Until(Self {
            wall: self.wall + duration,
            monotonic: self.monotonic + duration,
        })
    }
}

impl Until {
    pub fn is_reached(self, now: Now) -> bool {
        self.left(now) == Duration::ZERO
    }

    pub fn left(self, now: Now) -> Duration {
        let wall = self.0.wall.saturating_sub(now.wall);
        wall.min(self.0.monotonic.saturating_sub(now.monotonic))
    }
}
