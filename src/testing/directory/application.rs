use std::time::Duration;

use uuid::Uuid;

use crate::certificate::Certificate;
use crate::secret::Secret;

mod agent;
mod credentials;
mod delegation;

/// An app registration, for [`LocalAuthority::register`].
///
/// A registration holds the accepted credentials, the granted app roles, and the settings for
/// users: redirect URIs, declared permissions and published scopes.
///
/// [`LocalAuthority::register`]: crate::testing::LocalAuthority::register
#[derive(Clone, Debug)]
pub struct Application {
    client_id: String,
    /// Id of the service principal in the tenant.
    object_id: Uuid,
    secrets: Vec<Secret>,
    expired_secrets: Vec<Secret>,
    certificates: Vec<Certificate>,
    tls_certificates: Vec<TlsRegistration>,
    federated_credentials: Vec<FederatedCredential>,
    roles: Vec<(String, String)>,
    redirect_uris: Vec<String>,
    post_logout_redirect_uris: Vec<String>,
    /// Pairs of a resource and a scope.
    declared: Vec<(String, String)>,
    /// Pairs of a resource and its scopes.
    published: Vec<(String, Vec<String>)>,
    access_token_version: Option<u8>,
    pub(crate) requires_proof: bool,
    has_opaque_tokens: bool,
    /// Pairs of a resource and the scopes that the application may exchange a token for.
    exchanges: Vec<(String, Vec<String>)>,
    /// The client id of the blueprint, for an agent identity.
    blueprint: Option<String>,
    pub(crate) token_settings: TokenSettings,
}

/// A client certificate of TLS connections that authenticates an application.
#[derive(Clone, Debug)]
pub(crate) enum TlsRegistration {
    /// A subject of certificates that a CA issues.
    Subject { ca_pem: String, subject: TlsSubject },
    /// The SHA-256 thumbprint of one certificate.
    Certificate([u8; 32]),
    /// The SHA-256 thumbprint of one certificate, for Entra's preview alone.
    EntraPreview([u8; 32]),
}

/// A subject of certificates.
#[derive(Clone, Debug)]
pub(crate) enum TlsSubject {
    DistinguishedName(String),
    DnsName(String),
}

/// A trusted issuer, subject and audience of tokens that replace an application's assertions.
#[derive(Clone, Debug)]
pub(crate) struct FederatedCredential {
    pub(crate) issuer: String,
    pub(crate) subject: String,
    pub(crate) audience: String,
}

/// Settings of the tokens that are issued to an application.
#[derive(Clone, Debug)]
pub(crate) struct TokenSettings {
    lifetime: Option<Duration>,
    pub(crate) refresh_in: Option<Duration>,
    pub(crate) numeric_strings: bool,
}

impl TokenSettings {
    pub(crate) fn lifetime(&self, capabilities: &[String]) -> Duration {
        let revocable = capabilities.iter().any(|capability| capability == "cp1");
        self.lifetime.unwrap_or(match revocable {
            true => REVOCABLE_LIFETIME,
            false => LIFETIME,
        })
    }
}

const LIFETIME: Duration = Duration::from_secs(3599);
const REVOCABLE_LIFETIME: Duration = Duration::from_secs(86_399);
