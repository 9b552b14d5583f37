use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, DATE, RETRY_AFTER};
use http::{HeaderMap, Response, StatusCode};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::error::{Answer, Error, Escaped, Failure, ServerError};
use crate::request::Proof;
use crate::time::Now;
use crate::token::{Issued, Key, Lifetime};

mod mask;

use mask::presentable;

/// What a token response is read against: the request it answers.
pub(crate) struct Asked<'a> {
    pub(crate) key: Key,
    pub(crate) tenant: &'a str,
    pub(crate) scopes: &'a str,
    pub(crate) correlation_id: &'a str,
    pub(crate) proof: &'a Proof,
}

/// Reads the token endpoint's answer ([RFC 6749 section 5]); `jitter`, from 0 to 1, moves the
/// token's `refresh_on`.
///
/// [RFC 6749 section 5]: https://www.rfc-editor.org/rfc/rfc6749#section-5
pub(crate) fn parse(
    response: &Response<Bytes>,
    asked: Asked<'_>,
    now: Now,
    jitter: f64,
) -> Result<Issued, Error> {
    if response.status().is_success() {
        success(response, asked, now, jitter)
    } else {
        Err(refusal(response, &asked, now.wall))
    }
}

/// Reads a success strictly: a member that is missing, or not of its type, is an error and not a
/// default, unless it is one that nobody needs.
fn success(
    response: &Response<Bytes>,
    asked: Asked<'_>,
    now: Now,
    jitter: f64,
) -> Result<Issued, Error> {
    let invalid = |why: &str| Err(invalid_success(response, &asked, why));
    if response.body().len() > LARGEST_BODY {
        return invalid("it is too long");
    }
    // What serde says is not passed on: it quotes the input, and that begins with the token.
    let Some(body) = json_object(response.body()) else {
        return invalid("it is not a JSON object");
    };
    // Some providers refuse with 200.
    if !body.contains_key("access_token")
        && let Some(server) = oauth_error(response, &asked, now.wall)
    {
        return Err(Error::Server(server));
    }
    match body.get("token_type").and_then(Value::as_str) {
        Some(token_type) if token_type.eq_ignore_ascii_case("Bearer") => {}
        Some(_) => return invalid("its 'token_type' is not Bearer"),
        None => return invalid("it has no 'token_type'"),
    }
    let token = match body.get("access_token").and_then(Value::as_str) {
        Some(token) if !token.trim().is_empty() => token,
        _ => return invalid("it has no 'access_token'"),
    };
    let expires_in = match body.get("expires_in").and_then(number) {
        Some(seconds) if seconds > 0 => Duration::from_secs(seconds),
        Some(_) => return invalid("its 'expires_in' is not positive"),
        None => return invalid("it has no 'expires_in' that is a number"),
    };
    let refresh_in = body.get("refresh_in").and_then(number);
    let scopes = match body.get("scope").and_then(Value::as_str) {
        Some(granted) if !granted.trim().is_empty() => granted,
        _ => asked.scopes,
    };
    let lifetime = Lifetime::new(expires_in, refresh_in.map(Duration::from_secs), now, jitter);
    match Issued::new(
        asked.key.clone(),
        token,
        lifetime,
        scopes,
        Some(asked.tenant),
        asked.correlation_id,
    ) {
        Some(issued) => Ok(issued),
        None => invalid("its 'access_token' cannot be sent in a header"),
    }
}

/// Reads a refusal leniently: whatever can be had from it helps.
fn refusal(response: &Response<Bytes>, asked: &Asked<'_>, now: SystemTime) -> Error {
    let status = response.status();
    let retry_after = retry_after(response, now);
    let failure = |message: String| {
        Failure::new(message)
            .status(status)
            .correlation_id(asked.correlation_id)
            .retry_after(retry_after)
    };
    let throttled = status == StatusCode::TOO_MANY_REQUESTS
        || status == StatusCode::SERVICE_UNAVAILABLE && retry_after.is_some();
    match oauth_error(response, asked, now) {
        Some(server) if throttled => {
            let message = format!("{TOLD_TO_WAIT}: {server}");
            Error::Throttled(failure(message).server(Some(server)).into())
        }
        Some(server) => Error::Server(server),
        None if throttled => {
            let status = status.as_u16();
            let message = format!("{TOLD_TO_WAIT}: the token endpoint answered {status}");
            Error::Throttled(failure(message).into())
        }
        None => Error::InvalidResponse(failure(unreadable(response, asked)).into()),
    }
}

