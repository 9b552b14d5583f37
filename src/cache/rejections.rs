use std::sync::Arc;
use std::time::Duration;

use crate::time::{Deadline, Now};
use crate::token::{IssuedToken, TokenHash};

/// A ration of tokens that replace rejected ones, and the rejected token that is not replaced yet.
///
/// An API that rejects every token must not cause a storm of token requests.
#[derive(Default)]
pub(super) struct Rejections(Option<Box<Ration>>);

#[derive(Default)]
struct Ration {
    replacements: [Option<Replacement>; MAX_REPLACEMENTS],
    /// The claims with which the current token was requested.
    requested_claims: Option<Arc<str>>,
    /// The rejected token that no other token replaced yet.
    token: Option<TokenHash>,
}

struct Replacement {
    claims: Option<Arc<str>>,
    until: Deadline,
}

impl Rejections {
    /// Returns `true` if there was no rejection.
    pub(super) fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// Returns `true` if one more token may be replaced.
    ///
    /// The ration for 30 seconds is one token for the same claims (or for none), and two tokens
    /// altogether: two challenges may differ, and each needs its token.
    pub(super) fn allow(&self, claims: Option<&Arc<str>>, now: &Now) -> bool {
        let Some(ration) = &self.0 else { return true };
        let recent = || {
            let replacements = ration.replacements.iter().flatten();
            replacements.filter(|replacement| !replacement.until.reached(now))
        };
        recent().count() < MAX_REPLACEMENTS
            && recent().all(|replacement| replacement.claims.as_ref() != claims)
    }

    /// Counts a replaced token. The same rejection reported in two ways counts once.
    pub(super) fn count(&mut self, claims: Option<Arc<str>>, now: &Now) {
        let ration = self.0.get_or_insert_default();
        let is_free = |place: &Option<Replacement>| {
            let replacement = place.as_ref();
            replacement.is_none_or(|replacement| {
                replacement.until.reached(now) || replacement.claims == claims
            })
        };
        if let Some(free) = ration.replacements.iter_mut().find(|place| is_free(place)) {
            *free = Some(Replacement {
                claims,
                until: now.plus(PERIOD),
            });
        }
    }

    /// Returns the claims with which the current token was requested.
    pub(super) fn requested_claims(&self) -> Option<&str> {
        let ration = self.0.as_ref();
        ration.and_then(|ration| ration.requested_claims.as_deref())
    }

    pub(super) fn set_requested_claims(&mut self, claims: Option<Arc<str>>) {
        if claims.is_some() || self.0.is_some() {
            self.0.get_or_insert_default().requested_claims = claims;
        }
    }

    /// Remembers a rejected token until another token is stored.
    pub(super) fn remember_token(&mut self, rejected: TokenHash) {
        self.0.get_or_insert_default().token = Some(rejected);
    }

    /// Returns the rejected token that no other token replaced yet.
    pub(super) fn token(&self) -> Option<TokenHash> {
        self.0.as_ref().and_then(|ration| ration.token)
    }

    /// Forgets the rejected token, now that `issued` is stored. The cache of an issuer may return
    /// the rejected token once more, which replaces nothing.
    pub(super) fn forget_token_before(&mut self, issued: &IssuedToken) {
        if let Some(ration) = &mut self.0
            && ration
                .token
                .is_some_and(|rejected| rejected != issued.hash())
        {
            ration.token = None;
        }
    }
}

const PERIOD: Duration = Duration::from_secs(30);
const MAX_REPLACEMENTS: usize = 2;
