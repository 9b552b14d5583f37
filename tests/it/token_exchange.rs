//! Token exchange at an OpenID provider (RFC 8693).

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use confidential_client::adapter::{BearerAuth, BearerAuthLayer};
use confidential_client::cache::{EncryptionKey, SharedCacheOptions};
use confidential_client::delegated::{TokenExchange, TokenTypeIdentifier};
use confidential_client::testing::{LocalSharedCache, ManualClock, StoreFault};
use confidential_client::{
    Authority, Cloud, ConfidentialClient, ConfidentialClientBuilder, Error, RetryPolicy,
    TokenScheme, TokenSource,
};
use http::HeaderMap;
use tower::{Layer, ServiceExt};

use crate::support::{Provider, SECRET, TENANT, let_others_run, poll_once};

const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";

fn builder(provider: &Provider) -> ConfidentialClientBuilder {
    let authority = Authority::oidc("https://id.example").token_endpoint("https://id.example/t");
    ConfidentialClient::builder("gateway")
        .authority(authority)
        .client_secret(SECRET)
        .retry(RetryPolicy::none())
        .transport(provider.transport())
}

fn client(provider: &Provider) -> ConfidentialClient {
    builder(provider).build().unwrap()
}

fn exchange(subject_token: &str) -> TokenExchange {
    TokenExchange::new(subject_token, TokenTypeIdentifier::ACCESS_TOKEN)
}

fn issued(token: &str, token_type: &str, issued_token_type: &str) -> String {
    format!(
        r#"{{"access_token":"{token}","token_type":"{token_type}","issued_token_type":"{issued_token_type}","expires_in":300}}"#
    )
}

/// Asserts that the form has exactly these fields after the client authentication.
fn assert_form(provider: &Provider, request: usize, expected: &[(&str, &str)]) {
    let body = provider.body(request);
    let form: Vec<(String, String)> = url::form_urlencoded::parse(body.as_bytes())
        .into_owned()
        .collect();
    let expected: Vec<(String, String)> = [("client_id", "gateway"), ("client_secret", SECRET)]
        .iter()
        .chain(expected)
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    assert_eq!(form, expected);
}

#[tokio::test]
async fn the_smallest_exchange_has_the_grant_the_token_and_its_type() {
    let provider = Provider::open();
    provider.answer(200, &issued("exchanged", "Bearer", ACCESS_TOKEN));
    let client = client(&provider);
    let token = client.exchange_token(&exchange("received")).await.unwrap();
    assert_form(
        &provider,
        0,
        &[
            (
                "grant_type",
                "urn:ietf:params:oauth:grant-type:token-exchange",
            ),
            ("subject_token", "received"),
            ("subject_token_type", ACCESS_TOKEN),
        ],
    );
    assert_eq!(provider.uri(0), "https://id.example/t");
    assert_eq!(provider.method(0), "POST");
    assert_eq!(token.secret(), "exchanged");
    assert_eq!(token.authorization_header(), "Bearer exchanged");
    assert_eq!(token.scheme(), TokenScheme::Bearer);
    assert_eq!(token.issued_token_type(), Some(ACCESS_TOKEN));
    assert_eq!(token.source(), TokenSource::IdentityProvider);
    assert!(token.expires_in() <= Duration::from_secs(300));
}

#[tokio::test]
async fn every_parameter_of_the_standard_is_sent() {
    let provider = Provider::open();
    let client = client(&provider);
    let exchange = exchange("subject")
        .actor_token("actor", TokenTypeIdentifier::JWT)
        .requested_token_type(TokenTypeIdentifier::SAML2)
        .audience("orders")
        .audience("invoices")
        .resource("https://orders.example/api")
        .resource("https://invoices.example/api")
        .scopes(["read", "write"])
        .form_parameter("subject_issuer", "partner")
        .correlation_id("a1a2a3a4-b1b2-c1c2-d1d2-e1e2e3e4e5e6");
    client.exchange_token(&exchange).await.unwrap();
    assert_form(
        &provider,
        0,
        &[
            ("scope", "read write"),
            (
                "grant_type",
                "urn:ietf:params:oauth:grant-type:token-exchange",
            ),
            ("subject_token", "subject"),
            ("subject_token_type", ACCESS_TOKEN),
            ("actor_token", "actor"),
            ("actor_token_type", "urn:ietf:params:oauth:token-type:jwt"),
            (
                "requested_token_type",
                "urn:ietf:params:oauth:token-type:saml2",
            ),
            ("audience", "orders"),
            ("audience", "invoices"),
            ("resource", "https://orders.example/api"),
            ("resource", "https://invoices.example/api"),
            ("subject_issuer", "partner"),
        ],
    );
    assert_eq!(
        provider.header(0, "client-request-id").unwrap(),
        "a1a2a3a4-b1b2-c1c2-d1d2-e1e2e3e4e5e6"
    );
}

