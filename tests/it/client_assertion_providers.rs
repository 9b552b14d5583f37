//! Client assertion providers: called for every token request, and never cached.

use std::error::Error as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use confidential_client::credential::{
    AssertionContext, ClientAssertionProvider, FederatedTokenFile,
};
use confidential_client::testing::{Application, LocalAuthority, ManualClock};
use confidential_client::{
    Certificate, ConfidentialClient, ConfidentialClientBuilder, Error, RetryPolicy,
};

use crate::support::{CLIENT_ID, PEM, Provider, SCOPE, SECRET, TENANT, client_of, unsigned_jwt};

fn builder(
    provider: &Provider,
    assertions: impl ClientAssertionProvider,
) -> ConfidentialClientBuilder {
    ConfidentialClient::builder(CLIENT_ID)
        .tenant(TENANT)
        .client_assertion(assertions)
        .transport(provider.transport())
}

fn client(provider: &Provider, assertions: impl ClientAssertionProvider) -> ConfidentialClient {
    builder(provider, assertions).build().unwrap()
}

#[tokio::test]
async fn a_closure_is_asked_for_every_request_and_for_no_hit() {
    let provider = Provider::open();
    let asked: Arc<Mutex<Vec<AssertionContext>>> = Arc::default();
    let seen = Arc::clone(&asked);
    let client = client(&provider, move |context: AssertionContext| {
        let number = {
            let mut seen = seen.lock().unwrap();
            seen.push(context);
            seen.len()
        };
        async move {
            Ok(format!(
                "{}\n",
                unsigned_jwt(&format!("assertion-{number}"))
            ))
        }
    });
    for _ in 0..3 {
        client.acquire_token_for_client(SCOPE).await.unwrap();
    }
    client
        .acquire_token_for_client("api://other/.default")
        .await
        .unwrap();

    let asked = asked.lock().unwrap();
    assert_eq!((asked.len(), provider.requests()), (2, 2));
    for (number, context) in asked.iter().enumerate() {
        let sent = provider.field(number, "client_assertion").unwrap();
        assert_eq!(sent, unsigned_jwt(&format!("assertion-{}", number + 1)));
        let kind = provider.field(number, "client_assertion_type").unwrap();
        assert_eq!(
            kind,
            "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        );
        assert_eq!(provider.field(number, "client_secret"), None);
        assert_eq!(context.client_id(), CLIENT_ID);
        assert_eq!(context.tenant_id(), Some(TENANT));
        assert_eq!(context.token_endpoint(), provider.uri(number));
        assert_eq!(context.audience(), context.token_endpoint());
        uuid::Uuid::try_parse(context.correlation_id()).unwrap();
    }
    assert_ne!(asked[0].correlation_id(), asked[1].correlation_id());
}

/// docs/failures.md M7: during the cool-down nobody is asked for an assertion.
#[tokio::test]
async fn a_failure_and_an_empty_assertion_are_credential_errors() {
    for (answer, text, has_source) in [
        (
            Err("the vault is sealed"),
            "the assertion provider returned no client assertion",
            true,
        ),
        (Ok(""), "the client assertion is empty", false),
        (Ok(" \n"), "the client assertion is empty", false),
    ] {
        let provider = Provider::open();
        let asked = Arc::new(Mutex::new(0));
        let count = Arc::clone(&asked);
        let client = client(&provider, move |_: AssertionContext| {
            *count.lock().unwrap() += 1;
            async move { answer.map(str::to_owned).map_err(Into::into) }
        });
        for _ in 0..10 {
            let error = client.acquire_token_for_client(SCOPE).await.unwrap_err();
            assert!(matches!(error, Error::Credential(_)), "{error:?}");
            assert!(error.to_string().contains(text), "{error}");
            assert_eq!(error.source().is_some(), has_source);
            assert_eq!(error.is_transient(), has_source);
        }
        assert_eq!(*asked.lock().unwrap(), 1);
        assert_eq!(provider.requests(), 0);
    }
}

#[tokio::test]
async fn a_federated_token_file_is_read_anew_for_every_request() {
    let folder = std::env::temp_dir().join(uuid::Uuid::new_v4().to_string());
    std::fs::create_dir(&folder).unwrap();
    let path = folder.join("token");
    let provider = Provider::open();
    let client = client(&provider, FederatedTokenFile::new(&path));
    assert!(
        format!("{client:?}").contains("federated token file"),
        "{client:?}"
    );

    let error = client
        .acquire_token_for_client("api://0/.default")
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Credential(_)), "{error:?}");
    assert!(
        error.to_string().contains(path.to_str().unwrap()),
        "{error}"
    );
    assert!(error.source().is_some(), "and why");

    let contents = [unsigned_jwt("one") + "\n", unsigned_jwt("two")];
    for (number, content) in contents.iter().enumerate() {
        std::fs::write(&path, content).unwrap();
        let scope = format!("api://{}/.default", number + 1);
        client.acquire_token_for_client(scope).await.unwrap();
        let sent = provider.field(number, "client_assertion").unwrap();
        assert_eq!(sent, content.trim());
    }
    std::fs::write(&path, "\n").unwrap();
    let error = client
        .acquire_token_for_client("api://3/.default")
        .await
        .unwrap_err();
    assert!(error.to_string().contains("is empty"), "{error}");
    std::fs::remove_dir_all(&folder).unwrap();
}

