//! One lookup of a certificate's newest version for all callers.

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::LIMIT;
use super::versions::LoadedVersion;
use crate::certificate::Certificate;
use crate::error::Error;
use crate::heartbeat::Heartbeat;
use crate::lease::{Lease, LeaseId};
use crate::time::{Deadline, Now, TimeSource};

/// The last version from the vault, and the lookup in progress.
pub(super) struct VersionLookup {
    state: Mutex<VersionLookupState>,
    /// Notifies waiting callers of the end of a lookup.
    ended: watch::Sender<()>,
}

#[derive(Default)]
struct VersionLookupState {
    /// The last loaded version, which serves while lookups fail.
    known: Option<LoadedVersion>,
    /// The error of the last lookup. `None` after a success.
    failure: Option<Error>,
    /// The number of failed lookups since the last success.
    failures: u32,
    /// The lookup in progress, with the heartbeat of its runtime.
    lease: Lease<Heartbeat>,
    /// The start of the latest lookup.
    started: Option<Instant>,
    /// True if the last lookup of a newer version took so long that callers did not wait for it.
    is_slow: bool,
    /// The end of the last lookup.
    last: Option<Deadline>,
    /// The time of the next lookup.
    due: Option<Deadline>,
    /// True if the vault did not sign with the known version, which may be disabled already.
    is_suspect: bool,
}

/// The reason of a call.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum LookupReason {
    /// A request needs a certificate.
    Request,
    /// The identity provider rejected the certificate, so a newer one is needed.
    Rejection,
}

/// The next step of a caller.
enum NextStep {
    Return(Result<Certificate, Error>),
    /// Wait for the lookup in progress.
    Wait(LeaseId, Heartbeat, Instant, Option<Meanwhile>),
    LookUp(LeaseId, Option<Meanwhile>),
}

/// The valid certificate for a caller that does not wait for the end of a lookup.
struct Meanwhile {
    certificate: Certificate,
    /// The time until which the caller waits.
    until: Instant,
}

