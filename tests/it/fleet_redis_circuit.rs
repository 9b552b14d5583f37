//! Clients whose real Redis is down, slow, full, read-only, flushed, or behind after a fail-over.

use std::time::Duration;

use confidential_client::cache::{EncryptionKey, RedisCache, SharedCacheOptions};
use confidential_client::delegated::Account;
use confidential_client::testing::ManualClock;
use confidential_client::{
    AccessToken, Authority, ConfidentialClient, Error, RetryPolicy, TokenRequest, TokenSource,
};
use redis::Value;

use crate::redis_server::{Proxy, RedisServer, until};
use crate::support::log_capture::Log;
use crate::support::openid::{FILES, ISSUER, OpenId};
use crate::support::{SCOPE, scope};

const OTHER: &str = "mail.read";

fn options() -> SharedCacheOptions {
    let key = EncryptionKey::from_bytes([1; 32]);
    SharedCacheOptions::encrypted("the name key of the tests", [key])
}

/// What happens to Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Misfortune {
    /// Killed, and started again without data.
    Killed,
    ReadOnly,
    Slow,
    /// The client's password is wrong.
    Locked,
}

/// A Redis behind a proxy, a provider, and the clock of the clients.
struct Fleet {
    redis: RedisServer,
    /// Another server, which asks for a password.
    locked: RedisServer,
    proxy: Proxy,
    provider: OpenId,
    clock: ManualClock,
}

impl Fleet {
    async fn start() -> Option<Self> {
        let redis = RedisServer::start().await?;
        Some(Self {
            proxy: Proxy::to(redis.port()).await,
            locked: RedisServer::start_with(&["--requirepass", "hunter2"]).await?,
            redis,
            provider: OpenId::new(ISSUER),
            clock: ManualClock::new(),
        })
    }

    fn replica(&self) -> ConfidentialClient {
        self.replica_of(RedisCache::new(self.proxy.client()))
    }

    fn replica_of(&self, cache: RedisCache) -> ConfidentialClient {
        let builder = self.provider.builder(Authority::oidc(ISSUER));
        let builder = builder.shared_cache(cache, options());
        let builder = builder.clock(self.clock.clone());
        builder.retry(RetryPolicy::none()).build().unwrap()
    }

    async fn begin(&mut self, misfortune: Misfortune) {
        match misfortune {
            Misfortune::Killed => self.redis.kill(),
            Misfortune::ReadOnly => self.redis.replica_of(1).await,
            Misfortune::Slow => self.proxy.delay(Duration::from_secs(5)),
            Misfortune::Locked => {
                self.proxy.lead_to(self.locked.port());
                let kill = ["CLIENT", "KILL", "TYPE", "normal"];
                self.redis.command(&kill).await;
            }
        }
    }

    async fn end(&mut self, misfortune: Misfortune) {
        match misfortune {
            Misfortune::Killed => self.redis.restart().await,
            Misfortune::ReadOnly => self.redis.promote().await,
            Misfortune::Slow => self.proxy.delay(Duration::ZERO),
            Misfortune::Locked => self.proxy.lead_to(self.redis.port()),
        }
    }

    /// Waits until Redis has what was stored behind the callers' backs.
    async fn until_stored(&self) {
        until_unlocked(&self.redis).await;
    }

    /// Waits until another replica finds what this client stores.
    async fn until_used_again(&self, client: &ConfidentialClient) {
        let number = std::cell::Cell::new(100);
        until("the store is used again", async || {
            number.set(number.get() + 1);
            // The circuit lets one call pass.
            self.clock.advance(Duration::from_secs(20));
            application(client, &scope(number.get())).await.unwrap();
            self.until_stored().await;
            let found = application(&self.replica(), &scope(number.get())).await;
            found.unwrap().source() == TokenSource::SharedCache
        })
        .await;
    }

    fn presented(&self, refresh_token: &str) -> usize {
        self.provider.presented("refresh_token", refresh_token)
    }
}

async fn until_unlocked(redis: &RedisServer) {
    until("no lock is held", async || {
        redis.command(&["KEYS", "*:l"]).await == Value::Array(Vec::new())
    })
    .await;
}

async fn application(client: &ConfidentialClient, scope: &str) -> Result<AccessToken, Error> {
    client.acquire_token_for_client(scope).await
}

async fn silent(
    client: &ConfidentialClient,
    account: &Account,
    scope: &str,
) -> Result<AccessToken, Error> {
    client.acquire_token_silent(account, scope).await
}

fn warnings(log: &Log) -> usize {
    log.text().matches("the shared cache failed").count()
}

