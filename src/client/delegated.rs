use super::resolve::Subject;
use super::{ConfidentialClient, TokenProvider};
use crate::delegated::{Account, TokenExchange, UserAssertion};
use crate::error::Error;
use crate::request::IntoTokenRequest;
use crate::token::AccessToken;

/// # Acting for a user
impl ConfidentialClient {
    /// Acquires a token for another API on behalf of the user who called this API.
    ///
    /// Returns the cached token while the token is valid, else uses the jwt-bearer grant
    /// ([RFC 7523 section 2.1]) in the form of [Microsoft Entra ID].
    ///
    /// Request the scopes of one API, such as `https://graph.microsoft.com/User.Read`. `openid`,
    /// `profile` and `offline_access` are added. An OpenID provider receives the scopes of the
    /// request alone. Tokens are cached under the assertion's SHA-256,
    /// and shared, refreshed and bounded like the tokens of
    /// [`acquire_token_for_client`](Self::acquire_token_for_client). A refresh token, if the
    /// provider issued one, refreshes the tokens even after the assertion has expired. A refresh
    /// whose ID token or `client_info` names another user than the first response is an error, and
    /// nothing of that response is cached. A user who
    /// calls with a new assertion has new cache entries, so no user receives another user's token.
    ///
    /// **Validate the assertion first.** A cached token is returned without the identity provider
    /// checking the assertion again.
    ///
    /// The token request goes to the tenant of the request, or to the client's own. A client for
    /// `organizations` or `common` uses the tenant that issued the assertion (`tid`).
    ///
    /// # Errors
    ///
    /// [`Error::Config`] before the network: no scope; an empty assertion; an assertion that is an
    /// application's own token. After it, the errors of
    /// [`acquire_token_for_client`](Self::acquire_token_for_client). An error that
    /// [needs user interaction](Error::needs_user_interaction) means that the user has to consent,
    /// or to sign in with another factor: send its [`claims_challenge`](Error::claims_challenge) to
    /// the calling application.
    ///
    /// [RFC 7523 section 2.1]: https://www.rfc-editor.org/rfc/rfc7523#section-2.1
    /// [Microsoft Entra ID]: https://learn.microsoft.com/entra/identity-platform/v2-oauth2-on-behalf-of-flow
    #[doc(alias = "OnBehalfOfCredential")]
    pub async fn acquire_token_on_behalf_of(
        &self,
        assertion: &UserAssertion,
        request: impl IntoTokenRequest,
    ) -> Result<AccessToken, Error> {
        let subject = Subject::OnBehalfOf(assertion.clone());
        let request = self
            .fetcher
            .resolve(request.into_token_request(), subject)?;
        self.acquirer.acquire(request).await
    }

    /// Acquires a token for a signed-in user, without user interaction.
    ///
    /// Returns the cached token while the token is valid, else redeems the user's latest refresh
    /// token ([RFC 6749 section 6]), for the scopes of any API.
    ///
    /// One request at a time redeems a refresh token, and the refresh token in its response
    /// replaces the redeemed one, as providers that rotate refresh tokens require. An OpenID
    /// provider receives the scopes of the request alone. It rejects scopes that were never
    /// granted, and `profile` may be one.
    ///
    /// A token request to Microsoft Entra ID names the user in the header `x-anchormailbox`, as
    /// MSAL does, so that Entra routes the request to the data centre of the user.
    ///
    /// With a [shared cache](crate::ConfidentialClientBuilder::shared_cache) the method works for
    /// the account in every process and after a restart. While the shared cache does not respond,
    /// the cached token is returned until expiry, then [`Error::Transport`].
    ///
    /// An ID token in the response is validated as at the sign-in. `iss`, `sub`, `aud`, `azp`,
    /// `auth_time`, `nonce` and the home account of `client_info` are compared with those of the
    /// sign-in ([OpenID Connect Core section 12.2]). A response without an ID token is accepted.
    ///
    /// # Errors
    ///
    /// [`Error::InteractionRequired`] before the network if there is no refresh token for the user,
    /// or if the refresh token [may have been used][rotation] at a provider that rotates refresh
    /// tokens. [`Error::InvalidResponse`] if the response belongs to another user or its ID token
    /// is invalid. Nothing of the response is then cached, and the user has to sign in again.
    /// The provider's error if the user has to sign in again:
    /// [`needs_user_interaction`](Error::needs_user_interaction) is true for both. The errors of
    /// [`acquire_token_for_client`](Self::acquire_token_for_client).
    ///
    /// [RFC 6749 section 6]: https://www.rfc-editor.org/rfc/rfc6749#section-6
    /// [OpenID Connect Core section 12.2]: https://openid.net/specs/openid-connect-core-1_0.html#RefreshTokenResponse
    /// [rotation]: crate::ConfidentialClientBuilder::refresh_token_rotation
    #[doc(alias = "acquire_token_by_refresh_token")]
    pub async fn acquire_token_silent(
        &self,
        account: &Account,
        request: impl IntoTokenRequest,
    ) -> Result<AccessToken, Error> {
        let subject = Subject::Account(account.clone());
        let request = self
            .fetcher
            .resolve(request.into_token_request(), subject)?;
        self.acquirer.acquire(request).await
    }

    /// Returns a [`TokenProvider`] for the tokens of
    /// [`acquire_token_on_behalf_of`](Self::acquire_token_on_behalf_of).
    ///
    /// For the adapters, during one call of the user's. The provider keeps the assertion. Does no
    /// I/O.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a request that
    /// [`acquire_token_on_behalf_of`](Self::acquire_token_on_behalf_of) or
    /// [`token_provider`](Self::token_provider) rejects.
    pub fn token_provider_on_behalf_of(
        &self,
        assertion: &UserAssertion,
        request: impl IntoTokenRequest,
    ) -> Result<TokenProvider, Error> {
        assertion.check()?;
        let subject = Subject::OnBehalfOf(assertion.clone());
        let request = self
            .fetcher
            .resolve(request.into_token_request(), subject)?;
        self.acquirer.bind(request)
    }

