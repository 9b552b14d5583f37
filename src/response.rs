#![warn(clippy::arithmetic_side_effects, reason = "parses untrusted input")]

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::Response;
use http::header::CONTENT_TYPE;
use serde_json::{Map, Value};

use crate::authority::{Rules, Tenant};
use crate::error::{CredentialOrigin, Error, Failure};
use crate::secret::Secret;
use crate::time::Now;
use crate::token::{CacheKey, IssuedToken, Lifetime, TokenBinding, TokenScheme};

mod additional_parameters;
mod clock;
mod compression;
mod encoded;
mod error_response;
mod introspection;
mod mask;
mod members;
mod page;
mod pushed;
mod reason;
mod wait;

pub(crate) use clock::date;
pub(crate) use compression::compression;
pub(crate) use error_response::{append_reason, codes_in, is_guid, redirected_to, text_of};
use error_response::{parse_error, parse_oauth_error};
pub(crate) use introspection::{ActiveToken, IntrospectionResponse};
pub(crate) use mask::{MIN_SECRET, Mask};
use members::Members;
pub(crate) use page::{is_page, summary};
pub(crate) use pushed::PushedResponse;
pub(crate) use reason::Reason;
pub(crate) use wait::{is_throttled, retry_after};

/// The parts of a token request that the parser of the response needs.
pub(crate) struct ResponseContext<'a> {
    pub(crate) key: &'a Arc<CacheKey>,
    pub(crate) tenant: Option<&'a Tenant>,
    pub(crate) scopes: &'a Arc<str>,
    pub(crate) correlation_id: &'a str,
    pub(crate) client_id: &'a str,
    pub(crate) rules: Rules,
    /// The lifetime of an OpenID provider's token without `expires_in`.
    pub(crate) assumed_lifetime: Duration,
    /// The source of the request's credential.
    pub(crate) origin: &'a CredentialOrigin,
    /// The time of the response's arrival, by this machine's clock.
    pub(crate) received: SystemTime,
    /// Secrets of the request, masked in errors.
    pub(crate) secrets: &'a [&'a Secret],
    /// True if a new sign-in can replace the grant.
    pub(crate) is_interactive: bool,
    /// True if the grant is a token exchange, whose response may have another token than an access
    /// token.
    pub(crate) is_token_exchange: bool,
    /// The key that the issued token must be bound to.
    pub(crate) binding: TokenBinding,
    /// The name of the endpoint with its article, for errors.
    pub(crate) endpoint: &'static str,
    /// The time until the key of the binding expires.
    pub(crate) longest_lifetime: Option<Duration>,
}

/// A successful token response. The refresh token, the ID token and the client info belong to a
/// user's token.
pub(crate) struct TokenResponse {
    pub(crate) issued: IssuedToken,
    pub(crate) refresh_token: Option<Secret>,
    pub(crate) id_token: Option<Secret>,
    /// The user's ids in base64, from Entra alone.
    pub(crate) client_info: Option<String>,
    /// True if a member that the client does not know was too large to keep.
    pub(crate) is_cut: bool,
    /// True if the response has no `expires_in`.
    pub(crate) is_lifetime_assumed: bool,
}

/// Parses the token endpoint's response ([RFC 6749 section 5]).
///
/// `jitter`, from 0 to 1, makes the token's `refresh_on` earlier.
///
/// [RFC 6749 section 5]: https://www.rfc-editor.org/rfc/rfc6749#section-5
pub(crate) fn parse(
    response: &Response<Bytes>,
    context: ResponseContext<'_>,
    now: Now,
    jitter: f64,
) -> Result<TokenResponse, Error> {
    if response.status().is_success() {
        parse_success(response, context, now, jitter)
    } else {
        Err(parse_error(response, &context, now.wall()))
    }
}

