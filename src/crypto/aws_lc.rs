//! The default backend, aws-lc-rs. The default TLS library depends on aws-lc-rs, too.

use std::sync::OnceLock;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED,
    ECDSA_P384_SHA384_FIXED_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
    ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_SHA256, RsaKeyPair, UnparsedPublicKey, VerificationAlgorithm,
};

use super::{
    NoBackend, PrivateKeyDer, SigningAlgorithm, too_large, too_small, unreadable, unsupported,
};
use crate::error::Error;

/// A private key of aws-lc-rs.
pub(super) enum AwsLcKeyPair {
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl AwsLcKeyPair {
    pub(super) fn parse(der: &PrivateKeyDer) -> Result<Self, Error> {
        let rsa = match der {
            PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der),
            PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der),
            PrivateKeyDer::Sec1(der) => return Self::elliptic_curve(der),
        };
        match (rsa, der) {
            (Ok(pair), _) => Ok(Self::Rsa(pair)),
            (Err(error), PrivateKeyDer::Pkcs8(der)) => match error.description_() {
                "TooSmall" => Err(too_small()),
                "TooLarge" => Err(too_large()),
                "WrongAlgorithm" => match Ed25519KeyPair::from_pkcs8(der) {
                    Ok(pair) => Ok(Self::Ed25519(pair)),
                    Err(_) => Self::elliptic_curve(der),
                },
                _ => Err(unreadable()),
            },
            (Err(error), _) if error.description_() == "TooSmall" => Err(too_small()),
            (Err(error), _) if error.description_() == "TooLarge" => Err(too_large()),
            (Err(_), _) => Err(unreadable()),
        }
    }

    fn elliptic_curve(der: &[u8]) -> Result<Self, Error> {
        let p256 = EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, der);
        let p384 = || EcdsaKeyPair::from_private_key_der(&ECDSA_P384_SHA384_FIXED_SIGNING, der);
        let pair = p256.map(Self::P256).or_else(|_| p384().map(Self::P384));
        pair.map_err(|_| unsupported())
    }

    pub(super) fn public_key(&self) -> &[u8] {
        match self {
            Self::Rsa(pair) => pair.public_key().as_ref(),
            Self::P256(pair) | Self::P384(pair) => pair.public_key().as_ref(),
            Self::Ed25519(pair) => pair.public_key().as_ref(),
        }
    }

    pub(super) fn sign(&self, algorithm: SigningAlgorithm, message: &[u8]) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        let (pair, encoding) = match (self, algorithm) {
            (Self::Rsa(pair), SigningAlgorithm::PS256) => (pair, &RSA_PSS_SHA256),
            (Self::Rsa(pair), SigningAlgorithm::RS256) => (pair, &RSA_PKCS1_SHA256),
            (Self::P256(pair), SigningAlgorithm::ES256)
            | (Self::P384(pair), SigningAlgorithm::ES384) => {
                let signature = pair.sign(&random, message).ok()?;
                return Some(signature.as_ref().to_vec());
            }
            (Self::Ed25519(pair), SigningAlgorithm::EdDSA) => {
                return Some(pair.sign(message).as_ref().to_vec());
            }
            _ => return None,
        };
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(encoding, &random, message, &mut signature).ok()?;
        Some(signature)
    }
}

impl AwsLcKeyPair {
    /// Returns `None` if the operating system has no random numbers.
    pub(super) fn generate_p256() -> Option<Self> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING);
        pair.map(Self::P256).ok()
    }
}

#[cfg(feature = "testing")]
impl AwsLcKeyPair {
    pub(super) fn generate_rsa() -> Result<Self, Error> {
        let pair = RsaKeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048);
        pair.map(Self::Rsa).map_err(|error| {
            let failure = crate::error::Failure::new("the RSA key cannot be generated");
            Error::Credential(failure.source(Box::new(error)).into())
        })
    }

    pub(super) fn rsa_components(&self) -> Option<(Vec<u8>, Vec<u8>)> {
        let Self::Rsa(pair) = self else {
            return None;
        };
        let key = pair.public_key();
        Some((
            key.modulus().big_endian_without_leading_zero().to_vec(),
            key.exponent().big_endian_without_leading_zero().to_vec(),
        ))
    }
}

/// Verifies a signature with a public key: PKCS#1 DER for RSA, an uncompressed point for P-256 and
/// P-384, and 32 bytes for Ed25519.
pub(super) fn verify(
    public_key: &[u8],
    algorithm: SigningAlgorithm,
    message: &[u8],
    signature: &[u8],
) -> Result<bool, NoBackend> {
    let key = UnparsedPublicKey::new(verification(algorithm), public_key);
    Ok(key.verify(message, signature).is_ok())
}

fn verification(algorithm: SigningAlgorithm) -> &'static dyn VerificationAlgorithm {
    match algorithm {
        SigningAlgorithm::PS256 => &RSA_PSS_2048_8192_SHA256,
        SigningAlgorithm::RS256 => &RSA_PKCS1_2048_8192_SHA256,
        SigningAlgorithm::ES256 => &ECDSA_P256_SHA256_FIXED,
        SigningAlgorithm::ES384 => &ECDSA_P384_SHA384_FIXED,
        SigningAlgorithm::EdDSA => &ED25519,
    }
}

/// The parsed forms of one public key. An RSA key has a form for each algorithm.
#[derive(Default)]
pub(super) struct ParsedKeys {
    ps256: OnceLock<Option<ParsedPublicKey>>,
    rs256: OnceLock<Option<ParsedPublicKey>>,
    es256: OnceLock<Option<ParsedPublicKey>>,
    es384: OnceLock<Option<ParsedPublicKey>>,
    eddsa: OnceLock<Option<ParsedPublicKey>>,
}

impl ParsedKeys {
    /// Returns the parsed key, or `None` for a key that is malformed or of another type.
    pub(super) fn get(
        &self,
        algorithm: SigningAlgorithm,
        public_key: &[u8],
    ) -> Option<&ParsedPublicKey> {
        let parsed = match algorithm {
            SigningAlgorithm::PS256 => &self.ps256,
            SigningAlgorithm::RS256 => &self.rs256,
            SigningAlgorithm::ES256 => &self.es256,
            SigningAlgorithm::ES384 => &self.es384,
            SigningAlgorithm::EdDSA => &self.eddsa,
        };
        let parse = || ParsedPublicKey::new(verification(algorithm), public_key).ok();
        parsed.get_or_init(parse).as_ref()
    }
}
