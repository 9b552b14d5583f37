//! The sessions of one token, and what becomes of them when a call fails.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout_at};

use super::failure::{self, AttemptFailed};
use super::module::{FoundObject, ObjectQuery, Pkcs11Mechanism, Pkcs11Session};
use super::selection::TokenSelection;
use super::shared_module::{Entered, SharedModule};
use crate::error::{Error, Failure};
use crate::secret::Secret;
use crate::time::format_limit;

mod login;

pub(super) use login::TokenPin;

/// The sessions of one token, in a pool that all clones share.
pub(super) struct TokenSessions {
    pub(super) path: PathBuf,
    pub(super) selection: TokenSelection,
    pub(super) pin: TokenPin,
    pub(super) max_sessions: usize,
    /// Longest time for a signature. A signer has ten seconds.
    pub(super) limit: Duration,
    pub(super) module: OnceLock<Arc<SharedModule>>,
    pool: Mutex<SessionPool>,
    /// True once the token was found.
    was_present: AtomicBool,
    /// One permit for each thread that may be in the module.
    permits: Arc<Semaphore>,
}

#[derive(Default)]
struct SessionPool {
    current: Option<LoggedIn>,
    /// Number of the next login.
    next: u64,
}

/// The state from one look at the slots until a call fails.
struct LoggedIn {
    number: u64,
    /// Number of the module's initialization.
    generation: u64,
    slot: u64,
    mechanisms: Arc<[Pkcs11Mechanism]>,
    /// A session that is never used. Closing the last session of a process logs out.
    keeper: Box<dyn Pkcs11Session>,
    idle: Vec<Box<dyn Pkcs11Session>>,
    /// Handles of keys. A handle is invalid after a logout, also if the user logs in again.
    keys: Arc<Mutex<HashMap<ObjectQuery, FoundObject>>>,
}

/// A session for one attempt, with what is known of the token.
pub(super) struct TokenWork {
    number: u64,
    pub(super) session: Box<dyn Pkcs11Session>,
    pub(super) mechanisms: Arc<[Pkcs11Mechanism]>,
    keys: Arc<Mutex<HashMap<ObjectQuery, FoundObject>>>,
}

/// A piece of work with a session.
pub(super) type TokenJob<T> = Arc<dyn Fn(&TokenWork) -> Result<T, AttemptFailed> + Send + Sync>;

/// The recoveries that a call has had. A call gets each of them once.
#[derive(Clone, Copy, Default)]
struct Recoveries {
    has_looked_again: bool,
    has_restarted: bool,
}

impl TokenSessions {
    pub(super) fn new(
        path: PathBuf,
        selection: TokenSelection,
        pin: TokenPin,
        max_sessions: usize,
    ) -> Self {
        Self {
            path,
            selection,
            pin,
            max_sessions,
            limit: LIMIT,
            module: OnceLock::new(),
            pool: Mutex::default(),
            was_present: AtomicBool::new(false),
            permits: Arc::new(Semaphore::new(max_sessions)),
        }
    }

