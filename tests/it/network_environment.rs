//! Private CAs, proxies, and a process without free file descriptors.

use std::fs::File;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use confidential_client::testing::{Application, LocalAuthority};
use confidential_client::{
    Authority, Cloud, ConfidentialClient, ConfidentialClientBuilder, Error, RetryPolicy,
    TokenSource,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{CLIENT_ID, SCOPE, SECRET, TENANT, client_of, scope};

async fn authority_with_tls() -> LocalAuthority {
    let local = LocalAuthority::builder().tls().start().await.unwrap();
    local.register(TENANT, Application::new(CLIENT_ID).secret(SECRET));
    local
}

fn trusting(ca_pem: &str) -> reqwest::ClientBuilder {
    let ca = reqwest::Certificate::from_pem(ca_pem.as_bytes()).unwrap();
    reqwest::Client::builder().tls_certs_merge([ca])
}

/// The authority by a name, which may be anywhere as far as the client knows.
fn by_name(base_url: &str) -> ConfidentialClientBuilder {
    let host = base_url.replace("127.0.0.1", "localhost");
    let authority = Authority::entra(Cloud::Custom(host), TENANT);
    ConfidentialClient::builder(CLIENT_ID)
        .authority(authority.without_instance_discovery())
        .client_secret(SECRET)
        .retry(RetryPolicy::none())
}

#[tokio::test]
async fn an_untrusted_certificate_is_named_and_what_to_do_about_it() {
    let local = authority_with_tls().await;
    let client = client_of(&local).client_secret(SECRET).build().unwrap();
    let error = client.acquire_token_for_client(SCOPE).await.unwrap_err();
    assert!(matches!(error, Error::Transport(_)), "{error:?}");
    let host = local.base_url().strip_prefix("https://").unwrap();
    let chain = error.chain().to_string();
    for text in [
        &format!("the TLS certificate of '{host}' is not accepted"),
        "add that CA",
        "tls_certs_merge",
        "UnknownIssuer",
    ] {
        assert!(chain.contains(text), "{text}: {chain}");
    }
    assert!(local.token_requests().is_empty());

    let client = client_of(&local)
        .client_secret(SECRET)
        .reqwest(trusting(local.ca_pem().unwrap()))
        .build()
        .unwrap();
    client.acquire_token_for_client(SCOPE).await.unwrap();
}

/// A proxy by `CONNECT`, and how often it was asked.
async fn proxy() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            count.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(tunnel(client));
        }
    });
    (url, asked)
}

async fn tunnel(mut client: TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let target = head.strip_prefix("CONNECT ").unwrap();
    let port = target.split([':', ' ']).nth(1).unwrap();
    let server = TcpStream::connect(format!("127.0.0.1:{port}")).await;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    // The end of either is the end of both.
    let _ = copy_bidirectional(&mut client, &mut server.unwrap()).await;
}

#[tokio::test]
async fn a_proxy_of_the_reqwest_builder_is_asked() {
    let local = authority_with_tls().await;
    let (url, asked) = proxy().await;
    let through = trusting(local.ca_pem().unwrap()).proxy(reqwest::Proxy::all(url).unwrap());
    let client = by_name(local.base_url()).reqwest(through).build().unwrap();
    client.acquire_token_for_client(SCOPE).await.unwrap();
    assert_eq!(
        (asked.load(Ordering::SeqCst), local.token_requests().len()),
        (1, 1)
    );
}

/// In a process of its own, since the environment is the whole process's.
#[tokio::test]
async fn a_proxy_of_the_environment_is_asked_and_not_for_a_loopback_address() {
    let local = authority_with_tls().await;
    let (url, asked) = proxy().await;
    for (number, (by_name, through)) in [("yes", 1), ("", 0)].into_iter().enumerate() {
        let before = asked.load(Ordering::SeqCst);
        let variables = [
            ("TEST_BASE_URL", local.base_url()),
            ("TEST_CA", local.ca_pem().unwrap()),
            ("TEST_BY_NAME", by_name),
            ("HTTPS_PROXY", &url),
            ("HTTP_PROXY", &url),
        ];
        let said = child(
            "network_environment::asks_by_the_environment",
            "",
            &variables,
        )
        .await;
        assert!(said.contains("a token"), "{said}");
        assert_eq!(asked.load(Ordering::SeqCst), before + through, "{by_name}");
        assert_eq!(local.token_requests().len(), number + 1);
    }
}

