use crate::error::Error;

/// The limits of a client's token cache, for
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
    pub(super) count_hits: bool,
}

impl CacheOptions {
    /// Sets the maximum number of cache entries. The default is 10,000, some 20 MB of Entra's
    /// tokens.
    ///
    /// There is one entry for each tenant, set of scopes and user. As many users' refresh tokens
    /// are kept in addition. A user whose refresh token is evicted signs in again.
    ///
    /// A new entry beyond the maximum evicts an expired one, or else one that was not used lately.
    /// An evicted token is requested again on demand. A remembered failure, with its time
    /// to wait, may be evicted as well. Entries of a [`TokenProvider`](crate::TokenProvider) are
    /// never evicted, and do not count.
    #[must_use]
    pub fn max_entries(mut self, max_entries: usize) -> Self {
        self.max_entries = max_entries;
        self
    }

    /// Sets the maximum number of concurrent token requests. There is no maximum by default.
    ///
    /// Calls without a cached token wait for a free place, however long that takes. The limit of 30
    /// seconds (see [`RetryPolicy`](crate::RetryPolicy)) applies to each token request and not to
    /// the wait: bound the call with a timeout if needed. A retried request keeps the place
    /// between two attempts.
    ///
    /// A call for a token that another call is requesting shares that request, and needs no place.
    /// A call that waits already looks for such a request once a second. A background refresh
    /// without a free place is left for a later call.
    #[must_use]
    pub fn max_concurrent_requests(mut self, requests: usize) -> Self {
        self.max_concurrent_requests = Some(requests);
        self
    }

    /// Sets whether [`CacheStats::hits`](crate::CacheStats::hits) counts cache hits. The default is
    /// `false`.
    ///
    /// Counting adds some 6 nanoseconds to a hit, and 2 KB to the client. An adapter for metrics
    /// turns counting on by itself.
    #[must_use]
    pub fn count_hits(mut self, count: bool) -> Self {
        self.count_hits = count;
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
            count_hits: false,
        }
    }
}
