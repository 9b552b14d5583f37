use std::fmt;

use super::{ConfidentialClient, TokenProvider};
use crate::client::{Acting, FederatedUser, Subject};
use crate::credential::UserFederatedCredential;
use crate::delegated::{UserAssertion, UserIdentifier};
use crate::error::Error;
use crate::request::IntoTokenRequest;
use crate::token::AccessToken;

/// A blocking [`AgentIdentity`](crate::AgentIdentity) of Microsoft Entra ID.
///
/// [`ConfidentialClient::agent_identity`] returns one. A handle is cheap to make and to clone, and
/// shares the cache, the connections and the hidden thread of the blueprint's client.
#[doc(alias("WithAgentIdentities", "WithAgentIdentity", "FmiPath"))]
#[derive(Clone)]
pub struct AgentIdentity {
    blueprint: ConfidentialClient,
    agent: crate::AgentIdentity,
}

/// # Agent identities
impl ConfidentialClient {
    /// Returns an agent identity whose blueprint is this client's application, like
    /// [`agent_identity`](crate::ConfidentialClient::agent_identity). Does no I/O.
    ///
    /// # Errors
    ///
    /// The errors of the async client's method.
    #[doc(alias = "WithAgentIdentity")]
    pub fn agent_identity(&self, agent_id: impl AsRef<str>) -> Result<AgentIdentity, Error> {
        Ok(AgentIdentity {
            agent: self.as_async().agent_identity(agent_id)?,
            blueprint: self.clone(),
        })
    }

    /// Acquires a token for a user whom the application names, like
    /// [`acquire_token_by_user_fic`](crate::ConfidentialClient::acquire_token_by_user_fic).
    ///
    /// [`TokenProvider::as_async`] is a credential. A cached token is returned without the hidden
    /// thread.
    ///
    /// # Errors
    ///
    /// The errors of the async method, and the [errors of a blocking call](super#errors).
    #[doc(alias = "AcquireTokenByUserFederatedIdentityCredential")]
    pub fn acquire_token_by_user_fic(
        &self,
        user: &UserIdentifier,
        credential: impl Into<UserFederatedCredential>,
        request: impl IntoTokenRequest,
    ) -> Result<AccessToken, Error> {
        let instead = "client.as_async().acquire_token_by_user_fic(..)";
        let subject = Subject::Federated(FederatedUser::new(user.clone(), credential.into()));
        self.acquire(instead, request.into_token_request(), subject)
    }
}

impl AgentIdentity {
    /// Returns the async agent identity with the same cache.
    pub fn as_async(&self) -> &crate::AgentIdentity {
        &self.agent
    }

    /// Returns the client ID of the agent identity, a GUID in lower case.
    pub fn client_id(&self) -> &str {
        self.agent.client_id()
    }

    /// Returns the client of the blueprint, which has the cache.
    pub fn blueprint(&self) -> &ConfidentialClient {
        &self.blueprint
    }

    /// Acquires a token for the agent itself, like
    /// [`acquire_token_for_client`](crate::AgentIdentity::acquire_token_for_client).
    ///
    /// # Errors
    ///
    /// The errors of the async method, and the [errors of a blocking call](super#errors).
    pub fn acquire_token_for_client(
        &self,
        request: impl IntoTokenRequest,
    ) -> Result<AccessToken, Error> {
        let instead = "agent.as_async().acquire_token_for_client(..)";
        self.acquire(instead, request, Acting::Alone)
    }

    /// Acquires a token for another API on behalf of a user who called the blueprint, like
    /// [`acquire_token_on_behalf_of`](crate::AgentIdentity::acquire_token_on_behalf_of).
    ///
    /// **Validate the assertion first.**
    ///
    /// # Errors
    ///
    /// The errors of the async method, and the [errors of a blocking call](super#errors).
    pub fn acquire_token_on_behalf_of(
        &self,
        assertion: &UserAssertion,
        request: impl IntoTokenRequest,
    ) -> Result<AccessToken, Error> {
        let instead = "agent.as_async().acquire_token_on_behalf_of(..)";
        self.acquire(instead, request, Acting::OnBehalfOf(assertion.clone()))
    }

