use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use super::callback;
use crate::certificate::{Signer, bare_key};
use crate::crypto::{self, NoBackend, PrivateKey, SigningAlgorithm};
use crate::dpop::{ProofClaims, ProofHeader, PublicJwk};
use crate::error::{Error, Failure};
use crate::jwt::UnsignedJwt;
use crate::token::Thumbprint;

/// A proof key of DPoP, which the access tokens of a client are bound to ([RFC 9449]).
///
/// [`ConfidentialClientBuilder::dpop`](crate::ConfidentialClientBuilder::dpop) has the effects. A
/// `DpopKey` is cheap to clone. Its `Debug` output contains the algorithm and the thumbprint, and
/// never the key.
///
/// | constructor | the key |
/// |---|---|
/// | [`generate`](Self::generate) | exists in this process alone, and ends with the process |
/// | [`from_pem`](Self::from_pem) | is shared by processes, which then can share tokens |
/// | [`from_signer`](Self::from_signer) | never leaves an HSM, a TPM or a key vault |
///
/// ```
/// use confidential_client::credential::DpopKey;
///
/// # fn main() -> Result<(), confidential_client::Error> {
/// let key = DpopKey::generate()?;
/// assert_eq!(key.algorithm().to_string(), "ES256");
/// assert_eq!(key.thumbprint().len(), 43);
/// # Ok(())
/// # }
/// ```
///
/// [RFC 9449]: https://www.rfc-editor.org/rfc/rfc9449
#[doc(alias("DPoP", "proof-of-possession"))]
#[derive(Clone)]
pub struct DpopKey {
    parts: Arc<ProofKeyParts>,
    algorithm: SigningAlgorithm,
    header: Arc<ProofHeader>,
}

struct ProofKeyParts {
    private_key: ProofPrivateKey,
    public_key: Vec<u8>,
    jwk: PublicJwk,
    thumbprint: Thumbprint,
}

enum ProofPrivateKey {
    /// Made in this process.
    Generated(Arc<PrivateKey>),
    Local(Arc<PrivateKey>),
    Remote(Arc<dyn Signer>),
}

impl DpopKey {
    /// Generates a P-256 key, which exists in this process alone.
    ///
    /// The best choice for most programs: nobody can copy the key, and nothing has to be kept. The
    /// tokens are useless to other processes and after a restart.
    /// [`build()`](crate::ConfidentialClientBuilder::build) therefore rejects a generated key
    /// together with a shared cache. Authorization codes are not bound to a generated key, because
    /// a user may come back to another process.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if no signing backend is compiled in.
    pub fn generate() -> Result<Self, Error> {
        let key = Arc::new(PrivateKey::generate_p256()?);
        let public_key = key.public_key().to_vec();
        Self::new(ProofPrivateKey::Generated(key), public_key)
    }

    /// Reads a private key from PEM: PKCS#8, PKCS#1 or SEC 1, without a password.
    ///
    /// The key is a P-256, P-384 or Ed25519 key, or an RSA key of 2048 bits or more. Processes with
    /// the same key can share tokens through a
    /// [shared cache](crate::ConfidentialClientBuilder::shared_cache). Do not use the key of a
    /// certificate for proofs, too.
    ///
    /// ```
    /// use confidential_client::credential::DpopKey;
    ///
    /// # fn main() -> Result<(), confidential_client::Error> {
    /// // openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256
    /// let pem = "-----BEGIN PRIVATE KEY-----
    /// MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgevZzL1gdAFr88hb2
    /// OF/2NxApJCzGCEDdfSp6VQO30hyhRANCAAQRWz+jn65BtOMvdyHKcvjBeBSDZH2r
    /// 1RTwjmYSi9R/zpBnuQ4EiMnCqfMPWiZqB4QdbAd0E7oH50VpuZ1P087G
    /// -----END PRIVATE KEY-----";
    /// let key = DpopKey::from_pem(pem)?;
    /// assert_eq!(key.thumbprint(), DpopKey::from_pem(pem)?.thumbprint());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Credential`] for a text without exactly one such key. [`Error::Config`] if no
    /// signing backend is compiled in.
    pub fn from_pem(pem: impl AsRef<[u8]>) -> Result<Self, Error> {
        let der = bare_key::private_key(pem.as_ref())?;
        let key = Arc::new(PrivateKey::parse(&der)?);
        let public_key = key.public_key().to_vec();
        Self::new(ProofPrivateKey::Local(key), public_key)
    }

