//! Bound tokens at the routes of an axum server, over HTTP and over TLS with client certificates.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::middleware::{Next, from_extractor_with_state, from_fn, map_request};
use axum::response::Response;
use axum::routing::get;
use axum::serve::{IncomingStream, Listener};
use confidential_client::adapter::{AcceptedToken, PermittedToken};
use confidential_client::resource::{
    CertificateSource, DpopPolicy, ExternalUri, PeerCertificate, Permission, TokenValidator,
};
use rcgen::{CertificateParams, KeyPair};
use reqwest::Identity;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};
use tokio_rustls::server::TlsStream;

use crate::support::issuer::{
    Issuer, RSA, TENANT_ID, encode, header, user_claims, user_token, with,
};
use crate::support::proof::ProofKey;
use crate::support::tls_server::{for_loopback, private_key};

struct WriteFiles;

impl Permission for WriteFiles {
    const SCOPES: &'static [&'static str] = &["Files.Write"];
}

async fn me(AcceptedToken(token): AcceptedToken) -> String {
    token.client_id().unwrap_or_default().to_owned()
}

async fn write(_: PermittedToken<WriteFiles>) {}

async fn greeting(token: Option<AcceptedToken>) -> &'static str {
    match token {
        Some(_) => "hello",
        None => "who are you",
    }
}

/// Takes the token out of the request three times, with the layer of the route.
async fn twice(_: Option<AcceptedToken>, AcceptedToken(token): AcceptedToken) -> String {
    token.client_id().unwrap_or_default().to_owned()
}

async fn keep_uri(mut request: Request) -> Request {
    let uri = ExternalUri(request.uri().clone());
    request.extensions_mut().insert(uri);
    request
}

fn routes(validator: TokenValidator) -> Router {
    Router::new()
        .route("/me", get(me))
        .route("/write", get(write))
        .route("/greeting", get(greeting))
        .route(
            "/twice",
            get(twice).layer(from_extractor_with_state::<AcceptedToken, _>(
                validator.clone(),
            )),
        )
        .nest("/v1", Router::new().route("/me", get(me)))
        .layer(map_request(keep_uri))
        .with_state(validator)
}

/// An API over HTTP that accepts proofs.
struct Api {
    base: String,
    http: reqwest::Client,
}

impl Api {
    async fn start(policy: impl FnOnce(DpopPolicy) -> DpopPolicy) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let builder = Issuer::new().builder(TENANT_ID).single_tenant();
        let builder = builder.dpop(policy(DpopPolicy::new(&*base)));
        let router = routes(builder.build().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self {
            base,
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
        }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// Sends the token of the key with these proofs.
    async fn send(&self, path: &str, key: &ProofKey, proofs: &[String]) -> reqwest::Response {
        let request = self.http.get(self.url(path));
        let mut request = request.header("authorization", format!("DPoP {}", key.token));
        for proof in proofs {
            request = request.header("dpop", proof);
        }
        request.send().await.unwrap()
    }
}

fn challenge(response: &reqwest::Response) -> String {
    let challenges = response.headers().get_all("www-authenticate");
    let mut challenges = challenges
        .iter()
        .map(|value| value.to_str().unwrap().to_owned());
    let only = challenges.next().unwrap_or_default();
    assert_eq!(challenges.next(), None);
    only
}

#[tokio::test]
async fn a_request_whose_token_is_extracted_more_than_once_is_no_replay() {
    let api = Api::start(|policy| policy).await;
    let key = ProofKey::new();
    let proofs = [key.proof("GET", &api.url("/twice"))];
    let response = api.send("/twice", &key, &proofs).await;
    assert_eq!(response.status(), 200, "{}", challenge(&response));
    assert_eq!(response.text().await.unwrap(), "client");
    let replayed = api.send("/twice", &key, &proofs).await;
    assert_eq!(replayed.status(), 401);
    assert!(challenge(&replayed).contains("invalid_dpop_proof"));
}

#[tokio::test]
async fn a_proof_is_checked_with_the_request_of_the_route() {
    let api = Api::start(|policy| policy).await;
    let key = ProofKey::new();
    let at = |path: &str| key.proof("GET", &api.url(path));
    let used = at("/me");
    let response = api
        .send("/me?page=2", &key, std::slice::from_ref(&used))
        .await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.text().await.unwrap(), "client");
    let posted = key.proof("POST", &api.url("/me"));
    for (name, path, proofs, status, error) in [
        ("sent before", "/me", vec![used], 401, "invalid_dpop_proof"),
        (
            "of another route",
            "/me",
            vec![at("/write")],
            401,
            "invalid_dpop_proof",
        ),
        (
            "of another method",
            "/me",
            vec![posted],
            401,
            "invalid_dpop_proof",
        ),
        ("none", "/me", vec![], 401, "invalid_dpop_proof"),
        (
            "two",
            "/me",
            vec![at("/me"), at("/me")],
            401,
            "invalid_dpop_proof",
        ),
        ("of a nested route", "/v1/me", vec![at("/v1/me")], 200, ""),
        (
            "of the path in the nested router",
            "/v1/me",
            vec![at("/me")],
            401,
            "invalid_dpop_proof",
        ),
        (
            "without the permission",
            "/write",
            vec![at("/write")],
            403,
            "insufficient_scope",
        ),
        (
            "of an optional token",
            "/greeting",
            vec![at("/greeting")],
            200,
            "",
        ),
        (
            "of an optional token, wrong",
            "/greeting",
            vec![at("/me")],
            401,
            "invalid_dpop_proof",
        ),
    ] {
        let response = api.send(path, &key, &proofs).await;
        assert_eq!(response.status(), status, "{name}");
        let challenge = challenge(&response);
        match error {
            "" => assert_eq!(challenge, "", "{name}"),
            error => assert!(
                challenge.starts_with(&format!("DPoP error=\"{error}\", ")),
                "{name}: {challenge}"
            ),
        }
    }
    // Without a proof the token is worth nothing, and bearer tokens are accepted beside it.
    for (token, status) in [(&key.token, 401), (&user_token(), 200)] {
        let request = api.http.get(api.url("/me")).bearer_auth(token);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), status);
    }
    let response = api.http.get(api.url("/me")).send().await.unwrap();
    assert!(challenge(&response).starts_with(r#"Bearer realm="", DPoP algs="ES256 "#));
    let response = api.http.get(api.url("/greeting")).send().await.unwrap();
    assert_eq!(response.text().await.unwrap(), "who are you");
}

#[tokio::test]
async fn a_client_retries_with_the_nonce_of_the_response() {
    let api = Api::start(DpopPolicy::require_nonce).await;
    let key = ProofKey::new();
    let url = api.url("/me");
    let response = api.send("/me", &key, &[key.proof("GET", &url)]).await;
    assert_eq!(response.status(), 401);
    assert!(challenge(&response).starts_with(r#"DPoP error="use_dpop_nonce", "#));
    assert_eq!(response.headers()["cache-control"], "no-store");
    let nonce = response.headers()["dpop-nonce"].to_str().unwrap();
    let claims = with(key.claims("GET", &url), "nonce", nonce);
    let response = api
        .send("/me", &key, &[key.sign(&key.header(), &claims)])
        .await;
    assert_eq!(response.status(), 200);
}

/// Accepts TLS connections, with the certificate of the client as a part of the address.
struct TlsListener {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = (SocketAddr, Option<PeerCertificate>);

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, address) = self.listener.accept().await.unwrap();
            // A real server accepts several clients at a time.
            let Ok(stream) = self.acceptor.accept(stream).await else {
                continue;
            };
            let (_, connection) = stream.get_ref();
            let chain = connection.peer_certificates().unwrap_or_default();
            let certificate = chain.first().map(PeerCertificate::from_der);
            return (stream, (address, certificate));
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok((self.listener.local_addr()?, None))
    }
}

#[derive(Clone)]
struct Peer(Option<PeerCertificate>);

impl Connected<IncomingStream<'_, TlsListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, TlsListener>) -> Self {
        Self(stream.remote_addr().1)
    }
}

