use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::{Span, field};

use crate::authority::Tenant;
use crate::error::{Error, Failure};
use crate::metrics::{Acquisition, Outcome};
use crate::time;
use crate::token::CacheKey;

/// One token request: for what, what it is known by, and how far it has come.
pub(super) struct Errand {
    pub(super) key: Arc<CacheKey>,
    pub(super) tenant: Option<Tenant>,
    pub(super) scopes: Arc<str>,
    pub(super) claims: Option<Arc<str>>,
    pub(super) correlation_id: String,
    pub(super) is_refresh: bool,
    pub(super) progress: Mutex<Progress>,
}

/// How far a token request has come, for whom it does not reach its end.
#[derive(Default)]
pub(super) struct Progress {
    pub(super) waits_for: WaitsFor,
    /// How many requests have gone out.
    pub(super) sent: u32,
    /// What the last attempt brought, and how many there were.
    pub(super) failed: Option<(Error, u32)>,
}

#[derive(Clone, Copy, Default)]
pub(super) enum WaitsFor {
    #[default]
    Credential,
    Authority,
    Answer,
    /// Another request that has the user's refresh token.
    RefreshToken,
}

impl Errand {
    pub(super) fn progress(&self) -> MutexGuard<'_, Progress> {
        // Nothing panics while it is held; were it so, every field is still whole.
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The span of the whole of it; [`record`] adds how it went.
    pub(super) fn span(&self) -> Span {
        tracing::info_span!(
            "acquire_token",
            correlation_id = self.correlation_id,
            refresh = self.is_refresh,
            // What comes from memory is no token request, and has no span.
            source = "identity_provider",
            outcome = field::Empty,
            duration_ms = field::Empty,
            attempts = field::Empty,
            aadsts = field::Empty,
            { "error.type" } = field::Empty,
            { "http.response.status_code" } = field::Empty,
        )
    }

    pub(super) fn acquisition<T>(
        &self,
        result: &Result<T, Error>,
        duration: Duration,
    ) -> Acquisition {
        let error = result.as_ref().err();
        Acquisition {
            outcome: Outcome::of(result),
            is_refresh: self.is_refresh,
            attempts: self.progress().sent,
            duration,
            status: error.and_then(Error::status).map(|status| status.as_u16()),
            aadsts: error.and_then(Error::aadsts),
        }
    }

    /// Why there is no token after `limit`.
    pub(super) fn too_late(&self, limit: Duration) -> Error {
        let limit = time::shown(limit);
        let progress = self.progress();
        if let Some((error, attempts)) = &progress.failed {
            return error.clone().after_attempts(*attempts);
        }
        let known_by = |message: String| Failure::new(message).correlation_id(&self.correlation_id);
        match progress.waits_for {
            WaitsFor::Answer => {
                let message = format!("no answer from the token endpoint within {limit}");
                Error::Transport(known_by(message).into())
            }
            WaitsFor::Authority => {
                let message = format!("the authority could not be looked up within {limit}");
                Error::Transport(known_by(message).not_sent().into())
            }
            WaitsFor::RefreshToken => {
                let message = format!(
                    "another request for the same user, whose refresh token is used by one at a time, did not end within {limit}"
                );
                Error::Transport(known_by(message).not_sent().into())
            }
            WaitsFor::Credential => {
                let message = format!(
                    "the credential was not ready within {limit}: did its source or signer take too long, or is every blocking thread of the tokio runtime busy?"
                );
                Error::Credential(known_by(message).from_callback().into())
            }
        }
    }
}

/// Adds to the span of the token request how it went, by OpenTelemetry's names where it has them.
pub(super) fn record(acquisition: &Acquisition) {
    let span = Span::current();
    let outcome = acquisition.outcome.as_str();
    span.record("outcome", outcome);
    span.record("attempts", acquisition.attempts);
    let milliseconds = u64::try_from(acquisition.duration.as_millis());
    span.record("duration_ms", milliseconds.unwrap_or(u64::MAX));
    if acquisition.outcome != Outcome::Issued {
        span.record("error.type", outcome);
    }
    if let Some(status) = acquisition.status {
        span.record("http.response.status_code", status);
    }
    if let Some(code) = acquisition.aadsts {
        span.record("aadsts", code);
    }
}
