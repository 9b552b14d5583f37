//! The authorization endpoint ([RFC 6749 section 3.1]): requests, sign-in, consent and pages.
//!
//! [RFC 6749 section 3.1]: https://www.rfc-editor.org/rfc/rfc6749#section-3.1

pub(crate) mod admin_consent;
pub(crate) mod end_session;
pub(crate) mod flow;
pub(crate) mod pages;
pub(crate) mod pending;
pub(crate) mod pushed;
pub(crate) mod request;
pub(crate) mod response;
