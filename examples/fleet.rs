//! Twenty processes that share tokens through Redis, with one token request for all.
//!
//! ```sh
//! cargo run --example fleet
//! ```
//!
//! The program starts `redis-server` on a free port, an identity provider on loopback, and itself
//! twenty times. One process is killed during its token request, and Redis is killed and started
//! again. No other process gets an error. Without `redis-server`, the fleet is twenty clients of
//! one process.
#![allow(clippy::print_stdout, reason = "an example prints its results")]

#[path = "fleet/processes.rs"]
mod processes;
#[path = "fleet/redis_server.rs"]
mod redis_server;

use std::io::stdin;
use std::time::{Duration, Instant};

use confidential_client::cache::{EncryptionKey, RedisCache, SharedCache, SharedCacheOptions};
use confidential_client::testing::{Application, Fault, LocalAuthority, LocalSharedCache};
use confidential_client::{Authority, Cloud, ConfidentialClient, Error};
use tokio::time::sleep;

use processes::{Fleet, Tokens};
use redis_server::RedisServer;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const TENANT: &str = "contoso.onmicrosoft.com";
const CLIENT_ID: &str = "11111111-2222-3333-4444-555555555555";
const REPLICAS: usize = 20;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [replica, base_url, redis_url] = arguments.as_slice()
        && replica == "replica"
    {
        return run_replica(base_url, redis_url).await;
    }
    let local = LocalAuthority::start().await?;
    let application = Application::new(CLIENT_ID).secret("s3cret");
    local.register(TENANT, application);
    let Some(server) = RedisServer::start()? else {
        println!(
            "there is no redis-server on the PATH; `apt install redis-server` or `brew install redis` installs it"
        );
        return run_in_one_process(&local).await;
    };
    tokio::select! {
        result = run_fleet(&local, server) => result,
        // Drops the server and the processes.
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

/// Creates the client of a replica. The one line for the shared cache is `shared_cache`.
fn client(base_url: &str, store: impl SharedCache) -> Result<ConfidentialClient> {
    // A program reads both keys from its vault. `openssl rand -base64 32` creates such a key.
    let encryption_key =
        EncryptionKey::from_base64("q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA=")?;
    let options = SharedCacheOptions::encrypted("the name key of the example", [encryption_key])
        // Twenty processes that start at once on a small machine are slow.
        .call_timeout(Duration::from_secs(2));
    let cloud = Cloud::Custom(base_url.to_owned());
    let client = ConfidentialClient::builder(CLIENT_ID)
        .authority(Authority::entra(cloud, TENANT))
        .client_secret("s3cret")
        .shared_cache(store, options)
        .build()?;
    Ok(client)
}

/// Acquires a token for each line of the standard input, and prints where the token came from.
async fn run_replica(base_url: &str, redis_url: &str) -> Result<()> {
    let client = client(base_url, RedisCache::new(redis::Client::open(redis_url)?))?;
    for scope in stdin().lines() {
        match client.acquire_token_for_client(scope?).await {
            Ok(token) => println!("{:?}", token.source()),
            Err(error) => println!("error: {}", error.chain()),
        }
    }
    Ok(())
}

async fn run_fleet(local: &LocalAuthority, mut server: RedisServer) -> Result<()> {
    let mut fleet = Fleet::start(REPLICAS, local.base_url(), &server.url())?;
    println!("{REPLICAS} processes start without a token");
    print(local, 0, &fleet.acquire("api://orders/.default")?);

    println!("one process is killed during its token request");
    let before = local.token_requests().len();
    local.script([Fault::delayed(Duration::from_secs(20))]);
    fleet.ask_first("api://stock/.default")?;
    while local.token_requests().len() == before {
        sleep(Duration::from_millis(10)).await;
    }
    fleet.kill_first()?;
    let start = Instant::now();
    let tokens = fleet.acquire("api://stock/.default")?;
    println!(
        "  the others wait {:.1} s for its lock",
        start.elapsed().as_secs_f32()
    );
    print(local, before, &tokens);

    println!("Redis is killed");
    server.kill()?;
    let before = local.token_requests().len();
    print(local, before, &fleet.acquire("api://orders/.default")?);
    println!("Redis is down, and the processes need a token that none of them has");
    print(local, before, &fleet.acquire("api://prices/.default")?);

    println!("Redis starts again without data");
    server.restart()?;
    // Until then, the processes do not try Redis again.
    sleep(Duration::from_secs(3)).await;
    let before = local.token_requests().len();
    print(local, before, &fleet.acquire("api://invoices/.default")?);
    Ok(())
}

/// Runs clients that share tokens as processes do, without a server.
async fn run_in_one_process(local: &LocalAuthority) -> Result<()> {
    let store = LocalSharedCache::new();
    let mut tasks = Vec::new();
    for _ in 0..REPLICAS {
        let client = client(local.base_url(), store.clone())?;
        tasks.push(tokio::spawn(async move {
            let token = client
                .acquire_token_for_client("api://orders/.default")
                .await?;
            Ok::<_, Error>(token.source())
        }));
    }
    let mut tokens = Tokens::default();
    for task in tasks {
        tokens.add(&format!("{:?}", task.await??));
    }
    println!("{REPLICAS} clients of one process start without a token");
    print(local, 0, &tokens);
    Ok(())
}

/// Prints where the tokens came from, and the number of token requests of the whole fleet.
fn print(local: &LocalAuthority, before: usize, tokens: &Tokens) {
    let requests = local.token_requests().len() - before;
    for (source, count) in tokens.by_source() {
        println!("  {source:<17} {count}");
    }
    println!("  {:<17} {requests}", "token requests");
}
