//! A shared cache of your own: tokens and users' sessions in encrypted files.
//!
//! ```sh
//! cargo run --example file_store
//! ```
//!
//! Two clients stand for two processes of one machine. They share an application's token, and a
//! user stays signed in after a restart. `file_store/store.rs` implements `SharedCache`, and
//! `file_store/checks.rs` checks the implementation. Copy the checks to the tests of your own store.
#![allow(clippy::print_stdout, reason = "an example prints its results")]

#[path = "file_store/checks.rs"]
mod checks;
#[path = "file_store/store.rs"]
mod store;

use std::fs;
use std::path::Path;

use confidential_client::cache::{EncryptionKey, SharedCacheOptions};
use confidential_client::delegated::{Account, AuthorizationCodeFlow, AuthorizationRequest};
use confidential_client::testing::{Application, LocalAuthority, User};
use confidential_client::{AccessToken, ConfidentialClient};
use serde::de::DeserializeOwned;

use store::FileStore;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const TENANT: &str = "contoso.onmicrosoft.com";
const CLIENT_ID: &str = "11111111-2222-3333-4444-555555555555";
const REDIRECT_URI: &str = "http://localhost:5000/signed-in";
const ORDERS: &str = "api://orders/.default";
const USER_READ: &str = "https://graph.microsoft.com/User.Read";
const ADELE: &str = "adele@contoso.onmicrosoft.com";

#[tokio::main]
async fn main() -> Result<()> {
    let folder = std::env::temp_dir().join(format!("file-store-{}", std::process::id()));
    let result = run(&folder).await;
    fs::remove_dir_all(&folder)?;
    result
}

async fn run(folder: &Path) -> Result<()> {
    let local = LocalAuthority::start().await?;
    let application = Application::new(CLIENT_ID).secret("s3cret");
    local.register(TENANT, application.redirect_uri(REDIRECT_URI));
    local.register_user(TENANT, User::new(ADELE));
    local.consent(TENANT, CLIENT_ID, ADELE, USER_READ);

    let (first, second) = (client(&local, folder)?, client(&local, folder)?);
    show(
        "first process",
        &first.acquire_token_for_client(ORDERS).await?,
    );
    show(
        "second process",
        &second.acquire_token_for_client(ORDERS).await?,
    );

    // A session of the web app is a file, too. A real app keeps one for each browser.
    let session = folder.join("session");
    let request = AuthorizationRequest::new(REDIRECT_URI, USER_READ);
    let (page, flow) = first.authorization_request_url(&request).await?;
    fs::write(&session, serde_json::to_vec(&flow)?)?;
    let redirected = local.sign_in(&page, ADELE).await?;

    // The redirect may reach the other process.
    let flow: AuthorizationCodeFlow = load(&session)?;
    let user = second
        .acquire_token_by_authorization_code(flow, redirected)
        .await?;
    fs::write(&session, serde_json::to_vec(user.account())?)?;
    drop((first, second));

    println!("\nboth processes are restarted");
    let client = client(&local, folder)?;
    let account: Account = load(&session)?;
    show(
        "the user's token",
        &client.acquire_token_silent(&account, USER_READ).await?,
    );
    show(
        "the application's",
        &client.acquire_token_for_client(ORDERS).await?,
    );
    println!("{:<18} {}", "token requests", local.token_requests().len());

    checks::check(&FileStore::open(folder)?, &FileStore::open(folder)?).await?;
    println!("\nthe store passes the checks");
    Ok(())
}

fn client(local: &LocalAuthority, folder: &Path) -> Result<ConfidentialClient> {
    // A real program reads both keys from a vault. `openssl rand -base64 32` creates such a key.
    let key = EncryptionKey::from_base64("q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA=")?;
    let options = SharedCacheOptions::encrypted("the name key of the example", [key]);
    let client = ConfidentialClient::builder(CLIENT_ID)
        .authority(local.authority(TENANT))
        .client_secret("s3cret")
        .shared_cache(FileStore::open(folder)?, options)
        .build()?;
    Ok(client)
}

fn load<T: DeserializeOwned>(path: &Path) -> Result<T> {
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

fn show(what: &str, token: &AccessToken) {
    println!("{what:<18} token from {}", token.source().as_str());
}
