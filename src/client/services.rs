use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::errand::{self, Errand, WaitsFor};
use super::subject::Way;
use crate::authority::Tenant;
use crate::cache::Session;
use crate::client_auth::{ClientAuthentication, TokenEndpointAuthMethod};
use crate::credential::{AssertionContext, Credential, CredentialStore};
use crate::delegated::UserAssertion;
use crate::endpoint::{Endpoints, Lookup, TokenEndpoint};
use crate::error::{Error, Failure};
use crate::grant::Grant;
use crate::metrics::Observer;
use crate::request::TokenHttpRequest;
use crate::request::claims::Capabilities;
use crate::response::{self, ResponseContext, TokenResponse};
use crate::retry::{RetryBudget, RetryPolicy};
use crate::secret::Secret;
use crate::time::{self, TimeSource, jitter};
use crate::token::IssuedToken;
use crate::transport::Transport;

/// What a flight takes along. It never holds the client, whose end ends the flight.
pub(crate) struct Services {
    pub(crate) client_id: String,
    pub(crate) endpoints: Endpoints,
    pub(crate) credential: CredentialStore,
    /// Where the caller chose it.
    pub(crate) auth_method: Option<TokenEndpointAuthMethod>,
    pub(crate) capabilities: Capabilities,
    pub(crate) retry: RetryPolicy,
    pub(crate) budget: RetryBudget,
    pub(crate) attempt_timeout: Duration,
    pub(crate) observer: Observer,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) clock: TimeSource,
}

impl Services {
    /// A whole flight: a token by the deadline.
    pub(super) async fn run(
        &self,
        errand: &Errand,
        way: &Way,
        deadline: Instant,
    ) -> Result<IssuedToken, Error> {
        let request = async {
            match way {
                Way::Application => {
                    let grant = Grant::ClientCredentials;
                    Ok(self.request_token(errand, grant, deadline).await?.issued)
                }
                Way::User { session, assertion } => {
                    let session = session.as_deref();
                    self.go_on(errand, session, assertion.as_ref(), deadline)
                        .await
                }
            }
        };
        self.watch(errand, deadline, request).await
    }

    /// What a user brought is redeemed, once, by the deadline.
    pub(super) async fn redeem(
        &self,
        errand: &Errand,
        code: Grant<'_>,
        deadline: Instant,
    ) -> Result<TokenResponse, Error> {
        let request = self.request_token(errand, code, deadline);
        self.watch(errand, deadline, request).await
    }

    /// Ends it at the deadline, and tells whoever watches how it went.
    async fn watch<T>(
        &self,
        errand: &Errand,
        deadline: Instant,
        request: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let began = self.clock.now().monotonic;
        let result = match timeout_at(deadline, request).await {
            Ok(result) => result,
            Err(_) => Err(errand.too_late(self.retry.total_timeout())),
        };
        let now = self.clock.now().monotonic;
        let acquisition = errand.acquisition(&result, now.saturating_duration_since(began));
        errand::record(&acquisition);
        self.observer.tell(acquisition);
        result
    }

    /// Another token for a user: by the refresh token, else by the assertion.
    async fn go_on(
        &self,
        errand: &Errand,
        session: Option<&Session>,
        assertion: Option<&UserAssertion>,
        deadline: Instant,
    ) -> Result<IssuedToken, Error> {
        errand.progress().waits_for = WaitsFor::RefreshToken;
        let turn = match session {
            Some(session) => Some(session.turn(deadline).await),
            None => None,
        };
        errand.progress().waits_for = WaitsFor::Credential;
        let mut refused = None;
        if let Some(turn) = &turn
            && let Some(refresh_token) = turn.refresh_token()
        {
            let grant = Grant::RefreshToken(refresh_token);
            match self.request_token(errand, grant, deadline).await {
                Ok(response) => {
                    if let Some(another) = response.refresh_token {
                        turn.keep(Some(another));
                    }
                    return Ok(response.issued);
                }
                Err(error) if error.is_grant_used_up() => refused = Some(error),
                Err(error) => return Err(error),
            }
            turn.keep(None);
        }
        let Some(assertion) = assertion else {
            return Err(refused.unwrap_or_else(|| signed_out(errand.claims.clone())));
        };
        let grant = Grant::OnBehalfOf {
            assertion: assertion.secret(),
        };
        // An assertion, unlike a refresh token, is good for many at once.
        drop(turn);
        let response = self.request_token(errand, grant, deadline).await?;
        if let (Some(session), Some(refresh_token)) = (session, response.refresh_token) {
            session.offer(refresh_token);
        }
        Ok(response.issued)
    }