    /// Exchanges a token for another at an OpenID provider ([RFC 8693]).
    ///
    /// Returns the cached token while the token is valid, else sends the exchange. The cache key is
    /// the SHA-256 of the tokens and their types, with the scopes, audiences, resources and further
    /// parameters. The cache does not store the exchanged tokens. Results are shared, refreshed and
    /// bounded like the tokens of [`acquire_token_for_client`](Self::acquire_token_for_client).
    ///
    /// A refresh repeats the exchange. After the expiry of the subject token the provider rejects
    /// the exchange, and the cached token is returned until its own expiry. A refresh token in the
    /// response is not kept, because the exchange can be repeated.
    ///
    /// **Validate the subject token first.** A cached token is returned without the identity
    /// provider checking the subject token again.
    ///
    /// The response tells with `token_type` whether the token is one for API calls. The type `N_A`
    /// means that it is not ([RFC 8693 section 2.2.1]). [`AccessToken::scheme`] is then
    /// [`NotApplicable`](crate::TokenScheme::NotApplicable), no method attaches the token to a
    /// request, and [`AccessToken::secret`] has the text. [`AccessToken::issued_token_type`] names
    /// the type of the token.
    ///
    /// Microsoft Entra ID has no token exchange. Call
    /// [`acquire_token_on_behalf_of`](Self::acquire_token_on_behalf_of) there.
    ///
    /// ```
    /// # use bytes::Bytes;
    /// use confidential_client::delegated::{TokenExchange, TokenTypeIdentifier};
    /// use confidential_client::{Authority, ConfidentialClient};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let received_token = "eyJ";
    /// let client = ConfidentialClient::builder("gateway")
    ///     .authority(Authority::oidc("https://id.example/realms/shop"))
    ///     .client_secret("the secret's value")
    /// #   .transport(|request: http::Request<Bytes>| async move {
    /// #       let body = match request.uri().path().ends_with("openid-configuration") {
    /// #           true => r#"{"issuer":"https://id.example/realms/shop","token_endpoint":"https://id.example/t"}"#,
    /// #           false => r#"{"token_type":"Bearer","expires_in":300,"access_token":"abc","issued_token_type":"urn:ietf:params:oauth:token-type:access_token"}"#,
    /// #       };
    /// #       Ok(http::Response::new(Bytes::from(body)))
    /// #   })
    ///     .build()?;
    ///
    /// // An API received this token, and calls another API for the same user.
    /// let exchange = TokenExchange::new(received_token, TokenTypeIdentifier::ACCESS_TOKEN)
    ///     .audience("orders");
    /// let token = client.exchange_token(&exchange).await?;
    /// assert_eq!(
    ///     token.issued_token_type(),
    ///     Some(TokenTypeIdentifier::ACCESS_TOKEN.as_str())
    /// );
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Config`] before the network: the authority is one of Microsoft's; an exchanged
    /// token is empty or contains white space; a token type is not a URI; a resource is not an
    /// absolute URI. [`Error::InvalidResponse`]: the response does not say what the issued token
    /// is. [`Error::Server`] with `invalid_request` if the provider rejects the subject token or
    /// the actor token, and with `invalid_target` for an audience or a resource that the client
    /// must not use ([RFC 8693 section 2.2.2]). The errors of
    /// [`acquire_token_for_client`](Self::acquire_token_for_client).
    ///
    /// [RFC 8693]: https://www.rfc-editor.org/rfc/rfc8693
    /// [RFC 8693 section 2.2.1]: https://www.rfc-editor.org/rfc/rfc8693#section-2.2.1
    /// [RFC 8693 section 2.2.2]: https://www.rfc-editor.org/rfc/rfc8693#section-2.2.2
    #[doc(alias("impersonate", "subject_token", "token-exchange"))]
    pub async fn exchange_token(&self, exchange: &TokenExchange) -> Result<AccessToken, Error> {
        let subject = Subject::Exchange(exchange.clone());
        let request = self.fetcher.resolve(exchange.request().clone(), subject)?;
        self.acquirer.acquire(request).await
    }

    /// Returns a [`TokenProvider`] for the tokens of [`exchange_token`](Self::exchange_token).
    ///
    /// For the adapters, during one call of the user's. The provider keeps the exchanged tokens.
    /// Does no I/O.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for an exchange that [`exchange_token`](Self::exchange_token) or
    /// [`token_provider`](Self::token_provider) rejects.
    pub fn token_provider_for_exchange(
        &self,
        exchange: &TokenExchange,
    ) -> Result<TokenProvider, Error> {
        exchange.check()?;
        let subject = Subject::Exchange(exchange.clone());
        let request = self.fetcher.resolve(exchange.request().clone(), subject)?;
        self.acquirer.bind(request)
    }

    /// Returns a [`TokenProvider`] for the tokens of
    /// [`acquire_token_silent`](Self::acquire_token_silent). Does no I/O.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a request that [`token_provider`](Self::token_provider) rejects.
    pub fn token_provider_silent(
        &self,
        account: &Account,
        request: impl IntoTokenRequest,
    ) -> Result<TokenProvider, Error> {
        let subject = Subject::Account(account.clone());
        let request = self
            .fetcher
            .resolve(request.into_token_request(), subject)?;
        self.acquirer.bind(request)
    }
}
