use std::borrow::Cow;
use std::time::SystemTime;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, LOCATION};
use http::{Response, StatusCode};
use serde_json::{Map, Value};
use url::Url;
use uuid::Uuid;

use super::clock::check_clock;
use super::mask::{MAX_LENGTH, Mask};
use super::page;
use super::reason::Reason;
use super::wait::{is_throttled, retry_after};
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
            let mut message = format!(
                "{ASKED_TO_WAIT}: {} returned {}",
                context.endpoint,
                status.as_u16()
            );
            append_reason(&mut message, response, &Mask::new(context));
            Error::Throttled(failure(message).into())
        }
        None => {
            let rejects_credential = is_bare_rejection(response);
            let mut message = without_oauth_error(response, context);
            let clock = check_clock(response.headers(), now, context.received).to_string();
            if rejects_credential && context.origin.sends_assertion() && !clock.is_empty() {
                message = format!("{message} (help: {clock}; correct the clock (NTP))");
            }
            let failure = failure(message).rejects_credential(rejects_credential);
            Error::InvalidResponse(failure.into())
        }
    }
}

/// Parses the OAuth error of a response, if there is one.
pub(super) fn parse_oauth_error(
    response: &Response<Bytes>,
    context: &ResponseContext<'_>,
    now: SystemTime,
) -> Option<ServerError> {
    let body = json_object(text_of(response.body()).as_bytes());
    let body = body.unwrap_or_default();
    let mask = Mask::new(context);
    let member = |name: &str| body.get(name).and_then(Value::as_str);
    let text = |name: &str| member(name).map(|text| mask.text(text));
    let in_body = Reason::of_body(&body);
    let in_headers = Reason::of_headers(response.headers());
    let error = member("error").filter(|error| !error.is_empty());
    let error = error
        .or_else(|| in_body.oauth_code())
        .or_else(|| in_headers.oauth_code())?;
    // The program decides on raw values: only the text that is shown is masked.
    let description = member("error_description")
        .or(in_body.text.as_deref())
        .or(in_headers.text.as_deref());
    let codes = match body.get("error_codes") {
        Some(Value::Array(codes)) => codes.iter().flat_map(codes_of).collect(),
        Some(code) => codes_of(code),
        None => Vec::new(),
    };
    let codes = match codes.is_empty() {
        true => codes_in(&format!("{error} {}", description.unwrap_or_default())),
        false => codes,
    };
    // Anything but a GUID could forge a log line.
    let correlation_id = member("correlation_id")
        .filter(|id| is_guid(id) && !mask.is_secret(id))
        .unwrap_or(context.correlation_id);
    let trace_id = member("trace_id").map(|id| match is_guid(id) && !mask.is_secret(id) {
        true => id.to_owned(),
        false => mask.text(id),
    });
    let mut error_response = ErrorResponse::new(response.status(), mask.code(error));
    error_response.error_description = description.map(|text| mask.text(text));
    error_response.error_codes = codes;
    error_response.suberror = member("suberror").map(|suberror| mask.code(suberror));
    error_response.claims = claims(&body, &mask);
    error_response.correlation_id = Some(correlation_id.to_owned());
    error_response.trace_id = trace_id;
    error_response.timestamp = text("timestamp");
    error_response.error_uri = text("error_uri");
    error_response.retry_after = retry_after(response, now);
    error_response.is_interactive = context.is_interactive;
    error_response.endpoint = Some(context.endpoint.into());
    error_response.origin = Some(context.origin.clone());
    error_response.clock = check_clock(response.headers(), now, context.received);
    Some(error_response.into())
}

pub(crate) fn is_guid(text: &str) -> bool {
    Uuid::try_parse(text).is_ok()
}

/// Reads an item of `error_codes`, a number or a text such as `AADSTS7000215`.
fn codes_of(item: &Value) -> Vec<u64> {
    match number(item) {
        Some(code) => vec![code],
        None => codes_in(item.as_str().unwrap_or_default()),
    }
}

/// Returns the AADSTS codes in a text, in their order.
pub(crate) fn codes_in(text: &str) -> Vec<u64> {
    let mut codes = Vec::new();
    for part in text.to_ascii_uppercase().split("AADSTS").skip(1) {
        let end = part.find(|c: char| !c.is_ascii_digit());
        let digits = part.get(..end.unwrap_or(part.len()));
        let code = digits.and_then(|digits| digits.parse().ok());
        if let Some(code) = code.filter(|code| !codes.contains(code)) {
            codes.push(code);
        }
    }
    codes
}

