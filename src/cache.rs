//! The settings of the token cache, and the cache that processes share.
//!
//! [`CacheOptions`] limits the cache in memory. [`SharedCache`] is a store for all processes of an
//! application.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, timeout};

use crate::counter::ShardedCounter;
use crate::error::{Error, Failure};
use crate::shared_cache::SharedCounters;
use crate::time::TimeSource;
use crate::token::{CacheKey, IssuedToken, Thumbprint, TokenSource, UserKey};

mod bounded_map;
mod circuit_breaker;
mod cool_down;
#[cfg(any(feature = "metrics", feature = "opentelemetry"))]
mod figures;
mod flight;
mod limit;
mod options;
mod rejections;
mod requirements;
mod session;
mod slot;
mod slots;
mod stats;
mod sync;

use bounded_map::BoundedMap;
pub(crate) use cool_down::{length as cool_down_length, yields_to_force};
#[cfg(any(feature = "metrics", feature = "opentelemetry"))]
pub(crate) use figures::{CacheFigures, EntryState};
pub(crate) use flight::FlightOutcome;
use flight::{Flight, FlightContext, NewFlight, overdue_after};
pub(crate) use limit::RequestLimit;
pub use options::CacheOptions;
pub(crate) use requirements::{Requirements, SpecialRequirements};
pub(crate) use session::{RefreshTokenStatus, UserSession};
pub(crate) use slot::Cached;
use slot::{Invalidated, JoinOutcome, TokenUpdate};
pub use stats::CacheStats;
#[cfg(any(feature = "metrics", feature = "opentelemetry"))]
pub(crate) use stats::KeptCounters;

#[cfg(feature = "redis")]
pub use crate::shared_cache::RedisCache;
pub use crate::shared_cache::{
    BeginRedemption, EncryptionKey, LockOutcome, LockOwner, NewRecord, PutOutcome, Redemption,
    SharedCache, SharedCacheFuture, SharedCacheOptions, SharedRecord,
};

pub(crate) type CacheSlot = slot::Slot<Flight>;
pub(crate) type HeldSlot = slots::HeldSlot<Flight>;

/// The token cache of one client: a slot for each key, and for each slot at most one flight.
///
/// The cache runs a future that the client supplies, and knows neither networks nor
/// credentials.
pub(crate) struct Cache {
    slots: RwLock<BoundedMap<CacheSlot>>,
    sessions: RwLock<BoundedMap<UserSession>>,
    limit: RequestLimit,
    /// The number of cache hits, if the program wants the number.
    hits: OnceLock<Arc<ShardedCounter>>,
    context: Arc<FlightContext>,
}

impl Cache {
    /// Creates an empty cache with flights that end within `flight_limit`.
    ///
    /// `counts_requests` says that each flight is a token request.
    pub(crate) fn new(
        options: &CacheOptions,
        flight_limit: Duration,
        clock: TimeSource,
        counts_requests: bool,
    ) -> Self {
        let overdue = overdue_after(flight_limit);
        let cache = Self {
            slots: RwLock::new(BoundedMap::new(options.max_entries)),
            sessions: RwLock::new(BoundedMap::new(options.max_entries)),
            limit: RequestLimit::new(options.max_concurrent_requests, overdue),
            hits: OnceLock::new(),
            context: Arc::new(FlightContext::new(flight_limit, clock, counts_requests)),
        };
        if options.count_hits {
            cache.count_hits();
        }
        cache
    }

    /// Counts the cache hits from now on.
    fn count_hits(&self) -> &Arc<ShardedCounter> {
        self.hits.get_or_init(Arc::default)
    }

    /// Counts a cache hit, if the program wants the number.
    #[inline]
    pub(crate) fn count_hit(&self) {
        if let Some(hits) = self.hits.get() {
            hits.count();
        }
    }

