//! OpenID providers other than Entra, by issuer and by token endpoint.

use std::time::Duration;

use confidential_client::credential::TokenEndpointAuthMethod;
use confidential_client::testing::ManualClock;
use confidential_client::time::Clock;
use confidential_client::{
    Authority, Certificate, ConfidentialClient, ConfidentialClientBuilder, Error, RetryPolicy,
    TokenRequest,
};

use crate::support::log_capture::Log;
use crate::support::{PEM, Provider, SECRET, TENANT, claims_of, unsigned_jwt};

const ISSUER: &str = "https://id.example.org/realms/daemons";
const TOKEN_ENDPOINT: &str = "https://id.example.org/token?version=2";

fn authority() -> Authority {
    Authority::oidc(ISSUER).token_endpoint(TOKEN_ENDPOINT)
}

fn builder(provider: &Provider, authority: Authority) -> ConfidentialClientBuilder {
    ConfidentialClient::builder("daemon")
        .authority(authority)
        .retry(RetryPolicy::none())
        .transport(provider.transport())
}

#[tokio::test]
async fn it_takes_any_scope_or_none() {
    let provider = Provider::open();
    let client = builder(&provider, authority())
        .client_secret(SECRET)
        .build()
        .unwrap();
    assert!(format!("{client:?}").contains(ISSUER), "{client:?}");
    for (request, scope, expected) in [
        (
            0,
            "orders.read orders.write",
            Some("orders.read orders.write"),
        ),
        (1, "", None),
    ] {
        let token = client.acquire_token_for_client(scope).await.unwrap();
        assert_eq!(token.tenant_id(), None);
        assert_eq!(provider.uri(request), TOKEN_ENDPOINT);
        assert_eq!(provider.field(request, "scope").as_deref(), expected);
        assert_eq!(provider.field(request, "client_secret").unwrap(), SECRET);
        assert_eq!(
            provider.field(request, "client_info"),
            None,
            "that is Entra's"
        );
        client.acquire_token_for_client(scope).await.unwrap();
    }
    assert_eq!(provider.requests(), 2, "each was cached");
    let error = client.acquire_token_for_client("a\"b").await.unwrap_err();
    assert!(
        error.to_string().contains("no scope may contain"),
        "{error}"
    );
}

/// They say what the token is for, so each set of them has a token of its own.
#[tokio::test]
async fn extra_parameters_go_out_and_are_part_of_the_key() {
    let provider = Provider::open();
    let client = builder(&provider, authority())
        .client_secret(SECRET)
        .build()
        .unwrap();
    let plain = TokenRequest::new("a");
    let orders = plain
        .clone()
        .form_parameter("resource", "https://orders/a+b&c");
    let both = orders
        .clone()
        .form_parameter("resource", "https://invoices");
    let queried = plain.clone().query_parameter("audience", "x y&z");
    let requests = [plain, orders, both, queried];
    for request in requests.iter().chain(&requests) {
        client.acquire_token_for_client(request).await.unwrap();
    }
    assert_eq!(provider.requests(), 4, "each once");
    let tail = |request: usize| {
        let body = provider.body(request);
        body.split_once("client_credentials").unwrap().1.to_owned()
    };
    assert_eq!(tail(0), "");
    assert_eq!(tail(1), "&resource=https%3A%2F%2Forders%2Fa%2Bb%26c");
    assert_eq!(
        tail(2),
        "&resource=https%3A%2F%2Forders%2Fa%2Bb%26c&resource=https%3A%2F%2Finvoices"
    );
    assert_eq!(
        (tail(3).as_str(), provider.uri(2).as_str()),
        ("", TOKEN_ENDPOINT)
    );
    assert_eq!(
        provider.uri(3),
        format!("{TOKEN_ENDPOINT}&audience=x+y%26z")
    );

    let grant = TokenRequest::new("a").form_parameter("grant_type", "password");
    let error = client.acquire_token_for_client(grant).await.unwrap_err();
    assert!(
        error.to_string().contains("'grant_type' is reserved"),
        "{error}"
    );
    let provider_of_it = TokenRequest::new("a").query_parameter("", "x");
    let error = client.token_provider(provider_of_it).unwrap_err();
    assert!(error.to_string().contains("has no name"), "{error}");
}

