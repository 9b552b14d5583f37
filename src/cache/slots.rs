//! The slots of a client, by their cache keys.

use std::borrow::Borrow;
use std::ops::Deref;
use std::sync::Arc;

use super::bounded_map::{BoundedMap, ByKey, Evictable};
use super::slot::Slot;
use crate::time::Now;
use crate::token::CacheKey;

impl<F: Clone> Borrow<CacheKey> for ByKey<Slot<F>> {
    fn borrow(&self) -> &CacheKey {
        self.0.key()
    }
}

impl<F: Clone> BoundedMap<Slot<F>> {
    /// Returns the slot of a key, if there is one. Called under the lock of the map.
    pub(super) fn hold(&self, key: &CacheKey) -> Option<HeldSlot<F>> {
        self.get(key).map(HeldSlot::new)
    }

    /// Returns the slot of a key, and creates a missing slot. Also returns the number of evictions.
    pub(super) fn get_or_insert(
        &mut self,
        key: &CacheKey,
        extra: usize,
        now: &Now,
    ) -> (HeldSlot<F>, u64) {
        // Another caller may have created the slot while this one waited for the lock.
        if let Some(slot) = self.hold(key) {
            return (slot, 0);
        }
        let key = Arc::new(self.with_shared_scopes(key));
        let slot = HeldSlot::new(&Arc::new(Slot::new(key)));
        let evicted = self.insert(Arc::clone(slot.shared()), extra, now);
        (slot, evicted)
    }

    /// Returns the same key, with the allocation of the latest key's scopes if the scopes are
    /// equal.
    ///
    /// A client mostly requests the same scopes in each tenant.
    fn with_shared_scopes(&self, key: &CacheKey) -> CacheKey {
        let mut key = key.clone();
        if let Some(latest) = self.latest()
            && latest.key().scopes == key.scopes
        {
            key.scopes = latest.key().scopes.clone();
        }
        key
    }

    /// Empties every slot, and removes those that no one holds.
    pub(super) fn clear(&mut self) {
        self.retain(|slot| {
            slot.clear();
            slot.is_held()
        });
    }
}

/// A slot that stays in the map as long as someone holds it: a provider, a waiting caller or a
/// flight.
///
/// Requests remember slots without holding them. An evicted slot is empty, so such a request finds
/// no token in it.
pub(crate) struct HeldSlot<F: Clone>(Arc<Slot<F>>);

impl<F: Clone> HeldSlot<F> {
    /// Called under the lock of the map, so that no eviction is between the lookup and this.
    fn new(slot: &Arc<Slot<F>>) -> Self {
        slot.hold();
        Self(Arc::clone(slot))
    }

    /// Returns the slot, for someone who does not hold it.
    pub(crate) fn shared(&self) -> &Arc<Slot<F>> {
        &self.0
    }
}

impl<F: Clone> Clone for HeldSlot<F> {
    fn clone(&self) -> Self {
        Self::new(&self.0)
    }
}

impl<F: Clone> Deref for HeldSlot<F> {
    type Target = Slot<F>;

    #[inline]
    fn deref(&self) -> &Slot<F> {
        &self.0
    }
}

impl<F: Clone> Drop for HeldSlot<F> {
    fn drop(&mut self) {
        self.0.release();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::circuit_breaker::CircuitBreaker;
    use super::super::requirements::Requirements;
    use super::*;
    use crate::time::TimeSource;
    use crate::token::IssuedToken;

    struct Bench {
        slots: BoundedMap<Slot<u64>>,
        now: Now,
    }

    impl Bench {
        fn new(max: usize) -> Self {
            Self {
                slots: BoundedMap::new(max),
                now: TimeSource::System.now(),
            }
        }

        fn insert(&mut self, tenant: &str, seconds: u64) -> HeldSlot<u64> {
            let issued = Arc::new(IssuedToken::sample(tenant, "t", seconds, self.now));
            let (slot, _) = self.slots.get_or_insert(issued.key(), 0, &self.now);
            slot.join(
                &self.now,
                &Requirements::NONE,
                &CircuitBreaker::new(Duration::from_secs(31)),
                Some(1),
            );
            let _ = slot.complete(1, Ok(issued), &self.now, 0.0);
            slot
        }

        fn has(&self, tenant: &str) -> bool {
            self.slots
                .values()
                .any(|slot| *slot.key() == CacheKey::sample(tenant))
        }

        fn ask(&self, tenant: &str) {
            self.slots.get(&CacheKey::sample(tenant)).unwrap();
        }
    }

    #[test]
    fn the_oldest_is_evicted_unless_it_was_used() {
        let mut bench = Bench::new(3);
        for tenant in ["a", "b", "c"] {
            bench.insert(tenant, 3600);
        }
        bench.ask("a");
        bench.insert("d", 3600);
        assert!(bench.has("a") && !bench.has("b") && bench.has("c") && bench.has("d"));
        // Its second chance was used up.
        bench.insert("e", 3600);
        bench.insert("f", 3600);
        assert!(!bench.has("a"));
        assert_eq!(bench.slots.len(), 3);
    }

    #[test]
    fn an_expired_token_is_evicted_first() {
        let mut bench = Bench::new(3);
        bench.insert("a", 3600);
        bench.insert("b", 60);
        bench.insert("c", 3600);
        bench.ask("b");
        bench.now = bench.now.moved(120, 0);
        bench.insert("d", 3600);
        assert!(bench.has("a") && !bench.has("b") && bench.has("c") && bench.has("d"));
    }

    #[test]
    fn a_held_slot_is_not_evicted_and_may_exceed_the_bound() {
        let mut bench = Bench::new(2);
        let held = [bench.insert("a", 60), bench.insert("b", 60)];
        bench.now = bench.now.moved(120, 0);
        bench.insert("c", 3600);
        bench.insert("d", 3600);
        assert!(bench.has("a") && bench.has("b") && !bench.has("c") && bench.has("d"));
        assert_eq!(bench.slots.len(), 3);
        drop(held);
        bench.insert("e", 3600);
        assert_eq!(bench.slots.len(), 2);
    }

    /// A remembered failure is something to serve.
    #[test]
    fn a_slot_in_its_cool_down_is_not_evicted_first() {
        let mut bench = Bench::new(2);
        let key = CacheKey::sample("a");
        let (slot, _) = bench.slots.get_or_insert(&key, 0, &bench.now);
        slot.join(
            &bench.now,
            &Requirements::NONE,
            &CircuitBreaker::new(Duration::from_secs(31)),
            Some(1),
        );
        let refusal = crate::error::Error::credential("no");
        let _ = slot.complete(1, Err(refusal), &bench.now, 0.0);
        drop(slot);
        bench.insert("b", 60);
        bench.ask("a");
        bench.insert("c", 3600);
        assert!(bench.has("a") && !bench.has("b"));
    }

    #[test]
    fn clearing_empties_held_slots_and_removes_the_others() {
        let mut bench = Bench::new(9);
        let held = bench.insert("a", 3600);
        bench.insert("b", 3600);
        bench.slots.clear();
        assert!(bench.has("a") && !bench.has("b"));
        assert!(held.can_evict(&bench.now));
        assert_eq!(bench.slots.len(), 1);
    }
}
