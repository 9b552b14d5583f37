//! The rules of the protocol, each of which can be switched off.

use super::store::{Record, State, Token};
use super::world::{Provider, time_of};

#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// A refresh token is marked in the store before it is sent.
    pub marks_before_sending: bool,
    /// A record in doubt is not redeemed.
    pub signs_in_when_in_doubt: bool,
    /// The mark is on the replica before the refresh token is sent.
    pub waits_for_replica: bool,
    /// An owner is new for each attempt of a process.
    pub has_new_owners: bool,
    /// A rotation replaces one generation, and creates no record.
    pub rotation_only_replaces: bool,
    /// A sign-in creates a record without a refresh token, and then replaces that record.
    pub sign_in_creates_empty: bool,
    /// A process puts back in doubt what it read in doubt.
    pub remembers_doubt: bool,
    /// A process forgets its refresh token if the record is of another sign-in.
    pub another_family_wins: bool,
    /// The generation of a sign-in is above every earlier one, also after an empty restart.
    pub generations_only_rise: bool,
    /// A process does not write the refresh token that it remembers to an empty store.
    pub leaves_absent_records_absent: bool,
    /// A refresh token is sent once, also if there was no response.
    pub sends_once: bool,
    /// A mark is removed only if the refresh token was certainly not sent.
    pub cancels_only_what_was_not_sent: bool,
    pub record_behind_memory: RecordBehindMemory,
    pub sign_out: SignOut,
}

/// The handling of a record that is older than what a process remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordBehindMemory {
    /// The newer generation is put back and redeemed.
    PutBackUsable,
    /// As before if the older record has the mark of the process, and else in doubt.
    PutBackUsableWithOwnMark,
    PutBackInDoubt,
    /// The process trusts the record.
    Ignored,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignOut {
    Removes,
    /// Puts a newer record without a refresh token.
    PutsEmpty,
}

impl Rules {
    /// The rules of `docs/shared-cache-protocol.md`, with `WAIT`.
    pub const DOCUMENTED: Self = Self {
        marks_before_sending: true,
        signs_in_when_in_doubt: true,
        waits_for_replica: true,
        has_new_owners: true,
        rotation_only_replaces: true,
        sign_in_creates_empty: true,
        remembers_doubt: true,
        another_family_wins: true,
        generations_only_rise: true,
        leaves_absent_records_absent: true,
        sends_once: true,
        cancels_only_what_was_not_sent: true,
        record_behind_memory: RecordBehindMemory::PutBackUsable,
        sign_out: SignOut::PutsEmpty,
    };

    /// Returns the record of a sign-in.
    pub fn first_record(&self, token: Token, read: Option<Record>, provider: &Provider) -> Record {
        let next = read.map_or(1, |read| read.generation + 1);
        let generation = match self.generations_only_rise {
            true => next.max(time_of(provider.family(token))),
            false => next,
        };
        Record::new(generation, token, State::Usable)
    }
}