    /// Uses a private key that signs elsewhere, such as in a key vault.
    ///
    /// `public_key` is PEM (`-----BEGIN PUBLIC KEY-----`). The client calls the signer for every
    /// token request, and **for every request to an API**, and waits for at most ten seconds each
    /// time. A vault may bill and throttle each call. Prefer [`generate`](Self::generate), unless a
    /// rule demands the vault.
    ///
    /// # Errors
    ///
    /// [`Error::Credential`] if the public key is neither a P-256, P-384 or Ed25519 key nor an RSA
    /// key of 2048 bits or more.
    pub fn from_signer(public_key: impl AsRef<[u8]>, signer: impl Signer) -> Result<Self, Error> {
        let public_key = bare_key::public_key(public_key.as_ref())?;
        Self::new(ProofPrivateKey::Remote(Arc::new(signer)), public_key)
    }

    /// Sets the signing algorithm of the proofs.
    ///
    /// By default, a P-256 key signs with ES256, a P-384 key with ES384, an Ed25519 key with EdDSA,
    /// and an RSA key with PS256. A provider lists the algorithms that it accepts in the metadata
    /// (`dpop_signing_alg_values_supported`).
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if the algorithm does not fit the key.
    pub fn signing_algorithm(self, algorithm: SigningAlgorithm) -> Result<Self, Error> {
        match self.parts.jwk.allows(algorithm) {
            true => Self::with_algorithm(self.parts, algorithm),
            false => Err(Error::config(format!(
                "the proof key signs with {}, and its type does not fit {algorithm}; leave signing_algorithm(..) out, or use another key",
                self.algorithm
            ))),
        }
    }

    /// Returns the signing algorithm of the proofs.
    pub fn algorithm(&self) -> SigningAlgorithm {
        self.algorithm
    }

    /// Returns the SHA-256 thumbprint of the public key in base64url ([RFC 7638]), which a bound
    /// token names (`cnf.jkt`).
    ///
    /// [RFC 7638]: https://www.rfc-editor.org/rfc/rfc7638
    pub fn thumbprint(&self) -> String {
        self.parts.thumbprint.to_string()
    }

    pub(crate) fn jwk_thumbprint(&self) -> Thumbprint {
        self.parts.thumbprint
    }

    /// Returns whether the key ends with this process.
    pub(crate) fn is_generated(&self) -> bool {
        matches!(self.parts.private_key, ProofPrivateKey::Generated(_))
    }

    fn new(private_key: ProofPrivateKey, public_key: Vec<u8>) -> Result<Self, Error> {
        let algorithm = algorithm_of(&public_key);
        let jwk = PublicJwk::of_key(algorithm, &public_key).ok_or_else(|| {
            Error::credential(
                "the public key is neither a P-256, P-384 or Ed25519 key nor an RSA key of 2048 to 8192 bits",
            )
        })?;
        let parts = ProofKeyParts {
            private_key,
            public_key,
            thumbprint: jwk.thumbprint(),
            jwk,
        };
        Self::with_algorithm(Arc::new(parts), algorithm)
    }

    fn with_algorithm(
        parts: Arc<ProofKeyParts>,
        algorithm: SigningAlgorithm,
    ) -> Result<Self, Error> {
        let header = ProofHeader::new(&parts.jwk, algorithm).map_err(failed)?;
        Ok(Self {
            header: Arc::new(header),
            algorithm,
            parts,
        })
    }

