//! The token request: credential, endpoint, attempts, HTTP, response.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::fetch_for_user::FlightGrant;
use super::proofs::Proofs;
use crate::authority::Rules;
use crate::client_auth::TokenEndpointAuthMethod;
use crate::credential::{Credential, CredentialStore};
use crate::endpoint::Endpoints;
use crate::error::Error;
use crate::grant::Grant;
use crate::metrics::Observer;
use crate::request::claims::Capabilities;
use crate::response::TokenResponse;
use crate::retry::{RetryBudget, RetryPolicy};
use crate::shared_cache::SharedLevel;
use crate::time::{TimeSource, jitter};
#[cfg(feature = "azure-core")]
use crate::token::TokenScheme;
use crate::token::{IssuedToken, TokenBinding};
use crate::transport::{TlsIdentity, TokenTransport, Transport};

mod attempt;
mod id_token;
mod introspection;
mod progress;
mod pushed;

use attempt::{Attempt, AuthenticatedRequest};
pub(super) use id_token::IdTokenFailure;
pub(super) use progress::{Fetch, Phase};

/// Sends and retries token requests.
///
/// A flight holds a fetcher and never the client: dropping the client ends all flights.
pub(crate) struct TokenFetcher {
    pub(crate) client_id: String,
    pub(crate) endpoints: Endpoints,
    pub(crate) credential: CredentialStore,
    /// The method that the caller chose.
    pub(crate) auth_method: Option<TokenEndpointAuthMethod>,
    pub(crate) capabilities: Capabilities,
    /// True if the provider treats a second use of a refresh token as theft.
    pub(crate) refresh_token_rotation: bool,
    /// Audiences of ID tokens besides the client ID.
    pub(crate) id_token_audiences: Vec<String>,
    /// True if the latest ID token of each signed-in user is kept.
    pub(crate) keeps_id_tokens: bool,
    pub(crate) retry: RetryPolicy,
    pub(crate) budget: RetryBudget,
    pub(crate) attempt_timeout: Duration,
    /// The lifetime of a token whose response has none.
    pub(crate) assumed_lifetime: Duration,
    pub(crate) observer: Observer,
    /// Sends requests without a client certificate: all requests, or those for metadata and keys.
    pub(crate) transport: Arc<dyn Transport>,
    /// Sends token requests with a client certificate.
    pub(crate) mutual_tls: Option<TokenTransport>,
    /// The proofs of a client with a proof key.
    pub(crate) proofs: Option<Arc<Proofs>>,
    /// The cache that this process shares with others.
    pub(crate) shared: Option<Arc<SharedLevel>>,
    pub(crate) clock: TimeSource,
    /// True after the log warned about a token without a lifetime.
    pub(crate) assumed_a_lifetime: AtomicBool,
}

impl TokenFetcher {
    /// Returns the key that the next token must be bound to.
    pub(super) fn token_binding(&self) -> TokenBinding {
        match &self.proofs {
            Some(proofs) => proofs.binding(),
            None => TokenBinding::Unbound,
        }
    }

    /// Returns the scheme of the next token. The certificate of Entra's preview is not known yet.
    #[cfg(feature = "azure-core")]
    pub(super) fn token_scheme(&self) -> TokenScheme {
        match self.mutual_tls.is_some() && self.endpoints.rules() == Rules::Entra {
            true => TokenScheme::MtlsPop,
            false => self.token_binding().scheme(),
        }
    }

    /// Returns the client certificate of a request's connections, and notes the certificate in the
    /// request. Calls the source of the certificate.
    pub(super) async fn identity(&self, fetch: &Fetch) -> Result<Option<Arc<TlsIdentity>>, Error> {
        let Some(transport) = &self.mutual_tls else {
            return Ok(None);
        };
        if let Some((identity, _)) = fetch.identity.get() {
            return Ok(Some(Arc::clone(identity)));
        }
        let limit = self.retry.step_limit();
        let identity = transport.identity(self.clock.wall(), limit).await?;
        let binding = self.binding_to(fetch, &identity);
        let (identity, _) = fetch.identity.get_or_init(|| (identity, binding));
        Ok(Some(Arc::clone(identity)))
    }

