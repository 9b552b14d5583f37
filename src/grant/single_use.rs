use std::sync::atomic::{AtomicBool, Ordering};

use crate::secret::Secret;

/// An authorization code or a refresh token, which a strict provider accepts once.
///
/// The grant is *in doubt* from the moment at which a token request may have left until a response
/// says that the grant was not redeemed. A dropped token request leaves the grant in doubt.
pub(crate) struct SingleUseGrant {
    secret: Secret,
    in_doubt: AtomicBool,
}

impl SingleUseGrant {
    pub(crate) fn new(secret: Secret) -> Self {
        Self {
            secret,
            in_doubt: AtomicBool::new(false),
        }
    }

    pub(crate) fn secret(&self) -> &Secret {
        &self.secret
    }

    /// Records that a token request with the grant is about to leave.
    pub(crate) fn mark_sent(&self) {
        self.in_doubt.store(true, Ordering::Release);
    }

    /// Records that the provider did not redeem the grant.
    pub(crate) fn mark_not_redeemed(&self) {
        self.in_doubt.store(false, Ordering::Release);
    }

    pub(crate) fn is_in_doubt(&self) -> bool {
        self.in_doubt.load(Ordering::Acquire)
    }
}

impl From<&str> for SingleUseGrant {
    fn from(secret: &str) -> Self {
        Self::new(Secret::from(secret))
    }
}
