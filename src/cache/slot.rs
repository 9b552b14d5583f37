use std::sync::Arc;
use std::time::{Duration, Instant};

use super::bounded_map::Evictable;
use super::circuit_breaker::{CircuitBreaker, FlightId};
use super::cool_down::CoolDown;
#[cfg(any(feature = "metrics", feature = "opentelemetry"))]
use super::figures::{EntryFigures, EntryState};
use super::rejections::Rejections;
use super::requirements::Requirements;
use super::sync::{AtomicU32, Current, Mutex, MutexGuard, Ordering, PoisonError};
use crate::error::Error;
use crate::lease::{Lease, LeaseId};
use crate::time::{Deadline, Now};
use crate::token::{CacheKey, IssuedToken, Stage, TokenHash, Turns};

/// The cache entry of one key: token, flight and last failure.
///
/// A flight is one running token request. A slot has one current flight. An overdue flight can be
/// replaced, and may still complete. `F` is a handle on a flight, which this file does not look
/// into.
///
/// | method | called when |
/// |---|---|
/// | [`get`](Self::get) | a caller wants the cached token: never waits |
/// | [`join`](Self::join) | no cached token can be served: joins the flight, or starts one |
/// | [`refresh`](Self::refresh) | the cached token is due: starts a flight, unless one is running |
/// | [`complete`](Self::complete) | a flight returned a token or an error |
/// | [`drop_flight`](Self::drop_flight) | a flight ended without an outcome |
/// | [`store`](Self::store) | a token arrived without a flight |
/// | [`invalidate`](Self::invalidate) | an API rejected the token |
/// | [`update_token`](Self::update_token) | the client certificate was rotated |
/// | [`clear_failure`](Self::clear_failure) | the cause of the last failure is mended |
/// | [`clear`](Self::clear) | the cache is cleared; a flight continues |
/// | [`clear_and_ignore_flight`](Self::clear_and_ignore_flight) | a user signed out |
// In the order of a cache hit, which mostly reads one cache line of a slot.
#[repr(C)]
pub(crate) struct Slot<F> {
    key: Arc<CacheKey>,
    /// Read without the lock. A failure never clears the token.
    current: Current<IssuedToken>,
    /// The turns of threads with the current token.
    turns: Turns,
    /// The number of those who hold the slot, and [`USED`].
    holders: AtomicU32,
    state: Mutex<StoredState<F>>,
}

/// The state of a slot between two calls. Few slots have more than the number.
enum StoredState<F> {
    /// No flight runs, and there is nothing to remember but the number of the latest flight.
    Idle(LeaseId),
    Busy(Box<SlotState<F>>),
}

struct SlotState<F> {
    /// The running flight. The lease's number is the flight's generation. After the lease expires,
    /// another flight may start.
    flight: Lease<Running<F>>,
    /// The latest flight to ignore.
    ignored: LeaseId,
    cool_down: CoolDown,
    rejections: Rejections,
    /// The last time that a caller wanted a token request, and the request failed or was not
    /// allowed. `None` after the next token.
    denied: Option<Deadline>,
}

struct Running<F> {
    handle: F,
    claims: Option<Arc<str>>,
    after_rejection: bool,
}

/// The cached token, as one caller may use it.
pub(crate) enum Cached {
    /// Serve the token.
    Fresh(Arc<IssuedToken>),
    /// Serve the token, and refresh it in the background.
    Stale(Arc<IssuedToken>),
    /// There is no token that this caller can use.
    Miss,
}

/// The decision about a cached token, for [`Slot::update_token`].
pub(crate) enum TokenUpdate {
    Keep,
    Replace(Arc<IssuedToken>),
    Remove,
}

/// The result of [`Slot::join`].
pub(crate) enum JoinOutcome<F> {
    /// Another flight stored a token in the meantime.
    Served(Arc<IssuedToken>),
    /// The last failure, or the circuit breaker, answers for this request.
    Failed(Error),
    /// A flight has to start, and the caller brought none.
    NeedsFlight,
    /// The caller's flight is the slot's flight now. The caller must spawn the flight.
    Started(Started<F>),
    /// Another caller's flight fetches the token.
    Joined { generation: LeaseId, flight: F },
    /// The running flight sends other claims. The caller waits for the end of the flight.
    Blocked { generation: LeaseId, flight: F },
}

