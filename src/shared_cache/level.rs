//! The shared cache of one client: bounded calls, encryption, counters.

use std::error::Error as StdError;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::{Either, select};
use tokio::time::{sleep, timeout};

use super::circuit::StoreCircuit;
use super::name::RecordNames;
use super::options::SharedCacheOptions;
use super::record::{SessionRecord, StoredSession, TokenRecord, decode};
use super::seal::Sealer;
use super::stats::SharedCounters;
use super::store::{
    BeginRedemption, LockOutcome, LockOwner, NewRecord, PutOutcome, SharedCache, SharedCacheFuture,
    SharedRecord,
};
use crate::crypto::check_backend;
use crate::error::{Error, with_causes};
use crate::time::TimeSource;
use crate::token::{CacheKey, TokenBinding, TokenHash, UserKey};

/// The second level of a client's cache.
///
/// Every call is bounded, and counted if it fails. After a failure the circuit is open for some
/// seconds, in which every call fails at once.
pub(crate) struct SharedLevel {
    store: Arc<dyn SharedCache>,
    names: RecordNames,
    sealer: Sealer,
    circuit: StoreCircuit,
    /// Shared with the adapters for metrics.
    pub(crate) counters: Arc<SharedCounters>,
    call_timeout: Duration,
    session_lifetime: Duration,
    redeems_without_lock: bool,
    clock: TimeSource,
}

/// The content of a record, with the state that the store keeps beside it.
pub(crate) struct Versioned<T> {
    /// Zero if there is no record.
    pub(crate) generation: u64,
    /// `None` if there is no record that this client can use.
    pub(crate) content: Option<T>,
    pub(crate) redemption: Option<super::store::Redemption>,
    /// The time at which the record was read.
    read: Instant,
}

impl Versioned<TokenRecord> {
    /// Returns the content as of now, to be stored again.
    pub(crate) fn aged_content(self, now: Instant) -> Option<TokenRecord> {
        let age = now.saturating_duration_since(self.read);
        self.content.map(|content| content.aged(age))
    }
}

/// The outcome of taking a lock.
pub(crate) enum Locked<T> {
    Acquired(Versioned<T>),
    /// Another process holds the lock.
    Held(Versioned<T>),
}

/// The store did not respond as it should, or its circuit is open. Logged and counted already.
#[derive(Debug)]
pub(crate) struct StoreFailed;

impl SharedLevel {
    /// Checks the settings, and does no I/O.
    ///
    /// # Errors
    ///
    /// [`Error::Config`]
    pub(crate) fn new(
        store: Arc<dyn SharedCache>,
        options: SharedCacheOptions,
        authority: &str,
        client_id: &str,
        capabilities: &[String],
        clock: TimeSource,
    ) -> Result<Self, Error> {
        options.check()?;
        check_backend().map_err(|no_backend| Error::config(no_backend.to_string()))?;
        let names = RecordNames::new(options.prefix, options.name_key, authority, client_id);
        let names = names.capabilities(capabilities);
        Ok(Self {
            store,
            names,
            sealer: Sealer::new(options.keys),
            circuit: StoreCircuit::default(),
            counters: Arc::default(),
            call_timeout: options.call_timeout,
            session_lifetime: options.session_lifetime,
            redeems_without_lock: options.redeems_without_lock,
            clock,
        })
    }

    pub(crate) fn token_name(
        &self,
        key: &CacheKey,
        binding: TokenBinding,
    ) -> Result<String, Error> {
        self.names.of_token(key, binding)
    }

    pub(crate) fn session_name(&self, user: &UserKey) -> Result<String, Error> {
        self.names.of_session(user)
    }

    pub(crate) fn clock(&self) -> &TimeSource {
        &self.clock
    }

    /// Returns `true` if a fail-over of the store loses no mark of a redemption.
    pub(crate) fn replicates_redemptions(&self) -> bool {
        self.store.replicates_redemptions()
    }

    pub(crate) fn redeems_without_lock(&self) -> bool {
        self.redeems_without_lock
    }

    pub(crate) async fn get_token(
        &self,
        name: &str,
    ) -> Result<Versioned<TokenRecord>, StoreFailed> {
        let record = self.call("get", || self.store.get(name)).await?;
        Ok(self.token_record(name, record))
    }

    pub(crate) async fn get_session(
        &self,
        name: &str,
    ) -> Result<Versioned<SessionRecord>, StoreFailed> {
        let record = self.call("get", || self.store.get(name)).await?;
        Ok(self.session_record(name, record))
    }

    pub(crate) async fn lock_token(
        &self,
        name: &str,
        owner: &LockOwner,
    ) -> Result<Locked<TokenRecord>, StoreFailed> {
        let outcome = self.lock(name, owner).await?;
        Ok(locked(outcome, |record| self.token_record(name, record)))
    }

