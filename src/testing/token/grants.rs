//! One file for each grant of the token endpoint.

pub(crate) mod authorization_code;
pub(crate) mod client_credentials;
pub(crate) mod on_behalf_of;
pub(crate) mod refresh_token;
