use serde::Serialize;

use super::{PROOF_TYPE, PublicJwk, TargetUri};
use crate::crypto::SigningAlgorithm;
use crate::jwt::UnsignedJwt;
use crate::token::TokenHash;

/// The header of the proofs of one key, serialized once ([RFC 9449 section 4.2]).
///
/// [RFC 9449 section 4.2]: https://www.rfc-editor.org/rfc/rfc9449#section-4.2
#[derive(Clone, Debug)]
pub(crate) struct ProofHeader {
    encoded: String,
}

#[derive(Serialize)]
struct SentHeader<'a> {
    typ: &'static str,
    alg: &'static str,
    jwk: &'a PublicJwk,
}

/// The claims of a proof ([RFC 9449 section 4.2]).
///
/// [RFC 9449 section 4.2]: https://www.rfc-editor.org/rfc/rfc9449#section-4.2
#[derive(Serialize)]
pub(crate) struct ProofClaims<'a> {
    /// A new random text for each proof, with at least 96 bits.
    pub(crate) jti: &'a str,
    /// The method of the request.
    pub(crate) htm: &'a str,
    pub(crate) htu: &'a TargetUri,
    /// The time of the proof, in seconds since 1970.
    pub(crate) iat: u64,
    /// The hash of the access token, if the request carries one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ath: Option<TokenHash>,
    /// The last nonce of the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) nonce: Option<&'a str>,
}

impl ProofHeader {
    pub(crate) fn new(jwk: &PublicJwk, algorithm: SigningAlgorithm) -> serde_json::Result<Self> {
        let encoded = UnsignedJwt::encoded_header(&SentHeader {
            typ: PROOF_TYPE,
            alg: algorithm.name(),
            jwk,
        })?;
        Ok(Self { encoded })
    }

    /// Returns a proof without its signature.
    pub(crate) fn unsigned(&self, claims: &ProofClaims<'_>) -> serde_json::Result<UnsignedJwt> {
        UnsignedJwt::with_header(&self.encoded, claims)
    }
}
