//! Processes of their own that share one real Redis and one identity provider.
//!
//! A process of the fleet is this test binary, which runs `a_process_of_the_fleet` alone. It
//! connects to its parent, and obeys one line at a time.

use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use confidential_client::cache::{EncryptionKey, RedisCache, SharedCacheOptions};
use confidential_client::testing::{Application, Fault, LocalAuthority};
use confidential_client::time::Clock;
use confidential_client::{
    AccessToken, Authority, Cloud, ConfidentialClient, Error, ErrorKind, RetryPolicy, TokenRequest,
    TokenSource,
};
use redis::{Client, Value};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::redis_server::{RedisServer, until};
use crate::support::{CLIENT_ID, SCOPE, SECRET, TENANT};

const PROCESS: &str = "fleet_by_order::a_process_of_the_fleet";

/// What a process does for one line.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Order {
    /// This number of callers acquire a token at once.
    Acquire(usize),
    /// The time passes in this process.
    Advance(Duration),
    /// A caller reports its last token as rejected by an API.
    Reject,
}

/// What a caller of a process received.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Received {
    Token { secret: String, is_requested: bool },
    Error { text: String, kind: String },
}

/// The processes and what they share.
struct Fleet {
    provider: LocalAuthority,
    redis: RedisServer,
    parent: TcpListener,
}

impl Fleet {
    async fn start() -> Option<Self> {
        let redis = RedisServer::start().await?;
        let provider = LocalAuthority::start().await.unwrap();
        provider.register(TENANT, Application::new(CLIENT_ID).secret(SECRET));
        Some(Self {
            provider,
            redis,
            parent: TcpListener::bind("127.0.0.1:0").await.unwrap(),
        })
    }

    /// Starts a process, and waits until it has a client.
    async fn process(&self) -> Process {
        let child = self.spawn();
        self.join(child).await
    }

    /// Starts processes, each of which has a client and has not used it.
    async fn processes(&self, number: usize) -> Vec<Process> {
        let mut processes = Vec::new();
        // As many as there may be cores: 50 at once take each other's time to start.
        while processes.len() < number {
            let batch = 4.min(number - processes.len());
            let children: Vec<_> = (0..batch).map(|_| self.spawn()).collect();
            for child in children {
                processes.push(self.join(child).await);
            }
        }
        processes
    }

    fn spawn(&self) -> Child {
        let parent = self.parent.local_addr().unwrap().to_string();
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", PROCESS, "--ignored", "--nocapture"])
            .env("FLEET_PARENT", parent)
            .env("FLEET_PROVIDER", self.provider.base_url())
            .env("FLEET_REDIS", self.redis.url())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// Accepts the connection of one process. Which of the new ones does not matter.
    async fn join(&self, child: Child) -> Process {
        // Ends the child if the parent fails.
        let child = KilledOnDrop(child);
        let (stream, _) = self.parent.accept().await.unwrap();
        let stream = BufStream::new(stream);
        Process {
            _child: child,
            stream,
        }
    }

    fn requests(&self) -> usize {
        self.provider.token_requests().len()
    }

    /// Lets Redis forget its records after this time, as if the time until then had passed.
    async fn age_records(&self, remaining: Duration) {
        let Value::Array(keys) = self.redis.command(&["KEYS", "*:r"]).await else {
            panic!("no list of keys");
        };
        assert!(!keys.is_empty());
        for key in keys {
            let Value::BulkString(key) = key else {
                panic!("{key:?}");
            };
            let key = String::from_utf8(key).unwrap();
            let remaining = remaining.as_millis().to_string();
            self.redis.command(&["PEXPIRE", &key, &remaining]).await;
        }
    }

    /// Waits until the holder has stored its outcome, which it does behind its caller's back.
    async fn until_unlocked(&self) {
        until("no lock is held", async || {
            self.redis.command(&["KEYS", "*:l"]).await == Value::Array(Vec::new())
        })
        .await;
    }
}

/// A process of the fleet, as its parent sees it.
struct Process {
    _child: KilledOnDrop,
    stream: BufStream<TcpStream>,
}

impl Process {
    async fn order(&mut self, order: Order) {
        let mut line = serde_json::to_string(&order).unwrap();
        line.push('\n');
        self.stream.write_all(line.as_bytes()).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    async fn received(&mut self) -> Vec<Received> {
        let mut line = String::new();
        self.stream.read_line(&mut line).await.unwrap();
        assert!(!line.is_empty(), "a process has ended");
        serde_json::from_str(&line).unwrap()
    }

    async fn obey(&mut self, order: Order) -> Vec<Received> {
        self.order(order).await;
        self.received().await
    }

    /// Acquires one token.
    async fn token(&mut self) -> (String, bool) {
        only(self.obey(Order::Acquire(1)).await)
    }
}

/// The system clock, moved by the orders of the parent.
#[derive(Clone, Default)]
struct ShiftedClock(Arc<Mutex<Duration>>);

impl Clock for ShiftedClock {
    fn wall(&self) -> SystemTime {
        SystemTime::now() + *self.0.lock().unwrap()
    }