    /// Returns the binding of a token that arrives over the identity's connections.
    ///
    /// A token that is bound to a proof key is not bound to the certificate, too.
    fn binding_to(&self, fetch: &Fetch, identity: &TlsIdentity) -> TokenBinding {
        match fetch.binding {
            TokenBinding::Unbound => match self.endpoints.rules() {
                Rules::Entra => TokenBinding::EntraCertificate(identity.thumbprint()),
                _ => TokenBinding::Certificate(identity.thumbprint()),
            },
            bound => bound,
        }
    }

    /// Fetches a token by the deadline: the application's own, a user's, or an exchanged one.
    pub(super) async fn fetch(
        &self,
        fetch: &Fetch,
        grant: FlightGrant,
        deadline: Instant,
    ) -> Result<IssuedToken, Error> {
        let fetching = async {
            match grant {
                FlightGrant::Application => {
                    let grant = Grant::ClientCredentials;
                    Ok(self.request_token(fetch, grant, deadline).await?.issued)
                }
                // Boxed, to keep the flight of an application small.
                FlightGrant::Exchange(exchange) => {
                    let exchanging = self.request_token(fetch, exchange.grant(), deadline);
                    Ok(Box::pin(exchanging).await?.issued)
                }
                FlightGrant::User(user) => {
                    Box::pin(self.fetch_for_user(fetch, user, deadline)).await
                }
            }
        };
        let Some(level) = &self.shared else {
            return self
                .with_deadline_and_report(fetch, deadline, fetching)
                .await;
        };
        self.with_deadline_and_count(level, fetch, deadline, fetching)
            .await
    }

    /// Ends a token request of a client with a shared cache at the deadline, and counts the
    /// request. The whole acquisition is reported later, with the wait for other processes.
    pub(super) async fn with_deadline_and_count<T>(
        &self,
        level: &SharedLevel,
        fetch: &Fetch,
        deadline: Instant,
        fetching: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let requests = &level.counters.requests;
        requests.sent.add(1);
        let result = self.with_deadline(fetch, deadline, fetching).await;
        result.inspect_err(|error| requests.count_failed(error))
    }

    /// Redeems a grant that is valid once, such as an authorization code, by the deadline.
    pub(super) async fn redeem(
        &self,
        fetch: &Fetch,
        grant: Grant<'_>,
        deadline: Instant,
    ) -> Result<TokenResponse, Error> {
        let fetching = self.request_token(fetch, grant, deadline);
        self.with_deadline_and_report(fetch, deadline, fetching)
            .await
    }

    /// Ends a fetch at the deadline, and reports the outcome to the span and the observer.
    pub(super) async fn with_deadline_and_report<T>(
        &self,
        fetch: &Fetch,
        deadline: Instant,
        fetching: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let fetching = self.with_deadline(fetch, deadline, fetching);
        self.report(fetch, fetching).await
    }

    async fn with_deadline<T>(
        &self,
        fetch: &Fetch,
        deadline: Instant,
        fetching: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        match timeout_at(deadline, fetching).await {
            Ok(result) => result,
            Err(_) => Err(fetch.timeout_error(self.retry.total_timeout())),
        }
    }

    /// Reports the outcome of a fetch to the span and the observer.
    pub(super) async fn report<T>(
        &self,
        fetch: &Fetch,
        fetching: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        fetch.measure(fetching, &self.clock, &self.observer).await
    }

    /// Sends a token request with the current credential, and once more with another credential
    /// if the first is rejected and another is available.
    pub(super) async fn request_token(
        &self,
        fetch: &Fetch,
        grant: Grant<'_>,
        deadline: Instant,
    ) -> Result<TokenResponse, Error> {
        self.request(fetch, grant, deadline).await
    }

