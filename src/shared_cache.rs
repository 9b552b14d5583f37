//! The second level of the cache, which the processes of an application share.

mod circuit;
mod level;
mod name;
mod options;
mod record;
#[cfg(feature = "redis")]
mod redis;
mod seal;
mod stats;
mod store;

pub(crate) use level::{Locked, SharedLevel, StoreFailed, Versioned};

#[cfg(feature = "redis")]
pub use self::redis::RedisCache;
pub use options::{EncryptionKey, SharedCacheOptions};
pub(crate) use record::{SessionRecord, StoredFailure, StoredToken, TokenHash, TokenRecord};
pub use store::{
    BeginRedemption, LockOutcome, LockOwner, NewRecord, PutOutcome, Redemption, SharedCache,
    SharedCacheFuture, SharedRecord,
};
