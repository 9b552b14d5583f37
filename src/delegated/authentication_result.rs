use std::fmt;

use serde_json::{Map, Value};

use super::account::Account;
use crate::token::AccessToken;

/// What a user's signing in brought: a token, and who they are.
///
/// It comes from [`acquire_token_by_authorization_code`].
///
/// [`acquire_token_by_authorization_code`]: crate::ConfidentialClient::acquire_token_by_authorization_code
#[derive(Clone)]
pub struct AuthenticationResult {
    access_token: AccessToken,
    account: Account,
    id_token_claims: String,
}

impl AuthenticationResult {
    pub(crate) fn new(
        access_token: AccessToken,
        account: Account,
        claims: Map<String, Value>,
    ) -> Self {
        Self {
            access_token,
            account,
            id_token_claims: Value::Object(claims).to_string(),
        }
    }

    /// The token for the scopes that were asked for, or those of them that were granted.
    pub fn access_token(&self) -> &AccessToken {
        &self.access_token
    }

    /// Who signed in: what the next tokens are asked for by. Keep it in the user's session.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// The claims of the ID token, which was validated, as a JSON object
    /// ([OpenID Connect Core section 2](https://openid.net/specs/openid-connect-core-1_0.html#IDToken)).
    pub fn id_token_claims(&self) -> &str {
        &self.id_token_claims
    }
}

impl fmt::Debug for AuthenticationResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthenticationResult")
            .field("access_token", &self.access_token)
            .field("account", &self.account)
            .finish_non_exhaustive()
    }
}
