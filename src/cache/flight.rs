use std::sync::{Arc, OnceLock};

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

use super::slot::{Answer, FLIGHT_LIMIT, OVERDUE, Slot};
use crate::error::{Error, Failure};
use crate::time::{TimeSource, jitter};
use crate::token::Issued;

/// What a flight brings: the same for everyone who waits.
type Outcome = Result<Arc<Issued>, Error>;

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
}

impl Flight {
    /// `replaced` is the overdue flight in whose place it comes, which ends when it departs.
    pub(super) fn announce(generation: u64, replaced: Option<Self>) -> (Self, Departure) {
        let (sender, outcome) = watch::channel(None);
        let task = Arc::new(OnceLock::new());
        let now = Instant::now();
        let flight = Self {
            outcome,
            task: Arc::clone(&task),
            overdue: now + OVERDUE,
        };
        let departure = Departure {
            sender,
            task,
            generation,
            replaced,
            deadline: now + FLIGHT_LIMIT,
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

impl Departure {
    /// Runs `fetch` on `runtime`, which is told by when it has to end, and lands its outcome.
    pub(super) fn launch<R>(
        self,
        runtime: &Handle,
        slot: &Arc<Slot<Flight>>,
        clock: &TimeSource,
        fetch: impl FnOnce(Instant) -> R,
    ) where
        R: Future<Output = Result<Issued, Error>> + Send + 'static,
    {
        if let Some(replaced) = self.replaced {
            replaced.abort();
        }
        let seat = Seat {
            slot: Arc::clone(slot),
            generation: self.generation,
            clock: clock.clone(),
            sender: self.sender,
        };
        let fetch = fetch(self.deadline);
        let task = runtime.spawn(async move {
            seat.land(fetch.await.map(Arc::new));
        });
        // Set once: a departure is launched once.
        let _ = self.task.set(task.abort_handle());
    }
}

/// A flight's place in its slot, given up however the flight ends.
struct Seat {
    slot: Arc<Slot<Flight>>,
    generation: u64,
    clock: TimeSource,
    sender: watch::Sender<Option<Outcome>>,
}

impl Seat {
    /// The slot first: whoever is told of the outcome finds it there.
    fn land(&self, outcome: Outcome) {
        let now = self.clock.now();
        let outcome = self.slot.land(self.generation, outcome, &now, jitter());
        if let Err(error) = &outcome {
            tracing::warn!(
                error = %error.chain(),
                correlation_id = error.correlation_id(),
                still_served = !matches!(self.slot.get(&now), Answer::Wait),
                "a token request failed"
            );
        }
        self.sender.send_replace(Some(outcome));
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // A failure like any other, remembered as one: the next caller would panic too.
            self.land(Err(panicked()));
        } else {
            // Landed already, or dropped with its runtime, which says nothing about the next.
            self.slot.abandon(self.generation);
        }
    }
}

fn panicked() -> Error {
    let message = "the token request panicked: its transport has a bug, or the tokio runtime has no time and I/O enabled (see enable_all())";
    Error::Transport(Failure::new(message).into())
}
