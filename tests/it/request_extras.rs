//! What a request adds beyond the standard: headers, claims of the client assertion, a partition of
//! the cache.

use std::task::Poll;

use confidential_client::delegated::{AuthorizationRequest, TokenExchange, TokenTypeIdentifier};
use confidential_client::testing::{Application, LocalAuthority, ProviderRules, User};
use confidential_client::{Authority, Certificate, Error, TokenRequest, TokenSource};
use serde_json::{Value, json};

use crate::support::{
    CLIENT_ID, PEM, Provider, SCOPE, SECRET, TENANT, client_of, in_memory, poll_once,
};

const BACK: &str = "https://app.example.org/signed-in";
const FILES: &str = "api://drive/Files.Read";
const ADELE: &str = "adele@contoso.onmicrosoft.com";

fn request() -> TokenRequest {
    TokenRequest::new(SCOPE)
}

#[tokio::test]
async fn a_token_request_has_the_headers_of_the_call_that_started_it() {
    let provider = Provider::gated();
    let client = provider.client();
    let first = request().header("x-gateway-key", "first");
    let joins = request()
        .header("x-gateway-key", "second")
        .header("x-other", "b");
    let mut starting = Box::pin(client.acquire_token_for_client(first));
    assert!(matches!(poll_once(&mut starting), Poll::Pending));
    let mut joining = Box::pin(client.acquire_token_for_client(&joins));
    assert!(matches!(poll_once(&mut joining), Poll::Pending));
    provider.release();
    let (started, joined) = (starting.await.unwrap(), joining.await.unwrap());
    assert_eq!(started.secret(), joined.secret());
    // A hit sends nothing, since a header is no part of the key.
    client.acquire_token_for_client(&joins).await.unwrap();
    assert_eq!(provider.requests(), 1);
    let sent = provider.header(0, "x-gateway-key").unwrap();
    assert_eq!(sent, "first");
    assert!(sent.is_sensitive());
    assert_eq!(provider.header(0, "x-other"), None);

    // The next request has its own.
    let forced = client.acquire_token_for_client(joins.force_refresh());
    forced.await.unwrap();
    assert_eq!(provider.header(1, "x-gateway-key").unwrap(), "second");
    assert_eq!(provider.header(1, "x-other").unwrap(), "b");
}

#[tokio::test]
async fn a_reserved_header_is_rejected_before_the_network() {
    let provider = Provider::open();
    let client = provider.client();
    for name in [
        "Authorization",
        "host",
        "Content-Length",
        "DPoP",
        "client-request-id",
    ] {
        let request = request().header(name, "h1dden");
        let error = client.acquire_token_for_client(&request).await.unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(&name.to_ascii_lowercase()), "{text}");
        let error = client.token_provider(&request).unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        assert!(!format!("{error:?}{request:?}").contains("h1dden"));
    }
    assert_eq!(provider.requests(), 0);
}

#[tokio::test]
async fn the_value_of_a_header_is_masked_in_an_error() {
    let provider = Provider::open();
    let echo = r#"{"error":"access_denied","error_description":"no key g4teway-k3y here"}"#;
    provider.answer(403, echo);
    let request = request().header("x-gateway-key", "g4teway-k3y");
    let failed = provider.client().acquire_token_for_client(&request).await;
    let error = failed.unwrap_err();
    assert_eq!(error.server_error().unwrap().error(), "access_denied");
    assert!(
        !format!("{error} {error:?}").contains("g4teway-k3y"),
        "{error:?}"
    );
}

async fn authority() -> LocalAuthority {
    let local = LocalAuthority::start().await.unwrap();
    let certificate = Certificate::from_pem(&*PEM).unwrap();
    let app = Application::new(CLIENT_ID)
        .secret(SECRET)
        .certificate(&certificate)
        .redirect_uri(BACK)
        .delegated("api://drive", "Files.Read");
    local.register(TENANT, app);
    local.register_user(TENANT, User::new(ADELE));
    local.consent(TENANT, CLIENT_ID, ADELE, FILES);
    local
}

