//! What one process did must not keep another process, or a later session, from its tokens.

use std::sync::Arc;
use std::time::Duration;

use confidential_client::cache::{
    BeginRedemption, EncryptionKey, LockOutcome, LockOwner, NewRecord, PutOutcome, SharedCache,
    SharedCacheFuture, SharedCacheOptions, SharedRecord,
};
use confidential_client::delegated::{Account, UserAssertion};
use confidential_client::testing::{LocalSharedCache, ManualClock, StoreFault};
use confidential_client::{Authority, ConfidentialClient, Error, RetryPolicy, TokenRequest};
use futures_util::FutureExt;
use tokio::sync::Semaphore;

use crate::support::let_others_run;
use crate::support::openid::{Answer, FILES, ISSUER, OpenId};

const OTHER: &str = "mail.read";

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

    fn replica(&self) -> ConfidentialClient {
        self.replica_with(self.store.clone())
    }

    /// Creates a process whose store behaves in a special way.
    fn odd_replica(&self, before: Before, supersedes: bool) -> ConfidentialClient {
        let inner = self.store.clone();
        self.replica_with(OddStore {
            inner,
            before,
            supersedes,
        })
    }

    fn replica_with(&self, store: impl SharedCache) -> ConfidentialClient {
        let key = EncryptionKey::from_bytes([1; 32]);
        let options = SharedCacheOptions::encrypted("the name key of the tests", [key]);
        let builder = self.provider.builder(Authority::oidc(ISSUER));
        let builder = builder.shared_cache(store, options);
        let builder = builder.clock(self.clock.clone());
        builder.retry(RetryPolicy::none()).build().unwrap()
    }

    async fn sign_in(&self) -> Account {
        let signed_in = self.provider.sign_in(&self.replica()).await;
        signed_in.account().clone()
    }
}

type Before = Box<dyn Fn(&'static str) -> SharedCacheFuture<'static, ()> + Send + Sync>;

/// A store that does something before each call.
struct OddStore {
    inner: LocalSharedCache,
    before: Before,
    /// The store refuses every record.
    supersedes: bool,
}

impl OddStore {
    fn call<'a, T: 'a>(
        &'a self,
        method: &'static str,
        call: SharedCacheFuture<'a, T>,
    ) -> SharedCacheFuture<'a, T> {
        Box::pin(async move {
            (self.before)(method).await?;
            call.await
        })
    }
}

impl SharedCache for OddStore {
    fn get<'a>(&'a self, name: &'a str) -> SharedCacheFuture<'a, Option<SharedRecord>> {
        self.call("get", self.inner.get(name))
    }

    fn put<'a>(&'a self, name: &'a str, record: NewRecord) -> SharedCacheFuture<'a, PutOutcome> {
        match self.supersedes {
            true => Box::pin(async { Ok(PutOutcome::Superseded) }),
            false => self.call("put", self.inner.put(name, record)),
        }
    }

    fn lock<'a>(
        &'a self,
        name: &'a str,
        owner: &'a LockOwner,
        lifetime: Duration,
    ) -> SharedCacheFuture<'a, LockOutcome> {
        self.call("lock", self.inner.lock(name, owner, lifetime))
    }

    fn unlock<'a>(&'a self, name: &'a str, owner: &'a LockOwner) -> SharedCacheFuture<'a, ()> {
        self.call("unlock", self.inner.unlock(name, owner))
    }

    fn begin_redemption<'a>(
        &'a self,
        name: &'a str,
        owner: &'a LockOwner,
        generation: u64,
    ) -> SharedCacheFuture<'a, BeginRedemption> {
        let begin = self.inner.begin_redemption(name, owner, generation);
        self.call("begin_redemption", begin)
    }

    fn cancel_redemption<'a>(
        &'a self,
        name: &'a str,
        owner: &'a LockOwner,
        generation: u64,
    ) -> SharedCacheFuture<'a, ()> {
        let cancel = self.inner.cancel_redemption(name, owner, generation);
        self.call("cancel_redemption", cancel)
    }
}

/// Returns a gate, and what holds each put until the gate has a permit.
fn gated_puts() -> (Arc<Semaphore>, Before) {
    let gate = Arc::new(Semaphore::new(0));
    let before: Before = Box::new({
        let gate = Arc::clone(&gate);
        move |method| {
            let gate = Arc::clone(&gate);
            Box::pin(async move {
                if method == "put" {
                    let _permit = gate.acquire().await?;
                }
                Ok(())
            })
        }
    });
    (gate, before)
}

