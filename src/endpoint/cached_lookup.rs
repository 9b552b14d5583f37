use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::Instant;

use super::lookup::Lookup;
use crate::error::Error;
use crate::heartbeat::Heartbeat;
use crate::lease::{Lease, LeaseId};
use crate::time::{Deadline, Now, TimeSource};

/// A value that one caller discovers for all callers on first use, and that is then cached.
pub(super) struct CachedLookup<T> {
    state: Mutex<LookupState<T>>,
    /// Notifies waiting callers of the end of a lookup.
    ended: watch::Sender<()>,
}

struct LookupState<T> {
    known: Option<KnownValue<T>>,
    /// The lookup in progress, with the heartbeat of its runtime.
    lease: Lease<Heartbeat>,
    /// The error of the last lookup, and until when the error is cached. `None` after a success.
    failure: Option<(Error, Deadline)>,
    limits: LookupLimits,
    /// The number of lookups that have ended.
    ended: u64,
    /// The last search for a value other than the known one.
    search: Option<LeaseId>,
    /// The end of the last search that ended. A search on a runtime that stopped found nothing out.
    searched: Option<Deadline>,
    /// The time of the last warning about the current outage.
    warned: Option<Deadline>,
}

/// The limits of a cached lookup.
#[derive(Clone, Copy)]
pub(super) struct LookupLimits {
    /// The shortest time for which a transient failure without a known value is cached.
    pub(super) pause: Duration,
    /// The limit of a lookup whose result an old value could replace.
    pub(super) with_old_value: Duration,
    /// The longest time for which a value is used while every further lookup fails.
    pub(super) max_age: Duration,
}

struct KnownValue<T> {
    value: Arc<T>,
    /// The time of the lookup that found the value.
    found: Deadline,
    /// The time of the last lookup, successful or not.
    looked_up: Deadline,
    /// The end of the time to live. The next caller looks the value up.
    until: Deadline,
    /// The end of the value's use.
    expires: Deadline,
}

/// A value, and where the value comes from.
pub(crate) struct Found<T> {
    pub(crate) value: Arc<T>,
    /// True if the caller waited for a lookup. Another lookup would find the same value.
    pub(crate) is_looked_up: bool,
}

/// The next step of a caller.
enum Next<T> {
    Return(Result<Arc<T>, Error>),
    /// Wait for the lookup in progress.
    Wait(LookupInProgress),
    LookUp(LeaseId),
}

/// A lookup that other callers wait for.
struct LookupInProgress {
    id: LeaseId,
    /// The time at which the lookup is considered lost.
    expires: Instant,
    heartbeat: Heartbeat,
}

impl<T> CachedLookup<T> {
    /// Creates an empty lookup. A transient failure is not cached: the next caller retries. An old
    /// value is used for as long as lookups fail.
    pub(super) fn new() -> Self {
        Self::limited(LookupLimits {
            pause: Duration::ZERO,
            with_old_value: LIMIT_WITH_OLD_VALUE,
            max_age: FOREVER,
        })
    }

    /// Creates an empty lookup with limits. For values that too many callers would retry.
    pub(super) fn limited(limits: LookupLimits) -> Self {
        Self {
            state: Mutex::new(LookupState {
                known: None,
                lease: Lease::default(),
                failure: None,
                limits,
                ended: 0,
                search: None,
                searched: None,
                warned: None,
            }),
            ended: watch::Sender::new(()),
        }
    }

    /// Returns the cached value, or the result of `look_up`, which includes a time to live.
    ///
    /// Callers that arrive during a lookup share the result, even an error. If
    /// the lookup fails, the value before is kept. `look_up` receives that value.
    pub(super) async fn get<'a, F>(
        &self,
        lookup: &Lookup<'a>,
        look_up: impl FnOnce(Lookup<'a>, Option<Arc<T>>) -> F,
    ) -> Result<Found<T>, Error>
    where
        F: Future<Output = Result<(T, Duration), Error>>,
    {
        let (ended_before, limits) = {
            let state = self.lock();
            (state.ended, state.limits)
        };
        let next = |state: &mut LookupState<T>| state.next(ended_before, lookup);
        let (result, is_looked_up) = self
            .wait_or_look_up(lookup, limits.with_old_value, next, look_up)
            .await;
        Ok(Found {
            value: self.or_old(result, lookup)?,
            is_looked_up,
        })
    }

