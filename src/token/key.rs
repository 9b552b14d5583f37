use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::authority::Tenant;
use crate::request::parameters::Parameters;
use crate::scope::ScopeSet;

/// The cache key of a token: the full identity of a request.
///
/// A key belongs to one client, so the authority and the client id are left out. Values that differ
/// from call to call, such as a correlation id, are left out too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CacheKey {
    pub(crate) tenant: Option<Tenant>,
    pub(crate) scopes: ScopeSet,
    /// The user, or `None` for the application itself.
    pub(crate) user: Option<Arc<UserKey>>,
    pub(crate) parameters: Parameters,
}

impl Hash for CacheKey {
    /// Hashes the fields that are present. A derived hash would add a word for each `Option`, which
    /// a cache hit pays for.
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        if let Some(tenant) = &self.tenant {
            tenant.hash(state);
        }
        self.scopes.hash(state);
        if let Some(user) = &self.user {
            user.hash(state);
        }
        if !self.parameters.is_empty() {
            self.parameters.hash(state);
        }
    }
}

impl CacheKey {
    /// Returns the tenant as requested, for the log.
    pub(crate) fn tenant_name(&self) -> Option<&str> {
        self.tenant.as_ref().map(Tenant::as_str)
    }

    /// Returns the resource of the first scope, for the log.
    pub(crate) fn resource(&self) -> &str {
        self.scopes.resource()
    }

    pub(crate) fn is_for_user(&self, user: &UserKey) -> bool {
        self.user.as_deref() == Some(user)
    }
}

/// The identity of a user in the cache.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) enum UserKey {
    /// The caller with a user assertion, by the SHA-256 of the assertion.
    Assertion([u8; 32]),
    /// A signed-in user, by the home account id.
    Account(Box<str>),
    /// The user of a long-running process, by the SHA-256 of the process's key.
    LongRunning([u8; 32]),
    /// The subject and the actor of a token exchange, by the SHA-256 of the exchanged tokens and of
    /// the types.
    Exchange([u8; 32]),
    /// A user with a federated credential, by the object id or the username.
    Federated(Box<str>),
    /// An agent identity by its client id: the agent itself, or a user that it acts for.
    ///
    /// The tokens of a blueprint and of its agent identities are in one cache. The client id keeps
    /// them apart.
    Agent {
        agent: Arc<str>,
        user: Option<Arc<UserKey>>,
    },
}

impl UserKey {
    /// Returns whether the application names the user, and acts as the user by a federated
    /// credential.
    pub(crate) fn is_federated(&self) -> bool {
        match self {
            Self::Federated(_) => true,
            Self::Agent { user, .. } => user.as_ref().is_some_and(|user| user.is_federated()),
            _ => false,
        }
    }
}

impl fmt::Debug for UserKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Assertion(_) => "Assertion(..)",
            Self::Account(_) => "Account(..)",
            Self::LongRunning(_) => "LongRunning(..)",
            Self::Exchange(_) => "Exchange(..)",
            Self::Federated(_) => "Federated(..)",
            Self::Agent { .. } => "Agent(..)",
        })
    }
}

#[cfg(test)]
impl CacheKey {
    pub(crate) fn sample(tenant: &str) -> Arc<Self> {
        Arc::new(Self {
            tenant: Tenant::parse(tenant).ok(),
            scopes: ScopeSet::default(),
            user: None,
            parameters: Parameters::default(),
        })
    }
}