/// The OAuth error in a refusal, if there is one.
fn oauth_error(
    response: &Response<Bytes>,
    asked: &Asked<'_>,
    now: SystemTime,
) -> Option<ServerError> {
    // Of a wrong charset the part that can be read is better than nothing.
    let body = json_object(String::from_utf8_lossy(response.body()).as_bytes())?;
    let text = |name: &str| {
        let text = body.get(name)?.as_str()?;
        Some(presentable(text, asked.proof))
    };
    // JSON to be passed on: whole or not at all, and not only as the string it should be.
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
    // A correlation id is a GUID; what is not is the server's joke on whoever reads the log.
    let correlation_id = text("correlation_id").filter(|id| Uuid::try_parse(id).is_ok());
    let mut answer = Answer::new(response.status(), error);
    answer.error_description = text("error_description");
    answer.error_codes = codes;
    answer.suberror = text("suberror");
    answer.claims = claims.filter(|claims| presentable(claims, asked.proof) == *claims);
    answer.correlation_id = correlation_id.or_else(|| Some(asked.correlation_id.to_owned()));
    answer.trace_id = text("trace_id");
    answer.timestamp = text("timestamp");
    answer.error_uri = text("error_uri");
    answer.retry_after = retry_after(response, now);
    answer.clock_skew = clock_skew(response.headers(), now);
    Some(answer.into())
}

/// A success that is none: status, length and type are told, nothing of the body.
fn invalid_success(response: &Response<Bytes>, asked: &Asked<'_>, why: &str) -> Error {
    let status = response.status();
    let message = format!(
        "the token endpoint's answer cannot be read: {why} (status {}, {} bytes, {})",
        status.as_u16(),
        response.body().len(),
        content_type(response, asked.proof),
    );
    Error::InvalidResponse(
        Failure::new(message)
            .status(status)
            .correlation_id(asked.correlation_id)
            .into(),
    )
}

/// A refusal that is no OAuth error: an excerpt helps to see which gateway or proxy answered.
fn unreadable(response: &Response<Bytes>, asked: &Asked<'_>) -> String {
    let mut message = format!(
        "the token endpoint answered {} without an OAuth error ({} bytes, {})",
        response.status().as_u16(),
        response.body().len(),
        content_type(response, asked.proof),
    );
    let excerpt = excerpt(response.body(), asked.proof);
    if !excerpt.is_empty() {
        message.push_str(": ");
        message.push_str(&excerpt);
    }
    message
}

fn content_type(response: &Response<Bytes>, proof: &Proof) -> String {
    match response.headers().get(CONTENT_TYPE) {
        Some(value) => excerpt(value.as_bytes(), proof),
        None => "no content type".to_owned(),
    }
}

/// The first characters of a server's text, on one line, without the credential we sent, and
/// nothing of it where it may hold a token.
fn excerpt(text: &[u8], proof: &Proof) -> String {
    let text = presentable(&String::from_utf8_lossy(text), proof);
    if text.contains("_token\"") || text.contains("_token\\\"") || text.contains("eyJ") {
        return "[withheld: it may hold a token]".to_owned();
    }
    let text: String = text.trim().chars().take(EXCERPT).collect();
    Escaped(&text).to_string()
}

