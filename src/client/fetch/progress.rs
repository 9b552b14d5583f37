use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use http::HeaderValue;
use tracing::{Span, field};

use crate::authority::Tenant;
use crate::cache::Requirements;
use crate::client::agent::AgentClient;
use crate::error::{Error, Failure};
use crate::metrics::{Acquisition, Observer, Outcome};
use crate::request::ExtraHeaders;
use crate::request::anchor_mailbox::AnchorMailbox;
use crate::time::{self, TimeSource};
use crate::token::{CacheKey, TokenBinding, TokenHash, TokenSource};
use crate::transport::TlsIdentity;

/// One token request and its progress.
pub(in crate::client) struct Fetch {
    pub(in crate::client) key: Arc<CacheKey>,
    pub(in crate::client) tenant: Option<Tenant>,
    pub(in crate::client) scopes: Arc<str>,
    pub(in crate::client) claims: Option<Arc<str>>,
    /// Extra headers of the caller that started the token request.
    pub(in crate::client) headers: ExtraHeaders,
    /// The user of the token request, for Entra's routing. Empty for a user who is not known, and
    /// for an application.
    pub(in crate::client) anchor_mailbox: OnceLock<HeaderValue>,
    /// The token that an API rejected.
    pub(in crate::client) rejected: Option<TokenHash>,
    pub(in crate::client) correlation_id: String,
    pub(in crate::client) is_refresh: bool,
    /// The requirements of the caller that started the flight. None for a background refresh.
    pub(in crate::client) requirements: Requirements,
    /// `true` if the cache in memory has a valid token for a caller whose request fails.
    pub(in crate::client) has_token: bool,
    /// The key that the issued token must be bound to, if that is known before the request.
    pub(in crate::client) binding: TokenBinding,
    /// The client certificate of the request's connections, and the binding to it.
    pub(in crate::client) identity: OnceLock<(Arc<TlsIdentity>, TokenBinding)>,
    pub(in crate::client) progress: Mutex<Progress>,
    /// The agent identity that is the client of the token request, in place of the application.
    pub(in crate::client) agent: Option<AgentClient>,
}

/// The progress of a token request, used to word the timeout error.
#[derive(Default)]
pub(in crate::client) struct Progress {
    phase: Phase,
    /// The number of HTTP requests sent.
    pub(in crate::client) sent: u32,
    /// The error of the last attempt, and the number of attempts.
    pub(in crate::client) failed: Option<(Error, u32)>,
    /// `true` if the shared cache answered in place of the identity provider.
    pub(in crate::client) is_shared: bool,
    /// `true` if a call of the shared cache failed, or was left out after such a failure.
    pub(in crate::client) shared_cache_failed: bool,
    /// The wait for another process so far.
    pub(in crate::client) lock_wait: Option<Duration>,
}

/// The step that a token request waits for.
#[derive(Clone, Copy, Default)]
pub(in crate::client) enum Phase {
    #[default]
    Credential,
    Discovery,
    Response,
    /// The response to a pushed authorization request.
    PushedResponse,
    /// The response to an introspection request.
    IntrospectionResponse,
    /// Another request that redeems the user's refresh token.
    RefreshToken,
    /// Another process that holds the lock in the shared cache.
    OtherProcess,
}

impl Fetch {
    /// Returns the key that the issued token must be bound to.
    pub(in crate::client) fn binding(&self) -> TokenBinding {
        self.identity
            .get()
            .map_or(self.binding, |(_, binding)| *binding)
    }

