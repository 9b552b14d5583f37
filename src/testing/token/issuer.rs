use http::StatusCode;
use serde_json::Value;
use uuid::Uuid;

use crate::testing::aadsts::AadstsError;
use crate::testing::token::client_assertion::ReceivedJwt;
use crate::testing::token::signing_key::TokenSigningKey;

/// Signs what is issued, in this authority's name.
pub(crate) struct TokenIssuer<'a> {
    pub(crate) base: &'a str,
    /// The one that signs, and before it those that did.
    pub(crate) keys: &'a [TokenSigningKey],
    /// Of the token that is issued next.
    pub(crate) number: u64,
}

impl TokenIssuer<'_> {
    pub(crate) fn sign(&self, claims: &Value) -> Result<String, AadstsError> {
        let Some(key) = self.keys.last() else {
            return Err(AadstsError::of_status(StatusCode::INTERNAL_SERVER_ERROR));
        };
        key.sign(claims).map_err(|error| AadstsError {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            ..AadstsError::bad_request("server_error", 90014, error.to_string())
        })
    }

    /// Whether a token was signed here.
    pub(crate) fn verifies<C>(&self, jwt: &ReceivedJwt<'_, C>) -> bool {
        let kid = jwt.header.kid.as_deref();
        let mut keys = self.keys.iter();
        keys.any(|key| key.verifies(kid, jwt.message, &jwt.signature))
    }

    /// The `uti` of a token: it begins with the token's number.
    pub(crate) fn uti(&self) -> String {
        format!("{:016x}{}", self.number, Uuid::new_v4().simple())
    }
}
