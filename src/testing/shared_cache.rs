use std::collections::{HashMap, VecDeque};
use std::error::Error as StdError;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use crate::cache::{
    BeginRedemption, LockOutcome, LockOwner, NewRecord, PutOutcome, Redemption, SharedCache,
    SharedCacheFuture, SharedRecord,
};
use crate::time::{Clock, Deadline, Now, TimeSource};

/// A shared cache in memory, for tests of several clients without a server.
///
/// All clones share the records. Two clients with clones of one `LocalSharedCache` behave like two
/// processes with one Redis.
///
/// ```
/// use confidential_client::cache::{EncryptionKey, SharedCacheOptions};
/// use confidential_client::testing::{Application, LocalAuthority, LocalSharedCache};
/// use confidential_client::{ConfidentialClient, TokenSource};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let local = LocalAuthority::start().await?;
/// local.register("contoso.com", Application::new("client").secret("the secret's value"));
/// let store = LocalSharedCache::new();
/// let replica = || {
///     let key = EncryptionKey::from_bytes([7; 32]);
///     let options = SharedCacheOptions::encrypted("a name key of the test", [key]);
///     ConfidentialClient::builder("client")
///         .authority(local.authority("contoso.com"))
///         .client_secret("the secret's value")
///         .shared_cache(store.clone(), options)
///         .build()
/// };
/// let (first, second) = (replica()?, replica()?);
///
/// let token = first.acquire_token_for_client("api://orders/.default").await?;
/// assert_eq!(token.source(), TokenSource::IdentityProvider);
/// let same = second.acquire_token_for_client("api://orders/.default").await?;
/// assert_eq!(same.source(), TokenSource::SharedCache);
/// assert_eq!(local.token_requests().len(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct LocalSharedCache(Arc<Mutex<StoreState>>);

struct StoreState {
    clock: TimeSource,
    records: HashMap<String, Entry>,
    locks: HashMap<String, (LockOwner, Deadline)>,
    script: VecDeque<StoreFault>,
    outage: Option<(StoreFault, Option<&'static str>)>,
    calls: Vec<&'static str>,
}

struct Entry {
    generation: u64,
    value: Bytes,
    expires: Deadline,
    redemption: Option<(LockOwner, Now)>,
}

/// A fault of a [`LocalSharedCache`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreFault {
    /// The call fails at once, and has no effect.
    Error,
    /// The call never ends, and has no effect.
    Hang,
    /// The call takes effect and never ends, as after a lost response.
    LostResponse,
}

impl LocalSharedCache {
    /// Creates an empty store, whose clock is the system's.
    #[expect(
        clippy::new_without_default,
        reason = "as for the other doubles, creating one is explicit"
    )]
    pub fn new() -> Self {
        Self::with(TimeSource::System)
    }

    /// Creates an empty store with a clock of the test.
    pub fn with_clock(clock: impl Clock) -> Self {
        Self::with(TimeSource::Injected(Arc::new(clock)))
    }

    fn with(clock: TimeSource) -> Self {
        Self(Arc::new(Mutex::new(StoreState {
            clock,
            records: HashMap::new(),
            locks: HashMap::new(),
            script: VecDeque::new(),
            outage: None,
            calls: Vec::new(),
        })))
    }

    /// Applies faults to the next calls, one each.
    pub fn script(&self, faults: impl IntoIterator<Item = StoreFault>) {
        self.lock_state().script.extend(faults);
    }

    /// Applies a fault to every call until [`end_outage`](Self::end_outage).
    pub fn begin_outage(&self, fault: StoreFault) {
        self.lock_state().outage = Some((fault, None));
    }

    /// Applies a fault to every call of one method of [`SharedCache`], such as `put`, until
    /// [`end_outage`](Self::end_outage).
    pub fn begin_outage_of(&self, method: &'static str, fault: StoreFault) {
        self.lock_state().outage = Some((fault, Some(method)));
    }

    /// Ends an outage.
    pub fn end_outage(&self) {
        self.lock_state().outage = None;
    }

    /// Removes all records and locks, as a restart without persistence does.
    pub fn clear(&self) {
        let mut state = self.lock_state();
        state.records.clear();
        state.locks.clear();
    }

    /// Releases all locks, as if their lifetimes were over.
    pub fn expire_locks(&self) {
        self.lock_state().locks.clear();
    }

    /// Returns the names of the records.
    pub fn names(&self) -> Vec<String> {
        self.lock_state().records.keys().cloned().collect()
    }

    /// Returns the value of a record, as the client encrypted it.
    pub fn value(&self, name: &str) -> Option<Bytes> {
        let state = self.lock_state();
        state.records.get(name).map(|entry| entry.value.clone())
    }

    /// Replaces the value of a record, and keeps its generation.
    ///
    /// Returns `false` if there is no such record.
    pub fn set_value(&self, name: &str, value: impl Into<Bytes>) -> bool {
        let mut state = self.lock_state();
        let entry = state.records.get_mut(name);
        entry.map(|entry| entry.value = value.into()).is_some()
    }

    /// Returns the methods of [`SharedCache`] that were called, in order.
    pub fn calls(&self) -> Vec<&'static str> {
        self.lock_state().calls.clone()
    }

    fn lock_state(&self) -> MutexGuard<'_, StoreState> {
        // No code panics under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn call<'a, T: Send + 'static>(
        &'a self,
        method: &'static str,
        operation: impl FnOnce(&mut StoreState, Now) -> T + Send + 'a,
    ) -> SharedCacheFuture<'a, T> {
        Box::pin(async move {
            let (fault, outcome) = {
                let mut state = self.lock_state();
                state.calls.push(method);
                let scripted = state.script.pop_front();
                let outage = state
                    .outage
                    .filter(|(_, of)| of.is_none_or(|of| of == method));
                let fault = scripted.or(outage.map(|(fault, _)| fault));
                let takes_effect = matches!(fault, None | Some(StoreFault::LostResponse));
                let outcome = takes_effect.then(|| {
                    let now = state.clock.now();
                    state.remove_expired(&now);
                    operation(&mut state, now)
                });
                (fault, outcome)
            };
            match (fault, outcome) {
                (None, Some(outcome)) => Ok(outcome),
                (Some(StoreFault::Error), _) => Err("the store is down".into()),
                _ => std::future::pending::<Result<T, Box<dyn StdError + Send + Sync>>>().await,
            }
        })
    }
}

