//! The cost of a managed identity's hit, with the header of the outgoing request.

use std::hint::black_box;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use azure_core::credentials::TokenCredential;
use azure_identity::ManagedIdentityCredential;
use confidential_client::credential::ManagedIdentity;
use confidential_client::{ManagedIdentityClient, TokenProvider};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};

use crate::authority::Authority;
use crate::{Result, SECRET, verdict};

/// Starts this program again on an App Service, whose variables both libraries read.
pub fn report_on_app_service(authority: &Authority) -> Result<()> {
    let mut program = Command::new(std::env::current_exe()?);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let is_of_host = |start: &&str| text.starts_with(start);
        if ["AZURE_", "IDENTITY_", "IMDS_", "MSI_"]
            .iter()
            .any(is_of_host)
        {
            program.env_remove(&name);
        }
    }
    let endpoint = format!("{}/msi/token", authority.base_url);
    let status = program
        .arg("hits-of-this-host")
        .env("IDENTITY_ENDPOINT", endpoint)
        .env("IDENTITY_HEADER", SECRET)
        .env("NO_PROXY", "127.0.0.1")
        .status()?;
    match status.success() {
        true => Ok(()),
        false => Err(format!("the program on App Service ended with {status}").into()),
    }
}

/// The clients of both libraries, with one cached token each.
///
/// No row calls `acquire_token(&request)`: with a second caller, the compiler does not inline the
/// function that `hits` measures.
struct Hits {
    provider: TokenProvider,
    ours: ManagedIdentityClient,
    azure: Arc<dyn TokenCredential>,
}

impl Hits {
    async fn fill() -> Result<Self> {
        let ours = ManagedIdentityClient::new(ManagedIdentity::system_assigned())?;
        let azure = ManagedIdentityCredential::new(None)?;
        ours.acquire_token(SCOPE).await?;
        azure.get_token(&[SCOPE], None).await?;
        let provider = ours.token_provider(SCOPE)?;
        Ok(Self {
            provider,
            ours,
            azure,
        })
    }

    async fn by_provider(&self) -> Result<Duration> {
        let mut headers = HeaderMap::with_capacity(8);
        let started = Instant::now();
        for _ in 0..CALLS {
            self.provider.authorize(black_box(&mut headers)).await?;
        }
        Ok(started.elapsed())
    }

    async fn by_text(&self) -> Result<Duration> {
        let mut headers = HeaderMap::with_capacity(8);
        let started = Instant::now();
        for _ in 0..CALLS {
            let token = self.ours.acquire_token(black_box(SCOPE)).await?;
            black_box(&mut headers).insert(AUTHORIZATION, token.authorization_header());
        }
        Ok(started.elapsed())
    }

    async fn azure_identity(&self) -> Result<Duration> {
        let mut headers = HeaderMap::with_capacity(8);
        let started = Instant::now();
        for _ in 0..CALLS {
            let token = self.azure.get_token(black_box(&[SCOPE]), None).await?;
            let value = format!("Bearer {}", token.token.secret());
            let mut value = HeaderValue::try_from(value)?;
            value.set_sensitive(true);
            black_box(&mut headers).insert(AUTHORIZATION, value);
        }
        Ok(started.elapsed())
    }
}

/// Measures the managed identity that the variables of this process describe.
pub async fn report() -> Result<()> {
    let hits = Hits::fill().await?;
    let mut least = [Duration::MAX; 3];
    for round in 0..ROUNDS {
        // Each row is the first one in its turn.
        for turn in 0..least.len() {
            let row = (round + turn) % least.len();
            let elapsed = match row {
                0 => hits.by_provider().await?,
                1 => hits.by_text().await?,
                _ => hits.azure_identity().await?,
            };
            if let Some(least) = least.get_mut(row) {
                *least = elapsed.min(*least);
            }
        }
    }
    println!(
        "A hit of a managed identity (App Service) with the header built, nanoseconds; least of\n\
         {ROUNDS} rounds of {CALLS}.\n"
    );
    println!("| | ours | `azure_identity` | ratio | goal | verdict |");
    println!("| --- | ---: | ---: | ---: | --- | --- |");
    let [by_provider, by_text, azure] = least.map(|least| least.as_secs_f64() * 1e9 / CALLS as f64);
    for (name, ours) in [
        ("`provider.authorize(..)`", by_provider),
        ("by the scope's text", by_text),
    ] {
        let times = azure / ours;
        println!(
            "| {name} | {ours:.0} | {azure:.0} | {times:.1} | at least 4 | {} |",
            verdict(times >= 4.0)
        );
    }
    println!();
    Ok(())
}

const SCOPE: &str = "https://vault.azure.net/.default";
const CALLS: usize = 10_000;
const ROUNDS: usize = 200;
