use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::ACCEPT;
use http::{HeaderValue, Method, Response};
use tokio::time::timeout;

use crate::error::{Error, Failure};
use crate::time::{Deadline, TimeSource};
use crate::transport::Transport;

/// What a look-up over the network needs.
pub(crate) struct Lookup<'a> {
    pub(crate) transport: &'a dyn Transport,
    pub(crate) clock: &'a TimeSource,
    pub(crate) correlation_id: &'a str,
}

impl Lookup<'_> {
    /// Asks for JSON, for a bounded time. `url` has no query that is to be hidden.
    pub(super) async fn get(&self, url: &str) -> Result<Response<Bytes>, Error> {
        let request = http::Request::builder()
            .method(Method::GET)
            .uri(url)
            .header(ACCEPT, HeaderValue::from_static("application/json"))
            .header("client-request-id", self.correlation_id)
            .body(Bytes::new());
        let request =
            request.map_err(|error| Error::config(format!("'{url}' cannot be asked: {error}")))?;
        let failure = |message: String| Failure::new(message).correlation_id(self.correlation_id);
        match timeout(LIMIT, self.transport.send(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(source)) => Err(Error::Transport(
                failure(format!("no answer from {url}"))
                    .source(source)
                    .into(),
            )),
            Err(_) => Err(Error::Transport(
                failure(format!("no answer from {url} within {} s", LIMIT.as_secs())).into(),
            )),
        }
    }
}

/// What is looked up when it is first needed, by one task for all, and kept for a while.
pub(super) struct Remembered<T> {
    state: Mutex<State<T>>,
    /// Held by whoever looks it up.
    turn: tokio::sync::Mutex<()>,
}

struct State<T> {
    known: Option<(Arc<T>, Deadline)>,
    /// How many look-ups have ended.
    ended: u64,
    last_error: Option<Error>,
}

impl<T> Remembered<T> {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                known: None,
                ended: 0,
                last_error: None,
            }),
            turn: tokio::sync::Mutex::new(()),
        }
    }

    /// What is known, or what `look_up` finds, with for how long to keep it.
    ///
    /// Those who come meanwhile share what it finds, be it an error. What was known before is kept
    /// if it fails.
    pub(super) async fn get(
        &self,
        clock: &TimeSource,
        look_up: impl Future<Output = Result<(T, Duration), Error>>,
    ) -> Result<Arc<T>, Error> {
        let (old, ended) = {
            let state = self.lock();
            match &state.known {
                Some((known, until)) if !until.reached(&clock.now()) => {
                    return Ok(Arc::clone(known));
                }
                known => (
                    known.as_ref().map(|(known, _)| Arc::clone(known)),
                    state.ended,
                ),
            }
        };
        let _turn = match (self.turn.try_lock(), &old) {
            (Ok(turn), _) => Some(turn),
            // Somebody is at it; the old one does meanwhile.
            (Err(_), Some(old)) => return Ok(Arc::clone(old)),
            // A task on a runtime that stands still holds its turn for ever.
            (Err(_), None) => timeout(
                LIMIT.saturating_add(Duration::from_secs(1)),
                self.turn.lock(),
            )
            .await
            .ok(),
        };
        // Another may have looked it up while this one waited for its turn.
        if let Some(outcome) = self.lock().outcome_since(ended) {
            return outcome;
        }
        let found = look_up.await;
        let now = clock.now();
        let mut state = self.lock();
        state.ended = state.ended.wrapping_add(1);
        match (found, old) {
            (Ok((found, keep)), _) => {
                let found = Arc::new(found);
                state.known = Some((Arc::clone(&found), now.plus(keep)));
                Ok(found)
            }
            (Err(error), Some(old)) => {
                tracing::warn!(
                    error = %error.chain(),
                    "what is known of the authority could not be looked up again; it is used for a while longer"
                );
                state.known = Some((Arc::clone(&old), now.plus(AFTER_A_FAILURE)));
                Ok(old)
            }
            (Err(error), None) => {
                state.last_error = Some(error.clone());
                Err(error)
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Nothing panics while it is held; were it so, every field is still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> State<T> {
    fn outcome_since(&self, ended: u64) -> Option<Result<Arc<T>, Error>> {
        if self.ended == ended {
            return None;
        }
        match (&self.known, &self.last_error) {
            (Some((known, _)), _) => Some(Ok(Arc::clone(known))),
            (None, error) => error.clone().map(Err),
        }
    }
}

/// For one look-up.
pub(super) const LIMIT: Duration = Duration::from_secs(10);
/// For how long something is kept that was looked up.
pub(super) const A_DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// For how long it goes without, or with the old, where that failed.
pub(super) const AFTER_A_FAILURE: Duration = Duration::from_secs(5 * 60);
