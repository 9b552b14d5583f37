use std::time::{Duration, SystemTime};

use crate::time::{Deadline, Now};

/// The thresholds of a token's life: refresh due, unusable, expired.
///
/// A cache hit reads `refresh` alone. The other thresholds are relative to `refresh` and counted in
/// ticks of 10 ms, to keep the struct small.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lifetime {
    /// The time from which a refresh is due.
    refresh: Deadline,
    /// Ticks from `refresh` until the token is no longer returned.
    unusable: u32,
    /// Ticks for which the token is returned in all.
    usable: u32,
}

/// The stage of a token's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Valid, with no refresh due.
    Fresh,
    /// Valid, with a refresh due.
    Due,
    /// Expired, or so close to the expiry that the token is no longer returned.
    Expired,
}

impl Lifetime {
    /// Computes the thresholds of a token issued now.
    ///
    /// `jitter` is a random number from 0 to 1 that the caller draws once per token.
    pub(crate) fn new(
        lifetime: Duration,
        refresh_in: Option<Duration>,
        now: Now,
        jitter: f64,
    ) -> Self {
        let lifetime = lifetime.min(MAX_LIFETIME);
        let half = lifetime / 2;
        let refresh = match refresh_in {
            Some(refresh_in) if !refresh_in.is_zero() && refresh_in < lifetime => refresh_in,
            _ if lifetime >= TWO_HOURS => half,
            // Never before half the lifetime, because a token that lives under five minutes would
            // be due at once, again and again.
            _ => lifetime.saturating_sub(FIVE_MINUTES).max(half),
        };
        // At most half of `refresh`, because a token with a `refresh_in` of one minute would be
        // due at once, again and again.
        let jitter = FIVE_MINUTES
            .min(lifetime / 10)
            .min(refresh / 2)
            .mul_f64(jitter.clamp(0.0, 1.0));
        let margin = MARGIN.min(lifetime / 10);
        // In whole ticks, like the thresholds relative to `refresh`.
        let refresh = duration(ticks(refresh.saturating_sub(jitter)));
        let usable = lifetime.saturating_sub(margin);
        Self {
            refresh: now.plus(refresh),
            unusable: ticks(usable.saturating_sub(refresh)),
            usable: ticks(usable),
        }
    }

    /// Restores the lifetime of a token that another process acquired.
    ///
    /// `issued_for` is the lifetime at the issue. The other times count from now.
    pub(crate) fn restored(
        issued_for: Duration,
        expires_in: Duration,
        refresh_in: Duration,
        now: Now,
    ) -> Self {
        let issued_for = issued_for.min(MAX_LIFETIME).max(expires_in);
        let margin = MARGIN.min(issued_for / 10);
        let refresh = duration(ticks(refresh_in.min(expires_in)));
        let usable = expires_in.saturating_sub(margin);
        Self {
            refresh: now.plus(refresh),
            unusable: ticks(usable.saturating_sub(refresh)),
            usable: ticks(issued_for.saturating_sub(margin)),
        }
    }

    /// Returns the same lifetime with a refresh due now.
    pub(crate) fn due(&self, now: Now) -> Self {
        let refresh = now.plus(Duration::ZERO);
        Self {
            refresh,
            unusable: ticks(self.remaining(&now)),
            usable: self.usable,
        }
    }

    #[inline]
    pub(crate) fn stage(&self, now: &Now) -> Stage {
        if !self.refresh.reached(now) {
            Stage::Fresh
        } else if !self.end().reached(now) {
            Stage::Due
        } else {
            Stage::Expired
        }
    }

    /// Returns for how long the token is still returned to callers.
    pub(crate) fn remaining(&self, now: &Now) -> Duration {
        self.end().remaining(now)
    }

    /// Returns for how long the token is returned to callers in all, from the issue on.
    pub(crate) fn whole(&self) -> Duration {
        duration(self.usable)
    }

    pub(crate) fn expires_on(&self) -> SystemTime {
        self.end().later(self.margin()).wall()
    }

    /// Returns the time until the expiry.
    pub(crate) fn expires_in(&self, now: &Now) -> Duration {
        self.end().later(self.margin()).remaining(now)
    }

    /// Returns the time until a refresh is due.
    pub(crate) fn refresh_in(&self, now: &Now) -> Duration {
        self.refresh.remaining(now)
    }

    /// Returns the lifetime at the issue.
    pub(crate) fn issued_for(&self) -> Duration {
        self.whole() + self.margin()
    }

    /// Returns the time before the expiry during which the token is no longer returned.
    fn margin(&self) -> Duration {
        // A tenth of the lifetime is a ninth of the rest.
        MARGIN.min(self.whole() / 9)
    }

