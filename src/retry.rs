use std::time::Duration;

use http::StatusCode;

use crate::error::Error;

mod budget;

pub(crate) use budget::RetryBudget;

/// Limits for the attempts of a token request.
///
/// The client retries a token request if no response arrives (a connection failure or a timeout),
/// and after status 408, 5xx, and 429 with a `Retry-After` of at most
/// [`max_delay`](Self::max_delay). The client does not retry any other 4xx, or a failure before the
/// request is sent.
///
/// An authorization code and a refresh token are the exception, because a strict provider treats a
/// second use as theft. A request with one of the two is retried only if no connection was opened.
/// See
/// [`refresh_token_rotation`](crate::ConfidentialClientBuilder::refresh_token_rotation).
///
/// Before each retry the client waits for a random time between zero and a bound. The bound
/// doubles from [`base_delay`](Self::base_delay) up to `max_delay`. After a `Retry-After` the
/// client waits for at least that time. If the `Retry-After` is longer than `max_delay`, the client
/// does not retry.
///
/// The client authenticates again for each attempt. If the identity provider rejects the credential
/// and the credential's source has another credential, the attempts with the new credential are
/// counted from zero.
///
/// A retry budget limits the retries of a client during an outage. The budget starts with 20
/// retries and never exceeds 20. Each successful request and each ten seconds add one retry.
///
/// ```
/// # use bytes::Bytes;
/// # use http::{Request, Response};
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU32, Ordering};
/// use std::time::Duration;
///
/// use confidential_client::{ConfidentialClient, RetryPolicy};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let attempts = Arc::new(AtomicU32::new(0));
/// let client = ConfidentialClient::builder("11111111-2222-3333-4444-555555555555")
///     .tenant("contoso.onmicrosoft.com")
///     .client_secret("the secret's value")
///     .retry(RetryPolicy::default().max_attempts(2).base_delay(Duration::from_millis(10)))
/// #   .transport({
/// #       let attempts = Arc::clone(&attempts);
/// #       move |_: Request<Bytes>| {
/// #           attempts.fetch_add(1, Ordering::Relaxed);
/// #           async { Ok(Response::builder().status(503).body(Bytes::new())?) }
/// #       }
/// #   })
///     .build()?;
///
/// // The identity provider responds 503 to every request.
/// let result = client.acquire_token_for_client("https://graph.microsoft.com/.default").await;
/// assert!(result.unwrap_err().is_transient());
/// assert_eq!(attempts.load(Ordering::Relaxed), 2);
/// # Ok(())
/// # }
/// ```
#[doc(alias = "RetryOptions")]
#[doc(alias = "ExponentialRetryOptions")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    max_attempts: u32,
    base_delay: Duration,
    max_delay: Duration,
    deadline: Duration,
}

impl RetryPolicy {
    /// Creates a policy of one attempt, with the default deadline.
    pub fn none() -> Self {
        Self::default().max_attempts(1)
    }

    /// Sets the maximum number of attempts, including the first attempt. The default is 3.
    #[must_use]
    pub fn max_attempts(mut self, max_attempts: u32) -> Self {
        self.max_attempts = max_attempts;
        self
    }

    /// Sets the longest wait before the first retry. The default is 500 milliseconds.
    ///
    /// The longest wait doubles before each further retry.
    #[must_use]
    pub fn base_delay(mut self, base_delay: Duration) -> Self {
        self.base_delay = base_delay;
        self
    }

    /// Sets the longest wait between two attempts. The default is 5 seconds.
    #[must_use]
    pub fn max_delay(mut self, max_delay: Duration) -> Self {
        self.max_delay = max_delay;
        self
    }

    /// Sets the time limit of a whole token request. The default is 30 seconds.
    ///
    /// The maximum is ten minutes. The limit includes discovery, all attempts, and the waits
    /// between attempts. Discovery, a credential source, a signer and an assertion provider each
    /// have a third of the limit, and at most ten seconds.
    ///
    /// A call waits for one token request. A call waits for a second token request only if the
    /// first request was lost with its tokio runtime or had other
    /// [claims](crate::TokenRequest::claims). A call of an
    /// [`AgentIdentity`](crate::AgentIdentity#steps) waits for up to three token requests, one for
    /// each step, and each has this limit.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Returns the time limit of a whole token request, including retries.
    pub(crate) fn total_timeout(&self) -> Duration {
        self.deadline
    }