    /// A token by the credential of now; by the next one, should it be refused and replaced.
    async fn request_token(
        &self,
        errand: &Errand,
        grant: Grant<'_>,
        deadline: Instant,
    ) -> Result<TokenResponse, Error> {
        let credential = self.credential.current(self.clock.now().wall).await?;
        let refusal = match self.ask(errand, &credential, grant, deadline).await {
            Ok(response) => {
                self.credential.accepted(&credential);
                return Ok(response);
            }
            Err(error) if credential.is_refused_by(&error) => error,
            Err(error) => return Err(error),
        };
        // A refusal says more than that there was no time left to look for another credential.
        let another = self.ask_with_another(errand, &credential, grant, deadline);
        match timeout_at(deadline, another).await {
            Ok(Some(answer)) => answer,
            Ok(None) | Err(_) => Err(refusal),
        }
    }

    async fn ask_with_another(
        &self,
        errand: &Errand,
        refused: &Credential,
        grant: Grant<'_>,
        deadline: Instant,
    ) -> Option<Result<TokenResponse, Error>> {
        let now = self.clock.now();
        let other = self.credential.other_than(refused, now.wall).await?;
        tracing::warn!(
            correlation_id = errand.correlation_id,
            "the identity provider refused the credential; the request is repeated with another"
        );
        let answer = self.ask(errand, &other, grant, deadline).await;
        if answer.is_ok() {
            self.credential.accepted(&other);
        }
        Some(answer)
    }

    /// One token request, attempted as often as the policy says.
    async fn ask(
        &self,
        errand: &Errand,
        credential: &Credential,
        grant: Grant<'_>,
        deadline: Instant,
    ) -> Result<TokenResponse, Error> {
        let mut attempt = 1_u32;
        loop {
            let error = match self.attempt(errand, credential, grant, deadline).await {
                Ok(response) => {
                    self.budget.deposit();
                    return Ok(response);
                }
                Err(error) => error,
            };
            self.endpoints.mark_suspect(&error, &self.clock);
            let delay = self.retry.delay(attempt, &error, jitter());
            let left = deadline.saturating_duration_since(Instant::now());
            match delay.filter(|delay| *delay < left) {
                Some(delay) if self.budget.withdraw(self.clock.now().monotonic) => {
                    tracing::info!(
                        error = %error.chain(),
                        correlation_id = errand.correlation_id,
                        attempt,
                        delay_ms = delay.as_millis(),
                        "a token request is repeated"
                    );
                    errand.progress().failed = Some((error, attempt));
                    sleep(delay).await;
                    attempt = attempt.saturating_add(1);
                }
                _ if attempt > 1 => return Err(error.after_attempts(attempt)),
                _ => return Err(error),
            }
        }
    }

    /// One attempt, from endpoint and proof to the parsed answer.
    async fn attempt(
        &self,
        errand: &Errand,
        credential: &Credential,
        grant: Grant<'_>,
        deadline: Instant,
    ) -> Result<TokenResponse, Error> {
        let id = errand.correlation_id.as_str();
        let endpoint = self.endpoint(errand).await?;
        let method = self.auth_method(&endpoint)?;
        let proof = self
            .authenticate(errand, credential, &endpoint, method)
            .await?;
        let now = self.clock.now();
        let request = TokenHttpRequest {
            endpoint: &endpoint.url,
            client_id: &self.client_id,
            proof: &proof,
            grant,
            scopes: &errand.scopes,
            parameters: &errand.key.parameters,
            claims: self.capabilities.with(errand.claims.as_deref()).as_deref(),
            correlation_id: id,
            rules: self.endpoints.rules(),
        }
        .to_http()?;
        tracing::debug!(correlation_id = id, "token request");
        {
            let mut progress = errand.progress();
            progress.waits_for = WaitsFor::Answer;
            progress.sent = progress.sent.saturating_add(1);
        }
        let response = self.send(request, id, deadline).await?;
        tracing::debug!(
            correlation_id = id,
            status = response.status().as_u16(),
            "token response"
        );
        let hidden: Vec<&Secret> = proof.secrets().chain(grant.secrets()).collect();
        // The clock was read before the request went out: a token lives from when it was issued.
        let context = ResponseContext {
            key: &errand.key,
            tenant: errand.tenant.as_ref().map(Tenant::as_asked),
            scopes: &errand.scopes,
            correlation_id: id,
            hidden: &hidden,
            is_interactive: grant.is_interactive(),
        };
        response::parse(&response, context, now, jitter())
    }

