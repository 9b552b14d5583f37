use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::time::Now;

/// A map of at most `max` entries, with second-chance eviction and without a timer.
///
/// A value that someone holds (a provider, a waiting caller, a flight) is never evicted. Of the
/// others, a value with nothing to serve is evicted first. After those, a value that was not used
/// since the last eviction passed over it.
pub(super) struct BoundedMap<K, V> {
    entries: HashMap<Arc<K>, Entry<V>>,
    /// All keys, in the order in which eviction considers them.
    queue: VecDeque<Arc<K>>,
    max: usize,
}

struct Entry<V> {
    value: Arc<V>,
    used: AtomicBool,
}

/// A value that a [`BoundedMap`] can hold.
pub(super) trait Evictable {
    /// Returns `true` if the value has nothing to serve.
    fn can_evict(&self, now: &Now) -> bool;
}

impl<K: Eq + Hash, V: Evictable> BoundedMap<K, V> {
    pub(super) fn new(max: usize) -> Self {
        Self {
            entries: HashMap::new(),
            queue: VecDeque::new(),
            max,
        }
    }

    pub(super) fn get(&self, key: &K) -> Option<Arc<V>> {
        let entry = self.entries.get(key)?;
        // Written once and then only read, so that threads share the cache line.
        if !entry.used.load(Ordering::Relaxed) {
            entry.used.store(true, Ordering::Relaxed);
        }
        Some(Arc::clone(&entry.value))
    }

    /// Inserts a value, replaces the value of the same key, and returns the number of evictions.
    ///
    /// `extra` entries may exist beyond the maximum.
    pub(super) fn insert(&mut self, key: Arc<K>, value: Arc<V>, extra: usize, now: &Now) -> u64 {
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.value = value;
            return 0;
        }
        let mut evicted = 0;
        while self.entries.len() >= self.max.saturating_add(extra) && self.evict(now) {
            evicted += 1;
        }
        let entry = Entry {
            value,
            used: AtomicBool::new(false),
        };
        self.entries.insert(Arc::clone(&key), entry);
        self.queue.push_back(key);
        evicted
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Arc<V>> {
        self.entries.values().map(|entry| &entry.value)
    }

    #[cfg(test)]
    pub(super) fn queue_len(&self) -> usize {
        self.queue.len()
    }

    /// Returns the key that was inserted last.
    pub(super) fn latest_key(&self) -> Option<&K> {
        self.queue.back().map(|key| &**key)
    }

    /// Removes all entries that `keep` returns `false` for.
    pub(super) fn retain(&mut self, keep: impl Fn(&K, &Arc<V>) -> bool) {
        self.entries.retain(|key, entry| keep(key, &entry.value));
        let entries = &self.entries;
        self.queue.retain(|key| entries.contains_key(key));
    }

    /// Removes one entry. Returns `false` if every value is held.
    fn evict(&mut self, now: &Now) -> bool {
        if let Some(index) = self.evictable_index(now) {
            return self.remove(index);
        }
        // Two rounds: the first clears the marks of used entries, the second evicts.
        for _ in 0..2 * self.queue.len() {
            let Some(key) = self.queue.pop_front() else {
                return false;
            };
            let spared = self.entries.get(&key).is_some_and(|entry| {
                is_held(&entry.value) || entry.used.swap(false, Ordering::Relaxed)
            });
            if !spared {
                self.entries.remove(&key);
                return true;
            }
            self.queue.push_back(key);
        }
        false
    }

    /// Returns the index in the queue of an entry with nothing to serve, among the first few.
    fn evictable_index(&self, now: &Now) -> Option<usize> {
        self.queue.iter().take(CONSIDERED).position(|key| {
            let entry = self.entries.get(key);
            entry.is_some_and(|entry| !is_held(&entry.value) && entry.value.can_evict(now))
        })
    }

    fn remove(&mut self, index: usize) -> bool {
        match self.queue.remove(index) {
            Some(key) => self.entries.remove(&key).is_some(),
            None => false,
        }
    }
}

/// Returns `true` if someone beside the map holds the value.
pub(super) fn is_held<V>(value: &Arc<V>) -> bool {
    Arc::strong_count(value) > 1
}

/// The number of entries among which eviction looks for one with nothing to serve.
const CONSIDERED: usize = 64;
