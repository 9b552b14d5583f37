use std::sync::Arc;

use tokio::time::Instant;

use super::fetch::{Fetch, Phase, TokenFetcher};
use crate::cache::{RefreshTokenLease, UserSession};
use crate::delegated::UserAssertion;
use crate::error::{Error, Failure};
use crate::grant::{Grant, SingleUseGrant};
use crate::token::IssuedToken;

/// The grants of a user: a refresh token, and an assertion to fall back to.
pub(super) struct UserGrant {
    pub(super) session: Option<Arc<UserSession>>,
    pub(super) assertion: Option<UserAssertion>,
}

impl TokenFetcher {
    /// Fetches a token for a user by the refresh token, or else by the assertion.
    pub(super) async fn fetch_for_user(
        &self,
        fetch: &Fetch,
        user: UserGrant,
        deadline: Instant,
    ) -> Result<IssuedToken, Error> {
        let session = user.session.as_deref();
        fetch.enter(Phase::RefreshToken);
        let lease = match session {
            Some(session) => Some(session.lease_refresh_token(deadline).await),
            None => None,
        };
        fetch.enter(Phase::Credential);
        let mut rejection = None;
        if let Some(lease) = &lease
            && let Some(refresh_token) = lease.refresh_token()
        {
            if refresh_token.is_in_doubt() && self.refresh_token_rotation {
                rejection = Some(in_doubt(fetch.claims.clone()));
            } else {
                match self.refresh(fetch, lease, refresh_token, deadline).await {
                    Err(error) if error.is_grant_used_up() => rejection = Some(error),
                    outcome => return outcome,
                }
                lease.replace(None);
            }
        }
        let Some(assertion) = user.assertion else {
            return Err(rejection.unwrap_or_else(|| interaction_required(fetch.claims.clone())));
        };
        let grant = Grant::OnBehalfOf {
            assertion: assertion.secret(),
        };
        // Many requests may use an assertion at a time, unlike a refresh token.
        drop(lease);
        let response = self.request_token(fetch, grant, deadline).await?;
        if let Some(session) = session {
            // The assertion says whose tokens these are. An ID token is optional.
            let identity = self.refreshed_identity(fetch, &response, false).await.ok();
            let before = session.identity();
            if let (Some(before), Some(identity)) = (&before, &identity) {
                before
                    .check_refreshed(identity)
                    .inspect_err(|_| session.forget())?;
            }
            if let Some(refresh_token) = response.refresh_token {
                session.store(refresh_token, identity);
            }
        }
        Ok(response.issued)
    }

    /// Redeems a refresh token, and checks that the tokens belong to the same user as before
    /// ([OpenID Connect Core section 12.2]).
    ///
    /// The tokens of another user are dropped with the refresh token: the user signs in again.
    ///
    /// [OpenID Connect Core section 12.2]: https://openid.net/specs/openid-connect-core-1_0.html#RefreshTokenResponse
    async fn refresh(
        &self,
        fetch: &Fetch,
        lease: &RefreshTokenLease<'_>,
        refresh_token: &SingleUseGrant,
        deadline: Instant,
    ) -> Result<IssuedToken, Error> {
        let identity = lease.identity();
        let is_validated = identity.is_some_and(|identity| identity.is_validated());
        if is_validated {
            // The keys first: a refresh token may be valid for one request.
            fetch.enter(Phase::Discovery);
            let lookup = self.lookup(&fetch.correlation_id);
            let tenant = fetch.tenant.as_ref();
            self.endpoints.issuer_keys(tenant, &lookup).await?;
        }
        let grant = Grant::RefreshToken(refresh_token);
        let response = self.request_token(fetch, grant, deadline).await?;
        let refreshed = self
            .refreshed_identity(fetch, &response, is_validated)
            .await;
        let checked = match identity {
            Some(identity) => refreshed.and_then(|refreshed| {
                identity.check_refreshed(&refreshed)?;
                Ok(Some(refreshed))
            }),
            // No earlier response named a user.
            None => Ok(refreshed.ok()),
        };
        match checked {
            Ok(named) => lease.learn(named),
            Err(error) => {
                lease.discard();
                return Err(error);
            }
        }
        match response.refresh_token {
            Some(rotated) => lease.replace(Some(rotated)),
            // The refresh token stays valid (RFC 6749 section 6).
            None => refresh_token.mark_not_redeemed(),
        }
        Ok(response.issued)
    }
}

/// Returns the error of a user without a grant. The sign-in has to meet `claims`.
pub(super) fn interaction_required(claims: Option<Arc<str>>) -> Error {
    let message = "the user has to sign in: there is no refresh token for them, because they did not sign in to this process, the sign-in returned none, or it was used up";
    Error::InteractionRequired(Failure::new(message).claims(claims).into())
}

/// Returns the error of a user whose refresh token may have been redeemed.
pub(super) fn in_doubt(claims: Option<Arc<str>>) -> Error {
    let message = "the user has to sign in: a request with their refresh token ended without a clear response, and the identity provider may treat a second use of the refresh token as theft; for a provider that accepts a refresh token more than once, call refresh_token_rotation(false) on the client's builder";
    Error::InteractionRequired(Failure::new(message).claims(claims).into())
}
