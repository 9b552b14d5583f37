//! The time that a server asks the client to wait.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{HeaderMap, Response, StatusCode};

use super::clock::date;
use super::json_object;
use super::reason::Reason;

/// Returns whether the server asks the client to wait.
pub(crate) fn is_throttled(status: StatusCode, retry_after: Option<Duration>) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS
        || status == StatusCode::SERVICE_UNAVAILABLE && retry_after.is_some()
}

/// Reads `Retry-After` in seconds or as a date ([RFC 9110 section 10.2.3]).
///
/// The wait is at most one hour with 429 and five minutes otherwise. A time in the past, or a value
/// that cannot be read, gives `None`. With 429 and without `Retry-After`, a reset time of Okta's
/// or the text of Azure API Management gives the wait.
///
/// [RFC 9110 section 10.2.3]: https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3
pub(crate) fn retry_after(response: &Response<Bytes>, now: SystemTime) -> Option<Duration> {
    let headers = response.headers();
    let is_throttled = response.status() == StatusCode::TOO_MANY_REQUESTS;
    let wait = match headers.contains_key(RETRY_AFTER) {
        true => from_retry_after(headers, now),
        false if is_throttled => from_reset(headers, now).or_else(|| from_body(response.body())),
        false => None,
    }?;
    let longest = match is_throttled {
        true => MAX_THROTTLING,
        false => MAX_WAIT,
    };
    (!wait.is_zero()).then_some(wait.min(longest))
}

fn from_retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = text(headers, RETRY_AFTER.as_str())?;
    if is_number(value) {
        // More digits than a u64 holds mean a long wait, which the limit shortens.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let until = httpdate::parse_http_date(value).ok()?;
    until.duration_since(server_time(headers, now)).ok()
}

/// Reads the time when the rate limit ends. Only a value in Unix seconds is unambiguous, because
/// other servers send the remaining seconds in the same header.
fn from_reset(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = RESET_HEADERS.iter().find_map(|name| text(headers, name))?;
    let seconds: u64 = value.parse().ok().filter(|_| is_number(value))?;
    if !UNIX_SECONDS.contains(&seconds) {
        return None;
    }
    let until = UNIX_EPOCH.checked_add(Duration::from_secs(seconds))?;
    until.duration_since(server_time(headers, now)).ok()
}

/// Reads "Try again in 20 seconds." in the reason of the body.
fn from_body(body: &[u8]) -> Option<Duration> {
    let text = Reason::of_body(&json_object(body)?)
        .text?
        .to_ascii_lowercase();
    let (_, after) = text.split_once("try again in ")?;
    let mut words = after.split_ascii_whitespace();
    let number = words.next().filter(|number| is_number(number))?;
    let unit = words
        .next()?
        .trim_end_matches(|c: char| !c.is_ascii_alphabetic());
    let seconds: u64 = match unit {
        "second" | "seconds" => 1,
        "minute" | "minutes" => 60,
        "hour" | "hours" => 60 * 60,
        _ => return None,
    };
    Some(Duration::from_secs(
        number.parse::<u64>().ok()?.checked_mul(seconds)?,
    ))
}

/// Returns the server's time, by which a server's date counts.
fn server_time(headers: &HeaderMap, now: SystemTime) -> SystemTime {
    date(headers).unwrap_or(now)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    Some(headers.get(name)?.to_str().ok()?.trim())
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The headers of Okta, and of Auth0 and GitHub.
const RESET_HEADERS: [&str; 2] = ["x-rate-limit-reset", "x-ratelimit-reset"];
/// The Unix seconds from 2001 to 2286. A remaining time is far smaller, milliseconds are greater.
const UNIX_SECONDS: std::ops::Range<u64> = 1_000_000_000..10_000_000_000;
/// The longest waits, with 429 and with any other status.
const MAX_THROTTLING: Duration = Duration::from_secs(60 * 60);
const MAX_WAIT: Duration = Duration::from_secs(5 * 60);

#[cfg(test)]
mod tests {
    use http::header::DATE;

    use super::*;

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
    fn a_wait_without_retry_after_is_read_where_it_is_unambiguous() {
        // 1,795,230,000 is this time in Unix seconds.
        let now = httpdate::parse_http_date("Sat, 21 Nov 2026 03:00:00 GMT").unwrap();
        let management =
            r#"{"statusCode":429,"message":"Rate limit is exceeded. Try again in 20 seconds."}"#;
        for (status, reset, body, expected) in [
            (429, Some("1795230045"), "", Some(45)),
            (429, Some("1795229999"), "", None),
            (429, Some("1795999999"), "", Some(3600)),
            (429, Some("45"), "", None),
            (429, Some("1795230045000"), "", None),
            (429, Some("soon"), "", None),
            (403, Some("1795230045"), "", None),
            (429, None, management, Some(20)),
            (429, Some("1795230045"), management, Some(45)),
            (400, None, management, None),
            (
                429,
                None,
                r#"{"message":"Try again in 2 minutes"}"#,
                Some(120),
            ),
            (429, None, r#"{"message":"Try again in a moment."}"#, None),
            (429, None, r#"{"message":"Try again in 20 parsecs."}"#, None),
            (
                429,
                None,
                r#"{"message":"Try again in 99999999999999999999 seconds."}"#,
                None,
            ),
            (429, None, "Try again in 20 seconds.", None),
        ] {
            for name in RESET_HEADERS {
                let mut response = Response::builder().status(status);
                if let Some(reset) = reset {
                    response = response.header(name, reset);
                }
                let response = response
                    .body(Bytes::copy_from_slice(body.as_bytes()))
                    .unwrap();
                let wait = retry_after(&response, now).map(|wait| wait.as_secs());
                assert_eq!(wait, expected, "{status} {name}: {reset:?} {body}");
            }
        }
        let with_both = Response::builder()
            .status(429)
            .header(RETRY_AFTER, "7")
            .header("x-rate-limit-reset", "1795230045")
            .body(Bytes::new())
            .unwrap();
        assert_eq!(retry_after(&with_both, now), Some(Duration::from_secs(7)));
    }
}