#[tokio::test]
async fn each_input_has_a_token_of_its_own() {
    use TokenTypeIdentifier as Type;

    let provider = Provider::open();
    let client = client(&provider);
    let all = [
        exchange("a"),
        exchange("b"),
        TokenExchange::new("a", Type::JWT),
        exchange("a").actor_token("b", Type::JWT),
        exchange("a").actor_token("c", Type::JWT),
        exchange("a").requested_token_type(Type::JWT),
        exchange("a").audience("orders"),
        exchange("a").resource("https://orders.example"),
        exchange("a").scopes(["read"]),
        exchange("a").form_parameter("subject_issuer", "partner"),
    ];
    for _ in 0..2 {
        for (at, exchange) in all.iter().enumerate() {
            let token = client.exchange_token(exchange).await.unwrap();
            assert_eq!(token.secret(), format!("token-{}", at + 1));
        }
    }
    assert_eq!(provider.requests(), all.len());
    // The application's own token is another one.
    let own = client.acquire_token_for_client("").await.unwrap();
    assert_eq!(own.secret(), format!("token-{}", all.len() + 1));
}

#[tokio::test]
async fn a_hundred_calls_with_one_token_are_one_exchange() {
    let provider = Provider::gated();
    let client = client(&provider);
    let exchange = exchange("received").audience("orders");
    let mut calls: Vec<_> = (0..100)
        .map(|_| Box::pin(client.exchange_token(&exchange)))
        .collect();
    for call in &mut calls {
        assert!(poll_once(call).is_pending());
    }
    provider.release();
    for call in calls {
        assert_eq!(call.await.unwrap().secret(), "token-1");
    }
    assert_eq!(provider.requests(), 1);
}

#[tokio::test]
async fn a_failed_exchange_is_remembered_for_its_token_alone() {
    let provider = Provider::open();
    let client = client(&provider);
    let rejected = exchange("expired-subject-token");
    let body = r#"{"error":"invalid_request","error_description":"subject_token expired-subject-token is expired"}"#;
    provider.answer(400, body);
    for _ in 0..3 {
        let error = client.exchange_token(&rejected).await.unwrap_err();
        let server = error.server_error().unwrap();
        assert_eq!(server.error(), "invalid_request");
        assert!(error.retry_after().is_some());
        let text = error.chain().to_string();
        assert!(!text.contains("expired-subject-token"), "{text}");
    }
    assert_eq!(provider.requests(), 1);
    client.exchange_token(&exchange("other")).await.unwrap();
    assert_eq!(provider.requests(), 2);
}

/// The exchange can be repeated, and a refresh token of the response would outlive the user.
#[tokio::test]
async fn a_refresh_token_in_the_response_is_not_kept() {
    let (provider, clock) = (Provider::open(), ManualClock::new());
    let client = builder(&provider).clock(clock.clone()).build().unwrap();
    let body = r#"{"access_token":"one","token_type":"Bearer","expires_in":300,"refresh_token":"r","issued_token_type":"urn:ietf:params:oauth:token-type:access_token"}"#;
    provider.answer(200, body);
    let exchange = exchange("received");
    client.exchange_token(&exchange).await.unwrap();
    clock.advance(Duration::from_secs(301));
    let token = client.exchange_token(&exchange).await.unwrap();
    assert_eq!(token.secret(), "token-2");
    let field = |name: &str| provider.field(1, name);
    assert_eq!(field("refresh_token"), None);
    assert_eq!(field("subject_token").as_deref(), Some("received"));
}

