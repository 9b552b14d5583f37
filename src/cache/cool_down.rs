use std::sync::Arc;
use std::time::Duration;

use crate::error::Error;
use crate::time::{Deadline, Now};

/// The last failure of a slot, which answers further requests until its cool-down ends.
#[derive(Default)]
pub(super) struct CoolDown(Option<Box<LastFailure>>);

struct LastFailure {
    error: Error,
    until: Deadline,
    /// The claims of a request that was rejected. Requests without these claims are not affected.
    rejected_claims: Option<Arc<str>>,
    /// Set when other claims were rejected shortly before. An API that sends new claims each time
    /// must not cause a storm of requests.
    is_for_all_claims: bool,
    /// The number of failures of this kind in a row.
    failures: u32,
    /// Set if a forced refresh may ignore the failure.
    yields_to_force: bool,
    /// The end of the period in which no further forced refresh ignores a failure.
    forced_until: Option<Deadline>,
}

impl CoolDown {
    /// Returns `true` if there was no failure.
    pub(super) fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// Returns `true` if a request with these claims may be sent.
    pub(super) fn is_over(&self, claims: Option<&Arc<str>>, now: &Now) -> bool {
        self.active(claims, now).is_none()
    }

    /// Returns the error for a request with these claims, with the remaining time to wait.
    ///
    /// A forced refresh ignores a failure that yields to force, once in 30 seconds. An
    /// administrator may have mended the cause, and a loop of forced refreshes stays harmless.
    pub(super) fn error(
        &self,
        claims: Option<&Arc<str>>,
        is_forced: bool,
        now: &Now,
    ) -> Option<Error> {
        let last = self.active(claims, now)?;
        if is_forced && last.yields_to_force && last.has_ration(now) {
            return None;
        }
        Some(last.error.with_retry_after(last.until.remaining(now)))
    }

    /// Counts a forced refresh that starts during the cool-down.
    pub(super) fn count_forced(&mut self, claims: Option<&Arc<str>>, now: &Now) {
        let ignores_a_failure = self.active(claims, now).is_some();
        if let (true, Some(last)) = (ignores_a_failure, &mut self.0) {
            last.forced_until = Some(now.plus(FORCE_PERIOD));
        }
    }

    fn active(&self, claims: Option<&Arc<str>>, now: &Now) -> Option<&LastFailure> {
        let last = self.0.as_deref()?;
        let applies = last.rejected_claims.is_none()
            || last.rejected_claims.as_ref() == claims
            || (last.is_for_all_claims && claims.is_some());
        (applies && !last.until.reached(now)).then_some(last)
    }

    /// Remembers the failure of a request with these claims. Returns the error with the length of
    /// the cool-down. `jitter` is from 0 to 1.
    pub(super) fn begin(
        &mut self,
        error: Error,
        claims: Option<Arc<str>>,
        now: &Now,
        jitter: f64,
    ) -> Error {
        // Each kind counts by itself: a rejection after an outage is the first rejection.
        let failures = match &self.0 {
            Some(last) if last.error.is_transient() == error.is_transient() => {
                last.failures.saturating_add(1)
            }
            _ => 1,
        };
        let length = length(&error, failures, jitter);
        let yields_to_force = yields_to_force(&error);
        let error = error.with_retry_after(length);
        let rejected_claims = claims.filter(|_| !error.is_transient());
        let recent = self.0.as_deref().filter(|last| !last.until.reached(now));
        let is_for_all_claims = recent.is_some_and(|last| last.rejected_claims.is_some());
        let forced_until = self.0.as_deref().and_then(|last| last.forced_until);
        self.0 = Some(Box::new(LastFailure {
            error: error.clone(),
            until: now.plus(length),
            rejected_claims,
            is_for_all_claims,
            failures,
            yields_to_force,
            forced_until,
        }));
        error
    }
}

impl LastFailure {
    fn has_ration(&self, now: &Now) -> bool {
        self.forced_until.is_none_or(|until| until.reached(now))
    }
}

/// Returns `true` if a forced refresh may ignore the failure: a rejection that sets no wait.
///
/// Somebody may have mended the cause of a rejection, such as a missing consent. Force mends no
/// outage, and `Retry-After` applies to every request.
pub(crate) fn yields_to_force(error: &Error) -> bool {
    !error.is_transient() && error.retry_after().is_none()
}

/// The time in which one forced refresh ignores a failure.
const FORCE_PERIOD: Duration = Duration::from_secs(30);

/// Returns the length of the cool-down.
///
/// A `Retry-After` is obeyed to the letter. Without one the length doubles: from one second to 30
/// for transient failures, from five to 60 for rejections.
pub(crate) fn length(error: &Error, failures: u32, jitter: f64) -> Duration {
    if let Some(retry_after) = error.retry_after() {
        return retry_after;
    }
    if error.is_transient() {
        transient(failures, jitter)
    } else {
        doubled(5, 60, failures)
    }
}

/// Returns the wait after transient failures, up to a quarter longer by jitter. A fleet that
/// failed together must not return together.
pub(super) fn transient(failures: u32, jitter: f64) -> Duration {
    doubled(1, 30, failures).mul_f64(1.0 + 0.25 * jitter.clamp(0.0, 1.0))
}

fn doubled(first: u64, longest: u64, failures: u32) -> Duration {
    let factor = 2_u64.saturating_pow(failures.saturating_sub(1));
    Duration::from_secs(first.saturating_mul(factor).min(longest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Failure;

    #[test]
    fn the_length_follows_from_the_failure() {
        let no_answer = || Error::Transport(Failure::new("no answer").into());
        let told_to_wait = || {
            let failure = Failure::new("wait").retry_after(Some(Duration::from_secs(7)));
            Error::Throttled(failure.into())
        };
        for (name, error, failures, jitter, seconds) in [
            ("transient", no_answer(), 1, 0.0, 1.0),
            ("transient, doubled", no_answer(), 4, 0.0, 8.0),
            ("transient, at its longest", no_answer(), 9, 0.0, 30.0),
            ("after years", no_answer(), u32::MAX, 0.0, 30.0),
            ("jitter adds up to a quarter", no_answer(), 4, 1.0, 10.0),
            ("rejected", Error::config("no"), 1, 0.0, 5.0),
            (
                "refused, doubled, without jitter",
                Error::config("no"),
                2,
                1.0,
                10.0,
            ),
            (
                "rejected, at its longest",
                Error::config("no"),
                9,
                0.0,
                60.0,
            ),
            ("Retry-After, to the letter", told_to_wait(), 9, 1.0, 7.0),
        ] {
            let length = length(&error, failures, jitter).as_secs_f64();
            assert_eq!(length, seconds, "{name}");
        }
    }
}
