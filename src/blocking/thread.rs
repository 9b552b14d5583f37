use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};

use futures_util::FutureExt;
use tokio::runtime::Handle;
use tracing::Instrument;

use crate::client::{
    AuthorizeRequest, ResolvedRequest, Target, TokenAcquirer, attach_or_target, attach_with_proof,
};
use crate::error::{Error, Failure};
use crate::runtime_thread::RuntimeThread;
use crate::token::AccessToken;

/// The thread on which the calls of a blocking client run. Clones share the thread.
///
/// The thread starts with the first call that has no cached token, and ends when the last clone is
/// dropped. Each client has a separate thread, for two reasons: a callback that blocks the thread
/// delays the calls of one client alone, and a forked process can build another client.
#[derive(Clone, Default)]
pub(super) struct ClientThread(Arc<Shared>);

#[derive(Default)]
struct Shared {
    started: OnceLock<Started>,
    /// Held during the start alone. A process may fork at any time, and a lock that another thread
    /// holds stays locked in the child.
    starting: Mutex<()>,
}

struct Started {
    thread: RuntimeThread,
    /// The process that has the thread. A child of that process has none.
    process: u32,
}

impl ClientThread {
    /// Runs a call on the thread, and waits for the outcome.
    ///
    /// `instead` is the call of the async client that does the same.
    ///
    /// # Errors
    ///
    /// The errors of the call, and those that the documentation of the module lists.
    pub(super) fn wait<T: Send + 'static>(
        &self,
        instead: &str,
        call: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let outcome = self.start(instead, call)?;
        // The sender is dropped without an outcome if the call panics.
        outcome.recv().unwrap_or_else(|_| Err(panicked(instead)))
    }

    /// Starts a call on the thread, and returns the receiver of the outcome.
    fn start<T: Send + 'static>(
        &self,
        instead: &str,
        call: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<mpsc::Receiver<Result<T, Error>>, Error> {
        check_outside_runtime(instead)?;
        let (sender, outcome) = mpsc::sync_channel(1);
        let call = async move {
            // The caller waits for as long as the call runs.
            let _ = sender.send(call.await);
        };
        self.handle()?.spawn(call.in_current_span());
        Ok(outcome)
    }

    /// Acquires the token of a request: from the cache, or on the thread.
    pub(super) fn acquire(
        &self,
        instead: &str,
        acquirer: &TokenAcquirer,
        request: ResolvedRequest,
    ) -> Result<AccessToken, Error> {
        if let Some(token) = acquirer.cached_token(&request, || self.for_refresh()) {
            return token;
        }
        let acquirer = acquirer.clone();
        self.wait(instead, async move { acquirer.acquire(request).await })
    }

    /// Attaches a token to a request. A proof is made on the thread if its key is a remote one.
    pub(super) fn authorize<R: AuthorizeRequest>(
        &self,
        instead: &str,
        acquirer: &TokenAcquirer,
        token: &AccessToken,
        request: &mut R,
    ) -> Result<(), Error> {
        let Some(Target { method, uri }) = attach_or_target(token, request)? else {
            return Ok(());
        };
        let (prover, proven) = (acquirer.clone(), token.clone());
        let proving = async move { prover.prove(&proven, &method, &uri).await };
        let proof = match acquirer.proves_at_once() {
            true => proving
                .now_or_never()
                .unwrap_or_else(|| Err(panicked(instead))),
            false => self.wait(instead, proving),
        };
        attach_with_proof(token, proof?, request);
        Ok(())
    }

    /// Returns the runtime of a refresh in the background, or `None` if there is none.
    pub(super) fn for_refresh(&self) -> Option<Handle> {
        let runtime = self.handle();
        runtime
            .inspect_err(|error| {
                tracing::debug!(error = %error.chain(), "no work in the background is possible");
            })
            .ok()
    }

    /// Returns the runtime of the thread, which starts at the first call.
    pub(super) fn handle(&self) -> Result<Handle, Error> {
        self.handle_in(std::process::id())
    }

    fn handle_in(&self, process: u32) -> Result<Handle, Error> {
        let started = match self.0.started.get() {
            Some(started) => started,
            None => self.0.start(process)?,
        };
        match started.process == process {
            true => Ok(started.thread.handle().clone()),
            false => Err(Error::config(format!(
                "the blocking client was used in process {} before a fork, and process {process} has no thread for its calls; build another client after the fork",
                started.process
            ))),
        }
    }
}

impl Shared {
    fn start(&self, process: u32) -> Result<&Started, Error> {
        let _starting = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
        // Another caller may have started the thread while this one waited for the lock.
        if let Some(started) = self.started.get() {
            return Ok(started);
        }
        let thread = RuntimeThread::start().map_err(|error| {
            let failure = Failure::new("the thread of the blocking client cannot be started");
            Error::Transport(failure.not_sent().source(Box::new(error)).into())
        })?;
        Ok(self.started.get_or_init(|| Started { thread, process }))
    }
}

/// Shows whether the thread was started.
impl fmt::Debug for ClientThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientThread")
            .field("is_started", &self.0.started.get().is_some())
            .finish()
    }
}

/// Checks that the caller may wait: that no tokio runtime needs the caller's thread.
///
/// tokio does not tell a thread of `spawn_blocking`, which may wait, from a thread that runs tasks.
pub(super) fn check_outside_runtime(instead: &str) -> Result<(), Error> {
    match Handle::try_current() {
        Err(_) => Ok(()),
        Ok(_) => Err(Error::config(format!(
            "a blocking client cannot wait inside a tokio runtime, whose tasks would stand still; call {instead}.await instead, or in spawn_blocking(..) and block_in_place(..) Handle::current().block_on({instead})"
        ))),
    }
}

pub(super) fn panicked(call: &str) -> Error {
    let message = format!(
        "the call {call} panicked: a callback, a credential source, a signer or a transport has a bug"
    );
    Error::Transport(Failure::new(message).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_of_the_process_before_a_fork_is_an_error() {
        let thread = ClientThread::default();
        thread.handle_in(7).unwrap();
        let error = thread.handle_in(8).unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        let message = error.to_string();
        assert!(message.contains("process 7 before a fork"), "{message}");
        assert!(message.contains("build another client"), "{message}");
        thread.handle_in(7).unwrap();
    }

    #[test]
    fn a_client_that_was_not_used_before_a_fork_works_after_the_fork() {
        let thread = ClientThread::default();
        thread.clone().handle_in(8).unwrap();
        thread.handle_in(8).unwrap();
        thread.handle_in(7).unwrap_err();
    }
}
