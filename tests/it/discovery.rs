//! Discovery: OpenID provider metadata, and instance discovery of unknown hosts.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use confidential_client::credential::{SigningAlgorithm, TokenEndpointAuthMethod};
use confidential_client::resource::TokenValidator;
use confidential_client::testing::{LocalAuthority, ManualClock};
use confidential_client::{
    Authority, Certificate, Cloud, ConfidentialClient, ConfidentialClientBuilder, Error,
    RetryPolicy, TokenRequest,
};
use http::{Method, Request, Response};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::{
    CLIENT_ID, PEM, Provider, SCOPE, SECRET, TENANT, header_of, let_others_run, scope, success,
};

const ISSUER: &str = "https://id.example.org/realms/daemons";
const CONFIGURATION: &str =
    "https://id.example.org/realms/daemons/.well-known/openid-configuration";
const TOKEN: &str = "https://tokens.example.org/token?version=2";

fn of_issuer(provider: &Provider) -> ConfidentialClientBuilder {
    ConfidentialClient::builder("daemon")
        .authority(Authority::oidc(ISSUER))
        .retry(RetryPolicy::none())
        .transport(provider.transport())
}

/// A provider that has its metadata ready.
fn provider(more: &Value) -> Provider {
    let provider = Provider::open();
    provider.answer(200, &configuration(more));
    provider
}

fn configuration(more: &Value) -> String {
    let mut document = json!({ "issuer": ISSUER, "token_endpoint": TOKEN });
    for (name, value) in more.as_object().unwrap() {
        document[name] = value.clone();
    }
    document.to_string()
}

#[tokio::test]
async fn the_metadata_is_looked_up_once_and_kept_for_a_day() {
    let clock = ManualClock::new();
    let provider = provider(&json!({}));
    let client = of_issuer(&provider)
        .client_secret(SECRET)
        .clock(clock.clone())
        .build()
        .unwrap();
    client.acquire_token_for_client("a").await.unwrap();
    assert_eq!(provider.method(0), Method::GET);
    assert_eq!(provider.uri(0), CONFIGURATION);
    assert_eq!(provider.body(0), "");
    assert_eq!(provider.header(0, "authorization"), None);
    assert_eq!(provider.uri(1), TOKEN);
    client.acquire_token_for_client("b").await.unwrap();
    assert_eq!((provider.uri(2).as_str(), provider.requests()), (TOKEN, 3));

    clock.advance(Duration::from_secs(24 * 60 * 60));
    let moved = "https://tokens.example.org/new";
    provider.answer(200, &configuration(&json!({ "token_endpoint": moved })));
    client.acquire_token_for_client("a").await.unwrap();
    assert_eq!(provider.uri(3), CONFIGURATION);
    assert_eq!(provider.uri(4), moved);

    // Without another, the old one is used for a while.
    clock.advance(Duration::from_secs(24 * 60 * 60));
    provider.fail("no route");
    client.acquire_token_for_client("a").await.unwrap();
    client.acquire_token_for_client("b").await.unwrap();
    assert_eq!(
        (provider.uri(5).as_str(), provider.uri(6).as_str()),
        (CONFIGURATION, moved)
    );
    assert_eq!((provider.uri(7).as_str(), provider.requests()), (moved, 8));
    clock.advance(Duration::from_secs(60 * 60));
    provider.answer(200, &configuration(&json!({})));
    client.acquire_token_for_client("a").await.unwrap();
    assert_eq!(
        (provider.uri(8).as_str(), provider.uri(9).as_str()),
        (CONFIGURATION, TOKEN)
    );
}