/// A flight that was registered with its slot.
pub(crate) struct Started<F> {
    pub(crate) generation: LeaseId,
    /// The overdue flight that this flight replaces.
    pub(crate) replaced: Option<F>,
}

impl<F: Clone> Slot<F> {
    pub(crate) fn new(key: Arc<CacheKey>) -> Self {
        Self {
            key,
            current: Current::default(),
            turns: Turns::default(),
            holders: AtomicU32::new(0),
            state: Mutex::new(StoredState::Idle(0)),
        }
    }

    pub(crate) fn key(&self) -> &Arc<CacheKey> {
        &self.key
    }

    /// Returns the cached token if the token meets the requirements. The only decision of the fast
    /// path.
    // A plain `inline` leaves a call in every hit.
    #[inline(always)]
    pub(crate) fn get(&self, now: &Now, requirements: &Requirements) -> Cached {
        let current = self.current.load();
        let Some(issued) = &*current else {
            return Cached::Miss;
        };
        match issued.lifetime.stage(now) {
            Stage::Expired => Cached::Miss,
            _ if !requirements.are_met_by(issued, now) => Cached::Miss,
            Stage::Due => Cached::Stale(issued.own(&self.turns)),
            Stage::Fresh => Cached::Fresh(issued.own(&self.turns)),
        }
    }

    /// Returns whether there is a valid token. Unlike [`get`](Self::get), takes no turn with the
    /// token, since nobody uses it.
    pub(crate) fn has_token(&self, now: &Now) -> bool {
        match &*self.current.load() {
            Some(issued) => issued.lifetime.stage(now) != Stage::Expired,
            None => false,
        }
    }

    /// Joins the running flight, or registers `flight` as the slot's flight.
    ///
    /// No flight starts during a cool-down or while the circuit is open. A forced refresh starts
    /// during the cool-down of a rejection, once in 30 seconds.
    pub(crate) fn join(
        &self,
        now: &Now,
        requirements: &Requirements,
        breaker: &CircuitBreaker,
        flight: Option<F>,
    ) -> JoinOutcome<F> {
        self.with_state(|state| {
            let current = self.usable(now);
            // Another caller's flight may have stored a token while this one waited for the lock.
            if let Some(issued) = &current
                && requirements.are_met_by_current(issued, state.rejections.requested_claims(), now)
            {
                return JoinOutcome::Served(Arc::clone(issued));
            }
            if let Some((running, _)) = state.flight.holder(now.monotonic()) {
                let (generation, flight) = (state.flight.latest(), running.handle.clone());
                return match requirements.are_met_by_flight(running.claims.as_deref()) {
                    true => JoinOutcome::Joined { generation, flight },
                    false => JoinOutcome::Blocked { generation, flight },
                };
            }
            if let (Some(issued), true) = (current, requirements.follow_a_rejection())
                && !state.rejections.allow(requirements.claims(), now)
            {
                return JoinOutcome::Served(issued);
            }
            let is_forced = requirements.force_refresh();
            let claims = requirements.claims();
            if let Some(error) = state.cool_down.error(claims, is_forced, now) {
                state.deny(now);
                return JoinOutcome::Failed(error);
            }
            let Some(flight) = flight else {
                return JoinOutcome::NeedsFlight;
            };
            if let Err(error) = breaker.try_pass(self.flight_id(state.flight.next()), now) {
                state.deny(now);
                return JoinOutcome::Failed(error);
            }
            if is_forced {
                state.cool_down.count_forced(claims, now);
            }
            JoinOutcome::Started(state.start(flight, breaker.overdue(now), requirements))
        })
    }

    /// Returns `true` if there is no fresh token, no flight and no cool-down.
    pub(crate) fn needs_refresh(&self, now: &Now) -> bool {
        self.with_state(|state| self.may_refresh(state, now))
    }

