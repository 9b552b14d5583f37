use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::runtime::Handle;
use tracing::Instrument;

use crate::client::{
    AuthorizeRequest, ResolvedRequest, Target, TokenAcquirer, attach_or_target, attach_with_proof,
};
use crate::error::{Error, Failure};
use crate::heartbeat::Heartbeat;
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
    /// The process of the first call that needed the thread, or zero before. A child of that
    /// process has no thread, and touches no lock, which another thread may hold during the fork.
    process: AtomicU32,
    starting: Mutex<()>,
    started: OnceLock<Started>,
}

struct Started {
    thread: RuntimeThread,
    heartbeat: Heartbeat,
    /// The beat that was missing for too long, or zero. The thread is blocked until that beat
    /// completes.
    missing_beat: AtomicU32,
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
        self.receive(instead, &outcome)?
    }

    /// Waits for a message of the thread, for as long as no callback blocks the thread.
    ///
    /// # Errors
    ///
    /// [`Error::Transport`] if all senders are dropped, as a panic does, or if the thread is
    /// blocked for too long. A callback may wait for a thread that waits here.
    pub(super) fn receive<T>(&self, instead: &str, messages: &Receiver<T>) -> Result<T, Error> {
        self.receive_with(instead, messages, BEAT)
    }

    fn receive_with<T>(
        &self,
        instead: &str,
        messages: &Receiver<T>,
        beat: Duration,
    ) -> Result<T, Error> {
        let started = self.started()?;
        let mut missing = 0;
        let mut before = None;
        loop {
            match messages.recv_timeout(beat) {
                Ok(message) => return Ok(message),
                Err(RecvTimeoutError::Disconnected) => return Err(panicked(instead)),
                Err(RecvTimeoutError::Timeout) => {}
            }
            // Most calls end before the first beat is requested.
            let completed = started.heartbeat.request_beat();
            missing = match before == Some(completed) {
                true => missing + 1,
                false => 0,
            };
            before = Some(completed);
            if missing == MISSING_BEATS {
                started.set_blocked(completed);
            }
            // Another caller may have waited for the beats.
            if started.is_blocked() {
                return Err(blocked(instead));
            }
        }
    }

    /// Starts a call on the thread, and returns the receiver of the outcome.
    fn start<T: Send + 'static>(
        &self,
        instead: &str,
        call: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<Receiver<Result<T, Error>>, Error> {
        check_outside_runtime(instead)?;
        let (sender, outcome) = mpsc::sync_channel(1);
        let call = async move {
            // A caller whose thread is blocked has gone.
            let _ = sender.send(call.await);
        };
        self.runtime()?.spawn(call.in_current_span());
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
            true => at_once(instead, proving),
            false => self.wait(instead, proving),
        };
        attach_with_proof(token, proof?, request);
        Ok(())
    }

    /// Returns the runtime of a refresh in the background, or `None` if there is none.
    pub(super) fn for_refresh(&self) -> Option<Handle> {
        let runtime = self.runtime();
        runtime
            .inspect_err(|error| {
                tracing::debug!(error = %error.chain(), "no work in the background is possible");
            })
            .ok()
    }

    /// Returns the runtime of the thread, which starts at the first call.
    pub(super) fn runtime(&self) -> Result<Handle, Error> {
        Ok(self.started()?.thread.handle().clone())
    }

    fn started(&self) -> Result<&Started, Error> {
        self.started_in(std::process::id())
    }

    fn started_in(&self, process: u32) -> Result<&Started, Error> {
        let first = &self.0.process;
        match first.compare_exchange(0, process, Ordering::Relaxed, Ordering::Relaxed) {
            Err(first) if first != process => Err(Error::config(format!(
                "the blocking client was used in process {first} before a fork, and process {process} has no thread for its calls; build another client after the fork",
            ))),
            _ => match self.0.started.get() {
                Some(started) => Ok(started),
                None => self.0.start(),
            },
        }
    }
}

impl Shared {
    fn start(&self) -> Result<&Started, Error> {
        let _starting = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
        // Another caller may have started the thread while this one waited for the lock.
        if let Some(started) = self.started.get() {
            return Ok(started);
        }
        let thread = RuntimeThread::start().map_err(|error| {
            let failure = Failure::new("the thread of the blocking client cannot be started");
            Error::Transport(failure.not_sent().source(Box::new(error)).into())
        })?;
        Ok(self.started.get_or_init(|| Started {
            heartbeat: Heartbeat::of(Some(thread.handle().clone())),
            thread,
            missing_beat: AtomicU32::new(0),
        }))
    }
}

