use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::vec;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

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
    under_way: HashMap<u64, UnderWay>,
    /// How many have been started: the number of the latest.
    started: u64,
    /// The numbers of those that were woken and have to be polled.
    woken: UnboundedReceiver<u64>,
    wake: UnboundedSender<u64>,
}

/// What has been asked for and not yet reported.
///
/// Requests to the network are tasks of their own, whichever task waits for them. These are
/// therefore polled by whoever calls `next`, and behave as any other call of the client would
/// there, outside a runtime too.
struct UnderWay {
    request: TokenRequest,
    token: Pin<Box<dyn Future<Output = Result<AccessToken, Error>> + Send + Sync>>,
    waker: Waker,
}

impl WarmUp {
    pub(crate) fn new(client: ConfidentialClient, requests: Vec<TokenRequest>) -> Self {
        let (wake, woken) = unbounded_channel();
        Self {
            client,
            to_come: requests.into_iter(),
            max_concurrent: MAX_CONCURRENT,
            under_way: HashMap::new(),
            started: 0,
            woken,
            wake,
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
            let number = self.start(request);
            if let Some(outcome) = self.poll(number) {
                return Some(outcome);
            }
        }
        while !self.under_way.is_empty() {
            // The one await: whatever was ready before it has been reported.
            let number = self.woken.recv().await?;
            if let Some(outcome) = self.poll(number) {
                return Some(outcome);
            }
        }
        None
    }

    fn start(&mut self, request: TokenRequest) -> u64 {
        self.started += 1;
        let (client, asked) = (self.client.clone(), request.clone());
        let alarm = Alarm {
            number: self.started,
            wake: self.wake.clone(),
        };
        let under_way = UnderWay {
            request,
            token: Box::pin(async move { client.acquire_token_for_client(asked).await }),
            waker: Arc::new(alarm).into(),
        };
        self.under_way.insert(self.started, under_way);
        self.started
    }

    /// Takes one as far as it gets; its outcome, if that is to the end.
    fn poll(&mut self, number: u64) -> Option<(TokenRequest, Result<AccessToken, Error>)> {
        // It may have been woken twice, and have ended.
        let mut under_way = self.under_way.remove(&number)?;
        let mut context = Context::from_waker(&under_way.waker);
        match under_way.token.as_mut().poll(&mut context) {
            Poll::Ready(result) => Some((under_way.request, result)),
            Poll::Pending => {
                self.under_way.insert(number, under_way);
                None
            }
        }
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

/// Says which of many was woken, so that the others need not be polled with it.
struct Alarm {
    number: u64,
    wake: UnboundedSender<u64>,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        // Nobody hears it once the `WarmUp` is dropped.
        let _ = self.wake.send(self.number);
    }
}

const MAX_CONCURRENT: usize = 32;
