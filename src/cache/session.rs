use std::borrow::Borrow;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::bounded_map::{ByKey, Evictable};
use crate::delegated::UserIdentity;
use crate::grant::SingleUseGrant;
use crate::lease::{Lease, LeaseId};
use crate::secret::Secret;
use crate::shared_cache::KnownSession;
use crate::time::Now;
use crate::token::UserKey;

/// The refresh token of a user, if the provider issued one.
///
/// One request at a time redeems the refresh token. A provider that rotates refresh tokens accepts
/// each once, and treats a second use as theft. A refresh token whose request ended without a clear
/// response is in doubt.
pub(crate) struct UserSession {
    user: Arc<UserKey>,
    used: AtomicBool,
    state: Mutex<SessionState>,
    released: Notify,
}

#[derive(Default)]
struct SessionState {
    refresh_token: Option<Arc<SingleUseGrant>>,
    /// The user that the responses so far named. The first response that names a user counts.
    identity: Option<Arc<UserIdentity>>,
    lease: Lease,
    /// The latest ID token, if the client keeps ID tokens.
    id_token: Option<Box<IdTokenState>>,
    /// The session in the shared cache. With a shared cache there is no `refresh_token`.
    known: Option<Box<KnownSession>>,
}

/// The latest ID token of a user, and the last refresh for its sake.
#[derive(Default)]
struct IdTokenState {
    id_token: Option<Secret>,
    forced: Option<SystemTime>,
}

/// The state of the refresh token of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RefreshTokenStatus {
    /// There is a refresh token, or another request redeems one.
    Available,
    /// An earlier request may have redeemed the refresh token.
    InDoubt,
    Missing,
}

/// The exclusive right to redeem a user's refresh token. Released on drop.
pub(crate) struct RefreshTokenLease<'a> {
    session: &'a UserSession,
    id: LeaseId,
    refresh_token: Option<Arc<SingleUseGrant>>,
    identity: Option<Arc<UserIdentity>>,
}

impl UserSession {
    pub(crate) fn new(
        user: Arc<UserKey>,
        refresh_token: Option<Secret>,
        identity: Option<UserIdentity>,
    ) -> Self {
        Self {
            user,
            used: AtomicBool::new(false),
            state: Mutex::new(SessionState {
                refresh_token: refresh_token.map(shared),
                identity: identity.map(Arc::new),
                lease: Lease::default(),
                id_token: None,
                known: None,
            }),
            released: Notify::new(),
        }
    }

    /// Returns the latest ID token.
    pub(crate) fn id_token(&self) -> Option<Secret> {
        let state = self.lock();
        state.id_token.as_ref()?.id_token.clone()
    }

    /// Keeps the ID token of a session that no other request knows yet, or of a record that was
    /// stored.
    pub(crate) fn keep_id_token(&self, id_token: Secret) {
        let mut state = self.lock();
        state.id_token.get_or_insert_default().id_token = Some(id_token);
    }

    /// Keeps an ID token in place of `before`, and returns the ID token that is then kept. That is
    /// another one if a refresh came in between.
    pub(crate) fn replace_id_token(&self, before: Option<&Secret>, id_token: Secret) -> Secret {
        let mut state = self.lock();
        let kept = &mut state.id_token.get_or_insert_default().id_token;
        match kept {
            Some(kept) if before.map(Secret::expose) != Some(kept.expose()) => kept.clone(),
            _ => kept.insert(id_token).clone(),
        }
    }

    /// Returns whether the tokens may be refreshed for the sake of the ID token. A provider that
    /// sends no ID token with a refresh is not asked with every call.
    pub(crate) fn may_refresh_id_token(&self, now: SystemTime) -> bool {
        let mut state = self.lock();
        let kept = state.id_token.get_or_insert_default();
        let waits = kept.forced.is_some_and(|forced| {
            let age = now.duration_since(forced);
            age.is_ok_and(|age| age < ID_TOKEN_PAUSE)
        });
        if !waits {
            kept.forced = Some(now);
        }
        !waits
    }

    /// Returns the record of the session that this process has seen last in the shared cache.
    pub(crate) fn known(&self) -> Option<KnownSession> {
        self.lock().known.as_deref().cloned()
    }

    /// Remembers the record of the session in the shared cache.
    pub(crate) fn set_known(&self, known: Option<KnownSession>) {
        self.lock().known = known.map(Box::new);
    }

    /// Replaces what is known of the shared cache, if `before` is known still. Returns `false` if
    /// a sign-in or a sign-out came in between.
    pub(crate) fn replace_known(&self, before: &KnownSession, after: Option<KnownSession>) -> bool {
        let known = &mut self.lock().known;
        let is_current = known.as_ref().is_some_and(|known| {
            known.generation == before.generation && known.record.family == before.record.family
        });
        if is_current {
            *known = after.map(Box::new);
        }
        is_current
    }

    pub(crate) fn user(&self) -> &UserKey {
        &self.user
    }