impl VersionLookup {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::default(),
            ended: watch::Sender::new(()),
        }
    }

    /// Returns the certificate of the last lookup, or of a new one if that is due.
    ///
    /// Callers that arrive during a lookup share the result. If the lookup fails, the last
    /// certificate is returned while it is valid. While there is such a certificate, the lookup is
    /// a separate task, and the callers wait only for a fast vault. Otherwise a caller that is
    /// dropped gives its lookup up, and one of the waiting callers starts another.
    pub(super) async fn get<F>(
        self: &Arc<Self>,
        reason: LookupReason,
        interval: Duration,
        clock: &TimeSource,
        load: impl FnOnce(Option<LoadedVersion>) -> F,
    ) -> Result<Certificate, Error>
    where
        F: Future<Output = Result<LoadedVersion, Error>> + Send + 'static,
    {
        let (guard, meanwhile) = loop {
            let mut ended = self.ended.subscribe();
            let next = self.lock().next(reason, &clock.now());
            match next {
                NextStep::Return(result) => return result,
                NextStep::LookUp(id, meanwhile) => {
                    let lookup = Arc::clone(self);
                    break (VersionLookupGuard { lookup, id }, meanwhile);
                }
                NextStep::Wait(other, heartbeat, expires, meanwhile) => {
                    let until = meanwhile
                        .as_ref()
                        .map_or(expires, |meanwhile| meanwhile.until);
                    let changed = pin!(ended.changed());
                    let stopped = pin!(heartbeat.stopped(expires));
                    match timeout_at(until, select(changed, stopped)).await {
                        Ok(Either::Left(_)) => {}
                        // This caller, or another one that waits, takes the lookup over.
                        Ok(Either::Right(_)) => drop(self.lock().lease.release(other)),
                        Err(_) => {
                            if let Some(Meanwhile { certificate, .. }) = meanwhile {
                                return Ok(certificate);
                            }
                            self.lock().lease.release(other);
                        }
                    }
                }
            }
        };
        let loading = load(self.lock().known.clone());
        let clock = clock.clone();
        let lookup = async move {
            let result = loading.await;
            let mut state = guard.lookup.lock();
            state.complete(guard.id, result, interval, &clock.now())
        };
        let Some(Meanwhile { certificate, until }) = meanwhile else {
            return lookup.await;
        };
        match timeout_at(until, tokio::spawn(lookup)).await {
            Ok(Ok(result)) => result,
            // The vault is slow, or the runtime stops.
            Ok(Err(_)) | Err(_) => Ok(certificate),
        }
    }

    /// Notes that the vault did not sign with `version`. The next caller looks for another one.
    pub(super) fn mark_suspect(&self, version: &str) {
        let mut state = self.lock();
        let known = state.known.as_ref();
        state.is_suspect |= known.is_some_and(|known| known.version == version);
    }

    /// Returns the version of the last successful lookup.
    pub(super) fn version(&self) -> Option<String> {
        let state = self.lock();
        state.known.as_ref().map(|known| known.version.clone())
    }

    fn lock(&self) -> MutexGuard<'_, VersionLookupState> {
        // No code panics under the lock, and every field would still be whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl VersionLookupState {
    /// Decides for a caller. A caller that waited finds that no lookup is due.
    fn next(&mut self, reason: LookupReason, now: &Now) -> NextStep {
        if let Some((heartbeat, expires)) = self.lease.holder(Instant::now().into_std()) {
            let (heartbeat, expires) = (heartbeat.clone(), Instant::from_std(expires));
            let meanwhile = self.meanwhile(reason, now);
            return NextStep::Wait(self.lease.latest(), heartbeat, expires, meanwhile);
        }
        if !self.is_due(reason, now)
            && let Some(result) = self.result(now)
        {
            return NextStep::Return(result);
        }
        self.started = Some(Instant::now());
        let expires = Instant::now() + LIMIT + MARGIN;
        let heartbeat = Heartbeat::of(Handle::try_current().ok());
        let (id, _) = self.lease.grant(expires.into_std(), heartbeat);
        NextStep::LookUp(id, self.meanwhile(reason, now))
    }

    /// Returns the valid certificate that a caller may use before the lookup ends.
    fn meanwhile(&self, reason: LookupReason, now: &Now) -> Option<Meanwhile> {
        let patience = match reason {
            // The caller needs another certificate.
            LookupReason::Rejection => PATIENCE_AFTER_A_REJECTION,
            LookupReason::Request if self.is_suspect => PATIENCE_AFTER_A_REJECTION,
            LookupReason::Request if self.is_slow => Duration::ZERO,
            LookupReason::Request => PATIENCE,
        };
        Some(Meanwhile {
            certificate: self.valid(now)?.clone(),
            until: self.started? + patience,
        })
    }

    fn is_due(&self, reason: LookupReason, now: &Now) -> bool {
        if self.due.as_ref().is_none_or(|due| due.reached(now)) {
            return true;
        }
        let known = self.known.as_ref().map(|known| &known.certificate);
        let needs_other = reason == LookupReason::Rejection
            || self.is_suspect
            || known.is_some_and(|known| known.check_validity(now.wall()).is_err());
        // A thousand rejected token requests look for another version once. A vault that fails has
        // its pause, which the vault may have asked for.
        let is_recent = |last: &Deadline| !last.later(AFTER_A_REJECTION).reached(now);
        needs_other && self.failure.is_none() && !self.last.as_ref().is_some_and(is_recent)
    }

    fn valid(&self, now: &Now) -> Option<&Certificate> {
        let known = self.known.as_ref().map(|known| &known.certificate);
        known.filter(|known| known.check_validity(now.wall()).is_ok())
    }

    /// Returns the result of the last lookup. After a failed lookup, the certificate of an earlier
    /// one is the result while the certificate is valid.
    fn result(&self, now: &Now) -> Option<Result<Certificate, Error>> {
        let known = self.known.as_ref().map(|known| &known.certificate);
        match (&self.failure, known, self.valid(now)) {
            (None, Some(known), _) | (Some(_), _, Some(known)) => Some(Ok(known.clone())),
            (Some(error), _, None) => Some(Err(error.clone())),
            (None, None, _) => None,
        }
    }

    /// Stores the result of a lookup, and returns the certificate for the caller.
    fn complete(
        &mut self,
        id: LeaseId,
        result: Result<LoadedVersion, Error>,
        interval: Duration,
        now: &Now,
    ) -> Result<Certificate, Error> {
        // The result of a replaced lookup must not overwrite a later one.
        if !self.lease.is_current(id) {
            return self
                .result(now)
                .unwrap_or_else(|| result.map(|loaded| loaded.certificate));
        }
        self.last = Some(now.plus(Duration::ZERO));
        self.is_suspect = false;
        // Nobody with a certificate waited for the first lookup, which opens the connections.
        let took_long = |started: Instant| started.elapsed() >= PATIENCE;
        self.is_slow = self.known.is_some() && self.started.is_some_and(took_long);
        match result {
            Ok(loaded) => {
                let certificate = loaded.certificate.clone();
                self.known = Some(loaded);
                self.failure = None;
                self.failures = 0;
                self.due = Some(now.plus(interval));
                Ok(certificate)
            }
            Err(error) => {
                self.failures = self.failures.saturating_add(1);
                let pause = pause_after(self.failures).max(error.retry_after().unwrap_or_default());
                self.due = Some(now.plus(pause));
                self.failure = Some(error.clone());
                self.result(now).unwrap_or(Err(error))
            }
        }
    }
}

