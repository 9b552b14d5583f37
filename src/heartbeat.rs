//! Signs of life of a tokio runtime.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::{interval, sleep};

/// A task that beats while its runtime runs. The beat ends on drop.
///
/// A current-thread runtime that nobody drives keeps its tasks, and the tasks do not continue. For
/// callers on other runtimes such a task looks like a task that waits for a slow response. The beat
/// tells the two apart. The beat is a separate task, because a callback that blocks its thread
/// does not stop the other threads of a runtime.
pub(crate) struct Heartbeat(AbortHandle);

/// The beats of a [`Heartbeat`], for the callers that wait.
#[derive(Clone, Default)]
pub(crate) struct Pulse(Arc<AtomicU32>);

impl Heartbeat {
    pub(crate) fn start(pulse: &Pulse, runtime: &Handle) -> Self {
        let Pulse(beats) = pulse.clone();
        let task = runtime.spawn(async move {
            let mut interval = interval(INTERVAL);
            loop {
                interval.tick().await;
                beats.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self(task.abort_handle())
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Pulse {
    /// Returns when the runtime has stopped for more than a second.
    pub(crate) async fn stopped(&self) {
        let mut before = self.beats();
        loop {
            sleep(PATIENCE).await;
            if self.beats() == before {
                // A process that was suspended continues with an old count. So does a runtime whose
                // only thread was busy, and the waiting caller may be on that runtime.
                sleep(2 * INTERVAL).await;
                if self.beats() == before {
                    return;
                }
            }
            before = self.beats();
        }
    }

    fn beats(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

const INTERVAL: Duration = Duration::from_millis(250);
/// Longer than several intervals.
const PATIENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use tokio::runtime::{Builder, Runtime};
    use tokio::time::timeout;

    use super::*;

    fn paused() -> Runtime {
        let mut builder = Builder::new_current_thread();
        builder.enable_time().start_paused(true).build().unwrap()
    }

    #[test]
    fn a_runtime_that_nobody_drives_has_stopped() {
        let (stalled, caller) = (paused(), paused());
        let pulse = Pulse::default();
        let _heartbeat = Heartbeat::start(&pulse, stalled.handle());
        stalled.block_on(async { sleep(INTERVAL).await });
        assert!(pulse.beats() > 0);
        caller.block_on(async { timeout(2 * PATIENCE, pulse.stopped()).await.unwrap() });
    }

    #[test]
    fn a_runtime_that_runs_has_not_stopped_even_after_its_thread_was_busy() {
        let pulse = Pulse::default();
        paused().block_on(async {
            let heartbeat = Heartbeat::start(&pulse, &Handle::current());
            let waiting = timeout(100 * PATIENCE, pulse.stopped());
            waiting.await.unwrap_err();
            let busy = async {
                tokio::time::advance(10 * PATIENCE).await;
                sleep(10 * PATIENCE).await;
            };
            let waiting = async { timeout(15 * PATIENCE, pulse.stopped()).await };
            let (waiting, ()) = futures_util::future::join(waiting, busy).await;
            waiting.unwrap_err();
            drop(heartbeat);
            timeout(2 * PATIENCE, pulse.stopped()).await.unwrap();
        });
    }
}
