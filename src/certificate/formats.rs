//! Constructors of [`Certificate`], one for each file format.

use std::sync::Arc;

use super::chain;
use super::content::Content;
use super::kind::FileKind;
use super::pem::{self, Pem, PemKey};
use super::signer::Signer;
use super::x509::X509;
use super::{Certificate, CertificateKey, protected};
use crate::crypto::{PrivateKey, PrivateKeyDer};
use crate::error::Error;
use crate::secret::Secret;
use crate::time::TimeSource;

impl Certificate {
    /// Reads a certificate and its private key from one PEM text.
    ///
    /// The private key is PKCS#8, PKCS#1 or SEC 1, and not encrypted. The blocks may have any
    /// order. Text around the blocks is skipped.
    ///
    /// Line breaks may be missing, or written as `\n` or spaces, as variables and JSON change them.
    /// The base64 of a PEM text is accepted, too, with or without quotes or JSON around.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if no signing backend is compiled in. [`Error::Credential`] for a text
    /// that cannot be used. The message says what is wrong and what to do:
    ///
    /// - no certificate, no private key, or two private keys,
    /// - an encrypted private key,
    /// - a key that is neither RSA of 2048 bits or more nor P-256, P-384 or Ed25519,
    /// - a P-384 or Ed25519 key with the feature `rust-crypto` alone,
    /// - a key that ring does not read, where ring signs (feature `ring` without `aws-lc-rs`),
    /// - a key that does not match the certificate,
    /// - a public key, a certificate request, an OpenSSH key or a binary file.
    pub fn from_pem(pem: impl AsRef<[u8]>) -> Result<Self, Error> {
        Self::from_pem_with(pem.as_ref(), None)
    }

    /// Reads a certificate or a chain from one PEM text and the private key from another.
    ///
    /// Kubernetes mounts such files as `tls.crt` and `tls.key`.
    ///
    /// # Errors
    ///
    /// The errors of [`from_pem`](Self::from_pem).
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pem = confidential_client::testing::self_signed_certificate("daemon")?;
    /// # let (tls_crt, tls_key) = pem.split_at(pem.find("-----BEGIN PRIVATE").unwrap());
    /// use confidential_client::Certificate;
    ///
    /// let certificate = Certificate::from_pem_pair(tls_crt, tls_key)?;
    /// assert_eq!(certificate.subject(), "CN=daemon");
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_pem_pair(
        certificates: impl AsRef<[u8]>,
        private_key: impl AsRef<[u8]>,
    ) -> Result<Self, Error> {
        Self::from_file_pair(certificates.as_ref(), private_key.as_ref(), None)
    }

    /// Reads a certificate and its encrypted private key from one PEM text. Needs the feature
    /// `pkcs12`.
    ///
    /// The key block is `-----BEGIN ENCRYPTED PRIVATE KEY-----`, which is PKCS#8 with PBES2 or
    /// PBES1, or OpenSSL's old form with `Proc-Type: 4,ENCRYPTED`. If certificate and key are in
    /// two files, concatenate the texts. A key that is not encrypted is accepted, with a warning in
    /// the log.
    ///
    /// Deriving the key from the password takes milliseconds of CPU time. Some files need much
    /// more.
    ///
    /// # Errors
    ///
    /// The errors of [`from_pem`](Self::from_pem), and [`Error::Credential`] for a wrong password.
    /// Without the feature, [`Error::Config`] for an encrypted key. The message contains the line
    /// for Cargo.toml.
    pub fn from_encrypted_pem(pem: impl AsRef<[u8]>, password: &str) -> Result<Self, Error> {
        Self::from_pem_with(pem.as_ref(), Some(&Secret::from(password)))
    }

