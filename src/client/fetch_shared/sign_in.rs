use std::sync::Arc;

use tokio::time::Instant;

use super::unstored::{STORE_LIMIT, store_unstored, store_unstored_later};
use crate::cache::UserSession;
use crate::delegated::UserIdentity;
use crate::error::{Error, Failure};
use crate::secret::Secret;
use crate::shared_cache::{
    KnownSession, SessionRecord, SharedLevel, StoreFailed, StoredToken, TokenRecord, Unstored,
};
use crate::token::IssuedToken;

/// Stores the tokens of a user who signed in, in place of an earlier session.
///
/// If the store does not respond, this process keeps the refresh token and stores it later.
pub(in crate::client) async fn store_sign_in(
    level: &Arc<SharedLevel>,
    session: Arc<UserSession>,
    issued: &IssuedToken,
    refresh_token: Option<Secret>,
    identity: Option<UserIdentity>,
    id_token: Option<Secret>,
) -> Result<(), Error> {
    let name = level.session_name(session.user())?;
    let Some(refresh_token) = refresh_token else {
        // The earlier session must not go on under the new sign-in.
        session.set_known(None);
        let _ = level.remove_session(&name).await;
        return Ok(());
    };
    let mut record = SessionRecord::new(refresh_token, identity);
    record.id_token = id_token;
    let family = record.family.clone();
    let known = KnownSession {
        // Lower than any generation in the store, until the store has an empty record.
        generation: 0,
        record,
        unstored: Some(Unstored::New),
    };
    let lease = session
        .lease_refresh_token(Instant::now() + STORE_LIMIT)
        .await;
    session.set_known(Some(known.clone()));
    let stored = store_unstored(level, &session, &name, known).await;
    drop(lease);
    match stored {
        Ok(true) => {}
        // Another sign-in or a sign-out came in between.
        Ok(false) => return Ok(()),
        Err(StoreFailed) => {
            store_unstored_later(Arc::clone(level), session, name);
            return Ok(());
        }
    }
    let name = level.token_name(issued.key(), issued.binding())?;
    let now = level.clock().now();
    let token = StoredToken::new(issued, None, Some(family), &now);
    if let Ok(found) = level.get_token(&name).await {
        let generation = found.generation.saturating_add(1);
        let _ = level
            .put_newest_token(&name, generation, TokenRecord::new(token))
            .await;
    }
    Ok(())
}

/// Stores the refresh token of another library, unless the user has a session.
pub(in crate::client) async fn import_session(
    level: &SharedLevel,
    session: &UserSession,
    refresh_token: Secret,
    identity: Option<UserIdentity>,
) -> Result<bool, Error> {
    let name = level.session_name(session.user())?;
    let record = SessionRecord::new(refresh_token, identity);
    let imported = level.import_session(&name, &record).await;
    imported.map_err(|StoreFailed| {
        let message = "the refresh token was not imported, because the shared cache does not respond; call import_refresh_token(..) again";
        Error::Transport(Failure::new(message).not_sent().into())
    })
}
