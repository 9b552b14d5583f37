use std::io;

use form_urlencoded::parse;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The parts of a request that a token endpoint reads.
pub struct Request {
    pub path: String,
    /// Correlation id.
    pub id: String,
    form: Vec<(String, String)>,
}

/// A response, and how the response is cut.
pub struct Reply {
    status: u16,
    content_type: &'static str,
    retry_after: Option<u64>,
    body: String,
    is_dropped: bool,
}

impl Request {
    pub fn field(&self, name: &str) -> Option<&str> {
        let field = self.form.iter().find(|(known, _)| known == name);
        field.map(|(_, value)| value.as_str())
    }

    pub fn tenant(&self) -> Option<&str> {
        self.path
            .strip_prefix('/')?
            .strip_suffix("/oauth2/v2.0/token")
    }

    fn new(head: &str, body: &[u8]) -> Option<Self> {
        let path = head.strip_prefix("POST ")?.split(' ').next()?;
        Some(Self {
            path: path.to_owned(),
            id: header(head, "client-request-id")?.to_owned(),
            form: parse(body).into_owned().collect(),
        })
    }
}

impl Reply {
    pub fn json(status: u16, body: &Value) -> Self {
        Self {
            status,
            content_type: "application/json",
            retry_after: None,
            body: body.to_string(),
            is_dropped: false,
        }
    }

    pub fn page(text: &str) -> Self {
        Self {
            content_type: "text/html",
            body: text.to_owned(),
            ..Self::json(200, &Value::Null)
        }
    }

    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// Returns well-formed HTTP with half of the body.
    pub fn truncated(mut self) -> Self {
        self.body.truncate(self.body.len() / 2);
        self
    }

    /// Closes the connection in the middle of the body.
    pub fn dropped_in_body(mut self) -> Self {
        self.is_dropped = true;
        self
    }
}

/// Reads the next request. Returns `None` at the end of the connection and for other requests.
pub async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<Request>> {
    loop {
        if let Some((request, end)) = whole(buffer) {
            buffer.drain(..end);
            return Ok(request);
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

/// Writes the response, and returns whether the connection is reusable.
pub async fn write(stream: &mut TcpStream, reply: &Reply) -> io::Result<bool> {
    let length = reply.body.len();
    let mut text = format!(
        "HTTP/1.1 {} Answer\r\nContent-Type: {}\r\nContent-Length: {length}\r\n",
        reply.status, reply.content_type
    );
    if let Some(seconds) = reply.retry_after {
        text += &format!("Retry-After: {seconds}\r\n");
    }
    text += "\r\n";
    text += match reply.is_dropped {
        true => &reply.body[..length / 2],
        false => &reply.body,
    };
    stream.write_all(text.as_bytes()).await?;
    Ok(!reply.is_dropped)
}

/// Returns the request in the buffer and the offset of the end, once complete.
fn whole(buffer: &[u8]) -> Option<(Option<Request>, usize)> {
    let head = buffer.windows(4).position(|end| end == b"\r\n\r\n")?;
    let body = head + 4;
    let head = std::str::from_utf8(&buffer[..head]).unwrap_or_default();
    let length = header(head, "content-length").and_then(|length| length.parse().ok());
    let end = body + length.unwrap_or(0);
    let content = buffer.get(body..end)?;
    Some((Request::new(head, content), end))
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = lines.find(|(known, _)| known.eq_ignore_ascii_case(name))?;
    Some(value.trim())
}
