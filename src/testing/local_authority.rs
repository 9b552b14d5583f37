use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::oneshot;

use super::directory::application::Application;
use super::directory::tenant::Directory;
use super::fault::Fault;
use super::protected_api::ProtectedApi;
use super::provider::{IdentityProvider, lock};
use super::recorded_request::RecordedRequest;
use super::token::signing_key::TokenSigningKey;
use crate::authority::{Authority, Cloud};
use crate::error::Error;

/// An identity provider on loopback that behaves like Microsoft Entra ID, for tests.
///
/// The server runs on the tokio runtime that started it, until the `LocalAuthority` is dropped.
/// Each start uses a new port, a new signing key and a new CA.
///
/// [Register](Self::register) the applications. [Register](Self::register_user) the users too, if
/// applications act for users, and grant the [`consent`](Self::consent) of the users.
///
/// | endpoint | response |
/// |---|---|
/// | `/{tenant}/oauth2/v2.0/token` | tokens for client credentials, an authorization code, a refresh token, and on behalf of a user |
/// | `/{tenant}/oauth2/v2.0/authorize` | the pages on which users sign in and consent |
/// | `/{tenant}/discovery/v2.0/keys` | the keys that verify the tokens |
/// | `/{tenant}/v2.0/.well-known/openid-configuration` | the metadata of a tenant |
/// | `/common/discovery/instance` | the host names of each cloud |
///
/// # Checks
///
/// - Secrets are compared in constant time.
/// - Assertions need a valid signature of the registered certificate's key, and a valid `aud`,
///   `iss`, `sub`, `nbf` and `exp`.
/// - Tokens of another tenant need the same, and must match a
///   [federated credential](Application::federated_credential).
///
/// # Errors of the endpoints
///
/// Errors have the body, the status and the headers of Entra's errors.
///
/// | subject | AADSTS codes |
/// |---|---|
/// | tenant | 90002 |
/// | application | 700016 |
/// | secret | 7000215, 7000222 |
/// | no credential | 7000216, and 7000218 in the grants for users |
/// | assertion | 700027, 700021, 700024, 50027 |
/// | federated credential | 700211, 700212, 700213, 7000274 |
/// | scope | 1002012, 70011, and 28000 for scopes of two resources |
/// | resource | 500011 |
/// | form | 900144, 70003 |
/// | instance | 50049 |
/// | user | 50034 |
/// | consent | 65001 |
/// | refresh token | 9002313, 70000, 70008, 50173 |
/// | authorization code | 54005, 500112, 501481, 9002313, 70000, 70008 |
/// | token that a web API was called with | 50027, 50013, 500133, 500131, 240002, 7000114 |
///
/// [`script`](Self::script) sends other errors, and everything else that can happen on a network.
///
/// Entra's response is unknown in three cases, which have words of this server: an assertion for
/// another tenant, a scope that the API does not publish, and a `plain` code challenge.
///
/// Error texts alternate between one line, which is Entra's form today, and several lines, which
/// was Entra's form until 2023. Do not depend on either form.
pub struct LocalAuthority {
    provider: Arc<IdentityProvider>,
    ca_pem: Option<String>,
    /// Stops the server when dropped.
    _stop: oneshot::Sender<()>,
}

impl LocalAuthority {
    /// Starts the server without TLS on a free port of 127.0.0.1.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if the server cannot listen on a port.
    pub async fn start() -> Result<Self, Error> {
        Self::builder().start().await
    }

    /// Adds an application to a tenant. `tenant` is a domain or a GUID.
    ///
    /// A tenant is created with its first application, resource or user. An application with the
    /// same client id is replaced.
    pub fn register(&self, tenant: impl AsRef<str>, application: Application) {
        self.with_directory(tenant.as_ref(), |directory| {
            directory.register(application);
        });
    }

    /// Returns the authority of a tenant, for
    /// [`authority`](crate::ConfidentialClientBuilder::authority) of the client's builder.
    pub fn authority(&self, tenant: impl Into<String>) -> Authority {
        Authority::entra(Cloud::Custom(self.provider.base.clone()), tenant)
    }

    /// Returns all received token requests in order, including requests with a fault.
    pub fn token_requests(&self) -> Vec<RecordedRequest> {
        lock(&self.provider.traffic).requests.clone()
    }

    /// Adds faults for the next token requests, one fault for each request.
    ///
    /// The faults follow earlier scripted faults.
    pub fn script(&self, faults: impl IntoIterator<Item = Fault>) {
        lock(&self.provider.traffic).script.extend(faults);
    }

    /// Applies a fault to every token request until [`end_outage`](Self::end_outage).
    ///
    /// [Scripted](Self::script) faults come first.
    pub fn begin_outage(&self, fault: Fault) {
        lock(&self.provider.traffic).outage = Some(fault);
    }

    /// Ends the outage.
    pub fn end_outage(&self) {
        lock(&self.provider.traffic).outage = None;
    }

    /// Returns a builder, for a fixed port, TLS or strict rotation of refresh tokens.
    pub fn builder() -> LocalAuthorityBuilder {
        LocalAuthorityBuilder::default()
    }

    /// Returns the scheme, host and port, such as `http://127.0.0.1:49152`.
    pub fn base_url(&self) -> &str {
        &self.provider.base
    }