    /// Calls `use_slot` with the slot of a key, under the lock of the map.
    #[inline]
    pub(crate) fn with_slot<R>(
        &self,
        key: &CacheKey,
        use_slot: impl FnOnce(&Arc<CacheSlot>) -> Option<R>,
    ) -> Option<R> {
        let slots = read(&self.slots);
        slots.get(key).and_then(use_slot)
    }

    /// Returns the slot of a key, and creates a missing slot.
    pub(crate) fn slot(&self, key: &CacheKey) -> HeldSlot {
        let existing = read(&self.slots).hold(key);
        match existing {
            Some(slot) => slot,
            None => {
                let now = self.context.clock.now();
                let providers = self.context.providers.load(Ordering::Relaxed);
                let (slot, evicted) = write(&self.slots).get_or_insert(key, providers, &now);
                self.context.counters.evictions.add(evicted);
                slot
            }
        }
    }

    /// Returns the slot of a key, which stays in the cache as long as the binding.
    ///
    /// Such a slot is not counted against the maximum of entries.
    pub(crate) fn bind(&self, key: &CacheKey) -> (HeldSlot, SlotBinding) {
        self.context.providers.fetch_add(1, Ordering::Relaxed);
        let binding = SlotBinding(Arc::new(ProviderCount(Arc::clone(&self.context))));
        (self.slot(key), binding)
    }

    pub(crate) fn len(&self) -> usize {
        read(&self.slots).len()
    }

    /// Returns the counters, together with those of a shared cache.
    pub(crate) fn stats(&self, shared: Option<&SharedCounters>) -> CacheStats {
        let hits = self.hits.get();
        self.context.counters.read(hits.map(|hits| &**hits), shared)
    }

    /// Returns the counters, which outlive the client. Counts the cache hits from now on.
    #[cfg(any(feature = "metrics", feature = "opentelemetry"))]
    pub(crate) fn keep_counters(&self, shared: Option<Arc<SharedCounters>>) -> KeptCounters {
        KeptCounters {
            hits: Arc::clone(self.count_hits()),
            memory: Arc::clone(&self.context.counters),
            shared,
        }
    }

    /// Returns what is cached now. Looks at each entry.
    #[cfg(any(feature = "metrics", feature = "opentelemetry"))]
    pub(crate) fn figures(&self) -> CacheFigures {
        // Callers wait for the lock only while the entries are listed.
        let slots: Vec<_> = read(&self.slots).values().map(Arc::clone).collect();
        let now = self.context.clock.now();
        let mut figures = CacheFigures::new(self.context.breaker.is_open());
        for slot in slots {
            figures.add(&slot.figures(&now));
        }
        figures
    }

    /// Returns a user's session, and creates an empty one for a new user.
    pub(crate) fn session(&self, user: &Arc<UserKey>) -> Arc<UserSession> {
        if let Some(session) = self.existing_session(user) {
            return session;
        }
        let now = self.context.clock.now();
        let mut sessions = write(&self.sessions);
        // Another caller may have created the session while this one waited for the lock.
        if let Some(session) = sessions.get(user) {
            return Arc::clone(session);
        }
        let session = Arc::new(UserSession::new(Arc::clone(user), None, None));
        sessions.insert(Arc::clone(&session), 0, &now);
        session
    }

    pub(crate) fn existing_session(&self, user: &UserKey) -> Option<Arc<UserSession>> {
        read(&self.sessions).get(user).cloned()
    }

    /// Stores the tokens of a user who signed in, in place of earlier tokens.
    pub(crate) fn sign_in(&self, session: Arc<UserSession>, issued: Arc<IssuedToken>) -> HeldSlot {
        let user = session.user();
        let now = self.context.clock.now();
        // A request in flight keeps the session before, and has no part in this one.
        self.end_session(user);
        write(&self.sessions).insert(Arc::clone(&session), 0, &now);
        for slot in read(&self.slots).values() {
            if slot.key().is_for_user(user) {
                slot.clear_failure();
            }
        }
        let slot = self.slot(issued.key());
        // Callers that wait for an earlier request find this token instead.
        if let Some(flight) = slot.flight() {
            flight.abort();
        }
        slot.store(issued);
        slot
    }

