//! Keys and certificates in Azure Key Vault.

use crate::error::Error;

mod certificate;
mod explain;
mod lookup;
mod signer;
mod versions;

pub use certificate::KeyVaultCertificate;
pub use signer::KeyVaultSigner;

use std::time::Duration;

/// Checks a name or a version before it becomes a part of a URL's path.
fn check_path_segment(what: &str, text: &str) -> Result<(), Error> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if !text.is_empty() && text.len() <= LONGEST_NAME && text.bytes().all(is_allowed) {
        return Ok(());
    }
    let advice = match text.contains("://") {
        true => "; pass the name alone, and not the identifier of the key or the certificate",
        false => "",
    };
    // A longer text may come from a broken response.
    let shown: String = text.chars().take(2 * LONGEST_NAME).collect();
    Err(Error::config(format!(
        "{what} is {shown:?}, and Azure Key Vault allows 1 to {LONGEST_NAME} letters, digits and hyphens{advice}"
    )))
}

/// The longest name of a key, a secret or a certificate.
const LONGEST_NAME: usize = 127;
/// The limit of a signature or a lookup. The limit ends before the client's limit of ten seconds
/// for signers and sources, so that the error names the vault.
const LIMIT: Duration = Duration::from_secs(9);
