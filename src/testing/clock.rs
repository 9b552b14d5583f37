use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::time::Clock;

/// A clock that moves when a test says so; its clones move together.
///
/// It starts at the present. Use it over an in-memory [`Transport`](crate::Transport): a
/// [`LocalAuthority`](super::LocalAuthority) has the machine's own time.
///
/// ```
/// use std::time::Duration;
/// use confidential_client::{Clock, testing::ManualClock};
///
/// let clock = ManualClock::new();
/// let before = clock.wall();
/// clock.advance(Duration::from_secs(3600));
/// assert_eq!(clock.wall(), before + Duration::from_secs(3600));
/// ```
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<Mutex<Hands>>);

#[derive(Debug)]
struct Hands {
    wall: SystemTime,
    monotonic: Instant,
}

impl ManualClock {
    /// A clock that shows the present and stands still.
    #[expect(clippy::new_without_default, reason = "the present is no default")]
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(Hands {
            wall: SystemTime::now(),
            monotonic: Instant::now(),
        })))
    }

    /// Time passes, by both clocks.
    pub fn advance(&self, by: Duration) {
        self.advance_wall(by);
        self.lock().monotonic += by;
    }

    /// The wall clock alone goes on: the machine was suspended, or an operator set it.
    pub fn advance_wall(&self, by: Duration) {
        self.lock().wall += by;
    }

    /// The wall clock alone is set back.
    pub fn turn_wall_back(&self, by: Duration) {
        self.lock().wall -= by;
    }

    fn lock(&self) -> MutexGuard<'_, Hands> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for ManualClock {
    fn wall(&self) -> SystemTime {
        self.lock().wall
    }

    fn monotonic(&self) -> Instant {
        self.lock().monotonic
    }
}
