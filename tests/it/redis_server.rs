//! A Redis server in a process of its own, and a proxy in front of it that misbehaves.

use std::fs;
use std::io::{Write, stderr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use redis::{AsyncConnectionConfig, Client, Value, cmd};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio::time::sleep;

/// A `redis-server` on a free port, with its files in a temporary folder. Killed on drop.
pub struct RedisServer {
    port: u16,
    folder: PathBuf,
    arguments: Vec<String>,
    process: Child,
}

impl RedisServer {
    /// Starts a server, or returns `None` if this machine has no `redis-server`. The first `None`
    /// prints a line.
    pub async fn start() -> Option<Self> {
        Self::start_with(&[]).await
    }

    /// Starts a server with more arguments of the command line.
    pub async fn start_with(arguments: &[&str]) -> Option<Self> {
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        if !*IS_INSTALLED {
            return None;
        }
        for _ in 0..10 {
            let port = free_port();
            let folder = format!("confidential-client-redis-{}-{port}", std::process::id());
            let folder = std::env::temp_dir().join(folder);
            fs::create_dir_all(&folder).unwrap();
            let process = launch(port, &folder, &arguments);
            let mut server = Self {
                port,
                folder,
                arguments: arguments.clone(),
                process,
            };
            if server.is_up().await {
                return Some(server);
            }
        }
        panic!("no redis-server starts");
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub fn client(&self) -> Client {
        Client::open(self.url()).unwrap()
    }

    /// Returns the response to a command on a connection of its own.
    pub async fn command(&self, words: &[&str]) -> Value {
        self.try_command(words).await.unwrap()
    }

    pub async fn try_command(&self, words: &[&str]) -> redis::RedisResult<Value> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(Duration::from_secs(10)))
            .set_response_timeout(Some(Duration::from_secs(10)));
        let client = self.client();
        let mut connection = client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        let mut command = cmd(words[0]);
        command.arg(&words[1..]);
        command.query_async(&mut connection).await
    }

    /// Returns the response to a command of a server with a password.
    pub async fn command_with_password(&self, password: &str, words: &[&str]) -> Value {
        let url = format!("redis://:{password}@127.0.0.1:{}", self.port);
        let client = Client::open(url).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let mut command = cmd(words[0]);
        command.arg(&words[1..]);
        command.query_async(&mut connection).await.unwrap()
    }

    /// Returns the text of a response, for example to `INFO`.
    pub async fn text(&self, words: &[&str]) -> String {
        match self.command(words).await {
            Value::BulkString(text) => String::from_utf8(text).unwrap(),
            Value::SimpleString(text) => text,
            Value::VerbatimString { text, .. } => text,
            other => panic!("{other:?}"),
        }
    }

    pub async fn config(&self, name: &str, value: &str) {
        self.command(&["CONFIG", "SET", name, value]).await;
    }

    /// Makes this server a replica of the server on a port.
    pub async fn replica_of(&self, port: u16) {
        let port = port.to_string();
        self.command(&["REPLICAOF", "127.0.0.1", &port]).await;
    }

    /// Makes this server a primary.
    pub async fn promote(&self) {
        self.command(&["REPLICAOF", "NO", "ONE"]).await;
    }

    /// Returns the number of connections without the one that counts.
    pub async fn connections(&self) -> usize {
        let list = self.text(&["CLIENT", "LIST", "TYPE", "normal"]).await;
        list.lines().count() - 1
    }

    /// Kills the server with SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts a killed server without data on the same port.
    pub async fn restart(&mut self) {
        self.process = launch(self.port, &self.folder, &self.arguments);
        assert!(self.is_up().await, "redis-server does not start again");
    }

    /// Stops the process with SIGSTOP: the server accepts connections and does not respond.
    pub fn stop(&self) {
        self.signal("-STOP");
    }

    /// Lets a stopped process go on.
    pub fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let id = self.process.id().to_string();
        let status = Command::new("kill").args([signal, &id]).status();
        assert!(status.unwrap().success());
    }

    async fn is_up(&mut self) -> bool {
        let deadline = Instant::now() + DEADLINE;
        while Instant::now() < deadline {
            if self.process.try_wait().unwrap().is_some() {
                return false;
            }
            // Another program on the port would have another process ID.
            match self.try_command(&["INFO", "server"]).await {
                Ok(Value::BulkString(info)) => {
                    let line = format!("process_id:{}\r\n", self.process.id());
                    return String::from_utf8(info).unwrap().contains(&line);
                }
                Err(error) if error.code() == Some("NOAUTH") => return true,
                _ => {}
            }
            sleep(POLL).await;
        }
        false
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
        fs::remove_dir_all(&self.folder).ok();
    }
}

static IS_INSTALLED: LazyLock<bool> = LazyLock::new(|| {
    let version = Command::new("redis-server")
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    let is_installed = version.is_ok_and(|status| status.success());
    if !is_installed {
        // The test harness does not capture this.
        let line = b"the tests with Redis are skipped: install the Debian package redis-server\n";
        stderr().write_all(line).unwrap();
    }
    is_installed
});

