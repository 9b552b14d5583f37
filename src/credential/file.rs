use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::source::{CredentialFuture, CredentialSource};
use crate::certificate::{AssertionOptions, Certificate};
use crate::crypto::SigningAlgorithm;
use crate::error::{Error, Failure};
use crate::secret::Secret;

/// A certificate file that the client reads again at every token request.
///
/// A replaced file is picked up without a restart. Replace the file by a rename, or by a swap of a
/// symbolic link as Kubernetes does. The file is parsed only after a change of its content. While
/// the file is incomplete or broken, the client uses the last valid certificate, as for every
/// [`CredentialSource`].
///
/// The file is PEM with certificate and private key. With the feature `pkcs12`, the file may be
/// PKCS#12. The content determines the format.
///
/// ```
/// use confidential_client::ConfidentialClient;
/// use confidential_client::credential::CertificateFile;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = std::env::temp_dir().join(uuid::Uuid::new_v4().to_string());
/// # std::fs::create_dir(&folder)?;
/// # let path = folder.join("daemon.pem");
/// # std::fs::write(&path, confidential_client::testing::self_signed_certificate("daemon")?)?;
/// let file = CertificateFile::new(&path);
/// file.read()?; // finds an invalid file at the start
/// let client = ConfidentialClient::builder("11111111-2222-3333-4444-555555555555")
///     .tenant("contoso.onmicrosoft.com")
///     .certificate_source(file)
///     .build()?; // does not read it
/// # std::fs::remove_dir_all(&folder)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct CertificateFile {
    path: PathBuf,
    private_key: Option<PathBuf>,
    password: Option<Secret>,
    options: AssertionOptions,
    last: Arc<Mutex<Option<ParsedFile>>>,
}

/// A parsed certificate and the digest of the file content.
#[derive(Debug)]
struct ParsedFile {
    digest: [u8; 32],
    certificate: Certificate,
}

impl CertificateFile {
    /// Creates a source for the file at `path`. The file need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            private_key: None,
            password: None,
            options: AssertionOptions::default(),
            last: Arc::default(),
        }
    }

    /// Sets a separate PEM file for the private key, such as `tls.key` beside `tls.crt`.
    #[must_use]
    pub fn private_key(mut self, path: impl Into<PathBuf>) -> Self {
        self.private_key = Some(path.into());
        self.last = Arc::default();
        self
    }

    /// Sets the password of the PKCS#12 file or of the encrypted private key.
    ///
    /// Both formats need the feature `pkcs12`.
    #[must_use]
    pub fn password(mut self, password: impl Into<Secret>) -> Self {
        self.password = Some(password.into());
        self.last = Arc::default();
        self
    }

    /// Sets the signing algorithm, like [`Certificate::signing_algorithm`].
    #[must_use]
    pub fn signing_algorithm(mut self, algorithm: SigningAlgorithm) -> Self {
        self.options.algorithm = Some(algorithm);
        self
    }

    /// Sends the certificate and its chain in each assertion, like [`Certificate::send_x5c`].
    #[doc(alias = "sendX5C")]
    #[must_use]
    pub fn send_x5c(mut self) -> Self {
        self.options.x5c = true;
        self
    }

    /// Sets the key id (`kid`) of each assertion, like [`Certificate::key_id`].
    #[must_use]
    pub fn key_id(mut self, key_id: impl Into<String>) -> Self {
        self.options.key_id = Some(key_id.into());
        self
    }

    /// Reads the certificate file and the private key file. Blocks the thread.
    ///
    /// # Errors
    ///
    /// [`Error::Credential`] if a file cannot be read. Otherwise the errors of the constructors of
    /// [`Certificate`]. The message contains the path.
    pub fn read(&self) -> Result<Certificate, Error> {
        let content = read(&self.path, "certificate file")?;
        let private_key = match &self.private_key {
            Some(path) => Some(read(path, "private key file")?),
            None => None,
        };
        let mut digest = Sha256::new_with_prefix(content.len().to_le_bytes());
        digest.update(&content);
        digest.update(private_key.as_deref().map_or(&[][..], Vec::as_slice));
        let digest: [u8; 32] = digest.finalize().into();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let certificate = match last.as_ref().filter(|parsed| parsed.digest == digest) {
            Some(parsed) => parsed.certificate.clone(),
            None => {
                let certificate = self.parse(&content, private_key.as_deref())?;
                *last = Some(ParsedFile {
                    digest,
                    certificate: certificate.clone(),
                });
                certificate
            }
        };
        Ok(self.options.apply(certificate))
    }

    fn parse(&self, content: &[u8], private_key: Option<&Vec<u8>>) -> Result<Certificate, Error> {
        let password = self.password.as_ref();
        match private_key {
            Some(key) => Certificate::from_file_pair(content, key, password),
            None => Certificate::from_file(content, password),
        }
        .map_err(|error| error.about(&self.describe()))
    }
}

