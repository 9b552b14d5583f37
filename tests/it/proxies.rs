//! Proxies that are down, reject, or are written as people write them, with real `CONNECT`.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use confidential_client::resource::TokenValidator;
use confidential_client::testing::{Application, LocalAuthority};
use confidential_client::{
    Authority, Cloud, ConfidentialClient, ConfidentialClientBuilder, Error, RetryPolicy,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_blocking;

use crate::support::{CLIENT_ID, SCOPE, SECRET, TENANT, log_capture};

async fn authority_with_tls() -> LocalAuthority {
    let local = LocalAuthority::builder().tls().start().await.unwrap();
    local.register(TENANT, Application::new(CLIENT_ID).secret(SECRET));
    local
}

/// What a proxy does with `CONNECT`.
#[derive(Clone, Copy)]
enum Act {
    Tunnel,
    /// Tells this status line and headers, without a tunnel.
    Say(&'static str),
    HangUp,
    Hang,
}

/// A proxy, and how often it was asked.
struct Proxy {
    address: String,
    asked: Arc<AtomicUsize>,
}

impl Proxy {
    /// `user_info` is what the proxy requires, `user:password`.
    async fn start(act: Act, user_info: Option<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(client, act, user_info));
            }
        });
        Self { address, asked }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// Returns the address of a proxy that is down.
    async fn down() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().to_string()
    }
}

async fn serve(
    mut client: TcpStream,
    act: Act,
    user_info: Option<&str>,
) -> Result<(), std::io::Error> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match client.read_u8().await {
            // A TLS handshake, which a plain proxy rejects.
            Ok(0x16) if head.is_empty() => {
                return client.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            }
            Ok(byte) => head.push(byte),
            Err(error) => return Err(error),
        }
    }
    let head = String::from_utf8(head).unwrap();
    let credentials = user_info.map(|user_info| {
        let credentials = BASE64_STANDARD.encode(user_info);
        format!("proxy-authorization: basic {credentials}\r\n").to_ascii_lowercase()
    });
    let is_missing = |credentials: &String| !head.to_ascii_lowercase().contains(credentials);
    if credentials.as_ref().is_some_and(is_missing) {
        let response = b"HTTP/1.1 407 No\r\nproxy-authenticate: Basic realm=\"a\"\r\n\r\n";
        return client.write_all(response).await;
    }
    match act {
        Act::HangUp => Ok(()),
        Act::Hang => client.read_u8().await.map(drop),
        Act::Say(line) => {
            client
                .write_all(format!("HTTP/1.1 {line}\r\ncontent-length: 0\r\n\r\n").as_bytes())
                .await
        }
        Act::Tunnel => {
            let target = head.strip_prefix("CONNECT ").unwrap();
            let port = target.split([':', ' ']).nth(1).unwrap();
            let mut server = TcpStream::connect(format!("127.0.0.1:{port}")).await?;
            client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
            copy_bidirectional(&mut client, &mut server).await?;
            Ok(())
        }
    }
}

/// The authority by a name, since no proxy is used for a loopback address.
fn authority(base_url: &str) -> Authority {
    let host = base_url.replace("127.0.0.1", "localhost");
    Authority::entra(Cloud::Custom(host), TENANT).without_instance_discovery()
}

fn by_name(base_url: &str) -> ConfidentialClientBuilder {
    log_capture::start();
    ConfidentialClient::builder(CLIENT_ID)
        .authority(authority(base_url))
        .client_secret(SECRET)
        .retry(RetryPolicy::none())
}

fn trusting(ca_pem: &str) -> reqwest::ClientBuilder {
    let ca = reqwest::Certificate::from_pem(ca_pem.as_bytes()).unwrap();
    reqwest::Client::builder()
        .tls_backend_rustls()
        .tls_certs_merge([ca])
}

struct Row {
    act: Act,
    /// What the proxy requires, and what the client has.
    user_info: (Option<&'static str>, &'static str),
    says: &'static [&'static str],
    is_transient: bool,
}

