use std::time::Duration;

use http::StatusCode;

use crate::error::Error;

mod budget;

pub(crate) use budget::RetryBudget;

/// How often a token request is repeated, and how long all attempts may take together.
///
/// Repeated is what a moment may cure: no connection, no answer or none in time, 408, 5xx, and 429
/// where its `Retry-After` is no longer than [`max_delay`](Self::max_delay). No other 4xx ever is, nor
/// what failed without the network. Before each repeat the client waits for a random time between
/// nothing and a bound, which doubles from [`base_delay`](Self::base_delay) to `max_delay`; where
/// the provider sent a `Retry-After`, for that time at least, and if that is longer than
/// `max_delay`, there is no repeat. Each attempt proves the client's identity anew. Where the
/// credential was refused and its source has another, the attempts with that are counted anew.
///
/// While many requests fail, few are repeated: a client makes 20 repeats, and one more for each
/// request that succeeds and for each ten seconds.
///
/// ```
/// use std::time::Duration;
///
/// use confidential_client::RetryPolicy;
///
/// let policy = RetryPolicy::default();
/// assert_eq!(policy.max_attempts(), 3);
/// assert_eq!(policy.base_delay(), Duration::from_millis(500));
/// assert_eq!(policy.max_delay(), Duration::from_secs(5));
/// assert_eq!(policy.deadline(), Duration::from_secs(30));
///
/// // Under a supervisor that starts the job again, one attempt may do.
/// assert_eq!(RetryPolicy::none().max_attempts(), 1);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    max_attempts: u32,
    base_delay: Duration,
    max_delay: Duration,
    deadline: Duration,
}

impl RetryPolicy {
    /// Makes one attempt, under the same deadline.
    pub fn none() -> Self {
        Self::default().max_attempts(1)
    }

    /// Makes at most this many attempts, the first included; 3 unless set.
    #[must_use]
    pub fn max_attempts(mut self, max_attempts: u32) -> Self {
        self.max_attempts = max_attempts;
        self
    }

    /// Waits for at most this long before the first repeat, and twice as long before each further
    /// one; half a second unless set.
    #[must_use]
    pub fn base_delay(mut self, base_delay: Duration) -> Self {
        self.base_delay = base_delay;
        self
    }

    /// Never waits longer than this between two attempts; 5 seconds unless set.
    #[must_use]
    pub fn max_delay(mut self, max_delay: Duration) -> Self {
        self.max_delay = max_delay;
        self
    }

    /// Ends a token request after this time, with its look-ups, all its attempts and the waits
    /// between them; 30 seconds unless set, and ten minutes at most.
    ///
    /// Of that, a look-up, a credential source, a signer and an assertion provider have a third each,
    /// and ten seconds at most. A call waits for one request, and for a second only where the first
    /// was lost with its tokio runtime or was for other [claims](crate::TokenRequest::claims).
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// The limit for a whole token request, retries included.
    pub(crate) fn total_timeout(&self) -> Duration {
        self.deadline
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.max_attempts == 0 {
            return Err(Error::config(
                "a token request of no attempts is never made; allow at least one",
            ));
        }
        if self.deadline.is_zero() || self.deadline > LONGEST_DEADLINE {
            return Err(Error::config(format!(
                "a token request cannot have a deadline of {:?}; it is more than nothing and at most ten minutes",
                self.deadline
            )));
        }
        Ok(())
    }

    /// What one step of a token request may take that is not an attempt's own.
    pub(crate) fn step_limit(&self) -> Duration {
        LONGEST_STEP.min(self.deadline / 3)
    }

    /// How long to wait before another attempt, after `attempt` of them of which the last brought
    /// `error`; `None` if there is to be none. `jitter` is from 0 to 1.
    pub(crate) fn delay(&self, attempt: u32, error: &Error, jitter: f64) -> Option<Duration> {
        if attempt >= self.max_attempts || !is_retryable(error) {
            return None;
        }
        let doublings = attempt.saturating_sub(1);
        let factor = 2_u32.saturating_pow(doublings);
        let longest = self.max_delay.min(self.deadline);
        let bound = self.base_delay.saturating_mul(factor).min(longest);
        let wait = bound.mul_f64(jitter.clamp(0.0, 1.0));
        match error.retry_after() {
            Some(asked) if asked > longest => None,
            Some(asked) => Some(asked.saturating_add(wait).min(longest)),
            None => Some(wait),
        }
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: 3,
            base_delay: Duration::from_millis(500),
            max_delay: Duration::from_secs(5),
            deadline: Duration::from_secs(30),
        }
    }
}

