use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::redis::aio::ConnectionLike;
use ::redis::{AsyncConnectionConfig, Client, Cmd, RedisResult, Value, cmd};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout};

use super::failure::{RedisFailure, Remedy};
use super::reply::Reply;

/// The connections to one server: one for all calls, and some that a call has for itself.
///
/// All connections have a number in common. A connection that is of no more use takes the others of
/// its number with it, because a fail-over or a new password concerns all of them.
pub(super) struct RedisConnections(Arc<Inner>);

struct Inner {
    connect: Connector,
    /// The server in error messages, without a password.
    server: Arc<str>,
    state: Mutex<ConnectionState>,
}

type Connector = Box<dyn Fn() -> BoxFuture<'static, RedisResult<RedisConnection>> + Send + Sync>;

#[derive(Default)]
struct ConnectionState {
    number: u64,
    /// The connection for all calls, which may still be opening.
    opening: Option<Opening>,
    /// Open connections that no call uses.
    kept: VecDeque<RedisConnection>,
    /// The time-outs since the last response.
    time_outs: u32,
}

impl ConnectionState {
    fn discard(&mut self) {
        *self = Self {
            number: self.number + 1,
            ..Self::default()
        };
    }
}

type Opening = Shared<BoxFuture<'static, Result<RedisConnection, RedisFailure>>>;

impl RedisConnections {
    pub(super) fn to_client(client: Client) -> Self {
        let server = format!("Redis at {}", client.get_connection_info().addr());
        // The limits of this module count, and the drop of a call.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None);
        Self::new(server, move || {
            let (client, config) = (client.clone(), config.clone());
            async move {
                client
                    .get_multiplexed_async_connection_with_config(&config)
                    .await
            }
        })
    }

