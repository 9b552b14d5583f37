use std::path::PathBuf;

use http::Response;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::server::ServerConfig;
use uuid::Uuid;

use super::*;
use crate::error::Failure;
use crate::transport::no_response;

const NAME: &str = "token-proxy.example";

/// A server's certificate for [`NAME`], and the CA that issued it.
#[derive(Clone)]
struct Identity {
    ca_pem: String,
    acceptor: TlsAcceptor,
}

impl Identity {
    fn new() -> Self {
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let server = CertificateParams::new([NAME.to_owned()]).unwrap();
        let server = server.signed_by(&key, &ca).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![server.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        Self {
            ca_pem: ca.as_ref().pem(),
            acceptor: TlsAcceptor::from(Arc::new(config)),
        }
    }
}

/// The name in a handshake, and the head of the request.
type Seen = (Option<String>, String);

/// A token proxy that closes each connection after one response.
struct Proxy {
    port: u16,
    identity: Arc<Mutex<Identity>>,
    requests: Arc<Mutex<Vec<Seen>>>,
}

impl Proxy {
    async fn start(identity: &Identity) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let identity = Arc::new(Mutex::new(identity.clone()));
        let requests = Arc::<Mutex<Vec<_>>>::default();
        let (current, seen) = (Arc::clone(&identity), Arc::clone(&requests));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let acceptor = current.lock().unwrap().acceptor.clone();
                let seen = Arc::clone(&seen);
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let name = stream.get_ref().1.server_name().map(str::to_owned);
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(stream.read_u8().await.unwrap());
                    }
                    let head = String::from_utf8(head).unwrap();
                    seen.lock().unwrap().push((name, head));
                    let response =
                        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
                    stream.write_all(response.as_bytes()).await.unwrap();
                    let _ = stream.shutdown().await;
                });
            }
        });
        Self {
            port,
            identity,
            requests,
        }
    }

    fn present(&self, identity: &Identity) {
        *self.identity.lock().unwrap() = identity.clone();
    }
}

fn binding(host: &str, port: u16, others: &[(&str, &str)]) -> Result<IdentityBindingProxy, Error> {
    let proxy = format!("https://{host}:{port}/binding");
    let read = |name: &str| match name {
        "AZURE_KUBERNETES_TOKEN_PROXY" => Some(OsString::from(&proxy)),
        _ => {
            let found = others.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        }
    };
    Ok(IdentityBindingProxy::from_variables(read, None)?.unwrap())
}

/// Sends a token request, with the error that a client would return.
async fn send(binding: &IdentityBindingProxy) -> Result<Response<Bytes>, Error> {
    let request = Request::post("https://login.microsoftonline.com/t/oauth2/v2.0/token");
    let request = request.body(Bytes::from_static(b"a=b")).unwrap();
    binding.send(request).await.map_err(|source| {
        let failure: Failure = no_response("no response".to_owned(), source);
        Error::Transport(failure.into())
    })
}

const SERVER_NAME: &str = "AZURE_KUBERNETES_SNI_NAME";
const CA_DATA: &str = "AZURE_KUBERNETES_CA_DATA";
const CA_FILE: &str = "AZURE_KUBERNETES_CA_FILE";

#[tokio::test]
async fn the_proxy_sees_the_servers_name_its_own_host_and_the_whole_path() {
    let identity = Identity::new();
    let proxy = Proxy::start(&identity).await;
    for host in ["127.0.0.1", "localhost"] {
        let variables = [(SERVER_NAME, NAME), (CA_DATA, &identity.ca_pem)];
        let binding = binding(host, proxy.port, &variables).unwrap();
        send(&binding).await.unwrap();
        let (name, head) = proxy.requests.lock().unwrap().pop().unwrap();
        assert_eq!(name.as_deref(), Some(NAME));
        let line = "POST /binding/t/oauth2/v2.0/token HTTP/1.1\r\n";
        assert!(head.starts_with(line), "{head}");
        let host = format!("\r\nhost: {host}:{}\r\n", proxy.port);
        assert_eq!(
            head.to_ascii_lowercase().matches("\r\nhost:").count(),
            1,
            "{head}"
        );
        assert!(head.contains(&host), "{head}");
    }
}

