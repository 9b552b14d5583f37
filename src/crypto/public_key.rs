use super::{NoBackend, SigningAlgorithm};

/// A public key that verifies the signatures of many messages.
///
/// aws-lc-rs parses the key once for each algorithm, at the first signature. The other backends
/// parse the key for each signature.
pub(crate) struct PublicKey {
    /// PKCS#1 DER for RSA, an uncompressed point for P-256 and P-384, and 32 bytes for Ed25519.
    bytes: Vec<u8>,
    #[cfg(feature = "aws-lc-rs")]
    parsed: super::aws_lc::ParsedKeys,
}

impl PublicKey {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            #[cfg(feature = "aws-lc-rs")]
            parsed: super::aws_lc::ParsedKeys::default(),
        }
    }

    /// Verifies a signature, like [`verify`](super::verify).
    #[cfg(feature = "aws-lc-rs")]
    pub(crate) fn verify(
        &self,
        algorithm: SigningAlgorithm,
        message: &[u8],
        signature: &[u8],
    ) -> Result<bool, NoBackend> {
        let key = self.parsed.get(algorithm, &self.bytes);
        Ok(key.is_some_and(|key| key.verify_sig(message, signature).is_ok()))
    }

    /// Verifies a signature, like [`verify`](super::verify).
    #[cfg(not(feature = "aws-lc-rs"))]
    pub(crate) fn verify(
        &self,
        algorithm: SigningAlgorithm,
        message: &[u8],
        signature: &[u8],
    ) -> Result<bool, NoBackend> {
        super::verify(&self.bytes, algorithm, message, signature)
    }
}
