use super::{ConfidentialClient, Subject};
use crate::client::TokenProvider;
use crate::delegated::{Account, UserAssertion};
use crate::error::Error;
use crate::request::TokenRequest;
use crate::token::AccessToken;

/// # Acting for a user
impl ConfidentialClient {
    /// Gets a token for another API on behalf of the user whose token this API was called with: from
    /// memory while there is a good one, else by the jwt-bearer grant ([RFC 7523 section 2.1]) as
    /// [Microsoft Entra ID] takes it.
    ///
    /// Ask for the scopes of one API, such as `https://graph.microsoft.com/User.Read`; `openid`,
    /// `profile` and `offline_access` are added. Tokens are cached under the assertion's SHA-256 and
    /// shared, renewed and bounded as those of
    /// [`acquire_token_for_client`](Self::acquire_token_for_client) are; a refresh token, if one came,
    /// renews them even when the assertion has ended. So a user who comes with another token is
    /// somebody new, and nobody is ever served another's token.
    ///
    /// **Validate the assertion first**: whoever has a good token in memory under it is served it
    /// without the identity provider looking at the assertion again.
    ///
    /// The token asks the tenant of the request, or the client's own; a client built for
    /// `organizations` or `common` asks the one that the assertion was issued in (`tid`).
    ///
    /// # Errors
    ///
    /// [`Error::Config`] before the network: no scope, an assertion that is empty or an application's
    /// own token, which has no user. After it, those of
    /// [`acquire_token_for_client`](Self::acquire_token_for_client), and where the user has to
    /// consent, or to sign in with another factor, one that
    /// [needs user interaction](Error::needs_user_interaction): hand its
    /// [`claims_challenge`](Error::claims_challenge) to the caller.
    ///
    /// [RFC 7523 section 2.1]: https://www.rfc-editor.org/rfc/rfc7523#section-2.1
    /// [Microsoft Entra ID]: https://learn.microsoft.com/entra/identity-platform/v2-oauth2-on-behalf-of-flow
    pub async fn acquire_token_on_behalf_of(
        &self,
        assertion: &UserAssertion,
        request: impl Into<TokenRequest>,
    ) -> Result<AccessToken, Error> {
        let subject = Subject::OnBehalfOf(assertion.clone());
        let (slot, call) = self.place(request.into(), subject)?;
        self.token(&slot, &call).await
    }

    /// Gets another token for a user who signed in: from memory while there is a good one, else by
    /// the refresh token ([RFC 6749 section 6]) that came last, for this API's scopes or another's.
    ///
    /// One refresh token is redeemed by one request at a time, and the one that comes back takes its
    /// place, as providers that rotate them want it. An OpenID provider is asked for the scopes of
    /// the request alone: it refuses those that it never granted, and `profile` may be one.
    ///
    /// # Errors
    ///
    /// [`Error::InteractionRequired`] where nothing in memory can go on for the user, before the
    /// network; the provider's refusal where it wants to see them
    /// ([`needs_user_interaction`](Error::needs_user_interaction) tells both); and those of
    /// [`acquire_token_for_client`](Self::acquire_token_for_client).
    ///
    /// [RFC 6749 section 6]: https://www.rfc-editor.org/rfc/rfc6749#section-6
    pub async fn acquire_token_silent(
        &self,
        account: &Account,
        request: impl Into<TokenRequest>,
    ) -> Result<AccessToken, Error> {
        let subject = Subject::Account(account.clone());
        let (slot, call) = self.place(request.into(), subject)?;
        self.token(&slot, &call).await
    }

    /// Binds a user's request to its place in the cache, as [`token_provider`](Self::token_provider)
    /// does an application's: for the adapters, for the time of one call of the user's. It keeps the
    /// assertion for as long as it lives. Does no I/O.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for what [`acquire_token_on_behalf_of`](Self::acquire_token_on_behalf_of) or
    /// [`token_provider`](Self::token_provider) would refuse.
    pub fn token_provider_on_behalf_of(
        &self,
        assertion: &UserAssertion,
        request: impl Into<TokenRequest>,
    ) -> Result<TokenProvider, Error> {
        assertion.check()?;
        let subject = Subject::OnBehalfOf(assertion.clone());
        self.bind(request.into(), subject)
    }

    /// The same for a user who signed in: what
    /// [`acquire_token_silent`](Self::acquire_token_silent) gets. Does no I/O.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for what [`token_provider`](Self::token_provider) would refuse.
    pub fn token_provider_silent(
        &self,
        account: &Account,
        request: impl Into<TokenRequest>,
    ) -> Result<TokenProvider, Error> {
        let subject = Subject::Account(account.clone());
        self.bind(request.into(), subject)
    }
}
