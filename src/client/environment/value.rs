//! The values of single variables. Each error is a problem for the message, and shows no value.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use url::Url;
use uuid::Uuid;

use super::{AUTHORITY_HOST, CLIENT_ID, SECRET, SEND_CHAIN, TENANT};
use crate::authority::address::{is_loopback, parse_host_url};
use crate::authority::{Cloud, Tenant};
use crate::credential::check_secret;
use crate::credential::pasted::{
    bare, is_invisible, is_placeholder, is_placeholder_secret, trimmed, unbraced, unquoted,
};

/// Reads a tenant. A GUID may have quotation marks, braces and white space around it, and a domain
/// quotation marks and white space.
pub(super) fn tenant(text: &str) -> Result<String, String> {
    let problem = |reason: &str| {
        format!(
            "set {TENANT} to the directory's GUID or a domain such as 'contoso.onmicrosoft.com' ({reason})"
        )
    };
    if let Some(guid) = guid(TENANT, text) {
        return guid.map_err(|reason| problem(&reason));
    }
    let name = bare(text);
    if is_placeholder(name) {
        return Err(problem(PLACEHOLDER));
    }
    if name.contains("://") {
        return Err(problem(&format!(
            "the value is a URL; the host of another cloud belongs in {AUTHORITY_HOST}"
        )));
    }
    match Tenant::parse(name) {
        Ok(_) if name == text || name.contains('.') => Ok(mended(TENANT, text, name)),
        Ok(_) => Err(problem(
            "the value has quotation marks or white space around it",
        )),
        Err(_) if name.contains('/') => Err(problem("the value has a slash")),
        Err(_) => Err(problem(
            "the value has a character that is neither a letter, a digit, '-', '.' nor '_'",
        )),
    }
}

/// Reads the client id of a managed identity. A GUID may have quotation marks, braces and white
/// space around it.
pub(super) fn identity(name: &'static str, text: &str) -> Result<String, String> {
    let problem = |reason: &str| {
        let reason = format!("the client id of a user-assigned managed identity ({reason})");
        format!("set {name} to {reason}, or unset it")
    };
    match guid(name, text) {
        Some(guid) => guid.map_err(|reason| problem(&reason)),
        None if is_placeholder(bare(text)) => Err(problem(PLACEHOLDER)),
        None => Err(problem("the value is not a GUID")),
    }
}

/// Reads a client id. A GUID may have quotation marks, braces and white space around it.
pub(super) fn client_id(text: &str) -> Result<String, String> {
    let problem = |reason: &str| {
        format!("set {CLIENT_ID} to the application (client) id of the app registration ({reason})")
    };
    if let Some(guid) = guid(CLIENT_ID, text) {
        return guid.map_err(|reason| problem(&reason));
    }
    if is_placeholder(bare(text)) {
        return Err(problem(PLACEHOLDER));
    }
    if text.contains(char::is_whitespace) {
        return Err(format!("set {CLIENT_ID} without the white space in it"));
    }
    if text.contains(|c: char| c.is_control() || is_invisible(c)) {
        return Err(format!(
            "set {CLIENT_ID} without the character in it that cannot be seen, such as a byte-order mark"
        ));
    }
    if bare(text) != text || unbraced(text).is_some() || text.contains(['"', '“', '”']) {
        return Err(format!(
            "set {CLIENT_ID} without the quotation marks or braces in it"
        ));
    }
    if !text.is_ascii() {
        return Err(problem(
            "the value has a letter or a dash that is not ASCII",
        ));
    }
    if text.contains("login.microsoftonline") {
        return Err(problem("the value is the URL of an authority"));
    }
    if text.starts_with("https://portal.") || text.starts_with("https://entra.") {
        return Err(problem("the value is the URL of a page"));
    }
    if text.contains('\\') {
        return Err(problem("the value has a backslash"));
    }
    Ok(text.to_owned())
}

/// Reads the host of a cloud. Quotation marks and white space around the host are removed.
pub(super) fn authority_host(text: &str) -> Result<String, String> {
    let host = bare(text);
    let problem = |reason: &str| {
        Err(format!(
            "set {AUTHORITY_HOST} to scheme and host alone, such as https://login.microsoftonline.us/, or unset it ({reason})"
        ))
    };
    if is_placeholder(host) {
        return problem(PLACEHOLDER);
    }
    let is_cloud =
        !host.contains(['.', ':', '/']) && host.to_ascii_lowercase().starts_with("azure");
    if is_cloud {
        return problem("the value is the name of a cloud");
    }
    let scheme = host.split_once("://").map(|(scheme, _)| scheme);
    if scheme.is_some_and(|scheme| !scheme.eq_ignore_ascii_case("https")) {
        let is_local = Url::parse(host).is_ok_and(|url| is_loopback(&url));
        let advice = match is_local {
            true => "; in a test, call authority(..) of the builder in place of the variable",
            false => "",
        };
        return Err(format!(
            "set {AUTHORITY_HOST} to an https URL, such as https://login.microsoftonline.us/, or unset it (the value must be https{advice})"
        ));
    }
    let base = Cloud::Custom(host.to_owned()).base();
    match parse_host_url(AUTHORITY_HOST, &base) {
        Ok(_) => Ok(mended(AUTHORITY_HOST, text, host)),
        Err(_) if parse_host_url(AUTHORITY_HOST, host_alone(&base)).is_ok() => problem(&format!(
            "the value has a path or a query; the tenant belongs in {TENANT}"
        )),
        Err(_) => problem("the value is not the URL of a host"),
    }
}

