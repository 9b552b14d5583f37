use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, timeout};

use crate::error::{Error, Failure};
use crate::secret::Secret;
use crate::time::TimeSource;
use crate::token::{CacheKey, IssuedToken, TokenSource, User};

mod bounded_map;
mod circuit_breaker;
mod cool_down;
mod flight;
mod limit;
mod options;
mod rejections;
mod requirements;
mod session;
mod slot;
mod stats;
mod sync;

use bounded_map::BoundedMap;
use flight::{Departure, Flight, Tower, overdue_after};
use limit::{Limit, Permit};
pub use options::CacheOptions;
pub(crate) use requirements::{Requirements, SpecialRequirements};
pub(crate) use session::Session;
pub(crate) use slot::Cached;
use slot::{Invalidated, Joined};
pub use stats::CacheStats;

/// The place of one key, with its flight.
pub(crate) type Slot = slot::Slot<Flight>;

/// The tokens of one client: a slot for each key, and for each slot at most one flight.
///
/// The cache runs a future that it is handed, and knows neither networks nor credentials.
pub(crate) struct Cache {
    slots: RwLock<BoundedMap<CacheKey, Slot>>,
    sessions: RwLock<BoundedMap<User, Session>>,
    limit: Limit,
    tower: Arc<Tower>,
}

impl Cache {
    /// No flight takes longer than `flight_limit`.
    pub(crate) fn new(options: &CacheOptions, flight_limit: Duration, clock: TimeSource) -> Self {
        let overdue = overdue_after(flight_limit);
        Self {
            slots: RwLock::new(BoundedMap::new(options.max_entries)),
            sessions: RwLock::new(BoundedMap::new(options.max_entries)),
            limit: Limit::new(options.max_concurrent_requests, overdue),
            tower: Arc::new(Tower::new(flight_limit, clock)),
        }
    }

    /// The slot of `key`, made if there is none. The lock is held for the look-up alone.
    pub(crate) fn slot(&self, key: &CacheKey) -> Arc<Slot> {
        match self.existing(key) {
            Some(slot) => slot,
            None => {
                let now = self.tower.clock.now();
                let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
                let bound = self.tower.bound.load(Ordering::Relaxed);
                let (slot, evicted) = slots.slot(key, bound, &now);
                self.tower.counters.evictions.add(evicted);
                slot
            }
        }
    }

    /// The same for as long as the binding is held, beside the entries that are counted.
    pub(crate) fn bind(&self, key: &CacheKey) -> (Arc<Slot>, Binding) {
        self.tower.bound.fetch_add(1, Ordering::Relaxed);
        let binding = Binding(Arc::new(Bound(Arc::clone(&self.tower))));
        (self.slot(key), binding)
    }

