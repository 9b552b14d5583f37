//! A replica in a process of its own, which does what its standard input says.

use std::io::{BufRead, BufReader, Write, stdin};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use bytes::Bytes;
use confidential_client::delegated::Account;
use confidential_client::transport::Transport;
use confidential_client::{ConfidentialClient, RetryPolicy, TokenSource};
use http::{Request, Response};
use redis::Client;
use serde::{Deserialize, Serialize};
use tokio::task::{JoinSet, spawn_blocking};

use super::{Server, builder, report};

/// What a replica is told in its environment.
#[derive(Serialize, Deserialize)]
pub struct Settings {
    pub user_agent: String,
    pub redis: String,
    /// The proxy to the provider.
    pub tunnel: Option<String>,
    pub account: Account,
}

/// The outcomes of some calls.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcomes {
    pub provider: usize,
    pub shared: usize,
    pub memory: usize,
    pub errors: Vec<String>,
}

impl Outcomes {
    pub fn calls(&self) -> usize {
        self.provider + self.shared + self.memory
    }

    pub fn is_of_provider(&self) -> bool {
        self.provider == 1 && self.calls() == 1 && self.errors.is_empty()
    }
}

/// The process of a replica, seen from its parent. Killed on drop.
pub struct Replica {
    process: Child,
    input: ChildStdin,
    output: Option<BufReader<ChildStdout>>,
}

impl Replica {
    pub fn start(settings: &Settings) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", TEST, "--ignored", "--nocapture"])
            .env(VARIABLE, serde_json::to_string(settings).unwrap())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            input: process.stdin.take().unwrap(),
            output: process.stdout.take().map(BufReader::new),
            process,
        }
    }

    /// Begins forced refreshes, some at a time, of the token for a report.
    pub fn begin(&mut self, calls: usize, number: usize) {
        writeln!(self.input, "{calls} {number}").unwrap();
    }

    /// Waits for the outcomes of the calls that were begun.
    pub async fn outcomes(&mut self) -> Outcomes {
        let mut output = self.output.take().unwrap();
        let read = spawn_blocking(move || {
            let mut line = String::new();
            loop {
                line.clear();
                let length = output.read_line(&mut line).unwrap();
                assert_ne!(length, 0, "the replica has ended");
                // The test harness writes to the same line.
                if let Some((_, outcomes)) = line.split_once(MARK) {
                    return (serde_json::from_str(outcomes).unwrap(), output);
                }
            }
        });
        let (outcomes, output) = read.await.unwrap();
        self.output = Some(output);
        outcomes
    }

    pub async fn call(&mut self, number: usize) -> Outcomes {
        self.begin(1, number);
        self.outcomes().await
    }

    /// Stops the process, and returns when all of its threads have stopped.
    pub fn stop(&self) {
        self.signal("-STOP");
        let threads = format!("/proc/{}/task", self.process.id());
        let is_stopped = || {
            std::fs::read_dir(&threads).unwrap().all(|thread| {
                let stat = std::fs::read_to_string(thread.unwrap().path().join("stat"));
                stat.is_ok_and(|stat| stat.contains(") T "))
            })
        };
        while !is_stopped() {
            std::thread::yield_now();
        }
    }

    pub fn resume(&self) {
        self.signal("-CONT");
    }

    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    fn signal(&self, signal: &str) {
        let id = self.process.id().to_string();
        let status = Command::new("kill").args([signal, &id]).status();
        assert!(status.unwrap().success());
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by the others, in processes of their own"]
#[allow(clippy::print_stdout, reason = "the parent reads it")]
async fn in_a_replica() {
    let Ok(settings) = std::env::var(VARIABLE) else {
        return;
    };
    let settings: Settings = serde_json::from_str(&settings).unwrap();
    let mut server = Server::of("a replica");
    server.user_agent = settings.user_agent;
    let builder = builder(&server, Client::open(settings.redis).unwrap());
    let builder = match settings.tunnel {
        None => builder.reqwest(server.builder()),
        Some(tunnel) => builder.transport(through(&server, tunnel)),
    };
    let client = builder.retry(RetryPolicy::none()).build().unwrap();
    let account = settings.account;
    loop {
        let line = spawn_blocking(|| stdin().lines().next());
        let Some(Ok(line)) = line.await.unwrap() else {
            return;
        };
        let (calls, number) = line.split_once(' ').unwrap();
        let (calls, number) = (calls.parse().unwrap(), number.parse().unwrap());
        let outcomes = calls_of(&client, &account, calls, number).await;
        println!("{MARK}{}", serde_json::to_string(&outcomes).unwrap());
    }
}

/// Sends requests through a tunnel. The library sends requests to loopback without a proxy.
fn through(server: &Server, tunnel: String) -> impl Transport {
    let http = server.builder().proxy(reqwest::Proxy::all(tunnel).unwrap());
    let http = http.retry(reqwest::retry::never()).build().unwrap();
    move |request: Request<Bytes>| {
        let http = http.clone();
        async move {
            let request = reqwest::Request::try_from(request.map(reqwest::Body::from))?;
            let response = http.execute(request).await?;
            let status = response.status();
            let body = response.bytes().await?;
            Ok(Response::builder().status(status).body(body)?)
        }
    }
}

async fn calls_of(
    client: &ConfidentialClient,
    account: &Account,
    calls: usize,
    number: usize,
) -> Outcomes {
    let mut workers = JoinSet::new();
    let count = calls.min(WORKERS);
    for worker in 0..count {
        let (client, account) = (client.clone(), account.clone());
        workers.spawn(async move {
            let mut outcomes = Outcomes::default();
            for _ in 0..calls / count {
                // Two scopes: their token requests use the same refresh token.
                let request = report(number + worker % 2).force_refresh();
                match client.acquire_token_silent(&account, request).await {
                    Ok(token) => match token.source() {
                        TokenSource::IdentityProvider => outcomes.provider += 1,
                        TokenSource::SharedCache => outcomes.shared += 1,
                        _ => outcomes.memory += 1,
                    },
                    Err(error) => outcomes.errors.push(format!("{error:?}")),
                }
            }
            outcomes
        });
    }
    let outcomes = workers.join_all().await.into_iter();
    outcomes.fold(Outcomes::default(), |all, one| Outcomes {
        provider: all.provider + one.provider,
        shared: all.shared + one.shared,
        memory: all.memory + one.memory,
        errors: [all.errors, one.errors].concat(),
    })
}

const TEST: &str = "npm_oidc_provider::fleet::replica::in_a_replica";
const VARIABLE: &str = "CONFIDENTIAL_CLIENT_TEST_REPLICA";
const MARK: &str = "outcomes: ";
const WORKERS: usize = 4;
