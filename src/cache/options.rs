use crate::error::Error;

/// How a client keeps its tokens: see
/// [`ConfidentialClientBuilder::cache`](crate::ConfidentialClientBuilder::cache).
///
/// ```
/// use confidential_client::CacheOptions;
///
/// // A service for a hundred thousand customers, who may all arrive at once.
/// let options = CacheOptions::default()
///     .max_entries(100_000)
///     .max_concurrent_requests(64);
/// # let _ = options;
/// ```
#[derive(Clone, Debug)]
pub struct CacheOptions {
    pub(super) max_entries: usize,
    pub(super) max_concurrent_requests: Option<usize>,
}

impl CacheOptions {
    /// Keeps at most this many tokens; 10,000 unless set, some 20 MB of Entra's. A token is one for
    /// a tenant and scope, and of users each has their own. As many users' refresh tokens are kept
    /// beside them; one who is pushed out signs in again.
    ///
    /// Whoever comes beyond them takes the place of a token that has ended, or else of one that has
    /// not been asked for lately; it is fetched anew when it is. The memory of a failure goes the same
    /// way, and with it how long to wait. What a [`TokenProvider`](crate::TokenProvider) is bound to
    /// is kept beside them.
    #[must_use]
    pub fn max_entries(mut self, max_entries: usize) -> Self {
        self.max_entries = max_entries;
        self
    }

    /// Makes at most this many token requests at once; any number unless set. One that is repeated
    /// keeps its place while it waits.
    ///
    /// Calls that find nothing in memory wait for their turn, however long that takes: the limit of
    /// 30 seconds (see [`RetryPolicy`](crate::RetryPolicy)) is each request's own, so bound a call with a timeout of yours if it must not
    /// wait. Calls for a token that is being fetched share it and do not wait for a turn; who waits
    /// already looks once a second whether it is. A token
    /// that is due is renewed at a later call where there is no room.
    #[must_use]
    pub fn max_concurrent_requests(mut self, requests: usize) -> Self {
        self.max_concurrent_requests = Some(requests);
        self
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.max_entries == 0 {
            return Err(Error::config("max_entries must be at least 1"));
        }
        if self.max_concurrent_requests == Some(0) {
            return Err(Error::config("max_concurrent_requests must be at least 1"));
        }
        Ok(())
    }
}

impl Default for CacheOptions {
    fn default() -> Self {
        Self {
            max_entries: 10_000,
            max_concurrent_requests: None,
        }
    }
}