/// Removes the path and the query.
fn host_alone(base: &str) -> &str {
    let start = base.find("://").map_or(0, |at| at.saturating_add(3));
    let rest = base.get(start..).unwrap_or_default();
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    base.get(..start.saturating_add(end)).unwrap_or(base)
}

/// Checks a secret, which is never changed. Quotation marks may belong to the secret.
pub(super) fn secret(text: &str) -> Result<String, String> {
    if is_placeholder_secret(bare(text)) {
        return Err(format!(
            "set {SECRET} to the secret's value, which the portal shows once ({PLACEHOLDER})"
        ));
    }
    if let Err(error) = check_secret(&text.into()) {
        return Err(format!("set {SECRET} to a valid secret: {error}"));
    }
    if unquoted(text).is_some() {
        tracing::warn!(
            variable = SECRET,
            "the client secret begins and ends with a quotation mark, which is sent as a part of the secret; if the identity provider rejects the secret, set the variable without quotation marks"
        );
    }
    Ok(text.to_owned())
}

/// Says what is odd about a password that does not open the certificate file.
pub(super) fn odd_password(password: &str) -> Option<&'static str> {
    if unquoted(trimmed(password)).is_some() {
        Some("begins and ends with a quotation mark")
    } else if trimmed(password) != password {
        Some("begins or ends with white space")
    } else if is_placeholder(password) {
        Some("looks like a placeholder")
    } else {
        None
    }
}

/// Reads the path of a file, as written if there is such a file, else without quotation marks and
/// white space around it.
///
/// `content` names what the file has. The content in the place of the path is never shown.
pub(super) fn path(name: &'static str, content: &str, value: OsString) -> Result<PathBuf, String> {
    let Some(text) = value.to_str() else {
        return Ok(PathBuf::from(value));
    };
    if text.len() < LONGEST_PATH && Path::new(text).exists() {
        return Ok(PathBuf::from(value));
    }
    let path = bare(text);
    let problem = |reason: &str| Err(format!("set {name} to the path of a file ({reason})"));
    if is_content(path) {
        return problem(&format!("the value is {content} itself"));
    }
    if is_placeholder(path) {
        return problem(PLACEHOLDER);
    }
    if path.contains("://") {
        return problem("the value is a URL");
    }
    let is_variable = path.starts_with(['~', '$', '%']) || path.contains("${");
    if is_variable {
        return problem("a shell expands '~' and variables, and the program does not");
    }
    if path.contains(['\n', '\r', '\0']) {
        return problem("the value has several lines");
    }
    Ok(mended(name, text, path).into())
}

/// Returns whether a text is a certificate, a key or a token.
fn is_content(text: &str) -> bool {
    let is_encoded = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=-_.".contains(&byte);
    let is_long = || text.len() >= LONGEST_NAME && text.bytes().all(is_encoded);
    let begins = ["-----BEGIN", "{", "MII"]
        .iter()
        .any(|begin| text.starts_with(begin));
    text.contains("-----BEGIN")
        || begins && text.len() > 40
        || text.starts_with("ey") && text.matches('.').count() >= 2
        || text.to_ascii_lowercase().starts_with("bearer ")
        || is_long() && !text.starts_with(['/', '.'])
}

/// Reads whether the certificate chain is sent: `1` and `true`, as azure_identity does, and `0` and
/// `false`.
pub(super) fn send_chain(text: &str) -> Result<bool, String> {
    match bare(text).to_ascii_lowercase().as_str() {
        "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err(format!("set {SEND_CHAIN} to 1 or true, or unset it")),
    }
}

/// Returns the GUID of a text that has nothing else but white space, quotation marks and brackets
/// around the GUID. The error is the reason why the GUID cannot be used.
fn guid(name: &'static str, text: &str) -> Option<Result<String, String>> {
    let mut guid = bare(without_escapes(text));
    while let Some(inside) = unbraced(guid) {
        guid = bare(inside);
    }
    // A word processor replaces hyphens.
    let guid: String = guid
        .chars()
        .map(|c| if DASHES.contains(c) { '-' } else { c })
        .collect();
    let id = Uuid::try_parse(&guid)
        .ok()
        .filter(|_| guid.len() == HYPHENATED)?;
    Some(match id.is_nil() || id.is_max() {
        true => Err(PLACEHOLDER.to_owned()),
        false => Ok(mended(name, text, &guid)),
    })
}

/// Removes line breaks at the end that are written as `\n`, as in a file of `docker --env-file`.
fn without_escapes(text: &str) -> &str {
    let mut text = trimmed(text);
    while let Some(before) = text.strip_suffix("\\n").or(text.strip_suffix("\\r")) {
        text = before;
    }
    text
}

/// Returns the value, and logs a warning if it differs from the variable's text.
fn mended(name: &'static str, text: &str, value: &str) -> String {
    if text != value {
        tracing::warn!(
            variable = name,
            "the environment variable has quotation marks, braces or white space around its value, or typographic dashes or '\\n' in it, which are corrected; set the variable to the plain value"
        );
    }
    value.to_owned()
}

const PLACEHOLDER: &str = "the value is a placeholder that nothing replaced";
/// Characters that look like a hyphen.
const DASHES: &str = "\u{2010}\u{2011}\u{2012}\u{2013}\u{2014}\u{2212}\u{fe63}\u{ff0d}";
/// Length of a GUID with hyphens.
const HYPHENATED: usize = 36;
const LONGEST_PATH: usize = 4096;
/// Longest name of a file on common systems.
const LONGEST_NAME: usize = 256;

#[cfg(test)]
mod tests;
