use std::sync::Arc;

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

/// A handle on a flight, as its passengers hold it.
#[derive(Clone)]
pub(super) struct Flight(Arc<UnderWay>);

struct UnderWay {
    generation: u64,
    fate: Fate,
    arrival: Mutex<Option<Option<Outcome>>>,
    arrived: Condvar,
}

pub(super) type Outcome = Result<Arc<IssuedToken>, Error>;

impl Flight {
    pub(super) fn new(generation: u64, fate: Fate) -> Self {
        Self(Arc::new(UnderWay {
            generation,
            fate,
            arrival: Mutex::new(None),
            arrived: Condvar::new(),
        }))
    }

    pub(super) fn generation(&self) -> u64 {
        self.0.generation
    }

    pub(super) fn fate(&self) -> Fate {
        self.0.fate
    }

    /// Waits for the outcome; `None` if there will be none, or none in time.
    pub(super) fn outcome(&self) -> Option<Outcome> {
        let mut arrival = self.0.arrival.lock().unwrap();
        loop {
            match &*arrival {
                Some(outcome) => return outcome.clone(),
                None if self.is_late() => return None,
                None => arrival = self.0.arrived.wait(arrival).unwrap(),
            }
        }
    }

    pub(super) fn arrive(&self, outcome: Option<Outcome>) {
        *self.0.arrival.lock().unwrap() = Some(outcome);
        self.0.arrived.notify_all();
    }

    fn is_late(&self) -> bool {
        matches!(
            self.0.fate,
            Fate::Stuck | Fate::LateToken(_) | Fate::LateFailure
        )
    }

    /// For how many seconds a passenger waited for nothing.
    pub(super) fn seconds_in_vain(&self) -> u64 {
        if self.is_late() { OVERDUE.as_secs() } else { 0 }
    }
}
