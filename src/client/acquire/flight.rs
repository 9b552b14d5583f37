//! The token request of a flight: its grant, and what it sends.

use std::sync::Arc;

use tokio::time::Instant;
use tracing::Instrument;
use uuid::Uuid;

use super::TokenAcquirer;
use crate::cache::{CacheSlot, FlightOutcome, RefreshTokenStatus, Requirements};
use crate::client::agent::{Acting, AgentClient};
use crate::client::fetch::Fetch;
use crate::client::fetch_for_user::{
    FlightGrant, RenewableGrant, UserGrant, in_doubt, interaction_required,
};
use crate::client::resolve::{ResolvedRequest, Subject};
use crate::client::user_fic::FederatedUser;
use crate::delegated::UserAssertion;
use crate::error::Error;
use crate::token::UserKey;

impl TokenAcquirer {
    /// Checks that a token request has a grant. A signed-in user may have no refresh token, or one
    /// that must not be sent again.
    pub(super) fn check_grant(&self, request: &ResolvedRequest) -> Result<(), Error> {
        let user = match &request.subject {
            Subject::Application
            | Subject::OnBehalfOf(_)
            | Subject::Exchange(_)
            | Subject::Federated(_)
            | Subject::Agent(_) => return Ok(()),
            Subject::Account(account) => account.user(),
            Subject::LongRunning(key) => key.user(),
        };
        if self.shared().is_some() {
            // Only the shared cache knows.
            return Ok(());
        }
        let session = self.0.cache.existing_session(user);
        let status = session.map(|session| session.refresh_token_status());
        let claims = || request.requirements.claims().cloned();
        match status.unwrap_or(RefreshTokenStatus::Missing) {
            RefreshTokenStatus::Available => Ok(()),
            RefreshTokenStatus::InDoubt if self.0.issuer.rotates_refresh_tokens() => {
                Err(in_doubt(claims()))
            }
            RefreshTokenStatus::InDoubt => Ok(()),
            RefreshTokenStatus::Missing => Err(interaction_required(Some(user), claims())),
        }
    }

    /// Returns the future of a flight, which sends the token request.
    ///
    /// A background refresh sends no claims, since no caller waits for the claims to be met.
    pub(super) fn fetch(
        &self,
        slot: &CacheSlot,
        request: &ResolvedRequest,
        is_refresh: bool,
        deadline: Instant,
    ) -> impl Future<Output = FlightOutcome> + use<> {
        let issuer = self.0.issuer.clone();
        let requirements = match is_refresh {
            true => Requirements::NONE,
            false => request.requirements.clone(),
        };
        let claims = request.requirements.claims().filter(|_| !is_refresh);
        let rejected = request.request.rejected().filter(|_| !is_refresh);
        let fetch = Fetch {
            key: Arc::clone(slot.key()),
            tenant: request.key.tenant.clone(),
            scopes: issuer.scopes_to_send(request),
            claims: claims.cloned(),
            headers: request.request.extra_headers().clone(),
            rejected: rejected
                .map(|rejected| rejected.issued().hash())
                .or_else(|| slot.rejected_token()),
            correlation_id: request
                .correlation_id
                .unwrap_or_else(Uuid::new_v4)
                .to_string(),
            is_refresh,
            requirements,
            has_token: slot.has_token(&self.0.clock.now()),
            binding: issuer.token_binding(),
            anchor_mailbox: Default::default(),
            identity: Default::default(),
            progress: Default::default(),
            agent: (request.subject.agent()).map(|agent| AgentClient::new(agent, request, self)),
        };
        let grant = self.grant(request, fetch.agent.as_ref());
        let span = fetch.span();
        async move { issuer.fetch(fetch, grant, deadline).await }.instrument(span)
    }

    /// Returns the grant of a request.
    fn grant(&self, request: &ResolvedRequest, agent: Option<&AgentClient>) -> FlightGrant {
        let of_user = |user: &Arc<UserKey>, renewable| {
            FlightGrant::User(UserGrant {
                session: Some(self.0.cache.session(user)),
                renewable: Some(renewable),
            })
        };
        let on_behalf_of =
            |assertion: &UserAssertion| RenewableGrant::OnBehalfOf(assertion.clone());
        match &request.subject {
            Subject::Application => FlightGrant::Application,
            Subject::Exchange(exchange) => FlightGrant::Exchange(exchange.clone()),
            Subject::OnBehalfOf(assertion) => of_user(assertion.user(), on_behalf_of(assertion)),
            Subject::Federated(user) => {
                of_user(user.user.user(), RenewableGrant::Federated(user.clone()))
            }
            Subject::Agent(subject) => match (&subject.acting, agent) {
                (Acting::OnBehalfOf(assertion), _) => {
                    of_user(subject.key(), on_behalf_of(assertion))
                }
                (Acting::As(user), Some(agent)) => {
                    let credential = agent.user_credential();
                    let user = FederatedUser::new(user.clone(), credential);
                    of_user(subject.key(), RenewableGrant::Federated(user))
                }
                (Acting::Alone, _) | (Acting::As(_), None) => FlightGrant::Application,
            },
            Subject::Account(account) => FlightGrant::User(self.session_grant(account.user())),
            Subject::LongRunning(key) => FlightGrant::User(self.session_grant(key.user())),
        }
    }

    fn session_grant(&self, user: &Arc<UserKey>) -> UserGrant {
        UserGrant {
            session: match self.shared() {
                // The user may have signed in to another process.
                Some(_) => Some(self.0.cache.session(user)),
                None => self.0.cache.existing_session(user),
            },
            renewable: None,
        }
    }
}
