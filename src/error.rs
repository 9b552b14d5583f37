use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

mod server;

pub use server::ServerError;
pub(crate) use server::{ErrorResponse, Escaped};

/// Why there is no token. The variant says who must act.
///
/// Cheap to clone: everyone who waited for one token request gets the same error. Neither
/// `Display` nor `Debug` shows a secret, a token or an assertion, and text that came from a server
/// is shown with its control characters escaped. `Display` says what failed; why, such as
/// "connection refused", may be in [`source()`](std::error::Error::source), so print the chain.
///
/// A daemon that goes on after an error waits for [`retry_after`](Self::retry_after): asking the
/// client sooner costs nothing and brings the same error. One that gives up does so where
/// [`is_transient`](Self::is_transient) is false: time alone will not cure that.
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
/// ```
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The caller's code or configuration is wrong; found by `build()` or before the network.
    #[error(transparent)]
    Config(ErrorDetails),
    /// The holder of the key must act: a certificate or private key cannot be used.
    #[error(transparent)]
    Credential(ErrorDetails),
    /// The identity provider gave no answer.
    #[error(transparent)]
    Transport(ErrorDetails),
    /// The identity provider answered, and the answer is no.
    #[error(transparent)]
    Server(ServerError),
    /// The identity provider told us to wait: 429, or 503 with `Retry-After`.
    #[error(transparent)]
    Throttled(ErrorDetails),
    /// The identity provider's answer cannot be read.
    #[error(transparent)]
    InvalidResponse(ErrorDetails),
    /// A user must act: nothing in memory can go on for them, so they have to sign in (again).
    #[error(transparent)]
    InteractionRequired(ErrorDetails),
}

