use std::sync::Arc;

use super::ConfidentialClient;
use super::acquire::to_access_token;
use super::fapi2;
use super::resolve::Subject;
use crate::cache::runtime_handle;
use crate::delegated::{
    AuthenticationResult, AuthorizationCodeFlow, AuthorizationRequest, SignInResponse,
    invalid_response,
};
use crate::error::Error;
use crate::token::{AccessToken, TokenSource};

mod redemption;

use redemption::{check_issuer, correlation_id};

/// # Signing users in
impl ConfidentialClient {
    /// Returns the URL of the page where a user signs in, and the state of the sign-in.
    ///
    /// The authorization code flow ([RFC 6749 section 4.1]) with PKCE ([RFC 7636]) and a nonce.
    /// Redirect the user's browser to the URL, and keep the flow in the user's session until the
    /// browser returns.
    ///
    /// `openid`, `profile` and `offline_access` are added to the scopes. `profile` and
    /// `offline_access` are left out for an OpenID provider whose metadata have a
    /// `scopes_supported` without them, unless the request has them. Google is such a provider.
    /// Some OpenID providers issue a refresh token only with
    /// [`Prompt::Consent`](crate::delegated::Prompt::Consent). Does no I/O for Microsoft's
    /// authorities. An OpenID provider's metadata is discovered, and cached for at most a day.
    ///
    /// The parameters of a request that is [`pushed`] go to the OpenID provider itself, with client
    /// authentication, and are sent again as a token request is ([`RetryPolicy`]). The URL then has
    /// `client_id` and `request_uri` alone. The same happens if the provider's metadata have
    /// `require_pushed_authorization_requests` ([RFC 9126]), and for an authority with [`fapi2`].
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
    /// fragment; no scope; claims that are no JSON object; a query parameter of the page that the
    /// client sends itself; an OpenID provider whose metadata rule
    /// out ID tokens, unless the request is [`without_id_token`]; a pushed request, and a provider
    /// without an endpoint for pushed requests. For an OpenID provider also the errors of its
    /// discovery. For a pushed request also the errors of
    /// [`acquire_token_for_client`](Self::acquire_token_for_client) after the network.
    ///
    /// The metadata rule out ID tokens if they have no `jwks_uri`, a `scopes_supported` without
    /// `openid`, or an `id_token_signing_alg_values_supported` without a supported algorithm.
    ///
    /// [RFC 6749 section 4.1]: https://www.rfc-editor.org/rfc/rfc6749#section-4.1
    /// [RFC 7636]: https://www.rfc-editor.org/rfc/rfc7636
    /// [RFC 9126]: https://www.rfc-editor.org/rfc/rfc9126
    /// [`RetryPolicy`]: crate::RetryPolicy
    /// [`fapi2`]: crate::Authority::fapi2
    /// [`pushed`]: AuthorizationRequest::pushed
    /// [`without_id_token`]: AuthorizationRequest::without_id_token
    #[doc(alias = "initiate_auth_code_flow")]
    #[doc(alias = "get_authorization_request_url")]
    pub async fn authorization_request_url(
        &self,
        request: &AuthorizationRequest,
    ) -> Result<(String, AuthorizationCodeFlow), Error> {
        let fetcher = &self.fetcher;
        if fetcher.endpoints.issuer().is_some() {
            runtime_handle()?;
        }
        let mut flow = request.begin(&fetcher.client_id, fetcher.endpoints.to_string())?;
        if fetcher.endpoints.fapi2_issuer().is_some() {
            fapi2::check_redirect_uri(request.redirect_uri())?;
        }
        let token_request = request.request();
        self.fetcher
            .check_user_scopes(token_request.requested_scopes())?;
        fetcher.check_parameters(token_request)?;
        let tenant = self
            .fetcher
            .resolve_tenant(token_request, &Subject::Application)?;
        let correlation_id = correlation_id(token_request)?;
        let lookup = fetcher.lookup(&correlation_id);
        let page = fetcher.endpoints.authorization_endpoint(tenant, &lookup);
        let claims = token_request.requested_claims()?;
        let claims = fetcher.capabilities.with(claims.as_deref());
        let mut page = page.await?;
        if !request.is_without_id_token() {
            fetcher.endpoints.check_id_tokens(&lookup).await?;
            let unsupported = fetcher.endpoints.unsupported_scopes(&lookup);
            flow.leave_out_scopes(unsupported.await?);
        }
        let (client_id, claims) = (&*fetcher.client_id, claims.as_deref());
        let proof_key = fetcher.proof_key_of_codes();
        let parameters = request.parameters(client_id, &flow, claims, proof_key)?;
        let pushed = fetcher
            .endpoints
            .pushed_endpoint(request.is_pushed(), &lookup);
        let parameters = match pushed.await? {
            None => parameters,
            Some(endpoint) => {
                let fetch = self.fetch_of(&flow, tenant, correlation_id.clone())?;
                // Boxed, since the future is large and a sign-in is rare.
                let pushing = Box::pin(fetcher.push(&fetch, &endpoint, &parameters));
                let request_uri = pushing.await?.request_uri;
                vec![
                    ("client_id", client_id.into()),
                    ("request_uri", request_uri.into()),
                ]
            }
        };
        page.query_pairs_mut().extend_pairs(parameters);
        Ok((page.into(), flow))
    }

