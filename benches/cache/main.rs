//! The cost of a cached token, beside the parts that every hit needs.
//!
//! ```sh
//! cargo bench --bench cache
//! cargo bench --bench cache -- --instructions [--check]
//! ```
//!
//! The rows are measured in turns. Each figure is the figure of the best round. See `README.md`.
#![allow(clippy::print_stdout, reason = "a benchmark prints its results")]

mod bare;
mod callers;
mod held;
mod hits;
mod instructions;
mod keyed;
mod options;
mod rounds;
mod setup;
mod table;
mod threads;

use crate::held::Held;
use crate::rounds::Rounds;
use crate::setup::Result;
use crate::table::Table;
use crate::threads::Threads;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    // `cargo test --all-targets` runs this program without `--bench`, as a check without figures.
    let size = match arguments.contains(&"--bench") {
        true => Size::FULL,
        false => Size::CHECK,
    };
    match arguments.as_slice() {
        ["--hits", method, calls] => return instructions::run(method, calls.parse()?),
        _ if arguments.contains(&"--instructions") => {
            return instructions::report(arguments.contains(&"--check"));
        }
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    let keyed = keyed::Keyed::fill(size.entries, size.hot, &runtime)?;
    let hits = hits::Hits::new(&runtime)?;
    let shared = Held::new(options::shared(), &runtime)?;
    let counted = Held::new(options::counted(), &runtime)?;
    let threads = Threads::new(setup::builder(), &runtime)?;
    let counted_threads = Threads::new(options::counted(), &runtime)?;
    let mut bare = bare::Bare::new()?;
    let mut rounds = Rounds::new(size.calls);
    let mut shared_rounds = Rounds::new(size.calls);
    let mut counted_rounds = Rounds::new(size.calls);
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
        shared.round(&mut shared_rounds)?;
        counted.round(&mut counted_rounds)?;
        keyed.round(&mut rounds)?;
        threads.round(&mut rounds)?;
        counted_threads.round(&mut counted_rounds)?;
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
    options::report("a shared cache", Some(1.02), &shared_rounds, &rounds)?;
    options::report("counted hits", None, &counted_rounds, &rounds)?;
    keyed::report(&rounds, size.entries)?;
    threads::report("Two threads at once", &rounds)?;
    threads::report("Two threads at once with counted hits", &counted_rounds)?;
    callers::report(size.callers)
}

/// The numbers of rounds, calls, entries and callers.
struct Size {
    rounds: u32,
    calls: u32,
    entries: usize,
    /// The number of entries in the small set that repeats.
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
    const CHECK: Self = Self {
        rounds: 1,
        calls: 1,
        entries: 100,
        hot: 10,
        callers: 100,
    };
}