    /// Returns a value from a lookup that began after the lookup of `old`, which did not suffice.
    ///
    /// Joins the lookup in progress, or calls `look_up`. Returns `old` if the last search was less
    /// than `interval` ago.
    pub(super) async fn other_than<'a, F>(
        &self,
        old: &Arc<T>,
        interval: Duration,
        lookup: &Lookup<'a>,
        look_up: impl FnOnce(Lookup<'a>, Option<Arc<T>>) -> F,
    ) -> Result<Arc<T>, Error>
    where
        F: Future<Output = Result<(T, Duration), Error>>,
    {
        let next = |state: &mut LookupState<T>| state.next_after(old, interval, lookup);
        // The old value does not suffice, so the lookup has its whole time.
        let (result, _) = self
            .wait_or_look_up(lookup, lookup.limit, next, look_up)
            .await;
        self.or_old(result, lookup)
    }

    /// Returns whether [`other_than`](Self::other_than) would return another value than `old`, or
    /// would wait for a lookup.
    pub(super) fn may_find_other_than(&self, old: &Arc<T>, interval: Duration, now: &Now) -> bool {
        let state = self.lock();
        state.other_value(old).is_some()
            || state.in_progress().is_some()
            || !state.has_searched_within(interval, now)
    }

    /// Looks the value up, however old the cached value is. Joins the lookup in progress.
    ///
    /// Returns the error of a failed lookup, and keeps the cached value.
    pub(super) async fn refresh<'a, F>(
        &self,
        lookup: &Lookup<'a>,
        look_up: impl FnOnce(Lookup<'a>, Option<Arc<T>>) -> F,
    ) -> Result<Arc<T>, Error>
    where
        F: Future<Output = Result<(T, Duration), Error>>,
    {
        let ended_before = self.lock().ended;
        let next = |state: &mut LookupState<T>| state.next_refresh(ended_before, lookup);
        let (result, _) = self
            .wait_or_look_up(lookup, lookup.limit, next, look_up)
            .await;
        result
    }

    /// Follows the steps of `next`. Returns the result, and whether the caller waited for a lookup.
    async fn wait_or_look_up<'a, F>(
        &self,
        lookup: &Lookup<'a>,
        limit_with_old_value: Duration,
        next: impl Fn(&mut LookupState<T>) -> Next<T>,
        look_up: impl FnOnce(Lookup<'a>, Option<Arc<T>>) -> F,
    ) -> (Result<Arc<T>, Error>, bool)
    where
        F: Future<Output = Result<(T, Duration), Error>>,
    {
        let mut has_waited = false;
        let guard = loop {
            let mut ended = self.ended.subscribe();
            let step = next(&mut self.lock());
            match step {
                Next::Return(result) => return (result, has_waited),
                Next::LookUp(id) => break LookupGuard { lookup: self, id },
                Next::Wait(other) => {
                    let changed = pin!(ended.changed());
                    let stopped = pin!(other.heartbeat.stopped(other.expires));
                    if let Either::Right(_) = select(changed, stopped).await {
                        // This caller, or another one that waits, takes the lookup over.
                        self.lock().lease.release(other.id);
                    }
                }
            }
            has_waited = true;
        };
        let old = self.lock().usable(&lookup.clock.now());
        let mut lookup = *lookup;
        if old.is_some() {
            lookup.limit = lookup.limit.min(limit_with_old_value);
        }
        let result = look_up(lookup, old).await;
        let now = lookup.clock.now();
        (self.lock().complete(guard.id, result, &now), true)
    }

    /// Replaces an error by the old value, if the old value can still be used.
    fn or_old(&self, result: Result<Arc<T>, Error>, lookup: &Lookup<'_>) -> Result<Arc<T>, Error> {
        result.or_else(|error| self.lock().usable(&lookup.clock.now()).ok_or(error))
    }

    /// Returns the cached value, unless its time to live is over.
    pub(super) fn known(&self, now: &Now) -> Option<Arc<T>> {
        self.lock().fresh(now)
    }

    /// Returns the cached value, even if its time to live is over.
    pub(super) fn old(&self, now: &Now) -> Option<Arc<T>> {
        self.lock().usable(now)
    }

    /// Returns the error of the last lookup. `None` after a success.
    pub(super) fn failure(&self) -> Option<Error> {
        let state = self.lock();
        state.failure.as_ref().map(|(error, _)| error.clone())
    }

