//! Fetches over real sockets.

use std::path::PathBuf;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use uuid::Uuid;

use super::*;

/// The response of a server to the head of a request.
type Respond = Arc<dyn Fn(&str) -> String + Send + Sync>;

/// A server of one response for each connection.
struct Server {
    address: String,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start(respond: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        let respond: Respond = Arc::new(respond);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let heads = Arc::<Mutex<Vec<String>>>::default();
        let seen = Arc::clone(&heads);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (respond, seen) = (Arc::clone(&respond), Arc::clone(&seen));
                tokio::spawn(async move { serve(stream, &respond, &seen).await });
            }
        });
        Self { address, heads }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    respond: &Respond,
    heads: &Mutex<Vec<String>>,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let response = respond(&head);
    heads.lock().unwrap().push(head);
    let _ = stream.write_all(response.as_bytes()).await;
    let _ = stream.shutdown().await;
}

fn http_response(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}

#[tokio::test]
async fn imds_issues_a_token() {
    let server = Server::start(|_| http_response("200 OK", "", TOKEN)).await;
    let host = format!("http://{}", server.address);
    let environment =
        HostEnvironment::from_variables([("AZURE_POD_IDENTITY_AUTHORITY_HOST", host)]);
    let id = ManagedIdentity::user_assigned_object_id("11111111-2222-3333-4444-555555555555");
    let fetcher = fetcher(id, environment, None).unwrap();
    let token = fetch(&fetcher).await.unwrap();
    assert_eq!(token.secret.expose(), "t0ken");
    let heads = server.heads();
    assert_eq!(heads.len(), 1);
    let line = "GET /metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fvault.azure.net&object_id=11111111-2222-3333-4444-555555555555 HTTP/1.1\r\n";
    assert!(heads[0].starts_with(line), "{}", heads[0]);
    assert!(heads[0].contains("\r\nmetadata: true\r\n"), "{}", heads[0]);
    assert!(
        !heads[0].to_ascii_lowercase().contains("forwarded"),
        "{}",
        heads[0]
    );
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let server = Server::start(|head| match head.contains("/elsewhere") {
        true => http_response("200 OK", "", TOKEN),
        false => http_response("307 Temporary Redirect", "location: /elsewhere\r\n", ""),
    })
    .await;
    let host = format!("http://{}", server.address);
    let environment =
        HostEnvironment::from_variables([("AZURE_POD_IDENTITY_AUTHORITY_HOST", host)]);
    let fetcher = fetcher(ManagedIdentity::system_assigned(), environment, None).unwrap();
    let error = fetch(&fetcher).await.unwrap_err();
    assert!(
        error.to_string().contains("which is not followed"),
        "{error}"
    );
    assert_eq!(server.heads().len(), 1);
}

/// A folder of key files that is deleted when the value is dropped.
struct KeyFolder(PathBuf);

impl KeyFolder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(Uuid::new_v4().to_string());
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for KeyFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[tokio::test]
async fn the_azure_arc_agent_issues_a_token_for_the_key_of_its_challenge() {
    let folder = KeyFolder::new();
    let file = folder.0.join("a.key");
    std::fs::write(&file, "s3cret\n").unwrap();
    let realm = format!("www-authenticate: Basic realm={}\r\n", file.display());
    let server =
        Server::start(
            move |head| match head.contains("\r\nauthorization: Basic s3cret\r\n") {
                true => http_response("200 OK", "", TOKEN),
                false => http_response("401 Unauthorized", &realm, ""),
            },
        )
        .await;
    let endpoint = format!("http://{}/metadata/identity/oauth2/token", server.address);
    let environment = || {
        HostEnvironment::from_variables([
            (IDENTITY_ENDPOINT, endpoint.as_str()),
            (IMDS_ENDPOINT, "x"),
        ])
    };
    let arc = environment().arc_key_folder(&folder.0);
    let fetcher = fetcher(ManagedIdentity::system_assigned(), arc, None).unwrap();
    assert_eq!(fetch(&fetcher).await.unwrap().secret.expose(), "t0ken");
    let heads = server.heads();
    assert_eq!(heads.len(), 2);
    for head in &heads {
        let line = "GET /metadata/identity/oauth2/token?api-version=2020-06-01&resource=https%3A%2F%2Fvault.azure.net HTTP/1.1\r\n";
        assert!(head.starts_with(line), "{head}");
        assert!(head.contains("\r\nmetadata: true\r\n"), "{head}");
    }
    assert!(!heads[0].contains("authorization"), "{}", heads[0]);

    // The file of the challenge is in another folder than the agent's.
    let arc = environment().arc_key_folder("/var/opt/azcmagent/tokens");
    let fetcher = super::fetcher(ManagedIdentity::system_assigned(), arc, None).unwrap();
    let error = fetch(&fetcher).await.unwrap_err();
    assert!(matches!(error, Error::Credential(_)), "{error:?}");
    assert!(
        error.to_string().contains("it is not directly in"),
        "{error}"
    );
    assert_eq!(server.heads().len(), 3, "no second request");
}

