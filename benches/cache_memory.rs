//! The memory of the cached tokens, and the allocations of a hit.
//!
//! ```sh
//! cargo bench --bench cache_memory
//! ```
//!
//! This program has an allocator that counts. The timed benchmarks are in other programs with the
//! system's allocator. See `README.md`.
#![allow(clippy::print_stdout, reason = "a benchmark prints its results")]

use std::alloc::System;
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use confidential_client::delegated::{UserAssertion, UserIdentifier};
use confidential_client::{CacheOptions, TokenRequest};
use http::HeaderMap;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tokio::runtime::Runtime;

use crate::setup::{Result, SCOPE, TOKEN_BYTES};
use crate::table::{Table, verdict};

#[path = "cache/setup.rs"]
mod setup;
#[path = "cache/table.rs"]
mod table;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() -> Result<()> {
    // `cargo test --all-targets` runs this program without `--bench`, as a check without figures.
    let is_check = std::env::args().all(|argument| argument != "--bench");
    let [calls, entries, tenants] = match is_check {
        true => [10, 100, 1_000],
        false => [10_000, 10_000, 1_000_000],
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    hits(calls, &runtime)?;
    entry(entries, &runtime)?;
    agents(entries / 2, &runtime)?;
    bound(entries, tenants, &runtime)
}

/// Counts the allocations of a hit with each method.
fn hits(calls: usize, runtime: &Runtime) -> Result<()> {
    let client = setup::builder().build()?;
    let request = TokenRequest::new(SCOPE);
    let tenant_request = setup::request(0);
    let provider = client.token_provider(&request)?;
    let user_token = setup::user_token();
    let assertion = UserAssertion::new(&user_token);
    let mut headers = HeaderMap::with_capacity(8);
    let mut table = Table::new(["hit", "allocations", "bytes", "goal", "verdict"]);
    let mut row = |name: &str, goal: Option<f64>, region: &Region<'_, System>| {
        let change = region.change();
        let each = (change.allocations + change.reallocations) as f64 / calls as f64;
        table.row([
            name.to_owned(),
            each.to_string(),
            (change.bytes_allocated / calls).to_string(),
            goal.map_or_else(String::new, |goal| goal.to_string()),
            goal.map_or_else(String::new, |goal| verdict(each <= goal)),
        ]);
    };
    runtime.block_on(async {
        provider.token().await?;
        client.acquire_token_for_client(&tenant_request).await?;
        provider.authorize(&mut headers).await?;
        client.acquire_token_for_client(SCOPE).await?;
        client
            .acquire_token_on_behalf_of(&assertion, &request)
            .await?;

        let region = Region::new(ALLOCATOR);
        for _ in 0..calls {
            black_box(provider.cached());
        }
        row("`provider.cached()`", Some(0.0), &region);
        let region = Region::new(ALLOCATOR);
        for _ in 0..calls {
            black_box(provider.token().await?);
        }
        row("`provider.token().await`", Some(0.0), &region);
        let region = Region::new(ALLOCATOR);
        for _ in 0..calls {
            provider.authorize(&mut headers).await?;
        }
        row(
            "`provider.authorize(&mut headers).await`",
            Some(0.0),
            &region,
        );
        let region = Region::new(ALLOCATOR);
        for _ in 0..calls {
            black_box(client.acquire_token_for_client(&request).await?);
        }
        row("by `&request`", Some(0.0), &region);
        let region = Region::new(ALLOCATOR);
        for _ in 0..calls {
            black_box(client.acquire_token_for_client(&tenant_request).await?);
        }
        row("by `&request` in another tenant", Some(0.0), &region);
        let region = Region::new(ALLOCATOR);
        for _ in 0..calls {
            black_box(client.acquire_token_for_client(SCOPE).await?);
        }
        row("by `&str`", Some(0.0), &region);
        let region = Region::new(ALLOCATOR);
        for _ in 0..calls {
            black_box(
                client
                    .acquire_token_on_behalf_of(&assertion, &request)
                    .await?,
            );
        }
        row(
            "on behalf of, by `&assertion` and `&request`",
            Some(0.0),
            &region,
        );
        let region = Region::new(ALLOCATOR);
        for _ in 0..calls {
            let assertion = UserAssertion::new(&user_token);
            black_box(
                client
                    .acquire_token_on_behalf_of(&assertion, &request)
                    .await?,
            );
        }
        row("the same with `UserAssertion::new(..)`", None, &region);
        Result::Ok(())
    })?;
    table.print();
    Ok(())
}

