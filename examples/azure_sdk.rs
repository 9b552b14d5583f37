//! Clients of the Azure SDK for Rust take their tokens from this crate's cache; here, Key Vault's:
//!
//! ```sh
//! cargo run --example azure_sdk
//! ```
//!
//! Identity provider and vaults run inside this program, on loopback; the vaults by their own names
//! and over TLS, since the SDK sends a token nowhere else.
#![allow(clippy::print_stdout, reason = "it reports to a reader")]

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
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::server::TlsStream;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const TENANT: &str = "contoso.onmicrosoft.com";
const CLIENT_ID: &str = "11111111-2222-3333-4444-555555555555";
const KEY_VAULT: &str = "https://vault.azure.net";
const VAULTS: [&str; 2] = ["orders.vault.azure.net", "billing.vault.azure.net"];

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

    for host in VAULTS {
        // Against Azure the URL is `https://{host}`, and the options are `None`.
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

/// Two Key Vaults at one address.
struct Vaults {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
    /// Finds them there, and trusts their certificate.
    http: reqwest::Client,
}

#[derive(Clone)]
struct Judge {
    /// It takes the identity provider's tokens for Key Vault and no others.
    api: Arc<ProtectedApi>,
    http: reqwest::Client,
    requests: Arc<AtomicUsize>,
}

impl Vaults {
    async fn start(local: &LocalAuthority) -> Result<Self> {
        let made = rcgen::generate_simple_self_signed(VAULTS.map(str::to_owned))?;
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let config = ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], PrivateKeyDer::from(key))?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let tls = Tls(listener, TlsAcceptor::from(Arc::new(config)));
        let requests = Arc::new(AtomicUsize::new(0));
        let judge = Judge {
            api: Arc::new(local.protected_api(KEY_VAULT).await?),
            http: reqwest::Client::builder().no_proxy().build()?,
            requests: Arc::clone(&requests),
        };
        let router = Router::new().fallback(secret).with_state(judge);
        tokio::spawn(axum::serve(tls, router).into_future());

        let certificate = reqwest::Certificate::from_pem(made.cert.pem().as_bytes())?;
        let http = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([certificate]);
        let http = VAULTS
            .iter()
            .fold(http, |http, host| http.resolve(host, address));
        Ok(Self {
            address,
            requests,
            http: http.build()?,
        })
    }
}

/// Answers as Key Vault does; to a request without a token for it, with whose it takes.
async fn secret(State(judge): State<Judge>, headers: HeaderMap) -> Response {
    judge.requests.fetch_add(1, Ordering::SeqCst);
    let mut check = judge.http.get(judge.api.base_url());
    if let Some(token) = headers.get(AUTHORIZATION) {
        check = check.header(AUTHORIZATION, token);
    }
    match check.send().await {
        Ok(answer) if answer.status().is_success() => {
            Json(json!({ "value": "correct horse" })).into_response()
        }
        _ => {
            let challenge = format!(
                r#"Bearer authorization="https://login.windows.net/{TENANT}", resource="{KEY_VAULT}""#
            );
            (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, challenge)]).into_response()
        }
    }
}

struct Tls(TcpListener, TlsAcceptor);

impl axum::serve::Listener for Tls {
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
