use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use super::help::advice;
use super::origin::{ClockCheck, CredentialOrigin};
use super::{Escaped, transient_status};

/// An OAuth 2.0 error response ([RFC 6749 section 5.2]), with Microsoft Entra ID's additions.
///
/// Branch on [`error`](Self::error) and on the predicates of [`Error`](crate::Error), because
/// Microsoft may change codes and texts at any time. `Display` prints the status, the error, the
/// description and [`help`](Self::help) on one line.
///
/// ```
/// use confidential_client::{ConfidentialClient, Error};
/// use confidential_client::testing::{Application, LocalAuthority};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let local = LocalAuthority::start().await?;
/// local.register("contoso.com", Application::new("client").secret("the secret's value"));
/// let client = ConfidentialClient::builder("client")
///     .authority(local.authority("contoso.com"))
///     .client_secret("wrong")
///     .build()?;
/// match client.acquire_token_for_client("api://orders/.default").await {
///     Err(Error::Server(server)) => {
///         assert_eq!(server.status(), 401);
///         assert_eq!(server.error(), "invalid_client");
///         assert_eq!(server.error_codes(), [7000215]);
///         assert!(server.help().unwrap().contains("not its secret ID"));
///     }
///     other => panic!("{other:?}"),
/// }
/// # Ok(())
/// # }
/// ```
///
/// [RFC 6749 section 5.2]: https://www.rfc-editor.org/rfc/rfc6749#section-5.2
#[derive(Clone)]
pub struct ServerError(Arc<ErrorResponse>);

impl ServerError {
    /// Returns the HTTP status of the response.
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// Returns the `error` member, such as `invalid_client`.
    pub fn error(&self) -> &str {
        &self.0.error
    }

    /// Returns the `error_description` member.
    ///
    /// Line breaks and control characters are not escaped here. `Display` escapes them.
    pub fn error_description(&self) -> Option<&str> {
        self.0.error_description.as_deref()
    }

    /// Returns the AADSTS codes in the server's order, such as `7000215`.
    ///
    /// The codes are those of the `error_codes` member, or else those in the description. Empty if
    /// the provider is not Microsoft's.
    #[doc(alias = "AADSTS")]
    pub fn error_codes(&self) -> &[u64] {
        &self.0.error_codes
    }

    /// Returns the `suberror` member, such as `consent_required`.
    pub fn suberror(&self) -> Option<&str> {
        self.0.suberror.as_deref()
    }

    /// Returns the `claims` member, as JSON for the next request.
    ///
    /// See [`Error::claims_challenge`](crate::Error::claims_challenge).
    pub fn claims(&self) -> Option<&str> {
        self.0.claims.as_deref()
    }

    /// Returns the correlation id of the response, else the id of the request.
    pub fn correlation_id(&self) -> Option<&str> {
        self.0.correlation_id.as_deref()
    }

    /// Returns the `trace_id` member, the id of the request inside Microsoft Entra ID.
    pub fn trace_id(&self) -> Option<&str> {
        self.0.trace_id.as_deref()
    }

    /// Returns the `timestamp` member unparsed, such as `2026-11-21 03:00:00Z` (UTC).
    pub fn timestamp(&self) -> Option<&str> {
        self.0.timestamp.as_deref()
    }

    /// Returns the `error_uri` member, the URL of a page about the error ([RFC 6749 section 5.2]).
    ///
    /// [RFC 6749 section 5.2]: https://www.rfc-editor.org/rfc/rfc6749#section-5.2
    pub fn error_uri(&self) -> Option<&str> {
        self.0.error_uri.as_deref()
    }

    /// Returns how long the client sends no further token request.
    ///
    /// See [`Error::retry_after`](crate::Error::retry_after).
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Returns advice for the AADSTS codes that an application can meet.
    ///
    /// The advice says what is wrong and what to do. The advice names the source of the credential,
    /// such as a file with its path. If the provider rejected an assertion and this machine's clock
    /// differs from the `Date` header by more than five seconds, the advice says by how much.
    pub fn help(&self) -> Option<&str> {
        self.0.help.as_deref()
    }

    pub(super) fn is_transient(&self) -> bool {
        transient_status(self.status())
            || self.error() == "temporarily_unavailable"
            || self
                .error_codes()
                .iter()
                .any(|code| TRANSIENT_CODES.contains(code))
    }

    pub(super) fn needs_user_interaction(&self) -> bool {
        match self.error() {
            "interaction_required" | "login_required" | "consent_required" => true,
            "invalid_grant" => match self.suberror() {
                // The user cannot fix these.
                Some("client_mismatch" | "protection_policy_required") => false,
                // A new sign-in replaces an authorization code or a refresh token.
                _ => self.0.is_interactive || self.asks_for_more(),
            },
            _ => false,
        }
    }

