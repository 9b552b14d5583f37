//! A soak test: many callers of one client, while the identity provider fails at random and the
//! certificate is replaced again and again:
//!
//! ```sh
//! cargo run --release --manifest-path tests/soak/Cargo.toml -- MINUTES [SEED]
//! ```
//!
//! Exits with 1 and a message after any of these findings:
//!
//! - a stuck caller
//! - growing memory
//! - a token for another tenant or scope, or an expired token
//! - an error despite a valid cached token
//! - an error that no fault explains
//! - more token requests than the policy allows

use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime};

use confidential_client::{Authority, CacheOptions, Cloud, ConfidentialClient};
use tokio::runtime::Handle;
use tokio::time::sleep;

mod authority;
mod callers;
mod fault;
mod findings;
mod http;
mod key;
mod ledger;
mod memory;
mod random;
mod report;
mod rotation;
mod tally;
mod verdict;
mod visitors;
mod watch;

use authority::CLIENT_ID;
use callers::{CALLERS, Caller, Shared};
use findings::Findings;
use random::Random;
use report::Figures;
use rotation::Rotation;
use watch::Watch;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the soak test, and returns whether the list of findings is empty.
fn run() -> Result<bool> {
    let mut arguments = std::env::args().skip(1);
    let minutes: f64 = arguments.next().ok_or("for how many minutes?")?.parse()?;
    let length = Duration::try_from_secs_f64(minutes * 60.0)?;
    let seed = match arguments.next() {
        Some(seed) => seed.parse()?,
        None => SystemTime::UNIX_EPOCH.elapsed()?.as_secs(),
    };
    println!("{minutes} minutes, seed {seed}");
    now();

    let findings = Arc::new(Findings::default());
    let authority = authority::Authority::start(seed, Arc::clone(&findings))?;
    let rotation = Rotation::new(Arc::clone(&authority), Arc::clone(&findings))?;
    let options = CacheOptions::default();
    let client = ConfidentialClient::builder(CLIENT_ID)
        .authority(Authority::entra(
            Cloud::Custom(authority.base().to_owned()),
            "home.example",
        ))
        .certificate_source(rotation.file())
        .cache(
            options
                .max_entries(MAX_ENTRIES)
                .max_concurrent_requests(MAX_CONCURRENT_REQUESTS),
        )
        .build()?;
    let shared = Arc::new(Shared::new(client, authority, Arc::clone(&findings))?);
    let watch = Arc::new(Watch::new(Arc::clone(&shared), length));
    let watching = Arc::clone(&watch);
    let watcher = std::thread::spawn(move || watching.run());

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build()?;
    let rotation = Arc::new(rotation);
    let ran = runtime.block_on(soak(&shared, &rotation, (length, seed)))?;
    watch.is_over.store(true, Ordering::Relaxed);
    watcher.join().map_err(|_| "the watch has panicked")?;
    let figures = Figures::new(&shared, &rotation, &watch.samples(), ran);
    figures.print();
    verdict::judge(&figures, &findings);
    Ok(findings.report())
}

/// Result of a run.
#[derive(Clone, Copy)]
struct Ran {
    seed: u64,
    /// Duration of the token requests.
    length: Duration,
    tasks_left: usize,
}

/// Runs the callers, and returns after the last request.
async fn soak(
    shared: &Arc<Shared>,
    rotation: &Arc<Rotation>,
    (length, seed): (Duration, u64),
) -> Result<Ran> {
    let callers = (0..CALLERS).map(|number| {
        let random = Random::new(seed, number as u64);
        let shared = Arc::clone(shared);
        tokio::spawn(
            Caller {
                number,
                random,
                shared,
            }
            .run(),
        )
    });
    let callers: Vec<_> = callers.collect();
    let rotating = tokio::spawn({
        let (rotation, client) = (Arc::clone(rotation), shared.client.clone());
        async move { rotation.run(client).await }
    });
    let visitors = Random::new(seed, CALLERS as u64);
    let visitors = tokio::spawn(visitors::run(Arc::clone(shared), visitors));

    sleep(length.saturating_sub(now())).await;
    let length = now();
    shared.stop.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await?;
    }
    visitors.await??;
    // The rotation ends only with an error.
    if rotating.is_finished() {
        rotating.await??;
    } else {
        rotating.abort();
    }
    let end = now() + LAST_FLIGHTS;
    while now() < end && shared.has_flights() {
        sleep(Duration::from_millis(100)).await;
    }
    Ok(Ran {
        seed,
        length,
        tasks_left: Handle::current().metrics().num_alive_tasks(),
    })
}

/// Returns the time since the start of the program.
fn now() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed()
}

/// Fewer than the unbound keys.
const MAX_ENTRIES: usize = 700;
const MAX_CONCURRENT_REQUESTS: usize = 32;
/// More threads than processors, so that threads are interrupted at any point.
const THREADS: usize = 4;
/// Time limit for the last flights.
const LAST_FLIGHTS: Duration = Duration::from_secs(35);
