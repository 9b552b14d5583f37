use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::crypto::JwtSigner;
use rustls_pki_types::pem::{self, PemObject, SectionKind};
use sha2::{Digest, Sha256};
use x509_cert::der::{DateTime, Decode};
use zeroize::Zeroizing;

use crate::error::{Error, Failure};

pub(crate) mod key;

use key::{PrivateKey, PrivateKeyDer};

/// A certificate with its private key, parsed and checked once. Cheap to clone; `Debug` shows
/// neither key nor certificate, only subject, thumbprint and validity.
///
/// ```
/// use confidential_client::{Certificate, ConfidentialClient};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // In a daemon: std::fs::read("daemon.pem")?
/// let pem = confidential_client::testing::self_signed_certificate("daemon")?;
/// let certificate = Certificate::from_pem(pem)?;
/// assert!(format!("{certificate:?}").contains("CN=daemon"));
///
/// let client = ConfidentialClient::builder("11111111-2222-3333-4444-555555555555")
///     .tenant("contoso.onmicrosoft.com")
///     .certificate(certificate)
///     .build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Certificate(Arc<Parts>);

struct Parts {
    key: PrivateKey,
    thumbprint_s256: String,
    subject: String,
    not_before: DateTime,
    not_after: DateTime,
}

impl Certificate {
    /// Reads a certificate and its RSA private key (PKCS#8 or PKCS#1, not encrypted) from one PEM
    /// text, in either order; text around the blocks is skipped. Of several certificates the one
    /// that fits the key is taken, and of several that do the one that is valid the longest.
    ///
    /// Does no I/O: pass the bytes of the file. Whether the certificate is valid today is checked
    /// by [`build()`](crate::ConfidentialClientBuilder::build) and before each request.
    ///
    /// # Errors
    ///
    /// [`Error::Credential`], saying what is wrong: no certificate or no key in the text, two
    /// keys, an encrypted key, a key that is not RSA, has under 2048 bits or does not fit the
    /// certificate. [`Error::Config`] where no signing backend is compiled in.
    pub fn from_pem(pem: impl AsRef<[u8]>) -> Result<Self, Error> {
        let pem = Zeroizing::new(pem.as_ref().to_vec());
        let (certificates, key) = read_pem(&pem)?;
        let certificates = certificates
            .iter()
            .map(|der| parse(der))
            .collect::<Result<Vec<_>, _>>()?;
        let Some(first) = certificates.first() else {
            return Err(Error::credential(
                "the PEM holds no certificate ('-----BEGIN CERTIFICATE-----'); put certificate and private key into one file",
            ));
        };
        let Some(key) = key else {
            return Err(Error::credential(
                "the PEM holds no private key ('-----BEGIN PRIVATE KEY-----'); put certificate and private key into one file",
            ));
        };
        let key = PrivateKey::parse(&key)?;
        let fitting = certificates
            .iter()
            .filter(|certificate| certificate.public_key() == key.public_key());
        let Some(leaf) = fitting.max_by_key(|certificate| certificate.not_after()) else {
            return Err(Error::credential(format!(
                "the private key does not fit the certificate of '{}'; use the key that this certificate was made for, or the certificate that was made for this key",
                first.subject()
            )));
        };
        Ok(Self(Arc::new(leaf.with_key(key))))
    }

    /// The public key as PKCS#1 DER.
    #[cfg(feature = "testing")]
    pub(crate) fn public_key(&self) -> &[u8] {
        self.0.key.public_key()
    }

    /// base64url(SHA-256(DER)): the `x5t#S256` of [RFC 7515 section 4.1.8].
    ///
    /// [RFC 7515 section 4.1.8]: https://www.rfc-editor.org/rfc/rfc7515#section-4.1.8
    pub(crate) fn thumbprint_s256(&self) -> &str {
        &self.0.thumbprint_s256
    }

    pub(crate) fn signer(&self) -> Arc<dyn JwtSigner + Send + Sync> {
        self.0.key.signer()
    }

