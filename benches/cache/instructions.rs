//! The instructions of a hit, counted by callgrind.
//!
//! The figure is the difference between a run with many hits and a run with few hits. Callgrind
//! does not count the kernel's instructions, so a clock read counts as almost nothing.

use std::hint::black_box;
use std::process::Command;

use confidential_client::TokenRequest;
use confidential_client::blocking::ConfidentialClient;
use http::HeaderMap;

use crate::keyed::shuffle;
use crate::options;
use crate::setup::{self, Result, SCOPE};
use crate::table::{Table, verdict};

/// Runs this program under callgrind for each row.
///
/// With `is_check`, a count that is more than 5 % from the expected one is an error, so that a
/// slower hit is noticed on a busy machine, too.
pub(crate) fn report(is_check: bool) -> Result<()> {
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("valgrind is not installed, so no instructions are counted");
        return match is_check {
            true => Err("the instructions cannot be checked".into()),
            false => Ok(()),
        };
    }
    let mut table = Table::new([
        "hit",
        "instructions",
        "expected",
        "ratio",
        "goal",
        "verdict",
    ]);
    let mut unexpected = Vec::new();
    for (name, method, expected) in ROWS {
        let counted = instructions_of(method)?;
        let ratio = counted / expected;
        let is_expected = (0.95..=1.05).contains(&ratio);
        if !is_expected {
            unexpected.push(format!("{name}: {counted:.0} instead of {expected}"));
        }
        table.row([
            name.to_owned(),
            format!("{counted:.0}"),
            expected.to_string(),
            format!("{ratio:.3}"),
            "0.95 to 1.05".to_owned(),
            verdict(is_expected),
        ]);
    }
    table.print();
    match is_check && !unexpected.is_empty() {
        true => Err(unexpected.join(", ").into()),
        false => Ok(()),
    }
}

fn instructions_of(method: &str) -> Result<f64> {
    let few = count(method, FEW)?;
    let many = count(method, FEW + MORE)?;
    Ok((many - few) / f64::from(MORE))
}

fn count(method: &str, calls: u32) -> Result<f64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args(["--hits", method, &calls.to_string()])
        .output()?;
    let report = String::from_utf8_lossy(&output.stderr);
    let collected = report
        .lines()
        .find_map(|line| line.split_once("Collected : "));
    let (_, collected) = collected.ok_or_else(|| format!("callgrind failed: {report}"))?;
    Ok(collected.trim().parse()?)
}

/// Runs the hits under callgrind. `method` is a method of the provider, or the number of cached
/// entries.
pub(crate) fn run(method: &str, calls: u32) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    let (builder, method) = match method.split_once('-') {
        Some(("shared", method)) => (options::shared(), method),
        Some(("counted", method)) => (options::counted(), method),
        _ => (setup::builder(), method),
    };
    let client = builder.build()?;
    if let Some(method) = method.strip_prefix("blocking-") {
        return run_blocking(&client.into(), method, calls);
    }
    runtime.block_on(async {
        let entries = method.parse().unwrap_or(0);
        let mut requests: Vec<_> = (0..entries).map(setup::request).collect();
        for request in &requests {
            // Creates the entry without a token. Under callgrind, 100,000 tokens take minutes.
            client.token_provider(request)?;
        }
        shuffle(&mut requests);
        requests.truncate(WITH_TOKEN);
        for request in &requests {
            client.acquire_token_for_client(request).await?;
        }
        let provider = client.token_provider(SCOPE)?;
        provider.token().await?;
        match method {
            "cached" => {
                for _ in 0..calls {
                    black_box(black_box(&provider).cached());
                }
            }
            "token" => {
                for _ in 0..calls {
                    black_box(black_box(&provider).token().await?);
                }
            }
            "authorize" => {
                let mut headers = HeaderMap::with_capacity(8);
                for _ in 0..calls {
                    black_box(&provider).authorize(&mut headers).await?;
                }
            }
            "scope" => {
                for _ in 0..calls {
                    let scope = black_box(SCOPE);
                    black_box(client.acquire_token_for_client(scope).await?);
                }
            }
            _ => {
                for request in requests.iter().cycle().take(calls as usize) {
                    black_box(client.acquire_token_for_client(request).await?);
                }
            }
        }
        Ok(())
    })
}

/// Runs the hits of a blocking client.
fn run_blocking(client: &ConfidentialClient, method: &str, calls: u32) -> Result<()> {
    let request = TokenRequest::new(SCOPE);
    client.acquire_token_for_client(&request)?;
    let provider = client.token_provider(&request)?;
    match method {
        "token" => {
            for _ in 0..calls {
                black_box(black_box(&provider).token()?);
            }
        }
        "authorize" => {
            let mut headers = HeaderMap::with_capacity(8);
            for _ in 0..calls {
                black_box(&provider).authorize(&mut headers)?;
            }
        }
        "scope" => {
            client.acquire_token_for_client(SCOPE)?;
            for _ in 0..calls {
                let scope = black_box(SCOPE);
                black_box(client.acquire_token_for_client(scope)?);
            }
        }
        _ => {
            for _ in 0..calls {
                let request = black_box(&request);
                black_box(client.acquire_token_for_client(request)?);
            }
        }
    }
    Ok(())
}

/// Each hit with its instructions at the last change of this table. After a change that is meant,
/// or with another compiler, write the new counts here.
const ROWS: [(&str, &str, f64); 16] = [
    ("`provider.cached()`", "cached", 219.0),
    ("`provider.token().await`", "token", 256.0),
    (
        "`provider.authorize(&mut headers).await`",
        "authorize",
        464.0,
    ),
    ("by the scope's text", "scope", 744.0),
    ("by `&request`, the only one", "1", 358.0),
    ("by `&request`, among 100,000", "100000", 350.0),
    (
        "`provider.token().await` with a shared cache",
        "shared-token",
        256.0,
    ),
    (
        "by `&request`, the only one, with a shared cache",
        "shared-1",
        358.0,
    ),
    ("`provider.token()`, blocking", "blocking-token", 221.0),
    (
        "`provider.authorize(&mut headers)`, blocking",
        "blocking-authorize",
        523.0,
    ),
    ("by the scope's text, blocking", "blocking-scope", 714.0),
    ("by `&request`, the only one, blocking", "blocking-1", 294.0),
    ("`provider.cached()`, counted", "counted-cached", 228.0),
    ("`provider.token().await`, counted", "counted-token", 264.0),
    ("by the scope's text, counted", "counted-scope", 753.0),
    ("by `&request`, the only one, counted", "counted-1", 366.0),
];
const FEW: u32 = 1_000;
const MORE: u32 = 50_000;
const WITH_TOKEN: usize = 1_000;
