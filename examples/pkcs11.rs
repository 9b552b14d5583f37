//! A daemon whose private key stays on a PKCS#11 token, such as an HSM or a smart card.
//!
//! ```sh
//! cargo run --example pkcs11
//! ```
//!
//! By default the token is one of SoftHSM, in a temporary folder, and the identity provider runs
//! inside this program, on loopback. SoftHSM is Debian's package `softhsm2`. Without the package,
//! the program says so and does nothing else. A new key and certificate are put on the token while
//! the daemon runs.
//!
//! With a token of your own, the daemon reads the certificate and makes a signature. With
//! `AZURE_TENANT_ID` and `AZURE_CLIENT_ID`, too, it requests a token from Microsoft Entra ID:
//!
//! ```sh
//! PKCS11_MODULE=/usr/lib/x86_64-linux-gnu/opensc-pkcs11.so PKCS11_TOKEN=daemon \
//!     PKCS11_KEY=signing PKCS11_PIN_FILE=/run/secrets/pin cargo run --example pkcs11
//! ```
#![allow(clippy::print_stdout, reason = "an example prints its results")]

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use confidential_client::adapter::{Pkcs11Key, Pkcs11Token};
use confidential_client::credential::{SecretFile, Signer, SigningAlgorithm};
use confidential_client::testing::{Application, LocalAuthority, self_signed_certificate};
use confidential_client::{Certificate, ConfidentialClient};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::object::{Attribute, CertificateType, ObjectClass};
use cryptoki::session::UserType;
use cryptoki::types::AuthPin;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const SOFTHSM: &str = "/usr/lib/softhsm/libsofthsm2.so";
const PIN: &str = "4815162342";
const CLIENT_ID: &str = "11111111-2222-3333-4444-555555555555";
const TENANT: &str = "contoso.onmicrosoft.com";

#[tokio::main]
async fn main() -> Result<()> {
    if let Some(module) = env::var_os("PKCS11_MODULE") {
        return run_on_token(&module.into()).await;
    }
    if let Some(folder) = env::var_os("SOFTHSM_FOLDER") {
        return run_on_softhsm(Path::new(&folder)).await;
    }
    if !Path::new(SOFTHSM).exists() {
        println!("there is no SoftHSM at {SOFTHSM}: install the Debian package softhsm2");
        return Ok(());
    }
    // SoftHSM reads its configuration from a variable, which a process cannot set for itself.
    let folder = env::temp_dir().join(format!("daemon-token-{}", std::process::id()));
    let tokens = folder.join("tokens");
    std::fs::create_dir_all(&tokens)?;
    let configuration = folder.join("softhsm2.conf");
    std::fs::write(
        &configuration,
        format!("directories.tokendir = {}\n", tokens.display()),
    )?;
    let mut child = Command::new(env::current_exe()?);
    let child = child
        .env("SOFTHSM2_CONF", &configuration)
        .env("SOFTHSM_FOLDER", &folder);
    let status = child.status();
    std::fs::remove_dir_all(&folder)?;
    match status?.success() {
        true => Ok(()),
        false => Err("the daemon failed".into()),
    }
}

/// Uses a token that exists.
async fn run_on_token(module: &PathBuf) -> Result<()> {
    let mut token = Pkcs11Token::new(module);
    if let Ok(label) = env::var("PKCS11_TOKEN") {
        token = token.label(label);
    }
    if let Some(file) = env::var_os("PKCS11_PIN_FILE") {
        token = token.pin_source(SecretFile::new(file));
    }
    let key = token.key(env::var("PKCS11_KEY")?);
    let certificate = key.certificate().await?;
    println!("  subject     {}", certificate.subject());
    println!("  thumbprint  {}", certificate.thumbprint_sha1());
    let signature = Signer::sign(&key, certificate.algorithm(), b"message".to_vec()).await?;
    println!(
        "  signature   {} bytes, {}",
        signature.len(),
        certificate.algorithm()
    );
    if let (Ok(tenant), Ok(client_id)) = (env::var("AZURE_TENANT_ID"), env::var("AZURE_CLIENT_ID"))
    {
        let client = ConfidentialClient::builder(client_id)
            .tenant(tenant)
            .certificate_source(key)
            .build()?;
        acquire(&client, "https://graph.microsoft.com/.default").await?;
    }
    Ok(())
}

