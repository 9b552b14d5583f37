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
mod tests;
