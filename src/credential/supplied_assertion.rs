#![warn(clippy::arithmetic_side_effects, reason = "the input is untrusted")]

use base64::Engine;
use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::pasted::{is_placeholder, trimmed, unquoted};
use crate::error::Error;
use crate::secret::Secret;

mod looks;
mod rejected;
mod supplier;

use looks::Looks;
pub(super) use rejected::explain;
pub(crate) use supplier::AssertionSupplier;

/// Reads the assertion that a file or the caller's code supplied.
///
/// White space, a byte-order mark, quotation marks, `Bearer `, a variable's name and JSON around
/// the assertion are removed, and so is an additional base64 encoding. `source` names the origin in
/// error messages.
///
/// # Errors
///
/// [`Error::Credential`] says what the text looks like if the text is no JWT. The message contains
/// no part of the text.
pub(super) fn read_assertion(text: &str, source: &str) -> Result<Secret, Error> {
    let mut text = Zeroizing::new(trimmed(text).to_owned());
    if text.is_empty() {
        return Err(Error::credential(format!("the {source} is empty")));
    }
    let refused = |looks: Looks| {
        Err(Error::credential(format!(
            "the {source} is not a token (a JWT) but {looks}"
        )))
    };
    for _ in 0..MOST_LAYERS {
        if has_form_of_jwt(&text) {
            return match damage(&text) {
                Some(looks) => refused(looks),
                None => Ok(Secret::from(text.as_str())),
            };
        }
        match unwrapped(&text) {
            Ok(Some(inside)) => text = Zeroizing::new(trimmed(&inside).to_owned()),
            Ok(None) => break,
            Err(looks) => return refused(looks),
        }
    }
    refused(Looks::of(&text))
}

/// Removes one layer around a token. Returns `None` if the text has no known layer.
fn unwrapped(text: &str) -> Result<Option<Zeroizing<String>>, Looks> {
    // A JSON string may hold escapes.
    if let Ok(inside) = serde_json::from_str::<String>(text) {
        return Ok(Some(Zeroizing::new(inside)));
    }
    let layer = unquoted(text).or_else(|| without_scheme(text));
    if let Some(inside) = layer {
        return Ok(Some(Zeroizing::new(inside.to_owned())));
    }
    if text.starts_with('{') {
        return member(text).map(Some);
    }
    let inside = without_name(text).map(|inside| Zeroizing::new(inside.to_owned()));
    Ok(inside
        .or_else(|| without_line_breaks(text))
        .or_else(|| without_base64(text)))
}

/// Removes `Authorization:`, and `Bearer` in any case.
fn without_scheme(text: &str) -> Option<&str> {
    let (first, rest) = text.split_once(char::is_whitespace)?;
    let first = first.strip_suffix(':').unwrap_or(first);
    let is_scheme = ["bearer", "authorization"].contains(&first.to_ascii_lowercase().as_str());
    is_scheme.then(|| trimmed(rest))
}

/// Removes the name of a variable or of a member, as in `export TOKEN=eyJ..` and `token: eyJ..`.
fn without_name(text: &str) -> Option<&str> {
    let text = text.strip_prefix("export ").unwrap_or(text);
    let (name, value) = text.split_once(['=', ':'])?;
    let is_name = |name: &str| {
        !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
    };
    let value = trimmed(value);
    let is_token = has_form_of_jwt(trimmed(unquoted(value).unwrap_or(value)));
    (is_name(name.trim()) && is_token).then_some(value)
}

/// Joins the lines of one token that was wrapped. Several tokens are no token when joined.
fn without_line_breaks(text: &str) -> Option<Zeroizing<String>> {
    let is_whole = |line: &str| has_form_of_jwt(line) && damage(line).is_none();
    let joined = Zeroizing::new(text.lines().map(trimmed).collect::<String>());
    (text.lines().count() > 1 && is_whole(&joined)).then_some(joined)
}

