#[path = "../../provider.rs"]
#[allow(dead_code, reason = "the other crates use the rest")]
mod provider;

use std::sync::Arc;

use azure_core::http::headers::{AUTHORIZATION, Headers, WWW_AUTHENTICATE};
use azure_core::http::{
    AsyncRawResponse, ClientOptions, HttpClient, Request, StatusCode, Transport,
};
use azure_security_keyvault_certificates::{CertificateClient, CertificateClientOptions};
use azure_security_keyvault_secrets::{SecretClient, SecretClientOptions};
use confidential_client::adapter::{AzureCredential, KeyVaultCertificate};
use serde_json::json;

const VAULT: &str = "https://contoso.vault.azure.net";

/// A vault in memory, with one version of one certificate.
#[derive(Debug)]
struct Vault {
    pem: String,
}

#[async_trait::async_trait]
impl HttpClient for Vault {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        let mut headers = Headers::new();
        if request.headers().get_optional_str(&AUTHORIZATION).is_none() {
            let challenge = r#"Bearer authorization="https://login.microsoftonline.com/contoso", resource="https://vault.azure.net""#;
            headers.insert(WWW_AUTHENTICATE, challenge);
            return Ok(AsyncRawResponse::from_bytes(
                StatusCode::Unauthorized,
                headers,
                "",
            ));
        }
        let body = match request.url().path() {
            "/certificates/daemon/versions" => json!({
                "value": [{ "id": format!("{VAULT}/certificates/daemon/1"), "attributes": { "enabled": true } }],
            }),
            "/certificates/daemon/1" => json!({ "kid": format!("{VAULT}/keys/daemon/1") }),
            "/secrets/daemon/1" => {
                json!({ "value": self.pem, "contentType": "application/x-pem-file" })
            }
            other => panic!("unknown path {other}"),
        };
        Ok(AsyncRawResponse::from_bytes(
            StatusCode::Ok,
            headers,
            body.to_string(),
        ))
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let vault = Vault {
        pem: String::from_utf8(provider::pem())?,
    };
    let client_options = ClientOptions {
        transport: Some(Transport::new(Arc::new(vault))),
        ..ClientOptions::default()
    };
    let identity = provider::builder("client_secret")
        .client_secret("s3cret")
        .build()?;
    let credential = Arc::new(AzureCredential::new(identity));
    let options = CertificateClientOptions {
        client_options: client_options.clone(),
        ..CertificateClientOptions::default()
    };
    let certificates = CertificateClient::new(VAULT, credential.clone(), Some(options))?;
    let options = SecretClientOptions {
        client_options,
        ..SecretClientOptions::default()
    };
    let secrets = SecretClient::new(VAULT, credential, Some(options))?;
    let source = KeyVaultCertificate::exportable(certificates, secrets, "daemon")?;
    let client = provider::builder("client_assertion")
        .certificate_source(source.clone())
        .build()?;
    assert_eq!(provider::acquire(&client)?.secret(), "abc");
    assert_eq!(source.version().as_deref(), Some("1"));
    println!(
        "{}: a token with a certificate in a vault",
        env!("CARGO_PKG_NAME")
    );
    Ok(())
}
