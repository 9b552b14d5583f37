use std::sync::Arc;

use crate::authority::Tenant;
use crate::delegated::{UserAssertion, UserIdentifier};
use crate::error::Error;
use crate::token::UserKey;

/// The owner of a token that an agent identity acquires: the agent itself, or a user.
#[derive(Clone)]
pub(crate) struct AgentSubject {
    pub(in crate::client) agent: Agent,
    pub(in crate::client) acting: Acting,
    key: Arc<UserKey>,
}

/// The party that an agent identity acts for.
#[derive(Clone)]
pub(crate) enum Acting {
    /// The agent itself.
    Alone,
    /// The user who called the blueprint.
    OnBehalfOf(UserAssertion),
    /// A user of the agent's own, such as the agent's user account.
    As(UserIdentifier),
}

/// An agent identity by its client id.
#[derive(Clone)]
pub(in crate::client) struct Agent {
    id: Arc<str>,
    /// The key of the agent's own tokens.
    key: Arc<UserKey>,
}

impl Agent {
    pub(super) fn new(id: String) -> Self {
        let id: Arc<str> = id.into();
        let key = UserKey::Agent {
            agent: Arc::clone(&id),
            user: None,
        };
        Self {
            id,
            key: Arc::new(key),
        }
    }

    pub(in crate::client) fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// Returns the key of a user whom the agent acts for. Another agent has another key for the
    /// same user.
    pub(super) fn key_of(&self, user: &Arc<UserKey>) -> Arc<UserKey> {
        Arc::new(UserKey::Agent {
            agent: Arc::clone(&self.id),
            user: Some(Arc::clone(user)),
        })
    }
}

impl AgentSubject {
    pub(in crate::client) fn new(agent: &Agent, acting: Acting) -> Self {
        Self {
            key: match &acting {
                Acting::Alone => Arc::clone(&agent.key),
                Acting::OnBehalfOf(assertion) => agent.key_of(assertion.user()),
                Acting::As(user) => agent.key_of(user.user()),
            },
            agent: agent.clone(),
            acting,
        }
    }

    /// Returns whether the token acts for a user.
    pub(in crate::client) fn acts_for_a_user(&self) -> bool {
        !matches!(self.acting, Acting::Alone)
    }

    pub(in crate::client) fn key(&self) -> &Arc<UserKey> {
        &self.key
    }

    /// Checks the user before a token request.
    pub(in crate::client) fn check(&self) -> Result<(), Error> {
        match &self.acting {
            Acting::Alone => Ok(()),
            Acting::OnBehalfOf(assertion) => assertion.check(),
            Acting::As(user) => user.name().map(drop),
        }
    }

    /// Returns the tenant that the user is from.
    pub(in crate::client) fn tenant(&self) -> Option<&Tenant> {
        match &self.acting {
            Acting::Alone | Acting::As(_) => None,
            Acting::OnBehalfOf(assertion) => assertion.tenant(),
        }
    }
}
