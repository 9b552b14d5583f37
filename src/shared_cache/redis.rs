use std::fmt;
use std::time::Duration;

use ::redis::aio::ConnectionLike;
use ::redis::{Client, RedisResult};
use bytes::Bytes;

use super::store::{
    BeginRedemption, LockOutcome, LockOwner, NewRecord, PutOutcome, Redemption, SharedCache,
    SharedCacheFuture, SharedRecord,
};

mod connection;
mod failure;
mod reply;
mod scripts;

use connection::{RedisConnections, RedisLease};
use failure::RedisFailure;
use reply::Reply;

/// A shared cache in Redis, or in a server with the protocol of Redis.
///
/// The caller's `redis::Client` has the address, the password and the settings of TLS. A value is
/// created without I/O. The first call connects, and all calls share one connection.
///
/// ```
/// use confidential_client::cache::RedisCache;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let client = redis::Client::open("redis://user:password@127.0.0.1:6379")?;
/// let cache = RedisCache::new(client).wait_for_replicas(1);
/// # let _ = cache;
/// # Ok(())
/// # }
/// ```
///
/// The tests of the crate run against Redis 7.0. Redis 7 and later accept the records and locks of
/// the cache when the memory limit is reached. An earlier version rejects them.
///
/// # Connections
///
/// - The cache opens a new connection after a lost connection, after three time-outs in a row,
///   after a failed authentication, and when Redis has become a read-only replica. The address is
///   resolved again each time.
/// - The cache checks a connection that was silent for one second with `PING`, and replaces a
///   connection that does not respond within 200 milliseconds.
/// - A command takes five seconds at most. The client of this crate ends each call earlier, after
///   [`call_timeout`], and the cache counts such a call as a time-out.
/// - Opening a connection takes two seconds at most. The cache continues to open the connection
///   after the end of the call.
/// - The cache never repeats a command whose outcome is unknown.
///
/// [`call_timeout`]: super::SharedCacheOptions::call_timeout
///
/// # Settings of the server
///
/// | setting | without the setting |
/// |---|---|
/// | `appendonly yes` | a restart of Redis signs out all users |
/// | `maxmemory-policy noeviction` | Redis evicts sessions, and the users sign in again |
/// | a replica and `min-replicas-to-write 1` | a fail-over may lose the latest refresh tokens |
///
/// A cache with replicas needs [`wait_for_replicas(1)`](Self::wait_for_replicas), too.
///
/// A record with an access token and a refresh token takes about 2.7 KiB. A name takes two keys,
/// `{name}:r` and `{name}:l`, which a Redis Cluster stores on the same node. The prefix of the
/// names is [`SharedCacheOptions::prefix`](super::SharedCacheOptions::prefix). A user of Redis with
/// the least rights has this rule:
///
/// ```text
/// ACL SETUSER app on >password ~{confidential-client* +eval +evalsha +ping +wait
///     +get +set +pttl +del +hmget +hset +hdel +pexpire +time
/// ```
///
/// # TLS
///
/// A URL `rediss://` needs a TLS feature of the crate `redis`, such as `tokio-rustls-comp`. A
/// program with two providers of rustls, `ring` and `aws-lc-rs`, must call
/// `rustls::crypto::CryptoProvider::install_default` first. Without the call, each connection fails
/// with an error that names the cause. `redis::Client::build_with_tls` accepts a private CA.
///
/// # Versions of the crate `redis`
///
/// The feature `redis` has the types of `redis` 1. A later major version of that crate gets a
/// separate feature.
pub struct RedisCache {
    connections: RedisConnections,
    replicas: usize,
}

impl RedisCache {
    /// Creates a cache on the server of a client.
    ///
    /// Creating a cache does no I/O. A wrong address or password is an error of the first call.
    pub fn new(client: Client) -> Self {
        Self::of(RedisConnections::to_client(client))
    }

    /// Creates a cache on the connections that a closure opens.
    ///
    /// The closure is for a Redis Cluster, for Redis Sentinel, and for passwords that change. The
    /// closure is called for each new connection, and its future runs for two seconds at most. A
    /// connection must not retry commands by itself.
    ///
    /// ```
    /// use confidential_client::cache::RedisCache;
    ///
    /// # fn current_password() -> String { "password".to_owned() }
    /// let cache = RedisCache::from_connector(|| async {
    ///     let url = format!("redis://app:{}@redis.example:6379", current_password());
    ///     redis::Client::open(url)?.get_multiplexed_async_connection().await
    /// });
    /// # let _ = cache;
    /// ```
    pub fn from_connector<F, R, C>(connect: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = RedisResult<C>> + Send + 'static,
        C: ConnectionLike + Clone + Send + Sync + 'static,
    {
        Self::of(RedisConnections::from_connector(connect))
    }

    /// Sets the number of replicas that must have the mark of a redemption before the client sends
    /// a refresh token. The default is 0.
    ///
    /// A fail-over to a replica without the mark would let a second process redeem the same refresh
    /// token, and a provider that rotates refresh tokens then revokes the user's session. The cache
    /// waits 250 milliseconds at most for the replicas ([`WAIT`]), on a connection that no other
    /// call uses. The client does not redeem the refresh token if too few replicas respond.
    /// [`call_timeout`](super::SharedCacheOptions::call_timeout) must be longer than that time.
    ///
    /// [`WAIT`]: https://redis.io/docs/latest/commands/wait/
    pub fn wait_for_replicas(mut self, replicas: usize) -> Self {
        self.replicas = replicas;
        self
    }

    fn of(connections: RedisConnections) -> Self {
        Self {
            connections,
            replicas: 0,
        }
    }

    async fn begin(
        &self,
        name: &str,
        owner: &LockOwner,
        generation: u64,
    ) -> Result<BeginRedemption, RedisFailure> {
        if self.replicas == 0 {
            let mut lease = self.connections.shared().await?;
            return begin(&mut lease, name, owner, generation).await;
        }
        // WAIT blocks its connection. It waits for the writes of its own connection alone.
        let mut lease = self.connections.exclusive().await?;
        let outcome = begin(&mut lease, name, owner, generation).await?;
        if outcome == BeginRedemption::Begun {
            let replicas = lease.wait_for_replicas(self.replicas, WAIT_LIMIT).await?;
            if replicas < self.replicas {
                cancel(&mut lease, name, owner, generation).await?;
                return Err(lease.too_few_replicas(replicas, self.replicas));
            }
        }
        lease.keep();
        Ok(outcome)
    }
}

impl SharedCache for RedisCache {
    fn get<'a>(&'a self, name: &'a str) -> SharedCacheFuture<'a, Option<SharedRecord>> {
        Box::pin(async move {
            let mut lease = self.connections.shared().await?;
            let reply = scripts::GET.run(&mut lease, name, &[]).await?;
            Ok(lease.read(reply, Reply::record)?)
        })
    }

