use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::authority::Tenant;
use crate::token::UserKey;

/// The key of a long-running process that acts for a user, from
/// [`start_long_running_on_behalf_of`].
///
/// A program with the key and the client can act for the user. Store the key as a secret, for
/// example with the job that needs the tokens. `Debug` shows a fingerprint alone.
///
/// [`start_long_running_on_behalf_of`]: crate::ConfidentialClient::start_long_running_on_behalf_of
#[derive(Clone, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
#[doc(alias = "LongRunningWebApiSessionKey")]
pub struct SessionKey(Arc<KeyParts>);

struct KeyParts {
    text: String,
    user: Arc<UserKey>,
    tenant: Option<Tenant>,
}

impl SessionKey {
    /// Creates a random key for a user of a tenant.
    pub(crate) fn random(tenant: Option<&Tenant>) -> Self {
        let (first, second) = (Uuid::new_v4().simple(), Uuid::new_v4().simple());
        Self::from(match tenant {
            Some(tenant) => format!("{first}{second}@{}", tenant.as_str()),
            None => format!("{first}{second}"),
        })
    }

    /// Returns the text of the key, from which [`From`] creates the key again.
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    pub(crate) fn user(&self) -> &Arc<UserKey> {
        &self.0.user
    }

    pub(crate) fn tenant(&self) -> Option<&Tenant> {
        self.0.tenant.as_ref()
    }
}

impl From<String> for SessionKey {
    fn from(text: String) -> Self {
        let hash = Sha256::digest(&text);
        let tenant = text
            .rsplit_once('@')
            .map(|(_, tenant)| Tenant::parse(tenant));
        Self(Arc::new(KeyParts {
            user: Arc::new(UserKey::LongRunning(hash.into())),
            tenant: tenant.and_then(Result::ok),
            text,
        }))
    }
}

impl From<&str> for SessionKey {
    fn from(text: &str) -> Self {
        Self::from(text.to_owned())
    }
}

impl From<SessionKey> for String {
    fn from(key: SessionKey) -> Self {
        key.0.text.clone()
    }
}

impl PartialEq for SessionKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.user == other.0.user
    }
}

impl Eq for SessionKey {}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0.user {
            UserKey::LongRunning(hash) => write!(f, "SessionKey({})", Fingerprint(hash)),
            UserKey::Assertion(_)
            | UserKey::Account(_)
            | UserKey::Exchange(_)
            | UserKey::Federated(_)
            | UserKey::Agent { .. } => f.write_str("SessionKey(..)"),
        }
    }
}

/// Prints the first octets of a key's SHA-256, which name the key in messages.
pub(crate) struct Fingerprint<'a>(pub(crate) &'a [u8; 32]);

impl fmt::Display for Fingerprint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .take(4)
            .try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}
