use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::random_secret;

/// The opaque access tokens with their claims, and the access tokens that were revoked.
#[derive(Default)]
pub(crate) struct IssuedTokens {
    opaque: HashMap<String, Map<String, Value>>,
    revoked: HashSet<String>,
}

impl IssuedTokens {
    /// Issues an opaque token with these claims.
    pub(crate) fn issue(&mut self, claims: Map<String, Value>) -> String {
        let token = random_secret();
        self.opaque.insert(token.clone(), claims);
        token
    }

    /// Returns the claims of an opaque token.
    pub(crate) fn claims_of(&self, token: &str) -> Option<&Map<String, Value>> {
        self.opaque.get(token)
    }

    pub(crate) fn revoke(&mut self, token: &str) {
        self.revoked.insert(token.to_owned());
    }

    pub(crate) fn is_revoked(&self, token: &str) -> bool {
        self.revoked.contains(token)
    }
}
