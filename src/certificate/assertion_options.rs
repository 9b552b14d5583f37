use super::Certificate;
use crate::crypto::SigningAlgorithm;

/// The options of the assertions of a certificate that a source has not read yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct AssertionOptions {
    pub(crate) algorithm: Option<SigningAlgorithm>,
    pub(crate) x5c: bool,
    pub(crate) key_id: Option<String>,
}

impl AssertionOptions {
    /// Sets the options of a certificate. What is not set stays as it is.
    pub(crate) fn apply(&self, mut certificate: Certificate) -> Certificate {
        if let Some(algorithm) = self.algorithm {
            certificate = certificate.signing_algorithm(algorithm);
        }
        if self.x5c {
            certificate = certificate.send_x5c();
        }
        if let Some(key_id) = &self.key_id {
            certificate = certificate.key_id(key_id);
        }
        certificate
    }
}