#[tokio::test]
async fn concurrent_callers_share_one_discovery_and_one_failure() {
    for (status, body) in [(200, configuration(&json!({}))), (503, String::new())] {
        let provider = Provider::gated();
        provider.answer(status, &body);
        let client = of_issuer(&provider).client_secret(SECRET).build().unwrap();
        let mut callers = JoinSet::new();
        for number in 0..10 {
            let client = client.clone();
            callers.spawn(async move { client.acquire_token_for_client(scope(number)).await });
        }
        let_others_run().await;
        assert_eq!(provider.requests(), 1);
        provider.release();
        let results = callers.join_all().await;
        let (served, requests) = if status == 200 { (10, 11) } else { (0, 1) };
        assert_eq!(
            results.iter().filter(|result| result.is_ok()).count(),
            served
        );
        assert_eq!(provider.requests(), requests);
    }
}

#[tokio::test]
async fn a_failed_or_dropped_discovery_is_retried() {
    let clock = ManualClock::new();
    let provider = Provider::open();
    provider.fail("no route");
    let client = of_issuer(&provider)
        .client_secret(SECRET)
        .clock(clock.clone())
        .build()
        .unwrap();
    let error = client.acquire_token_for_client("a").await.unwrap_err();
    assert!(matches!(error, Error::Transport(_)), "{error:?}");
    assert!(error.to_string().contains(CONFIGURATION), "{error}");
    provider.answer(200, &configuration(&json!({})));
    clock.advance(error.retry_after().unwrap());
    client.acquire_token_for_client("a").await.unwrap();
    assert_eq!(provider.requests(), 3);
}

#[tokio::test]
async fn a_secret_is_sent_as_the_provider_takes_it() {
    use TokenEndpointAuthMethod::{ClientSecretBasic, ClientSecretPost};
    let methods = |methods: &[&str]| json!({ "token_endpoint_auth_methods_supported": methods });
    for (name, metadata, told, basic) in [
        ("not listed: the standard's default", json!({}), None, true),
        (
            "both",
            methods(&["client_secret_basic", "client_secret_post"]),
            None,
            false,
        ),
        ("post", methods(&["client_secret_post"]), None, false),
        (
            "basic",
            methods(&["private_key_jwt", "client_secret_basic"]),
            None,
            true,
        ),
        (
            "post, told basic",
            methods(&["client_secret_post"]),
            Some(ClientSecretBasic),
            true,
        ),
        (
            "neither, told post",
            methods(&["private_key_jwt"]),
            Some(ClientSecretPost),
            false,
        ),
    ] {
        let provider = provider(&metadata);
        let mut builder = of_issuer(&provider).client_secret(SECRET);
        if let Some(method) = told {
            builder = builder.token_endpoint_auth_method(method);
        }
        builder
            .build()
            .unwrap()
            .acquire_token_for_client("")
            .await
            .unwrap();
        assert_eq!(
            provider.header(1, "authorization").is_some(),
            basic,
            "{name}"
        );
        assert_eq!(
            provider.field(1, "client_secret").is_none(),
            basic,
            "{name}"
        );
    }

    let provider = provider(&methods(&["private_key_jwt", "tls_client_auth"]));
    let client = of_issuer(&provider).client_secret(SECRET).build().unwrap();
    let error = client.acquire_token_for_client("").await.unwrap_err();
    assert!(matches!(error, Error::Config(_)), "{error:?}");
    assert!(
        error.to_string().contains("accepts no client secret"),
        "{error}"
    );
    assert_eq!(provider.requests(), 1);
}