impl Started {
    /// Returns `true` if the thread was blocked for too long, and has not continued.
    fn is_blocked(&self) -> bool {
        let missing = self.missing_beat.load(Ordering::Relaxed);
        missing != 0 && missing == self.heartbeat.completed().wrapping_add(1)
    }

    fn set_blocked(&self, completed: u32) {
        let missing = completed.wrapping_add(1);
        self.missing_beat.store(missing, Ordering::Relaxed);
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

/// Returns the outcome of a call that waits for nothing.
pub(super) fn at_once<T>(
    instead: &str,
    call: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    call.now_or_never()
        .unwrap_or_else(|| Err(panicked(instead)))
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

fn blocked(call: &str) -> Error {
    let message = format!(
        "{call} failed, because a callback has blocked the thread of the blocking client for {} seconds; a callback must not block, and must not wait for a thread that calls the same client",
        BEAT.as_secs() * u64::from(MISSING_BEATS)
    );
    Error::Transport(Failure::new(message).into())
}

/// The time between two looks at the heartbeat of the thread.
const BEAT: Duration = Duration::from_secs(1);
/// The number of beats after which the thread counts as blocked. The deadline of a token request
/// that nobody blocks is not longer by default.
const MISSING_BEATS: u32 = 30;

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// A wait for a lock of the parent would never end.
    #[test]
    fn a_thread_of_the_process_before_a_fork_is_an_error_even_if_it_was_just_starting() {
        let client_thread = ClientThread::default();
        client_thread.started_in(7).unwrap();
        let starting = client_thread.0.starting.lock().unwrap();
        let (sender, outcome) = mpsc::channel();
        let child = client_thread.clone();
        thread::spawn(move || sender.send(child.started_in(8).map(|_| ())));
        let error = outcome.recv_timeout(PATIENCE).unwrap().unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        let message = error.to_string();
        assert!(message.contains("process 7 before a fork"), "{message}");
        assert!(message.contains("build another client"), "{message}");
        drop(starting);
        client_thread.started_in(7).unwrap();
    }

    #[test]
    fn a_client_that_was_not_used_before_a_fork_works_after_the_fork() {
        let thread = ClientThread::default();
        thread.clone().started_in(8).unwrap();
        thread.started_in(8).unwrap();
        assert!(thread.started_in(7).is_err());
    }

    /// A callback joins a thread that calls the same client. Without errors, both wait for ever.
    #[test]
    fn a_callback_that_waits_on_another_thread_for_its_own_client_gets_an_error() {
        let client = ClientThread::default();
        let (sender, joined) = mpsc::channel();
        let inner = client.clone();
        let callback = async move {
            let call = |beat| {
                let outcome = inner.start("inner()", async { Ok(()) })?;
                inner.receive_with("inner()", &outcome, beat)?
            };
            let beat = Duration::from_millis(1);
            thread::scope(|threads| {
                // The second call finds the thread known as blocked.
                for _ in 0..2 {
                    let joined = threads.spawn(|| call(beat)).join();
                    sender.send(joined.unwrap()).unwrap();
                }
            });
            Ok(())
        };
        let outer = client.start("outer()", callback).unwrap();
        client
            .receive_with("outer()", &outer, PATIENCE)
            .unwrap()
            .unwrap();
        for joined in joined {
            let error = joined.unwrap_err();
            assert!(matches!(error, Error::Transport(_)), "{error:?}");
            let message = error.to_string();
            assert!(
                message.contains("inner() failed, because a callback has blocked"),
                "{message}"
            );
        }
        client.wait("later()", async { Ok(()) }).unwrap();
    }

    #[test]
    fn a_call_may_take_longer_than_a_thread_may_be_blocked() {
        let client = ClientThread::default();
        let beats = client.clone();
        let (sender, receiver) = mpsc::channel();
        let call = async move {
            while beats.started()?.heartbeat.completed() <= MISSING_BEATS {
                tokio::task::yield_now().await;
            }
            sender.send(()).unwrap();
            Ok(())
        };
        let outcome = client.start("slow()", call).unwrap();
        let beat = Duration::from_millis(20);
        client.receive_with("slow()", &receiver, beat).unwrap();
        outcome.recv().unwrap().unwrap();
    }

    const PATIENCE: Duration = Duration::from_secs(60);
}
