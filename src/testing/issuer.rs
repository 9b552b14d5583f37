use http::StatusCode;
use serde_json::Value;
use uuid::Uuid;

use super::assertion::Jwt;
use super::refusal::Refusal;
use super::signing_key::SigningKey;

/// Signs what is issued, in this authority's name.
pub(super) struct Issuer<'a> {
    pub(super) base: &'a str,
    /// The one that signs, and before it those that did.
    pub(super) keys: &'a [SigningKey],
    /// Of the token that is issued next.
    pub(super) number: u64,
}

impl Issuer<'_> {
    pub(super) fn sign(&self, claims: &Value) -> Result<String, Refusal> {
        let Some(key) = self.keys.last() else {
            return Err(Refusal::of_status(StatusCode::INTERNAL_SERVER_ERROR));
        };
        key.sign(claims).map_err(|error| Refusal {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            ..Refusal::bad_request("server_error", 90014, error.to_string())
        })
    }

    /// Whether a token was signed here.
    pub(super) fn verifies<C>(&self, jwt: &Jwt<'_, C>) -> bool {
        let kid = jwt.header.kid.as_deref();
        let mut keys = self.keys.iter();
        keys.any(|key| key.verifies(kid, jwt.message, &jwt.signature))
    }

    /// The `uti` of a token: it begins with the token's number.
    pub(super) fn uti(&self) -> String {
        format!("{:016x}{}", self.number, Uuid::new_v4().simple())
    }
}
