use std::fmt::{self, Write};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::Header;
use x509_cert::der::DateTime;
use zeroize::Zeroizing;

use crate::error::Error;
use crate::secret::Secret;
use crate::time::TimeSource;

mod chain;
pub(crate) mod key;
mod pem;
mod protected;
mod signer;

pub(crate) use chain::KeyKind;
use chain::X509;
use key::{PrivateKey, PrivateKeyDer};
use pem::{Pem, PemKey};
pub use signer::{Signer, SignerFuture, SigningAlgorithm};

/// A certificate and the means to sign with its private key, parsed and checked once.
///
/// Cheap to clone. `Debug` shows neither key nor certificate, only subject, thumbprint, validity
/// and algorithm. Nothing here does I/O: pass the bytes of a file. One that is replaced while the
/// program runs is better given by its path, as a [`CertificateFile`](crate::CertificateFile).
///
/// Several certificates may be given in any order: the one that fits the key is put first, behind
/// it those that lead to its root, and others are left out. Of several that fit, the one that is
/// valid the longest is taken. Whether it is valid today is checked by
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
    algorithm: SigningAlgorithm,
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
    Here(Arc<PrivateKey>),
    Elsewhere(Arc<dyn Signer>),
}

impl Certificate {
    /// Reads a certificate and its private key (PKCS#8, PKCS#1 or SEC 1, not encrypted) from one
    /// PEM text, in any order; text around the blocks is skipped.
    ///
    /// # Errors
    ///
    /// [`Error::Credential`], saying what is wrong and what to do: no certificate or no key, two
    /// keys, an encrypted key, a key that is neither RSA of 2048 bits or more nor P-256, or does
    /// not fit the certificate; a public key, a certificate request, an OpenSSH key or a binary
    /// file in their place. [`Error::Config`] where no signing backend is compiled in.
    pub fn from_pem(pem: impl AsRef<[u8]>) -> Result<Self, Error> {
        Self::from_pem_with(pem.as_ref(), None)
    }

    /// The same from two texts: the certificate, or the chain of them, in one, and the private key
    /// in the other, as Kubernetes mounts `tls.crt` and `tls.key`.
    ///
    /// # Errors
    ///
    /// As [`from_pem`](Self::from_pem).
    pub fn from_pem_pair(
        certificates: impl AsRef<[u8]>,
        private_key: impl AsRef<[u8]>,
    ) -> Result<Self, Error> {
        Self::from_pem_with(&joined(certificates.as_ref(), private_key.as_ref()), None)
    }

    /// Reads a certificate and its private key from one PEM text where the key is encrypted
    /// (`-----BEGIN ENCRYPTED PRIVATE KEY-----`, PKCS#8 by PBES2, as OpenSSL writes it).
    ///
    /// Where the key is in a file of its own, put the two texts one behind the other. A key that is
    /// not encrypted is read all the same, with a warning in the log. Deriving the key from the
    /// password takes milliseconds of computing; some files ask for much more.
    ///
    /// # Errors
    ///
    /// As [`from_pem`](Self::from_pem), and for a password that is wrong.
    #[cfg(feature = "pkcs12")]
    #[cfg_attr(docsrs, doc(cfg(feature = "pkcs12")))]
    pub fn from_encrypted_pem(pem: impl AsRef<[u8]>, password: &str) -> Result<Self, Error> {
        Self::from_pem_with(pem.as_ref(), Some(&Secret::from(password)))
    }

    /// Reads a PKCS#12 file (`.pfx`, `.p12`) as OpenSSL and Windows write it, today's form and the
    /// legacy one (RC2, 3DES, SHA-1). An empty password is none.
    ///
    /// Deriving the key from the password takes milliseconds of computing; some files ask for much
    /// more.
    ///
    /// # Errors
    ///
    /// As [`from_pem`](Self::from_pem), and for a password that is wrong.
    #[cfg(feature = "pkcs12")]
    #[cfg_attr(docsrs, doc(cfg(feature = "pkcs12")))]
    pub fn from_pkcs12(pfx: impl AsRef<[u8]>, password: &str) -> Result<Self, Error> {
        Self::from_pkcs12_with(pfx.as_ref(), password)
    }

