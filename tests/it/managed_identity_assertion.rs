//! A managed identity of the host as the credential of an application.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use confidential_client::credential::{AssertionContext, ClientAssertionProvider, ManagedIdentity};
use confidential_client::delegated::UserAssertion;
use confidential_client::{
    Authority, Cloud, ConfidentialClient, ConfidentialClientBuilder, Error, ManagedIdentityClient,
    RetryPolicy, TokenRequest,
};

use crate::managed_identity::{Host, IDENTITY, imds};
use crate::support::{CLIENT_ID, Provider, SCOPE, TENANT, unsigned_jwt};

fn issuing_jwts() -> Host {
    let mut host = Host::default();
    host.issues_jwts = true;
    host
}

fn identity_client(host: &Host) -> ManagedIdentityClient {
    let identity = ManagedIdentity::user_assigned_client_id(IDENTITY);
    host.builder_of(identity, imds()).build().unwrap()
}

fn builder(
    provider: &Provider,
    assertions: impl ClientAssertionProvider,
) -> ConfidentialClientBuilder {
    ConfidentialClient::builder(CLIENT_ID)
        .tenant(TENANT)
        .client_assertion(assertions)
        .transport(provider.transport())
}

#[tokio::test]
async fn the_resource_of_the_assertion_follows_the_cloud() {
    for (cloud, expected) in [
        (Cloud::Public, "api%3A%2F%2FAzureADTokenExchange&"),
        (
            Cloud::UsGovernment,
            "api%3A%2F%2FAzureADTokenExchangeUSGov&",
        ),
        (Cloud::China, "api%3A%2F%2FAzureADTokenExchangeChina&"),
        (
            Cloud::Custom("login.chinacloudapi.cn".to_owned()),
            "api%3A%2F%2FAzureADTokenExchangeChina&",
        ),
        (
            Cloud::Custom("http://127.0.0.1:1".to_owned()),
            "api%3A%2F%2FAzureADTokenExchange&",
        ),
    ] {
        let (host, provider) = (issuing_jwts(), Provider::open());
        let client = ConfidentialClient::builder(CLIENT_ID)
            .authority(Authority::entra(cloud, TENANT))
            .client_assertion(identity_client(&host))
            .transport(provider.transport())
            .build()
            .unwrap();
        client.acquire_token_for_client(SCOPE).await.unwrap();
        let query = host.query(0);
        assert!(query.contains(&format!("resource={expected}")), "{query}");
        assert!(query.contains(&format!("client_id={IDENTITY}")), "{query}");
    }
}

#[tokio::test]
async fn the_assertion_is_cached_for_the_application_and_for_its_users() {
    let (host, provider) = (issuing_jwts(), Provider::open());
    let identity = identity_client(&host);
    let client = builder(&provider, identity.clone()).build().unwrap();
    client.acquire_token_for_client(SCOPE).await.unwrap();
    client
        .acquire_token_for_client("api://other/.default")
        .await
        .unwrap();
    let user = UserAssertion::new(unsigned_jwt("adele"));
    client
        .acquire_token_on_behalf_of(&user, "https://graph.microsoft.com/User.Read")
        .await
        .unwrap();
    assert_eq!((provider.requests(), host.sent()), (3, 1));
    for number in 0..3 {
        let sent = provider.field(number, "client_assertion").unwrap();
        assert_eq!(sent, unsigned_jwt("assertion-1"));
    }
    assert_eq!(identity.cache().len(), 1);
    // The assertion itself may be the reason of a challenge.
    let request = TokenRequest::new(SCOPE).claims("{\"access_token\":{}}");
    client.acquire_token_for_client(request).await.unwrap();
    let sent = provider.field(3, "client_assertion").unwrap();
    assert_eq!(sent, unsigned_jwt("assertion-2"));
}

