//! The second level of the cache, which the processes of an application share.

mod circuit;
#[cfg(all(
    test,
    any(feature = "aws-lc-rs", feature = "ring", feature = "rust-crypto")
))]
mod format_version_1;
mod level;
mod name;
mod options;
mod record;
#[cfg(feature = "redis")]
mod redis;
mod seal;
mod session;
mod stats;
mod store;

pub(crate) use level::{Locked, SharedLevel, StoreFailed, Versioned};
pub(crate) use stats::SharedCounters;

#[cfg(feature = "redis")]
pub use self::redis::RedisCache;
pub use options::{EncryptionKey, SharedCacheOptions};
pub(crate) use record::{SessionRecord, StoredFailure, StoredToken, TokenRecord};
pub(crate) use session::{KnownSession, RETRY_WAITS, Unstored};
pub use store::{
    BeginRedemption, LockOutcome, LockOwner, NewRecord, PutOutcome, Redemption, SharedCache,
    SharedCacheFuture, SharedRecord,
};
