use std::fmt;
use std::pin::Pin;
use std::vec;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use crate::client::ConfidentialClient;
use crate::error::Error;
use crate::request::TokenRequest;
use crate::token::AccessToken;

/// Gets many tokens, a bounded number at a time, and reports each as it comes.
///
/// Made by [`ConfidentialClient::warm_up`]. It asks for nothing until [`next`](Self::next) is
/// called, and starts no more between its calls: whoever wants all tokens goes on to the end.
///
/// To drop it is to ask for no more. Requests that are under way go on, and the cache keeps what
/// they bring.
#[must_use = "it asks for nothing until `next` is called"]
pub struct WarmUp {
    client: ConfidentialClient,
    to_come: vec::IntoIter<TokenRequest>,
    max_concurrent: usize,
    /// Requests to the network are tasks of their own. What waits for them is polled by whoever calls
    /// `next`, and behaves as any other call of the client would there, outside a runtime too.
    under_way: FuturesUnordered<UnderWay>,
}

type UnderWay = Pin<Box<dyn Future<Output = Outcome> + Send + Sync>>;
type Outcome = (TokenRequest, Result<AccessToken, Error>);

impl WarmUp {
    pub(crate) fn new(client: ConfidentialClient, requests: Vec<TokenRequest>) -> Self {
        Self {
            client,
            to_come: requests.into_iter(),
            max_concurrent: MAX_CONCURRENT,
            under_way: FuturesUnordered::new(),
        }
    }

    /// Waits for at most this many tokens at a time; for 32 unless set, and for one at least.
    ///
    /// It makes no more token requests than that at a time. Those that renew a token in the
    /// background are not waited for and not counted.
    pub fn max_concurrent(mut self, max: usize) -> Self {
        self.max_concurrent = max.max(1);
        self
    }

    /// How many requests have not been reported yet, for a progress bar.
    pub fn remaining(&self) -> usize {
        self.to_come.len() + self.under_way.len()
    }

    /// The next outcome, with the request that it is the outcome of; `None` once each has been
    /// reported. They come as they are ready, not in the order of the requests.
    ///
    /// To drop the returned future loses no outcome. A call may go to the network; call it on one
    /// runtime to the end.
    ///
    /// # Errors
    ///
    /// An outcome's error is what
    /// [`acquire_token_for_client`](ConfidentialClient::acquire_token_for_client) would have given
    /// for that request alone. It ends nothing: go on, or drop the `WarmUp`.
    pub async fn next(&mut self) -> Option<(TokenRequest, Result<AccessToken, Error>)> {
        while self.under_way.len() < self.max_concurrent
            && let Some(request) = self.to_come.next()
        {
            let client = self.client.clone();
            self.under_way.push(Box::pin(async move {
                let result = client.acquire_token_for_client(&request).await;
                (request, result)
            }));
        }
        self.under_way.next().await
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
