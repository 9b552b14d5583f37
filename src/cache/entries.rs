use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::slot::Slot;
use crate::time::Now;
use crate::token::Key;

/// The slots of a cache by their keys, of which it keeps a bounded number: whoever comes beyond it
/// takes the place of one that is not needed, and there is no timer.
///
/// A slot that somebody holds (a provider, a caller who waits, a flight) is needed. Of the others
/// one that has nothing to serve goes first, and then one that was not asked for since it was last
/// passed over ("second chance").
pub(super) struct Entries<F> {
    slots: HashMap<Arc<Key>, Entry<F>>,
    /// All keys in the order in which they are looked at.
    queue: VecDeque<Arc<Key>>,
    max: usize,
}

struct Entry<F> {
    slot: Arc<Slot<F>>,
    asked_for: AtomicBool,
}

impl<F: Clone> Entries<F> {
    pub(super) fn new(max: usize) -> Self {
        Self {
            slots: HashMap::new(),
            queue: VecDeque::new(),
            max,
        }
    }

    pub(super) fn get(&self, key: &Key) -> Option<Arc<Slot<F>>> {
        let entry = self.slots.get(key)?;
        // Written once and then only read, so that many threads share the line it is in.
        if !entry.asked_for.load(Ordering::Relaxed) {
            entry.asked_for.store(true, Ordering::Relaxed);
        }
        Some(Arc::clone(&entry.slot))
    }

    /// The slot of `key`, made if there is none, and how many others had to go for it. So many as are
    /// `bound` may be there beside the others.
    pub(super) fn get_or_insert(
        &mut self,
        key: &Key,
        bound: usize,
        now: &Now,
    ) -> (Arc<Slot<F>>, u64) {
        // Another caller may have made the slot while this one waited for the lock.
        if let Some(slot) = self.get(key) {
            return (slot, 0);
        }
        let mut evicted = 0;
        while self.slots.len() >= self.max.saturating_add(bound) && self.evict(now) {
            evicted += 1;
        }
        let key = Arc::new(self.with_known_scopes(key));
        let slot = Arc::new(Slot::new(Arc::clone(&key)));
        let entry = Entry {
            slot: Arc::clone(&slot),
            asked_for: AtomicBool::new(false),
        };
        self.slots.insert(Arc::clone(&key), entry);
        self.queue.push_back(key);
        (slot, evicted)
    }

    /// The same key; where it has the scopes of the last, also by their text, since a client mostly
    /// asks for the same in each tenant.
    fn with_known_scopes(&self, key: &Key) -> Key {
        let mut key = key.clone();
        if let Some(last) = self.queue.back()
            && last.scopes == key.scopes
        {
            key.scopes = last.scopes.clone();
        }
        key
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn slots(&self) -> impl Iterator<Item = &Arc<Slot<F>>> {
        self.slots.values().map(|entry| &entry.slot)
    }

    /// Empties every slot, and drops those that nobody holds.
    pub(super) fn clear(&mut self) {
        self.slots.retain(|_, entry| {
            entry.slot.clear();
            is_held(entry)
        });
        let slots = &self.slots;
        self.queue.retain(|key| slots.contains_key(key));
    }

    /// Takes one slot out, if there is one that nobody needs.
    fn evict(&mut self, now: &Now) -> bool {
        if let Some(at) = self.idle(now) {
            return self.remove(at);
        }
        // Twice around: the first time passes over what was asked for, the second takes it.
        for _ in 0..2 * self.queue.len() {
            let Some(key) = self.queue.pop_front() else {
                return false;
            };
            let spared = self.slots.get(&key).is_some_and(|entry| {
                is_held(entry) || entry.asked_for.swap(false, Ordering::Relaxed)
            });
            if !spared {
                self.slots.remove(&key);
                return true;
            }
            self.queue.push_back(key);
        }
        false
    }

    /// Where in the queue, among its first, a slot is that has nothing to serve.
    fn idle(&self, now: &Now) -> Option<usize> {
        self.queue.iter().take(LOOKED_AT).position(|key| {
            let entry = self.slots.get(key);
            entry.is_some_and(|entry| !is_held(entry) && entry.slot.is_idle(now))
        })
    }

    fn remove(&mut self, at: usize) -> bool {
        match self.queue.remove(at) {
            Some(key) => self.slots.remove(&key).is_some(),
            None => false,
        }
    }
}

fn is_held<F>(entry: &Entry<F>) -> bool {
    Arc::strong_count(&entry.slot) > 1
}

/// How many are looked at for one that has ended, before one that still lives has to go.
const LOOKED_AT: usize = 64;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::demands::Demands;
    use super::super::gate::Gate;
    use super::*;
    use crate::time::TimeSource;
    use crate::token::Issued;

    struct Bench {
        entries: Entries<u64>,
        now: Now,
    }

    impl Bench {
        fn new(max: usize) -> Self {
            Self {
                entries: Entries::new(max),
                now: TimeSource::System.now(),
            }
        }

        fn insert(&mut self, tenant: &str, seconds: u64) -> Arc<Slot<u64>> {
            let issued = Arc::new(Issued::sample(tenant, "t", seconds, self.now));
            let (slot, _) = self.entries.get_or_insert(issued.key(), 0, &self.now);
            slot.join(
                &self.now,
                &Demands::NONE,
                &Gate::new(Duration::from_secs(31)),
                Some(|generation, _| generation),
            );
            let _ = slot.land(1, Ok(issued), &self.now, 0.0);
            slot
        }

        fn has(&self, tenant: &str) -> bool {
            self.entries.slots.contains_key(&Key::sample(tenant))
        }

        fn ask(&self, tenant: &str) {
            self.entries.get(&Key::sample(tenant)).unwrap();
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
        let key = Key::sample("a");
        let (slot, _) = bench.entries.get_or_insert(&key, 0, &bench.now);
        slot.join(
            &bench.now,
            &Demands::NONE,
            &Gate::new(Duration::from_secs(31)),
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
        assert!(held.is_idle(&bench.now));
        assert_eq!((bench.entries.len(), bench.entries.queue.len()), (1, 1));
    }
}
