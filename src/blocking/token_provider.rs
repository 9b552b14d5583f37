use std::fmt;

use http::HeaderMap;

use super::thread::ClientThread;
use crate::client::AuthorizeRequest;
use crate::error::Error;
use crate::token::AccessToken;

/// A blocking [`TokenProvider`](crate::TokenProvider): a source of tokens for one request.
///
/// `token_provider` of a blocking client returns one, and `From<crate::TokenProvider>` creates one.
/// A provider is cheap to clone, keeps the client and the hidden thread alive, and protects the
/// cache entry from eviction.
#[doc(alias = "TokenCredential")]
#[derive(Clone)]
pub struct TokenProvider {
    provider: crate::TokenProvider,
    thread: ClientThread,
}

/// Uses the client of the async provider.
impl From<crate::TokenProvider> for TokenProvider {
    fn from(provider: crate::TokenProvider) -> Self {
        Self::new(provider, ClientThread::default())
    }
}

impl TokenProvider {
    pub(super) fn new(provider: crate::TokenProvider, thread: ClientThread) -> Self {
        Self { provider, thread }
    }

    /// Returns the async provider, which the adapters and
    /// [`client_assertion`](crate::ConfidentialClientBuilder::client_assertion) accept.
    pub fn as_async(&self) -> &crate::TokenProvider {
        &self.provider
    }

    /// Acquires the token, like [`token`](crate::TokenProvider::token).
    ///
    /// A cached token is returned without the hidden thread.
    ///
    /// # Errors
    ///
    /// The errors of the async method, and the [errors of a blocking call](super#errors).
    #[doc(alias = "get_token")]
    #[inline]
    pub fn token(&self) -> Result<AccessToken, Error> {
        match self.provider.fresh() {
            Some(token) => Ok(token),
            None => self.token_without_fresh(),
        }
    }

    #[cold]
    fn token_without_fresh(&self) -> Result<AccessToken, Error> {
        let runtime = || self.thread.for_refresh();
        if let Some(token) = self.provider.cached_or_refreshed(runtime) {
            return token;
        }
        let provider = self.provider.clone();
        let instead = "provider.as_async().token()";
        self.thread
            .wait(instead, async move { provider.token().await })
    }

    /// Returns the cached token, unless it has expired, like
    /// [`cached`](crate::TokenProvider::cached). Does no I/O, and starts no refresh.
    pub fn cached(&self) -> Option<AccessToken> {
        self.provider.cached()
    }

    /// Acquires the token, and sets the `Authorization` header of an outgoing request, like
    /// [`authorize`](crate::TokenProvider::authorize).
    ///
    /// Accepts an `http::Request`, the `http::request::Parts` of one, or for a token of the scheme
    /// `Bearer` the headers alone. [ureq](https://docs.rs/ureq) sends an `http::Request`.
    ///
    /// # Errors
    ///
    /// The errors of the async method, and the [errors of a blocking call](super#errors). The
    /// request is then unchanged.
    pub fn authorize<R: AuthorizeRequest>(&self, request: &mut R) -> Result<(), Error> {
        let token = self.token()?;
        let instead = "provider.as_async().authorize(..)";
        self.thread
            .authorize(instead, self.provider.acquirer(), &token, request)
    }

    /// Stores the nonce of an API's response, like
    /// [`record_nonce`](crate::TokenProvider::record_nonce).
    ///
    /// Does no I/O. Returns `true` if the request may succeed with another proof.
    pub fn record_nonce(&self, uri: impl AsRef<str>, response_headers: &HeaderMap) -> bool {
        self.provider.record_nonce(uri, response_headers)
    }
}

impl fmt::Debug for TokenProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.provider.fmt(f)
    }
}
