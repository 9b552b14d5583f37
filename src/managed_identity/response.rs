//! The responses of the token endpoints of Azure's hosts.

#![warn(clippy::arithmetic_side_effects, reason = "parses untrusted input")]

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};
use serde_json::{Map, Value};

use super::UserAssignedId;
use super::date::time;
use super::request::RequestValues;
use super::source::{Evidence, Source};
use crate::error::{Error, ErrorResponse, Failure, ServerError};
use crate::response::{
    LARGEST_BODY, Mask, Reason, append_reason, codes_in, content_type, date, is_guid, is_throttled,
    json_object, number, redirected_to, retry_after, text_of, title_of_page,
};
use crate::secret::Secret;
use crate::time::{Now, format_time};
use crate::token::{CacheKey, IssuedToken, Lifetime, TokenBinding};

/// A token as a host's endpoint issued it.
#[derive(Debug)]
pub(crate) struct IdentityToken {
    pub(crate) secret: Secret,
    /// The lifetime, counted from `requested_at`.
    pub(crate) expires_in: Duration,
    pub(crate) refresh_in: Option<Duration>,
    /// The time before the request was sent.
    pub(crate) requested_at: Now,
}

impl IdentityToken {
    /// Returns the token for the cache. `jitter`, from 0 to 1, makes the refresh earlier.
    pub(crate) fn into_issued(
        self,
        key: Arc<CacheKey>,
        scopes: Arc<str>,
        correlation_id: &str,
        jitter: f64,
    ) -> Option<IssuedToken> {
        let lifetime = Lifetime::new(self.expires_in, self.refresh_in, self.requested_at, jitter);
        let token = self.secret.expose();
        IssuedToken::new(
            key,
            token,
            lifetime,
            scopes,
            None,
            correlation_id,
            TokenBinding::Unbound,
        )
    }
}

/// A response that is no success, for the advice of its source.
pub(super) struct Rejection<'a> {
    pub(super) status: StatusCode,
    /// The code of the body, such as `invalid_request` or `ManagedIdentityNotFound`.
    pub(super) code: Option<&'a str>,
    pub(super) text: Option<&'a str>,
}

/// The parts of a token request that the parser of the response needs.
pub(super) struct ResponseContext<'a> {
    pub(super) source: &'a Source,
    pub(super) evidence: &'a Evidence,
    pub(super) values: &'a RequestValues<'a>,
    /// Secrets of the request, masked in errors.
    pub(super) secrets: &'a [&'a Secret],
    /// The time before the request was sent.
    pub(super) requested_at: Now,
    /// The time of the response's arrival.
    pub(super) received: SystemTime,
}

impl<'a> ResponseContext<'a> {
    fn mask(&self) -> Mask<'a> {
        Mask::of(self.secrets.iter().map(|secret| secret.expose()))
    }

    fn failure(&self, response: &Response<Bytes>, message: String) -> Failure {
        Failure::new(message)
            .status(response.status())
            .correlation_id(self.values.correlation_id)
    }
}

/// Parses the response of a token endpoint.
pub(super) fn parse(
    response: &Response<Bytes>,
    context: &ResponseContext<'_>,
) -> Result<IdentityToken, Error> {
    match response.status().is_success() {
        true => parse_success(response, context),
        false => Err(parse_failure(response, context)),
    }
}

