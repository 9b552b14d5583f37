use std::collections::{BTreeMap, HashSet};
use std::error::Error as StdError;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use crate::time::unix_seconds;

/// The future of a [`ReplayCache`]: true for a new proof, or an error.
pub type ReplayCacheFuture<'a> =
    Pin<Box<dyn Future<Output = Result<bool, Box<dyn StdError + Send + Sync>>> + Send + 'a>>;

/// A store of used proofs that several processes share, for
/// [`DpopPolicy::replay_cache`](super::DpopPolicy::replay_cache).
///
/// Without a shared store, a proof that one process accepted can be replayed at another process
/// until the proof is too old. In Redis, one command is enough:
///
/// ```
/// use std::time::Duration;
///
/// use confidential_client::resource::{ReplayCache, ReplayCacheFuture};
/// use redis::aio::MultiplexedConnection;
///
/// struct UsedProofs(MultiplexedConnection);
///
/// impl ReplayCache for UsedProofs {
///     fn insert<'a>(&'a self, proof: &'a str, lifetime: Duration) -> ReplayCacheFuture<'a> {
///         Box::pin(async move {
///             let mut command = redis::cmd("SET");
///             command.arg(format!("dpop:{proof}")).arg("");
///             command.arg("NX").arg("PX").arg(lifetime.as_millis() as u64);
///             let set: Option<String> = command.query_async(&mut self.0.clone()).await?;
///             Ok(set.is_some())
///         })
///     }
/// }
/// ```
pub trait ReplayCache: Send + Sync + 'static {
    /// Stores a proof for at least `lifetime`. Returns whether the proof was not stored before.
    ///
    /// `proof` is a hash of 43 letters, digits, `-` and `_`. The look-up and the insertion must be
    /// one atomic operation. The validator waits for at most two seconds.
    ///
    /// # Errors
    ///
    /// The request is rejected with 503, because a replay cannot be ruled out.
    fn insert<'a>(&'a self, proof: &'a str, lifetime: Duration) -> ReplayCacheFuture<'a>;
}

/// The used proofs of one process, with a bound on their number.
///
/// The proofs are in buckets by the end of their validity. A bucket is dropped as a whole.
pub(super) struct UsedProofs {
    max_entries: usize,
    /// The span of one bucket, in seconds.
    span: u64,
    buckets: Mutex<Buckets>,
}

#[derive(Default)]
struct Buckets {
    /// Half of each hash, by the number of the bucket.
    proofs: BTreeMap<u64, HashSet<[u8; 16]>>,
    entries: usize,
}

/// The outcome of an insertion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Insertion {
    New,
    Replayed,
    /// The cache has as many valid proofs as it may have.
    Full,
}

impl UsedProofs {
    /// `window` is the longest distance between the time of a proof and now.
    pub(super) fn new(max_entries: usize, window: Duration) -> Self {
        Self {
            max_entries,
            span: window.as_secs().div_ceil(BUCKETS_IN_WINDOW).max(1),
            buckets: Mutex::default(),
        }
    }

    pub(super) fn insert(
        &self,
        proof: &[u8; 32],
        valid_until: SystemTime,
        now: SystemTime,
    ) -> Insertion {
        let bucket = |time| {
            unix_seconds(time)
                .checked_div(self.span)
                .unwrap_or_default()
        };
        let [half @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = *proof;
        // No code panics while it holds the lock.
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        buckets.drop_before(bucket(now));
        if buckets.proofs.values().any(|proofs| proofs.contains(&half)) {
            return Insertion::Replayed;
        }
        if buckets.entries >= self.max_entries {
            return Insertion::Full;
        }
        buckets
            .proofs
            .entry(bucket(valid_until))
            .or_default()
            .insert(half);
        buckets.entries = buckets.entries.saturating_add(1);
        Insertion::New
    }
}

impl Buckets {
    /// Drops the buckets whose proofs are all too old.
    fn drop_before(&mut self, bucket: u64) {
        while let Some(first) = self.proofs.first_entry()
            && *first.key() < bucket
        {
            let dropped = first.remove().len();
            self.entries = self.entries.saturating_sub(dropped);
        }
    }
}

/// An insertion looks into the buckets of twice the window, so there are about ten buckets.
const BUCKETS_IN_WINDOW: u64 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(60);

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds)
    }

    #[test]
    fn a_proof_is_new_once_until_it_is_too_old() {
        let proofs = UsedProofs::new(10, WINDOW);
        let insert = |proof: u8, until, now| proofs.insert(&[proof; 32], at(until), at(now));
        assert_eq!(insert(1, 60, 0), Insertion::New);
        assert_eq!(insert(1, 60, 0), Insertion::Replayed);
        assert_eq!(insert(1, 60, 59), Insertion::Replayed);
        // The same `jti` of the same key in a proof of another time.
        assert_eq!(insert(1, 119, 59), Insertion::Replayed);
        assert_eq!(insert(2, 119, 59), Insertion::New);
        assert_eq!(insert(2, 119, 118), Insertion::Replayed);
    }

    #[test]
    fn the_number_of_proofs_has_a_bound_and_old_proofs_make_room() {
        let proofs = UsedProofs::new(3, WINDOW);
        let insert = |proof: u8, until, now| proofs.insert(&[proof; 32], at(until), at(now));
        for proof in 1..4 {
            assert_eq!(insert(proof, 60, 0), Insertion::New);
        }
        assert_eq!(insert(4, 60, 0), Insertion::Full);
        assert_eq!(insert(1, 60, 0), Insertion::Replayed);
        assert_eq!(insert(4, 140, 80), Insertion::New);
        assert_eq!(proofs.buckets.lock().unwrap().entries, 1);
    }

    #[test]
    fn no_valid_proof_is_dropped_for_any_window() {
        for window in 1..130 {
            let proofs = UsedProofs::new(usize::MAX, Duration::from_secs(window));
            for start in 0..window {
                let proof = [start as u8; 32];
                let until = at(start + window);
                assert_eq!(proofs.insert(&proof, until, at(start)), Insertion::New);
                let last = until - Duration::from_nanos(1);
                assert_eq!(proofs.insert(&proof, until, last), Insertion::Replayed);
            }
            assert!(proofs.buckets.lock().unwrap().proofs.len() < 12, "{window}");
        }
    }
}