    pub(crate) fn refresh_on(&self) -> SystemTime {
        self.refresh.wall()
    }

    /// Returns the time from which the token is no longer returned.
    fn end(&self) -> Deadline {
        self.refresh.later(duration(self.unusable))
    }
}

fn ticks(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis() / TICK.as_millis()).unwrap_or(u32::MAX)
}

fn duration(ticks: u32) -> Duration {
    TICK * ticks
}

const TICK: Duration = Duration::from_millis(10);
/// The time before the expiry during which a token is no longer returned. At most a tenth of the
/// lifetime.
const MARGIN: Duration = Duration::from_secs(10);
const FIVE_MINUTES: Duration = Duration::from_secs(5 * 60);
/// The lifetime from which a refresh is due at half the lifetime.
const TWO_HOURS: Duration = Duration::from_secs(2 * 60 * 60);
/// The longest accepted lifetime, a year. A longer one is a server's mistake, and is cut so that
/// every entry expires.
const MAX_LIFETIME: Duration = Duration::from_secs(365 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::TimeSource;

    #[test]
    fn the_thresholds_follow_from_the_lifetime() {
        let now = TimeSource::System.now();
        // lifetime, refresh_in, jitter => refresh, unusable (seconds)
        for (name, lifetime, refresh_in, jitter, refresh, unusable) in [
            (
                "an hour: five minutes before the end",
                3600,
                None,
                0.0,
                3300.0,
                3590.0,
            ),
            ("just under two hours", 7199, None, 0.0, 6899.0, 7189.0),
            ("two hours: half", 7200, None, 0.0, 3600.0, 7190.0),
            ("a day: half", 86_400, None, 0.0, 43_200.0, 86_390.0),
            ("eight minutes: half", 480, None, 0.0, 240.0, 470.0),
            (
                "one minute: half, margin a tenth",
                60,
                None,
                0.0,
                30.0,
                54.0,
            ),
            ("one second", 1, None, 0.0, 0.5, 0.9),
            ("the server's word", 3600, Some(1800), 0.0, 1800.0, 3590.0),
            (
                "refresh_in not below the lifetime",
                3600,
                Some(3600),
                0.0,
                3300.0,
                3590.0,
            ),
            ("refresh_in of zero", 3600, Some(0), 0.0, 3300.0, 3590.0),
            (
                "jitter is at most five minutes",
                3600,
                None,
                1.0,
                3000.0,
                3590.0,
            ),
            ("jitter is at most a tenth", 600, None, 1.0, 240.0, 590.0),
            (
                "jitter is at most half the way",
                3600,
                Some(60),
                1.0,
                30.0,
                3590.0,
            ),
            ("jitter is a share", 3600, Some(1800), 0.5, 1650.0, 3590.0),
        ] {
            let made = Lifetime::new(
                Duration::from_secs(lifetime),
                refresh_in.map(Duration::from_secs),
                now,
                jitter,
            );
            let from_now = |seconds: f64| now.wall() + Duration::from_secs_f64(seconds);
            assert_eq!(made.refresh_on(), from_now(refresh), "{name}");
            assert_eq!(made.whole().as_secs_f64(), unusable, "{name}");
            assert_eq!(made.expires_on(), from_now(lifetime as f64), "{name}");
        }
    }

    #[test]
    fn a_huge_lifetime_is_cut() {
        let now = TimeSource::System.now();
        let made = Lifetime::new(Duration::MAX, None, now, 0.0);
        assert_eq!(made.expires_on(), now.wall() + MAX_LIFETIME);
    }

    #[test]
    fn either_clock_ends_a_token() {
        let start = TimeSource::System.now();
        let made = Lifetime::new(Duration::from_secs(3600), None, start, 0.0);
        let at = |wall, monotonic| start.moved(wall, monotonic);
        for (name, now, stage, left) in [
            ("young", at(3299, 3299), Stage::Fresh, 291),
            ("due", at(3300, 3300), Stage::Due, 290),
            ("in its last second", at(3589, 3589), Stage::Due, 1),
            ("ended", at(3590, 3590), Stage::Expired, 0),
            (
                "wall alone: the machine was suspended",
                at(3590, 5),
                Stage::Expired,
                0,
            ),
            ("wall alone, due", at(3300, 5), Stage::Due, 290),
            (
                "monotonic alone: the wall clock was set back",
                at(-7200, 3590),
                Stage::Expired,
                0,
            ),
            ("monotonic alone, due", at(5, 3300), Stage::Due, 290),
            ("long ago", at(1_000_000, 1_000_000), Stage::Expired, 0),
        ] {
            assert_eq!(made.stage(&now), stage, "{name}");
            assert_eq!(made.remaining(&now).as_secs(), left, "{name}");
        }
    }
}
