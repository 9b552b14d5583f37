use std::sync::Arc;

use super::LocalAuthority;
use crate::error::Error;
use crate::testing::protected_api::ProtectedApi;
use crate::testing::provider::lock;
use crate::testing::token::signing_key::TokenSigningKey;

/// Signing keys and revocation.
impl LocalAuthority {
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
}
