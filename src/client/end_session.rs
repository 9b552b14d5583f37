use uuid::Uuid;

use super::ConfidentialClient;
use super::resolve::Subject;
use crate::cache::runtime_handle;
use crate::delegated::EndSessionRequest;
use crate::error::Error;
use crate::request::TokenRequest;

/// # Signing users out
impl ConfidentialClient {
    /// Returns the URL of the provider's page that ends the user's session there
    /// ([OpenID Connect RP-Initiated Logout section 2]).
    ///
    /// Remove the user's tokens with [`remove_account`](Self::remove_account) and the application's
    /// own session first, then redirect the browser to the URL. The page is
    /// `{tenant}/oauth2/v2.0/logout` of Microsoft Entra ID and of Azure AD B2C,
    /// `adfs/oauth2/logout` of AD FS, and the `end_session_endpoint` of an OpenID provider's
    /// metadata. The URL has the client ID. Does no I/O for Microsoft's authorities. An OpenID
    /// provider's metadata is discovered, and cached for at most a day.
    ///
    /// ```
    /// # use bytes::Bytes;
    /// use confidential_client::ConfidentialClient;
    /// use confidential_client::delegated::EndSessionRequest;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = ConfidentialClient::builder("11111111-2222-3333-4444-555555555555")
    ///     .tenant("contoso.onmicrosoft.com")
    ///     .client_secret("the secret's value")
    ///     .build()?;
    /// let sign_out =
    ///     EndSessionRequest::new().post_logout_redirect_uri("https://app.example.org/bye");
    /// let page = client.end_session_url(&sign_out).await?;
    /// assert!(page.starts_with(
    ///     "https://login.microsoftonline.com/contoso.onmicrosoft.com/oauth2/v2.0/logout?"
    /// ));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Config`]: an OpenID provider without a valid `end_session_endpoint`; a URI that is
    /// neither https nor http to this machine, or has a fragment; a state without that URI; an
    /// `id_token_hint` that is no JWT; a query parameter that the client sends itself; a tenant at
    /// an authority without tenants. For an OpenID provider also the errors of its discovery.
    ///
    /// [OpenID Connect RP-Initiated Logout section 2]: https://openid.net/specs/openid-connect-rpinitiated-1_0.html#RPLogout
    #[doc(alias = "logout")]
    #[doc(alias = "build_logout_url")]
    pub async fn end_session_url(&self, request: &EndSessionRequest) -> Result<String, Error> {
        let fetcher = &self.fetcher;
        if fetcher.endpoints.issuer().is_some() {
            runtime_handle()?;
        }
        let parameters = request.parameters(&fetcher.client_id)?;
        let mut of_tenant = TokenRequest::new("openid");
        if let Some(tenant) = request.requested_tenant() {
            of_tenant = of_tenant.tenant(tenant);
        }
        let tenant = fetcher.resolve_tenant(&of_tenant, &Subject::Application)?;
        let correlation_id = Uuid::new_v4().to_string();
        let lookup = fetcher.lookup(&correlation_id);
        let page = fetcher.endpoints.end_session_endpoint(tenant, &lookup);
        let mut page = page.await?;
        page.query_pairs_mut().extend_pairs(parameters);
        Ok(page.into())
    }
}
