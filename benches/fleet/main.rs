//! A fleet's week with a shared cache, simulated.
//!
//! ```sh
//! cargo bench --bench fleet
//! ```
#![allow(clippy::print_stdout, reason = "a benchmark prints its results")]
#![allow(clippy::indexing_slicing, reason = "indices of the simulation's own")]

use std::ops::Range;

use crate::rules::HOUR;
use crate::simulation::{Counts, Fleet, Sharing, Spread, simulate};
use crate::table::{Table, verdict};

mod rules;
mod simulation;
#[path = "../cache/table.rs"]
mod table;

fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    // `cargo test --all-targets` runs this program without `--bench`, as a small check.
    let is_check = std::env::args().all(|argument| argument != "--bench");
    rules::check()?;
    let day = 24.0 * HOUR;
    let fleet = Fleet {
        nodes: if is_check { 50 } else { 1_000 },
        tenants: if is_check { 200 } else { 100_000 },
        calls: if is_check { 500.0 } else { 100_000.0 },
        week: 7.0 * day,
        outage: [2.0 * day + 10.0 * HOUR, 2.0 * day + 11.0 * HOUR],
        throttled: [4.0 * day + 12.0 * HOUR, 4.0 * day + 12.5 * HOUR],
    };
    let at_expiry = simulate(&fleet, Sharing::OneProcessAtExpiry);
    let least = simulate(&fleet, Sharing::OneProcess);
    let alone = simulate(&fleet, Sharing::Nothing);
    let variants = [
        ("the record's time", Spread::None),
        ("later by up to a minute", Spread::Later),
        (
            "later, and postponed in an outage",
            Spread::LaterAndPostponed,
        ),
        ("a jitter of its own", Spread::OwnJitter),
        (
            "later, and a failure replaces the token",
            Spread::LaterWithLostTokens,
        ),
    ]
    .map(|(name, spread)| (name, simulate(&fleet, Sharing::Redis(spread))));
    println!(
        "{} nodes, {} tenants, {} pairs of a node and a tenant, {} calls a second.\n",
        fleet.nodes, fleet.tenants, alone.pairs, fleet.calls
    );
    let shared = &variants[1].1;
    let passed = requests(&fleet, [&at_expiry, &least, shared, &alone]);
    let without = ("without Redis", &alone);
    let variants = variants.iter().map(|(name, counts)| (*name, counts));
    let rows: Vec<_> = std::iter::once(without).chain(variants).collect();
    redis(&fleet, &least, &rows);
    errors(&rows);
    if !passed || shared.withheld + shared.elsewhere > 0 {
        return Err("a goal of the fleet's simulation was missed".into());
    }
    Ok(())
}

/// Prints the requests to the identity provider. Returns `true` if the goal in calm is met.
fn requests(fleet: &Fleet, [at_expiry, least, shared, alone]: [&Counts; 4]) -> bool {
    let mut passed = true;
    let mut table = Table::new([
        "requests to the provider",
        "at expiry",
        "least",
        "with Redis",
        "beside the least",
        "without Redis",
        "beside without",
        "verdict",
    ]);
    let [down, up] = fleet.outage;
    let [slow, fast] = fleet.throttled;
    for (name, windows, goal) in [
        ("the first two hours", vec![0.0..2.0 * HOUR], None),
        (
            "calm, with a deployment a day",
            vec![
                2.0 * HOUR..down,
                up + 2.0 * HOUR..slow,
                fast + 2.0 * HOUR..fleet.week,
            ],
            Some(1.05),
        ),
        ("Redis is down for an hour", vec![down..up], None),
        ("two hours after", vec![up..up + 2.0 * HOUR], None),
        (
            "the provider throttles, half an hour",
            vec![slow..fast],
            None,
        ),
        ("two hours after", vec![fast..fast + 2.0 * HOUR], None),
    ] {
        let [at_expiry, least, shared, alone] = [at_expiry, least, shared, alone].map(|counts| {
            windows
                .iter()
                .map(|window| sum(&counts.requests, window))
                .sum()
        });
        let [ratio, without] = [least, alone].map(|beside: u64| shared as f64 / beside as f64);
        let met = goal.is_none_or(|goal| ratio <= goal) && shared <= alone;
        passed &= met || goal.is_none();
        table.row([
            name.to_owned(),
            u64::to_string(&at_expiry),
            least.to_string(),
            u64::to_string(&shared),
            format!("{ratio:.3}"),
            alone.to_string(),
            format!("{without:.3}"),
            verdict(met),
        ]);
    }
    table.print();
    passed
}

/// Prints the operations of Redis, for each time at which a reader looks again.
fn redis(fleet: &Fleet, least: &Counts, variants: &[(&str, &Counts)]) {
    let mut table = Table::new([
        "a reader looks again at",
        "requests, beside the least",
        "operations a second, mean",
        "99.9 %",
        "most",
        "most for a tenant",
        "mean, lock first",
        "requests a second, most",
        "requests while Redis is down",
    ]);
    let calm = 24.0 * HOUR..36.0 * HOUR;
    for (name, counts) in variants {
        let ratio = sum(&counts.requests, &calm) as f64 / sum(&least.requests, &calm) as f64;
        let mean = |counts| sum(counts, &calm) as f64 / (calm.end - calm.start);
        let mut sorted = counts.operations[7200..fleet.week as usize].to_vec();
        sorted.sort_unstable();
        table.row([
            (*name).to_owned(),
            format!("{ratio:.3}"),
            format!("{:.0}", mean(&counts.operations)),
            sorted[sorted.len() * 999 / 1000].to_string(),
            sorted[sorted.len() - 1].to_string(),
            counts.tenant_peak.to_string(),
            format!("{:.0}", mean(&counts.lock_first)),
            counts.requests[7200..]
                .iter()
                .max()
                .map_or(0, |most| *most)
                .to_string(),
            sum(&counts.requests, &(fleet.outage[0]..fleet.outage[1])).to_string(),
        ]);
    }
    table.print();
}

fn errors(rows: &[(&str, &Counts)]) {
    let mut table = Table::new([
        "callers",
        "with an error",
        "while Redis had a valid token",
        "while another node had one",
        "that waited for the provider",
    ]);
    for (name, counts) in rows {
        table.row([
            (*name).to_owned(),
            counts.errors.to_string(),
            counts.withheld.to_string(),
            counts.elsewhere.to_string(),
            counts.waits.to_string(),
        ]);
    }
    table.print();
}

fn sum(counts: &[u32], window: &Range<f64>) -> u64 {
    let seconds = window.start as usize..window.end as usize;
    counts[seconds].iter().map(|count| u64::from(*count)).sum()
}
