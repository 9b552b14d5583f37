use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{DATE, LOCATION, RETRY_AFTER};
use http::{HeaderMap, Response, StatusCode};
use serde_json::Value;
use url::Url;
use uuid::Uuid;

use super::mask::{excerpt, without_secrets};
use super::{ResponseContext, content_type, json_object, number};
use crate::error::{Error, ErrorResponse, Failure, ServerError};

/// Parses a response that is not 2xx, leniently: every readable member helps.
pub(super) fn parse_error(
    response: &Response<Bytes>,
    context: &ResponseContext<'_>,
    now: SystemTime,
) -> Error {
    let status = response.status();
    let retry_after = retry_after(response, now);
    let failure = |message: String| {
        Failure::new(message)
            .status(status)
            .correlation_id(context.correlation_id)
            .retry_after(retry_after)
    };
    let throttled = is_throttled(status, retry_after);
    match parse_oauth_error(response, context, now) {
        Some(server) if throttled => {
            let message = format!("{ASKED_TO_WAIT}: {server}");
            Error::Throttled(failure(message).server(Some(server)).into())
        }
        Some(server) => Error::Server(server),
        None if throttled => {
            let status = status.as_u16();
            let message = format!("{ASKED_TO_WAIT}: the token endpoint returned {status}");
            Error::Throttled(failure(message).into())
        }
        None => Error::InvalidResponse(failure(without_oauth_error(response, context)).into()),
    }
}

/// Parses the OAuth error of a response, if there is one.
pub(super) fn parse_oauth_error(
    response: &Response<Bytes>,
    context: &ResponseContext<'_>,
    now: SystemTime,
) -> Option<ServerError> {
    // With a wrong charset, the readable part still helps.
    let body = json_object(String::from_utf8_lossy(response.body()).as_bytes())?;
    let text = |name: &str| {
        let text = body.get(name)?.as_str()?;
        Some(without_secrets(text, context.secrets))
    };
    // The caller passes the claims on, so an object is accepted besides the standard string, and
    // claims that repeat a secret are dropped and not masked.
    let claims = match body.get("claims") {
        Some(Value::String(claims)) => Some(claims.clone()),
        Some(claims @ Value::Object(_)) => Some(claims.to_string()),
        _ => None,
    };
    let error = text("error").filter(|error| !error.is_empty())?;
    let codes = match body.get("error_codes") {
        Some(Value::Array(codes)) => codes.iter().filter_map(number).collect(),
        Some(code) => number(code).into_iter().collect(),
        None => Vec::new(),
    };
    // Anything but a GUID could forge a log line.
    let correlation_id = text("correlation_id").filter(|id| Uuid::try_parse(id).is_ok());
    let mut error_response = ErrorResponse::new(response.status(), error);
    error_response.error_description = text("error_description");
    error_response.error_codes = codes;
    error_response.suberror = text("suberror");
    error_response.claims =
        claims.filter(|claims| without_secrets(claims, context.secrets) == *claims);
    error_response.correlation_id =
        correlation_id.or_else(|| Some(context.correlation_id.to_owned()));
    error_response.trace_id = text("trace_id");
    error_response.timestamp = text("timestamp");
    error_response.error_uri = text("error_uri");
    error_response.retry_after = retry_after(response, now);
    error_response.is_interactive = context.is_interactive;
    error_response.clock_skew = clock_skew(response.headers(), now);
    Some(error_response.into())
}

/// Returns the message for an error response without an OAuth error.
///
/// An excerpt of the body helps to identify the gateway or proxy that sent the response.
fn without_oauth_error(response: &Response<Bytes>, context: &ResponseContext<'_>) -> String {
    if let Some(host) = redirected_to(response) {
        return format!(
            "the token endpoint returned {} with a redirect to '{}', which is not followed, because following would send the credential there; check the authority, and look for a proxy or a captive portal in between",
            response.status().as_u16(),
            excerpt(host.as_bytes(), context.secrets),
        );
    }
    let mut message = format!(
        "the token endpoint returned {} without an OAuth error ({} bytes, {})",
        response.status().as_u16(),
        response.body().len(),
        content_type(response, context.secrets),
    );
    let excerpt = excerpt(response.body(), context.secrets);
    if !excerpt.is_empty() {
        message.push_str(": ");
        message.push_str(&excerpt);
    }
    message
}

