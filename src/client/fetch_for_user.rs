use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::fetch::{Fetch, Phase, TokenFetcher};
use super::user_fic::FederatedUser;
use crate::cache::UserSession;
use crate::delegated::{Fingerprint, TokenExchange, UserAssertion, UserIdentity};
use crate::error::{Error, Failure};
use crate::grant::{Grant, SingleUseGrant};
use crate::request::anchor_mailbox::AnchorMailbox;
use crate::secret::Secret;
use crate::token::{IssuedToken, UserKey};

/// The grant of a flight.
pub(super) enum FlightGrant {
    /// The application's own credential.
    Application,
    /// A token that is exchanged. The token can be exchanged again, so a refresh token in the
    /// response is not kept.
    Exchange(TokenExchange),
    User(UserGrant),
}

/// The grants of a user: a refresh token, and another grant to fall back to.
pub(super) struct UserGrant {
    pub(super) session: Option<Arc<UserSession>>,
    /// The grant in the place of a refresh token.
    pub(super) renewable: Option<RenewableGrant>,
}

/// A grant of a user that may be used more than once.
#[derive(Clone)]
pub(super) enum RenewableGrant {
    OnBehalfOf(UserAssertion),
    Federated(FederatedUser),
}

impl TokenFetcher {
    /// Fetches a token for a user by the refresh token, or else by the other grant.
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
                let identity = lease.identity();
                match self.refresh(fetch, identity, refresh_token, deadline).await {
                    Ok(refreshed) => {
                        lease.learn(refreshed.identity);
                        if let Some(id_token) = refreshed.id_token {
                            lease.keep_id_token(id_token);
                        }
                        match refreshed.refresh_token {
                            Some(rotated) => lease.replace(Some(rotated)),
                            // The refresh token stays valid (RFC 6749 section 6).
                            None => refresh_token.mark_not_redeemed(),
                        }
                        return Ok(refreshed.issued);
                    }
                    Err(RefreshFailure::OtherUser(error)) => {
                        lease.discard();
                        return Err(error);
                    }
                    Err(RefreshFailure::Request(error)) if error.is_grant_used_up() => {
                        rejection = Some(error);
                    }
                    Err(RefreshFailure::Request(error)) => return Err(error),
                }
                lease.replace(None);
            }
        }
        let Some(renewable) = user.renewable else {
            return Err(rejection.unwrap_or_else(|| {
                interaction_required(fetch.key.user.as_deref(), fetch.claims.clone())
            }));
        };
        // Many requests may use the grant at a time, unlike a refresh token.
        drop(lease);
        let response = self.redeem_renewable(fetch, &renewable, deadline).await?;
        if let Some(session) = session {
            let before = session.identity();
            if let (Some(before), Some(identity)) = (&before, &response.identity) {
                before
                    .check_refreshed(identity)
                    .inspect_err(|_| session.forget())?;
            }
            if let Some(refresh_token) = response.refresh_token {
                session.store(refresh_token, response.identity);
            }
        }
        Ok(response.issued)
    }

    /// Acquires a user's token by a grant that may be used more than once.
    pub(super) async fn redeem_renewable(
        &self,
        fetch: &Fetch,
        grant: &RenewableGrant,
        deadline: Instant,
    ) -> Result<Refreshed, Error> {
        match grant {
            RenewableGrant::OnBehalfOf(assertion) => {
                self.redeem_assertion(fetch, assertion, deadline).await
            }
            // Boxed, to keep the flight of another user small.
            RenewableGrant::Federated(user) => {
                Box::pin(self.redeem_federated(fetch, user, deadline)).await
            }
        }
    }

    /// Acquires a token on behalf of the user of an assertion.
    pub(super) async fn redeem_assertion(
        &self,
        fetch: &Fetch,
        assertion: &UserAssertion,
        deadline: Instant,
    ) -> Result<Refreshed, Error> {
        let grant = Grant::OnBehalfOf {
            assertion: assertion.secret(),
        };
        self.redeem_grant(fetch, grant, deadline).await
    }

    /// Sends a token request of a user with a grant that names the user.
    pub(super) async fn redeem_grant(
        &self,
        fetch: &Fetch,
        grant: Grant<'_>,
        deadline: Instant,
    ) -> Result<Refreshed, Error> {
        let response = self.request_token(fetch, grant, deadline).await?;
        // The grant says whose tokens these are. An ID token is optional.
        let named = self.refreshed_identity(fetch, &response, false).await.ok();
        let identity = named.map(|named| named.identity);
        Ok(Refreshed {
            issued: response.issued,
            refresh_token: response.refresh_token,
            identity,
            id_token: None,
        })
    }

    /// Redeems a refresh token, and checks that the tokens belong to the same user as before
    /// ([OpenID Connect Core section 12.2]).
    ///
    /// `identity` is the user that the earlier responses named.
    ///
    /// [OpenID Connect Core section 12.2]: https://openid.net/specs/openid-connect-core-1_0.html#RefreshTokenResponse
    pub(super) async fn refresh(
        &self,
        fetch: &Fetch,
        identity: Option<&UserIdentity>,
        refresh_token: &SingleUseGrant,
        deadline: Instant,
    ) -> Result<Refreshed, RefreshFailure> {
        fetch.set_anchor_mailbox(anchor_mailbox(fetch, identity));
        let keeps_id_token = self.keeps_id_token(fetch);
        let is_validated =
            keeps_id_token || identity.is_some_and(|identity| identity.is_validated());
        if is_validated {
            // The keys first: a refresh token may be valid for one request.
            fetch.enter(Phase::Discovery);
            let lookup = self.lookup(&fetch.correlation_id);
            let tenant = fetch.tenant.as_ref();
            let keys = self.endpoints.issuer_keys(tenant, &lookup).await;
            keys.map_err(RefreshFailure::Request)?;
        }
        let grant = Grant::RefreshToken(refresh_token);
        let response = self.request_token(fetch, grant, deadline).await;
        let response = response.map_err(RefreshFailure::Request)?;
        let refreshed = self
            .refreshed_identity(fetch, &response, is_validated)
            .await;
        let id_token_is_validated = matches!(&refreshed, Ok(refreshed) if refreshed.is_validated);
        let refreshed = refreshed.map(|refreshed| refreshed.identity);
        let named = match identity {
            Some(identity) => {
                let checked = refreshed.and_then(|refreshed| {
                    identity.check_refreshed(&refreshed)?;
                    Ok(refreshed)
                });
                Some(checked.map_err(RefreshFailure::OtherUser)?)
            }
            // No earlier response named a user.
            None => refreshed.ok(),
        };
        let keeps_id_token = keeps_id_token && id_token_is_validated;
        Ok(Refreshed {
            issued: response.issued,
            refresh_token: response.refresh_token,
            id_token: match keeps_id_token && self.names_account(fetch, identity, named.as_ref()) {
                true => response.id_token,
                false => None,
            },
            identity: named,
        })
    }
}

