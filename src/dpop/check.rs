use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::HeaderMap;
use serde::Deserialize;
use serde_json::{Number, Value};
use sha2::{Digest, Sha256};

use super::error::ProofError;
use super::jwk::{JwkMembers, is_present};
use super::{PROOF, PROOF_TYPE, PublicJwk, TargetUri};
use crate::crypto::{self, SigningAlgorithm};
use crate::jwt::{ComparedTime, numeric_date};
use crate::token::{Thumbprint, TokenHash};

/// Returns the value of the only `DPoP` header of a request.
pub(crate) fn proof_of(headers: &HeaderMap) -> Result<&str, ProofError> {
    let mut values = headers.get_all(PROOF).iter();
    let value = values.next().ok_or(ProofError::Missing)?;
    if values.next().is_some() {
        return Err(ProofError::Several);
    }
    let text = value.to_str();
    let text = text.map_err(|_| ProofError::Malformed("the DPoP header is not ASCII"))?;
    Ok(text.trim_matches([' ', '\t']))
}

/// The expected contents of the proof of a request.
pub(crate) struct ExpectedProof<'a> {
    /// The accepted algorithms. An algorithm that the backend does not support is not accepted.
    pub(crate) algorithms: &'a [SigningAlgorithm],
    /// The method of the request.
    pub(crate) method: &'a str,
    /// The URI of the request.
    pub(crate) uri: &'a TargetUri,
    /// The hash of the access token in the request. `None` at a token endpoint.
    pub(crate) token: Option<TokenHash>,
    /// The key that the token is bound to. `None` accepts every key.
    pub(crate) key: Option<Thumbprint>,
    /// Returns whether a nonce is a current nonce of the server. `None` accepts a proof without a
    /// nonce, and ignores a nonce.
    pub(crate) nonce: Option<&'a dyn Fn(&str) -> bool>,
    pub(crate) now: SystemTime,
    /// The longest distance between `iat` and now, in the past and in the future.
    pub(crate) window: Duration,
}

/// A proof that passed every check except the check for replay.
#[derive(Debug)]
pub(crate) struct CheckedProof {
    /// The thumbprint of the key that made the proof.
    #[cfg_attr(
        not(any(test, feature = "testing")),
        expect(
            dead_code,
            reason = "a provider binds the token to the key, and an API compares it"
        )
    )]
    pub(crate) key: Thumbprint,
    /// A hash of the key and of `jti`. Another proof with the same hash is a replay.
    pub(crate) replay_key: [u8; 32],
    /// The time from which the proof is too old.
    pub(crate) valid_until: SystemTime,
}

impl ExpectedProof<'_> {
    /// Checks a proof ([RFC 9449 section 4.3]), except for replay.
    ///
    /// The signature is checked before the claims are read.
    ///
    /// [RFC 9449 section 4.3]: https://www.rfc-editor.org/rfc/rfc9449#section-4.3
    pub(crate) fn check(&self, proof: &str) -> Result<CheckedProof, ProofError> {
        if proof.len() > LONGEST {
            return Err(ProofError::TooLong);
        }
        let Some((message, signature)) = proof.rsplit_once('.') else {
            return Err(NOT_THREE_PARTS);
        };
        let Some((header, claims)) = message.split_once('.') else {
            return Err(NOT_THREE_PARTS);
        };
        if claims.contains('.') {
            return Err(NOT_THREE_PARTS);
        }
        let (algorithm, jwk) = self.check_header(&decode(header)?)?;
        let (message, signature) = (message.as_bytes(), decode(signature)?);
        if !crypto::verify(jwk.public_key(), algorithm, message, &signature)? {
            return Err(ProofError::Signature);
        }
        self.check_claims(&decode(claims)?, jwk.thumbprint())
    }

    fn check_header(&self, header: &[u8]) -> Result<(SigningAlgorithm, PublicJwk), ProofError> {
        let malformed = ProofError::Malformed(
            "its header is not a JSON object with 'typ', 'alg' and a public key in 'jwk'",
        );
        let Some(header) = parse_object::<ReceivedHeader<'_>>(header) else {
            return Err(malformed);
        };
        if !is_proof_type(&header.typ) {
            return Err(ProofError::Type);
        }
        // RFC 7515 section 4.1.11: a critical extension that is not supported is an error.
        if header.crit {
            return Err(ProofError::Critical);
        }
        let accepted = self.algorithms.iter().copied();
        let algorithm = accepted
            .filter(|algorithm| crypto::supports(*algorithm))
            .find(|algorithm| is_named(*algorithm, &header.alg))
            .ok_or_else(|| match crypto::check_backend() {
                Ok(()) => ProofError::Algorithm(header.alg.as_ref().into()),
                Err(error) => error.into(),
            })?;
        let jwk = PublicJwk::read(&header.jwk)?;
        match jwk.allows(algorithm) {
            true => Ok((algorithm, jwk)),
            false => Err(ProofError::UnfitKey(algorithm)),
        }
    }

    fn check_claims(&self, claims: &[u8], key: Thumbprint) -> Result<CheckedProof, ProofError> {
        let malformed = ProofError::Malformed("its claims are not a JSON object of known types");
        let Some(claims) = parse_object::<ReceivedClaims<'_>>(claims) else {
            return Err(malformed);
        };
        let jti = claims.jti.filter(|jti| !jti.is_empty());
        let jti = jti.ok_or(ProofError::Claim("jti"))?;
        let htm = claims.htm.ok_or(ProofError::Claim("htm"))?;
        if htm != self.method {
            return Err(ProofError::Method {
                found: htm.into(),
                expected: self.method.into(),
            });
        }
        self.check_uri(&claims.htu.ok_or(ProofError::Claim("htu"))?)?;
        if let Some(is_current) = self.nonce {
            let nonce = claims.nonce.ok_or(ProofError::NonceMissing)?;
            if !is_current(&nonce) {
                return Err(ProofError::NonceNotAccepted);
            }
        }
        let valid_until = self.check_time(claims.iat)?;
        if let Some(token) = self.token {
            let ath = claims.ath.ok_or(ProofError::Claim("ath"))?;
            if TokenHash::try_from(ath.into_owned()) != Ok(token) {
                return Err(ProofError::TokenHash);
            }
        }
        match self.key {
            Some(expected) if expected != key => Err(ProofError::OtherKey {
                found: key,
                expected,
            }),
            _ => Ok(CheckedProof {
                key,
                replay_key: replay_key(key, &jti),
                valid_until,
            }),
        }
    }

    fn check_uri(&self, htu: &str) -> Result<(), ProofError> {
        let found = TargetUri::of(htu).map_err(|error| ProofError::InvalidUri {
            found: TargetUri::shown(htu).as_str().into(),
            error,
        })?;
        match found == *self.uri {
            true => Ok(()),
            false => Err(ProofError::Uri {
                found: found.as_str().into(),
                expected: self.uri.as_str().into(),
            }),
        }
    }

    /// Checks `iat`, and returns the time from which the proof is too old.
    fn check_time(&self, iat: Option<Number>) -> Result<SystemTime, ProofError> {
        let iat = iat.and_then(|iat| numeric_date(&Value::Number(iat)));
        let iat = iat.ok_or(ProofError::Claim("iat"))?;
        let valid_until = iat.checked_add(self.window);
        let valid_until = valid_until.ok_or(ProofError::Claim("iat"))?;
        let compared = ComparedTime {
            claim: iat,
            now: self.now,
            leeway: self.window,
        };
        if self.now >= valid_until {
            return Err(ProofError::Stale(compared));
        }
        match iat.duration_since(self.now) {
            Ok(ahead) if ahead > self.window => Err(ProofError::Future(compared)),
            _ => Ok(valid_until),
        }
    }
}