/// Whether it may have passed in a moment.
fn is_retryable(error: &Error) -> bool {
    match error.status() {
        None => matches!(error, Error::Transport(_)),
        Some(StatusCode::REQUEST_TIMEOUT) => true,
        Some(StatusCode::TOO_MANY_REQUESTS) => error.retry_after().is_some(),
        Some(status) => status.is_server_error(),
    }
}

const LONGEST_DEADLINE: Duration = Duration::from_secs(10 * 60);
const LONGEST_STEP: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{ErrorResponse, Failure};

    fn answered(status: u16, retry_after: Option<u64>) -> Error {
        let status = StatusCode::from_u16(status).unwrap();
        let failure = Failure::new("no").status(status);
        let wait = retry_after.map(Duration::from_secs);
        Error::InvalidResponse(failure.retry_after(wait).into())
    }

    #[test]
    fn what_a_moment_may_cure_is_tried_again() {
        let silent = || Error::Transport(Failure::new("no answer").into());
        let busy = {
            let mut answer =
                ErrorResponse::new(StatusCode::BAD_REQUEST, "temporarily_unavailable".into());
            answer.error_codes = vec![90033];
            Error::Server(answer.into())
        };
        let short = Some(Duration::from_millis(2500));
        for (name, error, attempt, expected) in [
            ("no answer", silent(), 1, Some(Duration::from_millis(250))),
            (
                "no answer, twice",
                silent(),
                2,
                Some(Duration::from_millis(500)),
            ),
            ("no answer, three times", silent(), 3, None),
            (
                "408",
                answered(408, None),
                1,
                Some(Duration::from_millis(250)),
            ),
            (
                "500",
                answered(500, None),
                1,
                Some(Duration::from_millis(250)),
            ),
            (
                "503, told to wait as long as it goes",
                answered(503, Some(5)),
                1,
                Some(Duration::from_secs(5)),
            ),
            (
                "503, told to wait for a moment",
                answered(503, Some(2)),
                1,
                Some(Duration::from_millis(2250)),
            ),
            ("503, told to wait", answered(503, Some(6)), 1, None),
            ("429", answered(429, None), 1, None),
            (
                "429, told to wait for a moment",
                answered(429, Some(2)),
                2,
                short,
            ),
            ("429, told to wait", answered(429, Some(6)), 1, None),
            ("400", answered(400, None), 1, None),
            (
                "400, told to wait for a moment",
                answered(400, Some(2)),
                1,
                None,
            ),
            ("400 that says it is for a moment", busy, 1, None),
            ("a success that is none", answered(200, None), 1, None),
            ("a redirect", answered(302, None), 1, None),
            ("found before the network", Error::config("no"), 1, None),
            ("a credential", Error::credential("no"), 1, None),
        ] {
            let delay = RetryPolicy::default().delay(attempt, &error, 0.5);
            assert_eq!(delay, expected, "{name}");
        }
    }

    #[test]
    fn the_bound_doubles_up_to_the_longest() {
        let policy = RetryPolicy::default().max_attempts(u32::MAX);
        let error = Error::Transport(Failure::new("no answer").into());
        let bounds = [1, 2, 4, 5, 99, u32::MAX - 1].map(|attempt| {
            let delay = policy.delay(attempt, &error, 1.0).unwrap();
            assert_eq!(policy.delay(attempt, &error, 0.0), Some(Duration::ZERO));
            delay.as_millis()
        });
        assert_eq!(bounds, [500, 1000, 4000, 5000, 5000, 5000]);
        let longest = policy.base_delay(Duration::MAX);
        assert_eq!(longest.delay(9, &error, 1.0), Some(Duration::from_secs(5)));
        let endless = longest.max_delay(Duration::MAX);
        let deadline = Some(Duration::from_secs(30));
        assert_eq!(endless.delay(9, &error, 1.0), deadline);
    }
}