    /// Registers `flight` as the slot's flight, without a caller that waits for it.
    ///
    /// Returns `None` if the token is fresh, a flight runs, or the cool-down or the circuit breaker
    /// forbids a request.
    pub(crate) fn refresh(
        &self,
        now: &Now,
        breaker: &CircuitBreaker,
        flight: F,
    ) -> Option<Started<F>> {
        self.with_state(|state| {
            // Another caller's flight may have started, or ended, before this one had the lock.
            if !self.may_refresh(state, now) {
                return None;
            }
            if !breaker.allows(self.flight_id(state.flight.next()), now) {
                state.deny(now);
                return None;
            }
            Some(state.start(flight, breaker.overdue(now), &Requirements::NONE))
        })
    }

    /// Stores the outcome of a flight, and returns the outcome for the waiting callers.
    ///
    /// A token replaces the cached token. The token of a replaced flight does so only with a later
    /// expiry. An error never removes a token, and receives the length of its cool-down.
    /// The outcome of a discarded flight is returned and not stored. `jitter`, from 0 to 1, moves
    /// the end of the cool-down.
    pub(crate) fn complete(
        &self,
        generation: LeaseId,
        outcome: Result<Arc<IssuedToken>, Error>,
        now: &Now,
        jitter: f64,
    ) -> Result<Arc<IssuedToken>, Error> {
        self.with_state(|state| {
            let is_latest = generation == state.flight.latest();
            let (claims, after_rejection) = match state.flight.release(generation) {
                Some(running) => (running.claims, running.after_rejection),
                None => (None, false),
            };
            if generation <= state.ignored {
                return outcome;
            }
            match outcome {
                Ok(issued) => {
                    if is_latest || self.expires_before(&issued) {
                        self.replace_token(Some(Arc::clone(&issued)));
                        state.forget_failure();
                        state.rejections.forget_token_before(&issued);
                        if after_rejection {
                            state.rejections.count(claims.clone(), now);
                        }
                        state.rejections.set_requested_claims(claims);
                    }
                    Ok(issued)
                }
                // The flight that replaced this one decides what is remembered.
                Err(error) if !is_latest => Err(error),
                Err(error) => {
                    state.deny(now);
                    Err(state.cool_down.begin(error, claims, now, jitter))
                }
            }
        })
    }

    /// Stores a token that arrived without a flight, such as by a sign-in. Clears the last failure,
    /// and discards the later outcome of a running flight.
    pub(crate) fn store(&self, issued: Arc<IssuedToken>) {
        self.with_state(|state| {
            state.ignored = state.flight.latest();
            state.forget_failure();
            state.rejections.forget_token_before(&issued);
            self.replace_token(Some(issued));
        })
    }

    /// Replaces or removes the token as `update` decides. A running flight continues.
    pub(crate) fn update_token(&self, update: impl FnOnce(&IssuedToken) -> TokenUpdate) {
        let state = self.lock();
        let update = match &*self.current.load() {
            Some(issued) => update(issued),
            None => TokenUpdate::Keep,
        };
        match update {
            TokenUpdate::Keep => {}
            TokenUpdate::Replace(issued) => self.replace_token(Some(issued)),
            TokenUpdate::Remove => self.replace_token(None),
        }
        drop(state);
    }

    /// Forgets the last failure alone.
    pub(crate) fn clear_failure(&self) {
        self.with_state(SlotState::forget_failure);
    }

    /// Removes a flight that will not complete, for example because its runtime stopped.
    pub(crate) fn drop_flight(&self, generation: LeaseId) {
        self.with_state(|state| drop(state.flight.release(generation)));
    }

    /// Removes a rejected token, unless the cache holds another token or the ration of rejections
    /// is used up. Remembers the hash of the removed token.
    pub(crate) fn invalidate(&self, rejected: &IssuedToken, now: &Now) -> Invalidated {
        self.with_state(|state| {
            match &*self.current.load() {
                Some(issued) if issued.is_same_token(rejected) => {}
                _ => return Invalidated::Replaced,
            }
            if !state.rejections.allow(None, now) {
                return Invalidated::TooSoon;
            }
            state.rejections.count(None, now);
            state.rejections.remember_token(rejected.hash());
            self.replace_token(None);
            Invalidated::Removed
        })
    }