    /// Returns whether the grant is valid but needs consent, another factor or a new password.
    pub(super) fn asks_for_more(&self) -> bool {
        let more = [
            "basic_action",
            "additional_action",
            "consent_required",
            "user_password_expired",
        ];
        self.suberror()
            .is_some_and(|suberror| more.contains(&suberror))
            || self.error_codes().contains(&CONSENT_MISSING)
    }

    /// Returns whether the user's grant is invalid, expired or revoked.
    pub(super) fn is_invalid_grant(&self) -> bool {
        self.error() == "invalid_grant"
    }

    /// Returns a copy with advice that depends on the credential of the request.
    pub(crate) fn with_help(&self, help: String) -> Self {
        let mut response = ErrorResponse::clone(&self.0);
        response.help = Some(help);
        Self(Arc::new(response))
    }

    /// Returns whether the provider rejected the client's credential.
    pub(super) fn rejects_credential(&self) -> bool {
        self.0.rejects_credential()
    }

    pub(super) fn with_retry_after(&self, remaining: Duration) -> Self {
        let mut response = ErrorResponse::clone(&self.0);
        response.retry_after = Some(remaining);
        Self(Arc::new(response))
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} returned {} {}",
            self.0.endpoint.as_deref().unwrap_or("the token endpoint"),
            self.status().as_u16(),
            Escaped(self.error())
        )?;
        if let Some(description) = self.error_description() {
            write!(f, ": {}", Escaped(description))?;
        }
        if let Some(help) = self.help() {
            write!(f, " (help: {help})")?;
        }
        Ok(())
    }
}

impl fmt::Debug for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for ServerError {}

impl From<ErrorResponse> for ServerError {
    fn from(mut response: ErrorResponse) -> Self {
        response.help = advice(&response);
        Self(Arc::new(response))
    }
}

/// The members of a [`ServerError`], filled by the response parser.
#[derive(Clone)]
pub(crate) struct ErrorResponse {
    pub(crate) status: StatusCode,
    pub(crate) error: String,
    pub(crate) error_description: Option<String>,
    pub(crate) error_codes: Vec<u64>,
    pub(crate) suberror: Option<String>,
    pub(crate) claims: Option<String>,
    pub(crate) correlation_id: Option<String>,
    pub(crate) trace_id: Option<String>,
    pub(crate) timestamp: Option<String>,
    pub(crate) error_uri: Option<String>,
    pub(crate) retry_after: Option<Duration>,
    /// True if a sign-in brought the grant of the request.
    pub(crate) is_interactive: bool,
    /// The source of the request's credential.
    pub(crate) origin: Option<CredentialOrigin>,
    /// The comparison of this machine's clock with the response's `Date` header.
    pub(crate) clock: ClockCheck,
    /// The name of another endpoint than the token endpoint, for the text.
    pub(crate) endpoint: Option<Box<str>>,
    /// The advice, which follows from the other members.
    help: Option<String>,
}

impl ErrorResponse {
    pub(crate) fn new(status: StatusCode, error: String) -> Self {
        Self {
            status,
            error,
            error_description: None,
            error_codes: Vec::new(),
            suberror: None,
            claims: None,
            correlation_id: None,
            trace_id: None,
            timestamp: None,
            error_uri: None,
            retry_after: None,
            is_interactive: false,
            origin: None,
            clock: ClockCheck::Unknown,
            endpoint: None,
            help: None,
        }
    }

    /// Returns whether the provider rejected the client's credential.
    ///
    /// RFC 6749 section 5.2 defines `invalid_client` for this, and reserves 401 for this. Auth0
    /// sends 401 with `access_denied`.
    pub(super) fn rejects_credential(&self) -> bool {
        self.error == "invalid_client"
            || self.status == StatusCode::UNAUTHORIZED && !OTHER_REJECTIONS.contains(&&*self.error)
    }
}

impl fmt::Debug for ErrorResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerError")
            .field("status", &self.status.as_u16())
            .field("error", &self.error)
            .field("error_description", &self.error_description)
            .field("error_codes", &self.error_codes)
            .field("suberror", &self.suberror)
            .field("claims", &self.claims)
            .field("correlation_id", &self.correlation_id)
            .field("trace_id", &self.trace_id)
            .field("timestamp", &self.timestamp)
            .field("error_uri", &self.error_uri)
            .field("retry_after", &self.retry_after)
            .finish()
    }
}

const CONSENT_MISSING: u64 = 65001;