    /// Runs a job with a session on the blocking thread pool, on at most `max_sessions` threads.
    ///
    /// A call into the module cannot be cancelled. After the limit, the caller gets an error, and
    /// thread and session stay with the call until the call returns.
    pub(super) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        job: TokenJob<T>,
    ) -> Result<T, Error> {
        if Handle::try_current().is_err() {
            return Err(Error::config(
                "a PKCS#11 token needs a tokio runtime; call from a task of a runtime",
            ));
        }
        if self.max_sessions == 0 {
            return Err(Error::config("max_sessions must be at least 1"));
        }
        let deadline = Instant::now() + self.limit;
        let mut recoveries = Recoveries::default();
        let mut pin = match &self.pin {
            TokenPin::Fixed(pin) => Some(pin.clone()),
            TokenPin::None | TokenPin::Source(_) => None,
        };
        loop {
            let permit = Arc::clone(&self.permits).acquire_owned();
            let Ok(permit) = timeout_at(deadline, permit).await else {
                return Err(self.too_busy());
            };
            let (this, job) = (Arc::clone(self), Arc::clone(&job));
            let has_pin = pin.is_some();
            let call = spawn_blocking(move || {
                let result = this.attempts(&mut recoveries, pin.as_ref(), &*job);
                drop(permit);
                (result, recoveries)
            });
            let result = match timeout_at(deadline, call).await {
                Err(_) => return Err(self.too_slow()),
                Ok(Err(panicked)) => {
                    let failure = Failure::new(format!("{} cannot be used", self.selection));
                    return Err(Error::Credential(failure.source(panicked.into()).into()));
                }
                Ok(Ok((result, made))) => {
                    recoveries = made;
                    result
                }
            };
            pin = match result {
                Ok(value) => return Ok(value),
                Err(AttemptFailed::NeedsPin) if !has_pin => Some(self.fetch_pin(deadline).await?),
                Err(AttemptFailed::NeedsPin) => return Err(self.no_pin()),
                Err(
                    AttemptFailed::Final(error)
                    | AttemptFailed::Stale { error, .. }
                    | AttemptFailed::Missing { error, .. },
                ) => return Err(error),
            };
        }
    }

    /// Attempts the job, and recovers at most once in each way.
    fn attempts<T>(
        &self,
        recoveries: &mut Recoveries,
        pin: Option<&Secret>,
        job: &dyn Fn(&TokenWork) -> Result<T, AttemptFailed>,
    ) -> Result<T, AttemptFailed> {
        let module = self.module().map_err(AttemptFailed::Final)?;
        // A keeper and the number of its initialization.
        let mut retired: Option<(u64, Box<dyn Pkcs11Session>)> = None;
        loop {
            let entered = module.enter().map_err(|call| {
                let path = self.path.display().to_string();
                AttemptFailed::Final(failure::not_initialized(call, &path))
            })?;
            let mut failed = None;
            let result = self.attempt(&entered, pin, job, &mut failed);
            // The new keeper is open, so a login that still counts stays.
            if let Some((generation, keeper)) = retired.take()
                && generation == entered.generation()
            {
                keeper.close();
            }
            match result {
                Err(AttemptFailed::Stale { is_finalized, .. }) if !recoveries.has_looked_again => {
                    recoveries.has_looked_again = true;
                    match is_finalized {
                        true => module.note_finalized(entered.generation()),
                        false => {
                            let keeper = failed.and_then(|number| self.retire(number));
                            retired = keeper.map(|keeper| (entered.generation(), keeper));
                        }
                    }
                }
                // A token that was never there is more likely a wrong name, for which nobody else's
                // sessions should end.
                Err(AttemptFailed::Missing { error, has_failed })
                    if !recoveries.has_restarted
                        && (has_failed || self.was_present.load(Ordering::Relaxed)) =>
                {
                    recoveries.has_restarted = true;
                    let generation = entered.generation();
                    drop(entered);
                    if !module.restart(generation) {
                        return Err(AttemptFailed::Final(error));
                    }
                }
                result => return result,
            }
        }
    }

    /// Attempts the job once. Sets `failed` to the number of the login with which a call failed.
    fn attempt<T>(
        &self,
        entered: &Entered<'_>,
        pin: Option<&Secret>,
        job: &dyn Fn(&TokenWork) -> Result<T, AttemptFailed>,
        failed: &mut Option<u64>,
    ) -> Result<T, AttemptFailed> {
        let (slot, number, idle, mechanisms, keys) = {
            let mut pool = self.lock();
            let logged_in = self.logged_in(&mut pool, entered, pin)?;
            (
                logged_in.slot,
                logged_in.number,
                logged_in.idle.pop(),
                Arc::clone(&logged_in.mechanisms),
                Arc::clone(&logged_in.keys),
            )
        };
        let session = match idle {
            Some(session) => Ok(session),
            None => entered.module().open_session(slot),
        };
        let result = match session {
            Ok(session) => {
                let work = TokenWork {
                    number,
                    session,
                    mechanisms,
                    keys,
                };
                let result = job(&work);
                match &result {
                    Ok(_) => self.give_back(work),
                    // The number may belong to a session of the part that finalized the module.
                    Err(AttemptFailed::Stale {
                        is_finalized: true, ..
                    }) => drop(work.session),
                    // A failed call may leave an operation that is still active.
                    Err(_) => work.session.close(),
                }
                result
            }
            Err(call) => Err(AttemptFailed::of(call, &self.selection.to_string(), None)),
        };
        if let Err(AttemptFailed::Stale { .. }) = &result {
            *failed = Some(number);
        }
        result
    }

    /// Returns the login of the pool, or logs in.
    fn logged_in<'a>(
        &self,
        pool: &'a mut SessionPool,
        entered: &Entered<'_>,
        pin: Option<&Secret>,
    ) -> Result<&'a mut LoggedIn, AttemptFailed> {
        let is_current = |login: &LoggedIn| login.generation == entered.generation();
        // Sessions of an earlier initialization are void, and are dropped without a close.
        let login = match pool.current.take().filter(is_current) {
            Some(login) => login,
            None => {
                let login = self.log_in(pool.next, entered, pin)?;
                pool.next += 1;
                login
            }
        };
        Ok(pool.current.insert(login))
    }

    /// Returns a session to the pool, unless the pool has another login already.
    fn give_back(&self, work: TokenWork) {
        let mut pool = self.lock();
        match &mut pool.current {
            Some(login) if login.number == work.number => login.idle.push(work.session),
            _ => {
                drop(pool);
                work.session.close();
            }
        }
    }

    /// Ends a login and closes its idle sessions. Returns the keeper.
    fn retire(&self, number: u64) -> Option<Box<dyn Pkcs11Session>> {
        let is_same = |login: &mut LoggedIn| login.number == number;
        let login = self.lock().current.take_if(is_same)?;
        for session in login.idle {
            session.close();
        }
        Some(login.keeper)
    }

    fn module(&self) -> Result<Arc<SharedModule>, Error> {
        if let Some(module) = self.module.get() {
            return Ok(Arc::clone(module));
        }
        let module = SharedModule::at(&self.path)?;
        Ok(Arc::clone(self.module.get_or_init(|| module)))
    }

    fn lock(&self) -> MutexGuard<'_, SessionPool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn too_busy(&self) -> Error {
        failure::transient(format!(
            "all {} sessions of {} are in use, and none became free within {}; is the token too slow, or max_sessions too small?",
            self.max_sessions,
            self.selection,
            format_limit(self.limit)
        ))
    }

    fn too_slow(&self) -> Error {
        failure::transient(format!(
            "the PKCS#11 module of {} did not return within {}; the session stays in use until the call returns",
            self.selection,
            format_limit(self.limit)
        ))
    }
}

