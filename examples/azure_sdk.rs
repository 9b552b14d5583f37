//! Clients of the Azure SDK for Rust that share this crate's token cache.
//!
//! ```sh
//! cargo run --example azure_sdk
//! ```
//!
//! The clients read secrets from two Key Vaults. The identity provider and the vaults run inside
//! this program, on loopback. The SDK sends tokens only to the vaults' real host names over TLS,
//! so the vaults have these names and a certificate.
#![allow(clippy::print_stdout, reason = "an example prints its results")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::State;
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use azure_core::credentials::TokenCredential;
use azure_core::http::{ClientOptions, Transport};
use azure_security_keyvault_secrets::{SecretClient, SecretClientOptions};
use confidential_client::ConfidentialClient;
use confidential_client::adapter::AzureCredential;
use confidential_client::testing::{Application, LocalAuthority, ProtectedApi};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::server::TlsStream;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const TENANT: &str = "contoso.onmicrosoft.com";
const CLIENT_ID: &str = "11111111-2222-3333-4444-555555555555";
/// The resource of all Key Vaults.
const KEY_VAULT: &str = "https://vault.azure.net";
const VAULT_HOSTS: [&str; 2] = ["orders.vault.azure.net", "billing.vault.azure.net"];

#[tokio::main]
async fn main() -> Result<()> {
    let local = LocalAuthority::start().await?;
    local.register(TENANT, Application::new(CLIENT_ID).secret("s3cret"));
    let vaults = Vaults::start(&local).await?;

    let client = ConfidentialClient::builder(CLIENT_ID)
        .authority(local.authority(TENANT))
        .client_secret("s3cret")
        .build()?;
    let credential: Arc<dyn TokenCredential> = Arc::new(AzureCredential::new(client));

    for host in VAULT_HOSTS {
        // For the real Key Vault, use the URL `https://{host}` and the options `None`.
        let url = format!("https://{host}:{}", vaults.address.port());
        let options = SecretClientOptions {
            client_options: ClientOptions {
                transport: Some(Transport::new(Arc::new(vaults.http.clone()))),
                ..ClientOptions::default()
            },
            ..SecretClientOptions::default()
        };
        let secrets = SecretClient::new(&url, Arc::clone(&credential), Some(options))?;
        for name in ["database", "smtp"] {
            let secret = secrets.get_secret(name, None).await?.into_model()?;
            let length = secret.value.unwrap_or_default().len();
            println!("{host:<24} {name}, {length} characters");
        }
    }
    let requests = vaults.requests.load(Ordering::SeqCst);
    println!("{:<24} {requests}", "requests to the vaults");
    println!("{:<24} {}", "token requests", local.token_requests().len());
    Ok(())
}

/// Two Key Vaults behind one address.
struct Vaults {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
    /// Resolves the vaults' names to the address and trusts their certificate.
    http: reqwest::Client,
}

#[derive(Clone)]
struct VaultState {
    /// Accepts only the identity provider's tokens for Key Vault.
    api: Arc<ProtectedApi>,
    http: reqwest::Client,
    requests: Arc<AtomicUsize>,
}

impl Vaults {
    async fn start(local: &LocalAuthority) -> Result<Self> {
        let certified = rcgen::generate_simple_self_signed(VAULT_HOSTS.map(str::to_owned))?;
        let key = PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
        let config = ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certified.cert.der().clone()], key.into())?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let listener = TlsListener(listener, TlsAcceptor::from(Arc::new(config)));
        let requests = Arc::new(AtomicUsize::new(0));
        let state = VaultState {
            api: Arc::new(local.protected_api(KEY_VAULT).await?),
            http: reqwest::Client::builder().no_proxy().build()?,
            requests: Arc::clone(&requests),
        };
        let router = Router::new().fallback(get_secret).with_state(state);
        tokio::spawn(axum::serve(listener, router).into_future());

        let certificate = reqwest::Certificate::from_pem(certified.cert.pem().as_bytes())?;
        let mut http = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([certificate]);
        for host in VAULT_HOSTS {
            http = http.resolve(host, address);
        }
        Ok(Self {
            address,
            requests,
            http: http.build()?,
        })
    }
}

/// Returns the secret to a request with a valid token. Any other request gets a challenge that
/// names the authority and the resource, as from Key Vault.
async fn get_secret(State(vault): State<VaultState>, headers: HeaderMap) -> Response {
    vault.requests.fetch_add(1, Ordering::SeqCst);
    let mut check = vault.http.get(vault.api.base_url());
    if let Some(token) = headers.get(AUTHORIZATION) {
        check = check.header(AUTHORIZATION, token);
    }
    let is_accepted = match check.send().await {
        Ok(response) => response.status().is_success(),
        Err(_) => false,
    };
    if is_accepted {
        return Json(json!({ "value": "correct horse" })).into_response();
    }
    let challenge = format!(
        r#"Bearer authorization="https://login.windows.net/{TENANT}", resource="{KEY_VAULT}""#
    );
    (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, challenge)]).into_response()
}

/// A TCP listener that completes the TLS handshake of each connection.
struct TlsListener(TcpListener, TlsAcceptor);

impl axum::serve::Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            if let Ok((stream, peer)) = self.0.accept().await
                && let Ok(stream) = self.1.accept(stream).await
            {
                return (stream, peer);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.0.local_addr()
    }
}
