use serde_json::Value;
use zeroize::Zeroizing;

use super::kind::{FileKind, find, is_der};
use super::pem;
use super::pem_text::clean;

/// The content of a file without its wrapping, such as base64, JSON or quotes.
pub(super) enum Content {
    Pem(Zeroizing<Vec<u8>>),
    /// A binary file, with whether it was base64.
    Binary {
        bytes: Zeroizing<Vec<u8>>,
        is_base64: bool,
    },
    Other(FileKind),
}

impl Content {
    /// Unwraps a file or a variable.
    ///
    /// PEM and PKCS#12 come as base64 out of Kubernetes, CI systems and Azure Key Vault, in quotes,
    /// in JSON, or behind the name of a variable.
    pub(super) fn unwrap(content: &[u8]) -> Self {
        if is_der(content) {
            return Self::Binary {
                bytes: Zeroizing::new(content.to_vec()),
                is_base64: false,
            };
        }
        if let kind @ FileKind::Utf16 = FileKind::of(content) {
            return Self::Other(kind);
        }
        unwrap_text(content, 0).unwrap_or_else(|| Self::Other(FileKind::of(content)))
    }
}

/// Unwraps a text, `None` if it holds neither PEM nor a binary file, or several that do not belong
/// together.
fn unwrap_text(text: &[u8], depth: usize) -> Option<Content> {
    let cleaned = clean(text);
    if pem::is_pem(&cleaned) {
        return Some(Content::Pem(cleaned));
    }
    if depth == DEEPEST {
        return None;
    }
    let depth = depth.saturating_add(1);
    let trimmed = text.trim_ascii();
    if trimmed.starts_with(b"{") || trimmed.starts_with(b"[") {
        let json = serde_json::from_slice(trimmed).ok()?;
        let mut strings = Vec::new();
        collect_strings(json, &mut strings);
        let parts = strings.iter();
        return join(parts.filter_map(|text| unwrap_text(text.as_bytes(), depth)));
    }
    unwrap_base64(&cleaned, depth).or_else(|| {
        let lines = cleaned.split(|byte| *byte == b'\n');
        join(lines.filter_map(|line| unwrap_base64(without_name(line)?, depth)))
    })
}

/// Decodes base64 of PEM, of a binary file, or of base64.
fn unwrap_base64(text: &[u8], depth: usize) -> Option<Content> {
    let text = match find(text, b";base64,") {
        Some(at) => text.get(at.saturating_add(8)..)?,
        None => text,
    };
    let decoded = Zeroizing::new(pem::decode(text)?);
    if is_der(&decoded) && FileKind::of(&decoded) != FileKind::OtherDer {
        return Some(Content::Binary {
            bytes: decoded,
            is_base64: true,
        });
    }
    let is_text = |byte: &u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace();
    match decoded.iter().take(16).all(is_text) {
        true => unwrap_text(&decoded, depth),
        false => None,
    }
}

/// Removes the name of a variable or a key, such as `export NAME=` or `tls.crt:`.
fn without_name(line: &[u8]) -> Option<&[u8]> {
    let at = line.iter().position(|byte| b"=:".contains(byte))?;
    let (name, value) = line.split_at_checked(at)?;
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-. \"'$".contains(byte);
    match name.iter().all(is_name) {
        true => value.get(1..),
        false => None,
    }
}

fn collect_strings(json: Value, strings: &mut Vec<Zeroizing<String>>) {
    match json {
        Value::String(text) => strings.push(Zeroizing::new(text)),
        Value::Array(values) => values
            .into_iter()
            .for_each(|value| collect_strings(value, strings)),
        Value::Object(fields) => fields
            .into_iter()
            .for_each(|(_, value)| collect_strings(value, strings)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Joins PEM texts. One binary file stands alone.
fn join(parts: impl Iterator<Item = Content>) -> Option<Content> {
    let mut joined: Option<Content> = None;
    for part in parts {
        joined = match (joined, part) {
            (None, part) => Some(part),
            (Some(Content::Pem(mut text)), Content::Pem(more)) => {
                text = Zeroizing::new([&text[..], b"\n", &more].concat());
                Some(Content::Pem(text))
            }
            _ => return None,
        };
    }
    joined
}

/// Deepest nesting of base64 and JSON.
const DEEPEST: usize = 4;
