#![warn(clippy::arithmetic_side_effects, reason = "the input is untrusted")]

use std::fmt::{self, Write};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};

#[cfg(feature = "pkcs11")]
use crate::crypto::asn1::{Asn1Reader, INTEGER};
use crate::crypto::{PrivateKey, SigningAlgorithm};
use crate::error::Error;
use crate::time::{TimeSource, format_time};

mod assertion_header;
mod assertion_options;
pub(crate) mod bare_key;
mod chain;
mod content;
mod formats;
mod kind;
mod name;
mod pem;
mod pem_text;
#[cfg(feature = "pkcs12")]
mod pkcs12;
mod protected;
mod signer;
mod x509;

use assertion_header::AssertionHeader;
pub(crate) use assertion_options::AssertionOptions;
pub use signer::{Signer, SignerFuture};
use x509::{KeyKind, X509};

/// A client certificate with its private key, or with a [`Signer`] for the private key.
///
/// The constructors parse and check the bytes of a file once and do no I/O. For a file that is
/// replaced while the program runs, use [`CertificateFile`](crate::credential::CertificateFile).
/// [`build()`](crate::ConfidentialClientBuilder::build) and every token request check the validity
/// period.
///
/// A file may contain several certificates in any order. The certificate of the private key comes
/// first, then its chain up to the root. Other certificates are ignored. If several certificates
/// match the key, certificates that are valid today come first, and then the one that expires last.
///
/// A `Certificate` is cheap to clone. Its `Debug` output contains subject, thumbprint, validity and
/// algorithm, and never the key or the certificate.
///
/// ```
/// use confidential_client::{Certificate, ConfidentialClient};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // In a daemon: std::fs::read("daemon.pem")?
/// let pem = confidential_client::testing::self_signed_certificate("daemon")?;
/// let certificate = Certificate::from_pem(pem)?;
/// assert_eq!(certificate.subject(), "CN=daemon");
/// assert!(certificate.days_left() > 300);
///
/// let client = ConfidentialClient::builder("11111111-2222-3333-4444-555555555555")
///     .tenant("contoso.onmicrosoft.com")
///     .certificate(certificate)
///     .build()?;
/// # Ok(())
/// # }
/// ```
#[doc(alias = "ClientCertificateCredential")]
#[doc(alias = "client_credential")]
#[derive(Clone)]
pub struct Certificate {
    parts: Arc<CertificateParts>,
    /// The algorithm that the caller or the provider chose.
    algorithm: Option<SigningAlgorithm>,
    x5c: bool,
    /// The `kid` that the caller chose.
    key_id: Option<Arc<str>>,
}

struct CertificateParts {
    key: CertificateKey,
    key_kind: KeyKind,
    public_key: Vec<u8>,
    sha1: [u8; 20],
    sha256: [u8; 32],
    /// Base64 of each certificate, starting with the leaf.
    chain: Vec<String>,
    subject: String,
    not_before: SystemTime,
    not_after: SystemTime,
}

/// The private key of a certificate, in memory or behind a [`Signer`].
#[derive(Clone)]
pub(crate) enum CertificateKey {
    Local(Arc<PrivateKey>),
    Remote(Arc<dyn Signer>),
}

impl Certificate {
    /// Sets the signing algorithm of client assertions.
    ///
    /// By default, an RSA key signs with PS256, a P-256 key with ES256, a P-384 key with ES384, and
    /// an Ed25519 key with EdDSA. For AD FS, and for OpenID providers whose metadata does not list
    /// PS256, an RSA key signs with RS256.
    ///
    /// [`build()`](crate::ConfidentialClientBuilder::build) rejects an algorithm that does not
    /// match the key.
    #[must_use]
    pub fn signing_algorithm(mut self, algorithm: SigningAlgorithm) -> Self {
        self.algorithm = Some(algorithm);
        self
    }