fn launch(port: u16, folder: &Path, arguments: &[String]) -> Child {
    Command::new("redis-server")
        .args(["--port", &port.to_string()])
        .args(["--bind", "127.0.0.1"])
        .args(["--save", ""])
        .args(["--repl-diskless-sync-delay", "0"])
        .arg("--dir")
        .arg(folder)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Waits until a condition holds.
pub async fn until<R: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> R) {
    let deadline = Instant::now() + DEADLINE;
    while !condition().await {
        assert!(Instant::now() < deadline, "not in time: {what}");
        sleep(POLL).await;
    }
}

/// A TCP proxy in front of a server.
pub struct Proxy {
    port: u16,
    state: Arc<ProxyState>,
    task: AbortHandle,
}

struct ProxyState {
    target: Mutex<u16>,
    /// The connections with a number below this lose all bytes.
    swallowed: AtomicUsize,
    accepted: AtomicUsize,
    delay: Mutex<Duration>,
    /// The response to a command that contains the text.
    scripted: Mutex<Option<(&'static str, &'static str)>>,
    connections: Mutex<Vec<AbortHandle>>,
}

impl Proxy {
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let state = Arc::new(ProxyState {
            target: Mutex::new(port),
            swallowed: AtomicUsize::new(0),
            accepted: AtomicUsize::new(0),
            delay: Mutex::default(),
            scripted: Mutex::default(),
            connections: Mutex::default(),
        });
        let port = listener.local_addr().unwrap().port();
        let serving = Arc::clone(&state);
        let task = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let number = serving.accepted.fetch_add(1, Ordering::SeqCst);
                let target = *serving.target.lock().unwrap();
                let connection = Arc::clone(&serving).serve(number, client, target);
                let task = tokio::spawn(connection).abort_handle();
                serving.connections.lock().unwrap().push(task);
            }
        });
        Self {
            port,
            state,
            task: task.abort_handle(),
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn client(&self) -> Client {
        Client::open(format!("redis://127.0.0.1:{}", self.port)).unwrap()
    }

    /// Returns the number of connections that were accepted.
    pub fn accepted(&self) -> usize {
        self.state.accepted.load(Ordering::SeqCst)
    }

    /// Connects later connections to another server.
    pub fn lead_to(&self, port: u16) {
        *self.state.target.lock().unwrap() = port;
    }

    /// Delays each response.
    pub fn delay(&self, delay: Duration) {
        *self.state.delay.lock().unwrap() = delay;
    }

    /// Discards all bytes of the open connections. New connections work.
    pub fn swallow_open(&self) {
        let accepted = self.accepted();
        self.state.swallowed.store(accepted, Ordering::SeqCst);
    }

    /// Discards all bytes of the open connections and of all later connections.
    pub fn swallow_all(&self) {
        self.state.swallowed.store(usize::MAX, Ordering::SeqCst);
    }

    /// Responds to the commands that contain a text in the place of the server.
    pub fn respond(&self, text: &'static str, response: &'static str) {
        *self.state.scripted.lock().unwrap() = Some((text, response));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        for connection in self.state.connections.lock().unwrap().drain(..) {
            connection.abort();
        }
    }
}

impl ProxyState {
    async fn serve(self: Arc<Self>, number: usize, client: TcpStream, target: u16) {
        let Ok(server) = TcpStream::connect(("127.0.0.1", target)).await else {
            return;
        };
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let to_client = Arc::new(tokio::sync::Mutex::new(to_client));
        let requests = self.requests(number, from_client, to_server, &to_client);
        let responses = self.responses(number, from_server, &to_client);
        // Both connections close when one of them does.
        tokio::select! { _ = requests => {}, _ = responses => {} }
    }

    async fn requests(
        &self,
        number: usize,
        mut client: OwnedReadHalf,
        mut server: OwnedWriteHalf,
        to_client: &tokio::sync::Mutex<OwnedWriteHalf>,
    ) -> Option<()> {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let chunk = read(&mut client, &mut buffer).await?;
            if self.swallows(number) {
                continue;
            }
            let scripted = *self.scripted.lock().unwrap();
            match scripted {
                Some((text, response)) if contains(chunk, text) => {
                    let mut client = to_client.lock().await;
                    client.write_all(response.as_bytes()).await.ok()?;
                }
                _ => server.write_all(chunk).await.ok()?,
            }
        }
    }

    async fn responses(
        &self,
        number: usize,
        mut server: OwnedReadHalf,
        client: &tokio::sync::Mutex<OwnedWriteHalf>,
    ) -> Option<()> {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let chunk = read(&mut server, &mut buffer).await?;
            let delay = *self.delay.lock().unwrap();
            sleep(delay).await;
            if !self.swallows(number) {
                client.lock().await.write_all(chunk).await.ok()?;
            }
        }
    }

    fn swallows(&self, number: usize) -> bool {
        number < self.swallowed.load(Ordering::SeqCst)
    }
}

async fn read<'a>(from: &mut OwnedReadHalf, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
    match from.read(buffer).await {
        Ok(0) | Err(_) => None,
        Ok(length) => Some(&buffer[..length]),
    }
}

fn contains(chunk: &[u8], text: &str) -> bool {
    chunk
        .windows(text.len())
        .any(|part| part == text.as_bytes())
}

const DEADLINE: Duration = Duration::from_secs(30);

const POLL: Duration = Duration::from_millis(10);