    pub(crate) fn is_of(&self, user: &UserKey) -> bool {
        *self.user == *user
    }

    /// Waits until no other request redeems the refresh token. The lease expires at the deadline.
    pub(crate) async fn lease_refresh_token(&self, deadline: Instant) -> RefreshTokenLease<'_> {
        loop {
            let mut released = pin!(self.released.notified());
            // From here on no release is missed.
            released.as_mut().enable();
            match self.try_lease(deadline) {
                Ok(lease) => return lease,
                Err(expires) => drop(timeout_at(expires, released).await),
            }
        }
    }

    /// Returns the expiry of the current lease if another request holds the lease.
    fn try_lease(&self, deadline: Instant) -> Result<RefreshTokenLease<'_>, Instant> {
        let mut state = self.lock();
        if let Some((_, expires)) = state.lease.holder(Instant::now().into_std()) {
            return Err(Instant::from_std(expires));
        }
        let (id, _) = state.lease.grant(deadline.into_std(), ());
        Ok(RefreshTokenLease {
            session: self,
            id,
            refresh_token: state.refresh_token.clone(),
            identity: state.identity.clone(),
        })
    }

    /// Stores a refresh token, unless a request redeems another one. That request stores the
    /// rotated token.
    ///
    /// Stores of the user that the response named what no earlier response named.
    pub(crate) fn store(&self, refresh_token: Secret, identity: Option<UserIdentity>) {
        let mut state = self.lock();
        if !state.lease.is_held() {
            state.refresh_token = Some(shared(refresh_token));
            state.learn(identity);
        }
    }

    /// Stores the refresh token of another library. Returns `false` if there is one already.
    pub(crate) fn import(&self, refresh_token: Secret, identity: Option<UserIdentity>) -> bool {
        let mut state = self.lock();
        let is_new = state.refresh_token.is_none() && !state.lease.is_held();
        if is_new {
            state.refresh_token = Some(shared(refresh_token));
            state.learn(identity);
        }
        is_new
    }

    /// Returns the user that the responses so far named.
    pub(crate) fn identity(&self) -> Option<Arc<UserIdentity>> {
        self.lock().identity.clone()
    }

    /// Forgets the refresh token and the user that the responses named, unless a request
    /// redeems the refresh token.
    pub(crate) fn forget(&self) {
        let mut state = self.lock();
        if !state.lease.is_held() {
            state.refresh_token = None;
            state.identity = None;
        }
    }

    pub(crate) fn refresh_token_status(&self) -> RefreshTokenStatus {
        let state = self.lock();
        match &state.refresh_token {
            None => RefreshTokenStatus::Missing,
            // The request in flight ends the doubt.
            Some(_) if state.lease.holder(Instant::now().into_std()).is_some() => {
                RefreshTokenStatus::Available
            }
            Some(refresh_token) if refresh_token.is_in_doubt() => RefreshTokenStatus::InDoubt,
            Some(_) => RefreshTokenStatus::Available,
        }
    }

    fn lock(&self) -> MutexGuard<'_, SessionState> {
        // No code panics under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SessionState {
    fn learn(&mut self, identity: Option<UserIdentity>) {
        if let Some(identity) = identity {
            let known = self.identity.as_ref();
            let identity = match known {
                Some(known) => known.completed_by(identity),
                None => identity,
            };
            self.identity = Some(Arc::new(identity));
        }
    }
}

impl RefreshTokenLease<'_> {
    pub(crate) fn refresh_token(&self) -> Option<&SingleUseGrant> {
        self.refresh_token.as_deref()
    }

    /// Returns the user that a refresh must name, if the response names one.
    pub(crate) fn identity(&self) -> Option<&UserIdentity> {
        self.identity.as_deref()
    }

    /// Replaces the redeemed refresh token. No-op if the lease has expired and another
    /// request holds the lease.
    pub(crate) fn replace(&self, refresh_token: Option<Secret>) {
        let mut state = self.session.lock();
        if state.lease.is_current(self.id) {
            state.refresh_token = refresh_token.map(shared);
        }
    }

    /// Stores of the user that a refresh named what no earlier response named.
    pub(crate) fn learn(&self, identity: Option<UserIdentity>) {
        let mut state = self.session.lock();
        if state.lease.is_current(self.id) {
            state.learn(identity);
        }
    }

    /// Keeps the ID token of a refresh in place of an earlier one.
    pub(crate) fn keep_id_token(&self, id_token: Secret) {
        let mut state = self.session.lock();
        if state.lease.is_current(self.id) {
            state.id_token.get_or_insert_default().id_token = Some(id_token);
        }
    }

    /// Removes the refresh token and the user that the responses named, because a refresh named
    /// another user.
    pub(crate) fn discard(&self) {
        self.replace(None);
        let mut state = self.session.lock();
        if state.lease.is_current(self.id) {
            state.identity = None;
        }
    }
}

