//! The token endpoint: client authentication, grants and signed tokens.

use uuid::Uuid;

pub(crate) mod access;
mod agent;
pub(crate) mod app_token;
pub(crate) mod client;
pub(crate) mod client_assertion;
pub(crate) mod code;
pub(crate) mod endpoint;
pub(crate) mod federated_assertion;
pub(crate) mod format;
pub(crate) mod grants;
pub(crate) mod introspection;
pub(crate) mod issued_tokens;
pub(crate) mod issuer;
pub(crate) mod jwt;
pub(crate) mod proof;
pub(crate) mod received_token;
pub(crate) mod sessions;
pub(crate) mod signing_key;

/// Returns a secret of 244 random bits that is safe in a URL.
pub(crate) fn random_secret() -> String {
    let (one, other) = (Uuid::new_v4().simple(), Uuid::new_v4().simple());
    format!("1.{one}{other}")
}
