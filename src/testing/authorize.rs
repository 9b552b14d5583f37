//! The authorization endpoint ([RFC 6749 section 3.1]): what it is asked, what it decides, and the
//! pages that a browser shows.
//!
//! [RFC 6749 section 3.1]: https://www.rfc-editor.org/rfc/rfc6749#section-3.1

mod asked;
mod handlers;
mod pages;
mod reply;
mod steps;

pub(super) use asked::is_any_tenant;
pub(super) use handlers::{authorize, choose, consent};
pub(super) use steps::{Pending, Step, answer_consent, begin, choose_user};
