use std::io;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::StatusCode;
use tokio::net::TcpStream;
use url::Url;

/// Asks an `http` proxy once for a tunnel to `target`, and returns the status of the response.
///
/// reqwest does not return the status of a proxy that rejects a tunnel. The request is the one that
/// the proxy has rejected, and holds no token and no credential of the client.
pub(super) async fn status_of(proxy: &Url, target: &str) -> Option<StatusCode> {
    if proxy.scheme() != "http" {
        return None;
    }
    let host = proxy.host_str()?.trim_matches(['[', ']']);
    let port = proxy.port_or_known_default()?;
    let stream = TcpStream::connect((host, port)).await.ok()?;
    let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
    if let Some(credentials) = basic(proxy) {
        request.push_str(&format!("Proxy-Authorization: {credentials}\r\n"));
    }
    request.push_str("\r\n");
    write(&stream, request.as_bytes()).await.ok()?;
    status_of_head(&read_line(&stream).await.ok()?)
}

/// Returns the credentials of the proxy's URL for a header (RFC 7617).
fn basic(proxy: &Url) -> Option<String> {
    let decoded = |text: &str| {
        // `form_urlencoded` would decode a plus sign, and split at the others.
        let text = text
            .replace('+', "%2B")
            .replace('&', "%26")
            .replace('=', "%3D");
        let mut pairs = url::form_urlencoded::parse(text.as_bytes());
        pairs.next().map(|(text, _)| text.into_owned())
    };
    let user = decoded(proxy.username()).unwrap_or_default();
    let password = proxy.password().and_then(decoded).unwrap_or_default();
    if user.is_empty() && password.is_empty() {
        return None;
    }
    let credentials = BASE64_STANDARD.encode(format!("{user}:{password}"));
    Some(format!("Basic {credentials}"))
}

async fn write(stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads the first line, up to its limit.
async fn read_line(stream: &TcpStream) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut buffer = [0; 256];
    while !line.contains(&b'\n') && line.len() < LONGEST_LINE {
        stream.readable().await?;
        match stream.try_read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => line.extend_from_slice(buffer.get(..read).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(line)
}

/// Returns the status of a response that begins with `HTTP/1.1 403 Forbidden`.
fn status_of_head(head: &[u8]) -> Option<StatusCode> {
    let mut parts = head.split(|byte| *byte == b' ');
    let is_http = parts.next()?.starts_with(b"HTTP/1.");
    let status = parts.next()?.get(..3)?;
    StatusCode::from_bytes(status).ok().filter(|_| is_http)
}

const LONGEST_LINE: usize = 1024;