/// Returns the user of a refresh, by the home account of the earlier responses or of the cache key.
fn anchor_mailbox<'a>(
    fetch: &'a Fetch,
    identity: Option<&'a UserIdentity>,
) -> Option<AnchorMailbox<'a>> {
    let of_key = match fetch.key.user.as_deref() {
        Some(UserKey::Account(home_account_id)) => Some(&**home_account_id),
        _ => None,
    };
    let of_responses = identity.and_then(UserIdentity::home_account_id);
    AnchorMailbox::of_home_account(of_responses.or(of_key)?)
}

/// The tokens of a user.
pub(super) struct Refreshed {
    pub(super) issued: IssuedToken,
    /// The new refresh token. After a refresh, `None` means that the redeemed one stays valid.
    pub(super) refresh_token: Option<Secret>,
    /// The user that the response named.
    pub(super) identity: Option<UserIdentity>,
    /// The validated ID token, if the client keeps it.
    pub(super) id_token: Option<Secret>,
}

/// The failure of a refresh.
pub(super) enum RefreshFailure {
    /// The token request failed.
    Request(Error),
    /// The response cannot be used, because it may be another user's. The refresh token of the
    /// response must not be used either.
    OtherUser(Error),
}

/// Returns the error of a user without a grant. The sign-in has to meet `claims`.
pub(super) fn interaction_required(user: Option<&UserKey>, claims: Option<Arc<str>>) -> Error {
    let message = match user {
        Some(UserKey::LongRunning(hash)) => format!(
            "the long-running process with the session key {} is not known: it was stopped, its refresh token was used up, or it was started by another process or before a restart and there is no shared cache, or the shared cache has lost it; start it again with a new assertion of the user",
            Fingerprint(hash)
        ),
        _ => "the user has to sign in: there is no refresh token for them, because they did not sign in to this process, this process was restarted without a shared cache, the sign-in returned none, or it was used up".to_owned(),
    };
    Error::InteractionRequired(Failure::new(message).claims(claims).into())
}

/// Returns the error of a user whose refresh token must not be redeemed without the shared cache.
pub(super) fn shared_cache_unavailable() -> Error {
    let message = "the shared cache does not respond, and a user's refresh token is redeemed only while the shared cache keeps other processes from redeeming it too; a later call succeeds when the shared cache is back";
    // The circuit of the store spares the calls, and the wait of the token need not grow.
    let failure = Failure::new(message).retry_after(Some(STORE_WAIT));
    Error::Transport(failure.not_sent().into())
}

/// Returns the error of a user whose refresh token may have been redeemed.
pub(super) fn in_doubt(claims: Option<Arc<str>>) -> Error {
    let message = "the user has to sign in: a request with their refresh token ended without a clear response, and the identity provider may treat a second use of the refresh token as theft; for a provider that accepts a refresh token more than once, call refresh_token_rotation(false) on the client's builder";
    Error::InteractionRequired(Failure::new(message).claims(claims).into())
}

const STORE_WAIT: Duration = Duration::from_secs(1);