#[tokio::test]
async fn an_assertion_is_signed_by_what_the_provider_takes() {
    let algorithms = |list: &[&str]| {
        json!({
            "token_endpoint_auth_methods_supported": ["private_key_jwt"],
            "token_endpoint_auth_signing_alg_values_supported": list,
        })
    };
    let rsa = || Certificate::from_pem(&*PEM).unwrap();
    for (name, metadata, certificate, algorithm) in [
        ("not listed", json!({}), rsa(), "RS256"),
        (
            "both",
            algorithms(&["HS256", "RS256", "PS256"]),
            rsa(),
            "PS256",
        ),
        ("RS256", algorithms(&["ES256", "RS256"]), rsa(), "RS256"),
        (
            "chosen",
            algorithms(&["PS256"]),
            rsa().signing_algorithm(SigningAlgorithm::RS256),
            "RS256",
        ),
    ] {
        let provider = provider(&metadata);
        let client = of_issuer(&provider)
            .certificate(certificate)
            .build()
            .unwrap();
        client.acquire_token_for_client("").await.unwrap();
        let assertion = provider.field(1, "client_assertion").unwrap();
        assert_eq!(header_of(&assertion)["alg"], algorithm, "{name}");
    }

    let secrets_alone = json!({ "token_endpoint_auth_methods_supported": ["client_secret_post"] });
    for (name, metadata, told, text) in [
        (
            "no algorithm of ours",
            algorithms(&["ES256", "EdDSA"]),
            false,
            "none of the algorithms",
        ),
        (
            "no assertion",
            secrets_alone.clone(),
            false,
            "accepts no client assertion",
        ),
        ("no assertion, told", secrets_alone, true, ""),
    ] {
        let provider = provider(&metadata);
        let mut builder = of_issuer(&provider).certificate(rsa());
        if told {
            builder = builder.token_endpoint_auth_method(TokenEndpointAuthMethod::PrivateKeyJwt);
        }
        let result = builder.build().unwrap().acquire_token_for_client("").await;
        match result {
            Ok(_) => assert!(told, "{name}"),
            Err(error) => {
                assert!(matches!(error, Error::Config(_)), "{name}: {error:?}");
                assert!(!told && error.to_string().contains(text), "{name}: {error}");
                assert_eq!(provider.requests(), 1);
            }
        }
    }
}

#[tokio::test]
async fn a_null_in_the_metadata_of_a_provider_is_absent() {
    for (member, why) in [
        ("issuer", Some("has no 'issuer'")),
        ("token_endpoint", Some("has no 'token_endpoint'")),
        ("authorization_endpoint", None),
        ("jwks_uri", None),
        // The standard's default is client_secret_basic.
        ("token_endpoint_auth_methods_supported", None),
        ("token_endpoint_auth_signing_alg_values_supported", None),
    ] {
        let provider = provider(&json!({ member: null }));
        let client = of_issuer(&provider).client_secret(SECRET).build().unwrap();
        match (client.acquire_token_for_client("").await, why) {
            (Ok(_), None) => {
                let is_basic = provider.header(1, "authorization").is_some();
                assert!(is_basic, "{member}");
            }
            (Err(error), Some(why)) => assert!(error.to_string().contains(why), "{error}"),
            (result, _) => panic!("{member}: {:?}", result.err()),
        }
    }
    let provider = provider(&json!({ "token_endpoint_auth_signing_alg_values_supported": null }));
    let certificate = Certificate::from_pem(PEM.as_bytes()).unwrap();
    let client = of_issuer(&provider)
        .certificate(certificate)
        .build()
        .unwrap();
    client.acquire_token_for_client("").await.unwrap();
}

