use std::time::Duration;

use crate::cache::cool_down_length;
use crate::error::Error;
use crate::time::{Deadline, Now};

/// The pause of an introspection endpoint that fails, so that no token is sent in vain.
///
/// A request that was throttled, and a rejected client, begin a pause at once. A failure of the
/// host may have to do with one token, so three failures in a row begin a pause. After the pause,
/// one request at a time tries the endpoint. Any response about a token ends the pause.
#[derive(Default)]
pub(super) struct Pause {
    /// The number of failures in a row.
    failures: u32,
    /// The last failure, and the time of the next request.
    next: Option<(Error, Deadline)>,
}

impl Pause {
    /// Lets a request pass, which ends within `limit`.
    ///
    /// # Errors
    ///
    /// The last failure, with the wait until the next request.
    pub(super) fn try_pass(&mut self, now: &Now, limit: Duration) -> Result<(), Error> {
        match &mut self.next {
            None => Ok(()),
            Some((error, next)) if !next.reached(now) => {
                Err(error.with_retry_after(next.remaining(now)))
            }
            Some((_, next)) => {
                // The others wait for the outcome of this request.
                *next = now.plus(limit);
                Ok(())
            }
        }
    }

    pub(super) fn succeed(&mut self) {
        *self = Self::default();
    }

    /// Counts a failure. `jitter` is from 0 to 1.
    pub(super) fn fail(&mut self, error: &Error, now: &Now, jitter: f64) {
        if is_about_the_token(error) {
            self.succeed();
            return;
        }
        let needed = match error {
            Error::Throttled(_) | Error::Credential(_) | Error::Config(_) => 1,
            _ if error.is_credential_rejected() => 1,
            _ => FAILURES,
        };
        self.failures = self.failures.saturating_add(1);
        if self.failures >= needed || self.next.is_some() {
            let in_a_row = self.failures.saturating_sub(needed).saturating_add(1);
            let length = cool_down_length(error, in_a_row, jitter);
            self.next = Some((error.clone(), now.plus(length)));
        }
    }
}

/// Returns whether another token may fare better. The endpoint responded, and authenticated the
/// client.
pub(super) fn is_about_the_token(error: &Error) -> bool {
    let status = error.status();
    !error.is_credential_rejected()
        && !error.is_transient()
        && status.is_some_and(|status| status.is_client_error())
        && !status.is_some_and(|status| [401, 403, 404, 405, 410].contains(&status.as_u16()))
}

/// The failures in a row that begin a pause.
const FAILURES: u32 = 3;