    /// Checks that the certificate is valid at `now`.
    pub(crate) fn check_validity(&self, now: SystemTime) -> Result<(), Error> {
        let Parts {
            subject,
            not_before,
            not_after,
            ..
        } = &*self.0;
        if now < at(not_before) {
            return Err(Error::credential(format!(
                "the certificate of '{subject}' is not valid before {not_before}; check this machine's clock, or use the certificate that is valid today"
            )));
        }
        if now > at(not_after) {
            return Err(Error::credential(format!(
                "the certificate of '{subject}' expired on {not_after}; register a new one with the application and deploy it here"
            )));
        }
        Ok(())
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("subject", &self.0.subject)
            .field("thumbprint_s256", &self.0.thumbprint_s256)
            .field("not_before", &self.0.not_before.to_string())
            .field("not_after", &self.0.not_after.to_string())
            .finish_non_exhaustive()
    }
}

/// The certificates and the private key in a PEM text.
fn read_pem(pem: &[u8]) -> Result<(Vec<Vec<u8>>, Option<PrivateKeyDer>), Error> {
    // Windows' editors put a byte order mark before the first line.
    let pem = pem.strip_prefix(b"\xef\xbb\xbf").unwrap_or(pem);
    let contains = |text: &str| pem.windows(text.len()).any(|part| part == text.as_bytes());
    if contains("-----BEGIN ENCRYPTED PRIVATE KEY-----") || contains("Proc-Type: 4,ENCRYPTED") {
        return Err(Error::credential(
            "the private key is encrypted, and a password cannot be given yet; decrypt it with 'openssl pkey -in key.pem -out plain.pem', append the certificate to that file, and protect the file instead",
        ));
    }
    let mut certificates = Vec::new();
    let mut key = None;
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(pem) {
        let (kind, der) = section.map_err(unreadable_pem)?;
        let found = match kind {
            SectionKind::Certificate => {
                certificates.push(der);
                continue;
            }
            SectionKind::PrivateKey => PrivateKeyDer::Pkcs8(Zeroizing::new(der)),
            SectionKind::RsaPrivateKey => PrivateKeyDer::Pkcs1(Zeroizing::new(der)),
            SectionKind::EcPrivateKey => return Err(not_rsa()),
            _ => continue,
        };
        if key.replace(found).is_some() {
            return Err(Error::credential(
                "the PEM holds two private keys; leave the one that fits the certificate",
            ));
        }
    }
    Ok((certificates, key))
}

/// The library's error is not passed on: it may quote a line of the private key.
fn unreadable_pem(error: pem::Error) -> Error {
    let why = match error {
        pem::Error::MissingSectionEnd { .. } => "a '-----BEGIN' line has no matching '-----END'",
        pem::Error::Base64Decode(_) => "the text between BEGIN and END is not base64",
        _ => "a '-----BEGIN' line is malformed",
    };
    Error::credential(format!("the PEM cannot be read: {why}"))
}

pub(crate) fn not_rsa() -> Error {
    Error::credential(
        "the key is not an RSA key; Microsoft Entra ID takes RSA alone for client assertions, of 2048 bits or more",
    )
}

struct Parsed {
    der: Vec<u8>,
    x509: x509_cert::Certificate,
}

fn parse(der: &[u8]) -> Result<Parsed, Error> {
    let x509 = x509_cert::Certificate::from_der(der).map_err(|error| {
        Error::Credential(
            Failure::new("a certificate in the PEM cannot be read")
                .source(Box::new(error))
                .into(),
        )
    })?;
    Ok(Parsed {
        der: der.to_vec(),
        x509,
    })
}

impl Parsed {
    fn subject(&self) -> String {
        self.x509.tbs_certificate().subject().to_string()
    }

    /// The public key as its PKCS#1 DER.
    fn public_key(&self) -> &[u8] {
        let spki = self.x509.tbs_certificate().subject_public_key_info();
        spki.subject_public_key.raw_bytes()
    }

    fn not_after(&self) -> DateTime {
        let validity = self.x509.tbs_certificate().validity();
        validity.not_after.to_date_time()
    }

    fn with_key(&self, key: PrivateKey) -> Parts {
        let validity = self.x509.tbs_certificate().validity();
        Parts {
            thumbprint_s256: BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(&self.der)),
            key,
            subject: self.subject(),
            not_before: validity.not_before.to_date_time(),
            not_after: self.not_after(),
        }
    }
}

fn at(date: &DateTime) -> SystemTime {
    date.to_system_time()
}
