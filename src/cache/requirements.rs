use std::sync::Arc;
use std::time::Duration;

use crate::time::Now;
use crate::token::IssuedToken;

/// What one caller asks of a token beyond its being good; nothing, for nearly all.
#[derive(Clone, Default)]
pub(crate) struct Requirements(Option<Arc<SpecialRequirements>>);

#[derive(Default)]
pub(crate) struct SpecialRequirements {
    /// JSON to go out with the request, as an API's challenge asked for.
    pub(crate) claims: Option<Arc<str>>,
    /// The token that the API did not take.
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
        let none = claims.is_none()
            && rejected.is_none()
            && !force_refresh
            && *min_remaining == Duration::ZERO;
        Self((!none).then(|| Arc::new(special)))
    }

    pub(crate) fn claims(&self) -> Option<&Arc<str>> {
        self.0.as_ref().and_then(|special| special.claims.as_ref())
    }

    /// Whether an API has turned down what there is.
    pub(super) fn are_of_a_rejection(&self) -> bool {
        let special = self.0.as_ref();
        special.is_some_and(|special| special.claims.is_some() || special.rejected.is_some())
    }

    /// Whether a good token can be served at a glance. With claims, the [slot](super::slot) has
    /// more to say.
    #[inline]
    pub(super) fn are_met_by(&self, issued: &Arc<IssuedToken>, now: &Now) -> bool {
        let Some(special) = &self.0 else { return true };
        special.claims.is_none() && special.accepts(issued, now)
    }

    /// Whether a good token meets claims, too: it is another than the one that was turned down, and
    /// came by these claims or after them. `came_by` are the claims that it was asked for with.
    pub(super) fn are_met_by_current(
        &self,
        issued: &Arc<IssuedToken>,
        came_by: Option<&str>,
        now: &Now,
    ) -> bool {
        let Some(special) = &self.0 else { return true };
        match &special.claims {
            None => special.accepts(issued, now),
            Some(claims) => {
                special.rejected.is_some()
                    && came_by.is_none_or(|came_by| came_by == &**claims)
                    && special.accepts(issued, now)
            }
        }
    }

    /// Whether a flight under way, which asks with `claims`, is this caller's too.
    pub(super) fn are_met_by_flight(&self, claims: Option<&str>) -> bool {
        self.claims().is_none_or(|own| Some(&**own) == claims)
    }
}

impl SpecialRequirements {
    fn accepts(&self, issued: &Arc<IssuedToken>, now: &Now) -> bool {
        let rejected = self.rejected.as_ref();
        !self.force_refresh
            && rejected.is_none_or(|rejected| !rejected.is_same_token(issued))
            && self.lasts(issued, now)
    }

    /// Whether enough is left of it; or it is young, and the next would soon be as short. One that
    /// never had enough is young for half of its life, and else for a tenth.
    fn lasts(&self, issued: &IssuedToken, now: &Now) -> bool {
        let left = issued.lifetime.remaining(now);
        let whole = issued.lifetime.whole();
        let young = match whole < self.min_remaining {
            true => whole / 2,
            false => whole - whole / 10,
        };
        left >= self.min_remaining || left > young
    }
}
