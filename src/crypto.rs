use std::fmt;

use crate::error::Error;

pub(crate) mod aead;
pub(crate) mod asn1;
#[cfg(feature = "aws-lc-rs")]
mod aws_lc;
#[cfg(all(feature = "reqwest", any(feature = "ring", feature = "rustls")))]
mod ecdsa;
#[cfg(any(
    test,
    not(any(feature = "aws-lc-rs", feature = "ring", feature = "rust-crypto"))
))]
#[cfg_attr(test, expect(dead_code, reason = "the tests call only some functions"))]
mod none;
#[cfg(feature = "pkcs12")]
pub(crate) mod password_based;
mod private_key;
mod public_key;
#[cfg(any(feature = "aws-lc-rs", feature = "rustls"))]
pub(crate) mod random;
#[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
mod ring;
#[cfg(all(
    feature = "rust-crypto",
    not(any(feature = "aws-lc-rs", feature = "ring"))
))]
mod rust_crypto;

#[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
use self::ring::{self as backend, RingKeyPair as BackendKeyPair};
#[cfg(feature = "aws-lc-rs")]
use aws_lc::{self as backend, AwsLcKeyPair as BackendKeyPair};
#[cfg(all(feature = "reqwest", any(feature = "ring", feature = "rustls")))]
pub(crate) use ecdsa::to_der as ecdsa_to_der;
#[cfg(not(any(feature = "aws-lc-rs", feature = "ring", feature = "rust-crypto")))]
use none::{self as backend, NoKeyPair as BackendKeyPair};
#[cfg(any(feature = "aws-lc-rs", feature = "ring", feature = "rust-crypto"))]
use private_key::PrivateKeyKind;
pub(crate) use private_key::{
    EC, ED25519, P256, P384, PrivateKeyDer, RSA, RSASSA_PSS, RsaPssParameters, unsigned_bits,
};
pub(crate) use public_key::PublicKey;
#[cfg(all(
    feature = "rust-crypto",
    not(any(feature = "aws-lc-rs", feature = "ring"))
))]
use rust_crypto::{self as backend, RustCryptoKeyPair as BackendKeyPair};

/// Verifies a signature with a public key.
///
/// The public key is PKCS#1 DER for RSA, an uncompressed point for P-256 and P-384, and 32 bytes
/// for Ed25519. The result is `Ok(true)` only for a valid signature. A backend that does not
/// support the algorithm ([`supports`]) finds no signature valid.
///
/// # Errors
///
/// [`NoBackend`] in a build without a signing backend. The signature is then neither valid nor
/// invalid, and the caller must not accept the message.
pub(crate) fn verify(
    public_key: &[u8],
    algorithm: SigningAlgorithm,
    message: &[u8],
    signature: &[u8],
) -> Result<bool, NoBackend> {
    backend::verify(public_key, algorithm, message, signature)
}

/// Returns whether the backend verifies signatures of an algorithm.
///
/// RustCrypto's crates for P-384 and Ed25519 are not in the tree.
pub(crate) fn supports(algorithm: SigningAlgorithm) -> bool {
    match algorithm {
        SigningAlgorithm::PS256 | SigningAlgorithm::RS256 | SigningAlgorithm::ES256 => {
            check_backend().is_ok()
        }
        SigningAlgorithm::ES384 | SigningAlgorithm::EdDSA => {
            HAS_ALL_CURVES && check_backend().is_ok()
        }
    }
}

/// False for the backend `rust-crypto` alone, which has no P-384 and no Ed25519.
pub(crate) const HAS_ALL_CURVES: bool = cfg!(any(
    feature = "aws-lc-rs",
    feature = "ring",
    not(feature = "rust-crypto")
));

/// Checks that a backend is compiled in.
pub(crate) fn check_backend() -> Result<(), NoBackend> {
    match cfg!(any(
        feature = "aws-lc-rs",
        feature = "ring",
        feature = "rust-crypto"
    )) {
        true => Ok(()),
        false => Err(NoBackend),
    }
}