    fn existing(&self, key: &CacheKey) -> Option<Arc<Slot>> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        slots.get(key)
    }

    /// How many slots there are, with a token or without.
    pub(crate) fn len(&self) -> usize {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        slots.len()
    }

    pub(crate) fn stats(&self) -> CacheStats {
        self.tower.counters.read()
    }

    /// What there is to go on with for a user; nothing yet, for one who is new.
    pub(crate) fn session(&self, user: &Arc<User>) -> Arc<Session> {
        if let Some(session) = self.existing_session(user) {
            return session;
        }
        let now = self.tower.clock.now();
        let mut sessions = self
            .sessions
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        // Another caller may have made it while this one waited for the lock.
        sessions.get(user).unwrap_or_else(|| {
            let session = Arc::new(Session::default());
            sessions.insert(Arc::clone(user), Arc::clone(&session), 0, &now);
            session
        })
    }

    pub(crate) fn existing_session(&self, user: &User) -> Option<Arc<Session>> {
        let sessions = self.sessions.read().unwrap_or_else(PoisonError::into_inner);
        sessions.get(user)
    }

    /// Keeps what a user brought by signing in, in the place of what there was.
    pub(crate) fn sign_in(
        &self,
        user: &Arc<User>,
        issued: Arc<IssuedToken>,
        refresh_token: Option<Secret>,
    ) -> Arc<Slot> {
        let session = Arc::new(Session::new(refresh_token));
        let now = self.tower.clock.now();
        let mut sessions = self
            .sessions
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        // A request that still goes on with the session before has no part in this one.
        sessions.insert(Arc::clone(user), session, 0, &now);
        drop(sessions);
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        let theirs = slots.values().filter(|slot| slot.key().kind.is_user(user));
        theirs.for_each(|slot| slot.forgive());
        drop(slots);
        let slot = self.slot(issued.key());
        // Whoever waits for what was asked for before finds this one instead.
        if let Some(flight) = slot.flight() {
            flight.abort();
        }
        slot.store(issued);
        slot
    }

    /// Forgets a user.
    pub(crate) fn sign_out(&self, user: &User) {
        let mut sessions = self
            .sessions
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|known, _| known != user);
        drop(sessions);
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        slots.retain(|key, slot| {
            if !key.kind.is_user(user) {
                return true;
            }
            // What it brings would be there for them again.
            if let Some(flight) = slot.flight() {
                flight.abort();
            }
            slot.forget();
            false
        });
    }

    /// Forgets every access token and every failure.
    pub(crate) fn clear(&self) {
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        slots.clear();
        self.tower.gate.open();
    }

    /// Removes a token that an API did not take, if it is still the one that is kept.
    pub(crate) fn invalidate(&self, rejected: &IssuedToken) {
        let Some(slot) = self.existing(rejected.key()) else {
            return;
        };
        if slot.invalidate(rejected, &self.tower.clock.now()) == Invalidated::TooSoon {
            tracing::warn!(
                correlation_id = rejected.correlation_id(),
                "a token that an API rejected is kept: it came by a renewal after a rejection, a moment ago"
            );
        }
    }

    /// Waits for a token where the slot has none to serve at once: joins the flight, or sends one
    /// off with `fetch`, which is told by when it has to end.
    ///
    /// # Errors
    ///
    /// The flight's own error, shared by all who waited and remembered for a while;
    /// [`Error::Config`] outside a tokio runtime.
    pub(crate) async fn wait<R>(
        &self,
        slot: &Arc<Slot>,
        requirements: &Requirements,
        fetch: impl Fn(Instant) -> R,
    ) -> Result<(Arc<IssuedToken>, TokenSource), Error>
    where
        R: Future<Output = Result<IssuedToken, Error>> + Send + 'static,
    {
        self.tower.counters.misses.add(1);
        let error = match self.arrive(slot, requirements, fetch).await {
            Ok(arrived) => return Ok(arrived),
            Err(error) => error,
        };
        if !requirements.are_of_a_rejection() {
            // A token that is still good is never withheld, nor is one that came late.
            let now = self.tower.clock.now();
            if let Cached::Fresh(issued) | Cached::Stale(issued) =
                slot.get(&now, &Requirements::NONE)
            {
                tracing::warn!(
                    error = %error.chain(),
                    correlation_id = error.correlation_id(),
                    "another token was asked for and there is none; the one at hand is served"
                );
                return Ok((issued, TokenSource::Cache));
            }
        }
        Err(error)
    }

    async fn arrive<R>(
        &self,
        slot: &Arc<Slot>,
        requirements: &Requirements,
        fetch: impl Fn(Instant) -> R,
    ) -> Result<(Arc<IssuedToken>, TokenSource), Error>
    where
        R: Future<Output = Result<IssuedToken, Error>> + Send + 'static,
    {
        let runtime = in_a_runtime()?;
        let mut place = self.limit.try_place();
        let limit = self.tower.flight_limit;
        let mut turn = None;
        // A flight that brings nothing is replaced, once.
        let mut lost_before = false;
        loop {
            let mut departure = None;
            let launch = place
                .take()
                .map(|place| announce(place, limit, &mut departure));
            let now = self.tower.clock.now();
            let joined = slot.join(&now, requirements, &self.tower.gate, launch);
            if let Some(departure) = departure {
                self.tower.launch(departure, &runtime, slot, &fetch);
            }
            match joined {
                Joined::Served(issued) => return Ok((issued, TokenSource::Cache)),
                Joined::Refused(error) => return Err(error),
                // Looks up now and then whether somebody before it asks for the same by now.
                Joined::Full => {
                    let waiting = turn.get_or_insert_with(|| Box::pin(self.limit.place()));
                    place = timeout(LOOK_UP, waiting).await.ok();
                    if place.is_some() {
                        turn = None;
                    }
                }
                Joined::Aboard { generation, flight } => match flight.clone().outcome().await {
                    Some(Ok(issued)) => return Ok((issued, TokenSource::IdentityProvider)),
                    Some(Err(error)) => return Err(error),
                    None if lost_before => return Err(lost()),
                    None => {
                        lost_before = true;
                        flight.abort();
                        self.tower.abandon(slot, generation);
                    }
                },
                Joined::Behind { generation, flight } => {
                    if flight.clone().outcome().await.is_none() {
                        flight.abort();
                        self.tower.abandon(slot, generation);
                    }
                }
            }
        }
    }

    /// Makes a token request that nobody else can share: no slot is for it.
    pub(crate) async fn request<T>(
        &self,
        request: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        in_a_runtime()?;
        let _place = self.limit.place().await;
        self.tower.counters.requests.add(1);
        let outcome = request.await;
        if let Err(error) = &outcome {
            self.tower.counters.failed(error);
        }
        outcome
    }

    /// Sends a flight off to renew a token that is due; nobody waits for it.
    pub(crate) fn renew<R>(&self, slot: &Arc<Slot>, fetch: impl Fn(Instant) -> R)
    where
        R: Future<Output = Result<IssuedToken, Error>> + Send + 'static,
    {
        let Ok(runtime) = Handle::try_current() else {
            tracing::debug!("a token is due and cannot be renewed outside a tokio runtime");
            return;
        };
        let Some(place) = self.limit.try_place() else {
            return;
        };
        let mut departure = None;
        let launch = announce(place, self.tower.flight_limit, &mut departure);
        slot.renew(&self.tower.clock.now(), &self.tower.gate, launch);
        if let Some(departure) = departure {
            self.tower.counters.refreshes.add(1);
            self.tower.launch(departure, &runtime, slot, &fetch);
        }
    }
}

