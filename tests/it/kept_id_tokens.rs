//! ID tokens that a client keeps and refreshes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use confidential_client::cache::{
    BeginRedemption, EncryptionKey, LockOutcome, LockOwner, NewRecord, PutOutcome, SharedCache,
    SharedCacheFuture, SharedCacheOptions, SharedRecord,
};
use confidential_client::delegated::{Account, AuthenticationResult, AuthorizationRequest};
use confidential_client::testing::{LocalSharedCache, ManualClock};
use confidential_client::{
    Authority, ConfidentialClient, ConfidentialClientBuilder, Error, RetryPolicy, TokenRequest,
    TokenSource,
};
use serde_json::Value;
use tokio::sync::Notify;

use crate::support::issuer::{RSA, STRANGER, TENANT_ID, header, with};
use crate::support::openid::{
    Answer, BACK, FILES, HOME, ISSUER, OpenId, client_info, id_token, kinds, tokens,
};

const OTHER: &str = "mail.read";

/// Moves the clocks of the client, and the times of the ID tokens with them.
struct Setting {
    provider: OpenId,
    clock: ManualClock,
}

impl Setting {
    fn new(issuer: &str) -> Self {
        Self {
            provider: OpenId::new(issuer),
            clock: ManualClock::new(),
        }
    }

    fn builder(&self, authority: Authority) -> ConfidentialClientBuilder {
        self.provider.builder(authority).clock(self.clock.clone())
    }

    fn client(&self, authority: Authority) -> ConfidentialClient {
        self.builder(authority).keep_id_tokens().build().unwrap()
    }

    /// Returns the claims of an ID token of now that names the user `name`.
    fn claims(&self, minutes: u64, name: &str) -> Value {
        let mut claims = self.provider.claims();
        for member in ["iat", "exp"] {
            let time = claims[member].as_u64().unwrap() + minutes * 60;
            claims = with(claims, member, time);
        }
        with(claims, "name", name)
    }

    /// Answers the next request with this ID token.
    fn answer(&self, number: usize, claims: Option<&Value>) {
        let mut body = tokens(number);
        body["client_info"] = client_info(HOME).into();
        if let Some(claims) = claims {
            body["id_token"] = id_token(claims).into();
        }
        self.provider.answer(Answer::json(&body));
    }

    async fn sign_in(&self, client: &ConfidentialClient) -> Account {
        let request = AuthorizationRequest::new(BACK, FILES);
        let claims = self.claims(0, "first");
        let signed_in = self.provider.sign_in_with(client, &request, claims);
        signed_in.await.unwrap().account().clone()
    }

    async fn name(&self, client: &ConfidentialClient, account: &Account) -> Option<String> {
        let result = client
            .acquire_id_token_silent(account, FILES)
            .await
            .unwrap();
        assert_eq!(result.account(), account);
        assert_eq!(result.id_token().expose().split('.').count(), 3);
        result.claims().name().map(ToOwned::to_owned)
    }

    fn later(&self, minutes: u64) {
        self.clock.advance(Duration::from_secs(minutes * 60));
    }
}

#[tokio::test]
async fn an_id_token_is_refreshed_with_the_access_token_at_every_kind_of_authority() {
    for (authority, issuer, _) in kinds() {
        let setting = Setting::new(&issuer);
        let client = setting.client(authority.clone());
        let account = setting.sign_in(&client).await;
        assert_eq!(
            setting.name(&client, &account).await.as_deref(),
            Some("first")
        );
        assert_eq!(
            setting.provider.forms().len(),
            1,
            "{authority}: a hit sends nothing"
        );

        // Any refresh for the user brings a new one.
        setting.answer(2, Some(&setting.claims(0, "second")));
        client.acquire_token_silent(&account, OTHER).await.unwrap();
        let scope = setting.provider.forms()[1]["scope"].clone();
        assert!(
            scope.split(' ').any(|scope| scope == "openid"),
            "{authority}: {scope}"
        );
        assert_eq!(
            setting.name(&client, &account).await.as_deref(),
            Some("second")
        );
        assert_eq!(setting.provider.forms().len(), 2);

        // Both tokens have expired, and one request brings both.
        setting.later(90);
        setting.answer(3, Some(&setting.claims(90, "third")));
        let result = client
            .acquire_id_token_silent(&account, FILES)
            .await
            .unwrap();
        assert_eq!(result.claims().name(), Some("third"));
        assert_eq!(result.access_token().secret(), "token-3");
        assert_eq!(setting.provider.forms().len(), 3);
    }
}

