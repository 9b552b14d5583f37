use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use confidential_client::Error;

/// Counts of calls and outcomes.
#[derive(Default)]
pub struct Tally {
    pub calls: AtomicU64,
    pub hits: AtomicU64,
    pub hits_in_outages: AtomicU64,
    /// Tokens from the identity provider.
    pub fetched: AtomicU64,
    pub cancelled: AtomicU64,
    /// Microseconds.
    longest: AtomicU64,
    errors: [AtomicU64; Kind::ALL.len()],
}

/// Kinds of errors that the faults cause.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    NoAnswer,
    /// Errors returned without a request.
    HostDown,
    Server500,
    Server503,
    Throttled429,
    Throttled503,
    InvalidResponse,
}

impl Kind {
    pub const ALL: [Self; 7] = [
        Self::NoAnswer,
        Self::HostDown,
        Self::Server500,
        Self::Server503,
        Self::Throttled429,
        Self::Throttled503,
        Self::InvalidResponse,
    ];

    /// Returns the kind of an error, or `None` for an unexpected error.
    pub fn of(error: &Error) -> Option<Self> {
        let wait = error.retry_after()?;
        let status = error.status().map(|status| status.as_u16());
        let text = error.to_string();
        let (kind, is_transient, longest) = match (error, status) {
            (Error::Transport(_), None | Some(500 | 503))
                if text.contains("is treated as down") =>
            {
                (Self::HostDown, true, 38)
            }
            (Error::Transport(_), None) if text.starts_with("no response from the ") => {
                (Self::NoAnswer, true, 38)
            }
            (Error::Server(_), Some(500)) => (Self::Server500, true, 38),
            (Error::Server(_), Some(503)) => (Self::Server503, true, 38),
            (Error::Throttled(_), Some(429)) => (Self::Throttled429, true, 1),
            (Error::Throttled(_), Some(503)) => (Self::Throttled503, true, 1),
            (Error::InvalidResponse(_), Some(200)) => (Self::InvalidResponse, false, 60),
            _ => return None,
        };
        let is_so = error.is_transient() == is_transient && wait <= Duration::from_secs(longest);
        is_so.then_some(kind)
    }
}

impl Tally {
    pub fn took(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.longest.fetch_max(micros, Ordering::Relaxed);
    }

    pub fn got(&self, is_hit: bool, in_outage: bool) {
        let counter = if is_hit { &self.hits } else { &self.fetched };
        counter.fetch_add(1, Ordering::Relaxed);
        self.hits_in_outages
            .fetch_add(in_outage.into(), Ordering::Relaxed);
    }

    pub fn failed(&self, kind: Kind) {
        self.errors[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub fn longest(&self) -> Duration {
        Duration::from_micros(self.longest.load(Ordering::Relaxed))
    }

    pub fn errors(&self) -> impl Iterator<Item = (Kind, u64)> {
        let count = |kind: Kind| self.errors[kind as usize].load(Ordering::Relaxed);
        Kind::ALL.into_iter().map(move |kind| (kind, count(kind)))
    }
}
