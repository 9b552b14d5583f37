//! Handshakes that are signed outside the process, by a signer such as a vault.

use std::future::pending;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::ThreadId;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaKeyPair,
};
use confidential_client::credential::SigningAlgorithm;
use confidential_client::testing::{Application, LocalAuthority};
use confidential_client::transport::MutualTls;
use confidential_client::{Authority, Certificate, ConfidentialClient, Error, RetryPolicy};
use http::header::AUTHORIZATION;
use rcgen::{ExtendedKeyUsagePurpose, KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use tokio::runtime::Builder;
use tokio::time::{sleep, timeout};

use crate::support::client_ca::{ClientCa, IssuedPem};
use crate::support::{CLIENT_ID, SCOPE, TENANT, log_capture};

const NAME: &str = "daemon.example";
const API: &str = "https://graph.microsoft.com";

enum VaultKey {
    P256(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

/// A vault, which needs the timers of the caller's runtime.
struct Vault {
    key: VaultKey,
    signatures: AtomicUsize,
}

impl Vault {
    fn sign(&self, algorithm: SigningAlgorithm, message: &[u8]) -> Vec<u8> {
        self.signatures.fetch_add(1, Ordering::SeqCst);
        let random = SystemRandom::new();
        match (&self.key, algorithm) {
            (VaultKey::P256(key), SigningAlgorithm::ES256) => {
                key.sign(&random, message).unwrap().as_ref().to_vec()
            }
            (VaultKey::Rsa(key), algorithm) => {
                let padding = match algorithm {
                    SigningAlgorithm::PS256 => &RSA_PSS_SHA256,
                    _ => &RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(padding, &random, message, &mut signature).unwrap();
                signature
            }
            _ => panic!("{algorithm} does not fit the key"),
        }
    }
}

fn p256(ca: &ClientCa) -> (IssuedPem, VaultKey) {
    let key = KeyPair::generate().unwrap();
    let pkcs8 = key.serialize_der();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pkcs8).unwrap();
    (ca.issue_with(NAME, key, |_| ()), VaultKey::P256(pair))
}

fn rsa(ca: &ClientCa) -> (IssuedPem, VaultKey) {
    let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    let pair = RsaKeyPair::from_pkcs8(&key.serialize_der()).unwrap();
    (ca.issue_with(NAME, key, |_| ()), VaultKey::Rsa(pair))
}

fn remote(issued: &IssuedPem, key: VaultKey) -> (Certificate, Arc<Vault>) {
    let vault = Arc::new(Vault {
        key,
        signatures: AtomicUsize::new(0),
    });
    let signer = Arc::clone(&vault);
    let certificate =
        Certificate::from_signer(&issued.certificate, move |algorithm, message: Vec<u8>| {
            let vault = Arc::clone(&signer);
            async move {
                // Stands still if the thread of the runtime waits for the signature.
                sleep(Duration::from_millis(1)).await;
                Ok(vault.sign(algorithm, &message))
            }
        });
    (certificate.unwrap(), vault)
}

async fn started(ca: &ClientCa) -> LocalAuthority {
    log_capture::start();
    let local = LocalAuthority::builder()
        .mutual_tls()
        .start()
        .await
        .unwrap();
    let application = Application::new(CLIENT_ID).tls_client_auth(ca.pem(), format!("CN={NAME}"));
    local.register(TENANT, application);
    local
}

fn client(local: &LocalAuthority, mutual_tls: &MutualTls) -> ConfidentialClient {
    ConfidentialClient::builder(CLIENT_ID)
        .authority(Authority::oidc(local.issuer(TENANT).unwrap()))
        .tls_client_auth(mutual_tls.clone())
        .retry(RetryPolicy::none())
        .build()
        .unwrap()
}

/// Acquires a token and calls an API, with each kind of key and each algorithm.
async fn use_each_key() {
    let ca = ClientCa::new();
    let local = started(&ca).await;
    let api = local.protected_api(API).await.unwrap();
    let rs256 = |certificate: Certificate| certificate.signing_algorithm(SigningAlgorithm::RS256);
    for (name, (issued, key), change) in [
        ("ES256", p256(&ca), None),
        ("PS256", rsa(&ca), None),
        // TLS 1.2, since TLS 1.3 accepts no RS256.
        ("RS256", rsa(&ca), Some(rs256)),
    ] {
        let (mut certificate, vault) = remote(&issued, key);
        if let Some(change) = change {
            certificate = change(certificate);
        }
        let mutual_tls = MutualTls::from(certificate).trusted_roots_pem(local.ca_pem().unwrap());
        let client = client(&local, &mutual_tls);
        let token = client.acquire_token_for_client(SCOPE).await.unwrap();
        assert_eq!(vault.signatures.load(Ordering::SeqCst), 1, "{name}");

        let http = mutual_tls.client_for(&token).await.unwrap();
        let request = http.get(api.base_url());
        let request = request.header(AUTHORIZATION, token.authorization_header());
        assert_eq!(request.send().await.unwrap().status(), 200, "{name}");
        assert_eq!(vault.signatures.load(Ordering::SeqCst), 2, "{name}");
    }
}

#[test]
fn a_vault_signs_on_a_current_thread_runtime() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(use_each_key());
}

#[test]
fn a_vault_signs_on_a_multi_thread_runtime() {
    for workers in [1, 4] {
        let mut builder = Builder::new_multi_thread();
        let runtime = builder
            .worker_threads(workers)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(use_each_key());
    }
}

/// The pooled connections of a vault's client are tasks of the caller's runtime.
#[tokio::test]
async fn the_signature_is_made_on_the_runtime_of_the_caller() {
    let ca = ClientCa::new();
    let local = started(&ca).await;
    let (issued, key) = p256(&ca);
    let vault = Arc::new(Vault {
        key,
        signatures: AtomicUsize::new(0),
    });
    let (sender, threads) = std::sync::mpsc::channel::<ThreadId>();
    let certificate =
        Certificate::from_signer(&issued.certificate, move |algorithm, message: Vec<u8>| {
            let (vault, sender) = (Arc::clone(&vault), sender.clone());
            async move {
                sender.send(std::thread::current().id())?;
                Ok(vault.sign(algorithm, &message))
            }
        });
    let mutual_tls =
        MutualTls::from(certificate.unwrap()).trusted_roots_pem(local.ca_pem().unwrap());
    let client = client(&local, &mutual_tls);
    client.acquire_token_for_client(SCOPE).await.unwrap();
    assert_eq!(threads.try_recv(), Ok(std::thread::current().id()));
}

#[tokio::test]
async fn a_signature_by_another_key_is_an_error_of_the_credential() {
    let ca = ClientCa::new();
    let local = started(&ca).await;
    let (issued, _) = p256(&ca);
    let (_, other_key) = p256(&ca);
    let (certificate, _) = remote(&issued, other_key);
    let mutual_tls = MutualTls::from(certificate).trusted_roots_pem(local.ca_pem().unwrap());
    let client = client(&local, &mutual_tls);
    let error = client.acquire_token_for_client(SCOPE).await.unwrap_err();
    assert!(matches!(error, Error::Credential(_)), "{error:?}");
    assert!(
        error.to_string().contains("does not match the certificate"),
        "{error}"
    );
    assert_eq!(local.token_requests().len(), 0);
}

#[tokio::test]
async fn a_vault_that_fails_or_panics_is_an_error_of_the_credential() {
    let ca = ClientCa::new();
    let local = started(&ca).await;
    let (issued, _) = p256(&ca);
    let sealed = Certificate::from_signer(&issued.certificate, |_, _: Vec<u8>| async {
        Err("the vault is sealed".into())
    });
    let panics = Certificate::from_signer(&issued.certificate, |_, _: Vec<u8>| async {
        panic!("a bug in the signer")
    });
    for certificate in [sealed.unwrap(), panics.unwrap()] {
        let mutual_tls = MutualTls::from(certificate).trusted_roots_pem(local.ca_pem().unwrap());
        let client = client(&local, &mutual_tls);
        let error = client.acquire_token_for_client(SCOPE).await.unwrap_err();
        assert!(matches!(error, Error::Credential(_)), "{error:?}");
        let text = error.to_string();
        assert!(
            text.contains("the TLS handshake could not be signed"),
            "{text}"
        );
    }
}

/// Other tasks of the runtime go on, and other connections are opened meanwhile.
#[tokio::test]
async fn a_vault_that_never_answers_stops_neither_the_runtime_nor_other_connections() {
    let ca = ClientCa::new();
    let local = started(&ca).await;
    let (issued, _) = p256(&ca);
    let (asked, mut was_asked) = tokio::sync::mpsc::unbounded_channel();
    let certificate = Certificate::from_signer(&issued.certificate, move |_, _: Vec<u8>| {
        let asked = asked.clone();
        async move {
            asked.send(())?;
            pending().await
        }
    });
    let hanging = MutualTls::from(certificate.unwrap()).trusted_roots_pem(local.ca_pem().unwrap());
    let hanging = client(&local, &hanging);
    let waiting = tokio::spawn(async move { hanging.acquire_token_for_client(SCOPE).await });
    was_asked.recv().await.unwrap();

    let (issued, key) = p256(&ca);
    let (certificate, vault) = remote(&issued, key);
    let mutual_tls = MutualTls::from(certificate).trusted_roots_pem(local.ca_pem().unwrap());
    let other = client(&local, &mutual_tls);
    let token = timeout(
        Duration::from_secs(9),
        other.acquire_token_for_client(SCOPE),
    );
    token.await.expect("the other vault answers").unwrap();
    assert_eq!(vault.signatures.load(Ordering::SeqCst), 1);
    assert!(!waiting.is_finished());
    waiting.abort();
}

/// Starts `openssl s_server`, which requires a certificate of the CA, and answers with a page about
/// the connection. Ends with the value.
struct OpensslServer {
    process: Child,
    port: u16,
}

impl OpensslServer {
    fn start(folder: &Path, version: &str) -> Self {
        // A port that was free a moment ago.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let mut process = Command::new("openssl")
            .args([
                "s_server",
                "-www",
                "-Verify",
                "3",
                "-verify_return_error",
                version,
            ])
            .args([
                "-CAfile",
                "clients.pem",
                "-cert",
                "server.pem",
                "-key",
                "server.key",
            ])
            .args(["-accept", &format!("127.0.0.1:{port}")])
            .current_dir(folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        while !line.starts_with("ACCEPT") {
            line.clear();
            assert_ne!(output.read_line(&mut line).unwrap(), 0, "openssl ended");
        }
        // The server must not stop at a full pipe.
        std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
        Self { process, port }
    }
}

impl Drop for OpensslServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// OpenSSL verifies the signatures of the handshakes and knows the thumbprint by its own code.
#[tokio::test]
async fn openssl_accepts_each_signature_in_each_version_of_tls() {
    let ca = ClientCa::new();
    let local = started(&ca).await;
    let folder = std::env::temp_dir().join(uuid::Uuid::new_v4().to_string());
    std::fs::create_dir(&folder).unwrap();
    let server_ca = ClientCa::named("Servers");
    let server = server_ca.issue_with("127.0.0.1", KeyPair::generate().unwrap(), |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    for (name, content) in [
        ("clients.pem", &ca.pem()),
        ("server.pem", &server.certificate),
        ("server.key", &server.key),
    ] {
        std::fs::write(folder.join(name), content).unwrap();
    }
    let roots = format!("{}{}", local.ca_pem().unwrap(), server_ca.pem());
    let rs256 = |certificate: Certificate| certificate.signing_algorithm(SigningAlgorithm::RS256);
    for version in ["-tls1_2", "-tls1_3"] {
        let server = OpensslServer::start(&folder, version);
        let (p256_pem, p256_key) = p256(&ca);
        let (rsa_pem, rsa_key) = rsa(&ca);
        let mut certificates = vec![
            ("local P-256", ca.issue(NAME).parsed()),
            ("local RSA", ca.issue_rsa(NAME).parsed()),
            ("vault P-256", remote(&p256_pem, p256_key).0),
            ("vault RSA", remote(&rsa_pem, rsa_key).0),
        ];
        if version == "-tls1_2" {
            let (pem, key) = rsa(&ca);
            certificates.push(("vault RS256", rs256(remote(&pem, key).0)));
        }
        for (name, certificate) in certificates {
            let mutual_tls = MutualTls::from(certificate.clone()).trusted_roots_pem(&roots);
            let client = client(&local, &mutual_tls);
            let token = client.acquire_token_for_client(SCOPE).await.unwrap();
            let http = mutual_tls.client_for(&token).await.unwrap();
            let url = format!("https://127.0.0.1:{}/", server.port);
            let page = http.get(url).send().await.unwrap().text().await.unwrap();
            assert!(
                page.contains("Client certificate"),
                "{name} {version}: {page}"
            );
            assert!(page.contains(NAME), "{name} {version}: {page}");
        }
    }
    let pem = ca.issue(NAME);
    std::fs::write(folder.join("leaf.pem"), &pem.certificate).unwrap();
    let fingerprint = Command::new("openssl")
        .args([
            "x509",
            "-in",
            "leaf.pem",
            "-noout",
            "-fingerprint",
            "-sha256",
        ])
        .current_dir(&folder)
        .output()
        .unwrap();
    let fingerprint = String::from_utf8(fingerprint.stdout)
        .unwrap()
        .replace(':', "");
    let ours = pem.parsed().thumbprint_sha256();
    assert!(
        fingerprint.trim().ends_with(&ours),
        "{fingerprint} and {ours}"
    );
    std::fs::remove_dir_all(folder).unwrap();
}
