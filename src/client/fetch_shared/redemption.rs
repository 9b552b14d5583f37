//! The redemption of a refresh token that is marked in the shared cache.

use std::sync::Arc;

use super::session::Names;
use super::unstored::{Put, store_unstored, store_unstored_later};
use super::{Requested, SharedFetch};
use crate::cache::{LockOwner, UserSession};
use crate::client::fetch_for_user::{RefreshFailure, Refreshed};
use crate::delegated::UserIdentity;
use crate::error::Error;
use crate::grant::SingleUseGrant;
use crate::secret::Secret;
use crate::shared_cache::{KnownSession, SessionRecord, StoreFailed};

/// The outcome of a redemption.
pub(super) enum Redeemed {
    Outcome(Result<Requested, Error>),
    /// A sign-in or a sign-out came in between.
    Superseded,
    /// The provider rejected the refresh token.
    Rejected(Error),
}

impl SharedFetch {
    /// Redeems the refresh token of a marked record, once.
    pub(super) async fn redeem(
        &self,
        session: &Arc<UserSession>,
        names: &Names,
        owner: &LockOwner,
        known: KnownSession,
    ) -> Redeemed {
        let KnownSession {
            generation, record, ..
        } = known;
        let grant = SingleUseGrant::new(record.refresh_token.clone());
        let error = match self.refresh(&record, &grant).await {
            Ok(refreshed) => {
                let family = record.family.clone();
                let issued = refreshed.issued;
                let id_token = refreshed.id_token.clone();
                let next = next_record(
                    record,
                    refreshed.refresh_token,
                    refreshed.identity,
                    refreshed.id_token,
                );
                // Stored before the access token is used.
                let put = Put::replacing(generation);
                if !self.store_rotated(session, names, put, next).await {
                    return Redeemed::Superseded;
                }
                if let Some(id_token) = id_token {
                    session.keep_id_token(id_token);
                }
                let requested = Requested::new(issued, Some(family));
                return Redeemed::Outcome(Ok(requested));
            }
            Err(RefreshFailure::OtherUser(error)) => {
                self.remove_session(session, names, generation).await;
                return Redeemed::Outcome(Err(error));
            }
            Err(RefreshFailure::Request(error)) => error,
        };
        if error.is_grant_used_up() {
            // A provider may revoke the refresh token because the user signed in again.
            return match self.remove_session(session, names, generation).await {
                true => Redeemed::Rejected(error),
                false => Redeemed::Superseded,
            };
        }
        let is_in_doubt = grant.is_in_doubt() && self.fetcher.refresh_token_rotation;
        match is_in_doubt {
            true => {
                let in_doubt = SessionRecord {
                    is_in_doubt: true,
                    ..record
                };
                let put = Put::replacing(generation);
                self.store_rotated(session, names, put, in_doubt).await;
            }
            false => {
                let (name, owner) = (names.session.clone(), owner.clone());
                self.level.cancel_redemption_later(name, owner, generation);
            }
        }
        Redeemed::Outcome(Err(error))
    }

    pub(super) async fn refresh(
        &self,
        record: &SessionRecord,
        grant: &SingleUseGrant,
    ) -> Result<Refreshed, RefreshFailure> {
        let (fetcher, fetch) = (&self.fetcher, &self.fetch);
        let mut is_of_other_user = false;
        let identity = record.identity.as_ref();
        let refreshing = async {
            match fetcher.refresh(fetch, identity, grant, self.deadline).await {
                Ok(refreshed) => Ok(refreshed),
                Err(RefreshFailure::Request(error)) => Err(error),
                Err(RefreshFailure::OtherUser(error)) => {
                    is_of_other_user = true;
                    Err(error)
                }
            }
        };
        let refreshed =
            fetcher.with_deadline_and_count(&self.level, fetch, self.deadline, refreshing);
        let refreshed = refreshed.await;
        refreshed.map_err(|error| match is_of_other_user {
            true => RefreshFailure::OtherUser(error),
            false => RefreshFailure::Request(error),
        })
    }

    /// Stores the record after a redemption. Returns `false` if a sign-in or a sign-out came in
    /// between, so that the new refresh token is dropped.
    ///
    /// If the store does not respond, this process keeps the record, and stores it later.
    pub(super) async fn store_rotated(
        &self,
        session: &Arc<UserSession>,
        names: &Names,
        put: Put,
        record: SessionRecord,
    ) -> bool {
        let known = KnownSession {
            generation: put.generation,
            record,
            unstored: Some(put.replaces),
        };
        session.set_known(Some(known.clone()));
        let (level, session) = (Arc::clone(&self.level), Arc::clone(session));
        let name = names.session.clone();
        // In a task of its own, since the flight may be dropped, and with it the refresh token.
        let storing = tokio::spawn(async move {
            match store_unstored(&level, &session, &name, known).await {
                Ok(is_stored) => is_stored,
                Err(StoreFailed) => {
                    store_unstored_later(level, session, name);
                    true
                }
            }
        });
        storing.await.unwrap_or(true)
    }

    /// Removes a session. Returns `false` if a sign-in or a sign-out came in between.
    pub(super) async fn remove_session(
        &self,
        session: &UserSession,
        names: &Names,
        generation: u64,
    ) -> bool {
        session.set_known(None);
        self.level
            .remove_rejected_session(&names.session, generation)
            .await
    }
}

/// Returns the record of a session after a refresh.
pub(super) fn next_record(
    record: SessionRecord,
    refresh_token: Option<Secret>,
    identity: Option<UserIdentity>,
    id_token: Option<Secret>,
) -> SessionRecord {
    let identity = match (record.identity, identity) {
        (Some(before), Some(later)) => Some(before.completed_by(later)),
        (before, later) => before.or(later),
    };
    SessionRecord {
        family: record.family,
        // Without a new one, the redeemed refresh token stays valid (RFC 6749 section 6).
        refresh_token: refresh_token.unwrap_or(record.refresh_token),
        identity,
        id_token: id_token.or(record.id_token),
        is_in_doubt: false,
    }
}
