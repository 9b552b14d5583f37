use std::time::Duration;

use ::redis::Value;

use super::{Bytes, LockOutcome, LockOwner, Redemption, SharedRecord};

/// The reply of a script, read into the types of the cache.
///
/// A method returns `None` for a reply that no script of the cache gives.
pub(super) struct Reply(pub(super) Value);

impl Reply {
    pub(super) fn number(self) -> Option<i64> {
        match self.0 {
            Value::Int(number) => Some(number),
            _ => None,
        }
    }

    /// Reads an empty list, or generation, value and remaining lifetime. The owner and the age of a
    /// redemption may follow.
    pub(super) fn record(self) -> Option<Option<SharedRecord>> {
        let items = self.list()?;
        if items.is_empty() {
            return Some(None);
        }
        let mut items = items.into_iter().map(Self);
        let generation = items.next()?.text()?.parse().ok()?;
        let value = Bytes::from(items.next()?.octets()?);
        let remaining = items.next()?.milliseconds()?;
        let record = SharedRecord::new(generation, value, remaining);
        let Some(owner) = items.next() else {
            return Some(Some(record));
        };
        let owner = LockOwner::from_text(owner.text()?);
        let age = items.next()?.milliseconds()?;
        Some(Some(record.redemption(Redemption::new(owner, age))))
    }

    /// Reads the remaining time of another owner's lock and the record. The time -1 is an acquired
    /// lock.
    pub(super) fn lock_outcome(self) -> Option<LockOutcome> {
        let [remaining, record]: [Value; 2] = self.list()?.try_into().ok()?;
        let record = Self(record).record()?;
        Some(match Self(remaining).number()? {
            -1 => LockOutcome::Acquired { record },
            remaining => LockOutcome::Held {
                remaining: Duration::from_millis(remaining.try_into().ok()?),
                record,
            },
        })
    }

    fn milliseconds(self) -> Option<Duration> {
        Some(Duration::from_millis(self.number()?.try_into().ok()?))
    }

    fn text(self) -> Option<String> {
        String::from_utf8(self.octets()?).ok()
    }

    fn octets(self) -> Option<Vec<u8>> {
        match self.0 {
            Value::BulkString(octets) => Some(octets),
            _ => None,
        }
    }

    fn list(self) -> Option<Vec<Value>> {
        match self.0 {
            Value::Array(items) => Some(items),
            _ => None,
        }
    }
}
