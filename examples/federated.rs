//! A daemon that holds no credential: somebody else vouches for it.
//!
//! ```sh
//! cargo run --example federated
//! ```
//!
//! By default identity provider and platform run inside this program, on loopback, and it shows
//! both ways: a token in a file that the platform keeps fresh, as Kubernetes mounts it for workload
//! identity, and an application that vouches for another. With `AZURE_TENANT_ID`, `AZURE_CLIENT_ID`
//! and `AZURE_FEDERATED_TOKEN_FILE` in the environment, as workload identity sets them, it asks
//! Microsoft Entra ID; with `VOUCHED_CLIENT_ID`, too, for the application of that id, which has the
//! first as its federated credential.
#![allow(clippy::print_stdout, reason = "it reports to a reader")]

use std::error::Error;
use std::path::Path;

use confidential_client::ConfidentialClient;
use confidential_client::credential::FederatedTokenFile;
use confidential_client::testing::{Application, LocalAuthority};
use serde_json::Value;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const TENANT: &str = "contoso.onmicrosoft.com";
const PLATFORM: &str = "cluster.example";
const DAEMON: &str = "11111111-2222-3333-4444-555555555555";
const VOUCHER: &str = "22222222-3333-4444-5555-666666666666";
const VOUCHED: &str = "33333333-4444-5555-6666-777777777777";
const GRAPH: &str = "https://graph.microsoft.com/.default";
const STORAGE: &str = "https://storage.azure.com/.default";
/// The audience of tokens that vouch, and the scope to ask for them.
const EXCHANGE: &str = "api://AzureADTokenExchange";
const EXCHANGE_SCOPE: &str = "api://AzureADTokenExchange/.default";

#[tokio::main]
async fn main() -> Result<()> {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    match is_set("AZURE_TENANT_ID") || is_set("AZURE_CLIENT_ID") {
        true => on_entra().await,
        false => on_this_machine().await,
    }
}

async fn on_entra() -> Result<()> {
    let client = ConfidentialClient::from_env()?;
    println!("with {client:?}");
    let Ok(vouched) = std::env::var("VOUCHED_CLIENT_ID") else {
        return acquire(&client, GRAPH).await;
    };
    let other = ConfidentialClient::builder(vouched)
        .tenant(std::env::var("AZURE_TENANT_ID")?)
        .client_assertion(client.token_provider(EXCHANGE_SCOPE)?)
        .build()?;
    acquire(&other, GRAPH).await
}

async fn on_this_machine() -> Result<()> {
    let local = LocalAuthority::start().await?;
    let folder = std::env::temp_dir().join(format!("federated-{}", std::process::id()));
    std::fs::create_dir(&folder)?;
    let ran = with_a_file(&local, &folder.join("azure-identity-token")).await;
    std::fs::remove_dir_all(&folder)?;
    ran?;
    with_another_application(&local).await
}

/// The platform writes a token into a file, and a new one before that ends.
async fn with_a_file(local: &LocalAuthority, path: &Path) -> Result<()> {
    let workload = Application::new("system:serviceaccount:jobs:daemon").secret("the cluster's");
    let subject = workload.subject();
    local.register(PLATFORM, workload);
    let issuer = local.issuer(PLATFORM).ok_or("the platform is unknown")?;
    let daemon = Application::new(DAEMON).federated_credential(issuer, subject, EXCHANGE);
    local.register(TENANT, daemon);

    println!("with a token in a file");
    let client = ConfidentialClient::builder(DAEMON)
        .authority(local.authority(TENANT))
        .client_assertion(FederatedTokenFile::new(path))
        .build()?;
    for scope in [GRAPH, STORAGE] {
        platform_writes(local, path).await?;
        acquire(&client, scope).await?;
        show_assertion(local)?;
    }
    Ok(())
}

/// What Kubernetes does for a pod, and does again every hour.
async fn platform_writes(local: &LocalAuthority, path: &Path) -> Result<()> {
    let platform = ConfidentialClient::builder("system:serviceaccount:jobs:daemon")
        .authority(local.authority(PLATFORM))
        .client_secret("the cluster's")
        .build()?;
    let token = platform.acquire_token_for_client(EXCHANGE_SCOPE).await?;
    let beside = path.with_extension("new");
    std::fs::write(&beside, token.secret())?;
    std::fs::rename(&beside, path)?;
    Ok(())
}

/// One application's token is the other's assertion, asked for when it is needed and kept.
async fn with_another_application(local: &LocalAuthority) -> Result<()> {
    let voucher = Application::new(VOUCHER).secret("correct horse battery staple");
    let subject = voucher.subject();
    local.register(TENANT, voucher);
    let issuer = local.issuer(TENANT).ok_or("the tenant is unknown")?;
    let vouched = Application::new(VOUCHED).federated_credential(issuer, subject, EXCHANGE);
    local.register(TENANT, vouched);

    println!("with another application's token");
    let voucher = ConfidentialClient::builder(VOUCHER)
        .authority(local.authority(TENANT))
        .client_secret("correct horse battery staple")
        .build()?;
    let client = ConfidentialClient::builder(VOUCHED)
        .authority(local.authority(TENANT))
        .client_assertion(voucher.token_provider(EXCHANGE_SCOPE)?)
        .build()?;
    for scope in [GRAPH, STORAGE] {
        acquire(&client, scope).await?;
        show_assertion(local)?;
    }
    Ok(())
}

async fn acquire(client: &ConfidentialClient, scope: &str) -> Result<()> {
    let token = client.acquire_token_for_client(scope).await?;
    println!("  {:<16} {scope}, from {:?}", "token", token.source());
    Ok(())
}

/// What was in the assertion of the last request.
fn show_assertion(local: &LocalAuthority) -> Result<()> {
    let requests = local.token_requests();
    let claims = requests
        .last()
        .and_then(|request| request.assertion_claims());
    let claims: Value = serde_json::from_str(&claims.ok_or("there was no assertion")?)?;
    for (what, claim) in [("vouched for by", "azp"), ("with token", "uti")] {
        let claim = claims.get(claim).and_then(Value::as_str);
        println!("    {what:<14} {}", claim.unwrap_or("none"));
    }
    Ok(())
}
