//! Measures the cost of the adapters for a request, beside a token attached by hand.
//!
//! ```sh
//! cargo bench --bench attach
//! cargo bench --bench attach -- --instructions
//! ```
//!
//! Nothing is sent. Each chain ends in a service that responds at once. The rows take turns, and a
//! figure is the best round of a row. A separate round counts the allocations. See `README.md`.
#![allow(clippy::print_stdout, reason = "it reports to a reader")]

use std::alloc::System;
use std::time::{Duration, Instant};

use bytes::Bytes;
use confidential_client::adapter::BearerAuth;
use confidential_client::{ConfidentialClient, TokenProvider};
use http::{Request, Response};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tokio::runtime::Runtime;

mod by_reqwest;
mod by_tonic;
mod by_tower;
mod instructions;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const ORIGIN: &str = "https://graph.microsoft.com";
const USERS: &str = "https://graph.microsoft.com/v1.0/users";
/// The headers of a request with a body, the token's aside.
const HEADERS: [(&str, &str); 3] = [
    ("content-type", "application/json"),
    ("accept", "application/json"),
    ("client-request-id", "11111111-2222-3333-4444-555555555555"),
];
/// The goals for an adapter, beside the token attached by hand.
const MOST_RATIO: f64 = 1.3;
const MOST_ALLOCATIONS: f64 = 2.0;

/// A way to send requests.
struct Row<'a> {
    name: &'a str,
    /// The name of the row with the same request, and the token attached by hand.
    beside: Option<&'a str>,
    /// Sends a number of requests.
    run: &'a dyn Fn(usize) -> Result<()>,
}

fn main() -> Result<()> {
    let arguments: Vec<_> = std::env::args().collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let provider = provider(&runtime)?;
    let auth = BearerAuth::new(provider.clone(), [ORIGIN])?;
    let tower = by_tower::Chains::new(&provider, &auth);
    let reqwest = by_reqwest::Chains::new(&provider, &auth);
    let tonic = by_tonic::Chains::new(&provider, &auth)?;
    macro_rules! row {
        ($name:expr, $beside:expr, $run:expr) => {
            Row {
                name: $name,
                beside: $beside,
                run: &|calls| runtime.block_on($run(calls)),
            }
        };
    }
    let rows = [
        row!("tower, no token", None, |n| tower.no_token(n)),
        row!("tower, by hand", None, |n| tower.by_hand(n)),
        row!("tower, `BearerAuthLayer`", Some("tower, by hand"), |n| {
            tower.layer(n)
        }),
        row!(
            "tower, `BearerAuthLayer` without retries",
            Some("tower, by hand"),
            |n| tower.layer_without_retries(n)
        ),
        row!("tower with a body, by hand", None, |n| tower
            .body_by_hand(n)),
        row!(
            "tower with a body, `BearerAuthLayer`",
            Some("tower with a body, by hand"),
            |n| tower.body_by_layer(n)
        ),
        row!("reqwest-middleware, by hand", None, |n| reqwest.by_hand(n)),
        row!(
            "reqwest-middleware, `BearerAuth`",
            Some("reqwest-middleware, by hand"),
            |n| reqwest.middleware(n)
        ),
        row!("reqwest-middleware with a body, by hand", None, |n| reqwest
            .body_by_hand(n)),
        row!(
            "reqwest-middleware with a body, `BearerAuth`",
            Some("reqwest-middleware with a body, by hand"),
            |n| reqwest.body_by_middleware(n)
        ),
        row!("tonic, by hand", None, |n| tonic.by_hand(n)),
        row!("tonic, `BearerAuthLayer`", Some("tonic, by hand"), |n| {
            tonic.layer(n)
        }),
    ];
    if let [_, flag, row, calls, ..] = &arguments[..]
        && flag == instructions::FLAG
    {
        let row = rows.get(row.parse::<usize>()?).ok_or("no such row")?;
        return (row.run)(calls.parse()?);
    }
    if arguments
        .iter()
        .any(|argument| argument == "--instructions")
    {
        return instructions::report(&rows);
    }
    // `cargo test` runs the benchmark, too, and needs no figures.
    let (rounds, calls) = match arguments.iter().any(|argument| argument == "--bench") {
        true => (200, 2_000),
        false => (2, 10),
    };
    report(&rows, rounds, calls)
}

fn report(rows: &[Row<'_>], rounds: usize, calls: usize) -> Result<()> {
    let mut best = vec![Duration::MAX; rows.len()];
    for _ in 0..rounds {
        for (row, best) in rows.iter().zip(&mut best) {
            let began = Instant::now();
            (row.run)(calls)?;
            *best = began.elapsed().min(*best);
        }
    }
    let mut figures = Vec::new();
    for (row, best) in rows.iter().zip(best) {
        let region = Region::new(ALLOCATOR);
        (row.run)(calls)?;
        let allocations = region.change().allocations as f64 / calls as f64;
        let ns = best.as_nanos() as f64 / calls as f64;
        figures.push((row, ns, allocations));
    }
    println!("Least of {rounds} rounds of {calls} calls.\n");
    println!(
        "| a request | ns | ratio, goal {MOST_RATIO} | allocations | more, goal {MOST_ALLOCATIONS} | verdict |"
    );
    println!("| --- | ---: | ---: | ---: | ---: | --- |");
    for (row, ns, allocations) in &figures {
        let by_hand = figures
            .iter()
            .find(|(other, ..)| Some(other.name) == row.beside);
        let name = row.name;
        match by_hand {
            None => println!("| {name} | {ns:.0} | | {allocations:.1} | | |"),
            Some((_, ns_by_hand, allocations_by_hand)) => {
                let (ratio, more) = (ns / ns_by_hand, allocations - allocations_by_hand);
                let verdict = match ratio <= MOST_RATIO && more <= MOST_ALLOCATIONS {
                    true => "met",
                    false => "**missed**",
                };
                println!(
                    "| {name} | {ns:.0} | {ratio:.2} | {allocations:.1} | {more:.1} | {verdict} |"
                );
            }
        }
    }
    Ok(())
}

/// The body of a request as serde_json returns one: with spare capacity.
fn body() -> Vec<u8> {
    let mut body = Vec::with_capacity(128);
    body.extend_from_slice(br#"{"accountEnabled":true,"displayName":"Adele Vance"}"#);
    body
}

fn provider(runtime: &Runtime) -> Result<TokenProvider> {
    let client = ConfidentialClient::builder("11111111-2222-3333-4444-555555555555")
        .tenant("contoso.onmicrosoft.com")
        .client_secret("s3cret")
        .transport(|_: Request<Bytes>| async {
            // The length of a token of Microsoft Entra ID.
            let token = "x".repeat(1_492);
            let body =
                format!(r#"{{"token_type":"Bearer","expires_in":86399,"access_token":"{token}"}}"#);
            Ok(Response::new(Bytes::from(body)))
        })
        .build()?;
    let provider = client.token_provider(format!("{ORIGIN}/.default"))?;
    runtime.block_on(provider.token())?;
    Ok(provider)
}
