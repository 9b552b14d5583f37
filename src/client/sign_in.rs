use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::time::Instant;
use tracing::Instrument;
use uuid::Uuid;

use super::ConfidentialClient;
use super::acquire::{Subject, to_access_token};
use super::fetch::Fetch;
use crate::authority::Tenant;
use crate::cache::runtime_handle;
use crate::delegated::{
    Account, AuthenticationResult, AuthorizationCodeFlow, AuthorizationRequest, invalid_id_token,
};
use crate::endpoint::Lookup;
use crate::error::Error;
use crate::jwt::{JwtError, SignedJwt};
use crate::request::TokenRequest;
use crate::secret::Secret;
use crate::token::{CacheKey, IssuedToken, TokenSource, UserKey};

/// # Signing users in
impl ConfidentialClient {
    /// Returns the URL of the page where a user signs in, and the state of the sign-in.
    ///
    /// The authorization code flow ([RFC 6749 section 4.1]) with PKCE ([RFC 7636]) and a nonce.
    /// Redirect the user's browser to the URL, and keep the flow in the user's session until the
    /// browser returns.
    ///
    /// `openid`, `profile` and `offline_access` are added to the scopes. Some OpenID providers
    /// issue a refresh token only with [`Prompt::Consent`](crate::delegated::Prompt::Consent). Does
    /// no I/O for Microsoft's authorities. An OpenID provider's metadata is discovered, and cached
    /// for a day.
    ///
    /// ```
    /// # use bytes::Bytes;
    /// use confidential_client::ConfidentialClient;
    /// use confidential_client::delegated::{AuthorizationCodeFlow, AuthorizationRequest};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = ConfidentialClient::builder("11111111-2222-3333-4444-555555555555")
    ///     .tenant("contoso.onmicrosoft.com")
    ///     .client_secret("the secret's value")
    ///     .build()?;
    /// let sign_in = AuthorizationRequest::new(
    ///     "https://app.example.org/signed-in",
    ///     "https://graph.microsoft.com/User.Read",
    /// );
    /// let (page, flow) = client.authorization_request_url(&sign_in).await?;
    /// assert!(page.starts_with(
    ///     "https://login.microsoftonline.com/contoso.onmicrosoft.com/oauth2/v2.0/authorize?"
    /// ));
    ///
    /// // Store the flow in the session, and load it when the browser returns.
    /// let stored = serde_json::to_string(&flow)?;
    /// let flow: AuthorizationCodeFlow = serde_json::from_str(&stored)?;
    /// # let _ = flow;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Config`]: a redirect URI that is neither https nor http to this machine, or has a
    /// fragment; no scope; claims that are no JSON object. For an OpenID provider also the errors
    /// of its discovery.
    ///
    /// [RFC 6749 section 4.1]: https://www.rfc-editor.org/rfc/rfc6749#section-4.1
    /// [RFC 7636]: https://www.rfc-editor.org/rfc/rfc7636
    #[doc(alias = "initiate_auth_code_flow")]
    #[doc(alias = "get_authorization_request_url")]
    pub async fn authorization_request_url(
        &self,
        request: &AuthorizationRequest,
    ) -> Result<(String, AuthorizationCodeFlow), Error> {
        let fetcher = &self.0.fetcher;
        if fetcher.endpoints.issuer().is_some() {
            runtime_handle()?;
        }
        let flow = request.begin()?;
        let token_request = request.request();
        token_request.requested_scopes().for_user()?;
        let tenant = self.resolve_tenant(token_request, &Subject::Application)?;
        let correlation_id = correlation_id(token_request)?;
        let lookup = fetcher.lookup(&correlation_id);
        let page = fetcher.endpoints.authorization_endpoint(tenant, &lookup);
        let claims = token_request.requested_claims()?;
        let claims = fetcher.capabilities.with(claims.as_deref());
        let page = request.url(page.await?, &fetcher.client_id, &flow, claims.as_deref())?;
        Ok((page, flow))
    }

