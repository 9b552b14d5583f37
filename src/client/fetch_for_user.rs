use std::sync::Arc;

use tokio::time::Instant;

use super::fetch::{Fetch, Phase, TokenFetcher};
use crate::cache::UserSession;
use crate::delegated::UserAssertion;
use crate::error::{Error, Failure};
use crate::grant::Grant;
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
            let grant = Grant::RefreshToken(refresh_token);
            match self.request_token(fetch, grant, deadline).await {
                Ok(response) => {
                    if let Some(rotated) = response.refresh_token {
                        lease.replace(Some(rotated));
                    }
                    return Ok(response.issued);
                }
                Err(error) if error.is_grant_used_up() => rejection = Some(error),
                Err(error) => return Err(error),
            }
            lease.replace(None);
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
        if let (Some(session), Some(refresh_token)) = (session, response.refresh_token) {
            session.store(refresh_token);
        }
        Ok(response.issued)
    }
}

/// Returns the error of a user without a grant. The sign-in has to meet `claims`.
pub(super) fn interaction_required(claims: Option<Arc<str>>) -> Error {
    let message = "the user has to sign in: there is no refresh token for them, because they did not sign in to this process, the sign-in returned none, or it was used up";
    Error::InteractionRequired(Failure::new(message).claims(claims).into())
}
