//! TLS by ring, to a real server. Each test that needs other environment variables, or a TLS
//! provider of the process, runs in a process of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use confidential_client::{
    Authority, ConfidentialClient, ConfidentialClientBuilder, Error, RetryPolicy,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// A TLS server on loopback that responds to each request with a token.
struct Server {
    port: u16,
    ca_pem: String,
    /// The application protocol of each handshake.
    protocols: Arc<Mutex<Vec<Option<Vec<u8>>>>>,
}

impl Server {
    async fn start() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let name = uuid::Uuid::new_v4().to_string();
        params.distinguished_name.push(DnType::CommonName, name);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let names = ["127.0.0.1".to_owned(), "id.example.org".to_owned()];
        let params = CertificateParams::new(names).unwrap();
        let certificate = params.signed_by(&key, &ca).unwrap();
        let mut config = ServerConfig::builder_with_provider(ring())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let protocols: Arc<Mutex<Vec<_>>> = Arc::default();
        let seen = Arc::clone(&protocols);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let Ok(stream) = acceptor.accept(stream).await else {
                    continue;
                };
                let protocol = stream.get_ref().1.alpn_protocol();
                seen.lock().unwrap().push(protocol.map(ToOwned::to_owned));
                tokio::spawn(respond(stream));
            }
        });
        Self {
            port,
            ca_pem: ca.as_ref().pem(),
            protocols,
        }
    }

    /// Returns a client that calls the server by this name.
    fn builder(&self, host: &str) -> ConfidentialClientBuilder {
        builder(&format!("https://{host}:{}", self.port))
    }

    fn ca(&self) -> reqwest::Certificate {
        reqwest::Certificate::from_pem(self.ca_pem.as_bytes()).unwrap()
    }

    /// Returns a complete configuration of the caller.
    fn config(&self) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        for ca in rustls::pki_types::CertificateDer::pem_slice_iter(self.ca_pem.as_bytes()) {
            roots.add(ca.unwrap()).unwrap();
        }
        ClientConfig::builder_with_provider(ring())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth()
    }
}

/// Responds to one request after the other with a token.
async fn respond(stream: tokio_rustls::server::TlsStream<TcpStream>) {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut length, mut line) = (0, String::new());
        while line != "\r\n" {
            line.clear();
            if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                return;
            }
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        stream.read_exact(&mut vec![0; length]).await.unwrap();
        let body = r#"{"token_type":"Bearer","expires_in":3599,"access_token":"abc"}"#;
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all((head + body).as_bytes()).await.unwrap();
    }
}

fn ring() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn builder(base: &str) -> ConfidentialClientBuilder {
    let authority = Authority::oidc(base).token_endpoint(format!("{base}/token"));
    ConfidentialClient::builder("daemon")
        .authority(authority)
        .client_secret("the secret's value")
        .retry(RetryPolicy::none())
}

async fn token_of(builder: ConfidentialClientBuilder) -> Result<String, Error> {
    let token = builder.build()?.acquire_token_for_client("").await?;
    Ok(token.secret().to_owned())
}

fn file(name: &str, content: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, content).unwrap();
    path
}

/// Runs an ignored test of this file in another process. Returns what the process prints.
fn in_another_process(test: &str, variables: &[(&str, &str)]) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--ignored", "--nocapture"]);
    for name in [
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "HTTPS_PROXY",
        "NO_PROXY",
        "https_proxy",
        "no_proxy",
    ] {
        command.env_remove(name);
    }
    let output = command.envs(variables.iter().copied()).output().unwrap();
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{test}: {text}"
    );
    text
}

/// A proxy that opens each tunnel to this port, whatever the host's name.
async fn proxy_to(port: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let mut client = BufReader::new(client);
            let mut line = String::new();
            while line != "\r\n" {
                line.clear();
                client.read_line(&mut line).await.unwrap();
            }
            client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            let mut server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            tokio::spawn(async move { copy_bidirectional(&mut client, &mut server).await });
        }
    });
    proxy
}

#[tokio::test]
async fn a_callers_builder_without_a_provider_is_an_error_with_the_line_to_add() {
    let server = Server::start().await;
    for builder in [
        reqwest::Client::builder(),
        reqwest::Client::builder().tls_certs_only([server.ca()]),
    ] {
        let error = server
            .builder("127.0.0.1")
            .reqwest(builder)
            .build()
            .unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        let message = error.to_string();
        assert!(
            message.contains("in ConfidentialClientBuilder::reqwest(..)"),
            "{message}"
        );
        assert!(
            message.contains("rustls::crypto::ring::default_provider().install_default()"),
            "{message}"
        );
    }
    assert!(rustls::crypto::CryptoProvider::get_default().is_none());
}

#[tokio::test]
async fn a_callers_configuration_needs_no_provider_and_stays_as_it_is() {
    let server = Server::start().await;
    let builder = reqwest::Client::builder().tls_backend_preconfigured(server.config());
    let builder = server.builder("127.0.0.1").reqwest(builder);
    assert_eq!(token_of(builder).await.unwrap(), "abc");
    // The caller's configuration names no protocol.
    assert_eq!(*server.protocols.lock().unwrap(), [None]);
    assert!(rustls::crypto::CryptoProvider::get_default().is_none());
}