    fn monotonic(&self) -> Instant {
        Instant::now() + *self.0.lock().unwrap()
    }
}

struct KilledOnDrop(Child);

impl Drop for KilledOnDrop {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Returns the only token, and whether it was requested.
fn only(received: Vec<Received>) -> (String, bool) {
    match &received[..] {
        [
            Received::Token {
                secret,
                is_requested,
            },
        ] => (secret.clone(), *is_requested),
        other => panic!("{other:?}"),
    }
}

/// Lets all processes acquire a token at once, each with this number of callers.
async fn acquire_at_once(processes: &mut [Process], callers: usize) -> Vec<Received> {
    for process in &mut *processes {
        process.order(Order::Acquire(callers)).await;
    }
    received_by_all(processes).await
}

async fn received_by_all(processes: &mut [Process]) -> Vec<Received> {
    let mut all = Vec::new();
    for process in processes {
        all.extend(process.received().await);
    }
    all
}

#[tokio::test]
async fn fifty_processes_with_twenty_callers_each_share_one_failure() {
    let unavailable = || Fault::status(503);
    for (fault, kind, count) in [
        // Shared for a second, in which each process must have its turn on a processor.
        (unavailable(), ErrorKind::Server, 5),
        (unavailable().retry_after(30), ErrorKind::Throttled, 50),
    ] {
        let Some(fleet) = Fleet::start().await else {
            return;
        };
        let mut processes = fleet.processes(count).await;
        fleet.provider.begin_outage(fault);
        let received = acquire_at_once(&mut processes, 20).await;
        assert_eq!(received.len(), count * 20);
        let kind = format!("{kind:?}");
        for received in received {
            let Received::Error { text, kind: is } = received else {
                panic!("a token");
            };
            assert_eq!(is, kind, "{text}");
            assert!(text.contains("503"), "{text}");
        }
        assert_eq!(fleet.requests(), 1, "{kind}");
    }
}

#[tokio::test]
async fn a_token_of_another_process_is_found_when_a_refresh_is_due() {
    let Some(fleet) = Fleet::start().await else {
        return;
    };
    let mut processes = fleet.processes(4).await;
    let first = processes[0].token().await.0;
    fleet.until_unlocked().await;
    for process in &mut processes {
        assert_eq!(process.token().await.0, first);
    }
    // Due everywhere, and valid.
    for process in &mut processes {
        process
            .obey(Order::Advance(Duration::from_secs(3400)))
            .await;
    }
    fleet.age_records(Duration::from_secs(199)).await;
    for process in &mut processes {
        // The refresh runs behind the caller's back.
        let next = async { while process.token().await.0 == first {} };
        let found = tokio::time::timeout(Duration::from_secs(30), next).await;
        found.expect("the next token is served");
        fleet.until_unlocked().await;
    }
    let mut tokens = Vec::new();
    for process in &mut processes {
        tokens.push(process.token().await.0);
    }
    assert!(tokens.iter().all(|token| *token == tokens[0]), "{tokens:?}");
    assert_eq!(fleet.requests(), 2);
}

#[tokio::test]
async fn one_revocation_is_one_request_for_all_processes() {
    let Some(fleet) = Fleet::start().await else {
        return;
    };
    let mut processes = fleet.processes(5).await;
    let received = acquire_at_once(&mut processes, 1).await;
    let Received::Token { secret: first, .. } = received[0].clone() else {
        panic!("{received:?}");
    };
    fleet.until_unlocked().await;
    fleet.provider.revoke_tokens(TENANT, CLIENT_ID);
    // The API rejects the token in all processes at once.
    for process in &mut processes {
        process.order(Order::Reject).await;
    }
    let received = received_by_all(&mut processes).await;
    fleet.until_unlocked().await;
    // A process that was not there.
    let second = fleet.process().await.token().await;
    assert_ne!(second.0, first);
    assert!(!second.1);
    for received in received {
        assert_eq!(only(vec![received]).0, second.0);
    }
    assert_eq!(fleet.requests(), 2);
}

#[test]
#[ignore = "a process of the fleet, started by the other tests"]
fn a_process_of_the_fleet() {
    let Ok(parent) = std::env::var("FLEET_PARENT") else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let clock = ShiftedClock::default();
        let client = client_of_the_environment(&clock);
        let stream = TcpStream::connect(parent).await.unwrap();
        let mut stream = BufStream::new(stream);
        let mut last = None;
        let mut line = String::new();
        // The parent closes the connection at the end.
        while stream.read_line(&mut line).await.is_ok_and(|read| read > 0) {
            let received = match serde_json::from_str(&line).unwrap() {
                Order::Acquire(callers) => acquire(&client, callers, &mut last).await,
                Order::Advance(by) => {
                    *clock.0.lock().unwrap() += by;
                    Vec::new()
                }
                Order::Reject => {
                    let rejected = last.take().unwrap();
                    let request = TokenRequest::new(SCOPE).rejected_token(&rejected);
                    let token = client.acquire_token_for_client(request).await;
                    vec![received(&token)]
                }
            };
            let mut answer = serde_json::to_string(&received).unwrap();
            answer.push('\n');
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            line.clear();
        }
    });
}

fn client_of_the_environment(clock: &ShiftedClock) -> ConfidentialClient {
    let variable = |name: &str| std::env::var(name).unwrap();
    let redis = Client::open(variable("FLEET_REDIS")).unwrap();
    let key = EncryptionKey::from_bytes([1; 32]);
    let options = SharedCacheOptions::encrypted("the name key of the tests", [key])
        // A process that waits for a processor must not count Redis as down.
        .call_timeout(Duration::from_secs(10));
    let cloud = Cloud::Custom(variable("FLEET_PROVIDER"));
    ConfidentialClient::builder(CLIENT_ID)
        .authority(Authority::entra(cloud, TENANT))
        .client_secret(SECRET)
        .retry(RetryPolicy::none())
        .clock(clock.clone())
        .shared_cache(RedisCache::new(redis), options)
        .build()
        .unwrap()
}

/// Lets callers acquire a token at once, and keeps the last token.
async fn acquire(
    client: &ConfidentialClient,
    callers: usize,
    last: &mut Option<AccessToken>,
) -> Vec<Received> {
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        let client = client.clone();
        tasks.spawn(async move { client.acquire_token_for_client(SCOPE).await });
    }
    let outcomes = tasks.join_all().await;
    let all = outcomes.iter().map(received).collect();
    *last = outcomes.into_iter().find_map(Result::ok).or(last.take());
    all
}

fn received(outcome: &Result<AccessToken, Error>) -> Received {
    match outcome {
        Ok(token) => Received::Token {
            secret: token.secret().to_owned(),
            is_requested: token.source() == TokenSource::IdentityProvider,
        },
        Err(error) => Received::Error {
            text: error.to_string(),
            kind: format!("{:?}", error.kind()),
        },
    }
}
