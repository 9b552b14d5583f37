use std::sync::Arc;

use super::ConfidentialClient;
use super::fetch_shared::{import_session, store_sign_in};
use crate::cache::{HeldSlot, UserSession, runtime_handle};
use crate::delegated::{Account, UserIdentity};
use crate::error::{Error, Failure};
use crate::secret::Secret;
use crate::shared_cache::StoreFailed;
use crate::token::{IssuedToken, UserKey};

/// # Users' sessions
impl ConfidentialClient {
    /// Imports the refresh token of a user who signed in with another library.
    ///
    /// [`acquire_token_silent`](Self::acquire_token_silent) then works for the account without a
    /// sign-in. Does I/O only with a
    /// [shared cache](crate::ConfidentialClientBuilder::shared_cache), and sends no token request.
    /// The other library must not use the refresh token any more. Import a refresh token once: if
    /// the shared cache restarts empty, a second import brings the used refresh token back.
    ///
    /// Returns `false` if the user has a session already, which is kept. Several
    /// processes may therefore import the same users.
    ///
    /// ```
    /// # use bytes::Bytes;
    /// use confidential_client::ConfidentialClient;
    /// use confidential_client::delegated::Account;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = ConfidentialClient::builder("11111111-2222-3333-4444-555555555555")
    /// #     .tenant("contoso.onmicrosoft.com")
    /// #     .client_secret("the secret's value")
    /// #     .transport(|_: http::Request<Bytes>| async {
    /// #         let body = r#"{"token_type":"Bearer","expires_in":3599,"access_token":"abc"}"#;
    /// #         Ok(http::Response::new(Bytes::from(body)))
    /// #     })
    /// #     .build()?;
    /// // The home account ID of MSAL: `{object id}.{tenant id}`.
    /// let account = Account::from_home_account_id(
    ///     "4f2b3e1a-0000-0000-0000-000000000001.72f988bf-86f1-41af-91ab-2d7cd011db47",
    /// );
    /// # let refresh_token = "of MSAL's cache";
    /// assert!(client.import_refresh_token(&account, refresh_token).await?);
    /// let scope = "https://graph.microsoft.com/User.Read";
    /// let token = client.acquire_token_silent(&account, scope).await?;
    /// # assert_eq!(token.secret(), "abc");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for an empty refresh token. [`Error::Transport`] if the shared cache does
    /// not respond.
    #[doc(alias = "AcquireTokenByRefreshToken")]
    pub async fn import_refresh_token(
        &self,
        account: &Account,
        refresh_token: impl Into<Secret>,
    ) -> Result<bool, Error> {
        let refresh_token = refresh_token.into();
        if refresh_token.expose().trim().is_empty() {
            return Err(Error::config("the refresh token to import is empty"));
        }
        let rules = self.fetcher.endpoints.rules();
        let identity = UserIdentity::of_account(account.home_account_id(), rules);
        let session = self.acquirer.tokens().session(account.user());
        match self.acquirer.shared() {
            None => Ok(session.import(refresh_token, identity)),
            Some(level) => {
                runtime_handle()?;
                import_session(level, &session, refresh_token, identity).await
            }
        }
    }

    /// Removes a user's access tokens and refresh token, for a sign-out.
    ///
    /// Does I/O only with a [shared cache](crate::ConfidentialClientBuilder::shared_cache), from
    /// which the refresh token is removed, too. Another process may then serve the user's access
    /// token from its memory until the expiry, and cannot refresh the token.
    ///
    /// The provider's own session in the user's browser ends at its end-session page. Access tokens
    /// already returned stay valid until expiry. A token request in flight is aborted, and
    /// nothing of the response is cached. Waiting callers receive [`Error::InteractionRequired`].
    ///
    /// # Errors
    ///
    /// [`Error::Transport`] if the shared cache does not respond. The tokens in memory are removed,
    /// and the user stays signed in in other processes. Call the method again.
    pub async fn remove_account(&self, account: &Account) -> Result<(), Error> {
        self.remove_user(account.user()).await
    }

    /// Caches the tokens of a user, in place of earlier tokens.
    pub(super) async fn store_user(
        &self,
        user: &Arc<UserKey>,
        issued: Arc<IssuedToken>,
        refresh_token: Option<Secret>,
        identity: Option<UserIdentity>,
        id_token: Option<Secret>,
    ) -> Result<HeldSlot, Error> {
        let tokens = self.acquirer.tokens();
        let level = self.acquirer.shared();
        let in_memory = refresh_token.clone().filter(|_| level.is_none());
        let session = UserSession::new(Arc::clone(user), in_memory, identity.clone());
        let session = Arc::new(session);
        if let Some(id_token) = &id_token {
            session.keep_id_token(id_token.clone());
        }
        let slot = tokens.sign_in(Arc::clone(&session), Arc::clone(&issued));
        if let Some(level) = level {
            let storing = store_sign_in(level, session, &issued, refresh_token, identity, id_token);
            storing.await?;
        }
        Ok(slot)
    }

    /// Removes the tokens of a user from memory and from the shared cache.
    pub(super) async fn remove_user(&self, user: &UserKey) -> Result<(), Error> {
        self.acquirer.tokens().sign_out(user);
        let Some(level) = self.acquirer.shared() else {
            return Ok(());
        };
        // Outside a runtime a timer panics.
        runtime_handle()?;
        let name = level.session_name(user)?;
        let removed = level.remove_session(&name).await;
        // Another caller may have read the session in the meantime.
        self.acquirer.tokens().sign_out(user);
        removed.map_err(|StoreFailed| {
            let message = "the user's session was not removed from the shared cache, which does not respond; call the method again";
            Error::Transport(Failure::new(message).not_sent().into())
        })
    }
}
