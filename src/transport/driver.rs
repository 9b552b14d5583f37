use std::pin::Pin;
use std::sync::{Mutex, PoisonError, mpsc};
use std::task::{Context, Poll};
use std::{io, panic, thread};

use tokio::runtime::{Builder, Handle, RuntimeFlavor};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A thread with a tokio runtime, which drives the connections of requests from current-thread
/// runtimes.
///
/// A connection is a task of the runtime that opened the connection. A current-thread runtime runs
/// its tasks only during `block_on`, so a request from another runtime would hang on such a
/// connection. The thread starts with the first request that needs the thread, and ends when the
/// `Driver` is dropped.
#[derive(Default)]
pub(super) struct Driver(Mutex<Option<DriverThread>>);

struct DriverThread {
    runtime: Handle,
    /// Ends the thread on drop.
    _stop: oneshot::Sender<()>,
}

/// The runtime on which a request is sent.
pub(super) enum SendOn {
    /// The caller's runtime, whose threads drive the connections at all times.
    CallersRuntime,
    /// The driver's runtime.
    Driver(Handle),
    /// The caller's current-thread runtime, because no thread could be started. The connection
    /// must be closed after the request.
    CallersRuntimeOnce,
}

impl Driver {
    /// Returns the runtime for a request from the current runtime.
    pub(super) fn send_on(&self) -> SendOn {
        let flavor = Handle::try_current().map(|runtime| runtime.runtime_flavor());
        if matches!(flavor, Ok(RuntimeFlavor::MultiThread)) {
            return SendOn::CallersRuntime;
        }
        let mut thread = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_none() {
            *thread = DriverThread::start()
                .inspect_err(|error| tracing::warn!(%error, "connections are not reused, because no thread for connections can be started"))
                .ok();
        }
        match &*thread {
            Some(thread) => SendOn::Driver(thread.runtime.clone()),
            None => SendOn::CallersRuntimeOnce,
        }
    }
}

impl DriverThread {
    fn start() -> io::Result<Self> {
        let (stop, stopped) = oneshot::channel::<()>();
        let (started, handle) = mpsc::sync_channel(1);
        // The thread builds the runtime, because a runtime must not be dropped inside another one.
        thread::Builder::new()
            .name("confidential-client".to_owned())
            .spawn(move || {
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
}

/// A task of the driver. Dropping the value stops the task.
pub(super) struct DriverTask<T>(JoinHandle<T>);

impl<T: Send + 'static> DriverTask<T> {
    pub(super) fn spawn(driver: &Handle, future: impl Future<Output = T> + Send + 'static) -> Self {
        Self(driver.spawn(future))
    }
}

impl<T> Future for DriverTask<T> {
    type Output = io::Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let joined = match Pin::new(&mut self.0).poll(cx) {
            Poll::Ready(joined) => joined,
            Poll::Pending => return Poll::Pending,
        };
        Poll::Ready(joined.map_err(|error| match error.try_into_panic() {
            Ok(payload) => panic::resume_unwind(payload),
            Err(error) => io::Error::other(error),
        }))
    }
}

impl<T> Drop for DriverTask<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
