#![warn(clippy::arithmetic_side_effects, reason = "it reads what others wrote")]

use std::fmt::{self, Write};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::Header;
use x509_cert::der::DateTime;

use crate::crypto::{PrivateKey, SigningAlgorithm};
use crate::error::Error;
use crate::time::TimeSource;

mod chain;
mod formats;
mod pem;
mod protected;
mod signer;

pub(crate) use chain::KeyKind;
use chain::X509;
pub use signer::{Signer, SignerFuture};

/// A certificate and the means to sign with its private key, parsed and checked once.
///
/// Cheap to clone. `Debug` shows neither key nor certificate, only subject, thumbprint, validity
/// and algorithm. Nothing here does I/O: pass the bytes of a file. One that is replaced while the
/// program runs is better given by its path, as a [`CertificateFile`](crate::credential::CertificateFile).
///
/// Several certificates may be given in any order: the one that fits the key is put first, behind
/// it those that lead to its root, and others are left out. Of several that fit, the one that is
/// valid the longest is taken, of those that are valid today if there are any. That it is valid is checked by
/// [`build()`](crate::ConfidentialClientBuilder::build) and before each request.
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
#[derive(Clone)]
pub struct Certificate {
    parts: Arc<Parts>,
    /// Where somebody chose it.
    algorithm: Option<SigningAlgorithm>,
    x5c: bool,
}

struct Parts {
    key: SigningKey,
    key_kind: KeyKind,
    public_key: Vec<u8>,
    sha1: [u8; 20],
    sha256: [u8; 32],
    /// Base64 of each, from the leaf up.
    chain: Vec<String>,
    subject: String,
    not_before: SystemTime,
    not_after: SystemTime,
}

/// Where the private key is.
#[derive(Clone)]
pub(crate) enum SigningKey {
    Local(Arc<PrivateKey>),
    Remote(Arc<dyn Signer>),
}

impl Certificate {
    /// Signs assertions with this algorithm, rather than with the one that the key and the
    /// authority suggest: PS256 for an RSA key, or RS256 for AD FS and for OpenID providers that
    /// do not say they take PS256; ES256 for a P-256 key.
    ///
    /// An algorithm that does not go with the key is refused by
    /// [`build()`](crate::ConfidentialClientBuilder::build).
    #[must_use]
    pub fn signing_algorithm(mut self, algorithm: SigningAlgorithm) -> Self {
        self.algorithm = Some(algorithm);
        self
    }

    /// Sends the certificate, and those given with it, along in each assertion (`x5c`): for
    /// registrations that trust a subject name and issuer instead of a thumbprint, so that a
    /// renewed certificate needs no registration of its own.
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
    #[must_use]
    pub fn send_x5c(mut self) -> Self {
        self.x5c = true;
        self
    }

    /// The SHA-1 thumbprint in upper-case hexadecimal, as the Azure portal shows it.
    pub fn thumbprint_sha1(&self) -> String {
        hexadecimal(&self.parts.sha1)
    }

    /// The SHA-256 thumbprint in upper-case hexadecimal.
    pub fn thumbprint_sha256(&self) -> String {
        hexadecimal(&self.parts.sha256)
    }

    /// The subject's name ([RFC 4514](https://www.rfc-editor.org/rfc/rfc4514)), such as `CN=daemon`.
    pub fn subject(&self) -> &str {
        &self.parts.subject
    }

    /// From when on it is valid (UTC).
    pub fn not_before(&self) -> SystemTime {
        self.parts.not_before
    }

    /// Until when it is valid (UTC).
    pub fn not_after(&self) -> SystemTime {
        self.parts.not_after
    }

    /// How many whole days it is still valid by the machine's clock; negative once it has expired.
    /// The client warns in its log with less than 30 left.
    pub fn days_left(&self) -> i64 {
        self.days_left_at(TimeSource::System.now().wall)
    }

    /// What assertions are signed with, unless the authority suggests another: see
    /// [`signing_algorithm`](Self::signing_algorithm).
    pub fn algorithm(&self) -> SigningAlgorithm {
        self.algorithm.unwrap_or(match self.parts.key_kind {
            KeyKind::Rsa { .. } => SigningAlgorithm::PS256,
            KeyKind::P256 => SigningAlgorithm::ES256,
        })
    }

