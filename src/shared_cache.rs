//! The second level of the cache, which the processes of an application share.

mod options;
mod store;

pub use options::{EncryptionKey, SharedCacheOptions};
pub use store::{
    BeginRedemption, LockOutcome, LockOwner, NewRecord, PutOutcome, Redemption, SharedCache,
    SharedCacheFuture, SharedRecord,
};
