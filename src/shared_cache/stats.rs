use crate::counter::{Counter, RequestCounters};

/// Counters of a client's use of the shared cache.
#[derive(Default)]
pub(crate) struct SharedCounters {
    /// Tokens that the store had.
    pub(crate) tokens: Counter,
    /// Acquisitions that failed without a token request of this process.
    pub(crate) errors: Counter,
    /// Failed calls of the store, after the repetition.
    pub(crate) failures: Counter,
    /// Acquisitions that waited for another process.
    pub(crate) waits: Counter,
    /// Token requests of this process. The cache in memory cannot count them, because a flight of
    /// a client with a shared cache may end without one.
    pub(crate) requests: RequestCounters,
}