    /// Takes DER: the certificate, or the chain of them, and the private key (PKCS#8, PKCS#1 or
    /// SEC 1, not encrypted).
    ///
    /// # Errors
    ///
    /// As [`from_pem`](Self::from_pem).
    pub fn from_der<C: AsRef<[u8]>>(
        chain: impl IntoIterator<Item = C>,
        private_key: impl AsRef<[u8]>,
    ) -> Result<Self, Error> {
        let certificates = chain.into_iter().map(|der| der.as_ref().to_vec()).collect();
        let Some(key) = PrivateKeyDer::detect(private_key.as_ref()) else {
            return Err(Error::credential(
                "the private key cannot be read: it is not the DER of a PKCS#8, PKCS#1 or SEC 1 key; one in PEM is read by from_pem, an encrypted one by from_encrypted_pem",
            ));
        };
        Self::with_key(certificates, &key)
    }

    /// Takes a certificate whose private key stays where it is: the signer is asked for every
    /// signature. `chain` is PEM with the certificate and, in any order, those that lead to its
    /// root; or one certificate's DER. Of several, the one that issued none of the others is the
    /// certificate; a private key beside it is not read.
    ///
    /// That the key fits the certificate shows with the first token request: a signature that does
    /// not verify is not sent.
    ///
    /// ```
    /// use confidential_client::{Certificate, SigningAlgorithm};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pem = confidential_client::testing::self_signed_certificate("daemon")?;
    /// let certificate = Certificate::from_signer(pem, |algorithm: SigningAlgorithm, message: Vec<u8>| async move {
    ///     // The vault is asked here: `algorithm` is PS256, `message` is what to sign.
    ///     Err("the vault is sealed".into())
    /// })?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Credential`]: no certificate, or several that issued none of the others; a key that
    /// is neither RSA of 2048 bits or more nor P-256.
    pub fn from_signer(chain: impl AsRef<[u8]>, signer: impl Signer) -> Result<Self, Error> {
        let chain = chain.as_ref();
        let certificates = if chain.starts_with(b"\x30") {
            vec![chain.to_vec()]
        } else {
            pem::read(chain)?.certificates
        };
        let chain = chain::leading_from_leaf(parsed(certificates)?)?;
        Self::new(chain, SigningKey::Elsewhere(Arc::new(signer)))
    }