#[tokio::test]
async fn claims_are_signed_into_the_assertion_and_are_part_of_the_key() {
    let local = authority().await;
    let certificate = Certificate::from_pem(&*PEM).unwrap();
    let client = client_of(&local).certificate(certificate).build().unwrap();
    let acquire = |claims: Option<&str>| {
        let request = match claims {
            Some(claims) => request().client_assertion_claims(claims),
            None => request(),
        };
        let client = client.clone();
        async move { client.acquire_token_for_client(request).await.unwrap() }
    };
    let plain = acquire(None).await;
    let west = acquire(Some(r#"{"region":"west","tags":["a",1]}"#)).await;
    let east = acquire(Some(r#"{"region":"east"}"#)).await;
    assert_eq!(local.token_requests().len(), 3);
    for (claims, token) in [
        (None, plain),
        (Some("{}"), acquire(None).await),
        (Some(r#"{ "tags": ["a", 1], "region": "west" }"#), west),
        (Some(r#"{"region":"east"}"#), east),
    ] {
        let again = acquire(claims).await;
        assert_eq!(again.secret(), token.secret(), "{claims:?}");
        assert_eq!(again.source(), TokenSource::Cache);
    }
    let requests = local.token_requests();
    assert_eq!(requests.len(), 3);
    let claims_of = |request: usize| -> Value {
        serde_json::from_str(&requests[request].assertion_claims().unwrap()).unwrap()
    };
    assert_eq!(claims_of(0)["region"], Value::Null);
    assert_eq!(claims_of(1)["region"], "west");
    assert_eq!(claims_of(1)["tags"], json!(["a", 1]));
    assert_eq!(claims_of(1)["iss"], CLIENT_ID);
    assert_eq!(claims_of(2)["region"], "east");
    assert_eq!(claims_of(2)["tags"], Value::Null);
}

#[tokio::test]
async fn a_client_that_signs_no_assertion_rejects_claims_for_it() {
    let provider = Provider::open();
    let custom = |_| async { Ok("e30.e30.AA".to_owned()) };
    let with_secret_source = || async { Ok(SECRET.to_owned().into()) };
    for (client, expected) in [
        (
            in_memory(&provider).client_secret(SECRET),
            "a secret and sends no",
        ),
        (
            in_memory(&provider).client_secret_source(with_secret_source),
            "a secret and sends no",
        ),
        (
            in_memory(&provider).client_assertion(custom),
            "client_assertion(..); add the claims",
        ),
    ] {
        let client = client.build().unwrap();
        let request = request().client_assertion_claims(r#"{"a":1}"#);
        let error = client.acquire_token_for_client(&request).await.unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        assert!(error.to_string().contains(expected), "{error}");
        let error = client.token_provider(request).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        let sign_in = TokenRequest::new(FILES).client_assertion_claims(r#"{"a":1}"#);
        let sign_in = AuthorizationRequest::new(BACK, sign_in);
        let error = client
            .authorization_request_url(&sign_in)
            .await
            .unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
    let reserved = request().client_assertion_claims(r#"{"exp":1}"#);
    let client = in_memory(&provider).certificate(Certificate::from_pem(&*PEM).unwrap());
    let failed = client
        .build()
        .unwrap()
        .acquire_token_for_client(reserved)
        .await;
    assert!(failed.unwrap_err().to_string().contains("'exp'"));
    assert_eq!(provider.requests(), 0);
}

#[tokio::test]
async fn partitions_have_their_own_tokens_and_are_never_sent() {
    let provider = Provider::open();
    let client = provider.client();
    let of = |partition: &str| request().cache_partition(partition);
    let (one, two) = (of("p4rtition-1"), of("p4rtition-2"));
    let first = client.acquire_token_for_client(&one).await.unwrap();
    let second = client.acquire_token_for_client(&two).await.unwrap();
    let plain = client.acquire_token_for_client(SCOPE).await.unwrap();
    assert_eq!(
        [first.secret(), second.secret(), plain.secret()],
        ["token-1", "token-2", "token-3"]
    );
    // The last partition counts, and a provider has the tokens of its own.
    let again = client.acquire_token_for_client(of("x").cache_partition("p4rtition-1"));
    assert_eq!(again.await.unwrap().secret(), "token-1");
    let bound = client.token_provider(&two).unwrap();
    assert_eq!(bound.token().await.unwrap().secret(), "token-2");
    assert_eq!(provider.requests(), 3);
    for request in 0..3 {
        let sent = format!("{}{}", provider.uri(request), provider.body(request));
        assert!(!sent.contains("p4rtition"), "{sent}");
        assert_eq!(provider.body(request), provider.body(2));
    }
    assert!(!format!("{one:?} {first:?} {bound:?} {client:?}").contains("p4rtition"));

    // A rejected token is of one partition.
    let error = client
        .acquire_token_for_client(one.rejected_token(&second))
        .await;
    assert!(error.unwrap_err().to_string().contains("another tenant"));
    let error = client.acquire_token_for_client(of("")).await.unwrap_err();
    assert!(error.to_string().contains("partition is empty"), "{error}");
    assert_eq!(provider.requests(), 3);
}

/// The sign-in leaves the process and comes back with all that the request adds.
#[tokio::test]
async fn a_sign_in_keeps_headers_claims_and_partition() {
    let local = authority().await;
    let certificate = Certificate::from_pem(&*PEM).unwrap();
    let client = client_of(&local).certificate(certificate).build().unwrap();
    let files = TokenRequest::new(FILES)
        .header("x-gateway-key", "k3y")
        .client_assertion_claims(r#"{"region":"west"}"#)
        .cache_partition("p4rtition");
    let sign_in = AuthorizationRequest::new(BACK, &files);
    let (page, flow) = client.authorization_request_url(&sign_in).await.unwrap();
    assert!(!page.contains("k3y") && !page.contains("west") && !page.contains("p4rtition"));
    let kept = serde_json::to_string(&flow).unwrap();
    let flow = serde_json::from_str(&kept).unwrap();
    let back = local.sign_in(page, ADELE).await.unwrap();
    let signed_in = client
        .acquire_token_by_authorization_code(flow, back)
        .await
        .unwrap();
    let account = signed_in.account();
    let silent = client.acquire_token_silent(account, &files).await.unwrap();
    assert_eq!(silent.source(), TokenSource::Cache);
    assert_eq!(local.token_requests().len(), 1);
    // Another partition has another access token, and the same refresh token.
    let other = client.acquire_token_silent(account, files.cache_partition("other"));
    assert_ne!(other.await.unwrap().secret(), silent.secret());
    let requests = local.token_requests();
    assert_eq!(requests.len(), 2);
    for request in &requests {
        assert_eq!(request.header("x-gateway-key"), Some("k3y"));
        assert!(
            request
                .assertion_claims()
                .unwrap()
                .contains(r#""region":"west""#)
        );
        assert!(!format!("{:?}", request.form()).contains("p4rtition"));
    }
}

#[tokio::test]
async fn a_pushed_request_and_an_exchange_have_the_headers() {
    let builder = LocalAuthority::builder().rules(ProviderRules::openid());
    let local = builder.start().await.unwrap();
    let app = Application::new(CLIENT_ID)
        .secret(SECRET)
        .redirect_uri(BACK)
        .delegated("api://drive", "Files.Read");
    local.register(TENANT, app);
    let client = client_of(&local).authority(Authority::oidc(local.issuer(TENANT).unwrap()));
    let client = client.client_secret(SECRET).build().unwrap();
    let files = TokenRequest::new(FILES).header("x-gateway-key", "k3y");
    let sign_in = AuthorizationRequest::new(BACK, files).pushed();
    client.authorization_request_url(&sign_in).await.unwrap();
    let exchange = TokenExchange::new("opaque", TokenTypeIdentifier::ACCESS_TOKEN)
        .header("x-gateway-key", "k3y")
        .cache_partition("a");
    assert!(client.exchange_token(&exchange).await.is_err());
    let failed = client
        .exchange_token(&exchange.client_assertion_claims(r#"{"a":1}"#))
        .await;
    assert!(matches!(failed.unwrap_err(), Error::Config(_)));
    let (pushed, exchanged) = (&local.pushed_requests()[0], &local.token_requests()[0]);
    assert_eq!(pushed.header("x-gateway-key"), Some("k3y"));
    assert_eq!(exchanged.header("x-gateway-key"), Some("k3y"));
}