    /// Signs a proof.
    ///
    /// A P-256 key in memory signs at once, in some 16 microseconds. An RSA key in memory signs on
    /// the blocking thread pool, like a certificate's key.
    ///
    /// # Errors
    ///
    /// [`Error::Credential`] if the key or the signer fails. [`Error::Config`] for a signer outside
    /// of a tokio runtime.
    pub(crate) async fn sign(
        &self,
        claims: &ProofClaims<'_>,
        limit: Duration,
    ) -> Result<String, Error> {
        let unsigned = self.header.unsigned(claims).map_err(failed)?;
        let algorithm = self.algorithm;
        match &self.parts.private_key {
            ProofPrivateKey::Generated(key) | ProofPrivateKey::Local(key) => {
                let key = Arc::clone(key);
                let sign = move || {
                    let signature = key.sign(algorithm, unsigned.message());
                    signature.map(|signature| unsigned.signed(&signature))
                };
                let signed = match Handle::try_current() {
                    Ok(runtime) if algorithm.is_rsa() => {
                        runtime.spawn_blocking(sign).await.map_err(failed)?
                    }
                    _ => sign(),
                };
                signed.map_err(failed)
            }
            ProofPrivateKey::Remote(signer) => {
                if Handle::try_current().is_err() {
                    return Err(Error::config(
                        "a signer of proofs needs a tokio runtime, and this code runs outside of one",
                    ));
                }
                let (signer, message) = (Arc::clone(signer), unsigned.message().to_vec());
                let signing = async move { signer.sign(algorithm, message).await };
                let signature = callback::call(NOT_SIGNED, limit, signing).await?;
                self.check_signature(&unsigned, &signature)?;
                Ok(unsigned.signed(&signature))
            }
        }
    }

    /// Returns `true` if [`sign`](Self::sign) neither waits nor needs a runtime.
    #[cfg(feature = "blocking")]
    pub(crate) fn signs_at_once(&self) -> bool {
        match self.parts.private_key {
            ProofPrivateKey::Generated(_) | ProofPrivateKey::Local(_) => {
                !self.algorithm.is_rsa() || Handle::try_current().is_err()
            }
            ProofPrivateKey::Remote(_) => false,
        }
    }

    /// Checks a signature from a [`Signer`], which may use the wrong key or the wrong form.
    fn check_signature(&self, unsigned: &UnsignedJwt, signature: &[u8]) -> Result<(), Error> {
        let (key, algorithm) = (&self.parts.public_key, self.algorithm);
        match crypto::verify(key, algorithm, unsigned.message(), signature) {
            // Without a backend the server is the first to verify the signature.
            Ok(true) | Err(NoBackend) => Ok(()),
            Ok(false) => Err(Error::credential(format!(
                "the signer's signature of {} bytes does not match the public key of the DpopKey; the signer must use that key and {algorithm}, sign the message and not its digest, and return the signature in the form of RFC 7518, neither base64 nor DER",
                signature.len(),
            ))),
        }
    }
}

/// Shows the algorithm and the thumbprint, and never the key.
impl fmt::Debug for DpopKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DpopKey")
            .field("algorithm", &self.algorithm)
            .field("thumbprint", &self.parts.thumbprint)
            .finish_non_exhaustive()
    }
}

/// Returns the default algorithm of a public key, by its form.
fn algorithm_of(public_key: &[u8]) -> SigningAlgorithm {
    match (public_key, public_key.len()) {
        (_, ED25519_BYTES) => SigningAlgorithm::EdDSA,
        // An uncompressed point. PKCS#1 DER begins with 0x30.
        ([4, ..], P384_POINT_BYTES) => SigningAlgorithm::ES384,
        ([4, ..], _) => SigningAlgorithm::ES256,
        _ => SigningAlgorithm::PS256,
    }
}

/// Returns the error for a failed signature.
fn failed(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Credential(Failure::new(NOT_SIGNED).source(source.into()).into())
}

const ED25519_BYTES: usize = 32;
const P384_POINT_BYTES: usize = 97;
const NOT_SIGNED: &str = "the proof could not be signed";
