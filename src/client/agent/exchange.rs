//! The tokens that an agent identity's own token requests need: T1 of the blueprint, and T2.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::{Acting, Agent, AgentSubject};
use crate::authority::token_exchange_scope;
use crate::cache::RefreshTokenStatus;
use crate::client::acquire::{TokenAcquirer, WeakAcquirer};
use crate::client::fetch::Fetch;
use crate::client::issuer::Issuer;
use crate::client::resolve::{ResolvedRequest, Subject};
use crate::credential::{
    AssertionContext, AssertionSupplier, ClientAssertionFuture, ClientAssertionProvider,
    Credential, UserFederatedCredential,
};
use crate::error::{CredentialKind, CredentialOrigin, Error, Failure};
use crate::request::TokenRequest;

/// An agent identity as the client of a token request.
pub(in crate::client) struct AgentClient {
    agent: Agent,
    acquirer: WeakAcquirer,
    blueprint_token: Arc<ExchangeToken>,
    exchange_request: TokenRequest,
}

impl AgentClient {
    /// Returns the client of an agent's token request.
    pub(in crate::client) fn new(
        agent: &Agent,
        request: &ResolvedRequest,
        acquirer: &TokenAcquirer,
    ) -> Self {
        let exchange_request = exchange_request(request, acquirer.exchange_scope());
        let acquirer = acquirer.downgrade();
        Self {
            blueprint_token: Arc::new(ExchangeToken {
                acquirer: acquirer.clone(),
                request: exchange_request.clone().fmi_path(&**agent.id()),
                subject: Subject::Application,
                description: format!(
                    "blueprint's token (T1) for the agent identity '{}'",
                    agent.id()
                ),
            }),
            acquirer,
            agent: agent.clone(),
            exchange_request,
        }
    }

    pub(in crate::client) fn id(&self) -> &str {
        self.agent.id()
    }

    /// Returns the credential: the blueprint's token is the client assertion.
    pub(in crate::client) fn credential(&self) -> Credential {
        let provider: Arc<dyn ClientAssertionProvider> = Arc::clone(&self.blueprint_token) as _;
        Credential::Assertion(AssertionSupplier::of_tokens(provider))
    }

    pub(in crate::client) fn origin(&self) -> CredentialOrigin {
        CredentialOrigin {
            kind: CredentialKind::Assertion,
            source: Some(self.blueprint_token.describe()),
        }
    }

    /// Returns the agent's token (T2), by which the agent acts as a user.
    pub(in crate::client) fn user_credential(&self) -> UserFederatedCredential {
        UserFederatedCredential::from_provider(ExchangeToken {
            acquirer: self.acquirer.clone(),
            request: self.exchange_request.clone(),
            subject: Subject::Agent(AgentSubject::new(&self.agent, Acting::Alone)),
            description: format!("exchange token (T2) of the agent identity '{}'", self.id()),
        })
    }
}

/// A cached token of the blueprint or of an agent, as the assertion of another token request.
struct ExchangeToken {
    acquirer: WeakAcquirer,
    request: TokenRequest,
    subject: Subject,
    description: String,
}

impl ClientAssertionProvider for ExchangeToken {
    fn client_assertion(&self, context: AssertionContext) -> ClientAssertionFuture<'_> {
        Box::pin(async move {
            let Some(acquirer) = self.acquirer.upgrade() else {
                return Err("the blueprint's client was dropped".into());
            };
            let request = || self.request.clone();
            let acquire = |request| acquirer.acquire_in_flight(request, self.subject.clone());
            let mut token = acquire(request()).await?;
            // Another token request may have replaced the rejected token.
            if context.rejected_assertion() == Some(token.secret()) {
                token = acquire(request().rejected_token(&token)).await?;
            }
            Ok(token.secret().to_owned())
        })
    }

    fn describe(&self) -> String {
        self.description.clone()
    }
}