/// The access token may live longer than the ID token.
#[tokio::test]
async fn an_expired_id_token_causes_one_refresh_in_five_minutes() {
    let setting = Setting::new(ISSUER);
    let client = setting.client(Authority::oidc(ISSUER));
    let request = AuthorizationRequest::new(BACK, FILES);
    let issued = setting.claims(0, "first");
    let expiry = issued["iat"].as_u64().unwrap() + 600;
    let short = with(issued, "exp", expiry);
    let signed_in = setting.provider.sign_in_with(&client, &request, short);
    let account = signed_in.await.unwrap().account().clone();
    assert_eq!(
        setting.name(&client, &account).await.as_deref(),
        Some("first")
    );
    assert_eq!(setting.provider.forms().len(), 1);

    // The provider sends no ID token with a refresh, so the last one is returned.
    setting.later(11);
    setting.answer(2, None);
    for _ in 0..3 {
        let name = setting.name(&client, &account).await;
        assert_eq!(name.as_deref(), Some("first"));
        assert_eq!(setting.provider.forms().len(), 2);
    }
    assert_eq!(setting.provider.forms()[1]["scope"], "files.read openid");
    setting.later(6);
    setting.answer(3, Some(&setting.claims(17, "second")));
    for _ in 0..3 {
        let name = setting.name(&client, &account).await;
        assert_eq!(name.as_deref(), Some("second"));
        assert_eq!(setting.provider.forms().len(), 3);
    }
}

#[tokio::test]
async fn an_id_token_of_another_user_or_without_a_signature_is_not_kept() {
    type Change = fn(Value) -> Value;
    let changes: [(&str, Change); 4] = [
        ("sub", |claims| with(claims, "sub", "megan")),
        ("iss", |claims| with(claims, "iss", "https://evil.example")),
        ("aud", |claims| with(claims, "aud", "daemon")),
        ("nonce", |claims| with(claims, "nonce", "other")),
    ];
    for (name, change) in changes {
        let setting = Setting::new(ISSUER);
        let client = setting.client(Authority::oidc(ISSUER));
        let account = setting.sign_in(&client).await;
        setting.answer(2, Some(&change(setting.claims(0, "evil"))));
        let error = client
            .acquire_token_silent(&account, OTHER)
            .await
            .unwrap_err();
        assert!(
            matches!(error, Error::InvalidResponse(_)),
            "{name}: {error:?}"
        );
        let kept = client.acquire_id_token_silent(&account, FILES).await;
        assert!(
            kept.is_ok_and(|kept| kept.claims().name() == Some("first")),
            "{name}"
        );
    }
}

#[tokio::test]
async fn the_user_of_another_library_has_an_id_token_after_the_first_refresh() {
    for (sub, key, is_kept) in [
        ("adele", &RSA, true),
        ("megan", &RSA, false),
        ("adele", &STRANGER, false),
    ] {
        let setting = Setting::new(ISSUER);
        let client = setting.client(Authority::oidc(ISSUER));
        let account = Account::from_home_account_id("adele");
        client
            .import_refresh_token(&account, "imported")
            .await
            .unwrap();
        let mut body = tokens(1);
        let claims = with(setting.claims(0, "first"), "sub", sub);
        body["id_token"] = key.sign(&header(), &claims).into();
        setting.provider.answer(Answer::json(&body));
        let result = client.acquire_id_token_silent(&account, FILES).await;
        match is_kept {
            true => assert_eq!(result.unwrap().claims().subject(), "adele"),
            false => {
                let error = result.unwrap_err();
                assert!(matches!(error, Error::InvalidResponse(_)), "{error:?}");
                assert!(
                    error.to_string().contains("the provider sent none"),
                    "{error}"
                );
            }
        }
    }
}

