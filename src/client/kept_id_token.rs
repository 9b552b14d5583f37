//! The ID tokens of a client that keeps them.

use std::time::SystemTime;

use serde_json::{Map, Value};

use super::ConfidentialClient;
use super::fetch::{Fetch, TokenFetcher};
use crate::authority::Rules;
use crate::delegated::{Account, AuthenticationResult, UserIdentity, invalid_id_token};
use crate::error::Error;
use crate::jwt::{SignedJwt, time_claim};
use crate::request::IntoTokenRequest;
use crate::secret::Secret;
use crate::token::{TokenSource, UserKey};

/// # ID tokens of signed-in users
impl ConfidentialClient {
    /// Acquires an access token and the latest ID token of a signed-in user, without user
    /// interaction.
    ///
    /// For a client with
    /// [`keep_id_tokens`](crate::ConfidentialClientBuilder::keep_id_tokens). The access token is
    /// that of [`acquire_token_silent`](Self::acquire_token_silent). The ID token is the one of the
    /// user's latest refresh, or of the sign-in. Each refresh requests a new ID token, which is
    /// validated as at the sign-in: signature, `iss`, `sub`, `aud`, `exp` and the comparison with
    /// the sign-in's ID token ([OpenID Connect Core section 12.2]).
    ///
    /// If the ID token has expired, the client refreshes the user's tokens even if the access token
    /// is valid, at most once in five minutes. A provider may send no ID token with a refresh. The
    /// last ID token is then returned, and
    /// [`IdTokenClaims::expires_on`](crate::delegated::IdTokenClaims::expires_on) tells its age.
    /// An ID token by a new key is not kept while the provider's keys cannot be looked up.
    ///
    /// The returned account is `account`. At Microsoft Entra ID the ID token is always of the
    /// directory of the sign-in. A refresh for another tenant, where a guest has other roles, does
    /// not replace the ID token.
    ///
    /// With a [shared cache](crate::ConfidentialClientBuilder::shared_cache) the client reads the
    /// record of the user's session if this process has no valid ID token. Another process's
    /// sign-out takes effect here when the ID token has expired.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] without `keep_id_tokens`. [`Error::InvalidResponse`] if there is no ID
    /// token of the user, because the refresh token was imported and the provider sends none with a
    /// refresh. The errors of [`acquire_token_silent`](Self::acquire_token_silent).
    ///
    /// [OpenID Connect Core section 12.2]: https://openid.net/specs/openid-connect-core-1_0.html#RefreshTokenResponse
    #[doc(alias = "AcquireTokenSilent")]
    pub async fn acquire_id_token_silent(
        &self,
        account: &Account,
        request: impl IntoTokenRequest,
    ) -> Result<AuthenticationResult, Error> {
        if !self.fetcher.keeps_id_tokens {
            return Err(Error::config(
                "the client keeps no ID tokens; call keep_id_tokens() on its builder, or acquire_token_silent(..) for an access token alone",
            ));
        }
        let request = request.into_token_request();
        let mut token = self.acquire_token_silent(account, &request).await?;
        let mut kept = self.kept_id_token(account).await;
        let now = self.fetcher.clock.wall();
        let is_valid = kept.as_ref().is_some_and(|kept| kept.is_valid(now));
        if !is_valid && token.source() != TokenSource::IdentityProvider {
            let session = self.acquirer.tokens().session(account.user());
            if session.may_refresh_id_token(now) {
                let request = request.force_refresh();
                token = self.acquire_token_silent(account, request).await?;
                kept = self.kept_id_token(account).await;
            }
        }
        match kept {
            Some(KeptIdToken { id_token, claims }) => Ok(AuthenticationResult::new(
                token,
                account.clone(),
                id_token,
                claims,
            )),
            None => Err(invalid_id_token(
                "the provider sent none with the refresh, and there is none of a sign-in; let the user sign in, or call acquire_token_silent(..)",
            )),
        }
    }

    /// Returns the latest ID token of a user: the valid one in memory, or else that of the shared
    /// cache.
    async fn kept_id_token(&self, account: &Account) -> Option<KeptIdToken> {
        let tokens = self.acquirer.tokens();
        let Some(level) = self.acquirer.shared() else {
            let session = tokens.existing_session(account.user())?;
            return KeptIdToken::new(session.id_token()?);
        };
        // A sign-out or a sign-in during the wait removes this session, and what it keeps.
        let session = tokens.session(account.user());
        let before = session.id_token();
        let in_memory = before.clone().and_then(KeptIdToken::new);
        let now = self.fetcher.clock.wall();
        if in_memory.as_ref().is_some_and(|kept| kept.is_valid(now)) {
            return in_memory;
        }
        let stored = async {
            let name = level.session_name(account.user()).ok()?;
            let found = level.get_session(&name).await.ok()?;
            KeptIdToken::new(found.content?.id_token?)
        };
        let expiry = |kept: &KeptIdToken| kept.expires_on();
        let stored = stored.await;
        let later = stored.filter(|stored| expiry(stored) > in_memory.as_ref().and_then(expiry));
        let Some(stored) = later else {
            return session.id_token().and_then(KeptIdToken::new);
        };
        // A refresh during the wait brought a later one.
        let kept = session.replace_id_token(before.as_ref(), stored.id_token);
        KeptIdToken::new(kept)
    }
}

impl TokenFetcher {
    /// Returns whether the client keeps the ID token of a response.
    pub(super) fn keeps_id_token(&self, fetch: &Fetch) -> bool {
        let is_of_account = matches!(fetch.key.user.as_deref(), Some(UserKey::Account(_)));
        self.keeps_id_tokens && is_of_account
    }

    /// Returns whether a validated ID token is one of the account of the request. `before` is the
    /// user that the earlier responses named.
    ///
    /// The comparison with the earlier responses is not enough for a refresh token of another
    /// library, whose user no response has named. It is not enough for a guest either, who has
    /// other roles and another ID in each directory of Microsoft Entra ID.
    pub(super) fn names_account(
        &self,
        fetch: &Fetch,
        before: Option<&UserIdentity>,
        named: Option<&UserIdentity>,
    ) -> bool {
        match (fetch.key.user.as_deref(), named) {
            (Some(UserKey::Account(home_account_id)), Some(named)) => {
                match self.endpoints.rules() {
                    Rules::Entra => named.is_of_directory_of(before, home_account_id),
                    _ => named.subject() == Some(&**home_account_id),
                }
            }
            _ => false,
        }
    }
}

/// An ID token that was validated, and its claims.
struct KeptIdToken {
    id_token: Secret,
    claims: Map<String, Value>,
}

impl KeptIdToken {
    /// Decodes the claims. The ID token was validated before the client kept it.
    fn new(id_token: Secret) -> Option<Self> {
        let claims = SignedJwt::unverified_claims(id_token.expose())?;
        Some(Self { id_token, claims })
    }

    fn is_valid(&self, now: SystemTime) -> bool {
        self.expires_on().is_some_and(|expires| expires > now)
    }

    fn expires_on(&self) -> Option<SystemTime> {
        time_claim(&self.claims, "exp").ok().flatten()
    }
}
