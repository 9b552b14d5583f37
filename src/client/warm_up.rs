use std::fmt;
use std::pin::Pin;
use std::vec;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::ConfidentialClient;
use crate::error::Error;
use crate::request::TokenRequest;
use crate::token::AccessToken;

/// Acquires many tokens, a bounded number at a time, and reports each outcome.
///
/// [`ConfidentialClient::warm_up`] returns one. A `WarmUp` sends no request before the first call
/// of [`next`](Self::next), and starts none between two calls. Call `next` until it returns `None`
/// to acquire all tokens.
///
/// Dropping a `WarmUp` stops sending further requests. Requests in flight continue, and the cache
/// keeps the tokens.
#[must_use = "sends no request until `next` is called"]
pub struct WarmUp {
    client: ConfidentialClient,
    pending: vec::IntoIter<TokenRequest>,
    max_concurrent: usize,
    /// Polled by the caller of `next`. The token requests themselves are separate tasks, and
    /// need a runtime as any other call of the client does.
    in_flight: FuturesUnordered<Acquiring>,
}

type Acquiring = Pin<Box<dyn Future<Output = Acquired> + Send + Sync>>;
type Acquired = (TokenRequest, Result<AccessToken, Error>);

impl WarmUp {
    pub(super) fn new(client: ConfidentialClient, requests: Vec<TokenRequest>) -> Self {
        Self {
            client,
            pending: requests.into_iter(),
            max_concurrent: MAX_CONCURRENT,
            in_flight: FuturesUnordered::new(),
        }
    }

    /// Sets the number of tokens to wait for at a time. The default is 32, the minimum 1.
    ///
    /// At most that many token requests are sent at a time. Background refreshes do not count.
    pub fn max_concurrent(mut self, max: usize) -> Self {
        self.max_concurrent = max.max(1);
        self
    }

    /// Returns the number of requests without an outcome, for a progress bar.
    pub fn remaining(&self) -> usize {
        self.pending.len() + self.in_flight.len()
    }

    /// Waits for the next outcome, and returns the request with the result. Returns `None` after
    /// the last one.
    ///
    /// Outcomes arrive as they are ready, not in the order of the requests. Dropping the returned
    /// future loses no outcome. Call `next` on one tokio runtime throughout: a call may send token
    /// requests.
    ///
    /// # Errors
    ///
    /// The error of an outcome is the one that
    /// [`acquire_token_for_client`](ConfidentialClient::acquire_token_for_client) returns for that
    /// request. The other requests are not affected.
    pub async fn next(&mut self) -> Option<(TokenRequest, Result<AccessToken, Error>)> {
        while self.in_flight.len() < self.max_concurrent
            && let Some(request) = self.pending.next()
        {
            let client = self.client.clone();
            self.in_flight.push(Box::pin(async move {
                let result = client.acquire_token_for_client(&request).await;
                (request, result)
            }));
        }
        self.in_flight.next().await
    }
}

impl fmt::Debug for WarmUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WarmUp")
            .field("client", &self.client)
            .field("max_concurrent", &self.max_concurrent)
            .field("remaining", &self.remaining())
            .finish_non_exhaustive()
    }
}

const MAX_CONCURRENT: usize = 32;
