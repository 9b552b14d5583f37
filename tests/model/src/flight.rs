use std::sync::{Arc, OnceLock};

use loom::sync::{Condvar, Mutex};

use super::OVERDUE;
use crate::error::Error;
use crate::token::IssuedToken;

/// What becomes of a flight. A place has one for each of its flights, in their order, and no place
/// has more flights than fates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fate {
    /// A token that lives so many seconds.
    Token(u64),
    /// No answer, or a panic, which lands as one.
    NoAnswer,
    /// The task is dropped with its runtime.
    Lost,
    /// Its runtime stands still, for good.
    Stuck,
    /// A token that comes when the flight is overdue, since its runtime stood still.
    LateToken(u64),
    /// A failure, as late.
    LateFailure,
}

/// A handle on a flight, held by the callers that wait.
#[derive(Clone)]
pub(super) struct Flight(Arc<Ending>);

struct Ending {
    /// Set when the flight has started.
    generation: OnceLock<u64>,
    outcome: Mutex<Option<Option<FlightOutcome>>>,
    ended: Condvar,
}

pub(super) type FlightOutcome = Result<Arc<IssuedToken>, Error>;

impl Default for Flight {
    fn default() -> Self {
        Self(Arc::new(Ending {
            generation: OnceLock::new(),
            outcome: Mutex::new(None),
            ended: Condvar::new(),
        }))
    }
}

impl Flight {
    pub(super) fn start(&self, generation: u64) {
        self.0.generation.set(generation).expect("started once");
    }

    pub(super) fn generation(&self) -> u64 {
        *self.0.generation.get().expect("started")
    }

    /// Waits for the outcome. Returns `None` if there is none, or none in time.
    pub(super) fn outcome(&self, fate: Fate) -> Option<FlightOutcome> {
        let mut outcome = self.0.outcome.lock().unwrap();
        loop {
            match &*outcome {
                Some(outcome) => return outcome.clone(),
                None if fate.is_late() => return None,
                None => outcome = self.0.ended.wait(outcome).unwrap(),
            }
        }
    }

    pub(super) fn end(&self, outcome: Option<FlightOutcome>) {
        *self.0.outcome.lock().unwrap() = Some(outcome);
        self.0.ended.notify_all();
    }
}

impl Fate {
    fn is_late(self) -> bool {
        matches!(self, Self::Stuck | Self::LateToken(_) | Self::LateFailure)
    }

    /// The seconds for which a caller waits for a flight that brings nothing in time.
    pub(super) fn seconds_in_vain(self) -> u64 {
        if self.is_late() { OVERDUE.as_secs() } else { 0 }
    }
}
