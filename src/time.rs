//! The clock of a client, which tests can replace.
//!
//! ```
//! # use bytes::Bytes;
//! # use http::{Request, Response};
//! use std::sync::Arc;
//! use std::sync::atomic::{AtomicU64, Ordering};
//! use std::time::{Duration, Instant, SystemTime};
//!
//! use confidential_client::time::Clock;
//! use confidential_client::{ConfidentialClient, TokenSource};
//!
//! /// The system's clock, moved forward by a number of seconds.
//! #[derive(Clone, Default)]
//! struct ShiftedClock(Arc<AtomicU64>);
//!
//! impl ShiftedClock {
//!     fn shift(&self) -> Duration {
//!         Duration::from_secs(self.0.load(Ordering::Relaxed))
//!     }
//! }
//!
//! impl Clock for ShiftedClock {
//!     fn wall(&self) -> SystemTime {
//!         SystemTime::now() + self.shift()
//!     }
//!
//!     fn monotonic(&self) -> Instant {
//!         Instant::now() + self.shift()
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let clock = ShiftedClock::default();
//! let client = ConfidentialClient::builder("11111111-2222-3333-4444-555555555555")
//!     .tenant("contoso.onmicrosoft.com")
//!     .client_secret("the secret's value")
//!     .clock(clock.clone())
//! #   .transport(|_: Request<Bytes>| async {
//! #       let body = r#"{"token_type":"Bearer","expires_in":3599,"access_token":"abc"}"#;
//! #       Ok(Response::new(Bytes::from(body)))
//! #   })
//!     .build()?;
//!
//! let scope = "https://graph.microsoft.com/.default";
//! client.acquire_token_for_client(scope).await?;
//! let cached = client.acquire_token_for_client(scope).await?;
//! assert_eq!(cached.source(), TokenSource::Cache);
//!
//! // An hour later the cached token is expired.
//! clock.0.store(3600, Ordering::Relaxed);
//! let token = client.acquire_token_for_client(scope).await?;
//! assert_eq!(token.source(), TokenSource::IdentityProvider);
//! # Ok(())
//! # }
//! ```
//!
//! - [`ConfidentialClientBuilder::clock`](crate::ConfidentialClientBuilder::clock) replaces the
//!   clock of a client.
//! - [`TokenValidatorBuilder::clock`](crate::resource::TokenValidatorBuilder::clock) replaces the
//!   clock of an API's token validator.
//! - `testing::ManualClock`, with the feature `testing`, is a clock that a test moves.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use der::DateTime;

mod system;

use system::Anchor;

/// A pair of clocks, one for the time of day and one monotonic.
///
/// A client reads both clocks, because each clock alone can be wrong. An operator or NTP can set
/// the wall clock back, and a suspended machine stops the monotonic clock. A token is expired as
/// soon as *either* clock reaches the token's expiry.
///
/// The default reads the operating system's clocks. On Linux and Android a cache hit reads the
/// kernel's coarse clocks, which cost a quarter and are up to about 10 ms behind. A client stops
/// returning a token seconds before its expiry, so the difference has no effect. A test can set
/// another clock with
/// [`ConfidentialClientBuilder::clock`](crate::ConfidentialClientBuilder::clock).
///
/// Expiries are counted in nanoseconds from 1970 to 2554. A wall clock outside these years counts
/// as the nearest of them.
#[doc(alias = "ITimeProvider")]
#[doc(alias = "TimeProvider")]
pub trait Clock: Send + Sync + 'static {
    /// Returns the time of day (UTC), like [`SystemTime::now`].
    fn wall(&self) -> SystemTime;

    /// Returns a time that never decreases, like [`Instant::now`].
    fn monotonic(&self) -> Instant;
}

/// One reading of both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    /// Nanoseconds since the Unix epoch.
    wall: u64,
    /// Nanoseconds on the time line of [`Anchor`].
    monotonic: u64,
}

impl Now {
    /// Returns the time of day.
    pub(crate) fn wall(&self) -> SystemTime {
        to_system_time(self.wall)
    }

    /// Returns the monotonic time.
    pub(crate) fn monotonic(&self) -> Instant {
        Anchor::get().to_instant(self.monotonic)
    }

    /// Returns the deadline `duration` from now.
    ///
    /// A duration that overflows a clock gives a deadline of now, so no value is valid
    /// forever.
    pub(crate) fn plus(self, duration: Duration) -> Deadline {
        Deadline {
            wall: later(self.wall, duration),
            monotonic: later(self.monotonic, duration),
        }
    }
}

/// A time on both clocks, reached as soon as either clock reaches the time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    wall: u64,
    monotonic: u64,
}

impl Deadline {
    /// Returns the time of day of the deadline.
    pub(crate) fn wall(&self) -> SystemTime {
        to_system_time(self.wall)
    }

    /// Returns the monotonic time of the deadline.
    pub(crate) fn monotonic(&self) -> Instant {
        Anchor::get().to_instant(self.monotonic)
    }

    /// Returns the deadline `duration` after this deadline.
    pub(crate) fn later(self, duration: Duration) -> Self {
        let Self { wall, monotonic } = self;
        Now { wall, monotonic }.plus(duration)
    }