async fn peer_certificate(
    ConnectInfo(Peer(certificate)): ConnectInfo<Peer>,
    mut request: Request,
    next: Next,
) -> Response {
    if let Some(certificate) = certificate {
        request.extensions_mut().insert(certificate);
    }
    next.run(request).await
}

#[tokio::test]
async fn the_certificate_of_the_tls_connection_must_be_that_of_the_token() {
    let client = || {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["daemon.example".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let identity = format!("{}{}", certificate.pem(), key.serialize_pem());
        (
            certificate.der().clone(),
            Identity::from_pem(identity.as_bytes()).unwrap(),
        )
    };
    let ((certificate, identity), (other, other_identity)) = (client(), client());
    let (base, server) = serve_tls([&certificate, &other]).await;
    let thumbprint = encode(Sha256::digest(&certificate));
    let cnf = json!({ "x5t#S256": thumbprint });
    let token = RSA.sign(&header(), &with(user_claims(), "cnf", cnf));
    let header = base64::prelude::BASE64_STANDARD;
    let header = base64::Engine::encode(&header, &certificate);
    for (name, identity, status) in [
        ("the token's", Some(identity), 200),
        ("another", Some(other_identity), 401),
        ("none", None, 401),
    ] {
        let mut http = reqwest::Client::builder()
            .tls_backend_rustls()
            .no_proxy()
            .tls_certs_only([server.clone()]);
        if let Some(identity) = identity {
            http = http.identity(identity);
        }
        let request = http
            .build()
            .unwrap()
            .get(format!("{base}/me"))
            .bearer_auth(&token);
        // The proxy's header is not named, so the client's copy of it does not count.
        let request = request.header("client-cert", format!(":{header}:"));
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), status, "{name}");
        if status == 401 {
            assert!(
                challenge(&response).contains(r#"error="invalid_token""#),
                "{name}"
            );
        }
    }
}

/// Serves the routes over TLS, with optional certificates of clients.
async fn serve_tls(clients: [&CertificateDer<'static>; 2]) -> (String, reqwest::Certificate) {
    let key = KeyPair::generate().unwrap();
    let certificate = for_loopback().self_signed(&key).unwrap();
    let mut roots = RootCertStore::empty();
    for client in clients {
        roots.add(client.clone()).unwrap();
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.allow_unauthenticated().build().unwrap())
        .with_single_cert(vec![certificate.der().clone()], private_key(&key))
        .unwrap();
    let listener = TlsListener {
        listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
        acceptor: TlsAcceptor::from(Arc::new(config)),
    };
    let base = format!("https://{}", listener.listener.local_addr().unwrap());
    let builder = Issuer::new().builder(TENANT_ID).single_tenant();
    let builder = builder.certificate_bound(CertificateSource::connection());
    let router = routes(builder.build().unwrap()).layer(from_fn(peer_certificate));
    let service = router.into_make_service_with_connect_info::<Peer>();
    tokio::spawn(async move { axum::serve(listener, service).await });
    let certificate = reqwest::Certificate::from_der(certificate.der()).unwrap();
    (base, certificate)
}
