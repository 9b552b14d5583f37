use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::slot::Slot;
use crate::time::Now;
use crate::token::CacheKey;

/// What a cache keeps by its keys, of which it keeps a bounded number: whoever comes beyond it takes
/// the place of one that is not needed, and there is no timer.
///
/// What somebody holds (a provider, a caller who waits, a flight) is needed. Of the others one that
/// has nothing to serve goes first, and then one that was not asked for since it was last passed
/// over ("second chance").
pub(super) struct BoundedMap<K, V> {
    kept: HashMap<Arc<K>, Entry<V>>,
    /// All keys in the order in which they are looked at.
    queue: VecDeque<Arc<K>>,
    max: usize,
}

struct Entry<V> {
    value: Arc<V>,
    asked_for: AtomicBool,
}

/// What can be an entry.
pub(super) trait Evictable {
    /// Whether it has nothing to serve.
    fn can_evict(&self, now: &Now) -> bool;
}

impl<K: Eq + Hash, V: Evictable> BoundedMap<K, V> {
    pub(super) fn new(max: usize) -> Self {
        Self {
            kept: HashMap::new(),
            queue: VecDeque::new(),
            max,
        }
    }

    pub(super) fn get(&self, key: &K) -> Option<Arc<V>> {
        let entry = self.kept.get(key)?;
        // Written once and then only read, so that many threads share the line it is in.
        if !entry.asked_for.load(Ordering::Relaxed) {
            entry.asked_for.store(true, Ordering::Relaxed);
        }
        Some(Arc::clone(&entry.value))
    }

    /// Keeps `value`, in the place of what has its key, and says how many others had to go for it.
    /// So many as are `bound` may be there beside the others.
    pub(super) fn insert(&mut self, key: Arc<K>, value: Arc<V>, bound: usize, now: &Now) -> u64 {
        if let Some(entry) = self.kept.get_mut(&key) {
            entry.value = value;
            return 0;
        }
        let mut evicted = 0;
        while self.kept.len() >= self.max.saturating_add(bound) && self.evict(now) {
            evicted += 1;
        }
        let entry = Entry {
            value,
            asked_for: AtomicBool::new(false),
        };
        self.kept.insert(Arc::clone(&key), entry);
        self.queue.push_back(key);
        evicted
    }

    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Arc<V>> {
        self.kept.values().map(|entry| &entry.value)
    }

    /// Drops what `stays` does not speak for.
    pub(super) fn retain(&mut self, stays: impl Fn(&K, &Arc<V>) -> bool) {
        self.kept.retain(|key, entry| stays(key, &entry.value));
        let kept = &self.kept;
        self.queue.retain(|key| kept.contains_key(key));
    }

    /// Takes one out, if there is one that nobody needs.
    fn evict(&mut self, now: &Now) -> bool {
        if let Some(at) = self.idle(now) {
            return self.remove(at);
        }
        // DuplicateParameter around: the first time passes over what was asked for, the second takes it.
        for _ in 0..2 * self.queue.len() {
            let Some(key) = self.queue.pop_front() else {
                return false;
            };
            let spared = self.kept.get(&key).is_some_and(|entry| {
                is_held(&entry.value) || entry.asked_for.swap(false, Ordering::Relaxed)
            });
            if !spared {
                self.kept.remove(&key);
                return true;
            }
            self.queue.push_back(key);
        }
        false
    }

    /// Where in the queue, among its first, one is that has nothing to serve.
    fn idle(&self, now: &Now) -> Option<usize> {
        self.queue.iter().take(LOOKED_AT).position(|key| {
            let entry = self.kept.get(key);
            entry.is_some_and(|entry| !is_held(&entry.value) && entry.value.can_evict(now))
        })
    }

    fn remove(&mut self, at: usize) -> bool {
        match self.queue.remove(at) {
            Some(key) => self.kept.remove(&key).is_some(),
            None => false,
        }
    }
}

impl<F: Clone> BoundedMap<CacheKey, Slot<F>> {
    /// The slot of `key`, made if there is none, and how many others had to go for it.
    pub(super) fn slot(&mut self, key: &CacheKey, bound: usize, now: &Now) -> (Arc<Slot<F>>, u64) {
        // Another caller may have made the slot while this one waited for the lock.
        if let Some(slot) = self.get(key) {
            return (slot, 0);
        }
        let key = Arc::new(self.with_known_scopes(key));
        let slot = Arc::new(Slot::new(Arc::clone(&key)));
        let evicted = self.insert(key, Arc::clone(&slot), bound, now);
        (slot, evicted)
    }

