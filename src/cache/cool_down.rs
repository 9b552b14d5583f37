use std::sync::Arc;
use std::time::Duration;

use crate::error::Error;
use crate::time::{Deadline, Now};

/// The memory of the last failure, and for how long it is everybody's answer. Small where there was
/// none.
#[derive(Default)]
pub(super) struct CoolDown(Option<Box<Last>>);

struct Last {
    error: Error,
    over: Deadline,
    /// What the request asked for, where it was refused: nobody else is to suffer for it.
    refused_claims: Option<Arc<str>>,
    /// Other claims had been refused a moment ago: an API that asks for new ones each time is not to
    /// cause a storm either.
    is_for_all_claims: bool,
    /// How many of the kind there were in a row.
    failures: u32,
}

impl CoolDown {
    /// Whether anybody may try again.
    pub(super) fn is_over(&self, claims: Option<&Arc<str>>, now: &Now) -> bool {
        self.holding(claims, now).is_none()
    }

    /// The last failure, as long as it answers for the next attempt with these claims.
    pub(super) fn answer(&self, claims: Option<&Arc<str>>, now: &Now) -> Option<Error> {
        let last = self.holding(claims, now)?;
        Some(last.error.with_retry_after(last.over.remaining(now)))
    }

    fn holding(&self, claims: Option<&Arc<str>>, now: &Now) -> Option<&Last> {
        let last = self.0.as_deref()?;
        let concerned = last.refused_claims.is_none()
            || last.refused_claims.as_ref() == claims
            || (last.is_for_all_claims && claims.is_some());
        (concerned && !last.over.reached(now)).then_some(last)
    }

    /// Remembers the failure of a request with these claims, and gives it back with for how long.
    /// `jitter` is from 0 to 1.
    pub(super) fn begin(
        &mut self,
        error: Error,
        claims: Option<Arc<str>>,
        now: &Now,
        jitter: f64,
    ) -> Error {
        // Failures of one kind add up: after an outage, a refusal is the first of its own.
        let failures = match &self.0 {
            Some(last) if last.error.is_transient() == error.is_transient() => {
                last.failures.saturating_add(1)
            }
            _ => 1,
        };
        let length = length(&error, failures, jitter);
        let error = error.with_retry_after(length);
        let refused_claims = claims.filter(|_| !error.is_transient());
        let of_late = self.0.as_deref().filter(|last| !last.over.reached(now));
        let is_for_all_claims = of_late.is_some_and(|last| last.refused_claims.is_some());
        self.0 = Some(Box::new(Last {
            error: error.clone(),
            over: now.plus(length),
            refused_claims,
            is_for_all_claims,
            failures,
        }));
        error
    }
}

/// How long a failure answers for further attempts. What the server asked for counts; without it,
/// attempts thin out: from one second to 30 for what time may cure, from five to 60 for a refusal.
fn length(error: &Error, failures: u32, jitter: f64) -> Duration {
    if let Some(asked) = error.retry_after() {
        return asked;
    }
    if error.is_transient() {
        transient(failures, jitter)
    } else {
        doubled(5, 60, failures)
    }
}

/// Up to a quarter more than doubling, so that a fleet that failed together does not return
/// together.
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
    fn it_has_the_length_that_its_cause_asks_for() {
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
            ("refused", Error::config("no"), 1, 0.0, 5.0),
            (
                "refused, doubled, without jitter",
                Error::config("no"),
                2,
                1.0,
                10.0,
            ),
            ("refused, at its longest", Error::config("no"), 9, 0.0, 60.0),
            ("Retry-After, to the letter", told_to_wait(), 9, 1.0, 7.0),
        ] {
            let length = length(&error, failures, jitter).as_secs_f64();
            assert_eq!(length, seconds, "{name}");
        }
    }
}
