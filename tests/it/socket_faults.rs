//! Faults between two sockets, without a cached token and with one that is due.

use std::time::Duration;

use confidential_client::{
    Authority, Cloud, ConfidentialClient, ConfidentialClientBuilder, Error, RetryPolicy,
    TokenSource,
};
use tokio::task::JoinSet;

use crate::support::log_capture;
use crate::support::raw_server::{Act, RawServer, answer};
use crate::support::{CLIENT_ID, SCOPE, SECRET, TENANT};

/// Two attempts at once, and none that hangs for long.
fn builder(server: &RawServer) -> ConfidentialClientBuilder {
    log_capture::start();
    let base = server.base().to_owned();
    let policy = RetryPolicy::default()
        .max_attempts(2)
        .base_delay(Duration::ZERO);
    ConfidentialClient::builder(CLIENT_ID)
        .authority(Authority::entra(Cloud::Custom(base), TENANT))
        .client_secret(SECRET)
        .retry(policy)
        .attempt_timeout(Duration::from_secs(2))
}

#[derive(Clone, Debug)]
enum Fault {
    Down,
    Acts(Act),
}

struct Row {
    name: &'static str,
    fault: Fault,
    /// What the caller without a token gets: the variant, and a part of what it says.
    error: (&'static str, &'static str),
    /// How many of the requests of one flight arrive.
    requests: usize,
}

fn say(text: impl Into<Vec<u8>>) -> Fault {
    Fault::Acts(Act::Say(text.into()))
}

