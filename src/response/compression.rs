use bytes::Bytes;
use http::Response;
use http::header::CONTENT_ENCODING;

/// Returns a text that names the compression of the body, or `None` without compression.
///
/// The client requests no compression. A gateway that compresses all responses makes the body
/// unreadable. A transport that decompresses the body removes the header ([RFC 9110 section 8.4]).
///
/// [RFC 9110 section 8.4]: https://www.rfc-editor.org/rfc/rfc9110#section-8.4
pub(crate) fn compression(response: &Response<Bytes>) -> Option<String> {
    let name = by_header(response).or_else(|| by_first_bytes(response.body()))?;
    Some(format!(
        "compressed with {name}, which was not requested and is not read; turn compression off on the server or the gateway, or set a transport that decompresses"
    ))
}

fn by_header(response: &Response<Bytes>) -> Option<String> {
    let values = response.headers().get_all(CONTENT_ENCODING).into_iter();
    let names = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let mut names = names.map(|name| {
        let name = String::from_utf8_lossy(name).trim().to_ascii_lowercase();
        // The header is another party's text.
        let is_shown = |c: &char| c.is_ascii_alphanumeric() || *c == '-';
        name.chars().filter(is_shown).take(20).collect::<String>()
    });
    names.find(|name| !name.is_empty() && name != "identity")
}

/// Recognizes a body whose gateway has lost the header.
fn by_first_bytes(body: &[u8]) -> Option<String> {
    let starts: [(&[u8], &str); 5] = [
        (b"\x1f\x8b", "gzip"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"\x78\x01", "deflate"),
        (b"\x78\x9c", "deflate"),
        (b"\x78\xda", "deflate"),
    ];
    let start = starts.iter().find(|(start, _)| body.starts_with(start));
    start.map(|(_, name)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compressed_body_is_named_and_a_plain_one_is_not() {
        for (encoding, body, name) in [
            (None, &b"{}"[..], None),
            (Some("identity"), b"{}", None),
            (Some(""), b"{}", None),
            (Some("gzip"), b"\x1f\x8b", Some("gzip")),
            (Some("GZIP"), b"{}", Some("gzip")),
            (Some("identity, br"), b"\x1b", Some("br")),
            (Some("zstd"), b"", Some("zstd")),
            (Some("x y<z>"), b"", Some("xyz")),
            (None, b"\x1f\x8b\x08", Some("gzip")),
            (None, b"\x78\x9c\x01", Some("deflate")),
            (None, b"\x28\xb5\x2f\xfd\x01", Some("zstd")),
        ] {
            let mut response = Response::new(Bytes::from_static(body));
            if let Some(encoding) = encoding {
                let value = http::HeaderValue::from_static(encoding);
                response.headers_mut().insert(CONTENT_ENCODING, value);
            }
            let text = compression(&response);
            let named = text.as_deref().and_then(|text| {
                let (name, _) = text.strip_prefix("compressed with ")?.split_once(',')?;
                Some(name)
            });
            assert_eq!(named, name, "{encoding:?}");
        }
    }
}
