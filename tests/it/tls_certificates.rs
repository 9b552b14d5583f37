//! TLS certificates that a client does not accept, from real servers, and what the errors say.

use std::error::Error as StdError;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use confidential_client::resource::TokenValidator;
use confidential_client::testing::{Application, LocalAuthority};
use confidential_client::{
    Authority, Cloud, ConfidentialClient, ConfidentialClientBuilder, Error, RetryPolicy,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;

use crate::support::tls_server::{Identity, TlsServer, for_loopback, private_key};
use crate::support::{CLIENT_ID, SCOPE, SECRET, TENANT, log_capture, scope};

/// A certificate authority, and certificates that it issues.
struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    fn new() -> Self {
        Self::with(|_| ())
    }

    fn with(change: impl FnOnce(&mut CertificateParams)) -> Self {
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(ca_params("Root", change), key).unwrap())
    }

    fn pem(&self) -> String {
        self.0.as_ref().pem()
    }

    fn der(&self) -> CertificateDer<'static> {
        self.0.as_ref().der().clone()
    }

    fn intermediate(&self, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let key = KeyPair::generate().unwrap();
        let params = ca_params("Intermediate", change);
        Self(CertifiedIssuer::signed_by(params, key, &self.0).unwrap())
    }

    /// Issues a certificate for loopback, after a change. The chain is the certificate alone.
    fn issue(&self, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = for_loopback();
        change(&mut params);
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Identity {
            chain: vec![certificate.der().clone()],
            key: private_key(&key),
        }
    }
}

fn ca_params(name: &str, change: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    change(&mut params);
    params
}

fn self_signed(change: impl FnOnce(&mut CertificateParams)) -> Identity {
    let key = KeyPair::generate().unwrap();
    let mut params = for_loopback();
    change(&mut params);
    let certificate = params.self_signed(&key).unwrap();
    Identity {
        chain: vec![certificate.der().clone()],
        key: private_key(&key),
    }
}

/// A certificate by openssl, since rcgen makes neither version 1 nor SHA-1. Returns the CA, too.
fn by_openssl(name: &str, commands: &str) -> (String, Identity) {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("tls-{name}"));
    fs::create_dir_all(&folder).unwrap();
    let script = format!(
        "openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=root -keyout root.key -out root.pem &&
         openssl req -newkey rsa:2048 -nodes -subj /CN=127.0.0.1 -keyout leaf.key -out leaf.csr &&
         printf 'subjectAltName=IP:127.0.0.1\\n' >leaf.ext && {commands}"
    );
    let output = Command::new("bash")
        .args(["-ec", &script])
        .current_dir(&folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let identity = Identity {
        chain: vec![CertificateDer::from_pem_file(folder.join("leaf.pem")).unwrap()],
        key: PrivateKeyDer::from_pem_file(folder.join("leaf.key")).unwrap(),
    };
    (
        fs::read_to_string(folder.join("root.pem")).unwrap(),
        identity,
    )
}

/// Who trusts whom: the machine's CAs and the test's, or the test's alone.
#[derive(Clone, Copy)]
enum Trust {
    Merged,
    Only,
}

fn trusting(ca_pem: &str, trust: Trust) -> reqwest::ClientBuilder {
    let ca = reqwest::Certificate::from_pem(ca_pem.as_bytes()).unwrap();
    match trust {
        Trust::Merged => reqwest::Client::builder()
            .tls_backend_rustls()
            .tls_certs_merge([ca]),
        Trust::Only => reqwest::Client::builder()
            .tls_backend_rustls()
            .tls_certs_only([ca]),
    }
}

fn authority(base: &str) -> Authority {
    Authority::entra(Cloud::Custom(base.to_owned()), TENANT)
}

/// Three attempts at once, of which a certificate needs one.
fn client_builder(base: &str) -> ConfidentialClientBuilder {
    log_capture::start();
    ConfidentialClient::builder(CLIENT_ID)
        .authority(authority(base))
        .client_secret(SECRET)
        .retry(RetryPolicy::default().base_delay(Duration::ZERO))
}

