use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use der::Encode;
use der::asn1::UintRef;
use serde_json::{Map, Value};

use super::header::algorithm;
use super::issuer::Issuer;
use crate::crypto::{HAS_ALL_CURVES, NoBackend, PublicKey, SigningAlgorithm};

/// A public key from the key set of an identity provider ([RFC 7517 section 4]).
///
/// [RFC 7517 section 4]: https://www.rfc-editor.org/rfc/rfc7517#section-4
pub(crate) struct PublishedKey {
    kid: Option<String>,
    x5t: Option<String>,
    key_type: KeyType,
    /// The only algorithm of the key, if the provider publishes one.
    algorithm: Option<SigningAlgorithm>,
    /// The only issuer of the key. Microsoft Entra ID publishes keys for single issuers.
    pub(crate) issuer: Option<Issuer>,
    public_key: PublicKey,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum KeyType {
    Rsa,
    P256,
    P384,
    Ed25519,
}

impl KeyType {
    fn of(algorithm: SigningAlgorithm) -> Self {
        match algorithm {
            SigningAlgorithm::PS256 | SigningAlgorithm::RS256 => Self::Rsa,
            SigningAlgorithm::ES256 => Self::P256,
            SigningAlgorithm::ES384 => Self::P384,
            SigningAlgorithm::EdDSA => Self::Ed25519,
        }
    }
}

impl PublishedKey {
    /// Reads a JSON Web Key.
    ///
    /// Returns `None` for a key that is not for signatures or has an unsupported algorithm.
    /// Providers may publish such keys, and clients ignore them ([RFC 7517 section 5]). A member
    /// that is `null` is absent.
    ///
    /// [RFC 7517 section 5]: https://www.rfc-editor.org/rfc/rfc7517#section-5
    pub(crate) fn read(jwk: &Map<String, Value>) -> Option<Self> {
        let text = |name: &str| match jwk.get(name) {
            None | Some(Value::Null) => Some(None),
            Some(Value::String(text)) => Some(Some(text.as_str())),
            Some(_) => None,
        };
        let owned = |name: &str| Some(text(name)?.map(ToOwned::to_owned));
        let number = |name: &str| BASE64_URL_SAFE_NO_PAD.decode(text(name)??).ok();
        if text("use")?.is_some_and(|purpose| purpose != "sig") || !may_verify(jwk) {
            return None;
        }
        let (key_type, public_key) = match text("kty")?? {
            "RSA" => (KeyType::Rsa, rsa_public_key(&number("n")?, &number("e")?)?),
            "EC" => {
                let (key_type, length) = match text("crv")?? {
                    "P-256" => (KeyType::P256, P256_BYTES),
                    "P-384" if HAS_ALL_CURVES => (KeyType::P384, P384_BYTES),
                    _ => return None,
                };
                (key_type, ec_point(&number("x")?, &number("y")?, length)?)
            }
            // RFC 8037 section 2.
            "OKP" if HAS_ALL_CURVES && text("crv")?? == "Ed25519" => {
                let x = number("x")?;
                (x.len() == ED25519_BYTES).then_some((KeyType::Ed25519, x))?
            }
            _ => return None,
        };
        let algorithm = match text("alg")? {
            Some(name) => Some(algorithm(name)?),
            None => None,
        };
        let key = Self {
            kid: owned("kid")?,
            x5t: owned("x5t")?,
            key_type,
            algorithm,
            issuer: owned("issuer")?.map(Issuer::new),
            public_key: PublicKey::new(public_key),
        };
        algorithm
            .is_none_or(|algorithm| key.allows(algorithm))
            .then_some(key)
    }

    /// Returns the name of the key, which is `kid` or else `x5t`.
    pub(super) fn name(&self) -> Option<&str> {
        self.kid.as_deref().or(self.x5t.as_deref())
    }

    pub(super) fn is_named(&self, name: &str) -> bool {
        let mut names = [&self.kid, &self.x5t].into_iter();
        names.any(|known| known.as_deref() == Some(name))
    }

    /// Returns whether the key may verify `algorithm`. The key decides, not the token.
    pub(super) fn allows(&self, algorithm: SigningAlgorithm) -> bool {
        KeyType::of(algorithm) == self.key_type
            && self.algorithm.is_none_or(|only| only == algorithm)
    }

    pub(super) fn verify(
        &self,
        algorithm: SigningAlgorithm,
        message: &[u8],
        signature: &[u8],
    ) -> Result<bool, NoBackend> {
        self.public_key.verify(algorithm, message, signature)
    }
}

fn may_verify(jwk: &Map<String, Value>) -> bool {
    match jwk.get("key_ops") {
        None | Some(Value::Null) => true,
        Some(operations) => {
            let operations = operations.as_array();
            operations.is_some_and(|list| list.iter().any(|operation| operation == "verify"))
        }
    }
}

/// Encodes an RSA key of 2048 to 8192 bits as PKCS#1 DER.
pub(crate) fn rsa_public_key(modulus: &[u8], exponent: &[u8]) -> Option<Vec<u8>> {
    let modulus = UintRef::new(modulus).ok()?;
    let bytes = modulus.as_bytes();
    let unused = bytes.first()?.leading_zeros();
    let bits = bytes.len().checked_mul(8)?.checked_sub(unused as usize)?;
    if !(SMALLEST..=LARGEST).contains(&bits) {
        return None;
    }
    let exponent = UintRef::new(exponent).ok()?;
    // With exponent 1, every message is its own signature.
    if matches!(exponent.as_bytes(), [] | [0..=2]) {
        return None;
    }
    vec![modulus, exponent].to_der().ok()
}

/// Encodes the key of an elliptic curve as an uncompressed point. The coordinates must be complete.
pub(crate) fn ec_point(x: &[u8], y: &[u8], coordinate_bytes: usize) -> Option<Vec<u8>> {
    let is_complete = x.len() == coordinate_bytes && y.len() == coordinate_bytes;
    is_complete.then(|| [&[UNCOMPRESSED], x, y].concat())
}

/// Smallest RSA key of all backends, in bits.
const SMALLEST: usize = 2048;
/// Largest RSA key of all backends, in bits.
const LARGEST: usize = 8192;
/// Size of a P-256 coordinate ([RFC 7518 section 6.2.1.2]).
///
/// [RFC 7518 section 6.2.1.2]: https://www.rfc-editor.org/rfc/rfc7518#section-6.2.1.2
const P256_BYTES: usize = 32;
/// Size of a P-384 coordinate.
const P384_BYTES: usize = 48;
/// Size of an Ed25519 key ([RFC 8032 section 5.1.5]).
///
/// [RFC 8032 section 5.1.5]: https://www.rfc-editor.org/rfc/rfc8032#section-5.1.5
const ED25519_BYTES: usize = 32;
const UNCOMPRESSED: u8 = 4;