/// Parses a 2xx response strictly.
///
/// A required member that is missing or of the wrong type is an error. Optional members of the
/// wrong type are ignored.
fn parse_success(
    response: &Response<Bytes>,
    context: ResponseContext<'_>,
    now: Now,
    jitter: f64,
) -> Result<TokenResponse, Error> {
    let invalid = |why: &str| Err(invalid_success(response, &context, why, None));
    if response.body().len() > LARGEST_BODY {
        return invalid("the body is too long");
    }
    // serde's message is dropped, because serde quotes the input, which begins with the token.
    let Some(members) = Members::parse(response.body()) else {
        let why = "the body is not a JSON object";
        let title = title_of_page(response.body());
        return Err(invalid_success(response, &context, why, title.as_deref()));
    };
    let token = members.access_token.as_deref();
    let token = token.filter(|token| !token.trim().is_empty());
    // Some providers send errors with status 200.
    if token.is_none()
        && let Some(server) = parse_oauth_error(response, &context, now.wall())
    {
        return Err(Error::Server(server));
    }
    let reason = match token {
        None => json_object(response.body()).and_then(|body| Reason::of_body(&body).to_text()),
        Some(_) => None,
    };
    let invalid = |why: &str| Err(invalid_success(response, &context, why, reason.as_deref()));
    let scheme = context.binding.scheme();
    let is_attachable = match members.token_type.as_deref() {
        Some(token_type) if token_type.trim().eq_ignore_ascii_case(scheme.as_str()) => true,
        Some(token_type) if context.is_token_exchange && is_not_applicable(token_type) => false,
        Some(token_type) => return invalid(&unexpected_type(token_type, scheme, &context)),
        None => return invalid("the body has no 'token_type'"),
    };
    let issued_token_type = match issued_token_type(&members.issued_token_type, is_attachable) {
        Ok(issued_token_type) => issued_token_type,
        Err(why) if context.is_token_exchange => return invalid(why),
        Err(_) => None,
    };
    let Some(token) = token else {
        return invalid("the body has no 'access_token'");
    };
    let (expires_in, is_lifetime_assumed) = match &members.expires_in {
        Value::Null if context.rules == Rules::OpenId => (context.assumed_lifetime, true),
        value => match number(value) {
            Some(seconds) if seconds > 0 => (Duration::from_secs(seconds), false),
            Some(_) => return invalid("'expires_in' is not positive"),
            None => return invalid("the body has no 'expires_in' that is a number"),
        },
    };
    let refresh_in = number(&members.refresh_in);
    let scopes = match members.scope.as_deref() {
        Some(granted) if !granted.trim().is_empty() && granted != &**context.scopes => {
            granted.into()
        }
        _ => Arc::clone(context.scopes),
    };
    let secret = |text: Option<Cow<'_, str>>| {
        let text = text.filter(|text| !text.is_empty())?;
        Some(Secret::from(text.into_owned()))
    };
    let is_cut = members.additional.is_cut();
    let additional = members.additional.into_json();
    let client_info = members.client_info.filter(|text| !text.is_empty());
    let expires_in = expires_in.min(context.longest_lifetime.unwrap_or(Duration::MAX));
    let lifetime = Lifetime::new(expires_in, refresh_in.map(Duration::from_secs), now, jitter);
    match IssuedToken::new(
        Arc::clone(context.key),
        token,
        lifetime,
        scopes,
        context.tenant,
        context.correlation_id,
        context.binding,
    ) {
        Some(issued) => Ok(TokenResponse {
            issued: match context.is_token_exchange {
                true => issued.exchanged(issued_token_type, is_attachable),
                false => issued,
            }
            .with_additional_parameters(additional),
            is_cut,
            refresh_token: secret(members.refresh_token),
            id_token: secret(members.id_token),
            client_info: client_info.map(Cow::into_owned),
            is_lifetime_assumed,
        }),
        None => invalid("'access_token' cannot be sent in a header"),
    }
}

/// Returns whether a token exchange issued another token than an access token
/// ([RFC 8693 section 2.2.1]).
///
/// [RFC 8693 section 2.2.1]: https://www.rfc-editor.org/rfc/rfc8693#section-2.2.1
fn is_not_applicable(token_type: &str) -> bool {
    let not_applicable = TokenScheme::NotApplicable.as_str();
    token_type.trim().eq_ignore_ascii_case(not_applicable)
}

