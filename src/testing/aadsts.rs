//! Entra's error responses: AADSTS codes and texts.

pub(crate) mod authorization;
pub(crate) mod body;
pub(crate) mod client;
pub(crate) mod error;
pub(crate) mod scripted;
pub(crate) mod user;