/// A guest has other roles in another directory, whose administrator may be anybody.
#[tokio::test]
async fn an_id_token_of_another_directory_is_not_kept() {
    let guest_of = "11111111-86f1-41af-91ab-2d7cd011db47";
    let (authority, issuer, _) = kinds()[0].clone();
    let setting = Setting::new(&issuer);
    let client = setting.client(authority);
    let account = setting.sign_in(&client).await;
    let other_issuer = issuer.replace(TENANT_ID, guest_of);
    setting.provider.publish("issuer", other_issuer.as_str());
    let claims = with(setting.claims(1, "as a guest"), "tid", guest_of);
    let claims = with(with(claims, "iss", other_issuer), "sub", "of a guest");
    setting.answer(2, Some(&claims));
    let request = TokenRequest::new(OTHER).tenant(guest_of);
    client
        .acquire_token_silent(&account, request)
        .await
        .unwrap();
    let kept = setting.name(&client, &account).await;
    assert_eq!(kept.as_deref(), Some("first"));
}

/// Nothing but `client_info` compares the user with the account that was imported.
#[tokio::test]
async fn the_imported_user_of_entra_has_an_id_token_with_the_home_account_alone() {
    let guest_of = "11111111-86f1-41af-91ab-2d7cd011db47";
    for (client_info_of, tid, is_kept) in [
        (Some(HOME), TENANT_ID, true),
        (None, TENANT_ID, false),
        (Some(HOME), guest_of, false),
    ] {
        let (authority, issuer, _) = kinds()[0].clone();
        let setting = Setting::new(&issuer);
        let client = setting.client(authority);
        let account = Account::from_home_account_id(HOME);
        let imported = client.import_refresh_token(&account, "imported").await;
        assert!(imported.unwrap());
        let mut body = tokens(1);
        let issuer = issuer.replace(TENANT_ID, tid);
        setting.provider.publish("issuer", issuer.as_str());
        let claims = with(setting.claims(0, "first"), "tid", tid);
        body["id_token"] = id_token(&with(claims, "iss", issuer)).into();
        if let Some(home) = client_info_of {
            body["client_info"] = client_info(home).into();
        }
        setting.provider.answer(Answer::json(&body));
        let request = TokenRequest::new(FILES).tenant(tid);
        let result = client.acquire_id_token_silent(&account, request).await;
        assert_eq!(result.is_ok(), is_kept, "{client_info_of:?} {tid}");
    }
}

#[tokio::test]
async fn a_client_without_the_setting_says_so_and_asks_for_no_id_token() {
    let setting = Setting::new(ISSUER);
    let client = setting.builder(Authority::oidc(ISSUER)).build().unwrap();
    let account = setting.sign_in(&client).await;
    let error = client
        .acquire_id_token_silent(&account, FILES)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Config(_)), "{error:?}");
    assert!(error.to_string().contains("keep_id_tokens()"), "{error}");
    client.acquire_token_silent(&account, OTHER).await.unwrap();
    assert_eq!(setting.provider.forms()[1]["scope"], OTHER);
}

#[tokio::test]
async fn another_process_reads_the_id_token_from_the_shared_cache() {
    let setting = Setting::new(ISSUER);
    let store = LocalSharedCache::new();
    let replica = || {
        let key = EncryptionKey::from_bytes([1; 32]);
        let options = SharedCacheOptions::encrypted("the name key of the tests", [key]);
        let builder = setting.builder(Authority::oidc(ISSUER)).keep_id_tokens();
        builder
            .shared_cache(store.clone(), options)
            .build()
            .unwrap()
    };
    let first = replica();
    let account = setting.sign_in(&first).await;
    let second = replica();
    assert_eq!(
        setting.name(&second, &account).await.as_deref(),
        Some("first")
    );
    assert_eq!(setting.provider.forms().len(), 1);

    // A rotation that says nothing about the user keeps the ID token, and another replaces it.
    setting.answer(2, None);
    second.acquire_token_silent(&account, OTHER).await.unwrap();
    assert_eq!(
        setting.name(&replica(), &account).await.as_deref(),
        Some("first")
    );
    setting.answer(3, Some(&setting.claims(0, "second")));
    let third = second
        .acquire_token_silent(&account, "notes.read")
        .await
        .unwrap();
    assert_eq!(third.source(), TokenSource::IdentityProvider);
    assert_eq!(
        setting.name(&replica(), &account).await.as_deref(),
        Some("second")
    );
    // The first process has a valid one of its own.
    assert_eq!(
        setting.name(&first, &account).await.as_deref(),
        Some("first")
    );
    assert_eq!(setting.provider.forms().len(), 3);

    first.remove_account(&account).await.unwrap();
    let error = first
        .acquire_id_token_silent(&account, FILES)
        .await
        .unwrap_err();
    assert!(error.needs_user_interaction(), "{error:?}");
    assert_eq!(setting.provider.forms().len(), 3);
}

