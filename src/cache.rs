use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::error::{Error, Failure};
use crate::time::TimeSource;
use crate::token::{Issued, Key, TokenSource};

mod flight;
mod slot;

use flight::{Departure, Flight};
use slot::Joined;
pub(crate) use slot::{Answer, FLIGHT_LIMIT};

/// The place of one key, with its flight.
pub(crate) type Slot = slot::Slot<Flight>;

/// The tokens of one client: a slot for each key, and for each slot at most one flight.
///
/// The cache runs a future that it is handed, and knows neither networks nor credentials.
pub(crate) struct Cache {
    slots: RwLock<HashMap<Key, Arc<Slot>>>,
    clock: TimeSource,
}

impl Cache {
    pub(crate) fn new(clock: TimeSource) -> Self {
        let slots = RwLock::default();
        Self { slots, clock }
    }

    /// The slot of `key`, made if there is none. The lock is held for the look-up alone.
    pub(crate) fn slot(&self, key: &Key) -> Arc<Slot> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get(key) {
            return Arc::clone(slot);
        }
        drop(slots);
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        // Another caller may have made the slot while this one waited for the lock.
        let slot = slots
            .entry(key.clone())
            .or_insert_with(|| Arc::new(Slot::new()));
        Arc::clone(slot)
    }

    /// Waits for a token where the slot has none: joins the flight, or sends one off with `fetch`,
    /// which is told by when it has to end.
    ///
    /// # Errors
    ///
    /// The flight's own error, shared by all who waited and remembered for a while;
    /// [`Error::Config`] outside a tokio runtime.
    pub(crate) async fn wait<R>(
        &self,
        slot: &Arc<Slot>,
        fetch: impl Fn(Instant) -> R,
    ) -> Result<(Arc<Issued>, TokenSource), Error>
    where
        R: Future<Output = Result<Issued, Error>> + Send + 'static,
    {
        let runtime = Handle::try_current().map_err(|_| outside_a_runtime())?;
        // A flight that brings nothing is replaced, once.
        for _ in 0..2 {
            let mut departure = None;
            let joined = slot.join(&self.clock.now(), announce(&mut departure));
            if let Some(departure) = departure {
                departure.launch(&runtime, slot, &self.clock, &fetch);
            }
            match joined {
                Joined::Served(issued) => return Ok((issued, TokenSource::Cache)),
                Joined::Refused(error) => return Err(error),
                Joined::Aboard { generation, flight } => match flight.outcome().await {
                    Some(outcome) => {
                        return outcome.map(|issued| (issued, TokenSource::IdentityProvider));
                    }
                    None => slot.abandon(generation),
                },
            }
        }
        Err(lost())
    }

    /// Sends a flight off to renew a token that is due; nobody waits for it.
    pub(crate) fn renew<R>(&self, slot: &Arc<Slot>, fetch: impl Fn(Instant) -> R)
    where
        R: Future<Output = Result<Issued, Error>> + Send + 'static,
    {
        let Ok(runtime) = Handle::try_current() else {
            tracing::debug!("a token is due and cannot be renewed outside a tokio runtime");
            return;
        };
        let mut departure = None;
        slot.renew(&self.clock.now(), announce(&mut departure));
        if let Some(departure) = departure {
            departure.launch(&runtime, slot, &self.clock, &fetch);
        }
    }
}

/// With the last handle on the client its flights end: nothing waits for a renewal at exit.
impl Drop for Cache {
    fn drop(&mut self) {
        let slots = self.slots.get_mut().unwrap_or_else(PoisonError::into_inner);
        for flight in slots.values().filter_map(|slot| slot.flight()) {
            flight.abort();
        }
    }
}

/// Announces a flight to the slot, and leaves its departure to be launched.
fn announce(departure: &mut Option<Departure>) -> impl FnOnce(u64, Option<Flight>) -> Flight {
    |generation, replaced| {
        let (flight, announced) = Flight::announce(generation, replaced);
        *departure = Some(announced);
        flight
    }
}

fn outside_a_runtime() -> Error {
    Error::config(
        "a token is needed from the identity provider and there is no tokio runtime to fetch it; call from within one, as under #[tokio::main]",
    )
}

fn lost() -> Error {
    Error::Transport(
        Failure::new(
            "the token request ended without an outcome, twice: its tokio runtime stopped",
        )
        .into(),
    )
}
