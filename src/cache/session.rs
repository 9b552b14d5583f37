use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::bounded_map::Evictable;
use crate::lease::{Lease, LeaseId};
use crate::secret::Secret;
use crate::time::Now;

/// The refresh token of a user, if the provider issued one.
///
/// One request at a time redeems the refresh token. A provider that rotates refresh tokens accepts
/// each once, and treats a second use as theft.
#[derive(Default)]
pub(crate) struct UserSession {
    state: Mutex<SessionState>,
    released: Notify,
}

#[derive(Default)]
struct SessionState {
    refresh_token: Option<Arc<Secret>>,
    lease: Lease,
}

/// The exclusive right to redeem a user's refresh token. Released on drop.
pub(crate) struct RefreshTokenLease<'a> {
    session: &'a UserSession,
    id: LeaseId,
    refresh_token: Option<Arc<Secret>>,
}

impl UserSession {
    pub(crate) fn new(refresh_token: Option<Secret>) -> Self {
        let session = Self::default();
        session.lock().refresh_token = refresh_token.map(Arc::new);
        session
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
        })
    }

    /// Stores a refresh token, unless a request redeems another one. That request stores the
    /// rotated token.
    pub(crate) fn store(&self, refresh_token: Secret) {
        let mut state = self.lock();
        if !state.lease.is_held() {
            state.refresh_token = Some(Arc::new(refresh_token));
        }
    }

    pub(crate) fn has_refresh_token(&self) -> bool {
        self.lock().refresh_token.is_some()
    }

    fn lock(&self) -> MutexGuard<'_, SessionState> {
        // No code panics under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RefreshTokenLease<'_> {
    pub(crate) fn refresh_token(&self) -> Option<&Secret> {
        self.refresh_token.as_deref()
    }

    /// Replaces the redeemed refresh token. No-op if the lease has expired and another
    /// request holds the lease.
    pub(crate) fn replace(&self, refresh_token: Option<Secret>) {
        let mut state = self.session.lock();
        if state.lease.is_current(self.id) {
            state.refresh_token = refresh_token.map(Arc::new);
        }
    }
}

impl Drop for RefreshTokenLease<'_> {
    fn drop(&mut self) {
        self.session.lock().lease.release(self.id);
        self.session.released.notify_waiters();
    }
}

impl Evictable for UserSession {
    fn can_evict(&self, _: &Now) -> bool {
        !self.has_refresh_token()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A task may be on a runtime that stops and continues later.
    #[tokio::test]
    async fn an_expired_lease_cannot_replace_the_refresh_token() {
        let session = UserSession::new(Some("1".into()));
        let stalled = session.lease_refresh_token(Instant::now()).await;
        let later = Instant::now() + Duration::from_secs(3600);
        let current = session.lease_refresh_token(later).await;
        stalled.replace(None);
        session.store("offered".into());
        assert!(
            session.has_refresh_token(),
            "the stalled task removed the token"
        );
        drop(stalled);
        assert!(session.try_lease(later).is_err(), "the lease is held");
        current.replace(Some("2".into()));
        drop(current);
        let next = session.lease_refresh_token(later).await;
        assert_eq!(next.refresh_token().unwrap().expose(), "2");
        drop(next);
        session.store("3".into());
        let next = session.lease_refresh_token(later).await;
        assert_eq!(next.refresh_token().unwrap().expose(), "3");
    }

    #[tokio::test]
    async fn a_refresh_token_in_use_is_not_replaced_by_another() {
        let session = UserSession::new(Some("1".into()));
        let lease = session
            .lease_refresh_token(Instant::now() + Duration::from_secs(3600))
            .await;
        session.store("offered".into());
        drop(lease);
        let next = session.lease_refresh_token(Instant::now()).await;
        assert_eq!(next.refresh_token().unwrap().expose(), "1");
    }
}
