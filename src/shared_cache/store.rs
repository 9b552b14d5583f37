use std::error::Error as StdError;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

/// The future of a [`SharedCache`] method, with the result or the error of the store.
pub type SharedCacheFuture<'a, T> =
    Pin<Box<dyn Future<Output = Result<T, Box<dyn StdError + Send + Sync>>> + Send + 'a>>;

/// A store of token records that the processes of an application share, such as Redis.
///
/// The client encrypts each value and hashes each name before a method is called. A store sees
/// neither a token nor a tenant. The client ends every call after
/// [`call_timeout`](super::SharedCacheOptions::call_timeout), and calls no method for a cache hit.
///
/// A name has a record and a lock. A record has a generation, and a later generation replaces an
/// earlier one. Each method is atomic with regard to the record and the lock of the name.
///
/// An error means that the outcome is unknown. A method that timed out may still take effect.
/// Therefore [`lock`](Self::lock) succeeds again for the same owner, and a second
/// [`put`](Self::put) of the same generation changes nothing.
///
/// A store must not retry by itself, because the client bounds each call and retries.
///
/// The example `file_store` in the repository implements the trait over files. The file
/// `checks.rs` of the example checks each rule of the trait, for the tests of any store.
#[doc(alias = "IDistributedCache")]
#[doc(alias = "ICachePlugin")]
pub trait SharedCache: Send + Sync + 'static {
    /// Returns the record of a name.
    ///
    /// # Errors
    ///
    /// The store did not respond, or its record cannot be read.
    fn get<'a>(&'a self, name: &'a str) -> SharedCacheFuture<'a, Option<SharedRecord>>;

    /// Stores a record, if the record of the name is the one that [`NewRecord`] replaces.
    ///
    /// The new record has no [`Redemption`]. The lock does not change.
    ///
    /// # Errors
    ///
    /// The store did not respond. The record may have been stored.
    fn put<'a>(&'a self, name: &'a str, record: NewRecord) -> SharedCacheFuture<'a, PutOutcome>;

    /// Takes the lock of a name, or extends the lock if `owner` holds it. Returns the record of
    /// the name, too.
    ///
    /// The lock expires after `lifetime` by the clock of the store.
    ///
    /// # Errors
    ///
    /// The store did not respond. The lock may have been taken.
    fn lock<'a>(
        &'a self,
        name: &'a str,
        owner: &'a LockOwner,
        lifetime: Duration,
    ) -> SharedCacheFuture<'a, LockOutcome>;

    /// Releases the lock if `owner` holds it.
    ///
    /// # Errors
    ///
    /// The store did not respond. The lock expires by itself.
    fn unlock<'a>(&'a self, name: &'a str, owner: &'a LockOwner) -> SharedCacheFuture<'a, ()>;

    /// Returns `true` if replicas have the mark of [`begin_redemption`](Self::begin_redemption)
    /// when the method returns, so that a fail-over loses no mark. The default is `false`.
    fn replicates_redemptions(&self) -> bool {
        false
    }

    /// Marks the refresh token in a record as being redeemed.
    ///
    /// Succeeds only if `owner` holds the lock, the record has this generation, and the record has
    /// no [`Redemption`]. The mark is part of the record: the mark does not expire before the
    /// record. A store with replicas returns after the replicas have the mark.
    ///
    /// # Errors
    ///
    /// The store did not respond, or too few replicas have the mark. The client then does not
    /// redeem the refresh token, although the record may have the mark.
    fn begin_redemption<'a>(
        &'a self,
        name: &'a str,
        owner: &'a LockOwner,
        generation: u64,
    ) -> SharedCacheFuture<'a, BeginRedemption>;

    /// Removes the mark of [`begin_redemption`](Self::begin_redemption), if `owner` made the mark
    /// at this generation. The refresh token was not sent.
    ///
    /// # Errors
    ///
    /// The store did not respond. The mark may still be there.
    fn cancel_redemption<'a>(
        &'a self,
        name: &'a str,
        owner: &'a LockOwner,
        generation: u64,
    ) -> SharedCacheFuture<'a, ()>;
}

/// Clients of one process may share a store.
impl<T: SharedCache + ?Sized> SharedCache for Arc<T> {
    fn get<'a>(&'a self, name: &'a str) -> SharedCacheFuture<'a, Option<SharedRecord>> {
        (**self).get(name)
    }

    fn put<'a>(&'a self, name: &'a str, record: NewRecord) -> SharedCacheFuture<'a, PutOutcome> {
        (**self).put(name, record)
    }

