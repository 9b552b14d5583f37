//! A daemon that uses a renewed certificate file without a restart.
//!
//! ```sh
//! cargo run --example certificate
//! ```
//!
//! By default the identity provider runs inside this program, on loopback. The certificate is
//! renewed while the daemon runs.
//!
//! With `AZURE_TENANT_ID`, `AZURE_CLIENT_ID` and `AZURE_CLIENT_CERTIFICATE_PATH` in the
//! environment, the daemon requests one token from Microsoft Entra ID. The file holds the
//! certificate and the private key in one PEM, or is PKCS#12.
#![allow(clippy::print_stdout, reason = "an example prints its results")]

use std::path::Path;

use confidential_client::credential::CertificateFile;
use confidential_client::testing::{Application, LocalAuthority, self_signed_certificate};
use confidential_client::{Certificate, ConfidentialClient};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const GRAPH_SCOPE: &str = "https://graph.microsoft.com/.default";
const STORAGE_SCOPE: &str = "https://storage.azure.com/.default";

#[tokio::main]
async fn main() -> Result<()> {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if is_set("AZURE_TENANT_ID") || is_set("AZURE_CLIENT_ID") {
        // A daemon that keeps running needs no more code than these two lines. The client reads
        // the certificate file again before each token request.
        let client = ConfidentialClient::from_env()?;
        return acquire(&client, GRAPH_SCOPE).await;
    }
    let folder = std::env::temp_dir().join(format!("daemon-{}", std::process::id()));
    std::fs::create_dir(&folder)?;
    let result = run_on_loopback(&folder.join("daemon.pem")).await;
    std::fs::remove_dir_all(&folder)?;
    result
}

/// Shows a renewal from the first certificate to the second.
async fn run_on_loopback(path: &Path) -> Result<()> {
    let tenant = "contoso.onmicrosoft.com";
    let client_id = "11111111-2222-3333-4444-555555555555";
    let local = LocalAuthority::start().await?;

    replace_file(path, &self_signed_certificate("daemon")?)?;
    let file = CertificateFile::new(path);
    // Finds an unusable file at startup.
    let old = file.read()?;
    local.register(tenant, Application::new(client_id).certificate(&old));

    let client = ConfidentialClient::builder(client_id)
        .authority(local.authority(tenant))
        .certificate_source(file)
        .build()?;
    acquire(&client, GRAPH_SCOPE).await?;

    println!("\nthe certificate is renewed");
    let pem = self_signed_certificate("daemon")?;
    let new = Certificate::from_pem(&pem)?;
    // First register both certificates. The daemon may use either one during the renewal.
    let both = Application::new(client_id).certificate(&old);
    local.register(tenant, both.certificate(&new));
    replace_file(path, &pem)?;
    local.register(tenant, Application::new(client_id).certificate(&new));
    println!("  {:<16} {}", "old thumbprint", old.thumbprint_sha1());
    println!("  {:<16} {}\n", "new thumbprint", new.thumbprint_sha1());

    acquire(&client, STORAGE_SCOPE).await?;
    let requests = local.token_requests().len();
    println!("\n{:<18} {requests}", "token requests");
    Ok(())
}

/// Acquires a token and prints the certificate that the client uses now.
async fn acquire(client: &ConfidentialClient, scope: &str) -> Result<()> {
    let token = client.acquire_token_for_client(scope).await?;
    println!("token for {scope}, from {:?}", token.source());
    let certificate = client.certificate();
    let certificate = certificate.ok_or("the client does not use a certificate")?;
    println!("  {:<16} {}", "subject", certificate.subject());
    println!("  {:<16} {}", "thumbprint", certificate.thumbprint_sha1());
    println!("  {:<16} {}", "days left", certificate.days_left());
    Ok(())
}

/// Replaces a file atomically. A reader gets the old content or the new content, never a mix.
fn replace_file(path: &Path, content: &str) -> Result<()> {
    let temporary = path.with_extension("new");
    std::fs::write(&temporary, content)?;
    std::fs::rename(&temporary, path)?;
    Ok(())
}
