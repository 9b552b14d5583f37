//! The same misses with a Redis on loopback, if this machine has `redis-server`.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use confidential_client::TokenSource;
use confidential_client::cache::{LockOwner, RedisCache, SharedCache};

use crate::setup::{self, Result};
use crate::table::Table;
use crate::{acquire, encrypted};

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Prints the rows, in microseconds of a caller's wait.
pub(crate) fn report(calls: usize) -> Result<()> {
    let port = std::net::TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .port();
    let server = Command::new("redis-server")
        .args([
            "--port",
            &port.to_string(),
            "--save",
            "",
            "--bind",
            "127.0.0.1",
        ])
        .stdout(Stdio::null())
        .spawn();
    let Ok(server) = server.map(Server) else {
        println!("\nRedis: not measured, because this machine has no redis-server.");
        return Ok(());
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(measure(port, calls));
    drop(server);
    outcome
}

async fn measure(port: u16, calls: usize) -> Result<()> {
    let redis = redis::Client::open(format!("redis://127.0.0.1:{port}"))?;
    let store = Arc::new(RedisCache::new(redis));
    let deadline = Instant::now() + Duration::from_secs(10);
    while store.get("name").await.is_err() {
        if Instant::now() > deadline {
            return Err("Redis does not respond".into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let builder = setup::builder().shared_cache(Arc::clone(&store), encrypted());
    let client = builder.build()?;
    acquire(&client).await?;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut hits = Vec::new();
    for _ in 0..calls {
        client.cache().clear();
        let started = Instant::now();
        if acquire(&client).await? != TokenSource::SharedCache {
            return Err("Redis did not answer".into());
        }
        hits.push(started.elapsed());
    }
    let mut locks = Vec::new();
    let mut reads = Vec::new();
    for _ in 0..calls {
        let owner = LockOwner::random();
        let started = Instant::now();
        store.lock("name", &owner, Duration::from_secs(5)).await?;
        store.unlock("name", &owner).await?;
        locks.push(started.elapsed());
        let started = Instant::now();
        store.get("name").await?;
        reads.push(started.elapsed());
    }
    let mut misses = Vec::new();
    for call in 0..calls {
        let client = setup::builder()
            .shared_cache(
                Arc::clone(&store),
                encrypted().prefix(format!("miss-{call}")),
            )
            .build()?;
        let started = Instant::now();
        acquire(&client).await?;
        misses.push(started.elapsed());
        // The put and the unlock.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    println!("\nRedis on loopback, {calls} calls, microseconds: median and 99 of 100.\n");
    let mut table = Table::new(["", "median", "99 %"]);
    for (name, mut times) in [
        ("a read of an absent record", reads),
        ("lock and unlock", locks),
        ("a miss that Redis answers", hits),
        ("a miss by the provider: read, lock, token request", misses),
    ] {
        times.sort_unstable();
        let at = |share: usize| {
            times
                .get(times.len() * share / 100)
                .copied()
                .unwrap_or_default()
        };
        let microseconds = |time: Duration| format!("{:.0}", time.as_secs_f64() * 1e6);
        table.row([name.to_owned(), microseconds(at(50)), microseconds(at(99))]);
    }
    table.print();
    Ok(())
}
