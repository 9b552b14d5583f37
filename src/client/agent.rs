use std::fmt;

use uuid::Uuid;

use super::fetch::TokenFetcher;
use super::resolve::{ResolvedRequest, Subject};
use super::{ConfidentialClient, TokenProvider};
use crate::authority::{Rules, token_exchange_scope};
use crate::delegated::{UserAssertion, UserIdentifier};
use crate::error::Error;
use crate::request::{IntoTokenRequest, TokenRequest};
use crate::token::AccessToken;

mod exchange;
mod subject;

pub(super) use exchange::AgentClient;
use exchange::not_a_blueprint;
pub(crate) use subject::Acting;
pub(super) use subject::{Agent, AgentSubject};

/// An agent identity of Microsoft Entra ID, which acquires tokens with the credential of its
/// blueprint.
///
/// [`ConfidentialClient::agent_identity`] returns one. A handle is cheap to make and to clone, and
/// has no cache of its own. All agent identities share the cache, the connections and the circuit
/// breaker of the blueprint's client. The client ID of the agent identity is part of each cache
/// key, so that one agent never receives a token of another agent, or of the blueprint.
///
/// # Steps
///
/// | token | requests |
/// |---|---|
/// | [app-only](Self::acquire_token_for_client) | the blueprint's token (T1), then the token |
/// | [on behalf of a user](Self::acquire_token_on_behalf_of) | T1, then the token |
/// | [as a user](Self::acquire_token_by_user_fic) | T1, the exchange token (T2), then the token |
///
/// T1 and T2 are cached and refreshed like all tokens. A token request that needs them uses the
/// cached ones. A thousand calls at once send one request for each token. If Microsoft Entra ID
/// rejects T1 or T2 as expired, the client acquires another one, and retries the request once. An
/// error says in which step it happened, and names the agent identity.
///
/// Each step has the time limit of a token request
/// ([`RetryPolicy::deadline`](crate::RetryPolicy::deadline), 30 seconds by default). A call without
/// cached tokens waits for up to three times as long. Wrap the call in `tokio::time::timeout` for
/// a shorter limit. The steps that were begun then go on, for the next call.
///
/// A [`force_refresh`](TokenRequest::force_refresh) replaces the last token alone. It passes a
/// remembered rejection of each step, so that a mended cause takes effect at once.
///
/// # Bounds
///
/// Each token is one entry of the blueprint's cache, T1 and T2 included. The cache holds
/// [`max_entries`](crate::CacheOptions::max_entries) entries, 10,000 by default: some 5,000 agents
/// with an app-only token each, or 3,300 with a user's token each. Beyond that, an entry that was
/// not used lately is evicted, and requested again on demand. Evicted users need no sign-in,
/// because T2 replaces a lost refresh token.
///
/// ```
/// # use bytes::Bytes;
/// use confidential_client::ConfidentialClient;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let blueprint = ConfidentialClient::builder("11111111-2222-3333-4444-555555555555")
///     .tenant("contoso.onmicrosoft.com")
///     .client_secret("s3cret")
/// #   .transport(|request: http::Request<Bytes>| async move {
/// #       let body = r#"{"token_type":"Bearer","expires_in":3599,"access_token":"e30.e30.c2ln"}"#;
/// #       Ok(http::Response::new(Bytes::from(body)))
/// #   })
///     .build()?;
///
/// let agent = blueprint.agent_identity("f47ac10b-58cc-4372-a567-0e02b2c3d479")?;
/// let token = agent
///     .acquire_token_for_client("https://graph.microsoft.com/.default")
///     .await?;
/// # assert_eq!(token.secret(), "e30.e30.c2ln");
/// # Ok(())
/// # }
/// ```
#[doc(alias("WithAgentIdentities", "WithAgentIdentity", "FmiPath"))]
#[derive(Clone)]
pub struct AgentIdentity {
    blueprint: ConfidentialClient,
    agent: Agent,
}

