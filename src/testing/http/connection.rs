use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::client_certificate::ClientCertificate;
use super::tls::ServerTls;

/// Accepts connections that the server can cut, with or without TLS.
pub(crate) struct Connections {
    ready: mpsc::Receiver<(Connection, SocketAddr)>,
    address: SocketAddr,
}

impl Connections {
    pub(crate) fn start(listener: TcpListener, tls: Option<ServerTls>) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let (accepted, ready) = mpsc::channel(1);
        tokio::spawn(async move {
            loop {
                let stream = tokio::select! {
                    stream = listener.accept() => stream,
                    () = accepted.closed() => return,
                };
                let Ok((stream, peer)) = stream else {
                    // Accepting fails for a short time if no file descriptor is free.
                    sleep(Duration::from_millis(10)).await;
                    continue;
                };
                let accepted = accepted.clone();
                let tls = tls.clone();
                // Each handshake has its own task. A slow handshake must not delay other clients.
                tokio::spawn(async move {
                    let opened = tokio::select! {
                        opened = open(stream, tls) => opened,
                        () = accepted.closed() => return,
                    };
                    if let Some((stream, client_certificate)) = opened {
                        let client = ClientConnection {
                            cut: ConnectionCut::default(),
                            client_certificate,
                        };
                        // Sending fails if the server has stopped.
                        let _ = accepted.send((Connection { stream, client }, peer)).await;
                    }
                });
            }
        });
        Ok(Self { ready, address })
    }
}

impl Listener for Connections {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        match self.ready.recv().await {
            Some(accepted) => accepted,
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

async fn open(stream: TcpStream, tls: Option<ServerTls>) -> Option<Opened> {
    let Some(tls) = tls else {
        return Some((Box::new(stream), None));
    };
    match tls.accept(stream).await {
        Ok(stream) => {
            let chain = stream.get_ref().1.peer_certificates();
            let certificate = chain.and_then(ClientCertificate::new);
            Some((Box::new(stream), certificate))
        }
        Err(error) => {
            tracing::debug!(%error, "the TLS handshake with a client failed");
            None
        }
    }
}

type Opened = (Box<dyn Stream>, Option<ClientCertificate>);

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl Stream for TcpStream {}
impl Stream for tokio_rustls::server::TlsStream<TcpStream> {}

/// One connection of a client.
pub(crate) struct Connection {
    stream: Box<dyn Stream>,
    client: ClientConnection,
}

/// A connection as a request handler sees it.
#[derive(Clone)]
pub(crate) struct ClientConnection {
    pub(crate) cut: ConnectionCut,
    pub(crate) client_certificate: Option<ClientCertificate>,
}

/// A handle that lets a request handler cut the connection.
#[derive(Clone, Default)]
pub(crate) struct ConnectionCut(Arc<Mutex<Option<CutPoint>>>);

#[derive(Clone, Copy)]
enum CutPoint {
    BeforeNextByte,
    /// After this number of bytes of the next response body.
    InBody(usize),
}

impl ConnectionCut {
    pub(crate) fn before_next_byte(&self) {
        self.set(CutPoint::BeforeNextByte);
    }

    pub(crate) fn in_body(&self, bytes: usize) {
        self.set(CutPoint::InBody(bytes));
    }

    fn set(&self, point: CutPoint) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(point);
    }

    fn get(&self) -> Option<CutPoint> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connected<IncomingStream<'_, Connections>> for ConnectionCut {
    fn connect_info(stream: IncomingStream<'_, Connections>) -> Self {
        stream.io().client.cut.clone()
    }
}

impl Connected<IncomingStream<'_, Connections>> for ClientConnection {
    fn connect_info(stream: IncomingStream<'_, Connections>) -> Self {
        stream.io().client.clone()
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let bytes = match self.client.cut.get() {
            None => bytes,
            Some(CutPoint::BeforeNextByte) => {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            Some(CutPoint::InBody(kept)) => {
                // hyper writes the head and the body of a small response at once.
                let head = bytes.windows(4).position(|part| part == b"\r\n\r\n");
                let end = head.map_or(bytes.len(), |head| head + 4 + kept);
                self.client.cut.before_next_byte();
                bytes.get(..end).unwrap_or(bytes)
            }
        };
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}
