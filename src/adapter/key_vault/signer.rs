use std::fmt;
use std::sync::Arc;

use azure_security_keyvault_keys::KeyClient;
use azure_security_keyvault_keys::models::{
    KeyClientSignOptions, SignParameters, SignatureAlgorithm,
};
use sha2::{Digest, Sha256, Sha384};
use tokio::time::timeout;

use super::explain::Operation;
use super::{LIMIT, check_path_segment};
use crate::credential::{Signer, SignerFuture, SigningAlgorithm};
use crate::error::Error;

/// A private key in Azure Key Vault or a Managed HSM, for
/// [`Certificate::from_signer`](crate::Certificate::from_signer).
///
/// The vault signs every client assertion, and the private key never leaves the vault. The signer
/// uses one version of the key, which is the version that belongs to the certificate. For a
/// certificate that is in the vault too, [`KeyVaultCertificate`](super::KeyVaultCertificate) makes
/// the signers and follows the rotation.
///
/// The identity that the [`KeyClient`] authenticates with needs the role *Key Vault Crypto User*,
/// or the permission *sign* for keys in an access policy.
///
/// ```
/// use std::sync::Arc;
///
/// use azure_security_keyvault_keys::KeyClient;
/// use confidential_client::adapter::{AzureCredential, KeyVaultSigner};
/// use confidential_client::credential::ManagedIdentity;
/// use confidential_client::{Certificate, ConfidentialClient, ManagedIdentityClient};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pem = confidential_client::testing::self_signed_certificate("daemon")?;
/// let identity = ManagedIdentityClient::new(ManagedIdentity::system_assigned())?;
/// let credential = Arc::new(AzureCredential::new(identity));
/// let keys = KeyClient::new("https://contoso.vault.azure.net", credential, None)?;
/// let signer = KeyVaultSigner::new(keys, "daemon", "0123456789abcdef0123456789abcdef")?;
///
/// // The PEM has the certificate, and no private key.
/// let client = ConfidentialClient::builder("11111111-2222-3333-4444-555555555555")
///     .tenant("contoso.onmicrosoft.com")
///     .certificate(Certificate::from_signer(pem, signer)?)
///     .build()?; // does no I/O
/// # let _ = client;
/// # Ok(())
/// # }
/// ```
///
/// # Algorithms
///
/// Azure Key Vault signs with PS256, RS256, ES256 and ES384. The signer computes the digest of the
/// message, and only the digest is sent. Azure Key Vault has no EdDSA, so a signature with
/// [`EdDSA`](SigningAlgorithm::EdDSA) is an error.
///
/// # Limits
///
/// A signature may take nine seconds. By default, the clients of the Azure SDK retry 429, 5xx and
/// lost connections for up to a minute. The error after nine seconds then has no cause. Set
/// `ClientOptions::retry` to `RetryOptions::none()`, and the error says what the vault answered.
/// This crate retries the token request.
///
/// # Errors
///
/// A signature fails with [`Error::Credential`](crate::Error::Credential). The message names the
/// vault, the key and its version, and what to do.
#[derive(Clone)]
pub struct KeyVaultSigner {
    client: Arc<KeyClient>,
    key: String,
    version: String,
}

impl KeyVaultSigner {
    /// Creates a signer for one version of the key `key_name`. Does no I/O.
    ///
    /// `key_version` is the last part of the key's identifier. The certificate in the vault has
    /// that identifier as its `kid`.
    ///
    /// # Errors
    ///
    /// [`Error::Config`](crate::Error::Config) for a name or a version that Azure Key Vault does
    /// not allow.
    pub fn new(
        client: impl Into<Arc<KeyClient>>,
        key_name: impl Into<String>,
        key_version: impl Into<String>,
    ) -> Result<Self, Error> {
        let (client, key, version) = (client.into(), key_name.into(), key_version.into());
        check_path_segment("the name of the key", &key)?;
        check_path_segment("the version of the key", &version)?;
        Ok(Self {
            client,
            key,
            version,
        })
    }

    pub(super) async fn signature(
        &self,
        algorithm: SigningAlgorithm,
        message: &[u8],
    ) -> Result<Vec<u8>, Error> {
        let operation = Operation::sign(self.client.endpoint(), &self.key, &self.version);
        let (algorithm, digest) = match algorithm {
            SigningAlgorithm::PS256 => (SignatureAlgorithm::Ps256, sha256(message)),
            SigningAlgorithm::RS256 => (SignatureAlgorithm::Rs256, sha256(message)),
            SigningAlgorithm::ES256 => (SignatureAlgorithm::Es256, sha256(message)),
            SigningAlgorithm::ES384 => {
                (SignatureAlgorithm::Es384, Sha384::digest(message).to_vec())
            }
            SigningAlgorithm::EdDSA => {
                return Err(Error::credential(
                    "Azure Key Vault does not sign with EdDSA; use a certificate with an RSA, P-256 or P-384 key",
                ));
            }
        };
        let parameters = SignParameters {
            algorithm: Some(algorithm),
            value: Some(digest),
        };
        let options = KeyClientSignOptions {
            key_version: Some(self.version.clone()),
            ..KeyClientSignOptions::default()
        };
        let parameters = parameters.try_into();
        let parameters = parameters.map_err(|error| operation.failed(error))?;
        let signing = self.client.sign(&self.key, parameters, Some(options));
        let response = match timeout(LIMIT, signing).await {
            Ok(response) => response.map_err(|error| operation.failed(error))?,
            Err(_) => return Err(operation.timed_out(LIMIT)),
        };
        let signature = response.into_model().map(|model| model.result);
        signature
            .ok()
            .flatten()
            .ok_or_else(|| operation.unreadable())
    }
}

impl Signer for KeyVaultSigner {
    fn sign(&self, algorithm: SigningAlgorithm, message: Vec<u8>) -> SignerFuture<'_> {
        Box::pin(async move { Ok(self.signature(algorithm, &message).await?) })
    }
}

impl fmt::Debug for KeyVaultSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyVaultSigner")
            .field("vault", &self.client.endpoint().as_str())
            .field("key", &self.key)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

fn sha256(message: &[u8]) -> Vec<u8> {
    Sha256::digest(message).to_vec()
}
