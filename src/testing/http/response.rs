use std::sync::Arc;
use std::time::SystemTime;

use axum::extract::State;
use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_TYPE, DATE, EXPIRES, PRAGMA, STRICT_TRANSPORT_SECURITY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use serde_json::Value;
use uuid::Uuid;

use crate::testing::aadsts::body::ErrorBody;
use crate::testing::aadsts::error::AadstsError;
use crate::testing::fault::{Fault, FaultKind};
use crate::testing::http::connection::ConnectionCut;
use crate::testing::provider::IdentityProvider;

pub(crate) fn success(body: &Value) -> Response<Bytes> {
    json_response(StatusCode::OK, body, &Uuid::new_v4().to_string())
}

pub(crate) fn failure(
    error: &AadstsError,
    correlation_id: &str,
    with_line_breaks: bool,
    now: SystemTime,
) -> Response<Bytes> {
    let body = ErrorBody::new(error, correlation_id, with_line_breaks, now);
    json_response(error.status, &body.json, &body.trace_id)
}

/// Changes the regular response, or the response of a scripted error, as a fault demands.
pub(crate) fn apply(fault: Fault, response: &mut Response<Bytes>, cut: &ConnectionCut) {
    if let Some(body) = fault.body {
        *response.body_mut() = body;
        let html = HeaderValue::from_static("text/html; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, html);
    }
    for (name, value) in fault.headers {
        response.headers_mut().insert(name, value);
    }
    let half = response.body().len() / 2;
    match fault.kind {
        FaultKind::Truncated => response.body_mut().truncate(half),
        FaultKind::Dropped => cut.before_next_byte(),
        FaultKind::DroppedInBody => cut.in_body(half),
        FaultKind::Status(_)
        | FaultKind::Aadsts(_)
        | FaultKind::Regular
        | FaultKind::AnotherIdentity => {}
    }
}

/// Adds the time by the clock of the authority, because a client measures its own clock by `Date`.
///
/// Without this header, the HTTP server would add the time of the machine.
pub(crate) async fn add_date<B>(
    State(provider): State<Arc<IdentityProvider>>,
    mut response: Response<B>,
) -> Response<B> {
    let date = HeaderValue::try_from(httpdate::fmt_http_date(provider.now()));
    if let (Ok(date), false) = (date, response.headers().contains_key(DATE)) {
        response.headers_mut().insert(DATE, date);
    }
    response
}

/// Builds a response with the headers that Entra sends.
fn json_response(status: StatusCode, body: &Value, request_id: &str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body.to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_TYPE, "application/json; charset=utf-8"),
        (CACHE_CONTROL, "no-store, no-cache"),
        (PRAGMA, "no-cache"),
        (EXPIRES, "-1"),
        (
            STRICT_TRANSPORT_SECURITY,
            "max-age=31536000; includeSubDomains",
        ),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (
            HeaderName::from_static("x-ms-ests-server"),
            "LocalAuthority",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Ok(id) = request_id.parse() {
        headers.insert("x-ms-request-id", id);
    }
    response
}
