//! The client assertion, verified by PyJWT.

use std::io::Write;
use std::process::{Command, Stdio};

use confidential_client::{Certificate, ConfidentialClient};

use crate::support::{CLIENT_ID, PEM, Provider, SCOPE, TENANT};

#[tokio::test]
#[ignore = "needs python3 with PyJWT and cryptography; .ci/run installs them and runs it"]
async fn pyjwt_accepts_the_assertion_and_refuses_it_when_tampered_with() {
    let provider = Provider::open();
    let client = ConfidentialClient::builder(CLIENT_ID)
        .tenant(TENANT)
        .certificate(Certificate::from_pem(&*PEM).unwrap())
        .transport(provider.transport())
        .build()
        .unwrap();
    client.acquire_token_for_client(SCOPE).await.unwrap();
    let certificate = &PEM[..PEM.find("-----BEGIN PRIVATE").unwrap()];
    let input = serde_json::json!({
        "assertion": provider.field(0, "client_assertion").unwrap(),
        "certificate": certificate,
        "audience": provider.uri(0),
        "client_id": CLIENT_ID,
    });

    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/interop/verify_assertion.py"
    );
    let mut python = Command::new("python3")
        .arg(script)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = python.stdin.take().unwrap();
    stdin.write_all(input.to_string().as_bytes()).unwrap();
    drop(stdin);
    assert!(python.wait().unwrap().success());
}