/// Reads the type of an exchanged token, which the standard requires.
///
/// Some providers name the type only if it is another type than that of an access token.
fn issued_token_type(member: &Value, is_attachable: bool) -> Result<Option<&str>, &'static str> {
    match member {
        Value::String(issued) if !issued.trim().is_empty() => Ok(Some(issued)),
        Value::Null if is_attachable => Ok(None),
        Value::Null => Err("'token_type' is N_A, and the body has no 'issued_token_type'"),
        _ => Err("'issued_token_type' is not a text"),
    }
}

/// Returns the error for a 2xx response that cannot be parsed.
///
/// The message has the status, the length and the content type, and no other part of the body than
/// `reason`, because the body may hold a token.
fn invalid_success(
    response: &Response<Bytes>,
    context: &ResponseContext<'_>,
    why: &str,
    reason: Option<&str>,
) -> Error {
    let status = response.status();
    let mask = Mask::new(context);
    let mut message = format!(
        "{}'s response cannot be read: {why} (status {}, {} bytes, {})",
        context.endpoint,
        status.as_u16(),
        response.body().len(),
        content_type(response, &mask),
    );
    if let Some(reason) = reason {
        message.push_str(": ");
        message.push_str(&mask.excerpt(reason));
    }
    Error::InvalidResponse(
        Failure::new(message)
            .status(status)
            .correlation_id(context.correlation_id)
            .into(),
    )
}

/// Returns the text of a page in the place of a token, such as the page of a captive portal.
pub(crate) fn title_of_page(body: &[u8]) -> Option<String> {
    let body = String::from_utf8_lossy(body);
    // The first byte decides, because a token with the content type of HTML must not be shown.
    is_page("", &body).then(|| summary(&body))?
}

/// Explains a `token_type` other than the expected one. A text that is too long for a type is not
/// shown, because the text may be a token.
fn unexpected_type(token_type: &str, scheme: TokenScheme, context: &ResponseContext<'_>) -> String {
    let expected = scheme.as_str();
    let is_short = token_type.chars().count() <= MAX_TOKEN_TYPE;
    let advice = match scheme {
        TokenScheme::Bearer | TokenScheme::NotApplicable => {
            "configure the provider to issue tokens of the type Bearer"
        }
        // RFC 9449 section 5: a client that requires a bound token discards another token.
        TokenScheme::Dpop => {
            "the token is not bound to the client's key and is discarded; enable DPoP for the client at the provider"
        }
        TokenScheme::MtlsPop => {
            "the token is not bound to the client's certificate and is discarded; the application is not enabled for the preview"
        }
    };
    match is_short && !token_type.trim().is_empty() {
        true => format!(
            "'token_type' is not {expected} but '{}'; {advice}",
            Mask::new(context).excerpt(token_type)
        ),
        false => format!("'token_type' is not {expected}"),
    }
}

pub(crate) fn content_type(response: &Response<Bytes>, mask: &Mask<'_>) -> String {
    let content_type = match response.headers().get(CONTENT_TYPE) {
        Some(value) => mask.excerpt_of_bytes(value.as_bytes()),
        None => "no content type".to_owned(),
    };
    match compression(response) {
        Some(compression) => format!("{content_type}, {compression}"),
        None => content_type,
    }
}

/// Parses a JSON object. Removes members that are `null`, because `null` means absent.
pub(crate) fn json_object(body: &[u8]) -> Option<Map<String, Value>> {
    const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
    let body = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body);
    let mut members: Map<String, Value> = serde_json::from_slice(body).ok()?;
    members.retain(|_, value| !value.is_null());
    Some(members)
}

