//! Long-running processes that act for a user, and refresh tokens of other libraries.

use confidential_client::cache::{EncryptionKey, SharedCacheOptions};
use confidential_client::delegated::{Account, SessionKey, UserAssertion};
use confidential_client::testing::LocalSharedCache;
use confidential_client::{Authority, Cloud, ConfidentialClient, Error, TokenRequest, TokenSource};
use serde_json::json;

use crate::support::issuer::TENANT_ID;
use crate::support::let_others_run;
use crate::support::openid::{Answer, HOME, OpenId, client_info, tokens};

const FILES: &str = "https://graph.microsoft.com/Files.Read";
const MAIL: &str = "https://graph.microsoft.com/Mail.Read";

fn provider() -> OpenId {
    OpenId::new(&format!(
        "https://login.microsoftonline.com/{TENANT_ID}/v2.0"
    ))
}

fn entra(tenant: &str) -> Authority {
    Authority::entra(Cloud::Public, tenant)
}

fn replica(provider: &OpenId, store: &LocalSharedCache) -> ConfidentialClient {
    let key = EncryptionKey::from_bytes([1; 32]);
    let options = SharedCacheOptions::encrypted("the name key of the tests", [key]);
    let builder = provider.builder(entra(TENANT_ID));
    builder
        .shared_cache(store.clone(), options)
        .build()
        .unwrap()
}

fn assertion() -> UserAssertion {
    UserAssertion::new("opaque")
}

#[tokio::test]
async fn a_start_sends_a_request_and_a_key_continues_without_the_assertion() {
    let provider = provider();
    let client = provider.client(entra(TENANT_ID));
    let user = assertion();
    client
        .acquire_token_on_behalf_of(&user, FILES)
        .await
        .unwrap();
    let key = client
        .start_long_running_on_behalf_of(&user, FILES)
        .await
        .unwrap();
    assert_eq!(provider.forms().len(), 2, "the cache is not read");
    assert_eq!(provider.forms()[1]["requested_token_use"], "on_behalf_of");

    let token = client
        .continue_long_running_on_behalf_of(&key, FILES)
        .await
        .unwrap();
    assert_eq!(
        (token.secret(), token.source()),
        ("token-2", TokenSource::Cache)
    );
    client
        .continue_long_running_on_behalf_of(&key, MAIL)
        .await
        .unwrap();
    assert_eq!(provider.presented("refresh_token", "refresh-2"), 1);
    // Claims and a forced refresh are requested with the refresh token.
    let request = TokenRequest::new(FILES).claims(r#"{"access_token":{"acrs":{"value":"c1"}}}"#);
    client
        .continue_long_running_on_behalf_of(&key, request)
        .await
        .unwrap();
    assert_eq!(provider.presented("refresh_token", "refresh-3"), 1);

    client.stop_long_running_on_behalf_of(&key).await.unwrap();
    let error = client
        .continue_long_running_on_behalf_of(&key, FILES)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::InteractionRequired(_)), "{error:?}");
}

#[tokio::test]
async fn two_starts_with_one_assertion_are_two_processes() {
    let provider = provider();
    let client = provider.client(entra(TENANT_ID));
    let start = || async {
        let key = client
            .start_long_running_on_behalf_of(&assertion(), FILES)
            .await;
        key.unwrap()
    };
    let (first, second) = (start().await, start().await);
    assert_ne!(first, second);
    client.stop_long_running_on_behalf_of(&first).await.unwrap();
    client
        .continue_long_running_on_behalf_of(&second, FILES)
        .await
        .unwrap();
}

/// docs/failures.md S5.
#[tokio::test]
async fn a_key_continues_in_another_process() {
    let (provider, store) = (provider(), LocalSharedCache::new());
    let first = replica(&provider, &store);
    let key = first
        .start_long_running_on_behalf_of(&assertion(), FILES)
        .await
        .unwrap();
    drop(first);
    let stored = serde_json::to_string(&key).unwrap();
    let key: SessionKey = serde_json::from_str(&stored).unwrap();
    let token = replica(&provider, &store)
        .continue_long_running_on_behalf_of(&key, MAIL)
        .await;
    assert_eq!(token.unwrap().source(), TokenSource::IdentityProvider);
    let_others_run().await;
    assert_eq!(provider.presented("refresh_token", "refresh-1"), 1);
    replica(&provider, &store)
        .stop_long_running_on_behalf_of(&key)
        .await
        .unwrap();
    let outcome = replica(&provider, &store)
        .continue_long_running_on_behalf_of(&key, MAIL)
        .await;
    assert!(matches!(outcome, Err(Error::InteractionRequired(_))));
}