    async fn endpoint(&self, errand: &Errand) -> Result<TokenEndpoint, Error> {
        let lookup = self.lookup(&errand.correlation_id);
        errand.progress().waits_for = WaitsFor::Authority;
        let endpoint = self
            .endpoints
            .token_endpoint(errand.tenant.as_ref(), &lookup);
        let endpoint = endpoint.await;
        errand.progress().waits_for = WaitsFor::Credential;
        endpoint
    }

    pub(super) fn lookup<'a>(&'a self, correlation_id: &'a str) -> Lookup<'a> {
        Lookup {
            transport: &*self.transport,
            clock: &self.clock,
            correlation_id,
            limit: self.retry.step_limit().min(self.attempt_timeout),
        }
    }

    /// How the client proves its identity there: as the caller says, or the provider.
    fn auth_method(&self, endpoint: &TokenEndpoint) -> Result<TokenEndpointAuthMethod, Error> {
        match self.auth_method {
            Some(method) => Ok(method),
            None if self.credential.is_secret() => endpoint.methods.of_a_secret(),
            None => endpoint.methods.of_an_assertion(),
        }
    }

    /// A proof for one attempt: strict providers take none twice.
    async fn authenticate(
        &self,
        errand: &Errand,
        credential: &Credential,
        endpoint: &TokenEndpoint,
        method: TokenEndpointAuthMethod,
    ) -> Result<ClientAuthentication, Error> {
        let tenant = errand.tenant.as_ref().map(Tenant::as_asked);
        let context = AssertionContext {
            client_id: self.client_id.clone(),
            tenant_id: tenant.map(ToString::to_string),
            token_endpoint: endpoint.url.to_string(),
            audience: endpoint.audience.clone(),
            correlation_id: errand.correlation_id.clone(),
        };
        let now = self.clock.now().wall;
        let algorithms = endpoint.methods.algorithms();
        let limit = self.retry.step_limit();
        credential
            .authenticate(context, now, method, algorithms, limit)
            .await
    }

    /// The answer, however it is, within the time of an attempt and of all of them.
    async fn send(
        &self,
        request: Request<Bytes>,
        correlation_id: &str,
        deadline: Instant,
    ) -> Result<Response<Bytes>, Error> {
        let endpoint = shown(request.uri());
        let silent = |message: String| Failure::new(message).correlation_id(correlation_id);
        let left = deadline.saturating_duration_since(Instant::now());
        let limit = self.attempt_timeout.min(left);
        match timeout(limit, self.transport.send(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(source)) => {
                let failure = silent(format!("no answer from the token endpoint {endpoint}"));
                Err(Error::Transport(failure.source(source).into()))
            }
            Err(_) => {
                let limit = time::shown(limit);
                let message =
                    format!("no answer from the token endpoint {endpoint} within {limit}");
                Err(Error::Transport(silent(message).into()))
            }
        }
    }
}

/// Nothing in memory can go on for a user; `claims` are what their signing in has to meet.
pub(super) fn signed_out(claims: Option<Arc<str>>) -> Error {
    let message = "nothing in memory can bring the user a token: they did not sign in to this process, their sign-in brought no refresh token, or it was used up; let them sign in (again)";
    Error::InteractionRequired(Failure::new(message).claims(claims).into())
}

/// Without the query, which may hold a key.
fn shown(endpoint: &Uri) -> String {
    let mut shown = endpoint.to_string();
    shown.truncate(shown.find('?').unwrap_or(shown.len()));
    shown
}