/// The header's members. serde rejects a member that appears twice.
#[derive(Deserialize)]
struct ReceivedHeader<'a> {
    #[serde(borrow)]
    typ: Cow<'a, str>,
    #[serde(borrow)]
    alg: Cow<'a, str>,
    jwk: JwkMembers,
    /// `null` counts as present, because a list that cannot be read may name an extension.
    #[serde(default, deserialize_with = "is_present")]
    crit: bool,
}

/// The claims of a proof. serde rejects a claim that appears twice.
#[derive(Deserialize)]
struct ReceivedClaims<'a> {
    #[serde(borrow)]
    jti: Option<Cow<'a, str>>,
    #[serde(borrow)]
    htm: Option<Cow<'a, str>>,
    #[serde(borrow)]
    htu: Option<Cow<'a, str>>,
    iat: Option<Number>,
    #[serde(borrow)]
    ath: Option<Cow<'a, str>>,
    #[serde(borrow)]
    nonce: Option<Cow<'a, str>>,
}

/// Parses the text of a JSON object. serde would also read the members from an array, in order.
fn parse_object<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Option<T> {
    let json = std::str::from_utf8(json).ok()?;
    let is_object = json.trim_ascii_start().starts_with('{');
    is_object.then(|| serde_json::from_str(json).ok()).flatten()
}

/// Returns whether `typ` is the type of proofs. The prefix of media types may be left out, and the
/// case does not matter ([RFC 7515 section 4.1.9]).
///
/// [RFC 7515 section 4.1.9]: https://www.rfc-editor.org/rfc/rfc7515#section-4.1.9
fn is_proof_type(typ: &str) -> bool {
    let name = match typ.split_at_checked(PREFIX.len()) {
        Some((prefix, name)) if prefix.eq_ignore_ascii_case(PREFIX) => name,
        _ => typ,
    };
    name.eq_ignore_ascii_case(PROOF_TYPE)
}

/// Returns whether `alg` names the algorithm. Ed25519 has two names ([RFC 9864 section 2.2]).
///
/// [RFC 9864 section 2.2]: https://www.rfc-editor.org/rfc/rfc9864#section-2.2
fn is_named(algorithm: SigningAlgorithm, alg: &str) -> bool {
    algorithm.name() == alg || (algorithm == SigningAlgorithm::EdDSA && alg == "Ed25519")
}

fn replay_key(key: Thumbprint, jti: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(key.0);
    hash.update(jti);
    hash.finalize().into()
}

fn decode(part: &str) -> Result<Vec<u8>, ProofError> {
    let decoded = BASE64_URL_SAFE_NO_PAD.decode(part);
    decoded.map_err(|_| ProofError::Malformed("a part is not base64url without padding"))
}

const NOT_THREE_PARTS: ProofError =
    ProofError::Malformed("it does not have three parts separated by dots");
/// Largest proof, in bytes. A proof with an RSA key of 8192 bits has about 4 KiB.
const LONGEST: usize = 8 * 1024;
const PREFIX: &str = "application/";
