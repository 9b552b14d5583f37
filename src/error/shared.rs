use std::error::Error as StdError;
use std::time::Duration;

use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::{Error, ErrorKind, ErrorResponse, Failure, with_causes};

/// The failure of a token request, as processes share it through a shared cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SharedFailure {
    kind: SharedKind,
    message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    correlation_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    response: Option<SharedResponse>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SharedKind {
    Transport,
    Server,
    Throttled,
    InvalidResponse,
}

/// The members of an OAuth error response that other processes need.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct SharedResponse {
    error: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    codes: Vec<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    suberror: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    claims: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timestamp: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error_uri: Option<String>,
}

impl SharedFailure {
    /// Returns the failure for other processes, or `None` if the failure says nothing about them.
    ///
    /// A configuration, a credential and a proxy are those of one process. While a credential is
    /// being replaced, one process has the old credential and another the new one.
    pub(crate) fn of(error: &Error) -> Option<Self> {
        let kind = match error.kind() {
            ErrorKind::Transport if error.host_is_down().is_some() => SharedKind::Transport,
            ErrorKind::Server => SharedKind::Server,
            ErrorKind::Throttled => SharedKind::Throttled,
            ErrorKind::InvalidResponse => SharedKind::InvalidResponse,
            _ => return None,
        };
        if error.is_credential_rejected() {
            return None;
        }
        Some(Self {
            kind,
            message: message(error),
            status: error.status().map(|status| status.as_u16()),
            correlation_id: error.correlation_id().map(ToOwned::to_owned),
            response: error.server_error().map(|server| SharedResponse {
                error: server.error().to_owned(),
                description: server.error_description().map(ToOwned::to_owned),
                codes: server.error_codes().to_vec(),
                suberror: server.suberror().map(ToOwned::to_owned),
                claims: server.claims().map(ToOwned::to_owned),
                trace_id: server.trace_id().map(ToOwned::to_owned),
                timestamp: server.timestamp().map(ToOwned::to_owned),
                error_uri: server.error_uri().map(ToOwned::to_owned),
            }),
        })
    }

    /// Returns `true` if the provider sent no response. The network of one process may be the
    /// cause.
    pub(crate) fn is_without_response(&self) -> bool {
        self.status.is_none()
    }

    /// Returns the error for a caller that arrives `remaining` before the wait ends.
    pub(crate) fn to_error(&self, remaining: Duration) -> Error {
        let status = self
            .status
            .and_then(|status| StatusCode::from_u16(status).ok());
        let server = self.response.as_ref().map(|response| {
            let status = status.unwrap_or(StatusCode::BAD_REQUEST);
            let mut built = ErrorResponse::new(status, response.error.clone());
            built.error_description = response.description.clone();
            built.error_codes = response.codes.clone();
            built.suberror = response.suberror.clone();
            built.claims = response.claims.clone();
            built.correlation_id = self.correlation_id.clone();
            built.trace_id = response.trace_id.clone();
            built.timestamp = response.timestamp.clone();
            built.error_uri = response.error_uri.clone();
            built
        });
        let error = match (self.kind, server) {
            (SharedKind::Server, Some(server)) => Error::Server(server.into()),
            (kind, server) => {
                let mut failure =
                    Failure::new(&*self.message).server(server.map(ErrorResponse::into));
                failure.status = status;
                failure.correlation_id = self.correlation_id.clone();
                // Another process noticed, and this process sent nothing.
                failure.not_sent = true;
                match kind {
                    SharedKind::Transport => Error::Transport(failure.into()),
                    SharedKind::Throttled => Error::Throttled(failure.into()),
                    SharedKind::Server | SharedKind::InvalidResponse => {
                        Error::InvalidResponse(failure.into())
                    }
                }
            }
        };
        error.with_retry_after(remaining)
    }
}

/// Returns the message with all causes, without the wait.
fn message(error: &Error) -> String {
    let Some(failure) = error.failure() else {
        return error.to_string();
    };
    let text = with_causes(failure.message.clone(), error.source());
    format!("{text} (in another process)")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(error: &Error) -> Option<SharedFailure> {
        let failure = SharedFailure::of(error)?;
        let json = serde_json::to_vec(&failure).unwrap();
        assert_eq!(
            serde_json::from_slice::<SharedFailure>(&json).unwrap(),
            failure
        );
        Some(failure)
    }

    fn response(status: u16, error: &str) -> ErrorResponse {
        ErrorResponse::new(StatusCode::from_u16(status).unwrap(), error.to_owned())
    }

    #[test]
    fn another_process_gets_the_error_with_the_remaining_wait() {
        let mut rejected = response(400, "invalid_scope");
        rejected.error_codes = vec![70011];
        rejected.correlation_id = Some("a1".to_owned());
        let throttled = Failure::new("asked to wait").status(StatusCode::TOO_MANY_REQUESTS);
        let cause = std::io::Error::other("reset");
        let lost = Failure::new("no response").source(Box::new(cause));
        for (error, text) in [
            (
                Error::Server(rejected.into()),
                "the token endpoint returned 400 invalid_scope",
            ),
            (
                Error::Throttled(throttled.into()),
                "asked to wait (in another process) (next attempt in 7 s)",
            ),
            (
                Error::Transport(lost.into()),
                "no response: reset (in another process) (next attempt in 7 s)",
            ),
        ] {
            let shared = shared(&error).unwrap().to_error(Duration::from_secs(7));
            assert_eq!(shared.kind(), error.kind());
            assert_eq!(shared.status(), error.status());
            assert_eq!(shared.retry_after(), Some(Duration::from_secs(7)));
            assert_eq!(shared.correlation_id(), error.correlation_id());
            assert_eq!(shared.aadsts(), error.aadsts());
            assert!(shared.to_string().contains(text), "{shared}");
        }
    }

    #[test]
    fn the_failure_of_one_process_alone_is_not_shared() {
        for error in [
            Error::config("no"),
            Error::credential("expired"),
            Error::InteractionRequired(Failure::new("sign in").into()),
            Error::Transport(Failure::new("the proxy is wrong").permanent().into()),
            Error::Server(response(401, "invalid_client").into()),
        ] {
            assert_eq!(shared(&error), None, "{error}");
        }
    }
}