/// Measures the memory of one entry beside the token's own bytes.
fn entry(entries: usize, runtime: &Runtime) -> Result<()> {
    let client = setup::builder().build()?;
    let region = Region::new(ALLOCATOR);
    let resident = resident();
    runtime.block_on(async {
        for tenant in 0..entries {
            client
                .acquire_token_for_client(setup::request(tenant))
                .await?;
        }
        Result::Ok(())
    })?;
    let beside = live(&region) as f64 / entries as f64 - TOKEN_BYTES as f64;
    let resident = self::resident().saturating_sub(resident) as f64 / entries as f64;
    let mut table = Table::new(["memory of an entry", "bytes", "goal", "verdict"]);
    table.row([
        format!("live heap beside the token's {TOKEN_BYTES}, of {entries}"),
        format!("{beside:.0}"),
        "at most 300".to_owned(),
        verdict(beside <= 300.0),
    ]);
    table.row([
        "resident, the token's included".to_owned(),
        format!("{resident:.0}"),
        String::new(),
        String::new(),
    ]);
    table.print();
    Ok(())
}

/// Measures the memory of an agent identity in the blueprint's cache, beside the tokens' own bytes.
fn agents(agents: usize, runtime: &Runtime) -> Result<()> {
    let mut table = Table::new(["memory of an agent identity", "entries", "bytes"]);
    let user = UserIdentifier::object_id("4f2b3e1a-0000-0000-0000-000000000001");
    for (name, tokens) in [
        ("app-only: T1 and the token", 2),
        ("as a user: T1, T2, the token", 3),
    ] {
        let issued = AtomicU64::new(0);
        let transport = move |_: http::Request<Bytes>| {
            let body = jwt_response(issued.fetch_add(1, Ordering::Relaxed));
            async { Ok(http::Response::new(body)) }
        };
        let client = setup::bare_builder().transport(transport).build()?;
        let region = Region::new(ALLOCATOR);
        let acquiring = async {
            for number in 0..agents {
                let id = format!("f47ac10b-58cc-4372-a567-{number:012}");
                let agent = client.agent_identity(id)?;
                match tokens {
                    2 => agent.acquire_token_for_client(SCOPE).await?,
                    _ => agent.acquire_token_by_user_fic(&user, SCOPE).await?,
                };
            }
            Result::Ok(())
        };
        runtime.block_on(acquiring)?;
        let entries = client.cache().len() / agents;
        let beside = live(&region) as f64 / agents as f64 - (entries * TOKEN_BYTES) as f64;
        table.row([
            format!("{name}, beside the tokens' {TOKEN_BYTES} each, of {agents}"),
            entries.to_string(),
            format!("{beside:.0}"),
        ]);
    }
    table.print();
    Ok(())
}

/// Returns the response with a JWT as long as Entra's tokens, since T1 and T2 must be JWTs.
fn jwt_response(number: u64) -> Bytes {
    // The rest is the header, the dots, the signature and the member's name.
    let width = (TOKEN_BYTES - 26) * 3 / 4 - 10;
    let claims = BASE64_URL_SAFE_NO_PAD.encode(format!(r#"{{"jti":"{number:0>width$}"}}"#));
    let token = format!("eyJhbGciOiJSUzI1NiJ9.{claims}.c2ln");
    let body = format!(r#"{{"token_type":"Bearer","expires_in":3599,"access_token":"{token}"}}"#);
    Bytes::from(body)
}

/// Measures the memory of a cache with far more tenants than the cache's limit.
fn bound(max: usize, tenants: usize, runtime: &Runtime) -> Result<()> {
    let region = Region::new(ALLOCATOR);
    let client = setup::builder()
        .cache(CacheOptions::default().max_entries(max))
        .build()?;
    let mut table = Table::new([
        "a cache bounded",
        "entries",
        "live heap, MB",
        "resident, MB",
    ]);
    let mut row = |when: String| {
        table.row([
            when,
            client.cache().len().to_string(),
            format!("{:.1}", live(&region) as f64 / 1e6),
            format!("{:.1}", resident() as f64 / 1e6),
        ]);
    };
    let fill = async |from: usize, to: usize| {
        for tenant in from..to {
            let request = setup::request(tenant);
            client.acquire_token_for_client(request).await?;
            if client.cache().len() > max {
                return Err("the cache exceeded its limit".into());
            }
        }
        Result::Ok(())
    };
    row("empty".to_owned());
    runtime.block_on(fill(0, max))?;
    row(format!("after {max} tenants"));
    runtime.block_on(fill(max, tenants))?;
    row(format!("after {tenants} tenants, never above"));
    client.cache().clear();
    row("after `clear()`".to_owned());
    table.print();
    Ok(())
}

/// Returns the bytes that were allocated in the region and not freed.
fn live(region: &Region<'_, System>) -> usize {
    let change = region.change();
    change
        .bytes_allocated
        .saturating_sub(change.bytes_deallocated)
}

/// Returns the resident memory of the process on Linux, and 0 on other systems.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
    1024 * kilobytes.unwrap_or(0)
}
