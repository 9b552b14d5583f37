use std::time::Duration;

use bytes::Bytes;
use http::header::ACCEPT;
use http::{HeaderValue, Method, Response};
use tokio::time::timeout;

use crate::error::{Error, Failure};
use crate::time::{TimeSource, format_limit};
use crate::transport::{Transport, no_response};

/// The transport, the clock and the limits of a discovery request.
#[derive(Clone, Copy)]
pub(crate) struct Lookup<'a> {
    pub(crate) transport: &'a dyn Transport,
    pub(crate) clock: &'a TimeSource,
    pub(crate) correlation_id: &'a str,
    /// Longest time for one lookup.
    pub(crate) limit: Duration,
}

impl Lookup<'_> {
    /// Sends a GET request for JSON and waits for at most `limit`.
    ///
    /// Errors show the whole `url`, so `url` must not contain a secret.
    pub(super) async fn get(&self, url: &str) -> Result<Response<Bytes>, Error> {
        let request = http::Request::builder()
            .method(Method::GET)
            .uri(url)
            .header(ACCEPT, HeaderValue::from_static("application/json"))
            .header("client-request-id", self.correlation_id)
            .body(Bytes::new());
        let request = request.map_err(|error| {
            Error::config(format!("'{url}' is not a valid URL for a request: {error}"))
        })?;
        let failure = |message: String| Failure::new(message).correlation_id(self.correlation_id);
        match timeout(self.limit, self.transport.send(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(source)) => Err(Error::Transport(
                no_response(format!("no response from {url}"), source)
                    .correlation_id(self.correlation_id)
                    .into(),
            )),
            Err(_) => Err(Error::Transport(
                failure(format!(
                    "no response from {url} within {}",
                    format_limit(self.limit)
                ))
                .into(),
            )),
        }
    }
}