/// Returns the claims for the next request.
///
/// The caller passes the claims on, so an object is accepted besides the standard string. Claims
/// that repeat a secret are dropped and not masked. The names of claims are no secrets.
fn claims(body: &Map<String, Value>, mask: &Mask<'_>) -> Option<String> {
    let claims = match body.get("claims")? {
        Value::String(claims) => claims.clone(),
        claims @ Value::Object(_) => claims.to_string(),
        _ => return None,
    };
    fn is_free_of_secrets(value: &Value, mask: &Mask<'_>) -> bool {
        match value {
            Value::String(text) => mask.leaves(text),
            Value::Array(items) => items.iter().all(|item| is_free_of_secrets(item, mask)),
            Value::Object(members) => members
                .iter()
                .all(|(name, value)| mask.code(name) == *name && is_free_of_secrets(value, mask)),
            Value::Null | Value::Bool(_) | Value::Number(_) => true,
        }
    }
    let value: Value = serde_json::from_str(&claims).unwrap_or(Value::String(claims.clone()));
    let is_short = claims.chars().count() <= MAX_LENGTH;
    (is_short && is_free_of_secrets(&value, mask)).then_some(claims)
}

/// Returns whether a response without an OAuth error rejects the credential.
///
/// A page with 401 or 403 is a gateway's, which knows no credential of the token endpoint.
fn is_bare_rejection(response: &Response<Bytes>) -> bool {
    let body = text_of(response.body());
    let is_empty = body.trim().is_empty();
    match response.status() {
        StatusCode::UNAUTHORIZED => is_empty || json_object(body.as_bytes()).is_some(),
        StatusCode::FORBIDDEN => is_empty,
        _ => false,
    }
}

/// Returns the message for an error response without an OAuth error.
///
/// The reason in the body helps to identify the gateway or proxy that sent the response.
fn without_oauth_error(response: &Response<Bytes>, context: &ResponseContext<'_>) -> String {
    let mask = Mask::new(context);
    if let Some(host) = redirected_to(response) {
        return format!(
            "{} returned {} with a redirect to '{}', which is not followed, because following would send the credential there; check the authority, and look for a proxy or a captive portal in between",
            context.endpoint,
            response.status().as_u16(),
            mask.excerpt(&host),
        );
    }
    let mut message = format!(
        "{} returned {} without an OAuth error ({} bytes, {})",
        context.endpoint,
        response.status().as_u16(),
        response.body().len(),
        content_type(response, &mask),
    );
    append_reason(&mut message, response, &mask);
    message
}

/// Appends the reason of a response: members of JSON, the text of a page, a header, or else the
/// first characters of the body.
pub(crate) fn append_reason(message: &mut String, response: &Response<Bytes>, mask: &Mask<'_>) {
    let body = text_of(response.body());
    let media_type = response.headers().get(CONTENT_TYPE);
    let media_type = media_type
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let of_json = || Reason::of_body(&json_object(body.as_bytes())?).to_text();
    let of_page = || page::is_page(media_type, &body).then(|| page::summary(&body))?;
    let of_headers = || Reason::of_headers(response.headers()).to_text();
    let reason = of_json().or_else(of_page).or_else(of_headers);
    let reason = mask.excerpt(reason.as_deref().unwrap_or(&body));
    if !reason.is_empty() {
        message.push_str(": ");
        message.push_str(&reason);
    }
}

/// Returns a body as text. With a wrong charset, the readable part still helps.
///
/// Some gateways for Windows write UTF-16.
pub(crate) fn text_of(body: &[u8]) -> Cow<'_, str> {
    let zeros = |first: usize| body.iter().skip(first).step_by(2).take(16).all(|b| *b == 0);
    let unit = match body {
        [0xff, 0xfe, ..] => u16::from_le_bytes,
        [0xfe, 0xff, ..] => u16::from_be_bytes,
        [_, 0, ..] if zeros(1) => u16::from_le_bytes,
        [0, _, ..] if zeros(0) => u16::from_be_bytes,
        _ => return String::from_utf8_lossy(body),
    };
    let (pairs, _) = body.as_chunks();
    let units: Vec<u16> = pairs.iter().map(|pair| unit(*pair)).collect();
    let text = String::from_utf16_lossy(&units);
    Cow::Owned(text.trim_start_matches('\u{feff}').to_owned())
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

const ASKED_TO_WAIT: &str = "the identity provider asked to wait before the next token request";

#[cfg(test)]
mod tests;
