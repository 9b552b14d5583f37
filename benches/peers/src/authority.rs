//! An identity provider on loopback.
//!
//! The identity provider runs in a separate process, so that no client's figure includes its CPU
//! time.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use confidential_client::testing::{Application, LocalAuthority};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::{CLIENT_ID, Result, SECRET, TENANT};

pub struct Authority {
    process: Child,
    pub base_url: String,
}

impl Authority {
    /// Starts this program again with the arguments of a serving mode.
    pub fn start(arguments: &[&str]) -> Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .args(arguments)
            .stdout(Stdio::piped())
            .stdin(Stdio::piped())
            .spawn()?;
        let stdout = process.stdout.take().ok_or("no output")?;
        let mut base_url = String::new();
        BufReader::new(stdout).read_line(&mut base_url)?;
        Ok(Self {
            process,
            base_url: base_url.trim().to_owned(),
        })
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Responds to every request at once with a new token, as long as Entra's tokens. A POST gets the
/// response of Entra, and a GET the response of App Service. Connections stay open.
pub fn serve_at_once() -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    println!("http://{}", listener.local_addr()?);
    for stream in listener.incoming() {
        let stream = stream?;
        std::thread::spawn(move || serve_connection(stream));
    }
    Ok(())
}

fn serve_connection(mut stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let mut length = 0;
        let mut is_get = false;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            is_get |= line.starts_with("get ");
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let body = match is_get {
            true => host_token_response()?,
            false => token_response(),
        };
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all((head + &body).as_bytes())?;
    }
}

/// Responds as [`serve_at_once`], over HTTP/2 without TLS.
pub fn serve_http2() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
        println!("http://{}", listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            let respond = service_fn(|request: http::Request<Incoming>| async move {
                request.into_body().collect().await?;
                let response = http::Response::new(Full::new(Bytes::from(token_response())));
                Ok::<_, hyper::Error>(response)
            });
            let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(connection.serve_connection(TokioIo::new(stream), respond));
        }
    })
}

/// Writes the response of App Service with a token of a managed identity.
fn host_token_response() -> Result<String> {
    let day = 24 * 60 * 60;
    let expires_on = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() + day;
    let token = token();
    Ok(format!(
        r#"{{"token_type":"Bearer","expires_on":"{expires_on}","resource":"r","client_id":"c","access_token":"{token}"}}"#
    ))
}

fn token() -> String {
    format!("{:0>1492}", ISSUED.fetch_add(1, Ordering::Relaxed))
}

fn token_response() -> String {
    let token = token();
    format!(
        r#"{{"token_type":"Bearer","expires_in":3599,"ext_expires_in":3599,"access_token":"{token}"}}"#
    )
}

/// Serves a `LocalAuthority` with TLS, and writes the CA certificate into the file.
pub fn serve_with_tls(ca_file: &str) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let local = LocalAuthority::builder().tls().start().await?;
        local.register(TENANT, Application::new(CLIENT_ID).secret(SECRET));
        std::fs::write(ca_file, local.ca_pem().ok_or("the authority has no CA")?)?;
        println!("{}", local.base_url());
        std::future::pending().await
    })
}

static ISSUED: AtomicU64 = AtomicU64::new(0);
