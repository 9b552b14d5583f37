use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{Either, select};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::circuit_breaker::CircuitBreaker;
use super::limit::Permit;
use super::requirements::Requirements;
use super::slot::{Cached, Slot, Started};
use super::slots::HeldSlot;
use super::stats::Counters;
use crate::error::{Error, Failure};
use crate::heartbeat::Heartbeat;
use crate::lease::LeaseId;
use crate::time::{Now, TimeSource, jitter};
use crate::token::{IssuedToken, TokenSource};

/// The outcome of a flight with the source of the token, shared by all waiting callers.
pub(crate) type FlightOutcome = Result<(Arc<IssuedToken>, TokenSource), Error>;

/// A handle on a flight: a token request in its own task.
///
/// The task belongs to no caller. Dropping a caller does not affect other callers.
#[derive(Clone)]
pub(crate) struct Flight {
    outcome: watch::Receiver<Option<FlightOutcome>>,
    task: Arc<OnceLock<AbortHandle>>,
    heartbeat: Heartbeat,
    permit: Permit,
    overdue: Instant,
}

/// A flight that has not started.
///
/// A flight is registered under the slot's lock, and spawned after. A runtime that shuts down
/// drops a new task at once, and with the task the [`FlightGuard`], which takes that lock.
pub(super) struct NewFlight {
    handle: Flight,
    sender: watch::Sender<Option<FlightOutcome>>,
    deadline: Instant,
}

impl NewFlight {
    /// Creates a flight that ends within `limit`, for a runtime.
    pub(super) fn new(permit: Permit, limit: Duration, runtime: &Handle) -> Self {
        let (sender, outcome) = watch::channel(None);
        let now = Instant::now();
        Self {
            handle: Flight {
                outcome,
                task: Arc::default(),
                heartbeat: Heartbeat::of(Some(runtime.clone())),
                permit,
                overdue: now + overdue_after(limit),
            },
            sender,
            deadline: now + limit,
        }
    }

    pub(super) fn handle(&self) -> Flight {
        self.handle.clone()
    }
}

impl Flight {
    /// Waits for the outcome. Returns `None` if the flight was lost.
    ///
    /// The caller waits on its own runtime and timer, since the flight's runtime may have stopped.
    /// A runtime that has stopped is noticed by its missing heartbeat, long before the deadline.
    pub(super) async fn outcome(mut self) -> Option<FlightOutcome> {
        let completed = pin!(self.outcome.wait_for(Option::is_some));
        let stopped = pin!(self.heartbeat.stopped(self.overdue));
        match select(completed, stopped).await {
            Either::Left((Ok(outcome), _)) => outcome.clone(),
            Either::Left((Err(_), _)) | Either::Right(_) => None,
        }
    }

    /// Aborts the task. The task of a stopped runtime ends when the runtime continues.
    pub(super) fn abort(&self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
        self.permit.release();
    }
}

/// The state that all flights and providers of a client share. It may outlive the client.
pub(super) struct FlightContext {
    /// The limit for a whole flight, retries included.
    pub(super) limit: Duration,
    pub(super) clock: TimeSource,
    pub(super) breaker: CircuitBreaker,
    /// Shared with the adapters for metrics.
    pub(super) counters: Arc<Counters>,
    /// `false` if a flight may end without a token request. The shared cache then counts the token
    /// requests.
    counts_requests: bool,
    /// The number of providers, each of which keeps a slot.
    pub(super) providers: AtomicUsize,
}

impl FlightContext {
    pub(super) fn new(limit: Duration, clock: TimeSource, counts_requests: bool) -> Self {
        Self {
            limit,
            clock,
            breaker: CircuitBreaker::new(overdue_after(limit)),
            counters: Arc::default(),
            counts_requests,
            providers: AtomicUsize::new(0),
        }
    }

