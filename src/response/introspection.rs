use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Response, StatusCode};

use super::error_response::{parse_error, parse_oauth_error};
use super::{LARGEST_BODY, ResponseContext, invalid_success, title_of_page};
use crate::error::Error;
use crate::jwt::ClaimsSet;
use crate::time::Now;

/// The response to an introspection request ([RFC 7662 section 2.2]).
///
/// [RFC 7662 section 2.2]: https://www.rfc-editor.org/rfc/rfc7662#section-2.2
pub(crate) enum IntrospectionResponse {
    /// The token is expired, revoked, unknown, or not for the API. The provider says no more.
    Inactive,
    Active(ActiveToken),
}

/// The members of the response about an active token.
pub(crate) struct ActiveToken {
    pub(crate) members: ClaimsSet,
    /// The text of the JSON object.
    pub(crate) json: String,
}

impl IntrospectionResponse {
    /// Parses a response. Errors are those of a token request.
    ///
    /// A success has status 200 and a JSON object with the boolean `active`. A signed response
    /// ([RFC 9701]) is an error.
    ///
    /// [RFC 9701]: https://www.rfc-editor.org/rfc/rfc9701
    pub(crate) fn parse(
        response: &Response<Bytes>,
        context: &ResponseContext<'_>,
        now: Now,
    ) -> Result<Self, Error> {
        if !response.status().is_success() {
            return Err(parse_error(response, context, now.wall()));
        }
        let invalid = |why: &str| invalid_success(response, context, why, None);
        if response.status() != StatusCode::OK {
            return Err(invalid("the status is not 200"));
        }
        if response.body().len() > LARGEST_BODY {
            return Err(invalid("the body is too long"));
        }
        if is_signed(response) {
            return Err(invalid(
                "the body is a signed response (RFC 9701), which is not supported; configure the provider to respond with JSON",
            ));
        }
        let body = std::str::from_utf8(response.body()).ok();
        let members = body.and_then(|body| Some((ClaimsSet::parse(body).ok()?, body)));
        let Some((members, json)) = members else {
            let title = title_of_page(response.body());
            let why = "the body is not a JSON object";
            return Err(invalid_success(response, context, why, title.as_deref()));
        };
        if members.is_repeated("active") {
            return Err(invalid("the body has 'active' more than once"));
        }
        match members.get("active") {
            Some(active) => match active.as_bool() {
                Some(true) => Ok(Self::Active(ActiveToken {
                    json: json.to_owned(),
                    members,
                })),
                Some(false) => Ok(Self::Inactive),
                None => Err(invalid("'active' is not a boolean")),
            },
            // Some providers send errors with status 200.
            None => match parse_oauth_error(response, context, now.wall()) {
                Some(server) => Err(Error::Server(server)),
                None => Err(invalid("the body has no 'active'")),
            },
        }
    }
}

/// Returns whether the response is a JWT ([RFC 9701 section 5]).
///
/// [RFC 9701 section 5]: https://www.rfc-editor.org/rfc/rfc9701#section-5
fn is_signed(response: &Response<Bytes>) -> bool {
    let content_type = response.headers().get(CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok());
    let media_type = content_type.and_then(|value| value.split(';').next());
    let signed = "application/token-introspection+jwt";
    media_type.is_some_and(|media_type| media_type.trim().eq_ignore_ascii_case(signed))
}