    /// Keeps a session that ends from being stored in the shared cache later.
    fn end_session(&self, user: &UserKey) {
        if let Some(session) = self.existing_session(user) {
            session.set_known(None);
        }
    }

    /// Removes a user's tokens and session.
    pub(crate) fn sign_out(&self, user: &UserKey) {
        self.end_session(user);
        write(&self.sessions).retain(|session| !session.is_of(user));
        write(&self.slots).retain(|slot| {
            if !slot.key().is_for_user(user) {
                return true;
            }
            // Its token would be cached for the user again.
            if let Some(flight) = slot.flight() {
                flight.abort();
            }
            slot.clear_and_ignore_flight();
            false
        });
    }

    /// Removes every access token and every failure.
    pub(crate) fn clear(&self) {
        write(&self.slots).clear();
        self.context.breaker.reset();
    }

    /// Follows a rotation of the client certificate.
    ///
    /// A token of the previous certificate stays valid, and is due for a refresh. A token of an
    /// older certificate is removed, because no connection carries that certificate any more.
    pub(crate) fn follow_rotation(&self, current: Thumbprint, previous: Option<Thumbprint>) {
        let now = self.context.clock.now();
        let slots: Vec<_> = read(&self.slots).values().map(Arc::clone).collect();
        for slot in slots {
            slot.update_token(|issued| match issued.binding().certificate() {
                None => TokenUpdate::Keep,
                Some(certificate) if certificate == current => TokenUpdate::Keep,
                certificate if certificate == previous => {
                    TokenUpdate::Replace(Arc::new(issued.due(now)))
                }
                Some(_) => TokenUpdate::Remove,
            });
        }
    }

    /// Removes a token that an API rejected, unless the cache holds another token by then. Returns
    /// `true` if the token was removed.
    pub(crate) fn invalidate(&self, rejected: &IssuedToken) -> bool {
        let key = rejected.key();
        let now = self.context.clock.now();
        let invalidated = self.with_slot(key, |slot| Some(slot.invalidate(rejected, &now)));
        if invalidated == Some(Invalidated::TooSoon) {
            tracing::warn!(
                tenant = key.tenant_name(),
                resource = key.resource(),
                correlation_id = rejected.correlation_id(),
                "a token that an API rejected stays cached: it replaced a rejected token less than 30 seconds ago"
            );
        }
        invalidated == Some(Invalidated::Removed)
    }

    /// Returns a token for a caller that the slot's cached token does not serve.
    ///
    /// Joins the slot's flight, or starts one with `fetch`, which receives the flight's deadline.
    ///
    /// # Errors
    ///
    /// The flight's error, which all waiting callers share and which the slot remembers for a
    /// while. [`Error::Config`] outside a tokio runtime.
    pub(crate) async fn fetch<R>(
        &self,
        slot: &HeldSlot,
        requirements: &Requirements,
        fetch: impl Fn(Instant) -> R,
    ) -> Result<(Arc<IssuedToken>, TokenSource), Error>
    where
        R: Future<Output = FlightOutcome> + Send + 'static,
    {
        let joining = self.join_flight(&self.limit, slot, requirements, fetch);
        self.fetched(slot, requirements, joining).await
    }

    /// Returns a token as [`fetch`](Self::fetch) does, after `prepare` has acquired the tokens that
    /// the flight needs. A failure of `prepare` counts as the failure of the flight.
    pub(crate) async fn fetch_after<R>(
        &self,
        prepare: impl Future<Output = Result<(), Error>>,
        slot: &HeldSlot,
        requirements: &Requirements,
        fetch: impl Fn(Instant) -> R,
    ) -> Result<(Arc<IssuedToken>, TokenSource), Error>
    where
        R: Future<Output = FlightOutcome> + Send + 'static,
    {
        let joining = async {
            prepare.await?;
            self.join_flight(&self.limit, slot, requirements, fetch)
                .await
        };
        self.fetched(slot, requirements, joining).await
    }

