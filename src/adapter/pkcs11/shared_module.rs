//! A loaded module with every user of the module in this crate.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::cryptoki_module::CryptokiModule;
use super::failure::{self, EnterFailed};
use super::module::Pkcs11Module;
use super::token_logins::TokenLogins;
use super::turn::{Locked, Turn};
use crate::error::Error;
use crate::time::TimeSource;

/// A module of the process, by its path. A finalize ends the module for all users in the process,
/// so all tokens of one module share this value.
pub(super) struct SharedModule {
    module: Box<dyn Pkcs11Module>,
    time: TimeSource,
    /// The turn is that of the caller that initializes or finalizes the module.
    gate: Turn<Gate>,
    /// Longest time that a restart waits for calls in the module.
    drain_limit: Duration,
    pub(super) logins: Arc<TokenLogins>,
    process_id: fn() -> u32,
}

/// The state that lets calls into the module, or a restart.
#[derive(Default)]
struct Gate {
    /// The process that the rest is about. A forked process has a copy of its parent's state.
    process: u32,
    /// Number of the initialization. Sessions of another number are void.
    generation: u64,
    is_initialized: bool,
    next_entry: u64,
    /// Numbers of the threads that are in the module.
    running: BTreeSet<u64>,
    /// The oldest thread that was still in the module when a restart gave up.
    stuck: Option<u64>,
    last_restart: Option<Instant>,
}

impl Gate {
    /// Forgets the threads of the parent process, and voids the sessions of the parent.
    fn follow_fork(&mut self, process: u32) {
        if self.process != process {
            *self = Self {
                process,
                generation: self.generation + 1,
                ..Self::default()
            };
        }
    }
}

impl SharedModule {
    /// Returns the module at a path. The first call loads the library.
    pub(super) fn at(path: &Path, deadline: Instant) -> Result<Arc<Self>, Error> {
        // One library has several names, such as links. A name without a folder is searched for.
        let key = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let loaded = {
            let mut modules = MODULES.lock().unwrap_or_else(PoisonError::into_inner);
            match modules.iter().find(|(known, _)| *known == key) {
                Some((_, loaded)) => Arc::clone(loaded),
                None => {
                    let loaded = Loading::default();
                    modules.push((key.clone(), Arc::clone(&loaded)));
                    loaded
                }
            }
        };
        let Some(free) = loaded.lock_free(deadline) else {
            return Err(failure::busy_module(&path.display().to_string()));
        };
        if let Some(module) = &free.value {
            return Ok(Arc::clone(module));
        }
        // A library runs code of its own while it is loaded.
        let turn = loaded.take(free, deadline);
        let module = CryptokiModule::load(path).map_err(|reason| {
            let mut modules = MODULES.lock().unwrap_or_else(PoisonError::into_inner);
            modules.retain(|(known, _)| *known != key);
            Error::config(format!(
                "the PKCS#11 module {} cannot be loaded: {reason}; check the path, and install the software of the HSM or the smart card",
                path.display()
            ))
        })?;
        let module = Self::new(
            Box::new(module),
            TimeSource::System,
            TokenLogins::of_process(),
        );
        let module = Arc::new(module);
        turn.lock().value = Some(Arc::clone(&module));
        Ok(module)
    }

    pub(super) fn new(
        module: Box<dyn Pkcs11Module>,
        time: TimeSource,
        logins: Arc<TokenLogins>,
    ) -> Self {
        Self {
            module,
            time,
            gate: Turn::default(),
            drain_limit: DRAIN_LIMIT,
            logins,
            process_id: std::process::id,
        }
    }