    /// Acquires a token as a user, like
    /// [`acquire_token_by_user_fic`](crate::AgentIdentity::acquire_token_by_user_fic).
    ///
    /// # Errors
    ///
    /// The errors of the async method, and the [errors of a blocking call](super#errors).
    #[doc(alias("WithAgentUserIdentity", "user_fic"))]
    pub fn acquire_token_by_user_fic(
        &self,
        user: &UserIdentifier,
        request: impl IntoTokenRequest,
    ) -> Result<AccessToken, Error> {
        let instead = "agent.as_async().acquire_token_by_user_fic(..)";
        self.acquire(instead, request, Acting::As(user.clone()))
    }

    /// Returns a [`TokenProvider`] for the tokens of
    /// [`acquire_token_for_client`](Self::acquire_token_for_client). Does no I/O.
    ///
    /// # Errors
    ///
    /// The errors of [the async method](crate::AgentIdentity::token_provider).
    pub fn token_provider(&self, request: impl IntoTokenRequest) -> Result<TokenProvider, Error> {
        let provider = self.agent.token_provider(request)?;
        Ok(self.blueprint.provider(provider))
    }

    /// Returns a [`TokenProvider`] for the tokens of
    /// [`acquire_token_on_behalf_of`](Self::acquire_token_on_behalf_of). Does no I/O.
    ///
    /// # Errors
    ///
    /// The errors of [the async method](crate::AgentIdentity::token_provider_on_behalf_of).
    pub fn token_provider_on_behalf_of(
        &self,
        assertion: &UserAssertion,
        request: impl IntoTokenRequest,
    ) -> Result<TokenProvider, Error> {
        let provider = self.agent.token_provider_on_behalf_of(assertion, request)?;
        Ok(self.blueprint.provider(provider))
    }

    /// Returns a [`TokenProvider`] for the tokens of
    /// [`acquire_token_by_user_fic`](Self::acquire_token_by_user_fic). Does no I/O.
    ///
    /// # Errors
    ///
    /// The errors of [the async method](crate::AgentIdentity::token_provider_by_user_fic).
    pub fn token_provider_by_user_fic(
        &self,
        user: &UserIdentifier,
        request: impl IntoTokenRequest,
    ) -> Result<TokenProvider, Error> {
        let provider = self.agent.token_provider_by_user_fic(user, request)?;
        Ok(self.blueprint.provider(provider))
    }

    /// Removes a token from the cache that an API rejected, like
    /// [`ConfidentialClient::invalidate`].
    pub fn invalidate(&self, token: &AccessToken) {
        self.blueprint.invalidate(token);
    }

    /// Removes the access tokens and the refresh token that the agent has as a user, like
    /// [`remove_user`](crate::AgentIdentity::remove_user).
    ///
    /// Does I/O only with a [shared cache](crate::ConfidentialClientBuilder::shared_cache). Works
    /// inside a tokio runtime without a shared cache.
    ///
    /// # Errors
    ///
    /// The errors of the async method, and the [errors of a blocking call](super#errors).
    pub fn remove_user(&self, user: &UserIdentifier) -> Result<(), Error> {
        let instead = "agent.as_async().remove_user(..)";
        let (agent, user) = (self.agent.clone(), user.clone());
        let needs_no_io = self.blueprint.as_async().keeps_sessions_in_memory();
        let remove = |_| async move { agent.remove_user(&user).await };
        self.blueprint.wait_unless(needs_no_io, instead, remove)
    }

    fn acquire(
        &self,
        instead: &str,
        request: impl IntoTokenRequest,
        acting: Acting,
    ) -> Result<AccessToken, Error> {
        let request = self.agent.resolve(request, acting)?;
        self.blueprint.acquire_resolved(instead, request)
    }
}

impl fmt::Debug for AgentIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.agent.fmt(f)
    }
}