    /// Redeems the authorization code that a user's browser returned with, and caches the user's
    /// tokens.
    ///
    /// `redirected` is the URL that the browser requested, its query, or the body of the form that
    /// the browser posted. The client checks the following before the code is sent:
    ///
    /// - The flow began with this client ID and this authority.
    /// - The state is the flow's.
    /// - A whole URL has the scheme, host, port, path and query of the redirect URI.
    /// - An issuer (`iss`) in the redirect is the authority's ([RFC 9207]). If the metadata have
    ///   `authorization_response_iss_parameter_supported`, every redirect must name the issuer.
    ///
    /// The code is redeemed with the code verifier. The ID token is validated: its signature by the
    /// authority's keys, issuer, audiences, times and nonce ([OpenID Connect Core section
    /// 3.1.3.7]). The tokens are then cached for
    /// [`acquire_token_silent`](Self::acquire_token_silent).
    ///
    /// A flow is valid for one sign-in. Remove it from the session of the user before this call.
    /// The code is sent once. [`RetryPolicy`](crate::RetryPolicy) applies only while no connection
    /// can be opened. After a timeout, a lost connection or a 5xx, the user signs in again.
    /// Dropping the returned future may lose the code, and the user signs in again.
    ///
    /// # Errors
    ///
    /// Nothing is cached after an error.
    ///
    /// - [`Error::InvalidResponse`]: a check of the redirect failed, there is no code, or the ID
    ///   token is invalid.
    /// - [`Error::Config`]: the flow requested no ID token.
    /// - [`Error::InteractionRequired`]: the provider sent no code, for example because the user
    ///   declined. [`server_error`](Error::server_error) has the provider's reason.
    /// - [`Error::Server`]: the token endpoint rejected the code.
    /// - The errors of [`acquire_token_for_client`](Self::acquire_token_for_client).
    ///
    /// [RFC 9207]: https://www.rfc-editor.org/rfc/rfc9207
    /// [OpenID Connect Core section 3.1.3.7]: https://openid.net/specs/openid-connect-core-1_0.html#IDTokenValidation
    #[doc(alias = "acquire_token_by_auth_code_flow")]
    pub async fn acquire_token_by_authorization_code(
        &self,
        flow: AuthorizationCodeFlow,
        redirected: impl AsRef<str>,
    ) -> Result<AuthenticationResult, Error> {
        if flow.is_without_id_token() {
            return Err(Error::config(
                "the sign-in requested no ID token, so there is no account; call acquire_access_token_by_authorization_code(..)",
            ));
        }
        let response = self
            .authorization_response(&flow, redirected.as_ref())
            .await?;
        // Boxed, since the future is large and a sign-in is rare.
        let signed_in = Box::pin(
            self.acquirer
                .tokens()
                .request(self.sign_in(&flow, &response)),
        );
        let signed_in = signed_in.await?;
        let (issued, account) = (Arc::new(signed_in.issued), signed_in.account);
        let id_token = Some(signed_in.id_token.clone());
        let slot = self.store_user(
            account.user(),
            Arc::clone(&issued),
            signed_in.refresh_token,
            Some(signed_in.identity),
            id_token.filter(|_| self.fetcher.keeps_id_tokens),
        );
        let slot = slot.await?;
        let token = to_access_token(issued, &slot, TokenSource::IdentityProvider)?;
        Ok(AuthenticationResult::new(
            token,
            account,
            signed_in.id_token,
            signed_in.claims,
        ))
    }

