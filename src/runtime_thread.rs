//! A thread that drives a tokio runtime at all times.

use std::cell::Cell;
use std::sync::mpsc;
use std::{io, thread};

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// A thread with a current-thread tokio runtime. Dropping the value ends the thread.
///
/// The tasks of the runtime continue while no caller waits for them, unlike the tasks of a
/// current-thread runtime that a program enters for each call. No drop waits for the thread.
pub(crate) struct RuntimeThread {
    runtime: Handle,
    /// Ends the thread on drop.
    _stop: oneshot::Sender<()>,
}

thread_local! {
    static IS_CURRENT: Cell<bool> = const { Cell::new(false) };
}

impl RuntimeThread {
    pub(crate) fn start() -> io::Result<Self> {
        let (stop, stopped) = oneshot::channel::<()>();
        let (started, handle) = mpsc::sync_channel(1);
        // The thread builds the runtime, because a runtime must not be dropped inside another one.
        thread::Builder::new()
            .name("confidential-client".to_owned())
            .spawn(move || {
                IS_CURRENT.set(true);
                let runtime = match Builder::new_current_thread().enable_all().build() {
                    Ok(runtime) => runtime,
                    Err(error) => return drop(started.send(Err(error))),
                };
                if started.send(Ok(runtime.handle().clone())).is_ok() {
                    let _ = runtime.block_on(stopped);
                }
                // A resolver that hangs must not keep the thread.
                runtime.shutdown_background();
            })?;
        let ended = |_| Err(io::Error::other("the thread ended"));
        Ok(Self {
            runtime: handle.recv().unwrap_or_else(ended)?,
            _stop: stop,
        })
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.runtime
    }

    /// Returns `true` on a thread that a `RuntimeThread` started.
    #[cfg(feature = "reqwest")]
    pub(crate) fn is_current() -> bool {
        IS_CURRENT.get()
    }
}
