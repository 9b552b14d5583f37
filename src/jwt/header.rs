use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny};

use super::error::JwtError;
use crate::crypto::SigningAlgorithm;

/// What matters in the header of a JWS ([RFC 7515 section 4.1]).
///
/// `jku`, `jwk`, `x5u` and `x5c` do not: a token has no say in which key is trusted.
///
/// [RFC 7515 section 4.1]: https://www.rfc-editor.org/rfc/rfc7515#section-4.1
pub(super) struct Header {
    pub(super) algorithm: SigningAlgorithm,
    /// Folded, without the `application/` that may be left out.
    pub(super) typ: Option<String>,
    kid: Option<String>,
    x5t: Option<String>,
    /// Microsoft Graph's tokens have one.
    pub(super) has_nonce: bool,
}

/// serde takes none of these twice.
#[derive(Deserialize)]
struct Members {
    alg: String,
    typ: Option<String>,
    kid: Option<String>,
    x5t: Option<String>,
    #[serde(default, deserialize_with = "present")]
    nonce: bool,
    #[serde(default, deserialize_with = "present")]
    crit: bool,
}

impl Header {
    pub(super) fn parse(json: &[u8]) -> Result<Self, JwtError> {
        let malformed = JwtError::Malformed("its header is no JSON object with an 'alg'");
        // Of an array serde would read the members in their order.
        if json.trim_ascii_start().first() != Some(&b'{') {
            return Err(malformed);
        }
        let Ok(members) = serde_json::from_slice::<Members>(json) else {
            return Err(malformed);
        };
        // What must be understood (RFC 7515 section 4.1.11) is nothing that we understand.
        if members.crit {
            return Err(JwtError::Critical);
        }
        let typ = members.typ.map(|typ| {
            let typ = typ.to_ascii_lowercase();
            typ.strip_prefix("application/").unwrap_or(&typ).to_owned()
        });
        if let Some(other) = typ.as_deref()
            && !TYPES.contains(&other)
        {
            return Err(JwtError::Type(other.into()));
        }
        let Some(algorithm) = algorithm(&members.alg) else {
            return Err(JwtError::Algorithm(members.alg.into()));
        };
        Ok(Self {
            algorithm,
            typ,
            kid: members.kid,
            x5t: members.x5t,
            has_nonce: members.nonce,
        })
    }

    pub(super) fn key_name(&self) -> Option<&str> {
        self.kid.as_deref().or(self.x5t.as_deref())
    }
}

/// Of those that are taken, the one of this name; none of them has a secret for a key.
pub(super) fn algorithm(name: &str) -> Option<SigningAlgorithm> {
    Some(match name {
        "RS256" => SigningAlgorithm::RS256,
        "PS256" => SigningAlgorithm::PS256,
        "ES256" => SigningAlgorithm::ES256,
        _ => return None,
    })
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

/// A token that says it is something else, such as a logout token, is that (RFC 8725 section 3.11).
const TYPES: [&str; 2] = ["jwt", "at+jwt"];
