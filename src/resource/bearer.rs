use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::rejection::{RejectionReason, TokenRejection};

/// Returns the token of the only `Authorization` header ([RFC 6750 section 2.1]).
///
/// [RFC 6750 section 2.1]: https://www.rfc-editor.org/rfc/rfc6750#section-2.1
pub(super) fn bearer_token(headers: &HeaderMap) -> Result<&str, TokenRejection> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let missing_token = || {
        TokenRejection::new(
            RejectionReason::MissingToken,
            "the request carries no bearer token",
        )
    };
    let Some(value) = values.next() else {
        return Err(missing_token());
    };
    if values.next().is_some() {
        return Err(invalid(
            "the request has more than one Authorization header",
        ));
    }
    let value = value.to_str();
    let value = value.map_err(|_| invalid("the Authorization header is not ASCII"))?;
    let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
    if !scheme.eq_ignore_ascii_case("Bearer") {
        return Err(missing_token());
    }
    match token.trim() {
        "" => Err(invalid("the Authorization header contains no token")),
        token => Ok(token),
    }
}

fn invalid(message: &str) -> TokenRejection {
    TokenRejection::new(RejectionReason::InvalidRequest, message)
}