/// # Agent identities
impl ConfidentialClient {
    /// Returns an agent identity whose blueprint is this client's application.
    ///
    /// `agent_id` is the client ID of the agent identity. Does no I/O. Whether the agent identity
    /// exists is known after the first token request.
    ///
    /// # Errors
    ///
    /// [`Error::Config`]: the ID is no GUID or is the blueprint's own; the authority is another
    /// than Microsoft Entra ID; the client's tokens are bound to a certificate.
    #[doc(alias = "WithAgentIdentity")]
    pub fn agent_identity(&self, agent_id: impl AsRef<str>) -> Result<AgentIdentity, Error> {
        let agent_id = agent_id.as_ref();
        let Ok(id) = Uuid::try_parse(agent_id) else {
            return Err(Error::config(format!(
                "the agent id {agent_id:?} is not a GUID; pass the client id of the agent identity"
            )));
        };
        // A GUID has many spellings: upper case, braces, no hyphens.
        let is_own = Uuid::try_parse(&self.fetcher.client_id).is_ok_and(|own| own == id);
        let id = id.to_string();
        if is_own {
            let why = "the id is the blueprint's own client id; pass the client id of the agent identity, or call acquire_token_for_client(..) of the client";
            return Err(not_a_blueprint(&id, why));
        }
        self.fetcher.check_blueprint(&id)?;
        Ok(AgentIdentity {
            blueprint: self.clone(),
            agent: Agent::new(id),
        })
    }
}

impl AgentIdentity {
    /// Returns the client ID of the agent identity, a GUID in lower case.
    pub fn client_id(&self) -> &str {
        self.agent.id()
    }

    /// Returns the client of the blueprint, which has the cache.
    pub fn blueprint(&self) -> &ConfidentialClient {
        &self.blueprint
    }

    /// Acquires a token for the agent itself, without a user.
    ///
    /// Behaves like
    /// [`ConfidentialClient::acquire_token_for_client`]. The client of the token is the agent
    /// identity.
    ///
    /// # Errors
    ///
    /// The errors of [`ConfidentialClient::acquire_token_for_client`], for the request for the
    /// blueprint's token too. [`Error::Config`] for a request with an `fmi_path`.
    pub async fn acquire_token_for_client(
        &self,
        request: impl IntoTokenRequest,
    ) -> Result<AccessToken, Error> {
        self.acquire(request, Acting::Alone).await
    }

    /// Acquires a token for another API on behalf of a user who called the blueprint.
    ///
    /// Behaves like [`ConfidentialClient::acquire_token_on_behalf_of`]. The audience of the
    /// assertion is the blueprint. Validate the assertion first.
    ///
    /// # Errors
    ///
    /// The errors of [`ConfidentialClient::acquire_token_on_behalf_of`], and those of
    /// [`acquire_token_for_client`](Self::acquire_token_for_client).
    pub async fn acquire_token_on_behalf_of(
        &self,
        assertion: &UserAssertion,
        request: impl IntoTokenRequest,
    ) -> Result<AccessToken, Error> {
        self.acquire(request, Acting::OnBehalfOf(assertion.clone()))
            .await
    }

    /// Acquires a token as a user, such as the user account of the agent, without a sign-in.
    ///
    /// Behaves like [`ConfidentialClient::acquire_token_by_user_fic`], and acquires the credential
    /// (T2) by itself. A later call for the user is served from the cache, or by the refresh token.
    ///
    /// # Errors
    ///
    /// The errors of [`ConfidentialClient::acquire_token_by_user_fic`], and those of
    /// [`acquire_token_for_client`](Self::acquire_token_for_client).
    #[doc(alias("WithAgentUserIdentity", "user_fic"))]
    pub async fn acquire_token_by_user_fic(
        &self,
        user: &UserIdentifier,
        request: impl IntoTokenRequest,
    ) -> Result<AccessToken, Error> {
        self.acquire(request, Acting::As(user.clone())).await
    }

    /// Returns a [`TokenProvider`] for the tokens of
    /// [`acquire_token_for_client`](Self::acquire_token_for_client). Does no I/O.
    ///
    /// A provider keeps its entry in the cache. Do not keep a provider for each of thousands of
    /// agents.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a request that [`ConfidentialClient::token_provider`] rejects.
    pub fn token_provider(&self, request: impl IntoTokenRequest) -> Result<TokenProvider, Error> {
        self.bind(request, Acting::Alone)
    }

    /// Returns a [`TokenProvider`] for the tokens of
    /// [`acquire_token_on_behalf_of`](Self::acquire_token_on_behalf_of). Does no I/O.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a request that [`ConfidentialClient::token_provider_on_behalf_of`]
    /// rejects.
    pub fn token_provider_on_behalf_of(
        &self,
        assertion: &UserAssertion,
        request: impl IntoTokenRequest,
    ) -> Result<TokenProvider, Error> {
        assertion.check()?;
        self.bind(request, Acting::OnBehalfOf(assertion.clone()))
    }

