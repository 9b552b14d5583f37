use url::Url;

use super::LocalAuthority;
use super::builder::LocalAuthorityBuilder;
use crate::authority::address::is_loopback;
use crate::authority::{Authority, Cloud};
use crate::error::Error;
use crate::testing::directory::application::Application;
use crate::testing::provider::lock;

/// Start and registration.
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
    ///
    /// If the builder of this `LocalAuthority` named an address or a host beyond loopback, the
    /// authority [allows http](Authority::allow_insecure_http) for it, and needs no instance
    /// discovery.
    pub fn authority(&self, tenant: impl Into<String>) -> Authority {
        let cloud = Cloud::Custom(self.provider.base.clone());
        let authority = Authority::entra(cloud, tenant);
        match Url::parse(&self.provider.base).is_ok_and(|base| is_loopback(&base)) {
            true => authority,
            false => authority.without_instance_discovery().allow_insecure_http(),
        }
    }

    /// Returns a builder, for a clock, an address, TLS or strict rotation of refresh tokens.
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
    /// local.register("contoso.com", Application::new("client").secret("the secret's value"));
    ///
    /// let ca = local.ca_pem().expect("started with tls()");
    /// let ca = reqwest::Certificate::from_pem(ca.as_bytes())?;
    /// let client = ConfidentialClient::builder("client")
    ///     .authority(local.authority("contoso.com"))
    ///     .client_secret("the secret's value")
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
}