    /// Ends the time to live of the cached value: the next caller looks the value up.
    pub(super) fn force_refresh(&self, clock: &TimeSource) {
        let now = clock.now();
        let mut state = self.lock();
        state.failure = None;
        if let Some(known) = &mut state.known {
            known.until = now.plus(Duration::ZERO);
        }
    }

    /// Forces a refresh because the cached value seems to be wrong, at most once a minute.
    pub(super) fn mark_suspect(&self, clock: &TimeSource) {
        let state = self.lock();
        let is_recent =
            |known: &KnownValue<T>| !known.looked_up.later(ONE_MINUTE).reached(&clock.now());
        if state.known.as_ref().is_none_or(is_recent) {
            return;
        }
        drop(state);
        self.force_refresh(clock);
    }

    fn lock(&self) -> MutexGuard<'_, LookupState<T>> {
        // No code panics under the lock, and every field would still be whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> LookupState<T> {
    /// Decides for a caller of [`CachedLookup::get`]. `ended_before` is the number of
    /// lookups before the caller arrived.
    fn next(&mut self, ended_before: u64, lookup: &Lookup<'_>) -> Next<T> {
        let now = lookup.clock.now();
        if let Some(fresh) = self.fresh(&now) {
            return Next::Return(Ok(fresh));
        }
        let old = self.usable(&now);
        // A lookup failed while this caller waited, or shortly before.
        if let (Some((error, until)), None) = (&self.failure, &old)
            && (self.ended != ended_before || !until.reached(&now))
        {
            return Next::Return(Err(error.clone()));
        }
        match (self.in_progress(), old) {
            // The old value serves during the lookup.
            (Some(_), Some(old)) => Next::Return(Ok(old)),
            (Some(other), None) => Next::Wait(other),
            (None, _) => self.begin(lookup),
        }
    }

    /// Decides for a caller of [`CachedLookup::other_than`].
    fn next_after(&mut self, old: &Arc<T>, interval: Duration, lookup: &Lookup<'_>) -> Next<T> {
        let now = lookup.clock.now();
        match (self.other_value(old), self.in_progress()) {
            (Some(other), _) => Next::Return(Ok(other)),
            (_, Some(other)) => Next::Wait(other),
            _ if self.has_searched_within(interval, &now) => Next::Return(Ok(Arc::clone(old))),
            _ => {
                let search = self.begin(lookup);
                self.search = Some(self.lease.latest());
                search
            }
        }
    }

    /// Decides for a caller of [`CachedLookup::refresh`]. `ended_before` is the number of lookups
    /// before the caller arrived.
    fn next_refresh(&mut self, ended_before: u64, lookup: &Lookup<'_>) -> Next<T> {
        if let Some(other) = self.in_progress() {
            return Next::Wait(other);
        }
        if self.ended != ended_before {
            if let Some((error, _)) = &self.failure {
                return Next::Return(Err(error.clone()));
            }
            if let Some(known) = &self.known {
                return Next::Return(Ok(Arc::clone(&known.value)));
            }
        }
        self.begin(lookup)
    }

    /// Returns the value whose time to live is not over.
    fn fresh(&self, now: &Now) -> Option<Arc<T>> {
        let known = self.known.as_ref();
        let known =
            known.filter(|known| !known.until.reached(now) && !known.expires.reached(now))?;
        Some(Arc::clone(&known.value))
    }

    /// Returns the value that serves while lookups fail, unless the value is too old.
    fn usable(&self, now: &Now) -> Option<Arc<T>> {
        let known = self.known.as_ref();
        let known = known.filter(|known| !known.expires.reached(now))?;
        Some(Arc::clone(&known.value))
    }

    /// Returns the known value, unless that is `old`.
    fn other_value(&self, old: &Arc<T>) -> Option<Arc<T>> {
        let known = self.known.as_ref();
        let known = known.filter(|known| !Arc::ptr_eq(&known.value, old))?;
        Some(Arc::clone(&known.value))
    }

    fn in_progress(&self) -> Option<LookupInProgress> {
        let (heartbeat, expires) = self.lease.holder(Instant::now().into_std())?;
        Some(LookupInProgress {
            id: self.lease.latest(),
            expires: Instant::from_std(expires),
            heartbeat: heartbeat.clone(),
        })
    }

    fn has_searched_within(&self, interval: Duration, now: &Now) -> bool {
        let searched = self.searched.as_ref();
        searched.is_some_and(|searched| !searched.later(interval).reached(now))
    }

