use std::borrow::Cow;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny};
use serde_json::Value;

use super::error::JwtError;
use crate::crypto::SigningAlgorithm;

/// The accepted members of a JWS header ([RFC 7515 section 4.1]).
///
/// `jku`, `jwk`, `x5u` and `x5c` are ignored. A token must not choose the key that verifies it.
///
/// [RFC 7515 section 4.1]: https://www.rfc-editor.org/rfc/rfc7515#section-4.1
pub(super) struct JwsHeader {
    pub(super) algorithm: SigningAlgorithm,
    /// One of the accepted types, in lower case.
    pub(super) typ: Option<&'static str>,
    /// The name of the signing key, which is `kid` or else `x5t`.
    pub(super) key_name: Option<String>,
    /// True for tokens of Microsoft Graph.
    pub(super) has_nonce: bool,
}

/// The header's members as JSON. serde rejects a member that appears twice. A member that is `null`
/// is absent.
#[derive(Deserialize)]
struct HeaderMembers<'a> {
    #[serde(borrow)]
    alg: Text<'a>,
    #[serde(borrow)]
    typ: Option<Text<'a>>,
    #[serde(borrow)]
    kid: Option<Text<'a>>,
    #[serde(borrow)]
    x5t: Option<Text<'a>>,
    nonce: Option<IgnoredAny>,
    /// `null` counts as present, because a list that cannot be read may name an extension.
    #[serde(default, deserialize_with = "is_present")]
    crit: bool,
}

/// A string that is borrowed from the header, unless the string has escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl JwsHeader {
    pub(super) fn parse(json: &[u8]) -> Result<Self, JwtError> {
        let malformed = JwtError::Malformed("its header is not a JSON object with an 'alg'");
        // RFC 7515 section 5.2: the whole header is UTF-8. serde skips the text of other members.
        let json = std::str::from_utf8(json)
            .map_err(|_| JwtError::Malformed("its header is not UTF-8"))?;
        // serde would also read the members from an array, in order.
        if !json.trim_ascii_start().starts_with('{') {
            return Err(malformed);
        }
        let Ok(members) = serde_json::from_str::<HeaderMembers>(json) else {
            return Err(malformed);
        };
        // An escape in a skipped member may be half of a surrogate pair, which is no character.
        if json.contains("\\u") && serde_json::from_str::<Value>(json).is_err() {
            return Err(JwtError::Malformed(
                "its header has an escape that is not a character",
            ));
        }
        // RFC 7515 section 4.1.11: a critical extension that is not supported is an error.
        if members.crit {
            return Err(JwtError::Critical);
        }
        let typ = members
            .typ
            .map(|Text(typ)| accepted_type(&typ))
            .transpose()?;
        let Text(alg) = members.alg;
        let algorithm = algorithm(&alg).ok_or_else(|| JwtError::Algorithm(alg.into()))?;
        let key_name = members.kid.or(members.x5t);
        Ok(Self {
            algorithm,
            typ,
            key_name: key_name.map(|Text(name)| name.into_owned()),
            has_nonce: members.nonce.is_some(),
        })
    }
}

/// Returns the type in lower case, without the optional prefix `application/`.
fn accepted_type(typ: &str) -> Result<&'static str, JwtError> {
    let name = match typ.split_at_checked(PREFIX.len()) {
        Some((prefix, name)) if prefix.eq_ignore_ascii_case(PREFIX) => name,
        _ => typ,
    };
    let mut accepted = ACCEPTED_TYPES.into_iter();
    accepted
        .find(|accepted| accepted.eq_ignore_ascii_case(name))
        .ok_or_else(|| JwtError::Type(name.to_ascii_lowercase().into()))
}

/// Returns the accepted algorithm with this name. All accepted algorithms use a public key.
pub(super) fn algorithm(name: &str) -> Option<SigningAlgorithm> {
    SigningAlgorithm::supported().find(|algorithm| algorithm.name() == name)
}

fn is_present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

/// Accepted values of `typ`. RFC 8725 section 3.11: another type, such as a logout token, is an
/// error.
const ACCEPTED_TYPES: [&str; 2] = ["jwt", "at+jwt"];
/// Prefix that the type of a JWS may leave out ([RFC 7515 section 4.1.9]).
///
/// [RFC 7515 section 4.1.9]: https://www.rfc-editor.org/rfc/rfc7515#section-4.1.9
const PREFIX: &str = "application/";
