//! The clocks of the operating system, as nanoseconds.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::Now;

/// Reads both clocks, the coarse ones where the system has them.
#[inline]
pub(super) fn now() -> Now {
    let anchor = Anchor::get();
    match anchor.has_coarse_clocks {
        true => coarse::now(),
        false => fine_now(anchor),
    }
}

fn fine_now(anchor: &Anchor) -> Now {
    Now {
        wall: super::unix_nanos(std::time::SystemTime::now()),
        monotonic: anchor.to_nanos(Instant::now()),
    }
}

/// One moment of the monotonic clock, as an [`Instant`] and in nanoseconds. Converts each into the
/// other.
///
/// Read once in a process. Where the coarse clock is in use, both count the same time line, and a
/// conversion is off by at most one tick of the coarse clock.
pub(super) struct Anchor {
    instant: Instant,
    nanos: u64,
    has_coarse_clocks: bool,
}

impl Anchor {
    #[inline]
    pub(super) fn get() -> &'static Self {
        static ANCHOR: OnceLock<Anchor> = OnceLock::new();
        ANCHOR.get_or_init(Self::read)
    }

    fn read() -> Self {
        let fine = Self {
            instant: Instant::now(),
            nanos: FINE_ANCHOR,
            has_coarse_clocks: false,
        };
        match coarse::probe() {
            Some(now) if is_near(now.wall, fine_now(&fine).wall) => Self {
                nanos: now.monotonic,
                has_coarse_clocks: true,
                ..fine
            },
            _ => fine,
        }
    }

    /// Converts an instant, from before or after the anchor.
    pub(super) fn to_nanos(&self, instant: Instant) -> u64 {
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        match instant.checked_duration_since(self.instant) {
            Some(after) => self.nanos.saturating_add(nanos(after)),
            None => {
                let before = self.instant.saturating_duration_since(instant);
                self.nanos.saturating_sub(nanos(before))
            }
        }
    }

    /// Converts nanoseconds. A time beyond the clock's range gives the anchor's instant.
    pub(super) fn to_instant(&self, nanos: u64) -> Instant {
        let converted = match nanos.checked_sub(self.nanos) {
            Some(after) => self.instant.checked_add(Duration::from_nanos(after)),
            None => (self.instant).checked_sub(Duration::from_nanos(self.nanos - nanos)),
        };
        converted.unwrap_or(self.instant)
    }
}

/// Returns `true` if a coarse reading is within 100 ms of a fine one.
fn is_near(coarse: u64, fine: u64) -> bool {
    coarse.abs_diff(fine) <= 100_000_000
}

/// The anchor's nanoseconds where the monotonic clock is read as an [`Instant`] alone. An injected
/// clock may show times before the anchor.
const FINE_ANCHOR: u64 = 1 << 62;

/// The kernel's clocks of the last timer tick. A kernel ticks 100 to 1,000 times in a second.
#[cfg(any(target_os = "linux", target_os = "android"))]
mod coarse {
    use rustix::io::Result;
    use rustix::time::{ClockId, DynamicClockId, Timespec, clock_gettime, clock_gettime_dynamic};

    use super::Now;

    /// Reads the clocks. Panics if the kernel does not know them, so [`probe`] comes first.
    #[inline]
    pub(super) fn now() -> Now {
        Now {
            wall: nanos(clock_gettime(ClockId::RealtimeCoarse)),
            monotonic: nanos(clock_gettime(ClockId::MonotonicCoarse)),
        }
    }

    /// Reads the clocks, unless the kernel does not know them.
    pub(super) fn probe() -> Option<Now> {
        let read = |clock| -> Result<u64> {
            clock_gettime_dynamic(DynamicClockId::Known(clock)).map(nanos)
        };
        Some(Now {
            wall: read(ClockId::RealtimeCoarse).ok()?,
            monotonic: read(ClockId::MonotonicCoarse).ok()?,
        })
    }

    /// A time before the epoch counts as the epoch.
    #[inline]
    fn nanos(time: Timespec) -> u64 {
        let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
        let nanos = u64::try_from(time.tv_nsec).unwrap_or_default();
        seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod coarse {
    use super::{Anchor, Now, fine_now};

    pub(super) fn now() -> Now {
        fine_now(Anchor::get())
    }

    pub(super) fn probe() -> Option<Now> {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn the_clocks_agree_with_those_of_std() {
        let read = now();
        let second = Duration::from_secs(1);
        let [before, after] = [SystemTime::now() - second, SystemTime::now() + second];
        assert!((before..after).contains(&read.wall()), "{:?}", read.wall());
        let [before, after] = [Instant::now() - second, Instant::now() + second];
        assert!((before..after).contains(&read.monotonic()));
    }

    #[test]
    fn a_kernel_without_coarse_clocks_is_served_by_those_of_std() {
        assert!(is_near(5_000_000_000, 5_010_000_000) && is_near(10, 0));
        assert!(!is_near(0, 200_000_000), "a clock that stands still");
        let anchor = Anchor {
            instant: Instant::now(),
            nanos: FINE_ANCHOR,
            has_coarse_clocks: false,
        };
        let read = fine_now(&anchor);
        assert!(read.monotonic >= FINE_ANCHOR);
        assert!(super::super::unix_nanos(SystemTime::now()) >= read.wall);
    }

    #[test]
    fn an_instant_is_the_same_after_a_conversion() {
        let anchor = Anchor::get();
        let hour = Duration::from_secs(3600);
        for instant in [
            anchor.instant,
            anchor.instant + hour,
            anchor.instant + 9 * hour,
        ] {
            assert_eq!(anchor.to_instant(anchor.to_nanos(instant)), instant);
        }
        let Some(earlier) = anchor.instant.checked_sub(Duration::from_nanos(1)) else {
            return;
        };
        assert_eq!(anchor.to_instant(anchor.to_nanos(earlier)), earlier);
        assert_eq!(anchor.to_instant(u64::MAX), {
            let after = Duration::from_nanos(u64::MAX - anchor.nanos);
            anchor.instant.checked_add(after).unwrap_or(anchor.instant)
        });
    }
}
