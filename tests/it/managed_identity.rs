//! The client of a managed identity: one cache, one flight, the retries of the host.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use azure_core::credentials::TokenCredential;
use bytes::Bytes;
use confidential_client::adapter::{AzureCredential, BearerAuth, BearerAuthLayer};
use confidential_client::credential::{CredentialChain, HostEnvironment, ManagedIdentity};
use confidential_client::metrics::{Acquisition, Outcome};
use confidential_client::testing::ManualClock;
use confidential_client::transport::Transport;
use confidential_client::{
    CredentialChainClient, Error, ManagedIdentityClient, ManagedIdentityClientBuilder,
    TokenRequest, TokenSource,
};
use http::{HeaderValue, Request, Response, StatusCode};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::task::{JoinSet, yield_now};
use tower::{Layer, ServiceExt, service_fn};

use crate::support::{log_capture, unsigned_jwt};

const VAULT: &str = "https://vault.azure.net/.default";
pub const IDENTITY: &str = "33333333-2222-3333-4444-555555555555";

/// An in-memory endpoint that records requests, and responds with `token-1`, `token-2` and so on.
#[derive(Clone, Default)]
pub struct Host {
    requests: Arc<Mutex<Vec<Request<Bytes>>>>,
    /// The statuses of the first responses. Later responses have a token.
    failures: Arc<Mutex<Vec<u16>>>,
    /// True if the tokens are JWTs, as client assertions must be.
    pub issues_jwts: bool,
}

impl Host {
    pub fn failing(statuses: &[u16]) -> Self {
        let host = Self::default();
        *host.failures.lock().unwrap() = statuses.iter().rev().copied().collect();
        host
    }

    fn builder(&self, environment: HostEnvironment) -> ManagedIdentityClientBuilder {
        self.builder_of(ManagedIdentity::system_assigned(), environment)
    }

    pub fn builder_of(
        &self,
        identity: ManagedIdentity,
        environment: HostEnvironment,
    ) -> ManagedIdentityClientBuilder {
        log_capture::start();
        ManagedIdentityClient::builder(identity)
            .environment(environment)
            .transport(self.transport())
    }