/// The client sends a token to the provider, and sends neither a page nor an error message.
#[tokio::test]
async fn what_a_file_or_a_callback_has_instead_of_a_token_is_not_sent() {
    let folder = std::env::temp_dir().join(uuid::Uuid::new_v4().to_string());
    std::fs::create_dir(&folder).unwrap();
    let path = folder.join("token");
    let jwt = unsigned_jwt("hunter2");
    let cut = jwt[..jwt.len() - 20].to_owned();
    for (content, looks) in [
        ("null\n", "the word 'null'"),
        ("<!DOCTYPE html>hunter2", "an HTML page"),
        (r#"{"value":null}"#, "JSON whose 'value' is empty"),
        (r#"{"message":"hunter2"}"#, "JSON without a token"),
        (
            "hunter2 hunter2\n",
            "a text of 15 characters with white space",
        ),
        (&cut, "a token that is cut off"),
        (&format!("{jwt}\n{jwt}\n"), "several lines"),
    ] {
        let content = content.to_owned();
        std::fs::write(&path, &content).unwrap();
        let file = FederatedTokenFile::new(&path);
        let by_hand = file.read().unwrap_err().to_string();
        let provider = Provider::open();
        for (client, source) in [
            (client(&provider, file), path.to_str().unwrap()),
            (
                client(&provider, move |_| std::future::ready(Ok(content.clone()))),
                "the client assertion is not a token",
            ),
        ] {
            let error = client.acquire_token_for_client(SCOPE).await.unwrap_err();
            assert!(matches!(error, Error::Credential(_)), "{error:?}");
            assert!(!error.is_transient(), "{error:?}");
            let shown = format!("{error} {error:?}");
            assert!(shown.contains(looks) && shown.contains(source), "{shown}");
            assert!(!shown.contains("hunter2"), "{shown}");
            assert!(!shown.contains(&jwt[..12]), "{shown}");
        }
        assert!(by_hand.contains(looks), "{by_hand}");
        assert_eq!(provider.requests(), 0);
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test]
async fn what_is_around_a_token_does_not_go_to_the_provider() {
    let folder = std::env::temp_dir().join(uuid::Uuid::new_v4().to_string());
    std::fs::create_dir(&folder).unwrap();
    let path = folder.join("token");
    let jwt = unsigned_jwt("a");
    let utf16 = |order: fn(u16) -> [u8; 2]| {
        let text = format!("\u{feff}{jwt}\r\n");
        text.encode_utf16().flat_map(order).collect::<Vec<u8>>()
    };
    for content in [
        format!("\u{feff}{jwt}\r\n").into_bytes(),
        utf16(u16::to_le_bytes),
        utf16(u16::to_be_bytes),
        format!("\"{jwt}\"").into_bytes(),
        format!("Bearer {jwt}").into_bytes(),
        format!(r#"{{"count":1,"value":"{jwt}"}}"#).into_bytes(),
        format!(r#"{{"status":{{"token":"{jwt}"}}}}"#).into_bytes(),
    ] {
        std::fs::write(&path, &content).unwrap();
        let file = FederatedTokenFile::new(&path);
        assert_eq!(file.read().unwrap().expose(), jwt);
        let provider = Provider::open();
        let client = client(&provider, file);
        client.acquire_token_for_client(SCOPE).await.unwrap();
        assert_eq!(provider.field(0, "client_assertion").unwrap(), jwt);
    }
    let odd: &[u8] = &[0xff, 0xfe, b'e', 0, b'y'];
    for content in [odd, &[0xff, 0xfe, 0, 0xd8], b"\xc3("] {
        std::fs::write(&path, content).unwrap();
        let error = FederatedTokenFile::new(&path).read().unwrap_err();
        assert!(error.to_string().contains("UTF-8"), "{error}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

/// The authority's clock, which the `Date` header shows, agrees with this machine's.
#[tokio::test]
async fn an_expired_token_in_a_file_does_not_blame_the_clock() {
    const EXCHANGE: &str = "api://AzureADTokenExchange";
    let clock = ManualClock::new();
    clock.turn_wall_back(Duration::from_secs(2 * 3600));
    let local = LocalAuthority::builder().clock(clock.clone()).start().await;
    let local = local.unwrap();
    let platform = Application::new("platform").secret(SECRET);
    let subject = platform.subject();
    local.register("platform.example", platform);
    let issuer = local.issuer("platform.example").unwrap();
    let daemon = Application::new(CLIENT_ID).federated_credential(issuer, subject, EXCHANGE);
    local.register(TENANT, daemon);
    let platform = ConfidentialClient::builder("platform")
        .authority(local.authority("platform.example"))
        .client_secret(SECRET)
        .clock(clock.clone())
        .build()
        .unwrap();
    let token = platform
        .acquire_token_for_client(format!("{EXCHANGE}/.default"))
        .await
        .unwrap();
    let folder = std::env::temp_dir().join(uuid::Uuid::new_v4().to_string());
    std::fs::create_dir(&folder).unwrap();
    let path = folder.join("token");
    std::fs::write(&path, token.secret()).unwrap();
    let client = client_of(&local)
        .client_assertion(FederatedTokenFile::new(&path))
        .clock(clock.clone())
        .build()
        .unwrap();
    client.acquire_token_for_client(SCOPE).await.unwrap();

    clock.advance(Duration::from_secs(2 * 3600));
    let error = client.acquire_token_for_client(SCOPE).await.unwrap_err();
    let Error::Server(server) = &error else {
        panic!("{error:?}");
    };
    assert_eq!(server.error_codes(), [700024]);
    let expired = x509_cert::der::DateTime::from_system_time(token.expires_on()).unwrap();
    let help = server.help().unwrap();
    assert!(help.contains(&format!("expired on {expired}")), "{help}");
    assert!(help.contains(path.to_str().unwrap()), "{help}");
    assert!(
        help.contains("clock agrees with the identity provider's"),
        "{help}"
    );
    assert!(!help.contains("check this machine's clock"), "{help}");
    assert!(error.to_string().contains(help), "{error}");
    std::fs::remove_dir_all(&folder).unwrap();
}

/// The provider's assertions are a JWT each, a failure for `!`.
#[tokio::test]
async fn an_expired_assertion_is_replaced_by_one_other_assertion() {
    const EXPIRED: (u16, &str) = (401, r#"{"error":"invalid_client","error_codes":[700024]}"#);
    const UNKNOWN: (u16, &str) = (401, r#"{"error":"invalid_client","error_codes":[700021]}"#);
    const DOWN: (u16, &str) = (
        503,
        r#"{"error":"temporarily_unavailable","error_codes":[700024]}"#,
    );
    const SCOPE_ERROR: (u16, &str) = (400, r#"{"error":"invalid_scope"}"#);
    for (responses, assertions, sent, error) in [
        (&[EXPIRED][..], "ab", "ab", None),
        (&[EXPIRED, EXPIRED], "abc", "ab", Some("invalid_client")),
        (&[EXPIRED], "aa", "a", Some("invalid_client")),
        (&[EXPIRED], "a!", "a", Some("invalid_client")),
        (&[UNKNOWN], "ab", "a", Some("invalid_client")),
        (&[DOWN, SCOPE_ERROR], "abc", "ab", Some("invalid_scope")),
    ] {
        let provider = Provider::open();
        for (status, body) in responses {
            provider.answer(*status, body);
        }
        let (assertions, rejected) = (assertions.to_owned(), Arc::<Mutex<Vec<_>>>::default());
        let seen = Arc::clone(&rejected);
        let client = builder(&provider, move |context: AssertionContext| {
            let mut seen = seen.lock().unwrap();
            let assertion = assertions.chars().nth(seen.len()).unwrap();
            seen.push(context.rejected_assertion().map(str::to_owned));
            async move {
                match assertion {
                    '!' => Err("the platform is down".into()),
                    name => Ok(unsigned_jwt(&name.to_string())),
                }
            }
        })
        .retry(RetryPolicy::default().base_delay(Duration::ZERO))
        .build()
        .unwrap();
        let outcome = client.acquire_token_for_client(SCOPE).await;
        let outcome = outcome.map_err(|error| {
            let server = error.server_error().expect("the rejection");
            server.error().to_owned()
        });
        assert_eq!(outcome.err().as_deref(), error, "{responses:?}");
        let expected: Vec<String> = sent.chars().map(|c| unsigned_jwt(&c.to_string())).collect();
        let requests = 0..provider.requests();
        let requests: Vec<String> = requests
            .map(|number| provider.field(number, "client_assertion").unwrap())
            .collect();
        assert_eq!(requests, expected, "{responses:?}");
        let rejected = rejected.lock().unwrap();
        let named = rejected.get(1).is_some_and(Option::is_some);
        assert_eq!(rejected.first(), Some(&None));
        assert_eq!(named, responses[0] == EXPIRED, "{responses:?}");
        if named {
            assert_eq!(rejected[1].as_ref(), expected.first());
        }
    }
}

#[tokio::test]
async fn the_expired_token_of_another_application_is_replaced() {
    let (vouching, provider) = (Provider::open(), Provider::open());
    for name in ["a", "b"] {
        let token = unsigned_jwt(name);
        let body =
            format!(r#"{{"token_type":"Bearer","expires_in":3599,"access_token":"{token}"}}"#);
        vouching.answer(200, &body);
    }
    provider.answer(401, r#"{"error":"invalid_client","error_codes":[700024]}"#);
    let exchange = "api://AzureADTokenExchange/.default";
    let vouching_client = vouching.client();
    let assertions = vouching_client.token_provider(exchange).unwrap();
    let client = client(&provider, assertions);
    client.acquire_token_for_client(SCOPE).await.unwrap();
    client
        .acquire_token_for_client("api://other/.default")
        .await
        .unwrap();
    let sent = [0, 1, 2].map(|number| provider.field(number, "client_assertion").unwrap());
    assert_eq!(sent, ["a", "b", "b"].map(unsigned_jwt));
    assert_eq!(vouching.requests(), 2);
}

#[tokio::test]
async fn a_token_of_one_application_authenticates_another() {
    let local = LocalAuthority::start().await.unwrap();
    local.register(TENANT, Application::new(CLIENT_ID).secret(SECRET));
    let vouching = client_of(&local).client_secret(SECRET).build().unwrap();
    let vouching = vouching
        .token_provider("api://AzureADTokenExchange/.default")
        .unwrap();

    let provider = Provider::open();
    let client = client(&provider, vouching.clone());
    client.acquire_token_for_client(SCOPE).await.unwrap();
    let sent = provider.field(0, "client_assertion").unwrap();
    assert_eq!(sent, vouching.cached().unwrap().secret());
    assert!(!format!("{client:?}").contains(&sent));
}

#[tokio::test]
async fn an_outage_of_the_asserting_application_is_transient() {
    for (status, transient) in [(503, true), (401, false)] {
        let vouching = Provider::open();
        vouching.answer(status, r#"{"error":"invalid_client"}"#);
        let vouching = vouching.client();
        let scope = "api://AzureADTokenExchange/.default";
        let provider = Provider::open();
        let client = client(&provider, vouching.token_provider(scope).unwrap());
        let error = client.acquire_token_for_client(SCOPE).await.unwrap_err();
        assert!(matches!(error, Error::Credential(_)), "{error:?}");
        assert_eq!(error.is_transient(), transient);
        let source = error.source().unwrap().downcast_ref::<Error>().unwrap();
        assert_eq!(source.status().unwrap(), status);
        assert_eq!(provider.requests(), 0);
    }
}

#[tokio::test]
async fn two_kinds_of_credential_are_refused() {
    let certificate = Certificate::from_pem(&*PEM).unwrap();
    let builder = ConfidentialClient::builder(CLIENT_ID)
        .tenant(TENANT)
        .certificate(certificate);
    let error = builder
        .client_assertion(FederatedTokenFile::new("/nowhere"))
        .build()
        .unwrap_err();
    assert!(error.to_string().contains("2 credentials"), "{error}");
}
