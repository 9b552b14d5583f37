//! The clocks of the operating system, as nanoseconds.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

use super::Now;

/// Reads both clocks.
pub(super) fn now() -> Now {
    Now {
        wall: super::unix_nanos(SystemTime::now()),
        monotonic: Anchor::get().to_nanos(Instant::now()),
    }
}

/// Reads both clocks, the coarse ones where the system has them. Not ahead of [`now`].
#[inline]
pub(super) fn coarse_now() -> Now {
    match Anchor::get().has_coarse_clocks {
        true => coarse::now(),
        false => now(),
    }
}

/// One moment of the monotonic clock, as an [`Instant`] and in nanoseconds. Converts each into the
/// other. Read once in a process.
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
        let instant = Instant::now();
        let fine = |monotonic| Now {
            wall: super::unix_nanos(SystemTime::now()),
            monotonic,
        };
        match coarse::probe() {
            Some((coarse, monotonic)) if is_near(&coarse, &fine(monotonic)) => Self {
                instant,
                nanos: monotonic,
                has_coarse_clocks: true,
            },
            _ => Self {
                instant,
                nanos: ARBITRARY,
                has_coarse_clocks: false,
            },
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

/// Returns `true` if coarse clocks are within 100 ms of the fine ones.
fn is_near(coarse: &Now, fine: &Now) -> bool {
    let near = |coarse: u64, fine: u64| coarse.abs_diff(fine) <= 100_000_000;
    near(coarse.wall, fine.wall) && near(coarse.monotonic, fine.monotonic)
}

/// The anchor's nanoseconds where no coarse clock counts from the same moment. An injected clock
/// may show times before the anchor.
const ARBITRARY: u64 = 1 << 62;

/// The kernel's clocks of the last timer tick. A kernel ticks 100 to 1,000 times in a second.
#[cfg(any(target_os = "linux", target_os = "android"))]
mod coarse {
    use rustix::io::Result;
    use rustix::time::{ClockId, DynamicClockId, Timespec, clock_gettime, clock_gettime_dynamic};

    use super::Now;

    /// Reads the clocks. Panics if the kernel does not know them, so [`probe`] comes first.
    // A plain `inline` leaves a call in every hit.
    #[inline(always)]
    pub(super) fn now() -> Now {
        Now {
            wall: nanos(clock_gettime(ClockId::RealtimeCoarse)),
            monotonic: monotonic_nanos(clock_gettime(ClockId::MonotonicCoarse)),
        }
    }

    /// Reads the clocks, unless the kernel does not know them. Then reads the monotonic clock that
    /// an `Instant` is from.
    pub(super) fn probe() -> Option<(Now, u64)> {
        let read =
            |clock| -> Result<Timespec> { clock_gettime_dynamic(DynamicClockId::Known(clock)) };
        let now = Now {
            wall: nanos(read(ClockId::RealtimeCoarse).ok()?),
            monotonic: monotonic_nanos(read(ClockId::MonotonicCoarse).ok()?),
        };
        Some((now, monotonic_nanos(read(ClockId::Monotonic).ok()?)))
    }

    /// Counts from 34 years before the machine's start, since an injected clock may show times
    /// before the start.
    #[inline]
    fn monotonic_nanos(mut time: Timespec) -> u64 {
        time.tv_sec += 1 << 30;
        nanos(time)
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
    use super::Now;

    pub(super) fn now() -> Now {
        super::now()
    }

    pub(super) fn probe() -> Option<(Now, u64)> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clocks_agree_with_those_of_std() {
        let second = Duration::from_secs(1);
        for read in [now(), coarse_now()] {
            let time = SystemTime::now();
            assert!((time - second..=time).contains(&read.wall()), "{read:?}");
            let instant = Instant::now();
            let [earliest, latest] = [instant - second, instant + Duration::from_millis(1)];
            assert!((earliest..latest).contains(&read.monotonic()), "{read:?}");
        }
    }

    /// A token that expired by the coarse clocks must not be valid again by the fine ones.
    #[test]
    fn the_coarse_clocks_are_not_ahead() {
        for _ in 0..10_000 {
            let (coarse, fine) = (coarse_now(), now());
            assert!(coarse.wall <= fine.wall, "{coarse:?} {fine:?}");
            // The anchor's two readings are some nanoseconds apart.
            assert!(
                coarse.monotonic <= fine.monotonic + 1_000_000,
                "{coarse:?} {fine:?}"
            );
        }
    }

    #[test]
    fn coarse_clocks_that_stand_still_are_not_used() {
        let at = |wall, monotonic| Now { wall, monotonic };
        let ms = 1_000_000;
        assert!(is_near(&at(990 * ms, 5 * ms), &at(1000 * ms, 9 * ms)));
        assert!(!is_near(&at(0, 5 * ms), &at(1000 * ms, 9 * ms)));
        assert!(!is_near(&at(990 * ms, 0), &at(1000 * ms, 900 * ms)));
    }

    /// A machine that started a minute ago must not stop an injected clock that is an hour behind.
    #[test]
    fn an_instant_before_the_start_of_the_machine_is_the_same_after_a_conversion() {
        let years = Duration::from_secs(20 * 365 * 24 * 60 * 60);
        if let Some(instant) = Instant::now().checked_sub(years) {
            let anchor = Anchor::get();
            assert_eq!(anchor.to_instant(anchor.to_nanos(instant)), instant);
        }
    }

    #[test]
    fn an_instant_is_the_same_after_a_conversion() {
        let now = Instant::now();
        let hour = Duration::from_secs(3600);
        for nanos in [coarse_now().monotonic, ARBITRARY] {
            let anchor = Anchor {
                instant: now,
                nanos,
                has_coarse_clocks: false,
            };
            let earlier = now.checked_sub(Duration::from_nanos(1)).unwrap_or(now);
            for instant in [earlier, now, now + hour, now + 9 * hour] {
                assert_eq!(anchor.to_instant(anchor.to_nanos(instant)), instant);
            }
        }
    }
}