/// The right to look the newest version up. Released on drop.
struct VersionLookupGuard {
    lookup: Arc<VersionLookup>,
    id: LeaseId,
}

impl Drop for VersionLookupGuard {
    fn drop(&mut self) {
        self.lookup.lock().lease.release(self.id);
        self.lookup.ended.send_replace(());
    }
}

/// Returns the time without a lookup after a number of failures: 5 s, doubled up to 60 s.
fn pause_after(failures: u32) -> Duration {
    let doubled = 1_u32
        .checked_shl(failures.saturating_sub(1))
        .unwrap_or(u32::MAX);
    FIRST_PAUSE.saturating_mul(doubled).min(LONGEST_PAUSE)
}

/// The shortest time between a lookup and another one because a certificate does not work.
const AFTER_A_REJECTION: Duration = Duration::from_secs(30);
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The time that callers with a valid certificate wait for a lookup, unless the last lookup took
/// longer. A vault that answers usually does so in less than a second.
const PATIENCE: Duration = Duration::from_secs(2);
/// The time that callers with a valid certificate wait if the certificate does not work.
const PATIENCE_AFTER_A_REJECTION: Duration = Duration::from_secs(5);
/// The time after its limit at which waiting callers consider a lookup lost.
const MARGIN: Duration = Duration::from_secs(1);

#[cfg(all(test, feature = "testing"))]
mod tests {
    use std::sync::Arc;

    use tokio::runtime::Builder;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::testing::self_signed_certificate;

    #[test]
    fn a_lookup_on_a_runtime_that_stopped_is_taken_over_and_its_late_result_is_dropped() {
        let loaded = ["old", "new"].map(|version| LoadedVersion {
            version: version.to_owned(),
            certificate: Certificate::from_pem(self_signed_certificate(version).unwrap()).unwrap(),
        });
        let [old, new] = loaded;
        let lookup = Arc::new(VersionLookup::new());
        let gate = Arc::new(Semaphore::new(0));
        let get = async |lookup: Arc<VersionLookup>, gate: Arc<Semaphore>, loaded| {
            let load = |_| async move {
                gate.acquire().await.unwrap().forget();
                Ok(loaded)
            };
            let (reason, clock) = (LookupReason::Request, TimeSource::System);
            let found = lookup.get(reason, Duration::MAX, &clock, load).await;
            found.unwrap().subject().to_owned()
        };

        let stopped = Builder::new_current_thread().enable_time().build().unwrap();
        let first = stopped.spawn(get(Arc::clone(&lookup), Arc::clone(&gate), old));
        stopped.block_on(tokio::task::yield_now());
        assert!(lookup.lock().lease.is_held());

        // Nobody drives the first runtime now.
        let mut builder = Builder::new_current_thread();
        let other = builder.enable_time().start_paused(true).build().unwrap();
        let open = Arc::new(Semaphore::new(1));
        let second = get(Arc::clone(&lookup), open, new);
        assert_eq!(other.block_on(second), "CN=new");

        gate.add_permits(1);
        assert_eq!(stopped.block_on(first).unwrap(), "CN=new");
        assert_eq!(lookup.version().as_deref(), Some("new"));
    }

    #[test]
    fn the_pause_after_failures_doubles_up_to_a_minute() {
        let pauses = [1, 2, 3, 4, 5, 6, 40, u32::MAX].map(|count| pause_after(count).as_secs());
        assert_eq!(pauses, [5, 10, 20, 40, 60, 60, 60, 60]);
    }
}
