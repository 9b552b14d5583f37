//! The cost of a miss with a shared cache, beside a miss without one.
//!
//! ```sh
//! cargo bench --bench shared_cache
//! cargo bench --bench shared_cache -- --instructions
//! ```
//!
//! The identity provider and the store are in memory and respond at once, so that the figures are
//! the crate's own cost. The rows are measured in turns. See `README.md`.
#![allow(clippy::print_stdout, reason = "a benchmark prints its results")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use confidential_client::cache::{
    EncryptionKey, LockOwner, NewRecord, SharedCache, SharedCacheOptions,
};
use confidential_client::testing::LocalSharedCache;
use confidential_client::{ConfidentialClient, TokenSource};
use tokio::runtime::Runtime;

use crate::rounds::Rounds;
use crate::setup::{Result, SCOPE};
use crate::table::Table;

mod bare;
mod instructions;
mod redis;
#[allow(dead_code, reason = "the other benchmarks use the rest")]
#[path = "../cache/rounds.rs"]
mod rounds;
#[allow(dead_code, reason = "the other benchmarks use the rest")]
#[path = "../cache/setup.rs"]
mod setup;
#[allow(dead_code, reason = "the other benchmarks use the rest")]
#[path = "../cache/table.rs"]
mod table;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    match arguments.as_slice() {
        [instructions::FLAG, row, calls] => {
            let row = ROWS.get(row.parse::<usize>()?).ok_or("no such row")?;
            (row.run)(&runtime, calls.parse()?)?;
            return Ok(());
        }
        _ if arguments.contains(&"--instructions") => return instructions::report(&ROWS),
        _ => {}
    }
    // `cargo test --all-targets` runs this program without `--bench`, as a check without figures.
    let (rounds, calls) = match arguments.contains(&"--bench") {
        true => (100, 500),
        false => (1, 1),
    };
    let mut measured = Rounds::new(calls);
    for _ in 0..rounds {
        for row in &ROWS {
            measured.add(row.name, |calls| (row.run)(&runtime, calls))?;
        }
    }
    println!("Least of {rounds} rounds of {calls} calls, nanoseconds a call.\n");
    let mut table = Table::new(["", "ns"]);
    for row in &ROWS {
        table.row([
            row.name.to_owned(),
            format!("{:.0}", measured.ns(row.name)?),
        ]);
    }
    table.print();
    redis::report(rounds as usize * 10)
}

/// One measured operation. `run` returns the time of a number of calls.
struct Row {
    name: &'static str,
    run: fn(&Runtime, u32) -> Result<Duration>,
}

const ROWS: [Row; 12] = [
    Row {
        name: "a miss by the provider, without a shared cache",
        run: |runtime, calls| miss(runtime, calls, None, Answer::Provider),
    },
    Row {
        name: "a miss by the provider, with one: the caller's wait",
        run: |runtime, calls| miss(runtime, calls, Some(encrypted()), Answer::Provider),
    },
    Row {
        name: "the same with the record stored and the lock released",
        run: |runtime, calls| miss(runtime, calls, Some(encrypted()), Answer::ProviderStored),
    },
    Row {
        name: "the same without encryption of the record",
        run: |runtime, calls| miss(runtime, calls, Some(plain()), Answer::ProviderStored),
    },
    Row {
        name: "a miss that the store answers: the caller's wait",
        run: |runtime, calls| miss(runtime, calls, Some(encrypted()), Answer::Store),
    },
    Row {
        name: "the same until its tasks have ended",
        run: |runtime, calls| miss(runtime, calls, Some(encrypted()), Answer::StoreReleased),
    },
    Row {
        name: "the same without encryption",
        run: |runtime, calls| miss(runtime, calls, Some(plain()), Answer::StoreReleased),
    },
    Row {
        name: "the store in memory: lock and unlock of a name with a record",
        run: lock,
    },
    Row {
        name: "bare: the hash of a name of 130 octets",
        run: |_, calls| Ok(bare::name(calls)),
    },
    Row {
        name: "bare: a derived key, and 2 KiB sealed",
        run: |_, calls| Ok(bare::seal(calls)),
    },
    Row {
        name: "bare: a derived key, and 2 KiB opened",
        run: |_, calls| Ok(bare::open(calls)),
    },
    Row {
        name: "bare: JSON of 2 KiB parsed",
        run: |_, calls| bare::parse(calls),
    },
];

#[derive(Clone, Copy, PartialEq)]
enum Answer {
    Provider,
    /// The measured time includes the work behind the caller's back.
    ProviderStored,
    Store,
    StoreReleased,
}

fn miss(
    runtime: &Runtime,
    calls: u32,
    options: Option<SharedCacheOptions>,
    answer: Answer,
) -> Result<Duration> {
    let store = LocalSharedCache::new();
    let mut builder = setup::builder();
    if let Some(options) = options {
        builder = builder.shared_cache(store.clone(), options);
    }
    let client = builder.build()?;
    let by_store = matches!(answer, Answer::Store | Answer::StoreReleased);
    let is_whole = matches!(answer, Answer::ProviderStored | Answer::StoreReleased);
    let expected = match by_store {
        true => TokenSource::SharedCache,
        false => TokenSource::IdentityProvider,
    };
    runtime.block_on(async {
        acquire(&client).await?;
        settle().await;
        let mut elapsed = Duration::ZERO;
        for _ in 0..calls {
            client.cache().clear();
            if !by_store {
                store.clear();
            }
            let started = Instant::now();
            let source = acquire(&client).await?;
            if is_whole {
                settle().await;
            }
            elapsed += started.elapsed();
            settle().await;
            if source != expected {
                return Err(format!("{source:?} answered").into());
            }
        }
        Ok(elapsed)
    })
}

async fn acquire(client: &ConfidentialClient) -> Result<TokenSource> {
    Ok(black_box(client.acquire_token_for_client(SCOPE).await?).source())
}

/// Lets the tasks end that no caller waits for.
async fn settle() {
    for _ in 0..4 {
        tokio::task::yield_now().await;
    }
}

fn lock(runtime: &Runtime, calls: u32) -> Result<Duration> {
    let store = LocalSharedCache::new();
    runtime.block_on(async {
        let minute = Duration::from_secs(60);
        let record = NewRecord::new(1, vec![0; 2048].into(), minute);
        store.put("name", record).await?;
        let started = Instant::now();
        for _ in 0..calls {
            let owner = LockOwner::random();
            black_box(store.lock("name", &owner, minute).await?);
            store.unlock("name", &owner).await?;
        }
        Ok(started.elapsed())
    })
}

fn encrypted() -> SharedCacheOptions {
    SharedCacheOptions::encrypted(NAME_KEY, [EncryptionKey::from_bytes([7; 32])])
}

fn plain() -> SharedCacheOptions {
    SharedCacheOptions::without_encryption(NAME_KEY)
}

const NAME_KEY: &str = "the name key of the bench";
