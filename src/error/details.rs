use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use super::ServerError;

/// The details of every [`Error`](crate::Error) except [`Error::Server`](crate::Error::Server).
///
/// `Display` prints the message. The methods of [`Error`](crate::Error) return the other details.
#[derive(Clone)]
pub struct ErrorDetails(Arc<Failure>);

impl ErrorDetails {
    pub(super) fn failure(&self) -> &Failure {
        &self.0
    }

    pub(super) fn failure_mut(&mut self) -> &mut Failure {
        Arc::make_mut(&mut self.0)
    }
}

impl fmt::Display for ErrorDetails {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        match self.0.retry_after {
            // Rounded up, so that a wait of some milliseconds does not read as 0 s.
            Some(wait) if !wait.is_zero() => write!(
                f,
                " (next attempt in {} s)",
                wait.as_millis().div_ceil(1000)
            ),
            _ => Ok(()),
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

/// The fields of an [`ErrorDetails`], set by value.
#[derive(Clone)]
pub(crate) struct Failure {
    pub(super) message: String,
    pub(super) status: Option<StatusCode>,
    pub(super) correlation_id: Option<String>,
    pub(super) retry_after: Option<Duration>,
    /// True if code supplied by the caller failed, such as a credential callback.
    pub(super) in_callback: bool,
    /// True if no request reached the host, so that the failure says nothing about the host.
    pub(super) not_sent: bool,
    /// True if no retry cures a missing response, such as after an untrusted certificate.
    pub(super) is_permanent: bool,
    /// True if the token endpoint rejected the credential without an OAuth error.
    pub(super) rejects_credential: bool,
    /// True if the private key of a certificate no longer exists, so that another may.
    pub(super) has_lost_key: bool,
    pub(super) server: Option<ServerError>,
    /// JSON claims that the user's next sign-in must satisfy.
    pub(super) claims: Option<Arc<str>>,
    pub(super) source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            status: None,
            correlation_id: None,
            retry_after: None,
            in_callback: false,
            not_sent: false,
            is_permanent: false,
            rejects_credential: false,
            has_lost_key: false,
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

    pub(crate) fn in_callback(mut self) -> Self {
        self.in_callback = true;
        self
    }

    pub(crate) fn not_sent(mut self) -> Self {
        self.not_sent = true;
        self
    }

    /// Marks a failure that no retry cures. No request reached the host.
    pub(crate) fn permanent(mut self) -> Self {
        self.is_permanent = true;
        self.not_sent = true;
        self
    }

    pub(crate) fn rejects_credential(mut self, rejects_credential: bool) -> Self {
        self.rejects_credential = rejects_credential;
        self
    }

    #[cfg(feature = "pkcs11")]
    pub(crate) fn lost_key(mut self) -> Self {
        self.has_lost_key = true;
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
