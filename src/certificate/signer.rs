use std::error::Error as StdError;
use std::pin::Pin;

use crate::crypto::SigningAlgorithm;

/// What a [`Signer`] returns: the signature, or why there is none.
pub type SignerFuture<'a> =
    Pin<Box<dyn Future<Output = Result<Vec<u8>, Box<dyn StdError + Send + Sync>>> + Send + 'a>>;

/// A private key that never leaves where it is: an HSM, a TPM, a key vault. It signs for a
/// [`Certificate::from_signer`](crate::Certificate::from_signer).
///
/// Asked for every attempt of a token request, and given ten seconds. Closures that take algorithm
/// and message and return a future are signers.
///
/// Azure Key Vault's *sign* operation takes the SHA-256 digest of the message and the algorithm by
/// the same name; what it returns has to be decoded from base64url.
pub trait Signer: Send + Sync + 'static {
    /// Signs `message` (the message itself, not its digest).
    ///
    /// The signature has the form of [RFC 7518 section 3]: for ES256 the two numbers side by side,
    /// 64 bytes, and not their DER.
    ///
    /// # Errors
    ///
    /// Any error becomes the source of [`Error::Credential`](crate::Error::Credential).
    ///
    /// [RFC 7518 section 3]: https://www.rfc-editor.org/rfc/rfc7518#section-3
    fn sign(&self, algorithm: SigningAlgorithm, message: Vec<u8>) -> SignerFuture<'_>;
}

impl<F, R> Signer for F
where
    F: Fn(SigningAlgorithm, Vec<u8>) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Vec<u8>, Box<dyn StdError + Send + Sync>>> + Send + 'static,
{
    fn sign(&self, algorithm: SigningAlgorithm, message: Vec<u8>) -> SignerFuture<'_> {
        Box::pin(self(algorithm, message))
    }
}