    /// Returns the time since the deadline, by the clock that shows more.
    pub(crate) fn since(&self, now: &Now) -> Duration {
        let wall = now.wall.saturating_sub(self.wall);
        Duration::from_nanos(wall.max(now.monotonic.saturating_sub(self.monotonic)))
    }

    /// Returns `true` if either clock has reached the deadline.
    #[inline]
    pub(crate) fn reached(&self, now: &Now) -> bool {
        now.monotonic >= self.monotonic || now.wall >= self.wall
    }

    /// Returns the remaining time, or zero once the deadline is reached.
    pub(crate) fn remaining(&self, now: &Now) -> Duration {
        let wall = self.wall.saturating_sub(now.wall);
        Duration::from_nanos(wall.min(self.monotonic.saturating_sub(now.monotonic)))
    }
}

fn later(nanos: u64, duration: Duration) -> u64 {
    let duration = u64::try_from(duration.as_nanos()).ok();
    duration
        .and_then(|duration| nanos.checked_add(duration))
        .unwrap_or(nanos)
}

fn to_system_time(nanos: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos)
}

/// Returns the nanoseconds since the Unix epoch. An earlier time counts as the epoch, and a time
/// after the year 2554 as that year.
fn unix_nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}

/// The source of the current time, which is the operating system or an injected clock.
#[derive(Clone, Default)]
pub(crate) enum TimeSource {
    #[default]
    System,
    Injected(Arc<dyn Clock>),
}

impl TimeSource {
    /// Reads both clocks.
    pub(crate) fn now(&self) -> Now {
        match self {
            Self::System => system::now(),
            Self::Injected(clock) => injected(&**clock),
        }
    }

    /// Reads both clocks for a cache hit, which may be up to about 10 ms behind [`now`](Self::now)
    /// and never ahead.
    // A plain `inline` leaves a call in every hit.
    #[inline(always)]
    pub(crate) fn coarse_now(&self) -> Now {
        match self {
            Self::System => system::coarse_now(),
            Self::Injected(clock) => injected(&**clock),
        }
    }

    /// Reads the time of day, which an injected clock may set to any year.
    pub(crate) fn wall(&self) -> SystemTime {
        match self {
            Self::System => SystemTime::now(),
            Self::Injected(clock) => clock.wall(),
        }
    }

    /// Reads the monotonic clock.
    pub(crate) fn instant(&self) -> Instant {
        match self {
            Self::System => Instant::now(),
            Self::Injected(clock) => clock.monotonic(),
        }
    }
}

fn injected(clock: &dyn Clock) -> Now {
    Now {
        wall: unix_nanos(clock.wall()),
        monotonic: Anchor::get().to_nanos(clock.monotonic()),
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

/// Formats a time limit in seconds for a message.
pub(crate) fn format_limit(limit: Duration) -> String {
    match limit.subsec_millis() {
        0 => format!("{} s", limit.as_secs()),
        _ => format!("{:.1} s", limit.as_secs_f64()),
    }
}

/// Formats a time as `2026-11-21T03:00:00Z`.
pub(crate) fn format_time(time: SystemTime) -> String {
    match DateTime::from_system_time(time) {
        Ok(time) => time.to_string(),
        Err(_) => "a time before 1970 or after 9999".to_owned(),
    }
}

/// Returns a random number from 0 to 1.
///
/// Random delays keep many clients from sending requests at the same time.
pub(crate) fn jitter() -> f64 {
    // Not for secrets: the standard library draws the keys once per thread and counts them up.
    let random = RandomState::new().build_hasher().finish() as u32;
    f64::from(random) / f64::from(u32::MAX)
}

/// Returns the seconds since the Unix epoch, or 0 for an earlier time.
pub(crate) fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

#[cfg(test)]
impl Now {
    pub(crate) fn later(self, seconds: u64) -> Self {
        self.moved(seconds.cast_signed(), seconds)
    }

    /// Moves each clock by itself. The wall clock alone can be set back.
    pub(crate) fn moved(mut self, wall_seconds: i64, monotonic_seconds: u64) -> Self {
        self.wall = self.wall.wrapping_add_signed(wall_seconds * 1_000_000_000);
        self.monotonic += monotonic_seconds * 1_000_000_000;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_reached_as_soon_as_either_clock_reaches_it() {
        let start = TimeSource::System.now();
        let deadline = start.plus(Duration::from_secs(60));
        let at = |wall, monotonic| start.moved(wall, monotonic);
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
    fn a_duration_beyond_the_clock_is_reached_at_once() {
        let now = TimeSource::System.now();
        assert!(now.plus(Duration::MAX).reached(&now));
    }

    #[test]
    fn jitter_is_from_0_to_1_and_random() {
        let drawn: Vec<f64> = (0..100).map(|_| jitter()).collect();
        assert!(drawn.iter().all(|share| (0.0..=1.0).contains(share)));
        assert!(drawn.iter().any(|share| *share < 0.5) && drawn.iter().any(|share| *share > 0.5));
    }
}
