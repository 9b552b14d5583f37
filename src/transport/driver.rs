use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::{io, panic};

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::JoinHandle;

use crate::runtime_thread::RuntimeThread;

/// A thread with a tokio runtime, which drives the connections of requests from current-thread
/// runtimes.
///
/// A connection is a task of the runtime that opened the connection. A current-thread runtime runs
/// its tasks only during `block_on`, so a request from another runtime would hang on such a
/// connection. The thread starts with the first request that needs the thread, and ends when the
/// `Driver` is dropped.
#[derive(Default)]
pub(super) struct Driver(Mutex<Option<RuntimeThread>>);

/// The runtime on which a request is sent.
pub(super) enum SendOn {
    /// The caller's runtime, whose threads drive the connections at all times. A blocking client
    /// has such a runtime, too.
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
        if matches!(flavor, Ok(RuntimeFlavor::MultiThread)) || RuntimeThread::is_current() {
            return SendOn::CallersRuntime;
        }
        let mut thread = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_none() {
            *thread = RuntimeThread::start()
                .inspect_err(|error| tracing::warn!(%error, "connections are not reused, because no thread for connections can be started"))
                .ok();
        }
        match &*thread {
            Some(thread) => SendOn::Driver(thread.handle().clone()),
            None => SendOn::CallersRuntimeOnce,
        }
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

#[cfg(test)]
mod tests {
    use tokio::runtime::Builder;

    use super::*;

    /// One hidden thread of a blocking client is enough.
    #[test]
    fn a_runtime_that_is_driven_at_all_times_sends_its_own_requests() {
        let driven = RuntimeThread::start().unwrap();
        let (sender, sent_on) = std::sync::mpsc::channel();
        driven.handle().spawn(async move {
            sender.send(Driver::default().send_on()).unwrap();
        });
        assert!(matches!(sent_on.recv(), Ok(SendOn::CallersRuntime)));

        let entered_for_each_call = Builder::new_current_thread().build().unwrap();
        let send_on = entered_for_each_call.block_on(async { Driver::default().send_on() });
        assert!(matches!(send_on, SendOn::Driver(_)));
    }
}
