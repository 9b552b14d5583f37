use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::assertion_provider::{AssertionContext, ClientAssertionFuture, ClientAssertionProvider};
use super::source::{CredentialFuture, CredentialSource};
use crate::certificate::Certificate;
use crate::crypto::SigningAlgorithm;
use crate::error::{Error, Failure};
use crate::secret::Secret;

/// A certificate by the path of its file, read again at every token request, so that a file that
/// was replaced (by writing beside it and renaming, or by Kubernetes' swap of a symbolic link) is
/// taken up without a restart.
///
/// The file is PEM with certificate and private key, or, with the feature `pkcs12`, PKCS#12; what
/// it is shows in its content. It is parsed when that has changed. While it is half written or
/// broken, the last good certificate is used: see [`CredentialSource`].
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
/// file.read()?; // so that a file that cannot be used is found at the start
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
    algorithm: Option<SigningAlgorithm>,
    x5c: bool,
    last: Arc<Mutex<Option<Parsed>>>,
}

/// A certificate and the digest of the content that it was parsed from.
#[derive(Debug)]
struct Parsed {
    from: [u8; 32],
    certificate: Certificate,
}

impl CertificateFile {
    /// A file by its path, which need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            private_key: None,
            password: None,
            algorithm: None,
            x5c: false,
            last: Arc::default(),
        }
    }

    /// The private key is in a PEM file of its own, as in `tls.key` beside `tls.crt`.
    #[must_use]
    pub fn private_key(mut self, path: impl Into<PathBuf>) -> Self {
        self.private_key = Some(path.into());
        self.last = Arc::default();
        self
    }

    /// The password of the PKCS#12 file or of the encrypted key. Reading either needs the feature
    /// `pkcs12`.
    #[must_use]
    pub fn password(mut self, password: impl Into<Secret>) -> Self {
        self.password = Some(password.into());
        self.last = Arc::default();
        self
    }

    /// Signs with this algorithm: see [`Certificate::signing_algorithm`].
    #[must_use]
    pub fn signing_algorithm(mut self, algorithm: SigningAlgorithm) -> Self {
        self.algorithm = Some(algorithm);
        self
    }

    /// Sends the certificate along: see [`Certificate::send_x5c`].
    #[must_use]
    pub fn send_x5c(mut self) -> Self {
        self.x5c = true;
        self
    }

    /// Reads the file, or both, now. Blocks the thread for it.
    ///
    /// # Errors
    ///
    /// [`Error::Credential`] or [`Error::Config`], naming the file: it cannot be read, or, as the
    /// constructors of [`Certificate`] say, not be used.
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
        let certificate = match last.as_ref().filter(|parsed| parsed.from == digest) {
            Some(parsed) => parsed.certificate.clone(),
            None => {
                let certificate = self.parse(&content, private_key.as_deref())?;
                *last = Some(Parsed {
                    from: digest,
                    certificate: certificate.clone(),
                });
                certificate
            }
        };
        Ok(self.configured(certificate))
    }

    fn parse(&self, content: &[u8], private_key: Option<&Vec<u8>>) -> Result<Certificate, Error> {
        let password = self.password.as_ref();
        match private_key {
            Some(key) => Certificate::from_file_pair(content, key, password),
            None => Certificate::from_file(content, password),
        }
        .map_err(|error| error.about(&self.describe()))
    }

    fn configured(&self, mut certificate: Certificate) -> Certificate {
        if let Some(algorithm) = self.algorithm {
            certificate = certificate.signing_algorithm(algorithm);
        }
        if self.x5c {
            certificate = certificate.send_x5c();
        }
        certificate
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

/// A client secret by the path of its file, read again at every token request. White space around
/// it, such as the newline at the file's end, is no part of it.
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
    /// A file by its path, which need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Reads the file now. Blocks the thread for it.
    ///
    /// # Errors
    ///
    /// [`Error::Credential`], naming the file: it cannot be read, is empty, or not UTF-8.
    pub fn read(&self) -> Result<Secret, Error> {
        text(&self.path, "secret file")
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

/// A file that holds an assertion and is kept fresh by somebody else, as Kubernetes does for
/// workload identity. It is read anew for every token request.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use confidential_client::ConfidentialClient;
/// use confidential_client::credential::FederatedTokenFile;
///
/// let client = ConfidentialClient::builder("11111111-2222-3333-4444-555555555555")
///     .tenant("contoso.onmicrosoft.com")
///     .client_assertion(FederatedTokenFile::new("/var/run/secrets/azure/tokens/azure-identity-token"))
///     .build()?; // does not read the file yet
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct FederatedTokenFile {
    path: PathBuf,
}

impl FederatedTokenFile {
    /// A file by its path, which need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }
}

impl ClientAssertionProvider for FederatedTokenFile {
    fn client_assertion(&self, _: AssertionContext) -> ClientAssertionFuture<'_> {
        let path = self.path.clone();
        Box::pin(async move {
            let read = tokio::task::spawn_blocking(move || text(&path, "federated token file"));
            Ok(read.await??.expose().to_owned())
        })
    }

    fn describe(&self) -> String {
        named("federated token file", &self.path)
    }
}

/// The text of a file, without the newline that it usually ends in.
fn text(path: &Path, what: &str) -> Result<Secret, Error> {
    let content = read(path, what)?;
    let name = named(what, path);
    match std::str::from_utf8(&content).map(str::trim) {
        Ok("") => Err(Error::credential(format!("the {name} is empty"))),
        Ok(text) => Ok(Secret::from(text)),
        Err(_) => Err(Error::credential(format!(
            "the {name} is not in UTF-8; was it written by PowerShell, as UTF-16?"
        ))),
    }
}

fn read(path: &Path, what: &str) -> Result<Zeroizing<Vec<u8>>, Error> {
    // Before it is opened: a pipe would keep whoever opens it waiting.
    let metadata = std::fs::metadata(path).ok();
    if metadata
        .as_ref()
        .is_some_and(|metadata| !metadata.is_file())
    {
        return Err(Error::credential(format!(
            "the {} is no regular file",
            named(what, path)
        )));
    }
    // With room for all of it: what a vector grows out of is not wiped.
    let length = metadata.map_or(0, |metadata| metadata.len().min(LARGEST));
    let mut content = Zeroizing::new(Vec::with_capacity(length as usize + 64));
    let read = File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut content));
    match read {
        Ok(length) if length as u64 > LARGEST => Err(Error::credential(format!(
            "the {} has more than {LARGEST} bytes, so it is another file",
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

fn named(what: &str, path: &Path) -> String {
    format!("{what} {}", path.display())
}

/// No credential is as large, in bytes.
const LARGEST: u64 = 1_000_000;