/// Errors that reject another part of the request than the credential, with any status.
const OTHER_REJECTIONS: [&str; 11] = [
    "invalid_request",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
    "invalid_target",
    "interaction_required",
    "login_required",
    "consent_required",
    "invalid_dpop_proof",
    "use_dpop_nonce",
];

/// AADSTS codes that are temporary with any status.
///
/// Entra documents the codes as temporary, or could not reach the issuer of an assertion.
const TRANSIENT_CODES: [u64; 15] = [
    40010, 50033, 50087, 50166, 70012, 90006, 90012, 90024, 90033, 90055, 90061, 90090, 90091,
    501621, 501661,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn response(error: &str, codes: &[u64]) -> ErrorResponse {
        let mut response = ErrorResponse::new(StatusCode::UNAUTHORIZED, error.to_owned());
        response.error_codes = codes.to_vec();
        response
    }

    #[test]
    fn the_display_is_one_line_with_the_help() {
        let mut response = response("invalid_client", &[7000215]);
        response.error_description = Some("AADSTS7000215: Invalid.\r\nTrace ID: 1\n2".to_owned());
        let text = ServerError::from(response).to_string();
        assert!(text.starts_with(
            "the token endpoint returned 401 invalid_client: AADSTS7000215: Invalid. Trace ID: 1 2 (help: the client secret"
        ), "{text}");
    }

    #[test]
    fn a_servers_text_cannot_move_the_cursor() {
        let mut response = response("\u{1b}[2Jinvalid", &[]);
        response.error_description =
            Some("a\u{202e}b\u{7}\tc\u{feff}\u{2028}\u{200b}\u{206f}\u{61c}".to_owned());
        let text = ServerError::from(response).to_string();
        assert_eq!(
            text,
            "the token endpoint returned 401 \\u{1b}[2Jinvalid: a\\u{202e}b\\u{7}\\tc\\u{feff}\\u{2028}\\u{200b}\\u{206f}\\u{61c}"
        );
    }

    #[test]
    fn the_first_code_with_a_sentence_gives_the_help() {
        let text = |codes: &[u64]| {
            ServerError::from(response("x", codes))
                .help()
                .map(str::to_owned)
        };
        assert_eq!(text(&[]), None);
        assert_eq!(text(&[1]), None);
        assert!(text(&[1, 700016]).unwrap().contains("not in this tenant"));
    }

    #[test]
    fn a_measured_clock_skew_replaces_the_general_help_for_700024_alone() {
        let mut skewed = response("invalid_client", &[700024]);
        skewed.clock = ClockCheck::Ahead(Duration::from_secs(900));
        let help = |response: &ErrorResponse| {
            let server = ServerError::from(response.clone());
            server.help().unwrap_or_default().to_owned()
        };
        let expected = "this machine's clock is 900 s ahead of the identity provider's, so the assertion is outside its time range; correct the clock (NTP)";
        assert_eq!(help(&skewed), expected);
        skewed.error_codes = vec![70002, 700024];
        assert_eq!(help(&skewed), expected, "first or not");
        skewed.error_codes = vec![7000215];
        assert!(help(&skewed).contains("secret ID"));
        assert!(!help(&skewed).contains("900 s"));
    }

    #[test]
    fn temporary_errors_are_transient() {
        let with_status = |status: StatusCode, error: &str, codes: &[u64]| {
            let mut response = response(error, codes);
            response.status = status;
            ServerError::from(response).is_transient()
        };
        let bad_request = StatusCode::BAD_REQUEST;
        assert!(!with_status(bad_request, "invalid_request", &[]));
        assert!(with_status(bad_request, "temporarily_unavailable", &[]));
        for code in [
            90033, 90006, 90024, 90012, 50033, 90061, 501661, 50166, 90055, 90090, 90091,
        ] {
            assert!(with_status(bad_request, "invalid_grant", &[7, code]));
        }
        assert!(!with_status(bad_request, "invalid_grant", &[7]));
        assert!(with_status(StatusCode::BAD_GATEWAY, "server_error", &[]));
    }

    #[test]
    fn a_user_is_needed_only_where_a_user_can_help() {
        let needs = |error: &str, suberror: Option<&str>| {
            let mut response = response(error, &[]);
            response.suberror = suberror.map(str::to_owned);
            ServerError::from(response).needs_user_interaction()
        };
        for error in ["interaction_required", "login_required", "consent_required"] {
            assert!(needs(error, None), "{error}");
        }
        for suberror in [
            "basic_action",
            "additional_action",
            "consent_required",
            "user_password_expired",
        ] {
            assert!(needs("invalid_grant", Some(suberror)), "{suberror}");
        }
        assert!(!needs("invalid_grant", None));
        assert!(!needs("invalid_grant", Some("client_mismatch")));
        assert!(!needs("invalid_client", None));
    }
}
