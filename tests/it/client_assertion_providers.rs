//! Client assertion providers: called for every token request, and never cached.

use std::error::Error as _;
use std::sync::{Arc, Mutex};

use confidential_client::credential::{
    AssertionContext, ClientAssertionProvider, FederatedTokenFile,
};
use confidential_client::testing::{Application, LocalAuthority};
use confidential_client::{Certificate, ConfidentialClient, Error};

use crate::support::{CLIENT_ID, PEM, Provider, SCOPE, SECRET, TENANT, client_of};

fn client(provider: &Provider, assertions: impl ClientAssertionProvider) -> ConfidentialClient {
    ConfidentialClient::builder(CLIENT_ID)
        .tenant(TENANT)
        .client_assertion(assertions)
        .transport(provider.transport())
        .build()
        .unwrap()
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
        async move { Ok(format!("assertion-{number}\n")) }
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
        assert_eq!(sent, format!("assertion-{}", number + 1));
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

    for (number, content) in ["one\n", "two"].into_iter().enumerate() {
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