    /// Redeems the authorization code of a sign-in without an ID token, and returns the access
    /// token ([RFC 6749 section 4.1.3]).
    ///
    /// For a server that issues no ID tokens, after
    /// [`AuthorizationRequest::without_id_token`]. `redirected` and the checks before the network
    /// are the same as for
    /// [`acquire_token_by_authorization_code`](Self::acquire_token_by_authorization_code).
    ///
    /// The response does not say who the user is. The client therefore caches neither the access
    /// token nor a refresh token. Keep the access token in the session of the user, who signs in
    /// again after its expiry.
    ///
    /// ```
    /// # use bytes::Bytes;
    /// # use http::{Request, Response};
    /// use confidential_client::delegated::AuthorizationRequest;
    /// use confidential_client::{Authority, ConfidentialClient};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = ConfidentialClient::builder("web")
    ///     .authority(Authority::oidc("https://code.example.org"))
    ///     .client_secret("the secret's value")
    /// #   .transport(|request: Request<Bytes>| async move {
    /// #       let body = match request.uri().path() {
    /// #           "/token" => r#"{"token_type":"Bearer","expires_in":3599,"access_token":"abc"}"#,
    /// #           _ => r#"{"issuer":"https://code.example.org",
    /// #               "token_endpoint":"https://code.example.org/token",
    /// #               "authorization_endpoint":"https://code.example.org/authorize"}"#,
    /// #       };
    /// #       Ok(Response::new(Bytes::from(body)))
    /// #   })
    ///     .build()?;
    /// let sign_in = AuthorizationRequest::new("https://app.example.org/back", "repositories.read")
    ///     .without_id_token();
    /// let (page, flow) = client.authorization_request_url(&sign_in).await?;
    /// assert!(page.contains("scope=repositories.read&"));
    ///
    /// // The browser returns.
    /// let query = format!("code=c&state={}", flow.state());
    /// let token = client.acquire_access_token_by_authorization_code(flow, query).await?;
    /// assert_eq!(token.secret(), "abc");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a flow that requested an ID token. Otherwise the errors of
    /// [`acquire_token_by_authorization_code`](Self::acquire_token_by_authorization_code).
    ///
    /// [RFC 6749 section 4.1.3]: https://www.rfc-editor.org/rfc/rfc6749#section-4.1.3
    pub async fn acquire_access_token_by_authorization_code(
        &self,
        flow: AuthorizationCodeFlow,
        redirected: impl AsRef<str>,
    ) -> Result<AccessToken, Error> {
        if !flow.is_without_id_token() {
            return Err(Error::config(
                "the sign-in requested an ID token, which must be validated; call acquire_token_by_authorization_code(..), or begin the sign-in with without_id_token()",
            ));
        }
        let response = self
            .authorization_response(&flow, redirected.as_ref())
            .await?;
        let redeemed = Box::pin(
            self.acquirer
                .tokens()
                .request(self.redeem(&flow, &response)),
        );
        let (key, response) = redeemed.await?;
        AccessToken::from_cache(
            Arc::new(response.issued),
            &key,
            TokenSource::IdentityProvider,
        )
        .ok_or_else(|| invalid_response("its token is for another request"))
    }

    /// Checks a redirect as far as possible without a token request.
    ///
    /// The redirect of a failed sign-in is checked whole, and the reason of the failure returned.
    async fn authorization_response(
        &self,
        flow: &AuthorizationCodeFlow,
        redirected: &str,
    ) -> Result<SignInResponse, Error> {
        let fetcher = &self.fetcher;
        flow.check_client(&fetcher.client_id, &fetcher.endpoints.to_string())?;
        let response = flow.response(redirected)?;
        let known = fetcher.endpoints.check_known_issuer(response.issuer());
        known.map_err(|reason| invalid_response(&reason))?;
        if let Err(failed) = response.code() {
            runtime_handle()?;
            let request = flow.request();
            let requested = self
                .fetcher
                .resolve_tenant(&request, &Subject::Application)?;
            let correlation_id = correlation_id(&request)?;
            let lookup = fetcher.lookup(&correlation_id);
            // Without metadata the provider's reason is the best that there is.
            let issuer = fetcher.endpoints.response_issuer(requested, &lookup).await;
            if let Ok(issuer) = issuer {
                check_issuer(&response, &issuer)?;
            }
            return Err(failed);
        }
        Ok(response)
    }
}
