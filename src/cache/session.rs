use tokio::sync::{Mutex, MutexGuard};

use super::entries::Occupant;
use crate::secret::Secret;
use crate::time::Now;

/// What a client can go on with for a user: the refresh token that came last, if one did.
///
/// Who redeems it holds the lock until the answer is there: a provider that rotates refresh tokens
/// takes each once, and a second use for a theft.
#[derive(Default)]
pub(crate) struct Session(Mutex<Option<Secret>>);

impl Session {
    pub(crate) fn new(refresh_token: Option<Secret>) -> Self {
        Self(Mutex::new(refresh_token))
    }

    /// The refresh token, once nobody else redeems it.
    pub(crate) async fn refresh_token(&self) -> MutexGuard<'_, Option<Secret>> {
        self.0.lock().await
    }

    /// Keeps a refresh token, unless another is being redeemed: whoever does that keeps theirs.
    pub(crate) fn offer(&self, refresh_token: Secret) {
        if let Ok(mut kept) = self.0.try_lock() {
            *kept = Some(refresh_token);
        }
    }

    /// Whether there is a refresh token, or may be one in a moment.
    pub(crate) fn can_go_on(&self) -> bool {
        self.0.try_lock().map_or(true, |token| token.is_some())
    }
}

impl Occupant for Session {
    fn is_idle(&self, _: &Now) -> bool {
        !self.can_go_on()
    }
}
