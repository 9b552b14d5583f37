//! What a token costs that is in memory already, beside the parts it cannot do without:
//!
//! ```sh
//! cargo bench --bench cache
//! cargo bench --bench cache -- --instructions
//! ```
//!
//! All rows take turns, and each figure is that of its best round. See `README.md`.
#![allow(clippy::print_stdout, reason = "it reports to a reader")]

mod bare;
mod callers;
mod hits;
mod instructions;
mod keyed;
mod rounds;
mod setup;
mod table;
mod threads;

use crate::rounds::Rounds;
use crate::setup::Result;
use crate::table::Table;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    // `cargo test --all-targets` runs it too, and is not interested in figures.
    let size = match arguments.contains(&"--bench") {
        true => Size::FULL,
        false => Size::TRIAL,
    };
    match arguments.as_slice() {
        ["--hits", what, calls] => return instructions::run(what, calls.parse()?),
        _ if arguments.contains(&"--instructions") => return instructions::report(),
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    let keyed = keyed::Keyed::fill(size.entries, size.hot, &runtime)?;
    let hits = hits::Hits::new(&runtime)?;
    let threads = threads::Threads::new(&runtime)?;
    let mut bare = bare::Bare::new()?;
    let mut rounds = Rounds::new(size.calls);
    for _ in 0..size.rounds {
        rounds.add("one clock read", |calls| Ok(bare.clock_read(calls)))?;
        rounds.add("two clock reads", |calls| Ok(bare.two_clock_reads(calls)))?;
        rounds.add("`ArcSwap` load", |calls| Ok(bare.load(calls)))?;
        rounds.add("`Arc` clone", |calls| Ok(bare.clone(calls)))?;
        rounds.add("clock read, load and clone in one go", |calls| {
            Ok(bare.together(calls))
        })?;
        rounds.add("`HeaderValue` clone", |calls| Ok(bare.header_clone(calls)))?;
        rounds.add("`HeaderValue` clone and insert", |calls| {
            Ok(bare.header_clone_and_insert(calls))
        })?;
        hits.round(&mut rounds)?;
        keyed.round(&mut rounds)?;
        threads.round(&mut rounds)?;
    }

    println!(
        "Least of {} rounds of {} calls, nanoseconds a call.\n",
        size.rounds, size.calls
    );
    let mut table = Table::new(["bare part", "ns"]);
    for part in [
        "one clock read",
        "two clock reads",
        "`ArcSwap` load",
        "`Arc` clone",
        "clock read, load and clone in one go",
        "`HeaderValue` clone",
        "`HeaderValue` clone and insert",
    ] {
        table.row([part.to_owned(), format!("{:.1}", rounds.ns(part)?)]);
    }
    table.print();
    hits::report(&rounds)?;
    keyed::report(&rounds, size.entries)?;
    threads::report(&rounds)?;
    callers::report(size.callers)
}

/// How much is measured.
struct Size {
    rounds: u32,
    calls: u32,
    entries: usize,
    /// How many of the entries are asked for where a few are.
    hot: usize,
    callers: usize,
}

impl Size {
    const FULL: Self = Self {
        rounds: 400,
        calls: 10_000,
        entries: 100_000,
        hot: 1_000,
        callers: 1_000,
    };
    const TRIAL: Self = Self {
        rounds: 1,
        calls: 1,
        entries: 100,
        hot: 10,
        callers: 100,
    };
}