#[cfg(test)]
impl TokenSessions {
    pub(super) fn idle_sessions(&self) -> usize {
        let pool = self.lock();
        pool.current.as_ref().map_or(0, |login| login.idle.len())
    }

    /// Ends the login, as a failed call of another caller does.
    pub(super) fn retire_current(&self) {
        let number = self.lock().current.as_ref().map(|login| login.number);
        if let Some(keeper) = number.and_then(|number| self.retire(number)) {
            keeper.close();
        }
    }
}

impl Drop for TokenSessions {
    fn drop(&mut self) {
        let pool = self.pool.get_mut().unwrap_or_else(PoisonError::into_inner);
        let (Some(login), Some(module)) = (pool.current.take(), self.module.get()) else {
            return;
        };
        let module = Arc::clone(module);
        let close = move || {
            if let Some(_entered) = module.enter_again(login.generation) {
                for session in login.idle {
                    session.close();
                }
                login.keeper.close();
            }
        };
        // A task must not wait for a device. A thread of our own might still be in the module when
        // the process ends and destroys the module's state, which crashes the process. A runtime
        // waits for its blocking threads before that.
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(close)),
            Err(_) => close(),
        }
    }
}

impl TokenWork {
    /// Returns the cached result of a search.
    pub(super) fn known_key(&self, query: &ObjectQuery) -> Option<FoundObject> {
        let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.get(query).cloned()
    }

    pub(super) fn remember_key(&self, query: &ObjectQuery, key: &FoundObject) {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.len() >= MAX_KEYS {
            keys.clear();
        }
        keys.insert(query.clone(), key.clone());
    }
}

/// Longest time for a signature, less than the ten seconds that the client waits.
const LIMIT: Duration = Duration::from_secs(9);
/// Most key handles of a login. Each rotation adds one.
const MAX_KEYS: usize = 64;