#[tokio::test]
async fn no_caller_has_an_error_while_a_token_is_valid_and_the_store_is_used_again() {
    for misfortune in [
        Misfortune::Killed,
        Misfortune::ReadOnly,
        Misfortune::Slow,
        Misfortune::Locked,
    ] {
        let Some(mut fleet) = Fleet::start().await else {
            return;
        };
        let client = fleet.replica();
        let account = fleet.provider.sign_in(&client).await.account().clone();
        application(&client, SCOPE).await.unwrap();
        fleet.until_stored().await;
        let log = Log::start();
        fleet.begin(misfortune).await;

        // Valid tokens, also where the caller asks for newer ones.
        let token = application(&client, SCOPE).await.unwrap();
        assert_eq!(token.source(), TokenSource::Cache);
        let request = TokenRequest::new(SCOPE).force_refresh();
        let token = client.acquire_token_for_client(request).await;
        assert_eq!(token.unwrap().source(), TokenSource::IdentityProvider);
        for request in [
            TokenRequest::new(FILES),
            TokenRequest::new(FILES).force_refresh(),
        ] {
            let token = client.acquire_token_silent(&account, request).await;
            assert_eq!(token.unwrap().secret(), "token-1", "{misfortune:?}");
        }
        // None is valid.
        for number in 0..5 {
            let token = application(&client, &scope(number)).await;
            assert_eq!(token.unwrap().source(), TokenSource::IdentityProvider);
        }
        let error = silent(&client, &account, OTHER).await.unwrap_err();
        assert!(error.is_transient(), "{misfortune:?}: {error:?}");
        assert!(error.to_string().contains("shared cache"), "{error}");
        assert_eq!(fleet.presented("refresh-1"), 0, "{misfortune:?}");
        assert_eq!(warnings(&log), 1, "{misfortune:?}");
        assert_eq!(client.cache().stats().shared_cache_failures, 1);

        fleet.end(misfortune).await;
        fleet.until_used_again(&client).await;
        assert!(log.text().contains("responds again"), "{misfortune:?}");
        let outcome = silent(&client, &account, OTHER).await;
        match misfortune {
            // The store is empty: a refresh token in memory may be older than the last one.
            Misfortune::Killed => {
                let error = outcome.unwrap_err();
                assert!(error.needs_user_interaction(), "{error:?}");
                assert_eq!(fleet.presented("refresh-1"), 0);
            }
            _ => {
                outcome.unwrap();
                assert_eq!(fleet.presented("refresh-1"), 1, "{misfortune:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_flushed_or_full_store_is_no_failure() {
    for command in [
        &["FLUSHALL"][..],
        &["SCRIPT", "FLUSH"],
        &["CONFIG", "SET", "maxmemory", "1"],
    ] {
        let Some(fleet) = Fleet::start().await else {
            return;
        };
        let client = fleet.replica();
        let account = fleet.provider.sign_in(&client).await.account().clone();
        application(&client, SCOPE).await.unwrap();
        fleet.until_stored().await;
        let log = Log::start();
        fleet.redis.command(command).await;
        for request in [TokenRequest::new(SCOPE).force_refresh(), scope(1).into()] {
            client.acquire_token_for_client(request).await.unwrap();
        }
        silent(&client, &account, FILES).await.unwrap();
        fleet.until_stored().await;
        let found = application(&fleet.replica(), SCOPE).await.unwrap();
        assert_eq!(found.source(), TokenSource::SharedCache);
        let outcome = silent(&client, &account, OTHER).await;
        let is_empty = command[0] == "FLUSHALL";
        assert_eq!(outcome.is_err(), is_empty, "{command:?}: {outcome:?}");
        assert_eq!(fleet.presented("refresh-1"), usize::from(!is_empty));
        assert_eq!(warnings(&log), 0, "{}", log.text());
        assert_eq!(client.cache().stats().shared_cache_failures, 0);
    }
}

#[tokio::test]
async fn a_fail_over_with_a_stalled_replication_refuses_the_redemption() {
    let Some(mut fleet) = Fleet::start().await else {
        return;
    };
    let Some(replica) = RedisServer::start().await else {
        return;
    };
    let link = Proxy::to(fleet.redis.port()).await;
    replica.replica_of(link.port()).await;
    let cache = RedisCache::new(fleet.proxy.client()).wait_for_replicas(1);
    let client = fleet.replica_of(cache);
    let account = fleet.provider.sign_in(&client).await.account().clone();
    fleet.until_stored().await;
    let keys = fleet.redis.command(&["DBSIZE"]).await;
    until("the replica has all records", async || {
        replica.command(&["DBSIZE"]).await == keys
    })
    .await;

    link.swallow_open();
    let error = silent(&client, &account, OTHER).await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    silent(&client, &account, FILES).await.unwrap();
    assert_eq!(fleet.presented("refresh-1"), 0);
    // The new primary has no replica yet.
    replica.promote().await;
    fleet.proxy.lead_to(replica.port());
    fleet.redis.kill();
    fleet.clock.advance(Duration::from_secs(60));
    let error = silent(&client, &account, OTHER).await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    assert_eq!(fleet.presented("refresh-1"), 0);

    fleet.redis.restart().await;
    fleet.redis.replica_of(replica.port()).await;
    until("a redemption", async || {
        fleet.clock.advance(Duration::from_secs(20));
        silent(&client, &account, OTHER).await.is_ok()
    })
    .await;
    assert_eq!(fleet.presented("refresh-1"), 1);
}
