use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use crate::lease::{LeaseId, Leases};

/// A limit on concurrent token requests.
///
/// A caller that needs another flight waits for a permit. A caller that joins a flight needs none.
/// A background refresh without a permit is left for a later call.
pub(super) struct RequestLimit(Option<Arc<Permits>>);

struct Permits {
    /// The time after which a flight is considered lost.
    overdue: Duration,
    free: Semaphore,
    /// A task on a stopped runtime holds its permit until the lease expires.
    leases: Mutex<Leases>,
}

/// A flight's permit, returned on drop.
pub(super) struct Permit(Option<(Arc<Permits>, LeaseId)>);

impl RequestLimit {
    pub(super) fn new(max_concurrent: Option<usize>, overdue: Duration) -> Self {
        Self(max_concurrent.map(|max_concurrent| {
            Arc::new(Permits {
                overdue,
                free: Semaphore::new(max_concurrent.min(Semaphore::MAX_PERMITS)),
                leases: Mutex::default(),
            })
        }))
    }

    pub(super) fn try_acquire(&self) -> Option<Permit> {
        let Some(permits) = &self.0 else {
            return Some(Permit(None));
        };
        permits.free.try_acquire().ok()?.forget();
        Some(permits.grant())
    }

    /// Waits for a permit, on the waiting caller's runtime.
    pub(super) async fn acquire(&self) -> Permit {
        let Some(permits) = &self.0 else {
            return Permit(None);
        };
        loop {
            let acquired = timeout_at(permits.recover(), permits.free.acquire());
            if let Ok(Ok(permit)) = acquired.await {
                permit.forget();
                return permits.grant();
            }
        }
    }
}

impl Permits {
    fn grant(self: &Arc<Self>) -> Permit {
        let expires = Instant::now() + self.overdue;
        let lease = self.lock().grant(expires.into_std());
        Permit(Some((Arc::clone(self), lease)))
    }

    /// Recovers the permits of lost flights. Returns when the next flight may be lost.
    fn recover(&self) -> Instant {
        let now = Instant::now();
        let mut leases = self.lock();
        self.free
            .add_permits(leases.release_expired(now.into_std()));
        let next = leases.next_expiry().map(Instant::from_std);
        next.unwrap_or(now + self.overdue)
    }

    fn lock(&self) -> MutexGuard<'_, Leases> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        // A lease that expired has returned the permit already.
        if let Some((permits, lease)) = &self.0
            && permits.lock().release(*lease)
        {
            permits.free.add_permits(1);
        }
    }
}
