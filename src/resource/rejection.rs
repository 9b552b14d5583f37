use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderValue, StatusCode};

use crate::error::Error;
use crate::jwt::JwtError;

/// Why a request is not served: its token failed a check, or does not allow its client to do this.
///
/// It says what to answer: [`status`](Self::status), [`www_authenticate`](Self::www_authenticate)
/// and [`retry_after`](Self::retry_after); the axum adapter turns it into that answer. `Display`
/// says which check failed, in one line that is safe to log and to show to the client.
#[derive(Clone)]
pub struct TokenRejection(Arc<Parts>);

struct Parts {
    reason: RejectionReason,
    message: String,
    /// Those that would do, any of them.
    scope: Option<String>,
    /// What a token has to be asked for with, as JSON.
    claims: Option<String>,
    authorization_uri: Option<Arc<str>>,
    /// Why there are no keys.
    source: Option<Error>,
}

/// Which check failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RejectionReason {
    /// The request carries no bearer token.
    NoToken,
    /// It carries two, or an empty one.
    InvalidRequest,
    /// The token is no signed JWT, lacks a claim or has one that cannot be read, or is too long.
    Malformed,
    /// The token is signed by an algorithm that is not taken, such as `none` or `HS256`.
    Algorithm,
    /// The key that the token names is not published by the identity provider, or not for that.
    Key,
    /// The signature is not that of the key.
    Signature,
    /// The token, or the key that signed it, is another issuer's.
    Issuer,
    /// The token is of a tenant that is not let in.
    Tenant,
    /// The token is for another API.
    Audience,
    /// The token is for Microsoft Graph.
    ForGraph,
    /// The token's end has passed.
    Expired,
    /// The token's time has not come.
    NotYetValid,
    /// The token is an ID token or another kind that is for somebody else.
    NotAnAccessToken,
    /// The client was not granted a scope that this takes.
    MissingScope,
    /// The application was not granted a role that this takes.
    MissingRole,
    /// This is done for a user alone, and the token is an application's.
    NeedsUser,
    /// This is done for an application alone, and the token is a user's.
    NeedsApplication,
    /// The user has to prove more: a claims challenge.
    AuthenticationContext,
    /// The identity provider's keys cannot be had.
    KeysUnavailable,
}

impl TokenRejection {
    pub(super) fn new(reason: RejectionReason, message: impl Into<String>) -> Self {
        Parts::new(reason, message).into()
    }

    /// Any of `scopes` would do.
    pub(super) fn insufficient(reason: RejectionReason, message: String, scopes: &[&str]) -> Self {
        Self::from(Parts {
            scope: (!scopes.is_empty()).then(|| scopes.join(" ")),
            ..Parts::new(reason, message)
        })
    }

    /// A token asked for with `claims` would do.
    pub(super) fn challenge(
        message: String,
        claims: String,
        authorization_uri: Option<Arc<str>>,
    ) -> Self {
        Self::from(Parts {
            claims: Some(claims),
            authorization_uri,
            ..Parts::new(RejectionReason::AuthenticationContext, message)
        })
    }

    pub(super) fn keys_unavailable(error: Error) -> Self {
        let message =
            "the token cannot be checked now, as the identity provider's keys cannot be had";
        Self::from(Parts {
            source: Some(error),
            ..Parts::new(RejectionReason::KeysUnavailable, message)
        })
    }

