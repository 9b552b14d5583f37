use std::time::SystemTime;

use der::DateTime;
use serde_json::{Value, json};
use uuid::Uuid;

use super::error::{AadstsError, NO_CODE};

/// The JSON body of an error response.
pub(crate) struct ErrorBody {
    pub(crate) json: Value,
    pub(crate) trace_id: String,
}

impl ErrorBody {
    /// Writes the body, with a description of one line or of several lines.
    ///
    /// Entra wrote several lines until about 2023.
    pub(crate) fn new(
        error: &AadstsError,
        correlation_id: &str,
        with_line_breaks: bool,
        now: SystemTime,
    ) -> Self {
        let trace_id = Uuid::new_v4().to_string();
        let timestamp = timestamp(now);
        let separator = if with_line_breaks { "\r\n" } else { " " };
        if error.code == NO_CODE {
            let json = json!({ "error": error.error, "error_description": error.text });
            return Self { json, trace_id };
        }
        let mut json = json!({
            "error": error.error,
            "error_description":
                description_parts(error, &trace_id, correlation_id, &timestamp).join(separator),
            "error_codes": [error.code],
            "timestamp": timestamp,
            "trace_id": trace_id,
            "correlation_id": correlation_id,
            "error_uri": error_uri(error.code),
        });
        if let Some(members) = json.as_object_mut() {
            for (name, value) in [("suberror", error.suberror), ("claims", error.claims)] {
                members.extend(value.map(|value| (name.to_owned(), value.into())));
            }
        }
        Self { json, trace_id }
    }
}

/// Writes the description of an error that is sent to the client by redirect.
pub(crate) fn description(error: &AadstsError, correlation_id: &str, now: SystemTime) -> String {
    let trace_id = Uuid::new_v4().to_string();
    let timestamp = timestamp(now);
    description_parts(error, &trace_id, correlation_id, &timestamp).join(" ")
}

pub(crate) fn error_uri(code: u64) -> String {
    format!("https://login.microsoftonline.com/error?code={code}")
}

/// Formats a time as Entra does, with a space before the time: `2026-11-21 03:00:00Z`.
pub(crate) fn timestamp(time: SystemTime) -> String {
    match DateTime::from_system_time(time) {
        Ok(time) => time.to_string().replace('T', " "),
        Err(_) => String::new(),
    }
}

fn description_parts(
    error: &AadstsError,
    trace_id: &str,
    correlation_id: &str,
    timestamp: &str,
) -> [String; 4] {
    [
        format!("AADSTS{}: {}", error.code, error.text),
        format!("Trace ID: {trace_id}"),
        format!("Correlation ID: {correlation_id}"),
        format!("Timestamp: {timestamp}"),
    ]
}
