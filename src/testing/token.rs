//! The token endpoint.

pub(crate) mod access;
pub(crate) mod client;
pub(crate) mod client_assertion;
pub(crate) mod code;
pub(crate) mod endpoint;
pub(crate) mod federated_assertion;
pub(crate) mod format;
pub(crate) mod grants;
pub(crate) mod issuer;
pub(crate) mod sessions;
pub(crate) mod signing_key;
