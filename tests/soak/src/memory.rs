use std::alloc::System;
use std::time::Duration;

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

use crate::Result;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What the process takes at a moment, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    pub at: Duration,
    pub resident: u64,
    /// Allocated by Rust, and not given back.
    pub heap: u64,
}

impl Sample {
    pub fn take(at: Duration) -> Result<Self> {
        let status = std::fs::read_to_string("/proc/self/status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
        let kibibytes: u64 = kibibytes.ok_or("no VmRSS")?.trim().parse()?;
        let stats = INSTRUMENTED_SYSTEM.stats();
        let heap = stats
            .bytes_allocated
            .saturating_sub(stats.bytes_deallocated);
        Ok(Self {
            at,
            resident: kibibytes * 1024,
            heap: heap as u64,
        })
    }
}

/// The highest that each was in the second quarter and in the last.
pub fn peaks(samples: &[Sample], length: Duration) -> [Sample; 2] {
    [1, 3].map(|quarter| {
        let is_in = |sample: &&Sample| {
            let end = length * (quarter + 1) / 4;
            (length * quarter / 4..end).contains(&sample.at)
        };
        let highest = |peak: Sample, sample: &Sample| Sample {
            at: sample.at,
            resident: peak.resident.max(sample.resident),
            heap: peak.heap.max(sample.heap),
        };
        samples
            .iter()
            .filter(is_in)
            .fold(Sample::default(), highest)
    })
}
