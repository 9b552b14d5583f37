//! One file for each grant of the token endpoint.

pub(super) mod authorization_code;
pub(super) mod client_credentials;
pub(super) mod on_behalf_of;
pub(super) mod refresh_token;
