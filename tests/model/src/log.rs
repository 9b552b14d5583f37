use std::sync::{Arc, Weak};
use std::time::Instant;

use super::super::slot::Slot;
use super::OVERDUE;
use super::flight::Flight;
use crate::time::Now;

/// What is known of every flight. What must never be shows when another departs.
///
/// Loom runs one thread at a time, and goes on with another where a lock is taken, not where it is
/// released: what is written down right after a call, others see together with what the call did.
#[derive(Default)]
pub(super) struct Log {
    flights: Vec<Departed>,
    /// Whether no two flights may be under way, on whatever slots.
    pub(super) one_at_a_time: bool,
    /// How many times a flight closed the gate.
    pub(super) closings: usize,
}

pub(super) struct Departed {
    key: &'static str,
    /// Holds nothing but the address.
    slot: Weak<Slot<Flight>>,
    generation: u64,
    overdue: Instant,
    claims: Option<String>,
    /// As the slot knows it.
    pub(super) under_way: bool,
    /// As the gate knows it.
    pub(super) probing: bool,
}

impl Log {
    /// Called before another thread can take the slot's lock.
    pub(super) fn depart(
        &mut self,
        (key, slot): (&'static str, &Arc<Slot<Flight>>),
        (generation, replaced): (u64, Option<u64>),
        claims: Option<String>,
        now: &Now,
    ) {
        for other in &self.flights {
            let in_time = now.monotonic() < other.overdue;
            let under_way = other.key == key && other.under_way;
            assert!(!under_way || !in_time, "two flights at once for one key");
            let probing = self.one_at_a_time && other.probing;
            assert!(!probing || !in_time, "two probes at once");
        }
        let slot = Arc::downgrade(slot);
        let of_the_slot = || {
            self.flights
                .iter()
                .filter(|flight| flight.slot.ptr_eq(&slot))
        };
        let number = of_the_slot().map(|other| other.generation).max();
        assert!(number.is_none_or(|last| last < generation), "an old number");
        let overdue = of_the_slot().rfind(|flight| flight.under_way);
        let overdue = overdue.map(|flight| flight.generation);
        assert_eq!(replaced, overdue, "a flight knows which it replaces");
        self.flights.push(Departed {
            key,
            slot,
            generation,
            overdue: now.monotonic() + OVERDUE,
            claims,
            under_way: true,
            probing: true,
        });
    }

    pub(super) fn flight(&mut self, slot: &Arc<Slot<Flight>>, generation: u64) -> &mut Departed {
        let slot = Arc::downgrade(slot);
        let mut flights = self.flights.iter_mut();
        flights
            .rfind(|flight| flight.slot.ptr_eq(&slot) && flight.generation == generation)
            .expect("it departed")
    }

    pub(super) fn learn(&mut self, answered: bool, closes: bool) {
        self.one_at_a_time &= !answered;
        self.closings += usize::from(closes);
    }

    /// What the flights of a key asked with, on whichever slots.
    pub(super) fn claims(&self, key: &str) -> Vec<Option<String>> {
        let flights = self.flights.iter().filter(|flight| flight.key == key);
        flights.map(|flight| flight.claims.clone()).collect()
    }
}