/// `Retry-After` in seconds or as a date ([RFC 9110 section 10.2.3]), up to what we are willing to
/// wait; a wait that is over already, or unreadable, is none.
///
/// [RFC 9110 section 10.2.3]: https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3
fn retry_after(response: &Response<Bytes>, now: SystemTime) -> Option<Duration> {
    let value = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a number holds are a long wait, and cut with the others.
        Duration::from_secs(value.parse().unwrap_or(u64::MAX))
    } else {
        // A date is by the server's clock, which it may tell.
        let now = date(response.headers()).unwrap_or(now);
        let until = httpdate::parse_http_date(value).ok()?;
        until.duration_since(now).ok()?
    };
    let longest = match response.status() {
        StatusCode::TOO_MANY_REQUESTS => LONGEST_THROTTLING,
        _ => LONGEST_WAIT,
    };
    (!wait.is_zero()).then_some(wait.min(longest))
}

/// What our clock and the server's disagree about, if it is a minute or more.
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

fn date(headers: &HeaderMap) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()
}

fn json_object(body: &[u8]) -> Option<Map<String, Value>> {
    const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
    serde_json::from_slice(body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body)).ok()
}

/// A number, or a string that holds one; what is negative counts as zero, and a fraction is cut.
fn number(value: &Value) -> Option<u64> {
    let (whole, fraction) = match value {
        Value::Number(number) => (number.as_u64(), number.as_f64()),
        Value::String(text) => (text.trim().parse().ok(), text.trim().parse().ok()),
        _ => return None,
    };
    // The cast takes what is out of range to the nearest that is not.
    let cut = || {
        fraction
            .filter(|number| number.is_finite())
            .map(|number| number as u64)
    };
    whole.or_else(cut)
}