impl StoreState {
    fn remove_expired(&mut self, now: &Now) {
        self.records.retain(|_, entry| !entry.expires.reached(now));
        self.locks.retain(|_, (_, expires)| !expires.reached(now));
    }

    fn record(&self, name: &str, now: &Now) -> Option<SharedRecord> {
        let entry = self.records.get(name)?;
        let remaining = entry.expires.remaining(now);
        let record = SharedRecord::new(entry.generation, entry.value.clone(), remaining);
        Some(match &entry.redemption {
            Some((owner, since)) => {
                let age = since.plus(Duration::ZERO).since(now);
                record.redemption(Redemption::new(owner.clone(), age))
            }
            None => record,
        })
    }

    fn holds(&self, name: &str, owner: &LockOwner) -> bool {
        self.locks
            .get(name)
            .is_some_and(|(holder, _)| holder == owner)
    }
}

impl SharedCache for LocalSharedCache {
    fn get<'a>(&'a self, name: &'a str) -> SharedCacheFuture<'a, Option<SharedRecord>> {
        self.call("get", |state, now| state.record(name, &now))
    }

    fn put<'a>(&'a self, name: &'a str, record: NewRecord) -> SharedCacheFuture<'a, PutOutcome> {
        self.call("put", move |state, now| {
            let existing = state.records.get(name).map(|existing| existing.generation);
            let is_replaced = match record.replaces {
                Some(generation) => existing == Some(generation),
                None => existing.is_none_or(|existing| existing < record.generation),
            };
            if !is_replaced {
                return PutOutcome::Superseded;
            }
            let entry = Entry {
                generation: record.generation,
                value: record.value,
                expires: now.plus(record.lifetime),
                redemption: None,
            };
            state.records.insert(name.to_owned(), entry);
            PutOutcome::Stored
        })
    }

    fn lock<'a>(
        &'a self,
        name: &'a str,
        owner: &'a LockOwner,
        lifetime: Duration,
    ) -> SharedCacheFuture<'a, LockOutcome> {
        self.call("lock", move |state, now| {
            let record = state.record(name, &now);
            match state.locks.get(name) {
                Some((holder, expires)) if holder != owner => LockOutcome::Held {
                    remaining: expires.remaining(&now),
                    record,
                },
                _ => {
                    let lock = (owner.clone(), now.plus(lifetime));
                    state.locks.insert(name.to_owned(), lock);
                    LockOutcome::Acquired { record }
                }
            }
        })
    }

    fn unlock<'a>(&'a self, name: &'a str, owner: &'a LockOwner) -> SharedCacheFuture<'a, ()> {
        self.call("unlock", move |state, _| {
            if state.holds(name, owner) {
                state.locks.remove(name);
            }
        })
    }

    fn begin_redemption<'a>(
        &'a self,
        name: &'a str,
        owner: &'a LockOwner,
        generation: u64,
    ) -> SharedCacheFuture<'a, BeginRedemption> {
        self.call("begin_redemption", move |state, now| {
            if !state.holds(name, owner) {
                return BeginRedemption::NotLocked;
            }
            match state.records.get_mut(name) {
                Some(entry) if entry.generation == generation => match entry.redemption {
                    Some(_) => BeginRedemption::InProgress,
                    None => {
                        entry.redemption = Some((owner.clone(), now));
                        BeginRedemption::Begun
                    }
                },
                _ => BeginRedemption::OtherGeneration,
            }
        })
    }

    fn cancel_redemption<'a>(
        &'a self,
        name: &'a str,
        owner: &'a LockOwner,
        generation: u64,
    ) -> SharedCacheFuture<'a, ()> {
        self.call("cancel_redemption", move |state, _| {
            if let Some(entry) = state.records.get_mut(name)
                && entry.generation == generation
                && entry.redemption.as_ref().is_some_and(|(by, _)| by == owner)
            {
                entry.redemption = None;
            }
        })
    }
}

impl fmt::Debug for LocalSharedCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock_state();
        f.debug_struct("LocalSharedCache")
            .field("records", &state.records.len())
            .field("locks", &state.locks.len())
            .field("outage", &state.outage)
            .finish_non_exhaustive()
    }
}
