use std::fmt;

use serde_json::{Map, Value};

use super::account::Account;
use super::id_token_claims::IdTokenClaims;
use crate::secret::Secret;
use crate::token::AccessToken;

/// The result of a sign-in, with an access token, the user's [`Account`] and the ID token.
///
/// Returned by [`acquire_token_by_authorization_code`][by-code] and by [`acquire_id_token_silent`].
///
/// [`acquire_id_token_silent`]: crate::ConfidentialClient::acquire_id_token_silent
/// [by-code]: crate::ConfidentialClient::acquire_token_by_authorization_code
#[doc(alias = "acquire_token_by_auth_code_flow")]
#[doc(alias = "AcquireTokenByAuthorizationCode")]
#[derive(Clone)]
pub struct AuthenticationResult {
    access_token: AccessToken,
    account: Account,
    id_token: Secret,
    claims: IdTokenClaims,
    id_token_claims: String,
}

impl AuthenticationResult {
    pub(crate) fn new(
        access_token: AccessToken,
        account: Account,
        id_token: Secret,
        claims: Map<String, Value>,
    ) -> Self {
        let claims = IdTokenClaims::new(claims);
        Self {
            access_token,
            account,
            id_token,
            id_token_claims: claims.to_json(),
            claims,
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

    /// Returns the validated ID token, for the `id_token_hint` of an
    /// [`EndSessionRequest`](super::EndSessionRequest).
    ///
    /// An ID token is no access token. Never send the ID token to an API.
    #[doc(alias = "IdToken")]
    pub fn id_token(&self) -> &Secret {
        &self.id_token
    }

    /// Returns the claims of the validated ID token.
    #[doc(alias = "ClaimsPrincipal")]
    pub fn claims(&self) -> &IdTokenClaims {
        &self.claims
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
