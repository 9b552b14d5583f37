//! The clock that a client reads.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use uuid::Uuid;

/// Where a client reads the time: a wall clock and a monotonic one.
///
/// Both are read, because each can be wrong alone: an operator or NTP moves the wall clock, and
/// a suspended machine stops the monotonic one. A token has ended as soon as *either* clock says
/// so. The default reads the operating system's; a test injects one of its own with
/// [`ConfidentialClientBuilder::clock`](crate::ConfidentialClientBuilder::clock).
pub trait Clock: Send + Sync + 'static {
    /// The time of day (UTC), as [`SystemTime::now`] gives it.
    fn wall(&self) -> SystemTime;

    /// A time that never goes back, as [`Instant::now`] gives it.
    fn monotonic(&self) -> Instant;
}

/// One reading of both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    pub(crate) wall: SystemTime,
    pub(crate) monotonic: Instant,
}

impl Now {
    /// The moment `duration` from now. A duration no clock can hold ends at once, so that
    /// nothing is believed for ever.
    pub(crate) fn plus(self, duration: Duration) -> Deadline {
        Deadline {
            wall: self.wall.checked_add(duration).unwrap_or(self.wall),
            monotonic: self
                .monotonic
                .checked_add(duration)
                .unwrap_or(self.monotonic),
        }
    }
}

/// A moment on both clocks, reached as soon as either says so.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    pub(crate) wall: SystemTime,
    pub(crate) monotonic: Instant,
}

impl Deadline {
    /// The moment `duration` after this one.
    pub(crate) fn later(self, duration: Duration) -> Self {
        let Self { wall, monotonic } = self;
        Now { wall, monotonic }.plus(duration)
    }

    #[inline]
    pub(crate) fn reached(&self, now: &Now) -> bool {
        now.monotonic >= self.monotonic || now.wall >= self.wall
    }

    /// The time left; zero once reached.
    pub(crate) fn remaining(&self, now: &Now) -> Duration {
        let wall = self.wall.duration_since(now.wall).unwrap_or_default();
        let monotonic = self.monotonic.saturating_duration_since(now.monotonic);
        wall.min(monotonic)
    }
}

/// The one reader of clocks: the operating system's, unless a test brought another.
#[derive(Clone, Default)]
pub(crate) enum TimeSource {
    #[default]
    System,
    Injected(Arc<dyn Clock>),
}

impl TimeSource {
    #[inline]
    pub(crate) fn now(&self) -> Now {
        match self {
            Self::System => Now {
                wall: SystemTime::now(),
                monotonic: Instant::now(),
            },
            Self::Injected(clock) => Now {
                wall: clock.wall(),
                monotonic: clock.monotonic(),
            },
        }
    }
}

impl fmt::Debug for TimeSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::System => "System",
            Self::Injected(_) => "Injected",
        })
    }
}

/// A time limit, in the words of a message.
pub(crate) fn format_limit(limit: Duration) -> String {
    match limit.subsec_millis() {
        0 => format!("{} s", limit.as_secs()),
        _ => format!("{:.1} s", limit.as_secs_f64()),
    }
}

/// A share from 0 to 1, drawn at random, to move a moment in time so that many clients do not act
/// in step.
pub(crate) fn jitter() -> f64 {
    // The low half of a version 4 UUID is random but for two bits at its top.
    let random = Uuid::new_v4().as_u64_pair().1 as u32;
    f64::from(random) / f64::from(u32::MAX)
}

/// Seconds since the Unix epoch, or 0 for an earlier time.
pub(crate) fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_reached_as_soon_as_either_clock_says_so() {
        let start = TimeSource::System.now();
        let deadline = start.plus(Duration::from_secs(60));
        let at = |wall, monotonic| Now {
            wall: start.wall + Duration::from_secs(wall),
            monotonic: start.monotonic + Duration::from_secs(monotonic),
        };
        for (name, now, reached, left) in [
            ("neither", at(59, 59), false, 1),
            ("wall alone: the machine was suspended", at(60, 5), true, 0),
            (
                "monotonic alone: the wall clock was set back",
                at(5, 60),
                true,
                0,
            ),
            ("the nearer clock counts", at(50, 20), false, 10),
        ] {
            assert_eq!(deadline.reached(&now), reached, "{name}");
            assert_eq!(deadline.remaining(&now).as_secs(), left, "{name}");
        }
    }

    #[test]
    fn a_duration_beyond_the_clock_ends_at_once() {
        let now = TimeSource::System.now();
        assert!(now.plus(Duration::MAX).reached(&now));
    }

    #[test]
    fn a_jitter_is_a_share_that_differs_from_the_next() {
        let drawn: Vec<f64> = (0..100).map(|_| jitter()).collect();
        assert!(drawn.iter().all(|share| (0.0..=1.0).contains(share)));
        assert!(drawn.iter().any(|share| *share < 0.5) && drawn.iter().any(|share| *share > 0.5));
    }
}
