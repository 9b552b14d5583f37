//! Tenants, with their applications, users and consents.

pub(crate) mod application;
pub(crate) mod consent;
pub(crate) mod permissions;
pub(crate) mod resource;
pub(crate) mod scopes;
pub(crate) mod tenant;
pub(crate) mod user;