fn chain_of(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

/// A token that needs the keys of the authority.
fn unverified_token() -> String {
    let encode = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
    let header = encode(r#"{"alg":"RS256","typ":"JWT","kid":"a"}"#);
    let claims = encode(r#"{"iss":"https://a.example","aud":"api://0","exp":4102444800}"#);
    format!("{header}.{claims}.{}", encode("signature"))
}

struct Row {
    name: &'static str,
    identity: Identity,
    /// The CA that the client trusts.
    ca: String,
    trust: Trust,
    says: &'static [&'static str],
}

fn rows() -> Vec<Row> {
    let root = Ca::new();
    let intermediate = root.intermediate(|_| ());
    let expired = root.intermediate(|params| params.not_after = date_time_ymd(2020, 1, 2));
    let leaf_as_issuer = root.intermediate(|params| {
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    });
    let with_issuer = |issuer: &Ca| {
        let mut identity = issuer.issue(|_| ());
        identity.chain.push(issuer.der());
        identity
    };
    let mut rows = Vec::new();
    let mut row = |name, identity, says| {
        rows.push(Row {
            name,
            identity,
            ca: root.pem(),
            trust: Trust::Only,
            says,
        });
    };
    let unknown: &[_] = &[
        "no trusted CA issued the certificate",
        "self-signed",
        "private CA",
        "intermediate certificate",
        "tls_certs_merge(..)",
    ];
    let other = Ca::with(|params| params.distinguished_name.push(DnType::CommonName, "Other"));
    row("an unknown CA", other.issue(|_| ()), unknown);
    row(
        "a CA that was created anew",
        Ca::new().issue(|_| ()),
        &[
            "a trusted CA of the same name has another key",
            "tls_certs_merge(..)",
        ],
    );
    row("self-signed", self_signed(|_| ()), unknown);
    row(
        "a missing intermediate",
        intermediate.issue(|_| ()),
        unknown,
    );
    row(
        "expired",
        root.issue(|params| params.not_after = date_time_ymd(2020, 1, 2)),
        &["expired on Thu, 02 Jan 2020", "this machine's clock says "],
    );
    row(
        "an expired intermediate",
        with_issuer(&expired),
        &["a CA certificate above it, expired on Thu, 02 Jan 2020"],
    );
    row(
        "not yet valid",
        root.issue(|params| params.not_before = date_time_ymd(2100, 1, 2)),
        &[
            "is not valid before Sat, 02 Jan 2100",
            "this machine's clock says ",
            "set the clock",
        ],
    );
    row(
        "other names",
        root.issue(|params| {
            let names = ["id.contoso.example".to_owned(), "10.0.0.1".to_owned()];
            params.subject_alt_names = CertificateParams::new(names).unwrap().subject_alt_names;
        }),
        &["is for 'id.contoso.example', '10.0.0.1', not for '127.0.0.1'"],
    );
    row(
        "a common name alone",
        root.issue(|params| {
            params.subject_alt_names = Vec::new();
            let name = &mut params.distinguished_name;
            name.push(DnType::CommonName, "127.0.0.1");
        }),
        &[
            "has no subject alternative name",
            "issue a certificate for '127.0.0.1'",
        ],
    );
    let as_ca = |params: &mut CertificateParams| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    };
    row(
        "a CA as server",
        root.issue(as_ca),
        &["is a CA certificate"],
    );
    row(
        "self-signed as a CA",
        self_signed(as_ca),
        &["self-signed as one (CA:TRUE)", "CA:FALSE"],
    );
    row(
        "no CA as issuer",
        with_issuer(&leaf_as_issuer),
        &["issued by a certificate that is not a CA certificate"],
    );
    for trust in [Trust::Only, Trust::Merged] {
        rows.push(Row {
            name: "a client's certificate",
            identity: root.issue(|params| {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            }),
            ca: root.pem(),
            trust,
            says: &["(serverAuth)"],
        });
    }
    let (ca, identity) = by_openssl(
        "version-1",
        "openssl x509 -req -in leaf.csr -CA root.pem -CAkey root.key -set_serial 2 -days 30 -out leaf.pem",
    );
    rows.push(Row {
        name: "version 1",
        identity,
        ca,
        trust: Trust::Merged,
        says: &["of version 1"],
    });
    let (ca, identity) = by_openssl(
        "sha-1",
        "openssl x509 -req -sha1 -in leaf.csr -CA root.pem -CAkey root.key -set_serial 2 -days 30 -extfile leaf.ext -out leaf.pem",
    );
    rows.push(Row {
        name: "SHA-1",
        identity,
        ca,
        trust: Trust::Merged,
        says: &["signed with SHA-1", "SHA-256"],
    });
    rows
}

#[tokio::test]
async fn a_certificate_that_no_retry_cures_is_not_retried_and_says_what_is_wrong() {
    for row in rows() {
        let Row { name, says, .. } = row;
        let server = TlsServer::start(row.identity).await;
        let client = client_builder(server.base())
            .reqwest(trusting(&row.ca, row.trust))
            .build()
            .unwrap();
        let error = client.acquire_token_for_client(SCOPE).await.unwrap_err();
        assert!(matches!(error, Error::Transport(_)), "{name}: {error:?}");
        assert!(!error.is_transient(), "{name}: {error:?}");
        let host = server.base().strip_prefix("https://").unwrap();
        let subject = format!("the TLS certificate of '{host}' is not accepted: ");
        let chain = error.chain().to_string();
        for text in says.iter().copied().chain([&*subject]) {
            assert!(chain.contains(text), "{name}, {text}: {chain}");
        }
        assert!(!chain.contains("TokenValidatorBuilder"), "{name}: {chain}");
        assert!(!chain.contains("attempts"), "{name}: {chain}");
        assert_eq!(server.connections(), 1, "{name}");

        let validator = TokenValidator::builder(authority(server.base()))
            .audience("api://0")
            .single_tenant()
            .reqwest(trusting(&row.ca, row.trust))
            .build()
            .unwrap();
        let rejection = validator.validate(&unverified_token()).await.unwrap_err();
        let chain = chain_of(&rejection);
        for text in says.iter().copied().chain([&*subject]) {
            assert!(chain.contains(text), "{name}, {text}: {chain}");
        }
        assert!(
            !chain.contains("ConfidentialClientBuilder"),
            "{name}: {chain}"
        );
    }
}

#[tokio::test]
async fn the_advice_names_the_builder_that_was_used() {
    let server = TlsServer::start(self_signed(|_| ())).await;
    let client = client_builder(server.base()).build().unwrap();
    let error = client.acquire_token_for_client(SCOPE).await.unwrap_err();
    let chain = error.chain().to_string();
    let text = "tls_certs_merge(..) in ConfidentialClientBuilder::reqwest(..)";
    assert!(chain.contains(text), "{chain}");

    let validator = TokenValidator::builder(authority(server.base()))
        .audience("api://0")
        .single_tenant()
        .build()
        .unwrap();
    let rejection = validator.validate(&unverified_token()).await.unwrap_err();
    let chain = chain_of(&rejection);
    let text = "tls_certs_merge(..) in TokenValidatorBuilder::reqwest(..)";
    assert!(chain.contains(text), "{chain}");
}

/// Many failures of a host open the circuit, and then the error would not be about the certificate.
#[tokio::test]
async fn a_certificate_is_not_an_outage_of_the_host() {
    let server = TlsServer::start(self_signed(|_| ())).await;
    let client = client_builder(server.base()).build().unwrap();
    for number in 0..10 {
        let error = client.acquire_token_for_client(scope(number)).await;
        let chain = error.unwrap_err().chain().to_string();
        assert!(chain.contains("is not accepted"), "{chain}");
    }
    assert_eq!(server.connections(), 10);
}

#[tokio::test]
async fn a_certificate_at_discovery_is_not_transient() {
    let server = TlsServer::start(self_signed(|_| ())).await;
    let client = ConfidentialClient::builder(CLIENT_ID)
        .authority(Authority::oidc(server.base()))
        .client_secret(SECRET)
        .retry(RetryPolicy::default().base_delay(Duration::ZERO))
        .build()
        .unwrap();
    let error = client.acquire_token_for_client(SCOPE).await.unwrap_err();
    assert!(!error.is_transient(), "{error:?}");
    let chain = error.chain().to_string();
    assert!(chain.contains("no trusted CA issued"), "{chain}");
    assert_eq!(server.connections(), 1);
}

/// The pause is the one after a rejection. The one after an outage is of a second.
#[tokio::test]
async fn a_certificate_error_is_remembered_as_a_rejection_is() {
    let server = TlsServer::start(self_signed(|_| ())).await;
    let client = client_builder(server.base()).build().unwrap();
    let error = client.acquire_token_for_client(SCOPE).await.unwrap_err();
    assert!(error.retry_after().unwrap() > Duration::from_secs(2));
    client.acquire_token_for_client(SCOPE).await.unwrap_err();
    assert_eq!(server.connections(), 1);
}

/// A transport of the caller's own, with errors of its own around reqwest's.
#[tokio::test]
async fn a_certificate_is_not_transient_with_a_transport_of_the_callers() {
    let server = TlsServer::start(self_signed(|_| ())).await;
    let http = reqwest::Client::builder().tls_backend_rustls();
    let http = http.build().unwrap();
    let client = client_builder(server.base())
        .transport(move |request: http::Request<bytes::Bytes>| {
            let http = http.clone();
            async move {
                let request = reqwest::Request::try_from(request)?;
                http.execute(request).await?;
                Err("no response was expected".into())
            }
        })
        .build()
        .unwrap();
    let error = client.acquire_token_for_client(SCOPE).await.unwrap_err();
    assert!(!error.is_transient(), "{error:?}");
    assert_eq!(server.connections(), 1);
}

/// Other failures of the handshake may pass, and are not said to be about a certificate.
#[tokio::test]
async fn a_server_without_tls_or_with_client_certificates_is_named() {
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("https://{}", plain.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = plain.accept().await.unwrap();
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            let _ = stream.read(&mut [0; 2048]).await;
        }
    });
    let client = client_builder(&base).build().unwrap();
    let error = client.acquire_token_for_client(SCOPE).await.unwrap_err();
    let chain = error.chain().to_string();
    assert!(chain.contains("does not speak TLS on this port"), "{chain}");
    assert!(error.is_transient(), "{chain}");

    let root = Ca::new();
    let mut roots = RootCertStore::empty();
    roots.add(root.der()).unwrap();
    let provider = tokio_rustls::rustls::crypto::aws_lc_rs::default_provider();
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::new(provider));
    let server = TlsServer::with_client_auth(root.issue(|_| ()), verifier.build().unwrap()).await;
    let client = client_builder(server.base())
        .reqwest(trusting(&root.pem(), Trust::Only))
        .build()
        .unwrap();
    let error = client.acquire_token_for_client(SCOPE).await.unwrap_err();
    let chain = error.chain().to_string();
    for text in ["requires another TLS client certificate", "identity(..)"] {
        assert!(chain.contains(text), "{text}: {chain}");
    }
    assert!(!chain.contains("is not accepted"), "{chain}");
}

