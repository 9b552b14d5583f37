use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Response, StatusCode};
use serde_json::{Map, Value};

use super::freshness::time_to_live;
use super::lookup::Lookup;
use crate::error::{Error, Escaped, Failure, transient_status};
use crate::response::{
    LARGEST_BODY, compression, is_page, is_throttled, json_object, redirected_to, retry_after,
    summary,
};

/// A JSON object from a discovery URL.
pub(super) struct Document {
    members: Map<String, Value>,
    time_to_live: Duration,
    origin: DocumentOrigin,
}

/// The origin of a document, for error messages.
struct DocumentOrigin {
    name: &'static str,
    url: String,
    status: StatusCode,
    retry_after: Option<Duration>,
    correlation_id: String,
}

impl Document {
    /// Fetches the document called `name` from `url`. Errors suggest the likely mistake in `hint`.
    pub(super) async fn get(
        lookup: &Lookup<'_>,
        name: &'static str,
        url: &str,
        hint: &str,
    ) -> Result<Self, Error> {
        let response = lookup.get(url).await?;
        let status = response.status();
        let origin = DocumentOrigin {
            name,
            url: url.to_owned(),
            status,
            retry_after: retry_after(&response, lookup.clock.wall()),
            correlation_id: lookup.correlation_id.to_owned(),
        };
        if status != StatusCode::OK {
            let number = status.as_u16();
            return Err(match redirected_to(&response) {
                Some(host) => origin.invalid(&format!(
                    "the response is {number}, a redirect to '{}', which is not followed; {hint}",
                    truncated(&Escaped(&host).to_string())
                )),
                None if is_throttled(status, origin.retry_after) => {
                    let failure = origin.failure(&format!("the response is {number}"));
                    Error::Throttled(failure.into())
                }
                None if transient_status(status) => {
                    origin.invalid(&format!("the response is {number}"))
                }
                None => origin.invalid(&format!("the response is {number}; {hint}")),
            });
        }
        if response.body().len() > LARGEST_BODY {
            return Err(origin.invalid("it is too long"));
        }
        match json_object(response.body()) {
            Some(members) => Ok(Self {
                members,
                time_to_live: time_to_live(response.headers()),
                origin,
            }),
            None => Err(match (compression(&response), page_summary(&response)) {
                (Some(compression), _) => origin.invalid(&format!("it is {compression}")),
                (None, Some(summary)) => origin.invalid(&format!(
                    "it is not a JSON object but an HTML page{summary}; {hint}"
                )),
                (None, None) => origin.invalid("it is not a JSON object"),
            }),
        }
    }

    /// Returns the time for which the document may be cached.
    pub(super) fn time_to_live(&self) -> Duration {
        self.time_to_live
    }

    pub(super) fn members(&self) -> &Map<String, Value> {
        &self.members
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.members.get(name)?.as_str()
    }

    /// Returns the error for a document with invalid content.
    pub(super) fn invalid(&self, why: &str) -> Error {
        self.origin.invalid(why)
    }
}

impl DocumentOrigin {
    fn invalid(&self, why: &str) -> Error {
        Error::InvalidResponse(self.failure(why).into())
    }

    fn failure(&self, why: &str) -> Failure {
        let Self { name, url, .. } = self;
        Failure::new(format!("{name} at {url} cannot be used: {why}"))
            .status(self.status)
            .correlation_id(&self.correlation_id)
            .retry_after(self.retry_after)
    }
}

/// Returns what an HTML page says, in brackets. Returns `None` if the body is no page.
fn page_summary(response: &Response<Bytes>) -> Option<String> {
    let content_type = response.headers().get(CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok());
    let body = String::from_utf8_lossy(response.body());
    if !is_page(content_type.unwrap_or_default(), &body) {
        return None;
    }
    let says =
        summary(&body).map(|says| format!(" ('{}')", truncated(&Escaped(&says).to_string())));
    Some(says.unwrap_or_default())
}

/// Returns the first 300 characters of a text from a server.
pub(super) fn truncated(text: &str) -> String {
    text.chars().take(300).collect()
}
