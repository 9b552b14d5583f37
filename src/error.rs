use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use http::StatusCode;

mod details;
mod escaped;
mod help;
mod kind;
mod origin;
mod server;
mod shared;

pub use details::ErrorDetails;
pub(crate) use details::Failure;
pub(crate) use escaped::Escaped;
pub use kind::ErrorKind;
pub(crate) use origin::{ClockCheck, CredentialKind, CredentialOrigin};
pub(crate) use server::ErrorResponse;
pub use server::ServerError;
pub(crate) use shared::SharedFailure;

/// The error of every operation of this crate. The variant names the party that must act.
///
/// Cloning is cheap. All callers that wait for the same token request get the same error.
///
/// `Display` prints what failed. The cause, such as "connection refused", may be in
/// [`source()`](std::error::Error::source). [`chain`](Self::chain) prints the error with all
/// causes. `Debug` prints the variant, the chain and the correlation id on one line, so
/// `fn main() -> Result<(), Box<dyn std::error::Error>>` ends with a readable message. Neither
/// `Display` nor `Debug` shows a secret, a token or an assertion. Control characters in a server's
/// text are escaped.
///
/// After an error, a daemon waits for [`retry_after`](Self::retry_after). Earlier calls return the
/// same error without a token request. If [`is_transient`](Self::is_transient) is false, waiting
/// alone does not help.
///
/// ```
/// use confidential_client::{ConfidentialClient, Error};
///
/// let error = ConfidentialClient::builder("11111111-2222-3333-4444-555555555555")
///     .tenant("contoso.onmicrosoft.com")
///     .build()
///     .unwrap_err();
/// assert!(matches!(error, Error::Config(_)));
/// assert!(error.to_string().contains("no credential"));
/// assert!(format!("{error:?}").starts_with("Config: "));
/// ```
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
#[doc(alias = "MsalException")]
#[doc(alias = "MsalServiceException")]
pub enum Error {
    /// The caller's code or configuration is wrong.
    ///
    /// `build()` or a check before the network found the mistake.
    #[error(transparent)]
    Config(ErrorDetails),
    /// The credential is unusable, such as an expired certificate or a failed callback.
    ///
    /// The owner of the credential must act.
    #[error(transparent)]
    Credential(ErrorDetails),
    /// No response arrived from the identity provider.
    #[error(transparent)]
    Transport(ErrorDetails),
    /// The identity provider rejected the request with an OAuth error response.
    #[error(transparent)]
    Server(ServerError),
    /// The identity provider asked the client to wait, by 429 or by 503 with `Retry-After`.
    #[error(transparent)]
    Throttled(ErrorDetails),
    /// The identity provider's response cannot be read.
    #[error(transparent)]
    InvalidResponse(ErrorDetails),
    /// A user must sign in (again), because no cached token or grant can serve the user.
    #[error(transparent)]
    InteractionRequired(ErrorDetails),
}