#[tokio::test]
#[ignore = "run by another, with an environment"]
#[allow(clippy::print_stdout, reason = "the parent reads it")]
async fn asks_by_the_environment() {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let base = variable("TEST_BASE_URL");
    let builder = match variable("TEST_BY_NAME").is_empty() {
        false => by_name(&base),
        true => ConfidentialClient::builder(CLIENT_ID)
            .authority(Authority::entra(Cloud::Custom(base), TENANT))
            .client_secret(SECRET),
    };
    let client = builder
        .reqwest(trusting(&variable("TEST_CA")))
        .build()
        .unwrap();
    match client.acquire_token_for_client(SCOPE).await {
        Ok(_) => println!("a token"),
        Err(error) => println!("error: {}", error.chain()),
    }
}

/// The cached token is served, the error says what is the matter, and it works again afterwards.
#[tokio::test]
async fn a_process_out_of_files_serves_what_it_has_and_recovers() {
    let local = LocalAuthority::start().await.unwrap();
    local.register(TENANT, Application::new(CLIENT_ID).secret(SECRET));
    let variables = [("TEST_BASE_URL", local.base_url())];
    let limit = "ulimit -n 100 && ";
    let said = child("network_environment::runs_out_of_files", limit, &variables).await;
    for text in [
        "served from Cache",
        "error: no response from the token endpoint",
        "Too many open files",
        "recovered from IdentityProvider",
    ] {
        assert!(said.contains(text), "{text}: {said}");
    }
}

#[tokio::test]
#[ignore = "run by another, with a limit"]
#[allow(clippy::print_stdout, reason = "the parent reads it")]
async fn runs_out_of_files() {
    let base = std::env::var("TEST_BASE_URL").unwrap();
    let client = ConfidentialClient::builder(CLIENT_ID)
        .authority(Authority::entra(Cloud::Custom(base), TENANT))
        .client_secret(SECRET)
        // No connection is kept, so that each request needs a new one.
        .reqwest(reqwest::Client::builder().pool_max_idle_per_host(0))
        .retry(RetryPolicy::none())
        .build()
        .unwrap();
    client.acquire_token_for_client(SCOPE).await.unwrap();
    let mut files = Vec::new();
    let mut fill = || {
        while let Ok(file) = File::open("/dev/null") {
            files.push(file);
        }
    };
    fill();
    let token = client.acquire_token_for_client(SCOPE).await.unwrap();
    println!("served from {:?}", token.source());
    // The connection before is closed by another thread, perhaps after the files were opened.
    let mut failed = None;
    for number in 1..100 {
        fill();
        if let Err(error) = client.acquire_token_for_client(scope(number)).await {
            failed = Some((scope(number), error));
            break;
        }
    }
    let (scope, error) = failed.unwrap();
    println!("error: {}", error.chain());
    drop(files);
    loop {
        match client.acquire_token_for_client(&*scope).await {
            Ok(token) => break println!("recovered from {:?}", token.source()),
            Err(error) => tokio::time::sleep(error.retry_after().unwrap()).await,
        }
    }
    assert_eq!(token.source(), TokenSource::Cache);
}

/// What a test of this binary says, run alone in a process of its own, with `before` said to the
/// shell first.
async fn child(test: &str, before: &str, variables: &[(&str, &str)]) -> String {
    let program = std::env::current_exe().unwrap();
    let command = format!(
        "{before}exec '{}' --exact {test} --ignored --nocapture",
        program.display()
    );
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", &command])
        .env_clear()
        .envs(variables.iter().copied())
        .stderr(Stdio::inherit());
    let output = tokio::task::spawn_blocking(move || shell.output().unwrap());
    String::from_utf8(output.await.unwrap().stdout).unwrap()
}
