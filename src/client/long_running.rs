use std::sync::Arc;

use tokio::time::Instant;
use tracing::Instrument;
use uuid::Uuid;

use super::ConfidentialClient;
use super::fetch::Fetch;
use super::resolve::Subject;
use crate::delegated::{SessionKey, UserAssertion};
use crate::error::{Error, Failure};
use crate::request::IntoTokenRequest;
use crate::token::AccessToken;

/// # Acting for a user after the user's call
impl ConfidentialClient {
    /// Starts a process that acts for the user of an assertion for longer than the assertion
    /// lives.
    ///
    /// Always sends a token request (the on-behalf-of flow), and keeps its refresh token under the
    /// returned key. [`continue_long_running_on_behalf_of`] then acquires tokens without the
    /// assertion. With a [shared cache], any process continues with the key, and the user's session
    /// survives a restart. Without a shared cache, the key is valid in this process alone.
    ///
    /// The assertion is validated as [`acquire_token_on_behalf_of`] describes: validate the
    /// assertion first.
    ///
    /// ```
    /// # use bytes::Bytes;
    /// use confidential_client::ConfidentialClient;
    /// use confidential_client::delegated::UserAssertion;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = ConfidentialClient::builder("11111111-2222-3333-4444-555555555555")
    /// #     .tenant("contoso.onmicrosoft.com")
    /// #     .client_secret("the secret's value")
    /// #     .transport(|_: http::Request<Bytes>| async {
    /// #         let body = r#"{"token_type":"Bearer","expires_in":3599,"access_token":"abc",
    /// #             "refresh_token":"def"}"#;
    /// #         Ok(http::Response::new(Bytes::from(body)))
    /// #     })
    /// #     .build()?;
    /// # let received_token = "opaque";
    /// let scope = "https://graph.microsoft.com/Files.Read";
    /// let user = UserAssertion::new(received_token);
    /// let key = client.start_long_running_on_behalf_of(&user, scope).await?;
    ///
    /// // Hours later, in the job.
    /// let token = client.continue_long_running_on_behalf_of(&key, scope).await?;
    /// # assert_eq!(token.secret(), "abc");
    /// client.stop_long_running_on_behalf_of(&key).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::InvalidResponse`] if the provider sent no refresh token. The errors of
    /// [`acquire_token_on_behalf_of`].
    ///
    /// [`acquire_token_on_behalf_of`]: Self::acquire_token_on_behalf_of
    /// [`continue_long_running_on_behalf_of`]: Self::continue_long_running_on_behalf_of
    /// [shared cache]: crate::ConfidentialClientBuilder::shared_cache
    #[doc(alias = "InitiateLongRunningProcessInWebApi")]
    pub async fn start_long_running_on_behalf_of(
        &self,
        assertion: &UserAssertion,
        request: impl IntoTokenRequest,
    ) -> Result<SessionKey, Error> {
        assertion.check()?;
        let key = SessionKey::random(assertion.tenant());
        let subject = Subject::LongRunning(key.clone());
        let fetcher = &self.fetcher;
        let request = fetcher.resolve(request.into_token_request(), subject)?;
        let fetch = Fetch {
            key: Arc::new(request.key.clone()),
            tenant: request.key.tenant.clone(),
            scopes: Arc::clone(request.scopes_to_send(fetcher.endpoints.rules())),
            claims: request.requirements.claims().cloned(),
            headers: request.request.extra_headers().clone(),
            rejected: None,
            correlation_id: request
                .correlation_id
                .unwrap_or_else(Uuid::new_v4)
                .to_string(),
            is_refresh: false,
            requirements: Default::default(),
            has_token: false,
            binding: fetcher.token_binding(),
            anchor_mailbox: Default::default(),
            identity: Default::default(),
            progress: Default::default(),
            agent: None,
        };
        let deadline = Instant::now() + fetcher.retry.total_timeout();
        let redeeming = fetcher.redeem_assertion(&fetch, assertion, deadline);
        let redeeming = fetcher.with_deadline_and_report(&fetch, deadline, redeeming);
        // Boxed, since the future is large and a start is rare.
        let redeeming = Box::pin(redeeming.instrument(fetch.span()));
        let redeemed = self.acquirer.tokens().request(redeeming).await?;
        let Some(refresh_token) = redeemed.refresh_token else {
            let message = "the identity provider sent no refresh token, without which no process can act for the user after the assertion's expiry; grant the application offline_access";
            return Err(Error::InvalidResponse(Failure::new(message).into()));
        };
        let issued = Arc::new(redeemed.issued);
        let stored = self.store_user(
            key.user(),
            issued,
            Some(refresh_token),
            redeemed.identity,
            None,
        );
        stored.await?;
        Ok(key)
    }

    /// Acquires a token for the user of a long-running process, by its key.
    ///
    /// Returns the cached token while the token is valid, else redeems the refresh token of
    /// [`start_long_running_on_behalf_of`](Self::start_long_running_on_behalf_of). Any scope can be
    /// requested that the user granted.
    ///
    /// # Errors
    ///
    /// [`Error::InteractionRequired`] if the key is not known, with the key's fingerprint. The
    /// errors of [`acquire_token_silent`](Self::acquire_token_silent).
    #[doc(alias = "AcquireTokenInLongRunningProcess")]
    pub async fn continue_long_running_on_behalf_of(
        &self,
        key: &SessionKey,
        request: impl IntoTokenRequest,
    ) -> Result<AccessToken, Error> {
        let subject = Subject::LongRunning(key.clone());
        let request = self
            .fetcher
            .resolve(request.into_token_request(), subject)?;
        self.acquirer.acquire(request).await
    }

    /// Removes the access tokens and the refresh token of a long-running process.
    ///
    /// Does I/O only with a [shared cache](crate::ConfidentialClientBuilder::shared_cache).
    ///
    /// # Errors
    ///
    /// [`Error::Transport`] if the shared cache does not respond. Call the method again.
    #[doc(alias = "StopLongRunningProcessInWebApiAsync")]
    pub async fn stop_long_running_on_behalf_of(&self, key: &SessionKey) -> Result<(), Error> {
        self.remove_user(key.user()).await
    }
}
