use std::sync::{Arc, PoisonError, RwLock};

use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::error::{Error, Failure};
use crate::time::TimeSource;
use crate::token::{Issued, Key, TokenSource};

mod entries;
mod flight;
mod slot;

use entries::Entries;
use flight::{Departure, Flight};
use slot::Joined;
pub(crate) use slot::{Answer, FLIGHT_LIMIT};

/// The place of one key, with its flight.
pub(crate) type Slot = slot::Slot<Flight>;

/// How a client keeps its tokens: see
/// [`ConfidentialClientBuilder::cache`](crate::ConfidentialClientBuilder::cache).
///
/// ```
/// use confidential_client::CacheOptions;
///
/// let options = CacheOptions::default();
/// assert_eq!(options.max_entries(), 10_000);
/// let options = options.with_max_entries(100_000);
/// # let _ = options;
/// ```
#[derive(Clone, Debug)]
pub struct CacheOptions {
    max_entries: usize,
}

impl CacheOptions {
    /// Keeps at most this many tokens; 10,000 unless set, some 30 MB of Entra's. A token is one for
    /// a tenant and scope.
    ///
    /// Whoever comes beyond them takes the place of a token that has ended, or else of one that has
    /// not been asked for lately; it is fetched anew when it is. What a
    /// [`TokenProvider`](crate::TokenProvider) is bound to is kept beside them.
    #[must_use]
    pub fn with_max_entries(mut self, max_entries: usize) -> Self {
        self.max_entries = max_entries;
        self
    }

    /// How many tokens are kept at most.
    pub fn max_entries(&self) -> usize {
        self.max_entries
    }
}

impl Default for CacheOptions {
    fn default() -> Self {
        Self {
            max_entries: 10_000,
        }
    }
}

/// The tokens of one client: a slot for each key, and for each slot at most one flight.
///
/// The cache runs a future that it is handed, and knows neither networks nor credentials.
pub(crate) struct Cache {
    slots: RwLock<Entries<Flight>>,
    clock: TimeSource,
}

impl Cache {
    pub(crate) fn new(options: &CacheOptions, clock: TimeSource) -> Self {
        let slots = RwLock::new(Entries::new(options.max_entries));
        Self { slots, clock }
    }

    /// The slot of `key`, made if there is none. The lock is held for the look-up alone.
    pub(crate) fn slot(&self, key: &Key) -> Arc<Slot> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get(key) {
            return slot;
        }
        drop(slots);
        let now = self.clock.now();
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        slots.get_or_insert(key, &now)
    }

    /// How many slots there are, with a token or without.
    pub(crate) fn len(&self) -> usize {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        slots.len()
    }

    /// Forgets every token and every failure.
    pub(crate) fn clear(&self) {
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        slots.clear();
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
        for flight in slots.slots().filter_map(|slot| slot.flight()) {
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
