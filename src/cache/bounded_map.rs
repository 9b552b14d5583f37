use std::borrow::Borrow;
use std::collections::{HashSet, VecDeque};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::time::Now;

/// A map of at most `max` values, with second-chance eviction and without a timer.
///
/// A value that someone holds (a provider, a waiting caller, a flight) is never evicted. Of the
/// others, a value with nothing to serve is evicted first. After those, a value that was not used
/// since the last eviction passed over it.
pub(super) struct BoundedMap<V> {
    values: HashSet<ByKey<V>>,
    /// All values, in the order in which eviction considers them.
    queue: VecDeque<Arc<V>>,
    max: usize,
}

/// A value that a [`BoundedMap`] can hold. The value knows its key.
pub(super) trait Evictable {
    type Key: Eq + Hash;

    fn key(&self) -> &Self::Key;

    /// Returns `true` if someone beside the map holds the value.
    fn is_held(self: &Arc<Self>) -> bool;

    /// Returns `true` if the value has nothing to serve.
    fn can_evict(&self, now: &Now) -> bool;

    /// Marks the value as used.
    fn mark_used(&self);

    /// Returns whether the value was used since the last call.
    fn take_used(&self) -> bool;

    /// Called after the map evicted the value.
    fn evicted(&self) {}
}

/// A value that is found by its key. Each `V` implements `Borrow` of its key.
pub(super) struct ByKey<V>(pub(super) Arc<V>);

impl<V: Evictable> BoundedMap<V>
where
    ByKey<V>: Borrow<V::Key>,
{
    pub(super) fn new(max: usize) -> Self {
        Self {
            values: HashSet::new(),
            queue: VecDeque::new(),
            max,
        }
    }

    pub(super) fn get(&self, key: &V::Key) -> Option<&Arc<V>> {
        let ByKey(value) = self.values.get(key)?;
        value.mark_used();
        Some(value)
    }

    /// Inserts a value, replaces the value of the same key, and returns the number of evictions.
    ///
    /// `extra` values may exist beyond the maximum.
    pub(super) fn insert(&mut self, value: Arc<V>, extra: usize, now: &Now) -> u64 {
        if let Some(ByKey(replaced)) = self.values.replace(ByKey(Arc::clone(&value))) {
            if let Some(queued) =
                (self.queue.iter_mut()).find(|queued| Arc::ptr_eq(queued, &replaced))
            {
                *queued = value;
            }
            return 0;
        }
        let mut evicted = 0;
        while self.queue.len() >= self.max.saturating_add(extra) && self.evict(now) {
            evicted += 1;
        }
        if self.queue.len() == self.queue.capacity() {
            // A queue that doubles has room for half as many values again, on average.
            self.queue.reserve_exact(MIN_GROWTH + self.queue.len() / 16);
        }
        self.queue.push_back(value);
        evicted
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Arc<V>> {
        self.queue.iter()
    }

    /// Returns the value that was inserted last.
    pub(super) fn latest(&self) -> Option<&Arc<V>> {
        self.queue.back()
    }

    /// Removes all values that `keep` returns `false` for.
    pub(super) fn retain(&mut self, keep: impl Fn(&Arc<V>) -> bool) {
        self.queue.retain(|value| {
            let kept = keep(value);
            if !kept {
                self.values.remove(value.key());
            }
            kept
        });
    }

    /// Removes one value. Returns `false` if every value is held.
    fn evict(&mut self, now: &Now) -> bool {
        if let Some(index) = self.evictable_index(now) {
            return match self.queue.remove(index) {
                Some(value) => self.remove(&value),
                None => false,
            };
        }
        // Two rounds: the first clears the marks of used values, the second evicts.
        for _ in 0..2 * self.queue.len() {
            let Some(value) = self.queue.pop_front() else {
                return false;
            };
            if !value.is_held() && !value.take_used() {
                return self.remove(&value);
            }
            self.queue.push_back(value);
        }
        false
    }

    /// Returns the index in the queue of a value with nothing to serve, among the first few.
    fn evictable_index(&self, now: &Now) -> Option<usize> {
        let mut first = self.queue.iter().take(CONSIDERED);
        first.position(|value| !value.is_held() && value.can_evict(now))
    }

    fn remove(&mut self, value: &V) -> bool {
        let removed = self.values.remove(value.key());
        value.evicted();
        removed
    }
}

impl<V: Evictable> Hash for ByKey<V> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.key().hash(state);
    }
}

impl<V: Evictable> PartialEq for ByKey<V> {
    fn eq(&self, other: &Self) -> bool {
        self.0.key() == other.0.key()
    }
}

impl<V: Evictable> Eq for ByKey<V> {}

/// The least number of values that the queue has room for when it grows.
const MIN_GROWTH: usize = 4;
/// The number of values among which eviction looks for one with nothing to serve.
const CONSIDERED: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::TimeSource;

    struct Number(u32);

    impl Borrow<u32> for ByKey<Number> {
        fn borrow(&self) -> &u32 {
            &self.0.0
        }
    }

    impl Evictable for Number {
        type Key = u32;

        fn key(&self) -> &u32 {
            &self.0
        }

        fn is_held(self: &Arc<Self>) -> bool {
            false
        }

        fn can_evict(&self, _: &Now) -> bool {
            false
        }

        fn mark_used(&self) {}

        fn take_used(&self) -> bool {
            false
        }
    }

    #[test]
    fn the_queue_has_little_room_to_spare() {
        let mut map = BoundedMap::new(2000);
        let now = TimeSource::System.now();
        for number in 0..3000 {
            map.insert(Arc::new(Number(number)), 0, &now);
            let (length, capacity) = (map.queue.len(), map.queue.capacity());
            assert!(capacity <= length + length / 16 + 4, "{capacity}");
        }
        assert_eq!(map.len(), 2000);
    }
}