impl Error {
    /// Returns the kind of the error, for metrics, counters and tests.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Config(_) => ErrorKind::Config,
            Self::Credential(_) => ErrorKind::Credential,
            Self::Transport(_) => ErrorKind::Transport,
            Self::Server(_) => ErrorKind::Server,
            Self::Throttled(_) => ErrorKind::Throttled,
            Self::InvalidResponse(_) => ErrorKind::InvalidResponse,
            Self::InteractionRequired(_) => ErrorKind::InteractionRequired,
        }
    }

    /// Returns whether retrying later may succeed.
    ///
    /// True after a missing response, throttling, 408, 5xx, and a temporary OAuth error. A missing
    /// response is not transient if the server's TLS certificate is not accepted, or if a proxy
    /// rejects the connection. A failed callback (a credential source, a signer, an assertion
    /// provider) counts as transient too, unless the callback returned an [`Error`] that is not
    /// transient.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Transport(details) => !details.failure().is_permanent,
            Self::Throttled(_) => true,
            Self::Server(server) => server.is_transient(),
            Self::InvalidResponse(details) => {
                details.failure().status.is_some_and(transient_status)
            }
            // A callback may itself use a client, as when another application's token serves as
            // the assertion. That client's error then decides.
            Self::Credential(details) => {
                let failure = details.failure();
                let source = failure.source.as_deref();
                let error = source.and_then(|source| source.downcast_ref::<Self>());
                error.map_or(failure.in_callback, Self::is_transient)
            }
            Self::Config(_) | Self::InteractionRequired(_) => false,
        }
    }

    /// Returns how long the client keeps returning this error without a new token request.
    ///
    /// The time counts from now. `None` if the error was found before the network.
    ///
    /// If the provider sent `Retry-After`, the wait is that time, at most an hour with 429 and
    /// five minutes otherwise. Without `Retry-After`, the wait after a transient error grows from
    /// one second to about 37 s, and the wait after other errors from five to 60 seconds.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Server(server) => server.retry_after(),
            other => other.failure()?.retry_after,
        }
    }

    /// Returns the claims that the next request must carry, as JSON.
    ///
    /// The identity provider requested the claims. An API can be the origin too, if the caller
    /// passed on the API's claims without success.
    ///
    /// A web app adds the claims to the
    /// [`AuthorizationRequest`](crate::delegated::AuthorizationRequest) that signs the user in
    /// again. A web API that acts on behalf of a user returns the claims to its caller, with
    /// [`Claims::challenge_from`](crate::resource::Claims::challenge_from).
    #[doc(alias = "claims")]
    pub fn claims_challenge(&self) -> Option<&str> {
        let from_provider = self.server_error().and_then(ServerError::claims);
        from_provider.or_else(|| self.failure()?.claims.as_deref())
    }

    /// Returns whether a user must act in a browser: consent, sign-in or multi-factor.
    ///
    /// A web app redirects the user to
    /// [`authorization_request_url`](crate::ConfidentialClient::authorization_request_url), with
    /// [`claims_challenge`](Self::claims_challenge) if there is one. A web API that acts on behalf
    /// of a user has no browser to redirect. The web API returns 401 or 403 to its caller, with the
    /// reason.
    #[doc(alias = "MsalUiRequiredException")]
    pub fn needs_user_interaction(&self) -> bool {
        let server = self.server_error();
        matches!(self, Self::InteractionRequired(_))
            || server.is_some_and(ServerError::needs_user_interaction)
    }

    /// Returns whether the user's grant was rejected (`invalid_grant`) and is useless from now on.
    ///
    /// False if the grant is valid and only consent or another factor is missing.
    pub(crate) fn is_grant_used_up(&self) -> bool {
        let server = self.server_error();
        server.is_some_and(|server| server.is_invalid_grant() && !server.asks_for_more())
    }

    /// Returns whether the response says that the grant of the request was not redeemed, so that
    /// the grant is as valid as before.
    ///
    /// True for a redirect and for a 4xx that is not about time. A timeout, a server error and a
    /// success that cannot be read say nothing about the grant.
    pub(crate) fn is_before_redemption(&self) -> bool {
        let Some(status) = self.status() else {
            return false;
        };
        let is_rejection = match self {
            // Some providers send errors with status 200.
            Self::Server(server) => !server.is_transient() && server.error() != "server_error",
            _ => status.is_redirection() || status.is_client_error(),
        };
        let says_nothing = [TOO_EARLY, CLIENT_CLOSED_REQUEST].contains(&status.as_u16());
        is_rejection && !transient_status(status) && !says_nothing
    }

    /// Returns whether the identity provider rejected the client's credential.
    ///
    /// True after `invalid_client`, after a 401 whose error names no other part of the request,
    /// and after a 401 or 403 of the token endpoint without a body. Also true if the server
    /// rejected the client certificate in the TLS handshake.
    pub fn is_credential_rejected(&self) -> bool {
        match self.server_error() {
            Some(server) => server.rejects_credential(),
            None => self
                .failure()
                .is_some_and(|failure| failure.rejects_credential),
        }
    }

    /// Returns whether the private key of the certificate no longer exists.
    pub(crate) fn has_lost_key(&self) -> bool {
        self.failure().is_some_and(|failure| failure.has_lost_key)
    }

    /// Returns the HTTP status of the response, whatever the body.
    ///
    /// `None` if no response arrived.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Server(server) => Some(server.status()),
            other => other.failure()?.status,
        }
    }

    /// Returns the correlation id of the failed token request, for the identity provider's support.
    ///
    /// Callers that share one token request share the id. `None` if no request was sent.
    pub fn correlation_id(&self) -> Option<&str> {
        match self {
            Self::Server(server) => server.correlation_id(),
            other => other.failure()?.correlation_id.as_deref(),
        }
    }

    /// Returns the error and its causes as one line, for a log.
    ///
    /// ```
    /// use confidential_client::credential::SecretFile;
    ///
    /// let error = SecretFile::new("/nowhere/secret").read().unwrap_err();
    /// let text = error.chain().to_string();
    /// assert!(text.starts_with("the secret file /nowhere/secret cannot be read: No such file"));
    /// ```
    pub fn chain(&self) -> impl fmt::Display + use<> {
        let text = with_causes(self.to_string(), self.source());
        // A cause may come from a callback or another crate, with line breaks in its text.
        Escaped(&text).to_string()
    }

    /// Returns the OAuth error of the response, if there is one.
    ///
    /// [`Error::Throttled`] and the errors of a redirect after a sign-in can carry an OAuth error,
    /// not only [`Error::Server`].
    pub fn server_error(&self) -> Option<&ServerError> {
        match self {
            Self::Server(server) => Some(server),
            other => other.failure()?.server.as_ref(),
        }
    }

    fn details(&self) -> Option<&ErrorDetails> {
        match self {
            Self::Config(details)
            | Self::Credential(details)
            | Self::Transport(details)
            | Self::Throttled(details)
            | Self::InvalidResponse(details)
            | Self::InteractionRequired(details) => Some(details),
            Self::Server(_) => None,
        }
    }

    fn details_mut(&mut self) -> Option<&mut ErrorDetails> {
        match self {
            Self::Config(details)
            | Self::Credential(details)
            | Self::Transport(details)
            | Self::Throttled(details)
            | Self::InvalidResponse(details)
            | Self::InteractionRequired(details) => Some(details),
            Self::Server(_) => None,
        }
    }

    fn failure(&self) -> Option<&Failure> {
        self.details().map(ErrorDetails::failure)
    }

    pub(crate) fn config(message: impl Into<String>) -> Self {
        Self::Config(Failure::new(message).into())
    }

    pub(crate) fn credential(message: impl Into<String>) -> Self {
        Self::Credential(Failure::new(message).into())
    }

    /// Returns the first AADSTS code of the response.
    pub(crate) fn aadsts(&self) -> Option<u64> {
        self.server_error()?.error_codes().first().copied()
    }

    /// Returns whether the error shows that the authority's host is down.
    ///
    /// `None` if no request reached the host.
    pub(crate) fn host_is_down(&self) -> Option<bool> {
        match (self, self.status()) {
            (_, Some(status)) => Some(status.is_server_error()),
            (Self::Transport(details), None) => (!details.failure().not_sent).then_some(true),
            (_, None) => None,
        }
    }

    /// Returns the error for callers whose request was not sent because the circuit is open.
    ///
    /// Keeps the cause and the status, and drops all data of the failed request.
    pub(crate) fn for_other_callers(&self) -> Self {
        let message = "the identity provider is treated as down, because other token requests got no response or a server error";
        let mut failure = Failure::new(message);
        failure.status = self.status();
        failure.source = self.failure().and_then(|failure| failure.source.clone());
        Self::Transport(failure.into())
    }

    /// Adds the number of attempts to the message of a retried error.
    pub(crate) fn after_attempts(self, attempts: u32) -> Self {
        match self.kind() {
            ErrorKind::Throttled | ErrorKind::Transport | ErrorKind::InvalidResponse => {
                self.map_message(|message| format!("{message} ({attempts} attempts)"))
            }
            _ => self,
        }
    }

    /// Adds to the message that the authorization code of the request is lost.
    pub(crate) fn with_lost_code(self) -> Self {
        self.map_message(|message| {
            format!(
                "{message}; the authorization code may have been redeemed and is not sent again, so start the sign-in again"
            )
        })
    }

    /// Names the unusable `subject` in the message, such as a file.
    pub(crate) fn about(self, subject: &str) -> Self {
        match self.kind() {
            ErrorKind::Config | ErrorKind::Credential => {
                self.map_message(|message| format!("the {subject} cannot be used: {message}"))
            }
            _ => self,
        }
    }

    /// Words the advice for a request with a user federated identity credential, which Microsoft
    /// Entra ID rejects with the codes of a user assertion.
    pub(crate) fn about_user_credential(self) -> Self {
        match &self {
            Self::Server(server) if let Some(advice) = server.help() => {
                Self::Server(server.with_help(help::for_user_credential(advice)))
            }
            _ => self,
        }
    }

    /// Adds the place in a chain of credentials to the message or to the advice.
    pub(crate) fn in_chain(self, place: &str) -> Self {
        if let Self::Server(server) = &self {
            let help = match server.help() {
                Some(help) => format!("{help}; {place}"),
                None => place.to_owned(),
            };
            return Self::Server(server.with_help(help));
        }
        self.map_message(|message| format!("{message} ({place})"))
    }

    /// Returns a copy of the error for a caller that arrives `remaining` before the wait ends.
    pub(crate) fn with_retry_after(&self, remaining: Duration) -> Self {
        if let Self::Server(server) = self {
            return Self::Server(server.with_retry_after(remaining));
        }
        self.map_failure(|failure| failure.retry_after = Some(remaining))
    }

    fn map_message(&self, reword: impl FnOnce(&str) -> String) -> Self {
        self.map_failure(|failure| failure.message = reword(&failure.message))
    }

    fn map_failure(&self, change: impl FnOnce(&mut Failure)) -> Self {
        let mut error = self.clone();
        if let Some(details) = error.details_mut() {
            change(details.failure_mut());
        }
        error
    }
}

