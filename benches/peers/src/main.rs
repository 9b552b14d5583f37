//! This crate beside `azure_identity` and `oauth2`, in one process with one authority on loopback.
//!
//! ```sh
//! cargo run --release --manifest-path benches/peers/Cargo.toml
//! ```
//!
//! See `../README.md`.

mod authority;
mod clients;
mod cold;
mod cpu;
mod first_token;
mod hits;
mod managed_identity;
mod tenants;

use authority::Authority;
use tokio::runtime::{Builder, Runtime};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["serve"] => return authority::serve_at_once(),
        ["serve-http2"] => return authority::serve_http2(),
        ["serve-tls", ca] => return authority::serve_with_tls(ca),
        ["first-token", programs @ ..] => return first_token::report(programs),
        ["tenants"] => return tenants::report(),
        ["hits"] => return report_hits(&Authority::start(&["serve"])?),
        ["managed-identity"] => {
            return managed_identity::report_on_app_service(&Authority::start(&["serve"])?);
        }
        ["hits-of-this-host"] => {
            return current_thread()?.block_on(managed_identity::report());
        }
        ["cold"] => return cold::report(&Authority::start(&["serve"])?.base_url),
        ["profile", kind, library, tokens] => {
            let authority = Authority::start(&["serve"])?;
            return cold::profile(&authority.base_url, kind, library, tokens);
        }
        _ => {}
    }
    let authority = Authority::start(&["serve"])?;
    cold::report(&authority.base_url)?;
    tenants::report()?;
    report_hits(&authority)?;
    managed_identity::report_on_app_service(&authority)
}

fn report_hits(authority: &Authority) -> Result<()> {
    current_thread()?.block_on(hits::report(&authority.base_url))
}

fn current_thread() -> Result<Runtime> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

/// Shuffles the items into the same order at each run.
fn shuffle<T>(items: &mut [T]) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for end in (1..items.len()).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        items.swap(end, (state % (end as u64 + 1)) as usize);
    }
}

fn verdict(met: bool) -> &'static str {
    match met {
        true => "met",
        false => "**missed**",
    }
}

const TENANT: &str = "contoso.onmicrosoft.com";
const CLIENT_ID: &str = "11111111-2222-3333-4444-555555555555";
const SECRET: &str = "s3cret";
