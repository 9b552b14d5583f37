use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use super::objects;
use super::selection::ObjectName;
use super::sessions::TokenSessions;
use super::signature;
use crate::adapter::pkcs11::failure::AttemptFailed;
use crate::certificate::{AssertionOptions, Certificate};
use crate::credential::{CredentialFuture, CredentialSource, Signer, SignerFuture};
use crate::crypto::SigningAlgorithm;
use crate::error::Error;
use crate::time::TimeSource;

/// A private key on a [`Pkcs11Token`](super::Pkcs11Token), which never leaves the token.
///
/// - As a [`CredentialSource<Certificate>`](CredentialSource), the key comes with the certificate
///   that the token has for the key. The client reads the certificate again before each token
///   request, so a new key and certificate are picked up without a restart.
/// - As a [`Signer`], the key signs for a certificate from elsewhere, such as a file.
/// - [`certificate`](Self::certificate) reads the certificate once.
///
/// ```
/// use confidential_client::adapter::Pkcs11Token;
/// use confidential_client::{Certificate, ConfidentialClient};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pem = confidential_client::testing::self_signed_certificate("daemon")?;
/// let token = Pkcs11Token::new("/usr/lib/softhsm/libsofthsm2.so").label("daemon").pin("1234");
///
/// // The certificate is on the token, and is followed.
/// let client = ConfidentialClient::builder("11111111-2222-3333-4444-555555555555")
///     .tenant("contoso.onmicrosoft.com")
///     .certificate_source(token.key("signing"))
///     .build()?;
///
/// // The certificate is in a file.
/// let certificate = Certificate::from_signer(pem, token.key("signing"))?;
/// # Ok(())
/// # }
/// ```
///
/// # Rotation
///
/// A key and its certificate have the same id (`CKA_ID`). Put the new key and the new certificate
/// on the token with the old label and a new id, and delete the old ones later. Of several
/// certificates with a private key, certificates that are valid today come first, and then the one
/// that expires last. The client signs with the key of that certificate.
///
/// # Algorithms
///
/// RSA keys sign with PS256 and RS256, P-256 keys with ES256 and P-384 keys with ES384. EdDSA is
/// not supported.
///
/// # Errors
///
/// Every failure is an [`Error::Credential`] or an [`Error::Config`] with its own message. The
/// message names the token, the key and the code of the module, such as `CKR_DEVICE_REMOVED`. A
/// missing key is an error that lists the keys on the token.
#[derive(Clone)]
pub struct Pkcs11Key {
    sessions: Arc<TokenSessions>,
    name: ObjectName,
    options: AssertionOptions,
}

impl Pkcs11Key {
    pub(super) fn new(sessions: Arc<TokenSessions>, name: ObjectName) -> Self {
        Self {
            sessions,
            name,
            options: AssertionOptions::default(),
        }
    }

    /// Sets the signing algorithm of the certificate, like [`Certificate::signing_algorithm`].
    #[must_use]
    pub fn signing_algorithm(mut self, algorithm: SigningAlgorithm) -> Self {
        self.options.algorithm = Some(algorithm);
        self
    }

    /// Sends the certificate and its chain in each assertion, like [`Certificate::send_x5c`].
    ///
    /// The chain consists of the certificates on the token.
    #[doc(alias = "sendX5C")]
    #[must_use]
    pub fn send_x5c(mut self) -> Self {
        self.options.x5c = true;
        self
    }

    /// Sets the key id (`kid`) of each assertion, like [`Certificate::key_id`].
    ///
    /// This is not the id of the key on the token.
    #[must_use]
    pub fn key_id(mut self, key_id: impl Into<String>) -> Self {
        self.options.key_id = Some(key_id.into());
        self
    }

