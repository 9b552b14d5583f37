use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};

use confidential_client::CacheStats;

use crate::Ran;
use crate::callers::Shared;
use crate::fault::Fault;
use crate::ledger::Counts;
use crate::memory::{Sample, peaks};
use crate::now;
use crate::rotation::Rotation;
use crate::verdict;

/// Numbers printed at the end.
pub struct Figures<'a> {
    pub shared: &'a Shared,
    pub ran: Ran,
    pub stats: CacheStats,
    pub counts: Counts,
    pub faults: [u64; Fault::MIX.len()],
    pub visits: u64,
    pub rotations: u64,
    pub entries: usize,
    ends: [Sample; 2],
    /// Peaks in the first half, after the start, and in the last quarter.
    pub peaks: [Sample; 2],
}

impl<'a> Figures<'a> {
    pub fn new(shared: &'a Shared, rotation: &Rotation, samples: &[Sample], ran: Ran) -> Self {
        let ends = [samples.first(), samples.last()];
        Self {
            shared,
            stats: shared.client.cache().stats(),
            counts: shared.authority.with_ledger(|ledger| ledger.counts),
            faults: shared.authority.faults(),
            visits: shared.authority.visits(),
            rotations: get(&rotation.rotations),
            entries: shared.client.cache().len(),
            ends: ends.map(|end| end.copied().unwrap_or_default()),
            peaks: peaks(samples, ran.length),
            ran,
        }
    }

    pub fn faults(&self) -> impl Iterator<Item = (Fault, u64)> {
        Fault::MIX.iter().map(|(fault, _)| *fault).zip(self.faults)
    }

    pub fn print(&self) {
        let Self { stats, counts, .. } = self;
        let tally = &self.shared.tally;
        row("seconds", self.ran.length.as_secs());
        row("calls", get(&tally.calls));
        row("  hits", get(&tally.hits));
        row("  hits in outages", get(&tally.hits_in_outages));
        row("  fetched", get(&tally.fetched));
        row("  given up by the caller", get(&tally.cancelled));
        for (kind, count) in tally.errors() {
            row(&format!("  error {kind:?}"), count);
        }
        let longest = tally.longest().as_secs_f64();
        row("longest call", format!("{longest:.2} s"));
        row("misses", stats.misses);
        row("flights", stats.requests);
        row("  at most by the policy", verdict::most_flights(self));
        row("  renewals", stats.refreshes);
        row("  with a token", counts.tokens);
        row("  before their time", counts.early);
        row("token requests", counts.requests);
        row("  retries", counts.retries);
        row("  with another certificate", counts.repeats);
        row("  in outages", counts.in_outages);
        let silence = counts.silence.as_secs_f64();
        row("  longest time without", format!("{silence:.2} s"));
        row("  of visitors", self.visits);
        for (fault, count) in self.faults() {
            row(&format!("  fault {fault:?}"), count);
        }
        row("evictions", stats.evictions);
        row("entries", self.entries);
        row("certificates replaced", self.rotations);
        row("tasks left", self.ran.tasks_left);
        let of = |samples: [Sample; 2]| samples.map(|sample| sample.resident);
        row("resident, first and last", mebibytes(of(self.ends)));
        row("resident, peaks", mebibytes(of(self.peaks)));
        let of = |samples: [Sample; 2]| samples.map(|sample| sample.heap);
        row("heap, first and last", mebibytes(of(self.ends)));
        row("heap, peaks", mebibytes(of(self.peaks)));
        row("seed", self.ran.seed);
    }
}

/// Prints one line of progress.
pub fn summary(shared: &Shared, last: Sample) {
    let stats = shared.client.cache().stats();
    let counts = shared.authority.with_ledger(|ledger| ledger.counts);
    println!(
        "{} s: {} calls, {} hits, {} errors, {} token requests, {} evictions, {} resident and heap",
        now().as_secs(),
        get(&shared.tally.calls),
        get(&shared.tally.hits),
        shared.tally.errors().map(|(_, count)| count).sum::<u64>(),
        counts.requests,
        stats.evictions,
        mebibytes([last.resident, last.heap]),
    );
}

pub fn mebibytes(sizes: [u64; 2]) -> String {
    let [first, second] = sizes.map(|size| size as f64 / f64::from(1 << 20));
    format!("{first:.2} and {second:.2} MiB")
}

fn row(name: &str, value: impl Display) {
    println!("{name:<28} {value}");
}

pub fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
