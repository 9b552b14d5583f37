use std::fmt;

use serde_json::{Map, Value};

use super::account::Account;
use crate::token::AccessToken;

/// The result of a sign-in, with an access token and the user's [`Account`].
///
/// Returned by [`acquire_token_by_authorization_code`][by-code].
///
/// [by-code]: crate::ConfidentialClient::acquire_token_by_authorization_code
#[doc(alias = "acquire_token_by_auth_code_flow")]
#[doc(alias = "AcquireTokenByAuthorizationCode")]
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

    /// Returns the token for the requested scopes, or for the subset that was granted.
    pub fn access_token(&self) -> &AccessToken {
        &self.access_token
    }

    /// Returns the signed-in user. Store the account in the user's session, because the next token
    /// requests for the user need the account.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// Returns the claims of the validated ID token, as a JSON object
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