/// Its endpoint may be an attacker's choice, so an assertion is for its issuer.
#[tokio::test]
async fn an_assertion_is_for_the_issuer_unless_another_audience_is_named() {
    for (authority, audience) in [
        (authority(), ISSUER),
        (
            authority().client_assertion_audience(TOKEN_ENDPOINT),
            TOKEN_ENDPOINT,
        ),
    ] {
        let provider = Provider::open();
        let client = builder(&provider, authority)
            .certificate(Certificate::from_pem(&*PEM).unwrap())
            .build()
            .unwrap();
        client.acquire_token_for_client("").await.unwrap();
        let claims = claims_of(&provider.field(0, "client_assertion").unwrap());
        assert_eq!(claims["aud"], audience);
        assert_eq!(
            (&claims["iss"], &claims["sub"]),
            (&"daemon".into(), &"daemon".into())
        );
    }

    let provider = Provider::open();
    let client = builder(&provider, authority())
        .client_assertion(
            |context: confidential_client::credential::AssertionContext| async move {
                assert_eq!(context.tenant_id(), None);
                let audience = format!("{} at {}", context.audience(), context.token_endpoint());
                Ok(unsigned_jwt(&audience))
            },
        )
        .build()
        .unwrap();
    client.acquire_token_for_client("").await.unwrap();
    let sent = provider.field(0, "client_assertion").unwrap();
    let expected = format!("{ISSUER} at {TOKEN_ENDPOINT}");
    assert_eq!(claims_of(&sent)["sub"], expected);
}

/// RFC 6749 section 2.3.1: each is encoded as a form is, and then both in base64.
#[tokio::test]
async fn a_secret_goes_into_the_authorization_header_when_told_so() {
    let provider = Provider::open();
    let client = ConfidentialClient::builder("dae:mon ä")
        .authority(authority())
        .client_secret("s3cret:+%/ß")
        .token_endpoint_auth_method(TokenEndpointAuthMethod::ClientSecretBasic)
        .transport(provider.transport())
        .build()
        .unwrap();
    client.acquire_token_for_client("a").await.unwrap();
    // By Python: base64.b64encode(b':'.join(quote(s, safe='').encode() for s in (id, secret)))
    let expected = "Basic ZGFlJTNBbW9uJTIwJUMzJUE0OnMzY3JldCUzQSUyQiUyNSUyRiVDMyU5Rg==";
    let header = provider.header(0, "authorization").unwrap();
    assert_eq!(header, expected);
    assert!(header.is_sensitive());
    assert_eq!(provider.field(0, "client_id"), None);
    assert_eq!(provider.field(0, "client_secret"), None);
    assert_eq!(
        provider.field(0, "grant_type").unwrap(),
        "client_credentials"
    );

    let echo = provider.header(0, "authorization").unwrap();
    let echo = echo.to_str().unwrap().to_owned();
    for description in [
        echo.as_str(),
        "you sent s3cret:+%/ß",
        "and s3cret%3A%2B%25%2F%C3%9F",
    ] {
        let body =
            serde_json::json!({"error": "invalid_request", "error_description": description});
        provider.answer(400, &body.to_string());
        let scope = format!("scope-{}", provider.requests());
        let error = client.acquire_token_for_client(scope).await.unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(
            !shown.contains("ZGFlJTNB") && !shown.contains("s3cret"),
            "{shown}"
        );
    }
}

#[tokio::test]
async fn entra_features_are_rejected() {
    let provider = Provider::open();
    let client = builder(&provider, authority())
        .client_secret(SECRET)
        .build()
        .unwrap();
    let request = TokenRequest::new("a").tenant(TENANT);
    let error = client.acquire_token_for_client(request).await.unwrap_err();
    assert!(matches!(error, Error::Config(_)), "{error:?}");
    assert!(error.to_string().contains("has no tenants"), "{error}");

    let by = |authority: Authority| builder(&provider, authority).client_secret(SECRET);
    let at = |url: &str| Authority::oidc(ISSUER).token_endpoint(url);
    let issued_by = |issuer: &str| Authority::oidc(issuer).token_endpoint(TOKEN_ENDPOINT);
    for (builder, text) in [
        (by(authority()).tenant(TENANT), "has no tenants"),
        (by(at("http://id.example.org/token")), "in the clear"),
        (
            by(at("https://id.example.org/token#a")),
            "it has a fragment",
        ),
        (
            by(at("https://u:hunter2@id.example.org/token")),
            "user name or password",
        ),
        (by(at("")), "the token endpoint \"\" cannot be used"),
        (
            by(issued_by("http://id.example.org")),
            "the issuer \"http://id.example.org\" cannot be used",
        ),
        (
            by(issued_by("https://id.example.org?a=hunter2")),
            "an issuer has no query",
        ),
        (by(issued_by("id.example.org")), "the issuer"),
        (
            by(issued_by("https://id.example.org\n")),
            "white space or a line break",
        ),
        (
            by(Authority::entra(confidential_client::Cloud::Public, TENANT)
                .token_endpoint(TOKEN_ENDPOINT)),
            "follow from the authority",
        ),
        (
            by(Authority::entra(confidential_client::Cloud::Public, TENANT)
                .client_assertion_audience(ISSUER)),
            "follow from the authority",
        ),
        (
            builder(&provider, authority())
                .certificate(Certificate::from_pem(&*PEM).unwrap())
                .token_endpoint_auth_method(TokenEndpointAuthMethod::ClientSecretPost),
            "applies to a secret",
        ),
    ] {
        let error = builder.build().unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        assert!(error.to_string().contains(text), "{text}: {error}");
        assert!(
            !format!("{error}{error:?}").contains("hunter2"),
            "{error:?}"
        );
    }
    assert_eq!(provider.requests(), 0);
    by(at("http://127.0.0.1:1/token")).build().unwrap();
}

