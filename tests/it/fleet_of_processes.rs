//! Real processes with one Redis and one identity provider.

use std::env;
use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use confidential_client::cache::{EncryptionKey, RedisCache, SharedCacheOptions};
use confidential_client::testing::{Application, Fault, LocalAuthority};
use confidential_client::{Authority, Cloud, ConfidentialClient, RetryPolicy};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::JoinSet;

use crate::redis_server::{RedisServer, until};
use crate::support::{CLIENT_ID, SCOPE, SECRET, TENANT, log_capture};

const PROCESSES: usize = 50;
const CALLERS: usize = 20;
const ENTRY: &str = "fleet_of_processes::one_process_of_the_fleet";

/// The program of one process. A test starts it and says when to begin.
#[test]
#[ignore = "the other tests start this process"]
fn one_process_of_the_fleet() {
    let Ok(redis) = env::var("FLEET_REDIS") else {
        return;
    };
    let authority = env::var("FLEET_AUTHORITY").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let key = EncryptionKey::from_bytes([1; 32]);
    let options = SharedCacheOptions::encrypted("the name key of the fleet", [key])
        // A process that waits for a processor must not count Redis as down.
        .call_timeout(Duration::from_secs(10));
    let store = RedisCache::new(redis::Client::open(redis).unwrap());
    let client = ConfidentialClient::builder(CLIENT_ID)
        .authority(Authority::entra(Cloud::Custom(authority), TENANT))
        .client_secret(SECRET)
        .retry(RetryPolicy::none())
        .shared_cache(store, options)
        .build()
        .unwrap();
    say("ready");
    let mut line = String::new();
    while std::io::stdin().read_line(&mut line).unwrap() > 0 {
        let mut outcomes = runtime.block_on(async {
            let mut callers = JoinSet::new();
            for _ in 0..CALLERS {
                let client = client.clone();
                callers.spawn(async move {
                    match client.acquire_token_for_client(SCOPE).await {
                        Ok(token) => token.secret().to_owned(),
                        Err(error) => match error.status() {
                            Some(status) => format!("error {}", status.as_u16()),
                            None => format!("error {}", error.chain()),
                        },
                    }
                });
            }
            callers.join_all().await
        });
        outcomes.dedup();
        say(&outcomes.join(","));
        line.clear();
    }
}

/// Writes a line that the test harness does not capture.
fn say(line: &str) {
    let mut stdout = std::io::stdout();
    writeln!(stdout, "\nfleet: {line}").unwrap();
}

struct Process {
    child: Child,
    orders: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    async fn start(local: &LocalAuthority, redis: &RedisServer) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args([ENTRY, "--exact", "--ignored", "--nocapture"])
            .env("FLEET_AUTHORITY", local.base_url())
            .env("FLEET_REDIS", redis.url())
            .env_remove("CONFIDENTIAL_CLIENT_TEST_LOG")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut process = Self {
            orders: child.stdin.take().unwrap(),
            lines: BufReader::new(child.stdout.take().unwrap()).lines(),
            child,
        };
        assert_eq!(process.hear().await, "ready");
        process
    }

    async fn begin(&mut self) {
        self.orders.write_all(b"begin\n").await.unwrap();
    }

    /// Returns the distinct outcomes of the process's callers.
    async fn hear(&mut self) -> String {
        while let Some(line) = self.lines.next_line().await.unwrap() {
            if let Some(said) = line.strip_prefix("fleet: ") {
                return said.to_owned();
            }
        }
        panic!("the process ended");
    }
}

struct Fleet {
    local: LocalAuthority,
    #[expect(dead_code, reason = "held for its drop")]
    redis: RedisServer,
    processes: Vec<Process>,
}

impl Fleet {
    async fn start(count: usize) -> Option<Self> {
        let redis = RedisServer::start().await?;
        log_capture::start();
        let local = LocalAuthority::start().await.unwrap();
        local.register(TENANT, Application::new(CLIENT_ID).secret(SECRET));
        let mut processes = Vec::new();
        for _ in 0..count {
            processes.push(Process::start(&local, &redis).await);
        }
        Some(Self {
            local,
            redis,
            processes,
        })
    }

    async fn begin(&mut self) {
        for process in &mut self.processes {
            process.begin().await;
        }
    }

    /// Returns the distinct outcomes of all callers.
    async fn outcomes(&mut self) -> Vec<String> {
        let mut outcomes = Vec::new();
        for process in &mut self.processes {
            outcomes.push(process.hear().await);
        }
        outcomes.sort();
        outcomes.dedup();
        outcomes
    }

    fn requests(&self) -> usize {
        self.local.token_requests().len()
    }
}

/// docs/failures.md S1.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_processes_with_twenty_callers_each_make_one_request() {
    let Some(mut fleet) = Fleet::start(PROCESSES).await else {
        return;
    };
    let slow = Fault::delayed(Duration::from_millis(200));
    fleet.local.script([slow]);
    fleet.begin().await;
    let outcomes = fleet.outcomes().await;
    assert_eq!(outcomes.len(), 1, "one token: {outcomes:?}");
    assert!(outcomes[0].starts_with("eyJ"), "{outcomes:?}");
    assert_eq!(fleet.requests(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_holder_of_the_lock_costs_one_request_more() {
    let Some(mut fleet) = Fleet::start(10).await else {
        return;
    };
    // The first request never gets a response.
    fleet
        .local
        .script([Fault::delayed(Duration::from_secs(600))]);
    fleet.processes[0].begin().await;
    until("the first request", async || fleet.requests() == 1).await;
    let mut killed = fleet.processes.remove(0);
    for process in &mut fleet.processes {
        process.begin().await;
    }
    killed.child.kill().await.unwrap();
    let outcomes = fleet.outcomes().await;
    assert_eq!(outcomes.len(), 1, "one token: {outcomes:?}");
    assert!(outcomes[0].starts_with("eyJ"), "{outcomes:?}");
    assert_eq!(fleet.requests(), 2);
}
