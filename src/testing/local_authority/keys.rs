use std::sync::Arc;

use super::LocalAuthority;
use crate::error::Error;
use crate::testing::managed_identity::LocalManagedIdentity;
use crate::testing::protected_api::ProtectedApi;
use crate::testing::provider::lock;
use crate::testing::token::signing_key::TokenSigningKey;

/// Signing keys, servers of tokens and revocation.
impl LocalAuthority {
    /// Returns the public keys as a JWK Set in JSON ([RFC 7517 section 5]).
    ///
    /// The endpoint `/{tenant}/discovery/v2.0/keys` returns the same keys.
    ///
    /// [RFC 7517 section 5]: https://www.rfc-editor.org/rfc/rfc7517#section-5
    pub fn keys(&self) -> String {
        self.provider.jwks(None)
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

    /// Removes all keys except the current one, and the current one of each application. Tokens
    /// with a signature of an older key are no longer accepted.
    pub fn retire_old_keys(&self) {
        let mut keys = lock(&self.provider.keys);
        let mut current: Vec<TokenSigningKey> = Vec::new();
        for key in keys.drain(..).rev() {
            if !current.iter().any(|newer| newer.is_of(key.application())) {
                current.push(key);
            }
        }
        current.reverse();
        *keys = current;
    }

    /// Requires a new nonce in the proof of every token request ([RFC 9449 section 8]).
    ///
    /// A proof without the nonce, or with an earlier one, is rejected with `use_dpop_nonce`. Every
    /// response of the token endpoint has the nonce. Another call replaces the nonce.
    ///
    /// [RFC 9449 section 8]: https://www.rfc-editor.org/rfc/rfc9449#section-8
    pub fn require_dpop_nonce(&self) {
        lock(&self.provider.proofs).require_nonce();
    }

    /// Generates a signing key for one application, and signs new tokens for the application with
    /// that key, as Entra does for an application with claims mapping.
    ///
    /// The keys of the application are published at the metadata URL with `?appid={client_id}`. The
    /// other keys stay published without `appid`. Access tokens for the application's resources and
    /// the application's ID tokens have the new signature.
    ///
    /// ```
    /// use confidential_client::ConfidentialClient;
    /// use confidential_client::resource::TokenValidator;
    /// use confidential_client::testing::{Application, LocalAuthority};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let local = LocalAuthority::start().await?;
    /// let orders = "11111111-2222-3333-4444-555555555555";
    /// local.register("contoso.com", Application::new(orders).access_token_version(2));
    /// local.register("contoso.com", Application::new("client").secret("the secret's value"));
    /// local.roll_application_key(orders)?;
    ///
    /// let client = ConfidentialClient::builder("client")
    ///     .authority(local.authority("contoso.com"))
    ///     .client_secret("the secret's value")
    ///     .build()?;
    /// let scope = format!("api://{orders}/.default");
    /// let token = client.acquire_token_for_client(scope).await?;
    /// let validator = TokenValidator::builder(local.authority("contoso.com"))
    ///     .audience(orders)
    ///     .application_keys(orders)
    ///     .single_tenant()
    ///     .build()?;
    /// validator.validate(token.secret()).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Credential`] if the key cannot be generated.
    pub fn roll_application_key(&self, client_id: impl AsRef<str>) -> Result<(), Error> {
        let key = TokenSigningKey::generate_for(client_id.as_ref())?;
        lock(&self.provider.keys).push(key);
        Ok(())
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

    /// Starts the managed identity endpoints of a host, whose identities belong to a tenant.
    ///
    /// The tenant is created if it does not exist. This authority accepts the tokens of the
    /// identities as [federated credentials](crate::testing::Application::federated_credential).
    ///
    /// ```
    /// use confidential_client::credential::ManagedIdentity;
    /// use confidential_client::testing::{
    ///     Application, AssignedIdentity, HostKind, LocalAuthority,
    /// };
    /// use confidential_client::{ConfidentialClient, ManagedIdentityClient};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let local = LocalAuthority::start().await?;
    /// let host = local.managed_identity("contoso.com").await?;
    /// let identity_id = "99999999-8888-7777-6666-555555555555";
    /// let identity = AssignedIdentity::new(identity_id);
    /// let subject = identity.object_id();
    /// host.assign(identity);
    /// let daemon = Application::new("11111111-2222-3333-4444-555555555555");
    /// local.register(
    ///     "contoso.com",
    ///     daemon.federated_credential(host.issuer(), subject, "api://AzureADTokenExchange"),
    /// );
    ///
    /// let identity = ManagedIdentity::user_assigned_client_id(identity_id);
    /// let identity = ManagedIdentityClient::builder(identity)
    ///     .environment(host.environment(HostKind::Imds))
    ///     .build()?;
    /// let client = ConfidentialClient::builder("11111111-2222-3333-4444-555555555555")
    ///     .authority(local.authority("contoso.com"))
    ///     .client_assertion(identity)
    ///     .build()?;
    /// client.acquire_token_for_client("https://graph.microsoft.com/.default").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if the server cannot listen on a port or cannot create the folder of key
    /// files.
    pub async fn managed_identity(
        &self,
        tenant: impl AsRef<str>,
    ) -> Result<LocalManagedIdentity, Error> {
        let tenant = tenant.as_ref();
        self.with_directory(tenant, |_| {});
        LocalManagedIdentity::start_in(Arc::clone(&self.provider), tenant).await
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
    /// local.register("contoso.com", Application::new("client").secret("the secret's value"));
    /// let api = local.protected_api("https://graph.microsoft.com").await?;
    ///
    /// let client = ConfidentialClient::builder("client")
    ///     .authority(local.authority("contoso.com"))
    ///     .client_secret("the secret's value")
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
}
