use std::borrow::Borrow;
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::Header;
use uuid::Uuid;

use crate::certificate::Certificate;
use crate::secret::Secret;

mod delegation;

/// An app registration, as [`LocalAuthority::register`](crate::testing::LocalAuthority::register) takes it:
/// the credentials it accepts, the app roles it was granted, and what it is to users.
#[derive(Clone, Debug)]
pub struct Application {
    client_id: String,
    /// The service principal's id in its tenant.
    object_id: Uuid,
    secrets: Vec<Secret>,
    expired_secrets: Vec<Secret>,
    certificates: Vec<Certificate>,
    federated_credentials: Vec<FederatedCredential>,
    roles: Vec<(String, String)>,
    redirect_uris: Vec<String>,
    /// Resource and scope.
    delegated: Vec<(String, String)>,
    /// Resources and their scopes.
    publishes: Vec<(String, Vec<String>)>,
    access_token_version: Option<u8>,
    pub(crate) tokens: TokenSettings,
}

/// Whose tokens are taken in the place of an application's own assertions.
#[derive(Clone, Debug)]
pub(crate) struct FederatedCredential {
    pub(crate) issuer: String,
    pub(crate) subject: String,
    pub(crate) audience: String,
}

/// How an application's tokens are issued.
#[derive(Clone, Debug)]
pub(crate) struct TokenSettings {
    lifetime: Option<Duration>,
    pub(crate) refresh_in: Option<Duration>,
    pub(crate) numeric_strings: bool,
}

impl Application {
    /// A registration without credentials or roles.
    pub fn new(client_id: impl Into<String>) -> Self {
        Self {
            client_id: client_id.into(),
            object_id: Uuid::new_v4(),
            secrets: Vec::new(),
            expired_secrets: Vec::new(),
            certificates: Vec::new(),
            federated_credentials: Vec::new(),
            roles: Vec::new(),
            redirect_uris: Vec::new(),
            delegated: Vec::new(),
            publishes: Vec::new(),
            access_token_version: None,
            tokens: TokenSettings {
                lifetime: None,
                refresh_in: None,
                numeric_strings: false,
            },
        }
    }

    /// Accepts this secret, beside those given before.
    pub fn secret(mut self, secret: impl Into<Secret>) -> Self {
        self.secrets.push(secret.into());
        self
    }

    /// Knows this secret as one that has expired: it is refused with 7000222 instead of 7000215.
    pub fn expired_secret(mut self, secret: impl Into<Secret>) -> Self {
        self.expired_secrets.push(secret.into());
        self
    }

    /// Accepts assertions signed with this certificate's key, beside those given before. Its
    /// private key is not looked at.
    pub fn certificate(mut self, certificate: impl Borrow<Certificate>) -> Self {
        self.certificates.push(certificate.borrow().clone());
        self
    }

    /// Accepts, in the place of a secret or a certificate, a token that somebody else was issued: by
    /// this [`LocalAuthority`](crate::testing::LocalAuthority), in any of its tenants.
    ///
    /// The token's `iss` is the tenant's [`issuer`](crate::testing::LocalAuthority::issuer), its `sub` the
    /// [`subject`](Self::subject) of the application that it was issued to, its `aud` the resource
    /// that was asked for, `api://AzureADTokenExchange` with Entra.
    ///
    /// ```
    /// use confidential_client::ConfidentialClient;
    /// use confidential_client::testing::{Application, LocalAuthority};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let local = LocalAuthority::start().await?;
    /// let platform = Application::new("platform").secret("s3cret");
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
    ///     .client_secret("s3cret")
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

    /// Grants an app role of a resource, named by its application ID URI: tokens for the resource
    /// carry it in `roles`.
    pub fn role(mut self, resource: impl Into<String>, role: impl Into<String>) -> Self {
        self.roles.push((resource.into(), role.into()));
        self
    }

    /// How long its tokens live (whole seconds). Where nothing is set it is 3,599 s, and 86,399 s for a
    /// client that declares `cp1`, as Entra's do.
    pub fn token_lifetime(mut self, lifetime: Duration) -> Self {
        self.tokens.lifetime = Some(lifetime);
        self
    }

    /// Sends `refresh_in` with its tokens: from when on a client is to renew them (whole seconds).
    pub fn refresh_in(mut self, refresh_in: Duration) -> Self {
        self.tokens.refresh_in = Some(refresh_in);
        self
    }

    /// Sends the times of its tokens as strings, as other versions of the endpoint do:
    /// `"expires_in":"3599"`.
    pub fn numeric_strings(mut self) -> Self {
        self.tokens.numeric_strings = true;
        self
    }

    /// The `sub` and `oid` of its tokens: the object id of its service principal, new for each
    /// registration.
    pub fn subject(&self) -> String {
        self.object_id.to_string()
    }

    pub(crate) fn client_id(&self) -> &str {
        &self.client_id
    }

    pub(crate) fn accepts_secret(&self, secret: &str) -> bool {
        is_among(secret, &self.secrets)
    }

    pub(crate) fn knows_as_expired(&self, secret: &str) -> bool {
        is_among(secret, &self.expired_secrets)
    }

    /// The resources that a role was granted for.
    pub(crate) fn resources(&self) -> impl Iterator<Item = &str> {
        self.roles.iter().map(|(resource, _)| resource.as_str())
    }

    /// The certificate of either thumbprint, as an assertion's header names it.
    pub(crate) fn certificate_with(&self, header: &Header) -> Option<&Certificate> {
        // Entra also takes base64url with padding.
        let decode = |thumbprint: &Option<String>| {
            let thumbprint = thumbprint.as_deref()?.trim_end_matches('=');
            BASE64_URL_SAFE_NO_PAD.decode(thumbprint).ok()
        };
        let (sha256, sha1) = (decode(&header.x5t_s256), decode(&header.x5t));
        self.certificates.iter().find(|certificate| match &sha256 {
            Some(sha256) => certificate.sha256() == sha256,
            None => sha1.as_deref() == Some(certificate.sha1()),
        })
    }

    pub(crate) fn federated_credentials(&self) -> &[FederatedCredential] {
        &self.federated_credentials
    }

    pub(crate) fn roles_of(&self, resource: &str) -> Vec<&str> {
        self.roles
            .iter()
            .filter(|(of, _)| is_same_resource(of, resource))
            .map(|(_, role)| role.as_str())
            .collect()
    }
}

impl TokenSettings {
    pub(crate) fn lifetime(&self, capabilities: &[String]) -> Duration {
        let revocable = capabilities.iter().any(|capability| capability == "cp1");
        self.lifetime.unwrap_or(match revocable {
            true => LIFETIME_OF_REVOCABLE,
            false => LIFETIME,
        })
    }
}

/// A slash at the end makes no other resource: `//.default` is asked for where an application ID
/// URI ends in one.
pub(crate) fn is_same_resource(one: &str, other: &str) -> bool {
    one.trim_end_matches('/') == other.trim_end_matches('/')
}

/// Compares in constant time, with every one.
fn is_among(secret: &str, known: &[Secret]) -> bool {
    known.iter().fold(false, |found, known| {
        let same = verify_slices_are_equal(known.expose().as_bytes(), secret.as_bytes());
        found | same.is_ok()
    })
}

const LIFETIME: Duration = Duration::from_secs(3599);
const LIFETIME_OF_REVOCABLE: Duration = Duration::from_secs(86_399);