fn rows() -> Vec<Row> {
    let row = |name, fault, error, requests| Row {
        name,
        fault,
        error,
        requests,
    };
    let moved = "location: https://evil.example/path?code=hunter2\r\n";
    let no_answer = (
        "Transport",
        "no response from the token endpoint http://127.0.0.1",
    );
    let in_time = ("Transport", "within 2 s (2 attempts)");
    let half = "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{\"access_token\":\"eyJ";
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"acc\r\n";
    let drip = |text: &str| Fault::Acts(Act::Drip(text.into()));
    let page = "<html><form action=/login>";
    vec![
        row("down", Fault::Down, ("Transport", "(2 attempts)"), 0),
        row("hangs up", Fault::Acts(Act::HangUp), no_answer, 2),
        row(
            "reset in the request",
            Fault::Acts(Act::Reset),
            no_answer,
            2,
        ),
        row("no answer", Fault::Acts(Act::Hang), in_time, 2),
        row("an empty answer", say(""), no_answer, 2),
        row(
            "the end in the head",
            say("HTTP/1.1 200 OK\r\ncontent-le"),
            no_answer,
            2,
        ),
        row("the end in the body", say(half), no_answer, 2),
        row("the end in a chunk", say(chunked), no_answer, 2),
        row(
            "a head that trickles",
            drip("HTTP/1.1 200 OK\r\nx: "),
            in_time,
            2,
        ),
        row(
            "a body that trickles",
            drip("HTTP/1.1 200 OK\r\ncontent-length: 999999\r\n\r\n{"),
            in_time,
            2,
        ),
        row(
            "a chunked body that trickles",
            drip("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffff\r\n{"),
            in_time,
            2,
        ),
        row("not HTTP", say("SSH-2.0-OpenSSH_9.2\r\n"), no_answer, 2),
        row("TLS", say(*b"\x15\x03\x01\x00\x02\x02\x46"), no_answer, 2),
        row(
            "a head without end",
            say(format!("HTTP/1.1 200 OK\r\nx: {}", "x".repeat(1_000_000))),
            no_answer,
            2,
        ),
        row(
            "a body of 2 MB",
            say(answer("200 OK", "", &" ".repeat(2_000_000))),
            ("InvalidResponse", "too long"),
            1,
        ),
        row(
            "503",
            say(answer("503 Busy", "", "")),
            ("InvalidResponse", "returned 503"),
            2,
        ),
        row(
            "503, to wait a moment",
            say(answer("503 Busy", "retry-after: 1\r\n", "")),
            ("Throttled", "asked to wait"),
            2,
        ),
        row(
            "503, to wait",
            say(answer("503 Busy", "retry-after: 60\r\n", "")),
            ("Throttled", "(next attempt in 60 s)"),
            1,
        ),
        row(
            "500 in a gateway's words",
            say(answer(
                "500 Oops",
                "content-type: text/html\r\n",
                "<h1>Oops</h1>",
            )),
            ("InvalidResponse", "text/html): Oops"),
            2,
        ),
        row(
            "500 in OAuth's",
            say(answer("500 Oops", "", r#"{"error":"server_error"}"#)),
            ("Server", "server_error"),
            2,
        ),
        row(
            "408",
            say(answer("408 Late", "", "")),
            ("InvalidResponse", "returned 408"),
            2,
        ),
        row(
            "429",
            say(answer("429 Slow", "", "")),
            ("Throttled", "asked to wait"),
            1,
        ),
        row(
            "429, to wait",
            say(answer("429 Slow", "retry-after: 60\r\n", "slow down")),
            ("Throttled", "(next attempt in 60 s)"),
            1,
        ),
        row(
            "a refusal",
            say(answer("401 No", "", r#"{"error":"invalid_client"}"#)),
            ("Server", "invalid_client"),
            1,
        ),
        row(
            "404",
            say(answer("404 None", "", "")),
            ("InvalidResponse", "returned 404"),
            1,
        ),
        row(
            "a captive portal",
            say(answer("200 OK", "content-type: text/html\r\n", page)),
            (
                "InvalidResponse",
                "not a JSON object (status 200, 26 bytes, text/html)",
            ),
            1,
        ),
        row(
            "302",
            say(answer("302 Found", moved, "")),
            (
                "InvalidResponse",
                "302 with a redirect to 'evil.example', which is not followed",
            ),
            1,
        ),
        row(
            "307",
            say(answer("307 There", moved, "")),
            ("InvalidResponse", "a redirect to 'evil.example'"),
            1,
        ),
        row(
            "301 without a scheme",
            say(answer("301 There", "location: //evil.example/\r\n", "")),
            ("InvalidResponse", "a redirect to 'evil.example'"),
            1,
        ),
        row(
            "308 to nowhere",
            say(answer("308 There", "location: /login\r\n", "")),
            (
                "InvalidResponse",
                "a redirect to 'another path of the same host'",
            ),
            1,
        ),
        row(
            "304",
            say(answer("304 Same", "", "")),
            ("InvalidResponse", "returned 304"),
            1,
        ),
    ]
}

async fn strike(server: &RawServer, fault: &Fault) {
    match fault {
        Fault::Down => server.go_down().await,
        Fault::Acts(act) => server.act(act.clone()),
    }
}

async fn with_nothing_in_memory(row: Row) {
    let name = row.name;
    let server = RawServer::start().await;
    strike(&server, &row.fault).await;
    let client = builder(&server).build().unwrap();
    let error = client.acquire_token_for_client(SCOPE).await.unwrap_err();
    let (variant, text) = row.error;
    let debug = format!("{error:?}");
    assert!(debug.starts_with(variant), "{name}: {debug}");
    assert!(error.to_string().contains(text), "{name}: {error}");
    assert!(
        !format!("{error}{debug}").contains("hunter2"),
        "{name}: {debug}"
    );
    assert!(
        !format!("{error}{debug}").contains("eyJ"),
        "{name}: {debug}"
    );
    assert_eq!(server.requests(), row.requests, "{name}");
}

async fn with_a_token_that_is_due(row: Row) {
    let name = row.name;
    let server = RawServer::start().await;
    let client = builder(&server).build().unwrap();
    let token = client.acquire_token_for_client(SCOPE).await.unwrap();
    strike(&server, &row.fault).await;
    // Until it is due, is asked for and has failed.
    while client.cache().stats().requests < 2 || failures(&client) < 1 {
        let served = client.acquire_token_for_client(SCOPE).await.unwrap();
        assert_eq!(
            (served.secret(), served.source()),
            (token.secret(), TokenSource::Cache)
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let served = client.acquire_token_for_client(SCOPE).await.unwrap();
    assert_eq!(served.secret(), token.secret(), "{name}");
    assert_eq!(server.requests(), 1 + row.requests, "{name}");
}

fn failures(client: &ConfidentialClient) -> u64 {
    let stats = client.cache().stats();
    stats.transport_errors
        + stats.server_errors
        + stats.throttled_errors
        + stats.invalid_response_errors
}

#[tokio::test]
async fn a_fault_without_a_cached_token_is_an_error() {
    let mut all = JoinSet::new();
    for row in rows() {
        all.spawn(with_nothing_in_memory(row));
    }
    all.join_all().await;
}

#[tokio::test]
async fn a_fault_with_a_cached_token_is_hidden() {
    let mut all = JoinSet::new();
    for row in rows() {
        all.spawn(with_a_token_that_is_due(row));
    }
    all.join_all().await;
}

#[tokio::test]
async fn a_head_that_cannot_be_read_says_which_limit_or_header() {
    let server = RawServer::start().await;
    let headers = |count: usize| {
        let headers: String = (0..count)
            .map(|number| format!("x-{number}: y\r\n"))
            .collect();
        format!("HTTP/1.1 200 OK\r\n{headers}content-length: 0\r\n\r\n")
    };
    let ok = "HTTP/1.1 200 OK\r\n";
    for (head, says) in [
        (headers(150), "more than 100 headers"),
        (
            headers(150),
            "http1_max_headers(..) in ConfidentialClientBuilder::reqwest(..)",
        ),
        (
            format!("{ok}x: {}\r\n\r\n", "y".repeat(1_500_000)),
            "hundred kilobytes",
        ),
        (
            format!("{ok}x y: z\r\n\r\n"),
            "a character that HTTP does not allow",
        ),
        (
            format!("{ok}x: \u{1}\r\n\r\n"),
            "a character that HTTP does not allow",
        ),
        (
            format!("{ok}no colon\r\n\r\n"),
            "http1_ignore_invalid_headers_in_responses(true)",
        ),
        (
            format!("{ok}content-length: 1\r\ncontent-length: 2\r\n\r\n{{}}"),
            "Content-Length",
        ),
        (
            format!("{ok}content-length: many\r\n\r\n"),
            "Content-Length contradict each other",
        ),
        (
            "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_owned(),
            "Transfer-Encoding",
        ),
        ("HTTP/1.1 2x0 OK\r\n\r\n".to_owned(), "status code"),
        (
            "SSH-2.0-OpenSSH_9.2\r\n".to_owned(),
            "does not begin with an HTTP status line",
        ),
    ] {
        server.act(Act::Say(head.clone().into_bytes()));
        let client = builder(&server).build().unwrap();
        let error = client.acquire_token_for_client(SCOPE).await.unwrap_err();
        let chain = error.chain().to_string();
        let shown: String = head.chars().take(60).collect();
        assert!(matches!(error, Error::Transport(_)), "{shown:?}: {chain}");
        assert!(error.is_transient(), "{shown:?}: {chain}");
        let problem = "the head of the response cannot be read: ";
        assert!(chain.contains(problem), "{shown:?}: {chain}");
        assert!(chain.contains(says), "{shown:?}, {says}: {chain}");
    }
}

/// Both length headers, and a header with white space around it, are what HTTP allows.
#[tokio::test]
async fn a_head_that_is_merely_odd_is_read() {
    let body = r#"{"token_type":"Bearer","expires_in":3599,"access_token":"a"}"#;
    let chunk = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let chunked = "transfer-encoding: chunked\r\n";
    for response in [
        format!("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n{chunked}\r\n{chunk}"),
        format!("HTTP/1.1 200\r\n{chunked}\r\n{chunk}"),
        format!("HTTP/1.1 200 OK\r\nx:\r\ny:   z  \r\n\r\n{body}"),
        format!("HTTP/1.1 200 OK\r\nx: \u{fc}\r\n\r\n{body}"),
        format!("HTTP/1.0 200 OK\r\n\r\n{body}"),
    ] {
        let server = RawServer::start().await;
        server.act(Act::Say(response.clone().into_bytes()));
        let client = builder(&server).build().unwrap();
        let token = client.acquire_token_for_client(SCOPE).await;
        assert!(token.is_ok(), "{response:?}: {token:?}");
    }
}

#[tokio::test]
async fn a_compressed_body_is_named() {
    let server = RawServer::start().await;
    for (status, encoding, body) in [
        (
            "200 OK",
            "content-encoding: gzip\r\n",
            &b"\x1f\x8b\x08\x00"[..],
        ),
        ("200 OK", "content-encoding: br\r\n", b"\x1b\x03\x00"),
        ("200 OK", "", b"\x1f\x8b\x08\x00"),
        ("401 No", "content-encoding: deflate\r\n", b"\x78\x9c"),
        ("502 No", "Content-Encoding: GZIP\r\n", b"\x1f\x8b"),
    ] {
        let head = answer(status, encoding, &" ".repeat(body.len()));
        let head = head.trim_end_matches(' ').as_bytes();
        server.act(Act::Say([head, body].concat()));
        let client = builder(&server).build().unwrap();
        let error = client.acquire_token_for_client(SCOPE).await.unwrap_err();
        assert!(matches!(error, Error::InvalidResponse(_)), "{error:?}");
        let name = match encoding.trim_end().rsplit_once(' ') {
            Some((_, name)) => name.to_ascii_lowercase(),
            None => "gzip".to_owned(),
        };
        let text = format!("compressed with {name}, which was not requested");
        let chain = error.chain().to_string();
        assert!(chain.contains(&text), "{status} {encoding:?}: {chain}");
    }
}

#[tokio::test]
async fn a_compressed_metadata_document_is_named() {
    let server = RawServer::start().await;
    let head = answer("200 OK", "content-encoding: gzip\r\n", "    ");
    let head = head.trim_end_matches(' ').as_bytes();
    server.act(Act::Say([head, b"\x1f\x8b\x08\x00"].concat()));
    let client = ConfidentialClient::builder(CLIENT_ID)
        .authority(Authority::oidc(server.base()))
        .client_secret(SECRET)
        .retry(RetryPolicy::none())
        .build()
        .unwrap();
    let error = client.acquire_token_for_client(SCOPE).await.unwrap_err();
    let chain = error.chain().to_string();
    assert!(chain.contains("it is compressed with gzip"), "{chain}");
}

/// A redirect within the same host, too: the credential goes where it was meant to and nowhere else.
#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (server, other) = (RawServer::start().await, RawServer::start().await);
    for status in ["301 a", "302 a", "303 a", "307 a", "308 a"] {
        let location = format!("location: {}/{TENANT}/oauth2/v2.0/token\r\n", other.base());
        server.act(Act::Say(answer(status, &location, "").into_bytes()));
        let client = builder(&server).build().unwrap();
        client.acquire_token_for_client(SCOPE).await.unwrap_err();
    }
    assert_eq!((server.requests(), other.requests()), (5, 0));
}

/// No name ends in `.invalid` (RFC 6761 section 6.4).
#[tokio::test]
async fn a_name_that_is_not_resolved_is_a_transport_error_that_says_so() {
    let client = ConfidentialClient::builder(CLIENT_ID)
        .authority(Authority::adfs("fs.contoso.invalid"))
        .client_secret(SECRET)
        .reqwest(reqwest::Client::builder().no_proxy())
        .retry(RetryPolicy::none())
        .build()
        .unwrap();
    let error = client.acquire_token_for_client(SCOPE).await.unwrap_err();
    assert!(matches!(error, Error::Transport(_)), "{error:?}");
    let chain = error.chain().to_string();
    assert!(
        chain.contains("https://fs.contoso.invalid/adfs/oauth2/token"),
        "{chain}"
    );
    assert!(chain.contains("dns error"), "{chain}");
}