    /// Reads a PKCS#12 file (`.pfx`, `.p12`) of OpenSSL or Windows. Needs the feature `pkcs12`.
    ///
    /// Both the current format and the legacy format (RC2, 3DES, SHA-1) are supported, as are the
    /// files of Azure Key Vault, Java, Bouncy Castle and NSS. Pass an empty password for a file
    /// without password. The base64 of a file, as Azure Key Vault returns it, is accepted, too,
    /// with or without quotes or JSON around.
    ///
    /// Deriving the key from the password takes milliseconds of CPU time. Some files need much
    /// more. A file that requests over a million rounds is rejected.
    ///
    /// # Errors
    ///
    /// The errors of [`from_pem`](Self::from_pem), and [`Error::Credential`] for a wrong password.
    /// Without the feature, [`Error::Config`] for every file. The message contains the line for
    /// Cargo.toml.
    ///
    /// ```
    /// use confidential_client::Certificate;
    ///
    /// // In a daemon: std::fs::read("daemon.pfx")?
    /// let error = Certificate::from_pkcs12("-----BEGIN CERTIFICATE-----", "password").unwrap_err();
    /// assert_eq!(error.to_string(), "this is PEM and not PKCS#12; use from_pem");
    /// ```
    pub fn from_pkcs12(pfx: impl AsRef<[u8]>, password: &str) -> Result<Self, Error> {
        Self::from_pkcs12_with(pfx.as_ref(), password)
    }

    /// Reads a certificate or a chain, and the private key, from DER.
    ///
    /// The private key is PKCS#8, PKCS#1 or SEC 1, and not encrypted.
    ///
    /// # Errors
    ///
    /// The errors of [`from_pem`](Self::from_pem).
    pub fn from_der<C: AsRef<[u8]>>(
        chain: impl IntoIterator<Item = C>,
        private_key: impl AsRef<[u8]>,
    ) -> Result<Self, Error> {
        let certificates = chain.into_iter().map(|der| der.as_ref().to_vec()).collect();
        let private_key = private_key.as_ref();
        let Some(key) = PrivateKeyDer::detect(private_key) else {
            let kind = match FileKind::of(private_key) {
                _ if pem::is_pem(private_key) => "PEM",
                kind => kind.name(),
            };
            return Err(Error::credential(format!(
                "the private key cannot be read: it is {kind}, and not the DER of a PKCS#8, PKCS#1 or SEC 1 key; use from_pem for PEM, and from_encrypted_pem for an encrypted key"
            )));
        };
        Self::with_key(certificates, &key)
    }

    /// Builds a certificate whose private key stays in an HSM, a TPM or a key vault.
    ///
    /// The client calls the signer for every signature. `chain` is PEM with the certificate and its
    /// chain in any order, or the DER of one certificate, or the base64 of either. The certificate
    /// is the one that issued none of the others. A private key in the PEM is ignored.
    ///
    /// The first token request shows whether the key matches the certificate. The client verifies
    /// every signature and never sends an invalid one. In a build without a signing backend, only
    /// the identity provider verifies the signature.
    ///
    /// ```
    /// use confidential_client::Certificate;
    /// use confidential_client::credential::SigningAlgorithm;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pem = confidential_client::testing::self_signed_certificate("daemon")?;
    /// let certificate = Certificate::from_signer(pem, |algorithm: SigningAlgorithm, message: Vec<u8>| async move {
    ///     // Send `message` to the vault here. `algorithm` is PS256.
    ///     Err("the vault is sealed".into())
    /// })?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Credential`] if there is no certificate, if several certificates issued none of the
    /// others, or if the key is neither RSA of 2048 bits or more nor P-256, P-384 or Ed25519.
    pub fn from_signer(chain: impl AsRef<[u8]>, signer: impl Signer) -> Result<Self, Error> {
        let now = TimeSource::System.wall();
        let certificates = match Content::unwrap(chain.as_ref()) {
            Content::Pem(text) => pem::read(&text)?.certificates,
            Content::Binary { bytes, .. } => vec![bytes.to_vec()],
            Content::Other(kind) => return Err(not_pem(kind, false)),
        };
        let chain = chain::chain_for_leaf(parse(certificates)?, now)?;
        Self::new(chain, CertificateKey::Remote(Arc::new(signer)))
    }

    /// Builds a certificate whose private key stays on a token, from DER. Of `others`, the issuers
    /// of the certificate form its chain.
    #[cfg(feature = "pkcs11")]
    pub(crate) fn from_token(
        certificate: &[u8],
        others: &[Vec<u8>],
        signer: impl Signer,
    ) -> Result<Self, Error> {
        let mut certificates = vec![X509::parse(certificate)?];
        // A certificate that cannot be read issued nothing that is of use.
        certificates.extend(others.iter().filter_map(|other| X509::parse(other).ok()));
        let chain = chain::chain_from(0, certificates);
        Self::new(chain, CertificateKey::Remote(Arc::new(signer)))
    }

