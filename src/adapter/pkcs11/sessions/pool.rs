//! The pool of a token's sessions.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::super::module::{FoundObject, ObjectQuery, Pkcs11Mechanism, Pkcs11Session};
use super::super::shared_module::SharedModule;

/// The current login of a token, and the number of the next.
#[derive(Default)]
pub(super) struct SessionPool {
    pub(super) current: Option<LoggedIn>,
    pub(super) next: u64,
}

/// The state from one look at the slots until a call fails.
pub(super) struct LoggedIn {
    pub(super) number: u64,
    /// Number of the module's initialization.
    pub(super) generation: u64,
    pub(super) slot: u64,
    pub(super) mechanisms: Arc<[Pkcs11Mechanism]>,
    /// A session that is never used. Closing the last session of a process logs out.
    pub(super) keeper: Box<dyn Pkcs11Session>,
    pub(super) idle: Vec<Box<dyn Pkcs11Session>>,
    /// Number of callers that use, open or wait for a session.
    pub(super) in_use: usize,
    /// Number of callers that wait for a session, since the token allows no more.
    pub(super) waiting: usize,
    /// Handles of keys. A handle is invalid after a logout, also if the user logs in again.
    pub(super) keys: Arc<Mutex<HashMap<ObjectQuery, FoundObject>>>,
}

/// The share of one attempt in a login.
pub(super) struct Ticket {
    pub(super) number: u64,
    pub(super) slot: u64,
    pub(super) idle: Option<Box<dyn Pkcs11Session>>,
    pub(super) mechanisms: Arc<[Pkcs11Mechanism]>,
    pub(super) keys: Arc<Mutex<HashMap<ObjectQuery, FoundObject>>>,
}

impl SessionPool {
    /// Returns the current login if it has a number.
    pub(super) fn login(&mut self, number: u64) -> Option<&mut LoggedIn> {
        self.current.as_mut().filter(|login| login.number == number)
    }
}

impl LoggedIn {
    pub(super) fn ticket(&mut self) -> Ticket {
        self.in_use += 1;
        Ticket {
            number: self.number,
            slot: self.slot,
            idle: self.idle.pop(),
            mechanisms: Arc::clone(&self.mechanisms),
            keys: Arc::clone(&self.keys),
        }
    }
}

/// A session for one attempt, with what is known of the token.
pub(in crate::adapter::pkcs11) struct TokenWork {
    pub(in crate::adapter::pkcs11) session: Box<dyn Pkcs11Session>,
    pub(in crate::adapter::pkcs11) mechanisms: Arc<[Pkcs11Mechanism]>,
    pub(super) keys: Arc<Mutex<HashMap<ObjectQuery, FoundObject>>>,
}

impl TokenWork {
    /// Returns the cached result of a search.
    pub(in crate::adapter::pkcs11) fn known_key(&self, query: &ObjectQuery) -> Option<FoundObject> {
        let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.get(query).cloned()
    }

    pub(in crate::adapter::pkcs11) fn remember_key(&self, query: &ObjectQuery, key: &FoundObject) {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.len() >= MAX_KEYS {
            keys.clear();
        }
        keys.insert(query.clone(), key.clone());
    }
}

/// The sessions of a login that nobody uses any more. A drop closes the sessions.
pub(super) struct UnusedLogin {
    pub(super) login: Option<LoggedIn>,
    pub(super) module: Arc<SharedModule>,
}

impl Drop for UnusedLogin {
    fn drop(&mut self) {
        let Some(login) = self.login.take() else {
            return;
        };
        if let Some(_entered) = self.module.enter_again(login.generation) {
            for session in login.idle {
                session.close();
            }
            login.keeper.close();
        }
    }
}

/// Most key handles of a login. Each rotation adds one.
const MAX_KEYS: usize = 64;
