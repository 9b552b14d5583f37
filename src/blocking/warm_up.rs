use std::collections::BTreeMap;
use std::fmt;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::vec;

use tracing::Instrument;

use super::thread::{ClientThread, check_outside_runtime, panicked};
use crate::client::Subject;
use crate::error::Error;
use crate::request::TokenRequest;
use crate::token::AccessToken;

/// An iterator that acquires many tokens, a bounded number at a time, and returns each outcome.
///
/// [`ConfidentialClient::warm_up`](super::ConfidentialClient::warm_up) returns one. Each item is a
/// request with its result, as they are ready and not in the order of the requests. A cached token
/// is returned at once. The error of an item is the error that
/// [`acquire_token_for_client`](super::ConfidentialClient::acquire_token_for_client) returns for
/// the request. The other requests are not affected.
///
/// Sends no request before the first item, and starts none between two items. Dropping a `WarmUp`
/// stops sending further requests.
///
/// ```
/// # use bytes::Bytes;
/// use confidential_client::TokenRequest;
/// use confidential_client::blocking::ConfidentialClient;
///
/// # fn main() -> Result<(), confidential_client::Error> {
/// # let client = ConfidentialClient::builder("11111111-2222-3333-4444-555555555555")
/// #     .tenant("contoso.onmicrosoft.com")
/// #     .client_secret("the secret's value")
/// #     .transport(|_: http::Request<Bytes>| async {
/// #         let body = r#"{"token_type":"Bearer","expires_in":3599,"access_token":"abc"}"#;
/// #         Ok(http::Response::new(Bytes::from(body)))
/// #     })
/// #     .build_blocking()?;
/// let customers = ["fabrikam.com", "common", "adatum.com"];
/// let graph = TokenRequest::new("https://graph.microsoft.com/.default");
/// let requests = customers.map(|tenant| graph.clone().tenant(tenant));
///
/// let mut failed = Vec::new();
/// for (request, result) in client.warm_up(requests).max_concurrent(8) {
///     if result.is_err() {
///         failed.push(request);
///     }
/// }
/// assert_eq!(client.cache().len(), 2);
/// assert_eq!(failed[0].tenant_id(), Some("common"));
/// # Ok(())
/// # }
/// ```
#[must_use = "sends no request until the first item is requested"]
pub struct WarmUp {
    client: crate::ConfidentialClient,
    thread: ClientThread,
    pending: vec::IntoIter<TokenRequest>,
    max_concurrent: usize,
    /// The requests on the thread, each with its number.
    in_flight: BTreeMap<usize, TokenRequest>,
    outcomes: (Sender<Outcome>, Receiver<Outcome>),
}

/// The number of a request with the result.
type Outcome = (usize, Result<AccessToken, Error>);

impl WarmUp {
    pub(super) fn new(
        client: crate::ConfidentialClient,
        thread: ClientThread,
        requests: Vec<TokenRequest>,
    ) -> Self {
        Self {
            client,
            thread,
            pending: requests.into_iter(),
            max_concurrent: MAX_CONCURRENT,
            in_flight: BTreeMap::new(),
            outcomes: channel(),
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

    /// Returns the cached token of a request. Otherwise starts to acquire a token on the thread,
    /// and returns `None`.
    fn begin(&mut self, request: &TokenRequest) -> Option<Result<AccessToken, Error>> {
        let acquirer = self.client.acquirer();
        let resolved = match acquirer.resolve(request.clone(), Subject::Application) {
            Ok(resolved) => resolved,
            Err(error) => return Some(Err(error)),
        };
        if let Some(token) = acquirer.cached_token(&resolved, || self.thread.for_refresh()) {
            return Some(token);
        }
        let runtime = match check_outside_runtime(INSTEAD).and_then(|()| self.thread.runtime()) {
            Ok(runtime) => runtime,
            Err(error) => return Some(Err(error)),
        };
        let number = self.pending.len();
        let acquirer = acquirer.clone();
        let report = Report {
            number,
            result: None,
            outcomes: self.outcomes.0.clone(),
        };
        let acquiring = async move { report.complete(acquirer.acquire(resolved).await) };
        runtime.spawn(acquiring.in_current_span());
        self.in_flight.insert(number, request.clone());
        None
    }

    /// Waits for an outcome. Returns `None` if no request is in flight.
    fn wait(&self) -> Option<Outcome> {
        let (first, _) = self.in_flight.first_key_value()?;
        let outcome = check_outside_runtime(INSTEAD)
            .and_then(|()| self.thread.receive(INSTEAD, &self.outcomes.1));
        Some(outcome.unwrap_or_else(|error| (*first, Err(error))))
    }
}

/// Sends the outcome of a request when the task ends, also if the task panics.
struct Report {
    number: usize,
    result: Option<Result<AccessToken, Error>>,
    outcomes: Sender<Outcome>,
}

impl Report {
    fn complete(mut self, result: Result<AccessToken, Error>) {
        self.result = Some(result);
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        let result = self.result.take();
        let result = result.unwrap_or_else(|| Err(panicked(INSTEAD)));
        // The caller may have dropped the receiver.
        let _ = self.outcomes.send((self.number, result));
    }
}

impl Iterator for WarmUp {
    type Item = (TokenRequest, Result<AccessToken, Error>);

    fn next(&mut self) -> Option<Self::Item> {
        while self.in_flight.len() < self.max_concurrent
            && let Some(request) = self.pending.next()
        {
            if let Some(result) = self.begin(&request) {
                return Some((request, result));
            }
        }
        loop {
            let (number, result) = self.wait()?;
            // A caller that could not wait has received an error for the request.
            if let Some(request) = self.in_flight.remove(&number) {
                return Some((request, result));
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.remaining(), Some(self.remaining()))
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
const INSTEAD: &str = "client.as_async().warm_up(..).next()";
