use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::time::Instant;
use tracing::Instrument;
use uuid::Uuid;

use super::{ConfidentialClient, Errand, Subject, hand_out};
use crate::authority::Tenant;
use crate::cache::in_a_runtime;
use crate::delegated::{
    Account, AuthenticationResult, AuthorizationCodeFlow, AuthorizationRequest, invalid_id_token,
};
use crate::endpoint::Lookup;
use crate::error::Error;
use crate::jwt::{JwtError, SignedJwt};
use crate::request::TokenRequest;
use crate::secret::Secret;
use crate::token::{CacheKey, IssuedToken, Kind, TokenSource, User};

/// # Signing users in
impl ConfidentialClient {
    /// The page to send a user's browser to, to sign in and to consent, and what to keep in their
    /// session until they come back: the authorization code flow ([RFC 6749 section 4.1]) with PKCE
    /// ([RFC 7636]) and a nonce.
    ///
    /// `openid`, `profile` and `offline_access` are added to the scopes. Some OpenID providers give a
    /// refresh token only with [`Prompt::Consent`](crate::delegated::Prompt::Consent). Does no I/O with Microsoft's
    /// authorities; an OpenID provider's metadata is looked up, and kept for a day.
    ///
    /// ```
    /// # use bytes::Bytes;
    /// use confidential_client::ConfidentialClient;
    /// use confidential_client::delegated::AuthorizationRequest;
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
    /// // Into the session, and out of it when the browser comes back.
    /// let kept = serde_json::to_string(&flow)?;
    /// let flow: confidential_client::delegated::AuthorizationCodeFlow = serde_json::from_str(&kept)?;
    /// # let _ = flow;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Config`]: a redirect URI that is none (https, or http to this machine, without a
    /// fragment), no scope, claims that are no JSON; for an OpenID provider also those of its metadata.
    ///
    /// [RFC 6749 section 4.1]: https://www.rfc-editor.org/rfc/rfc6749#section-4.1
    /// [RFC 7636]: https://www.rfc-editor.org/rfc/rfc7636
    pub async fn authorization_request_url(
        &self,
        request: &AuthorizationRequest,
    ) -> Result<(String, AuthorizationCodeFlow), Error> {
        let services = &self.0.services;
        if services.endpoints.issuer().is_some() {
            in_a_runtime()?;
        }
        let flow = request.begin()?;
        let request_of_token = request.request();
        request_of_token.requested_scopes().for_user()?;
        let tenant = self.tenant(request_of_token, &Subject::Application)?;
        let correlation_id = correlation_id(request_of_token)?;
        let lookup = services.lookup(&correlation_id);
        let page = services.endpoints.authorization_endpoint(tenant, &lookup);
        let claims = request_of_token.requested_claims()?;
        let claims = services.capabilities.with(claims.as_deref());
        let page = request.url(page.await?, &services.client_id, &flow, claims.as_deref())?;
        Ok((page, flow))
    }

    /// Redeems the code that a user came back with, and says who they are.
    ///
    /// `redirected` is the URL that the browser came to, its query, or the body of the form that it
    /// posted. The state is compared with the flow's; the code is redeemed with the code verifier;
    /// the ID token is validated: its signature by the authority's keys, issuer, audience, times and
    /// nonce ([OpenID Connect Core section 3.1.3.7]). Then the tokens are kept in memory, for
    /// [`acquire_token_silent`](Self::acquire_token_silent).
    ///
    /// The flow is the one from the session of whoever brings the code, and is good for one sign-in:
    /// take it out of the session first. Dropping the returned future may lose the code; the user
    /// signs in again.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidResponse`]: the state is another, there is no code, or the ID token is not
    /// good. [`Error::InteractionRequired`]: the provider sent the user back without a code, as when
    /// they declined; [`server_error`](Error::server_error) has its words. What the token endpoint
    /// refuses is [`Error::Server`]; and those of
    /// [`acquire_token_for_client`](Self::acquire_token_for_client). Nothing is kept then.
    ///
    /// [OpenID Connect Core section 3.1.3.7]: https://openid.net/specs/openid-connect-core-1_0.html#IDTokenValidation
    pub async fn acquire_token_by_authorization_code(
        &self,
        flow: AuthorizationCodeFlow,
        redirected: impl AsRef<str>,
    ) -> Result<AuthenticationResult, Error> {
        let issuer = self.0.services.endpoints.issuer();
        let code = flow.code(redirected.as_ref(), issuer)?;
        // Boxed, since it is large, and nothing beside a user's signing in.
        let redeemed = Box::pin(self.0.cache.request(self.redeem(&flow, &code)));
        let (issued, account, claims, refresh_token) = redeemed.await?;
        let issued = Arc::new(issued);
        let slot = self
            .0
            .cache
            .sign_in(account.user(), Arc::clone(&issued), refresh_token);
        let token = hand_out(issued, &slot, TokenSource::IdentityProvider)?;
        Ok(AuthenticationResult::new(token, account, claims))
    }

