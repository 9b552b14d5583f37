use std::fmt;

use jsonwebtoken::Algorithm;
use rustls_pki_types::PrivateKeyDer as Kind;
use zeroize::Zeroizing;

use crate::error::Error;

#[cfg_attr(feature = "aws-lc-rs", path = "crypto/aws_lc.rs")]
#[cfg_attr(
    all(feature = "rust-crypto", not(feature = "aws-lc-rs")),
    path = "crypto/rust_crypto.rs"
)]
#[cfg_attr(
    not(any(feature = "aws-lc-rs", feature = "rust-crypto")),
    path = "crypto/none.rs"
)]
mod backend;

pub(crate) use backend::verify;

/// Checks that a backend is compiled in.
pub(crate) fn check_backend() -> Result<(), NoBackend> {
    match cfg!(any(feature = "aws-lc-rs", feature = "rust-crypto")) {
        true => Ok(()),
        false => Err(NoBackend),
    }
}

/// How an assertion is signed, by its name in [RFC 7518 section 3.1].
///
/// [RFC 7518 section 3.1]: https://www.rfc-editor.org/rfc/rfc7518#section-3.1
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SigningAlgorithm {
    /// RSASSA-PSS with SHA-256: what Microsoft Entra ID advises.
    PS256,
    /// RSASSA-PKCS1-v1_5 with SHA-256: what AD FS and every OpenID provider take. The assertion then names the certificate
    /// by `x5t`, its SHA-1 thumbprint, too.
    RS256,
    /// ECDSA with P-256 and SHA-256, with a P-256 key. Microsoft Entra ID does not
    /// take it.
    ES256,
}

impl SigningAlgorithm {
    pub(crate) fn jwa(self) -> Algorithm {
        match self {
            Self::PS256 => Algorithm::PS256,
            Self::RS256 => Algorithm::RS256,
            Self::ES256 => Algorithm::ES256,
        }
    }

    pub(crate) fn is_rsa(self) -> bool {
        match self {
            Self::PS256 | Self::RS256 => true,
            Self::ES256 => false,
        }
    }
}

impl fmt::Display for SigningAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// No signing backend is compiled in: signatures can be neither made nor verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no signing backend is compiled in; enable the feature 'aws-lc-rs' or 'rust-crypto' of confidential-client"
)]
pub(crate) struct NoBackend;

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
    pub(crate) fn detect(der: &[u8]) -> Option<Self> {
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
    pub(crate) fn parse(der: &PrivateKeyDer) -> Result<Self, Error> {
        backend::KeyPair::parse(der).map(Self)
    }

    /// The public half as a certificate holds it: PKCS#1 DER, or a point uncompressed.
    pub(crate) fn public_key(&self) -> &[u8] {
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