/// An algorithm that signs client assertions, with its name from [RFC 7518 section 3.1].
///
/// [RFC 7518 section 3.1]: https://www.rfc-editor.org/rfc/rfc7518#section-3.1
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SigningAlgorithm {
    /// RSASSA-PSS with SHA-256. Microsoft Entra ID recommends PS256.
    PS256,
    /// RSASSA-PKCS1-v1_5 with SHA-256. AD FS and every OpenID provider accept RS256.
    ///
    /// An RS256 assertion also contains `x5t`, the SHA-1 thumbprint of the certificate.
    RS256,
    /// ECDSA with a P-256 key and SHA-256. Microsoft Entra ID does not accept ES256.
    ES256,
    /// ECDSA with a P-384 key and SHA-384. The feature `rust-crypto` does not support ES384.
    ES384,
    /// EdDSA with an Ed25519 key ([RFC 8037 section 3.1]). The feature `rust-crypto` does not
    /// support EdDSA.
    ///
    /// [RFC 8037 section 3.1]: https://www.rfc-editor.org/rfc/rfc8037#section-3.1
    EdDSA,
}

impl SigningAlgorithm {
    /// The algorithms that some backend supports.
    const ALL: [Self; 5] = [
        Self::RS256,
        Self::PS256,
        Self::ES256,
        Self::ES384,
        Self::EdDSA,
    ];
    /// The algorithms of JWTs that FAPI 2.0 allows (Security Profile, section 5.4.1), in order of
    /// preference.
    pub(crate) const OF_FAPI2: [Self; 3] = [Self::PS256, Self::ES256, Self::EdDSA];

    /// Returns the algorithms that this build supports. All of them use a public key.
    pub(crate) fn supported() -> impl Iterator<Item = Self> {
        let is_supported = |algorithm: &Self| match algorithm {
            Self::PS256 | Self::RS256 | Self::ES256 => true,
            Self::ES384 | Self::EdDSA => HAS_ALL_CURVES,
        };
        Self::ALL.into_iter().filter(is_supported)
    }

    /// Returns the names of the supported algorithms, for errors.
    pub(crate) fn supported_names() -> String {
        let names: Vec<_> = Self::supported().map(Self::name).collect();
        match names.split_last() {
            Some((last, others)) => format!("{} or {last}", others.join(", ")),
            None => String::new(),
        }
    }

    pub(crate) fn is_in_fapi2(self) -> bool {
        Self::OF_FAPI2.contains(&self)
    }

    /// Returns the name in the header of a JWS.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::PS256 => "PS256",
            Self::RS256 => "RS256",
            Self::ES256 => "ES256",
            Self::ES384 => "ES384",
            Self::EdDSA => "EdDSA",
        }
    }

    pub(crate) fn is_rsa(self) -> bool {
        match self {
            Self::PS256 | Self::RS256 => true,
            Self::ES256 | Self::ES384 | Self::EdDSA => false,
        }
    }
}

impl fmt::Display for SigningAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The error of a build without a signing backend, which cannot sign or verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no signing backend is compiled in; enable the feature 'aws-lc-rs', 'ring' or 'rust-crypto' of confidential-client"
)]
pub(crate) struct NoBackend;

/// The error of a private key that cannot sign with an algorithm.
#[derive(Debug, thiserror::Error)]
#[error("the private key cannot sign with {0}")]
pub(crate) struct SigningFailed(SigningAlgorithm);

/// A parsed private key. Parsing costs half as much as a signature, so the key is parsed once.
pub(crate) struct PrivateKey {
    pair: BackendKeyPair,
    is_rsa_pss: bool,
}

impl PrivateKey {
    pub(crate) fn parse(der: &PrivateKeyDer) -> Result<Self, Error> {
        #[cfg(any(feature = "aws-lc-rs", feature = "ring", feature = "rust-crypto"))]
        match der.kind() {
            Some(PrivateKeyKind::Rsa { bits }) if bits < 2048 => return Err(too_small()),
            Some(PrivateKeyKind::Other) => return Err(unsupported()),
            // The backend finds what is wrong.
            Some(
                PrivateKeyKind::Rsa { .. }
                | PrivateKeyKind::EllipticCurve
                | PrivateKeyKind::Ed25519,
            )
            | None => {}
        }
        let unwrapped = der.without_rsa_pss()?;
        Ok(Self {
            pair: BackendKeyPair::parse(unwrapped.as_ref().unwrap_or(der))?,
            is_rsa_pss: unwrapped.is_some(),
        })
    }

