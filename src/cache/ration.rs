use std::sync::Arc;
use std::time::Duration;

use crate::time::{Deadline, Now};

/// The renewals that an API's rejections have caused of late. An API that rejects every token must
/// not become a storm at the identity provider.
///
/// In 30 seconds there is one for the same claims (or for none) and two altogether, since two
/// challenges may differ, and each needs its token.
#[derive(Default)]
pub(super) struct Ration(Option<Box<[Option<Renewal>; AT_MOST]>>);

struct Renewal {
    claims: Option<Arc<str>>,
    over: Deadline,
}

impl Ration {
    pub(super) fn allows(&self, claims: Option<&Arc<str>>, now: &Now) -> bool {
        let Some(spent) = &self.0 else { return true };
        let of_late = || spent.iter().flatten().filter(|it| !it.over.reached(now));
        of_late().count() < AT_MOST && of_late().all(|it| it.claims.as_ref() != claims)
    }

    pub(super) fn spend(&mut self, claims: Option<Arc<str>>, now: &Now) {
        let spent = self.0.get_or_insert_default();
        let over = |it: &Option<Renewal>| it.as_ref().is_none_or(|it| it.over.reached(now));
        if let Some(free) = spent.iter_mut().find(|it| over(it)) {
            *free = Some(Renewal {
                claims,
                over: now.plus(PERIOD),
            });
        }
    }
}

const PERIOD: Duration = Duration::from_secs(30);
const AT_MOST: usize = 2;