/// Each `{}` stands for the proxy's address.
const ROWS: &[Row] = &[
    Row {
        act: Act::Tunnel,
        user_info: (Some("user:hunter2"), ""),
        says: &[
            "requires a user name and a password (407",
            "http://user:password@host:port",
        ],
        is_transient: false,
    },
    Row {
        act: Act::Tunnel,
        user_info: (Some("user:right"), "user:hunter2@"),
        says: &["rejected the user name and the password", "(407"],
        is_transient: false,
    },
    Row {
        act: Act::Say("403 Forbidden"),
        user_info: (None, ""),
        says: &[
            "rejected the connection to 'localhost:",
            "with 403 Forbidden",
            "rules of the proxy",
        ],
        is_transient: false,
    },
    Row {
        act: Act::Say("403 Forbidden"),
        user_info: (Some("user:hunter2&=+#%"), "user:hunter2&=+#%@"),
        says: &["with 403 Forbidden"],
        is_transient: false,
    },
    Row {
        act: Act::Say("302 Found\r\nlocation: https://portal.example/?hunter2"),
        user_info: (None, ""),
        says: &["with 302 Found", "is not followed"],
        is_transient: false,
    },
    Row {
        act: Act::Say("503 Service Unavailable"),
        user_info: (None, ""),
        says: &["with 503 Service Unavailable"],
        is_transient: true,
    },
    // What a proxy with TLS says to one without.
    Row {
        act: Act::Say("\u{15}\u{3}\u{1}"),
        user_info: (None, ""),
        says: &["or does not speak HTTP", "https://host:port"],
        is_transient: true,
    },
    Row {
        act: Act::HangUp,
        user_info: (None, ""),
        says: &[
            "closed the connection before it was a tunnel",
            "https://host:port",
        ],
        is_transient: true,
    },
];

fn assert_says(said: &str, texts: &[&str]) {
    for text in texts {
        assert!(said.contains(text), "{text}: {said}");
    }
    assert!(!said.contains("hunter2"), "{said}");
}

#[tokio::test]
async fn a_proxy_of_the_environment_that_rejects_is_named_with_its_status() {
    let local = authority_with_tls().await;
    for row in ROWS {
        let (required, has) = row.user_info;
        let proxy = Proxy::start(row.act, required).await;
        let url = format!("http://{has}{}", proxy.address);
        let said = child(&local, "default", &[("HTTPS_PROXY", &url)]).await;
        let name = format!("the proxy 'http://{}' (HTTPS_PROXY) ", proxy.address);
        assert_says(
            &said,
            &[&name, "Transport: no response from the token endpoint"],
        );
        assert_says(&said, row.says);
        let transient = format!("transient: {}", row.is_transient);
        assert_says(&said, &[&transient]);
        assert!(proxy.asked() > 0);
    }
    assert!(local.token_requests().is_empty());
}

#[tokio::test]
async fn a_proxy_of_the_callers_that_rejects_is_named_without_its_password() {
    let local = authority_with_tls().await;
    for (act, required, has, says) in [
        (Act::Say("403 No"), None, "", "with 403 Forbidden"),
        (Act::Say("503 No"), None, "", "with 503 Service Unavailable"),
        // The password is reqwest's secret, so the status is not known.
        (
            Act::Say("403 No"),
            Some("user:hunter2"),
            "user:hunter2@",
            "rejected the connection to",
        ),
        (
            Act::Tunnel,
            Some("user:right"),
            "user:hunter2@",
            "(407 Proxy Authentication Required)",
        ),
        (Act::HangUp, None, "", "closed the connection"),
    ] {
        let proxy = Proxy::start(act, required).await;
        let url = format!("http://{has}{}", proxy.address);
        let through = trusting(local.ca_pem().unwrap()).proxy(reqwest::Proxy::all(url).unwrap());
        let client = by_name(local.base_url()).reqwest(through).build().unwrap();
        let error = client.acquire_token_for_client(SCOPE).await.unwrap_err();
        let name = format!(
            "the proxy 'http://{}' (ConfidentialClientBuilder::reqwest(..)) ",
            proxy.address
        );
        let said = format!("{} {error:?} {error:#?}", error.chain());
        assert_says(&said, &[&name, says]);
    }
}

#[tokio::test]
async fn a_rejection_by_a_proxy_is_not_retried_and_an_outage_is() {
    let local = authority_with_tls().await;
    for (act, asked) in [
        // Once by reqwest, and once for the status.
        (Act::Say("403 No"), 2),
        (Act::Say("503 No"), 6),
    ] {
        let proxy = Proxy::start(act, None).await;
        let url = format!("http://{}", proxy.address);
        let through = trusting(local.ca_pem().unwrap()).proxy(reqwest::Proxy::all(url).unwrap());
        let client = by_name(local.base_url())
            .retry(RetryPolicy::default().base_delay(std::time::Duration::ZERO))
            .reqwest(through)
            .build()
            .unwrap();
        client.acquire_token_for_client(SCOPE).await.unwrap_err();
        assert_eq!(proxy.asked(), asked);
    }
}

