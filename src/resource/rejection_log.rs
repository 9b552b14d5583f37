use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::access_denied::UserNotAllowed;
use super::rejection::{RejectionReason, TokenRejection};
use crate::time::{Deadline, TimeSource};

/// The log of a validator's rejections, with one warning per reason and minute.
///
/// Anybody can send rejected tokens, so the number of warnings has a limit. The other rejections
/// are logged at DEBUG.
pub(super) struct RejectionLog {
    clock: TimeSource,
    warned: Mutex<HashMap<Reason, Warned>>,
}

/// The reason of a log event. The number of reasons bounds the memory of the log.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Reason {
    Token(RejectionReason),
    User(&'static str),
}

/// The state of a reason after a warning.
struct Warned {
    /// The time of the next warning.
    next: Deadline,
    /// The number of rejections since the last warning.
    suppressed: u64,
}

impl RejectionLog {
    pub(super) fn new(clock: TimeSource) -> Self {
        Self {
            clock,
            warned: Mutex::default(),
        }
    }

    /// Logs a rejected token, or a request without a token.
    pub(super) fn token(&self, rejection: &TokenRejection) {
        self.log(Reason::Token(rejection.reason()), || {
            rejection.chain().to_string()
        });
    }

    /// Logs a user without the required right.
    pub(super) fn user(&self, denial: &UserNotAllowed, detail: &str) {
        self.log(Reason::User(denial.rule()), || {
            format!("{denial}: {detail}")
        });
    }

    fn log(&self, reason: Reason, text: impl Fn() -> String) {
        match self.suppressed(reason) {
            Some(suppressed) => {
                tracing::warn!(%reason, suppressed, error = %text(), "a request was rejected");
            }
            None => tracing::debug!(%reason, error = %text(), "a request was rejected"),
        }
    }

    /// Returns the number of rejections since the last warning, if a warning is due.
    fn suppressed(&self, reason: Reason) -> Option<u64> {
        let now = self.clock.now();
        let next = now.plus(INTERVAL);
        // No code panics while it holds the lock.
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        match warned.entry(reason) {
            Entry::Vacant(entry) => {
                entry.insert(Warned {
                    next,
                    suppressed: 0,
                });
                Some(0)
            }
            Entry::Occupied(mut entry) => {
                let warned = entry.get_mut();
                if !warned.next.reached(&now) {
                    warned.suppressed = warned.suppressed.saturating_add(1);
                    return None;
                }
                warned.next = next;
                Some(std::mem::take(&mut warned.suppressed))
            }
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(reason) => write!(f, "{reason:?}"),
            Self::User(rule) => f.write_str(rule),
        }
    }
}

const INTERVAL: Duration = Duration::from_secs(60);
