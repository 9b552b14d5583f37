#![warn(clippy::arithmetic_side_effects, reason = "it reads what others wrote")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http::header::CONTENT_TYPE;
use serde_json::{Map, Value};

use crate::error::{Error, Failure};
use crate::secret::Secret;
use crate::time::Now;
use crate::token::{CacheKey, IssuedToken, Lifetime};

mod mask;
mod refusal;

use mask::excerpt;
pub(crate) use refusal::{is_throttled, redirected_to, retry_after};
use refusal::{oauth_error, refusal};

/// What a token response is read against: the request it answers.
pub(crate) struct ResponseContext<'a> {
    pub(crate) key: &'a Arc<CacheKey>,
    pub(crate) tenant: Option<&'a Arc<str>>,
    pub(crate) scopes: &'a Arc<str>,
    pub(crate) correlation_id: &'a str,
    /// What we sent that nobody else may read.
    pub(crate) hidden: &'a [&'a Secret],
    /// Whether signing in again would bring another grant.
    pub(crate) is_interactive: bool,
}

/// A success: the token, and what comes with one of a user's.
pub(crate) struct TokenResponse {
    pub(crate) issued: IssuedToken,
    pub(crate) refresh_token: Option<Secret>,
    pub(crate) id_token: Option<Secret>,
    /// Entra's ids of the user, in base64.
    pub(crate) client_info: Option<String>,
}

/// Reads the token endpoint's answer ([RFC 6749 section 5]); `jitter`, from 0 to 1, moves the
/// token's `refresh_on`.
///
/// [RFC 6749 section 5]: https://www.rfc-editor.org/rfc/rfc6749#section-5
pub(crate) fn parse(
    response: &Response<Bytes>,
    context: ResponseContext<'_>,
    now: Now,
    jitter: f64,
) -> Result<TokenResponse, Error> {
    if response.status().is_success() {
        success(response, context, now, jitter)
    } else {
        Err(refusal(response, &context, now.wall))
    }
}

/// Reads a success strictly: a member that is missing, or not of its type, is an error and not a
/// default, unless it is one that nobody needs.
fn success(
    response: &Response<Bytes>,
    context: ResponseContext<'_>,
    now: Now,
    jitter: f64,
) -> Result<TokenResponse, Error> {
    let invalid = |why: &str| Err(invalid_success(response, &context, why));
    if response.body().len() > LARGEST_BODY {
        return invalid("it is too long");
    }
    // What serde says is not passed on: it quotes the input, and that begins with the token.
    let Some(body) = json_object(response.body()) else {
        return invalid("it is not a JSON object");
    };
    // Some providers refuse with 200.
    if !body.contains_key("access_token")
        && let Some(server) = oauth_error(response, &context, now.wall)
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
        Some(granted) if !granted.trim().is_empty() && granted != &**context.scopes => {
            granted.into()
        }
        _ => Arc::clone(context.scopes),
    };
    let text = |name: &str| {
        let text = body.get(name).and_then(Value::as_str);
        text.filter(|text| !text.is_empty())
    };
    let lifetime = Lifetime::new(expires_in, refresh_in.map(Duration::from_secs), now, jitter);
    match IssuedToken::new(
        Arc::clone(context.key),
        token,
        lifetime,
        scopes,
        context.tenant.cloned(),
        context.correlation_id,
    ) {
        Some(issued) => Ok(TokenResponse {
            issued,
            refresh_token: text("refresh_token").map(Secret::from),
            id_token: text("id_token").map(Secret::from),
            client_info: text("client_info").map(ToOwned::to_owned),
        }),
        None => invalid("its 'access_token' cannot be sent in a header"),
    }
}

/// A success that is none: status, length and type are told, nothing of the body.
fn invalid_success(response: &Response<Bytes>, context: &ResponseContext<'_>, why: &str) -> Error {
    let status = response.status();
    let message = format!(
        "the token endpoint's answer cannot be read: {why} (status {}, {} bytes, {})",
        status.as_u16(),
        response.body().len(),
        content_type(response, context.hidden),
    );
    Error::InvalidResponse(
        Failure::new(message)
            .status(status)
            .correlation_id(context.correlation_id)
            .into(),
    )
}

fn content_type(response: &Response<Bytes>, hidden: &[&Secret]) -> String {
    match response.headers().get(CONTENT_TYPE) {
        Some(value) => excerpt(value.as_bytes(), hidden),
        None => "no content type".to_owned(),
    }
}

pub(crate) fn json_object(body: &[u8]) -> Option<Map<String, Value>> {
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

/// No token response comes near it; a longer body is refused.
pub(crate) const LARGEST_BODY: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use std::sync::{Arc, LazyLock};
    use std::time::SystemTime;

    use super::*;
    use crate::secret::Secret;
    use crate::time::TimeSource;
    use crate::token::{AccessToken, TokenSource};

    /// When every answer of these tests comes.
    static NOW: LazyLock<Now> = LazyLock::new(|| TimeSource::System.now());

    pub(super) fn answer(
        status: u16,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<AccessToken, Error> {
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
        let now = *NOW;
        let key = CacheKey::sample("t");
        let context = ResponseContext {
            key: &key,
            tenant: Some(&"t".into()),
            scopes: &"asked/.default".into(),
            correlation_id: "our-id",
            hidden: &[&Secret::from("hunter2 &")],
            is_interactive: false,
        };
        let issued = Arc::new(parse(&response, context, now, jitter)?.issued);
        Ok(AccessToken::hand_out(issued, &key, TokenSource::IdentityProvider).unwrap())
    }

    /// Seconds until the token ends and until it is renewed.
    fn times(token: &AccessToken) -> (u64, u64) {
        let left = |time: SystemTime| time.duration_since(NOW.wall).unwrap().as_secs();
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

    /// failures.md F5 (no expiry) and M13 (no token).
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
}