fn parse_success(
    response: &Response<Bytes>,
    context: &ResponseContext<'_>,
) -> Result<IdentityToken, Error> {
    let invalid = |why: &str, reason: Option<String>| {
        Err(invalid_success(response, context, why, reason.as_deref()))
    };
    if response.body().len() > LARGEST_BODY {
        return invalid("the body is too long", None);
    }
    // serde's message is dropped, because serde quotes the input, which begins with the token.
    let Some(body) = json_object(response.body()) else {
        let title = title_of_page(response.body());
        return invalid("the body is not a JSON object", title);
    };
    let token = body.get("access_token").and_then(Value::as_str);
    let Some(token) = token.filter(|token| !token.trim().is_empty()) else {
        let reason = Reason::of_body(&body).to_text();
        return invalid("the body has no 'access_token'", reason);
    };
    // Every host documents the member, and not every host sends it.
    match body.get("token_type").and_then(Value::as_str) {
        None => {}
        Some(token_type) if token_type.trim().eq_ignore_ascii_case("Bearer") => {}
        Some(_) => return invalid("'token_type' is not Bearer", None),
    }
    if HeaderValue::from_str(token).is_err() {
        return invalid("'access_token' cannot be sent in a header", None);
    }
    let server_time = date(response.headers()).unwrap_or(context.received);
    let expires_in = match lifetime(&body, server_time) {
        Ok(expires_in) => expires_in,
        Err(why) => return invalid(&why, None),
    };
    if let Some(why) = other_identity(&body, context) {
        return invalid(&why, None);
    }
    let refresh_in = body.get("refresh_in").and_then(number);
    Ok(IdentityToken {
        secret: Secret::from(token),
        expires_in,
        refresh_in: refresh_in.map(Duration::from_secs),
        requested_at: context.requested_at,
    })
}

/// Returns the remaining lifetime, which is the shorter of `expires_on` and `expires_in`.
///
/// The endpoints return cached tokens. In the response with such a token `expires_in` may be the
/// whole lifetime. `expires_on` counts by the server's time.
fn lifetime(body: &Map<String, Value>, server_time: SystemTime) -> Result<Duration, String> {
    let expires_in = body.get("expires_in").and_then(number);
    let expires_in = expires_in.filter(|seconds| *seconds > 0);
    let expires_in = expires_in.map(Duration::from_secs);
    let Some(expires_on) = body.get("expires_on").and_then(time) else {
        return expires_in.ok_or_else(|| {
            "the body has no 'expires_on' that is a time, and no positive 'expires_in'".to_owned()
        });
    };
    let left = expires_on.duration_since(server_time).unwrap_or_default();
    if left.is_zero() {
        return Err(format!(
            "the token expired on {}, and the time is {}; set the clock of this machine, or wait until the endpoint's cache has a new token",
            format_time(expires_on),
            format_time(server_time)
        ));
    }
    Ok(expires_in.map_or(left, |expires_in| expires_in.min(left)))
}

/// Returns why the token belongs to another identity than the request named.
fn other_identity(body: &Map<String, Value>, context: &ResponseContext<'_>) -> Option<String> {
    let identity = context.values.identity;
    let id = identity.id()?;
    let members: &[&str] = match id {
        UserAssignedId::Client(_) => &["client_id"],
        UserAssignedId::Object(_) => &["object_id", "principal_id"],
        UserAssignedId::Resource(_) => &["msi_res_id", "mi_res_id"],
    };
    let mut values = members.iter().filter_map(|name| body.get(*name)?.as_str());
    let returned = values.find(|value| !value.trim().is_empty());
    match returned {
        Some(returned) if returned.trim().eq_ignore_ascii_case(id.value()) => None,
        Some(returned) => Some(format!(
            "the token belongs to the identity with the {} '{}', and the request named '{}'; assign {identity} to this host",
            id.name(),
            context.mask().excerpt(returned),
            id.value()
        )),
        None if context.source.may_ignore_id() => Some(format!(
            "the response does not name the identity of the token, so the endpoint may have ignored the {}; update the Azure Arc agent, or use ManagedIdentity::system_assigned()",
            id.name()
        )),
        None => None,
    }
}

/// Returns the error for a 2xx response that cannot be parsed.
///
/// The message has no other part of the body than `reason`, because the body may hold a token.
fn invalid_success(
    response: &Response<Bytes>,
    context: &ResponseContext<'_>,
    why: &str,
    reason: Option<&str>,
) -> Error {
    let mask = context.mask();
    let mut message = format!(
        "the response of {} cannot be used: {why} (status {}, {} bytes, {})",
        context.evidence,
        response.status().as_u16(),
        response.body().len(),
        content_type(response, &mask),
    );
    if let Some(reason) = reason {
        message.push_str(": ");
        message.push_str(&mask.excerpt(reason));
    }
    Error::InvalidResponse(context.failure(response, message).into())
}

