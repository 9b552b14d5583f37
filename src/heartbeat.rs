//! Signs of life of a tokio runtime.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, sleep_until};

/// The runtime of a task, for the callers that wait for the task on other runtimes.
///
/// A current-thread runtime that nobody drives keeps its tasks, and the tasks do not continue. For
/// callers on other runtimes such a task looks like a task that waits for a slow response. A beat
/// tells the two apart: a task that a waiting caller spawns on the runtime, and that ends at once.
/// A task that ends soon costs no beat. The beat is a separate task, because a callback that blocks
/// its thread does not stop the other threads of a runtime.
#[derive(Clone)]
pub(crate) struct Heartbeat(Arc<Beats>);

struct Beats {
    /// `None` outside a tokio runtime, which has no beats.
    runtime: Option<Handle>,
    requested: AtomicU32,
    completed: AtomicU32,
}

impl Heartbeat {
    /// Returns the heartbeat of a runtime. Spawns no task.
    pub(crate) fn of(runtime: Option<Handle>) -> Self {
        Self(Arc::new(Beats {
            runtime,
            requested: AtomicU32::new(0),
            completed: AtomicU32::new(0),
        }))
    }

    /// Returns when the runtime has stopped for more than a second, or at `deadline`.
    pub(crate) async fn stopped(&self, deadline: Instant) {
        let sleep = |duration| sleep_until(deadline.min(Instant::now() + duration));
        sleep(FIRST_BEAT).await;
        while Instant::now() < deadline {
            let before = self.request_beat();
            sleep(PATIENCE).await;
            if self.completed() == before {
                // A process that was suspended continues with an old count. So does a runtime whose
                // only thread was busy, and the waiting caller may be on that runtime.
                sleep(GRACE).await;
                if self.completed() == before {
                    return;
                }
            }
        }
    }

    /// Spawns a beat, unless an earlier beat has not completed. Returns the number of completed
    /// beats.
    pub(crate) fn request_beat(&self) -> u32 {
        let before = self.completed();
        let beat = before.wrapping_add(1);
        let is_first = self
            .0
            .requested
            .compare_exchange(before, beat, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok();
        if let (true, Some(runtime)) = (is_first, &self.0.runtime) {
            let beats = Arc::clone(&self.0);
            runtime.spawn(async move { beats.completed.store(beat, Ordering::Relaxed) });
        }
        before
    }

    /// Returns the number of completed beats.
    pub(crate) fn completed(&self) -> u32 {
        self.0.completed.load(Ordering::Relaxed)
    }
}

/// The time for which a caller waits without a beat. Most token requests end before.
const FIRST_BEAT: Duration = Duration::from_millis(250);
/// The longest time of a beat on a runtime that runs.
const PATIENCE: Duration = Duration::from_secs(1);
const GRACE: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use tokio::runtime::{Builder, Runtime};
    use tokio::time::{advance, sleep, timeout};

    use super::*;

    fn paused() -> Runtime {
        let mut builder = Builder::new_current_thread();
        builder.enable_time().start_paused(true).build().unwrap()
    }

    fn heartbeat_of(runtime: &Runtime) -> Heartbeat {
        Heartbeat::of(Some(runtime.handle().clone()))
    }

    fn far() -> Instant {
        Instant::now() + 1000 * PATIENCE
    }

    #[test]
    fn a_runtime_that_nobody_drives_has_stopped() {
        let (stalled, dropped, caller) = (paused(), paused(), paused());
        let heartbeats = [
            heartbeat_of(&stalled),
            heartbeat_of(&dropped),
            Heartbeat::of(None),
        ];
        drop(dropped);
        caller.block_on(async {
            for heartbeat in &heartbeats {
                timeout(2 * PATIENCE, heartbeat.stopped(far()))
                    .await
                    .unwrap();
            }
        });
        // Until somebody drives the runtime again.
        stalled.block_on(async { sleep(PATIENCE).await });
        assert_eq!(heartbeats.map(|heartbeat| heartbeat.completed()), [1, 0, 0]);
    }

    #[test]
    fn a_runtime_that_runs_has_not_stopped_even_after_its_thread_was_busy() {
        let runtime = paused();
        let heartbeat = heartbeat_of(&runtime);
        runtime.block_on(async {
            let waiting = timeout(100 * PATIENCE, heartbeat.stopped(far()));
            waiting.await.unwrap_err();
            let busy = async {
                advance(10 * PATIENCE).await;
                sleep(10 * PATIENCE).await;
            };
            let waiting = async { timeout(15 * PATIENCE, heartbeat.stopped(far())).await };
            let (waiting, ()) = futures_util::future::join(waiting, busy).await;
            waiting.unwrap_err();
        });
    }

    #[test]
    fn callers_share_a_beat_and_a_task_that_ends_soon_has_none() {
        let runtime = paused();
        let heartbeat = heartbeat_of(&runtime);
        runtime.block_on(async {
            heartbeat.stopped(Instant::now() + FIRST_BEAT).await;
            assert_eq!(heartbeat.completed(), 0);
            for _ in 0..100 {
                assert_eq!(heartbeat.request_beat(), 0);
            }
            assert_eq!(Handle::current().metrics().num_alive_tasks(), 1);
            let deadline = Instant::now() + FIRST_BEAT + PATIENCE;
            heartbeat.stopped(deadline).await;
            assert_eq!(Instant::now(), deadline, "the deadline ends the wait");
            assert_eq!(heartbeat.request_beat(), 2);
        });
    }
}