/// In a process of its own, since the variables are the whole process's.
#[tokio::test]
async fn a_machine_without_ca_certificates_is_told_what_to_install_and_http_needs_none() {
    let local = LocalAuthority::start().await.unwrap();
    local.register(TENANT, Application::new(CLIENT_ID).secret(SECRET));
    let mut child = tokio::task::spawn_blocking({
        let base = local.base_url().to_owned();
        move || {
            Command::new(std::env::current_exe().unwrap())
                .args([
                    "--exact",
                    "tls_certificates::builds_without_ca_certificates",
                ])
                .args(["--ignored", "--nocapture"])
                .env_clear()
                .env("TEST_BASE_URL", base)
                .env("SSL_CERT_FILE", "/nowhere/ca.pem")
                .env("SSL_CERT_DIR", "/nowhere")
                .output()
                .unwrap()
        }
    });
    let output = (&mut child).await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    for text in [
        "client: the HTTP client cannot be built, because this machine has no CA certificates",
        "install the package 'ca-certificates'",
        "tls_certs_only(..) in ConfidentialClientBuilder::reqwest(..)",
        "tls_certs_only(..) in TokenValidatorBuilder::reqwest(..)",
        "a token by the default client",
        "a token by the caller's client",
    ] {
        assert!(said.contains(text), "{text}: {said}");
    }
    assert_eq!(local.token_requests().len(), 2);
}

#[tokio::test]
#[ignore = "run by another, with an environment"]
#[allow(clippy::print_stdout, reason = "the parent reads it")]
async fn builds_without_ca_certificates() {
    let entra = || Authority::entra(Cloud::Public, TENANT);
    let client = ConfidentialClient::builder(CLIENT_ID)
        .authority(entra())
        .client_secret(SECRET);
    println!("client: {}", client.build().unwrap_err().chain());
    let validator = TokenValidator::builder(entra())
        .audience("api://0")
        .single_tenant();
    println!("validator: {}", validator.build().unwrap_err().chain());

    let base = std::env::var("TEST_BASE_URL").unwrap();
    let client = client_builder(&base).build().unwrap();
    client.acquire_token_for_client(SCOPE).await.unwrap();
    println!("a token by the default client");
    let client = client_builder(&base)
        .reqwest(reqwest::Client::builder().tls_backend_rustls())
        .build()
        .unwrap();
    client.acquire_token_for_client(SCOPE).await.unwrap();
    println!("a token by the caller's client");
}