/// The host's cache may have kept the assertion too long, or the host's clock is behind.
#[tokio::test]
async fn an_expired_assertion_is_removed_from_the_cache_once() {
    let (host, provider) = (issuing_jwts(), Provider::open());
    let client = builder(&provider, identity_client(&host)).build().unwrap();
    let expired = r#"{"error":"invalid_client","error_codes":[700024]}"#;
    provider.answer(401, expired);
    client.acquire_token_for_client(SCOPE).await.unwrap();
    let other = "api://other/.default";
    client.acquire_token_for_client(other).await.unwrap();
    // Within 30 seconds no second token is replaced because of a rejection.
    provider.answer(401, expired);
    let error = client
        .acquire_token_for_client("api://third/.default")
        .await;
    assert!(matches!(error, Err(Error::Server(_))), "{error:?}");
    let sent = (0..provider.requests()).map(|number| provider.field(number, "client_assertion"));
    let expected = [1, 2, 2, 2].map(|number| Some(unsigned_jwt(&format!("assertion-{number}"))));
    assert_eq!(sent.collect::<Vec<_>>(), expected);
    assert_eq!(host.sent(), 2);
}

#[test]
fn the_system_assigned_identity_and_an_invalid_id_are_rejected_by_build() {
    let provider = Provider::open();
    let system = ManagedIdentity::system_assigned;
    let host = Host::default();
    let system_client = host.builder_of(system(), imds()).build().unwrap();
    let invalid = ManagedIdentity::user_assigned_object_id("me");
    for (builder, expected) in [
        (
            builder(&provider, system()),
            "the system-assigned identity cannot be the credential of an application",
        ),
        (
            builder(&provider, system_client),
            "the system-assigned identity cannot be the credential of an application",
        ),
        (
            builder(&provider, invalid),
            "the object id \"me\" of the managed identity cannot be used",
        ),
    ] {
        let error = builder.build().unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        assert!(error.to_string().contains(expected), "{error}");
    }
    let identity = ManagedIdentity::user_assigned_client_id(IDENTITY);
    let client = builder(&provider, identity).build().unwrap();
    let shown = format!("{client:?}");
    let expected = format!("token of the user-assigned identity with the client id '{IDENTITY}'");
    assert!(shown.contains(&expected), "{shown}");
}

#[tokio::test]
async fn the_failure_of_the_endpoint_is_the_cause_of_a_credential_error() {
    let (host, provider) = (Host::failing(&[400]), Provider::open());
    let client = builder(&provider, identity_client(&host)).build().unwrap();
    let error = client.acquire_token_for_client(SCOPE).await.unwrap_err();
    assert!(matches!(error, Error::Credential(_)), "{error:?}");
    let chain = error.chain().to_string();
    assert!(chain.contains("(IMDS)"), "{chain}");
    assert_eq!(provider.requests(), 0);
}

#[tokio::test]
async fn the_context_has_the_claims_the_capabilities_the_attempt_and_the_path() {
    let provider = Provider::open();
    provider.answer(503, "{}");
    let contexts = Arc::<Mutex<Vec<AssertionContext>>>::default();
    let seen = Arc::clone(&contexts);
    let client = builder(&provider, move |context: AssertionContext| {
        seen.lock().unwrap().push(context);
        async { Ok(unsigned_jwt("assertion")) }
    })
    .client_capabilities(["cp1"])
    .retry(RetryPolicy::default().base_delay(Duration::ZERO))
    .build()
    .unwrap();
    let claims = r#"{"access_token":{"nbf":{"essential":true}}}"#;
    let request = TokenRequest::new(SCOPE)
        .claims(claims)
        .form_parameter("fmi_path", "agents/one");
    client.acquire_token_for_client(request).await.unwrap();
    client.acquire_token_for_client(SCOPE).await.unwrap();
    let contexts = contexts.lock().unwrap();
    let shown: Vec<_> = contexts
        .iter()
        .map(|context| {
            assert_eq!(context.client_capabilities(), ["cp1"]);
            (context.attempt(), context.claims(), context.fmi_path())
        })
        .collect();
    let path = Some("agents/one");
    assert_eq!(
        shown,
        [
            (1, Some(claims), path),
            (2, Some(claims), path),
            (1, None, None)
        ]
    );
}
