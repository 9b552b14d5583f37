use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::time::Clock;

/// A clock that a test sets. All clones share one time.
///
/// The clock starts at the current time. Use it with an in-memory
/// [`Transport`](crate::transport::Transport), or set the same clock as the
/// [`clock`](super::LocalAuthorityBuilder::clock) of a [`LocalAuthority`](super::LocalAuthority).
/// The clock does not change tokio's timers.
///
/// A background refresh runs in a separate task. A test must let the task run:
///
/// ```
/// # use std::time::Duration;
/// # use bytes::Bytes;
/// # use confidential_client::ConfidentialClient;
/// # use confidential_client::testing::ManualClock;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let clock = ManualClock::new();
/// let client = ConfidentialClient::builder("11111111-2222-3333-4444-555555555555")
///     .tenant("contoso.onmicrosoft.com")
///     .client_secret("the secret's value")
///     .clock(clock.clone())
///     .transport(|_: http::Request<Bytes>| async {
///         let body = r#"{"token_type":"Bearer","expires_in":3599,"access_token":"abc"}"#;
///         Ok(http::Response::new(Bytes::from(body)))
///     })
///     .build()?;
/// let first = client.acquire_token_for_client("api://a/.default").await?;
///
/// clock.advance(Duration::from_secs(3400)); // due for a refresh, valid for three minutes more
/// client.acquire_token_for_client("api://a/.default").await?; // the first token, and a refresh starts
/// let refreshed = loop {
///     let token = client.acquire_token_for_client("api://a/.default").await?;
///     if token.expires_on() > first.expires_on() {
///         break token;
///     }
///     tokio::task::yield_now().await;
/// };
/// assert_eq!(refreshed.expires_on(), first.expires_on() + Duration::from_secs(3400));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<Mutex<ClockReadings>>);

#[derive(Debug)]
struct ClockReadings {
    wall: SystemTime,
    monotonic: Instant,
}

impl ManualClock {
    /// Creates a clock that is stopped at the current time.
    #[expect(
        clippy::new_without_default,
        reason = "the current time is not a default"
    )]
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(ClockReadings {
            wall: SystemTime::now(),
            monotonic: Instant::now(),
        })))
    }

    /// Moves both the wall clock and the monotonic clock forward.
    pub fn advance(&self, by: Duration) {
        self.advance_wall(by);
        self.lock().monotonic += by;
    }

    /// Moves only the wall clock forward, as after a suspend or a change of the system time.
    pub fn advance_wall(&self, by: Duration) {
        self.lock().wall += by;
    }

    /// Moves only the wall clock back.
    pub fn turn_wall_back(&self, by: Duration) {
        self.lock().wall -= by;
    }

    fn lock(&self) -> MutexGuard<'_, ClockReadings> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for ManualClock {
    fn wall(&self) -> SystemTime {
        self.lock().wall
    }

    fn monotonic(&self) -> Instant {
        self.lock().monotonic
    }
}
