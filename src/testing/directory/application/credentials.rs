use std::borrow::Borrow;
use std::time::{Duration, SystemTime};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::Header;
use uuid::Uuid;

use super::{Application, FederatedCredential, TlsRegistration, TlsSubject, TokenSettings};
use crate::certificate::Certificate;
use crate::secret::Secret;
use crate::testing::directory::resource::is_same_resource;
use crate::testing::http::client_certificate::ClientCertificate;

/// Credentials, app roles and token settings.
impl Application {
    /// Creates a registration without credentials or roles.
    pub fn new(client_id: impl Into<String>) -> Self {
        Self {
            client_id: client_id.into(),
            object_id: Uuid::new_v4(),
            secrets: Vec::new(),
            expired_secrets: Vec::new(),
            certificates: Vec::new(),
            tls_certificates: Vec::new(),
            federated_credentials: Vec::new(),
            roles: Vec::new(),
            redirect_uris: Vec::new(),
            post_logout_redirect_uris: Vec::new(),
            declared: Vec::new(),
            published: Vec::new(),
            access_token_version: None,
            requires_proof: false,
            has_opaque_tokens: false,
            exchanges: Vec::new(),
            blueprint: None,
            token_settings: TokenSettings {
                lifetime: None,
                refresh_in: None,
                numeric_strings: false,
            },
        }
    }

    /// Accepts this secret. Call it again to accept another secret too.
    pub fn secret(mut self, secret: impl Into<Secret>) -> Self {
        self.secrets.push(secret.into());
        self
    }

    /// Treats this secret as expired. The secret is rejected with 7000222 instead of 7000215.
    pub fn expired_secret(mut self, secret: impl Into<Secret>) -> Self {
        self.expired_secrets.push(secret.into());
        self
    }

    /// Accepts assertions that are signed with this certificate's key.
    ///
    /// Call it again to accept another certificate too. The certificate's private key is not used.
    pub fn certificate(mut self, certificate: impl Borrow<Certificate>) -> Self {
        self.certificates.push(certificate.borrow().clone());
        self
    }

    /// Accepts connections with a client certificate that a CA issued for the distinguished name
    /// ([RFC 8705 section 2.1]).
    ///
    /// `ca_pem` is the certificate of the CA. `subject` is the name as [`Certificate::subject`]
    /// returns it, such as `CN=daemon`. The `LocalAuthority` needs
    /// [`mutual_tls`](crate::testing::LocalAuthorityBuilder::mutual_tls).
    ///
    /// [RFC 8705 section 2.1]: https://www.rfc-editor.org/rfc/rfc8705#section-2.1
    pub fn tls_client_auth(self, ca_pem: impl Into<String>, subject: impl Into<String>) -> Self {
        let subject = TlsSubject::DistinguishedName(subject.into());
        self.with_tls_subject(ca_pem.into(), subject)
    }

    /// Accepts connections with a client certificate that a CA issued for the DNS name, which is a
    /// subject alternative name ([RFC 8705 section 2.1]).
    ///
    /// [RFC 8705 section 2.1]: https://www.rfc-editor.org/rfc/rfc8705#section-2.1
    pub fn tls_client_auth_san_dns(
        self,
        ca_pem: impl Into<String>,
        dns_name: impl Into<String>,
    ) -> Self {
        let subject = TlsSubject::DnsName(dns_name.into());
        self.with_tls_subject(ca_pem.into(), subject)
    }

    fn with_tls_subject(mut self, ca_pem: String, subject: TlsSubject) -> Self {
        self.tls_certificates
            .push(TlsRegistration::Subject { ca_pem, subject });
        self
    }

    /// Accepts connections with this client certificate, whoever issued it ([RFC 8705 section
    /// 2.2]).
    ///
    /// Call it again to accept another certificate too. The certificate's private key is not used.
    ///
    /// [RFC 8705 section 2.2]: https://www.rfc-editor.org/rfc/rfc8705#section-2.2
    pub fn self_signed_tls_client_auth(mut self, certificate: impl Borrow<Certificate>) -> Self {
        let thumbprint = *certificate.borrow().sha256();
        self.tls_certificates
            .push(TlsRegistration::Certificate(thumbprint));
        self
    }

    /// Enables Entra's preview of certificate-bound tokens (`mtls_pop`) for the application, with
    /// this certificate.
    ///
    /// An application that is not enabled gets the error 51000. The certificate's private key is
    /// not used.
    pub fn entra_mtls_pop_preview(mut self, certificate: impl Borrow<Certificate>) -> Self {
        let thumbprint = *certificate.borrow().sha256();
        self.tls_certificates
            .push(TlsRegistration::EntraPreview(thumbprint));
        self
    }

