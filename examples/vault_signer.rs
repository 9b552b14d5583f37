//! A private key that never enters the daemon: a vault is asked for every signature.
//!
//! ```sh
//! cargo run --example vault_signer
//! ```
//!
//! By default identity provider and vault run inside this program, on loopback. To ask Microsoft
//! Entra ID and an Azure Key Vault instead, set `AZURE_TENANT_ID`, `AZURE_CLIENT_ID`,
//! `AZURE_CLIENT_CERTIFICATE_PATH` (PEM, without the key), `VAULT_SIGN_URL`
//! (`https://NAME.vault.azure.net/keys/KEY/VERSION/sign?api-version=7.4`) and `VAULT_TOKEN`, an
//! access token for the vault, as a managed identity gets it.
#![allow(clippy::print_stdout, reason = "it reports to a reader")]

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use confidential_client::credential::{Signer, SignerFuture, SigningAlgorithm};
use confidential_client::testing::{Application, LocalAuthority, self_signed_certificate};
use confidential_client::{Certificate, ConfidentialClient, Secret};
use rsa::RsaPrivateKey;
use rsa::pkcs8::DecodePrivateKey;
use rsa::pss::BlindedSigningKey;
use rsa::rand_core::OsRng;
use rsa::signature::SignatureEncoding;
use rsa::signature::hazmat::RandomizedPrehashSigner;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// For one answer of the vault; the whole token request has half a minute.
const DEADLINE: Duration = Duration::from_secs(5);
const GRAPH: &str = "https://graph.microsoft.com/.default";
const STORAGE: &str = "https://storage.azure.com/.default";

/// Signs by Azure Key Vault's operation *sign*.
struct VaultSigner {
    http: reqwest::Client,
    url: String,
    token: Secret,
}

impl Signer for VaultSigner {
    fn sign(&self, algorithm: SigningAlgorithm, message: Vec<u8>) -> SignerFuture<'_> {
        Box::pin(async move {
            let digest = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(&message));
            let request = self.http.post(&self.url).bearer_auth(self.token.expose());
            let request = request.json(&json!({ "alg": algorithm.to_string(), "value": digest }));
            let answer = request.timeout(DEADLINE).send().await?;
            let status = answer.status();
            if !status.is_success() {
                let body: Value = answer.json().await.unwrap_or_default();
                let why = body.pointer("/error/message").and_then(Value::as_str);
                let why = why.unwrap_or("it does not say why");
                return Err(format!("the vault answered {status}: {why}").into());
            }
            let body: Value = answer.json().await?;
            let signature = body.get("value").and_then(Value::as_str);
            let signature = signature.ok_or("the vault's answer holds no signature")?;
            Ok(BASE64_URL_SAFE_NO_PAD.decode(signature)?)
        })
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    match (variable("AZURE_TENANT_ID"), variable("AZURE_CLIENT_ID")) {
        (Some(tenant), Some(client_id)) => on_azure(tenant, client_id).await,
        (None, None) => on_this_machine().await,
        _ => Err("set both AZURE_TENANT_ID and AZURE_CLIENT_ID, or neither".into()),
    }
}

async fn on_azure(tenant: String, client_id: String) -> Result<()> {
    let variable = |name| std::env::var(name).map_err(|_| format!("set {name}"));
    let signer = VaultSigner {
        http: reqwest::Client::new(),
        url: variable("VAULT_SIGN_URL")?,
        token: variable("VAULT_TOKEN")?.into(),
    };
    let pem = std::fs::read(variable("AZURE_CLIENT_CERTIFICATE_PATH")?)?;
    let client = ConfidentialClient::builder(client_id)
        .tenant(tenant)
        .certificate(Certificate::from_signer(pem, signer)?)
        .build()?;
    match acquire(&client, GRAPH).await {
        true => Ok(()),
        false => Err("there is no token".into()),
    }
}

async fn on_this_machine() -> Result<()> {
    let pem = self_signed_certificate("daemon")?;
    let key_begins = pem
        .find("-----BEGIN PRIVATE KEY")
        .ok_or("there is no key")?;
    let (certificate, key) = pem.split_at(key_begins);
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
    acquire(&client, GRAPH).await;
    acquire(&client, GRAPH).await;
    println!("{:<18} {:?}\n", "signatures", vault.signatures);

    println!("the vault is sealed");
    vault.is_sealed.store(true, Ordering::Relaxed);
    acquire(&client, GRAPH).await;
    acquire(&client, STORAGE).await;
    println!(
        "\n{:<18} {}",
        "token requests",
        local.token_requests().len()
    );
    Ok(())
}

/// Whether there is a token; says why, if there is none.
async fn acquire(client: &ConfidentialClient, scope: &str) -> bool {
    let acquired = client.acquire_token_for_client(scope).await;
    match &acquired {
        Ok(token) => println!("{:<18} {scope}, from {:?}", "token", token.source()),
        Err(error) => {
            println!("{:<18} {scope}", "no token");
            println!("  {:<16} {error}", "failed");
            let mut cause = error.source();
            while let Some(error) = cause {
                println!("  {:<16} {error}", "because");
                cause = error.source();
            }
        }
    }
    acquired.is_ok()
}

/// A vault with one key, which answers as Azure Key Vault does.
struct Vault {
    url: String,
    key: BlindedSigningKey<rsa::sha2::Sha256>,
    is_sealed: AtomicBool,
    signatures: AtomicUsize,
}

impl Vault {
    /// Serves it on loopback.
    async fn start(key: &str) -> Result<Arc<Self>> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let vault = Arc::new(Self {
            url: format!("http://{}/keys/daemon/1/sign", listener.local_addr()?),
            key: BlindedSigningKey::new(RsaPrivateKey::from_pkcs8_pem(key)?),
            is_sealed: AtomicBool::new(false),
            signatures: AtomicUsize::new(0),
        });
        let sign = |State(vault): State<Arc<Self>>, Json(body): Json<Value>| async move {
            match vault.sign(&body) {
                Ok(signature) => (StatusCode::OK, Json(json!({ "value": signature }))),
                Err((status, message)) => {
                    (status, Json(json!({ "error": { "message": message } })))
                }
            }
        };
        let router = Router::new().route("/keys/daemon/1/sign", post(sign));
        let router = router.with_state(Arc::clone(&vault));
        tokio::spawn(axum::serve(listener, router).into_future());
        Ok(vault)
    }

    fn sign(&self, body: &Value) -> std::result::Result<String, (StatusCode, &'static str)> {
        if self.is_sealed.load(Ordering::Relaxed) {
            return Err((StatusCode::FORBIDDEN, "it is sealed"));
        }
        let text = |name| body.get(name).and_then(Value::as_str).unwrap_or_default();
        let digest = BASE64_URL_SAFE_NO_PAD.decode(text("value"));
        let signature = match (text("alg"), digest) {
            ("PS256", Ok(digest)) => self.key.sign_prehash_with_rng(&mut OsRng, &digest).ok(),
            _ => None,
        };
        let signature = signature.ok_or((StatusCode::BAD_REQUEST, "this cannot be signed"))?;
        self.signatures.fetch_add(1, Ordering::Relaxed);
        Ok(BASE64_URL_SAFE_NO_PAD.encode(signature.to_bytes()))
    }
}
