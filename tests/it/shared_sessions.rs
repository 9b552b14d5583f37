//! Signed-in users of several processes with one shared cache.

use std::time::Duration;

use bytes::Bytes;
use confidential_client::cache::{EncryptionKey, NewRecord, SharedCache, SharedCacheOptions};
use confidential_client::delegated::Account;
use confidential_client::testing::{LocalSharedCache, ManualClock, StoreFault};
use confidential_client::{
    AccessToken, Authority, ConfidentialClient, Error, RetryPolicy, TokenRequest, TokenSource,
};
use serde_json::json;
use tokio::task::JoinSet;

use crate::support::let_others_run;
use crate::support::openid::{Answer, FILES, ISSUER, OpenId, kinds, tokens};

const OTHER: &str = "mail.read";

fn options() -> SharedCacheOptions {
    let key = EncryptionKey::from_bytes([1; 32]);
    SharedCacheOptions::encrypted("the name key of the tests", [key])
}

/// A fleet whose clocks and store a test moves together.
struct Fleet {
    clock: ManualClock,
    provider: OpenId,
    store: LocalSharedCache,
}

impl Fleet {
    fn new() -> Self {
        let clock = ManualClock::new();
        Self {
            provider: OpenId::new(ISSUER),
            store: LocalSharedCache::with_clock(clock.clone()),
            clock,
        }
    }