/// Reads a number, or a string that holds a number. Negative numbers become zero, and fractions
/// are cut.
pub(crate) fn number(value: &Value) -> Option<u64> {
    let (whole, fraction) = match value {
        Value::Number(number) => (number.as_u64(), number.as_f64()),
        Value::String(text) => (text.trim().parse().ok(), text.trim().parse().ok()),
        _ => return None,
    };
    // The cast saturates: an out-of-range number becomes the nearest u64.
    let truncated = || {
        fraction
            .filter(|number| number.is_finite())
            .map(|number| number as u64)
    };
    whole.or_else(truncated)
}

/// The default lifetime of an OpenID provider's token whose response has no `expires_in`.
///
/// Salesforce sends no lifetime. The shortest session that Salesforce offers is 15 minutes, and a
/// token request may return the token of a session that has begun.
pub(crate) const ASSUMED_LIFETIME: Duration = Duration::from_secs(5 * 60);
/// The characters of the longest `token_type` that an error shows.
const MAX_TOKEN_TYPE: usize = 32;
/// The largest accepted body, in bytes. Real token responses are far smaller.
pub(crate) const LARGEST_BODY: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use std::sync::{Arc, LazyLock};
    use std::time::SystemTime;

    use super::*;
    use crate::error::CredentialKind;
    use crate::secret::Secret;
    use crate::time::TimeSource;
    use crate::token::{AccessToken, Thumbprint, TokenSource};

    /// Time of every response in these tests.
    pub(super) static NOW: LazyLock<Now> = LazyLock::new(|| TimeSource::System.now());

    pub(super) fn parsed(
        status: u16,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<AccessToken, Error> {
        parse_with_jitter(status, headers, body, 0.0)
    }

    fn parse_with_jitter(
        status: u16,
        headers: &[(&str, &str)],
        body: &[u8],
        jitter: f64,
    ) -> Result<AccessToken, Error> {
        let request = Sent {
            jitter,
            ..Sent::default()
        };
        request.parsed(status, headers, body)
    }

    /// The parts of a token request that differ between tests.
    pub(super) struct Sent {
        pub(super) secret: &'static str,
        pub(super) kind: CredentialKind,
        pub(super) source: Option<&'static str>,
        pub(super) rules: Rules,
        pub(super) client_id: &'static str,
        pub(super) jitter: f64,
        pub(super) binding: TokenBinding,
        pub(super) is_token_exchange: bool,
        pub(super) longest_lifetime: Option<Duration>,
    }

    impl Default for Sent {
        fn default() -> Self {
            Self {
                secret: "hunter2 &",
                kind: CredentialKind::Secret,
                source: None,
                rules: Rules::Entra,
                client_id: "client",
                jitter: 0.0,
                binding: TokenBinding::Unbound,
                is_token_exchange: false,
                longest_lifetime: None,
            }
        }
    }

    impl Sent {
        /// Parses the response to the request.
        pub(super) fn parsed(
            &self,
            status: u16,
            headers: &[(&str, &str)],
            body: &[u8],
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
                tenant: key.tenant.as_ref(),
                scopes: &"asked/.default".into(),
                correlation_id: "our-id",
                client_id: self.client_id,
                rules: self.rules,
                assumed_lifetime: ASSUMED_LIFETIME,
                origin: &CredentialOrigin {
                    kind: self.kind,
                    source: self.source.map(str::to_owned),
                },
                received: now.wall(),
                secrets: &[&Secret::from(self.secret)],
                is_interactive: false,
                is_token_exchange: self.is_token_exchange,
                binding: self.binding,
                endpoint: "the token endpoint",
                longest_lifetime: self.longest_lifetime,
            };
            let issued = Arc::new(parse(&response, context, now, self.jitter)?.issued);
            Ok(AccessToken::from_cache(issued, &key, TokenSource::IdentityProvider).unwrap())
        }
    }

    /// Returns the seconds until the token expires and until its refresh is due.
    fn times(token: &AccessToken) -> (u64, u64) {
        let left = |time: SystemTime| time.duration_since(NOW.wall()).unwrap().as_secs();
        (left(token.expires_on()), left(token.refresh_on()))
    }

    #[test]
    fn a_success_is_parsed() {
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
                "optional members of the wrong type",
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
            let token = parsed(200, &[], body.as_bytes()).unwrap();
            assert_eq!(times(&token), expected, "{name}");
            assert_eq!(token.secret(), "a");
            assert_eq!(token.scopes(), "asked/.default");
            assert_eq!(token.tenant_id(), Some("t"));
            assert_eq!(token.correlation_id(), "our-id");
        }
        let body = r#"{"token_type":"Bearer","access_token":"a","expires_in":9,"scope":"granted"}"#;
        assert_eq!(
            parsed(200, &[], body.as_bytes()).unwrap().scopes(),
            "granted"
        );
        let body = r#"{"token_type":"Bearer","access_token":"a","expires_in":" 9 ","scope":" "}"#;
        let token = parsed(200, &[], body.as_bytes()).unwrap();
        assert_eq!(token.scopes(), "asked/.default");
    }

    /// docs/failures.md F5 (no expiry) and M13 (no token).
    #[test]
    fn an_unreadable_success_is_an_invalid_response() {
        let mut accepted = Vec::new();
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
            let error = match parsed(200, &[("content-type", "text/html")], body.as_bytes()) {
                Err(error) => error,
                Ok(_) => {
                    accepted.push(body);
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
        assert!(accepted.is_empty(), "accepted as a success: {accepted:#?}");
    }

    #[test]
    fn a_null_member_of_a_token_response_is_absent() {
        let with = |member: &str| {
            let mut body = serde_json::json!({
                "token_type": "Bearer", "access_token": "tokentok", "expires_in": 3599,
                "refresh_in": 1800, "scope": "granted", "ext_expires_in": 3599, "error": "x",
            });
            body[member] = Value::Null;
            parsed(200, &[], body.to_string().as_bytes())
        };
        for optional in ["refresh_in", "scope", "ext_expires_in", "error", "id_token"] {
            with(optional).unwrap();
        }
        assert_eq!(with("scope").unwrap().scopes(), "asked/.default");
        for (required, why) in [
            ("token_type", "no 'token_type'"),
            ("expires_in", "no 'expires_in'"),
        ] {
            let error = with(required).unwrap_err();
            assert!(error.to_string().contains(why), "{required}: {error}");
        }
        // Without a token, the error of the same response counts.
        let error = with("access_token").unwrap_err();
        assert!(matches!(&error, Error::Server(server) if server.error() == "x"));
        let none = br#"{"token_type":"Bearer","access_token":null,"expires_in":9,"error":null}"#;
        let error = parsed(200, &[], none).unwrap_err();
        assert!(error.to_string().contains("no 'access_token'"), "{error}");
    }

    #[test]
    fn a_body_beyond_the_limit_is_rejected_and_the_status_is_kept() {
        let token = br#"{"token_type":"Bearer","access_token":"a","expires_in":9}"#;
        let mut largest = token.to_vec();
        largest.resize(LARGEST_BODY, b' ');
        parsed(200, &[], &largest).unwrap();
        let body = vec![b' '; LARGEST_BODY + 1];
        let error = parsed(200, &[], &body).unwrap_err();
        assert!(error.to_string().contains("too long"), "{error}");
        assert_eq!(parsed(500, &[], &body).unwrap_err().status().unwrap(), 500);
    }

    #[test]
    fn the_jitter_makes_the_refresh_earlier() {
        let body = br#"{"token_type":"Bearer","access_token":"a","expires_in":3599}"#;
        let token = parse_with_jitter(200, &[], body, 1.0).unwrap();
        assert_eq!(times(&token), (3599, 2999));
    }

    #[test]
    fn a_content_type_is_shown_on_one_line_and_without_the_credential() {
        let headers = [("content-type", "x; hunter2 &")];
        let error = parsed(200, &headers, b"").unwrap_err().to_string();
        assert!(error.contains("x; [redacted]"), "{error}");
        let headers = [("content-type", "text/html;\tx")];
        let error = parsed(400, &headers, b"").unwrap_err().to_string();
        assert!(error.contains("text/html;\\tx"), "{error}");
    }

    #[test]
    fn a_page_with_status_200_is_not_passed_over_in_silence() {
        for (page, shown) in [
            (
                "<!DOCTYPE html><title>Guest Wi-Fi</title><p>Please accept the <b>terms</b>.</p>",
                "text/html): Guest Wi-Fi: Please accept the terms.",
            ),
            (
                "<title>you sent hunter2 &amp;</title>",
                ": you sent [redacted]",
            ),
            ("<p>{\"access_token\":\"tokentok\"}</p>", "may hold a token"),
        ] {
            let error = parsed(200, &[("content-type", "text/html")], page.as_bytes());
            let error = error.unwrap_err().to_string();
            assert!(error.contains(shown), "{error}");
            assert!(!error.contains("tokentok"), "{error}");
        }
    }

    #[test]
    fn white_space_does_not_make_another_token_type() {
        let body = br#"{"token_type":" bearer\n","access_token":"tokentok","expires_in":9}"#;
        parsed(200, &[], body).unwrap();
    }

    #[test]
    fn a_missing_lifetime_is_assumed_for_an_openid_provider_alone() {
        let body = |expires_in: &str| {
            format!(
                r#"{{"token_type":"Bearer","access_token":"a","issued_at":"1278448384422"{expires_in}}}"#
            )
        };
        for (rules, expires_in, lifetime) in [
            (Rules::OpenId, "", Some(300)),
            (Rules::OpenId, r#","expires_in":null"#, Some(300)),
            (Rules::OpenId, r#","expires_in":60"#, Some(60)),
            (Rules::OpenId, r#","expires_in":0"#, None),
            (Rules::OpenId, r#","expires_in":-1"#, None),
            (Rules::OpenId, r#","expires_in":"soon""#, None),
            (Rules::OpenId, r#","expires_in":{}"#, None),
            (Rules::Entra, "", None),
            (Rules::Entra, r#","expires_in":null"#, None),
            (Rules::B2c, "", None),
            (Rules::Adfs, "", None),
        ] {
            let sent = Sent {
                rules,
                ..Sent::default()
            };
            let result = sent.parsed(200, &[], body(expires_in).as_bytes());
            let shown = result.as_ref().ok().map(|token| times(token).0);
            assert_eq!(shown, lifetime, "{rules:?} {expires_in}: {result:?}");
        }
    }

    #[test]
    fn another_token_type_is_shown_and_a_long_one_is_not() {
        for (token_type, shown) in [
            ("BearerToken", "is not Bearer but 'BearerToken'; configure"),
            ("mac\\u001b[2J", "'mac\\u{1b}[2J'"),
            ("hunter2 &", "'[redacted]'"),
            ("eyJhbGciOi", "'[withheld: the text may hold a token]'"),
            (
                "0123456789abcdef0123456789abcdefX",
                "'token_type' is not Bearer (",
            ),
            (" ", "'token_type' is not Bearer ("),
        ] {
            let body = format!(
                r#"{{"token_type":"{token_type}","access_token":"tokentok","expires_in":9}}"#
            );
            let error = parsed(200, &[], body.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(shown), "{error}");
            assert!(!error.contains("tokentok"), "{error}");
        }
    }

    #[test]
    fn a_token_has_the_scheme_that_was_requested() {
        use TokenBinding::{Certificate, EntraCertificate, ProofKey, Unbound};

        let key = Thumbprint([7; 32]);
        for (binding, token_type, expected) in [
            (Unbound, "bearer", Ok("Bearer t")),
            (
                Unbound,
                "DPoP",
                Err("'token_type' is not Bearer but 'DPoP'"),
            ),
            (ProofKey(key), "dpop", Ok("DPoP t")),
            (
                ProofKey(key),
                "Bearer",
                Err("is not bound to the client's key"),
            ),
            (Certificate(key), "Bearer", Ok("Bearer t")),
            (EntraCertificate(key), "mtls_pop", Ok("mtls_pop t")),
            (
                EntraCertificate(key),
                "Bearer",
                Err("is not bound to the client's certificate"),
            ),
        ] {
            let sent = Sent {
                binding,
                ..Sent::default()
            };
            let body =
                format!(r#"{{"token_type":"{token_type}","access_token":"t","expires_in":60}}"#);
            let parsed = sent.parsed(200, &[], body.as_bytes());
            match (parsed, expected) {
                (Ok(token), Ok(header)) => {
                    assert_eq!(token.authorization_header(), header);
                    assert_eq!(token.secret(), "t");
                    assert_eq!(token.token_type(), token.scheme().as_str());
                    assert_eq!(token.issued().binding(), binding);
                }
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
                (parsed, expected) => panic!("{binding:?}: {parsed:?} and not {expected:?}"),
            }
        }
    }

    #[test]
    fn a_token_exchange_says_what_it_issued() {
        let exchange = Sent {
            rules: Rules::OpenId,
            is_token_exchange: true,
            ..Sent::default()
        };
        let jwt = "urn:ietf:params:oauth:token-type:jwt";
        for (members, expected) in [
            (
                r#""token_type":"Bearer","issued_token_type":"urn:ietf:params:oauth:token-type:jwt""#,
                Ok((TokenScheme::Bearer, Some(jwt))),
            ),
            (r#""token_type":"Bearer""#, Ok((TokenScheme::Bearer, None))),
            (
                r#""token_type":"n_a","issued_token_type":"urn:ietf:params:oauth:token-type:jwt""#,
                Ok((TokenScheme::NotApplicable, Some(jwt))),
            ),
            (r#""token_type":"N_A""#, Err("has no 'issued_token_type'")),
            (
                r#""token_type":"N_A","issued_token_type":null"#,
                Err("has no 'issued_token_type'"),
            ),
            (
                r#""token_type":"Bearer","issued_token_type":7"#,
                Err("'issued_token_type' is not a text"),
            ),
            (
                r#""token_type":"Bearer","issued_token_type":" ""#,
                Err("'issued_token_type' is not a text"),
            ),
            (
                r#""issued_token_type":"urn:ietf:params:oauth:token-type:jwt""#,
                Err("has no 'token_type'"),
            ),
            (
                r#""token_type":"mac","issued_token_type":"urn:ietf:params:oauth:token-type:jwt""#,
                Err("'token_type' is not Bearer but 'mac'"),
            ),
        ] {
            let body = format!(r#"{{"access_token":"tok.en","expires_in":60,{members}}}"#);
            match (exchange.parsed(200, &[], body.as_bytes()), expected) {
                (Ok(token), Ok((scheme, issued_token_type))) => {
                    assert_eq!(token.scheme(), scheme, "{members}");
                    assert_eq!(token.issued_token_type(), issued_token_type, "{members}");
                    assert_eq!(token.secret(), "tok.en", "{members}");
                    let header = match scheme {
                        TokenScheme::NotApplicable => "N_A",
                        _ => "Bearer tok.en",
                    };
                    assert_eq!(token.authorization_header(), header, "{members}");
                    assert!(!format!("{token:?}").contains("tok.en"));
                }
                (Err(error), Err(part)) => {
                    assert!(matches!(error, Error::InvalidResponse(_)), "{error:?}");
                    assert!(error.to_string().contains(part), "{error}");
                }
                (parsed, _) => panic!("{members}: {parsed:?}"),
            }
        }
        // The type has no meaning in the response to another grant.
        let other =
            r#"{"access_token":"a","expires_in":60,"token_type":"Bearer","issued_token_type":7}"#;
        let token = Sent::default().parsed(200, &[], other.as_bytes()).unwrap();
        assert_eq!(token.issued_token_type(), None);
        let other = r#"{"access_token":"a","expires_in":60,"token_type":"N_A","issued_token_type":"urn:x:y"}"#;
        Sent::default()
            .parsed(200, &[], other.as_bytes())
            .unwrap_err();
    }
}