    /// Redeems the authorization code that a user's browser returned with, and caches the user's
    /// tokens.
    ///
    /// `redirected` is the URL that the browser requested, its query, or the body of the form that
    /// the browser posted. The state is compared with the flow's. The code is redeemed with the
    /// code verifier. The ID token is validated: its signature by the authority's keys, issuer,
    /// audience, times and nonce ([OpenID Connect Core section 3.1.3.7]). The tokens are then
    /// cached for [`acquire_token_silent`](Self::acquire_token_silent).
    ///
    /// A flow is valid for one sign-in. Remove it from the session of the user before this call.
    /// Dropping the returned future may lose the code, and the user signs in again.
    ///
    /// # Errors
    ///
    /// Nothing is cached after an error.
    ///
    /// - [`Error::InvalidResponse`]: the state differs, there is no code, or the ID token is
    ///   invalid.
    /// - [`Error::InteractionRequired`]: the provider sent no code, for example because the user
    ///   declined. [`server_error`](Error::server_error) has the provider's reason.
    /// - [`Error::Server`]: the token endpoint rejected the code.
    /// - The errors of [`acquire_token_for_client`](Self::acquire_token_for_client).
    ///
    /// [OpenID Connect Core section 3.1.3.7]: https://openid.net/specs/openid-connect-core-1_0.html#IDTokenValidation
    #[doc(alias = "acquire_token_by_auth_code_flow")]
    pub async fn acquire_token_by_authorization_code(
        &self,
        flow: AuthorizationCodeFlow,
        redirected: impl AsRef<str>,
    ) -> Result<AuthenticationResult, Error> {
        let issuer = self.0.fetcher.endpoints.issuer();
        let code = flow.code(redirected.as_ref(), issuer)?;
        // Boxed, since the future is large and a sign-in is rare.
        let redeemed = Box::pin(self.0.cache.request(self.redeem(&flow, &code)));
        let (issued, account, claims, refresh_token) = redeemed.await?;
        let issued = Arc::new(issued);
        let slot = self
            .0
            .cache
            .sign_in(account.user(), Arc::clone(&issued), refresh_token);
        let token = to_access_token(issued, &slot, TokenSource::IdentityProvider)?;
        Ok(AuthenticationResult::new(token, account, claims))
    }

    /// Redeems the code, and validates the ID token.
    async fn redeem(
        &self,
        flow: &AuthorizationCodeFlow,
        code: &Secret,
    ) -> Result<(IssuedToken, Account, Map<String, Value>, Option<Secret>), Error> {
        let fetcher = &self.0.fetcher;
        let request = flow.request();
        let requested = self.resolve_tenant(&request, &Subject::Application)?;
        let scopes = request.requested_scopes().for_user()?;
        let key = |tenant: Option<&Tenant>, user: Arc<UserKey>| -> Result<CacheKey, Error> {
            Ok(CacheKey {
                tenant: tenant.cloned(),
                scopes: scopes.set.clone(),
                user: Some(user),
                parameters: request.extra_parameters()?.clone(),
            })
        };
        let fetch = Fetch {
            // The user is not known before the response.
            key: Arc::new(key(requested, Arc::new(UserKey::Account("".into())))?),
            tenant: requested.cloned(),
            scopes: Arc::clone(&scopes.to_send),
            claims: request.requested_claims()?,
            correlation_id: correlation_id(&request)?,
            is_refresh: false,
            progress: Default::default(),
        };
        let lookup = fetcher.lookup(&fetch.correlation_id);
        // The keys first: the code is valid for one attempt.
        fetcher
            .endpoints
            .issuer_keys(requested, None, &lookup)
            .await?;
        let deadline = Instant::now() + fetcher.retry.total_timeout();
        let verifier = flow.verifier();
        let grant = flow.grant(code, &verifier);
        let span = fetch.span();
        let response = fetcher.redeem(&fetch, grant, deadline).instrument(span);
        let response = response.await?;
        let Some(id_token) = &response.id_token else {
            return Err(invalid_id_token("the provider sent none"));
        };
        let claims = self.validate_id_token(id_token, requested, &lookup).await?;
        let client_info = response.client_info.as_deref();
        let rules = fetcher.endpoints.rules();
        let account = Account::from_id_token(&claims, client_info, flow.nonce(), rules)?;
        let tenant = requested
            .filter(|tenant| !tenant.is_multi_tenant())
            .or(account.tenant());
        let key = key(tenant, Arc::clone(account.user()))?;
        let issued = response.issued.belonging_to(Arc::new(key));
        Ok((issued, account, claims, response.refresh_token))
    }

    /// Validates an ID token, and returns the claims.
    async fn validate_id_token(
        &self,
        id_token: &Secret,
        tenant: Option<&Tenant>,
        lookup: &Lookup<'_>,
    ) -> Result<Map<String, Value>, Error> {
        let fetcher = &self.0.fetcher;
        let invalid = |error: JwtError| invalid_id_token(&error.to_string());
        let id_token = SignedJwt::parse(id_token.expose()).map_err(invalid)?;
        let name = id_token.key_name();
        let keys = fetcher.endpoints.issuer_keys(tenant, name, lookup).await?;
        let now = fetcher.clock.now().wall;
        let claims = id_token.id_token(&keys, &fetcher.client_id, now, LEEWAY);
        claims.map_err(invalid)
    }

    /// Removes a user's access tokens and refresh token, for a sign-out. Does no I/O.
    ///
    /// The provider's own session in the user's browser ends at its end-session page. Access tokens
    /// already returned stay valid until expiry. A token request in flight is aborted, and
    /// nothing of the response is cached. Waiting callers receive [`Error::InteractionRequired`].
    pub fn remove_account(&self, account: &Account) {
        self.0.cache.sign_out(account.user());
    }
}

fn correlation_id(request: &TokenRequest) -> Result<String, Error> {
    let requested = request.requested_correlation_id()?;
    Ok(requested.unwrap_or_else(Uuid::new_v4).to_string())
}

/// The largest accepted difference between the provider's clock and this one.
const LEEWAY: Duration = Duration::from_secs(300);
