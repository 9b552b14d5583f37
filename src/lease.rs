//! Who has the turn to do something, and until when that is believed.

use std::collections::HashMap;
use std::time::Instant;

/// A right that one holder has at a time, such as sending the token request of a cache slot.
///
/// A holder may be a task on a tokio runtime that has stopped, and never return the lease.
/// Therefore every lease expires, and the next caller may then take over. A late holder finds
/// that the lease is no longer current, and must not publish a result.
///
/// `T` is a value of the holder that other callers may read. `Lease` has no lock and no clock.
pub(crate) struct Lease<T = ()> {
    /// The number of the latest grant.
    latest: u64,
    /// Boxed, since most leases are free most of the time.
    held: Option<Box<Held<T>>>,
}

struct Held<T> {
    expires: Instant,
    value: T,
}

/// The number of one grant. A later grant has a greater number.
pub(crate) type LeaseId = u64;

impl<T> Lease<T> {
    /// Creates a free lease after the grant with the number `latest`.
    pub(crate) fn after(latest: LeaseId) -> Self {
        Self { latest, held: None }
    }

    /// Returns the current holder's value and expiry, unless the lease is free or has expired.
    pub(crate) fn holder(&self, now: Instant) -> Option<(&T, Instant)> {
        let held = self.held.as_deref()?;
        (now < held.expires).then_some((&held.value, held.expires))
    }

    /// Returns the number that the next grant will have.
    pub(crate) fn next(&self) -> LeaseId {
        self.latest.wrapping_add(1)
    }

    /// Returns the number of the latest grant, which may have ended.
    pub(crate) fn latest(&self) -> LeaseId {
        self.latest
    }

    /// Grants the lease until `expires`. Returns the number of the grant, and the value of a
    /// replaced holder.
    ///
    /// Call [`holder`](Self::holder) first: a grant does not ask whether the lease is free.
    pub(crate) fn grant(&mut self, expires: Instant, value: T) -> (LeaseId, Option<T>) {
        self.latest = self.next();
        let replaced = self.held.replace(Box::new(Held { expires, value }));
        (self.latest, replaced.map(|held| held.value))
    }

    /// Returns `true` if this grant has been neither released nor replaced. An expired grant stays
    /// current until another holder replaces it.
    pub(crate) fn is_current(&self, id: LeaseId) -> bool {
        self.held.is_some() && self.latest == id
    }

    /// Returns `true` if any grant is current.
    pub(crate) fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// Returns the value of the current grant, expired or not.
    pub(crate) fn value(&self) -> Option<&T> {
        self.held.as_deref().map(|held| &held.value)
    }

    /// Ends a grant and returns the value. Returns `None` if the grant is no longer current.
    pub(crate) fn release(&mut self, id: LeaseId) -> Option<T> {
        if !self.is_current(id) {
            return None;
        }
        self.held.take().map(|held| held.value)
    }
}

impl<T> Default for Lease<T> {
    fn default() -> Self {
        Self::after(0)
    }
}

/// Leases of many holders at a time.
#[derive(Default)]
pub(crate) struct Leases {
    latest: LeaseId,
    expiries: HashMap<LeaseId, Instant>,
}

impl Leases {
    /// Grants a lease until `expires`.
    pub(crate) fn grant(&mut self, expires: Instant) -> LeaseId {
        self.latest = self.latest.wrapping_add(1);
        self.expiries.insert(self.latest, expires);
        self.latest
    }

    /// Ends a lease. Returns `false` if the lease had already ended.
    pub(crate) fn release(&mut self, id: LeaseId) -> bool {
        self.expiries.remove(&id).is_some()
    }

    /// Ends all leases that have expired, and returns the number of ended leases.
    pub(crate) fn release_expired(&mut self, now: Instant) -> usize {
        let before = self.expiries.len();
        self.expiries.retain(|_, expires| *expires > now);
        before - self.expiries.len()
    }

    /// Returns the earliest time at which a lease expires.
    pub(crate) fn next_expiry(&self) -> Option<Instant> {
        self.expiries.values().min().copied()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_expired_lease_can_be_replaced_and_its_holder_is_no_longer_current() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let mut lease = Lease::default();
        assert!(lease.holder(now).is_none() && !lease.is_held());

        let (first, replaced) = lease.grant(later, "first");
        assert_eq!((lease.next(), replaced), (first + 1, None));
        assert_eq!(lease.holder(now), Some((&"first", later)));
        assert_eq!(lease.holder(later), None, "it expires");
        assert!(lease.is_current(first), "until it is replaced");

        let (second, replaced) = lease.grant(later + Duration::from_secs(1), "second");
        assert_eq!(replaced, Some("first"));
        assert!(!lease.is_current(first));
        assert_eq!(lease.release(first), None);
        assert_eq!(lease.value(), Some(&"second"));
        assert_eq!(lease.release(second), Some("second"));
        assert_eq!((lease.latest(), lease.release(second)), (second, None));
        assert!(!lease.is_current(second));
    }

    #[test]
    fn a_released_lease_of_many_cannot_be_released_again() {
        let now = Instant::now();
        let [sooner, later] = [1, 2].map(|seconds| now + Duration::from_secs(seconds));
        let mut leases = Leases::default();
        assert_eq!(leases.next_expiry(), None);
        let (first, second) = (leases.grant(later), leases.grant(sooner));
        assert_eq!(leases.next_expiry(), Some(sooner));
        assert_eq!(leases.release_expired(now), 0);
        assert_eq!(leases.release_expired(sooner), 1);
        assert!(!leases.release(second), "it has expired");
        assert!(leases.release(first) && !leases.release(first));
        assert_eq!(leases.next_expiry(), None);
    }
}
