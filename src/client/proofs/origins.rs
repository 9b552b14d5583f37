use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

/// The nonces and the clock differences of servers, by origin.
///
/// At most [`MAX_ORIGINS`] origins are kept. The least recently used origin is forgotten first.
#[derive(Default)]
pub(super) struct ProofOrigins(Mutex<Known>);

#[derive(Default)]
struct Known {
    origins: HashMap<Box<str>, KnownOrigin>,
    /// The number of uses of all origins so far.
    uses: u64,
}

#[derive(Default)]
struct KnownOrigin {
    nonce: Option<Arc<str>>,
    difference: ClockDifference,
    last_use: u64,
}

/// The difference between a server's clock and the client's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ClockDifference {
    size: Duration,
    /// True if the server's clock is behind.
    is_behind: bool,
}

impl ProofOrigins {
    /// Returns the server's last nonce, and the difference of the clocks.
    pub(super) fn get(&self, origin: &str) -> (Option<Arc<str>>, ClockDifference) {
        let mut known = self.lock();
        match known.used(origin) {
            Some(known) => (known.nonce.clone(), known.difference),
            None => Default::default(),
        }
    }

    /// Stores a server's nonce for the next proofs.
    pub(super) fn set_nonce(&self, origin: &str, nonce: &str) {
        let mut known = self.lock();
        let known = known.entry(origin);
        // Most responses repeat the nonce.
        if known.nonce.as_deref() != Some(nonce) {
            known.nonce = Some(nonce.into());
        }
    }

    /// Stores the difference of the clocks for the next proofs.
    pub(super) fn set_difference(&self, origin: &str, difference: ClockDifference) {
        self.lock().entry(origin).difference = difference;
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // No code panics under the lock, and every field would still be whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn used(&mut self, origin: &str) -> Option<&mut KnownOrigin> {
        self.uses = self.uses.saturating_add(1);
        let known = self.origins.get_mut(origin)?;
        known.last_use = self.uses;
        Some(known)
    }

    fn entry(&mut self, origin: &str) -> &mut KnownOrigin {
        self.uses = self.uses.saturating_add(1);
        if !self.origins.contains_key(origin) && self.origins.len() >= MAX_ORIGINS {
            let oldest = self.origins.iter().min_by_key(|(_, known)| known.last_use);
            if let Some(oldest) = oldest.map(|(origin, _)| origin.clone()) {
                self.origins.remove(&oldest);
            }
        }
        let known = self.origins.entry(origin.into()).or_default();
        known.last_use = self.uses;
        known
    }
}

impl ClockDifference {
    /// Returns the difference between the server's `Date` and the client's clock, up to a day.
    ///
    /// `sent` and `received` are the client's times of the request and of the response. A response
    /// that took long is no difference. `None` for a greater difference, by which no proof is
    /// corrected.
    pub(super) fn between(
        server: SystemTime,
        sent: SystemTime,
        received: SystemTime,
    ) -> Option<Self> {
        let ahead = server.duration_since(received.max(sent));
        let behind = sent.duration_since(server);
        let (size, is_behind) = match (ahead, behind) {
            (Ok(ahead), _) => (ahead, false),
            (Err(_), Ok(behind)) => (behind, true),
            (Err(_), Err(_)) => (Duration::ZERO, false),
        };
        (size <= MAX_DIFFERENCE).then_some(Self { size, is_behind })
    }

    /// Returns the server's time.
    pub(super) fn corrected(self, client: SystemTime) -> SystemTime {
        let corrected = match self.is_behind {
            true => client.checked_sub(self.size),
            false => client.checked_add(self.size),
        };
        corrected.unwrap_or(client)
    }

    /// Returns whether the two differ by more than the tolerance.
    pub(super) fn differs_from(self, other: Self) -> bool {
        let distance = match self.is_behind == other.is_behind {
            true => self.size.abs_diff(other.size),
            false => self.size.saturating_add(other.size),
        };
        distance > TOLERANCE
    }
}

/// The number of origins whose nonces are kept.
const MAX_ORIGINS: usize = 100;
/// The largest correction. A clock that is further off makes TLS fail first.
const MAX_DIFFERENCE: Duration = Duration::from_secs(24 * 60 * 60);
/// The largest difference that is none: `Date` has whole seconds, and a proxy may add a second.
const TOLERANCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_origin_is_forgotten() {
        let origins = ProofOrigins::default();
        let origin = |number: usize| format!("https://api{number}.example");
        for number in 0..MAX_ORIGINS {
            origins.set_nonce(&origin(number), &format!("n{number}"));
        }
        let nonce = |number: usize| origins.get(&origin(number)).0;
        assert_eq!(nonce(0).as_deref(), Some("n0"), "used again");
        origins.set_nonce(&origin(MAX_ORIGINS), "new");
        assert_eq!(nonce(0).as_deref(), Some("n0"));
        assert_eq!(nonce(1), None);
        assert_eq!(nonce(2).as_deref(), Some("n2"));
        assert_eq!(nonce(MAX_ORIGINS).as_deref(), Some("new"));
        for number in 0..10 * MAX_ORIGINS {
            origins.set_nonce(&origin(number), "n");
        }
        assert_eq!(origins.lock().origins.len(), MAX_ORIGINS);
    }

    #[test]
    fn a_difference_is_bounded_and_corrects_both_ways() {
        let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let (day, took) = (24 * 60 * 60, 20);
        let sent = at(10 * day);
        let received = at(10 * day + took);
        for (server, corrected) in [
            (at(10 * day), Some(sent)),
            (at(10 * day + took), Some(sent)),
            (at(10 * day + took + 900), Some(at(10 * day + 900))),
            (at(10 * day - 900), Some(at(10 * day - 900))),
            (at(11 * day + took), Some(at(11 * day))),
            (at(9 * day), Some(at(9 * day))),
            (at(11 * day + took + 1), None),
            (at(9 * day - 1), None),
        ] {
            let difference = ClockDifference::between(server, sent, received);
            let found = difference.map(|difference| difference.corrected(sent));
            assert_eq!(found, corrected);
        }
    }

    #[test]
    fn a_difference_within_the_tolerance_is_none() {
        let difference = |seconds: i64| ClockDifference {
            size: Duration::from_secs(seconds.unsigned_abs()),
            is_behind: seconds < 0,
        };
        for (one, other, differs) in [
            (0, 5, false),
            (0, -5, false),
            (0, 6, true),
            (-3, 3, true),
            (900, 905, false),
            (900, -900, true),
        ] {
            let (one, other) = (difference(one), difference(other));
            assert_eq!(one.differs_from(other), differs, "{one:?} and {other:?}");
        }
    }
}
