use http::{HeaderValue, StatusCode};

use super::rejection::TokenRejection;

/// The two answers of a protected route, kept apart: what the client was granted, and what its user
/// may do. Each comes of itself, by `?`, from the check that gave it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AccessDenied {
    /// The token is not taken, or does not let its client do this: *client authorization*.
    #[error(transparent)]
    Client(#[from] TokenRejection),
    /// The client may, and its user may not: *user authorization*.
    #[error(transparent)]
    User(#[from] UserNotAllowed),
}

/// The user may not do this, whatever the client was granted. Another token would not help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", match .has_user {
    true => "the user may not do this, whatever the client was granted",
    false => "the token is an application's, and there is no user who may do this",
})]
pub struct UserNotAllowed {
    has_user: bool,
}

impl UserNotAllowed {
    pub(super) fn new(has_user: bool) -> Self {
        Self { has_user }
    }

    /// The status of the answer: 403, without a challenge.
    pub fn status(&self) -> StatusCode {
        StatusCode::FORBIDDEN
    }
}

impl AccessDenied {
    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Client(refusal) => refusal.status(),
            Self::User(refusal) => refusal.status(),
        }
    }

    /// The `WWW-Authenticate` header of the answer; `None` where the user was refused.
    pub fn www_authenticate(&self) -> Option<HeaderValue> {
        match self {
            Self::Client(refusal) => refusal.www_authenticate(),
            Self::User(_) => None,
        }
    }
}
