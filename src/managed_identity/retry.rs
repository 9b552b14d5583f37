//! When a token request to a host's endpoint is sent again.

use std::time::Duration;

use http::StatusCode;

use super::source::SourceKind;
use crate::error::Error;

/// The retries of one source. The rules of the identity provider's token endpoint differ.
#[derive(Clone, Copy, Debug)]
pub(super) enum RetrySchedule {
    /// IMDS: 404, 408, 410, 429, 5xx, and no response.
    ///
    /// The bounds of the waits are 2, 4, 8 and 16 seconds, so their sum is the 30 seconds of
    /// Microsoft's documentation. 410 means an update of up to 70 seconds, so 410 is retried every
    /// ten seconds until the deadline.
    Imds,
    /// Any other source: 404, 408, 429, 500, 503, 504 and no response, three times within two
    /// seconds each.
    Other,
}

impl RetrySchedule {
    pub(super) fn of(source: SourceKind) -> Self {
        match source {
            SourceKind::Imds => Self::Imds,
            SourceKind::ServiceFabric
            | SourceKind::AppService
            | SourceKind::AzureMl
            | SourceKind::CloudShell
            | SourceKind::AzureArc => Self::Other,
        }
    }

    /// Returns the default time limit of a token request with all retries.
    pub(super) fn deadline(self) -> Duration {
        match self {
            // 70 seconds of an update of IMDS, and the last attempt.
            Self::Imds => Duration::from_secs(75),
            Self::Other => Duration::from_secs(30),
        }
    }

    /// Returns the wait before the next attempt, or `None` if the request must not be retried.
    ///
    /// `attempt` is the number of attempts so far, `error` the result of the last attempt and
    /// `left` the time until the deadline. `jitter` is from 0 to 1. The wait is a random share of
    /// a bound. A `Retry-After` is added to the wait.
    pub(super) fn delay(
        self,
        attempt: u32,
        error: &Error,
        left: Duration,
        jitter: f64,
    ) -> Option<Duration> {
        let bound = self.bound(attempt, error)?;
        let wait = bound.mul_f64(jitter.clamp(0.0, 1.0));
        let usable = left.checked_sub(LAST_ATTEMPT)?;
        // Otherwise an update of IMDS would be retried without a wait at the end.
        if usable.is_zero() {
            return None;
        }
        match error.retry_after() {
            Some(requested) if requested > usable => None,
            Some(requested) => Some(requested.saturating_add(wait).min(usable)),
            // The last attempt of an update is as late as possible.
            None if error.status() == Some(StatusCode::GONE) => Some(wait.min(usable)),
            None => (wait <= usable).then_some(wait),
        }
    }

    /// Returns the longest wait before the next attempt.
    fn bound(self, attempt: u32, error: &Error) -> Option<Duration> {
        let within = |retries: u32, seconds: u64| {
            (attempt <= retries).then_some(Duration::from_secs(seconds))
        };
        let doubling = 2_u64.saturating_pow(attempt.min(6));
        let status = error.status().map(|status| status.as_u16());
        match (self, status) {
            (_, None) if !matches!(error, Error::Transport(_)) || !error.is_transient() => None,
            (Self::Imds, None) => within(RETRIES, doubling),
            (Self::Imds, Some(410)) => Some(Duration::from_secs(10)),
            (Self::Imds, Some(404 | 408 | 429 | 500..=599)) => within(RETRIES_OF_IMDS, doubling),
            (Self::Other, None | Some(404 | 408 | 429 | 500 | 503 | 504)) => within(RETRIES, 2),
            (_, Some(_)) => None,
        }
    }
}