    fn begin(&mut self, lookup: &Lookup<'_>) -> Next<T> {
        let expires = Instant::now().checked_add(lookup.limit.saturating_add(MARGIN));
        let expires = expires.unwrap_or_else(Instant::now);
        let heartbeat = Heartbeat::of(Handle::try_current().ok());
        let (id, _) = self.lease.grant(expires.into_std(), heartbeat);
        Next::LookUp(id)
    }

    /// Stores the result of a lookup. A failure keeps the known value, unless that is too old.
    fn complete(
        &mut self,
        id: LeaseId,
        result: Result<(T, Duration), Error>,
        now: &Now,
    ) -> Result<Arc<T>, Error> {
        self.ended = self.ended.wrapping_add(1);
        if self.search == Some(id) {
            self.searched = Some(now.plus(Duration::ZERO));
        }
        // The result of a replaced lookup must not overwrite a later one.
        let is_stored = self.lease.is_current(id) || self.known.is_none();
        match result {
            Ok((value, time_to_live)) => {
                let value = Arc::new(value);
                if is_stored {
                    self.store(Arc::clone(&value), time_to_live, now);
                }
                Ok(value)
            }
            Err(error) => {
                if is_stored {
                    self.fail(&error, now);
                }
                Err(error)
            }
        }
    }

    fn store(&mut self, value: Arc<T>, time_to_live: Duration, now: &Now) {
        let max_age = self.limits.max_age;
        // Half the age leaves time for another lookup after a failed one.
        let time_to_live = time_to_live.min(max_age.checked_div(2).unwrap_or_default());
        self.failure = None;
        self.warned = None;
        self.known = Some(KnownValue {
            value,
            found: now.plus(Duration::ZERO),
            looked_up: now.plus(Duration::ZERO),
            until: now.plus(time_to_live),
            expires: now.plus(max_age),
        });
    }

    fn fail(&mut self, error: &Error, now: &Now) {
        let wait = match (error.is_transient(), self.limits.pause) {
            (true, Duration::ZERO) => Duration::ZERO,
            (true, pause) => error.retry_after().unwrap_or(pause).max(pause),
            (false, _) => AFTER_A_REJECTION,
        };
        self.failure = Some((error.clone(), now.plus(wait)));
        let Some(known) = self.known.as_mut() else {
            return;
        };
        if known.expires.reached(now) {
            self.known = None;
            return;
        }
        known.looked_up = now.plus(Duration::ZERO);
        known.until = now.plus(AFTER_A_FAILURE);
        let age = known.found.since(now).as_secs() / SECONDS_PER_HOUR;
        let has_warned = self.warned.as_ref();
        if has_warned.is_some_and(|warned| !warned.later(A_DAY).reached(now)) {
            tracing::debug!(
                error = %error.chain(),
                "the authority's metadata could still not be refreshed"
            );
            return;
        }
        self.warned = Some(now.plus(Duration::ZERO));
        tracing::warn!(
            error = %error.chain(),
            age_in_hours = age,
            "the authority's metadata could not be refreshed; the cached metadata is used for longer"
        );
    }
}

/// The right to look the value up. Released on drop.
struct LookupGuard<'a, T> {
    lookup: &'a CachedLookup<T>,
    id: LeaseId,
}

impl<T> Drop for LookupGuard<'_, T> {
    fn drop(&mut self) {
        self.lookup.lock().lease.release(self.id);
        self.lookup.ended.send_replace(());
    }
}

/// The time to live of a discovered value.
pub(super) const A_DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// The time for which an old value, or none, is used after a lookup failed.
pub(super) const AFTER_A_FAILURE: Duration = Duration::from_secs(5 * 60);
/// The time for which a rejected lookup answers for all further ones.
const AFTER_A_REJECTION: Duration = Duration::from_secs(5);
pub(super) const ONE_MINUTE: Duration = Duration::from_secs(60);
/// The age limit of a value that is used for as long as lookups fail. A clock cannot add more.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
const SECONDS_PER_HOUR: u64 = 60 * 60;
/// The limit of a lookup that an old value could replace.
const LIMIT_WITH_OLD_VALUE: Duration = Duration::from_secs(2);
/// The time after its limit at which waiting callers consider a lookup lost.
const MARGIN: Duration = Duration::from_secs(1);
