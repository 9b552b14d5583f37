//! A daemon that acquires a token in each of 2,000 customers' tenants at startup.
//!
//! ```sh
//! cargo run --example multi_tenant
//! ```
//!
//! Each customer of an ISV (independent software vendor) has installed the ISV's application. Some
//! customers did not consent to the application or have deleted the tenant. The identity provider
//! runs inside this program, on loopback. The progress bar appears only on a terminal.
#![allow(clippy::print_stdout, reason = "an example prints its results")]

use std::time::Instant;

use confidential_client::testing::{Application, LocalAuthority};
use confidential_client::{ConfidentialClient, Error, ServerError, TokenRequest, TokenSource};
use indicatif::{ProgressBar, ProgressStyle};
use uuid::Uuid;

const CLIENT_ID: &str = "11111111-2222-3333-4444-555555555555";
const SECRET: &str = "s3cret";
const SCOPE: &str = "https://graph.microsoft.com/.default";
const CUSTOMERS: usize = 2_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let local = LocalAuthority::start().await?;
    let tenants: Vec<_> = (1..=CUSTOMERS).map(tenant_name).collect();
    for tenant in &tenants {
        register_tenant(&local, tenant);
    }
    let client = ConfidentialClient::builder(CLIENT_ID)
        .authority(local.authority("isv.example"))
        .client_secret(SECRET)
        .build()?;

    let request = TokenRequest::new(SCOPE);
    let requests = tenants.iter().map(|tenant| request.clone().tenant(tenant));
    let mut warm_up = client.warm_up(requests).max_concurrent(16);
    let bar = ProgressBar::new(warm_up.remaining().try_into()?);
    bar.set_style(ProgressStyle::with_template(
        "{bar:40} {pos} of {len} tenants, {eta} left",
    )?);
    let started = Instant::now();
    let (mut ready, mut failed) = (Vec::new(), Vec::new());
    while let Some((request, result)) = warm_up.next().await {
        bar.inc(1);
        match result {
            Ok(_) => ready.push(request),
            Err(error) => failed.push((request, error)),
        }
    }
    bar.finish_and_clear();
    println!("warmed up in {:.1} s", started.elapsed().as_secs_f64());
    println!("  {:<16} {}", "tokens", ready.len());
    let token_requests = local.token_requests().len();
    println!("  {:<16} {token_requests}", "token requests");

    println!("\n{} customers cannot be served:", failed.len());
    failed.sort_by(|(a, _), (b, _)| a.tenant_id().cmp(&b.tenant_id()));
    for (request, error) in &failed {
        let tenant = request.tenant_id().unwrap_or_default();
        // The help says what to do. Errors without a response have no help.
        let help = error.server_error().and_then(ServerError::help);
        let message = help.map_or_else(|| error.chain().to_string(), str::to_owned);
        println!("  {tenant:<24} {message}");
        if is_not_installed(error) {
            // Store the state in the administrator's session. The redirect must return the state.
            let state = Uuid::new_v4().to_string();
            let page = client.admin_consent_url(tenant, "https://isv.example/consented", state)?;
            println!("  {:<24} send its administrator to {page}", "");
        }
    }

    // The daemon acquires the token again before each API call. The cache returns the token
    // without a request.
    let started = Instant::now();
    let mut from_cache = 0;
    for request in &ready {
        let token = client.acquire_token_for_client(request).await?;
        if token.source() == TokenSource::Cache {
            from_cache += 1;
        }
    }
    println!(
        "\nacquired again in {:.3} s",
        started.elapsed().as_secs_f64()
    );
    println!("  {:<16} {from_cache}", "from the cache");
    let token_requests = local.token_requests().len();
    println!("  {:<16} {token_requests}", "token requests");
    Ok(())
}

fn tenant_name(number: usize) -> String {
    format!("customer-{number:04}.example")
}

/// Registers one customer's tenant. Most tenants have the application. Three tenants cause the
/// errors that an ISV meets.
fn register_tenant(local: &LocalAuthority, tenant: &str) {
    let application = Application::new(CLIENT_ID).secret(SECRET);
    match tenant {
        // No administrator has consented to the application.
        "customer-0500.example" => local.register(tenant, Application::new("another")),
        // The tenant has the application, but not Microsoft Graph.
        "customer-1000.example" => {
            local.register(tenant, application);
            local.register_resource(tenant, "api://their-own");
        }
        // The tenant was deleted.
        "customer-1500.example" => {}
        _ => local.register(tenant, application),
    }
}

/// Returns whether the application is missing in the tenant (AADSTS700016). An administrator's
/// consent installs the application.
fn is_not_installed(error: &Error) -> bool {
    matches!(error, Error::Server(server) if server.error_codes().contains(&700_016))
}
