use std::collections::VecDeque;
use std::time::Duration;

use super::fault::Fault;
use super::recorded_request::RecordedRequest;
use crate::time::{Deadline, Now};

/// Faults and recorded requests, under one lock so that both have the same order.
#[derive(Default)]
pub(crate) struct Traffic {
    pub(crate) script: VecDeque<Fault>,
    pub(crate) requests: Vec<RecordedRequest>,
    pub(crate) pushed: Vec<RecordedRequest>,
    pub(crate) introspected: Vec<RecordedRequest>,
    outage: Option<Outage>,
}

/// A fault for every request until a time, or until the test ends the outage.
struct Outage {
    fault: Fault,
    until: Option<Deadline>,
}

impl Traffic {
    /// Begins an outage that replaces an earlier one.
    pub(crate) fn begin_outage(&mut self, fault: Fault) {
        self.outage = Some(Outage { fault, until: None });
    }

    /// Begins an outage that ends by itself.
    pub(crate) fn begin_outage_for(&mut self, fault: Fault, duration: Duration, now: Now) {
        // A longer time would overflow the clock, and the outage would be over at once.
        let until = Some(now.plus(duration.min(CENTURY)));
        self.outage = Some(Outage { fault, until });
    }

    pub(crate) fn end_outage(&mut self) {
        self.outage = None;
    }

    /// Returns the fault of the next request: the first scripted one, or else the outage's.
    pub(crate) fn next_fault(&mut self, now: &Now) -> Option<Fault> {
        if let Some(scripted) = self.script.pop_front() {
            return Some(scripted);
        }
        let outage = self.outage.as_ref()?;
        let is_over = outage.until.is_some_and(|until| until.reached(now));
        (!is_over).then(|| outage.fault.clone())
    }
}

const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