/// Load balancers send a user to one process after the other.
#[tokio::test]
async fn a_process_that_missed_a_user_serves_the_user_after_a_sign_in_elsewhere() {
    let fleet = Fleet::new();
    let account = fleet.sign_in().await;
    let other = fleet.replica();
    for is_rejected in [false, true] {
        match is_rejected {
            false => fleet.replica().remove_account(&account).await.unwrap(),
            true => {
                let rejected = Answer::status(400, r#"{"error":"invalid_grant"}"#);
                fleet.provider.answer(rejected);
            }
        }
        let error = other.acquire_token_silent(&account, OTHER).await;
        let error = error.unwrap_err();
        assert!(error.needs_user_interaction(), "{error:?}");
        assert!(!error.to_string().contains("next attempt"), "{error}");
        fleet.sign_in().await;
        let token = other.acquire_token_silent(&account, OTHER).await;
        token.unwrap();
        // The next round needs a request.
        other.cache().clear();
        fleet.clock.advance(Duration::from_secs(3600));
    }
}

/// The provider rejected a scope for the session before.
#[tokio::test]
async fn a_failure_of_an_earlier_session_is_not_that_of_a_new_one() {
    let fleet = Fleet::new();
    let account = fleet.sign_in().await;
    let rejected = Answer::status(400, r#"{"error":"invalid_scope"}"#);
    fleet.provider.answer(rejected);
    for _ in 0..2 {
        let token = fleet.replica().acquire_token_silent(&account, OTHER).await;
        let_others_run().await;
        assert!(matches!(token.unwrap_err(), Error::Server(_)));
    }
    assert_eq!(fleet.provider.forms().len(), 2, "the failure is shared");
    fleet.sign_in().await;
    let token = fleet.replica().acquire_token_silent(&account, OTHER).await;
    token.unwrap();
}

/// The process that redeems the refresh token is killed, and the assertion is still valid.
#[tokio::test(start_paused = true)]
async fn an_assertion_is_redeemed_while_the_fate_of_its_refresh_token_is_unknown() {
    let fleet = Fleet::new();
    let user = UserAssertion::new("opaque");
    let client = fleet.replica();
    let token = client.acquire_token_on_behalf_of(&user, FILES);
    token.await.unwrap();
    let_others_run().await;
    fleet.provider.answer(Answer::Hang);
    let killed = tokio::spawn({
        let (client, user) = (fleet.replica(), user.clone());
        async move { client.acquire_token_on_behalf_of(&user, OTHER).await }
    });
    while fleet.provider.presented("refresh_token", "refresh-1") == 0 {
        tokio::task::yield_now().await;
    }
    killed.abort();
    let_others_run().await;
    fleet.store.expire_locks();
    let client = fleet.replica();
    let token = client.acquire_token_on_behalf_of(&user, OTHER);
    token.await.unwrap();
    assert_eq!(fleet.provider.presented("refresh_token", "refresh-1"), 1);
    assert_eq!(fleet.provider.presented("assertion", "opaque"), 2);
}

/// Another caller reads the session while the store is told of the sign-out.
#[tokio::test(start_paused = true)]
async fn a_process_keeps_no_token_of_a_user_who_signed_out() {
    let fleet = Fleet::new();
    let account = fleet.sign_in().await;
    let (gate, before) = gated_puts();
    let client = Arc::new(fleet.odd_replica(before, false));
    let removing = tokio::spawn({
        let (client, account) = (Arc::clone(&client), account.clone());
        async move { client.remove_account(&account).await }
    });
    let_others_run().await;
    let token = client.acquire_token_silent(&account, FILES).await;
    token.unwrap();
    gate.add_permits(1);
    removing.await.unwrap().unwrap();
    let error = client.acquire_token_silent(&account, FILES).await;
    let error = error.unwrap_err();
    assert!(matches!(error, Error::InteractionRequired(_)), "{error:?}");
}

#[tokio::test]
async fn a_store_that_panics_counts_as_down() {
    let fleet = Fleet::new();
    let in_future: Before = Box::new(|_| Box::pin(async { panic!("a bug of the store") }));
    let at_once: Before = Box::new(|_| panic!("a bug of the store"));
    for before in [in_future, at_once] {
        let client = fleet.odd_replica(before, false);
        client.acquire_token_for_client(OTHER).await.unwrap();
        assert_eq!(client.cache().stats().shared_cache_failures, 1);
    }
}

/// A record may have the highest generation, which no record replaces.
#[tokio::test]
async fn a_store_that_refuses_every_record_ends_no_sign_in() {
    let fleet = Fleet::new();
    let client = fleet.odd_replica(Box::new(|_| Box::pin(async { Ok(()) })), true);
    let signed_in = fleet.provider.sign_in(&client).await;
    let account = signed_in.account();
    client.acquire_token_silent(account, FILES).await.unwrap();
    let error = client.remove_account(account).await.unwrap_err();
    assert!(matches!(error, Error::Transport(_)), "{error:?}");
}

#[test]
fn the_sessions_of_a_shared_cache_need_a_runtime() {
    let fleet = Fleet::new();
    let client = fleet.replica();
    let account = Account::from_home_account_id("a.b");
    let removed = client.remove_account(&account).now_or_never().unwrap();
    let imported = client.import_refresh_token(&account, "refresh-1");
    let imported = imported.now_or_never().unwrap();
    for error in [removed.unwrap_err(), imported.unwrap_err()] {
        assert!(error.to_string().contains("no tokio runtime"), "{error}");
    }
}

/// A new process has no token in memory.
#[tokio::test]
async fn a_stored_token_is_not_withheld_from_a_caller_who_required_another() {
    let busy = || Answer::status(503, r#"{"error":"temporarily_unavailable"}"#);
    let fleet = Fleet::new();
    let account = fleet.sign_in().await;
    let client = fleet.replica();
    client.acquire_token_for_client(OTHER).await.unwrap();
    let_others_run().await;
    for request in [
        TokenRequest::new(OTHER).force_refresh(),
        TokenRequest::new(OTHER).min_remaining(Duration::from_secs(7200)),
    ] {
        fleet.clock.advance(Duration::from_secs(600));
        fleet.provider.answer(busy());
        let token = fleet.replica().acquire_token_for_client(request).await;
        assert_eq!(token.unwrap().secret(), "token-2");
        let_others_run().await;
    }
    fleet.provider.answer(busy());
    let request = TokenRequest::new(FILES).force_refresh();
    let token = fleet
        .replica()
        .acquire_token_silent(&account, request)
        .await;
    assert_eq!(token.unwrap().secret(), "token-1");
}

/// A provider revokes the refresh token before when a user signs in again.
#[tokio::test(start_paused = true)]
async fn a_refresh_token_that_a_new_sign_in_replaced_ends_no_session() {
    let fleet = Fleet::new();
    let account = fleet.sign_in().await;
    let (gate, before) = gated_puts();
    let client = fleet.odd_replica(before, false);
    let rejected = Answer::status(400, r#"{"error":"invalid_grant"}"#);
    fleet.provider.answer(rejected);
    let acquiring = tokio::spawn({
        let account = account.clone();
        async move { client.acquire_token_silent(&account, OTHER).await }
    });
    while fleet.provider.presented("refresh_token", "refresh-1") == 0 {
        tokio::task::yield_now().await;
    }
    let_others_run().await;
    fleet.sign_in().await;
    gate.add_permits(1);
    acquiring.await.unwrap().unwrap();
}

/// No request was sent, so that there is nothing to spare.
#[tokio::test]
async fn a_user_is_served_as_soon_as_the_store_is_called_again() {
    let fleet = Fleet::new();
    let account = fleet.sign_in().await;
    let client = fleet.replica();
    fleet.store.begin_outage(StoreFault::Error);
    for _ in 0..8 {
        let token = client.acquire_token_silent(&account, OTHER).await;
        assert!(token.unwrap_err().is_transient());
        fleet.clock.advance(Duration::from_secs(40));
    }
    let token = client.acquire_token_silent(&account, OTHER).await;
    token.unwrap_err();
    fleet.store.end_outage();
    // The longest time between two probes of the store.
    fleet.clock.advance(Duration::from_secs(15));
    let token = client.acquire_token_silent(&account, OTHER).await;
    token.unwrap();
}
