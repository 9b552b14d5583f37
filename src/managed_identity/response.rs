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
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::managed_identity::ManagedIdentity;
    use crate::managed_identity::environment::{self, HostEnvironment};
    use crate::managed_identity::request::tests::with_values;
    use crate::managed_identity::source::SourceKind;
    use crate::time::TimeSource;

    const CLIENT: &str = "11111111-2222-3333-4444-555555555555";
    const OTHER: &str = "99999999-2222-3333-4444-555555555555";

    fn environment_of(kind: SourceKind) -> HostEnvironment {
        let thumbprint = "00112233445566778899AABBCCDDEEFF00112233";
        let variables: &[(&str, &str)] = match kind {
            SourceKind::ServiceFabric => &[
                (
                    environment::IDENTITY_ENDPOINT,
                    "https://localhost:2377/token",
                ),
                (environment::IDENTITY_HEADER, "hunter2-secret"),
                (environment::IDENTITY_SERVER_THUMBPRINT, thumbprint),
            ],
            SourceKind::AppService => &[
                (environment::IDENTITY_ENDPOINT, "http://127.0.0.1/token"),
                (environment::IDENTITY_HEADER, "hunter2-secret"),
            ],
            SourceKind::AzureMl => &[
                (environment::MSI_ENDPOINT, "http://127.0.0.1/token"),
                (environment::MSI_SECRET, "hunter2-secret"),
            ],
            SourceKind::CloudShell => &[(environment::MSI_ENDPOINT, "http://127.0.0.1/token")],
            SourceKind::AzureArc => &[
                (environment::IDENTITY_ENDPOINT, "http://127.0.0.1/token"),
                (environment::IMDS_ENDPOINT, "http://127.0.0.1/"),
            ],
            SourceKind::Imds => &[],
        };
        let variables: HashMap<&str, &str> = variables.iter().copied().collect();
        HostEnvironment::from_variables(variables)
    }

    fn parsed(
        kind: SourceKind,
        identity: &ManagedIdentity,
        response: &Response<Bytes>,
    ) -> Result<IdentityToken, Error> {
        let environment = environment_of(kind);
        let source = Source::read(kind, &environment, identity).unwrap();
        let evidence = Evidence::of(kind, &environment);
        let now = TimeSource::System.now();
        let secrets: Vec<&Secret> = source.secret().into_iter().collect();
        with_values(identity, |values| {
            let context = ResponseContext {
                source: &source,
                evidence: &evidence,
                values,
                secrets: &secrets,
                requested_at: now,
                received: httpdate::parse_http_date("Sun, 20 Dec 2026 03:58:20 GMT").unwrap(),
            };
            parse(response, &context)
        })
    }

    fn response(status: u16, body: &str) -> Response<Bytes> {
        let response = Response::builder().status(status);
        response
            .body(Bytes::copy_from_slice(body.as_bytes()))
            .unwrap()
    }

    #[test]
    fn the_lifetime_is_read_from_every_hosts_response() {
        let system = ManagedIdentity::system_assigned();
        // 2026-12-20T04:58:20Z, an hour after the responses.
        for (kind, body, expected) in [
            (
                SourceKind::Imds,
                r#"{"access_token":"a","refresh_token":"","expires_in":"3599","expires_on":"1797742700","not_before":"1797739100","resource":"https://vault.azure.net","token_type":"Bearer","client_id":"c"}"#,
                3599,
            ),
            (
                SourceKind::AppService,
                r#"{"access_token":"a","expires_on":"1797742700","resource":"r","token_type":"Bearer","client_id":"c"}"#,
                3600,
            ),
            (
                SourceKind::AppService,
                r#"{"access_token":"a","expires_on":"2026-12-20T04:58:20Z","token_type":"Bearer"}"#,
                3600,
            ),
            (
                SourceKind::ServiceFabric,
                r#"{"token_type":"Bearer","access_token":"a","expires_on":1797742700,"resource":"r"}"#,
                3600,
            ),
            (
                SourceKind::AzureMl,
                r#"{"access_token":"a","expires_on":"12/20/2026 4:58:20 AM +00:00","resource":"r","token_type":"Bearer"}"#,
                3600,
            ),
            (
                SourceKind::CloudShell,
                r#"{"access_token":"a","expires_in":60}"#,
                60,
            ),
            (
                SourceKind::Imds,
                r#"{"access_token":"a","expires_in":"","expires_on":"1797742700"}"#,
                3600,
            ),
            (
                SourceKind::Imds,
                r#"{"access_token":"a","expires_in":"86399","expires_on":"1797742700"}"#,
                3600,
            ),
            (
                SourceKind::Imds,
                r#"{"access_token":"a","expires_in":"60","expires_on":"soon"}"#,
                60,
            ),
            (
                SourceKind::Imds,
                r#"{"access_token":"a","expires_in":0,"expires_on":1797742700}"#,
                3600,
            ),
        ] {
            let token = parsed(kind, &system, &response(200, body)).unwrap();
            assert_eq!(token.secret.expose(), "a");
            assert_eq!(token.expires_in.as_secs(), expected, "{body}");
            assert_eq!(token.refresh_in, None, "{body}");
        }
    }

    #[test]
    fn expires_on_counts_by_the_servers_clock() {
        let body = r#"{"access_token":"a","expires_on":"1797742700","refresh_in":"1200"}"#;
        let mut response = response(200, body);
        let date = HeaderValue::from_static("Sun, 20 Dec 2026 04:28:20 GMT");
        response.headers_mut().insert("date", date);
        let system = ManagedIdentity::system_assigned();
        let token = parsed(SourceKind::Imds, &system, &response).unwrap();
        assert_eq!(token.expires_in.as_secs(), 1800);
        assert_eq!(token.refresh_in, Some(Duration::from_secs(1200)));
    }

    #[test]
    fn a_success_without_a_usable_token_is_invalid_and_says_why() {
        let system = ManagedIdentity::system_assigned();
        for (body, reason) in [
            ("", "not a JSON object"),
            ("[]", "not a JSON object"),
            (
                "<html><title>Sign in to the Wi-Fi</title>",
                ": Sign in to the Wi-Fi",
            ),
            (r#"{"expires_on":1797742700}"#, "no 'access_token'"),
            (
                r#"{"access_token":" ","expires_on":1797742700}"#,
                "no 'access_token'",
            ),
            (
                r#"{"error":{"code":"X","message":"not today"}}"#,
                ": X: not today",
            ),
            (
                r#"{"access_token":"a"}"#,
                "no 'expires_on' that is a time, and no positive 'expires_in'",
            ),
            (
                r#"{"access_token":"a","expires_in":0}"#,
                "no positive 'expires_in'",
            ),
            (
                r#"{"access_token":"a","expires_on":1797739100}"#,
                "expired on 2026-12-20T03:58:20Z, and the time is 2026-12-20T03:58:20Z",
            ),
            (
                r#"{"access_token":"a","expires_on":1797742700,"token_type":"PoP"}"#,
                "'token_type' is not Bearer",
            ),
            (
                "{\"access_token\":\"hunter2-token\\n\",\"expires_on\":1797742700}",
                "cannot be sent in a header",
            ),
        ] {
            let error = parsed(SourceKind::Imds, &system, &response(200, body)).unwrap_err();
            assert!(matches!(error, Error::InvalidResponse(_)), "{error:?}");
            let text = error.to_string();
            assert!(text.starts_with("the response of the managed identity endpoint of the instance metadata service (IMDS) (selected because IDENTITY_ENDPOINT, "), "{text}");
            assert!(text.contains(reason), "{text}");
            assert!(!text.contains("hunter2"), "{text}");
            assert_eq!(error.correlation_id(), Some("our-id"));
            assert!(!error.is_transient());
        }
    }

    #[test]
    fn the_token_of_another_identity_is_rejected() {
        let client = || ManagedIdentity::user_assigned_client_id(CLIENT);
        let object = || ManagedIdentity::user_assigned_object_id(CLIENT);
        let resource = || ManagedIdentity::user_assigned_resource_id("/subscriptions/A");
        for (kind, identity, members, expected) in [
            (
                SourceKind::Imds,
                client(),
                format!(r#","client_id":"{CLIENT}""#),
                None,
            ),
            (
                SourceKind::Imds,
                client(),
                format!(r#","client_id":"{}""#, CLIENT.to_uppercase()),
                None,
            ),
            (SourceKind::Imds, client(), String::new(), None),
            (
                SourceKind::Imds,
                client(),
                format!(r#","client_id":"{OTHER}""#),
                Some("belongs to the identity with the client id '9999"),
            ),
            (
                SourceKind::AppService,
                client(),
                format!(r#","client_id":"{OTHER}""#),
                Some("belongs to the identity"),
            ),
            (
                SourceKind::Imds,
                object(),
                format!(r#","client_id":"{OTHER}""#),
                None,
            ),
            (
                SourceKind::Imds,
                object(),
                format!(r#","object_id":"{OTHER}""#),
                Some("with the object id '9999"),
            ),
            (
                SourceKind::Imds,
                resource(),
                r#","msi_res_id":"/subscriptions/a""#.to_owned(),
                None,
            ),
            (
                SourceKind::AppService,
                resource(),
                r#","mi_res_id":"/subscriptions/b""#.to_owned(),
                Some("with the resource id '/subscriptions/b'"),
            ),
            (
                SourceKind::AzureArc,
                client(),
                format!(r#","client_id":"{CLIENT}""#),
                None,
            ),
            (
                SourceKind::AzureArc,
                client(),
                String::new(),
                Some("may have ignored the client id"),
            ),
            (
                SourceKind::AzureArc,
                client(),
                r#","client_id":"""#.to_owned(),
                Some("may have ignored the client id"),
            ),
            (
                SourceKind::AzureArc,
                client(),
                format!(r#","client_id":"{OTHER}""#),
                Some("belongs to the identity"),
            ),
            (
                SourceKind::AzureArc,
                object(),
                format!(r#","client_id":"{OTHER}""#),
                Some("may have ignored the object id"),
            ),
            (
                SourceKind::AzureArc,
                ManagedIdentity::system_assigned(),
                format!(r#","client_id":"{OTHER}""#),
                None,
            ),
        ] {
            let body = format!(r#"{{"access_token":"a","expires_in":60{members}}}"#);
            match (parsed(kind, &identity, &response(200, &body)), expected) {
                (Ok(_), None) => {}
                (Err(error @ Error::InvalidResponse(_)), Some(text)) => {
                    assert!(error.to_string().contains(text), "{error}");
                }
                (other, _) => panic!("{kind:?} {identity} {members}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_rejection_has_the_hosts_code_and_says_what_to_do() {
        let system = ManagedIdentity::system_assigned;
        let client = || ManagedIdentity::user_assigned_client_id(CLIENT);
        let object = || ManagedIdentity::user_assigned_object_id(CLIENT);
        for (kind, identity, status, body, code, help) in [
            (
                SourceKind::Imds,
                system(),
                400,
                r#"{"error":"invalid_request","error_description":"Identity not found"}"#,
                "invalid_request",
                "no system-assigned identity is assigned to this machine",
            ),
            (
                SourceKind::Imds,
                client(),
                400,
                r#"{"error":"invalid_request","error_description":"Identity not found"}"#,
                "invalid_request",
                "the user-assigned identity with the client id '11111111-2222-3333-4444-555555555555' is not assigned to this machine",
            ),
            (
                SourceKind::Imds,
                system(),
                400,
                r#"{"error":"invalid_request","error_description":"Multiple user assigned identities exist, please specify the clientId / resourceId of the identity in the token request"}"#,
                "invalid_request",
                "name one of them",
            ),
            (
                SourceKind::Imds,
                system(),
                400,
                r#"{"error":"invalid_resource","error_description":"AADSTS500011: The resource principal was not found."}"#,
                "invalid_resource",
                "'https://vault.azure.net' is not known",
            ),
            (
                SourceKind::Imds,
                system(),
                400,
                r#"{"error":"bad_request_102","error_description":"Required metadata header not specified"}"#,
                "bad_request_102",
                "removes the header 'Metadata'",
            ),
            (
                SourceKind::Imds,
                system(),
                401,
                r#"{"error":"unknown_source","error_description":"Unknown Source /metadata"}"#,
                "unknown_source",
                "does not recognise this machine",
            ),
            (
                SourceKind::Imds,
                system(),
                403,
                r#"{"error":"forbidden"}"#,
                "forbidden",
                "allow 169.254.169.254",
            ),
            (
                SourceKind::Imds,
                system(),
                410,
                r#"{"error":"gone"}"#,
                "gone",
                "up to 70 seconds",
            ),
            (
                SourceKind::AppService,
                client(),
                400,
                r#"{"statusCode":400,"message":"No User Assigned or Delegated Managed Identity found for specified ClientId/ResourceId/PrincipalId.","correlationId":"3f2504e0-4f89-11d3-9a0c-0305e82c3301"}"#,
                "managed_identity_request_failed",
                "is not assigned to this app",
            ),
            (
                SourceKind::AppService,
                system(),
                400,
                r#"{"statusCode":400,"message":"Unable to load the proper Managed Identity."}"#,
                "managed_identity_request_failed",
                "no system-assigned identity is assigned to this app",
            ),
            (
                SourceKind::AppService,
                system(),
                403,
                r#"{"statusCode":403,"message":"forbidden"}"#,
                "managed_identity_request_failed",
                "rejects the value of IDENTITY_HEADER",
            ),
            (
                SourceKind::ServiceFabric,
                object(),
                404,
                r#"{"error":{"correlationId":"3f2504e0-4f89-11d3-9a0c-0305e82c3301","code":"ManagedIdentityNotFound","message":"gone"}}"#,
                "ManagedIdentityNotFound",
                "with the object id '11111111-2222-3333-4444-555555555555' is not assigned to this application",
            ),
            (
                SourceKind::ServiceFabric,
                system(),
                400,
                r#"{"error":{"code":"SecretHeaderNotFound","message":"Secret is not found in the request headers."}}"#,
                "SecretHeaderNotFound",
                "removes the header 'secret'",
            ),
            (
                SourceKind::ServiceFabric,
                system(),
                400,
                r#"{"error":{"code":"ArgumentNullOrEmpty","message":"The parameter 'Resource' should not be null or empty."}}"#,
                "ArgumentNullOrEmpty",
                "set a scope",
            ),
            (
                SourceKind::ServiceFabric,
                system(),
                400,
                r#"{"error":{"code":"InvalidApiVersion","message":"no"}}"#,
                "InvalidApiVersion",
                "update the runtime",
            ),
            (
                SourceKind::CloudShell,
                system(),
                400,
                r#"{"error":{"code":"AudienceNotSupported","message":"Audience is not a supported MSI token audience"}}"#,
                "AudienceNotSupported",
                "Cloud Shell issues no tokens for 'https://vault.azure.net'",
            ),
            (
                SourceKind::AzureArc,
                client(),
                400,
                r#"{"error":"invalid_request","error_description":"Identity not found"}"#,
                "invalid_request",
                "is not assigned to this server",
            ),
            (
                SourceKind::AzureArc,
                system(),
                401,
                r#"{"error":"unauthorized_client"}"#,
                "unauthorized_client",
                "rejected the key",
            ),
            (
                SourceKind::AzureMl,
                client(),
                400,
                r#"{"message":"Identity not found"}"#,
                "managed_identity_request_failed",
                "is not assigned to this compute",
            ),
            (
                SourceKind::AzureMl,
                client(),
                403,
                r#"{"message":"no"}"#,
                "managed_identity_request_failed",
                "MSI_SECRET",
            ),
        ] {
            let error = parsed(kind, &identity, &response(status, body)).unwrap_err();
            let Error::Server(server) = &error else {
                panic!("{error:?}");
            };
            assert_eq!(server.status(), status);
            assert_eq!(server.error(), code, "{body}");
            let shown = server.help().unwrap_or_default();
            assert!(shown.contains(help), "{body}: {shown}");
            let text = error.to_string();
            assert!(
                text.starts_with(&format!(
                    "the managed identity endpoint of {} (selected because ",
                    kind.name()
                )),
                "{text}"
            );
            let id = match body.contains("orrelationId") {
                true => "3f2504e0-4f89-11d3-9a0c-0305e82c3301",
                false => "our-id",
            };
            assert_eq!(error.correlation_id(), Some(id));
        }
    }

    #[test]
    fn the_codes_of_entra_in_a_rejection_are_read() {
        let body = r#"{"error":"unauthorized_client","error_description":"AADSTS7000112: Application is disabled."}"#;
        let system = ManagedIdentity::system_assigned();
        let error = parsed(SourceKind::CloudShell, &system, &response(400, body)).unwrap_err();
        let server = error.server_error().unwrap();
        assert_eq!(server.error_codes(), [7000112]);
        assert!(server.help().unwrap().contains("disabled"));
    }

    #[test]
    fn the_text_of_a_rejection_shows_no_secret() {
        let body = r#"{"statusCode":403,"message":"bad header hunter2-secret"}"#;
        let system = ManagedIdentity::system_assigned();
        let page = "<h1>403</h1><p>hunter2-secret is wrong";
        for body in [body, page] {
            let error = parsed(SourceKind::AppService, &system, &response(403, body)).unwrap_err();
            assert!(
                !format!("{error} {error:?} {error:#?}").contains("hunter2"),
                "{error:?}"
            );
        }
    }

    #[test]
    fn a_response_without_a_reason_keeps_its_status_and_its_page() {
        let system = ManagedIdentity::system_assigned();
        let page = response(502, "<h1>502 Bad Gateway</h1><p>squid");
        let error = parsed(SourceKind::Imds, &system, &page).unwrap_err();
        assert!(matches!(error, Error::InvalidResponse(_)), "{error:?}");
        assert!(error.is_transient());
        assert!(
            error.to_string().ends_with(": 502 Bad Gateway: squid"),
            "{error}"
        );
        let gone = parsed(SourceKind::Imds, &system, &response(410, "")).unwrap_err();
        assert!(
            gone.to_string().contains("(help: IMDS is being updated"),
            "{gone}"
        );
        let mut moved = response(302, "");
        moved
            .headers_mut()
            .insert("location", HeaderValue::from_static("http://proxy/login"));
        let error = parsed(SourceKind::Imds, &system, &moved).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("redirect to 'proxy', which is not followed"),
            "{error}"
        );
    }

    #[test]
    fn a_request_to_wait_is_throttling() {
        let system = ManagedIdentity::system_assigned();
        for (status, body, wait) in [
            (429, r#"{"error":"too_many_requests"}"#, Some("7")),
            (429, "", None),
            (503, "", Some("7")),
        ] {
            let mut response = response(status, body);
            if let Some(wait) = wait {
                response
                    .headers_mut()
                    .insert("retry-after", HeaderValue::from_static(wait));
            }
            let error = parsed(SourceKind::Imds, &system, &response).unwrap_err();
            assert!(matches!(error, Error::Throttled(_)), "{error:?}");
            let wait = wait.map(|_| Duration::from_secs(7));
            assert_eq!(error.retry_after(), wait, "{status}");
            assert_eq!(error.server_error().is_some(), !body.is_empty());
        }
    }
}
