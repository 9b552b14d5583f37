//! Members of a token response that the client does not know.

use confidential_client::cache::{EncryptionKey, SharedCacheOptions};
use confidential_client::testing::LocalSharedCache;
use confidential_client::{Authority, ConfidentialClient, TokenRequest, TokenSource};
use serde_json::{Value, json};

use crate::support::openid::{Answer, FILES, ISSUER, OpenId, tokens};
use crate::support::{Provider, SCOPE};

/// As Salesforce responds, with a member that is a secret.
fn body(number: usize) -> Value {
    let mut body = tokens(number);
    body["instance_url"] = "https://eu7.example.org".into();
    body["limits"] = json!([5, { "a": null }]);
    body["device_secret"] = "d3vice-s3cret".into();
    body["nothing"] = Value::Null;
    body
}

#[tokio::test]
async fn a_cached_token_keeps_the_unknown_members_of_its_response() {
    let provider = Provider::open();
    provider.answer(200, &body(1).to_string());
    let client = provider.client();
    for source in [TokenSource::IdentityProvider, TokenSource::Cache] {
        let token = client.acquire_token_for_client(SCOPE).await.unwrap();
        assert_eq!(token.source(), source);
        let all: Value = serde_json::from_str(token.additional_response_parameters()).unwrap();
        let expected = json!({
            "instance_url": "https://eu7.example.org", "limits": [5, { "a": null }],
            "device_secret": "d3vice-s3cret",
        });
        assert_eq!(all, expected);
        let one = |name: &str| token.additional_response_parameter(name);
        assert_eq!(
            one("instance_url").as_deref(),
            Some("https://eu7.example.org")
        );
        assert_eq!(one("limits").as_deref(), Some(r#"[5,{"a":null}]"#));
        for absent in ["nothing", "access_token", "refresh_token", "expires_in"] {
            assert_eq!(one(absent), None, "{absent}");
        }
        assert!(!format!("{token:?} {token:#?}").contains("d3vice"));
    }
    // The next response has none.
    let forced = TokenRequest::new(SCOPE).force_refresh();
    let token = client.acquire_token_for_client(forced).await.unwrap();
    assert_eq!(token.additional_response_parameters(), "{}");
    assert_eq!(token.additional_response_parameter("limits"), None);
}

#[tokio::test]
async fn the_members_reach_another_process_through_the_shared_cache() {
    let (provider, store) = (Provider::open(), LocalSharedCache::new());
    provider.answer(200, &body(1).to_string());
    let replica = || -> ConfidentialClient {
        let key = EncryptionKey::from_bytes([1; 32]);
        let options = SharedCacheOptions::encrypted("the name key of the tests", [key]);
        let builder = provider.builder().shared_cache(store.clone(), options);
        builder.build().unwrap()
    };
    let first = replica().acquire_token_for_client(SCOPE).await.unwrap();
    let second = replica().acquire_token_for_client(SCOPE).await.unwrap();
    assert_eq!(second.source(), TokenSource::SharedCache);
    assert_eq!(
        second.additional_response_parameters(),
        first.additional_response_parameters()
    );
    assert_eq!(
        second.additional_response_parameter("limits").as_deref(),
        Some(r#"[5,{"a":null}]"#)
    );
    assert_eq!(provider.requests(), 1);

    // Another partition has another record.
    let other = TokenRequest::new(SCOPE).cache_partition("other");
    let other = replica().acquire_token_for_client(other).await.unwrap();
    assert_eq!(other.source(), TokenSource::IdentityProvider);
    assert_eq!(other.additional_response_parameters(), "{}");
    assert_eq!(provider.requests(), 2);
}

#[tokio::test]
async fn a_users_tokens_and_an_exchanged_token_have_the_members() {
    let provider = OpenId::new(ISSUER);
    let client = provider.client(Authority::oidc(ISSUER));
    let account = provider.sign_in(&client).await.account().clone();
    provider.answer(Answer::json(&body(2)));
    let request = TokenRequest::new(FILES).force_refresh();
    let token = client
        .acquire_token_silent(&account, request)
        .await
        .unwrap();
    assert!(
        token
            .additional_response_parameter("device_secret")
            .is_some()
    );

    let mut exchanged = body(3);
    exchanged["issued_token_type"] = "urn:example:type".into();
    exchanged["token_type"] = "N_A".into();
    provider.answer(Answer::json(&exchanged));
    let exchange = confidential_client::delegated::TokenExchange::new(
        "opaque",
        confidential_client::delegated::TokenTypeIdentifier::ACCESS_TOKEN,
    );
    let token = client.exchange_token(&exchange).await.unwrap();
    assert_eq!(token.issued_token_type(), Some("urn:example:type"));
    assert_eq!(token.secret(), "token-3");
    assert!(
        token
            .additional_response_parameter("device_secret")
            .is_some()
    );
}