/// Creates a token with a key and a certificate, and renews both while the daemon runs.
async fn run_on_softhsm(folder: &Path) -> Result<()> {
    let local = LocalAuthority::start().await?;
    softhsm(&[
        "--init-token",
        "--free",
        "--label",
        "daemon",
        "--so-pin",
        "so-pin",
        "--pin",
        PIN,
    ])?;
    let old = put_on_token(folder, 1)?;
    local.register(TENANT, Application::new(CLIENT_ID).certificate(&old));

    // This is all that a daemon needs.
    let token = Pkcs11Token::new(SOFTHSM).label("daemon").pin(PIN);
    let client = ConfidentialClient::builder(CLIENT_ID)
        .authority(local.authority(TENANT))
        .certificate_source(token.key("signing"))
        .build()?;
    acquire(&client, "https://graph.microsoft.com/.default").await?;

    println!("\na new key and certificate are on the token, and the old ones are deleted");
    let new = put_on_token(folder, 2)?;
    local.register(
        TENANT,
        Application::new(CLIENT_ID)
            .certificate(&old)
            .certificate(&new),
    );
    delete_from_token(1)?;
    acquire(&client, "https://storage.azure.com/.default").await?;
    println!("{:<16} {}", "old thumbprint", old.thumbprint_sha1());
    println!("{:<16} {}", "new thumbprint", new.thumbprint_sha1());

    println!("\nmistakes");
    show(&token.key("sinning")).await;
    show(
        &Pkcs11Token::new(SOFTHSM)
            .label("other")
            .pin(PIN)
            .key("signing"),
    )
    .await;
    println!(
        "\n{:<16} {}",
        "token requests",
        local.token_requests().len()
    );
    Ok(())
}

async fn acquire(client: &ConfidentialClient, scope: &str) -> Result<()> {
    let token = client.acquire_token_for_client(scope).await?;
    println!("token for {scope}, from {:?}", token.source());
    let certificate = client
        .certificate()
        .ok_or("the client does not use a certificate")?;
    println!("  {:<14} {}", "thumbprint", certificate.thumbprint_sha1());
    Ok(())
}

async fn show(key: &Pkcs11Key) {
    if let Err(error) = key.certificate().await {
        println!("  {error}");
    }
}

/// Puts a key and a certificate on the token. In production, the key is generated on the token.
fn put_on_token(folder: &Path, id: u8) -> Result<Certificate> {
    let pem = self_signed_certificate("daemon")?;
    let (certificate, key) = pem.split_at(pem.find("-----BEGIN PRIVATE").unwrap_or(0));
    let file = folder.join("key.pem");
    std::fs::write(&file, key)?;
    let file = file.to_str().ok_or("the folder is not UTF-8")?;
    let id_text = format!("{id:02x}");
    softhsm(&[
        "--import", file, "--token", "daemon", "--pin", PIN, "--label", "signing", "--id", &id_text,
    ])?;
    // As `pkcs11-tool --write-object daemon.der --type cert --id 01 --label signing` does.
    let der = der_of(certificate)?;
    with_session(|session| {
        session.find_objects(&[])?;
        session.create_object(&[
            Attribute::Class(ObjectClass::CERTIFICATE),
            Attribute::CertificateType(CertificateType::X_509),
            Attribute::Token(true),
            Attribute::Label(b"signing".to_vec()),
            Attribute::Id(vec![id]),
            Attribute::Subject(vec![0x30, 0x00]),
            Attribute::Value(der),
        ])?;
        Ok(())
    })?;
    let signer = |_: SigningAlgorithm, _: Vec<u8>| async { Err("only for the thumbprint".into()) };
    Ok(Certificate::from_signer(certificate, signer)?)
}

fn delete_from_token(id: u8) -> Result<()> {
    with_session(|session| {
        for object in session.find_objects(&[Attribute::Id(vec![id])])? {
            session.destroy_object(object)?;
        }
        Ok(())
    })
}

/// Runs an administrator's work with a session of its own.
fn with_session(work: impl FnOnce(&cryptoki::session::Session) -> Result<()>) -> Result<()> {
    let module = Pkcs11::new(SOFTHSM)?;
    // The daemon may have initialized the module.
    let _ = module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK));
    let slots = module.get_slots_with_initialized_token()?;
    let session = module.open_rw_session(*slots.first().ok_or("there is no token")?)?;
    let _ = session.login(UserType::User, Some(&AuthPin::new(PIN.into())));
    work(&session)
}

/// Returns the DER of a certificate in PEM.
fn der_of(pem: &str) -> Result<Vec<u8>> {
    use base64::Engine;
    let lines = pem.lines().filter(|line| !line.starts_with('-'));
    Ok(base64::prelude::BASE64_STANDARD.decode(lines.collect::<String>())?)
}

fn softhsm(arguments: &[&str]) -> Result<()> {
    let output = Command::new("softhsm2-util").args(arguments).output()?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into()),
    }
}
