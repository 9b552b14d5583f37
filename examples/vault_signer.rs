//! A private key that stays in a signing service. The service signs each client assertion.
//!
//! The service of this example is HashiCorp Vault, with the engine *transit*. The signer has the
//! same form for the KMS of another cloud. For Azure Key Vault, see the example `key_vault`.
//!
//! ```sh
//! cargo run --example vault_signer
//! ```
//!
//! By default the identity provider and the vault run inside this program, on loopback. For
//! Microsoft Entra ID and a real vault, set:
//!
//! - `AZURE_TENANT_ID` and `AZURE_CLIENT_ID`
//! - `AZURE_CLIENT_CERTIFICATE_PATH`, a PEM file without the private key
//! - `VAULT_ADDR`, such as `https://vault.example.org:8200`
//! - `VAULT_KEY`, the name of the RSA key in the engine
//! - `VAULT_TOKEN`, a token whose policy allows `update` of `transit/sign/KEY`
#![allow(clippy::print_stdout, reason = "an example prints its results")]

use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use confidential_client::credential::{Signer, SignerFuture, SigningAlgorithm};
use confidential_client::testing::{Application, LocalAuthority, self_signed_certificate};
use confidential_client::{Certificate, ConfidentialClient, Error, Secret};
use rsa::RsaPrivateKey;
use rsa::pkcs8::DecodePrivateKey;
use rsa::pss::BlindedSigningKey;
use rsa::rand_core::OsRng;
use rsa::signature::{RandomizedSigner, SignatureEncoding};
use serde_json::{Value, json};
use tokio::net::TcpListener;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The limit for one request to the vault. The whole token request has a limit of 30 seconds.
const VAULT_TIMEOUT: Duration = Duration::from_secs(5);
const GRAPH_SCOPE: &str = "https://graph.microsoft.com/.default";
const STORAGE_SCOPE: &str = "https://storage.azure.com/.default";

/// A signer that calls the operation *sign* of the engine *transit*.
struct VaultSigner {
    http: reqwest::Client,
    url: String,
    token: Secret,
}

impl Signer for VaultSigner {
    fn sign(&self, algorithm: SigningAlgorithm, message: Vec<u8>) -> SignerFuture<'_> {
        Box::pin(async move {
            let padding = match algorithm {
                SigningAlgorithm::PS256 => "pss",
                SigningAlgorithm::RS256 => "pkcs1v15",
                other => return Err(format!("the key does not sign with {other}").into()),
            };
            // The service computes the digest. Some services take the digest instead.
            let body = json!({
                "input": BASE64_STANDARD.encode(&message),
                "hash_algorithm": "sha2-256",
                "signature_algorithm": padding,
                "salt_length": "hash",
            });
            let request = self.http.post(&self.url).timeout(VAULT_TIMEOUT);
            let request = request.header("x-vault-token", self.token.expose());
            let response = request.json(&body).send().await?;
            let status = response.status();
            if !status.is_success() {
                let body: Value = response.json().await.unwrap_or_default();
                let message = body.pointer("/errors/0").and_then(Value::as_str);
                let message = message.unwrap_or("no error message");
                return Err(format!("the vault answered {status}: {message}").into());
            }
            let body: Value = response.json().await?;
            // `vault:v1:` and the base64 of the signature. The number is the version of the key.
            let signature = body.pointer("/data/signature").and_then(Value::as_str);
            let signature = signature.and_then(|signature| signature.rsplit(':').next());
            let signature = signature.ok_or("the vault's response holds no signature")?;
            Ok(BASE64_STANDARD.decode(signature)?)
        })
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    match (variable("AZURE_TENANT_ID"), variable("AZURE_CLIENT_ID")) {
        (Some(tenant), Some(client_id)) => run_on_azure(tenant, client_id).await,
        (None, None) => run_on_loopback().await,
        _ => Err("set both AZURE_TENANT_ID and AZURE_CLIENT_ID, or neither".into()),
    }
}

async fn run_on_azure(tenant: String, client_id: String) -> Result<()> {
    let variable = |name| std::env::var(name).map_err(|_| format!("set {name}"));
    let signer = VaultSigner {
        http: reqwest::Client::new(),
        url: format!(
            "{}/v1/transit/sign/{}",
            variable("VAULT_ADDR")?,
            variable("VAULT_KEY")?
        ),
        token: variable("VAULT_TOKEN")?.into(),
    };
    let pem = std::fs::read(variable("AZURE_CLIENT_CERTIFICATE_PATH")?)?;
    let client = ConfidentialClient::builder(client_id)
        .tenant(tenant)
        .certificate(Certificate::from_signer(pem, signer)?)
        .build()?;
    acquire(&client, GRAPH_SCOPE).await?;
    Ok(())
}

