use std::sync::Arc;
use std::time::Duration;

use crate::time::Now;
use crate::token::IssuedToken;

/// The requirements of one caller beyond a valid token. Nearly all callers have none.
#[derive(Clone, Default)]
pub(crate) struct Requirements(Option<Arc<SpecialRequirements>>);

#[derive(Default)]
pub(crate) struct SpecialRequirements {
    /// The JSON claims of an API's challenge, to send with the token request.
    pub(crate) claims: Option<Arc<str>>,
    /// The token that an API rejected.
    pub(crate) rejected: Option<Arc<IssuedToken>>,
    pub(crate) force_refresh: bool,
    pub(crate) min_remaining: Duration,
}

impl Requirements {
    pub(crate) const NONE: Self = Self(None);

    pub(crate) fn new(special: SpecialRequirements) -> Self {
        let SpecialRequirements {
            claims,
            rejected,
            force_refresh,
            min_remaining,
        } = &special;
        let is_none = claims.is_none()
            && rejected.is_none()
            && !force_refresh
            && *min_remaining == Duration::ZERO;
        Self((!is_none).then(|| Arc::new(special)))
    }

    pub(crate) fn is_none(&self) -> bool {
        self.0.is_none()
    }

    pub(crate) fn claims(&self) -> Option<&Arc<str>> {
        self.0.as_ref().and_then(|special| special.claims.as_ref())
    }

    /// Returns `true` if the caller wants a token request in any case.
    pub(crate) fn force_refresh(&self) -> bool {
        self.0.as_ref().is_some_and(|special| special.force_refresh)
    }

    /// Returns `true` if an API has rejected the cached token.
    pub(super) fn follow_a_rejection(&self) -> bool {
        let special = self.0.as_ref();
        special.is_some_and(|special| special.claims.is_some() || special.rejected.is_some())
    }

    /// Returns `true` if a valid token meets the requirements at first sight.
    ///
    /// Claims are never met at first sight: see [`are_met_by_current`](Self::are_met_by_current).
    #[inline]
    pub(crate) fn are_met_by(&self, issued: &Arc<IssuedToken>, now: &Now) -> bool {
        let Some(special) = &self.0 else { return true };
        special.claims.is_none() && special.accepts(issued, now)
    }

    /// Returns `true` if the current token meets the requirements, claims included.
    ///
    /// Claims are met by a token other than the rejected one that was requested with these claims,
    /// or by a later request without claims. `requested_claims` are the claims of the current
    /// token's request.
    pub(super) fn are_met_by_current(
        &self,
        issued: &Arc<IssuedToken>,
        requested_claims: Option<&str>,
        now: &Now,
    ) -> bool {
        let Some(special) = &self.0 else { return true };
        match &special.claims {
            None => special.accepts(issued, now),
            Some(claims) => {
                special.rejected.is_some()
                    && requested_claims.is_none_or(|requested| requested == &**claims)
                    && special.accepts(issued, now)
            }
        }
    }

    /// Returns `true` if this caller can use the token of a flight that sends `claims`.
    pub(super) fn are_met_by_flight(&self, claims: Option<&str>) -> bool {
        self.claims()
            .is_none_or(|required| Some(&**required) == claims)
    }
}

impl SpecialRequirements {
    fn accepts(&self, issued: &Arc<IssuedToken>, now: &Now) -> bool {
        let rejected = self.rejected.as_ref();
        !self.force_refresh
            && rejected.is_none_or(|rejected| !rejected.is_same_token(issued))
            && self.has_enough_left(issued, now)
    }

    /// Returns `true` if the token lasts for `min_remaining`, or is too new to be replaced.
    ///
    /// A new token would soon be as short as this one. A token that never had enough is new for
    /// half of its lifetime, any other for a tenth.
    fn has_enough_left(&self, issued: &IssuedToken, now: &Now) -> bool {
        let remaining = issued.lifetime.remaining(now);
        let lifetime = issued.lifetime.whole();
        let remaining_while_new = match lifetime < self.min_remaining {
            true => lifetime / 2,
            false => lifetime - lifetime / 10,
        };
        remaining >= self.min_remaining || remaining > remaining_while_new
    }
}