#[tokio::test]
async fn a_null_in_a_response_of_instance_discovery_is_absent() {
    for (body, is_trusted, is_verdict) in [
        (
            r#"{"tenant_discovery_endpoint":"https://x","error":null}"#,
            true,
            true,
        ),
        // Neither a confirmation nor a rejection: the host is trusted, and asked about again.
        (r#"{"tenant_discovery_endpoint":null}"#, true, false),
        (
            r#"{"tenant_discovery_endpoint":null,"error":null}"#,
            true,
            false,
        ),
        (
            r#"{"tenant_discovery_endpoint":null,"error":"invalid_instance"}"#,
            false,
            true,
        ),
    ] {
        let clock = ManualClock::new();
        let provider = Provider::open();
        provider.answer(200, body);
        let client = custom(&provider).clock(clock.clone()).build().unwrap();
        let result = client.acquire_token_for_client(SCOPE).await;
        assert_eq!(result.is_ok(), is_trusted, "{body}");
        if is_trusted {
            let before = provider.requests();
            clock.advance(Duration::from_secs(5 * 60));
            client.acquire_token_for_client(scope(1)).await.unwrap();
            let is_asked_again = provider.requests() - before == 2;
            assert_eq!(is_asked_again, !is_verdict, "{body}");
        }
    }
}

#[tokio::test]
async fn metadata_are_not_cached_for_longer_than_cache_control_says() {
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    for (cache_control, time) in [
        ("public", minutes(24 * 60)),
        ("max-age=3600", minutes(60)),
        ("max-age=1", minutes(5)),
        ("no-store", minutes(5)),
        ("max-age=8640000", minutes(24 * 60)),
    ] {
        let clock = ManualClock::new();
        let provider = Provider::open();
        let response = Response::builder().header("cache-control", cache_control);
        let body = configuration(&json!({}));
        provider.answer_with(response.body(Bytes::from(body)).unwrap());
        let builder = of_issuer(&provider).client_secret(SECRET);
        let client = builder.clock(clock.clone()).build().unwrap();
        client.acquire_token_for_client("a").await.unwrap();
        clock.advance(time - Duration::from_secs(1));
        client.acquire_token_for_client("b").await.unwrap();
        let discovered = |provider: &Provider| {
            let requests = 0..provider.requests();
            requests
                .filter(|number| provider.method(*number) == Method::GET)
                .count()
        };
        assert_eq!(discovered(&provider), 1, "{cache_control}");
        clock.advance(Duration::from_secs(1));
        provider.answer(200, &configuration(&json!({})));
        client.acquire_token_for_client("c").await.unwrap();
        assert_eq!(discovered(&provider), 2, "{cache_control}");
    }
}

#[test]
fn an_issuer_that_another_constructor_is_for_is_not_tried_in_vain() {
    for (issuer, advice) in [
        (
            "https://login.microsoftonline.com/contoso.com/v2.0",
            "use Authority::entra(..)",
        ),
        (
            "https://sts.windows.net/72f988bf-86f1-41af-91ab-2d7cd011db47/",
            "use Authority::entra(..)",
        ),
        (
            "https://login.microsoftonline.us/contoso.com/v2.0",
            "use Authority::entra(..)",
        ),
        (
            "https://contoso.ciamlogin.com/contoso.com/v2.0",
            "use Authority::external_id(..)",
        ),
        (
            "https://contoso.b2clogin.com/contoso.com/B2C_1_in/v2.0",
            "use Authority::b2c(..)",
        ),
        (
            "https://id.example/.well-known/openid-configuration",
            "the metadata's member 'issuer'",
        ),
        (
            "https://id.example/a/.well-known/openid-configuration/",
            "the metadata's member 'issuer'",
        ),
        (
            "https://id.example/.well-known/oauth-authorization-server/a",
            "the metadata's member 'issuer'",
        ),
    ] {
        let authority = Authority::oidc(issuer);
        let client = ConfidentialClient::builder("daemon").authority(authority.clone());
        let client = client.client_secret("s3cret").build().unwrap_err();
        let validator = TokenValidator::builder(authority)
            .audience("api")
            .single_tenant();
        let validator = validator.build().unwrap_err();
        for error in [client, validator] {
            assert!(matches!(error, Error::Config(_)), "{error:?}");
            assert!(error.to_string().contains(advice), "{error}");
        }
    }
}

/// OpenID Connect Discovery 4.3, and what else would let somebody choose where a credential goes.
#[tokio::test]
async fn metadata_that_cannot_be_trusted_is_not_used() {
    let of = |more: Value| (200, configuration(&more));
    let endpoint = |url: &str| of(json!({ "token_endpoint": url }));
    for ((status, body), config, text) in [
        (
            of(json!({ "issuer": "https://evil.example" })),
            true,
            "is that of \"https://evil.example\"",
        ),
        (
            of(json!({ "issuer": format!("{ISSUER}/") })),
            true,
            "to the letter (a slash at the end is part of the issuer)",
        ),
        (
            of(json!({ "issuer": ISSUER.to_uppercase() })),
            true,
            "to the letter",
        ),
        (
            of(json!({ "issuer": "a\u{1b}[31m\nb" })),
            true,
            "\\u{1b}[31m\\nb",
        ),
        (of(json!({ "issuer": 7 })), false, "has no 'issuer'"),
        (
            of(json!({ "token_endpoint": null })),
            false,
            "has no 'token_endpoint'",
        ),
        (
            endpoint("http://tokens.example.org/token"),
            false,
            "in the clear",
        ),
        (endpoint("http://127.0.0.1:80/token"), false, "is not https"),
        (
            endpoint("https://u:hunter2@tokens.example.org/"),
            false,
            "user name or password",
        ),
        (
            endpoint("file:///etc/passwd"),
            false,
            "the scheme must be https",
        ),
        (
            (404, "<html>".to_owned()),
            false,
            "the response is 404; is the issuer right? For a provider without metadata, set token_endpoint(..)",
        ),
        ((302, String::new()), false, "the response is 302"),
        (
            (
                200,
                "<html><title>Sign in</title><p>Your network's page</html>".to_owned(),
            ),
            false,
            "not a JSON object but an HTML page ('Sign in: Your network's page'); is the issuer right?",
        ),
        ((200, "[]".to_owned()), false, "not a JSON object"),
        ((200, " ".repeat(1024 * 1024 + 1)), false, "too long"),
    ] {
        let provider = Provider::open();
        provider.answer(status, &body);
        let client = of_issuer(&provider).client_secret(SECRET).build().unwrap();
        let error = client.acquire_token_for_client("").await.unwrap_err();
        assert_eq!(
            matches!(error, Error::Config(_)),
            config,
            "{text}: {error:?}"
        );
        assert_eq!(
            matches!(error, Error::InvalidResponse(_)),
            !config,
            "{text}: {error:?}"
        );
        assert!(error.to_string().contains(text), "{text}: {error}");
        assert!(!format!("{error}{error:?}").contains("hunter2"));
        assert!(error.to_string().len() < 700, "{}", error.to_string().len());
        assert_eq!(provider.requests(), 1, "{text}: no credential was sent");
    }
}

/// The issuer may be this machine, and so may its endpoints: a real one.
#[tokio::test]
async fn a_provider_on_this_machine_is_found_by_its_issuer() {
    let local = LocalAuthority::start().await.unwrap();
    local.register(
        TENANT,
        confidential_client::testing::Application::new(CLIENT_ID)
            .secret(SECRET)
            .role("https://graph.microsoft.com", "User.Read.All"),
    );
    let client = ConfidentialClient::builder(CLIENT_ID)
        .authority(Authority::oidc(local.issuer(TENANT).unwrap()))
        .client_secret(SECRET)
        .build()
        .unwrap();
    client.acquire_token_for_client(SCOPE).await.unwrap();
    client.acquire_token_for_client(SCOPE).await.unwrap();
    assert_eq!(local.token_requests().len(), 1);
}

fn custom(provider: &Provider) -> ConfidentialClientBuilder {
    ConfidentialClient::builder(CLIENT_ID)
        .authority(Authority::entra(
            Cloud::Custom("login.example.org:8443".into()),
            TENANT,
        ))
        .client_secret(SECRET)
        .retry(RetryPolicy::none())
        .transport(provider.transport())
}

const INSTANCE: &str = "https://login.microsoftonline.com/common/discovery/instance?api-version=1.1\
    &authorization_endpoint=https%3A%2F%2Flogin.example.org%3A8443%2Fcontoso.onmicrosoft.com%2Foauth2%2Fv2.0%2Fauthorize";
const KNOWN: &str = r#"{"tenant_discovery_endpoint":"https://x.example","metadata":[]}"#;
const UNKNOWN: &str = r#"{"error":"invalid_instance","error_codes":[50049]}"#;

#[tokio::test]
async fn an_unknown_host_is_asked_about_once() {
    let provider = Provider::open();
    provider.answer(200, KNOWN);
    let client = custom(&provider).build().unwrap();
    client.acquire_token_for_client(SCOPE).await.unwrap();
    assert_eq!(
        (provider.method(0), provider.uri(0).as_str()),
        (Method::GET, INSTANCE)
    );
    let token = "https://login.example.org:8443/contoso.onmicrosoft.com/oauth2/v2.0/token";
    assert_eq!(
        provider.uri(1),
        token,
        "where it is sent is never the answer's choice"
    );
    let elsewhere = TokenRequest::new(SCOPE).tenant("fabrikam.com");
    client.acquire_token_for_client(&elsewhere).await.unwrap();
    assert_eq!(provider.requests(), 3);
}

#[tokio::test]
async fn a_host_that_entra_does_not_know_is_sent_no_credential() {
    let clock = ManualClock::new();
    let provider = Provider::open();
    provider.answer(400, UNKNOWN);
    let client = custom(&provider).clock(clock.clone()).build().unwrap();
    for number in 0..3 {
        let error = client
            .acquire_token_for_client(scope(number))
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        assert!(
            error
                .to_string()
                .contains("knows no host 'login.example.org'"),
            "{error}"
        );
    }
    assert_eq!(provider.requests(), 1);
    clock.advance(Duration::from_secs(5 * 60));
    provider.answer(200, KNOWN);
    client.acquire_token_for_client(scope(0)).await.unwrap();
    assert_eq!(provider.requests(), 3);
}

/// docs/failures.md M17 and M18: an air-gapped cloud works, and what failed is asked again.
#[tokio::test]
async fn an_unreachable_worldwide_cloud_blocks_no_request() {
    let clock = ManualClock::new();
    for answer in [None, Some((503, "")), Some((200, "{}")), Some((302, ""))] {
        let provider = Provider::open();
        let cannot_be_asked = || match answer {
            Some((status, body)) => provider.answer(status, body),
            None => provider.fail("no route"),
        };
        cannot_be_asked();
        let client = custom(&provider).clock(clock.clone()).build().unwrap();
        client.acquire_token_for_client(scope(0)).await.unwrap();
        client.acquire_token_for_client(scope(1)).await.unwrap();
        assert_eq!(provider.requests(), 3, "{answer:?}");
        clock.advance(Duration::from_secs(5 * 60));
        cannot_be_asked();
        client.acquire_token_for_client(scope(2)).await.unwrap();
        assert_eq!(
            (provider.uri(3).as_str(), provider.requests()),
            (INSTANCE, 5)
        );
    }

    let provider = Provider::open();
    let cloud = Cloud::Custom("login.example.org".to_owned());
    let client = custom(&provider)
        .authority(Authority::entra(cloud, TENANT).without_instance_discovery())
        .build()
        .unwrap();
    client.acquire_token_for_client(SCOPE).await.unwrap();
    assert_eq!((provider.method(0), provider.requests()), (Method::POST, 1));
}

/// docs/failures.md M17: one bounded attempt.
#[tokio::test(start_paused = true)]
async fn a_hanging_worldwide_cloud_costs_ten_seconds_once() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let client = ConfidentialClient::builder(CLIENT_ID)
        .authority(Authority::entra(
            Cloud::Custom("login.example.org".into()),
            TENANT,
        ))
        .client_secret(SECRET)
        .transport(move |request: Request<Bytes>| {
            let is_lookup = request.method() == Method::GET;
            if is_lookup {
                count.fetch_add(1, Ordering::SeqCst);
            }
            async move {
                if is_lookup {
                    std::future::pending::<()>().await;
                }
                Ok::<Response<Bytes>, _>(success("token", 3599))
            }
        })
        .build()
        .unwrap();
    let started = tokio::time::Instant::now();
    client.acquire_token_for_client(scope(0)).await.unwrap();
    assert_eq!(started.elapsed().as_secs(), 10);
    client.acquire_token_for_client(scope(1)).await.unwrap();
    assert_eq!(started.elapsed().as_secs(), 10);
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}
