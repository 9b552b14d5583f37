use std::sync::Arc;
use std::time::Duration;

use crate::time::{Deadline, Now};

/// What APIs' rejections of a key's tokens have led to: small where there was none.
#[derive(Default)]
pub(super) struct Rejections(Option<Box<Memory>>);

#[derive(Default)]
struct Memory {
    /// The renewals of late.
    renewals: [Option<Renewal>; AT_MOST],
    /// What the token at hand was asked for with.
    came_by: Option<Arc<str>>,
}

struct Renewal {
    claims: Option<Arc<str>>,
    over: Deadline,
}

impl Rejections {
    /// Whether there may be one more renewal. An API that rejects every token must not become a
    /// storm at the identity provider: in 30 seconds there is one for the same claims (or for none)
    /// and two altogether, since two challenges may differ, and each needs its token.
    pub(super) fn allow(&self, claims: Option<&Arc<str>>, now: &Now) -> bool {
        let Some(memory) = &self.0 else { return true };
        let of_late = || {
            let renewals = memory.renewals.iter().flatten();
            renewals.filter(|renewal| !renewal.over.reached(now))
        };
        of_late().count() < AT_MOST && of_late().all(|renewal| renewal.claims.as_ref() != claims)
    }

    /// There was one. One rejection that is told in two ways counts once.
    pub(super) fn renewed(&mut self, claims: Option<Arc<str>>, now: &Now) {
        let memory = self.0.get_or_insert_default();
        let over = |place: &Option<Renewal>| {
            let renewal = place.as_ref();
            renewal.is_none_or(|renewal| renewal.over.reached(now) || renewal.claims == claims)
        };
        if let Some(free) = memory.renewals.iter_mut().find(|place| over(place)) {
            *free = Some(Renewal {
                claims,
                over: now.plus(PERIOD),
            });
        }
    }

    /// The claims that the token at hand was asked for with.
    pub(super) fn came_by(&self) -> Option<&str> {
        self.0.as_ref().and_then(|memory| memory.came_by.as_deref())
    }

    pub(super) fn comes_by(&mut self, claims: Option<Arc<str>>) {
        if claims.is_some() || self.0.is_some() {
            self.0.get_or_insert_default().came_by = claims;
        }
    }
}

const PERIOD: Duration = Duration::from_secs(30);
const AT_MOST: usize = 2;
