use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::time::Clock;

/// A clock that moves when a test says so; its clones move together.
///
/// It starts at the present. Use it over an in-memory [`Transport`](crate::transport::Transport): a
/// [`LocalAuthority`](super::LocalAuthority) has the machine's own time. It does not move tokio's
/// timers. A renewal runs in a task of its own, which a test has to let run:
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
///     .client_secret("s3cret")
///     .clock(clock.clone())
///     .transport(|_: http::Request<Bytes>| async {
///         let body = r#"{"token_type":"Bearer","expires_in":3599,"access_token":"abc"}"#;
///         Ok(http::Response::new(Bytes::from(body)))
///     })
///     .build()?;
/// let first = client.acquire_token_for_client("api://a/.default").await?;
///
/// clock.advance(Duration::from_secs(3400)); // due, and good for three minutes more
/// client.acquire_token_for_client("api://a/.default").await?; // the first, and renews it
/// let renewed = loop {
///     let token = client.acquire_token_for_client("api://a/.default").await?;
///     if token.expires_on() > first.expires_on() {
///         break token;
///     }
///     tokio::task::yield_now().await;
/// };
/// assert_eq!(renewed.expires_on(), first.expires_on() + Duration::from_secs(3400));
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
    /// A clock that shows the present and stands still.
    #[expect(clippy::new_without_default, reason = "the present is no default")]
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(ClockReadings {
            wall: SystemTime::now(),
            monotonic: Instant::now(),
        })))
    }

    /// Time passes, by both clocks.
    pub fn advance(&self, by: Duration) {
        self.advance_wall(by);
        self.lock().monotonic += by;
    }

    /// The wall clock alone goes on: the machine was suspended, or an operator set it.
    pub fn advance_wall(&self, by: Duration) {
        self.lock().wall += by;
    }

    /// The wall clock alone is set back.
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
