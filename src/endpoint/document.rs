use std::time::Duration;

use http::StatusCode;
use serde_json::{Map, Value};

use super::lookup::Lookup;
use crate::error::{Error, Escaped, Failure, transient_status};
use crate::response::{LARGEST_BODY, is_throttled, json_object, redirected_to, retry_after};

/// A JSON object that a provider publishes.
pub(super) struct Document {
    members: Map<String, Value>,
    origin: Origin,
}

/// Where it came from, and what is told of it in an error.
struct Origin {
    what: &'static str,
    url: String,
    status: StatusCode,
    wait: Option<Duration>,
    correlation_id: String,
}

impl Document {
    /// Reads `what`, which is at `url`; `hint` says where to look for the mistake if it is not.
    pub(super) async fn get(
        lookup: &Lookup<'_>,
        what: &'static str,
        url: &str,
        hint: &str,
    ) -> Result<Self, Error> {
        let response = lookup.get(url).await?;
        let status = response.status();
        let origin = Origin {
            what,
            url: url.to_owned(),
            status,
            wait: retry_after(&response, lookup.clock.now().wall),
            correlation_id: lookup.correlation_id.to_owned(),
        };
        if status != StatusCode::OK {
            let number = status.as_u16();
            return Err(match redirected_to(&response) {
                Some(host) => origin.invalid(&format!(
                    "the answer is {number}, a redirect to '{}', which is not followed; {hint}",
                    shortened(&Escaped(&host).to_string())
                )),
                None if is_throttled(status, origin.wait) => {
                    let failure = origin.failure(&format!("the answer is {number}"));
                    Error::Throttled(failure.into())
                }
                None if transient_status(status) => {
                    origin.invalid(&format!("the answer is {number}"))
                }
                None => origin.invalid(&format!("the answer is {number}; {hint}")),
            });
        }
        if response.body().len() > LARGEST_BODY {
            return Err(origin.invalid("it is too long"));
        }
        match json_object(response.body()) {
            Some(members) => Ok(Self { members, origin }),
            None => Err(origin.invalid("it is not a JSON object")),
        }
    }

    pub(super) fn members(&self) -> &Map<String, Value> {
        &self.members
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.members.get(name)?.as_str()
    }

    /// It came, and cannot be used.
    pub(super) fn invalid(&self, why: &str) -> Error {
        self.origin.invalid(why)
    }
}

impl Origin {
    fn invalid(&self, why: &str) -> Error {
        Error::InvalidResponse(self.failure(why).into())
    }

    fn failure(&self, why: &str) -> Failure {
        let Self { what, url, .. } = self;
        Failure::new(format!("{what} at {url} cannot be used: {why}"))
            .status(self.status)
            .correlation_id(&self.correlation_id)
            .retry_after(self.wait)
    }
}

/// Nobody reads more of a text that a server chose.
pub(super) fn shortened(text: &str) -> String {
    text.chars().take(300).collect()
}
