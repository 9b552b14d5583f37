use aws_lc_rs::constant_time::verify_slices_are_equal;
use uuid::Uuid;

use crate::certificate::Certificate;
use crate::secret::Secret;

/// An app registration, as [`LocalAuthority::register`](super::LocalAuthority::register) takes it:
/// the credentials it accepts and the app roles it was granted.
#[derive(Clone, Debug)]
pub struct Application {
    client_id: String,
    /// The service principal's id in its tenant.
    object_id: Uuid,
    secrets: Vec<Secret>,
    certificates: Vec<Certificate>,
    roles: Vec<(String, String)>,
}

impl Application {
    /// A registration without credentials or roles.
    pub fn new(client_id: impl Into<String>) -> Self {
        Self {
            client_id: client_id.into(),
            object_id: Uuid::new_v4(),
            secrets: Vec::new(),
            certificates: Vec::new(),
            roles: Vec::new(),
        }
    }

    /// Accepts this secret, beside those given before.
    pub fn secret(mut self, secret: impl Into<Secret>) -> Self {
        self.secrets.push(secret.into());
        self
    }

    /// Accepts assertions signed with this certificate's key, beside those given before. Its
    /// private key is not looked at.
    pub fn certificate(mut self, certificate: &Certificate) -> Self {
        self.certificates.push(certificate.clone());
        self
    }

    /// Grants an app role of a resource, named by its application ID URI: tokens for the resource
    /// carry it in `roles`.
    pub fn role(mut self, resource: impl Into<String>, role: impl Into<String>) -> Self {
        self.roles.push((resource.into(), role.into()));
        self
    }

    pub(super) fn client_id(&self) -> &str {
        &self.client_id
    }

    pub(super) fn object_id(&self) -> Uuid {
        self.object_id
    }

    /// Compares in constant time with every secret.
    pub(super) fn accepts_secret(&self, secret: &str) -> bool {
        self.secrets.iter().fold(false, |found, known| {
            let same = verify_slices_are_equal(known.expose().as_bytes(), secret.as_bytes());
            found | same.is_ok()
        })
    }

    pub(super) fn certificate_with(&self, thumbprint_s256: &str) -> Option<&Certificate> {
        // Entra also takes base64url with padding.
        let thumbprint = thumbprint_s256.trim_end_matches('=');
        self.certificates
            .iter()
            .find(|certificate| certificate.thumbprint_s256() == thumbprint)
    }

    pub(super) fn roles_of(&self, resource: &str) -> Vec<&str> {
        self.roles
            .iter()
            .filter(|(of, _)| of.trim_end_matches('/') == resource.trim_end_matches('/'))
            .map(|(_, role)| role.as_str())
            .collect()
    }
}
