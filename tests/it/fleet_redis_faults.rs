//! Clients with a Redis that breaks in every way. No caller gets an error while a token is valid.

use std::time::Duration;

use confidential_client::cache::{EncryptionKey, RedisCache, SharedCacheOptions};
use confidential_client::delegated::Account;
use confidential_client::{
    AccessToken, Authority, ConfidentialClient, Error, RetryPolicy, TokenRequest, TokenSource,
};

use crate::redis_server::{Proxy, RedisServer, free_port, until};
use crate::support::openid::{FILES, ISSUER, OpenId};
use crate::support::{Provider, SCOPE};

const OTHER: &str = "mail.read";

fn options() -> SharedCacheOptions {
    let key = EncryptionKey::from_bytes([1; 32]);
    SharedCacheOptions::encrypted("the name key of the tests", [key])
}

struct Fleet {
    server: RedisServer,
    proxy: Proxy,
    provider: Provider,
    users: OpenId,
}

impl Fleet {
    async fn start() -> Option<Self> {
        let server = RedisServer::start().await?;
        Some(Self {
            proxy: Proxy::to(server.port()).await,
            server,
            provider: Provider::open(),
            users: OpenId::new(ISSUER),
        })
    }

    fn daemon(&self) -> ConfidentialClient {
        let store = RedisCache::new(self.proxy.client());
        let builder = self.provider.builder().shared_cache(store, options());
        builder.build().unwrap()
    }

    fn web_app(&self) -> ConfidentialClient {
        let store = RedisCache::new(self.proxy.client());
        let builder = self.users.builder(Authority::oidc(ISSUER));
        let builder = builder.retry(RetryPolicy::none());
        builder.shared_cache(store, options()).build().unwrap()
    }
}

async fn source(client: &ConfidentialClient) -> TokenSource {
    client
        .acquire_token_for_client(SCOPE)
        .await
        .unwrap()
        .source()
}

async fn silent(
    client: &ConfidentialClient,
    account: &Account,
    scope: &str,
) -> Result<AccessToken, Error> {
    client.acquire_token_silent(account, scope).await
}

/// What breaks, and what mends it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Break {
    Kill,
    Stop,
    ReadOnly,
    Full,
    Slow,
    Password,
    Flush,
    FlushScripts,
    Swallow,
}

impl Break {
    const ALL: [Self; 9] = [
        Self::Kill,
        Self::Stop,
        Self::ReadOnly,
        Self::Full,
        Self::Slow,
        Self::Password,
        Self::Flush,
        Self::FlushScripts,
        Self::Swallow,
    ];

    async fn begin(self, fleet: &mut Fleet) {
        let Fleet { server, proxy, .. } = fleet;
        match self {
            Self::Kill => server.kill(),
            Self::Stop => server.stop(),
            Self::ReadOnly => server.replica_of(free_port()).await,
            Self::Full => server.config("maxmemory", "1").await,
            Self::Slow => proxy.delay(Duration::from_secs(5)),
            Self::Password => {
                server.config("requirepass", "another").await;
                proxy.swallow_open();
            }
            Self::Flush => drop(server.command(&["FLUSHALL"]).await),
            Self::FlushScripts => drop(server.command(&["SCRIPT", "FLUSH"]).await),
            Self::Swallow => proxy.swallow_open(),
        }
    }

    async fn end(self, fleet: &mut Fleet) {
        let Fleet { server, proxy, .. } = fleet;
        match self {
            Self::Kill => server.restart().await,
            Self::Stop => server.resume(),
            Self::ReadOnly => server.promote().await,
            Self::Full => server.config("maxmemory", "0").await,
            Self::Slow => proxy.delay(Duration::ZERO),
            Self::Password => {
                let words = ["CONFIG", "SET", "requirepass", ""];
                server.command_with_password("another", &words).await;
            }
            Self::Flush | Self::FlushScripts | Self::Swallow => {}
        }
    }

    /// Returns `true` if the server has no records afterwards.
    fn empties(self) -> bool {
        matches!(self, Self::Kill | Self::Flush)
    }
}

/// docs/failures.md S2.
#[tokio::test]
async fn a_daemon_gets_tokens_whatever_happens_to_redis() {
    for fault in Break::ALL {
        let Some(mut fleet) = Fleet::start().await else {
            return;
        };
        let client = fleet.daemon();
        assert_eq!(source(&client).await, TokenSource::IdentityProvider);
        fault.begin(&mut fleet).await;
        assert_eq!(source(&client).await, TokenSource::Cache, "{fault:?}");
        let request = TokenRequest::new(SCOPE).force_refresh();
        client.acquire_token_for_client(request).await.unwrap();
        // Without a token in memory.
        fleet
            .daemon()
            .acquire_token_for_client(SCOPE)
            .await
            .unwrap();
        fault.end(&mut fleet).await;
        // The same client uses the store again.
        until("the store is used again", async || {
            client.cache().clear();
            source(&client).await == TokenSource::SharedCache
        })
        .await;
        assert_eq!(source(&fleet.daemon()).await, TokenSource::SharedCache);
    }
}

#[tokio::test]
async fn a_user_stays_signed_in_whatever_happens_to_redis() {
    for fault in Break::ALL {
        let Some(mut fleet) = Fleet::start().await else {
            return;
        };
        let client = fleet.web_app();
        let account = fleet.users.sign_in(&client).await.account().clone();
        fault.begin(&mut fleet).await;
        let token = silent(&client, &account, FILES).await.unwrap();
        assert_eq!(token.secret(), "token-1", "{fault:?}");
        // A refresh token is redeemed with the lock, or not at all.
        match silent(&client, &account, OTHER).await {
            Ok(_) => {}
            Err(error) if fault.empties() && !error.is_transient() => {
                assert!(matches!(error, Error::InteractionRequired(_)), "{fault:?}");
            }
            Err(error) => {
                assert!(error.is_transient(), "{fault:?}: {error:?}");
                assert!(error.to_string().contains("shared cache"), "{error}");
                assert_eq!(fleet.users.presented("refresh_token", "refresh-1"), 0);
            }
        }
        fault.end(&mut fleet).await;
        until("the user's session is used again", async || {
            let outcome = silent(&fleet.web_app(), &account, "third").await;
            match outcome {
                Ok(_) => true,
                Err(error) => fault.empties() && !error.is_transient(),
            }
        })
        .await;
        for number in 1..=3 {
            let presented = fleet
                .users
                .presented("refresh_token", &format!("refresh-{number}"));
            assert!(presented <= 1, "{fault:?}: refresh-{number}");
        }
    }
}
