//! The refresh of a user's tokens, with a refresh token that the shared cache keeps.

use std::sync::Arc;
use std::time::Duration;

use super::redemption::{Redeemed, next_record};
use super::unstored::{Put, store_unstored};
use super::{Poll, Requested, SharedFetch};
use crate::cache::{BeginRedemption, FlightOutcome, LockOwner, UserSession};
use crate::client::fetch::Phase;
use crate::client::fetch_for_user::{RefreshFailure, in_doubt, shared_cache_unavailable};
use crate::error::Error;
use crate::grant::SingleUseGrant;
use crate::shared_cache::{KnownSession, Locked, SessionRecord, StoreFailed, Unstored, Versioned};

/// The outcome of an attempt to use the refresh token of a session.
pub(super) enum Attempt {
    Ended(FlightOutcome),
    /// There is no refresh token that may be redeemed. The error says why, if there was one.
    NoGrant(Option<Error>),
}

/// The next step with a session whose lock this process holds.
enum Step {
    Redeem(Box<KnownSession>),
    /// Another process redeems the refresh token, or the store has changed.
    Wait,
    NoGrant(Option<Error>),
    StoreFailed,
}

/// The names of the two records of one token request.
pub(super) struct Names {
    pub(super) token: String,
    pub(super) session: String,
}

impl SharedFetch {
    /// Fetches a user's token from the shared cache, or else redeems the session's refresh token.
    ///
    /// With an assertion, the fate of a refresh token is not waited for.
    pub(super) async fn fetch_by_refresh_token(
        &self,
        session: &Arc<UserSession>,
        has_assertion: bool,
    ) -> Attempt {
        let fetching = self.try_fetch_by_refresh_token(session, has_assertion);
        match fetching.await {
            Ok(attempt) => attempt,
            Err(error) => Attempt::Ended(Err(error)),
        }
    }

    async fn try_fetch_by_refresh_token(
        &self,
        session: &Arc<UserSession>,
        has_assertion: bool,
    ) -> Result<Attempt, Error> {
        let names = Names {
            token: self
                .level
                .token_name(&self.fetch.key, self.fetch.binding())?,
            session: self.level.session_name(session.user())?,
        };
        self.fetch.enter(Phase::RefreshToken);
        let owner = LockOwner::random();
        // Most processes find a token, and wait for no other request of the user.
        let (Ok(found), Ok(token)) = (
            self.level.get_session(&names.session).await,
            self.level.get_token(&names.token).await,
        ) else {
            let _lease = session.lease_refresh_token(self.deadline).await;
            return self.fetch_without_store(session, &names).await;
        };
        let first = token.generation;
        if let Some(outcome) = self.outcome_of(&token, first, family_of(&found)) {
            return Ok(Attempt::Ended(self.count(outcome)));
        }
        let mut poll = Poll::new(self);
        loop {
            // One request of this process at a time.
            let lease = session.lease_refresh_token(self.deadline).await;
            let locked = self.level.lock_session(&names.session, &owner).await;
            let (found, is_holder) = match locked {
                Ok(Locked::Acquired(found)) => (found, true),
                Ok(Locked::Held(found)) => (found, false),
                Err(StoreFailed) => return self.fetch_without_store(session, &names).await,
            };
            // Read after the lock: the last holder may have stored a token.
            let Ok(token) = self.level.get_token(&names.token).await else {
                return self.fetch_without_store(session, &names).await;
            };
            if let Some(outcome) = self.outcome_of(&token, first, family_of(&found)) {
                if is_holder {
                    self.unlock_later(names.session, owner);
                }
                return Ok(Attempt::Ended(self.count(outcome)));
            }
            let step = match is_holder {
                // The process that began the redemption lost its lock, and may be gone.
                true if has_assertion && found.redemption.is_some() => Step::NoGrant(None),
                true => self.next_step(session, &names, &owner, found).await,
                false => Step::Wait,
            };
            match step {
                Step::Redeem(known) => {
                    let family = known.record.family.clone();
                    let redeemed = self.redeem(session, &names, &owner, *known).await;
                    let outcome = match redeemed {
                        Redeemed::Outcome(outcome) => outcome,
                        Redeemed::Superseded => {
                            self.level.unlock(&names.session, &owner).await;
                            continue;
                        }
                        Redeemed::Rejected(error) => {
                            self.level.unlock(&names.session, &owner).await;
                            return Ok(Attempt::NoGrant(Some(error)));
                        }
                    };
                    let generation = token.generation;
                    let (outcome, record) = self.record_of(outcome, token, Some(family));
                    let record = record.map(|record| (names.token, generation, record));
                    self.store(record, names.session, owner).await;
                    return Ok(Attempt::Ended(outcome));
                }
                Step::Wait => {
                    if is_holder {
                        self.level.unlock(&names.session, &owner).await;
                    }
                    // The other requests of the user look for their own tokens meanwhile.
                    drop(lease);
                    if let Err(error) = poll.wait().await {
                        return Ok(Attempt::Ended(self.count(Err(error))));
                    }
                }
                Step::NoGrant(rejection) => {
                    self.level.unlock(&names.session, &owner).await;
                    return Ok(Attempt::NoGrant(rejection));
                }
                Step::StoreFailed => return self.fetch_without_store(session, &names).await,
            }
        }
    }