    pub(super) fn from_connector<F, R, C>(connect: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = RedisResult<C>> + Send + 'static,
        C: ConnectionLike + Clone + Send + Sync + 'static,
    {
        Self::new("Redis".to_owned(), connect)
    }

    fn new<F, R, C>(server: String, connect: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = RedisResult<C>> + Send + 'static,
        C: ConnectionLike + Clone + Send + Sync + 'static,
    {
        let connect = Box::new(move || {
            let connecting = connect();
            async move { Ok(RedisConnection::new(connecting.await?)) }.boxed()
        });
        Self(Arc::new(Inner {
            connect,
            server: server.into(),
            state: Mutex::default(),
        }))
    }

    pub(super) fn server(&self) -> &str {
        &self.0.server
    }

    /// Returns the connection that all calls share.
    pub(super) async fn shared(&self) -> Result<RedisLease, RedisFailure> {
        let mut lease = self.opened().await?;
        match lease.responds().await {
            true => Ok(lease),
            false => self.opened().await,
        }
    }

    /// Returns a connection that no other call uses.
    pub(super) async fn exclusive(&self) -> Result<RedisLease, RedisFailure> {
        while let Some(mut lease) = self.kept() {
            if lease.responds().await {
                return Ok(lease);
            }
        }
        let number = self.0.state().number;
        self.wait(Arc::clone(&self.0).open(number), number).await
    }

    async fn opened(&self) -> Result<RedisLease, RedisFailure> {
        let (opening, number) = self.opening();
        self.wait(opening, number).await
    }

    async fn wait(
        &self,
        opening: impl Future<Output = Result<RedisConnection, RedisFailure>>,
        number: u64,
    ) -> Result<RedisLease, RedisFailure> {
        let pending = Pending::new(&self.0, number);
        let opened = opening.await;
        match &opened {
            // The connection may have been open before. Only a response ends a row of time-outs.
            Ok(_) => pending.forget(),
            Err(failure) => pending.settle(Some(failure)),
        }
        Ok(self.lease(opened?, number))
    }

    fn opening(&self) -> (Opening, u64) {
        let mut state = self.0.state();
        if let Some(opening) = &state.opening {
            return (opening.clone(), state.number);
        }
        let number = state.number;
        let opening = Arc::clone(&self.0).open(number).boxed().shared();
        state.opening = Some(opening.clone());
        (opening, number)
    }

    fn kept(&self) -> Option<RedisLease> {
        let mut state = self.0.state();
        let connection = state.kept.pop_front()?;
        let number = state.number;
        drop(state);
        Some(self.lease(connection, number))
    }

    fn lease(&self, connection: RedisConnection, number: u64) -> RedisLease {
        RedisLease {
            connection,
            number,
            inner: Arc::clone(&self.0),
        }
    }
}

impl Inner {
    /// Opens a connection in a task, so that the end of the call that began it does not end it.
    ///
    /// A panic is an error: rustls panics in a program with two providers.
    async fn open(self: Arc<Self>, number: u64) -> Result<RedisConnection, RedisFailure> {
        let Ok(runtime) = Handle::try_current() else {
            return Err(RedisFailure::no_runtime(&self.server));
        };
        let attempt = Attempt {
            inner: Arc::clone(&self),
            number,
            has_succeeded: false,
        };
        let task = runtime.spawn(async move {
            // Whole, and not field by field: its drop reads the field that is set below.
            let mut attempt = attempt;
            let inner = &attempt.inner;
            let result = match timeout(CONNECT_LIMIT, (inner.connect)()).await {
                Ok(result) => result.map_err(|error| RedisFailure::new(&inner.server, &error)),
                Err(_) => Err(RedisFailure::not_connected(&inner.server, CONNECT_LIMIT)),
            };
            attempt.has_succeeded = result.is_ok();
            result
        });
        match task.await {
            Ok(result) => result,
            Err(error) => Err(RedisFailure::ended(&self.server, error.is_panic())),
        }
    }

    /// Closes the connections of a number after their calls in progress.
    fn discard(&self, number: u64) {
        let mut state = self.state();
        if state.number == number {
            state.discard();
        }
    }

    fn timed_out(&self, number: u64) {
        let mut state = self.state();
        if state.number != number {
            return;
        }
        state.time_outs += 1;
        if state.time_outs >= MAX_TIME_OUTS {
            state.discard();
        }
    }

    fn responded(&self, number: u64) {
        let mut state = self.state();
        if state.number == number {
            state.time_outs = 0;
        }
    }

    fn state(&self) -> MutexGuard<'_, ConnectionState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An attempt to open a connection. A call after a failed attempt begins another attempt, and does
/// not get the error, the panic or the end of the runtime from a time when no call waited.
struct Attempt {
    inner: Arc<Inner>,
    number: u64,
    has_succeeded: bool,
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.has_succeeded {
            self.inner.discard(self.number);
        }
    }
}

/// A connection for one call.
pub(super) struct RedisLease {
    connection: RedisConnection,
    number: u64,
    inner: Arc<Inner>,
}

impl RedisLease {
    pub(super) async fn send(&mut self, command: &Cmd) -> Result<Value, RedisFailure> {
        let pending = Pending::new(&self.inner, self.number);
        let server = &self.inner.server;
        let result = match timeout(COMMAND_LIMIT, self.connection.send(command)).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(RedisFailure::new(server, &error)),
            Err(_) => Err(RedisFailure::timed_out(server, COMMAND_LIMIT)),
        };
        pending.settle(result.as_ref().err());
        result
    }

    /// Returns `false` if the connection was silent for some time and does not respond now. The
    /// next connection is a new one.
    async fn responds(&mut self) -> bool {
        if self.connection.silence() < MAX_SILENCE {
            return true;
        }
        let pending = Pending::new(&self.inner, self.number);
        let ping = cmd("PING");
        match timeout(PING_LIMIT, self.connection.send(&ping)).await {
            // An error of the server is a response, too.
            Ok(response) if !response.as_ref().is_err_and(RedisFailure::is_lost) => {
                pending.settle(None);
                true
            }
            _ => {
                pending.forget();
                self.inner.discard(self.number);
                false
            }
        }
    }

    /// Returns the number of replicas that have all writes of this connection.
    pub(super) async fn wait_for_replicas(
        &mut self,
        replicas: usize,
        limit: Duration,
    ) -> Result<usize, RedisFailure> {
        let mut command = cmd("WAIT");
        let limit = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        command.arg(replicas).arg(limit);
        let reply = Reply(self.send(&command).await?);
        self.read(reply, |reply| reply.number()?.try_into().ok())
    }

    pub(super) fn read<T>(
        &self,
        reply: Reply,
        read: impl FnOnce(Reply) -> Option<T>,
    ) -> Result<T, RedisFailure> {
        read(reply).ok_or_else(|| RedisFailure::unreadable(&self.inner.server))
    }

    pub(super) fn too_few_replicas(&self, replicas: usize, wanted: usize) -> RedisFailure {
        RedisFailure::too_few_replicas(&self.inner.server, replicas, wanted)
    }

    pub(super) fn knows_flags(&self) -> bool {
        !self.connection.is_without_flags.load(Ordering::Relaxed)
    }

    pub(super) fn forget_flags(&self) {
        self.connection
            .is_without_flags
            .store(true, Ordering::Relaxed);
    }

    /// Keeps a connection that no other call uses for a later call.
    pub(super) fn keep(self) {
        let mut state = self.inner.state();
        if state.number == self.number && state.kept.len() < MAX_KEPT {
            state.kept.push_back(self.connection);
        }
    }
}

/// A call that waits for the server. A call that is dropped has timed out.
struct Pending<'a> {
    inner: &'a Inner,
    number: u64,
    is_settled: bool,
}