    /// Sends a request with the current credential, and once more with another credential if the
    /// first is rejected and another is available.
    async fn request<R: AuthenticatedRequest>(
        &self,
        fetch: &Fetch,
        request: R,
        deadline: Instant,
    ) -> Result<R::Response, Error> {
        let credential = match self.identity(fetch).await? {
            _ if let Some(agent) = &fetch.agent => agent.credential(),
            Some(identity) if self.credential.tls_method().is_some() => {
                Credential::Tls(identity.certificate().clone())
            }
            _ => self.credential.current(self.clock.wall()).await?,
        };
        let result = self.send_with_retries(fetch, &credential, request, deadline);
        let rejection = match result.await {
            Ok(response) => {
                self.credential.mark_accepted(&credential);
                return Ok(response);
            }
            // A provider authenticates the client before it looks at the grant (RFC 6749 section
            // 4.1.3), so a grant that is valid once was not redeemed.
            Err(error) if credential.is_rejected_by(&error) && request.can_be_sent() => error,
            Err(error) => return Err(error),
        };
        let retried = self.retry_with_other_credential(fetch, &credential, request, deadline);
        let retried = Box::pin(retried);
        match timeout_at(deadline, retried).await {
            Ok(Some(result)) => result,
            // The rejection says more than a timeout of the search for another credential.
            Ok(None) | Err(_) => Err(rejection),
        }
    }

    async fn retry_with_other_credential<R: AuthenticatedRequest>(
        &self,
        fetch: &Fetch,
        rejected: &Credential,
        request: R,
        deadline: Instant,
    ) -> Option<Result<R::Response, Error>> {
        // The names of the records in a shared cache contain the thumbprint of the first certificate.
        if matches!(rejected, Credential::Tls(_)) && self.shared.is_some() {
            return None;
        }
        let now = self.clock.now();
        let other = self.credential.other_than(rejected, now.wall()).await?;
        tracing::warn!(
            correlation_id = fetch.correlation_id,
            "the credential was rejected, or its key is gone; the request is retried with another"
        );
        let result = self.send_with_retries(fetch, &other, request, deadline);
        let result = result.await;
        match &result {
            Ok(_) => self.credential.mark_accepted(&other),
            // The rejection says more than the failure of a search for another credential.
            Err(error @ Error::Credential(_)) => {
                tracing::warn!(
                    error = %error.chain(),
                    correlation_id = fetch.correlation_id,
                    "after a rejection, there is no other credential to retry with"
                );
                return None;
            }
            Err(_) => {}
        }
        Some(result)
    }

    /// Attempts a request as often as the retry policy allows.
    ///
    /// An attempt that may have presented a code or a refresh token is the last one.
    async fn send_with_retries<R: AuthenticatedRequest>(
        &self,
        fetch: &Fetch,
        credential: &Credential,
        request: R,
        deadline: Instant,
    ) -> Result<R::Response, Error> {
        let identity = match (credential, &self.mutual_tls) {
            (Credential::Tls(certificate), Some(transport)) => {
                Some(transport.identity_of(certificate)?)
            }
            _ => self.identity(fetch).await?,
        };
        let mut attempt = 1_u32;
        loop {
            let authenticating = Attempt {
                credential,
                identity: identity.as_ref(),
                number: attempt,
            };
            let sent = request.attempt(self, fetch, authenticating, deadline);
            let error = match sent.await {
                Ok(response) => {
                    self.budget.deposit();
                    return Ok(response);
                }
                Err(error) => error,
            };
            self.endpoints.mark_suspect(&error, &self.clock);
            let delay = self.retry.delay(attempt, &error, jitter());
            let left = deadline.saturating_duration_since(Instant::now());
            let delay = delay.filter(|delay| *delay < left && request.can_be_sent());
            match delay {
                Some(delay) if self.budget.withdraw(self.clock.instant()) => {
                    tracing::info!(
                        error = %error.chain(),
                        correlation_id = fetch.correlation_id,
                        attempt,
                        delay_ms = delay.as_millis(),
                        "{} is retried", R::NAME
                    );
                    fetch.progress().failed = Some((error, attempt));
                    sleep(delay).await;
                    attempt = attempt.saturating_add(1);
                }
                _ if attempt > 1 => return Err(error.after_attempts(attempt)),
                _ => return Err(error),
            }
        }
    }
}
