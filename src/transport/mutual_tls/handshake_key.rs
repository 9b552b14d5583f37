use std::sync::Arc;
use std::time::Duration;

use rustls::sign::{Signer, SigningKey};
use rustls::{Error, OtherError, SignatureAlgorithm, SignatureScheme};

use super::handshake;
use super::token_transport::SIGNATURE_LIMIT;
use crate::certificate::{Certificate, CertificateKey};
use crate::crypto::{SigningAlgorithm, ecdsa_to_der};
use crate::error;

/// The private key of a certificate, as rustls signs a handshake with it.
///
/// The key and the certificate were compared when the certificate was read.
#[derive(Clone, Debug)]
pub(super) struct HandshakeKey {
    certificate: Certificate,
    /// The longest time of a signature outside the process.
    limit: Duration,
}

/// A signature of one handshake.
#[derive(Debug)]
struct HandshakeSigner {
    key: HandshakeKey,
    algorithm: SigningAlgorithm,
    scheme: SignatureScheme,
}

impl HandshakeKey {
    pub(super) fn new(certificate: &Certificate) -> Self {
        Self {
            certificate: certificate.clone(),
            limit: SIGNATURE_LIMIT,
        }
    }
}

impl SigningKey for HandshakeKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let algorithms = self.certificate.handshake_algorithms().into_iter();
        let mut schemes = algorithms.map(|algorithm| (algorithm, scheme(algorithm)));
        let (algorithm, scheme) = schemes.find(|(_, scheme)| offered.contains(scheme))?;
        Some(Box::new(HandshakeSigner {
            key: self.clone(),
            algorithm,
            scheme,
        }))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        match self.certificate.algorithm() {
            SigningAlgorithm::PS256 | SigningAlgorithm::RS256 => SignatureAlgorithm::RSA,
            SigningAlgorithm::ES256 | SigningAlgorithm::ES384 => SignatureAlgorithm::ECDSA,
            SigningAlgorithm::EdDSA => SignatureAlgorithm::ED25519,
        }
    }
}

impl Signer for HandshakeSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let HandshakeKey { certificate, limit } = &self.key;
        let signature = match certificate.key() {
            CertificateKey::Local(key) => {
                let signature = key.sign(self.algorithm, message);
                signature.map_err(|error| Error::Other(OtherError(Arc::new(error))))?
            }
            CertificateKey::Remote(signer) => {
                handshake::sign(certificate, signer, message, *limit).map_err(failed)?
            }
        };
        match self.algorithm {
            // A JWS has two numbers of equal length, and TLS has DER.
            SigningAlgorithm::ES256 | SigningAlgorithm::ES384 => Ok(ecdsa_to_der(&signature)),
            SigningAlgorithm::EdDSA | SigningAlgorithm::PS256 | SigningAlgorithm::RS256 => {
                Ok(signature)
            }
        }
    }

    fn scheme(&self) -> SignatureScheme {
        self.scheme
    }
}

fn failed(error: error::Error) -> Error {
    Error::Other(OtherError(Arc::new(error)))
}

fn scheme(algorithm: SigningAlgorithm) -> SignatureScheme {
    match algorithm {
        SigningAlgorithm::PS256 => SignatureScheme::RSA_PSS_SHA256,
        SigningAlgorithm::RS256 => SignatureScheme::RSA_PKCS1_SHA256,
        SigningAlgorithm::ES256 => SignatureScheme::ECDSA_NISTP256_SHA256,
        SigningAlgorithm::ES384 => SignatureScheme::ECDSA_NISTP384_SHA384,
        SigningAlgorithm::EdDSA => SignatureScheme::ED25519,
    }
}