    /// The same certificate, which signs with the first of `taken` that goes with its key; as it is
    /// where somebody chose.
    pub(crate) fn signing_by(mut self, taken: &[SigningAlgorithm]) -> Result<Self, Error> {
        if self.algorithm.is_none() {
            let goes = |algorithm: &SigningAlgorithm| algorithm.is_rsa() == self.is_rsa();
            let Some(algorithm) = taken.iter().copied().find(goes) else {
                let taken: Vec<String> = taken.iter().map(ToString::to_string).collect();
                return Err(Error::config(format!(
                    "the key of the certificate of '{}' signs by none of the algorithms that the OpenID provider takes ({}); use another certificate",
                    self.subject(),
                    taken.join(", ")
                )));
            };
            self.algorithm = Some(algorithm);
        }
        Ok(self)
    }

    fn new(chain: Vec<X509>, key: SigningKey) -> Result<Self, Error> {
        let Some(leaf) = chain.first() else {
            return Err(Error::credential(
                "there is no certificate ('-----BEGIN CERTIFICATE-----')",
            ));
        };
        let key_kind = leaf.key_kind()?;
        Ok(Self {
            algorithm: None,
            x5c: false,
            parts: Arc::new(Parts {
                key,
                key_kind,
                public_key: leaf.public_key().to_vec(),
                sha1: leaf.sha1(),
                sha256: leaf.sha256(),
                subject: leaf.subject(),
                not_before: leaf.not_before(),
                not_after: leaf.not_after(),
                chain: chain.iter().map(X509::to_base64).collect(),
            }),
        })
    }

    /// The header of an assertion ([RFC 7515 section 4.1]).
    ///
    /// [RFC 7515 section 4.1]: https://www.rfc-editor.org/rfc/rfc7515#section-4.1
    pub(crate) fn header(&self) -> Header {
        let encode = |digest: &[u8]| Some(BASE64_URL_SAFE_NO_PAD.encode(digest));
        let mut header = Header::new(self.algorithm().jwa());
        header.x5t_s256 = encode(&self.parts.sha256);
        if self.algorithm() == SigningAlgorithm::RS256 {
            header.x5t = encode(&self.parts.sha1);
        }
        header.x5c = self.x5c.then(|| self.parts.chain.clone());
        header
    }

    pub(crate) fn key(&self) -> &SigningKey {
        &self.parts.key
    }

    /// The public key: PKCS#1 DER, or a point uncompressed.
    pub(crate) fn public_key(&self) -> &[u8] {
        &self.parts.public_key
    }

    #[cfg(feature = "testing")]
    pub(crate) fn sha1(&self) -> &[u8] {
        &self.parts.sha1
    }

    pub(crate) fn sha256(&self) -> &[u8] {
        &self.parts.sha256
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

    /// Checks that the algorithm goes with the key.
    pub(crate) fn check_algorithm(&self) -> Result<(), Error> {
        let rsa = self.algorithm().is_rsa();
        if rsa == self.is_rsa() {
            return Ok(());
        }
        let (has, needs) = match rsa {
            true => ("a P-256 key", "an RSA key"),
            false => ("an RSA key", "a P-256 key"),
        };
        Err(Error::credential(format!(
            "the certificate of '{}' has {has}, and {} needs {needs}; leave the algorithm to the key, or use another certificate",
            self.parts.subject,
            self.algorithm()
        )))
    }

    /// Checks that the certificate is valid at `now`.
    pub(crate) fn check_validity(&self, now: SystemTime) -> Result<(), Error> {
        let Parts {
            subject,
            not_before,
            not_after,
            ..
        } = &*self.parts;
        if now < *not_before {
            return Err(Error::credential(format!(
                "the certificate of '{subject}' is not valid before {}; check this machine's clock, or use the certificate that is valid today",
                shown(*not_before)
            )));
        }
        if now > *not_after {
            return Err(Error::credential(format!(
                "the certificate of '{subject}' expired on {}; register a new one with the application and deploy it here",
                shown(*not_after)
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
            .field("not_before", &shown(self.parts.not_before))
            .field("not_after", &shown(self.parts.not_after))
            .field("algorithm", &self.algorithm())
            .field("x5c", &self.x5c)
            .finish_non_exhaustive()
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02X}");
        text
    })
}

/// `2026-11-21T03:00:00Z`.
fn shown(time: SystemTime) -> String {
    match DateTime::from_system_time(time) {
        Ok(time) => time.to_string(),
        Err(_) => "a time before 1970".to_owned(),
    }
}

const DAY: u64 = 24 * 60 * 60;

#[cfg(all(test, feature = "testing"))]
mod tests {
    use super::*;

    #[test]
    fn days_are_whole_and_below_zero_from_the_end_on() {
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