    /// Which check failed.
    pub fn reason(&self) -> RejectionReason {
        self.0.reason
    }

    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        self.0.reason.status()
    }

    /// The `WWW-Authenticate` header of the answer ([RFC 6750 section 3]): what is wrong with the
    /// token, which scope it lacks, or the claims to ask for another with. `None` for a 503.
    ///
    /// [RFC 6750 section 3]: https://www.rfc-editor.org/rfc/rfc6750#section-3
    pub fn www_authenticate(&self) -> Option<HeaderValue> {
        let mut challenge = r#"Bearer realm="""#.to_owned();
        let mut add = |name: &str, value: &str| {
            challenge.push_str(&format!(r#", {name}="{}""#, quotable(value)));
        };
        if let Some(uri) = &self.0.authorization_uri {
            add("authorization_uri", uri);
        }
        match self.0.reason.error() {
            Some(error) => {
                add("error", error);
                add("error_description", &self.0.message);
            }
            None if self.0.reason == RejectionReason::KeysUnavailable => return None,
            None => {}
        }
        if let Some(scope) = &self.0.scope {
            add("scope", scope);
        }
        if let Some(claims) = &self.0.claims {
            add("claims", &BASE64_STANDARD.encode(claims));
        }
        HeaderValue::try_from(challenge).ok()
    }

    /// After how long the client may come again; for a 503 alone.
    pub fn retry_after(&self) -> Option<Duration> {
        let error = self.0.source.as_ref()?;
        Some(error.retry_after().unwrap_or(A_MOMENT))
    }

    /// Tells the log, which says nothing of the token but this.
    pub(super) fn record(&self) {
        match &self.0.source {
            Some(error) => tracing::warn!(
                error = %error.chain(),
                "a token could not be checked"
            ),
            None => {
                tracing::debug!(reason = ?self.0.reason, why = self.0.message, "a token was refused")
            }
        }
    }
}

impl Parts {
    fn new(reason: RejectionReason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            scope: None,
            claims: None,
            authorization_uri: None,
            source: None,
        }
    }
}

impl From<Parts> for TokenRejection {
    fn from(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }
}

impl RejectionReason {
    fn status(self) -> StatusCode {
        match self {
            Self::InvalidRequest => StatusCode::BAD_REQUEST,
            Self::MissingScope | Self::MissingRole | Self::NeedsUser | Self::NeedsApplication => {
                StatusCode::FORBIDDEN
            }
            Self::KeysUnavailable => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::UNAUTHORIZED,
        }
    }

    /// Its code; none where there was no token ([RFC 6750 section 3.1]).
    ///
    /// [RFC 6750 section 3.1]: https://www.rfc-editor.org/rfc/rfc6750#section-3.1
    fn error(self) -> Option<&'static str> {
        match self {
            Self::NoToken | Self::KeysUnavailable => None,
            Self::InvalidRequest => Some("invalid_request"),
            Self::MissingScope | Self::MissingRole | Self::NeedsUser | Self::NeedsApplication => {
                Some("insufficient_scope")
            }
            // Microsoft's, which its clients answer.
            Self::AuthenticationContext => Some("insufficient_claims"),
            _ => Some("invalid_token"),
        }
    }
}

impl From<JwtError> for TokenRejection {
    fn from(error: JwtError) -> Self {
        let reason = match error {
            JwtError::TooLong
            | JwtError::Malformed(_)
            | JwtError::Critical
            | JwtError::Claim(_) => RejectionReason::Malformed,
            JwtError::Algorithm(_) => RejectionReason::Algorithm,
            JwtError::Type(_) | JwtError::AuthorizedParty(_) => RejectionReason::NotAnAccessToken,
            JwtError::UnknownKey | JwtError::UnnamedKey | JwtError::UnfitKey => {
                RejectionReason::Key
            }
            JwtError::Signature | JwtError::NoBackend(_) => RejectionReason::Signature,
            JwtError::ForGraph => RejectionReason::ForGraph,
            JwtError::Issuer(_) | JwtError::KeyIssuer => RejectionReason::Issuer,
            JwtError::Audience(_) => RejectionReason::Audience,
            JwtError::Expired => RejectionReason::Expired,
            JwtError::NotYetValid => RejectionReason::NotYetValid,
        };
        Self::new(reason, error.to_string())
    }
}

impl fmt::Display for TokenRejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for TokenRejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenRejection")
            .field("reason", &self.0.reason)
            .field("message", &self.0.message)
            .field("source", &self.0.source)
            .finish_non_exhaustive()
    }
}

impl StdError for TokenRejection {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_ref().map(|error| error as _)
    }
}

/// What may stand between the quotes of a parameter ([RFC 6750 section 3]).
fn quotable(text: &str) -> String {
    let plain = |c: char| match c {
        '"' => '\'',
        '\\' => '/',
        ' '..='~' => c,
        _ => '?',
    };
    text.chars().map(plain).collect()
}

/// What a client waits that is told nothing else.
const A_MOMENT: Duration = Duration::from_secs(5);