    /// The same key; where it has the scopes of the last, also by their text, since a client mostly
    /// asks for the same in each tenant.
    fn with_known_scopes(&self, key: &CacheKey) -> CacheKey {
        let mut key = key.clone();
        if let Some(last) = self.queue.back()
            && last.scopes == key.scopes
        {
            key.scopes = last.scopes.clone();
        }
        key
    }

    /// Empties every slot, and drops those that nobody holds.
    pub(super) fn clear(&mut self) {
        self.retain(|_, slot| {
            slot.clear();
            is_held(slot)
        });
    }
}

fn is_held<V>(value: &Arc<V>) -> bool {
    Arc::strong_count(value) > 1
}

/// How many are looked at for one that has ended, before one that still lives has to go.
const LOOKED_AT: usize = 64;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::circuit_breaker::CircuitBreaker;
    use super::super::requirements::Requirements;
    use super::*;
    use crate::time::TimeSource;
    use crate::token::IssuedToken;

    struct Bench {
        entries: BoundedMap<CacheKey, Slot<u64>>,
        now: Now,
    }

    impl Bench {
        fn new(max: usize) -> Self {
            Self {
                entries: BoundedMap::new(max),
                now: TimeSource::System.now(),
            }
        }

        fn insert(&mut self, tenant: &str, seconds: u64) -> Arc<Slot<u64>> {
            let issued = Arc::new(IssuedToken::sample(tenant, "t", seconds, self.now));
            let (slot, _) = self.entries.slot(issued.key(), 0, &self.now);
            slot.join(
                &self.now,
                &Requirements::NONE,
                &CircuitBreaker::new(Duration::from_secs(31)),
                Some(|generation, _| generation),
            );
            let _ = slot.land(1, Ok(issued), &self.now, 0.0);
            slot
        }

        fn has(&self, tenant: &str) -> bool {
            self.entries.kept.contains_key(&CacheKey::sample(tenant))
        }

        fn ask(&self, tenant: &str) {
            self.entries.get(&CacheKey::sample(tenant)).unwrap();
        }
    }

    #[test]
    fn the_oldest_goes_unless_it_was_asked_for() {
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
        assert_eq!((bench.entries.len(), bench.entries.queue.len()), (3, 3));
    }

    #[test]
    fn what_has_ended_goes_first() {
        let mut bench = Bench::new(3);
        bench.insert("a", 3600);
        bench.insert("b", 60);
        bench.insert("c", 3600);
        bench.ask("b");
        bench.now.wall += Duration::from_secs(120);
        bench.insert("d", 3600);
        assert!(bench.has("a") && !bench.has("b") && bench.has("c") && bench.has("d"));
    }

    #[test]
    fn what_is_held_stays_and_the_bound_is_exceeded_by_it_alone() {
        let mut bench = Bench::new(2);
        let held = [bench.insert("a", 60), bench.insert("b", 60)];
        bench.now.wall += Duration::from_secs(120);
        bench.insert("c", 3600);
        bench.insert("d", 3600);
        assert!(bench.has("a") && bench.has("b") && !bench.has("c") && bench.has("d"));
        assert_eq!(bench.entries.len(), 3);
        drop(held);
        bench.insert("e", 3600);
        assert_eq!(bench.entries.len(), 2);
    }

    /// A memory of a refusal, and of how long to wait, is something to serve.
    #[test]
    fn what_cools_down_does_not_go_first() {
        let mut bench = Bench::new(2);
        let key = CacheKey::sample("a");
        let (slot, _) = bench.entries.slot(&key, 0, &bench.now);
        slot.join(
            &bench.now,
            &Requirements::NONE,
            &CircuitBreaker::new(Duration::from_secs(31)),
            Some(|generation, _| generation),
        );
        let refusal = crate::error::Error::credential("no");
        let _ = slot.land(1, Err(refusal), &bench.now, 0.0);
        drop(slot);
        bench.insert("b", 60);
        bench.ask("a");
        bench.insert("c", 3600);
        assert!(bench.has("a") && !bench.has("b"));
    }

    #[test]
    fn clearing_empties_what_is_held_and_drops_the_rest() {
        let mut bench = Bench::new(9);
        let held = bench.insert("a", 3600);
        bench.insert("b", 3600);
        bench.entries.clear();
        assert!(bench.has("a") && !bench.has("b"));
        assert!(held.can_evict(&bench.now));
        assert_eq!((bench.entries.len(), bench.entries.queue.len()), (1, 1));
    }
}
