//! The access token of a request, and the mistakes that clients make around the token.

use std::borrow::Cow;

use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::confirmation::AcceptedSchemes;
use super::rejection::{RejectionReason, TokenRejection};
use crate::token::TokenScheme;

/// Returns the scheme and the token of the only `Authorization` header ([RFC 6750 section 2.1]).
///
/// `schemes` has the schemes of an API that accepts bound tokens. Other APIs accept `Bearer` only.
/// No error quotes the header, because any part of the header may be a credential.
///
/// [RFC 6750 section 2.1]: https://www.rfc-editor.org/rfc/rfc6750#section-2.1
pub(super) fn presented_token<'a>(
    headers: &'a HeaderMap,
    schemes: Option<&AcceptedSchemes>,
) -> Result<(TokenScheme, &'a str), TokenRejection> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Err(missing(match schemes {
            None => "the request carries no bearer token",
            Some(_) => "the request carries no access token",
        }));
    };
    if values.next().is_some() {
        return Err(invalid(
            "the request has more than one Authorization header",
        ));
    }
    let value = value.to_str();
    let value = value.map_err(|_| invalid("the Authorization header is not ASCII"))?;
    let value = value.trim_matches([' ', '\t']);
    let strip = |scheme: TokenScheme| {
        let rest = strip_scheme(value, scheme.as_str())?;
        Some((scheme, rest))
    };
    let found = match schemes {
        None => strip(TokenScheme::Bearer),
        Some(schemes) => schemes.read().find_map(strip),
    };
    let Some((scheme, rest)) = found else {
        return Err(without_bearer(value));
    };
    if !rest.is_empty() && !rest.starts_with(' ') {
        return Err(TokenRejection::new(
            RejectionReason::InvalidRequest,
            format!(
                "the Authorization header has no space between '{}' and the token",
                scheme.as_str()
            ),
        ));
    }
    match rest.trim() {
        "" => Err(invalid("the Authorization header contains no token")),
        token => Ok((scheme, token)),
    }
}

/// Returns the text after the scheme with this name, or `None` for another scheme.
fn strip_scheme<'a>(value: &'a str, name: &str) -> Option<&'a str> {
    let (scheme, rest) = value.split_at_checked(name.len())?;
    // A longer word is the name of another scheme, unless a token follows without a space.
    let ends_here = |next: u8| !(next.is_ascii_alphanumeric() || matches!(next, b'-' | b'_'));
    let is_named = scheme.eq_ignore_ascii_case(name)
        && (rest.bytes().next().is_none_or(ends_here) || rest.starts_with(START_OF_JWT));
    is_named.then_some(rest)
}

/// Returns the rejection of an `Authorization` header without the scheme `Bearer`.
fn without_bearer(value: &str) -> TokenRejection {
    let mut others = value.split(',').skip(1);
    if others.any(|other| strip_scheme(other.trim_start(), BEARER).is_some()) {
        return invalid(SEVERAL_CREDENTIALS);
    }
    if value.starts_with(QUOTES) {
        return invalid("the Authorization header is in quotes; send the header without quotes");
    }
    if value.starts_with(START_OF_JWT) {
        return missing(
            "the request carries no bearer token: the Authorization header has no scheme; send 'Bearer', a space and the token",
        );
    }
    let name = value.split([' ', '\t']).next().unwrap_or_default();
    // The name of an unknown scheme may be a credential.
    let known = OTHER_SCHEMES
        .iter()
        .find(|known| known.eq_ignore_ascii_case(name));
    missing(match known {
        Some(known) => format!(
            "the request carries no bearer token: the scheme of the Authorization header is '{known}', and not 'Bearer'"
        ),
        None => "the request carries no bearer token: the scheme of the Authorization header is not 'Bearer'".to_owned(),
    })
}

/// Returns what is wrong with the text of a token that is not a JWT, if the mistake is known.
///
/// The reason is `InvalidRequest` for text that breaks the syntax of the header.
pub(super) fn mistake_in_token(token: &str) -> Option<(RejectionReason, &'static str)> {
    let invalid = |message| Some((RejectionReason::InvalidRequest, message));
    if NO_TOKEN.iter().any(|text| text.eq_ignore_ascii_case(token)) {
        return Some((
            RejectionReason::Malformed,
            "the token is the text of a missing value, such as 'null' or 'undefined'; the client has no token to send",
        ));
    }
    if token.starts_with(['{', '<']) {
        return invalid(
            "the token begins with a bracket; send a token in compact form, and no placeholder",
        );
    }
    if token.starts_with(QUOTES) || token.ends_with(QUOTES) {
        return invalid("the token is in quotes; send the token without quotes");
    }
    if token.contains([',', ';']) {
        return invalid(SEVERAL_CREDENTIALS);
    }
    if strip_scheme(token, BEARER).is_some() {
        return invalid(
            "the token begins with the word 'Bearer', which is not part of a token; send the word once",
        );
    }
    if token.contains(char::is_whitespace) {
        return invalid(
            "the token contains white space or a line break; send the token in one piece",
        );
    }
    if token.trim_end_matches('=').contains('=') {
        return invalid("the token contains '='; send the token alone, without a name");
    }
    if token.contains(|c| !is_token_character(c)) {
        return invalid("the token contains a character that a bearer token cannot contain");
    }
    None
}

/// Returns whether a bearer token may contain the character ([RFC 6750 section 2.1]).
///
/// [RFC 6750 section 2.1]: https://www.rfc-editor.org/rfc/rfc6750#section-2.1
fn is_token_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '~' | '+' | '/' | '=')
}

fn missing(message: impl Into<Cow<'static, str>>) -> TokenRejection {
    TokenRejection::new(RejectionReason::MissingToken, message)
}

fn invalid(message: &'static str) -> TokenRejection {
    TokenRejection::new(RejectionReason::InvalidRequest, message)
}

const BEARER: &str = "Bearer";
const QUOTES: [char; 3] = ['"', '\'', '`'];
/// The encoded `{"` that begins the header of a JWT.
const START_OF_JWT: &str = "eyJ";
const SEVERAL_CREDENTIALS: &str =
    "the Authorization header has more than one credential; send one bearer token";
/// Texts that programs write for a missing value.
const NO_TOKEN: [&str; 5] = ["null", "undefined", "none", "nil", "[object Object]"];
/// Schemes of the [registry] and of well-known services.
///
/// [registry]: https://www.iana.org/assignments/http-authschemes
const OTHER_SCHEMES: [&str; 16] = [
    "ApiKey",
    "AWS4-HMAC-SHA256",
    "Basic",
    "Digest",
    "DPoP",
    "GNAP",
    "HOBA",
    "JWT",
    "MAC",
    "Mutual",
    "Negotiate",
    "NTLM",
    "OAuth",
    "PoP",
    "SharedAccessSignature",
    "Token",
];
