use super::{ConfidentialClient, TokenProvider};
use crate::client::Subject;
use crate::delegated::{
    Account, AuthenticationResult, AuthorizationCodeFlow, AuthorizationRequest, EndSessionRequest,
    SessionKey, TokenExchange, UserAssertion,
};
use crate::error::Error;
use crate::request::IntoTokenRequest;
use crate::secret::Secret;
use crate::token::AccessToken;

/// # Acting for a user
impl ConfidentialClient {
    /// Acquires a token for another API on behalf of the user who called this API, like
    /// [`acquire_token_on_behalf_of`](crate::ConfidentialClient::acquire_token_on_behalf_of).
    ///
    /// **Validate the assertion first.** A cached token is returned without the hidden thread, and
    /// without the identity provider checking the assertion again.
    ///
    /// # Errors
    ///
    /// The errors of the async method, and the [errors of a blocking call](super#errors).
    #[doc(alias = "OnBehalfOfCredential")]
    pub fn acquire_token_on_behalf_of(
        &self,
        assertion: &UserAssertion,
        request: impl IntoTokenRequest,
    ) -> Result<AccessToken, Error> {
        let instead = "client.as_async().acquire_token_on_behalf_of(..)";
        let subject = Subject::OnBehalfOf(assertion.clone());
        self.acquire(instead, request.into_token_request(), subject)
    }

    /// Acquires a token for a signed-in user, without user interaction, like
    /// [`acquire_token_silent`](crate::ConfidentialClient::acquire_token_silent).
    ///
    /// A cached token is returned without the hidden thread.
    ///
    /// # Errors
    ///
    /// The errors of the async method, and the [errors of a blocking call](super#errors).
    #[doc(alias = "acquire_token_by_refresh_token")]
    pub fn acquire_token_silent(
        &self,
        account: &Account,
        request: impl IntoTokenRequest,
    ) -> Result<AccessToken, Error> {
        let instead = "client.as_async().acquire_token_silent(..)";
        let subject = Subject::Account(account.clone());
        self.acquire(instead, request.into_token_request(), subject)
    }

    /// Exchanges a token for another at an OpenID provider ([RFC 8693]), like
    /// [`exchange_token`](crate::ConfidentialClient::exchange_token).
    ///
    /// **Validate the subject token first.** A cached token is returned without the hidden thread,
    /// and without the identity provider checking the subject token again.
    ///
    /// # Errors
    ///
    /// The errors of the async method, and the [errors of a blocking call](super#errors).
    ///
    /// [RFC 8693]: https://www.rfc-editor.org/rfc/rfc8693
    #[doc(alias("impersonate", "subject_token", "token-exchange"))]
    pub fn exchange_token(&self, exchange: &TokenExchange) -> Result<AccessToken, Error> {
        let instead = "client.as_async().exchange_token(..)";
        let subject = Subject::Exchange(exchange.clone());
        self.acquire(instead, exchange.request().clone(), subject)
    }

    /// Returns a [`TokenProvider`] for the tokens of
    /// [`acquire_token_on_behalf_of`](Self::acquire_token_on_behalf_of). Does no I/O.
    ///
    /// # Errors
    ///
    /// The errors of
    /// [the async client's method](crate::ConfidentialClient::token_provider_on_behalf_of).
    pub fn token_provider_on_behalf_of(
        &self,
        assertion: &UserAssertion,
        request: impl IntoTokenRequest,
    ) -> Result<TokenProvider, Error> {
        let client = self.as_async();
        let provider = client.token_provider_on_behalf_of(assertion, request)?;
        Ok(self.provider(provider))
    }

    /// Returns a [`TokenProvider`] for the tokens of
    /// [`acquire_token_silent`](Self::acquire_token_silent). Does no I/O.
    ///
    /// # Errors
    ///
    /// The errors of [the async client's method](crate::ConfidentialClient::token_provider_silent).
    pub fn token_provider_silent(
        &self,
        account: &Account,
        request: impl IntoTokenRequest,
    ) -> Result<TokenProvider, Error> {
        let provider = self.as_async().token_provider_silent(account, request)?;
        Ok(self.provider(provider))
    }

    /// Returns a [`TokenProvider`] for the tokens of [`exchange_token`](Self::exchange_token). Does
    /// no I/O.
    ///
    /// # Errors
    ///
    /// The errors of
    /// [the async client's method](crate::ConfidentialClient::token_provider_for_exchange).
    pub fn token_provider_for_exchange(
        &self,
        exchange: &TokenExchange,
    ) -> Result<TokenProvider, Error> {
        let provider = self.as_async().token_provider_for_exchange(exchange)?;
        Ok(self.provider(provider))
    }
}