#[tokio::test]
async fn a_proxy_that_is_down_or_without_tls_is_named() {
    let local = authority_with_tls().await;
    let down = Proxy::down().await;
    let url = format!("http://user:hunter2@{down}");
    let said = child(&local, "default", &[("HTTPS_PROXY", &url)]).await;
    let name = format!("the proxy 'http://{down}' (HTTPS_PROXY) cannot be reached");
    assert_says(
        &said,
        &[
            &name,
            "list 'localhost' in NO_PROXY",
            "refused",
            "transient: true",
        ],
    );

    let plain = Proxy::start(Act::Tunnel, None).await;
    let url = format!("https://{}", plain.address);
    let said = child(&local, "default", &[("https_proxy", &url)]).await;
    let name = format!("the proxy '{url}' (https_proxy) does not speak TLS; write http://");
    assert_says(&said, &[&name, "transient: false"]);

    let through = trusting(local.ca_pem().unwrap());
    let through = through.proxy(reqwest::Proxy::all(format!("http://{down}")).unwrap());
    let validator = TokenValidator::builder(authority(local.base_url()))
        .audience("api://0")
        .single_tenant()
        .reqwest(through)
        .build()
        .unwrap();
    let token = "eyJhbGciOiJSUzI1NiIsImtpZCI6ImEifQ.eyJleHAiOjQxMDI0NDQ4MDB9.c2ln";
    let rejection = validator.validate(token).await.unwrap_err();
    let source = std::error::Error::source(&rejection).unwrap();
    let error = source.downcast_ref::<Error>().unwrap();
    let name = format!("the proxy 'http://{down}' (TokenValidatorBuilder::reqwest(..)) cannot");
    assert_says(&error.chain().to_string(), &[&name]);
}

#[tokio::test]
async fn a_proxy_that_hangs_and_a_socks_proxy_are_named() {
    let local = authority_with_tls().await;
    let proxy = Proxy::start(Act::Hang, None).await;
    let url = format!("http://{}", proxy.address);
    let through = trusting(local.ca_pem().unwrap()).proxy(reqwest::Proxy::all(url).unwrap());
    let client = by_name(local.base_url())
        .reqwest(through)
        .connect_timeout(std::time::Duration::from_millis(100))
        .build()
        .unwrap();
    let error = client.acquire_token_for_client(SCOPE).await.unwrap_err();
    let name = format!(
        "the connection through the proxy 'http://{}' (",
        proxy.address
    );
    assert_says(&error.chain().to_string(), &[&name, "failed", "timed out"]);
    assert!(error.is_transient());

    let socks = [("ALL_PROXY", "socks5://user:hunter2@127.0.0.1:1")];
    let said = child(&local, "default", &socks).await;
    let name = "the proxy 'socks5://127.0.0.1:1' (ALL_PROXY) is a SOCKS proxy";
    assert_says(
        &said,
        &[name, "the feature 'socks' of reqwest", "transient: false"],
    );
}

/// A proxy that inspects TLS has a CA of its own, which the machine does not trust.
#[tokio::test]
async fn an_untrusted_certificate_behind_a_proxy_names_the_proxy() {
    let local = authority_with_tls().await;
    let proxy = Proxy::start(Act::Tunnel, None).await;
    let url = format!("http://{}", proxy.address);
    let through = reqwest::Client::builder()
        .tls_backend_rustls()
        .proxy(reqwest::Proxy::all(url).unwrap());
    let client = by_name(local.base_url()).reqwest(through).build().unwrap();
    let error = client.acquire_token_for_client(SCOPE).await.unwrap_err();
    let name = format!("by way of the proxy 'http://{}' (", proxy.address);
    let said = error.chain().to_string();
    assert_says(
        &said,
        &[&name, "a proxy that inspects TLS", "no trusted CA"],
    );
}

#[tokio::test]
async fn a_proxy_is_used_as_people_write_it() {
    let local = authority_with_tls().await;
    let password = "user:hunter2#/\\?@%";
    let proxy = Proxy::start(Act::Tunnel, Some(password)).await;
    let address = &proxy.address;
    for (number, value) in [
        format!("http://{password}@{address}"),
        format!("\"http://{password}@{address}\""),
        format!("'http://{password}@{address}'\n"),
        format!("http://{password}@{address}/;"),
        format!("http:/{password}@{address}"),
        format!("{password}@{address}"),
        format!("http://user:hunter2%23%2F%5C%3F%40%25@{address}"),
    ]
    .iter()
    .enumerate()
    {
        let said = child(&local, "default", &[("HTTPS_PROXY", value)]).await;
        assert!(said.contains("a token"), "{value:?}: {said}");
        assert_eq!(proxy.asked(), number + 1, "{value:?}");
    }
    assert_eq!(local.token_requests().len(), proxy.asked());
}

