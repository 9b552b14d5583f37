//! The second level of the cache, which the processes of an application share.

mod circuit;
mod level;
mod name;
mod options;
mod record;
mod seal;
mod session;
mod stats;
mod store;

pub(crate) use level::{Locked, SharedLevel, StoreFailed, Versioned};

pub use options::{EncryptionKey, SharedCacheOptions};
pub(crate) use record::{SessionRecord, StoredFailure, StoredToken, TokenRecord};
pub(crate) use session::{KnownSession, RETRY_WAITS, Unstored};
pub use store::{
    BeginRedemption, LockOutcome, LockOwner, NewRecord, PutOutcome, Redemption, SharedCache,
    SharedCacheFuture, SharedRecord,
};