    fn lock<'a>(
        &'a self,
        name: &'a str,
        owner: &'a LockOwner,
        lifetime: Duration,
    ) -> SharedCacheFuture<'a, LockOutcome> {
        (**self).lock(name, owner, lifetime)
    }

    fn unlock<'a>(&'a self, name: &'a str, owner: &'a LockOwner) -> SharedCacheFuture<'a, ()> {
        (**self).unlock(name, owner)
    }

    fn replicates_redemptions(&self) -> bool {
        (**self).replicates_redemptions()
    }

    fn begin_redemption<'a>(
        &'a self,
        name: &'a str,
        owner: &'a LockOwner,
        generation: u64,
    ) -> SharedCacheFuture<'a, BeginRedemption> {
        (**self).begin_redemption(name, owner, generation)
    }

    fn cancel_redemption<'a>(
        &'a self,
        name: &'a str,
        owner: &'a LockOwner,
        generation: u64,
    ) -> SharedCacheFuture<'a, ()> {
        (**self).cancel_redemption(name, owner, generation)
    }
}

/// A record as a [`SharedCache`] returns it. `Debug` hides the value.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SharedRecord {
    /// The number of the record's version. The first record of a name has generation 1.
    pub generation: u64,
    /// The encrypted value.
    pub value: Bytes,
    /// The time until the store removes the record, by the clock of the store.
    ///
    /// The client computes the age of a token from this time, so that the clocks of two machines
    /// may differ.
    pub remaining: Duration,
    /// The redemption in progress of the refresh token in the record.
    pub redemption: Option<Redemption>,
}

impl SharedRecord {
    /// Creates a record without a redemption in progress.
    pub fn new(generation: u64, value: Bytes, remaining: Duration) -> Self {
        Self {
            generation,
            value,
            remaining,
            redemption: None,
        }
    }

    /// Adds the redemption in progress.
    pub fn redemption(mut self, redemption: Redemption) -> Self {
        self.redemption = Some(redemption);
        self
    }
}

/// A mark that a process redeems the refresh token in a record.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Redemption {
    /// The owner that began the redemption.
    pub owner: LockOwner,
    /// The time since the redemption began, by the clock of the store.
    pub age: Duration,
}

impl Redemption {
    /// Creates the mark of an owner that began `age` ago.
    pub fn new(owner: LockOwner, age: Duration) -> Self {
        Self { owner, age }
    }
}

/// A record to store. `Debug` hides the value.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NewRecord {
    /// The generation of the record.
    pub generation: u64,
    /// The generation of the record to replace.
    ///
    /// `Some(generation)` stores the record only if the name has a record of exactly this
    /// generation. `None` stores the record if the name has no record, or one of an earlier
    /// generation than the new record.
    pub replaces: Option<u64>,
    /// The encrypted value.
    pub value: Bytes,
    /// The time after which the store removes the record, by the clock of the store.
    pub lifetime: Duration,
}

impl NewRecord {
    /// Creates a record to store for `lifetime`, in place of any earlier generation.
    pub fn new(generation: u64, value: Bytes, lifetime: Duration) -> Self {
        Self {
            generation,
            replaces: None,
            value,
            lifetime,
        }
    }

    /// Stores the record only in place of the record of this generation.
    pub fn replaces(mut self, generation: u64) -> Self {
        self.replaces = Some(generation);
        self
    }
}

/// The outcome of [`SharedCache::put`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutOutcome {
    /// The record was stored.
    Stored,
    /// The name has no record that the new record replaces, and keeps what it has.
    Superseded,
}

/// The outcome of [`SharedCache::lock`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LockOutcome {
    /// The owner holds the lock.
    Acquired {
        /// The record of the name.
        record: Option<SharedRecord>,
    },
    /// Another owner holds the lock.
    Held {
        /// The time until the lock expires.
        remaining: Duration,
        /// The record of the name.
        record: Option<SharedRecord>,
    },
}

/// The outcome of [`SharedCache::begin_redemption`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BeginRedemption {
    /// The record has the mark, and the refresh token may be sent once.
    Begun,
    /// The owner does not hold the lock.
    NotLocked,
    /// The record has another generation, or there is no record.
    OtherGeneration,
    /// The record has the mark of a redemption.
    InProgress,
}

/// The owner of a lock, a random identifier for each attempt to acquire a token.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct LockOwner(String);

impl LockOwner {
    /// Creates an owner that differs from every other.
    pub fn random() -> Self {
        Self(Uuid::new_v4().simple().to_string())
    }

    /// Returns the owner whose text a store kept.
    pub fn from_text(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the text of the owner, 32 hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for LockOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LockOwner(..)")
    }
}

// Without encryption the value has tokens.
impl fmt::Debug for SharedRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedRecord")
            .field("generation", &self.generation)
            .field("remaining", &self.remaining)
            .field("redemption", &self.redemption)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for NewRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewRecord")
            .field("generation", &self.generation)
            .field("replaces", &self.replaces)
            .field("lifetime", &self.lifetime)
            .finish_non_exhaustive()
    }
}