/// # Acting for a user after the user's call
impl ConfidentialClient {
    /// Starts a process that acts for the user of an assertion for longer than the assertion
    /// lives, like [`start_long_running_on_behalf_of`][async].
    ///
    /// Always sends a token request. **Validate the assertion first.**
    ///
    /// # Errors
    ///
    /// The errors of the async method, and the [errors of a blocking call](super#errors).
    ///
    /// [async]: crate::ConfidentialClient::start_long_running_on_behalf_of
    #[doc(alias = "InitiateLongRunningProcessInWebApi")]
    pub fn start_long_running_on_behalf_of(
        &self,
        assertion: &UserAssertion,
        request: impl IntoTokenRequest,
    ) -> Result<SessionKey, Error> {
        let instead = "client.as_async().start_long_running_on_behalf_of(..)";
        let (assertion, request) = (assertion.clone(), request.into_token_request());
        self.wait(instead, |client| async move {
            let started = client.start_long_running_on_behalf_of(&assertion, request);
            started.await
        })
    }

    /// Acquires a token for the user of a long-running process, by its key, like
    /// [`continue_long_running_on_behalf_of`][async].
    ///
    /// A cached token is returned without the hidden thread.
    ///
    /// # Errors
    ///
    /// The errors of the async method, and the [errors of a blocking call](super#errors).
    ///
    /// [async]: crate::ConfidentialClient::continue_long_running_on_behalf_of
    #[doc(alias = "AcquireTokenInLongRunningProcess")]
    pub fn continue_long_running_on_behalf_of(
        &self,
        key: &SessionKey,
        request: impl IntoTokenRequest,
    ) -> Result<AccessToken, Error> {
        let instead = "client.as_async().continue_long_running_on_behalf_of(..)";
        let subject = Subject::LongRunning(key.clone());
        self.acquire(instead, request.into_token_request(), subject)
    }

    /// Removes the access tokens and the refresh token of a long-running process, like
    /// [`stop_long_running_on_behalf_of`][async].
    ///
    /// Does I/O only with a [shared cache](crate::ConfidentialClientBuilder::shared_cache). Works
    /// inside a tokio runtime without a shared cache.
    ///
    /// # Errors
    ///
    /// The errors of the async method, and the [errors of a blocking call](super#errors).
    ///
    /// [async]: crate::ConfidentialClient::stop_long_running_on_behalf_of
    #[doc(alias = "StopLongRunningProcessInWebApiAsync")]
    pub fn stop_long_running_on_behalf_of(&self, key: &SessionKey) -> Result<(), Error> {
        let instead = "client.as_async().stop_long_running_on_behalf_of(..)";
        let key = key.clone();
        let needs_no_io = self.as_async().keeps_sessions_in_memory();
        self.wait_unless(needs_no_io, instead, |client| async move {
            client.stop_long_running_on_behalf_of(&key).await
        })
    }
}

/// # Signing users in
impl ConfidentialClient {
    /// Returns the URL of the page where a user signs in, and the state of the sign-in, like
    /// [`authorization_request_url`](crate::ConfidentialClient::authorization_request_url).
    ///
    /// Does no I/O for Microsoft's authorities, and then works inside a tokio runtime, too.
    ///
    /// # Errors
    ///
    /// The errors of the async method, and the [errors of a blocking call](super#errors).
    #[doc(alias = "initiate_auth_code_flow")]
    #[doc(alias = "get_authorization_request_url")]
    pub fn authorization_request_url(
        &self,
        request: &AuthorizationRequest,
    ) -> Result<(String, AuthorizationCodeFlow), Error> {
        let instead = "client.as_async().authorization_request_url(..)";
        let request = request.clone();
        let needs_no_io = self.as_async().knows_pages();
        self.wait_unless(needs_no_io, instead, |client| async move {
            client.authorization_request_url(&request).await
        })
    }

    /// Returns the URL of the provider's page that ends the user's session there, like
    /// [`end_session_url`](crate::ConfidentialClient::end_session_url).
    ///
    /// Does no I/O for Microsoft's authorities, and then works inside a tokio runtime, too.
    ///
    /// # Errors
    ///
    /// The errors of the async method, and the [errors of a blocking call](super#errors).
    #[doc(alias = "logout")]
    pub fn end_session_url(&self, request: &EndSessionRequest) -> Result<String, Error> {
        let instead = "client.as_async().end_session_url(..)";
        let request = request.clone();
        let needs_no_io = self.as_async().knows_pages();
        self.wait_unless(needs_no_io, instead, |client| async move {
            client.end_session_url(&request).await
        })
    }