    /// Returns the certificate of the CA as PEM, or `None` without TLS. A client must trust this
    /// CA.
    ///
    /// ```
    /// use confidential_client::ConfidentialClient;
    /// use confidential_client::testing::{Application, LocalAuthority};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let local = LocalAuthority::builder().tls().start().await?;
    /// local.register("contoso.com", Application::new("client").secret("s3cret"));
    ///
    /// let ca = local.ca_pem().expect("started with tls()");
    /// let ca = reqwest::Certificate::from_pem(ca.as_bytes())?;
    /// let client = ConfidentialClient::builder("client")
    ///     .authority(local.authority("contoso.com"))
    ///     .client_secret("s3cret")
    ///     .reqwest(reqwest::Client::builder().tls_certs_merge([ca]))
    ///     .build()?;
    /// client.acquire_token_for_client("api://orders/.default").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// Adds a resource to a tenant. `resource` is an application ID URI.
    ///
    /// A tenant without added resources accepts every resource. Otherwise, the tenant accepts the
    /// added resources, registered web APIs, and resources with a granted app role. Other resources
    /// are rejected with 500011.
    pub fn register_resource(&self, tenant: impl AsRef<str>, resource: impl AsRef<str>) {
        self.with_directory(tenant.as_ref(), |directory| {
            directory.register_resource(resource.as_ref());
        });
    }

    /// Returns the issuer (`iss`) of a tenant's tokens, or `None` for an unknown tenant.
    ///
    /// `tenant` is a domain or a GUID.
    pub fn issuer(&self, tenant: impl AsRef<str>) -> Option<String> {
        let directories = lock(&self.provider.directories);
        let mut directories = directories.iter();
        let directory = directories.find(|directory| directory.is(tenant.as_ref()))?;
        Some(directory.issuer(&self.provider.base))
    }

    /// Returns the public keys as a JWK Set in JSON ([RFC 7517 section 5]).
    ///
    /// The endpoint `/{tenant}/discovery/v2.0/keys` returns the same keys.
    ///
    /// [RFC 7517 section 5]: https://www.rfc-editor.org/rfc/rfc7517#section-5
    pub fn keys(&self) -> String {
        self.provider.jwks()
    }

    /// Generates a new key and signs new tokens with it.
    ///
    /// The older keys stay published until [`retire_old_keys`](Self::retire_old_keys).
    ///
    /// # Errors
    ///
    /// [`Error::Credential`] if the key cannot be generated.
    pub fn roll_key(&self) -> Result<(), Error> {
        let key = TokenSigningKey::generate()?;
        lock(&self.provider.keys).push(key);
        Ok(())
    }

    /// Removes all keys except the current one. Tokens with a signature of an older key are no
    /// longer accepted.
    pub fn retire_old_keys(&self) {
        let mut keys = lock(&self.provider.keys);
        let old = keys.len().saturating_sub(1);
        keys.drain(..old);
    }

    /// Starts a web API that accepts this authority's tokens for `audience`, such as
    /// `https://graph.microsoft.com`.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if the API cannot listen on a port.
    pub async fn protected_api(&self, audience: impl Into<String>) -> Result<ProtectedApi, Error> {
        ProtectedApi::start(Arc::clone(&self.provider), audience.into()).await
    }

    /// Revokes the tokens that an application has in a tenant.
    ///
    /// A [`ProtectedApi`] rejects a revoked token if the client declared the capability `cp1` in
    /// the token request.
    ///
    /// ```
    /// use confidential_client::ConfidentialClient;
    /// use confidential_client::adapter::BearerAuth;
    /// use confidential_client::testing::{Application, LocalAuthority};
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let local = LocalAuthority::start().await?;
    /// local.register("contoso.com", Application::new("client").secret("s3cret"));
    /// let api = local.protected_api("https://graph.microsoft.com").await?;
    ///
    /// let client = ConfidentialClient::builder("client")
    ///     .authority(local.authority("contoso.com"))
    ///     .client_secret("s3cret")
    ///     .client_capabilities(["cp1"])
    ///     .build()?;
    /// let provider = client.token_provider("https://graph.microsoft.com/.default")?;
    /// let http = reqwest_middleware::ClientBuilder::new(reqwest::Client::new())
    ///     .with(BearerAuth::new(provider, [api.base_url()])?)
    ///     .build();
    ///
    /// assert_eq!(http.get(api.base_url()).send().await?.status(), 200);
    /// local.revoke_tokens("contoso.com", "client");
    /// assert_eq!(http.get(api.base_url()).send().await?.status(), 200); // retried with a new token
    /// assert_eq!(local.token_requests().len(), 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn revoke_tokens(&self, tenant: impl AsRef<str>, client_id: impl AsRef<str>) {
        self.provider.revoke(tenant.as_ref(), client_id.as_ref());
    }

    /// Changes a tenant, and creates the tenant if it does not exist.
    fn with_directory(&self, tenant: &str, change: impl FnOnce(&mut Directory)) {
        let mut directories = lock(&self.provider.directories);
        let mut known = directories.iter_mut();
        match known.find(|directory| directory.is(tenant)) {
            Some(directory) => change(directory),
            None => {
                let mut directory = Directory::new(tenant);
                change(&mut directory);
                directories.push(directory);
            }
        }
    }
}

impl Drop for LocalAuthority {
    fn drop(&mut self) {
        self.provider.is_dropped.store(true, Ordering::Relaxed);
    }
}

impl fmt::Debug for LocalAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalAuthority")
            .field("base_url", &self.provider.base)
            .field("token_requests", &self.token_requests().len())
            .finish_non_exhaustive()
    }
}

// These modules come last, so that the docs show the methods above first.
mod builder;
mod sign_in;
mod users;

pub use builder::LocalAuthorityBuilder;