/// What holds a slot in place: shared by the clones of one provider.
#[derive(Clone)]
pub(crate) struct Binding(#[expect(dead_code, reason = "held, and let go")] Arc<Bound>);

struct Bound(Arc<Tower>);

impl Drop for Bound {
    fn drop(&mut self) {
        self.0.bound.fetch_sub(1, Ordering::Relaxed);
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
fn announce(
    place: Permit,
    limit: Duration,
    departure: &mut Option<Departure>,
) -> impl FnOnce(u64, Option<Flight>) -> Flight {
    move |generation, replaced| {
        let (flight, announced) = Flight::announce(generation, replaced, place, limit);
        *departure = Some(announced);
        flight
    }
}

/// How often who waits for a turn looks whether it has to.
const LOOK_UP: Duration = Duration::from_secs(1);

/// The runtime that a request is made on.
pub(crate) fn in_a_runtime() -> Result<Handle, Error> {
    Handle::try_current().map_err(|_| {
        Error::config(
            "the identity provider has to be asked and there is no tokio runtime to do it; call from within one, as under #[tokio::main]",
        )
    })
}

fn lost() -> Error {
    Error::Transport(
        Failure::new(
            "the token request ended without an outcome, twice: its tokio runtime stopped",
        )
        .into(),
    )
}
