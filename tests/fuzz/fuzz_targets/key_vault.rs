//! Reads a certificate from a vault with arbitrary responses: the result is a certificate or a
//! printable error without the private key.
//!
//! The first byte selects the status of the list, the second one whether the vault signs. Three
//! lines follow: the list of versions, the version and the secret (or the signature).
#![no_main]

#[allow(dead_code, reason = "the readers of files use the rest")]
mod checks;

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use azure_core::http::headers::{AUTHORIZATION, Headers, WWW_AUTHENTICATE};
use azure_core::http::{
    AsyncRawResponse, ClientOptions, HttpClient, Request, RetryOptions, Transport,
};
use azure_core::time::OffsetDateTime;
use azure_security_keyvault_certificates::{CertificateClient, CertificateClientOptions};
use azure_security_keyvault_keys::{KeyClient, KeyClientOptions};
use azure_security_keyvault_secrets::{SecretClient, SecretClientOptions};
use confidential_client::Error;
use confidential_client::adapter::{KeyVaultCertificate, KeyVaultSigner};
use confidential_client::credential::{CredentialSource, Signer, SigningAlgorithm};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

const VAULT: &str = "https://contoso.vault.azure.net";
const TOKEN: &str = "Wm3~fuzzed.Vault-Token_2Kp";
const STATUSES: [u16; 8] = [200, 200, 200, 200, 401, 403, 404, 429];
const ALGORITHMS: [SigningAlgorithm; 3] = [
    SigningAlgorithm::PS256,
    SigningAlgorithm::RS256,
    SigningAlgorithm::ES256,
];

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_time().build().unwrap());

fuzz_target!(|input: &[u8]| {
    let [status, signs, rest @ ..] = input else {
        return;
    };
    let mut lines = rest.splitn(3, |byte| *byte == b'\n').map(<[u8]>::to_vec);
    let mut line = || lines.next().unwrap_or_default();
    let vault = Arc::new(Vault {
        status: STATUSES[usize::from(*status) % STATUSES.len()],
        versions: line(),
        version: line(),
        private: line(),
    });
    RUNTIME.block_on(async {
        let credential: Arc<dyn TokenCredential> = Arc::new(Credential);
        let options = CertificateClientOptions {
            client_options: over(&vault),
            ..CertificateClientOptions::default()
        };
        let certificates = CertificateClient::new(VAULT, Arc::clone(&credential), Some(options));
        let certificates = certificates.unwrap();
        let source = if signs % 2 == 1 {
            let options = KeyClientOptions {
                client_options: over(&vault),
                ..KeyClientOptions::default()
            };
            let keys = Arc::new(KeyClient::new(VAULT, credential, Some(options)).unwrap());
            let signer = KeyVaultSigner::new(Arc::clone(&keys), "app", "1").unwrap();
            for algorithm in ALGORITHMS {
                if let Err(error) = signer.sign(algorithm, b"message".to_vec()).await {
                    check_error(&*error, &vault);
                }
            }
            KeyVaultCertificate::non_exportable(certificates, keys, "app").unwrap()
        } else {
            let options = SecretClientOptions {
                client_options: over(&vault),
                ..SecretClientOptions::default()
            };
            let secrets = SecretClient::new(VAULT, credential, Some(options)).unwrap();
            KeyVaultCertificate::exportable(certificates, secrets, "app").unwrap()
        };
        match source.credential().await {
            Ok(certificate) => checks::check_certificate(&certificate),
            Err(error) => check_error(&*error, &vault),
        }
        // The debug output has the version that the vault named.
        assert!(!format!("{source:?}").contains(char::is_control));
    });
});

fn check_error(error: &(dyn std::error::Error + Send + Sync + 'static), vault: &Vault) {
    let error: &Error = error.downcast_ref().expect("an error of the crate");
    assert!(matches!(error, Error::Credential(_)), "{error:?}");
    let shown = format!("{error:?} {}", error.chain());
    assert!(!shown.contains(char::is_control), "{shown:?}");
    assert!(shown.len() < 10_000, "{shown}");
    assert!(!shown.contains(TOKEN), "{shown}");
    assert!(
        error
            .retry_after()
            .is_none_or(|wait| wait <= Duration::from_secs(3600))
    );
    let secret: Option<Value> = serde_json::from_slice(&vault.private).ok();
    let value = secret.as_ref().and_then(|secret| secret["value"].as_str());
    for run in value.unwrap_or_default().as_bytes().windows(20) {
        let run = std::str::from_utf8(run).unwrap_or(TOKEN);
        let is_base64 = run.bytes().all(|byte| checks::is_base64(&byte));
        // A name in hexadecimal is shown, and the fuzzer copies texts from one line to another.
        let is_elsewhere = [&vault.versions, &vault.version]
            .iter()
            .any(|line| String::from_utf8_lossy(line).contains(run))
            || secret
                .as_ref()
                .is_some_and(|secret| secret["contentType"].to_string().contains(run));
        let is_name = run.bytes().all(|byte| byte.is_ascii_hexdigit());
        assert!(
            !is_base64 || is_name || is_elsewhere || !shown.contains(run),
            "{shown}"
        );
    }
}

/// A vault in memory.
#[derive(Debug)]
struct Vault {
    status: u16,
    versions: Vec<u8>,
    version: Vec<u8>,
    /// The secret, or the signature.
    private: Vec<u8>,
}

#[async_trait::async_trait]
impl HttpClient for Vault {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        let mut headers = Headers::new();
        if request.headers().get_optional_str(&AUTHORIZATION).is_none() {
            let challenge = r#"Bearer authorization="https://login.microsoftonline.com/contoso", resource="https://vault.azure.net""#;
            headers.insert(WWW_AUTHENTICATE, challenge);
            return Ok(AsyncRawResponse::from_bytes(401.into(), headers, ""));
        }
        let path = request.url().path();
        let (status, body) = match path {
            "/certificates/app/versions" => (self.status, &self.versions),
            _ if path.starts_with("/certificates/app/") => (200, &self.version),
            _ => (200, &self.private),
        };
        Ok(AsyncRawResponse::from_bytes(
            status.into(),
            headers,
            body.clone(),
        ))
    }
}

#[derive(Debug)]
struct Credential;

#[async_trait::async_trait]
impl TokenCredential for Credential {
    async fn get_token(
        &self,
        _: &[&str],
        _: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        let expires_on = OffsetDateTime::now_utc() + Duration::from_secs(3600);
        Ok(AccessToken::new(TOKEN, expires_on))
    }
}

fn over(vault: &Arc<Vault>) -> ClientOptions {
    ClientOptions {
        transport: Some(Transport::new(Arc::clone(vault) as Arc<dyn HttpClient>)),
        retry: RetryOptions::none(),
        ..ClientOptions::default()
    }
}
