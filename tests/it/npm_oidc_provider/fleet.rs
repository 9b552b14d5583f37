//! Replicas of one application in processes of their own: one signed-in user, one Redis, and
//! oidc-provider, which revokes the user's session when a refresh token comes a second time.

use std::time::Duration;

use confidential_client::cache::{EncryptionKey, RedisCache, SharedCacheOptions};
use confidential_client::delegated::Account;
use confidential_client::{
    AccessToken, Authority, ConfidentialClient, ConfidentialClientBuilder, Error, RetryPolicy,
    TokenRequest,
};
use redis::Value;
use tokio::time::sleep;

use self::replica::{Replica, Settings};
use self::tunnel::Tunnel;
use super::sign_in::{orders, sign_in};
use super::{Seen, Server};
use crate::redis_server::{Proxy, RedisServer, until};

mod replica;
mod tunnel;

/// Returns a builder without a transport.
fn builder(server: &Server, redis: redis::Client) -> ConfidentialClientBuilder {
    let tenant = &server.is.one;
    let key = EncryptionKey::from_bytes([1; 32]);
    let options = SharedCacheOptions::encrypted("the name key of the tests", [key]);
    ConfidentialClient::builder(&tenant.web.client_id)
        .authority(Authority::oidc(&tenant.issuer))
        .client_secret(tenant.secret.as_str())
        .shared_cache(RedisCache::new(redis), options)
}

/// A request whose token has a slot and a record of its own.
fn report(number: usize) -> TokenRequest {
    orders().form_parameter("report", number.to_string())
}

/// The provider, Redis, and a user who signed in in this process.
struct Fleet {
    server: Server,
    redis: RedisServer,
    signed_in: ConfidentialClient,
    account: Account,
}

impl Fleet {
    async fn start(test: &str, arguments: &[&str]) -> Self {
        let server = Server::of(test);
        let redis = RedisServer::start_with(arguments).await;
        let redis = redis.unwrap();
        let signed_in = client_of(&server, &redis);
        let user = sign_in(&server, &signed_in, &server.is.one, "adele").await;
        Self {
            account: user.account().clone(),
            server,
            redis,
            signed_in,
        }
    }

    /// Returns a replica with an empty memory, in this process.
    fn client(&self) -> ConfidentialClient {
        client_of(&self.server, &self.redis)
    }

    fn replica(&self) -> Replica {
        self.replica_by(self.redis.url(), None)
    }

    fn replica_by(&self, redis: String, tunnel: Option<&Tunnel>) -> Replica {
        Replica::start(&Settings {
            user_agent: self.server.user_agent.clone(),
            redis,
            tunnel: tunnel.map(|tunnel| tunnel.url().to_owned()),
            account: self.account.clone(),
        })
    }

    /// Calls in a replica with an empty memory.
    async fn call(&self, number: usize) -> Result<AccessToken, Error> {
        let client = self.client();
        client
            .acquire_token_silent(&self.account, report(number))
            .await
    }

    /// Returns the hashes of the refresh tokens that the provider got.
    async fn presented(&self) -> Vec<String> {
        let seen = self.server.seen().await.into_iter();
        seen.filter_map(|seen| seen.refresh_token).collect()
    }

    /// Asserts that the provider got each refresh token once, and rejected nothing.
    async fn assert_never_revoked(&self) -> usize {
        let seen = self.server.seen().await;
        let rejected = |seen: &&Seen| seen.refused.is_some();
        let rejected = seen.iter().find(rejected);
        assert!(rejected.is_none(), "{:?}", rejected.unwrap().refused);
        let presented = self.presented().await;
        let mut different = presented.clone();
        different.sort();
        different.dedup();
        assert_eq!(different.len(), presented.len());
        presented.len()
    }

    /// Returns the key of the user's session. The generation of a session is a time.
    async fn session(&self) -> String {
        for key in self.keys("*:r").await {
            if self.redis.text(&["HGET", &key, "g"]).await.len() > 10 {
                return key;
            }
        }
        panic!("there is no session");
    }

    async fn keys(&self, pattern: &str) -> Vec<String> {
        let Value::Array(keys) = self.redis.command(&["KEYS", pattern]).await else {
            panic!("no array");
        };
        let text = |key| match key {
            Value::BulkString(text) => String::from_utf8(text).unwrap(),
            other => panic!("{other:?}"),
        };
        keys.into_iter().map(text).collect()
    }

    async fn dump(&self, key: &str) -> Vec<u8> {
        match self.redis.command(&["DUMP", key]).await {
            Value::BulkString(dump) => dump,
            other => panic!("{other:?}"),
        }
    }

    async fn is_marked(&self) -> bool {
        let key = self.session().await;
        self.redis.command(&["HEXISTS", &key, "i"]).await == Value::Int(1)
    }