    /// Enters the module, and initializes the module if nobody has. The module is not finalized
    /// before the returned guard is dropped.
    pub(super) fn enter(&self, deadline: Instant) -> Result<Entered<'_>, EnterFailed> {
        loop {
            let mut gate = self.gate.lock_free(deadline).ok_or(EnterFailed::Busy)?;
            gate.value.follow_fork((self.process_id)());
            if gate.value.is_initialized {
                return Ok(self.entered(gate));
            }
            let turn = self.gate.take(gate, deadline);
            self.module.initialize().map_err(EnterFailed::Call)?;
            turn.lock().value.is_initialized = true;
        }
    }

    /// Enters the module if the module has not been finalized since `generation`.
    pub(super) fn enter_again(&self, generation: u64) -> Option<Entered<'_>> {
        // A turn in progress voids the sessions.
        let gate = self.gate.lock_free(Instant::now())?;
        let is_current = gate.value.process == (self.process_id)()
            && gate.value.generation == generation
            && gate.value.is_initialized;
        is_current.then(|| self.entered(gate))
    }

    fn entered(&self, mut gate: Locked<'_, Gate>) -> Entered<'_> {
        let gate = &mut gate.value;
        let number = gate.next_entry;
        gate.next_entry += 1;
        gate.running.insert(number);
        Entered {
            shared: self,
            number,
            generation: gate.generation,
        }
    }

    /// Finalizes the module, unless someone has since `generation`. The next call initializes the
    /// module.
    ///
    /// Returns whether a new look at the slots may help. There is at most one restart a minute,
    /// since a restart ends the sessions of everyone in the process. A call that does not return
    /// prevents a restart: nobody may finalize a module that is in use. Nobody waits for that call
    /// a second time.
    pub(super) fn restart(&self, generation: u64, deadline: Instant) -> bool {
        let Some(gate) = self.gate.lock_free(deadline) else {
            return false;
        };
        if gate.value.generation != generation {
            return true;
        }
        let now = self.time.instant();
        let since = |last: Instant| now.saturating_duration_since(last);
        let last = gate.value.last_restart;
        let stuck = gate.value.stuck;
        if last.is_some_and(|last| since(last) < RESTART_INTERVAL)
            || stuck.is_some_and(|stuck| gate.value.running.contains(&stuck))
        {
            return false;
        }
        let turn = self.gate.take(gate, deadline);
        let drained = deadline.min(Instant::now() + self.drain_limit);
        let mut gate = self
            .gate
            .wait_while(turn.lock(), drained, |gate| !gate.running.is_empty());
        gate.value.stuck = gate.value.running.first().copied();
        if gate.value.stuck.is_some() {
            return false;
        }
        gate.value.last_restart = Some(now);
        gate.value.generation += 1;
        gate.value.is_initialized = false;
        drop(gate);
        match self.module.finalize() {
            Ok(()) => tracing::warn!("the PKCS#11 module was finalized to be initialized again"),
            // The module stays initialized, which is as good.
            Err(error) => tracing::debug!(%error, "the PKCS#11 module was not finalized"),
        }
        true
    }

    /// Notes that somebody else in the process has finalized the module.
    pub(super) fn note_finalized(&self, generation: u64) {
        let mut gate = self.gate.lock();
        if gate.value.generation == generation {
            gate.value.generation += 1;
            gate.value.is_initialized = false;
        }
    }
}

#[cfg(test)]
impl SharedModule {
    pub(super) fn drain_limit(mut self, limit: Duration) -> Self {
        self.drain_limit = limit;
        self
    }

    pub(super) fn process_id(mut self, process_id: fn() -> u32) -> Self {
        self.process_id = process_id;
        self
    }
}

/// The right to call the module.
pub(super) struct Entered<'a> {
    shared: &'a SharedModule,
    number: u64,
    generation: u64,
}

impl Entered<'_> {
    pub(super) fn module(&self) -> &dyn Pkcs11Module {
        &*self.shared.module
    }

    /// Returns the number of the initialization.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) fn logins(&self) -> &TokenLogins {
        &self.shared.logins
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.shared.gate.lock().value.running.remove(&self.number);
        self.shared.gate.notify();
    }
}

/// The modules of the process. A module stays loaded, since libraries of vendors start threads.
static MODULES: Mutex<Vec<(PathBuf, Loading)>> = Mutex::new(Vec::new());

/// A module that is loaded or being loaded.
type Loading = Arc<Turn<Option<Arc<SharedModule>>>>;

/// Shortest time between two restarts of a module.
const RESTART_INTERVAL: Duration = Duration::from_secs(60);
/// Default of the longest time that a restart waits for calls in the module.
const DRAIN_LIMIT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_that_cannot_be_loaded_is_not_remembered() {
        let path = Path::new("/nonexistent/forgotten.so");
        for _ in 0..2 {
            let error = SharedModule::at(path, Instant::now()).err();
            let text = error.map(|error| error.to_string()).unwrap_or_default();
            assert!(text.contains("cannot be loaded"), "{text}");
        }
        let modules = MODULES.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(!modules.iter().any(|(known, _)| known == path));
    }
}
