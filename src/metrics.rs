//! Measurements of acquisitions, for an [observer](crate::ConfidentialClientBuilder::observer).
//!
//! ```
//! # use bytes::Bytes;
//! # use http::{Request, Response};
//! use std::sync::{Arc, Mutex};
//!
//! use confidential_client::ConfidentialClient;
//! use confidential_client::metrics::{Acquisition, Outcome};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let acquisitions: Arc<Mutex<Vec<Acquisition>>> = Arc::default();
//! let client = ConfidentialClient::builder("11111111-2222-3333-4444-555555555555")
//!     .tenant("contoso.onmicrosoft.com")
//!     .client_secret("the secret's value")
//!     .observer({
//!         let acquisitions = Arc::clone(&acquisitions);
//!         move |acquisition| acquisitions.lock().unwrap().push(acquisition)
//!     })
//! #   .transport(|_: Request<Bytes>| async {
//! #       let body = r#"{"token_type":"Bearer","expires_in":3599,"access_token":"abc"}"#;
//! #       Ok(Response::new(Bytes::from(body)))
//! #   })
//!     .build()?;
//!
//! // The second call returns the cached token, without a token request.
//! client.acquire_token_for_client("https://graph.microsoft.com/.default").await?;
//! client.acquire_token_for_client("https://graph.microsoft.com/.default").await?;
//!
//! let acquisitions = acquisitions.lock().unwrap();
//! assert_eq!(acquisitions.len(), 1);
//! assert_eq!(acquisitions[0].outcome, Outcome::Issued);
//! assert_eq!(acquisitions[0].attempts, 1);
//! # Ok(())
//! # }
//! ```
//!
//! - [`ConfidentialClientBuilder::observer`](crate::ConfidentialClientBuilder::observer) sets the
//!   observer.
//! - [`TokenCache::stats`](crate::TokenCache::stats) counts cache misses, and what a shared cache
//!   answered.
//! - [`guides::operating`](crate::guides::operating) lists the alarms to set.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
#[cfg(any(feature = "metrics", feature = "opentelemetry"))]
use std::sync::PoisonError;
use std::time::Duration;

use crate::error::{Error, ErrorKind};
use crate::token::TokenSource;

/// The measurements of one token request, including retries.
///
/// An [observer](crate::ConfidentialClientBuilder::observer) receives one `Acquisition` per token
/// request. A call that returns a token of the cache in memory sends no token request. With a
/// [shared cache](crate::cache::SharedCache), the observer receives one `Acquisition` also if the
/// shared cache answered in place of a token request.
///
/// The tenant and the resource are left out by default, because as metric labels each value would
/// create a time series.
#[doc(alias = "Telemetry")]
#[doc(alias = "AuthenticationResultMetadata")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Acquisition {
    /// The tenant as requested, or `None` if the authority has no tenants.
    ///
    /// `None` without [`observe_tenants`](crate::ConfidentialClientBuilder::observe_tenants).
    pub tenant: Option<Arc<str>>,
    /// The resource of the first scope, such as `https://graph.microsoft.com`.
    ///
    /// `None` without [`observe_tenants`](crate::ConfidentialClientBuilder::observe_tenants).
    pub resource: Option<Arc<str>>,
    /// The result: a token or an error.
    pub outcome: Outcome,
    /// The origin of the result.
    ///
    /// [`TokenSource::IdentityProvider`] if this process sent a token request, or could not send
    /// one. [`TokenSource::SharedCache`] if another process sent the token request: its token, its
    /// failure, or no outcome in time. Never [`TokenSource::Cache`].
    pub source: TokenSource,
    /// `true` for a background refresh of a token that was still valid. No caller waited.
    pub is_refresh: bool,
    /// Number of HTTP requests sent. Zero if the shared cache answered.
    pub attempts: u32,
    /// Time from the start of the token request to the last byte of the last response.
    ///
    /// The time includes discovery, the calls of a shared cache before the token request, the wait
    /// for other processes, and the waits between attempts.
    pub duration: Duration,
    /// `true` if the shared cache failed, or is treated as down after a failure.
    ///
    /// An application's token is then requested by this process alone.
    pub shared_cache_failed: bool,
    /// Time for which the acquisition waited for the token request of another process.
    ///
    /// `None` if the acquisition did not wait.
    pub lock_wait: Option<Duration>,
    /// HTTP status of a failed request, if a response arrived.
    pub status: Option<u16>,
    /// First AADSTS code of an error response, without the prefix `AADSTS`.
    pub aadsts: Option<u64>,
}