    /// Returns a [`TokenProvider`] for the tokens of
    /// [`acquire_token_by_user_fic`](Self::acquire_token_by_user_fic). Does no I/O.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a request that
    /// [`acquire_token_by_user_fic`](Self::acquire_token_by_user_fic) or [`token_provider`]
    /// rejects.
    ///
    /// [`token_provider`]: Self::token_provider
    pub fn token_provider_by_user_fic(
        &self,
        user: &UserIdentifier,
        request: impl IntoTokenRequest,
    ) -> Result<TokenProvider, Error> {
        self.bind(request, Acting::As(user.clone()))
    }

    /// Removes a token from the cache that an API rejected, like
    /// [`ConfidentialClient::invalidate`].
    pub fn invalidate(&self, token: &AccessToken) {
        self.blueprint.invalidate(token);
    }

    /// Removes the access tokens and the refresh token that the agent has as a user.
    ///
    /// A call for the user that is waiting meanwhile acquires new tokens.
    ///
    /// Does I/O only with a [shared cache](crate::ConfidentialClientBuilder::shared_cache).
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a user that
    /// [`acquire_token_by_user_fic`](Self::acquire_token_by_user_fic) rejects.
    /// [`Error::Transport`] if the shared cache does not respond. Call the method again.
    pub async fn remove_user(&self, user: &UserIdentifier) -> Result<(), Error> {
        user.name()?;
        let key = self.agent.key_of(user.user());
        self.blueprint.remove_user(&key).await
    }

    async fn acquire(
        &self,
        request: impl IntoTokenRequest,
        acting: Acting,
    ) -> Result<AccessToken, Error> {
        let request = self.resolve(request, acting)?;
        self.blueprint.acquirer.acquire(request).await
    }

    fn bind(&self, request: impl IntoTokenRequest, acting: Acting) -> Result<TokenProvider, Error> {
        let request = self.resolve(request, acting)?;
        self.blueprint.acquirer.bind(request)
    }

    /// Checks everything that can be known about a request before the network.
    pub(crate) fn resolve(
        &self,
        request: impl IntoTokenRequest,
        acting: Acting,
    ) -> Result<ResolvedRequest, Error> {
        let subject = Subject::Agent(AgentSubject::new(&self.agent, acting));
        let request = request.into_token_request();
        self.blueprint.fetcher.resolve(request, subject)
    }
}

impl TokenFetcher {
    /// Checks that the client can be the blueprint of agent identities.
    fn check_blueprint(&self, agent_id: &str) -> Result<(), Error> {
        let rules = self.endpoints.rules();
        if rules != Rules::Entra {
            let why = format!(
                "{} has no agent identities, which are of Microsoft Entra ID alone; use an authority of Microsoft Entra ID",
                rules.name()
            );
            return Err(not_a_blueprint(agent_id, &why));
        }
        if self.mutual_tls.is_some() {
            let why = "the client's tokens are bound to a certificate, and such a token is no client assertion; build the blueprint's client without entra_mtls_pop_preview(..)";
            return Err(not_a_blueprint(agent_id, why));
        }
        Ok(())
    }

    /// Checks the request and the user of an agent.
    pub(super) fn check_agent(
        &self,
        subject: &AgentSubject,
        request: &TokenRequest,
    ) -> Result<(), Error> {
        if let Acting::As(user) = &subject.acting {
            user.name()?;
        }
        let agent_id = subject.agent.id();
        let parameters = request.extra_parameters()?;
        if parameters.has_assertion_claims() {
            return Err(Error::config(format!(
                "client_assertion_claims(..) cannot be used in a request of the agent identity '{agent_id}', whose client assertion is the blueprint's token; leave client_assertion_claims(..) out"
            )));
        }
        match parameters.fmi_path() {
            None => Ok(()),
            Some(path) => Err(Error::config(format!(
                "the fmi_path {path:?} cannot be used in a request of the agent identity '{agent_id}', whose blueprint sends the path; leave fmi_path(..) out"
            ))),
        }
    }

    /// Returns the scope of exchange tokens in the client's cloud.
    pub(super) fn exchange_scope(&self) -> &'static str {
        let host = self.endpoints.origin().host_str();
        token_exchange_scope(host.unwrap_or_default())
    }
}

impl fmt::Debug for AgentIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentIdentity")
            .field("client_id", &self.client_id())
            .field("blueprint", &self.blueprint)
            .finish()
    }
}
