//! A daemon without a secret or a certificate. Another party signs the client assertion.
//!
//! ```sh
//! cargo run --example federated
//! ```
//!
//! By default the identity provider and the platform run inside this program, on loopback. The
//! program shows two sources of the assertion:
//!
//! - a token in a file that the platform refreshes, such as Kubernetes with workload identity
//! - a token of another application
//!
//! With `AZURE_TENANT_ID`, `AZURE_CLIENT_ID` and `AZURE_FEDERATED_TOKEN_FILE` in the environment,
//! as workload identity sets these variables, the daemon requests the token from Microsoft Entra
//! ID. With `FEDERATED_CLIENT_ID` as well, the daemon requests a token for that application, whose
//! federated credential names the first application.
#![allow(clippy::print_stdout, reason = "an example prints its results")]

use std::path::Path;

use confidential_client::ConfidentialClient;
use confidential_client::credential::FederatedTokenFile;
use confidential_client::testing::{Application, LocalAuthority};
use serde_json::Value;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const TENANT: &str = "contoso.onmicrosoft.com";
const PLATFORM: &str = "cluster.example";
const SERVICE_ACCOUNT: &str = "system:serviceaccount:jobs:daemon";
const DAEMON_ID: &str = "11111111-2222-3333-4444-555555555555";
const SIGNING_APP_ID: &str = "22222222-3333-4444-5555-666666666666";
const FEDERATED_APP_ID: &str = "33333333-4444-5555-6666-777777777777";
const GRAPH_SCOPE: &str = "https://graph.microsoft.com/.default";
const STORAGE_SCOPE: &str = "https://storage.azure.com/.default";
/// The audience of a token that serves as a client assertion.
const EXCHANGE: &str = "api://AzureADTokenExchange";
const EXCHANGE_SCOPE: &str = "api://AzureADTokenExchange/.default";

#[tokio::main]
async fn main() -> Result<()> {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if is_set("AZURE_TENANT_ID") || is_set("AZURE_CLIENT_ID") {
        return run_on_entra().await;
    }
    let local = LocalAuthority::start().await?;
    let folder = std::env::temp_dir().join(format!("federated-{}", std::process::id()));
    std::fs::create_dir(&folder)?;
    let result = with_a_token_file(&local, &folder.join("azure-identity-token")).await;
    std::fs::remove_dir_all(&folder)?;
    result?;
    with_another_application(&local).await
}

async fn run_on_entra() -> Result<()> {
    let client = ConfidentialClient::from_env()?;
    println!("with {client:?}");
    let Ok(federated_client_id) = std::env::var("FEDERATED_CLIENT_ID") else {
        return acquire(&client, GRAPH_SCOPE).await;
    };
    let federated_client = ConfidentialClient::builder(federated_client_id)
        .tenant(std::env::var("AZURE_TENANT_ID")?)
        .client_assertion(client.token_provider(EXCHANGE_SCOPE)?)
        .build()?;
    acquire(&federated_client, GRAPH_SCOPE).await
}

/// Authenticates with a token file. The platform writes a new token before the old token expires.
async fn with_a_token_file(local: &LocalAuthority, path: &Path) -> Result<()> {
    let workload = Application::new(SERVICE_ACCOUNT).secret("the cluster's");
    let subject = workload.subject();
    local.register(PLATFORM, workload);
    let issuer = local.issuer(PLATFORM).ok_or("the platform is unknown")?;
    let daemon = Application::new(DAEMON_ID).federated_credential(issuer, subject, EXCHANGE);
    local.register(TENANT, daemon);

    println!("with a token in a file");
    let client = ConfidentialClient::builder(DAEMON_ID)
        .authority(local.authority(TENANT))
        .client_assertion(FederatedTokenFile::new(path))
        .build()?;
    for scope in [GRAPH_SCOPE, STORAGE_SCOPE] {
        write_token_file(local, path).await?;
        acquire(&client, scope).await?;
        print_assertion(local)?;
    }
    Ok(())
}

/// Writes a new token into the file, as Kubernetes does every hour.
async fn write_token_file(local: &LocalAuthority, path: &Path) -> Result<()> {
    let platform = ConfidentialClient::builder(SERVICE_ACCOUNT)
        .authority(local.authority(PLATFORM))
        .client_secret("the cluster's")
        .build()?;
    let token = platform.acquire_token_for_client(EXCHANGE_SCOPE).await?;
    // A reader gets the old token or the new token, never a mix.
    let temporary = path.with_extension("new");
    std::fs::write(&temporary, token.secret())?;
    std::fs::rename(&temporary, path)?;
    Ok(())
}

/// Authenticates with the cached token of another application.
async fn with_another_application(local: &LocalAuthority) -> Result<()> {
    let signing_app = Application::new(SIGNING_APP_ID).secret("correct horse battery staple");
    let subject = signing_app.subject();
    local.register(TENANT, signing_app);
    let issuer = local.issuer(TENANT).ok_or("the tenant is unknown")?;
    let federated_app = Application::new(FEDERATED_APP_ID);
    let federated_app = federated_app.federated_credential(issuer, subject, EXCHANGE);
    local.register(TENANT, federated_app);

    println!("with another application's token");
    let signing_client = ConfidentialClient::builder(SIGNING_APP_ID)
        .authority(local.authority(TENANT))
        .client_secret("correct horse battery staple")
        .build()?;
    let client = ConfidentialClient::builder(FEDERATED_APP_ID)
        .authority(local.authority(TENANT))
        .client_assertion(signing_client.token_provider(EXCHANGE_SCOPE)?)
        .build()?;
    for scope in [GRAPH_SCOPE, STORAGE_SCOPE] {
        acquire(&client, scope).await?;
        print_assertion(local)?;
    }
    Ok(())
}

async fn acquire(client: &ConfidentialClient, scope: &str) -> Result<()> {
    let token = client.acquire_token_for_client(scope).await?;
    println!("  {:<16} {scope}, from {:?}", "token", token.source());
    Ok(())
}

/// Prints two claims of the last request's assertion.
fn print_assertion(local: &LocalAuthority) -> Result<()> {
    let requests = local.token_requests();
    let request = requests.last().ok_or("no token request was sent")?;
    let claims = request.assertion_claims();
    let claims: Value = serde_json::from_str(&claims.ok_or("the request has no assertion")?)?;
    let claim = |name| claims.get(name).and_then(Value::as_str).unwrap_or("none");
    println!("    {:<14} {}", "issued to", claim("azp"));
    println!("    {:<14} {}", "with token", claim("uti"));
    Ok(())
}