#[cfg(feature = "rustls")]
mod service_fabric {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};
    use sha1::{Digest, Sha1};
    use tokio_rustls::TlsAcceptor;
    use tokio_rustls::rustls::SupportedProtocolVersion;
    use tokio_rustls::rustls::crypto::aws_lc_rs;
    use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use tokio_rustls::rustls::server::ServerConfig;
    use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
    use tokio_rustls::rustls::version::{TLS12, TLS13};

    use super::*;

    /// Returns an expired, self-signed certificate for another name.
    fn certificate(key: &KeyPair) -> CertificateDer<'static> {
        let mut parameters = CertificateParams::new(["cluster.example".to_owned()]).unwrap();
        parameters.not_before = date_time_ymd(2015, 1, 1);
        parameters.not_after = date_time_ymd(2016, 1, 1);
        parameters.self_signed(key).unwrap().der().clone()
    }

    /// Starts a server, and returns its endpoint.
    async fn start(
        certificate: CertificateDer<'static>,
        key: &KeyPair,
        version: &'static SupportedProtocolVersion,
    ) -> String {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let key = provider.key_provider.load_private_key(key).unwrap();
        // Whether the key fits the certificate is not checked here.
        let identity = CertifiedKey::new(vec![certificate], key);
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(identity)));
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let respond: Respond = Arc::new(|head| {
                        assert!(head.contains("\r\nsecret: s3cret\r\n"), "{head}");
                        http_response("200 OK", "", TOKEN)
                    });
                    if let Ok(stream) = acceptor.accept(stream).await {
                        serve(stream, &respond, &Mutex::default()).await;
                    }
                });
            }
        });
        format!("https://{address}/metadata/identity/oauth2/token")
    }

    async fn fetch_with(endpoint: &str, thumbprint: &str) -> Result<IdentityToken, Error> {
        let environment = HostEnvironment::from_variables([
            (IDENTITY_ENDPOINT, endpoint),
            (IDENTITY_HEADER, "s3cret"),
            ("IDENTITY_SERVER_THUMBPRINT", thumbprint),
        ]);
        let fetcher = fetcher(ManagedIdentity::system_assigned(), environment, None).unwrap();
        // A single attempt.
        fetch_within(&fetcher, Duration::from_secs(4)).await
    }

    fn thumbprint(certificate: &CertificateDer<'_>) -> String {
        let digest = Sha1::digest(certificate);
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[tokio::test]
    async fn the_pinned_certificate_is_accepted_and_no_other() {
        let key = KeyPair::generate().unwrap();
        let pinned = certificate(&key);
        let other = certificate(&KeyPair::generate().unwrap());
        for version in [&TLS12, &TLS13] {
            let endpoint = start(pinned.clone(), &key, version).await;
            let token = fetch_with(&endpoint, &thumbprint(&pinned)).await.unwrap();
            assert_eq!(token.secret.expose(), "t0ken");
            let error = fetch_with(&endpoint, &thumbprint(&other))
                .await
                .unwrap_err();
            assert!(matches!(error, Error::Transport(_)), "{error:?}");
            assert!(!error.is_transient(), "{error:?}");
            let text = error.to_string();
            for print in [thumbprint(&pinned), thumbprint(&other)] {
                assert!(text.contains(&print.to_uppercase()), "{text}");
            }
            assert!(text.contains("IDENTITY_SERVER_THUMBPRINT"), "{text}");
        }
    }

    #[tokio::test]
    async fn a_server_without_the_key_of_the_pinned_certificate_is_rejected() {
        let pinned = certificate(&KeyPair::generate().unwrap());
        let other_key = KeyPair::generate().unwrap();
        for version in [&TLS12, &TLS13] {
            let endpoint = start(pinned.clone(), &other_key, version).await;
            let error = fetch_with(&endpoint, &thumbprint(&pinned))
                .await
                .unwrap_err();
            assert!(matches!(error, Error::Transport(_)), "{error:?}");
            let text = error.chain().to_string();
            assert!(text.contains("BadSignature"), "{text}");
        }
    }
}