/// Parses a response that is not 2xx, leniently: every readable member helps.
fn parse_failure(response: &Response<Bytes>, context: &ResponseContext<'_>) -> Error {
    let status = response.status();
    let wait = retry_after(response, context.received);
    let throttled = is_throttled(status, wait);
    match server_error(response, context, wait) {
        Some(server) if throttled => {
            let message = format!("{ASKED_TO_WAIT}: {server}");
            let failure = context.failure(response, message).retry_after(wait);
            Error::Throttled(failure.server(Some(server)).into())
        }
        Some(server) => Error::Server(server),
        None => {
            let message = unreadable(response, context);
            let failure = context.failure(response, message).retry_after(wait);
            match throttled {
                true => Error::Throttled(failure.into()),
                false => Error::InvalidResponse(failure.into()),
            }
        }
    }
}

/// Reads the code and the text of a rejection: `{error, error_description}` of IMDS,
/// `{error: {code, message}}` of Service Fabric and Cloud Shell, `{statusCode, message}` of App
/// Service.
fn server_error(
    response: &Response<Bytes>,
    context: &ResponseContext<'_>,
    wait: Option<Duration>,
) -> Option<ServerError> {
    let body = json_object(text_of(response.body()).as_bytes())?;
    let reason = Reason::of_body(&body);
    if reason.code.is_none() && reason.text.is_none() {
        return None;
    }
    let status = response.status();
    let rejection = Rejection {
        status,
        code: reason.code.as_deref(),
        text: reason.text.as_deref(),
    };
    let values = context.values;
    let advice = context
        .source
        .advice(&rejection, values.identity, values.resource);
    let mask = context.mask();
    let code = reason.code.as_deref().unwrap_or(WITHOUT_CODE);
    let texts = format!("{code} {}", reason.text.as_deref().unwrap_or_default());
    let ids = [Some(&body), body.get("error").and_then(Value::as_object)];
    let mut ids = ids.into_iter().flatten().flat_map(|object| {
        let names = ["correlation_id", "correlationId"].iter();
        names.filter_map(|name| object.get(*name)?.as_str())
    });
    // Anything but a GUID could forge a log line.
    let correlation_id = ids.find(|id| is_guid(id) && !mask.is_secret(id));
    let mut rejected = ErrorResponse::new(status, mask.code(code));
    rejected.error_description = reason.text.as_deref().map(|text| mask.text(text));
    rejected.error_codes = codes_in(&texts);
    rejected.correlation_id = Some(correlation_id.unwrap_or(values.correlation_id).to_owned());
    rejected.retry_after = wait;
    rejected.endpoint = Some(context.evidence.to_string().into());
    let server = ServerError::from(rejected);
    Some(match advice {
        Some(advice) => server.with_help(advice),
        None => server,
    })
}

/// Returns the message for a response without a readable reason, such as the page of a proxy.
fn unreadable(response: &Response<Bytes>, context: &ResponseContext<'_>) -> String {
    let mask = context.mask();
    let status = response.status();
    let evidence = context.evidence;
    if let Some(host) = redirected_to(response) {
        return format!(
            "{evidence} returned {} with a redirect to '{}', which is not followed; look for a proxy in between",
            status.as_u16(),
            mask.excerpt(&host),
        );
    }
    let mut message = format!(
        "{evidence} returned {} without a reason ({} bytes, {})",
        status.as_u16(),
        response.body().len(),
        content_type(response, &mask),
    );
    append_reason(&mut message, response, &mask);
    let rejection = Rejection {
        status,
        code: None,
        text: None,
    };
    let values = context.values;
    if let Some(advice) = context
        .source
        .advice(&rejection, values.identity, values.resource)
    {
        message.push_str(" (help: ");
        message.push_str(&advice);
        message.push(')');
    }
    message
}

/// MSAL's code for a rejection without a code, such as App Service's.
const WITHOUT_CODE: &str = "managed_identity_request_failed";
const ASKED_TO_WAIT: &str = "the endpoint asked to wait before the next token request";

#[cfg(test)]
mod tests;
