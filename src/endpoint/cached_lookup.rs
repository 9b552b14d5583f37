use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::lookup::Lookup;
use crate::error::Error;
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
    /// The lookup in progress.
    lease: Lease,
    /// The error of the last lookup, and until when it answers for further ones.
    failure: Option<(Error, Deadline)>,
    /// The shortest time for which a transient failure is remembered.
    pause: Duration,
    /// The number of lookups that have ended.
    ended: u64,
    /// The time of the last search for a value other than the known one.
    searched: Option<Deadline>,
}

struct KnownValue<T> {
    value: Arc<T>,
    /// The time of the last lookup, successful or not.
    looked_up: Deadline,
    until: Deadline,
}

/// The next step of a caller.
enum Next<T> {
    Return(Result<Arc<T>, Error>),
    /// Wait for the lookup in progress, which is considered lost at this time.
    Wait(Instant),
    LookUp(LeaseId),
}

impl<T> CachedLookup<T> {
    /// Creates an empty lookup. A transient failure is not cached: the next caller retries.
    pub(super) fn new() -> Self {
        Self::pausing(Duration::ZERO)
    }

    /// Creates an empty lookup that caches a transient failure for at least `pause`.
    ///
    /// For values that too many callers would retry.
    pub(super) fn pausing(pause: Duration) -> Self {
        Self {
            state: Mutex::new(LookupState {
                known: None,
                lease: Lease::default(),
                failure: None,
                pause,
                ended: 0,
                searched: None,
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
    ) -> Result<Arc<T>, Error>
    where
        F: Future<Output = Result<(T, Duration), Error>>,
    {
        let ended_before = self.lock().ended;
        let next = |state: &mut LookupState<T>| state.next(ended_before, lookup);
        self.wait_or_look_up(lookup, next, look_up).await
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
        self.wait_or_look_up(lookup, next, look_up).await
    }

    async fn wait_or_look_up<'a, F>(
        &self,
        lookup: &Lookup<'a>,
        next: impl Fn(&mut LookupState<T>) -> Next<T>,
        look_up: impl FnOnce(Lookup<'a>, Option<Arc<T>>) -> F,
    ) -> Result<Arc<T>, Error>
    where
        F: Future<Output = Result<(T, Duration), Error>>,
    {
        let guard = loop {
            let mut ended = self.ended.subscribe();
            let step = next(&mut self.lock());
            match step {
                Next::Return(result) => return result,
                Next::LookUp(id) => break LookupGuard { lookup: self, id },
                Next::Wait(expires) => drop(timeout_at(expires, ended.changed()).await),
            }
        };
        let old = self.lock().value();
        let mut lookup = *lookup;
        if old.is_some() {
            lookup.limit = lookup.limit.min(LIMIT_WITH_OLD_VALUE);
        }
        let result = look_up(lookup, old).await;
        self.lock().complete(guard.id, result, &lookup.clock.now())
    }

    /// Returns the cached value, unless its time to live is over.
    pub(super) fn known(&self, now: &Now) -> Option<Arc<T>> {
        let state = self.lock();
        let known = state.known.as_ref();
        let known = known.filter(|known| !known.until.reached(now))?;
        Some(Arc::clone(&known.value))
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
        let old = match &self.known {
            Some(known) if !known.until.reached(&now) => {
                return Next::Return(Ok(Arc::clone(&known.value)));
            }
            _ => self.value(),
        };
        // A lookup failed while this caller waited, or shortly before.
        if let (Some((error, until)), None) = (&self.failure, &old)
            && (self.ended != ended_before || !until.reached(&now))
        {
            return Next::Return(Err(error.clone()));
        }
        match (self.in_progress(), old) {
            // The old value serves during the lookup.
            (Some(_), Some(old)) => Next::Return(Ok(old)),
            (Some(expires), None) => Next::Wait(expires),
            (None, _) => self.begin(lookup),
        }
    }

    /// Decides for a caller of [`CachedLookup::other_than`].
    fn next_after(&mut self, old: &Arc<T>, interval: Duration, lookup: &Lookup<'_>) -> Next<T> {
        match (&self.known, self.in_progress()) {
            (Some(known), _) if !Arc::ptr_eq(&known.value, old) => {
                Next::Return(Ok(Arc::clone(&known.value)))
            }
            (_, Some(expires)) => Next::Wait(expires),
            _ if self.has_searched_within(interval, lookup) => Next::Return(Ok(Arc::clone(old))),
            _ => {
                self.searched = Some(lookup.clock.now().plus(Duration::ZERO));
                self.begin(lookup)
            }
        }
    }

    fn value(&self) -> Option<Arc<T>> {
        self.known.as_ref().map(|known| Arc::clone(&known.value))
    }

    /// Returns when the lookup in progress is considered lost.
    fn in_progress(&self) -> Option<Instant> {
        let (_, expires) = self.lease.holder(Instant::now().into_std())?;
        Some(Instant::from_std(expires))
    }

    fn has_searched_within(&self, interval: Duration, lookup: &Lookup<'_>) -> bool {
        let searched = self.searched.as_ref();
        searched.is_some_and(|searched| !searched.later(interval).reached(&lookup.clock.now()))
    }

    fn begin(&mut self, lookup: &Lookup<'_>) -> Next<T> {
        let expires = Instant::now().checked_add(lookup.limit.saturating_add(MARGIN));
        let expires = expires.unwrap_or_else(Instant::now);
        let (id, _) = self.lease.grant(expires.into_std(), ());
        Next::LookUp(id)
    }

    fn complete(
        &mut self,
        id: LeaseId,
        result: Result<(T, Duration), Error>,
        now: &Now,
    ) -> Result<Arc<T>, Error> {
        self.ended = self.ended.wrapping_add(1);
        let is_current = self.lease.is_current(id);
        let looked_up = now.plus(Duration::ZERO);
        match (result, &mut self.known) {
            (Ok((value, time_to_live)), known) => {
                let value = Arc::new(value);
                // The value of a replaced lookup must not overwrite a later one.
                if is_current || known.is_none() {
                    self.failure = None;
                    *known = Some(KnownValue {
                        value: Arc::clone(&value),
                        looked_up,
                        until: now.plus(time_to_live),
                    });
                }
                Ok(value)
            }
            (Err(error), Some(known)) => {
                tracing::warn!(
                    error = %error.chain(),
                    "the authority's metadata could not be refreshed; the cached metadata is used for longer"
                );
                if is_current {
                    known.looked_up = looked_up;
                    known.until = now.plus(AFTER_A_FAILURE);
                }
                Ok(Arc::clone(&known.value))
            }
            (Err(error), None) => {
                let wait = match (error.is_transient(), self.pause) {
                    (true, Duration::ZERO) => Duration::ZERO,
                    (true, pause) => error.retry_after().unwrap_or(pause).max(pause),
                    (false, _) => AFTER_A_REJECTION,
                };
                self.failure = Some((error.clone(), now.plus(wait)));
                Err(error)
            }
        }
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
const ONE_MINUTE: Duration = Duration::from_secs(60);
/// The limit of a lookup that an old value could replace.
const LIMIT_WITH_OLD_VALUE: Duration = Duration::from_secs(2);
/// The time after its limit at which waiting callers consider a lookup lost.
const MARGIN: Duration = Duration::from_secs(1);