/// Returns the host of a redirect's `Location`. The rest of the URL may hold a secret.
pub(crate) fn redirected_to(response: &Response<Bytes>) -> Option<String> {
    if !response.status().is_redirection() {
        return None;
    }
    let location = response.headers().get(LOCATION)?.to_str().ok()?;
    // A relative `Location` resolves against the request's URL, for which this base stands in.
    let base = Url::parse("https://here.invalid").ok()?;
    let url = base.join(location).ok()?;
    Some(match url.host_str().unwrap_or("no host") {
        "here.invalid" => "another path of the same host".to_owned(),
        host => host.to_owned(),
    })
}

/// Returns whether the server asks the client to wait.
pub(crate) fn is_throttled(status: StatusCode, retry_after: Option<Duration>) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS
        || status == StatusCode::SERVICE_UNAVAILABLE && retry_after.is_some()
}

/// Reads `Retry-After` in seconds or as a date ([RFC 9110 section 10.2.3]).
///
/// The wait is at most one hour with 429 and five minutes otherwise. A time in the past, or a value
/// that cannot be read, gives `None`.
///
/// [RFC 9110 section 10.2.3]: https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3
pub(crate) fn retry_after(response: &Response<Bytes>, now: SystemTime) -> Option<Duration> {
    let value = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a u64 holds mean a long wait, which the limit below shortens.
        Duration::from_secs(value.parse().unwrap_or(u64::MAX))
    } else {
        // The date is by the server's clock, which the `Date` header shows.
        let now = date(response.headers()).unwrap_or(now);
        let until = httpdate::parse_http_date(value).ok()?;
        until.duration_since(now).ok()?
    };
    let longest = match response.status() {
        StatusCode::TOO_MANY_REQUESTS => MAX_THROTTLING,
        _ => MAX_WAIT,
    };
    (!wait.is_zero()).then_some(wait.min(longest))
}

/// Describes the difference between this machine's clock and the server's, from one minute up.
fn clock_skew(headers: &HeaderMap, now: SystemTime) -> Option<String> {
    let server = date(headers)?;
    let (skew, direction) = match now.duration_since(server) {
        Ok(ahead) => (ahead, "ahead of"),
        Err(behind) => (behind.duration(), "behind"),
    };
    (skew >= Duration::from_secs(60)).then(|| {
        format!(
            "this machine's clock is {} s {direction} the identity provider's, so the assertion is outside its time range; correct the clock (NTP)",
            skew.as_secs()
        )
    })
}

/// Returns the provider's time, from the `Date` header.
pub(crate) fn date(headers: &HeaderMap) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()
}

const ASKED_TO_WAIT: &str = "the identity provider asked to wait before the next token request";
/// Limits of `Retry-After`, with 429 and with any other status.
const MAX_THROTTLING: Duration = Duration::from_secs(60 * 60);
const MAX_WAIT: Duration = Duration::from_secs(5 * 60);

#[cfg(test)]
mod tests {
    use super::super::mask::EXCERPT;
    use super::super::tests::parsed;
    use super::*;

