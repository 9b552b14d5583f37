//! The reason of an error response, where the reason does not stand in the members of OAuth.

use http::HeaderMap;
use serde_json::{Map, Value};

use crate::challenge::Challenge;

/// A code and a text in the members of a body, in the words of the server.
#[derive(Default)]
pub(crate) struct Reason {
    /// The code, such as Okta's `E0000047`.
    pub(crate) code: Option<String>,
    pub(crate) text: Option<String>,
}

impl Reason {
    /// Reads the members that gateways and providers use: `message`, `errorSummary`, `errorCode`,
    /// `title` and `detail` ([RFC 9457 section 3.1]), also inside `error`, `errors` and `fault`.
    ///
    /// [RFC 9457 section 3.1]: https://www.rfc-editor.org/rfc/rfc9457#section-3.1
    pub(crate) fn of_body(body: &Map<String, Value>) -> Self {
        let mut reason = Self::default();
        reason.read(body, MAX_DEPTH);
        reason
    }

    /// Reads the attributes of a challenge ([RFC 6750 section 3]).
    ///
    /// [RFC 6750 section 3]: https://www.rfc-editor.org/rfc/rfc6750#section-3
    pub(super) fn of_headers(headers: &HeaderMap) -> Self {
        let text = |text: Option<&str>| {
            let text = text.filter(|text| !text.trim().is_empty());
            text.map(str::to_owned)
        };
        let challenges = Challenge::from_headers(headers).into_iter();
        let mut reasons = challenges.map(|challenge| Self {
            code: text(challenge.error()),
            text: text(challenge.parameter("error_description")),
        });
        let is_given = |reason: &Self| reason.code.is_some() || reason.text.is_some();
        reasons.find(is_given).unwrap_or_default()
    }

    /// Returns the code if OAuth defines the code for a token endpoint.
    pub(super) fn oauth_code(&self) -> Option<&str> {
        let code = self.code.as_deref()?.trim();
        OAUTH_CODES.contains(&code).then_some(code)
    }

    /// Returns the code and the text as one text.
    pub(crate) fn to_text(&self) -> Option<String> {
        match (&self.code, &self.text) {
            (Some(code), Some(text)) if !text.contains(code.as_str()) => {
                Some(format!("{code}: {text}"))
            }
            (code, text) => text.clone().or_else(|| code.clone()),
        }
    }

    fn read(&mut self, object: &Map<String, Value>, depth: u8) {
        let codes: Vec<String> = CODES
            .iter()
            .filter_map(|name| string(object, name))
            .collect();
        let is_of_oauth = |code: &&String| OAUTH_CODES.contains(&code.as_str());
        let code = codes.iter().find(is_of_oauth).or(codes.first());
        if self.code.is_none() {
            self.code = code.cloned();
        }
        if self.text.is_none() {
            let text = TEXTS.iter().find_map(|name| string(object, name));
            // Apigee writes the code to `ErrorCode`, and a sentence to `Error`.
            let text = text.or_else(|| codes.iter().find(|text| Some(*text) != code).cloned());
            self.text = match (string(object, "title"), text) {
                (Some(title), Some(text)) if title != text => Some(format!("{title}: {text}")),
                (title, text) => text.or(title),
            };
        }
        let Some(depth) = depth.checked_sub(1) else {
            return;
        };
        for name in CONTAINERS {
            match member(object, name) {
                Some(Value::Object(inner)) => self.read(inner, depth),
                Some(Value::Array(items)) => match items.first() {
                    Some(Value::Object(inner)) => self.read(inner, depth),
                    Some(Value::String(text)) if self.text.is_none() => {
                        self.text = Some(text.clone());
                    }
                    _ => {}
                },
                _ => {}
            }
        }
    }
}

/// Returns a member, whatever the case and the separators of the name.
fn member<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let plain = |key: &str| -> String {
        let letters = key.chars().filter(|c| !"_-".contains(*c));
        letters.map(|c| c.to_ascii_lowercase()).collect()
    };
    object
        .iter()
        .find(|(key, _)| plain(key) == name)
        .map(|(_, value)| value)
}

fn string(object: &Map<String, Value>, name: &str) -> Option<String> {
    let text = member(object, name)?.as_str()?;
    (!text.trim().is_empty()).then(|| text.to_owned())
}

/// The names of members with a code, without separators and in lower case.
const CODES: [&str; 3] = ["error", "errorcode", "code"];
/// The names of members with a text.
const TEXTS: [&str; 9] = [
    "errordescription",
    "errorsummary",
    "errormessage",
    "message",
    "faultstring",
    "detail",
    "description",
    "reason",
    "msg",
];
const CONTAINERS: [&str; 4] = ["error", "fault", "errors", "detail"];
const MAX_DEPTH: u8 = 3;

/// The error codes of a token endpoint ([RFC 6749 section 5.2], [RFC 8707 section 2],
/// [OpenID Connect Core section 3.1.2.6]).
///
/// [RFC 6749 section 5.2]: https://www.rfc-editor.org/rfc/rfc6749#section-5.2
/// [RFC 8707 section 2]: https://www.rfc-editor.org/rfc/rfc8707#section-2
/// [OpenID Connect Core section 3.1.2.6]: https://openid.net/specs/openid-connect-core-1_0.html#AuthError
const OAUTH_CODES: [&str; 13] = [
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
    "invalid_target",
    "access_denied",
    "server_error",
    "temporarily_unavailable",
    "interaction_required",
    "login_required",
    "consent_required",
];