#[tokio::test]
async fn a_callers_configuration_goes_through_a_callers_proxy() {
    let server = Server::start().await;
    let proxy = format!("http://127.0.0.1:{}", proxy_to(server.port).await);
    let builder = reqwest::Client::builder()
        .tls_backend_preconfigured(server.config())
        .proxy(reqwest::Proxy::https(proxy).unwrap());
    let builder = server.builder("id.example.org").reqwest(builder);
    assert_eq!(token_of(builder).await.unwrap(), "abc");
}

/// Also, the caller's own methods for CA certificates are in effect.
#[test]
fn with_a_provider_of_the_process_a_callers_builder_works() {
    in_another_process("with_an_installed_provider", &[]);
}

#[tokio::test]
#[ignore = "another test runs it in a process of its own"]
async fn with_an_installed_provider() {
    rustls::crypto::ring::default_provider()
        .install_default()
        .unwrap();
    let server = Server::start().await;
    let other = Server::start().await;
    for builder in [
        reqwest::Client::builder().tls_certs_only([server.ca()]),
        reqwest::Client::builder().tls_certs_merge([server.ca()]),
    ] {
        let builder = server.builder("127.0.0.1").reqwest(builder);
        assert_eq!(token_of(builder).await.unwrap(), "abc");
    }
    for builder in [
        reqwest::Client::builder().tls_certs_only([other.ca()]),
        reqwest::Client::builder(),
    ] {
        let builder = server.builder("127.0.0.1").reqwest(builder);
        let error = token_of(builder).await.unwrap_err();
        assert!(
            error.chain().to_string().contains("no trusted CA issued"),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_is_explained() {
    let server = Server::start().await;
    let error = token_of(server.builder("127.0.0.1")).await.unwrap_err();
    assert!(
        matches!(error, Error::Transport(_)) && !error.is_transient(),
        "{error:?}"
    );
    let chain = error.chain().to_string();
    for text in [
        "the TLS certificate of '127.0.0.1:",
        "is not accepted: no trusted CA issued the certificate",
        "UnknownIssuer",
    ] {
        assert!(chain.contains(text), "{text}: {chain}");
    }
}

#[tokio::test]
async fn the_default_client_trusts_the_machines_cas_by_any_way() {
    let server = Server::start().await;
    let ca = file("ca.pem", &server.ca_pem);
    let proxy = format!("http://127.0.0.1:{}", proxy_to(server.port).await);
    let port = server.port.to_string();
    let child = tokio::task::spawn_blocking(move || {
        in_another_process(
            "by_the_machines_cas",
            &[
                ("SSL_CERT_FILE", ca.to_str().unwrap()),
                ("HTTPS_PROXY", &proxy),
                ("SERVER_PORT", &port),
            ],
        )
    });
    child.await.unwrap();
    // One connection without a proxy, and one through the proxy.
    let http = Some(b"http/1.1".to_vec());
    assert_eq!(*server.protocols.lock().unwrap(), [http.clone(), http]);
}

#[tokio::test]
#[ignore = "another test runs it in a process of its own"]
async fn by_the_machines_cas() {
    let port = std::env::var("SERVER_PORT").unwrap();
    let by_loopback = builder(&format!("https://127.0.0.1:{port}"));
    let by_proxy = builder(&format!("https://id.example.org:{port}"));
    assert_eq!(token_of(by_loopback).await.unwrap(), "abc");
    // The CA certificates were read once, so the second client does not miss the file.
    std::fs::remove_file(std::env::var("SSL_CERT_FILE").unwrap()).unwrap();
    assert_eq!(token_of(by_proxy).await.unwrap(), "abc");
    assert!(rustls::crypto::CryptoProvider::get_default().is_none());
}

#[test]
fn a_machine_without_cas_can_use_http_alone() {
    let nowhere = [("SSL_CERT_FILE", "/nowhere"), ("SSL_CERT_DIR", "/nowhere")];
    in_another_process("without_cas", &nowhere);
}

#[test]
#[ignore = "another test runs it in a process of its own"]
fn without_cas() {
    let error = builder("https://127.0.0.1:1").build().unwrap_err();
    assert!(matches!(error, Error::Config(_)), "{error:?}");
    assert!(
        error
            .to_string()
            .contains("this machine has no CA certificates"),
        "{error}"
    );
    builder("http://127.0.0.1:1").build().unwrap();
    rustls::crypto::ring::default_provider()
        .install_default()
        .unwrap();
    let callers = || reqwest::Client::builder();
    builder("http://127.0.0.1:1")
        .reqwest(callers())
        .build()
        .unwrap();
    let error = builder("https://127.0.0.1:1")
        .reqwest(callers())
        .build()
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("this machine has no CA certificates"),
        "{error}"
    );
}
