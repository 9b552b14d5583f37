//! A daemon whose certificate is a file takes up the next one without a restart:
//!
//! ```sh
//! cargo run --example certificate
//! ```
//!
//! By default the identity provider runs inside this program, on loopback, and the certificate is
//! renewed while the daemon runs. With `AZURE_TENANT_ID`, `AZURE_CLIENT_ID` and
//! `AZURE_CLIENT_CERTIFICATE_PATH` (certificate and private key in one PEM, or PKCS#12) in the
//! environment, it asks Microsoft Entra ID for one token with that certificate.
#![allow(clippy::print_stdout, reason = "it reports to a reader")]

use std::error::Error;
use std::path::Path;

use confidential_client::credential::CertificateFile;
use confidential_client::testing::{Application, LocalAuthority, self_signed_certificate};
use confidential_client::{Certificate, ConfidentialClient};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const GRAPH: &str = "https://graph.microsoft.com/.default";
const STORAGE: &str = "https://storage.azure.com/.default";

#[tokio::main]
async fn main() -> Result<()> {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    match is_set("AZURE_TENANT_ID") || is_set("AZURE_CLIENT_ID") {
        true => on_entra().await,
        false => on_this_machine().await,
    }
}

/// One token from Microsoft Entra ID. A daemon that goes on running needs no other code than this:
/// the file is read again before each token request.
async fn on_entra() -> Result<()> {
    let client = ConfidentialClient::from_env()?;
    acquire(&client, GRAPH).await
}

/// A renewal from beginning to end, on loopback.
async fn on_this_machine() -> Result<()> {
    let folder = std::env::temp_dir().join(format!("daemon-{}", std::process::id()));
    std::fs::create_dir(&folder)?;
    let ran = renewal(&folder.join("daemon.pem")).await;
    std::fs::remove_dir_all(&folder)?;
    ran
}

async fn renewal(path: &Path) -> Result<()> {
    let tenant = "contoso.onmicrosoft.com";
    let client_id = "11111111-2222-3333-4444-555555555555";
    let local = LocalAuthority::start().await?;

    replace(path, &self_signed_certificate("daemon")?)?;
    let file = CertificateFile::new(path);
    let old = file.read()?; // so that a file that cannot be used is found at the start
    local.register(tenant, Application::new(client_id).certificate(&old));

    let client = ConfidentialClient::builder(client_id)
        .authority(local.authority(tenant))
        .certificate_source(file)
        .build()?;
    acquire(&client, GRAPH).await?;

    println!("\nthe certificate is renewed");
    let renewed = self_signed_certificate("daemon")?;
    let new = Certificate::from_pem(&renewed)?;
    // First beside the old one, so that the daemon is never refused, whichever it uses.
    let both = Application::new(client_id).certificate(&old);
    local.register(tenant, both.certificate(&new));
    replace(path, &renewed)?;
    local.register(tenant, Application::new(client_id).certificate(&new));
    println!("  {:<16} {}", "old thumbprint", old.thumbprint_sha1());
    println!("  {:<16} {}\n", "new thumbprint", new.thumbprint_sha1());

    acquire(&client, STORAGE).await?;
    println!(
        "\n{:<18} {}",
        "token requests",
        local.token_requests().len()
    );
    Ok(())
}

/// Gets a token, and says which certificate the client uses by now.
async fn acquire(client: &ConfidentialClient, scope: &str) -> Result<()> {
    let token = client.acquire_token_for_client(scope).await?;
    println!("token for {scope}, from {:?}", token.source());
    let certificate = client.certificate();
    let certificate = certificate.ok_or("the client has no certificate, but another credential")?;
    println!("  {:<16} {}", "subject", certificate.subject());
    println!("  {:<16} {}", "thumbprint", certificate.thumbprint_sha1());
    println!("  {:<16} {}", "days left", certificate.days_left());
    Ok(())
}

/// Replaces a file at once: who reads it meanwhile gets the old content or the new, never a half.
fn replace(path: &Path, content: &str) -> Result<()> {
    let beside = path.with_extension("new");
    std::fs::write(&beside, content)?;
    std::fs::rename(&beside, path)?;
    Ok(())
}
