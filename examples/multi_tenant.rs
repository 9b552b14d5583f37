//! An ISV's daemon starts: one application, installed in the tenants of 2,000 customers, gets its
//! token for each of them before the work begins:
//!
//! ```sh
//! cargo run --example multi_tenant
//! ```
//!
//! The identity provider runs inside this program, on loopback. A few customers have not consented,
//! or are gone. The progress bar is drawn on a terminal alone.
#![allow(clippy::print_stdout, reason = "it reports to a reader")]

use std::time::Instant;

use confidential_client::testing::{Application, LocalAuthority};
use confidential_client::{ConfidentialClient, Error, TokenRequest, TokenSource};
use indicatif::{ProgressBar, ProgressStyle};
use uuid::Uuid;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const CLIENT_ID: &str = "11111111-2222-3333-4444-555555555555";
const SECRET: &str = "s3cret";
const SCOPE: &str = "https://graph.microsoft.com/.default";
const CUSTOMERS: usize = 2_000;

#[tokio::main]
async fn main() -> Result<()> {
    let local = LocalAuthority::start().await?;
    let tenants: Vec<_> = (1..=CUSTOMERS).map(tenant).collect();
    for tenant in &tenants {
        register(&local, tenant);
    }
    let client = ConfidentialClient::builder(CLIENT_ID)
        .authority(local.authority("isv.example"))
        .client_secret(SECRET)
        .build()?;

    let graph = TokenRequest::new(SCOPE);
    let requests = tenants.iter().map(|name| graph.clone().tenant(name));
    let mut warm_up = client.warm_up(requests).max_concurrent(16);
    let bar = ProgressBar::new(warm_up.remaining().try_into()?);
    bar.set_style(ProgressStyle::with_template(
        "{bar:40} {pos} of {len} tenants, {eta} left",
    )?);
    let began = Instant::now();
    let (mut ready, mut failed) = (Vec::new(), Vec::new());
    while let Some((request, result)) = warm_up.next().await {
        bar.inc(1);
        match result {
            Ok(_) => ready.push(request),
            Err(error) => failed.push((request, error)),
        }
    }
    bar.finish_and_clear();
    println!("warmed up in {:.1} s", began.elapsed().as_secs_f64());
    println!("  {:<16} {}", "tokens", ready.len());
    println!(
        "  {:<16} {}",
        "token requests",
        local.token_requests().len()
    );

    println!("\n{} customers cannot be served:", failed.len());
    failed.sort_by(|(a, _), (b, _)| a.tenant_id().cmp(&b.tenant_id()));
    for (request, error) in &failed {
        let tenant = request.tenant_id().unwrap_or_default();
        println!("  {tenant:<24} {}", in_plain_words(error));
        if is_not_installed(error) {
            // Kept in the session of whoever is sent there, to be compared with what comes back.
            let state = Uuid::new_v4().to_string();
            let page = client.admin_consent_url(tenant, "https://isv.example/consented", state)?;
            println!("  {:<24} send its administrator to {page}", "");
        }
    }

    // The work of the daemon: it asks before every call, and no longer waits for a network.
    let began = Instant::now();
    let mut from_cache = 0;
    for request in &ready {
        let token = client.acquire_token_for_client(request).await?;
        from_cache += usize::from(token.source() == TokenSource::Cache);
    }
    println!("\nasked again in {:.3} s", began.elapsed().as_secs_f64());
    println!("  {:<16} {from_cache}", "from the cache");
    println!(
        "  {:<16} {}",
        "token requests",
        local.token_requests().len()
    );
    Ok(())
}

fn tenant(number: usize) -> String {
    format!("customer-{number:04}.example")
}

/// A customer's tenant. Most have installed the application; every 500th is one of those that an
/// ISV meets as well.
fn register(local: &LocalAuthority, name: &str) {
    let application = Application::new(CLIENT_ID).secret(SECRET);
    match name {
        // Nobody there has consented to the application yet.
        "customer-0500.example" => local.register(name, Application::new("another")),
        // The application was installed where Microsoft Graph is not.
        "customer-1000.example" => {
            local.register(name, application);
            local.register_resource(name, "api://their-own");
        }
        // The tenant was deleted.
        "customer-1500.example" => {}
        _ => local.register(name, application),
    }
}

/// Whether an administrator's consent would help: AADSTS700016, the application is not there.
fn is_not_installed(error: &Error) -> bool {
    matches!(error, Error::Server(refusal) if refusal.error_codes().contains(&700_016))
}

/// What to do about it, for those who look after the customers.
fn in_plain_words(error: &Error) -> String {
    match error {
        Error::Server(refusal) => match refusal.help() {
            Some(help) => help.to_owned(),
            None => refusal.to_string(),
        },
        other => other.chain().to_string(),
    }
}
