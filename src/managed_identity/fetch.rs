//! The token request to the endpoint of the host: source, attempts, HTTP, response.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::environment::HostEnvironment;
use super::request::{RequestValues, Revocation};
use super::response::{IdentityToken, ResponseContext, parse};
use super::retry::RetrySchedule;
use super::source::{Evidence, Source, SourceKind};
use super::transport::{DirectTransports, pin_mismatch};
use super::{ManagedIdentity, Resource};
use crate::error::{Error, Failure};
use crate::secret::Secret;
use crate::time::{TimeSource, format_limit, jitter};
use crate::token::TokenHash;
use crate::transport::{Transport, no_response, zero_timeout};

/// The settings of a [`ManagedIdentityFetcher`].
pub(crate) struct FetcherSettings {
    pub(crate) identity: ManagedIdentity,
    pub(crate) environment: HostEnvironment,
    /// Abilities of the client, such as `cp1`. Service Fabric alone reads them.
    pub(crate) capabilities: Vec<String>,
    /// A transport in the place of the default one, which uses no proxy.
    pub(crate) transport: Option<Arc<dyn Transport>>,
    pub(crate) connect_timeout: Option<Duration>,
    /// The longest time of one HTTP request.
    pub(crate) attempt_timeout: Duration,
    pub(crate) clock: TimeSource,
}

/// One token request.
#[derive(Clone, Copy)]
pub(crate) struct IdentityTokenRequest<'a> {
    pub(crate) resource: &'a Resource,
    pub(crate) correlation_id: &'a str,
    /// True if an API requested claims or rejected a token.
    ///
    /// The endpoints accept no claims. Service Fabric issues a new token, and every other endpoint
    /// may return the same token from its cache for up to 24 hours.
    pub(crate) is_revoked: bool,
    /// The token that an API rejected.
    pub(crate) rejected_token: Option<TokenHash>,
    /// Called before each HTTP request, to count the requests.
    pub(crate) on_send: &'a (dyn Fn() + Sync),
}

/// Sends and retries the token requests to the endpoint of this host.
pub(crate) struct ManagedIdentityFetcher {
    identity: ManagedIdentity,
    environment: HostEnvironment,
    capabilities: Vec<String>,
    transports: DirectTransports,
    attempt_timeout: Duration,
    clock: TimeSource,
    /// Whether the Azure Arc agent is installed, known after the first look.
    has_arc_agent: OnceLock<bool>,
}

impl ManagedIdentityFetcher {
    /// Checks the identity, and the variables of the host where they alone decide on the source.
    /// Does no I/O.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] with the name of the variable or the id.
    pub(crate) fn new(settings: FetcherSettings) -> Result<Self, Error> {
        let FetcherSettings {
            identity,
            environment,
            capabilities,
            transport,
            connect_timeout,
            attempt_timeout,
            clock,
        } = settings;
        identity.check()?;
        if attempt_timeout.is_zero() {
            return Err(zero_timeout("attempt_timeout"));
        }
        let kind = SourceKind::of_variables(&environment);
        Source::read(kind.unwrap_or(SourceKind::Imds), &environment, &identity)?;
        Ok(Self {
            identity,
            environment,
            capabilities,
            transports: DirectTransports::new(transport, connect_timeout),
            attempt_timeout,
            clock,
            has_arc_agent: OnceLock::new(),
        })
    }

    /// Returns the default time limit of a fetch, which is 75 seconds for IMDS and 30 seconds for
    /// the other sources.
    pub(crate) fn default_deadline(&self) -> Duration {
        let kind = SourceKind::of_variables(&self.environment).unwrap_or(SourceKind::Imds);
        RetrySchedule::of(kind).deadline()
    }

    /// Returns the identity whose tokens the fetcher fetches.
    pub(crate) fn identity(&self) -> &ManagedIdentity {
        &self.identity
    }

    /// Returns the host of the endpoint that the variables select. Does no I/O, so an Azure Arc
    /// agent without variables is not seen.
    #[cfg(any(feature = "metrics", feature = "opentelemetry"))]
    pub(crate) fn host(&self) -> Option<String> {
        let kind = SourceKind::of_variables(&self.environment).unwrap_or(SourceKind::Imds);
        let source = Source::read(kind, &self.environment, &self.identity).ok()?;
        source.endpoint().host_str().map(str::to_owned)
    }

    /// Fetches a token by the deadline.
    ///
    /// Reads the variables of the host anew, because App Service replaces the secret.
    ///
    /// # Errors
    ///
    /// - [`Error::Config`]: a variable of the host is wrong, or the host does not accept the
    ///   identity's kind of id.
    /// - [`Error::Credential`]: the key file of the Azure Arc agent cannot be used.
    /// - [`Error::Transport`]: no response, by the deadline.
    /// - [`Error::Server`], [`Error::Throttled`], [`Error::InvalidResponse`]: the response is no
    ///   token of the identity.
    pub(crate) async fn fetch(
        &self,
        request: IdentityTokenRequest<'_>,
        deadline: Instant,
    ) -> Result<IdentityToken, Error> {
        let began = Instant::now();
        let last = Mutex::new(None);
        let fetching = self.send_with_retries(request, deadline, &last);
        match timeout_at(deadline, fetching).await {
            Ok(result) => result,
            Err(_) => {
                let last = last.into_inner().unwrap_or_else(PoisonError::into_inner);
                let limit = deadline.saturating_duration_since(began);
                Err(timeout_error(last, limit, request.correlation_id))
            }
        }
    }