impl Drop for RefreshTokenLease<'_> {
    fn drop(&mut self) {
        self.session.lock().lease.release(self.id);
        self.session.released.notify_waiters();
    }
}

impl Borrow<UserKey> for ByKey<UserSession> {
    fn borrow(&self) -> &UserKey {
        &self.0.user
    }
}

impl Evictable for UserSession {
    type Key = UserKey;

    fn key(&self) -> &UserKey {
        &self.user
    }

    fn is_held(self: &Arc<Self>) -> bool {
        // The map itself has two.
        Arc::strong_count(self) > 2
    }

    fn mark_used(&self) {
        self.used.store(true, Ordering::Relaxed);
    }

    fn take_used(&self) -> bool {
        self.used.swap(false, Ordering::Relaxed)
    }

    fn can_evict(&self, _: &Now) -> bool {
        let state = self.lock();
        let known = state.known.as_ref();
        state.refresh_token.is_none() && known.is_none_or(|known| known.unstored.is_none())
    }
}

/// The time between two refreshes for the sake of an ID token.
const ID_TOKEN_PAUSE: Duration = Duration::from_secs(5 * 60);

fn shared(refresh_token: Secret) -> Arc<SingleUseGrant> {
    Arc::new(SingleUseGrant::new(refresh_token))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user() -> Arc<UserKey> {
        Arc::new(UserKey::Account("a".into()))
    }

    /// A task may be on a runtime that stops and continues later.
    #[tokio::test]
    async fn an_expired_lease_cannot_replace_the_refresh_token() {
        let session = UserSession::new(user(), Some("1".into()), None);
        let stalled = session.lease_refresh_token(Instant::now()).await;
        let later = Instant::now() + Duration::from_secs(3600);
        let current = session.lease_refresh_token(later).await;
        current.keep_id_token("later".into());
        stalled.replace(None);
        stalled.keep_id_token("earlier".into());
        assert_eq!(session.id_token().unwrap().expose(), "later");
        session.store("offered".into(), None);
        assert_eq!(
            session.refresh_token_status(),
            RefreshTokenStatus::Available,
            "the stalled task removed the token"
        );
        drop(stalled);
        assert!(session.try_lease(later).is_err(), "the lease is held");
        current.replace(Some("2".into()));
        drop(current);
        let next = session.lease_refresh_token(later).await;
        assert_eq!(next.refresh_token().unwrap().secret().expose(), "2");
        drop(next);
        session.store("3".into(), None);
        let next = session.lease_refresh_token(later).await;
        assert_eq!(next.refresh_token().unwrap().secret().expose(), "3");
    }

    #[tokio::test]
    async fn a_refresh_token_in_use_is_not_replaced_by_another() {
        let session = UserSession::new(user(), Some("1".into()), None);
        let lease = session
            .lease_refresh_token(Instant::now() + Duration::from_secs(3600))
            .await;
        session.store("offered".into(), None);
        drop(lease);
        let next = session.lease_refresh_token(Instant::now()).await;
        assert_eq!(next.refresh_token().unwrap().secret().expose(), "1");
    }

    /// A runtime that stops drops the task, or never polls the task again.
    #[tokio::test]
    async fn a_refresh_token_that_may_have_left_is_in_doubt_after_the_lease() {
        let later = Instant::now() + Duration::from_secs(3600);
        for is_dropped in [true, false] {
            let session = UserSession::new(user(), Some("1".into()), None);
            let expires = if is_dropped { later } else { Instant::now() };
            let lease = session.lease_refresh_token(expires).await;
            assert_eq!(
                session.refresh_token_status(),
                RefreshTokenStatus::Available
            );
            lease.refresh_token().unwrap().mark_sent();
            let _stalled = match is_dropped {
                true => {
                    let waiting = session.refresh_token_status();
                    assert_eq!(waiting, RefreshTokenStatus::Available, "its lease is held");
                    drop(lease);
                    None
                }
                false => Some(lease),
            };
            assert_eq!(session.refresh_token_status(), RefreshTokenStatus::InDoubt);
            let next = session.lease_refresh_token(later).await;
            assert!(next.refresh_token().unwrap().is_in_doubt());
            next.refresh_token().unwrap().mark_not_redeemed();
            drop(next);
            assert_eq!(
                session.refresh_token_status(),
                RefreshTokenStatus::Available
            );
        }
    }

    #[tokio::test]
    async fn a_response_ends_the_doubt() {
        let later = Instant::now() + Duration::from_secs(3600);
        let session = UserSession::new(user(), Some("1".into()), None);
        let lease = session.lease_refresh_token(later).await;
        lease.refresh_token().unwrap().mark_sent();
        lease.replace(Some("2".into()));
        drop(lease);
        assert_eq!(
            session.refresh_token_status(),
            RefreshTokenStatus::Available
        );
        let lease = session.lease_refresh_token(later).await;
        lease.discard();
        drop(lease);
        assert_eq!(session.refresh_token_status(), RefreshTokenStatus::Missing);
    }
}