    /// Reads a certificate file. The content determines the format.
    pub(crate) fn from_file(content: &[u8], password: Option<&Secret>) -> Result<Self, Error> {
        let kind = match Content::unwrap(content) {
            Content::Pem(text) => return Self::from_parts(pem::read(&text)?, password),
            Content::Binary { bytes, .. } => match FileKind::of(&bytes) {
                FileKind::Pkcs12 | FileKind::CutOffDer | FileKind::OtherDer => {
                    return Self::from_pkcs12_with(&bytes, password.map_or("", Secret::expose));
                }
                FileKind::Certificate => {
                    return Err(Error::credential(
                        "it holds one certificate in DER and no private key; use PEM or PKCS#12 with both",
                    ));
                }
                kind => kind,
            },
            Content::Other(kind @ (FileKind::Empty | FileKind::OtherText)) => {
                return Err(not_pem(kind, false));
            }
            Content::Other(kind) => kind,
        };
        let (name, advice) = (kind.name(), kind.advice());
        Err(Error::credential(format!("it is {name}; {advice}")))
    }

    /// Reads a certificate file and a private key file, each PEM or DER.
    pub(crate) fn from_file_pair(
        certificates: &[u8],
        private_key: &[u8],
        password: Option<&Secret>,
    ) -> Result<Self, Error> {
        let mut parts = read_part(certificates)?;
        let key = read_part(private_key)?;
        parts.certificates.extend(key.certificates);
        parts.key = match (parts.key, key.key) {
            (PemKey::None(_), key) => key,
            (key, PemKey::None(_)) => key,
            // Both paths name a file with certificate and key.
            (key, other) if key == other => key,
            _ => PemKey::None(pem::TWO_KEYS),
        };
        Self::from_parts(parts, password)
    }

    fn from_pem_with(pem: &[u8], password: Option<&Secret>) -> Result<Self, Error> {
        match Content::unwrap(pem) {
            Content::Pem(text) => Self::from_parts(pem::read(&text)?, password),
            Content::Binary { bytes, is_base64 } => Err(not_pem(FileKind::of(&bytes), is_base64)),
            Content::Other(kind) => Err(not_pem(kind, false)),
        }
    }

    fn from_parts(parts: Pem, password: Option<&Secret>) -> Result<Self, Error> {
        let Pem {
            certificates,
            key,
            no_certificate,
        } = parts;
        if certificates.is_empty() {
            return Err(Error::credential(no_certificate));
        }
        let key = match (key, password) {
            (PemKey::Plain(key), None) => key,
            (PemKey::Plain(key), Some(_)) => {
                tracing::warn!(
                    "a password was given for a private key that is not encrypted; every reader of the file can use the key"
                );
                key
            }
            (PemKey::Encrypted(der), Some(password)) => {
                protected::private_key(&der, password.expose())?
            }
            (PemKey::OldEncrypted(text), Some(password)) => {
                protected::old_private_key(&text, password.expose())?
            }
            (PemKey::Encrypted(_) | PemKey::OldEncrypted(_), None) => {
                return Err(Error::credential(
                    "the private key is encrypted and no password was given; pass the password to from_encrypted_pem, or set AZURE_CLIENT_CERTIFICATE_PASSWORD (feature 'pkcs12')",
                ));
            }
            (PemKey::None(missing), _) => return Err(Error::credential(missing)),
        };
        Self::with_key(certificates, &key)
    }

