use rustls_pki_types::PrivateKeyDer as Kind;
use zeroize::Zeroizing;

use super::SigningAlgorithm;
use crate::error::Error;

#[cfg_attr(feature = "aws-lc-rs", path = "key/aws_lc.rs")]
#[cfg_attr(
    all(feature = "rust-crypto", not(feature = "aws-lc-rs")),
    path = "key/rust_crypto.rs"
)]
#[cfg_attr(
    not(any(feature = "aws-lc-rs", feature = "rust-crypto")),
    path = "key/none.rs"
)]
mod backend;

pub(crate) use backend::verify;

/// Whether [`verify`] verifies: without a backend it takes any signature for what it says it is.
pub(crate) const CAN_VERIFY: bool = cfg!(any(feature = "aws-lc-rs", feature = "rust-crypto"));

/// A private key as it stands in a file; wiped when dropped.
#[cfg_attr(
    not(any(feature = "aws-lc-rs", feature = "rust-crypto")),
    expect(dead_code, reason = "no signing backend reads it")
)]
pub(crate) enum PrivateKeyDer {
    Pkcs8(Zeroizing<Vec<u8>>),
    Pkcs1(Zeroizing<Vec<u8>>),
    Sec1(Zeroizing<Vec<u8>>),
}

impl PrivateKeyDer {
    /// Tells the format by how the DER begins.
    pub(super) fn detect(der: &[u8]) -> Option<Self> {
        let bytes = Zeroizing::new(der.to_vec());
        match Kind::try_from(der) {
            Ok(Kind::Pkcs8(_)) => Some(Self::Pkcs8(bytes)),
            Ok(Kind::Pkcs1(_)) => Some(Self::Pkcs1(bytes)),
            Ok(Kind::Sec1(_)) => Some(Self::Sec1(bytes)),
            _ => None,
        }
    }
}

/// A signature that could not be made.
#[derive(Debug, thiserror::Error)]
#[error("the private key does not sign with {0}")]
pub(crate) struct SigningFailed(SigningAlgorithm);

/// A private key, parsed once: parsing costs half as much as a signature.
pub(crate) struct PrivateKey(backend::KeyPair);

impl PrivateKey {
    pub(super) fn parse(der: &PrivateKeyDer) -> Result<Self, Error> {
        backend::KeyPair::parse(der).map(Self)
    }

    /// The public half as a certificate holds it: PKCS#1 DER, or a point uncompressed.
    pub(super) fn public_key(&self) -> &[u8] {
        self.0.public_key()
    }

    pub(crate) fn sign(
        &self,
        algorithm: SigningAlgorithm,
        message: &[u8],
    ) -> Result<Vec<u8>, SigningFailed> {
        let signature = self.0.sign(algorithm, message);
        signature.ok_or(SigningFailed(algorithm))
    }
}

#[cfg(any(feature = "aws-lc-rs", feature = "rust-crypto"))]
fn unsupported() -> Error {
    Error::credential(
        "the private key is neither an RSA key of 2048 bits or more nor a P-256 key; Microsoft Entra ID takes RSA alone",
    )
}

#[cfg(any(feature = "aws-lc-rs", feature = "rust-crypto"))]
fn too_small() -> Error {
    Error::credential(
        "the RSA key has under 2048 bits, which is not safe; make a new key and certificate and register it with the application",
    )
}

#[cfg(feature = "aws-lc-rs")]
fn too_large() -> Error {
    Error::credential(
        "the RSA key has over 8192 bits, which is more than is read here; make one of 2048, 3072 or 4096 bits",
    )
}

#[cfg(any(feature = "aws-lc-rs", feature = "rust-crypto"))]
fn unreadable() -> Error {
    Error::credential(
        "the private key cannot be read: it is not a PKCS#8, PKCS#1 or SEC 1 key, or its numbers do not belong together",
    )
}