    /// The token and whose it is.
    async fn redeem(
        &self,
        flow: &AuthorizationCodeFlow,
        code: &Secret,
    ) -> Result<(IssuedToken, Account, Map<String, Value>, Option<Secret>), Error> {
        let services = &self.0.services;
        let request = flow.request();
        let asked = self.tenant(&request, &Subject::Application)?;
        let scopes = request.requested_scopes().for_user()?;
        let key = |tenant: Option<&Tenant>, user: Arc<User>| -> Result<CacheKey, Error> {
            Ok(CacheKey {
                tenant: tenant.map(Tenant::folded).cloned().unwrap_or_default(),
                scopes: scopes.set.clone(),
                kind: Kind::User(user),
                parameters: request.extra_parameters()?.clone(),
            })
        };
        let errand = Errand {
            // Nobody knows yet whose it will be.
            key: Arc::new(key(asked, Arc::new(User::Account("".into())))?),
            tenant: asked.cloned(),
            scopes: Arc::clone(&scopes.wire),
            claims: request.requested_claims()?,
            correlation_id: correlation_id(&request)?,
            is_refresh: false,
            progress: Mutex::default(),
        };
        let lookup = services.lookup(&errand.correlation_id);
        // First, as the code is good for one attempt.
        services.endpoints.issuer_keys(asked, None, &lookup).await?;
        let deadline = Instant::now() + services.retry.total_timeout();
        let verifier = flow.verifier();
        let grant = flow.grant(code, &verifier);
        let span = errand.span();
        let response = services.redeem(&errand, grant, deadline).instrument(span);
        let response = response.await?;
        let Some(id_token) = &response.id_token else {
            return Err(invalid_id_token("the provider sent none"));
        };
        let claims = self.validated(id_token, asked, &lookup).await?;
        let client_info = response.client_info.as_deref();
        let rules = services.endpoints.rules();
        let account = Account::of(&claims, client_info, flow.nonce(), rules)?;
        let tenant = asked
            .filter(|tenant| !tenant.is_multi_tenant())
            .or(account.tenant());
        let key = key(tenant, Arc::clone(account.user()))?;
        let issued = response.issued.belonging_to(Arc::new(key));
        Ok((issued, account, claims, response.refresh_token))
    }

    /// The claims of an ID token that is this client's, and the authority's own.
    async fn validated(
        &self,
        id_token: &Secret,
        tenant: Option<&Tenant>,
        lookup: &Lookup<'_>,
    ) -> Result<Map<String, Value>, Error> {
        let services = &self.0.services;
        let flawed = |error: JwtError| invalid_id_token(&error.to_string());
        let id_token = SignedJwt::parse(id_token.expose()).map_err(flawed)?;
        let name = id_token.key_name();
        let keys = services.endpoints.issuer_keys(tenant, name, lookup).await?;
        let now = services.clock.now().wall;
        let claims = id_token.id_token(&keys, &services.client_id, now, LEEWAY);
        claims.map_err(flawed)
    }

    /// Forgets a user: their tokens and their refresh token, as when they sign out, in whichever
    /// browser they signed in. Does no I/O: the provider's own session, in the user's browser, ends
    /// at its end-session page.
    ///
    /// Tokens that were handed out stay good until they end. A request under way is given up, and
    /// nothing that it may still bring is kept; who waits for it is told to sign in.
    pub fn remove_account(&self, account: &Account) {
        self.0.cache.sign_out(account.user());
    }
}

fn correlation_id(request: &TokenRequest) -> Result<String, Error> {
    let asked = request.requested_correlation_id()?;
    Ok(asked.unwrap_or_else(Uuid::new_v4).to_string())
}

/// How far the provider's clock and this one may be apart.
const LEEWAY: Duration = Duration::from_secs(300);