    pub fn transport(&self) -> impl Transport + use<> {
        let host = self.clone();
        move |request: Request<Bytes>| {
            let number = {
                let mut requests = host.requests.lock().unwrap();
                requests.push(request);
                requests.len()
            };
            let failure = host.failures.lock().unwrap().pop();
            let text = match host.issues_jwts {
                true => unsigned_jwt(&format!("assertion-{number}")),
                false => format!("token-{number}"),
            };
            async move {
                let (status, body) = match failure {
                    Some(status) => (status, r#"{"error":"no"}"#.to_owned()),
                    None => (200, token(&text)),
                };
                Ok(Response::builder().status(status).body(body.into())?)
            }
        }
    }

    pub fn sent(&self) -> usize {
        self.requests.lock().unwrap().len()
    }

    pub fn query(&self, number: usize) -> String {
        let requests = self.requests.lock().unwrap();
        requests[number]
            .uri()
            .query()
            .unwrap_or_default()
            .to_owned()
    }
}

fn token(text: &str) -> String {
    format!(
        r#"{{"access_token":"{text}","expires_in":"86400","refresh_in":"43200","token_type":"Bearer"}}"#
    )
}

pub fn imds() -> HostEnvironment {
    HostEnvironment::from_fn(|_| None)
}

fn service_fabric() -> HostEnvironment {
    HostEnvironment::from_variables([
        ("IDENTITY_ENDPOINT", "https://localhost:2377/token"),
        ("IDENTITY_HEADER", "s3cret-header"),
        (
            "IDENTITY_SERVER_THUMBPRINT",
            "00112233445566778899AABBCCDDEEFF00112233",
        ),
    ])
}

#[tokio::test]
async fn the_token_of_imds_is_cached_under_the_scope_and_under_the_bare_resource() {
    let host = Host::default();
    let identity = ManagedIdentity::user_assigned_client_id(IDENTITY);
    let client = host.builder_of(identity, imds()).build().unwrap();
    let token = client.acquire_token(VAULT).await.unwrap();
    assert_eq!(token.secret(), "token-1");
    assert_eq!(token.source(), TokenSource::IdentityProvider);
    assert_eq!(token.tenant_id(), None);
    {
        let requests = host.requests.lock().unwrap();
        let uri = requests[0].uri();
        assert_eq!(requests[0].method(), "GET");
        assert_eq!(uri.host(), Some("169.254.169.254"));
        assert_eq!(requests[0].headers()["metadata"], "true");
        let query = uri.query().unwrap();
        assert!(
            query.contains("resource=https%3A%2F%2Fvault.azure.net&"),
            "{query}"
        );
        assert!(query.contains(&format!("client_id={IDENTITY}")), "{query}");
    }
    let request = TokenRequest::new(VAULT);
    for _ in 0..2 {
        for token in [
            client.acquire_token(VAULT).await,
            client.acquire_token("https://vault.azure.net").await,
            client.acquire_token(&request).await,
            client
                .acquire_token([VAULT, "https://vault.azure.net"])
                .await,
        ] {
            let token = token.unwrap();
            assert_eq!(token.source(), TokenSource::Cache);
            assert_eq!(token.scopes(), VAULT);
        }
    }
    client
        .acquire_token("https://vault.azure.net/")
        .await
        .unwrap();
    assert_eq!((host.sent(), client.cache().len()), (2, 2));
}

/// A real server on loopback in the place of IMDS.
async fn loopback_imds(requests: Arc<AtomicUsize>) -> SocketAddr {
    async fn respond(
        State(requests): State<Arc<AtomicUsize>>,
        RawQuery(query): RawQuery,
        headers: HeaderMap,
    ) -> String {
        assert_eq!(headers["metadata"], "true");
        assert!(query.unwrap().contains("api-version="));
        let number = requests.fetch_add(1, Ordering::Relaxed) + 1;
        token(&format!("token-{number}"))
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = Router::new().fallback(respond).with_state(requests);
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_callers_of_a_cold_imds_send_one_request() {
    let requests = Arc::<AtomicUsize>::default();
    let address = loopback_imds(Arc::clone(&requests)).await;
    let environment = HostEnvironment::from_variables([(
        "AZURE_POD_IDENTITY_AUTHORITY_HOST",
        format!("http://{address}"),
    )]);
    let client = ManagedIdentityClient::builder(ManagedIdentity::system_assigned())
        .environment(environment)
        .build()
        .unwrap();
    let mut callers = JoinSet::new();
    for _ in 0..1000 {
        let client = client.clone();
        callers.spawn(async move { client.acquire_token(VAULT).await });
    }
    for token in callers.join_all().await {
        assert_eq!(token.unwrap().secret(), "token-1");
    }
    assert_eq!(requests.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn the_observer_counts_the_attempts_of_an_update_of_imds() {
    let host = Host::failing(&[410; 7]);
    let seen = Arc::<Mutex<Vec<Acquisition>>>::default();
    let observed = Arc::clone(&seen);
    let client = host
        .builder(imds())
        .observer(move |acquisition| observed.lock().unwrap().push(acquisition))
        .observe_resources()
        .build()
        .unwrap();
    let token = client.acquire_token(VAULT).await.unwrap();
    assert_eq!(token.secret(), "token-8");
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 1);
    assert_eq!((seen[0].outcome, seen[0].attempts), (Outcome::Issued, 8));
    assert_eq!(seen[0].resource.as_deref(), Some("https://vault.azure.net"));
}

#[tokio::test(start_paused = true)]
async fn the_deadline_ends_the_retries() {
    let host = Host::failing(&[410; 99]);
    let client = host
        .builder(imds())
        .deadline(Duration::from_secs(20))
        .build()
        .unwrap();
    let began = tokio::time::Instant::now();
    let error = client.acquire_token(VAULT).await.unwrap_err();
    assert_eq!(error.status().unwrap(), 410);
    assert!(began.elapsed() <= Duration::from_secs(20));
}

#[tokio::test]
async fn a_rejection_is_remembered_and_says_what_to_assign() {
    let host = Host::failing(&[400]);
    let clock = ManualClock::new();
    let client = host.builder(imds()).clock(clock.clone()).build().unwrap();
    for _ in 0..2 {
        let error = client.acquire_token(VAULT).await.unwrap_err();
        assert!(matches!(error, Error::Server(_)), "{error:?}");
        assert!(error.to_string().contains("(IMDS)"), "{error}");
    }
    assert_eq!(host.sent(), 1);
    clock.advance(Duration::from_secs(3600));
    client.acquire_token(VAULT).await.unwrap();
}

#[tokio::test]
async fn a_token_is_refreshed_ahead_in_the_background() {
    let host = Host::default();
    let clock = ManualClock::new();
    let client = host.builder(imds()).clock(clock.clone()).build().unwrap();
    let provider = client.token_provider(VAULT).unwrap();
    assert_eq!(provider.token().await.unwrap().secret(), "token-1");
    clock.advance(Duration::from_secs(12 * 3600));
    assert_eq!(provider.token().await.unwrap().secret(), "token-1");
    while host.sent() < 2 {
        yield_now().await;
    }
    while provider.cached().unwrap().secret() != "token-2" {
        yield_now().await;
    }
    assert_eq!(
        client.acquire_token(VAULT).await.unwrap().secret(),
        "token-2"
    );
    assert_eq!(client.cache().stats().refreshes, 1);
}

#[tokio::test]
async fn an_invalidated_token_is_replaced() {
    let host = Host::default();
    let client = host.builder(imds()).build().unwrap();
    let first = client.acquire_token(VAULT).await.unwrap();
    client.invalidate(&first);
    let second = client.acquire_token(VAULT).await.unwrap();
    assert_eq!(second.secret(), "token-2");
    client.invalidate(&first);
    assert_eq!(
        client.acquire_token(VAULT).await.unwrap().secret(),
        "token-2"
    );
    client.cache().clear();
    assert_eq!(
        client.acquire_token(VAULT).await.unwrap().secret(),
        "token-3"
    );
}

#[tokio::test]
async fn claims_and_a_rejected_token_skip_the_cache_and_go_to_service_fabric_alone() {
    for (environment, is_told) in [(service_fabric(), true), (imds(), false)] {
        let host = Host::default();
        let client = host
            .builder(environment)
            .client_capabilities(["cp1"])
            .build()
            .unwrap();
        let first = client.acquire_token(VAULT).await.unwrap();
        assert!(!host.query(0).contains("xms_cc"));
        let request = TokenRequest::new(VAULT)
            .claims(r#"{"access_token":{"nbf":{"essential":true}}}"#)
            .rejected_token(&first);
        let second = client.acquire_token(&request).await.unwrap();
        assert_eq!(second.secret(), "token-2");
        let query = host.query(1);
        let digest = sha256(first.secret());
        assert_eq!(query.contains("xms_cc=cp1"), is_told, "{query}");
        let parameter = format!("token_sha256_to_refresh={digest}");
        assert_eq!(query.contains(&parameter), is_told, "{query}");
        assert!(!query.contains("nbf"), "{query}");
        // A rejected token alone is enough.
        let request = TokenRequest::new(VAULT).rejected_token(&second);
        let third = client.acquire_token(&request).await.unwrap();
        assert_eq!(third.secret(), "token-3");
        let parameter = format!("token_sha256_to_refresh={}", sha256("token-2"));
        assert_eq!(host.query(2).contains(&parameter), is_told);
    }
}

/// By `invalidate`, by the adapters and by the chain.
#[tokio::test]
async fn the_request_after_an_invalidation_has_the_hash_of_the_rejected_token_once() {
    for (environment, is_told) in [(service_fabric(), true), (imds(), false)] {
        let host = Host::default();
        let client = host.builder(environment.clone()).build().unwrap();
        let chain = CredentialChain::new().then(ManagedIdentity::system_assigned());
        let chained = Host::default();
        let chain = CredentialChainClient::builder(chain)
            .environment(environment)
            .transport(chained.transport())
            .build()
            .unwrap();
        let first = client.acquire_token(VAULT).await.unwrap();
        client.invalidate(&first);
        client.acquire_token(VAULT).await.unwrap();
        let again = TokenRequest::new(VAULT).force_refresh();
        client.acquire_token(&again).await.unwrap();
        let first = chain.acquire_token(VAULT).await.unwrap();
        chain.invalidate(&first);
        chain.acquire_token(VAULT).await.unwrap();
        chain.acquire_token(&again).await.unwrap();
        for host in [host, chained] {
            let parameter = format!("token_sha256_to_refresh={}", sha256("token-1"));
            let has_hash = [0, 1, 2].map(|number| host.query(number).contains(&parameter));
            assert_eq!(has_hash, [false, is_told, false], "{}", host.query(1));
        }
    }
}

/// The API's 401 has no claims, so the adapter drops the token.
#[tokio::test]
async fn the_token_that_an_adapter_saw_rejected_is_named_to_service_fabric() {
    let host = Host::default();
    let client = host.builder(service_fabric()).build().unwrap();
    let provider = client.token_provider(VAULT).unwrap();
    let api = |request: Request<String>| async move {
        let is_rejected = request.headers()["authorization"] == "Bearer token-1";
        let mut response = Response::new(String::new());
        if is_rejected {
            *response.status_mut() = StatusCode::UNAUTHORIZED;
            let challenge = HeaderValue::from_static(r#"Bearer error="invalid_token""#);
            response.headers_mut().insert("www-authenticate", challenge);
        }
        Ok::<_, Infallible>(response)
    };
    let auth = BearerAuth::new(provider, ["https://vault.azure.net"]).unwrap();
    let layer = BearerAuthLayer::new(auth).retry_with(|body: &String| Some(body.clone()));
    let service = layer.layer(service_fn(api));
    let request = Request::get("https://vault.azure.net/keys").body(String::new());
    let response = service.oneshot(request.unwrap()).await.unwrap();
    assert_eq!(response.status(), 200);
    let parameter = format!("token_sha256_to_refresh={}", sha256("token-1"));
    assert!(host.query(1).contains(&parameter), "{}", host.query(1));
}

#[tokio::test]
async fn a_request_for_an_application_is_rejected_before_the_network() {
    let host = Host::default();
    let client = host.builder(imds()).build().unwrap();
    for (request, expected) in [
        (
            TokenRequest::new(VAULT).tenant("contoso.com"),
            "the tenant 'contoso.com' cannot be used: a managed identity",
        ),
        (
            TokenRequest::new(VAULT).form_parameter("a", "b"),
            "an extra parameter cannot be used",
        ),
        (
            TokenRequest::new(VAULT).query_parameter("a", "b"),
            "an extra parameter cannot be used",
        ),
        (
            TokenRequest::new(VAULT).header("a", "b"),
            "an extra header cannot be used",
        ),
        (
            TokenRequest::new(VAULT).client_assertion_claims(r#"{"a":1}"#),
            "a claim of a client assertion cannot be used",
        ),
        (
            TokenRequest::new(VAULT).scopes(["api://other/.default"]),
            "two resources, 'https://vault.azure.net' and 'api://other'",
        ),
        (TokenRequest::new(""), "the request has no scope"),
        (TokenRequest::new(VAULT).claims("no"), "claims"),
        (TokenRequest::new(VAULT).correlation_id("no"), "GUID"),
    ] {
        let error = client.acquire_token(&request).await.unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        assert!(error.to_string().contains(expected), "{error}");
        let error = client.token_provider(&request).unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
    }
    let forced = TokenRequest::new(VAULT).force_refresh();
    let error = client.token_provider(forced).unwrap_err();
    assert!(error.to_string().contains("a forced refresh"), "{error}");
    assert_eq!(host.sent(), 0);
}

#[test]
fn a_setting_that_cannot_be_used_is_named() {
    let builder =
        || ManagedIdentityClient::builder(ManagedIdentity::system_assigned()).environment(imds());
    let unused = |_: Request<Bytes>| async { Err("not used".into()) };
    for (builder, expected) in [
        (builder().deadline(Duration::ZERO), "deadline must be"),
        (
            builder().deadline(Duration::from_secs(601)),
            "deadline must be",
        ),
        (
            builder().attempt_timeout(Duration::ZERO),
            "attempt_timeout must be",
        ),
        (
            builder().connect_timeout(Duration::ZERO),
            "connect_timeout must be",
        ),
        (
            builder()
                .connect_timeout(Duration::from_secs(1))
                .transport(unused),
            "connect_timeout(..) is for reqwest",
        ),
        (
            builder().client_capabilities([" "]),
            "capability has no name",
        ),
        (
            ManagedIdentityClient::builder(ManagedIdentity::user_assigned_client_id("me")),
            "the client id \"me\" of the managed identity",
        ),
        (
            builder().cache(confidential_client::CacheOptions::default().max_entries(0)),
            "max_entries",
        ),
    ] {
        let error = builder.build().unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[tokio::test]
async fn the_azure_sdk_accepts_the_client() {
    let host = Host::default();
    let client = host.builder(imds()).build().unwrap();
    let credential = AzureCredential::new(client.clone());
    let token = credential.get_token(&[VAULT], None).await.unwrap();
    assert_eq!(token.token.secret(), "token-1");
    assert_eq!(
        client.acquire_token(VAULT).await.unwrap().secret(),
        "token-1"
    );
    let credential = credential.tenant("contoso.com");
    let error = credential.get_token(&[VAULT], None).await.unwrap_err();
    let error = error.downcast_ref::<Error>().unwrap();
    assert!(error.to_string().contains("contoso.com"), "{error}");
}

fn sha256(text: &str) -> String {
    let digest = Sha256::digest(text);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
