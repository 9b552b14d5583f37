//! A `LocalAuthority` on a fixed port, for programs in other languages and for curl.
//!
//! ```sh
//! cargo run --example local_authority -- 8400
//! ```
//!
//! Then, in another terminal:
//!
//! ```sh
//! curl -d grant_type=client_credentials -d client_id=11111111-2222-3333-4444-555555555555 \
//!      -d client_secret=s3cret -d scope=https://graph.microsoft.com/.default \
//!      http://127.0.0.1:8400/contoso.onmicrosoft.com/oauth2/v2.0/token
//! curl http://127.0.0.1:8400/contoso.onmicrosoft.com/discovery/v2.0/keys
//! curl http://127.0.0.1:8400/contoso.onmicrosoft.com/v2.0/.well-known/openid-configuration
//! ```
//!
//! The authorization request of a web app opens the sign-in page for users:
//!
//! ```text
//! http://127.0.0.1:8400/contoso.onmicrosoft.com/oauth2/v2.0/authorize?client_id=11111111-2222-3333-4444-555555555555&response_type=code&scope=openid+api://drive/Files.Read&redirect_uri=http://localhost:5000/signed-in
//! ```
//!
//! With a folder as the second argument, the program serves https. The program then writes two
//! files into the folder. `ca.pem` is the CA certificate to trust. `daemon.pem` is a certificate
//! and key for client authentication.
//!
//! ```sh
//! cargo run --example local_authority -- 8400 /tmp/authority
//! curl --cacert /tmp/authority/ca.pem https://127.0.0.1:8400/contoso.onmicrosoft.com/discovery/v2.0/keys
//! ```
//!
//! A third argument chooses the rules: `entra`, which is the default, `openid` or `fapi2`.
#![allow(clippy::print_stdout, reason = "an example prints its results")]

use std::path::Path;

use confidential_client::Certificate;
use confidential_client::testing::{
    Application, LocalAuthority, ProviderRules, User, self_signed_certificate,
};

const TENANT: &str = "contoso.onmicrosoft.com";
const CLIENT_ID: &str = "11111111-2222-3333-4444-555555555555";
const DRIVE_ID: &str = "66666666-7777-8888-9999-000000000000";
const REDIRECT_URI: &str = "http://localhost:5000/signed-in";

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let port = arguments.next().unwrap_or_else(|| "8400".to_owned());
    let folder = arguments.next();
    let rules = match arguments.next().as_deref() {
        None | Some("entra") => ProviderRules::entra(),
        Some("openid") => ProviderRules::openid(),
        Some("fapi2") => ProviderRules::fapi2(),
        Some(other) => return Err(format!("'{other}' is not entra, openid or fapi2").into()),
    };

    let mut builder = LocalAuthority::builder().port(port.parse()?).rules(rules);
    if folder.is_some() {
        builder = builder.tls();
    }
    let local = builder.start().await?;

    let pem = self_signed_certificate("daemon")?;
    let certificate = Certificate::from_pem(&pem)?;
    local.register(
        TENANT,
        Application::new(CLIENT_ID)
            .secret("s3cret")
            .certificate(&certificate)
            .role("https://graph.microsoft.com", "User.Read.All")
            .redirect_uri(REDIRECT_URI)
            .delegated("api://drive", "Files.Read"),
    );
    local.register(
        TENANT,
        Application::new(DRIVE_ID)
            .secret("s3cret")
            .publishes("api://drive", ["Files.Read", "Files.Write"])
            .access_token_version(2),
    );
    let adele = User::new("adele@contoso.onmicrosoft.com").name("Adele Vance");
    local.register_user(TENANT, adele);
    let grady = User::new("grady@contoso.onmicrosoft.com").name("Grady Archie");
    local.register_user(TENANT, grady);
    local.admin_consent(TENANT, DRIVE_ID, "https://graph.microsoft.com/User.Read");

    if let (Some(folder), Some(ca_pem)) = (&folder, local.ca_pem()) {
        std::fs::create_dir_all(folder)?;
        std::fs::write(Path::new(folder).join("ca.pem"), ca_pem)?;
        std::fs::write(Path::new(folder).join("daemon.pem"), &pem)?;
        println!("{:<12} ca.pem, daemon.pem in {folder}", "certificates");
    }
    println!("{:<12} {}/{TENANT}", "authority", local.base_url());
    println!("{:<12} {CLIENT_ID}, secret s3cret", "application");
    println!("{:<12} {REDIRECT_URI}", "redirect URI");
    println!("{:<12} {DRIVE_ID}, secret s3cret, api://drive", "web API");
    println!("{:<12} until Ctrl-C stops the program", "serving");
    std::future::pending().await
}
