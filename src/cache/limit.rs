use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use crate::lease::{LeaseId, Leases};

/// A limit on concurrent token requests.
///
/// A caller that needs another flight waits for a permit. A caller that joins a flight needs none.
/// A background refresh without a permit is left for a later call.
pub(crate) struct RequestLimit(Option<Arc<Permits>>);

struct Permits {
    /// The time after which a flight is considered lost.
    overdue: Duration,
    free: Semaphore,
    /// A task on a stopped runtime holds its permit until the lease expires.
    leases: Mutex<Leases>,
}

/// A flight's permit. Returned when the last clone is dropped, or earlier by
/// [`release`](Self::release).
#[derive(Clone)]
pub(crate) struct Permit(Option<Arc<GrantedPermit>>);

struct GrantedPermit {
    permits: Arc<Permits>,
    lease: LeaseId,
}

impl RequestLimit {
    pub(crate) const NONE: Self = Self(None);

    pub(crate) fn new(max_concurrent: Option<usize>, overdue: Duration) -> Self {
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
    pub(crate) async fn acquire(&self) -> Permit {
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
        let permits = Arc::clone(self);
        Permit(Some(Arc::new(GrantedPermit { permits, lease })))
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

impl Permit {
    /// Returns the permit of a completed flight, or of a flight whose runtime has stopped.
    pub(super) fn release(&self) {
        if let Some(granted) = &self.0 {
            granted.release();
        }
    }
}

impl GrantedPermit {
    fn release(&self) {
        // A lease that expired or was released has returned the permit already.
        if self.permits.lock().release(self.lease) {
            self.permits.free.add_permits(1);
        }
    }
}

impl Drop for GrantedPermit {
    fn drop(&mut self) {
        self.release();
    }
}
