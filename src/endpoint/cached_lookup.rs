use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::lookup::Lookup;
use crate::error::Error;
use crate::time::{Deadline, Now, TimeSource};

/// What is looked up when it is first needed, by one task for all, and kept for a while.
pub(super) struct CachedLookup<T> {
    state: Mutex<State<T>>,
    /// Tells who waits that a look-up has ended, or was given up.
    ended: watch::Sender<()>,
}

struct State<T> {
    known: Option<Known<T>>,
    /// Who looks it up, and until when that is believed: a task may be on a runtime that stands still.
    turn: Option<(u64, Instant)>,
    turns: u64,
    /// What a look-up brought that found nothing, and how long that is everybody's answer.
    failure: Option<(Error, Deadline)>,
    /// How long that is at least, where time may cure it.
    pause: Duration,
    /// How many look-ups have ended.
    ended: u64,
    /// When another than what is known was last looked for.
    sought: Option<Deadline>,
}

struct Known<T> {
    value: Arc<T>,
    /// When it was last looked up, be it in vain.
    asked: Deadline,
    until: Deadline,
}

/// What is to be done about something that is not known, or not any more.
enum Next<T> {
    Use(Result<Arc<T>, Error>),
    Wait(Instant),
    LookUp(u64),
}

impl<T> CachedLookup<T> {
    /// What time may cure is tried again by whoever tries again.
    pub(super) fn new() -> Self {
        Self::pausing(Duration::ZERO)
    }

    /// The same, where those who try again are too many.
    pub(super) fn pausing(pause: Duration) -> Self {
        Self {
            state: Mutex::new(State {
                known: None,
                turn: None,
                turns: 0,
                failure: None,
                pause,
                ended: 0,
                sought: None,
            }),
            ended: watch::Sender::new(()),
        }
    }

    /// What is known, or what `look_up` finds, with for how long to keep it.
    ///
    /// Those who come meanwhile share what it finds, be it an error. What was known before, which
    /// `look_up` is told, is kept if it fails.
    pub(super) async fn get<'a, F>(
        &self,
        lookup: &Lookup<'a>,
        look_up: impl FnOnce(Lookup<'a>, Option<Arc<T>>) -> F,
    ) -> Result<Arc<T>, Error>
    where
        F: Future<Output = Result<(T, Duration), Error>>,
    {
        let began = self.lock().ended;
        let turn = loop {
            let mut ended = self.ended.subscribe();
            let next = self.lock().next(began, lookup);
            match next {
                Next::Use(outcome) => return outcome,
                Next::LookUp(turn) => break Turn { of: self, turn },
                // Whoever is at it is given up then.
                Next::Wait(until) => drop(timeout_at(until, ended.changed()).await),
            }
        };
        self.take_turn(&turn, lookup, look_up).await
    }