    /// Reads the certificate of the key from the token. Calls the module, and logs in if needed.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a module that cannot be loaded, a missing PIN, an ambiguous token, and
    /// outside a tokio runtime. [`Error::Credential`] if the token, the key or the certificate is
    /// missing, if the PIN is wrong or locked, if key and certificate do not match, or if the
    /// module fails or returns nothing within 9 seconds.
    pub async fn certificate(&self) -> Result<Certificate, Error> {
        self.name.check()?;
        let (name, token, x5c) = (self.name.clone(), self.token(), self.options.x5c);
        let job = move |work: &_| objects::certificates(work, &name, x5c, &token);
        let found = self.sessions.run(Arc::new(job)).await?;
        let now = TimeSource::System.wall();
        let (mut best, mut error) = (None::<Certificate>, None);
        let rank = |certificate: &Certificate| {
            let is_valid = certificate.not_before() <= now && now <= certificate.not_after();
            (is_valid, certificate.not_after())
        };
        for candidate in found.candidates {
            match self.bind(&candidate, &found.others) {
                Ok(certificate)
                    if best
                        .as_ref()
                        .is_none_or(|best| rank(best) < rank(&certificate)) =>
                {
                    best = Some(certificate);
                }
                Ok(_) => {}
                Err(unusable) => error = Some(unusable),
            }
        }
        // Without a candidate, the search itself has failed.
        best.ok_or_else(|| error.unwrap_or_else(|| Error::credential("there is no certificate")))
    }

    /// Binds a certificate to the key on the token.
    fn bind(
        &self,
        found: &objects::CertificateOnToken,
        others: &[Vec<u8>],
    ) -> Result<Certificate, Error> {
        let name = ObjectName::of(&found.key);
        let described = format!("the private key {name} on {}", self.sessions.selection);
        let signer = Self::new(Arc::clone(&self.sessions), name);
        let about = format!("certificate of {described}");
        let certificate = Certificate::from_token(&found.der, others, signer)
            .map_err(|error| error.about(&about))?;
        let certificate = self.options.apply(certificate);
        certificate.check_algorithm()?;
        signature::check(certificate.algorithm(), &found.key.key, &described)?;
        match &found.key.key.modulus {
            Some(modulus) if !certificate.has_modulus(modulus) => Err(Error::credential(format!(
                "{described} is not the key of the certificate of '{}', which has the same id or label; put both on the token again",
                certificate.subject()
            ))),
            _ => Ok(certificate),
        }
    }

    /// Signs on the token.
    async fn sign(self, algorithm: SigningAlgorithm, message: Vec<u8>) -> Result<Vec<u8>, Error> {
        self.name.check()?;
        let (name, token) = (self.name.clone(), self.token());
        let described = format!("the private key {name} on {token}");
        if algorithm == SigningAlgorithm::EdDSA {
            return Err(signature::no_eddsa(&described));
        }
        let job = move |work: &super::sessions::TokenWork| {
            let key = objects::private_key(work, &name, &token)?;
            // A cached key may have been replaced by a key of another type.
            signature::check(algorithm, &key.key, &described).map_err(AttemptFailed::stale)?;
            let (mechanism, data) =
                signature::prepare(algorithm, &work.mechanisms, &message, &described)
                    .map_err(AttemptFailed::stale)?;
            let signature = work.session.sign(mechanism, key.handle, &data);
            signature.map_err(|call| {
                AttemptFailed::of(call, &token, Some(&format!("the private key {name}")))
            })
        };
        self.sessions.run(Arc::new(job)).await
    }

    fn token(&self) -> String {
        self.sessions.selection.to_string()
    }
}

impl Signer for Pkcs11Key {
    fn sign(&self, algorithm: SigningAlgorithm, message: Vec<u8>) -> SignerFuture<'_> {
        let key = self.clone();
        Box::pin(async move { Ok(key.sign(algorithm, message).await?) })
    }
}

impl CredentialSource<Certificate> for Pkcs11Key {
    fn credential(&self) -> CredentialFuture<'_, Certificate> {
        let key = self.clone();
        Box::pin(async move {
            let certificate = key.certificate().await;
            certificate.map_err(|error| Box::new(error) as Box<dyn StdError + Send + Sync>)
        })
    }

    fn describe(&self) -> String {
        format!("certificate {} on {}", self.name, self.token())
    }
}

impl fmt::Debug for Pkcs11Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pkcs11Key")
            .field("token", &self.token())
            .field("name", &self.name.to_string())
            .field("algorithm", &self.options.algorithm)
            .field("x5c", &self.options.x5c)
            .field("key_id", &self.options.key_id)
            .finish_non_exhaustive()
    }
}
