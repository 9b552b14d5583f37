//! An HTTP proxy that holds the provider's responses back.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// A proxy with the method `CONNECT` (RFC 9110 section 9.3.6).
pub struct Tunnel {
    url: String,
    is_held: Arc<watch::Sender<bool>>,
    task: AbortHandle,
}

impl Tunnel {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let is_held = Arc::new(watch::Sender::new(false));
        let holding = Arc::clone(&is_held);
        let task = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(client, holding.subscribe()));
            }
        });
        Self {
            url,
            is_held,
            task: task.abort_handle(),
        }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Holds all responses back, until they are released.
    pub fn hold(&self) {
        self.is_held.send_replace(true);
    }

    pub fn release(&self) {
        self.is_held.send_replace(false);
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut client: TcpStream, mut is_held: watch::Receiver<bool>) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    let address = head.strip_prefix("CONNECT ")?.split(' ').next()?;
    let server = TcpStream::connect(address).await.ok()?;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.ok()?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let requests = tokio::io::copy(&mut from_client, &mut to_server);
    let responses = async {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let length = from_server.read(&mut buffer).await.ok()?;
            is_held.wait_for(|is_held| !is_held).await.ok()?;
            to_client.write_all(buffer.get(..length)?).await.ok()?;
            if length == 0 {
                return Some(());
            }
        }
    };
    // Both connections close when one of them does.
    tokio::select! { _ = requests => {}, _ = responses => {} }
    Some(())
}