    /// Returns a token as [`fetch`](Self::fetch) does, for a flight that waits for the token and
    /// has a permit.
    pub(crate) async fn fetch_in_flight<R>(
        &self,
        slot: &HeldSlot,
        requirements: &Requirements,
        fetch: impl Fn(Instant) -> R,
    ) -> Result<(Arc<IssuedToken>, TokenSource), Error>
    where
        R: Future<Output = FlightOutcome> + Send + 'static,
    {
        let joining = self.join_flight(&RequestLimit::NONE, slot, requirements, fetch);
        self.fetched(slot, requirements, joining).await
    }

    /// Counts a miss, and returns the token of a flight, or the cached token in place of its error.
    async fn fetched(
        &self,
        slot: &HeldSlot,
        requirements: &Requirements,
        joining: impl Future<Output = Result<(Arc<IssuedToken>, TokenSource), Error>>,
    ) -> Result<(Arc<IssuedToken>, TokenSource), Error> {
        self.context.counters.misses.add(1);
        let error = match joining.await {
            Ok(fetched) => return Ok(fetched),
            Err(error) => error,
        };
        if requirements.follow_a_rejection() {
            return Err(error);
        }
        // A valid token is never withheld, even if the caller required another one.
        let now = self.context.clock.now();
        match slot.get(&now, &Requirements::NONE) {
            Cached::Fresh(issued) | Cached::Stale(issued) => {
                let key = slot.key();
                tracing::warn!(
                    tenant = key.tenant_name(),
                    resource = key.resource(),
                    error = %error.chain(),
                    correlation_id = error.correlation_id(),
                    "the required token could not be acquired; the cached one is returned"
                );
                Ok((issued, TokenSource::Cache))
            }
            Cached::Miss => Err(error),
        }
    }

    async fn join_flight<R>(
        &self,
        request_limit: &RequestLimit,
        slot: &HeldSlot,
        requirements: &Requirements,
        fetch: impl Fn(Instant) -> R,
    ) -> Result<(Arc<IssuedToken>, TokenSource), Error>
    where
        R: Future<Output = FlightOutcome> + Send + 'static,
    {
        let runtime = runtime_handle()?;
        let FlightContext {
            limit,
            clock,
            breaker,
            ..
        } = &*self.context;
        let mut permit = request_limit.try_acquire();
        let mut waiting_for_permit = None;
        let mut has_lost_one = false;
        loop {
            let new = permit
                .take()
                .map(|permit| NewFlight::new(permit, *limit, &runtime));
            let handle = new.as_ref().map(NewFlight::handle);
            let joined = slot.join(&clock.now(), requirements, breaker, handle);
            let (generation, flight) = match (joined, new) {
                (JoinOutcome::Served(issued), _) => return Ok((issued, TokenSource::Cache)),
                (JoinOutcome::Failed(error), _) => return Err(error),
                (JoinOutcome::Joined { generation, flight }, _) => (generation, flight),
                (JoinOutcome::Started(started), Some(new)) => {
                    let generation = started.generation;
                    let flight = self.context.spawn(new, started, slot, &runtime, &fetch);
                    (generation, flight)
                }
                (JoinOutcome::Blocked { generation, flight }, unused) => {
                    // Returns the permit while this caller waits.
                    drop(unused);
                    if flight.clone().outcome().await.is_none() {
                        self.abort(slot, generation, &flight);
                    }
                    continue;
                }
                // Without a flight to start, the slot answers `NeedsFlight` and never `Started`.
                (JoinOutcome::NeedsFlight | JoinOutcome::Started(_), _) => {
                    // Wakes now and then: another caller may have started a flight to join.
                    let waiting =
                        waiting_for_permit.get_or_insert_with(|| Box::pin(request_limit.acquire()));
                    permit = timeout(JOIN_INTERVAL, waiting).await.ok();
                    if permit.is_some() {
                        waiting_for_permit = None;
                    }
                    continue;
                }
            };
            match flight.clone().outcome().await {
                Some(outcome) => return outcome,
                None if has_lost_one => return Err(lost()),
                None => {
                    // A lost flight is replaced, once.
                    has_lost_one = true;
                    self.abort(slot, generation, &flight);
                }
            }
        }
    }