#[tokio::test]
async fn a_certificate_of_another_ca_or_name_is_rejected() {
    let identity = Identity::new();
    let proxy = Proxy::start(&identity).await;
    let other = Identity::new().ca_pem;
    for (case, variables) in [
        ("another CA", vec![(SERVER_NAME, NAME), (CA_DATA, &*other)]),
        ("the system's CAs", vec![(SERVER_NAME, NAME)]),
        (
            "another name",
            vec![(SERVER_NAME, "x.example"), (CA_DATA, &*identity.ca_pem)],
        ),
        ("the proxy's own name", vec![(CA_DATA, &*identity.ca_pem)]),
    ] {
        let Ok(binding) = binding("127.0.0.1", proxy.port, &variables) else {
            assert_eq!(
                case, "the system's CAs",
                "a machine without CA certificates"
            );
            continue;
        };
        let error = send(&binding).await.unwrap_err();
        assert!(proxy.requests.lock().unwrap().is_empty(), "{case}");
        let text = error.chain().to_string();
        assert!(
            text.contains(&format!("'127.0.0.1:{}'", proxy.port)),
            "{case}: {text}"
        );
        #[cfg(feature = "rustls")]
        {
            assert!(!error.is_transient(), "{case}: {error:?}");
            assert!(text.contains("AZURE_KUBERNETES_CA_FILE"), "{case}: {text}");
            assert!(!text.contains("tls_certs_merge"), "{case}: {text}");
        }
    }
}

/// A file that is deleted when the value is dropped.
struct CaFile(PathBuf);

impl CaFile {
    fn with(content: &str) -> Self {
        let file = Self(std::env::temp_dir().join(Uuid::new_v4().to_string()));
        file.write(content);
        file
    }

    fn write(&self, content: &str) {
        std::fs::write(&self.0, content).unwrap();
    }
}

impl Drop for CaFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[tokio::test]
async fn a_replaced_ca_file_is_picked_up_and_an_empty_one_is_not() {
    let (first, second) = (Identity::new(), Identity::new());
    let proxy = Proxy::start(&first).await;
    let file = CaFile::with(&first.ca_pem);
    let path = file.0.to_str().unwrap();
    let binding = binding(
        "127.0.0.1",
        proxy.port,
        &[(SERVER_NAME, NAME), (CA_FILE, path)],
    )
    .unwrap();
    send(&binding).await.unwrap();
    for content in ["", "-----BEGIN CERTIFICATE-----\nAAAA"] {
        file.write(content);
        send(&binding).await.unwrap();
    }
    file.write(&second.ca_pem);
    send(&binding).await.unwrap_err();
    proxy.present(&second);
    send(&binding).await.unwrap();
}

#[tokio::test]
async fn an_empty_or_absent_ca_file_is_an_error_at_first() {
    let file = CaFile::with("\n");
    let path = file.0.to_str().unwrap();
    let error = binding("127.0.0.1", 1, &[(CA_FILE, path)]).err().unwrap();
    assert!(
        error
            .to_string()
            .contains("of AZURE_KUBERNETES_CA_FILE is empty"),
        "{error}"
    );
    let error = binding("127.0.0.1", 1, &[(CA_FILE, "/nowhere/ca.pem")])
        .err()
        .unwrap();
    assert!(matches!(error, Error::Credential(_)), "{error:?}");
    let pem = "-----BEGIN CERTIFICATE-----\n%%\n-----END CERTIFICATE-----";
    for data in [pem, "-----BEGIN CERTIFICATE-----"] {
        let error = binding("127.0.0.1", 1, &[(CA_DATA, data)]).err().unwrap();
        let text = error.to_string();
        assert!(
            text.contains("CA certificates of the identity binding's proxy cannot be read"),
            "{text}"
        );
    }
}

/// Runs [`only_the_roots_of_the_variables_are_trusted`] in a process that trusts the server's CA.
#[tokio::test]
#[cfg(all(feature = "rustls", target_os = "linux"))]
async fn the_machines_cas_are_not_added_to_those_of_the_variables() {
    let identity = Identity::new();
    let proxy = Proxy::start(&identity).await;
    let file = CaFile::with(&identity.ca_pem);
    let name = "identity_binding::tests::only_the_roots_of_the_variables_are_trusted";
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", name, "--test-threads=1"]);
    child.env("SSL_CERT_FILE", &file.0);
    child.env(PORT, proxy.port.to_string());
    let output = spawn_blocking(move || child.output())
        .await
        .unwrap()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("1 passed"), "{text}");
    assert_eq!(proxy.requests.lock().unwrap().len(), 1);
}

#[tokio::test]
#[cfg(all(feature = "rustls", target_os = "linux"))]
async fn only_the_roots_of_the_variables_are_trusted() {
    // Another test starts a process with the variable.
    let Ok(port) = std::env::var(PORT) else {
        return;
    };
    let port = port.parse().unwrap();
    let machine = binding("127.0.0.1", port, &[(SERVER_NAME, NAME)]).unwrap();
    send(&machine).await.unwrap();
    let other = Identity::new().ca_pem;
    let variables = [(SERVER_NAME, NAME), (CA_DATA, &other)];
    let only = binding("127.0.0.1", port, &variables).unwrap();
    send(&only).await.unwrap_err();
}

#[cfg(all(feature = "rustls", target_os = "linux"))]
const PORT: &str = "IDENTITY_BINDING_TEST_PORT";
