use http::StatusCode;

/// An error response of Entra: status, OAuth error, AADSTS code and text.
#[derive(Debug)]
pub(crate) struct AadstsError {
    pub(crate) status: StatusCode,
    pub(crate) error: &'static str,
    pub(crate) code: u64,
    pub(crate) suberror: Option<&'static str>,
    pub(crate) claims: Option<&'static str>,
    pub(crate) text: String,
}

impl AadstsError {
    /// Builds a 400, the status of most errors.
    pub(crate) fn bad_request(error: &'static str, code: u64, text: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            error,
            code,
            suberror: None,
            claims: None,
            text: text.into(),
        }
    }

    /// Builds a 400 of a standard that Entra does not have, without an AADSTS code.
    pub(crate) fn without_code(error: &'static str, text: impl Into<String>) -> Self {
        Self::bad_request(error, NO_CODE, text)
    }

    /// Builds a 401 `invalid_client`, the response to a rejected credential.
    pub(crate) fn invalid_client(code: u64, text: impl Into<String>) -> Self {
        Self {
            status: StatusCode::UNAUTHORIZED,
            ..Self::bad_request("invalid_client", code, text)
        }
    }

    /// Builds the error of a scripted status without a body.
    pub(crate) fn of_status(status: StatusCode) -> Self {
        let (error, code, text) = match status.as_u16() {
            401 => ("invalid_client", 7000215, "Invalid client secret provided."),
            429 => (
                "temporarily_unavailable",
                90055,
                "TenantThrottlingError - There are too many incoming requests.",
            ),
            503 => (
                "temporarily_unavailable",
                90033,
                "A transient error has occurred. Please try again.",
            ),
            500..=599 => ("server_error", 90014, "An unexpected error occurred."),
            _ => ("invalid_request", 9002313, "The request is malformed."),
        };
        Self {
            status,
            ..Self::bad_request(error, code, text)
        }
    }
}

/// The code of an error that is not Entra's.
pub(crate) const NO_CODE: u64 = 0;