    /// Generates a P-256 key.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] in a build without a signing backend.
    pub(crate) fn generate_p256() -> Result<Self, Error> {
        check_backend().map_err(|error| Error::config(error.to_string()))?;
        let pair = BackendKeyPair::generate_p256().ok_or_else(|| {
            Error::credential("no key can be generated: the system has no random numbers")
        })?;
        Ok(Self {
            pair,
            is_rsa_pss: false,
        })
    }

    /// Returns whether the key is only for RSASSA-PSS.
    pub(crate) fn is_rsa_pss(&self) -> bool {
        self.is_rsa_pss
    }

    /// Returns the public key, PKCS#1 DER for RSA, an uncompressed point for P-256 and P-384, and
    /// 32 bytes for Ed25519.
    pub(crate) fn public_key(&self) -> &[u8] {
        self.pair.public_key()
    }

    pub(crate) fn sign(
        &self,
        algorithm: SigningAlgorithm,
        message: &[u8],
    ) -> Result<Vec<u8>, SigningFailed> {
        let signature = self.pair.sign(algorithm, message);
        signature.ok_or(SigningFailed(algorithm))
    }
}

#[cfg(feature = "testing")]
impl PrivateKey {
    /// Generates an RSA key of 2048 bits.
    pub(crate) fn generate_rsa() -> Result<Self, Error> {
        Ok(Self {
            pair: BackendKeyPair::generate_rsa()?,
            is_rsa_pss: false,
        })
    }

    /// Returns the modulus and the exponent of an RSA key, both big-endian.
    pub(crate) fn rsa_components(&self) -> Option<(Vec<u8>, Vec<u8>)> {
        self.pair.rsa_components()
    }
}

#[cfg(any(feature = "aws-lc-rs", feature = "ring", feature = "rust-crypto"))]
fn unsupported() -> Error {
    Error::credential(match HAS_ALL_CURVES {
        true => {
            "the private key is neither an RSA key of 2048 bits or more nor a P-256, P-384 or Ed25519 key; Microsoft Entra ID accepts only RSA"
        }
        false => {
            "the private key is neither an RSA key of 2048 bits or more nor a P-256 key, and the feature 'rust-crypto' supports no others; Microsoft Entra ID accepts only RSA, and for P-384 and Ed25519 enable the feature 'aws-lc-rs' or 'ring'"
        }
    })
}

#[cfg(any(feature = "aws-lc-rs", feature = "ring", feature = "rust-crypto"))]
fn too_small() -> Error {
    Error::credential(
        "the RSA key is under 2048 bits, which is not safe; create a new key and certificate and register the certificate with the application",
    )
}

#[cfg(feature = "aws-lc-rs")]
fn too_large() -> Error {
    Error::credential(
        "the RSA key has more than 8192 bits, which is not supported; create a key of 2048, 3072 or 4096 bits",
    )
}

#[cfg(any(feature = "aws-lc-rs", feature = "ring", feature = "rust-crypto"))]
fn unreadable() -> Error {
    Error::credential(
        "the private key cannot be read: it is not a PKCS#8, PKCS#1 or SEC 1 key, or its numbers are inconsistent",
    )
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;

    #[test]
    fn without_a_backend_no_signature_is_valid_and_no_key_is_read() {
        for algorithm in [
            SigningAlgorithm::PS256,
            SigningAlgorithm::RS256,
            SigningAlgorithm::ES256,
            SigningAlgorithm::ES384,
            SigningAlgorithm::EdDSA,
        ] {
            assert_eq!(
                none::verify(b"key", algorithm, b"message", b""),
                Err(NoBackend)
            );
        }
        let key = PrivateKeyDer::Pkcs8(Zeroizing::new(b"key".to_vec()));
        let error = none::NoKeyPair::parse(&key).err().unwrap();
        assert!(matches!(error, Error::Config(_)), "{error}");
        assert!(
            error
                .to_string()
                .contains("'aws-lc-rs', 'ring' or 'rust-crypto'")
        );
    }
}