    /// Spawns a registered flight. `fetch` receives the flight's deadline.
    pub(super) fn spawn<R>(
        self: &Arc<Self>,
        flight: NewFlight,
        started: Started<Flight>,
        slot: &HeldSlot<Flight>,
        runtime: &Handle,
        fetch: impl FnOnce(Instant) -> R,
    ) -> Flight
    where
        R: Future<Output = FlightOutcome> + Send + 'static,
    {
        if let Some(replaced) = started.replaced {
            replaced.abort();
        }
        if self.counts_requests {
            self.counters.requests.sent.add(1);
        }
        let guard = FlightGuard {
            context: Arc::clone(self),
            slot: slot.clone(),
            generation: started.generation,
            sender: flight.sender,
            permit: flight.handle.permit.clone(),
        };
        // Boxed, because the runtime moves a task several times.
        let fetch = Box::pin(AssertUnwindSafe(fetch(flight.deadline)).catch_unwind());
        let task = runtime.spawn(async move {
            match fetch.await {
                Ok(outcome) => guard.complete(outcome),
                // Remembered as any other failure: the next request would panic, too.
                Err(_) => {
                    let error = panicked();
                    guard.count_panic(&error);
                    guard.complete(Err(error));
                }
            }
        });
        // Empty until now: a flight is spawned once.
        let _ = flight.handle.task.set(task.abort_handle());
        flight.handle
    }

    /// Removes a flight that will not complete.
    pub(super) fn drop_flight(&self, slot: &Slot<Flight>, generation: LeaseId) {
        self.breaker.drop_flight(slot.flight_id(generation));
        slot.drop_flight(generation);
    }
}

/// Removes the flight from its slot, however the flight's task ends.
struct FlightGuard {
    context: Arc<FlightContext>,
    slot: HeldSlot<Flight>,
    generation: LeaseId,
    sender: watch::Sender<Option<FlightOutcome>>,
    permit: Permit,
}

impl FlightGuard {
    /// Stores the outcome, then shares it. A caller that receives the outcome finds the outcome
    /// stored.
    fn complete(&self, outcome: FlightOutcome) {
        let FlightContext {
            breaker, counters, ..
        } = &*self.context;
        let now = self.context.clock.now();
        let jitter = if outcome.is_err() { jitter() } else { 0.0 };
        let flight = self.slot.flight_id(self.generation);
        let (outcome, source) = match outcome {
            Ok((issued, source)) => (Ok(issued), source),
            Err(error) => (Err(error), TokenSource::IdentityProvider),
        };
        let opens_circuit = breaker.report(flight, &outcome, &now, jitter);
        let outcome = self.slot.complete(self.generation, outcome, &now, jitter);
        if let Err(error) = &outcome {
            if self.context.counts_requests {
                counters.requests.count_failed(error);
            }
            self.warn(error, &now);
        }
        if opens_circuit {
            let key = self.slot.key();
            tracing::warn!(
                tenant = key.tenant_name(),
                resource = key.resource(),
                "the authority's host seems to be down: until it responds, one token request at a time is sent"
            );
        }
        let outcome = outcome.map(|issued| (issued, source));
        self.sender.send_replace(Some(outcome));
    }

    /// Counts a token request that cannot count its own failure any more.
    fn count_panic(&self, error: &Error) {
        let FlightContext {
            counters,
            counts_requests,
            ..
        } = &*self.context;
        if !counts_requests {
            counters.requests.count_failed(error);
        }
    }

    fn warn(&self, error: &Error, now: &Now) {
        let remaining = match self.slot.get(now, &Requirements::NONE) {
            Cached::Fresh(issued) | Cached::Stale(issued) => {
                Some(issued.lifetime.remaining(now).as_secs())
            }
            Cached::Miss => None,
        };
        let key = self.slot.key();
        tracing::warn!(
            tenant = key.tenant_name(),
            resource = key.resource(),
            error = %error.chain(),
            correlation_id = error.correlation_id(),
            still_served = remaining.is_some(),
            still_served_s = remaining,
            "a token request failed"
        );
    }
}

impl Drop for FlightGuard {
    fn drop(&mut self) {
        // Without effect after `complete`. A task dropped with its runtime says nothing about the
        // next one.
        self.context.drop_flight(&self.slot, self.generation);
        // Waiting callers may hold clones of the permit.
        self.permit.release();
    }
}

/// The time after which waiting callers consider a flight lost: a little more than the flight's
/// limit.
pub(super) fn overdue_after(limit: Duration) -> Duration {
    limit + Duration::from_secs(1)
}

fn panicked() -> Error {
    let message = "the token request panicked: its transport has a bug, or the tokio runtime has no time and I/O enabled (see enable_all())";
    Error::Transport(Failure::new(message).not_sent().into())
}