    /// Sends the certificate and its chain in each assertion (`x5c`).
    ///
    /// Registrations for subject name and issuer authentication need `x5c`. Such a registration
    /// trusts a subject name and an issuer instead of a thumbprint, so a renewed certificate needs
    /// no new registration.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pem = confidential_client::testing::self_signed_certificate("daemon")?;
    /// use confidential_client::Certificate;
    /// use confidential_client::credential::SigningAlgorithm;
    ///
    /// let certificate = Certificate::from_pem(pem)?
    ///     .send_x5c()
    ///     .signing_algorithm(SigningAlgorithm::RS256);
    /// assert!(format!("{certificate:?}").contains("x5c: true"));
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "sendX5C")]
    #[must_use]
    pub fn send_x5c(mut self) -> Self {
        self.x5c = true;
        self
    }

    /// Sets the key id (`kid`) in the header of each assertion ([RFC 7515 section 4.1.4]).
    ///
    /// By default the header has no `kid`. Providers that read the application's public keys as a
    /// JWK Set, such as Keycloak and Auth0, find the key by its `kid`. Microsoft Entra ID finds the
    /// key by the thumbprint, which is always in the header.
    ///
    /// [`build()`](crate::ConfidentialClientBuilder::build) rejects a key id that is empty or has
    /// white space around it.
    ///
    /// [RFC 7515 section 4.1.4]: https://www.rfc-editor.org/rfc/rfc7515#section-4.1.4
    #[must_use]
    pub fn key_id(mut self, key_id: impl Into<String>) -> Self {
        self.key_id = Some(key_id.into().into());
        self
    }

    /// Returns the SHA-1 thumbprint in upper-case hexadecimal, as in the Azure portal.
    pub fn thumbprint_sha1(&self) -> String {
        hexadecimal(&self.parts.sha1)
    }

    /// Returns the SHA-256 thumbprint in upper-case hexadecimal.
    pub fn thumbprint_sha256(&self) -> String {
        hexadecimal(&self.parts.sha256)
    }

    /// Returns the subject's name ([RFC 4514](https://www.rfc-editor.org/rfc/rfc4514)), such as `CN=daemon`.
    pub fn subject(&self) -> &str {
        &self.parts.subject
    }

    /// Returns the start of the validity period (UTC).
    pub fn not_before(&self) -> SystemTime {
        self.parts.not_before
    }

    /// Returns the end of the validity period (UTC).
    pub fn not_after(&self) -> SystemTime {
        self.parts.not_after
    }

    /// Returns the number of whole days until the certificate expires, by the system clock.
    ///
    /// The number is negative after the certificate has expired. The client logs a warning when
    /// fewer than 30 days are left.
    pub fn days_left(&self) -> i64 {
        self.days_left_at(TimeSource::System.wall())
    }

    /// Returns the chosen signing algorithm, or the default for the key.
    ///
    /// The authority may need another default. See
    /// [`signing_algorithm`](Self::signing_algorithm).
    pub fn algorithm(&self) -> SigningAlgorithm {
        self.algorithm.unwrap_or(match self.parts.key_kind {
            KeyKind::Rsa { .. } => SigningAlgorithm::PS256,
            KeyKind::P256 => SigningAlgorithm::ES256,
            KeyKind::P384 => SigningAlgorithm::ES384,
            KeyKind::Ed25519 => SigningAlgorithm::EdDSA,
        })
    }

    /// Selects the first supported algorithm that matches the key. Keeps an algorithm that the
    /// caller chose.
    pub(crate) fn select_algorithm(
        mut self,
        supported: &[SigningAlgorithm],
    ) -> Result<Self, Error> {
        if self.algorithm.is_none() {
            let fits = |algorithm: &SigningAlgorithm| self.parts.key_kind.fits(*algorithm);
            let Some(algorithm) = supported.iter().copied().find(fits) else {
                let supported: Vec<String> = supported.iter().map(ToString::to_string).collect();
                return Err(Error::config(format!(
                    "the certificate of '{}' has a key for none of the algorithms that the OpenID provider accepts ({}); use another certificate",
                    self.subject(),
                    supported.join(", ")
                )));
            };
            self.algorithm = Some(algorithm);
        }
        Ok(self)
    }

    fn new(chain: Vec<X509>, key: CertificateKey) -> Result<Self, Error> {
        let Some(leaf) = chain.first() else {
            return Err(Error::credential(
                "there is no certificate ('-----BEGIN CERTIFICATE-----')",
            ));
        };
        let mut key_kind = leaf.key_kind()?;
        let mut public_key = leaf.public_key().to_vec();
        if let CertificateKey::Local(key) = &key {
            public_key = key.public_key().to_vec();
            key_kind = key_kind.restricted(key.is_rsa_pss());
        }
        Ok(Self {
            algorithm: None,
            x5c: false,
            key_id: None,
            parts: Arc::new(CertificateParts {
                key,
                key_kind,
                public_key,
                sha1: leaf.sha1(),
                sha256: leaf.sha256(),
                subject: leaf.subject(),
                not_before: leaf.not_before(),
                not_after: leaf.not_after(),
                chain: chain.iter().map(X509::to_base64).collect(),
            }),
        })
    }

    /// Returns the header of a client assertion.
    pub(crate) fn header(&self, typ: &'static str) -> AssertionHeader<'_> {
        let encode = |digest: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(digest);
        let algorithm = self.algorithm();
        AssertionHeader {
            typ,
            alg: algorithm.name(),
            kid: self.key_id.as_deref(),
            x5c: self.x5c.then_some(self.parts.chain.as_slice()),
            x5t: (algorithm == SigningAlgorithm::RS256).then(|| encode(&self.parts.sha1)),
            x5t_s256: encode(&self.parts.sha256),
        }
    }

    pub(crate) fn key(&self) -> &CertificateKey {
        &self.parts.key
    }

    /// Returns the certificate and its chain in DER, starting with the leaf.
    #[cfg_attr(
        not(all(feature = "reqwest", any(feature = "rustls", feature = "ring"))),
        expect(dead_code, reason = "only TLS by rustls sends the certificate")
    )]
    pub(crate) fn chain_der(&self) -> Vec<Vec<u8>> {
        let decode = |text: &String| BASE64_STANDARD.decode(text).ok();
        // Encoded by this file, so each text decodes.
        self.parts.chain.iter().filter_map(decode).collect()
    }

    /// Returns the algorithms that can sign a TLS handshake, in order of preference.
    ///
    /// A key in memory signs with each algorithm that fits. A [`Signer`] may support only the
    /// chosen algorithm.
    #[cfg_attr(
        not(all(feature = "reqwest", any(feature = "rustls", feature = "ring"))),
        expect(dead_code, reason = "only TLS by rustls signs a handshake")
    )]
    pub(crate) fn handshake_algorithms(&self) -> Vec<SigningAlgorithm> {
        let all = [
            SigningAlgorithm::PS256,
            SigningAlgorithm::RS256,
            SigningAlgorithm::ES256,
            SigningAlgorithm::ES384,
            SigningAlgorithm::EdDSA,
        ];
        let fits = |algorithm: &SigningAlgorithm| self.parts.key_kind.fits(*algorithm);
        match self.parts.key {
            CertificateKey::Local(_) => all.into_iter().filter(fits).collect(),
            CertificateKey::Remote(_) => vec![self.algorithm()],
        }
    }

    /// Returns whether the private key is in memory, and not behind a [`Signer`].
    #[cfg(feature = "aws-lc-rs")]
    pub(crate) fn has_private_key(&self) -> bool {
        matches!(self.parts.key, CertificateKey::Local(_))
    }

    /// Returns the public key, PKCS#1 DER for RSA, an uncompressed point for P-256 and P-384, and
    /// 32 bytes for Ed25519.
    pub(crate) fn public_key(&self) -> &[u8] {
        &self.parts.public_key
    }

    #[cfg(feature = "testing")]
    pub(crate) fn sha1(&self) -> &[u8] {
        &self.parts.sha1
    }

    pub(crate) fn sha256(&self) -> &[u8; 32] {
        &self.parts.sha256
    }

    /// Returns the name of the key's type with its article.
    pub(crate) fn key_name(&self) -> &'static str {
        self.parts.key_kind.name()
    }

    /// Returns whether the public key is an RSA key with this modulus.
    #[cfg(feature = "pkcs11")]
    pub(crate) fn has_modulus(&self, modulus: &[u8]) -> bool {
        let key = Asn1Reader::new(&self.parts.public_key).sequence();
        let Ok(own) = key.and_then(|mut key| key.value(INTEGER)) else {
            return false;
        };
        let digits = |number: &[u8]| {
            number
                .iter()
                .copied()
                .skip_while(|byte| *byte == 0)
                .collect::<Vec<u8>>()
        };
        self.is_rsa() && digits(own.content()) == digits(modulus)
    }

    pub(crate) fn is_rsa(&self) -> bool {
        matches!(self.parts.key_kind, KeyKind::Rsa { .. })
    }

    pub(crate) fn days_left_at(&self, now: SystemTime) -> i64 {
        let days = |time: Duration| i64::try_from(time.as_secs() / DAY).unwrap_or(i64::MAX);
        match self.parts.not_after.duration_since(now) {
            Ok(left) => days(left),
            Err(error) => days(error.duration()).saturating_neg().saturating_sub(1),
        }
    }

    /// Checks that the algorithm matches the key.
    pub(crate) fn check_algorithm(&self) -> Result<(), Error> {
        let algorithm = self.algorithm();
        if self.parts.key_kind.fits(algorithm) {
            return Ok(());
        }
        let has = self.parts.key_kind;
        let needs = match algorithm {
            SigningAlgorithm::RS256 if has.fits(SigningAlgorithm::PS256) => {
                "an RSA key without this restriction"
            }
            SigningAlgorithm::PS256 | SigningAlgorithm::RS256 => "an RSA key",
            SigningAlgorithm::ES256 => "a P-256 key",
            SigningAlgorithm::ES384 => "a P-384 key",
            SigningAlgorithm::EdDSA => "an Ed25519 key",
        };
        Err(Error::credential(format!(
            "the certificate of '{}' has {}, and {algorithm} needs {needs}; do not set the algorithm, or use another certificate",
            self.parts.subject,
            has.name(),
        )))
    }

    /// Checks the key id that the caller chose.
    pub(crate) fn check_key_id(&self) -> Result<(), Error> {
        match self.key_id.as_deref() {
            Some(id) if id.trim().is_empty() || id.trim() != id => Err(Error::config(format!(
                "the key id {id:?} is empty or has white space around it; pass the key's 'kid' to key_id(..), or leave key_id(..) out"
            ))),
            _ => Ok(()),
        }
    }

    /// Checks that the certificate is valid at `now`.
    pub(crate) fn check_validity(&self, now: SystemTime) -> Result<(), Error> {
        let CertificateParts {
            subject,
            not_before,
            not_after,
            ..
        } = &*self.parts;
        if now < *not_before {
            return Err(Error::credential(format!(
                "the certificate of '{subject}' is not valid before {}; check this machine's clock, or use a certificate that is valid today",
                format_time(*not_before)
            )));
        }
        if now > *not_after {
            return Err(Error::credential(format!(
                "the certificate of '{subject}' expired on {}; register a new certificate with the application and deploy it here",
                format_time(*not_after)
            )));
        }
        Ok(())
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("subject", &self.parts.subject)
            .field("thumbprint_sha1", &self.thumbprint_sha1())
            .field("not_before", &format_time(self.parts.not_before))
            .field("not_after", &format_time(self.parts.not_after))
            .field("algorithm", &self.algorithm())
            .field("x5c", &self.x5c)
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}

pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02X}");
        text
    })
}

const DAY: u64 = 24 * 60 * 60;

#[cfg(all(test, feature = "testing"))]
mod tests {
    use super::*;

    #[test]
    fn days_left_are_whole_and_negative_after_the_end() {
        let pem = crate::testing::self_signed_certificate("daemon").unwrap();
        let certificate = Certificate::from_pem(pem).unwrap();
        let end = certificate.not_after();
        let second = Duration::from_secs(1);
        let day = Duration::from_secs(DAY);
        for (now, days) in [
            (end - day, 1),
            (end - day + second, 0),
            (end - second, 0),
            (end + second, -1),
            (end + day, -2),
        ] {
            assert_eq!(certificate.days_left_at(now), days);
        }
    }
}