    /// What is found by a look-up that began after that of `old`, which did not do: by one that is
    /// under way, or by `look_up`, unless another was sought less than `interval` ago.
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
        let turn = loop {
            let mut ended = self.ended.subscribe();
            let next = self.lock().next_after(old, interval, lookup);
            match next {
                Next::Use(outcome) => return outcome,
                Next::LookUp(turn) => break Turn { of: self, turn },
                Next::Wait(until) => drop(timeout_at(until, ended.changed()).await),
            }
        };
        self.take_turn(&turn, lookup, look_up).await
    }

    /// What is known, for as long as it is.
    pub(super) fn known(&self, now: &Now) -> Option<Arc<T>> {
        let state = self.lock();
        let known = state.known.as_ref();
        let known = known.filter(|known| !known.until.reached(now))?;
        Some(Arc::clone(&known.value))
    }

    async fn take_turn<'a, F>(
        &self,
        turn: &Turn<'_, T>,
        lookup: &Lookup<'a>,
        look_up: impl FnOnce(Lookup<'a>, Option<Arc<T>>) -> F,
    ) -> Result<Arc<T>, Error>
    where
        F: Future<Output = Result<(T, Duration), Error>>,
    {
        let old = self
            .lock()
            .known
            .as_ref()
            .map(|known| Arc::clone(&known.value));
        let mut lookup = *lookup;
        if old.is_some() {
            lookup.limit = lookup.limit.min(WITH_AN_OLD_ONE);
        }
        let found = look_up(lookup, old).await;
        self.lock().land(turn, found, &lookup.clock.now())
    }

    /// What is known is looked up again before it is used.
    pub(super) fn force_refresh(&self, clock: &TimeSource) {
        let now = clock.now();
        let mut state = self.lock();
        state.failure = None;
        if let Some(known) = &mut state.known {
            known.until = now.plus(Duration::ZERO);
        }
    }

    /// The same, where something speaks against what is known: at most once a minute.
    pub(super) fn mark_suspect(&self, clock: &TimeSource) {
        let state = self.lock();
        let is_young = |known: &Known<T>| !known.asked.later(A_MINUTE).reached(&clock.now());
        if state.known.as_ref().is_none_or(is_young) {
            return;
        }
        drop(state);
        self.force_refresh(clock);
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Nothing panics while it is held; were it so, every field is still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> State<T> {
    /// `began` is how many look-ups had ended when the caller came.
    fn next(&mut self, began: u64, lookup: &Lookup<'_>) -> Next<T> {
        let now = lookup.clock.now();
        let old = match &self.known {
            Some(known) if !known.until.reached(&now) => {
                return Next::Use(Ok(Arc::clone(&known.value)));
            }
            known => known.as_ref().map(|known| Arc::clone(&known.value)),
        };
        match (&self.failure, old.is_some()) {
            // It failed while this caller waited, or a moment ago.
            (Some((error, until)), false) if self.ended != began || !until.reached(&now) => {
                return Next::Use(Err(error.clone()));
            }
            _ => {}
        }
        match (self.turn, old) {
            // The old one does meanwhile.
            (Some((_, until)), Some(old)) if Instant::now() < until => Next::Use(Ok(old)),
            (Some((_, until)), None) if Instant::now() < until => Next::Wait(until),
            _ => self.begin(lookup),
        }
    }

    fn next_after(&mut self, old: &Arc<T>, interval: Duration, lookup: &Lookup<'_>) -> Next<T> {
        match (&self.known, self.turn) {
            (Some(known), _) if !Arc::ptr_eq(&known.value, old) => {
                Next::Use(Ok(Arc::clone(&known.value)))
            }
            (_, Some((_, until))) if Instant::now() < until => Next::Wait(until),
            _ if self.was_sought_within(interval, lookup) => Next::Use(Ok(Arc::clone(old))),
            _ => {
                self.sought = Some(lookup.clock.now().plus(Duration::ZERO));
                self.begin(lookup)
            }
        }
    }

    fn was_sought_within(&self, interval: Duration, lookup: &Lookup<'_>) -> bool {
        let sought = self.sought.as_ref();
        sought.is_some_and(|sought| !sought.later(interval).reached(&lookup.clock.now()))
    }

    fn begin(&mut self, lookup: &Lookup<'_>) -> Next<T> {
        self.turns = self.turns.wrapping_add(1);
        let until = Instant::now().checked_add(lookup.limit.saturating_add(MARGIN));
        self.turn = Some((self.turns, until.unwrap_or_else(Instant::now)));
        Next::LookUp(self.turns)
    }

    fn land(
        &mut self,
        turn: &Turn<'_, T>,
        found: Result<(T, Duration), Error>,
        now: &Now,
    ) -> Result<Arc<T>, Error> {
        self.ended = self.ended.wrapping_add(1);
        let is_current = self.turn.is_some_and(|(current, _)| current == turn.turn);
        let asked = now.plus(Duration::ZERO);
        match (found, &mut self.known) {
            (Ok((found, keep)), known) => {
                let value = Arc::new(found);
                // One that was given up does not take the place of a later one.
                if is_current || known.is_none() {
                    self.failure = None;
                    *known = Some(Known {
                        value: Arc::clone(&value),
                        asked,
                        until: now.plus(keep),
                    });
                }
                Ok(value)
            }
            (Err(error), Some(known)) => {
                tracing::warn!(
                    error = %error.chain(),
                    "what is known of the authority could not be looked up again; it is used for a while longer"
                );
                if is_current {
                    known.asked = asked;
                    known.until = now.plus(AFTER_A_FAILURE);
                }
                Ok(Arc::clone(&known.value))
            }
            (Err(error), None) => {
                let wait = match (error.is_transient(), self.pause) {
                    (true, Duration::ZERO) => Duration::ZERO,
                    (true, pause) => error.retry_after().unwrap_or(pause).max(pause),
                    (false, _) => AFTER_A_REFUSAL,
                };
                self.failure = Some((error.clone(), now.plus(wait)));
                Err(error)
            }
        }
    }
}

/// The turn of whoever looks it up, over however that ends.
struct Turn<'a, T> {
    of: &'a CachedLookup<T>,
    turn: u64,
}

impl<T> Drop for Turn<'_, T> {
    fn drop(&mut self) {
        let mut state = self.of.lock();
        if state.turn.is_some_and(|(current, _)| current == self.turn) {
            state.turn = None;
        }
        drop(state);
        self.of.ended.send_replace(());
    }
}

/// For how long something is kept that was looked up.
pub(super) const A_DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// For how long it goes without, or with the old, where that failed.
pub(super) const AFTER_A_FAILURE: Duration = Duration::from_secs(5 * 60);
/// For how long a refusal answers for all who would look it up.
const AFTER_A_REFUSAL: Duration = Duration::from_secs(5);
const A_MINUTE: Duration = Duration::from_secs(60);
/// For a look-up that there is an old answer to: who waits for it could go on without.
const WITH_AN_OLD_ONE: Duration = Duration::from_secs(2);
/// A little after its limit, a look-up is given up by those who wait.
const MARGIN: Duration = Duration::from_secs(1);
