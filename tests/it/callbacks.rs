//! Sources, signers and providers of the caller that hang, panic or fail.

use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use confidential_client::credential::{AssertionContext, SigningAlgorithm};
use confidential_client::{Certificate, ConfidentialClient, Error, Secret};
use http::{Request, Response};

use crate::support::{CLIENT_ID, PEM, Provider, SCOPE, TENANT, in_memory, scope, success};

type Boxed = Box<dyn std::error::Error + Send + Sync>;

#[tokio::test(start_paused = true)]
async fn a_hanging_signer_is_a_credential_error() {
    let signer = |_: SigningAlgorithm, _: Vec<u8>| std::future::pending::<Result<Vec<u8>, Boxed>>();
    let certificate = Certificate::from_signer(&*PEM, signer).unwrap();
    let provider = Provider::open();
    let client = in_memory(&provider)
        .certificate(certificate)
        .build()
        .unwrap();
    let error = client.acquire_token_for_client(SCOPE).await.unwrap_err();
    assert_eq!(provider.requests(), 0);
    assert!(matches!(error, Error::Credential(_)), "{error:?}");
    assert!(error.to_string().contains("within 10 s"), "{error}");
    assert!(error.is_transient(), "it may answer soon");
}

#[tokio::test(start_paused = true)]
async fn a_hanging_assertion_provider_is_a_credential_error() {
    let provider = Provider::open();
    let client = in_memory(&provider)
        .client_assertion(|_: AssertionContext| std::future::pending::<Result<String, Boxed>>())
        .build()
        .unwrap();
    let error = client.acquire_token_for_client(SCOPE).await.unwrap_err();
    assert_eq!(provider.requests(), 0);
    assert!(matches!(error, Error::Credential(_)), "{error:?}");
    assert!(error.to_string().contains("within 10 s"), "{error}");
    assert!(error.is_transient(), "it may answer soon");
}

#[tokio::test(start_paused = true)]
async fn a_rejection_is_returned_although_the_source_hangs() {
    let asked = AtomicUsize::new(0);
    let requests = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&requests);
    let client = ConfidentialClient::builder(CLIENT_ID)
        .tenant(TENANT)
        .transport(move |_: Request<Bytes>| {
            let first = count.fetch_add(1, Ordering::Relaxed) == 0;
            async move {
                if first {
                    return Ok(success("t", 3599));
                }
                tokio::time::sleep(Duration::from_secs(12)).await;
                let body = r#"{"error":"invalid_client","error_codes":[7000222]}"#;
                let answer = Response::builder().status(401);
                Ok(answer.body(Bytes::from(body)).unwrap())
            }
        })
        .client_secret_source(move || {
            let first = asked.fetch_add(1, Ordering::Relaxed) == 0;
            async move {
                match first {
                    true => Ok(Secret::from("old-s3cret")),
                    false => std::future::pending().await,
                }
            }
        })
        .build()
        .unwrap();
    client.acquire_token_for_client(scope(0)).await.unwrap();
    let error = client.acquire_token_for_client(scope(1)).await.unwrap_err();
    assert!(matches!(error, Error::Server(_)), "{error:?}");
}

#[tokio::test]
async fn a_source_that_panics_keeps_the_last_good_credential() {
    let provider = Provider::open();
    let asked = AtomicUsize::new(0);
    let client = in_memory(&provider)
        .client_secret_source(move || {
            let first = asked.fetch_add(1, Ordering::Relaxed) == 0;
            async move {
                assert!(first, "a bug of the callback");
                Ok(Secret::from("s3cret"))
            }
        })
        .build()
        .unwrap();
    client.acquire_token_for_client(scope(0)).await.unwrap();
    client.acquire_token_for_client(scope(1)).await.unwrap();
}

#[tokio::test]
async fn a_sources_own_configuration_error_is_the_source_of_a_credential_error() {
    let vault = Provider::open().client();
    let provider = Provider::open();
    let client = in_memory(&provider)
        .client_secret_source(move || {
            let vault = vault.clone();
            async move {
                vault
                    .acquire_token_for_client("https://vault.azure.net")
                    .await?;
                Ok(Secret::from("s3cret"))
            }
        })
        .build()
        .unwrap();
    let error = client.acquire_token_for_client(SCOPE).await.unwrap_err();
    assert!(matches!(error, Error::Credential(_)), "{error:?}");
    let source = error.source().unwrap().downcast_ref::<Error>().unwrap();
    assert!(matches!(source, Error::Config(_)), "{source:?}");
}

#[tokio::test]
async fn a_panicking_signer_is_a_credential_error() {
    let signer = |_: SigningAlgorithm, _: Vec<u8>| async { panic!("a bug of the signer") };
    let provider = Provider::open();
    let client = in_memory(&provider)
        .certificate(Certificate::from_signer(&*PEM, signer).unwrap())
        .build()
        .unwrap();
    let error = client.acquire_token_for_client(SCOPE).await.unwrap_err();
    assert!(matches!(error, Error::Credential(_)), "{error:?}");
    assert!(
        error.source().unwrap().to_string().contains("panicked"),
        "{error:?}"
    );
}
