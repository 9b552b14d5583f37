use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use arc_swap::ArcSwap;

use crate::request::TokenRequest;

/// The requests of one client by the text of their scope, each parsed once.
///
/// Reading takes no lock, so that threads do not wait for each other. An insertion copies the map.
/// The map is bounded, since a text may come from a caller of the program. Its hash is std's, which
/// is keyed at random against chosen texts.
#[derive(Default)]
pub(super) struct RequestsByText {
    requests: ArcSwap<HashMap<Box<str>, TokenRequest>>,
    /// The number of insertions that found the map full.
    declined: Mutex<usize>,
}

impl RequestsByText {
    /// Calls `use_request` with the request of a text.
    #[inline]
    pub(super) fn find<R>(
        &self,
        text: &str,
        use_request: impl FnOnce(&TokenRequest) -> R,
    ) -> Option<R> {
        self.requests.load().get(text).map(use_request)
    }

    pub(super) fn is_full(&self) -> bool {
        self.requests.load().len() >= MAX_REQUESTS
    }

    /// Keeps the request of a text.
    ///
    /// If the map is full, requests that are not `in_use` make room now and then, since the search
    /// and the copy of the map take microseconds.
    pub(super) fn insert(
        &self,
        text: &str,
        request: &TokenRequest,
        in_use: impl Fn(&TokenRequest) -> bool,
    ) {
        if text.len() > MAX_LENGTH {
            return;
        }
        let mut declined = self.declined.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.requests.load();
        if known.contains_key(text) {
            return;
        }
        let is_full = known.len() >= MAX_REQUESTS;
        if is_full {
            *declined += 1;
            if !declined.is_multiple_of(CLEAN_UP_AFTER) {
                return;
            }
        }
        let mut requests = HashMap::clone(&known);
        if is_full {
            requests.retain(|_, request| in_use(request));
        }
        if requests.len() < MAX_REQUESTS {
            requests.insert(text.into(), request.clone());
            self.requests.store(requests.into());
        }
    }
}

const MAX_REQUESTS: usize = 256;
/// The number of insertions into a full map after which unused requests make room.
const CLEAN_UP_AFTER: usize = 256;
/// The longest text that is kept, in bytes. Longer texts are parsed at each call.
const MAX_LENGTH: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_requests_is_bounded_and_those_in_use_stay() {
        let requests = RequestsByText::default();
        let has = |text: &str| requests.find(text, |_| ()).is_some();
        let scope = |number: usize| format!("api://{number}/.default");
        for number in 0..MAX_REQUESTS {
            let text = scope(number);
            requests.insert(&text, &text.as_str().into(), |_| true);
        }
        assert!(has(&scope(0)) && has(&scope(MAX_REQUESTS - 1)));

        let late = scope(MAX_REQUESTS);
        let insert = |in_use: fn(&TokenRequest) -> bool| {
            for _ in 0..CLEAN_UP_AFTER {
                requests.insert(&late, &late.as_str().into(), in_use);
            }
        };
        insert(|_| true);
        assert!(!has(&late), "every other request is in use");
        insert(|request| &**request.requested_scopes().as_requested() == "api://7/.default");
        assert!(has(&late) && has(&scope(7)) && !has(&scope(8)));
    }

    #[test]
    fn a_long_text_is_not_kept() {
        let requests = RequestsByText::default();
        for (length, kept) in [(MAX_LENGTH, true), (MAX_LENGTH + 1, false)] {
            let text = "x".repeat(length);
            requests.insert(&text, &text.as_str().into(), |_| true);
            assert_eq!(requests.find(&text, |_| ()).is_some(), kept, "{length}");
        }
    }
}