/// A store whose next read is held after the store was read, whose next write is held before, or
/// whose reads are behind.
#[derive(Clone)]
struct SlowStore {
    inner: LocalSharedCache,
    /// The records that reads return in place of the current ones.
    old: Arc<Mutex<HashMap<String, SharedRecord>>>,
    is_read_held: Arc<AtomicBool>,
    is_write_held: Arc<AtomicBool>,
    held: Arc<Notify>,
    released: Arc<Notify>,
}

impl SlowStore {
    fn new(inner: LocalSharedCache) -> Self {
        Self {
            inner,
            old: Arc::default(),
            is_read_held: Arc::default(),
            is_write_held: Arc::default(),
            held: Arc::default(),
            released: Arc::default(),
        }
    }

    async fn hold(&self, is_held: &AtomicBool) {
        if is_held.swap(false, Ordering::SeqCst) {
            self.held.notify_one();
            self.released.notified().await;
        }
    }

    /// Reads the ID token of the account in a task, up to the response of the store.
    async fn begin_reading(
        &self,
        client: &ConfidentialClient,
        account: &Account,
    ) -> tokio::task::JoinHandle<Result<AuthenticationResult, Error>> {
        self.is_read_held.store(true, Ordering::SeqCst);
        let (client, account) = (client.clone(), account.clone());
        let reading =
            tokio::spawn(async move { client.acquire_id_token_silent(&account, FILES).await });
        self.held.notified().await;
        reading
    }
}

impl SharedCache for SlowStore {
    fn get<'a>(&'a self, name: &'a str) -> SharedCacheFuture<'a, Option<SharedRecord>> {
        Box::pin(async move {
            let old = self.old.lock().unwrap().get(name).cloned();
            let read = match old {
                Some(old) => Some(old),
                None => self.inner.get(name).await?,
            };
            self.hold(&self.is_read_held).await;
            Ok(read)
        })
    }

    fn put<'a>(&'a self, name: &'a str, record: NewRecord) -> SharedCacheFuture<'a, PutOutcome> {
        Box::pin(async move {
            self.hold(&self.is_write_held).await;
            self.inner.put(name, record).await
        })
    }

    fn lock<'a>(
        &'a self,
        name: &'a str,
        owner: &'a LockOwner,
        lifetime: Duration,
    ) -> SharedCacheFuture<'a, LockOutcome> {
        self.inner.lock(name, owner, lifetime)
    }

    fn unlock<'a>(&'a self, name: &'a str, owner: &'a LockOwner) -> SharedCacheFuture<'a, ()> {
        self.inner.unlock(name, owner)
    }

    fn begin_redemption<'a>(
        &'a self,
        name: &'a str,
        owner: &'a LockOwner,
        generation: u64,
    ) -> SharedCacheFuture<'a, BeginRedemption> {
        self.inner.begin_redemption(name, owner, generation)
    }

    fn cancel_redemption<'a>(
        &'a self,
        name: &'a str,
        owner: &'a LockOwner,
        generation: u64,
    ) -> SharedCacheFuture<'a, ()> {
        self.inner.cancel_redemption(name, owner, generation)
    }
}

/// A user who signed in to another process, and a process that has the access token in memory.
async fn slow_reader() -> (Setting, SlowStore, [ConfidentialClient; 2], Account) {
    let setting = Setting::new(ISSUER);
    let store = SlowStore::new(LocalSharedCache::with_clock(setting.clock.clone()));
    let replica = || {
        let key = EncryptionKey::from_bytes([1; 32]);
        let options = SharedCacheOptions::encrypted("the name key of the tests", [key]);
        let options = options.call_timeout(Duration::from_secs(60));
        let builder = setting.builder(Authority::oidc(ISSUER)).keep_id_tokens();
        let builder = builder.shared_cache(store.clone(), options);
        builder.build().unwrap()
    };
    let clients = [replica(), replica()];
    let account = setting.sign_in(&clients[1]).await;
    let reading = clients[0].acquire_token_silent(&account, FILES);
    reading.await.unwrap();
    (setting, store, clients, account)
}

