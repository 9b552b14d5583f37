//! A client certificate in Azure Key Vault. The program follows the rotation of the certificate.
//!
//! ```sh
//! cargo run --example key_vault
//! ```
//!
//! By default the identity provider, the managed identity and the vault run inside this program, on
//! loopback. On a host of Azure with a managed identity, set:
//!
//! - `AZURE_TENANT_ID` and `AZURE_CLIENT_ID`, the application that gets the tokens
//! - `KEY_VAULT_URL`, such as `https://contoso.vault.azure.net`
//! - `KEY_VAULT_CERTIFICATE`, the name of the certificate in the vault
//!
//! The managed identity needs the roles *Key Vault Certificate User* and *Key Vault Crypto User* of
//! the vault, and the certificate is registered with the application.
#![allow(clippy::print_stdout, reason = "an example prints its results")]

use std::sync::Arc;
use std::time::Duration;

use azure_core::credentials::TokenCredential;
use azure_security_keyvault_certificates::CertificateClient;
use azure_security_keyvault_keys::KeyClient;
use confidential_client::adapter::{AzureCredential, KeyVaultCertificate};
use confidential_client::credential::ManagedIdentity;
use confidential_client::resource::TokenValidator;
use confidential_client::testing::{
    Application, AssignedIdentity, HostKind, LocalAuthority, ManualClock,
};
use confidential_client::{Certificate, ConfidentialClient, ManagedIdentityClient};

#[path = "key_vault/vault.rs"]
mod vault;

use vault::{CERTIFICATE_USER, CRYPTO_USER, LocalVault, RESOURCE, Version};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const GRAPH_SCOPE: &str = "https://graph.microsoft.com/.default";
const STORAGE_SCOPE: &str = "https://storage.azure.com/.default";
const SQL_SCOPE: &str = "https://database.windows.net/.default";

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
    let url = variable("KEY_VAULT_URL")?;
    let identity = ManagedIdentityClient::new(ManagedIdentity::system_assigned())?;
    let credential: Arc<dyn TokenCredential> = Arc::new(AzureCredential::new(identity));
    let source = KeyVaultCertificate::non_exportable(
        CertificateClient::new(&url, Arc::clone(&credential), None)?,
        KeyClient::new(&url, credential, None)?,
        variable("KEY_VAULT_CERTIFICATE")?,
    )?;
    let client = ConfidentialClient::builder(client_id)
        .tenant(tenant)
        .certificate_source(source.clone())
        .build()?;
    acquire(&client, &source, GRAPH_SCOPE).await
}

async fn run_on_loopback() -> Result<()> {
    let tenant = "contoso.onmicrosoft.com";
    let client_id = "11111111-2222-3333-4444-555555555555";
    let local = LocalAuthority::start().await?;
    let host = local.managed_identity(tenant).await?;
    let identity = AssignedIdentity::new("99999999-8888-7777-6666-555555555555");
    host.assign_system(
        identity
            .role(RESOURCE, CERTIFICATE_USER)
            .role(RESOURCE, CRYPTO_USER),
    );
    let validator = TokenValidator::builder(local.authority(tenant));
    let validator = validator.audience(RESOURCE).single_tenant().build()?;
    let vault = LocalVault::start(validator).await?;

    // Two versions of one certificate. The second one is created later.
    let mut first = Version::rsa("daemon")?.not_exportable();
    first.created -= 60;
    let second = Version::rsa("daemon")?.not_exportable();
    let mut application = Application::new(client_id);
    for version in [&first, &second] {
        // The public part alone registers the certificate.
        let certificate =
            Certificate::from_signer(&version.certificate, |_, _| async { Err("unused".into()) })?;
        application = application.certificate(&certificate);
    }
    local.register(tenant, application);
    vault.add("daemon", first);
    println!("{:<18} {}/{tenant}", "identity provider", local.base_url());
    println!("{:<18} {}\n", "vault", vault.url());

    let identity = ManagedIdentityClient::builder(ManagedIdentity::system_assigned())
        .environment(host.environment(HostKind::Imds))
        .build()?;
    let credential: Arc<dyn TokenCredential> = Arc::new(AzureCredential::new(identity));
    let clock = ManualClock::new();
    let source = KeyVaultCertificate::non_exportable(
        vault.certificates(Arc::clone(&credential))?,
        vault.keys(credential)?,
        "daemon",
    )?
    .clock(clock.clone());
    let client = ConfidentialClient::builder(client_id)
        .authority(local.authority(tenant))
        .certificate_source(source.clone())
        .build()?;

    acquire(&client, &source, GRAPH_SCOPE).await?;
    acquire(&client, &source, GRAPH_SCOPE).await?;
    println!("\nthe certificate is rotated in the vault");
    vault.add("daemon", second);
    acquire(&client, &source, STORAGE_SCOPE).await?;
    println!("\nfive minutes later");
    clock.advance(Duration::from_secs(5 * 60));
    acquire(&client, &source, SQL_SCOPE).await?;

    println!("\nrequests to the vault with a token");
    for line in vault.take_lines() {
        println!("  {line}");
    }
    println!("{:<18} {}", "token requests", local.token_requests().len());
    Ok(())
}

async fn acquire(
    client: &ConfidentialClient,
    source: &KeyVaultCertificate,
    scope: &str,
) -> Result<()> {
    let token = client.acquire_token_for_client(scope).await?;
    println!("{:<18} {scope}, from {:?}", "token", token.source());
    println!("{:<18} {}", "version", source.version().unwrap_or_default());
    Ok(())
}