    /// Makes the mark of a redemption older than the longest request and pause.
    async fn age_mark(&self) {
        assert!(self.is_marked().await);
        let key = self.session().await;
        let since: u64 = self.redis.text(&["HGET", &key, "t"]).await.parse().unwrap();
        let since = (since - HOUR_MS).to_string();
        self.redis.command(&["HSET", &key, "t", &since]).await;
    }

    /// Waits until the life of all locks has ended.
    async fn locks_have_ended(&self) {
        until("the locks end", async || self.keys("*:l").await.is_empty()).await;
    }

    /// Lets a replica redeem the refresh token, whose response the tunnel holds.
    async fn redeem(&self, replica: &mut Replica, tunnel: &Tunnel) {
        assert!(replica.call(1).await.is_of_provider());
        let before = self.presented().await.len();
        tunnel.hold();
        replica.begin(1, 1);
        until("the provider responds", async || {
            self.presented().await.len() > before
        })
        .await;
    }
}

/// Returns a client in this process, which waits for another process for two seconds.
fn client_of(server: &Server, redis: &RedisServer) -> ConfidentialClient {
    builder(server, redis.client())
        .reqwest(server.builder())
        .retry(RetryPolicy::none().deadline(Duration::from_secs(2)))
        .build()
        .unwrap()
}

fn is_in_doubt(outcome: Result<AccessToken, Error>) -> bool {
    matches!(&outcome, Err(error @ Error::InteractionRequired(_)) if error.to_string().contains("theft"))
}

#[tokio::test]
#[ignore = "needs node with oidc-provider; .ci/run starts it and runs them"]
async fn two_processes_present_each_refresh_token_once() {
    let fleet = Fleet::start("two processes", &[]).await;
    let session = fleet.session().await;
    let old = fleet.dump(&session).await;
    let mut replicas = [fleet.replica(), fleet.replica()];
    for replica in &mut replicas {
        replica.begin(1000, 1);
    }
    for replica in &mut replicas {
        let outcomes = replica.outcomes().await;
        assert_eq!(outcomes.errors, [""; 0]);
        assert_eq!(outcomes.calls(), 1000);
        // Both redeem, and both find what the other redeemed.
        assert!(outcomes.provider > 0 && outcomes.shared > 0, "{outcomes:?}");
    }
    let redeemed = fleet.assert_never_revoked().await;
    assert!(redeemed > 200, "{redeemed}");

    // The judge judges: a store that goes back in time has a refresh token that was used, and the
    // provider then ends the session, the latest refresh token included.
    let latest = fleet.dump(&session).await;
    let client = fleet.redis.client();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    for dump in [old, latest] {
        let mut restore = redis::cmd("RESTORE");
        restore.arg(&session).arg(HOUR_MS).arg(dump).arg("REPLACE");
        restore.query_async::<()>(&mut connection).await.unwrap();
        let error = fleet.call(90).await.unwrap_err();
        assert!(error.needs_user_interaction(), "{error:?}");
    }
    let seen = fleet.server.seen().await;
    let rejected: Vec<_> = seen
        .iter()
        .filter_map(|seen| seen.refused.as_deref())
        .collect();
    assert_eq!(rejected[0], "refresh token already used");
    assert_eq!(rejected.len(), 2, "{rejected:?}");
}

/// The holder of the lock is stopped with SIGSTOP, after its request and before the response.
#[tokio::test]
#[ignore = "needs node with oidc-provider; .ci/run starts it and runs them"]
async fn a_holder_that_was_stopped_goes_on() {
    for (is_long, signs_in) in [(false, false), (true, false), (true, true)] {
        let fleet = Fleet::start("stopped", &[]).await;
        let tunnel = Tunnel::start().await;
        let mut replica = fleet.replica_by(fleet.redis.url(), Some(&tunnel));
        fleet.redeem(&mut replica, &tunnel).await;
        replica.stop();
        tunnel.release();
        fleet.locks_have_ended().await;
        let error = fleet.call(10).await.unwrap_err();
        assert!(
            error.is_transient(),
            "another process is at work: {error:?}"
        );
        if is_long {
            fleet.age_mark().await;
            assert!(is_in_doubt(fleet.call(11).await));
        }
        if signs_in {
            sign_in(
                &fleet.server,
                &fleet.client(),
                &fleet.server.is.one,
                "adele",
            )
            .await;
            fleet.call(12).await.unwrap();
        }
        replica.resume();
        let outcomes = replica.outcomes().await;
        assert!(outcomes.is_of_provider(), "{outcomes:?}");
        assert!(replica.call(3).await.is_of_provider());
        fleet.call(13).await.unwrap();
        fleet.assert_never_revoked().await;
    }
}