    /// Signs assertions with another algorithm than the default: PS256 for an RSA key, ES256 for a
    /// P-256 key.
    ///
    /// An algorithm that does not go with the key is refused by
    /// [`build()`](crate::ConfidentialClientBuilder::build).
    #[must_use]
    pub fn with_algorithm(mut self, algorithm: SigningAlgorithm) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// Sends the certificate, and those given with it, along in each assertion (`x5c`): for
    /// registrations that trust a subject name and issuer instead of a thumbprint, so that a
    /// renewed certificate needs no registration of its own.
    #[must_use]
    pub fn with_x5c(mut self) -> Self {
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
    /// The client warns in its log from 30 days on.
    pub fn days_left(&self) -> i64 {
        self.days_left_at(TimeSource::System.now().wall)
    }

    /// What assertions are signed with.
    pub fn algorithm(&self) -> SigningAlgorithm {
        self.algorithm
    }

    /// Reads a file by what it holds.
    pub(crate) fn from_file(content: &[u8], password: Option<&Secret>) -> Result<Self, Error> {
        if content.starts_with(b"\x30") {
            Self::from_pkcs12_with(content, password.map_or("", Secret::expose))
        } else {
            Self::from_pem_with(content, password)
        }
    }

    /// The same of a certificate and a private key in two files.
    pub(crate) fn from_file_pair(
        certificates: &[u8],
        private_key: &[u8],
        password: Option<&Secret>,
    ) -> Result<Self, Error> {
        Self::from_pem_with(&joined(certificates, private_key), password)
    }

    fn from_pem_with(pem: &[u8], password: Option<&Secret>) -> Result<Self, Error> {
        let Pem { certificates, key } = pem::read(pem)?;
        if certificates.is_empty() {
            return Err(Error::credential(
                "the PEM holds no certificate ('-----BEGIN CERTIFICATE-----'); give certificate and private key together",
            ));
        }
        let key = match (key, password) {
            (PemKey::Plain(key), None) => key,
            (PemKey::Plain(key), Some(_)) => {
                tracing::warn!(
                    "a password was given for a private key that is not encrypted; whoever reads the file has the key"
                );
                key
            }
            (PemKey::Encrypted(der), Some(password)) => {
                protected::private_key(&der, password.expose())?
            }
            (PemKey::Encrypted(_), None) => {
                return Err(Error::credential(
                    "the private key is encrypted and no password was given; give it, to from_encrypted_pem or as AZURE_CLIENT_CERTIFICATE_PASSWORD (feature 'pkcs12')",
                ));
            }
            (PemKey::None, _) => {
                return Err(Error::credential(
                    "the PEM holds no private key ('-----BEGIN PRIVATE KEY-----'); give certificate and private key together",
                ));
            }
        };
        Self::with_key(certificates, &key)
    }

    fn from_pkcs12_with(pfx: &[u8], password: &str) -> Result<Self, Error> {
        let contents = protected::pkcs12(pfx, password)?;
        if contents.certificates.is_empty() {
            return Err(Error::credential(
                "the PKCS#12 file holds no certificate; export it with the certificate of its key",
            ));
        }
        Self::with_key(contents.certificates, &contents.key)
    }

    fn with_key(certificates: Vec<Vec<u8>>, key: &PrivateKeyDer) -> Result<Self, Error> {
        let key = PrivateKey::parse(key)?;
        let certificates = parsed(certificates)?;
        let Some(first) = certificates.first().map(X509::subject) else {
            return Err(Error::credential(
                "no certificate was given; give the one that was made for the key",
            ));
        };
        let Some(chain) = chain::leading_from(key.public_key(), certificates) else {
            return Err(Error::credential(format!(
                "the private key does not fit the certificate of '{first}'; use the key that this certificate was made for, or the certificate that was made for this key"
            )));
        };
        Self::new(chain, SigningKey::Here(Arc::new(key)))
    }

    fn new(chain: Vec<X509>, key: SigningKey) -> Result<Self, Error> {
        let Some(leaf) = chain.first() else {
            return Err(Error::credential(
                "there is no certificate ('-----BEGIN CERTIFICATE-----')",
            ));
        };
        let key_kind = leaf.key_kind()?;
        Ok(Self {
            algorithm: match key_kind {
                KeyKind::Rsa { .. } => SigningAlgorithm::PS256,
                KeyKind::P256 => SigningAlgorithm::ES256,
            },
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
        let mut header = Header::new(self.algorithm.jwa());
        header.x5t_s256 = encode(&self.parts.sha256);
        if self.algorithm == SigningAlgorithm::RS256 {
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
            Err(error) => -1 - days(error.duration()),
        }
    }

    /// Checks that the algorithm goes with the key.
    pub(crate) fn check_algorithm(&self) -> Result<(), Error> {
        let rsa = match self.algorithm {
            SigningAlgorithm::PS256 | SigningAlgorithm::RS256 => true,
            SigningAlgorithm::ES256 => false,
        };
        if rsa == self.is_rsa() {
            return Ok(());
        }
        let (has, needs) = match rsa {
            true => ("a P-256 key", "an RSA key"),
            false => ("an RSA key", "a P-256 key"),
        };
        Err(Error::credential(format!(
            "the certificate of '{}' has {has}, and {} needs {needs}; leave the algorithm to the key, or use another certificate",
            self.parts.subject, self.algorithm
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
            .field("algorithm", &self.algorithm)
            .field("x5c", &self.x5c)
            .finish_non_exhaustive()
    }
}

/// Two PEM texts as one, wiped when dropped.
fn joined(certificates: &[u8], private_key: &[u8]) -> Zeroizing<Vec<u8>> {
    // Of the second, too, the byte order mark is no part of its first line.
    let private_key = private_key
        .strip_prefix(b"\xef\xbb\xbf")
        .unwrap_or(private_key);
    Zeroizing::new([certificates, b"\n", private_key].concat())
}

fn parsed(certificates: Vec<Vec<u8>>) -> Result<Vec<X509>, Error> {
    certificates.into_iter().map(X509::parse).collect()
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
