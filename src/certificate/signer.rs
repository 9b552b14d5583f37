use std::error::Error as StdError;
use std::pin::Pin;

use crate::crypto::SigningAlgorithm;

/// The future of a [`Signer`], with the signature or an error.
pub type SignerFuture<'a> =
    Pin<Box<dyn Future<Output = Result<Vec<u8>, Box<dyn StdError + Send + Sync>>> + Send + 'a>>;

/// A private key in an HSM, a TPM or a key vault, for
/// [`Certificate::from_signer`](crate::Certificate::from_signer).
///
/// The client calls the signer for every attempt of a token request and waits for at most ten
/// seconds. The client calls the signer of a [`DpopKey`](crate::credential::DpopKey) for every
/// request to an API, too. A closure that takes the algorithm and the message and returns a future
/// is a signer.
///
/// For a key in Azure Key Vault, the feature `key-vault` has `adapter::KeyVaultSigner`. Other
/// services take the message or its digest, and return the signature in base64 or DER. The example
/// `vault_signer` shows such a service.
pub trait Signer: Send + Sync + 'static {
    /// Signs `message`, which is the message itself and not its digest.
    ///
    /// The signature has the form of [RFC 7518 section 3]. An ES256 signature is two numbers of 32
    /// bytes each, without DER, and an ES384 signature two of 48 bytes. An EdDSA signature has 64
    /// bytes.
    ///
    /// # Errors
    ///
    /// The client returns [`Error::Credential`](crate::Error::Credential) with this error as its
    /// source.
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
