//! `BearerAuthLayer` over a channel of tonic, and a real gRPC service.

use std::sync::{Arc, Mutex};

use confidential_client::adapter::{BearerAuth, BearerAuthLayer};
use confidential_client::testing::{Application, LocalAuthority};
use confidential_client::{Error, TokenProvider};
use tokio::net::TcpListener;
use tonic::service::InterceptorLayer;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tower::Layer;

use crate::support::{CLIENT_ID, SCOPE, SECRET, TENANT, client_of, dpop, log_capture::Log};

/// gRPC's health check, which records the tokens of calls and rejects some.
#[derive(Clone, Default)]
struct Service {
    received: Arc<Mutex<Vec<Option<String>>>>,
    proofs: Arc<Mutex<Vec<String>>>,
    /// The status of calls with the first token that was received.
    first_token: Arc<Mutex<Option<Code>>>,
}

impl Service {
    async fn start(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let service = self.clone();
        let check = InterceptorLayer::new(move |request: tonic::Request<()>| {
            let token = request.metadata().get("authorization");
            let token = token.map(|token| token.to_str().unwrap().to_owned());
            if let Some(proof) = request.metadata().get("dpop") {
                let proof = proof.to_str().unwrap().to_owned();
                service.proofs.lock().unwrap().push(proof);
            }
            let mut received = service.received.lock().unwrap();
            received.push(token.clone());
            match *service.first_token.lock().unwrap() {
                Some(code) if received[0] == token => Err(Status::new(code, "no")),
                _ => Ok(request),
            }
        });
        let (_, health) = tonic_health::server::health_reporter();
        let server = Server::builder().layer(check).add_service(health);
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        origin
    }

    fn received(&self) -> Vec<Option<String>> {
        self.received.lock().unwrap().clone()
    }
}

async fn start() -> (LocalAuthority, Service, String, TokenProvider) {
    let local = LocalAuthority::start().await.unwrap();
    let (resource, _) = SCOPE.split_once("/.default").unwrap();
    let application = Application::new(CLIENT_ID).secret(SECRET);
    local.register(TENANT, application.role(resource, "Run"));
    let client = client_of(&local).client_secret(SECRET).build().unwrap();
    let provider = client.token_provider(SCOPE).unwrap();
    let service = Service::default();
    let origin = service.start().await;
    (local, service, origin, provider)
}

async fn connect(origin: &str) -> Channel {
    let endpoint = Endpoint::from_shared(origin.to_owned()).unwrap();
    endpoint.connect().await.unwrap()
}

async fn call<S>(client: &mut HealthClient<S>) -> Result<(), Code>
where
    S: tonic::client::GrpcService<tonic::body::Body>,
    S::Error: Into<tonic::codegen::StdError>,
    S::ResponseBody: tonic::codegen::Body<Data = bytes::Bytes> + Send + 'static,
    <S::ResponseBody as tonic::codegen::Body>::Error: Into<tonic::codegen::StdError> + Send,
{
    let outcome = client.check(HealthCheckRequest::default()).await;
    outcome.map(drop).map_err(|status| status.code())
}

#[tokio::test]
async fn a_call_of_tonic_is_not_sent_without_the_token() {
    let (local, service, origin, provider) = start().await;
    let auth = BearerAuth::new(provider, [&origin]).unwrap();
    let layer = BearerAuthLayer::new(auth).default_origin(&origin).unwrap();
    let mut client = HealthClient::new(layer.layer(connect(&origin).await));
    call(&mut client).await.unwrap();
    call(&mut client).await.unwrap();
    let received = service.received();
    assert!(received[0].as_ref().unwrap().starts_with("Bearer "));
    assert_eq!(received[0], received[1]);
    assert_eq!(local.token_requests().len(), 1);
}

#[tokio::test]
async fn a_call_of_tonic_has_a_proof_of_its_own() {
    let (local, _api) = dpop::start().await;
    let client = dpop::client_of(&local).dpop(dpop::key()).build().unwrap();
    let provider = client.token_provider(dpop::ORDERS).unwrap();
    let service = Service::default();
    let origin = service.start().await;
    let auth = BearerAuth::new(provider, [&origin]).unwrap();
    let layer = BearerAuthLayer::new(auth).default_origin(&origin).unwrap();
    let mut client = HealthClient::new(layer.layer(connect(&origin).await));
    call(&mut client).await.unwrap();
    call(&mut client).await.unwrap();
    for token in service.received() {
        assert!(token.unwrap().starts_with("DPoP "));
    }
    let proofs = service.proofs.lock().unwrap().clone();
    let [one, other] = &*proofs else {
        panic!("{proofs:?}");
    };
    let (one, other) = (dpop::JudgedProof::of(one), dpop::JudgedProof::of(other));
    assert_ne!(one.text("jti"), other.text("jti"));
    assert_eq!(one.text("htm"), "POST");
    let uri = format!("{origin}/grpc.health.v1.Health/Check");
    assert_eq!(one.text("htu"), uri);
}

#[tokio::test]
async fn a_call_without_origin_is_not_sent_without_a_warning() {
    let (_local, service, origin, provider) = start().await;
    let auth = BearerAuth::new(provider, [&origin]).unwrap();
    let layer = BearerAuthLayer::new(auth);
    let log = Log::start();
    let mut client = HealthClient::new(layer.layer(connect(&origin).await));
    call(&mut client).await.unwrap();
    call(&mut client).await.unwrap();
    assert_eq!(service.received(), [None, None]);
    let log = log.text();
    assert_eq!(log.matches("default_origin(..)").count(), 1, "{log}");
}

#[tokio::test]
async fn a_token_that_a_grpc_service_rejects_is_not_sent_again() {
    let (local, service, origin, provider) = start().await;
    let auth = BearerAuth::new(provider, [&origin]).unwrap();
    let layer = BearerAuthLayer::new(auth).default_origin(&origin).unwrap();
    let mut client = HealthClient::new(layer.layer(connect(&origin).await));
    for (code, token_requests) in [(Code::PermissionDenied, 1), (Code::Unauthenticated, 2)] {
        *service.first_token.lock().unwrap() = Some(code);
        assert_eq!(call(&mut client).await, Err(code));
        assert_eq!(local.token_requests().len(), token_requests, "{code:?}");
    }
    call(&mut client).await.unwrap();
    let received = service.received();
    assert_eq!(received[0], received[1]);
    assert_ne!(received[1], received[2]);
    assert_eq!(local.token_requests().len(), 2);
}

#[tokio::test]
async fn a_default_origin_that_can_never_match_is_rejected() {
    let (_local, _service, origin, provider) = start().await;
    let auth = BearerAuth::new(provider, [&origin]).unwrap();
    for other in [
        "https://api.example",
        "http://127.0.0.1:1",
        "api.example",
        "",
    ] {
        let layer = BearerAuthLayer::<()>::new(auth.clone());
        let error = layer.default_origin(other).unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{other}: {error:?}");
    }
}