impl CredentialSource<Certificate> for CertificateFile {
    fn credential(&self) -> CredentialFuture<'_, Certificate> {
        let file = self.clone();
        Box::pin(async move { Ok(tokio::task::spawn_blocking(move || file.read()).await??) })
    }

    fn describe(&self) -> String {
        named("certificate file", &self.path)
    }
}

/// A file with a client secret that the client reads again at every token request.
///
/// White space around the secret is removed, such as the newline at the end of the file.
///
/// ```
/// use confidential_client::ConfidentialClient;
/// use confidential_client::credential::SecretFile;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let client = ConfidentialClient::builder("11111111-2222-3333-4444-555555555555")
///     .tenant("contoso.onmicrosoft.com")
///     .client_secret_source(SecretFile::new("/var/run/secrets/daemon/client-secret"))
///     .build()?; // does not read it
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct SecretFile {
    path: PathBuf,
}

impl SecretFile {
    /// Creates a source for the file at `path`. The file need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Reads the secret. Blocks the thread.
    ///
    /// # Errors
    ///
    /// [`Error::Credential`] with the path if the file cannot be read, is empty or is not UTF-8.
    pub fn read(&self) -> Result<Secret, Error> {
        read_text(&self.path, "secret file")
    }
}

impl CredentialSource<Secret> for SecretFile {
    fn credential(&self) -> CredentialFuture<'_, Secret> {
        let file = self.clone();
        Box::pin(async move { Ok(tokio::task::spawn_blocking(move || file.read()).await??) })
    }

    fn describe(&self) -> String {
        named("secret file", &self.path)
    }
}

/// Reads a text file and removes white space around the text.
fn read_text(path: &Path, what: &str) -> Result<Secret, Error> {
    let content = read(path, what)?;
    let name = named(what, path);
    match std::str::from_utf8(&content).map(str::trim) {
        Ok("") => Err(Error::credential(format!("the {name} is empty"))),
        Ok(text) => Ok(Secret::from(text)),
        Err(_) => Err(Error::credential(format!(
            "the {name} is not UTF-8; did PowerShell write the file as UTF-16?"
        ))),
    }
}

pub(crate) fn read(path: &Path, what: &str) -> Result<Zeroizing<Vec<u8>>, Error> {
    // Opening a pipe could block forever, so the file type is checked first.
    let metadata = std::fs::metadata(path).ok();
    if metadata
        .as_ref()
        .is_some_and(|metadata| !metadata.is_file())
    {
        return Err(Error::credential(format!(
            "the {} is not a regular file",
            named(what, path)
        )));
    }
    // A vector that grows leaves unwiped copies, so the capacity covers the whole file.
    let length = metadata.map_or(0, |metadata| metadata.len().min(LARGEST));
    let mut content = Zeroizing::new(Vec::with_capacity(length as usize + 64));
    let read = File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut content));
    match read {
        Ok(length) if length as u64 > LARGEST => Err(Error::credential(format!(
            "the {} has more than {LARGEST} bytes, so it is not a credential; check the path",
            named(what, path)
        ))),
        Ok(_) => Ok(content),
        Err(source) => Err(Error::Credential(
            Failure::new(format!("the {} cannot be read", named(what, path)))
                .source(Box::new(source))
                .into(),
        )),
    }
}

pub(super) fn named(what: &str, path: &Path) -> String {
    format!("{what} {}", path.display())
}

/// Largest accepted file, in bytes.
const LARGEST: u64 = 1_000_000;
