use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::now;

/// Violations: the count of each kind, and the first in full.
#[derive(Default)]
pub struct Findings(Mutex<BTreeMap<&'static str, (u64, String)>>);

impl Findings {
    pub fn add(&self, what: &'static str, detail: impl FnOnce() -> String) {
        let mut findings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, _) = findings.entry(what).or_insert_with(|| {
            let detail = detail();
            println!("FOUND after {:.1} s: {what}: {detail}", now().as_secs_f64());
            (0, detail)
        });
        *count += 1;
    }

    /// Adds the violation `what` unless `holds`.
    pub fn expect(&self, holds: bool, what: &'static str, detail: impl FnOnce() -> String) {
        if !holds {
            self.add(what, detail);
        }
    }

    /// Prints all findings, and returns whether the list is empty.
    pub fn report(&self) -> bool {
        let findings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (what, (count, first)) in &*findings {
            println!("FOUND {count} times: {what}; first: {first}");
        }
        findings.is_empty()
    }
}