    pub(crate) async fn lock_session(
        &self,
        name: &str,
        owner: &LockOwner,
    ) -> Result<Locked<SessionRecord>, StoreFailed> {
        let outcome = self.lock(name, owner).await?;
        Ok(locked(outcome, |record| self.session_record(name, record)))
    }

    /// Takes or extends a lock. A failed call is repeated once by the same owner, because the
    /// first call may have taken effect.
    async fn lock(&self, name: &str, owner: &LockOwner) -> Result<LockOutcome, StoreFailed> {
        if !self.circuit.try_pass(&self.clock.now()) {
            return Err(StoreFailed);
        }
        let lock = || self.store.lock(name, owner, LOCK_LIFETIME);
        let first = self.bounded(lock).await;
        match first {
            Ok(outcome) => Ok(self.succeeded(outcome)),
            Err(_) => match self.bounded(lock).await {
                Ok(outcome) => Ok(self.succeeded(outcome)),
                Err(error) => Err(self.failed("lock", &*error)),
            },
        }
    }

    /// Runs a token request, and extends the lock until the request ends.
    pub(crate) async fn while_extending<T>(
        &self,
        name: &str,
        owner: &LockOwner,
        requesting: impl Future<Output = T>,
    ) -> T {
        let extending = async {
            loop {
                sleep(EXTEND_INTERVAL).await;
                let lock = || self.store.lock(name, owner, LOCK_LIFETIME);
                let _ = self.call("lock", lock).await;
            }
        };
        match select(pin!(requesting), pin!(extending)).await {
            Either::Left((outcome, _)) => outcome,
            Either::Right((never, _)) => never,
        }
    }

    /// Releases a lock. An error has no consequence, because the lock expires.
    pub(crate) async fn unlock(&self, name: &str, owner: &LockOwner) {
        let _ = self.call("unlock", || self.store.unlock(name, owner)).await;
    }

    /// Stores the outcome of a token request, also if the record was changed in the meantime.
    ///
    /// A token of another process is kept.
    pub(crate) async fn put_newest_token(
        &self,
        name: &str,
        generation: u64,
        record: TokenRecord,
    ) -> Result<(), StoreFailed> {
        match self.put_token(name, generation, record.clone()).await? {
            PutOutcome::Stored => return Ok(()),
            PutOutcome::Superseded => {}
        }
        let newer = self.get_token(name).await?;
        let content = newer.content.as_ref();
        if !content.is_some_and(TokenRecord::has_valid_token) {
            let generation = newer.generation.saturating_add(1);
            self.put_token(name, generation, record).await?;
        }
        Ok(())
    }

    /// Removes a token that an API rejected from its record, so that no process starts with it.
    ///
    /// No-op if a rejected token was replaced less than 30 seconds ago.
    pub(crate) async fn reject_token(&self, name: &str, rejected: TokenHash) {
        let Ok(found) = self.get_token(name).await else {
            return;
        };
        let generation = found.generation.saturating_add(1);
        if let Some(mut record) = found.content
            && record.has_token(rejected)
            && !record.has_recent_rejection()
        {
            record.token = None;
            record.reject(rejected);
            // On failure the next token request names the rejected token.
            let _ = self.put_token(name, generation, record).await;
        }
    }

    async fn put_token(
        &self,
        name: &str,
        generation: u64,
        record: TokenRecord,
    ) -> Result<PutOutcome, StoreFailed> {
        let (content, lifetime) = record.encode();
        let Ok(value) = self.sealer.seal(name, generation, content) else {
            return Err(StoreFailed);
        };
        let record = NewRecord::new(generation, value, lifetime);
        self.call("put", || self.store.put(name, record)).await
    }

    /// Stores a session, in place of one generation or of any earlier one.
    pub(super) async fn put_session(
        &self,
        name: &str,
        generation: u64,
        replaces: Option<u64>,
        record: &SessionRecord,
    ) -> Result<PutOutcome, StoreFailed> {
        let session = Some(record.clone());
        let content = StoredSession { session }.encode();
        let Ok(value) = self.sealer.seal(name, generation, content) else {
            return Err(StoreFailed);
        };
        let mut record = NewRecord::new(generation, value, self.session_lifetime);
        record.replaces = replaces;
        self.call("put", || self.store.put(name, record)).await
    }

    /// Stores that a user signed out, in place of one generation or of any earlier one.
    pub(super) async fn put_empty_session(
        &self,
        name: &str,
        generation: u64,
        replaces: Option<u64>,
    ) -> Result<PutOutcome, StoreFailed> {
        let content = StoredSession { session: None }.encode();
        let Ok(value) = self.sealer.seal(name, generation, content) else {
            return Err(StoreFailed);
        };
        let lifetime = REMEMBER_SIGN_OUT.min(self.session_lifetime);
        let mut record = NewRecord::new(generation, value, lifetime);
        record.replaces = replaces;
        self.call("put", || self.store.put(name, record)).await
    }

