use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout_at};

use super::SharedFetch;
use crate::client::fetch::Phase;
use crate::error::Error;
use crate::time::jitter;

/// The wait of one token request for another process.
pub(super) struct Poll<'a> {
    shared: &'a SharedFetch,
    first: Duration,
    longest: Duration,
    interval: Option<Duration>,
    began: Option<Instant>,
}

impl<'a> Poll<'a> {
    pub(super) fn new(shared: &'a SharedFetch) -> Self {
        let is_refresh = shared.fetch.is_refresh;
        Self {
            shared,
            first: if is_refresh {
                FIRST_REFRESH_POLL
            } else {
                FIRST_POLL
            },
            longest: if is_refresh {
                LONGEST_REFRESH_POLL
            } else {
                LONGEST_POLL
            },
            interval: None,
            began: None,
        }
    }

    /// Waits until the next look: 50 milliseconds at first, then twice as long up to half a second,
    /// each with a jitter. A background refresh, for which no caller waits, looks less often.
    pub(super) async fn wait(&mut self) -> Result<(), Error> {
        let interval = match self.interval {
            None => {
                self.shared.level.counters.waits.add(1);
                self.shared.fetch.enter(Phase::OtherProcess);
                self.first
            }
            Some(interval) => (2 * interval).min(self.longest),
        };
        self.interval = Some(interval);
        let wait = interval.mul_f64(0.5 + jitter());
        let clock = self.shared.clock();
        let began = *self.began.get_or_insert_with(|| clock.instant());
        let waited = timeout_at(self.shared.deadline, sleep(wait)).await;
        let lock_wait = clock.instant().saturating_duration_since(began);
        self.shared.fetch.progress().lock_wait = Some(lock_wait);
        match waited {
            Ok(()) => Ok(()),
            Err(_) => {
                let limit = self.shared.fetcher.retry.total_timeout();
                Err(self.shared.fetch.timeout_error(limit))
            }
        }
    }
}

const FIRST_POLL: Duration = Duration::from_millis(50);
const LONGEST_POLL: Duration = Duration::from_millis(500);
const FIRST_REFRESH_POLL: Duration = Duration::from_secs(1);
const LONGEST_REFRESH_POLL: Duration = Duration::from_secs(5);