    fn put<'a>(&'a self, name: &'a str, record: NewRecord) -> SharedCacheFuture<'a, PutOutcome> {
        Box::pin(async move {
            let mut lease = self.connections.shared().await?;
            let generation = record.generation.to_string();
            let lifetime = milliseconds(record.lifetime);
            let replaces = record.replaces.map(|generation| generation.to_string());
            let mut arguments = vec![generation.as_bytes(), &record.value, lifetime.as_bytes()];
            arguments.extend(replaces.as_ref().map(String::as_bytes));
            let reply = scripts::PUT.run(&mut lease, name, &arguments).await?;
            Ok(lease.read(reply, |reply| match reply.number()? {
                1 => Some(PutOutcome::Stored),
                0 => Some(PutOutcome::Superseded),
                _ => None,
            })?)
        })
    }

    fn lock<'a>(
        &'a self,
        name: &'a str,
        owner: &'a LockOwner,
        lifetime: Duration,
    ) -> SharedCacheFuture<'a, LockOutcome> {
        Box::pin(async move {
            let mut lease = self.connections.shared().await?;
            let lifetime = milliseconds(lifetime);
            let arguments = [owner.as_str().as_bytes(), lifetime.as_bytes()];
            let reply = scripts::LOCK.run(&mut lease, name, &arguments).await?;
            Ok(lease.read(reply, Reply::lock_outcome)?)
        })
    }

    fn unlock<'a>(&'a self, name: &'a str, owner: &'a LockOwner) -> SharedCacheFuture<'a, ()> {
        Box::pin(async move {
            let mut lease = self.connections.shared().await?;
            let arguments = [owner.as_str().as_bytes()];
            scripts::UNLOCK.run(&mut lease, name, &arguments).await?;
            Ok(())
        })
    }

    fn replicates_redemptions(&self) -> bool {
        self.replicas > 0
    }

    fn begin_redemption<'a>(
        &'a self,
        name: &'a str,
        owner: &'a LockOwner,
        generation: u64,
    ) -> SharedCacheFuture<'a, BeginRedemption> {
        Box::pin(async move { Ok(self.begin(name, owner, generation).await?) })
    }

    fn cancel_redemption<'a>(
        &'a self,
        name: &'a str,
        owner: &'a LockOwner,
        generation: u64,
    ) -> SharedCacheFuture<'a, ()> {
        Box::pin(async move {
            let mut lease = self.connections.shared().await?;
            Ok(cancel(&mut lease, name, owner, generation).await?)
        })
    }
}

impl fmt::Debug for RedisCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisCache")
            .field("server", &self.connections.server())
            .field("replicas", &self.replicas)
            .finish_non_exhaustive()
    }
}

async fn begin(
    lease: &mut RedisLease,
    name: &str,
    owner: &LockOwner,
    generation: u64,
) -> Result<BeginRedemption, RedisFailure> {
    let generation = generation.to_string();
    let arguments = [owner.as_str().as_bytes(), generation.as_bytes()];
    let reply = scripts::BEGIN.run(lease, name, &arguments).await?;
    lease.read(reply, |reply| match reply.number()? {
        1 => Some(BeginRedemption::Begun),
        -1 => Some(BeginRedemption::NotLocked),
        -2 => Some(BeginRedemption::OtherGeneration),
        -3 => Some(BeginRedemption::InProgress),
        _ => None,
    })
}

async fn cancel(
    lease: &mut RedisLease,
    name: &str,
    owner: &LockOwner,
    generation: u64,
) -> Result<(), RedisFailure> {
    let generation = generation.to_string();
    let arguments = [owner.as_str().as_bytes(), generation.as_bytes()];
    scripts::CANCEL.run(lease, name, &arguments).await?;
    Ok(())
}

/// Returns a time to live that Redis accepts: at least a millisecond, and at most 300 years.
fn milliseconds(lifetime: Duration) -> String {
    lifetime.as_millis().clamp(1, 9_500_000_000_000).to_string()
}

/// Half of the default time limit of a call. The rest is for the connection and for taking the mark
/// back.
const WAIT_LIMIT: Duration = Duration::from_millis(250);