/// Decodes a token that was encoded once more, as in the data of a Kubernetes secret.
fn without_base64(text: &str) -> Option<Zeroizing<String>> {
    let encoded: String = text
        .chars()
        .filter(|c| !c.is_ascii_whitespace() && *c != '=')
        .map(|c| match c {
            '-' => '+',
            '_' => '/',
            c => c,
        })
        .collect();
    let encoded = Zeroizing::new(encoded);
    let decoded = Zeroizing::new(BASE64_STANDARD_NO_PAD.decode(encoded.as_bytes()).ok()?);
    let decoded = std::str::from_utf8(&decoded).ok().map(trimmed)?;
    has_form_of_jwt(decoded).then(|| Zeroizing::new(decoded.to_owned()))
}

/// Returns the token of a JSON object, by the names that platforms use.
fn member(text: &str) -> Result<Zeroizing<String>, Looks> {
    let Ok(members) = serde_json::from_str::<Map<String, Value>>(text) else {
        return Err(match is_placeholder(text) {
            true => Looks::Placeholder,
            false => Looks::BrokenJson,
        });
    };
    let inner = ["status", "data"].iter().filter_map(|name| {
        let inner = members.get(*name)?.as_object()?.get_key_value("token");
        inner.map(|(name, value)| (name.as_str(), value))
    });
    let named: Vec<(&str, &Value)> = TOKEN_MEMBERS
        .iter()
        .filter_map(|name| Some((*name, members.get(*name)?)))
        .chain(inner)
        .collect();
    let is_filled = |value: &&Value| value.as_str().is_some_and(|text| !trimmed(text).is_empty());
    let mut filled: Vec<(&str, &Value)> = named.clone();
    filled.retain(|(_, value)| is_filled(value));
    filled.dedup_by(|one, other| one.1 == other.1);
    match (filled.as_slice(), named.first()) {
        ([(_, value)], _) => Ok(Zeroizing::new(
            value.as_str().unwrap_or_default().to_owned(),
        )),
        ([(one, _), (other, _), ..], _) => Err(Looks::TwoTokens((*one).into(), (*other).into())),
        ([], Some((name, _))) => Err(Looks::EmptyMember((*name).into())),
        ([], None) => Err(Looks::json_without_token(&members)),
    }
}

/// Returns whether a text is a JWS or a JWE in compact form: three or five parts of base64url.
fn has_form_of_jwt(text: &str) -> bool {
    let is_base64url = |part: &str| {
        part.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    let parts: Vec<&str> = text.split('.').collect();
    let has_both = || parts.iter().take(2).all(|part| !part.is_empty());
    match parts.len() {
        3 => has_both() && parts.iter().all(|part| is_base64url(part)),
        5 => parts.iter().all(|part| is_base64url(part)) && is_encrypted(parts.first()),
        _ => false,
    }
}

/// Returns whether the header of a JWE has the required member `enc` (RFC 7516 section 4.1.2).
fn is_encrypted(header: Option<&&str>) -> bool {
    header
        .and_then(|header| json_object(header))
        .is_some_and(|header| header.contains_key("enc"))
}

/// Returns how a text with the form of a JWT is damaged.
///
/// A short text whose first part is no JSON is not judged, because tests use such stand-ins.
fn damage(jwt: &str) -> Option<Looks> {
    let mut parts = jwt.split('.');
    let (header, claims, signature) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    if signature.is_empty() {
        return Some(Looks::Unsigned);
    }
    if !looks::begins_like_jwt(header) {
        return (jwt.len() > LONGEST_STAND_IN).then_some(Looks::Damaged);
    }
    let (Some(header), Some(_)) = (json_object(header), json_object(claims)) else {
        return Some(Looks::Damaged);
    };
    let Ok(signature) = BASE64_URL_SAFE_NO_PAD.decode(signature) else {
        return Some(Looks::Damaged);
    };
    let algorithm = header.get("alg").and_then(Value::as_str);
    is_cut(algorithm.unwrap_or_default(), signature.len()).then_some(Looks::Damaged)
}

/// Returns whether a signature of this length is cut off.
///
/// Fewer than 32 bytes are not judged, because tests use such stand-ins.
fn is_cut(algorithm: &str, length: usize) -> bool {
    if length < 32 {
        return false;
    }
    match algorithm {
        "RS256" | "RS384" | "RS512" | "PS256" | "PS384" | "PS512" => {
            length < 128 || !length.is_multiple_of(64)
        }
        "ES256" | "EdDSA" => length != 64,
        "ES384" => length != 96,
        "ES512" => length != 132,
        _ => false,
    }
}

/// Decodes a part of a JWT.
fn json_object(part: &str) -> Option<Map<String, Value>> {
    let decoded = Zeroizing::new(BASE64_URL_SAFE_NO_PAD.decode(part).ok()?);
    serde_json::from_slice(&decoded).ok()
}

/// Members with a token: GitHub Actions, Vault and GitLab, token responses, Azure CLI, Azure
/// Pipelines.
const TOKEN_MEMBERS: [&str; 11] = [
    "value",
    "token",
    "access_token",
    "id_token",
    "accessToken",
    "idToken",
    "oidcToken",
    "assertion",
    "client_assertion",
    "jwt",
    "Token",
];
const LONGEST_STAND_IN: usize = 64;
/// Quotes, a scheme, JSON and base64 may be nested.
const MOST_LAYERS: usize = 8;

#[cfg(test)]
#[allow(
    clippy::arithmetic_side_effects,
    clippy::string_slice,
    reason = "a test fails by panicking"
)]
mod tests {
    use std::sync::LazyLock;

