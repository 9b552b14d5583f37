use http::{HeaderValue, StatusCode};

use super::rejection::TokenRejection;

/// The error for a request that the client or the user is not allowed to make.
///
/// A client that lacks a scope and a user who lacks a right get different errors. The `?` operator
/// converts the error of each check into the matching variant.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AccessDenied {
    /// Client authorization failed. The token is rejected or does not grant the operation.
    #[error(transparent)]
    Client(#[from] TokenRejection),
    /// User authorization failed. The client has the permission, but the user does not.
    #[error(transparent)]
    User(#[from] UserNotAllowed),
}

/// The error for a user without the right to perform the operation.
///
/// The permissions of the client do not matter, so requesting another token does not help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct UserNotAllowed(UserDenial);

/// The rule that denied access to the user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum UserDenial {
    #[error("the token does not act for a user, and this operation requires a user")]
    NoUser,
    #[error("the user may not do this, whatever the client was granted")]
    NotAllowed,
    #[error("the user does not have the role '{0}'")]
    MissingRole(Box<str>),
}

impl UserNotAllowed {
    pub(super) fn no_user() -> Self {
        Self(UserDenial::NoUser)
    }

    pub(super) fn not_allowed() -> Self {
        Self(UserDenial::NotAllowed)
    }

    pub(super) fn missing_role(role: &str) -> Self {
        Self(UserDenial::MissingRole(role.into()))
    }

    /// Returns the name of the rule that denied access, for the log.
    pub(super) fn rule(&self) -> &'static str {
        match self.0 {
            UserDenial::NoUser => "NoUser",
            UserDenial::NotAllowed => "UserNotAllowed",
            UserDenial::MissingRole(_) => "MissingUserRole",
        }
    }

    /// Returns the status of the response, which is 403 without a challenge.
    pub fn status(&self) -> StatusCode {
        StatusCode::FORBIDDEN
    }
}

impl AccessDenied {
    /// Returns the status of the response.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Client(rejection) => rejection.status(),
            Self::User(denial) => denial.status(),
        }
    }

    /// Returns the `WWW-Authenticate` header of the response.
    ///
    /// Returns `None` for [`AccessDenied::User`].
    pub fn www_authenticate(&self) -> Option<HeaderValue> {
        match self {
            Self::Client(rejection) => rejection.www_authenticate(),
            Self::User(_) => None,
        }
    }
}
