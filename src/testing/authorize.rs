//! The authorization endpoint ([RFC 6749 section 3.1]): what it is asked, what it decides, and the
//! pages that a browser shows.
//!
//! [RFC 6749 section 3.1]: https://www.rfc-editor.org/rfc/rfc6749#section-3.1

pub(crate) mod pages;
pub(crate) mod request;
pub(crate) mod response;
pub(crate) mod steps;