/// Prints the variant, the [`chain`](Error::chain) and the correlation id on one line, and with
/// `{:#?}` all fields.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let variant = format!("{:?}", self.kind());
        if f.alternate() {
            let mut tuple = f.debug_tuple(&variant);
            match (self, self.details()) {
                (Self::Server(server), _) => tuple.field(server),
                (_, Some(details)) => tuple.field(details),
                (_, None) => &mut tuple,
            };
            return tuple.finish();
        }
        let chain = self.chain().to_string();
        write!(f, "{variant}: {chain}")?;
        match self.correlation_id() {
            // Entra's descriptions end with the correlation id.
            Some(id) if !chain.contains(id) => write!(f, " (correlation id {id})"),
            _ => Ok(()),
        }
    }
}

/// Appends an error's cause, and the causes of the cause, to the error's text.
pub(crate) fn with_causes(
    mut text: String,
    mut cause: Option<&(dyn StdError + 'static)>,
) -> String {
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Returns whether retrying may cure the status ([RFC 9110 section 15], RFC 6585 section 4).
///
/// [RFC 9110 section 15]: https://www.rfc-editor.org/rfc/rfc9110#section-15
pub(crate) fn transient_status(status: StatusCode) -> bool {
    status.is_server_error()
        || status == StatusCode::REQUEST_TIMEOUT
        || status == StatusCode::TOO_MANY_REQUESTS
}

const TOO_EARLY: u16 = 425;
/// The status of a proxy that gave up on the server, which may have redeemed the grant. Not
/// registered.
const CLIENT_CLOSED_REQUEST: u16 = 499;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_two_words_and_its_debug_begins_with_the_variant() {
        assert!(size_of::<Error>() <= 2 * size_of::<usize>());
        assert!(format!("{:?}", Error::config("no")).starts_with("Config"));
        assert!(format!("{:?}", Error::credential("no")).starts_with("Credential"));
    }

    #[test]
    fn debug_is_the_variant_the_chain_and_the_correlation_id_on_one_line() {
        let cause = std::io::Error::other("connection\nrefused\u{1b}[2J");
        let error = Error::Transport(
            Failure::new("no response from the token endpoint")
                .correlation_id("a1a2")
                .source(Box::new(cause))
                .into(),
        );
        assert_eq!(
            format!("{error:?}"),
            "Transport: no response from the token endpoint: connection refused\\u{1b}[2J (correlation id a1a2)"
        );
        let structured = format!("{error:#?}");
        assert!(structured.starts_with("Transport(\n    ErrorDetails {"));
        assert!(structured.contains(r#"correlation_id: Some("#));
        assert_eq!(
            format!("{:?}", Error::config("no tenant")),
            "Config: no tenant"
        );
    }

    #[test]
    fn the_debug_of_a_server_error_has_the_correlation_id_once() {
        let mut response =
            ErrorResponse::new(StatusCode::UNAUTHORIZED, "invalid_client".to_owned());
        response.correlation_id = Some("a1a2".to_owned());
        let error = Error::Server(response.clone().into());
        let text = "Server: the token endpoint returned 401 invalid_client";
        assert_eq!(
            format!("{error:?}"),
            format!("{text} (correlation id a1a2)")
        );
        response.error_description = Some("Correlation ID: a1a2".to_owned());
        let error = Error::Server(response.into());
        assert_eq!(
            format!("{error:?}"),
            format!("{text}: Correlation ID: a1a2")
        );
        assert!(format!("{error:#?}").starts_with("Server(\n    ServerError {"));
    }

    #[test]
    fn each_variant_has_its_kind() {
        let details = || Failure::new("no").into();
        let server = ErrorResponse::new(StatusCode::BAD_REQUEST, "x".to_owned());
        for (error, kind) in [
            (Error::Config(details()), ErrorKind::Config),
            (Error::Credential(details()), ErrorKind::Credential),
            (Error::Transport(details()), ErrorKind::Transport),
            (Error::Server(server.into()), ErrorKind::Server),
            (Error::Throttled(details()), ErrorKind::Throttled),
            (
                Error::InvalidResponse(details()),
                ErrorKind::InvalidResponse,
            ),
            (
                Error::InteractionRequired(details()),
                ErrorKind::InteractionRequired,
            ),
        ] {
            assert_eq!(error.kind(), kind);
            assert!(format!("{error:?}").starts_with(&format!("{kind:?}: ")));
            let later = error.with_retry_after(Duration::from_secs(3));
            assert_eq!(
                (later.kind(), later.retry_after()),
                (kind, Some(Duration::from_secs(3)))
            );
        }
    }

    #[test]
    fn the_cause_is_in_the_chain_and_not_in_the_message() {
        let cause = std::io::Error::other("connection reset");
        let error = Error::Transport(
            Failure::new("no response from the token endpoint")
                .source(Box::new(cause))
                .into(),
        );
        assert_eq!(error.to_string(), "no response from the token endpoint");
        assert_eq!(error.source().unwrap().to_string(), "connection reset");
    }

    #[test]
    fn a_credential_is_rejected_by_invalid_client_or_a_401_that_names_nothing_else() {
        let rejected = |error: &str| {
            let response = ErrorResponse::new(StatusCode::UNAUTHORIZED, error.to_owned());
            Error::Server(response.into()).is_credential_rejected()
        };
        assert!(rejected("invalid_client"));
        assert!(!rejected("unauthorized_client"));
        assert!(!rejected("invalid_grant"));
        assert!(rejected("access_denied"), "Auth0's 401");
        let response = ErrorResponse::new(StatusCode::BAD_REQUEST, "access_denied".to_owned());
        assert!(!Error::Server(response.into()).is_credential_rejected());
    }

    #[test]
    fn a_server_error_returns_the_rest_of_the_wait() {
        let response = ErrorResponse::new(StatusCode::BAD_REQUEST, "invalid_scope".to_owned());
        let later = Error::Server(response.into()).with_retry_after(Duration::from_secs(3));
        assert_eq!(later.retry_after(), Some(Duration::from_secs(3)));
    }

    #[test]
    fn the_chain_includes_all_causes() {
        #[derive(Debug, thiserror::Error)]
        #[error("no route")]
        struct NoRoute(#[source] std::io::Error);

        let cause = NoRoute(std::io::Error::other("cable"));
        let failure = Failure::new("no response").source(Box::new(cause));
        let error = Error::Transport(failure.into());
        assert_eq!(error.chain().to_string(), "no response: no route: cable");
        assert!(format!("{error:?}").contains("cable"));
    }

    #[test]
    fn without_an_oauth_error_the_status_decides() {
        let invalid = |status: u16| {
            let status = StatusCode::from_u16(status).unwrap();
            Error::InvalidResponse(Failure::new("unreadable").status(status).into())
        };
        for (status, transient) in [
            (200, false),
            (302, false),
            (404, false),
            (408, true),
            (429, true),
            (500, true),
            (503, true),
        ] {
            assert_eq!(invalid(status).is_transient(), transient, "{status}");
        }
    }

    #[test]
    fn a_cached_error_returns_the_rest_of_the_wait() {
        let error = Error::Throttled(Failure::new("wait").into());
        assert_eq!(error.retry_after(), None);
        let later = error.with_retry_after(Duration::from_secs(3));
        assert_eq!(later.retry_after(), Some(Duration::from_secs(3)));
        assert!(matches!(later, Error::Throttled(_)));
        assert_eq!(later.to_string(), "wait (next attempt in 3 s)");
        let moment = error.with_retry_after(Duration::from_millis(1));
        assert_eq!(moment.to_string(), "wait (next attempt in 1 s)");
    }
}