#[tokio::test]
async fn the_query_of_a_token_endpoint_is_not_in_an_error() {
    let provider = Provider::open();
    provider.fail("connection refused");
    let client = ConfidentialClient::builder("daemon")
        .authority(
            Authority::oidc("https://id.example.org")
                .token_endpoint("https://id.example.org/token?code=hunter2"),
        )
        .client_secret("s3cret")
        .retry(RetryPolicy::none())
        .transport(provider.transport())
        .build()
        .unwrap();
    let error = client.acquire_token_for_client("").await.unwrap_err();
    assert!(!format!("{error}{error:?}").contains("hunter2"), "{error}");
}

/// docs/failures.md F5. Salesforce sends no `expires_in`.
#[tokio::test]
async fn a_token_without_a_lifetime_is_not_kept_for_ever() {
    let log = Log::start();
    let clock = ManualClock::new();
    let provider = Provider::open();
    let client = builder(&provider, authority())
        .client_secret(SECRET)
        .clock(clock.clone())
        .build()
        .unwrap();
    let body = r#"{"access_token":"00D!AQ","token_type":"Bearer","instance_url":"https://x","issued_at":"1278448384422"}"#;
    for _ in 0..2 {
        provider.answer(200, body);
    }
    let token = client.acquire_token_for_client("api").await.unwrap();
    let lifetime = token.expires_on().duration_since(clock.wall()).unwrap();
    assert_eq!(lifetime, Duration::from_secs(300));
    client.acquire_token_for_client("api").await.unwrap();
    assert_eq!(provider.requests(), 1, "cached");
    clock.advance(Duration::from_secs(301));
    client.acquire_token_for_client("api").await.unwrap();
    assert_eq!(provider.requests(), 2);
    let text = log.text();
    assert_eq!(text.matches("has no expires_in").count(), 1, "{text}");
    assert!(text.contains("lifetime_s=300"), "{text}");
}

#[tokio::test]
async fn an_assumed_lifetime_is_not_unbounded() {
    let provider = Provider::open();
    let with = |lifetime: Duration| {
        let builder = builder(&provider, authority()).client_secret(SECRET);
        builder.assumed_token_lifetime(lifetime).build()
    };
    for lifetime in [Duration::ZERO, Duration::from_secs(86_401), Duration::MAX] {
        let error = with(lifetime).unwrap_err().to_string();
        assert!(error.contains("at most 24 hours"), "{error}");
    }
    provider.answer(200, r#"{"access_token":"a","token_type":"Bearer"}"#);
    let token = with(Duration::from_secs(3600)).unwrap();
    let token = token.acquire_token_for_client("api").await.unwrap();
    assert!(token.expires_in() > Duration::from_secs(3000));
}

#[tokio::test]
async fn a_scope_of_another_separator_is_not_refused_for_an_openid_provider() {
    let provider = Provider::open();
    let client = builder(&provider, authority())
        .client_secret(SECRET)
        .build()
        .unwrap();
    let scope = "read,activity:read";
    client.acquire_token_for_client(scope).await.unwrap();
    assert_eq!(provider.field(0, "scope").unwrap(), scope);
    for scope in ["scope=read", "read%20write", "'read'"] {
        let error = client.acquire_token_for_client(scope).await.unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        assert!(error.to_string().contains("; use 'read"), "{error}");
    }
    assert_eq!(provider.requests(), 1);
}
