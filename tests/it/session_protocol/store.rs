//! One name of the store: a record and a lock, with the operations of `SharedCache`.

use confidential_client::cache::{BeginRedemption, PutOutcome};

/// The owner of a lock and of a mark.
pub type Owner = u8;
/// A refresh token, numbered in the order of issue.
pub type Token = u8;
pub type Generation = u8;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Record {
    pub generation: Generation,
    pub token: Token,
    pub state: State,
    pub mark: Option<Mark>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    Usable,
    /// The refresh token may have been presented.
    InDoubt,
    /// There is no refresh token: the user signed out, or a sign-in has not stored its token.
    Empty,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mark {
    pub owner: Owner,
    /// Older than every limit of a request.
    pub is_old: bool,
}

impl Record {
    pub fn new(generation: Generation, token: Token, state: State) -> Self {
        Self {
            generation,
            token,
            state,
            mark: None,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Store {
    pub record: Option<Record>,
    pub lock: Option<Owner>,
}

/// A call of the store. A call that timed out may be executed later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    Get,
    Lock(Owner),
    Unlock(Owner),
    Put {
        record: Record,
        /// The generation that the record replaces. `None` puts without a condition on a record.
        replaces: Option<Generation>,
    },
    Begin(Owner, Generation),
    Cancel(Owner, Generation),
    Remove(Generation),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    Record(Option<Record>),
    Acquired(Option<Record>),
    Held,
    Put(PutOutcome),
    Begin(BeginRedemption),
    Removed(bool),
    Done,
}

impl Store {
    pub fn execute(&mut self, call: Call) -> Reply {
        match call {
            Call::Get => Reply::Record(self.record),
            Call::Lock(owner) if self.lock.is_none_or(|holder| holder == owner) => {
                self.lock = Some(owner);
                Reply::Acquired(self.record)
            }
            Call::Lock(_) => Reply::Held,
            Call::Unlock(owner) => {
                self.lock = self.lock.filter(|holder| *holder != owner);
                Reply::Done
            }
            Call::Put { record, replaces } => Reply::Put(self.put(record, replaces)),
            Call::Begin(owner, generation) => Reply::Begin(self.begin(owner, generation)),
            Call::Cancel(owner, generation) => {
                if let Some(record) = &mut self.record
                    && record.generation == generation
                {
                    record.mark = record.mark.filter(|mark| mark.owner != owner);
                }
                Reply::Done
            }
            Call::Remove(generation) => {
                let is_same = self
                    .record
                    .is_some_and(|record| record.generation == generation);
                if is_same {
                    self.record = None;
                }
                Reply::Removed(is_same)
            }
        }
    }

    fn put(&mut self, record: Record, replaces: Option<Generation>) -> PutOutcome {
        let current = self.record.map(|current| current.generation);
        let is_allowed = match replaces {
            Some(replaced) => current == Some(replaced),
            None => current.is_none_or(|current| current < record.generation),
        };
        if !is_allowed {
            return PutOutcome::Superseded;
        }
        self.record = Some(record);
        PutOutcome::Stored
    }

    fn begin(&mut self, owner: Owner, generation: Generation) -> BeginRedemption {
        if self.lock != Some(owner) {
            return BeginRedemption::NotLocked;
        }
        match &mut self.record {
            Some(record) if record.generation == generation => match record.mark {
                Some(_) => BeginRedemption::InProgress,
                None => {
                    let is_old = false;
                    record.mark = Some(Mark { owner, is_old });
                    BeginRedemption::Begun
                }
            },
            _ => BeginRedemption::OtherGeneration,
        }
    }
}
