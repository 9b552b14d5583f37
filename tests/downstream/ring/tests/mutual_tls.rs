//! Mutual TLS by ring: the token endpoint requires a client certificate, and names it in the token.

use std::sync::{Arc, Mutex};

use confidential_client::credential::SigningAlgorithm;
use confidential_client::transport::MutualTls;
use confidential_client::{Authority, Certificate, ConfidentialClient, RetryPolicy};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

type Ca = CertifiedIssuer<'static, KeyPair>;

fn ca() -> Ca {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Issues a certificate for loopback or for the client, in PEM with its key.
fn issue(ca: &Ca) -> (rcgen::Certificate, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    (params.signed_by(&key, ca).unwrap(), key)
}

fn certificate(ca: &Ca) -> Certificate {
    let (certificate, key) = issue(ca);
    Certificate::from_pem(format!("{}{}", certificate.pem(), key.serialize_pem())).unwrap()
}

/// Starts a server that requires a certificate of the CA. Returns its token endpoint.
async fn start(ca: &Ca, version: &'static SupportedProtocolVersion) -> String {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(ca.as_ref().der().clone()).unwrap();
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let (certificate, key) = issue(ca);
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("https://{}/token", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            if let Ok(stream) = acceptor.accept(stream).await {
                tokio::spawn(respond(stream));
            }
        }
    });
    endpoint
}

/// Responds with the SHA-256 thumbprint of the client's certificate as the token.
async fn respond(stream: TlsStream<TcpStream>) {
    let certificate = &stream.get_ref().1.peer_certificates().unwrap()[0];
    let digest = ring::digest::digest(&ring::digest::SHA256, certificate);
    let thumbprint: String = digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect();
    let body =
        format!(r#"{{"token_type":"Bearer","expires_in":3599,"access_token":"{thumbprint}"}}"#);
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
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length";
        let response = format!("{head}: {}\r\n\r\n{body}", body.len());
        stream.write_all(response.as_bytes()).await.unwrap();
    }
}

fn client(endpoint: &str, mutual_tls: MutualTls) -> ConfidentialClient {
    let authority = Authority::oidc("https://id.example").token_endpoint(endpoint);
    ConfidentialClient::builder("daemon")
        .authority(authority)
        .tls_client_auth(mutual_tls)
        .retry(RetryPolicy::none())
        .build()
        .unwrap()
}

#[tokio::test]
async fn each_version_of_tls_sees_the_certificate_before_and_after_a_rotation() {
    let ca = ca();
    for version in [&TLS12, &TLS13] {
        let endpoint = start(&ca, version).await;
        let current = Arc::new(Mutex::new(certificate(&ca)));
        let source = Arc::clone(&current);
        let mutual_tls = MutualTls::from_source(move || {
            let current = source.lock().unwrap().clone();
            async move { Ok(current) }
        });
        let mutual_tls = mutual_tls.trusted_roots_pem(ca.as_ref().pem());
        let client = client(&endpoint, mutual_tls.clone());
        for scope in ["a", "b"] {
            let token = client.acquire_token_for_client(scope).await.unwrap();
            let expected = current.lock().unwrap().thumbprint_sha256();
            assert_eq!(token.secret(), expected);
            let http = mutual_tls.client_for(&token).await.unwrap();
            let response = http.post(&endpoint).body("").send().await.unwrap();
            assert!(response.text().await.unwrap().contains(&expected));
            *current.lock().unwrap() = certificate(&ca);
        }
    }
    assert!(rustls::crypto::CryptoProvider::get_default().is_none());
}

#[tokio::test]
async fn a_vault_signs_the_handshake_on_a_current_thread_runtime() {
    let ca = ca();
    let endpoint = start(&ca, &TLS13).await;
    let (certificate, key) = issue(&ca);
    let random = SystemRandom::new();
    let pair = EcdsaKeyPair::from_pkcs8(
        &ECDSA_P256_SHA256_FIXED_SIGNING,
        &key.serialize_der(),
        &random,
    );
    let pair = Arc::new(pair.unwrap());
    let signer = move |_: SigningAlgorithm, message: Vec<u8>| {
        let pair = Arc::clone(&pair);
        async move {
            tokio::task::yield_now().await;
            let signature = pair.sign(&SystemRandom::new(), &message);
            Ok(signature.map_err(|_| "not signed")?.as_ref().to_vec())
        }
    };
    let certificate = Certificate::from_signer(certificate.pem(), signer).unwrap();
    let mutual_tls = MutualTls::from(certificate.clone()).trusted_roots_pem(ca.as_ref().pem());
    let client = client(&endpoint, mutual_tls);
    let token = client.acquire_token_for_client("a").await.unwrap();
    assert_eq!(token.secret(), certificate.thumbprint_sha256());
}

/// Without a TLS provider of the process, reqwest could not build a client from such a builder.
#[test]
fn reqwest_settings_of_the_caller_need_no_provider_of_the_process() {
    let mutual_tls = || MutualTls::from(certificate(&ca())).reqwest(reqwest::Client::builder);
    client("https://127.0.0.1:1/token", mutual_tls());
    let roots = ca().as_ref().pem();
    client(
        "https://127.0.0.1:1/token",
        mutual_tls().trusted_roots_pem(roots),
    );
    assert!(rustls::crypto::CryptoProvider::get_default().is_none());
}