    /// Returns the hash of the token that [`invalidate`](Self::invalidate) removed, until another
    /// token is stored.
    pub(crate) fn rejected_token(&self) -> Option<TokenHash> {
        self.lock().busy()?.rejections.token()
    }

    /// Removes the token and the last failure, and resets the ration of rejections. A running
    /// flight continues.
    pub(crate) fn clear(&self) {
        self.with_state(|state| {
            state.forget_failure();
            state.rejections = Rejections::default();
            self.replace_token(None);
        })
    }

    /// Removes the token and the last failure, and ignores the outcome of a running flight.
    ///
    /// Aborting a flight is not enough: an aborted flight may still complete.
    pub(crate) fn clear_and_ignore_flight(&self) {
        self.with_state(|state| state.ignored = state.flight.latest());
        self.clear();
    }

    /// Returns the running flight, overdue or not.
    pub(crate) fn flight(&self) -> Option<F> {
        let stored = self.lock();
        let running = stored.busy()?.flight.value();
        running.map(|running| running.handle.clone())
    }

    pub(super) fn flight_id(&self, generation: LeaseId) -> FlightId {
        FlightId {
            slot: std::ptr::from_ref(self).addr(),
            generation,
        }
    }

    fn usable(&self, now: &Now) -> Option<Arc<IssuedToken>> {
        match self.get(now, &Requirements::NONE) {
            Cached::Fresh(issued) | Cached::Stale(issued) => Some(issued),
            Cached::Miss => None,
        }
    }

    fn may_refresh(&self, state: &mut SlotState<F>, now: &Now) -> bool {
        if matches!(self.get(now, &Requirements::NONE), Cached::Fresh(_))
            || state.flight.holder(now.monotonic()).is_some()
        {
            return false;
        }
        let is_over = state.cool_down.is_over(None, now);
        if !is_over {
            state.deny(now);
        }
        is_over
    }

    fn expires_before(&self, issued: &IssuedToken) -> bool {
        match &*self.current.load() {
            Some(current) => current.lifetime.expires_on() < issued.lifetime.expires_on(),
            None => true,
        }
    }

    /// Stores another token, with which no thread has taken a turn. Called under the lock.
    fn replace_token(&self, issued: Option<Arc<IssuedToken>>) {
        self.current.store(issued);
        self.turns.reset();
    }

    /// Calls `change` with the state, under the lock.
    fn with_state<R>(&self, change: impl FnOnce(&mut SlotState<F>) -> R) -> R {
        let mut stored = self.lock();
        let mut state = stored.take();
        let result = change(&mut state);
        *stored = StoredState::from(state);
        result
    }

    fn lock(&self) -> MutexGuard<'_, StoredState<F>> {
        // No code panics under the lock, and every field would still be whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(any(feature = "metrics", feature = "opentelemetry"))]
impl<F: Clone> Slot<F> {
    /// Returns the slot's part of the cache's figures.
    pub(super) fn figures(&self, now: &Now) -> EntryFigures {
        let stored = self.lock();
        let state = stored.busy();
        let denied = state.and_then(|state| state.denied.as_ref());
        let is_denied = denied.is_some_and(|denied| denied.since(now) < STILL_WANTED);
        let current = self.current.load();
        let lifetime = current.as_ref().map(|issued| &issued.lifetime);
        let stage = lifetime.map_or(Stage::Expired, |lifetime| lifetime.stage(now));
        let state_of_entry = match (stage, is_denied) {
            (Stage::Fresh, _) | (Stage::Due, false) => EntryState::Valid,
            (Stage::Due, true) => EntryState::Failing,
            (Stage::Expired, true) => EntryState::Unavailable,
            (Stage::Expired, false) => EntryState::Unused,
        };
        let remaining = lifetime.map_or(Duration::ZERO, |lifetime| lifetime.remaining(now));
        EntryFigures {
            state: state_of_entry,
            remaining: (stage == Stage::Fresh || is_denied).then_some(remaining),
            is_cooling_down: state.is_some_and(|state| !state.cool_down.is_over(None, now)),
        }
    }
}

/// The time for which an entry whose token request failed counts as wanted. A caller that asks less
/// often finds no valid token anyway.
#[cfg(any(feature = "metrics", feature = "opentelemetry"))]
const STILL_WANTED: Duration = Duration::from_secs(15 * 60);

impl<F: Clone> Slot<F> {
    /// Keeps the slot from eviction until [`release`](Self::release).
    pub(super) fn hold(&self) {
        self.holders.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn release(&self) {
        self.holders.fetch_sub(1, Ordering::Relaxed);
    }

    /// Gives the slot a second chance when eviction passes over it.
    #[inline]
    pub(crate) fn mark_used(&self) {
        // Written once and then only read, so that threads share the cache line.
        if self.holders.load(Ordering::Relaxed) & USED == 0 {
            self.holders.fetch_or(USED, Ordering::Relaxed);
        }
    }
}

impl<F: Clone> Evictable for Slot<F> {
    type Key = CacheKey;