async fn run_on_loopback() -> Result<()> {
    // The certificate stays here. The private key moves into the vault.
    let pem = self_signed_certificate("daemon")?;
    let key_start = pem.find("-----BEGIN PRIVATE KEY").ok_or("no private key")?;
    let (certificate, key) = pem.split_at(key_start);
    let vault = Vault::start(key).await?;
    let signer = VaultSigner {
        http: reqwest::Client::builder().no_proxy().build()?,
        url: vault.url.clone(),
        token: "open sesame".into(),
    };
    let certificate = Certificate::from_signer(certificate, signer)?;

    let tenant = "contoso.onmicrosoft.com";
    let client_id = "11111111-2222-3333-4444-555555555555";
    let local = LocalAuthority::start().await?;
    local.register(
        tenant,
        Application::new(client_id).certificate(&certificate),
    );
    println!("{:<18} {}/{tenant}", "identity provider", local.base_url());
    println!("{:<18} {}\n", "vault", vault.url);

    let client = ConfidentialClient::builder(client_id)
        .authority(local.authority(tenant))
        .certificate(certificate)
        .build()?;
    acquire(&client, GRAPH_SCOPE).await?;
    acquire(&client, GRAPH_SCOPE).await?;
    println!("{:<18} {:?}\n", "signatures", vault.signatures);

    println!("the vault is sealed");
    vault.is_sealed.store(true, Ordering::Relaxed);
    // The cached token needs no signature. A token for another scope does.
    acquire(&client, GRAPH_SCOPE).await?;
    let Err(error) = acquire(&client, STORAGE_SCOPE).await else {
        return Err("a sealed vault signed an assertion".into());
    };
    println!("{:<18} {STORAGE_SCOPE}", "no token");
    println!("  {:<16} {error}", "failed");
    if let Some(cause) = error.source() {
        println!("  {:<16} {cause}", "because");
    }
    let requests = local.token_requests().len();
    println!("\n{:<18} {requests}", "token requests");
    Ok(())
}

async fn acquire(client: &ConfidentialClient, scope: &str) -> std::result::Result<(), Error> {
    let token = client.acquire_token_for_client(scope).await?;
    println!("{:<18} {scope}, from {:?}", "token", token.source());
    Ok(())
}

/// A vault with one key. The responses have the form of HashiCorp Vault's.
struct Vault {
    url: String,
    key: BlindedSigningKey<rsa::sha2::Sha256>,
    is_sealed: AtomicBool,
    signatures: AtomicUsize,
}

impl Vault {
    /// Serves the vault on loopback.
    async fn start(key: &str) -> Result<Arc<Self>> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let vault = Arc::new(Self {
            url: format!("http://{}/v1/transit/sign/daemon", listener.local_addr()?),
            key: BlindedSigningKey::new(RsaPrivateKey::from_pkcs8_pem(key)?),
            is_sealed: AtomicBool::new(false),
            signatures: AtomicUsize::new(0),
        });
        let sign = |State(vault): State<Arc<Self>>, Json(body): Json<Value>| async move {
            match vault.sign(&body) {
                Ok(signature) => {
                    let data = json!({ "signature": format!("vault:v1:{signature}") });
                    (StatusCode::OK, Json(json!({ "data": data })))
                }
                Err((status, message)) => (status, Json(json!({ "errors": [message] }))),
            }
        };
        let router = Router::new().route("/v1/transit/sign/daemon", post(sign));
        let router = router.with_state(Arc::clone(&vault));
        tokio::spawn(axum::serve(listener, router).into_future());
        Ok(vault)
    }

    fn sign(&self, body: &Value) -> std::result::Result<String, (StatusCode, &'static str)> {
        if self.is_sealed.load(Ordering::Relaxed) {
            return Err((StatusCode::SERVICE_UNAVAILABLE, "Vault is sealed"));
        }
        let field = |name| body.get(name).and_then(Value::as_str).unwrap_or_default();
        let message = BASE64_STANDARD.decode(field("input"));
        let signature = match (field("signature_algorithm"), message) {
            ("pss", Ok(message)) => self.key.try_sign_with_rng(&mut OsRng, &message).ok(),
            _ => None,
        };
        let signature = signature.ok_or((
            StatusCode::BAD_REQUEST,
            "the algorithm or the input is invalid",
        ))?;
        self.signatures.fetch_add(1, Ordering::Relaxed);
        Ok(BASE64_STANDARD.encode(signature.to_bytes()))
    }
}
