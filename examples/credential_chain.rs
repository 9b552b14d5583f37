//! One program for Azure and for a developer's machine: the first available credential of a chain
//! issues the tokens.
//!
//! ```sh
//! cargo run --example credential_chain
//! ```
//!
//! The hosts are values, so the program needs neither Azure nor `az`. A real program calls
//! `CredentialChainClient::new(CredentialChain::default())`, and runs on every host.
#![allow(clippy::print_stdout, reason = "an example prints its results")]

use std::time::Duration;

use confidential_client::credential::{
    AzureCli, ChainLink, CredentialChain, HostEnvironment, LinkUnavailable, ManagedIdentity,
};
use confidential_client::testing::{HostKind, LocalManagedIdentity};
use confidential_client::{CredentialChainClient, Error, Secret};

const VAULT: &str = "https://vault.azure.net/.default";
const STORAGE: &str = "https://storage.azure.com/.default";

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let azure = LocalManagedIdentity::start().await?;

    // A host in Azure: the default chain passes the environment and workload identity over.
    let client = CredentialChainClient::builder(CredentialChain::default())
        .environment(azure.environment(HostKind::AppService))
        .build()?;
    client.acquire_token(VAULT).await?;
    println!("App Service: {}", selected(&client));

    // The first winner is kept: its failure selects no other identity.
    azure.assign_system(None);
    let error = client.acquire_token(STORAGE).await.err();
    println!("without the identity: {}", reason(error));

    // A machine without Azure and without `az`: the last link is the program's own.
    let chain = CredentialChain::new()
        .then(ManagedIdentity::system_assigned())
        .then(AzureCli::new())
        .then(ChainLink::from_fn("agent", |scope| async move {
            let token = Secret::from(format!("a token of {scope}"));
            Ok((token, Duration::from_secs(3600)))
        }));
    let client = CredentialChainClient::builder(chain)
        .environment(azure.environment(HostKind::Imds))
        .build()?;
    client.acquire_token(VAULT).await?;
    println!("the machine: {}", selected(&client));

    // Nothing is available: the error has the reason of each link.
    let chain = CredentialChain::new()
        .then(ChainLink::environment())
        .then(AzureCli::new())
        .then(ChainLink::from_fn("agent", |_| async {
            Err(LinkUnavailable::new("no agent runs").into())
        }));
    let client = CredentialChainClient::builder(chain)
        .environment(HostEnvironment::from_fn(|_| None))
        .build()?;
    let error = client.acquire_token(VAULT).await.err();
    println!("no credential: {}", reason(error));
    Ok(())
}

fn selected(client: &CredentialChainClient) -> &str {
    client.selected_link().unwrap_or("nothing")
}

fn reason(error: Option<Error>) -> String {
    error.map_or_else(|| "a token".to_owned(), |error| error.chain().to_string())
}
