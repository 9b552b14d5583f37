//! A daemon that authenticates by the client certificate of its connections, and calls an API with
//! a token that is bound to the certificate (RFC 8705).
//!
//! ```sh
//! cargo run --example mutual_tls
//! ```
//!
//! The identity provider and the API run inside this program, on loopback. The certificate is
//! renewed while the daemon runs.
#![allow(clippy::print_stdout, reason = "an example prints its results")]

use std::path::Path;

use confidential_client::credential::CertificateFile;
use confidential_client::testing::{
    Application, LocalAuthority, ProtectedApi, self_signed_certificate,
};
use confidential_client::transport::MutualTls;
use confidential_client::{Authority, Certificate, ConfidentialClient};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const TENANT: &str = "contoso.onmicrosoft.com";
const CLIENT_ID: &str = "daemon";
const API: &str = "api://orders";

#[tokio::main]
async fn main() -> Result<()> {
    let folder = std::env::temp_dir().join(format!("mutual-tls-{}", std::process::id()));
    std::fs::create_dir(&folder)?;
    let result = run(&folder.join("tls.pem")).await;
    std::fs::remove_dir_all(&folder)?;
    result
}

async fn run(path: &Path) -> Result<()> {
    let local = LocalAuthority::builder().mutual_tls().start().await?;
    let old = self_signed_certificate("daemon")?;
    let new = self_signed_certificate("daemon")?;
    // Both certificates are registered before the renewal.
    let application = Application::new(CLIENT_ID)
        .self_signed_tls_client_auth(Certificate::from_pem(&old)?)
        .self_signed_tls_client_auth(Certificate::from_pem(&new)?);
    local.register(TENANT, application);
    let api = local.protected_api(API).await?;

    replace_file(path, &old)?;
    let ca = local.ca_pem().ok_or("started with mutual_tls()")?;
    let mutual_tls = MutualTls::from(CertificateFile::new(path))
        .trusted_roots_pem(ca)
        // Connects to loopback directly, even if a proxy is configured.
        .reqwest(|| reqwest::Client::builder().no_proxy());
    let issuer = local.issuer(TENANT).ok_or("registered")?;
    let client = ConfidentialClient::builder(CLIENT_ID)
        .authority(Authority::oidc(issuer))
        .self_signed_tls_client_auth(mutual_tls.clone())
        .build()?;

    call(&client, &mutual_tls, &api, "v1.0/orders").await?;

    println!("\nthe certificate is renewed");
    replace_file(path, &new)?;
    // Any token request notices the renewal. A daemon need not send one.
    client
        .acquire_token_for_client("api://other/.default")
        .await?;
    client.cache().clear();
    call(&client, &mutual_tls, &api, "v1.0/orders").await?;

    // Another client has a copy of the token, and not the private key.
    let token = client
        .acquire_token_for_client(format!("{API}/.default"))
        .await?;
    let ca = reqwest::Certificate::from_pem(ca.as_bytes())?;
    let thief = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([ca])
        .build()?;
    let request = thief.get(api.base_url());
    let request = request.header("authorization", token.authorization_header());
    println!(
        "\nthe token without the certificate: {}",
        request.send().await?.status()
    );
    Ok(())
}

/// Calls the API over a connection with the certificate that the token is bound to.
async fn call(
    client: &ConfidentialClient,
    mutual_tls: &MutualTls,
    api: &ProtectedApi,
    path: &str,
) -> Result<()> {
    let token = client
        .acquire_token_for_client(format!("{API}/.default"))
        .await?;
    let http = mutual_tls.client_for(&token).await?;
    let request = http.get(format!("{}/{path}", api.base_url()));
    let response = request
        .header("authorization", token.authorization_header())
        .send()
        .await?;
    let certificate = mutual_tls.certificate().ok_or("used already")?;
    println!("{:<24} {}", "certificate", certificate.thumbprint_sha256());
    println!("{:<24} {}", "token type", token.token_type());
    println!("{path:<24} {}", response.status());
    Ok(())
}

/// Replaces a file atomically. A reader gets the old content or the new content, never a mix.
fn replace_file(path: &Path, content: &str) -> Result<()> {
    let temporary = path.with_extension("new");
    std::fs::write(&temporary, content)?;
    std::fs::rename(&temporary, path)?;
    Ok(())
}