#[tokio::test]
async fn an_unknown_key_is_named_by_its_fingerprint() {
    let store = LocalSharedCache::new();
    for client in [
        provider().client(entra(TENANT_ID)),
        replica(&provider(), &store),
    ] {
        let key = SessionKey::from("a secret key");
        let outcome = client.continue_long_running_on_behalf_of(&key, FILES).await;
        let error = outcome.unwrap_err();
        assert!(matches!(error, Error::InteractionRequired(_)), "{error:?}");
        let shown = format!("{key:?}");
        let fingerprint = shown
            .trim_start_matches("SessionKey(")
            .trim_end_matches(')');
        assert_eq!(fingerprint.len(), 8);
        assert!(error.to_string().contains(fingerprint), "{error}");
        assert!(!error.to_string().contains("a secret key"));
    }
}

#[tokio::test]
async fn a_start_without_a_refresh_token_is_an_error() {
    let provider = provider();
    let client = provider.client(entra(TENANT_ID));
    let mut body = tokens(1);
    body.as_object_mut().unwrap().remove("refresh_token");
    provider.answer(Answer::json(&body));
    let error = client
        .start_long_running_on_behalf_of(&assertion(), FILES)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("offline_access"), "{error}");
}

/// A multi-tenant client continues in the tenant of the user.
#[tokio::test]
async fn a_key_remembers_the_tenant_of_the_user() {
    use base64::Engine;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;

    let provider = provider();
    let client = provider.client(entra("organizations"));
    let claims = json!({ "tid": TENANT_ID, "scp": "access_as_user" }).to_string();
    let user = UserAssertion::new(format!("e30.{}.", BASE64_URL_SAFE_NO_PAD.encode(claims)));
    let key = client
        .start_long_running_on_behalf_of(&user, FILES)
        .await
        .unwrap();
    let key = SessionKey::from(key.as_str());
    let token = client
        .continue_long_running_on_behalf_of(&key, FILES)
        .await
        .unwrap();
    assert_eq!(token.tenant_id(), Some(TENANT_ID));
    assert_eq!(token.source(), TokenSource::Cache);
}

#[tokio::test]
async fn a_refresh_token_of_another_library_signs_the_user_in() {
    let store = LocalSharedCache::new();
    for is_shared in [false, true] {
        let provider = provider();
        let client = match is_shared {
            true => replica(&provider, &store),
            false => provider.client(entra(TENANT_ID)),
        };
        let account = Account::from_home_account_id(HOME);
        let import = |refresh_token: &'static str| {
            let (client, account) = (&client, &account);
            async move {
                client
                    .import_refresh_token(account, refresh_token)
                    .await
                    .unwrap()
            }
        };
        assert!(import("of-msal").await);
        client.acquire_token_silent(&account, FILES).await.unwrap();
        let_others_run().await;
        assert_eq!(provider.presented("refresh_token", "of-msal"), 1);
        // The next start of the process.
        assert!(!import("of-msal").await, "{is_shared}");
        client.acquire_token_silent(&account, MAIL).await.unwrap();
        assert_eq!(provider.presented("refresh_token", "of-msal"), 1);
        assert_eq!(provider.presented("refresh_token", "refresh-1"), 1);
    }
}

#[tokio::test]
async fn an_imported_refresh_token_of_another_user_is_not_used() {
    let provider = provider();
    let client = provider.client(entra(TENANT_ID));
    let account = Account::from_home_account_id(HOME);
    client
        .import_refresh_token(&account, "of-bertha")
        .await
        .unwrap();
    let mut body = tokens(1);
    body["client_info"] = client_info("bertha.72f988bf-86f1-41af-91ab-2d7cd011db47").into();
    provider.answer(Answer::json(&body));
    let error = client
        .acquire_token_silent(&account, FILES)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("another user"), "{error}");
    let error = client
        .import_refresh_token(&account, " ")
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Config(_)));
}
