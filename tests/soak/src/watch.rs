use std::process::exit;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::callers::Shared;
use crate::memory::Sample;
use crate::now;
use crate::report;

/// Watches the callers from a separate thread, which no lock or runtime of the client can block.
pub struct Watch {
    shared: Arc<Shared>,
    samples: Mutex<Vec<Sample>>,
    pub is_over: AtomicBool,
}

impl Watch {
    pub fn new(shared: Arc<Shared>, length: Duration) -> Self {
        let expected = length.as_secs() / SAMPLE_EVERY + 60;
        Self {
            shared,
            // Reserved in advance, so that samples do not grow the heap.
            samples: Mutex::new(Vec::with_capacity(usize::try_from(expected).unwrap_or(0))),
            is_over: AtomicBool::new(false),
        }
    }

    pub fn run(&self) {
        for second in 1.. {
            thread::sleep(Duration::from_secs(1));
            if self.is_over.load(Ordering::Relaxed) {
                return;
            }
            let (caller, since) = self.shared.slowest();
            if since > STUCK {
                let seconds = since.as_secs();
                println!("FOUND a deadlock: caller {caller} has not returned for {seconds} s");
                // Only calls that cannot wait for a lock.
                println!("{:#?}", self.shared.client.cache().stats());
                exit(1);
            }
            if second % SAMPLE_EVERY == 0 {
                match Sample::take(now()) {
                    Ok(sample) => self.lock().push(sample),
                    Err(error) => {
                        let text = || error.to_string();
                        self.shared.findings.add("the memory cannot be read", text);
                    }
                }
            }
            if second % SUMMARY_EVERY == 0 {
                let last = self.lock().last().copied();
                report::summary(&self.shared, last.unwrap_or_default());
            }
        }
    }

    pub fn samples(&self) -> Vec<Sample> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Sample>> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Seconds.
const SAMPLE_EVERY: u64 = 2;
const SUMMARY_EVERY: u64 = 60;
/// Longer than the longest call plus the pause after the call.
const STUCK: Duration = Duration::from_secs(40);