    /// Lets time pass, for timers and for clocks.
    async fn pass(&self, seconds: u32) {
        for _ in 0..seconds {
            self.clock.advance(Duration::from_secs(1));
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    fn replica(&self) -> ConfidentialClient {
        self.replica_with(options())
    }

    fn replica_with(&self, options: SharedCacheOptions) -> ConfidentialClient {
        let builder = self.provider.builder(Authority::oidc(ISSUER));
        let builder = builder.shared_cache(self.store.clone(), options);
        let builder = builder.clock(self.clock.clone());
        builder.retry(RetryPolicy::none()).build().unwrap()
    }

    /// Signs a user in at another replica.
    async fn account(&self) -> Account {
        let signed_in = self.provider.sign_in(&self.replica()).await;
        signed_in.account().clone()
    }

    fn presented(&self, refresh_token: &str) -> usize {
        self.provider.presented("refresh_token", refresh_token)
    }
}

async fn silent(
    client: &ConfidentialClient,
    account: &Account,
    scope: &str,
) -> Result<AccessToken, Error> {
    let token = client.acquire_token_silent(account, scope).await;
    let_others_run().await;
    token
}

#[tokio::test]
async fn a_user_is_signed_in_in_every_replica_and_after_a_restart() {
    let fleet = Fleet::new();
    let account = fleet.account().await;
    let token = silent(&fleet.replica(), &account, FILES).await.unwrap();
    assert_eq!(token.secret(), "token-1");
    assert_eq!(token.source(), TokenSource::SharedCache);
    for (number, scope) in [OTHER, "third", "fourth"].into_iter().enumerate() {
        let token = silent(&fleet.replica(), &account, scope).await.unwrap();
        assert_eq!(token.source(), TokenSource::IdentityProvider);
        assert_eq!(fleet.presented(&format!("refresh-{}", number + 1)), 1);
    }
    assert_eq!(fleet.provider.forms().len(), 4);
}

/// docs/failures.md S4.
#[tokio::test]
async fn many_replicas_redeem_a_refresh_token_once() {
    let fleet = Fleet::new();
    let account = fleet.account().await;
    let mut callers = JoinSet::new();
    for _ in 0..20 {
        let (client, account) = (fleet.replica(), account.clone());
        callers.spawn(async move { client.acquire_token_silent(&account, OTHER).await });
    }
    for token in callers.join_all().await {
        assert_eq!(token.unwrap().secret(), "token-2");
    }
    assert_eq!(fleet.presented("refresh-1"), 1);
    assert_eq!(fleet.provider.forms().len(), 2);
}

#[tokio::test]
async fn a_signed_out_user_is_signed_out_in_every_replica() {
    let fleet = Fleet::new();
    let account = fleet.account().await;
    silent(&fleet.replica(), &account, OTHER).await.unwrap();
    fleet.replica().remove_account(&account).await.unwrap();
    for scope in [FILES, OTHER, "third"] {
        let error = silent(&fleet.replica(), &account, scope).await.unwrap_err();
        assert!(
            matches!(error, Error::InteractionRequired(_)),
            "{scope}: {error:?}"
        );
    }
    assert_eq!(fleet.provider.forms().len(), 2);
}

#[tokio::test]
async fn a_rejected_refresh_token_is_removed_everywhere() {
    let fleet = Fleet::new();
    let account = fleet.account().await;
    fleet
        .provider
        .answer(Answer::status(400, r#"{"error":"invalid_grant"}"#));
    for _ in 0..3 {
        let error = silent(&fleet.replica(), &account, OTHER).await.unwrap_err();
        assert!(error.needs_user_interaction(), "{error:?}");
    }
    assert_eq!(fleet.presented("refresh-1"), 1);
    fleet.provider.sign_in(&fleet.replica()).await;
    silent(&fleet.replica(), &account, OTHER).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_refresh_token_in_doubt_is_sent_again_only_where_the_provider_accepts_it_twice() {
    for (authority, issuer, is_sent_again) in kinds() {
        let provider = OpenId::new(&issuer);
        let store = LocalSharedCache::new();
        let replica = || {
            let builder = provider
                .builder(authority.clone())
                .retry(RetryPolicy::none());
            builder
                .shared_cache(store.clone(), options())
                .build()
                .unwrap()
        };
        let account = provider.sign_in(&replica()).await.account().clone();
        provider.answer(Answer::Hang);
        silent(&replica(), &account, OTHER).await.unwrap_err();
        let outcome = silent(&replica(), &account, "third").await;
        let presented = provider.presented("refresh_token", "refresh-1");
        match is_sent_again {
            true => assert_eq!((outcome.is_ok(), presented), (true, 2), "{authority}"),
            false => {
                let error = outcome.unwrap_err();
                assert!(error.to_string().contains("theft"), "{error}");
                assert_eq!(presented, 1, "{authority}");
            }
        }
    }
}

/// A refresh token that certainly did not leave is as good as before.
#[tokio::test]
async fn a_request_that_was_not_sent_leaves_no_mark() {
    let fleet = Fleet::new();
    let account = fleet.account().await;
    let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
    fleet.provider.answer(Answer::Error(refused.into()));
    silent(&fleet.replica(), &account, OTHER).await.unwrap_err();
    let_others_run().await;
    silent(&fleet.replica(), &account, "third").await.unwrap();
    assert_eq!(fleet.presented("refresh-1"), 2);
}

/// The process is killed between the request and the response.
#[tokio::test(start_paused = true)]
async fn a_mark_of_a_process_that_is_gone_makes_the_session_in_doubt() {
    let provider = OpenId::new(ISSUER);
    let clock = ManualClock::new();
    let store = LocalSharedCache::with_clock(clock.clone());
    let replica = || {
        let builder = provider
            .builder(Authority::oidc(ISSUER))
            .retry(RetryPolicy::none());
        builder
            .shared_cache(store.clone(), options())
            .build()
            .unwrap()
    };
    let account = provider.sign_in(&replica()).await.account().clone();
    provider.answer(Answer::Hang);
    let killed = tokio::spawn({
        let (client, account) = (replica(), account.clone());
        async move { client.acquire_token_silent(&account, OTHER).await }
    });
    while provider.presented("refresh_token", "refresh-1") == 0 {
        tokio::task::yield_now().await;
    }
    killed.abort();
    let_others_run().await;
    store.expire_locks();
    let error = silent(&replica(), &account, OTHER).await.unwrap_err();
    assert!(
        error.is_transient(),
        "another process may be at work: {error:?}"
    );
    clock.advance(Duration::from_secs(200));
    let error = silent(&replica(), &account, OTHER).await.unwrap_err();
    assert!(matches!(error, Error::InteractionRequired(_)), "{error:?}");
    // The access token is served.
    let token = silent(&replica(), &account, FILES).await.unwrap();
    assert_eq!(token.secret(), "token-1");
    assert_eq!(provider.presented("refresh_token", "refresh-1"), 1);
    provider.sign_in(&replica()).await;
    silent(&replica(), &account, OTHER).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn without_the_store_nothing_is_redeemed_and_a_valid_token_is_served() {
    for fault in [
        StoreFault::Error,
        StoreFault::Hang,
        StoreFault::LostResponse,
    ] {
        let fleet = Fleet::new();
        let client = fleet.replica();
        let account = fleet.provider.sign_in(&client).await.account().clone();
        fleet.store.begin_outage(fault);
        let request = TokenRequest::new(FILES).force_refresh();
        let token = client
            .acquire_token_silent(&account, request)
            .await
            .unwrap();
        assert_eq!(token.secret(), "token-1");
        let error = silent(&client, &account, OTHER).await.unwrap_err();
        assert!(error.is_transient(), "{error:?}");
        assert!(error.to_string().contains("shared cache"), "{error}");
        assert_eq!(fleet.presented("refresh-1"), 0);
        fleet.store.end_outage();
        fleet.pass(60).await;
        silent(&fleet.replica(), &account, OTHER).await.unwrap();
        assert_eq!(fleet.presented("refresh-1"), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_may_redeem_without_the_store_where_the_caller_said_so() {
    let fleet = Fleet::new();
    let client = fleet.replica_with(options().redeem_without_lock());
    let account = fleet.provider.sign_in(&client).await.account().clone();
    fleet.store.begin_outage(StoreFault::Error);
    silent(&client, &account, OTHER).await.unwrap();
    silent(&client, &account, "third").await.unwrap();
    fleet.store.end_outage();
    fleet.pass(60).await;
    // The store has the newest refresh token.
    silent(&fleet.replica(), &account, "fourth").await.unwrap();
    for number in 1..=3 {
        assert_eq!(fleet.presented(&format!("refresh-{number}")), 1);
    }
}

/// The store fails between the mark and the new refresh token.
#[tokio::test(start_paused = true)]
async fn a_new_refresh_token_is_stored_when_the_store_is_back() {
    for fault in [
        StoreFault::Error,
        StoreFault::Hang,
        StoreFault::LostResponse,
    ] {
        let fleet = Fleet::new();
        let account = fleet.account().await;
        let client = fleet.replica();
        fleet.store.begin_outage_of("put", fault);
        let token = client.acquire_token_silent(&account, OTHER).await;
        assert_eq!(token.unwrap().secret(), "token-2");
        fleet.store.end_outage();
        fleet.pass(60).await;
        let token = silent(&fleet.replica(), &account, "third").await.unwrap();
        assert_eq!(token.secret(), "token-3", "{fault:?}");
        assert_eq!(
            (fleet.presented("refresh-1"), fleet.presented("refresh-2")),
            (1, 1)
        );
    }
}

#[tokio::test]
async fn an_empty_store_signs_users_out_and_revokes_nothing() {
    let fleet = Fleet::new();
    let client = fleet.replica();
    let account = fleet.provider.sign_in(&client).await.account().clone();
    silent(&client, &account, OTHER).await.unwrap();
    fleet.store.clear();
    let error = silent(&client, &account, "third").await.unwrap_err();
    assert!(matches!(error, Error::InteractionRequired(_)), "{error:?}");
    // In memory.
    silent(&client, &account, OTHER).await.unwrap();
    assert_eq!(fleet.presented("refresh-2"), 0);
}

#[tokio::test]
async fn the_tokens_of_another_user_end_the_session_everywhere() {
    let fleet = Fleet::new();
    let account = fleet.account().await;
    let mut body = tokens(2);
    let mut claims = fleet.provider.claims();
    claims["sub"] = json!("bertha");
    body["id_token"] = crate::support::openid::id_token(&claims).into();
    fleet.provider.answer(Answer::json(&body));
    let error = silent(&fleet.replica(), &account, OTHER).await.unwrap_err();
    assert!(matches!(error, Error::InvalidResponse(_)), "{error:?}");
    let error = silent(&fleet.replica(), &account, "third")
        .await
        .unwrap_err();
    assert!(matches!(error, Error::InteractionRequired(_)), "{error:?}");
    assert_eq!(fleet.provider.forms().len(), 2);
}

/// A record whose generation was tampered with can be neither replaced nor waited for.
#[tokio::test(start_paused = true)]
async fn a_record_of_the_greatest_generation_ends_no_call_in_a_loop() {
    let fleet = Fleet::new();
    let account = fleet.account().await;
    for name in fleet.store.names() {
        let value = Bytes::from_static(b"of nobody");
        let record = NewRecord::new(u64::MAX, value, Duration::from_secs(3600));
        fleet.store.put(&name, record).await.unwrap();
    }
    let client = fleet.replica();
    let error = client.remove_account(&account).await.unwrap_err();
    assert!(matches!(error, Error::Transport(_)), "{error:?}");
    fleet.provider.sign_in(&client).await;
    silent(&client, &account, FILES).await.unwrap();
}

/// A request that waits for another process keeps the user's other requests from nothing.
#[tokio::test(start_paused = true)]
async fn a_wait_for_another_process_does_not_hold_up_other_scopes() {
    let fleet = Fleet::new();
    let account = fleet.account().await;
    silent(&fleet.replica(), &account, "third").await.unwrap();
    fleet.provider.answer(Answer::Hang);
    let killed = tokio::spawn({
        let (client, account) = (fleet.replica(), account.clone());
        async move { client.acquire_token_silent(&account, OTHER).await }
    });
    while fleet.presented("refresh-2") == 0 {
        tokio::task::yield_now().await;
    }
    killed.abort();
    let_others_run().await;
    fleet.store.expire_locks();

    let client = fleet.replica();
    let waiting = ["fourth", "fifth"].map(|scope| {
        let (client, account) = (client.clone(), account.clone());
        tokio::spawn(async move { client.acquire_token_silent(&account, scope).await })
    });
    fleet.pass(2).await;
    assert_eq!(
        client.cache().stats().lock_waits,
        2,
        "each looks for its own token"
    );
    let token = client
        .acquire_token_silent(&account, "third")
        .await
        .unwrap();
    assert_eq!(token.source(), TokenSource::SharedCache);
    for waiting in waiting {
        assert!(!waiting.is_finished(), "the token was found after the wait");
        waiting.abort();
    }
}