/// reqwest connects directly, without a word, where it cannot read the variable.
#[tokio::test]
async fn a_proxy_that_cannot_be_read_is_not_passed_over_in_silence() {
    let local = authority_with_tls().await;
    let variable = "Config: the proxy in the environment variable HTTPS_PROXY ";
    for (how, value, says) in [
        (
            "default",
            "http://user:hunter2@<proxy>:3128",
            "cannot be used",
        ),
        (
            "default",
            "ftp://user:hunter2@proxy.example",
            "neither http nor https",
        ),
        (
            "callers",
            "http://user:hunter2@<proxy>:3128",
            "cannot be used",
        ),
        (
            "callers",
            "\"http://user:hunter2@proxy.example\"",
            "is not written as a URL",
        ),
        (
            "callers",
            "http://user:hunter2#@proxy.example",
            "percent-encode the password",
        ),
    ] {
        let said = child(&local, how, &[("HTTPS_PROXY", value)]).await;
        assert_says(&said, &[variable, says]);
    }
    // Nothing is wrong if the variable does not count.
    for variables in [
        &[("HTTPS_PROXY", "\"http://a.example\"")][..],
        &[("HTTPS_PROXY", "<proxy>")],
    ] {
        let said = child(&local, "callers without a proxy", variables).await;
        assert!(said.contains("a token"), "{variables:?}: {said}");
        let with_exemption = [variables, &[("NO_PROXY", "*")]].concat();
        for how in ["default", "callers"] {
            let said = child(&local, how, &with_exemption).await;
            assert!(said.contains("a token"), "{how} {variables:?}: {said}");
        }
    }
}

/// No name ends in `.invalid` (RFC 6761 section 6.4).
#[tokio::test]
async fn a_host_without_an_address_suggests_a_proxy_where_one_could_be_set() {
    let local = authority_with_tls().await;
    let remote = ("TEST_BASE_URL", "https://login.contoso.invalid");
    let advice = "the internet through a proxy only, set HTTPS_PROXY";
    for (how, variables, is_advised) in [
        ("default", &[remote][..], true),
        ("callers", &[remote], true),
        ("callers without a proxy", &[remote], false),
        ("default", &[remote, ("NO_PROXY", ".invalid")], false),
        ("callers", &[remote, ("NO_PROXY", ".invalid")], false),
        ("default", &[("TEST_BASE_URL", "https://contoso")], false),
    ] {
        let said = child(&local, how, variables).await;
        assert_says(&said, &["dns error", "transient: true"]);
        assert_eq!(
            said.contains(advice),
            is_advised,
            "{how} {variables:?}: {said}"
        );
    }
}

#[tokio::test]
async fn no_proxy_exempts_a_host_as_people_write_it() {
    let local = authority_with_tls().await;
    let proxy = Proxy::start(Act::Tunnel, None).await;
    let url = format!("http://{}", proxy.address);
    let port = local.base_url().rsplit_once(':').unwrap().1;
    for (list, is_exempt) in [
        (format!("localhost:{port}"), true),
        (format!("a.example, localhost:{port}"), true),
        ("*host".to_owned(), true),
        ("a.example;localhost".to_owned(), true),
        ("localhost:1".to_owned(), false),
        ("*.localhost".to_owned(), false),
        ("127.0.0.1".to_owned(), false),
    ] {
        for how in ["default", "callers"] {
            let before = proxy.asked();
            let variables = [("HTTPS_PROXY", url.as_str()), ("NO_PROXY", &list)];
            let said = child(&local, how, &variables).await;
            assert!(said.contains("a token"), "{how} {list:?}: {said}");
            let asked = proxy.asked() - before;
            assert_eq!(asked, usize::from(!is_exempt), "{how} {list:?}");
        }
    }
}

/// Acquires a token in a process of its own, since the environment is the whole process's.
async fn child(local: &LocalAuthority, how: &str, variables: &[(&str, &str)]) -> String {
    let ca = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let ca = ca.join(format!(
        "proxies-{}.pem",
        local.base_url().rsplit_once(':').unwrap().1
    ));
    fs::write(&ca, local.ca_pem().unwrap()).unwrap();
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["--exact", "proxies::acquires_by_the_environment"])
        .args(["--ignored", "--nocapture"])
        .env_clear()
        .env("SSL_CERT_FILE", &ca)
        .env("TEST_BASE_URL", local.base_url())
        .env("TEST_HOW", how)
        .envs(variables.iter().copied());
    let output = spawn_blocking(move || command.output().unwrap()).await;
    let output = output.unwrap();
    fs::remove_file(&ca).unwrap();
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[tokio::test]
#[ignore = "run by another, with an environment"]
#[allow(clippy::print_stdout, reason = "the parent reads it")]
async fn acquires_by_the_environment() {
    let variable = |name: &str| env::var(name).unwrap();
    let builder = by_name(&variable("TEST_BASE_URL"));
    let client = match variable("TEST_HOW").as_str() {
        "default" => builder.build(),
        "callers" => builder.reqwest(reqwest::Client::builder()).build(),
        _ => builder
            .reqwest(reqwest::Client::builder().no_proxy())
            .build(),
    };
    let result = match client {
        Ok(client) => client.acquire_token_for_client(SCOPE).await.map(|_| ()),
        Err(error) => Err(error),
    };
    match result {
        Ok(()) => println!("a token"),
        Err(error) => println!("{error:?} transient: {}", error.is_transient()),
    }
}
