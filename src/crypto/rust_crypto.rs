//! The backend without C code, from RustCrypto.
//!
//! RSA signatures are blinded, which makes the timing attack of RUSTSEC-2023-0071 harder. The
//! advisory has no fix.

use p256::ecdsa::signature::Verifier as _;
use p256::elliptic_curve::sec1::ToEncodedPoint as _;
use p256::pkcs8::DecodePrivateKey as _;
use rsa::pkcs1::der::Decode as _;
use rsa::pkcs1::{DecodeRsaPrivateKey as _, EncodeRsaPublicKey as _};
use rsa::rand_core::OsRng;
use rsa::sha2::Sha256;
use rsa::signature::{RandomizedSigner, SignatureEncoding, Signer};
use rsa::traits::PublicKeyParts as _;
use rsa::{BigUint, RsaPrivateKey, RsaPublicKey, pkcs1v15, pss};

use super::{NoBackend, PrivateKeyDer, SigningAlgorithm, too_small, unreadable, unsupported};
use crate::error::Error;

/// A private key of RustCrypto.
pub(super) struct RustCryptoKeyPair {
    key: SigningKeys,
    public_key: Vec<u8>,
}

enum SigningKeys {
    Rsa(Box<RsaSigningKeys>),
    P256(p256::ecdsa::SigningKey),
}

struct RsaSigningKeys {
    pss: pss::BlindedSigningKey<Sha256>,
    pkcs1: pkcs1v15::SigningKey<Sha256>,
}

impl RustCryptoKeyPair {
    pub(super) fn parse(der: &PrivateKeyDer) -> Result<Self, Error> {
        let key = match der {
            PrivateKeyDer::Pkcs8(der) => match p256::SecretKey::from_pkcs8_der(der) {
                Ok(key) => return Ok(Self::p256(key)),
                Err(_) => RsaPrivateKey::from_pkcs8_der(der).map_err(not_rsa)?,
            },
            PrivateKeyDer::Pkcs1(der) => {
                RsaPrivateKey::from_pkcs1_der(der).map_err(|_| unreadable())?
            }
            PrivateKeyDer::Sec1(der) => {
                let key = p256::SecretKey::from_sec1_der(der);
                return key.map(Self::p256).map_err(|_| unsupported());
            }
        };
        if key.n().bits() < 2048 {
            return Err(too_small());
        }
        key.validate().map_err(|_| unreadable())?;
        let public_key = key.to_public_key().to_pkcs1_der();
        Ok(Self {
            public_key: public_key.map_err(|_| unreadable())?.into_vec(),
            key: SigningKeys::Rsa(Box::new(RsaSigningKeys {
                pss: pss::BlindedSigningKey::new(key.clone()),
                pkcs1: pkcs1v15::SigningKey::new(key),
            })),
        })
    }

    /// Returns a key of the operating system's random numbers.
    pub(super) fn generate_p256() -> Option<Self> {
        Some(Self::p256(p256::SecretKey::random(&mut OsRng)))
    }

    fn p256(key: p256::SecretKey) -> Self {
        let public_key = key.public_key().to_encoded_point(false);
        Self {
            public_key: public_key.as_bytes().to_vec(),
            key: SigningKeys::P256(key.into()),
        }
    }

    pub(super) fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    pub(super) fn sign(&self, algorithm: SigningAlgorithm, message: &[u8]) -> Option<Vec<u8>> {
        match (&self.key, algorithm) {
            (SigningKeys::Rsa(keys), SigningAlgorithm::PS256) => {
                let signature = keys.pss.try_sign_with_rng(&mut OsRng, message).ok()?;
                Some(signature.to_vec())
            }
            (SigningKeys::Rsa(keys), SigningAlgorithm::RS256) => {
                let signature = keys.pkcs1.try_sign_with_rng(&mut OsRng, message).ok()?;
                Some(signature.to_vec())
            }
            (SigningKeys::P256(key), SigningAlgorithm::ES256) => {
                let signature: p256::ecdsa::Signature = key.try_sign(message).ok()?;
                Some(signature.to_vec())
            }
            _ => None,
        }
    }
}

/// Returns the error for a PKCS#8 key that is not a readable RSA key.
fn not_rsa(error: rsa::pkcs8::Error) -> Error {
    match error {
        rsa::pkcs8::Error::PublicKey(rsa::pkcs8::spki::Error::OidUnknown { .. }) => unsupported(),
        _ => unreadable(),
    }
}

/// Verifies a signature with a public key: PKCS#1 DER for RSA, an uncompressed point for P-256.
///
/// P-384 and Ed25519 are not supported, so no signature by such a key is valid.
pub(super) fn verify(
    public_key: &[u8],
    algorithm: SigningAlgorithm,
    message: &[u8],
    signature: &[u8],
) -> Result<bool, NoBackend> {
    let rsa = || {
        let key = rsa::pkcs1::RsaPublicKey::from_der(public_key).ok()?;
        let number = |bytes| BigUint::from_bytes_be(bytes);
        let (n, e) = (key.modulus.as_bytes(), key.public_exponent.as_bytes());
        RsaPublicKey::new_with_max_size(number(n), number(e), LARGEST_RSA_BITS).ok()
    };
    let verified = match algorithm {
        SigningAlgorithm::PS256 => rsa().and_then(|key| {
            let signature = pss::Signature::try_from(signature).ok()?;
            let key = pss::VerifyingKey::<Sha256>::new(key);
            key.verify(message, &signature).ok()
        }),
        SigningAlgorithm::RS256 => rsa().and_then(|key| {
            let signature = pkcs1v15::Signature::try_from(signature).ok()?;
            let key = pkcs1v15::VerifyingKey::<Sha256>::new(key);
            key.verify(message, &signature).ok()
        }),
        SigningAlgorithm::ES256 => {
            let key = p256::ecdsa::VerifyingKey::from_sec1_bytes(public_key).ok();
            key.and_then(|key| {
                let signature = p256::ecdsa::Signature::from_slice(signature).ok()?;
                key.verify(message, &signature).ok()
            })
        }
        SigningAlgorithm::ES384 | SigningAlgorithm::EdDSA => None,
    };
    Ok(verified.is_some())
}

/// Largest RSA key, as in aws-lc-rs.
const LARGEST_RSA_BITS: usize = 8192;