impl<'a> Pending<'a> {
    fn new(inner: &'a Inner, number: u64) -> Self {
        Self {
            inner,
            number,
            is_settled: false,
        }
    }

    fn settle(mut self, failure: Option<&RedisFailure>) {
        self.is_settled = true;
        match failure.map(RedisFailure::remedy) {
            None | Some(Remedy::Wait) => self.inner.responded(self.number),
            Some(Remedy::Reconnect) => self.inner.discard(self.number),
            Some(Remedy::ReconnectIfRepeated) => self.inner.timed_out(self.number),
        }
    }

    fn forget(mut self) {
        self.is_settled = true;
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if !self.is_settled {
            self.inner.timed_out(self.number);
        }
    }
}

/// An open connection. Clones share it.
#[derive(Clone)]
struct RedisConnection {
    channel: Box<dyn Channel>,
    last_response: Arc<Mutex<Instant>>,
    is_without_flags: Arc<AtomicBool>,
}

impl RedisConnection {
    fn new(channel: impl Channel) -> Self {
        Self {
            channel: Box::new(channel),
            last_response: Arc::new(Mutex::new(Instant::now())),
            is_without_flags: Arc::default(),
        }
    }

    async fn send(&mut self, command: &Cmd) -> RedisResult<Value> {
        let value = self.channel.send(command).await?;
        *self.last_response() = Instant::now();
        value.extract_error()
    }

    fn silence(&self) -> Duration {
        self.last_response().elapsed()
    }

    fn last_response(&self) -> MutexGuard<'_, Instant> {
        self.last_response
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Any connection of the crate `redis`.
trait Channel: Send + Sync + 'static {
    fn send<'a>(&'a mut self, command: &'a Cmd) -> BoxFuture<'a, RedisResult<Value>>;

    fn clone_box(&self) -> Box<dyn Channel>;
}

impl<C: ConnectionLike + Clone + Send + Sync + 'static> Channel for C {
    fn send<'a>(&'a mut self, command: &'a Cmd) -> BoxFuture<'a, RedisResult<Value>> {
        self.req_packed_command(command)
    }

    fn clone_box(&self) -> Box<dyn Channel> {
        Box::new(self.clone())
    }
}

impl Clone for Box<dyn Channel> {
    fn clone(&self) -> Self {
        (**self).clone_box()
    }
}

const CONNECT_LIMIT: Duration = Duration::from_secs(2);

/// The client of the crate ends each call much earlier.
const COMMAND_LIMIT: Duration = Duration::from_secs(5);

const PING_LIMIT: Duration = Duration::from_millis(200);

const MAX_SILENCE: Duration = Duration::from_secs(1);

const MAX_TIME_OUTS: u32 = 3;

const MAX_KEPT: usize = 4;
