//! A loaded module with every user of the module in this crate.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::cryptoki_module::CryptokiModule;
use super::module::{CallFailed, Pkcs11Module};
use crate::error::Error;
use crate::secret::Secret;
use crate::time::TimeSource;

/// A module of the process, by its path. A finalize ends the module for all users in the process,
/// so all tokens of one module share this value.
pub(super) struct SharedModule {
    module: Box<dyn Pkcs11Module>,
    time: TimeSource,
    gate: Mutex<Gate>,
    changed: Condvar,
    /// Longest time that a restart waits for calls in the module.
    drain_limit: Duration,
    /// The last rejected PIN of each token, by serial number.
    rejected_pins: Mutex<HashMap<String, Secret>>,
}

/// The state that lets calls into the module, or a restart.
#[derive(Default)]
struct Gate {
    /// Number of the initialization. Sessions of another number are void.
    generation: u64,
    is_initialized: bool,
    is_restarting: bool,
    /// Number of threads that are in the module.
    running: usize,
    last_restart: Option<Instant>,
}

impl SharedModule {
    /// Returns the module at a path. The first call loads the library.
    pub(super) fn at(path: &Path) -> Result<Arc<Self>, Error> {
        // One library has several names, such as links. A name without a folder is searched for.
        let key = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let mut modules = MODULES.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, module)) = modules.iter().find(|(known, _)| *known == key) {
            return Ok(Arc::clone(module));
        }
        let module = CryptokiModule::load(path).map_err(|reason| {
            Error::config(format!(
                "the PKCS#11 module {} cannot be loaded: {reason}; check the path, and install the software of the HSM or the smart card",
                path.display()
            ))
        })?;
        let module = Arc::new(Self::new(Box::new(module), TimeSource::System));
        modules.push((key, Arc::clone(&module)));
        Ok(module)
    }

    pub(super) fn new(module: Box<dyn Pkcs11Module>, time: TimeSource) -> Self {
        Self {
            module,
            time,
            gate: Mutex::default(),
            changed: Condvar::new(),
            drain_limit: DRAIN_LIMIT,
            rejected_pins: Mutex::default(),
        }
    }

    /// Enters the module, and initializes the module if nobody has. The module is not finalized
    /// before the returned guard is dropped.
    pub(super) fn enter(&self) -> Result<Entered<'_>, CallFailed> {
        let mut gate = self.lock();
        while gate.is_restarting {
            gate = self
                .changed
                .wait(gate)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if !gate.is_initialized {
            self.module.initialize()?;
            gate.is_initialized = true;
        }
        gate.running += 1;
        Ok(Entered {
            shared: self,
            generation: gate.generation,
        })
    }

    /// Enters the module if the module has not been finalized since `generation`.
    pub(super) fn enter_again(&self, generation: u64) -> Option<Entered<'_>> {
        let mut gate = self.lock();
        if gate.generation != generation || !gate.is_initialized || gate.is_restarting {
            return None;
        }
        gate.running += 1;
        Some(Entered {
            shared: self,
            generation,
        })
    }

    /// Finalizes and initializes the module, unless someone has since `generation`.
    ///
    /// Returns whether a new look at the slots may help. There is at most one restart a minute,
    /// since a restart ends the sessions of everyone in the process. A call that does not return
    /// prevents a restart: nobody may finalize a module that is in use.
    pub(super) fn restart(&self, generation: u64) -> bool {
        let mut gate = self.lock();
        while gate.is_restarting {
            gate = self
                .changed
                .wait(gate)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if gate.generation != generation {
            return true;
        }
        let now = self.time.instant();
        let since = |last: Instant| now.saturating_duration_since(last);
        if gate
            .last_restart
            .is_some_and(|last| since(last) < RESTART_INTERVAL)
        {
            return false;
        }
        gate.is_restarting = true;
        let left = self
            .changed
            .wait_timeout_while(gate, self.drain_limit, |gate| gate.running > 0);
        let (mut gate, _) = left.unwrap_or_else(PoisonError::into_inner);
        let is_idle = gate.running == 0;
        if is_idle {
            gate.last_restart = Some(now);
            gate.generation += 1;
            // A failed finalize leaves an initialized module, which is as good.
            if let Err(error) = self.module.finalize() {
                tracing::debug!(%error, "the PKCS#11 module was not finalized");
            }
            gate.is_initialized = self.module.initialize().is_ok();
            tracing::warn!("the PKCS#11 module was initialized again");
        }
        gate.is_restarting = false;
        self.changed.notify_all();
        is_idle
    }

    /// Notes that somebody else in the process has finalized the module.
    pub(super) fn note_finalized(&self, generation: u64) {
        let mut gate = self.lock();
        if gate.generation == generation {
            gate.generation += 1;
            gate.is_initialized = false;
        }
    }

    /// Returns whether the token rejected this PIN, and no other PIN was tried since.
    pub(super) fn has_rejected(&self, serial_number: &str, pin: &Secret) -> bool {
        let rejected = self.rejected_pins.lock();
        let rejected = rejected.unwrap_or_else(PoisonError::into_inner);
        let last = rejected.get(serial_number);
        last.is_some_and(|last| last.expose() == pin.expose())
    }

    pub(super) fn remember_rejected(&self, serial_number: &str, pin: &Secret) {
        let rejected = self.rejected_pins.lock();
        let mut rejected = rejected.unwrap_or_else(PoisonError::into_inner);
        rejected.insert(serial_number.to_owned(), pin.clone());
    }

    fn lock(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
impl SharedModule {
    pub(super) fn drain_limit(mut self, limit: Duration) -> Self {
        self.drain_limit = limit;
        self
    }
}

/// The right to call the module.
pub(super) struct Entered<'a> {
    shared: &'a SharedModule,
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
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.shared.lock().running -= 1;
        self.shared.changed.notify_all();
    }
}

/// The modules of the process. A module stays loaded, since libraries of vendors start threads.
static MODULES: Mutex<Vec<(PathBuf, Arc<SharedModule>)>> = Mutex::new(Vec::new());

/// Shortest time between two restarts of a module.
const RESTART_INTERVAL: Duration = Duration::from_secs(60);
/// Default of the longest time that a restart waits for calls in the module.
const DRAIN_LIMIT: Duration = Duration::from_secs(2);