impl TokenAcquirer {
    /// Acquires the tokens that the token request of an agent needs.
    ///
    /// Each has a flight of its own, with its own permit and failure, before the agent's flight
    /// starts. The agent's flight then finds the tokens in the cache. So a flight of an agent
    /// seldom waits for another one, and the error of an earlier step reaches the caller as it is.
    pub(in crate::client) fn prepare<'a>(
        &'a self,
        request: &'a ResolvedRequest,
    ) -> Pin<Box<dyn Future<Output = Result<(), Error>> + Send + Sync + 'a>> {
        Box::pin(async move {
            let Subject::Agent(subject) = request.subject() else {
                return Ok(());
            };
            let is_forced = request.requirements().force_refresh();
            let t2 = exchange_request(request, self.exchange_scope());
            let t1 = t2.clone().fmi_path(&**subject.agent.id());
            self.acquire_step(t1, Subject::Application, is_forced)
                .await?;
            // Only the shared cache knows whether there is a refresh token.
            let may_refresh = self.shared().is_some()
                || (self.tokens().existing_session(subject.key())).is_some_and(|session| {
                    session.refresh_token_status() == RefreshTokenStatus::Available
                });
            if matches!(subject.acting, Acting::As(_)) && !may_refresh {
                let agent = Subject::Agent(AgentSubject::new(&subject.agent, Acting::Alone));
                self.acquire_step(t2, agent, is_forced).await?;
            }
            Ok(())
        })
    }

    /// Acquires a token that is not the one that the caller wants.
    ///
    /// A valid token is not replaced for a forced refresh. Without one, a forced refresh passes the
    /// remembered rejection of this step, too.
    async fn acquire_step(
        &self,
        step: TokenRequest,
        subject: Subject,
        is_forced: bool,
    ) -> Result<(), Error> {
        let mut request = self.resolve(step.clone(), subject.clone())?;
        let cached = |request: &ResolvedRequest| {
            let slot = self.slot(request);
            self.cached(&slot, request.requirements())
        };
        if is_forced && cached(&request).is_none() {
            request = self.resolve(step.force_refresh(), subject)?;
        }
        self.acquire(request).await.map(drop)
    }
}

/// Returns the request for an exchange token: T2, or T1 with the path of the agent.
///
/// A gateway in front of the identity provider may demand the extra headers of every request.
fn exchange_request(of: &ResolvedRequest, scope: &str) -> TokenRequest {
    let request = TokenRequest::new(scope).min_remaining(LEFT_FOR_RETRIES);
    let request = request.headers_and_partition_of(of.request());
    match of.tenant() {
        Some(tenant) => request.tenant(tenant.as_str()),
        None => request,
    }
}

impl Fetch {
    /// Describes the step of an agent identity that this token request is. `None` for a token
    /// request that has no part in an agent identity.
    pub(in crate::client) fn agent_step(&self) -> Option<String> {
        match (&self.agent, self.key.parameters.fmi_path()) {
            (Some(agent), _) if is_exchange(&self.scopes) => Some(format!(
                "in the request for the exchange token (T2) of the agent identity '{}'",
                agent.id()
            )),
            (Some(agent), _) => Some(format!(
                "in the request for the token of the agent identity '{}'",
                agent.id()
            )),
            (None, Some(path)) => Some(format!(
                "in the blueprint's request for the token (T1) of the agent identity '{path}'"
            )),
            (None, None) => None,
        }
    }
}

impl Issuer {
    /// Returns the scope of exchange tokens in the client's cloud.
    pub(in crate::client) fn exchange_scope(&self) -> &'static str {
        match self {
            Self::Confidential(fetcher) => fetcher.exchange_scope(),
            Self::ManagedIdentity(_) | Self::CredentialChain(_) => token_exchange_scope(""),
        }
    }
}

/// Returns whether a scope is the one of exchange tokens, in any cloud.
fn is_exchange(scopes: &str) -> bool {
    scopes.starts_with("api://AzureADTokenExchange")
}

/// Returns the error of an agent whose client has no blueprint.
pub(super) fn not_a_blueprint(agent_id: &str, why: &str) -> Error {
    let message = format!("the agent identity '{agent_id}' cannot be used: {why}");
    Error::Config(Failure::new(message).into())
}

/// A token with less left is replaced first: a token request may be retried for half a minute.
const LEFT_FOR_RETRIES: Duration = Duration::from_secs(60);