impl Error {
    /// Whether time alone may cure it: no answer, throttling, 408, 5xx, or an `error` that says so.
    ///
    /// A closure, a vault or another application that was asked for a credential, a signature or an
    /// assertion and failed is taken for one that may be back soon, unless its error is one of these
    /// that says otherwise.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Transport(_) | Self::Throttled(_) => true,
            Self::Server(server) => server.is_transient(),
            Self::InvalidResponse(details) => details.0.status.is_some_and(transient_status),
            // As where another application vouches for this one, and had no answer itself.
            Self::Credential(details) => {
                let source = details.0.source.as_deref();
                let error = source.and_then(|source| source.downcast_ref::<Self>());
                error.map_or(details.0.from_callback, Self::is_transient)
            }
            Self::Config(_) | Self::InteractionRequired(_) => false,
        }
    }

    /// For how long from now the client will answer with this error without asking the identity
    /// provider again; `None` where it was found before the network.
    ///
    /// It is what the provider asked for with `Retry-After`, up to an hour with 429 and five
    /// minutes otherwise. Where it asked for nothing it is a second or more for what time may
    /// cure, up to about 37 s if that goes on, and from five to 60 seconds for the rest.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Server(server) => server.retry_after(),
            other => other.details().and_then(|details| details.0.retry_after),
        }
    }

    /// The claims that are asked for, as JSON, to pass on with the next request: by the identity
    /// provider, or by the API whose claims were passed on in vain.
    ///
    /// A web app passes them on with the [`AuthorizationRequest`](crate::delegated::AuthorizationRequest) that
    /// signs the user in again; a web API that acts on behalf of a user hands them to its caller.
    pub fn claims_challenge(&self) -> Option<&str> {
        let asked_by_the_provider = self.server_error().and_then(ServerError::claims);
        asked_by_the_provider.or_else(|| self.details()?.0.claims.as_deref())
    }

    /// Whether only a user in front of a browser can help: consent, sign-in, multi-factor.
    ///
    /// A web app sends the user to the page of
    /// [`authorization_request_url`](crate::ConfidentialClient::authorization_request_url), with
    /// [`claims_challenge`](Self::claims_challenge) if there is one. A web API that acts on behalf of
    /// a user has nobody in front of it: it answers its caller 401 or 403, and says why.
    pub fn needs_user_interaction(&self) -> bool {
        matches!(self, Self::InteractionRequired(_))
            || self
                .server_error()
                .is_some_and(ServerError::needs_user_interaction)
    }

    /// Whether what was sent in the name of a user was refused (`invalid_grant`), and neither consent
    /// nor another factor is all that is missing.
    pub(crate) fn is_grant_used_up(&self) -> bool {
        let server = self.server_error();
        server.is_some_and(|server| server.is_invalid_grant() && !server.asks_for_more())
    }

    /// Whether the identity provider refused the credential itself (`invalid_client`).
    pub fn is_credential_rejected(&self) -> bool {
        self.server_error()
            .is_some_and(|server| server.error() == "invalid_client")
    }

    /// The HTTP status of the answer, where there was one, whatever its body.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Server(server) => Some(server.status()),
            other => other.details().and_then(|details| details.0.status),
        }
    }

    /// The correlation id of the token request that failed: what a support engineer asks for.
    ///
    /// Callers who shared one request share its id; `None` where no request was made.
    pub fn correlation_id(&self) -> Option<&str> {
        match self {
            Self::Server(server) => server.correlation_id(),
            other => other
                .details()
                .and_then(|details| details.0.correlation_id.as_deref()),
        }
    }

    /// The error and its causes on one line, for a log.
    ///
    /// ```
    /// use confidential_client::credential::SecretFile;
    ///
    /// let error = SecretFile::new("/nowhere/secret").read().unwrap_err();
    /// let text = error.chain().to_string();
    /// assert!(text.starts_with("the secret file /nowhere/secret cannot be read: No such file"));
    /// ```
    pub fn chain(&self) -> impl fmt::Display + use<> {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }

    /// The answer's OAuth error, be it a refusal, a request to wait, or what a user was sent back
    /// with.
    pub fn server_error(&self) -> Option<&ServerError> {
        match self {
            Self::Server(server) => Some(server),
            other => other
                .details()
                .and_then(|details| details.0.server.as_ref()),
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

    pub(crate) fn config(message: impl Into<String>) -> Self {
        Self::Config(Failure::new(message).into())
    }

    pub(crate) fn credential(message: impl Into<String>) -> Self {
        Self::Credential(Failure::new(message).into())
    }

    /// The first of the answer's AADSTS codes.
    pub(crate) fn aadsts(&self) -> Option<u64> {
        self.server_error()?.error_codes().first().copied()
    }

    /// Whether the authority's host was asked and gave no answer, or one that says that it is down.
    pub(crate) fn host_is_down(&self) -> Option<bool> {
        match (self, self.status()) {
            (_, Some(status)) => Some(status.is_server_error()),
            (Self::Transport(details), None) => (!details.0.not_sent).then_some(true),
            (_, None) => None,
        }
    }

    /// What others are told of it for whom the host was not asked: its cause and its status, and
    /// nothing that belongs to the request.
    pub(crate) fn for_other_callers(&self) -> Self {
        let message = "the identity provider is taken to be down, as other token requests had no answer or a server error";
        let mut failure = Failure::new(message);
        failure.status = self.status();
        failure.source = self.details().and_then(|details| details.0.source.clone());
        Self::Transport(failure.into())
    }

    /// The same error, after that many attempts.
    pub(crate) fn after_attempts(self, attempts: u32) -> Self {
        let tell = |message: &str| format!("{message} ({attempts} attempts)");
        match self {
            Self::Throttled(details) => Self::Throttled(details.map_message(tell)),
            Self::Transport(details) => Self::Transport(details.map_message(tell)),
            Self::InvalidResponse(details) => Self::InvalidResponse(details.map_message(tell)),
            other => other,
        }
    }

    /// The same error, found in `what`.
    pub(crate) fn about(self, what: &str) -> Self {
        let tell = |message: &str| format!("the {what} cannot be used: {message}");
        match self {
            Self::Config(details) => Self::Config(details.map_message(tell)),
            Self::Credential(details) => Self::Credential(details.map_message(tell)),
            other => other,
        }
    }

    /// The same error, as it is told to someone who comes `remaining` before the wait is over.
    pub(crate) fn with_retry_after(&self, remaining: Duration) -> Self {
        let wait = |details: &ErrorDetails| {
            let mut failure = Failure::clone(&details.0);
            failure.retry_after = Some(remaining);
            failure.into()
        };
        match self {
            Self::Config(details) => Self::Config(wait(details)),
            Self::Credential(details) => Self::Credential(wait(details)),
            Self::Transport(details) => Self::Transport(wait(details)),
            Self::Throttled(details) => Self::Throttled(wait(details)),
            Self::InvalidResponse(details) => Self::InvalidResponse(wait(details)),
            Self::InteractionRequired(details) => Self::InteractionRequired(wait(details)),
            Self::Server(server) => Self::Server(server.with_retry_after(remaining)),
        }
    }
}

/// What an [`Error`] other than [`Error::Server`] knows; shown by `Display`, opaque otherwise.
///
/// The accessors are on [`Error`].
#[derive(Clone)]
pub struct ErrorDetails(Arc<Failure>);

impl ErrorDetails {
    /// The same, in other words.
    fn map_message(&self, tell: impl FnOnce(&str) -> String) -> Self {
        let mut failure = Failure::clone(&self.0);
        failure.message = tell(&failure.message);
        failure.into()
    }
}

impl fmt::Display for ErrorDetails {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        match self.0.retry_after {
            // Rounded up: a wait of no seconds is none.
            Some(wait) => write!(
                f,
                " (next attempt in {} s)",
                wait.as_millis().div_ceil(1000)
            ),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for ErrorDetails {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ErrorDetails")
            .field("message", &self.0.message)
            .field("status", &self.0.status)
            .field("correlation_id", &self.0.correlation_id)
            .field("retry_after", &self.0.retry_after)
            .field("server", &self.0.server)
            .field("source", &self.0.source)
            .finish()
    }
}

impl StdError for ErrorDetails {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

impl From<Failure> for ErrorDetails {
    fn from(failure: Failure) -> Self {
        Self(Arc::new(failure))
    }
}

/// The parts of an [`ErrorDetails`], while it is put together.
#[derive(Clone)]
pub(crate) struct Failure {
    message: String,
    status: Option<StatusCode>,
    correlation_id: Option<String>,
    retry_after: Option<Duration>,
    /// By somebody of whom nothing is known.
    from_callback: bool,
    /// It says nothing about the host.
    not_sent: bool,
    server: Option<ServerError>,
    /// JSON that a user's signing in has to meet.
    claims: Option<Arc<str>>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            status: None,
            correlation_id: None,
            retry_after: None,
            from_callback: false,
            not_sent: false,
            server: None,
            claims: None,
            source: None,
        }
    }

    pub(crate) fn status(mut self, status: StatusCode) -> Self {
        self.status = Some(status);
        self
    }

    pub(crate) fn correlation_id(mut self, id: &str) -> Self {
        self.correlation_id = Some(id.to_owned());
        self
    }

    pub(crate) fn retry_after(mut self, retry_after: Option<Duration>) -> Self {
        self.retry_after = retry_after;
        self
    }

    pub(crate) fn from_callback(mut self) -> Self {
        self.from_callback = true;
        self
    }

    pub(crate) fn not_sent(mut self) -> Self {
        self.not_sent = true;
        self
    }

    pub(crate) fn server(mut self, server: Option<ServerError>) -> Self {
        self.server = server;
        self
    }

    pub(crate) fn claims(mut self, claims: Option<Arc<str>>) -> Self {
        self.claims = claims;
        self
    }

    pub(crate) fn source(mut self, source: Box<dyn StdError + Send + Sync>) -> Self {
        self.source = Some(Arc::from(source));
        self
    }
}

/// A status that time may cure ([RFC 9110 section 15], RFC 6585 section 4).
///
/// [RFC 9110 section 15]: https://www.rfc-editor.org/rfc/rfc9110#section-15
pub(crate) fn transient_status(status: StatusCode) -> bool {
    status.is_server_error()
        || status == StatusCode::REQUEST_TIMEOUT
        || status == StatusCode::TOO_MANY_REQUESTS
}

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
    fn the_cause_is_in_the_chain_and_not_in_the_message() {
        let cause = std::io::Error::other("connection reset");
        let error = Error::Transport(
            Failure::new("no answer from the token endpoint")
                .source(Box::new(cause))
                .into(),
        );
        assert_eq!(error.to_string(), "no answer from the token endpoint");
        assert_eq!(error.source().unwrap().to_string(), "connection reset");
    }

    #[test]
    fn a_credential_is_rejected_by_invalid_client_alone() {
        let rejected = |error: &str| {
            let answer = ErrorResponse::new(StatusCode::UNAUTHORIZED, error.to_owned());
            Error::Server(answer.into()).is_credential_rejected()
        };
        assert!(rejected("invalid_client"));
        assert!(!rejected("unauthorized_client"));
    }

    #[test]
    fn a_refusal_tells_what_is_left_of_the_wait_too() {
        let answer = ErrorResponse::new(StatusCode::BAD_REQUEST, "invalid_scope".to_owned());
        let later = Error::Server(answer.into()).with_retry_after(Duration::from_secs(3));
        assert_eq!(later.retry_after(), Some(Duration::from_secs(3)));
    }

    #[test]
    fn the_chain_goes_to_its_end() {
        #[derive(Debug, thiserror::Error)]
        #[error("no route")]
        struct NoRoute(#[source] std::io::Error);

        let cause = NoRoute(std::io::Error::other("cable"));
        let failure = Failure::new("no answer").source(Box::new(cause));
        let error = Error::Transport(failure.into());
        assert_eq!(error.chain().to_string(), "no answer: no route: cable");
        assert!(format!("{error:?}").contains("cable"));
    }

    #[test]
    fn predicates_look_at_status_where_no_oauth_error_came() {
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
    fn a_remembered_error_tells_what_is_left_of_the_wait() {
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
