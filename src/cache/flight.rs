use std::panic::AssertUnwindSafe;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

use super::circuit_breaker::CircuitBreaker;
use super::limit::Permit;
use super::requirements::Requirements;
use super::slot::{Cached, Slot};
use super::stats::Counters;
use crate::error::{Error, Failure};
use crate::time::{Now, TimeSource, jitter};
use crate::token::IssuedToken;

/// What a flight brings: the same for everyone who waits.
type Outcome = Result<Arc<IssuedToken>, Error>;

/// A handle on a token request under way: a task of its own that belongs to no caller, so that
/// dropping any of them changes nothing for the others.
#[derive(Clone)]
pub(crate) struct Flight {
    outcome: watch::Receiver<Option<Outcome>>,
    task: Arc<OnceLock<AbortHandle>>,
    overdue: Instant,
}

/// What turns a [`Flight`] that has been announced into one that is under way.
///
/// It is announced under the slot's lock and launched after: a runtime that is shutting down drops
/// a new task on the spot, and with it the [`Seat`], which takes the lock.
pub(super) struct Departure {
    sender: watch::Sender<Option<Outcome>>,
    task: Arc<OnceLock<AbortHandle>>,
    generation: u64,
    replaced: Option<Flight>,
    deadline: Instant,
    place: Permit,
}

impl Flight {
    /// `replaced` is the overdue flight in whose place it comes, which ends when it departs.
    pub(super) fn announce(
        generation: u64,
        replaced: Option<Self>,
        place: Permit,
        limit: Duration,
    ) -> (Self, Departure) {
        let (sender, outcome) = watch::channel(None);
        let task = Arc::new(OnceLock::new());
        let now = Instant::now();
        let flight = Self {
            outcome,
            task: Arc::clone(&task),
            overdue: now + overdue_after(limit),
        };
        let departure = Departure {
            sender,
            task,
            generation,
            replaced,
            deadline: now + limit,
            place,
        };
        (flight, departure)
    }

    /// Waits for the outcome, on the waiter's own runtime and with the waiter's own timer: the
    /// flight's runtime may have stopped. `None` if there will be none.
    pub(super) async fn outcome(mut self) -> Option<Outcome> {
        let arrival = self.outcome.wait_for(Option::is_some);
        match timeout_at(self.overdue, arrival).await {
            Ok(Ok(outcome)) => outcome.clone(),
            Ok(Err(_)) | Err(_) => None,
        }
    }

    pub(super) fn abort(&self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }
}

/// What all flights and providers of a client have in common. It outlives the client as long as one
/// of them does.
pub(super) struct Tower {
    /// For a whole flight, every attempt included.
    pub(super) flight_limit: Duration,
    pub(super) clock: TimeSource,
    pub(super) gate: CircuitBreaker,
    pub(super) counters: Counters,
    /// How many providers hold a slot.
    pub(super) bound: AtomicUsize,
}

impl Tower {
    pub(super) fn new(flight_limit: Duration, clock: TimeSource) -> Self {
        Self {
            flight_limit,
            clock,
            gate: CircuitBreaker::new(overdue_after(flight_limit)),
            counters: Counters::default(),
            bound: AtomicUsize::new(0),
        }
    }

    /// Runs `fetch` on `runtime`, which is told by when it has to end, and lands its outcome.
    pub(super) fn launch<R>(
        self: &Arc<Self>,
        departure: Departure,
        runtime: &Handle,
        slot: &Arc<Slot<Flight>>,
        fetch: impl FnOnce(Instant) -> R,
    ) where
        R: Future<Output = Result<IssuedToken, Error>> + Send + 'static,
    {
        let Departure {
            sender,
            task,
            generation,
            replaced,
            deadline,
            place,
        } = departure;
        if let Some(replaced) = replaced {
            replaced.abort();
        }
        self.counters.requests.add(1);
        let seat = Seat {
            tower: Arc::clone(self),
            slot: Arc::clone(slot),
            generation,
            sender,
            _place: place,
        };
        let fetch = fetch(deadline);
        let spawned = runtime.spawn(async move {
            match AssertUnwindSafe(fetch).catch_unwind().await {
                Ok(outcome) => seat.land(outcome.map(Arc::new)),
                // A failure like any other, remembered as one: the next caller would panic too.
                Err(_) => seat.land(Err(panicked())),
            }
        });
        // Set once: a departure is launched once.
        let _ = task.set(spawned.abort_handle());
    }

    /// Forgets a flight that will not land.
    pub(super) fn abandon(&self, slot: &Slot<Flight>, generation: u64) {
        self.gate.abandon(slot.flight_id(generation));
        slot.abandon(generation);
    }
}

/// A flight's place in its slot, given up however the flight ends.
struct Seat {
    tower: Arc<Tower>,
    slot: Arc<Slot<Flight>>,
    generation: u64,
    sender: watch::Sender<Option<Outcome>>,
    _place: Permit,
}

impl Seat {
    /// The gate and the slot first: whoever is told of the outcome finds it there.
    fn land(&self, outcome: Outcome) {
        let now = self.tower.clock.now();
        let flight = self.slot.flight_id(self.generation);
        let jitter = if outcome.is_err() { jitter() } else { 0.0 };
        let closes = self.tower.gate.report(flight, &outcome, &now, jitter);
        let outcome = self.slot.land(self.generation, outcome, &now, jitter);
        if let Err(error) = &outcome {
            self.tower.counters.failed(error);
            self.warn(error, &now);
        }
        if closes {
            tracing::warn!(
                "the authority's host is taken to be down: one token request at a time tries it, until it answers"
            );
        }
        self.sender.send_replace(Some(outcome));
    }

    fn warn(&self, error: &Error, now: &Now) {
        let left = match self.slot.get(now, &Requirements::NONE) {
            Cached::Fresh(issued) | Cached::Stale(issued) => {
                Some(issued.lifetime.remaining(now).as_secs())
            }
            Cached::Miss => None,
        };
        tracing::warn!(
            error = %error.chain(),
            correlation_id = error.correlation_id(),
            still_served = left.is_some(),
            still_served_s = left,
            "a token request failed"
        );
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        // Landed already, or dropped with its runtime, which says nothing about the next.
        self.tower.abandon(&self.slot, self.generation);
    }
}

/// A little after its limit, a flight is given up by those who wait.
pub(super) fn overdue_after(limit: Duration) -> Duration {
    limit + Duration::from_secs(1)
}

fn panicked() -> Error {
    let message = "the token request panicked: its transport has a bug, or the tokio runtime has no time and I/O enabled (see enable_all())";
    Error::Transport(Failure::new(message).not_sent().into())
}