    pub(in crate::client) fn progress(&self) -> MutexGuard<'_, Progress> {
        // No code panics under the lock, and every field would still be whole.
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::client) fn enter(&self, phase: Phase) {
        let mut progress = self.progress();
        progress.phase = phase;
        if matches!(phase, Phase::Response) {
            progress.sent = progress.sent.saturating_add(1);
        }
    }

    /// Names the user of the token request, unless an earlier call named the user.
    pub(in crate::client) fn set_anchor_mailbox(&self, user: Option<AnchorMailbox<'_>>) {
        if let Some(value) = user.and_then(AnchorMailbox::header_value) {
            let _ = self.anchor_mailbox.set(value);
        }
    }

    /// Creates the span of the token request. [`report`](Self::report) adds the outcome.
    pub(in crate::client) fn span(&self) -> Span {
        tracing::info_span!(
            "acquire_token",
            tenant = self.key.tenant_name(),
            resource = self.key.resource(),
            correlation_id = self.correlation_id,
            refresh = self.is_refresh,
            // A hit of the cache in memory has no span.
            source = field::Empty,
            outcome = field::Empty,
            duration_ms = field::Empty,
            attempts = field::Empty,
            shared_cache_failed = field::Empty,
            lock_wait_ms = field::Empty,
            aadsts = field::Empty,
            { "error.type" } = field::Empty,
            { "http.response.status_code" } = field::Empty,
        )
    }

    /// Runs a fetch, and reports the outcome to the span and the observer.
    pub(in crate::client) async fn measure<T>(
        &self,
        fetching: impl Future<Output = Result<T, Error>>,
        clock: &TimeSource,
        observer: &Observer,
    ) -> Result<T, Error> {
        let began = clock.instant();
        let result = fetching.await;
        let duration = clock.instant().saturating_duration_since(began);
        observer.notify(self.report(&result, duration, observer));
        result
    }

    /// Records the outcome in the current span, by OpenTelemetry's names where it has them.
    /// Returns the outcome for the observer.
    fn report<T>(
        &self,
        result: &Result<T, Error>,
        duration: Duration,
        observer: &Observer,
    ) -> Acquisition {
        let error = result.as_ref().err();
        let named = observer.names_tenants().then_some(&self.key);
        let progress = self.progress();
        let acquisition = Acquisition {
            tenant: named.and_then(|key| key.tenant_name()).map(Arc::from),
            resource: named.map(|key| Arc::from(key.resource())),
            outcome: Outcome::of(result),
            source: match progress.is_shared {
                true => TokenSource::SharedCache,
                false => TokenSource::IdentityProvider,
            },
            is_refresh: self.is_refresh,
            attempts: progress.sent,
            duration,
            shared_cache_failed: progress.shared_cache_failed,
            lock_wait: progress.lock_wait,
            status: error.and_then(Error::status).map(|status| status.as_u16()),
            aadsts: error.and_then(Error::aadsts),
        };
        drop(progress);
        let span = Span::current();
        let outcome = acquisition.outcome.as_str();
        let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        span.record("source", acquisition.source.as_str());
        span.record("outcome", outcome);
        span.record("attempts", acquisition.attempts);
        span.record("duration_ms", milliseconds(duration));
        if acquisition.shared_cache_failed {
            span.record("shared_cache_failed", true);
        }
        if let Some(wait) = acquisition.lock_wait {
            span.record("lock_wait_ms", milliseconds(wait));
        }
        if error.is_some() {
            span.record("error.type", outcome);
        }
        if let Some(status) = acquisition.status {
            span.record("http.response.status_code", status);
        }
        if let Some(code) = acquisition.aadsts {
            span.record("aadsts", code);
        }
        acquisition
    }

    /// Returns the error of a token request that did not end within `limit`.
    pub(in crate::client) fn timeout_error(&self, limit: Duration) -> Error {
        let limit = time::format_limit(limit);
        let progress = self.progress();
        if let Some((error, attempts)) = &progress.failed {
            return error.clone().after_attempts(*attempts);
        }
        let failure = |message: String| Failure::new(message).correlation_id(&self.correlation_id);
        match progress.phase {
            Phase::Response => {
                let message = format!("no response from the token endpoint within {limit}");
                Error::Transport(failure(message).into())
            }
            Phase::PushedResponse => {
                let message = format!(
                    "no response from the pushed authorization request endpoint within {limit}"
                );
                Error::Transport(failure(message).into())
            }
            Phase::IntrospectionResponse => {
                let message = format!("no response from the introspection endpoint within {limit}");
                Error::Transport(failure(message).into())
            }
            Phase::Discovery => {
                let message = format!("the authority's metadata was not discovered within {limit}");
                Error::Transport(failure(message).not_sent().into())
            }
            Phase::RefreshToken => {
                let message = format!(
                    "another request for the same user did not end within {limit}; one request at a time uses a refresh token"
                );
                Error::Transport(failure(message).not_sent().into())
            }
            Phase::OtherProcess => {
                let message = format!(
                    "another process that shares the cache has the lock for this token, and stored no token within {limit}"
                );
                Error::Transport(failure(message).not_sent().into())
            }
            Phase::Credential => {
                let message = format!(
                    "the credential was not ready within {limit}: did its source or signer take too long, or is every blocking thread of the tokio runtime busy?"
                );
                Error::Credential(failure(message).in_callback().into())
            }
        }
    }
}