/// The holder of the lock is killed with SIGKILL, after the response and before its store.
#[tokio::test]
#[ignore = "needs node with oidc-provider; .ci/run starts it and runs them"]
async fn a_holder_that_was_killed_leaves_a_session_in_doubt() {
    for has_response in [false, true] {
        let fleet = Fleet::start("killed", &[]).await;
        let tunnel = Tunnel::start().await;
        let proxy = Proxy::to(fleet.redis.port()).await;
        let redis = format!("redis://127.0.0.1:{}", proxy.port());
        let mut replica = fleet.replica_by(redis, Some(&tunnel));
        fleet.redeem(&mut replica, &tunnel).await;
        if has_response {
            proxy.swallow_all();
            tunnel.release();
            let outcomes = replica.outcomes().await;
            assert!(outcomes.is_of_provider(), "{outcomes:?}");
        }
        replica.kill();
        fleet.locks_have_ended().await;
        let presented = fleet.presented().await.len();
        let error = fleet.call(10).await.unwrap_err();
        assert!(
            error.is_transient(),
            "another process may be at work: {error:?}"
        );
        fleet.age_mark().await;
        assert!(is_in_doubt(fleet.call(11).await));
        // The access token is served, from memory and from Redis.
        for client in [&fleet.signed_in, &fleet.client()] {
            client
                .acquire_token_silent(&fleet.account, orders())
                .await
                .unwrap();
        }
        assert_eq!(fleet.presented().await.len(), presented);
        sign_in(
            &fleet.server,
            &fleet.client(),
            &fleet.server.is.one,
            "adele",
        )
        .await;
        fleet.call(12).await.unwrap();
        fleet.assert_never_revoked().await;
    }
}

/// Redis loses the connections of the holder after the response, and is back later.
#[tokio::test]
#[ignore = "needs node with oidc-provider; .ci/run starts it and runs them"]
async fn a_holder_without_redis_stores_the_refresh_token_later() {
    let fleet = Fleet::start("stored later", &[]).await;
    let tunnel = Tunnel::start().await;
    let proxy = Proxy::to(fleet.redis.port()).await;
    let redis = format!("redis://127.0.0.1:{}", proxy.port());
    let mut replica = fleet.replica_by(redis, Some(&tunnel));
    fleet.redeem(&mut replica, &tunnel).await;
    proxy.swallow_all();
    tunnel.release();
    assert!(replica.outcomes().await.is_of_provider());
    let presented = fleet.presented().await.len();
    // The replica has a new refresh token, and does not redeem the token alone.
    let outcomes = replica.call(1).await;
    assert_eq!(
        (outcomes.memory, outcomes.errors.len()),
        (1, 0),
        "{outcomes:?}"
    );
    assert_eq!(fleet.presented().await.len(), presented);
    proxy.swallow_open();
    until("the new refresh token is stored", async || {
        !fleet.is_marked().await
    })
    .await;
    fleet.call(10).await.unwrap();
    fleet.assert_never_revoked().await;
}

#[tokio::test]
#[ignore = "needs node with oidc-provider; .ci/run starts it and runs them"]
async fn nobody_redeems_while_redis_is_down() {
    let persistent = &["--appendonly", "yes", "--appendfsync", "always"][..];
    for (arguments, is_persistent) in [(persistent, true), (&[], false)] {
        let mut fleet = Fleet::start("redis is down", arguments).await;
        let mut replicas = [fleet.replica(), fleet.replica()];
        for replica in &mut replicas {
            assert_eq!(replica.call(1).await.calls(), 1);
            assert_eq!(replica.call(2).await.calls(), 1);
            replica.begin(400, 1);
        }
        fleet.redis.stop();
        sleep(Duration::from_secs(2)).await;
        let presented = fleet.presented().await.len();
        fleet.redis.kill();
        sleep(Duration::from_secs(2)).await;
        assert_eq!(fleet.presented().await.len(), presented, "redeemed alone");
        for replica in &mut replicas {
            let outcomes = replica.outcomes().await;
            // The valid access token is served.
            assert_eq!(
                (outcomes.calls(), outcomes.errors.len()),
                (400, 0),
                "{outcomes:?}"
            );
        }
        assert_eq!(fleet.presented().await.len(), presented, "redeemed alone");
        fleet.redis.restart().await;
        for (number, replica) in replicas.iter_mut().enumerate() {
            if !is_persistent {
                until("the user has to sign in", async || {
                    matches!(fleet.call(10).await, Err(Error::InteractionRequired(_)))
                })
                .await;
                sign_in(
                    &fleet.server,
                    &fleet.client(),
                    &fleet.server.is.one,
                    "adele",
                )
                .await;
            }
            // A slot answers with its last failure for a while.
            let mut scope = 10 + 10 * number;
            while !replica.call(scope).await.is_of_provider() {
                scope += 1;
                assert!(scope < 100, "the replica does not go on");
                sleep(Duration::from_millis(500)).await;
            }
            if !is_persistent {
                fleet.redis.command(&["FLUSHALL"]).await;
            }
        }
        fleet.assert_never_revoked().await;
    }
}

const HOUR_MS: u64 = 3_600_000;