    async fn send_with_retries(
        &self,
        request: IdentityTokenRequest<'_>,
        deadline: Instant,
        last: &Mutex<Option<Error>>,
    ) -> Result<IdentityToken, Error> {
        let kind = self.source_kind().await;
        let schedule = RetrySchedule::of(kind);
        let mut attempt = 1_u32;
        loop {
            let error = match self.attempt(kind, request, deadline).await {
                Ok(token) => return Ok(token),
                Err(error) => error,
            };
            let left = deadline.saturating_duration_since(Instant::now());
            let Some(delay) = schedule.delay(attempt, &error, left, jitter()) else {
                return Err(match attempt {
                    1 => error,
                    _ => error.after_attempts(attempt),
                });
            };
            tracing::info!(
                error = %error.chain(),
                correlation_id = request.correlation_id,
                attempt,
                delay_ms = delay.as_millis(),
                "a token request to the managed identity endpoint is retried"
            );
            let failed = error.after_attempts(attempt);
            *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(failed);
            sleep(delay).await;
            attempt = attempt.saturating_add(1);
        }
    }

    /// Detects the source. Looks for the Azure Arc agent on a thread for blocking calls.
    async fn source_kind(&self) -> SourceKind {
        if let Some(kind) = SourceKind::of_variables(&self.environment) {
            return kind;
        }
        let has_arc_agent = match self.has_arc_agent.get() {
            Some(known) => *known,
            None if self.environment.arc_agent_path().is_none() => false,
            None => {
                let environment = self.environment.clone();
                let found = spawn_blocking(move || environment.has_arc_agent()).await;
                // A runtime that stops tells nothing.
                match found {
                    Ok(found) => *self.has_arc_agent.get_or_init(|| found),
                    Err(_) => false,
                }
            }
        };
        SourceKind::detect(&self.environment, has_arc_agent)
    }

    /// Sends one token request, with a second one after a challenge, and parses the response.
    async fn attempt(
        &self,
        kind: SourceKind,
        request: IdentityTokenRequest<'_>,
        deadline: Instant,
    ) -> Result<IdentityToken, Error> {
        let source = Source::read(kind, &self.environment, &self.identity)?;
        let evidence = Evidence::of(kind, &self.environment);
        let transport = self.transports.for_source(&source)?;
        let correlation_id = request.correlation_id;
        let values = RequestValues {
            identity: &self.identity,
            resource: request.resource,
            correlation_id,
            revocation: request.is_revoked.then_some(Revocation {
                capabilities: &self.capabilities,
                rejected_token: request.rejected_token,
            }),
        };
        let exchange = Exchange {
            transport: &*transport,
            source: &source,
            evidence: &evidence,
            correlation_id,
            attempt_timeout: self.attempt_timeout,
            deadline,
            on_send: request.on_send,
        };
        // A token lives from when it was issued. The clock is read before the request is sent.
        let requested_at = self.clock.now();
        let mut response = exchange.send(source.request(&values)?).await?;
        let mut key = None;
        if let Some((request, secret)) = source.answer_challenge(&response, &values).await? {
            response = exchange.send(request).await?;
            key = Some(secret);
        }
        let secrets: Vec<&Secret> = source.secret().into_iter().chain(&key).collect();
        let context = ResponseContext {
            source: &source,
            evidence: &evidence,
            values: &values,
            secrets: &secrets,
            requested_at,
            received: self.clock.wall(),
        };
        parse(&response, &context)
    }
}

/// The sender of the HTTP requests of one attempt.
struct Exchange<'a> {
    transport: &'a dyn Transport,
    source: &'a Source,
    evidence: &'a Evidence,
    correlation_id: &'a str,
    attempt_timeout: Duration,
    deadline: Instant,
    on_send: &'a (dyn Fn() + Sync),
}

impl Exchange<'_> {
    /// Sends an HTTP request within the limits of one attempt and of the whole fetch.
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, Error> {
        let correlation_id = self.correlation_id;
        let left = self.deadline.saturating_duration_since(Instant::now());
        let limit = self.attempt_timeout.min(left);
        tracing::debug!(correlation_id, "managed identity token request");
        (self.on_send)();
        match timeout(limit, self.transport.send(request)).await {
            Ok(Ok(response)) => {
                let status = response.status().as_u16();
                tracing::debug!(correlation_id, status, "managed identity token response");
                Ok(response)
            }
            Ok(Err(source)) => {
                let failure = match pin_mismatch(&*source) {
                    Some(mismatch) => {
                        Failure::new(format!("{} is not used: {mismatch}", self.evidence))
                            .permanent()
                    }
                    None => no_response(self.no_response(""), source),
                };
                Err(Error::Transport(
                    failure.correlation_id(correlation_id).into(),
                ))
            }
            Err(_) => {
                let message = self.no_response(&format!(" within {}", format_limit(limit)));
                let failure = Failure::new(message).correlation_id(correlation_id);
                Err(Error::Transport(failure.into()))
            }
        }
    }

    fn no_response(&self, within: &str) -> String {
        let mut endpoint = self.source.endpoint().clone();
        endpoint.set_query(None);
        format!(
            "no response from {} at {endpoint}{within}; {}",
            self.evidence,
            match self.source.kind() {
                SourceKind::Imds =>
                    "outside of Azure there is no managed identity, so use another credential; inside of Azure allow 169.254.169.254 in the firewall and the network policies",
                SourceKind::AzureArc =>
                    "look at the Azure Arc agent with 'azcmagent show', and start its services",
                _ => "check that the host's identity service runs, and restart the program there",
            }
        )
    }
}

/// Returns the error of a fetch that did not end by its deadline, `limit` after its begin.
fn timeout_error(last: Option<Error>, limit: Duration, correlation_id: &str) -> Error {
    let limit = format_limit(limit);
    last.unwrap_or_else(|| {
        let message = format!("no token from the managed identity endpoint within {limit}");
        Error::Transport(Failure::new(message).correlation_id(correlation_id).into())
    })
}

#[cfg(test)]
mod tests;
