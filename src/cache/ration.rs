use std::sync::Arc;
use std::time::Duration;

use crate::time::{Deadline, Now};

/// The renewals that an API's rejections have caused of late. An API that rejects every token must
/// not become a storm at the identity provider.
///
/// In 30 seconds there is one for the same claims (or for none) and two altogether, since two
/// challenges may differ, and each needs its token.
#[derive(Default)]
pub(super) struct Ration {
    spent: Vec<Renewal>,
}

struct Renewal {
    claims: Option<Arc<str>>,
    over: Deadline,
}

impl Ration {
    pub(super) fn allows(&mut self, claims: Option<&Arc<str>>, now: &Now) -> bool {
        self.spent.retain(|renewal| !renewal.over.reached(now));
        self.spent.len() < AT_MOST
            && !self
                .spent
                .iter()
                .any(|renewal| renewal.claims.as_ref() == claims)
    }

    pub(super) fn spend(&mut self, claims: Option<Arc<str>>, now: &Now) {
        let over = now.plus(PERIOD);
        self.spent.push(Renewal { claims, over });
    }
}

const PERIOD: Duration = Duration::from_secs(30);
const AT_MOST: usize = 2;
