//! A raw TCP server for malformed responses, which an HTTP framework would prevent.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// Behaviour of the server for one connection.
#[derive(Clone, Debug)]
pub enum Act {
    /// Sends a token, `token-1` and so on.
    Token,
    /// Reads the request, sends these bytes and closes the connection.
    Say(Vec<u8>),
    /// Reads the request and sends nothing.
    Hang,
    /// Sends these bytes, then one byte at a time without end.
    Drip(Vec<u8>),
    /// Closes the connection before reading.
    HangUp,
    /// Resets the connection in the middle of the request.
    Reset,
}

pub struct RawServer {
    base: String,
    state: Arc<State>,
    task: AbortHandle,
}

struct State {
    act: Mutex<Act>,
    requests: AtomicUsize,
    /// Heads of the requests.
    heads: Mutex<Vec<String>>,
}

impl RawServer {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(State {
            act: Mutex::new(Act::Token),
            requests: AtomicUsize::new(0),
            heads: Mutex::default(),
        });
        let serving = Arc::clone(&state);
        let task = tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let state = Arc::clone(&serving);
                // A client may close the connection at any time.
                tokio::spawn(async move { state.serve(socket).await.ok() });
            }
        });
        Self {
            base,
            state,
            task: task.abort_handle(),
        }
    }

    pub fn base(&self) -> &str {
        &self.base
    }

    pub fn act(&self, act: Act) {
        *self.state.act.lock().unwrap() = act;
    }

    /// Closes the listening socket.
    pub async fn go_down(&self) {
        self.task.abort();
        let address = self.base.strip_prefix("http://").unwrap();
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    }

    /// Returns a header of a request that was read completely.
    pub fn header(&self, request: usize, name: &str) -> Option<String> {
        let heads = self.state.heads.lock().unwrap();
        header(&heads[request], name).map(ToOwned::to_owned)
    }

    /// Returns the number of requests, complete or not.
    pub fn requests(&self) -> usize {
        self.state.requests.load(Ordering::SeqCst)
    }
}

impl Drop for RawServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl State {
    async fn serve(&self, mut socket: TcpStream) -> std::io::Result<()> {
        let act = self.act.lock().unwrap().clone();
        if let Act::HangUp = act {
            self.requests.fetch_add(1, Ordering::SeqCst);
            return Ok(());
        }
        let mut request = Vec::new();
        while !is_whole(&request) {
            let mut buffer = [0; 4096];
            let at_most = if let Act::Reset = act {
                10
            } else {
                buffer.len()
            };
            let read = socket.read(&mut buffer[..at_most]).await?;
            if read == 0 {
                return Ok(());
            }
            request.extend_from_slice(&buffer[..read]);
            if let Act::Reset = act {
                self.requests.fetch_add(1, Ordering::SeqCst);
                // Closing a socket with unread data resets the connection.
                return Ok(());
            }
        }
        let head = String::from_utf8_lossy(&request).into_owned();
        self.heads.lock().unwrap().push(head);
        let number = self.requests.fetch_add(1, Ordering::SeqCst) + 1;
        match act {
            Act::Token => socket.write_all(token(number).as_bytes()).await?,
            Act::Say(bytes) => socket.write_all(&bytes).await?,
            Act::Hang => std::future::pending().await,
            Act::Drip(bytes) => {
                socket.write_all(&bytes).await?;
                loop {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    socket.write_all(b" ").await?;
                }
            }
            Act::HangUp | Act::Reset => unreachable!("handled above"),
        }
        socket.shutdown().await
    }
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    match header(head, "content-length") {
        Some(length) => body.len() >= length.parse().unwrap(),
        None => header(head, "transfer-encoding").is_none() || body.ends_with("0\r\n\r\n"),
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (known, value) = line.split_once(':')?;
        known.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// Returns a token response that is due within a second and valid for an hour.
fn token(number: usize) -> String {
    let body = format!(
        r#"{{"token_type":"Bearer","expires_in":3600,"refresh_in":1,"access_token":"token-{number}"}}"#
    );
    answer("200 OK", "content-type: application/json\r\n", &body)
}

pub fn answer(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}