    /// Marks the refresh token of a session as being redeemed.
    pub(crate) async fn begin_redemption(
        &self,
        name: &str,
        owner: &LockOwner,
        generation: u64,
    ) -> Result<BeginRedemption, StoreFailed> {
        let begin = || self.store.begin_redemption(name, owner, generation);
        self.call("begin_redemption", begin).await
    }

    pub(super) async fn cancel_redemption(
        &self,
        name: &str,
        owner: &LockOwner,
        generation: u64,
    ) -> Result<(), StoreFailed> {
        let cancel = || self.store.cancel_redemption(name, owner, generation);
        self.call("cancel_redemption", cancel).await
    }

    async fn call<'a, T>(
        &self,
        operation: &'static str,
        start: impl FnOnce() -> SharedCacheFuture<'a, T>,
    ) -> Result<T, StoreFailed> {
        if !self.circuit.try_pass(&self.clock.now()) {
            return Err(StoreFailed);
        }
        match self.bounded(start).await {
            Ok(outcome) => Ok(self.succeeded(outcome)),
            Err(error) => Err(self.failed(operation, &*error)),
        }
    }

    async fn bounded<'a, T>(
        &self,
        start: impl FnOnce() -> SharedCacheFuture<'a, T>,
    ) -> Result<T, Box<dyn StdError + Send + Sync>> {
        // A panic of the store is a failed call, and ends no token request.
        let call = AssertUnwindSafe(async { start().await }).catch_unwind();
        match timeout(self.call_timeout, call).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err("the shared cache panicked".into()),
            Err(_) => {
                Err(format!("no response within {} ms", self.call_timeout.as_millis()).into())
            }
        }
    }

    fn succeeded<T>(&self, outcome: T) -> T {
        if self.circuit.close() {
            tracing::info!("the shared cache responds again");
        }
        outcome
    }

    fn failed(&self, operation: &'static str, error: &(dyn StdError + Send + Sync)) -> StoreFailed {
        self.counters.failures.add(1);
        if self.circuit.open(&self.clock.now()) {
            tracing::warn!(
                operation,
                error = %with_causes(error.to_string(), error.source()),
                "the shared cache failed; for some seconds tokens are acquired without it"
            );
        }
        StoreFailed
    }

    /// Counts and logs a record that could not be replaced. The store itself responds.
    pub(super) fn gives_up(&self, attempts: u32) -> StoreFailed {
        self.counters.failures.add(1);
        tracing::warn!(
            attempts,
            "the record of a user's session in the shared cache could not be replaced"
        );
        StoreFailed
    }

    fn token_record(&self, name: &str, record: Option<SharedRecord>) -> Versioned<TokenRecord> {
        let remaining = record.as_ref().map(|record| record.remaining);
        let mut versioned = self.versioned(name, record);
        let content: Option<TokenRecord> = versioned.content.take();
        versioned.content = content.map(|content| {
            let age = content.age(remaining.unwrap_or_default());
            content.aged(age)
        });
        versioned
    }

    fn session_record(&self, name: &str, record: Option<SharedRecord>) -> Versioned<SessionRecord> {
        let versioned: Versioned<StoredSession> = self.versioned(name, record);
        Versioned {
            generation: versioned.generation,
            content: versioned.content.and_then(|content| content.session),
            redemption: versioned.redemption,
            read: versioned.read,
        }
    }

    fn versioned<T: for<'a> serde::Deserialize<'a>>(
        &self,
        name: &str,
        record: Option<SharedRecord>,
    ) -> Versioned<T> {
        let content = record.as_ref().and_then(|record| {
            let opened = self.sealer.open(name, record)?;
            let content = decode(&opened);
            if content.is_none() {
                self.sealer.warn("its content cannot be parsed");
            }
            content
        });
        let (generation, redemption) = match record {
            Some(record) => (record.generation, record.redemption),
            None => (0, None),
        };
        Versioned {
            generation,
            content,
            redemption,
            read: self.clock.instant(),
        }
    }
}

fn locked<T>(
    outcome: LockOutcome,
    read: impl FnOnce(Option<SharedRecord>) -> Versioned<T>,
) -> Locked<T> {
    match outcome {
        LockOutcome::Acquired { record } => Locked::Acquired(read(record)),
        LockOutcome::Held { record, .. } => Locked::Held(read(record)),
    }
}

/// The lifetime of a lock. The holder extends the lock while it works, so a holder that was killed
/// delays the others by at most this time.
const LOCK_LIFETIME: Duration = Duration::from_secs(5);
/// The interval at which a holder extends its lock.
const EXTEND_INTERVAL: Duration = Duration::from_millis(1500);
/// The time for which the store remembers that a user signed out. No call of a process is delayed
/// for so long that it could sign the user in again.
const REMEMBER_SIGN_OUT: Duration = Duration::from_secs(10 * 60);