    /// Decides what to do with the record of a session, and marks the record for a redemption.
    async fn next_step(
        &self,
        session: &UserSession,
        names: &Names,
        owner: &LockOwner,
        found: Versioned<SessionRecord>,
    ) -> Step {
        let found = match self.repaired(session, names, found).await {
            Ok(Some(found)) => found,
            Ok(None) => return Step::Wait,
            Err(StoreFailed) => return Step::StoreFailed,
        };
        let Some(record) = found.content else {
            // Only a sign-in creates a session. A copy in memory may be older than the record that
            // the store has lost.
            session.set_known(None);
            return Step::NoGrant(None);
        };
        let rotates = self.fetcher.refresh_token_rotation;
        let generation = found.generation;
        session.set_known(Some(KnownSession {
            generation,
            record: record.clone(),
            unstored: None,
        }));
        if let Some(redemption) = found.redemption {
            return match redemption.age > self.in_doubt_after() {
                false => Step::Wait,
                true if rotates => Step::NoGrant(Some(in_doubt(self.claims()))),
                true => {
                    // The provider accepts the refresh token again. A new generation has no mark.
                    let next = generation.saturating_add(1);
                    let replaced =
                        self.level
                            .replace_session(&names.session, generation, next, &record);
                    match replaced.await {
                        Ok(_) => Step::Wait,
                        Err(StoreFailed) => Step::StoreFailed,
                    }
                }
            };
        }
        if record.is_in_doubt && rotates {
            return Step::NoGrant(Some(in_doubt(self.claims())));
        }
        let begun = self
            .level
            .begin_redemption(&names.session, owner, generation)
            .await;
        match begun {
            Ok(BeginRedemption::Begun) => Step::Redeem(Box::new(KnownSession {
                generation,
                record,
                unstored: None,
            })),
            Ok(_) => Step::Wait,
            Err(StoreFailed) => {
                // The record may have the mark.
                let (name, owner) = (names.session.clone(), owner.clone());
                self.level.cancel_redemption_later(name, owner, generation);
                Step::StoreFailed
            }
        }
    }

    /// Returns the record of a session, unless this process has a newer one, which is then stored.
    ///
    /// A store that lost writes has an older record than this process. The older refresh token was
    /// redeemed, and must not be redeemed again.
    async fn repaired(
        &self,
        session: &UserSession,
        names: &Names,
        found: Versioned<SessionRecord>,
    ) -> Result<Option<Versioned<SessionRecord>>, StoreFailed> {
        let Some(known) = session.known() else {
            return Ok(Some(found));
        };
        let is_behind = found.content.as_ref().is_some_and(|record| {
            record.family == known.record.family && found.generation < known.generation
        });
        let name = &names.session;
        if !is_behind {
            if known.unstored.is_none() {
                return Ok(Some(found));
            }
            store_unstored(&self.level, session, name, known).await?;
            return Ok(None);
        }
        let mut newer = known.clone();
        // Another process may have redeemed a refresh token that the store had, unless the store
        // loses no mark.
        newer.record.is_in_doubt |=
            known.unstored.is_none() && !self.level.replicates_redemptions();
        newer.unstored = Some(Unstored::Replacing(found.generation));
        if session.replace_known(&known, Some(newer.clone())) {
            store_unstored(&self.level, session, name, newer).await?;
        }
        Ok(None)
    }

    /// Continues while the store does not respond.
    ///
    /// Another process may redeem the same refresh token. Without the caller's permission, nothing
    /// is redeemed, and a valid access token in memory is still served.
    async fn fetch_without_store(
        &self,
        session: &Arc<UserSession>,
        names: &Names,
    ) -> Result<Attempt, Error> {
        self.fetch.progress().shared_cache_failed = true;
        let known = session.known();
        let Some(known) = known.filter(|_| self.level.redeems_without_lock()) else {
            return Ok(Attempt::NoGrant(Some(shared_cache_unavailable())));
        };
        if known.record.is_in_doubt && self.fetcher.refresh_token_rotation {
            return Ok(Attempt::NoGrant(Some(in_doubt(self.claims()))));
        }
        let KnownSession {
            generation,
            record,
            unstored,
        } = known;
        let put = Put {
            generation: generation.saturating_add(1),
            // The store has not yet what this process has.
            replaces: unstored.unwrap_or(Unstored::Replacing(generation)),
        };
        let grant = SingleUseGrant::new(record.refresh_token.clone());
        match self.refresh(&record, &grant).await {
            Ok(refreshed) => {
                let issued = refreshed.issued;
                let id_token = refreshed.id_token.clone();
                let next = next_record(
                    record,
                    refreshed.refresh_token,
                    refreshed.identity,
                    refreshed.id_token,
                );
                let is_stored = self.store_rotated(session, names, put, next).await;
                if let Some(id_token) = id_token.filter(|_| is_stored) {
                    session.keep_id_token(id_token);
                }
                let requested = Requested::new(issued, None);
                Ok(Attempt::Ended(Ok(requested.into_outcome())))
            }
            Err(RefreshFailure::OtherUser(error)) => {
                self.remove_session(session, names, generation).await;
                Err(error)
            }
            Err(RefreshFailure::Request(error)) if error.is_grant_used_up() => {
                self.remove_session(session, names, generation).await;
                Ok(Attempt::NoGrant(Some(error)))
            }
            Err(RefreshFailure::Request(error)) => {
                if grant.is_in_doubt() {
                    let is_in_doubt = true;
                    let record = SessionRecord {
                        is_in_doubt,
                        ..record
                    };
                    self.store_rotated(session, names, put, record).await;
                }
                Err(error)
            }
        }
    }

    /// Returns the age from which the holder of a mark counts as gone: the limit of its request,
    /// and an allowance for a process that was stopped.
    fn in_doubt_after(&self) -> Duration {
        self.fetcher.retry.total_timeout() + PAUSE_ALLOWANCE
    }
}

/// Returns the session that a token must belong to. No token belongs to an absent session.
pub(super) fn family_of(found: &Versioned<SessionRecord>) -> Option<&str> {
    let content = found.content.as_ref();
    Some(content.map_or("", |content| &content.family))
}

const PAUSE_ALLOWANCE: Duration = Duration::from_secs(2 * 60);
