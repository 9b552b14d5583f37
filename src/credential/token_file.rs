use std::path::PathBuf;

use zeroize::Zeroizing;

use super::assertion_provider::{AssertionContext, ClientAssertionFuture, ClientAssertionProvider};
use super::file::{named, read};
use super::supplied_assertion::read_assertion;
use crate::error::Error;
use crate::secret::Secret;

/// A file with a client assertion that the platform replaces before the assertion expires.
///
/// Kubernetes writes such a file for workload identity. The client reads the file again at every
/// token request.
///
/// The file has the token (a JWT) and, if the platform or a script writes it so, white space, a
/// byte-order mark, quotation marks, `Bearer ` or a variable's name around the token. The file can
/// also be JSON with the token as `value` (GitHub Actions), `token`, `access_token`, `id_token` or
/// `oidcToken` (Azure Pipelines), or a `TokenRequest` of Kubernetes. Any other content is an error
/// that says what the file has, and is not sent.
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
#[doc(alias = "WorkloadIdentityCredential")]
#[doc(alias = "AZURE_FEDERATED_TOKEN_FILE")]
#[derive(Clone, Debug)]
pub struct FederatedTokenFile {
    path: PathBuf,
}

impl FederatedTokenFile {
    /// Creates a source for the file at `path`. The file need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Reads the token, to find an unusable file at the start. Blocks the thread.
    ///
    /// An expired token is not an error here, because the platform may be about to replace the
    /// token.
    ///
    /// # Errors
    ///
    /// [`Error::Credential`] with the path if the file cannot be read or has no token.
    pub fn read(&self) -> Result<Secret, Error> {
        read_assertion(&self.read_text()?, &self.describe())
    }

    /// Reads the file as UTF-8, or as UTF-16 with a byte-order mark as PowerShell writes it.
    fn read_text(&self) -> Result<Zeroizing<String>, Error> {
        let content = read(&self.path, WHAT)?;
        let from_utf16 = |unit: fn([u8; 2]) -> u16| {
            let units = content.chunks_exact(2);
            let is_whole = units.remainder().is_empty();
            let units = units.filter_map(|pair| Some(unit(pair.try_into().ok()?)));
            let text: Result<String, _> = char::decode_utf16(units).collect();
            text.ok().filter(|_| is_whole)
        };
        let text = match content.first_chunk() {
            Some([0xff, 0xfe]) => from_utf16(u16::from_le_bytes),
            Some([0xfe, 0xff]) => from_utf16(u16::from_be_bytes),
            _ => std::str::from_utf8(&content).ok().map(ToOwned::to_owned),
        };
        text.map(Zeroizing::new).ok_or_else(|| {
            Error::credential(format!(
                "the {} is not text in UTF-8; write the token as plain text",
                self.describe()
            ))
        })
    }
}

impl ClientAssertionProvider for FederatedTokenFile {
    fn client_assertion(&self, _: AssertionContext) -> ClientAssertionFuture<'_> {
        let file = self.clone();
        Box::pin(async move {
            let text = tokio::task::spawn_blocking(move || file.read_text()).await??;
            Ok(text.as_str().to_owned())
        })
    }

    fn describe(&self) -> String {
        named(WHAT, &self.path)
    }
}

const WHAT: &str = "federated token file";
