//! Sessions that this process has, and that the shared cache may not have.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::cache::UserSession;
use crate::shared_cache::{KnownSession, RETRY_WAITS, SharedLevel, StoreFailed, Unstored};

/// The generation of a record, and what the record replaces in the store.
#[derive(Clone, Copy)]
pub(super) struct Put {
    pub(super) generation: u64,
    pub(super) replaces: Unstored,
}

impl Put {
    pub(super) fn replacing(generation: u64) -> Self {
        Self {
            generation: generation.saturating_add(1),
            replaces: Unstored::Replacing(generation),
        }
    }
}

/// Stores the record of a session that the store may not have, as soon as the store responds.
pub(super) fn store_unstored_later(
    level: Arc<SharedLevel>,
    session: Arc<UserSession>,
    name: String,
) {
    tokio::spawn(async move {
        for wait in RETRY_WAITS {
            sleep(Duration::from_secs(wait)).await;
            // Two tasks with one record would store its refresh token at two generations.
            let _lease = session
                .lease_refresh_token(Instant::now() + STORE_LIMIT)
                .await;
            let Some(known) = session.known() else { return };
            if store_unstored(&level, &session, &name, known).await.is_ok() {
                return;
            }
        }
    });
}

/// Stores the record of a session that the store may not have. Returns `false` if a sign-in or a
/// sign-out came in between, so that the record is dropped.
///
/// The caller has the lease of the session.
pub(super) async fn store_unstored(
    level: &SharedLevel,
    session: &UserSession,
    name: &str,
    known: KnownSession,
) -> Result<bool, StoreFailed> {
    let (known, replaced) = match known.unstored {
        None => return Ok(true),
        Some(Unstored::Replacing(replaced)) => (known, replaced),
        Some(Unstored::New) => {
            let replaced = level.open_session(name).await?;
            let opened = KnownSession {
                generation: replaced.saturating_add(1),
                record: known.record.clone(),
                unstored: Some(Unstored::Replacing(replaced)),
            };
            if !session.replace_known(&known, Some(opened.clone())) {
                return Ok(false);
            }
            (opened, replaced)
        }
    };
    let put = level.replace_session(name, replaced, known.generation, &known.record);
    let is_stored = put.await?;
    let stored = is_stored.then(|| KnownSession::new(known.generation, known.record.clone()));
    session.replace_known(&known, stored);
    Ok(is_stored)
}

/// More than the calls of the store to store one session take.
pub(super) const STORE_LIMIT: Duration = Duration::from_secs(10);