    #[test]
    fn an_error_response_is_parsed_whole() {
        let body = r#"{"error":"invalid_grant","error_description":"AADSTS53003: Blocked.\r\nTrace ID: x",
            "error_codes":[53003,"16000",null],"timestamp":"2026-11-21 03:00:00Z","trace_id":"trace",
            "correlation_id":"0a1b2c3d-0000-4000-8000-000000000001","error_uri":"https://x/53003","suberror":"message_only",
            "claims":"{\"access_token\":{}}"}"#;
        let error = parsed(400, &[], body.as_bytes()).unwrap_err();
        let Error::Server(server) = &error else {
            panic!("{error:?}");
        };
        assert_eq!(server.status(), 400);
        assert_eq!(server.error(), "invalid_grant");
        assert_eq!(
            server.error_description(),
            Some("AADSTS53003: Blocked.\r\nTrace ID: x")
        );
        assert_eq!(server.error_codes(), [53003, 16000]);
        assert_eq!(server.suberror(), Some("message_only"));
        assert_eq!(error.claims_challenge(), Some(r#"{"access_token":{}}"#));
        assert_eq!(
            error.correlation_id(),
            Some("0a1b2c3d-0000-4000-8000-000000000001")
        );
        assert_eq!(server.trace_id(), Some("trace"));
        assert_eq!(server.timestamp(), Some("2026-11-21 03:00:00Z"));
        assert_eq!(server.error_uri(), Some("https://x/53003"));
        assert!(server.help().unwrap().contains("Conditional Access"));
    }

    #[test]
    fn an_error_response_with_status_200_is_an_error() {
        let error = parsed(200, &[], br#"{"error":"invalid_scope"}"#).unwrap_err();
        assert!(matches!(&error, Error::Server(server) if server.error() == "invalid_scope"));
        let both = br#"{"error":"x","token_type":"Bearer","access_token":"a","expires_in":9}"#;
        parsed(200, &[], both).unwrap();
        let neither = parsed(200, &[], br#"{"error":"","id_token":"tokentok"}"#).unwrap_err();
        assert!(neither.to_string().contains("no 'token_type'"), "{neither}");
        assert!(!neither.to_string().contains("tokentok"), "{neither}");
    }

    #[test]
    fn a_null_member_of_an_error_response_is_absent() {
        let body = r#"{"error":"invalid_grant","error_description":null,"error_codes":null,
            "suberror":null,"claims":null,"correlation_id":null,"trace_id":null,"timestamp":null,
            "error_uri":null}"#;
        let error = parsed(400, &[], body.as_bytes()).unwrap_err();
        let Error::Server(server) = &error else {
            panic!("{error:?}");
        };
        assert_eq!(server.error_description(), None);
        assert!(server.error_codes().is_empty());
        assert_eq!(server.suberror(), None);
        assert_eq!(error.claims_challenge(), None);
        assert_eq!(error.correlation_id(), Some("our-id"));
        assert_eq!(server.trace_id(), None);
        assert_eq!(server.timestamp(), None);
        assert_eq!(server.error_uri(), None);
        let none = parsed(400, &[], br#"{"error":null,"error_description":"x"}"#).unwrap_err();
        assert!(matches!(none, Error::InvalidResponse(_)), "{none:?}");
    }

    #[test]
    fn an_error_member_alone_is_an_oauth_error() {
        let error = parsed(400, &[], br#"{"error":"invalid_scope"}"#).unwrap_err();
        assert!(matches!(&error, Error::Server(server) if server.error() == "invalid_scope"));
        assert_eq!(error.correlation_id(), Some("our-id"));
    }

    #[test]
    fn a_response_without_an_oauth_error_keeps_the_status_and_shows_an_excerpt() {
        for (status, body, shown) in [
            (
                503,
                "<h2>Our services aren't available</h2>",
                "<h2>Our services",
            ),
            (
                404,
                "",
                "returned 404 without an OAuth error (0 bytes, no content type)",
            ),
            (400, r#"{"message":"no"}"#, r#"{"message":"no"}"#),
            (400, r#"{"error":""}"#, r#"{"error":""}"#),
            (302, "moved", "returned 302"),
            (
                400,
                "you sent client_secret=hunter2 &, no",
                "client_secret=[redacted], no",
            ),
            (
                400,
                "you sent client_secret=hunter2+%26.",
                "client_secret=[redacted].",
            ),
            (400, "\u{1b}[31mred", "\\u{1b}[31mred"),
        ] {
            let error = parsed(status, &[], body.as_bytes()).unwrap_err();
            assert!(matches!(error, Error::InvalidResponse(_)), "{error:?}");
            assert_eq!(error.status().unwrap(), status);
            assert!(error.to_string().contains(shown), "{body}: {error}");
        }
        let long = format!("{}hunter2 &", "x".repeat(EXCERPT - 3));
        let error = parsed(400, &[], long.as_bytes()).unwrap_err();
        assert!(!error.to_string().contains("hun"), "{error}");
    }

    #[test]
    fn a_member_of_the_wrong_type_does_not_hide_the_error() {
        for odd in [
            r#""error_codes":7000215"#,
            r#""error_codes":["7000215","x",null]"#,
            r#""error_codes":[7000215],"claims":{"a":1},"error_description":7"#,
            r#""error_codes":[7000215],"error_codes":[7000215]"#,
            r#""error_codes":[7000215],"error_description":"Latin-1: ä""#,
        ] {
            let body = format!(r#"{{"error":"invalid_client",{odd}}}"#);
            let body: Vec<u8> = body.chars().map(|c| c as u8).collect();
            let error = parsed(401, &[], &body).unwrap_err();
            assert!(error.is_credential_rejected(), "{error:?}");
            let Error::Server(server) = &error else {
                panic!("{error:?}");
            };
            assert_eq!(server.error_codes(), [7000215], "{odd}");
        }
        let long = format!("\"{}\"", "x".repeat(5000));
        for (claims, expected) in [
            (r#"{"a":1}"#, Some(r#"{"a":1}"#)),
            ("null", None),
            (r#""you sent hunter2 &""#, None),
            (&long, None),
        ] {
            let body = format!(r#"{{"error":"invalid_grant","claims":{claims}}}"#);
            let error = parsed(400, &[], body.as_bytes()).unwrap_err();
            assert_eq!(error.claims_challenge(), expected);
        }
    }

    #[test]
    fn a_correlation_id_that_is_not_a_guid_is_dropped() {
        let body = br#"{"error":"x","correlation_id":"\nFAKE LOG LINE"}"#;
        let error = parsed(400, &[], body).unwrap_err();
        assert_eq!(error.correlation_id(), Some("our-id"));
    }

    #[test]
    fn an_error_response_that_repeats_the_secret_does_not_show_it() {
        for status in [400, 429] {
            for member in [
                "error_description",
                "suberror",
                "claims",
                "correlation_id",
                "trace_id",
                "timestamp",
                "error_uri",
            ] {
                let body = format!(r#"{{"error":"hunter2 &","{member}":"you sent hunter2+%26"}}"#);
                let error = parsed(status, &[], body.as_bytes()).unwrap_err();
                let text = format!("{error} {error:?}");
                assert!(!text.contains("hunter2"), "{text}");
            }
        }
    }

    #[test]
    fn a_wrong_clock_is_reported_from_the_date_header() {
        let body = br#"{"error":"invalid_client","error_codes":[700024]}"#;
        let headers = [("date", "Sat, 21 Nov 2020 03:00:00 GMT")];
        let error = parsed(401, &headers, body).unwrap_err();
        assert!(
            error.to_string().contains("s ahead of the identity"),
            "{error}"
        );
    }

    #[test]
    fn a_request_to_wait_is_throttling_whatever_the_body() {
        let json = br#"{"error":"temporarily_unavailable","error_codes":[90055]}"#;
        for (status, headers, body, throttled) in [
            (429, &[][..], &b""[..], true),
            (429, &[("retry-after", "7")], b"Too Many Requests", true),
            (429, &[("retry-after", "7")], json, true),
            (503, &[("retry-after", "7")], b"<html>", true),
            (503, &[], b"<html>", false),
            (503, &[], json, false),
            (400, &[("retry-after", "7")], json, false),
            (500, &[("retry-after", "7")], json, false),
            (200, &[("retry-after", "7")], json, false),
        ] {
            let error = parsed(status, headers, body).unwrap_err();
            assert_eq!(matches!(error, Error::Throttled(_)), throttled, "{error:?}");
            assert_eq!(
                error.retry_after().is_some(),
                !headers.is_empty(),
                "{error:?}"
            );
            assert!(error.is_transient(), "{error:?}");
            assert_eq!(error.correlation_id(), Some("our-id"));
            assert_eq!(error.status().unwrap(), status);
        }
        let json = br#"{"error":"temporarily_unavailable","claims":"{}"}"#;
        let error = parsed(429, &[], json).unwrap_err();
        assert!(error.to_string().contains("temporarily_unavailable"));
        assert_eq!(error.claims_challenge(), Some("{}"));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Sat, 21 Nov 2026 03:00:00 GMT").unwrap();
        for (status, value, expected) in [
            (429, "7", Some(7)),
            (429, " 7 ", Some(7)),
            (429, "Sat, 21 Nov 2026 03:02:00 GMT", Some(120)),
            (429, "Sat, 21 Nov 2026 02:00:00 GMT", None),
            (429, "0", None),
            (429, "-1", None),
            (429, "soon", None),
            (429, "", None),
            (429, "86400", Some(3600)),
            (429, "99999999999999999999999", Some(3600)),
            (429, "Sat, 21 Nov 2026 09:00:00 GMT", Some(3600)),
            (503, "86400", Some(300)),
            (400, "86400", Some(300)),
        ] {
            let response = Response::builder()
                .status(status)
                .header(RETRY_AFTER, value)
                .body(Bytes::new())
                .unwrap();
            let wait = retry_after(&response, now).map(|wait| wait.as_secs());
            assert_eq!(wait, expected, "{status} {value:?}");
        }
    }

    #[test]
    fn a_retry_after_date_is_by_the_servers_clock() {
        let response = Response::builder()
            .status(429)
            .header(DATE, "Sat, 21 Nov 2026 03:00:00 GMT")
            .header(RETRY_AFTER, "Sat, 21 Nov 2026 03:02:00 GMT")
            .body(Bytes::new())
            .unwrap();
        let ahead = httpdate::parse_http_date("Sat, 21 Nov 2026 04:00:00 GMT").unwrap();
        assert_eq!(
            retry_after(&response, ahead),
            Some(Duration::from_secs(120))
        );
    }

    #[test]
    fn an_excerpt_shows_no_token() {
        for body in [
            r#"{"data":{"access_token":"eyJhbGciOi"}}"#,
            r#"{"data":"{\"id_token\":\"abc\"}"}"#,
            "you got eyJhbGciOi",
        ] {
            let error = parsed(502, &[], body.as_bytes()).unwrap_err().to_string();
            assert!(
                error.contains("[withheld: the text may hold a token]"),
                "{error}"
            );
        }
        let long = "x".repeat(300);
        let error = parsed(502, &[], long.as_bytes()).unwrap_err().to_string();
        assert_eq!(error.matches("xx").count(), EXCERPT / 2);
    }

    #[test]
    fn an_error_member_that_is_not_a_string_is_no_oauth_error() {
        let nested = br#"{"error":{"code":0,"result":{"access_token":"tokentok"}}}"#;
        for status in [200, 400] {
            let error = parsed(status, &[], nested).unwrap_err();
            assert!(matches!(error, Error::InvalidResponse(_)), "{error:?}");
            assert!(!format!("{error:?}").contains("tokentok"), "{error:?}");
            assert_eq!(error.correlation_id(), Some("our-id"));
        }
    }

    #[test]
    fn the_date_header_gives_the_clock_skew() {
        let now = httpdate::parse_http_date("Sat, 21 Nov 2026 03:00:00 GMT").unwrap();
        let skew = |date: &str| {
            clock_skew(&HeaderMap::from_iter([(DATE, date.parse().unwrap())]), now)
                .map(|text| text.split(" the identity").next().unwrap().to_owned())
        };
        let behind = skew("Sat, 21 Nov 2026 03:15:00 GMT").unwrap();
        assert_eq!(behind, "this machine's clock is 900 s behind");
        let ahead = skew("Sat, 21 Nov 2026 02:59:00 GMT").unwrap();
        assert_eq!(ahead, "this machine's clock is 60 s ahead of");
        assert_eq!(skew("Sat, 21 Nov 2026 03:00:59 GMT"), None);
        assert_eq!(skew("yesterday"), None);
    }
}