#[tokio::test]
async fn an_id_token_read_before_a_refresh_does_not_replace_the_refreshed_one() {
    let (setting, store, [client, _], account) = slow_reader().await;
    let reading = store.begin_reading(&client, &account).await;
    setting.answer(2, Some(&setting.claims(1, "second")));
    client.acquire_token_silent(&account, OTHER).await.unwrap();
    store.released.notify_one();
    let result = reading.await.unwrap().unwrap();
    assert_eq!(result.claims().name(), Some("second"));
    let kept = setting.name(&client, &account).await;
    assert_eq!(kept.as_deref(), Some("second"));
}

#[tokio::test]
async fn an_id_token_read_before_a_sign_out_is_not_kept_after_it() {
    let (setting, store, [client, other], account) = slow_reader().await;
    let reading = store.begin_reading(&client, &account).await;
    client.remove_account(&account).await.unwrap();
    store.released.notify_one();
    drop(reading.await.unwrap());
    // The user comes back to another process.
    let request = AuthorizationRequest::new(BACK, FILES);
    let claims = setting.claims(1, "again");
    let signed_in = setting.provider.sign_in_with(&other, &request, claims);
    signed_in.await.unwrap();
    let kept = setting.name(&client, &account).await;
    assert_eq!(kept.as_deref(), Some("again"));
}

/// The user signed in again at another process, while this one refreshed the earlier session.
#[tokio::test]
async fn an_id_token_of_a_session_that_a_sign_in_replaced_is_not_kept() {
    let (setting, store, [client, other], account) = slow_reader().await;
    setting.answer(2, Some(&setting.claims(1, "of the earlier session")));
    store.is_write_held.store(true, Ordering::SeqCst);
    let refreshing = client.acquire_token_silent(&account, OTHER);
    let signing_in = async {
        store.held.notified().await;
        let request = AuthorizationRequest::new(BACK, FILES);
        let claims = setting.claims(2, "again");
        let signed_in = setting.provider.sign_in_with(&other, &request, claims);
        signed_in.await.unwrap();
        store.released.notify_one();
    };
    let (refreshed, ()) = tokio::join!(refreshing, signing_in);
    refreshed.unwrap();
    let kept = setting.name(&client, &account).await;
    assert_eq!(kept.as_deref(), Some("again"));
}

/// A replica of the store may be behind this process.
#[tokio::test]
async fn an_older_id_token_of_the_store_does_not_replace_the_one_in_memory() {
    let setting = Setting::new(ISSUER);
    let store = SlowStore::new(LocalSharedCache::with_clock(setting.clock.clone()));
    let key = EncryptionKey::from_bytes([1; 32]);
    let options = SharedCacheOptions::encrypted("the name key of the tests", [key]);
    let builder = setting.builder(Authority::oidc(ISSUER)).keep_id_tokens();
    let builder = builder.retry(RetryPolicy::none());
    let client = builder.shared_cache(store.clone(), options).build();
    let client = client.unwrap();
    let issued = setting.claims(0, "first");
    let expiring = |name: &str, minutes: u64| {
        let expiry = issued["iat"].as_u64().unwrap() + minutes * 60;
        with(with(issued.clone(), "exp", expiry), "name", name)
    };
    let request = AuthorizationRequest::new(BACK, FILES);
    let first = expiring("first", 10);
    let signed_in = setting.provider.sign_in_with(&client, &request, first);
    let account = signed_in.await.unwrap().account().clone();
    for name in store.inner.names() {
        let record = store.inner.get(&name).await.unwrap().unwrap();
        store.old.lock().unwrap().insert(name, record);
    }
    setting.answer(2, Some(&expiring("second", 11)));
    client.acquire_token_silent(&account, OTHER).await.unwrap();

    setting.later(12);
    setting.provider.answer(Answer::status(503, ""));
    let kept = setting.name(&client, &account).await;
    assert_eq!(kept.as_deref(), Some("second"));
}