#[tokio::test]
async fn the_token_is_served_after_the_subject_token_has_expired() {
    let (provider, clock) = (Provider::open(), ManualClock::new());
    let client = builder(&provider).clock(clock.clone()).build().unwrap();
    provider.answer(200, &issued("one", "Bearer", ACCESS_TOKEN));
    let exchange = exchange("received");
    client.exchange_token(&exchange).await.unwrap();
    clock.advance(Duration::from_secs(280));
    provider.answer(400, r#"{"error":"invalid_grant"}"#);
    for _ in 0..3 {
        let token = client.exchange_token(&exchange).await.unwrap();
        assert_eq!(
            (token.secret(), token.source()),
            ("one", TokenSource::Cache)
        );
        let_others_run().await;
    }
    assert_eq!(provider.requests(), 2, "one refresh in the background");
}

#[tokio::test]
async fn another_token_than_an_access_token_is_attached_nowhere() {
    let provider = Provider::open();
    let client = client(&provider);
    provider.answer(200, &issued("the.id.token", "N_A", ID_TOKEN));
    let exchange = exchange("received").requested_token_type(TokenTypeIdentifier::ID_TOKEN);
    let token_provider = client.token_provider_for_exchange(&exchange).unwrap();
    let mut headers = HeaderMap::new();
    let error = token_provider.authorize(&mut headers).await.unwrap_err();
    assert!(matches!(error, Error::Config(_)), "{error:?}");
    let text = error.to_string();
    assert!(
        text.contains(ID_TOKEN) && text.contains("token.secret()"),
        "{text}"
    );
    assert!(headers.is_empty());
    for token in [
        token_provider.token().await.unwrap(),
        client.exchange_token(&exchange).await.unwrap(),
    ] {
        assert_eq!(token.source(), TokenSource::Cache);
        assert_eq!(token.secret(), "the.id.token");
        assert_eq!(token.scheme(), TokenScheme::NotApplicable);
        assert_eq!(token.token_type(), "N_A");
        assert_eq!(token.issued_token_type(), Some(ID_TOKEN));
        assert_eq!(token.authorization_header(), "N_A");
    }
    assert_eq!(provider.requests(), 1);
}

#[tokio::test]
async fn no_adapter_attaches_another_token_than_an_access_token() {
    let provider = Provider::open();
    let client = client(&provider);
    provider.answer(200, &issued("the.id.token", "N_A", ID_TOKEN));
    let exchange = exchange("received").requested_token_type(TokenTypeIdentifier::ID_TOKEN);
    let tokens = client.token_provider_for_exchange(&exchange).unwrap();
    let auth = BearerAuth::new(tokens, ["https://api.example"]).unwrap();
    let middleware = reqwest_middleware::ClientBuilder::new(reqwest::Client::new());
    let middleware = middleware.with(auth.clone()).build();
    let error = middleware
        .get("https://api.example/")
        .send()
        .await
        .unwrap_err();
    assert!(
        format!("{error:?}").contains("not for an API call"),
        "{error:?}"
    );
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let api = tower::service_fn(move |_: http::Request<()>| {
        count.fetch_add(1, Ordering::SeqCst);
        async { Ok::<_, Infallible>(http::Response::new(())) }
    });
    let api = BearerAuthLayer::new(auth).layer(api);
    // The token is cached by now.
    for _ in 0..2 {
        let request = http::Request::get("https://api.example/").body(()).unwrap();
        let error = api.clone().oneshot(request).await.unwrap_err();
        assert!(
            format!("{error:?}").contains("not for an API call"),
            "{error:?}"
        );
    }
    assert_eq!(sent.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_rejected_token_is_replaced_once() {
    let provider = Provider::open();
    let client = client(&provider);
    // Two tokens that differ in their text alone.
    provider.answer(200, &issued("one", "N_A", ID_TOKEN));
    provider.answer(200, &issued("two", "N_A", ID_TOKEN));
    let exchange = exchange("received");
    let one = client.exchange_token(&exchange).await.unwrap();
    let again = exchange.clone().rejected_token(&one);
    for _ in 0..2 {
        let two = client.exchange_token(&again).await.unwrap();
        assert_eq!(two.secret(), "two");
    }
    assert_eq!(provider.requests(), 2);
    client.invalidate(&one);
    assert_eq!(
        client.exchange_token(&exchange).await.unwrap().secret(),
        "two"
    );
    let forced = client.exchange_token(&exchange.force_refresh()).await;
    assert_eq!(forced.unwrap().secret(), "token-3");
}

#[tokio::test]
async fn processes_share_an_exchanged_token() {
    let provider = Provider::open();
    let store = LocalSharedCache::new();
    let replica = || {
        let options = SharedCacheOptions::encrypted(
            "the name key of the tests",
            [EncryptionKey::from_bytes([1; 32])],
        );
        builder(&provider)
            .shared_cache(store.clone(), options)
            .build()
            .unwrap()
    };
    for (token_type, issued_token_type, scheme) in [
        ("Bearer", ACCESS_TOKEN, TokenScheme::Bearer),
        ("N_A", ID_TOKEN, TokenScheme::NotApplicable),
    ] {
        let before = provider.requests();
        provider.answer(200, &issued("shared", token_type, issued_token_type));
        let exchange = exchange(token_type);
        let (one, other) = (replica(), replica());
        one.exchange_token(&exchange).await.unwrap();
        let token = other.exchange_token(&exchange).await.unwrap();
        assert_eq!(token.source(), TokenSource::SharedCache);
        assert_eq!((token.secret(), token.scheme()), ("shared", scheme));
        assert_eq!(token.issued_token_type(), Some(issued_token_type));
        assert_eq!(provider.requests(), before + 1);
        // The exchange goes on where the store is down.
        assert_eq!(provider.field(before, "subject_token").unwrap(), token_type);
    }
    store.begin_outage(StoreFault::Error);
    let token = replica().exchange_token(&exchange("alone")).await.unwrap();
    assert_eq!(token.source(), TokenSource::IdentityProvider);
    assert_eq!(provider.field(2, "subject_token").unwrap(), "alone");
}

#[tokio::test]
async fn microsofts_providers_name_what_to_call_instead() {
    let exchange = exchange("received");
    for (authority, instead) in [
        (
            Authority::entra(Cloud::Public, TENANT),
            "Microsoft Entra ID has no token exchange (RFC 8693); to act for the user of a token at another API, call acquire_token_on_behalf_of(..)",
        ),
        (
            Authority::external_id("login.contoso.com", TENANT),
            "call acquire_token_on_behalf_of(..)",
        ),
        (
            Authority::adfs("fs.contoso.com"),
            "AD FS has no token exchange (RFC 8693); to act for the user of a token at another API, call acquire_token_on_behalf_of(..)",
        ),
        (
            Authority::b2c("contoso.b2clogin.com", "contoso.com", "B2C_1_in"),
            "call acquire_token_silent(..)",
        ),
    ] {
        let provider = Provider::open();
        let client = builder(&provider).authority(authority).build().unwrap();
        let error = client.exchange_token(&exchange).await.unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        assert!(error.to_string().contains(instead), "{error}");
        client.token_provider_for_exchange(&exchange).unwrap_err();
        assert_eq!(provider.requests(), 0);
    }
}

#[tokio::test]
async fn mistakes_are_told_before_the_network() {
    let provider = Provider::open();
    let client = client(&provider);
    for (exchange, text) in [
        (
            exchange(""),
            "the subject token of the token exchange is empty",
        ),
        (exchange("Bearer abc"), "without 'Bearer'"),
        (
            exchange("a").resource("orders"),
            "\"orders\" cannot be used",
        ),
        (exchange("a").audience(""), "the audience \"\" is empty"),
        (exchange("a").scopes(["a\"b"]), "no scope may contain"),
        (
            TokenExchange::new("a", TokenTypeIdentifier::custom("jwt")),
            "\"jwt\" is not a URI",
        ),
        (
            exchange("a").form_parameter("actor_token", "b"),
            "'actor_token' is reserved",
        ),
    ] {
        for error in [
            client.exchange_token(&exchange).await.unwrap_err(),
            client.token_provider_for_exchange(&exchange).unwrap_err(),
        ] {
            assert!(matches!(error, Error::Config(_)), "{error:?}");
            assert!(error.to_string().contains(text), "{error}");
        }
    }
    assert_eq!(provider.requests(), 0);
}
