//! The sessions of one token, and what becomes of them when a call fails.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::{Duration, Instant};

use cryptoki::error::RvError;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::timeout_at;

use super::failure::{self, AttemptFailed};
use super::module::Pkcs11Session;
use super::selection::TokenSelection;
use super::shared_module::{Entered, SharedModule};
use super::turn::Turn;
use crate::error::{Error, Failure};
use crate::secret::Secret;
use crate::time::format_limit;

mod login;
mod pool;

pub(super) use login::TokenPin;
pub(super) use pool::TokenWork;
use pool::{SessionPool, Ticket, UnusedLogin};

/// The sessions of one token, in a pool that all clones share.
pub(super) struct TokenSessions {
    pub(super) path: PathBuf,
    pub(super) selection: TokenSelection,
    pub(super) pin: TokenPin,
    pub(super) max_sessions: usize,
    /// Longest time for a signature. A signer has ten seconds.
    pub(super) limit: Duration,
    pub(super) module: OnceLock<Arc<SharedModule>>,
    /// The turn is that of the caller that logs in.
    pool: Turn<SessionPool>,
    /// True once the token was found.
    was_present: AtomicBool,
    /// One permit for each thread that may be in the module.
    permits: Arc<Semaphore>,
    /// One permit for each thread of the process that may be in a module.
    pub(super) threads: Arc<Semaphore>,
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
            pool: Turn::default(),
            was_present: AtomicBool::new(false),
            permits: Arc::new(Semaphore::new(max_sessions)),
            threads: Arc::clone(&THREADS),
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
            let permits = self.permits(deadline).await?;
            let (this, job) = (Arc::clone(self), Arc::clone(&job));
            let has_pin = pin.is_some();
            let call = spawn_blocking(move || {
                let result = this.attempts(&mut recoveries, pin.as_ref(), &*job, deadline);
                drop(permits);
                (result, recoveries)
            });
            let result = match timeout_at(deadline.into(), call).await {
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

    /// Waits for the right to use a thread of the blocking thread pool.
    async fn permits(&self, deadline: Instant) -> Result<[OwnedSemaphorePermit; 2], Error> {
        let acquire = async |semaphore: &Arc<Semaphore>| {
            let permit = Arc::clone(semaphore).acquire_owned();
            timeout_at(deadline.into(), permit).await.ok()?.ok()
        };
        let session = acquire(&self.permits)
            .await
            .ok_or_else(|| self.too_busy())?;
        let thread = acquire(&self.threads)
            .await
            .ok_or_else(|| self.too_many())?;
        Ok([session, thread])
    }

    /// Attempts the job, and recovers at most once in each way.
    fn attempts<T>(
        &self,
        recoveries: &mut Recoveries,
        pin: Option<&Secret>,
        job: &dyn Fn(&TokenWork) -> Result<T, AttemptFailed>,
        deadline: Instant,
    ) -> Result<T, AttemptFailed> {
        // Without a caller, nobody needs a login or a signature.
        let is_late = || Instant::now() >= deadline;
        if is_late() {
            return Err(AttemptFailed::Final(self.too_slow()));
        }
        // A thread that gives up waiting gives up before the caller does, who so gets the reason.
        let patience = deadline - self.limit / 8;
        let module = self.module(patience).map_err(AttemptFailed::Final)?;
        // A keeper and the number of its initialization.
        let mut retired: Option<(u64, Box<dyn Pkcs11Session>)> = None;
        loop {
            let entered = module.enter(patience).map_err(|failed| {
                let path = self.path.display().to_string();
                AttemptFailed::Final(failure::not_entered(failed, &path))
            })?;
            let login = self.logged_in(&entered, pin, patience);
            // The new keeper is open, so a login that still counts stays.
            if let Some((generation, keeper)) = retired.take()
                && generation == entered.generation()
            {
                keeper.close();
            }
            let (result, number) = match login {
                Ok(ticket) => {
                    let number = ticket.number;
                    (self.attempt(&entered, ticket, job, patience), Some(number))
                }
                Err(error) => (Err(error), None),
            };
            match result {
                Err(AttemptFailed::Stale { is_finalized, .. })
                    if !recoveries.has_looked_again && !is_late() =>
                {
                    recoveries.has_looked_again = true;
                    match is_finalized {
                        true => module.note_finalized(entered.generation()),
                        false => {
                            let keeper = number.and_then(|number| self.retire(number));
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
                    if !module.restart(generation, patience) {
                        return Err(AttemptFailed::Final(error));
                    }
                }
                result => return result,
            }
        }
    }

    /// Attempts the job once.
    fn attempt<T>(
        &self,
        entered: &Entered<'_>,
        ticket: Ticket,
        job: &dyn Fn(&TokenWork) -> Result<T, AttemptFailed>,
        deadline: Instant,
    ) -> Result<T, AttemptFailed> {
        let number = ticket.number;
        let session = match ticket.idle {
            Some(session) => Ok(session),
            None => self.open_session(entered, number, ticket.slot, deadline),
        };
        let work = match session {
            Ok(session) => TokenWork {
                session,
                mechanisms: ticket.mechanisms,
                keys: ticket.keys,
            },
            Err(error) => {
                self.give_back(number, None);
                return Err(error);
            }
        };
        let result = job(&work);
        match &result {
            Ok(_) => self.give_back(number, Some(work.session)),
            Err(error) => {
                // After a finalize by another part, the number may belong to that part's session.
                if !matches!(
                    error,
                    AttemptFailed::Stale {
                        is_finalized: true,
                        ..
                    }
                ) {
                    // A failed call may leave an operation that is still active.
                    work.session.close();
                }
                self.give_back(number, None);
            }
        }
        result
    }

    /// Opens a session, or waits for a session of the pool if the token allows no more.
    fn open_session(
        &self,
        entered: &Entered<'_>,
        number: u64,
        slot: u64,
        deadline: Instant,
    ) -> Result<Box<dyn Pkcs11Session>, AttemptFailed> {
        let open = || entered.module().open_session(slot);
        let failed = |call| AttemptFailed::of(call, &self.selection.to_string(), None);
        match open() {
            Err(call) if call.code == Some(RvError::SessionCount) => {}
            opened => return opened.map_err(failed),
        }
        let others_work = |pool: &SessionPool| match &pool.current {
            Some(login) if login.number == number => {
                login.idle.is_empty() && login.in_use > login.waiting
            }
            _ => false,
        };
        let mut pool = self.pool.lock();
        if let Some(login) = pool.value.login(number) {
            login.waiting += 1;
        }
        self.pool.notify();
        let mut pool = self.pool.wait_while(pool, deadline, others_work);
        let idle = pool.value.login(number).and_then(|login| {
            login.waiting -= 1;
            login.idle.pop()
        });
        drop(pool);
        // A session may have been closed instead.
        idle.map_or_else(|| open().map_err(failed), Ok)
    }

    /// Returns a place in the login of the pool, or logs in.
    fn logged_in(
        &self,
        entered: &Entered<'_>,
        pin: Option<&Secret>,
        deadline: Instant,
    ) -> Result<Ticket, AttemptFailed> {
        let Some(mut pool) = self.pool.lock_free(deadline) else {
            let token = self.selection.to_string();
            return Err(AttemptFailed::Final(failure::busy_login(&token)));
        };
        match &mut pool.value.current {
            Some(login) if login.generation >= entered.generation() => return Ok(login.ticket()),
            // Sessions of an earlier initialization are void, and are dropped without a close.
            current => *current = None,
        }
        let number = pool.value.next;
        pool.value.next += 1;
        let turn = self.pool.take(pool, deadline);
        let mut login = self.log_in(number, entered, pin, deadline)?;
        let ticket = login.ticket();
        turn.lock().value.current = Some(login);
        Ok(ticket)
    }

    /// Ends the use of a session, which returns to the pool unless the pool has another login.
    fn give_back(&self, number: u64, session: Option<Box<dyn Pkcs11Session>>) {
        let left = {
            let mut pool = self.pool.lock();
            match pool.value.login(number) {
                Some(login) => {
                    login.in_use -= 1;
                    login.idle.extend(session);
                    None
                }
                None => session,
            }
        };
        self.pool.notify();
        if let Some(session) = left {
            session.close();
        }
    }

    /// Ends a login and closes its idle sessions. Returns the keeper.
    fn retire(&self, number: u64) -> Option<Box<dyn Pkcs11Session>> {
        let is_same = |login: &mut pool::LoggedIn| login.number == number;
        let login = self.pool.lock().value.current.take_if(is_same)?;
        self.pool.notify();
        for session in login.idle {
            session.close();
        }
        Some(login.keeper)
    }

    fn module(&self, deadline: Instant) -> Result<Arc<SharedModule>, Error> {
        if let Some(module) = self.module.get() {
            return Ok(Arc::clone(module));
        }
        let module = SharedModule::at(&self.path, deadline)?;
        Ok(Arc::clone(self.module.get_or_init(|| module)))
    }

    fn too_busy(&self) -> Error {
        failure::transient(format!(
            "all {} sessions of {} are in use, and none became free within {}; is the token too slow, max_sessions too small, or does the module hang?",
            self.max_sessions,
            self.selection,
            format_limit(self.limit)
        ))
    }

    fn too_many(&self) -> Error {
        failure::transient(format!(
            "all {MAX_THREADS} threads that the process has for PKCS#11 modules are in use, and none became free for {} within {}; restart the program if a module hangs",
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
        let pool = self.pool.lock();
        let current = pool.value.current.as_ref();
        current.map_or(0, |login| login.idle.len())
    }

    pub(super) fn free_permits(&self) -> usize {
        self.permits.available_permits()
    }

    /// Ends the login, as a failed call of another caller does.
    pub(super) fn retire_current(&self) {
        let number = {
            let pool = self.pool.lock();
            pool.value.current.as_ref().map(|login| login.number)
        };
        if let Some(keeper) = number.and_then(|number| self.retire(number)) {
            keeper.close();
        }
    }
}

impl Drop for TokenSessions {
    fn drop(&mut self) {
        let Some(module) = self.module.get() else {
            return;
        };
        let unused = UnusedLogin {
            login: self.pool.lock().value.current.take(),
            module: Arc::clone(module),
        };
        // A task must not wait for a device. A thread of our own might still be in the module when
        // the process ends and destroys the module's state, which crashes the process. A runtime
        // waits for its blocking threads before that. A runtime that ends drops its waiting work,
        // which closes the sessions, too.
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || drop(unused))),
            Err(_) => drop(unused),
        }
    }
}

/// Longest time for a signature, less than the ten seconds that the client waits.
const LIMIT: Duration = Duration::from_secs(9);
/// Most threads of the process in modules at once. tokio's blocking thread pool has 512, which
/// calls that hang must not use up.
const MAX_THREADS: usize = 128;
static THREADS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(MAX_THREADS)));
