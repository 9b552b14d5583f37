use std::time::SystemTime;

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_TYPE, EXPIRES, PRAGMA, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;
use x509_cert::der::DateTime;

use crate::testing::aadsts::AadstsError;

pub(crate) fn success(body: &Value) -> Response<Bytes> {
    response(StatusCode::OK, body, &Uuid::new_v4().to_string())
}

/// A refusal as Entra writes it; until about 2023 it broke the description's tail into lines.
pub(crate) fn refusal(refusal: AadstsError, correlation_id: &str, lines: bool) -> Response<Bytes> {
    let trace_id = Uuid::new_v4().to_string();
    let timestamp = timestamp(SystemTime::now());
    let code = refusal.code;
    let tail = tail(&refusal, &trace_id, correlation_id, &timestamp);
    let mut body = json!({
        "error": refusal.error,
        "error_description": tail.join(if lines { "\r\n" } else { " " }),
        "error_codes": [code],
        "timestamp": timestamp,
        "trace_id": trace_id,
        "correlation_id": correlation_id,
        "error_uri": error_uri(code),
    });
    if let Some(members) = body.as_object_mut() {
        for (name, value) in [("suberror", refusal.suberror), ("claims", refusal.claims)] {
            members.extend(value.map(|value| (name.to_owned(), value.into())));
        }
    }
    response(refusal.status, &body, &trace_id)
}

/// The description of a refusal that goes another way than as an answer.
pub(crate) fn description(refusal: &AadstsError, correlation_id: &str) -> String {
    let trace_id = Uuid::new_v4().to_string();
    let timestamp = timestamp(SystemTime::now());
    tail(refusal, &trace_id, correlation_id, &timestamp).join(" ")
}

pub(crate) fn error_uri(code: u64) -> String {
    format!("https://login.microsoftonline.com/error?code={code}")
}

fn tail(
    refusal: &AadstsError,
    trace_id: &str,
    correlation_id: &str,
    timestamp: &str,
) -> [String; 4] {
    [
        format!("AADSTS{}: {}", refusal.code, refusal.text),
        format!("Trace ID: {trace_id}"),
        format!("Correlation ID: {correlation_id}"),
        format!("Timestamp: {timestamp}"),
    ]
}

fn response(status: StatusCode, body: &Value, request_id: &str) -> Response<Bytes> {
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

/// `2026-11-21 03:00:00Z`: Entra writes a space where others write a T.
pub(crate) fn timestamp(time: SystemTime) -> String {
    match DateTime::from_system_time(time) {
        Ok(time) => time.to_string().replace('T', " "),
        Err(_) => String::new(),
    }
}