/// The result of an acquisition, without the token or the error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// A token was acquired. [`Acquisition::source`] says whether the identity provider issued the
    /// token for this process, or the shared cache had the token of another process.
    Issued,
    /// The acquisition failed with an [`Error`] of this kind.
    Failed(ErrorKind),
}

impl Outcome {
    /// Returns the outcome as a label: `issued`, or the label of the [`ErrorKind`].
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Issued => "issued",
            Self::Failed(kind) => kind.as_str(),
        }
    }

    pub(crate) fn of<T>(result: &Result<T, Error>) -> Self {
        match result {
            Ok(_) => Self::Issued,
            Err(error) => Self::Failed(error.kind()),
        }
    }
}

/// The callbacks for acquisitions: of the program, and of adapters for metrics.
#[derive(Default)]
pub(crate) struct Observer {
    callback: Option<Box<dyn Fn(Acquisition) + Send + Sync>>,
    names_tenants: bool,
    /// Added after the client was built. Each adapter adds one.
    #[cfg(any(feature = "metrics", feature = "opentelemetry"))]
    adapters: std::sync::RwLock<Vec<(u64, Arc<Adapter>)>>,
}

#[cfg(any(feature = "metrics", feature = "opentelemetry"))]
type Adapter = dyn Fn(&Acquisition) + Send + Sync;

impl Observer {
    pub(crate) fn set(&mut self, callback: impl Fn(Acquisition) + Send + Sync + 'static) {
        self.callback = Some(Box::new(callback));
    }

    pub(crate) fn name_tenants(&mut self) {
        self.names_tenants = true;
    }

    /// Returns whether acquisitions have the tenant and the resource.
    pub(crate) fn names_tenants(&self) -> bool {
        self.names_tenants && self.callback.is_some()
    }

    /// Adds the callback of an adapter, from now on. Returns `false` if the adapter has one.
    #[cfg(any(feature = "metrics", feature = "opentelemetry"))]
    pub(crate) fn add(
        &self,
        adapter: u64,
        callback: impl Fn(&Acquisition) + Send + Sync + 'static,
    ) -> bool {
        let mut adapters = self
            .adapters
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let is_new = adapters.iter().all(|(known, _)| *known != adapter);
        if is_new {
            adapters.push((adapter, Arc::new(callback)));
        }
        is_new
    }

    #[cfg(any(feature = "metrics", feature = "opentelemetry"))]
    fn adapters(&self) -> Vec<Arc<Adapter>> {
        let adapters = self.adapters.read().unwrap_or_else(PoisonError::into_inner);
        let adapters = adapters.iter();
        adapters.map(|(_, adapter)| Arc::clone(adapter)).collect()
    }

    /// Calls the observers. A panic of an observer is logged and does not fail the token request.
    pub(crate) fn notify(&self, acquisition: Acquisition) {
        #[cfg(any(feature = "metrics", feature = "opentelemetry"))]
        {
            // Called without the lock, since a recorder of the program may be slow, or may add.
            for adapter in self.adapters() {
                guard(|| adapter(&acquisition));
            }
        }
        if let Some(callback) = &self.callback {
            guard(|| callback(acquisition));
        }
    }
}

fn guard(callback: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(callback)).is_err() {
        tracing::warn!("the observer of token requests panicked");
    }
}

/// The boundaries of the buckets for durations, in seconds.
///
/// Those of OpenTelemetry's `http.client.request.duration`. `adapter::OpenTelemetryMetrics` sets
/// them. An exporter of the `metrics` facade needs them in its own settings.
pub const DURATION_BOUNDARIES: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Failure;

    #[test]
    fn each_outcome_has_a_distinct_label() {
        let failure = || Failure::new("no").into();
        for (result, label) in [
            (Ok(()), "issued"),
            (Err(Error::Config(failure())), "config"),
            (Err(Error::Credential(failure())), "credential"),
            (Err(Error::Transport(failure())), "transport"),
            (Err(Error::Throttled(failure())), "throttled"),
            (Err(Error::InvalidResponse(failure())), "invalid_response"),
            (
                Err(Error::InteractionRequired(failure())),
                "interaction_required",
            ),
        ] {
            assert_eq!(Outcome::of(&result).as_str(), label);
        }
        assert_eq!(Outcome::Failed(ErrorKind::Server).as_str(), "server");
    }
}