    fn abort(&self, slot: &CacheSlot, generation: u64, flight: &Flight) {
        flight.abort();
        self.context.drop_flight(slot, generation);
    }

    /// Starts a flight that refreshes the slot's token, unless one is running. Does not wait.
    ///
    /// `runtime` returns the runtime of the flight.
    pub(crate) fn refresh<R>(
        &self,
        slot: &HeldSlot,
        runtime: impl FnOnce() -> Option<Handle>,
        fetch: impl FnOnce(Instant) -> R,
    ) where
        R: Future<Output = FlightOutcome> + Send + 'static,
    {
        let FlightContext {
            limit,
            clock,
            breaker,
            counters,
            ..
        } = &*self.context;
        let now = clock.now();
        if !slot.needs_refresh(&now) {
            return;
        }
        let Some(runtime) = runtime() else {
            tracing::debug!("a token is due and cannot be refreshed outside a tokio runtime");
            return;
        };
        let Some(permit) = self.limit.try_acquire() else {
            return;
        };
        let new = NewFlight::new(permit, *limit, &runtime);
        if let Some(started) = slot.refresh(&now, breaker, new.handle()) {
            counters.refreshes.add(1);
            self.context.spawn(new, started, slot, &runtime, fetch);
        }
    }

    /// Sends a token request that no slot is for, such as the redemption of a code.
    pub(crate) async fn request<T>(
        &self,
        request: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        runtime_handle()?;
        let _permit = self.limit.acquire().await;
        let requests = &self.context.counters.requests;
        requests.sent.add(1);
        let outcome = request.await;
        if let Err(error) = &outcome {
            requests.count_failed(error);
        }
        outcome
    }
}

/// Keeps a slot in the cache. The clones of a provider share the binding.
#[derive(Clone)]
pub(crate) struct SlotBinding(
    #[expect(dead_code, reason = "held for its drop")] Arc<ProviderCount>,
);

struct ProviderCount(Arc<FlightContext>);

impl Drop for ProviderCount {
    fn drop(&mut self) {
        self.0.providers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Aborts all flights when the last client and provider are dropped. No refresh delays an exit.
/// Empties the slots, because requests may remember them.
impl Drop for Cache {
    fn drop(&mut self) {
        let slots = self.slots.get_mut().unwrap_or_else(PoisonError::into_inner);
        for slot in slots.values() {
            if let Some(flight) = slot.flight() {
                flight.abort();
            }
            slot.clear_and_ignore_flight();
        }
    }
}

/// Returns the runtime that the caller is in.
pub(crate) fn current_runtime() -> Option<Handle> {
    Handle::try_current().ok()
}

/// Returns the runtime that a token request runs on.
pub(crate) fn runtime_handle() -> Result<Handle, Error> {
    Handle::try_current().map_err(|_| {
        Error::config(
            "there is no tokio runtime, and a token request needs one; call from within a runtime, such as under #[tokio::main]",
        )
    })
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

fn lost() -> Error {
    let message = "the token request ended without an outcome, twice: its tokio runtime stopped";
    Error::Transport(Failure::new(message).into())
}

/// The interval at which a caller that waits for a permit tries to join a flight instead.
const JOIN_INTERVAL: Duration = Duration::from_secs(1);
