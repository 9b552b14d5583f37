use std::fmt;

use super::TokenAcquirer;
use crate::cache::CacheStats;

/// The in-memory token cache of a client, from [`ConfidentialClient::cache`],
/// [`ManagedIdentityClient::cache`] or [`CredentialChainClient::cache`].
///
/// No method does I/O. The cache does not include users' refresh tokens.
/// [`ConfidentialClient::remove_account`] removes the refresh token of a user.
///
/// [`ConfidentialClient::cache`]: crate::ConfidentialClient::cache
/// [`ConfidentialClient::remove_account`]: crate::ConfidentialClient::remove_account
/// [`CredentialChainClient::cache`]: crate::CredentialChainClient::cache
/// [`ManagedIdentityClient::cache`]: crate::ManagedIdentityClient::cache
#[derive(Clone, Copy)]
pub struct TokenCache<'a>(&'a TokenAcquirer);

impl<'a> TokenCache<'a> {
    pub(super) fn new(acquirer: &'a TokenAcquirer) -> Self {
        Self(acquirer)
    }

    /// Returns the number of cache entries.
    ///
    /// There is one entry for each tenant, set of scopes and user. An entry may hold an expired
    /// token, a remembered failure, or no value while a [`TokenProvider`](crate::TokenProvider)
    /// uses the entry.
    pub fn len(&self) -> usize {
        self.0.tokens().len()
    }

    /// Returns `true` if the cache has no entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Removes every access token and every remembered failure, including a `Retry-After`.
    ///
    /// The next call for each entry sends a token request, and the authority's metadata is
    /// discovered again. Tokens already returned stay valid. A token request in flight continues,
    /// and its token is cached. Users stay signed in. A shared cache keeps its records, and the
    /// next call for each entry reads the record before it sends a token request.
    pub fn clear(&self) {
        self.0.clear();
    }

    /// Returns counters of the client's work since it was built.
    pub fn stats(&self) -> CacheStats {
        self.0.stats()
    }
}

impl fmt::Debug for TokenCache<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenCache")
            .field("len", &self.len())
            .field("stats", &self.stats())
            .finish()
    }
}