const RETRIES: u32 = 3;
const RETRIES_OF_IMDS: u32 = 4;
/// The time that is kept for the last attempt.
const LAST_ATTEMPT: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{ErrorResponse, Failure};

    const LEFT: Duration = Duration::from_secs(75);

    fn status(status: u16, retry_after: Option<u64>) -> Error {
        let failure = Failure::new("no").status(StatusCode::from_u16(status).unwrap());
        let wait = retry_after.map(Duration::from_secs);
        Error::InvalidResponse(failure.retry_after(wait).into())
    }

    fn bounds(schedule: RetrySchedule, error: &Error) -> Vec<u64> {
        let attempts = 1..=9;
        attempts
            .map_while(|attempt| {
                let least = schedule.delay(attempt, error, LEFT, 0.0)?;
                assert_eq!(least, Duration::ZERO);
                Some(schedule.delay(attempt, error, LEFT, 1.0)?.as_secs())
            })
            .collect()
    }

    #[test]
    fn each_status_has_its_retries() {
        let silent = Error::Transport(Failure::new("no").into());
        let other = [2, 2, 2];
        let imds = [2, 4, 8, 16];
        let update = [10; 9];
        for (code, at_imds, elsewhere) in [
            (404, &imds[..], &other[..]),
            (408, &imds, &other),
            (410, &update, &[]),
            (429, &imds, &other),
            (500, &imds, &other),
            (501, &imds, &[]),
            (502, &imds, &[]),
            (503, &imds, &other),
            (504, &imds, &other),
            (599, &imds, &[]),
            (200, &[], &[]),
            (302, &[], &[]),
            (400, &[], &[]),
            (401, &[], &[]),
            (403, &[], &[]),
            (405, &[], &[]),
            (409, &[], &[]),
        ] {
            let error = status(code, None);
            assert_eq!(bounds(RetrySchedule::Imds, &error), at_imds, "{code}");
            assert_eq!(bounds(RetrySchedule::Other, &error), elsewhere, "{code}");
        }
        assert_eq!(bounds(RetrySchedule::Imds, &silent), [2, 4, 8]);
        assert_eq!(bounds(RetrySchedule::Other, &silent), other);
        let untrusted = Error::Transport(Failure::new("no").permanent().into());
        let key_file = Error::credential("no");
        for error in [untrusted, key_file, Error::config("no")] {
            assert!(bounds(RetrySchedule::Imds, &error).is_empty(), "{error:?}");
            assert!(bounds(RetrySchedule::Other, &error).is_empty(), "{error:?}");
        }
        let server = ErrorResponse::new(StatusCode::NOT_FOUND, "not_found".to_owned());
        assert_eq!(
            bounds(RetrySchedule::Imds, &Error::Server(server.into())),
            imds
        );
    }

    #[test]
    fn no_wait_reaches_into_the_time_of_the_last_attempt() {
        let secs = Duration::from_secs;
        for (name, error, left, jitter, expected) in [
            ("a wait as drawn", status(503, None), 75, 0.5, Some(1)),
            ("no time", status(503, None), 2, 0.0, None),
            ("no time for the wait", status(503, None), 4, 1.0, None),
            ("just enough", status(503, None), 5, 1.0, Some(2)),
            ("an update, at the end", status(410, None), 8, 1.0, Some(5)),
            ("an update, too late", status(410, None), 3, 1.0, None),
            ("Retry-After", status(429, Some(5)), 75, 0.5, Some(6)),
            (
                "Retry-After at the end",
                status(429, Some(5)),
                8,
                1.0,
                Some(5),
            ),
            ("Retry-After beyond", status(429, Some(6)), 8, 1.0, None),
            (
                "Retry-After of an update",
                status(410, Some(20)),
                75,
                0.0,
                Some(20),
            ),
        ] {
            let delay = RetrySchedule::Imds.delay(1, &error, secs(left), jitter);
            assert_eq!(delay, expected.map(secs), "{name}");
        }
    }

    #[test]
    fn an_update_of_imds_is_outlasted_by_the_default_deadline() {
        let deadline = RetrySchedule::Imds.deadline();
        for jitter in [0.01, 0.5, 1.0] {
            let mut time = Duration::ZERO;
            let mut attempt = 1;
            while let Some(delay) =
                RetrySchedule::Imds.delay(attempt, &status(410, None), deadline - time, jitter)
            {
                time += delay;
                attempt += 1;
            }
            assert!(time >= Duration::from_secs(70), "{jitter}: {time:?}");
        }
        assert_eq!(RetrySchedule::Other.deadline(), Duration::from_secs(30));
    }
}