const TOLD_TO_WAIT: &str = "asked to wait before the next token request";
/// The longest that we let ourselves be told to wait, by 429 and by anything else.
const LONGEST_THROTTLING: Duration = Duration::from_secs(60 * 60);
const LONGEST_WAIT: Duration = Duration::from_secs(5 * 60);
/// No token response comes near it; a longer body is refused.
pub(crate) const LARGEST_BODY: usize = 1024 * 1024;
/// How many characters of a server's text an error repeats.
const EXCERPT: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;
    use crate::time::TimeSource;
    use crate::token::{AccessToken, TokenSource};
    use std::sync::Arc;

    fn answer(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Result<AccessToken, Error> {
        answer_with_jitter(status, headers, body, 0.0)
    }

    fn answer_with_jitter(
        status: u16,
        headers: &[(&str, &str)],
        body: &[u8],
        jitter: f64,
    ) -> Result<AccessToken, Error> {
        let mut response = Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        let response = response.body(Bytes::copy_from_slice(body)).unwrap();
        let now = TimeSource::System.now();
        let key = Issued::sample("t", "x", 1, now).key().clone();
        let asked = Asked {
            key: key.clone(),
            tenant: "t",
            scopes: "asked/.default",
            correlation_id: "our-id",
            proof: &Proof::Secret(Secret::from("hunter2 &")),
        };
        let issued = Arc::new(parse(&response, asked, now, jitter)?);
        Ok(AccessToken::hand_out(issued, &key, TokenSource::IdentityProvider).unwrap())
    }

    /// Seconds until the token ends and until it is renewed.
    fn times(token: &AccessToken) -> (u64, u64) {
        let left = |time: SystemTime| {
            let left = time.duration_since(SystemTime::now()).unwrap_or_default();
            (left.as_secs_f64() + 0.5) as u64
        };
        (left(token.expires_on()), left(token.refresh_on()))
    }

    #[test]
    fn a_success_is_read() {
        for (name, body, expected) in [
            (
                "numbers",
                r#"{"token_type":"Bearer","access_token":"a","expires_in":3599,"ext_expires_in":3599}"#,
                (3599, 3299),
            ),
            (
                "numeric strings",
                r#"{"token_type":"Bearer","access_token":"a","expires_in":"3599","refresh_in":"1800"}"#,
                (3599, 1800),
            ),
            (
                "bearer without regard to case",
                r#"{"token_type":"bEARER","access_token":"a","expires_in":3599}"#,
                (3599, 3299),
            ),
            (
                "refresh_in",
                r#"{"token_type":"Bearer","access_token":"a","expires_in":86399,"refresh_in":43199}"#,
                (86_399, 43_199),
            ),
            (
                "a fraction",
                r#"{"token_type":"Bearer","access_token":"a","expires_in":3599.9}"#,
                (3599, 3299),
            ),
            (
                "a fraction in a string",
                r#"{"token_type":"Bearer","access_token":"a","expires_in":"3599.0"}"#,
                (3599, 3299),
            ),
            (
                "what nobody needs may be odd",
                r#"{"token_type":"Bearer","access_token":"a","expires_in":3599,"refresh_in":"soon","scope":["x"]}"#,
                (3599, 3299),
            ),
            (
                "a byte order mark",
                "\u{feff}{\"token_type\":\"Bearer\",\"access_token\":\"a\",\"expires_in\":3599}",
                (3599, 3299),
            ),
            (
                "null is absent",
                r#"{"token_type":"Bearer","access_token":"a","expires_in":3599,"refresh_in":null,"scope":null}"#,
                (3599, 3299),
            ),
        ] {
            let token = answer(200, &[], body.as_bytes()).unwrap();
            assert_eq!(times(&token), expected, "{name}");
            assert_eq!(token.secret(), "a");
            assert_eq!(token.scopes(), "asked/.default");
            assert_eq!(token.tenant_id(), Some("t"));
            assert_eq!(token.correlation_id(), "our-id");
        }
        let body = r#"{"token_type":"Bearer","access_token":"a","expires_in":9,"scope":"granted"}"#;
        assert_eq!(
            answer(200, &[], body.as_bytes()).unwrap().scopes(),
            "granted"
        );
        let body = r#"{"token_type":"Bearer","access_token":"a","expires_in":" 9 ","scope":" "}"#;
        let token = answer(200, &[], body.as_bytes()).unwrap();
        assert_eq!(token.scopes(), "asked/.default");
    }

    #[test]
    fn a_success_that_is_none_is_an_invalid_response() {
        let mut taken = Vec::new();
        for (body, why) in [
            ("", "not a JSON object"),
            ("<html>sign in</html>", "not a JSON object"),
            (r#"{"access_token":"tokentok"#, "not a JSON object"),
            ("[]", "not a JSON object"),
            (
                r#"{"token_type":"Bearer","access_token":7,"expires_in":3599}"#,
                "no 'access_token'",
            ),
            (
                r#"{"token_type":"Bearer","access_token":"tokentok","expires_in":"inf"}"#,
                "no 'expires_in'",
            ),
            (
                r#"{"token_type":"Bearer","access_token":"tokentok","expires_in":"soon"}"#,
                "no 'expires_in'",
            ),
            (
                r#"{"access_token":"tokentok","expires_in":3599}"#,
                "no 'token_type'",
            ),
            (
                r#"{"token_type":"pop","access_token":"tokentok","expires_in":3599}"#,
                "is not Bearer",
            ),
            (
                r#"{"token_type":"","access_token":"tokentok","expires_in":3599}"#,
                "is not Bearer",
            ),
            (
                r#"{"token_type":"Bearer","expires_in":3599}"#,
                "no 'access_token'",
            ),
            (
                r#"{"token_type":"Bearer","access_token":"","expires_in":3599}"#,
                "no 'access_token'",
            ),
            (
                r#"{"token_type":"Bearer","access_token":" ","expires_in":3599}"#,
                "no 'access_token'",
            ),
            (
                r#"{"token_type":"Bearer","access_token":"tokentok"}"#,
                "no 'expires_in'",
            ),
            (
                r#"{"token_type":"Bearer","access_token":"tokentok","expires_in":0}"#,
                "not positive",
            ),
            (
                r#"{"token_type":"Bearer","access_token":"tokentok","expires_in":-1}"#,
                "not positive",
            ),
            (
                r#"{"token_type":"Bearer","access_token":"tokentok","expires_in":"0"}"#,
                "not positive",
            ),
            (
                r#"{"token_type":"Bearer","access_token":"tokentok","expires_in":"-5"}"#,
                "not positive",
            ),
            (
                r#"{"token_type":"Bearer","access_token":"tok\nentok","expires_in":9}"#,
                "in a header",
            ),
        ] {
            let error = match answer(200, &[("content-type", "text/html")], body.as_bytes()) {
                Err(error) => error,
                Ok(_) => {
                    taken.push(body);
                    continue;
                }
            };
            assert!(
                matches!(error, Error::InvalidResponse(_)),
                "{body}: {error:?}"
            );
            assert_eq!(error.status().unwrap(), 200);
            let text = error.to_string();
            assert!(text.contains(why), "{body}: {text}");
            assert!(text.contains("text/html"), "{text}");
            assert!(!format!("{error:?}{error}").contains("entok"), "{error:?}");
        }
        assert!(taken.is_empty(), "taken for a success: {taken:#?}");
    }

    #[test]
    fn a_body_beyond_the_limit_is_refused_and_its_status_kept() {
        let token = br#"{"token_type":"Bearer","access_token":"a","expires_in":9}"#;
        let mut largest = token.to_vec();
        largest.resize(LARGEST_BODY, b' ');
        answer(200, &[], &largest).unwrap();
        let body = vec![b' '; LARGEST_BODY + 1];
        let error = answer(200, &[], &body).unwrap_err();
        assert!(error.to_string().contains("too long"), "{error}");
        assert_eq!(answer(500, &[], &body).unwrap_err().status().unwrap(), 500);
    }

    #[test]
    fn a_refusal_is_read_whole() {
        let body = r#"{"error":"invalid_grant","error_description":"AADSTS53003: Blocked.\r\nTrace ID: x",
            "error_codes":[53003,"16000",null],"timestamp":"2026-11-21 03:00:00Z","trace_id":"trace",
            "correlation_id":"0a1b2c3d-0000-4000-8000-000000000001","error_uri":"https://x/53003","suberror":"message_only",
            "claims":"{\"access_token\":{}}"}"#;
        let error = answer(400, &[], body.as_bytes()).unwrap_err();
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
    fn a_refusal_with_status_200_is_a_refusal() {
        let error = answer(200, &[], br#"{"error":"invalid_scope"}"#).unwrap_err();
        assert!(matches!(&error, Error::Server(server) if server.error() == "invalid_scope"));
        let both = br#"{"error":"x","token_type":"Bearer","access_token":"a","expires_in":9}"#;
        answer(200, &[], both).unwrap();
        let neither = answer(200, &[], br#"{"error":"","id_token":"tokentok"}"#).unwrap_err();
        assert!(neither.to_string().contains("no 'token_type'"), "{neither}");
        assert!(!neither.to_string().contains("tokentok"), "{neither}");
    }

    #[test]
    fn a_refusal_with_an_error_and_nothing_else_is_enough() {
        let error = answer(400, &[], br#"{"error":"invalid_scope"}"#).unwrap_err();
        assert!(matches!(&error, Error::Server(server) if server.error() == "invalid_scope"));
        assert_eq!(error.correlation_id(), Some("our-id"));
    }

    #[test]
    fn a_refusal_without_an_oauth_error_keeps_its_status_and_shows_an_excerpt() {
        for (status, body, shown) in [
            (
                503,
                "<h2>Our services aren't available</h2>",
                "<h2>Our services",
            ),
            (
                404,
                "",
                "answered 404 without an OAuth error (0 bytes, no content type)",
            ),
            (400, r#"{"message":"no"}"#, r#"{"message":"no"}"#),
            (400, r#"{"error":""}"#, r#"{"error":""}"#),
            (302, "moved", "answered 302"),
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
            let error = answer(status, &[], body.as_bytes()).unwrap_err();
            assert!(matches!(error, Error::InvalidResponse(_)), "{error:?}");
            assert_eq!(error.status().unwrap(), status);
            assert!(error.to_string().contains(shown), "{body}: {error}");
        }
        let long = format!("{}hunter2 &", "x".repeat(EXCERPT - 3));
        let error = answer(400, &[], long.as_bytes()).unwrap_err();
        assert!(!error.to_string().contains("hun"), "{error}");
    }

    #[test]
    fn an_odd_member_does_not_hide_the_error() {
        for odd in [
            r#""error_codes":7000215"#,
            r#""error_codes":["7000215","x",null]"#,
            r#""error_codes":[7000215],"claims":{"a":1},"error_description":7"#,
            r#""error_codes":[7000215],"error_codes":[7000215]"#,
            r#""error_codes":[7000215],"error_description":"Latin-1: ä""#,
        ] {
            let body = format!(r#"{{"error":"invalid_client",{odd}}}"#);
            let body: Vec<u8> = body.chars().map(|c| c as u8).collect();
            let error = answer(401, &[], &body).unwrap_err();
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
            let error = answer(400, &[], body.as_bytes()).unwrap_err();
            assert_eq!(error.claims_challenge(), expected);
        }
    }

    #[test]
    fn a_correlation_id_that_is_no_guid_is_not_repeated() {
        let body = br#"{"error":"x","correlation_id":"\nFAKE LOG LINE"}"#;
        let error = answer(400, &[], body).unwrap_err();
        assert_eq!(error.correlation_id(), Some("our-id"));
    }

    #[test]
    fn a_refusal_that_repeats_the_secret_does_not_show_it() {
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
                let error = answer(status, &[], body.as_bytes()).unwrap_err();
                let text = format!("{error} {error:?}");
                assert!(!text.contains("hunter2"), "{text}");
            }
        }
    }

    #[test]
    fn a_clock_that_is_wrong_is_told_from_the_date_header() {
        let body = br#"{"error":"invalid_client","error_codes":[700024]}"#;
        let headers = [("date", "Sat, 21 Nov 2020 03:00:00 GMT")];
        let error = answer(401, &headers, body).unwrap_err();
        assert!(
            error.to_string().contains("s ahead of the identity"),
            "{error}"
        );
    }

    #[test]
    fn the_jitter_moves_the_renewal() {
        let body = br#"{"token_type":"Bearer","access_token":"a","expires_in":3599}"#;
        let token = answer_with_jitter(200, &[], body, 1.0).unwrap();
        assert_eq!(times(&token), (3599, 2999));
    }

    #[test]
    fn a_content_type_is_shown_on_one_line_and_without_the_credential() {
        let headers = [("content-type", "x; hunter2 &")];
        let error = answer(200, &headers, b"").unwrap_err().to_string();
        assert!(error.contains("x; [redacted]"), "{error}");
        let headers = [("content-type", "text/html;\tx")];
        let error = answer(400, &headers, b"").unwrap_err().to_string();
        assert!(error.contains("text/html;\\tx"), "{error}");
    }

    #[test]
    fn to_be_told_to_wait_is_throttling_whatever_the_body() {
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
            let error = answer(status, headers, body).unwrap_err();
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
        let error = answer(429, &[], json).unwrap_err();
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
    fn a_date_to_wait_for_is_by_the_servers_clock() {
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
            let error = answer(502, &[], body.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("[withheld: it may hold a token]"), "{error}");
        }
        let long = "x".repeat(300);
        let error = answer(502, &[], long.as_bytes()).unwrap_err().to_string();
        assert_eq!(error.matches("xx").count(), EXCERPT / 2);
    }

    #[test]
    fn an_error_that_is_no_string_is_not_oauths() {
        let nested = br#"{"error":{"code":0,"result":{"access_token":"tokentok"}}}"#;
        for status in [200, 400] {
            let error = answer(status, &[], nested).unwrap_err();
            assert!(matches!(error, Error::InvalidResponse(_)), "{error:?}");
            assert!(!format!("{error:?}").contains("tokentok"), "{error:?}");
            assert_eq!(error.correlation_id(), Some("our-id"));
        }
    }

    #[test]
    fn the_date_header_tells_how_far_the_clocks_are_apart() {
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