    use base64::prelude::BASE64_STANDARD;

    use super::*;

    fn encoded(text: &str) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(text)
    }

    /// With the length of a signature by a key of 2048 bits.
    static JWT: LazyLock<String> = LazyLock::new(|| {
        let header = encoded(r#"{"alg":"RS256","kid":"1"}"#);
        let claims = encoded(r#"{"iss":"hunter2","exp":9}"#);
        format!(
            "{header}.{claims}.{}",
            BASE64_URL_SAFE_NO_PAD.encode([7; 256])
        )
    });

    fn read(text: &str) -> Result<Secret, Error> {
        read_assertion(text, "federated token file /run/token")
    }

    #[test]
    fn a_token_does_not_take_what_is_around_it_to_the_provider() {
        let jwt = JWT.as_str();
        let (head, tail) = jwt.split_at(100);
        for text in [
            jwt.to_owned(),
            format!("{jwt}\r\n"),
            format!("\u{feff}{jwt}\n"),
            format!("\"{jwt}\"\n"),
            format!("'{jwt}'"),
            format!("“{jwt}”"),
            format!("\\\"{jwt}\\\""),
            format!("Bearer {jwt}"),
            format!("bearer  {jwt}\n"),
            format!("\"Bearer {jwt}\""),
            format!("Authorization: Bearer {jwt}"),
            format!(r#"{{"value":"{jwt}"}}"#),
            format!(r#"{{"count":2118,"value":"{jwt}"}}"#),
            format!(r#" {{ "token" : "{jwt}\n" }} "#),
            format!(r#"{{"access_token":"{jwt}","token_type":"Bearer","expires_in":9}}"#),
            format!(r#"{{"access_token":null,"id_token":"{jwt}"}}"#),
            format!(r#"{{"access_token":"{jwt}","id_token":"{jwt}"}}"#),
            format!(r#"{{"id_token":"{jwt}"}}"#),
            format!(r#"{{"oidcToken":"{jwt}"}}"#),
            format!(r#"{{"accessToken":"{jwt}","tenant":"t"}}"#),
            format!(r#"{{"kind":"TokenRequest","status":{{"token":"{jwt}"}}}}"#),
            format!(
                r#"{{"kind":"Secret","data":{{"token":"{}"}}}}"#,
                BASE64_STANDARD.encode(jwt)
            ),
            format!(r#""{{\"value\":\"{jwt}\"}}""#),
            BASE64_STANDARD.encode(format!("{jwt}\n")),
            BASE64_STANDARD_NO_PAD.encode(jwt),
            BASE64_URL_SAFE_NO_PAD.encode(format!("Bearer {jwt}").trim_start_matches("Bearer ")),
            format!("TOKEN={jwt}"),
            format!("export TOKEN=\"{jwt}\""),
            format!("token: {jwt}"),
            format!("{head}\n{tail}\n"),
            format!("{head}\r\n{tail}"),
        ] {
            let read = read(&text).map(|secret| secret.expose().to_owned());
            assert_eq!(read.unwrap(), jwt, "{text}");
        }
        // A JWE has five parts.
        let jwe = format!("{}..a.b.c", encoded(r#"{"alg":"dir","enc":"A128GCM"}"#));
        assert_eq!(read(&jwe).unwrap().expose(), jwe);
        assert_eq!(read("a.b.c").unwrap().expose(), "a.b.c");
    }

    #[test]
    fn what_is_no_token_is_not_sent_and_is_named() {
        let jwt = JWT.as_str();
        let (message, _) = jwt.rsplit_once('.').unwrap();
        let (header, _) = message.split_once('.').unwrap();
        for (text, looks) in [
            ("", "is empty"),
            (" \u{feff}\n", "is empty"),
            ("\"\"", "nothing in quotation marks"),
            ("null", "the word 'null'"),
            ("\"undefined\"", "the word 'undefined'"),
            ("None\n", "the word 'None'"),
            ("<!DOCTYPE html><p>hunter2</p>", "an HTML page"),
            ("\u{feff}<html>hunter2", "an HTML page"),
            ("<?xml version=\"1.0\"?><Assertion>hunter2", "XML"),
            (r#"{"value":null}"#, "JSON whose 'value' is empty"),
            (r#"{"token":""}"#, "JSON whose 'token' is empty"),
            (
                r#"{"status":{"token":null}}"#,
                "JSON whose 'token' is empty",
            ),
            (
                r#"{"message":"hunter2","documentation_url":"x"}"#,
                "JSON without a token (its members are documentation_url and message)",
            ),
            (r#"{"error":"invalid_request"}"#, "(its member is error)"),
            ("{}", "JSON without a token"),
            ("[]", "a JSON list"),
            (r#"{"value":"ey"#, "JSON that is cut off or damaged"),
            (
                r#"{"access_token":"a.b.c","id_token":"d.e.f"}"#,
                "JSON with two tokens, access_token and id_token",
            ),
            ("-----BEGIN CERTIFICATE-----\nMII", "PEM"),
            ("${TOKEN}", "a placeholder"),
            ("<token>", "a placeholder"),
            ("{token}", "a placeholder"),
            ("{{ token }}", "a placeholder"),
            (
                "/var/run/secrets/azure/tokens/azure-identity-token",
                "a path",
            ),
            ("C:\\token", "a path"),
            ("https://token.actions.example/hunter2", "a URL"),
            ("11111111-2222-3333-4444-555555555555", "a GUID"),
            (
                "cat: hunter2: No such file",
                "a text of 26 characters with white space",
            ),
            ("ghs_hunter2", "a text of 11 characters"),
            (header, "a token that is cut off or damaged"),
            (message, "a token that is cut off or damaged"),
            (&format!("{message}."), "a token without a signature"),
            (&jwt[..jwt.len() - 10], "a token that is cut off or damaged"),
            (&jwt[..jwt.len() - 1], "a token that is cut off or damaged"),
            (&jwt[1..], "a token that is cut off or damaged"),
            (&jwt[2..], "a token that is cut off or damaged"),
            (
                &format!("{header}.{}.c2ln", encoded("{\"exp\":1")),
                "cut off or damaged",
            ),
            (&format!("{}...", &jwt[..40]), "cut off or damaged"),
            (&format!("{jwt}\n{jwt}"), "several lines"),
            (&format!("# hunter2\n{jwt}"), "several lines"),
            (&format!("{jwt} {jwt}"), "white space"),
        ] {
            let error = read(text).unwrap_err();
            assert!(matches!(error, Error::Credential(_)), "{error:?}");
            assert!(!error.is_transient());
            let shown = format!("{error} {error:?}");
            assert!(shown.contains(looks), "{text}: {shown}");
            assert!(
                shown.contains("the federated token file /run/token"),
                "{shown}"
            );
            assert!(!shown.contains("hunter2"), "{shown}");
            assert!(!shown.contains(&header[..12]), "{shown}");
        }
    }
}
