//! How a certificate is read, from each format that it comes in.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::chain::{self, X509};
use super::pem::{self, Pem, PemKey};
use super::signer::Signer;
use super::{Certificate, SigningKey, protected};
use crate::crypto::{PrivateKey, PrivateKeyDer};
use crate::error::Error;
use crate::secret::Secret;
use crate::time::TimeSource;

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
    /// more. What the library underneath decrypts is not wiped from memory.
    ///
    /// # Errors
    ///
    /// As [`from_pem`](Self::from_pem), and for a password that is wrong.
    ///
    /// ```
    /// use confidential_client::Certificate;
    ///
    /// // In a daemon: std::fs::read("daemon.pfx")?
    /// let error = Certificate::from_pkcs12("-----BEGIN CERTIFICATE-----", "password").unwrap_err();
    /// assert_eq!(error.to_string(), "this is PEM and not PKCS#12; use from_pem");
    /// ```
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
    /// certificate; a private key beside it is not used.
    ///
    /// That the key fits the certificate shows with the first token request: a signature that does
    /// not verify is not sent.
    ///
    /// ```
    /// use confidential_client::Certificate;
    /// use confidential_client::credential::SigningAlgorithm;
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
        let now = TimeSource::System.now().wall;
        let chain = chain.as_ref();
        let certificates = if pem::is_der(chain) {
            vec![chain.to_vec()]
        } else {
            pem::read(chain)?.certificates
        };
        let chain = chain::leading_from_leaf(parsed(certificates)?, now)?;
        Self::new(chain, SigningKey::Remote(Arc::new(signer)))
    }

    /// Reads a file by what it holds.
    pub(crate) fn from_file(content: &[u8], password: Option<&Secret>) -> Result<Self, Error> {
        if pem::is_der(content) && X509::parse(content.to_vec()).is_ok() {
            Err(Error::credential(
                "it holds one certificate in DER and no private key; give both, as PEM or PKCS#12",
            ))
        } else if pem::is_der(content) {
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
        let Pem {
            certificates,
            key,
            no_certificate,
        } = pem::read(pem)?;
        if certificates.is_empty() {
            return Err(Error::credential(no_certificate));
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
            (PemKey::None(missing), _) => return Err(Error::credential(missing)),
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
        let now = TimeSource::System.now().wall;
        let key = PrivateKey::parse(key)?;
        let certificates = parsed(certificates)?;
        let Some(first) = certificates.first().map(X509::subject) else {
            return Err(Error::credential(
                "no certificate was given; give the one that was made for the key",
            ));
        };
        let Some(chain) = chain::leading_from(key.public_key(), certificates, now) else {
            return Err(Error::credential(format!(
                "the private key does not fit the certificate of '{first}'; use the key that this certificate was made for, or the certificate that was made for this key"
            )));
        };
        Self::new(chain, SigningKey::Local(Arc::new(key)))
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
