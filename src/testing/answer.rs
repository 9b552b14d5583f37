use std::time::SystemTime;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, EXPIRES, PRAGMA};
use http::{HeaderValue, Response, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;
use x509_cert::der::DateTime;

use super::fault::Fault;

/// A refusal in Entra's words.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) error: &'static str,
    pub(super) code: u64,
    pub(super) text: String,
}

impl Refusal {
    /// 400, what most refusals are sent with.
    pub(super) fn bad_request(error: &'static str, code: u64, text: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            error,
            code,
            text: text.into(),
        }
    }

    /// 401 `invalid_client`: the credential was refused.
    pub(super) fn invalid_client(code: u64, text: impl Into<String>) -> Self {
        Self {
            status: StatusCode::UNAUTHORIZED,
            error: "invalid_client",
            code,
            text: text.into(),
        }
    }

    pub(super) fn into_response(self, correlation_id: &str) -> Response<Bytes> {
        let trace_id = Uuid::new_v4().to_string();
        let timestamp = timestamp();
        let code = self.code;
        let body = json!({
            "error": self.error,
            "error_description": format!(
                "AADSTS{code}: {} Trace ID: {trace_id} Correlation ID: {correlation_id} Timestamp: {timestamp}",
                self.text
            ),
            "error_codes": [code],
            "timestamp": timestamp,
            "trace_id": trace_id,
            "correlation_id": correlation_id,
            "error_uri": format!("https://login.microsoftonline.com/error?code={code}"),
        });
        response(self.status, &body, &trace_id)
    }
}

/// What an answer that is not the request's own looks like.
pub(super) fn scripted(fault: Fault, correlation_id: &str) -> Response<Bytes> {
    let (error, code, text) = match fault.status.as_u16() {
        429 => (
            "temporarily_unavailable",
            90055,
            "TenantThrottlingError - There are too many incoming requests.",
        ),
        503 => (
            "temporarily_unavailable",
            90033,
            "A transient error has occurred. Please try again.",
        ),
        500..=599 => ("server_error", 90014, "An unexpected error occurred."),
        _ => ("invalid_request", 9002313, "The request is malformed."),
    };
    let refusal = Refusal {
        status: fault.status,
        error,
        code,
        text: text.to_owned(),
    };
    let mut response = refusal.into_response(correlation_id);
    if let Some(body) = fault.body {
        *response.body_mut() = body.into();
        let html = HeaderValue::from_static("text/html; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, html);
    }
    for (name, value) in fault.headers {
        response.headers_mut().insert(name, value);
    }
    response
}

pub(super) fn success(body: &Value) -> Response<Bytes> {
    response(StatusCode::OK, body, &Uuid::new_v4().to_string())
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
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Ok(id) = request_id.parse() {
        headers.insert("x-ms-request-id", id);
    }
    response
}

/// `2026-11-21 03:00:00Z`: Entra writes a space where others write a T.
pub(super) fn timestamp() -> String {
    match DateTime::from_system_time(SystemTime::now()) {
        Ok(now) => now.to_string().replace('T', " "),
        Err(_) => String::new(),
    }
}