    /// Accepts tokens of this issuer, subject and audience in the place of a secret or a
    /// certificate.
    ///
    /// The tokens must be issued by the same [`LocalAuthority`], in any of its tenants:
    ///
    /// - `issuer` is the [`issuer`](crate::testing::LocalAuthority::issuer) of that tenant (`iss`).
    /// - `subject` is the [`subject`](Self::subject) of the application with the token (`sub`).
    /// - `audience` is the resource of the token (`aud`). Entra expects
    ///   `api://AzureADTokenExchange`.
    ///
    /// [`LocalAuthority`]: crate::testing::LocalAuthority
    ///
    /// ```
    /// use confidential_client::ConfidentialClient;
    /// use confidential_client::testing::{Application, LocalAuthority};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let local = LocalAuthority::start().await?;
    /// let platform = Application::new("platform").secret("the secret's value");
    /// let subject = platform.subject();
    /// local.register("platform.example", platform);
    /// let issuer = local.issuer("platform.example").expect("just registered");
    /// let daemon = Application::new("daemon");
    /// local.register(
    ///     "contoso.com",
    ///     daemon.federated_credential(issuer, subject, "api://AzureADTokenExchange"),
    /// );
    ///
    /// let platform = ConfidentialClient::builder("platform")
    ///     .authority(local.authority("platform.example"))
    ///     .client_secret("the secret's value")
    ///     .build()?;
    /// let daemon = ConfidentialClient::builder("daemon")
    ///     .authority(local.authority("contoso.com"))
    ///     .client_assertion(platform.token_provider("api://AzureADTokenExchange/.default")?)
    ///     .build()?;
    /// daemon.acquire_token_for_client("https://graph.microsoft.com/.default").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn federated_credential(
        mut self,
        issuer: impl Into<String>,
        subject: impl Into<String>,
        audience: impl Into<String>,
    ) -> Self {
        self.federated_credentials.push(FederatedCredential {
            issuer: issuer.into(),
            subject: subject.into(),
            audience: audience.into(),
        });
        self
    }

    /// Grants an app role of a resource. `resource` is an application ID URI.
    ///
    /// Tokens for the resource contain the role in `roles`.
    pub fn role(mut self, resource: impl Into<String>, role: impl Into<String>) -> Self {
        self.roles.push((resource.into(), role.into()));
        self
    }

    /// Sets the lifetime of the application's tokens (whole seconds).
    ///
    /// The default is Entra's: 3,599 s, and 86,399 s for a client that declares `cp1`.
    pub fn token_lifetime(mut self, lifetime: Duration) -> Self {
        self.token_settings.lifetime = Some(lifetime);
        self
    }

    /// Sends `refresh_in` with the application's tokens: the time until a client should refresh a
    /// token (whole seconds).
    pub fn refresh_in(mut self, refresh_in: Duration) -> Self {
        self.token_settings.refresh_in = Some(refresh_in);
        self
    }

    /// Sends the lifetimes of the application's tokens as strings, such as `"expires_in":"3599"`.
    ///
    /// Other versions of Entra's token endpoint send strings.
    pub fn numeric_strings(mut self) -> Self {
        self.token_settings.numeric_strings = true;
        self
    }

    /// Rejects token requests without a proof (DPoP), so that every token is bound to a proof key
    /// ([RFC 9449 section 5.2]).
    ///
    /// Without this setting, a token is bound if the token request has a proof. The client uses
    /// [`Authority::oidc`](crate::Authority::oidc) with the
    /// [`issuer`](crate::testing::LocalAuthority::issuer) of the tenant, since Microsoft Entra ID
    /// has no such tokens.
    ///
    /// ```
    /// use confidential_client::credential::DpopKey;
    /// use confidential_client::testing::{Application, LocalAuthority};
    /// use confidential_client::{Authority, ConfidentialClient, TokenScheme};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let local = LocalAuthority::start().await?;
    /// let daemon = Application::new("daemon").secret("the secret's value");
    /// local.register("contoso.com", daemon.dpop_bound_access_tokens());
    ///
    /// let issuer = local.issuer("contoso.com").expect("just registered");
    /// let client = ConfidentialClient::builder("daemon")
    ///     .authority(Authority::oidc(issuer))
    ///     .client_secret("the secret's value")
    ///     .dpop(DpopKey::generate()?)
    ///     .build()?;
    /// let token = client.acquire_token_for_client("api://orders/.default").await?;
    /// assert_eq!(token.scheme(), TokenScheme::Dpop);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// [RFC 9449 section 5.2]: https://www.rfc-editor.org/rfc/rfc9449#section-5.2
    pub fn dpop_bound_access_tokens(mut self) -> Self {
        self.requires_proof = true;
        self
    }

    /// Returns the `sub` and `oid` of the application's tokens.
    ///
    /// This is the object id of the service principal. Each registration has a new one.
    pub fn subject(&self) -> String {
        self.object_id.to_string()
    }

    /// Returns the service principal of the application in another tenant.
    pub(crate) fn in_another_tenant(&self) -> Self {
        Self {
            object_id: Uuid::new_v4(),
            ..self.clone()
        }
    }

    pub(crate) fn client_id(&self) -> &str {
        &self.client_id
    }

    /// Returns whether a client certificate of TLS authenticates the application.
    pub(crate) fn uses_mutual_tls(&self) -> bool {
        let is_preview =
            |registered: &TlsRegistration| matches!(registered, TlsRegistration::EntraPreview(_));
        !self.tls_certificates.iter().all(is_preview)
    }

    /// Returns whether Entra's preview is enabled.
    pub(crate) fn is_enabled_for_mtls_pop(&self) -> bool {
        let mut registered = self.tls_certificates.iter();
        registered.any(|registered| matches!(registered, TlsRegistration::EntraPreview(_)))
    }

    /// Returns whether Entra's preview accepts the certificate of a connection.
    pub(crate) fn accepts_for_mtls_pop(&self, certificate: &ClientCertificate) -> bool {
        self.tls_certificates.iter().any(|registered| {
            matches!(registered, TlsRegistration::EntraPreview(thumbprint) if *thumbprint == certificate.sha256())
        })
    }

    /// Returns whether the certificate of a connection authenticates the application.
    pub(crate) fn accepts_connection(
        &self,
        certificate: &ClientCertificate,
        now: SystemTime,
    ) -> bool {
        self.tls_certificates
            .iter()
            .any(|registered| match registered {
                TlsRegistration::EntraPreview(_) => false,
                TlsRegistration::Certificate(thumbprint) => certificate.sha256() == *thumbprint,
                TlsRegistration::Subject { ca_pem, subject } => {
                    let is_named = match subject {
                        TlsSubject::DistinguishedName(name) => {
                            certificate.subject().as_ref() == Some(name)
                        }
                        TlsSubject::DnsName(name) => certificate.has_dns_name(name),
                    };
                    is_named && certificate.is_issued_by(ca_pem, now)
                }
            })
    }

    pub(crate) fn accepts_secret(&self, secret: &str) -> bool {
        is_among(secret, &self.secrets)
    }

    pub(crate) fn has_expired_secret(&self, secret: &str) -> bool {
        is_among(secret, &self.expired_secrets)
    }

    /// Returns the resources with a granted app role.
    pub(crate) fn resources(&self) -> impl Iterator<Item = &str> {
        self.roles.iter().map(|(resource, _)| resource.as_str())
    }

    /// Returns the certificate with a thumbprint of the assertion's header.
    pub(crate) fn certificate_with(&self, header: &Header) -> Option<&Certificate> {
        // Entra also accepts padding.
        let decode = |thumbprint: &Option<String>| {
            let thumbprint = thumbprint.as_deref()?.trim_end_matches('=');
            BASE64_URL_SAFE_NO_PAD.decode(thumbprint).ok()
        };
        let (sha256, sha1) = (decode(&header.x5t_s256), decode(&header.x5t));
        self.certificates.iter().find(|certificate| match &sha256 {
            Some(sha256) => certificate.sha256().as_slice() == sha256.as_slice(),
            None => sha1.as_deref() == Some(certificate.sha1()),
        })
    }

    pub(crate) fn federated_credentials(&self) -> &[FederatedCredential] {
        &self.federated_credentials
    }

    pub(crate) fn roles_of(&self, resource: &str) -> Vec<&str> {
        self.roles
            .iter()
            .filter(|(known, _)| is_same_resource(known, resource))
            .map(|(_, role)| role.as_str())
            .collect()
    }
}

/// Compares with every known secret, in constant time.
fn is_among(secret: &str, secrets: &[Secret]) -> bool {
    secrets.iter().fold(false, |found, known| {
        let same = verify_slices_are_equal(known.expose().as_bytes(), secret.as_bytes());
        found | same.is_ok()
    })
}
