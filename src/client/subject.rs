use std::sync::Arc;

use crate::authority::Tenant;
use crate::cache::Session;
use crate::delegated::{Account, UserAssertion};
use crate::token::Kind;

/// Whose token is asked for, and by what.
#[derive(Clone)]
pub(crate) enum Subject {
    Application,
    OnBehalfOf(UserAssertion),
    Account(Account),
}

impl Subject {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Application => Kind::Application,
            Self::OnBehalfOf(assertion) => Kind::User(assertion.user().clone()),
            Self::Account(account) => Kind::User(account.user().clone()),
        }
    }

    /// Where a user is at home, for a client that serves many tenants.
    pub(super) fn tenant(&self) -> Option<&Tenant> {
        match self {
            Self::Application => None,
            Self::OnBehalfOf(assertion) => assertion.tenant(),
            Self::Account(account) => account.tenant(),
        }
    }
}

/// By what a token is asked for.
pub(super) enum Way {
    Application,
    /// By the refresh token that came last; else by the assertion, if there is one.
    User {
        session: Option<Arc<Session>>,
        assertion: Option<UserAssertion>,
    },
}
