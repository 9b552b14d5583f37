//! The sessions of users in the store.
//!
//! A refresh token that a provider rotates is valid once. These rules keep two processes from
//! sending the same refresh token:
//!
//! - A sign-in creates an empty record. A refresh token is put only in place of one generation: of
//!   that empty record, or of the refresh token that was redeemed.
//! - A sign-out leaves an empty record for some minutes.
//! - The generation of a sign-in is at least the time in milliseconds, so that generations do not
//!   start again after a restart of an empty store.
//! - A process redeems only a refresh token that the store has, after marking the record.
//! - A mark that was not used is removed, as soon as the store responds.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::sleep;

use super::level::{SharedLevel, StoreFailed};
use super::record::{SessionRecord, milliseconds};
use super::store::{LockOwner, PutOutcome};

/// The latest record of a session that this process has stored or read.
#[derive(Clone)]
pub(crate) struct KnownSession {
    pub(crate) generation: u64,
    pub(crate) record: SessionRecord,
    /// The store may not have the record.
    pub(crate) unstored: Option<Unstored>,
}

/// A record that the store may not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unstored {
    /// The record of a sign-in.
    New,
    /// A record in place of this generation.
    Replacing(u64),
}

impl KnownSession {
    /// Returns a session that the store has.
    pub(crate) fn new(generation: u64, record: SessionRecord) -> Self {
        Self {
            generation,
            record,
            unstored: None,
        }
    }
}

impl SharedLevel {
    /// Stores an empty record for a user who signed in, in place of any session. Returns its
    /// generation.
    ///
    /// The refresh token then replaces this generation. A put of the refresh token that is repeated
    /// after a time-out takes effect at most once.
    pub(crate) async fn open_session(&self, name: &str) -> Result<u64, StoreFailed> {
        let since = self.clock().wall().duration_since(SystemTime::UNIX_EPOCH);
        let now = milliseconds(since.unwrap_or_default());
        self.put_empty_after_any(name, now).await
    }

    /// Stores an empty record in place of any other. Returns its generation, at least `least`.
    async fn put_empty_after_any(&self, name: &str, least: u64) -> Result<u64, StoreFailed> {
        for _ in 0..MAX_ATTEMPTS {
            let found = self.get_session(name).await?;
            let generation = least.max(found.generation.saturating_add(1));
            // Another process may sign the user in or out, or redeem the refresh token.
            match self.put_empty_session(name, generation, None).await? {
                PutOutcome::Stored => return Ok(generation),
                PutOutcome::Superseded => {}
            }
        }
        Err(self.gives_up(MAX_ATTEMPTS))
    }

    /// Stores a session in place of any other. Returns `false` if a sign-in or a sign-out came in
    /// between.
    pub(crate) async fn create_session(
        &self,
        name: &str,
        record: &SessionRecord,
    ) -> Result<bool, StoreFailed> {
        let opened = self.open_session(name).await?;
        let generation = opened.saturating_add(1);
        self.replace_session(name, opened, generation, record).await
    }

    /// Stores the session of another library. Returns `false` if there is a session.
    pub(crate) async fn import_session(
        &self,
        name: &str,
        record: &SessionRecord,
    ) -> Result<bool, StoreFailed> {
        // No session has an earlier generation.
        let put = self.put_session(name, 1, None, record).await?;
        Ok(put == PutOutcome::Stored)
    }

    /// Stores a session in place of one generation. Returns `false` if the session was signed out,
    /// or replaced by a sign-in.
    pub(crate) async fn replace_session(
        &self,
        name: &str,
        replaced: u64,
        generation: u64,
        record: &SessionRecord,
    ) -> Result<bool, StoreFailed> {
        let put = self.put_session(name, generation, Some(replaced), record);
        match put.await? {
            PutOutcome::Stored => Ok(true),
            PutOutcome::Superseded => {
                // A put that timed out may have taken effect.
                let found = self.get_session(name).await?;
                let is_same = |it: SessionRecord| it.family == record.family;
                Ok(found.generation == generation && found.content.is_some_and(is_same))
            }
        }
    }

    /// Removes a session, whatever its generation.
    ///
    /// An empty record stays for some minutes, so that a call that takes effect late does not sign
    /// the user in again.
    pub(crate) async fn remove_session(&self, name: &str) -> Result<(), StoreFailed> {
        self.put_empty_after_any(name, 0).await?;
        Ok(())
    }

    /// Removes the session of a refresh token that the provider rejected. Returns `false` if a
    /// sign-in or a sign-out came in between.
    pub(crate) async fn remove_rejected_session(&self, name: &str, generation: u64) -> bool {
        let next = generation.saturating_add(1);
        let put = self.put_empty_session(name, next, Some(generation)).await;
        !matches!(put, Ok(PutOutcome::Superseded))
    }

    /// Removes the mark of a redemption whose refresh token was not sent, in the background and
    /// as soon as the store responds.
    pub(crate) fn cancel_redemption_later(
        self: &Arc<Self>,
        name: String,
        owner: LockOwner,
        generation: u64,
    ) {
        let level = Arc::clone(self);
        tokio::spawn(async move {
            // First, so that a call that begins the redemption late finds no lock.
            level.unlock(&name, &owner).await;
            for wait in RETRY_WAITS {
                let cancelled = level.cancel_redemption(&name, &owner, generation).await;
                if cancelled.is_ok() {
                    break;
                }
                sleep(Duration::from_secs(wait)).await;
            }
        });
    }
}

/// The number of attempts to replace a record that other processes change. A record of the greatest
/// generation, which no process of this crate stores, cannot be replaced.
const MAX_ATTEMPTS: u32 = 16;

/// The waits in seconds between attempts to store what only this process has: some ten minutes in
/// all. The circuit of the store fails most attempts at once.
pub(crate) const RETRY_WAITS: [u64; 16] =
    [0, 1, 2, 4, 8, 15, 30, 60, 60, 60, 60, 60, 60, 60, 60, 60];
