//! The mechanism and the data for each algorithm.

use sha2::{Digest, Sha256, Sha384};

use super::failure::not_for_signing;
use super::module::{KeyFacts, KeyFamily, Pkcs11Mechanism};
use crate::crypto::asn1::Asn1Reader;
use crate::crypto::{P256, P384, SigningAlgorithm};
use crate::error::Error;

/// Checks that a key on a token can make signatures of an algorithm.
///
/// `name` names the key and the token.
pub(super) fn check(algorithm: SigningAlgorithm, key: &KeyFacts, name: &str) -> Result<(), Error> {
    let curve = key.curve.as_deref();
    let curve = curve.and_then(|curve| Asn1Reader::new(curve).oid().ok());
    let (fits, needs) = match algorithm {
        SigningAlgorithm::PS256 | SigningAlgorithm::RS256 => {
            (key.family == KeyFamily::Rsa, "an RSA key")
        }
        SigningAlgorithm::ES256 => (
            key.family == KeyFamily::EllipticCurve && curve.is_none_or(|curve| curve == P256),
            "a P-256 key",
        ),
        SigningAlgorithm::ES384 => (
            key.family == KeyFamily::EllipticCurve && curve.is_none_or(|curve| curve == P384),
            "a P-384 key",
        ),
        SigningAlgorithm::EdDSA => return Err(no_eddsa(name)),
    };
    if !fits {
        let is = match key.family {
            KeyFamily::Rsa => "an RSA key",
            KeyFamily::EllipticCurve if curve == Some(P256) => "a P-256 key",
            KeyFamily::EllipticCurve if curve == Some(P384) => "a P-384 key",
            KeyFamily::EllipticCurve => "a key of an elliptic curve",
            KeyFamily::Edwards => "an Edwards key",
            KeyFamily::Other => "a key of another kind",
        };
        return Err(Error::credential(format!(
            "{name} is {is}, and {algorithm} needs {needs}; use the certificate of this key, or the key of the certificate"
        )));
    }
    if !key.can_sign {
        return Err(Error::credential(not_for_signing(
            name,
            &"CKA_SIGN is false",
        )));
    }
    if key.always_authenticate {
        return Err(Error::credential(format!(
            "{name} requests the PIN for every signature (CKA_ALWAYS_AUTHENTICATE), which is not supported; use a key without this attribute, such as that of slot 9a of a PIV card"
        )));
    }
    Ok(())
}

pub(super) fn no_eddsa(name: &str) -> Error {
    Error::credential(format!(
        "{name} cannot sign with EdDSA, which is not supported for PKCS#11; use an RSA key or a P-256 key"
    ))
}

/// Returns the mechanism and the data to sign. A token without a mechanism that hashes gets the
/// digest.
///
/// An ECDSA signature is two numbers of the curve's length, as in a JWS. `name` names the key and
/// the token.
pub(super) fn prepare(
    algorithm: SigningAlgorithm,
    supported: &[Pkcs11Mechanism],
    message: &[u8],
    name: &str,
) -> Result<(Pkcs11Mechanism, Vec<u8>), Error> {
    use Pkcs11Mechanism::{Ecdsa, RsaPkcs, RsaPss, Sha256RsaPkcs, Sha256RsaPss};
    let has = |mechanism| supported.contains(&mechanism);
    let sha256 = || Sha256::digest(message).to_vec();
    let missing = match algorithm {
        SigningAlgorithm::PS256 if has(Sha256RsaPss) => {
            return Ok((Sha256RsaPss, message.to_vec()));
        }
        SigningAlgorithm::PS256 if has(RsaPss) => return Ok((RsaPss, sha256())),
        SigningAlgorithm::PS256 => {
            "neither CKM_SHA256_RSA_PKCS_PSS nor CKM_RSA_PKCS_PSS; set signing_algorithm(SigningAlgorithm::RS256) if the token has CKM_RSA_PKCS"
        }
        SigningAlgorithm::RS256 if has(Sha256RsaPkcs) => {
            return Ok((Sha256RsaPkcs, message.to_vec()));
        }
        SigningAlgorithm::RS256 if has(RsaPkcs) => {
            return Ok((RsaPkcs, [&SHA256_DIGEST_INFO[..], &sha256()].concat()));
        }
        SigningAlgorithm::RS256 => {
            "neither CKM_SHA256_RSA_PKCS nor CKM_RSA_PKCS; use another token"
        }
        SigningAlgorithm::ES256 if has(Ecdsa) => return Ok((Ecdsa, sha256())),
        SigningAlgorithm::ES384 if has(Ecdsa) => {
            return Ok((Ecdsa, Sha384::digest(message).to_vec()));
        }
        SigningAlgorithm::ES256 | SigningAlgorithm::ES384 => {
            "no mechanism CKM_ECDSA; use an RSA key"
        }
        SigningAlgorithm::EdDSA => return Err(no_eddsa(name)),
    };
    Err(Error::credential(format!(
        "{name} cannot sign with {algorithm}: the token has {missing}"
    )))
}

/// The DER of a `DigestInfo` before a SHA-256 digest ([RFC 8017 section 9.2], note 1).
///
/// [RFC 8017 section 9.2]: https://www.rfc-editor.org/rfc/rfc8017#section-9.2
const SHA256_DIGEST_INFO: [u8; 19] = [
    0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05,
    0x00, 0x04, 0x20,
];