    /// Acquires an access token and the latest ID token of a signed-in user, like
    /// [`acquire_id_token_silent`](crate::ConfidentialClient::acquire_id_token_silent).
    ///
    /// # Errors
    ///
    /// The errors of the async method, and the [errors of a blocking call](super#errors).
    #[doc(alias = "AcquireTokenSilent")]
    pub fn acquire_id_token_silent(
        &self,
        account: &Account,
        request: impl IntoTokenRequest,
    ) -> Result<AuthenticationResult, Error> {
        let instead = "client.as_async().acquire_id_token_silent(..)";
        let (account, request) = (account.clone(), request.into_token_request());
        self.wait(instead, |client| async move {
            client.acquire_id_token_silent(&account, request).await
        })
    }

    /// Redeems the authorization code that a user's browser returned with, and caches the user's
    /// tokens, like [`acquire_token_by_authorization_code`][async].
    ///
    /// Call this method outside of a tokio runtime. A call inside one is an error, and the flow is
    /// gone with the call.
    ///
    /// # Errors
    ///
    /// The errors of the async method, and the [errors of a blocking call](super#errors).
    ///
    /// [async]: crate::ConfidentialClient::acquire_token_by_authorization_code
    #[doc(alias = "acquire_token_by_auth_code_flow")]
    pub fn acquire_token_by_authorization_code(
        &self,
        flow: AuthorizationCodeFlow,
        redirected: impl AsRef<str>,
    ) -> Result<AuthenticationResult, Error> {
        let instead = "client.as_async().acquire_token_by_authorization_code(..)";
        let redirected = redirected.as_ref().to_owned();
        self.wait(instead, |client| async move {
            let redeemed = client.acquire_token_by_authorization_code(flow, redirected);
            redeemed.await
        })
    }

    /// Redeems the authorization code of a sign-in without an ID token, like
    /// [`acquire_access_token_by_authorization_code`][async].
    ///
    /// # Errors
    ///
    /// The errors of the async method, and the [errors of a blocking call](super#errors).
    ///
    /// [async]: crate::ConfidentialClient::acquire_access_token_by_authorization_code
    pub fn acquire_access_token_by_authorization_code(
        &self,
        flow: AuthorizationCodeFlow,
        redirected: impl AsRef<str>,
    ) -> Result<AccessToken, Error> {
        let instead = "client.as_async().acquire_access_token_by_authorization_code(..)";
        let redirected = redirected.as_ref().to_owned();
        self.wait(instead, |client| async move {
            let redeemed = client.acquire_access_token_by_authorization_code(flow, redirected);
            redeemed.await
        })
    }

    /// Imports the refresh token of a user who signed in with another library, like
    /// [`import_refresh_token`](crate::ConfidentialClient::import_refresh_token).
    ///
    /// Does I/O only with a [shared cache](crate::ConfidentialClientBuilder::shared_cache). Works
    /// inside a tokio runtime without a shared cache.
    ///
    /// # Errors
    ///
    /// The errors of the async method, and the [errors of a blocking call](super#errors).
    #[doc(alias = "AcquireTokenByRefreshToken")]
    pub fn import_refresh_token(
        &self,
        account: &Account,
        refresh_token: impl Into<Secret>,
    ) -> Result<bool, Error> {
        let instead = "client.as_async().import_refresh_token(..)";
        let (account, refresh_token) = (account.clone(), refresh_token.into());
        let needs_no_io = self.as_async().keeps_sessions_in_memory();
        self.wait_unless(needs_no_io, instead, |client| async move {
            client.import_refresh_token(&account, refresh_token).await
        })
    }

    /// Removes a user's access tokens and refresh token, for a sign-out, like
    /// [`remove_account`](crate::ConfidentialClient::remove_account).
    ///
    /// Does I/O only with a [shared cache](crate::ConfidentialClientBuilder::shared_cache). Works
    /// inside a tokio runtime without a shared cache.
    ///
    /// # Errors
    ///
    /// The errors of the async method, and the [errors of a blocking call](super#errors).
    pub fn remove_account(&self, account: &Account) -> Result<(), Error> {
        let instead = "client.as_async().remove_account(..)";
        let account = account.clone();
        let needs_no_io = self.as_async().keeps_sessions_in_memory();
        self.wait_unless(needs_no_io, instead, |client| async move {
            client.remove_account(&account).await
        })
    }
}
