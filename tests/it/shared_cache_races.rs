//! What one process did must not keep another process, or a later session, from its tokens.

use std::time::Duration;

use confidential_client::cache::{EncryptionKey, SharedCacheOptions};
use confidential_client::delegated::{Account, UserAssertion};
use confidential_client::testing::{LocalSharedCache, ManualClock};
use confidential_client::{Authority, ConfidentialClient, Error, RetryPolicy};

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
        let key = EncryptionKey::from_bytes([1; 32]);
        let options = SharedCacheOptions::encrypted("the name key of the tests", [key]);
        let builder = self.provider.builder(Authority::oidc(ISSUER));
        let builder = builder.shared_cache(self.store.clone(), options);
        let builder = builder.clock(self.clock.clone());
        builder.retry(RetryPolicy::none()).build().unwrap()
    }

    async fn sign_in(&self) -> Account {
        let signed_in = self.provider.sign_in(&self.replica()).await;
        signed_in.account().clone()
    }
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