    fn from_pkcs12_with(pfx: &[u8], password: &str) -> Result<Self, Error> {
        protected::check_feature("a PKCS#12 file")?;
        let kind = match Content::unwrap(pfx) {
            Content::Pem(_) => {
                return Err(Error::credential(
                    "this is PEM and not PKCS#12; use from_pem",
                ));
            }
            Content::Binary { bytes, .. } => match FileKind::of(&bytes) {
                FileKind::Pkcs12 | FileKind::CutOffDer | FileKind::OtherDer => {
                    let contents = protected::pkcs12(&bytes, password)?;
                    if contents.certificates.is_empty() {
                        return Err(Error::credential(
                            "the PKCS#12 file holds no certificate; export the private key with its certificate",
                        ));
                    }
                    return Self::with_key(contents.certificates, &contents.key);
                }
                kind => kind,
            },
            Content::Other(FileKind::OtherText) => {
                return Err(Error::credential(format!(
                    "{}; from_pkcs12 takes the content of the file, and CertificateFile its path",
                    protected::NOT_PKCS12
                )));
            }
            Content::Other(FileKind::OtherBinary) => {
                return Err(Error::credential(protected::NOT_PKCS12));
            }
            Content::Other(kind) => kind,
        };
        Err(Error::credential(format!(
            "this is not PKCS#12 but {}; {}",
            kind.name(),
            kind.advice()
        )))
    }

    fn with_key(certificates: Vec<Vec<u8>>, key: &PrivateKeyDer) -> Result<Self, Error> {
        let now = TimeSource::System.wall();
        let key = PrivateKey::parse(key)?;
        let certificates = parse(certificates)?;
        let Some(first) = certificates.first().map(X509::subject) else {
            return Err(Error::credential(
                "no certificate was given; pass the one that was issued for the key",
            ));
        };
        let Some(chain) = chain::chain_for_key(key.public_key(), certificates, now) else {
            return Err(Error::credential(format!(
                "the private key does not match the certificate of '{first}'; use the private key of this certificate, or the certificate of this private key"
            )));
        };
        Self::new(chain, CertificateKey::Local(Arc::new(key)))
    }
}

/// Reads a file with certificates, with a private key, or with both.
fn read_part(content: &[u8]) -> Result<Pem, Error> {
    let (bytes, is_base64) = match Content::unwrap(content) {
        Content::Pem(text) => return pem::read(&text),
        Content::Binary { bytes, is_base64 } => (bytes, is_base64),
        Content::Other(kind) => return Err(not_pem(kind, false)),
    };
    let kind = FileKind::of(&bytes);
    let mut part = Pem::empty();
    match (kind, PrivateKeyDer::detect(&bytes)) {
        (FileKind::Certificate, _) => part.certificates.push(bytes.to_vec()),
        (FileKind::PrivateKey, Some(key)) => part.key = PemKey::Plain(key),
        (FileKind::EncryptedPrivateKey, _) => part.key = PemKey::Encrypted(bytes.to_vec()),
        _ => return Err(not_pem(kind, is_base64)),
    }
    Ok(part)
}

/// Returns the error for a file in the place of PEM.
fn not_pem(kind: FileKind, is_base64: bool) -> Error {
    let (name, advice) = (kind.name(), kind.advice());
    Error::credential(match (kind, is_base64) {
        (FileKind::Empty, _) => format!("the PEM is empty; {advice}"),
        (FileKind::OtherText, _) => {
            "this is not PEM: it contains no '-----BEGIN CERTIFICATE-----' and has no known format; from_pem takes the content of the file, and CertificateFile its path"
                .to_owned()
        }
        (FileKind::Pkcs12, true) => {
            "this is base64 and not PEM, probably PKCS#12 from a key vault; use from_pkcs12, which reads base64 (feature 'pkcs12')".to_owned()
        }
        (_, true) => format!("this is not PEM but the base64 of {name}; {advice}"),
        (_, false) => format!("this is not PEM but {name}; {advice}"),
    })
}

fn parse(certificates: Vec<Vec<u8>>) -> Result<Vec<X509>, Error> {
    let certificates = certificates.iter();
    let parse = |der: &Vec<u8>| {
        X509::parse(der).map_err(|error| match FileKind::of(der) {
            _ if pem::is_pem(der) => Error::credential(
                "a certificate cannot be read: it is PEM and not DER; use from_pem",
            ),
            FileKind::Certificate
            | FileKind::CutOffDer
            | FileKind::OtherDer
            | FileKind::OtherBinary
            | FileKind::OtherText => error,
            kind => Error::credential(format!(
                "a certificate cannot be read: it is {}; {}",
                kind.name(),
                kind.advice()
            )),
        })
    };
    certificates.map(parse).collect()
}