    /// Validates the limits.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.max_attempts == 0 {
            return Err(Error::config(
                "max_attempts must be at least 1; use RetryPolicy::none() to disable retries",
            ));
        }
        if self.deadline.is_zero() || self.deadline > MAX_DEADLINE {
            return Err(Error::config(format!(
                "deadline must be greater than zero and at most ten minutes, but is {:?}",
                self.deadline
            )));
        }
        Ok(())
    }

    /// Returns the time limit of one step of a token request other than an attempt, such as
    /// discovery or signing.
    pub(crate) fn step_limit(&self) -> Duration {
        MAX_STEP_LIMIT.min(self.deadline / 3)
    }

    /// Returns the wait before the next attempt, or `None` if the request must not be retried.
    ///
    /// `attempt` is the number of attempts so far, `error` the result of the last attempt. `jitter`
    /// is from 0 to 1.
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
            Some(requested) if requested > longest => None,
            Some(requested) => Some(requested.saturating_add(wait).min(longest)),
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

/// Returns `true` if a retry within seconds can succeed.
fn is_retryable(error: &Error) -> bool {
    match error.status() {
        None => matches!(error, Error::Transport(_)) && error.is_transient(),
        Some(StatusCode::REQUEST_TIMEOUT) => true,
        Some(StatusCode::TOO_MANY_REQUESTS) => error.retry_after().is_some(),
        Some(status) => status.is_server_error(),
    }
}

const MAX_DEADLINE: Duration = Duration::from_secs(10 * 60);
const MAX_STEP_LIMIT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{ErrorResponse, Failure};

    fn failure_with_status(status: u16, retry_after: Option<u64>) -> Error {
        let status = StatusCode::from_u16(status).unwrap();
        let failure = Failure::new("no").status(status);
        let wait = retry_after.map(Duration::from_secs);
        Error::InvalidResponse(failure.retry_after(wait).into())
    }

    #[test]
    fn transient_failures_are_retried() {
        let silent = || Error::Transport(Failure::new("no response").into());
        let busy = {
            let mut response =
                ErrorResponse::new(StatusCode::BAD_REQUEST, "temporarily_unavailable".into());
            response.error_codes = vec![90033];
            Error::Server(response.into())
        };
        let short = Some(Duration::from_millis(2500));
        for (name, error, attempt, expected) in [
            ("no response", silent(), 1, Some(Duration::from_millis(250))),
            (
                "no response, twice",
                silent(),
                2,
                Some(Duration::from_millis(500)),
            ),
            ("no response, three times", silent(), 3, None),
            (
                "408",
                failure_with_status(408, None),
                1,
                Some(Duration::from_millis(250)),
            ),
            (
                "500",
                failure_with_status(500, None),
                1,
                Some(Duration::from_millis(250)),
            ),
            (
                "503, Retry-After equal to max_delay",
                failure_with_status(503, Some(5)),
                1,
                Some(Duration::from_secs(5)),
            ),
            (
                "503, short Retry-After",
                failure_with_status(503, Some(2)),
                1,
                Some(Duration::from_millis(2250)),
            ),
            (
                "503, long Retry-After",
                failure_with_status(503, Some(6)),
                1,
                None,
            ),
            ("429", failure_with_status(429, None), 1, None),
            (
                "429, short Retry-After",
                failure_with_status(429, Some(2)),
                2,
                short,
            ),
            (
                "429, long Retry-After",
                failure_with_status(429, Some(6)),
                1,
                None,
            ),
            ("400", failure_with_status(400, None), 1, None),
            (
                "400, short Retry-After",
                failure_with_status(400, Some(2)),
                1,
                None,
            ),
            ("400 with temporarily_unavailable", busy, 1, None),
            (
                "a 2xx response that cannot be parsed",
                failure_with_status(200, None),
                1,
                None,
            ),
            ("a redirect", failure_with_status(302, None), 1, None),
            ("an error before the request", Error::config("no"), 1, None),
            ("a credential", Error::credential("no"), 1, None),
        ] {
            let delay = RetryPolicy::default().delay(attempt, &error, 0.5);
            assert_eq!(delay, expected, "{name}");
        }
    }

    #[test]
    fn the_bound_doubles_up_to_max_delay() {
        let policy = RetryPolicy::default().max_attempts(u32::MAX);
        let error = Error::Transport(Failure::new("no response").into());
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