    fn key(&self) -> &CacheKey {
        &self.key
    }

    fn is_held(self: &Arc<Self>) -> bool {
        self.holders.load(Ordering::Relaxed) & !USED > 0
    }

    fn mark_used(&self) {
        self.mark_used();
    }

    fn take_used(&self) -> bool {
        self.holders.fetch_and(!USED, Ordering::Relaxed) & USED != 0
    }

    /// Empties the slot, because requests may remember it.
    fn evicted(&self) {
        self.clear_and_ignore_flight();
    }

    /// Returns `true` if the slot has neither a token to serve nor a failure to remember.
    fn can_evict(&self, now: &Now) -> bool {
        if self.has_token(now) {
            return false;
        }
        let stored = self.lock();
        stored
            .busy()
            .is_none_or(|state| state.cool_down.is_over(None, now))
    }
}

/// The bit of [`Slot::holders`] that is set if the slot was used since the last eviction passed
/// over it.
const USED: u32 = 1 << 31;

impl<F> StoredState<F> {
    fn busy(&self) -> Option<&SlotState<F>> {
        match self {
            Self::Idle(_) => None,
            Self::Busy(state) => Some(state),
        }
    }

    /// Takes the state out, under the lock.
    fn take(&mut self) -> Box<SlotState<F>> {
        let latest = match self {
            Self::Idle(latest) => *latest,
            Self::Busy(state) => state.flight.latest(),
        };
        match std::mem::replace(self, Self::Idle(latest)) {
            Self::Busy(state) => state,
            Self::Idle(latest) => Box::new(SlotState {
                flight: Lease::after(latest),
                ignored: 0,
                cool_down: CoolDown::default(),
                rejections: Rejections::default(),
                denied: None,
            }),
        }
    }
}

impl<F> From<Box<SlotState<F>>> for StoredState<F> {
    fn from(state: Box<SlotState<F>>) -> Self {
        let is_idle = !state.flight.is_held()
            && state.ignored == 0
            && state.cool_down.is_none()
            && state.rejections.is_none()
            && state.denied.is_none();
        match is_idle {
            true => Self::Idle(state.flight.latest()),
            false => Self::Busy(state),
        }
    }
}

impl<F> SlotState<F> {
    /// Notes that a caller wanted a token request and got none.
    fn deny(&mut self, now: &Now) {
        self.denied = Some(now.plus(Duration::ZERO));
    }

    fn forget_failure(&mut self) {
        self.cool_down = CoolDown::default();
        self.denied = None;
    }

    fn start(&mut self, handle: F, overdue: Instant, requirements: &Requirements) -> Started<F> {
        let running = Running {
            handle,
            claims: requirements.claims().cloned(),
            after_rejection: requirements.follow_a_rejection(),
        };
        let (generation, replaced) = self.flight.grant(overdue, running);
        Started {
            generation,
            replaced: replaced.map(|running| running.handle),
        }
    }
}

/// The result of [`Slot::invalidate`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Invalidated {
    Removed,
    /// The cached token is another one, or there is none.
    Replaced,
    /// A token was replaced because an API rejected it, less than 30 seconds ago.
    TooSoon,
}

#[cfg(test)]
mod tests;
