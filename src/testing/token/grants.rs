//! The grants of the token endpoint, one file each.

pub(crate) mod authorization_code;
pub(crate) mod client_credentials;
pub(crate) mod on_behalf_of;
pub(crate) mod refresh_token;
pub(crate) mod token_exchange;
pub(crate) mod user_fic;
