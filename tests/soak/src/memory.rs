use std::alloc::System;
use std::time::Duration;

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

use crate::Result;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Memory of the process at one moment, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    pub at: Duration,
    pub resident: u64,
    /// Bytes allocated by Rust and not freed.
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

/// Peaks in the first half, without the start, and in the last quarter.
pub fn peaks(samples: &[Sample], length: Duration) -> [Sample; 2] {
    [WARM_UP..0.5, 0.75..1.0].map(|part| {
        let is_in = |sample: &&Sample| part.contains(&sample.at.div_duration_f64(length));
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

/// Share of the run.
const WARM_UP: f64 = 0.15;
