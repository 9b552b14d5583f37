use std::path::PathBuf;

use crate::credential::read_file;
use crate::error::Error;

use super::settings::{CA_DATA, CA_FILE};

/// The place of the CA certificates that the proxy's certificate is checked against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RootsSource {
    /// The operating system's roots.
    System,
    /// PEM in a variable.
    Text(String),
    /// A PEM file that may be replaced.
    File(PathBuf),
}

/// CA certificates as PEM. `None` stands for the operating system's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Roots(pub(super) Option<Vec<u8>>);

impl RootsSource {
    /// Reads the certificates. Blocks the thread.
    ///
    /// # Errors
    ///
    /// [`Error::Credential`] for a file that cannot be read, and [`Error::Config`] for text without
    /// a certificate. Without a certificate, no server would be trusted.
    pub(super) fn load(&self) -> Result<Roots, Error> {
        let (pem, name) = match self {
            Self::System => return Ok(Roots(None)),
            Self::Text(text) => (text.clone().into_bytes(), format!("the variable {CA_DATA}")),
            Self::File(path) => {
                let content = read_file(path, "CA certificate file")?.to_vec();
                (content, format!("the file {} of {CA_FILE}", path.display()))
            }
        };
        let text = String::from_utf8_lossy(&pem);
        match text.contains("-----BEGIN CERTIFICATE-----") {
            true => Ok(Roots(Some(pem))),
            false if text.trim().is_empty() => Err(Error::config(format!(
                "{name} is empty; write the CA certificate of the identity binding's proxy as PEM"
            ))),
            false => Err(Error::config(format!(
                "{name} has no CERTIFICATE in PEM; write the CA certificate of the identity binding's proxy as PEM"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_without_a_certificate_is_named() {
        for (text, reason) in [
            (" ", "the variable AZURE_KUBERNETES_CA_DATA is empty"),
            (
                "hunter2",
                "the variable AZURE_KUBERNETES_CA_DATA has no CERTIFICATE",
            ),
            ("-----BEGIN PRIVATE KEY-----", "has no CERTIFICATE"),
        ] {
            let error = RootsSource::Text(text.to_owned())
                .load()
                .unwrap_err()
                .to_string();
            assert!(
                error.contains(reason) && !error.contains("hunter2"),
                "{error}"
            );
        }
        let error = RootsSource::File("/nowhere/ca.pem".into())
            .load()
            .unwrap_err();
        assert!(
            error
                .to_string()
                .contains("CA certificate file /nowhere/ca.pem"),
            "{error}"
        );
        assert_eq!(RootsSource::System.load().unwrap(), Roots(None));
    }
}
