use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::{Map, Value};

use super::error_response::{parse_error, parse_oauth_error};
use super::{LARGEST_BODY, ResponseContext, invalid_success, json_object, title_of_page};
use crate::error::Error;
use crate::time::Now;

/// The response to a pushed authorization request ([RFC 9126 section 2.2]).
///
/// [RFC 9126 section 2.2]: https://www.rfc-editor.org/rfc/rfc9126#section-2.2
#[derive(PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub(crate) struct PushedResponse {
    /// The reference to the pushed parameters. Valid once.
    pub(crate) request_uri: String,
    /// The lifetime of the reference.
    pub(crate) expires_in: Duration,
}

impl PushedResponse {
    /// Parses a response. Errors are those of a token request.
    ///
    /// A success has status 201, a `request_uri` with the characters of a URI, and an `expires_in`
    /// that is a positive integer.
    pub(crate) fn parse(
        response: &Response<Bytes>,
        context: &ResponseContext<'_>,
        now: Now,
    ) -> Result<Self, Error> {
        if !response.status().is_success() {
            return Err(parse_error(response, context, now.wall()));
        }
        let invalid = |why: &str| invalid_success(response, context, why, None);
        if response.body().len() > LARGEST_BODY {
            return Err(invalid("the body is too long"));
        }
        let Some(members) = json_object(response.body()) else {
            let title = title_of_page(response.body());
            let why = "the body is not a JSON object";
            return Err(invalid_success(response, context, why, title.as_deref()));
        };
        // Some providers send errors with status 200.
        if !members.contains_key("request_uri")
            && let Some(server) = parse_oauth_error(response, context, now.wall())
        {
            return Err(Error::Server(server));
        }
        if response.status() != StatusCode::CREATED {
            return Err(invalid(
                "the status is not 201, which RFC 9126 section 2.2 demands",
            ));
        }
        Self::of_members(&members).map_err(invalid)
    }

    fn of_members(members: &Map<String, Value>) -> Result<Self, &'static str> {
        let request_uri = members.get("request_uri").and_then(Value::as_str);
        let Some(request_uri) = request_uri.filter(|uri| !uri.is_empty()) else {
            return Err("the body has no 'request_uri'");
        };
        if request_uri.len() > LONGEST_REQUEST_URI {
            return Err("'request_uri' has more than 2,000 bytes");
        }
        if !request_uri.contains(':') || !request_uri.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("'request_uri' is not a URI");
        }
        match members.get("expires_in") {
            Some(Value::Number(number)) => match number.as_u64() {
                Some(seconds) if seconds > 0 => Ok(Self {
                    request_uri: request_uri.to_owned(),
                    expires_in: Duration::from_secs(seconds),
                }),
                _ => Err("'expires_in' is not a positive integer"),
            },
            Some(_) => Err("'expires_in' is not a number"),
            None => Err("the body has no 'expires_in'"),
        }
    }
}

/// The longest accepted `request_uri`, in bytes. The reference becomes a part of a URL.
const LONGEST_REQUEST_URI: usize = 2000;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const URI: &str = "urn:ietf:params:oauth:request_uri:6esc_11ACC5bwc014ltc14eY22c";

    #[test]
    fn only_a_reference_with_a_lifetime_is_accepted() {
        let long = format!("urn:{}", "x".repeat(LONGEST_REQUEST_URI));
        for (body, expected) in [
            (json!({ "request_uri": URI, "expires_in": 60 }), Ok(60)),
            (
                json!({ "request_uri": URI, "expires_in": 60, "more": {} }),
                Ok(60),
            ),
            (json!({ "expires_in": 60 }), Err("no 'request_uri'")),
            (
                json!({ "request_uri": "", "expires_in": 60 }),
                Err("no 'request_uri'"),
            ),
            (
                json!({ "request_uri": 7, "expires_in": 60 }),
                Err("no 'request_uri'"),
            ),
            (
                json!({ "request_uri": "urn:a b", "expires_in": 60 }),
                Err("not a URI"),
            ),
            (
                json!({ "request_uri": "urn:a\nb", "expires_in": 60 }),
                Err("not a URI"),
            ),
            (
                json!({ "request_uri": "urn:ä", "expires_in": 60 }),
                Err("not a URI"),
            ),
            (
                json!({ "request_uri": "7", "expires_in": 60 }),
                Err("not a URI"),
            ),
            (
                json!({ "request_uri": long, "expires_in": 60 }),
                Err("more than 2,000 bytes"),
            ),
            (json!({ "request_uri": URI }), Err("no 'expires_in'")),
            (
                json!({ "request_uri": URI, "expires_in": 0 }),
                Err("not a positive integer"),
            ),
            (
                json!({ "request_uri": URI, "expires_in": -60 }),
                Err("not a positive integer"),
            ),
            (
                json!({ "request_uri": URI, "expires_in": 60.5 }),
                Err("not a positive integer"),
            ),
            (
                json!({ "request_uri": URI, "expires_in": "60" }),
                Err("not a number"),
            ),
        ] {
            let parsed = PushedResponse::of_members(body.as_object().unwrap());
            match (parsed, expected) {
                (Ok(parsed), Ok(seconds)) => {
                    assert_eq!(parsed.request_uri, URI);
                    assert_eq!(parsed.expires_in.as_secs(), seconds);
                }
                (Err(why), Err(part)) => assert!(why.contains(part), "{body}: {why}"),
                (parsed, _) => panic!("{body}: {parsed:?}"),
            }
        }
    }
}
