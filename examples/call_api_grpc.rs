//! A gRPC client of tonic that sends a token with each call, and a gRPC service that checks the token.
//!
//! ```sh
//! cargo run --example call_api_grpc
//! ```
//!
//! The service is gRPC's own health check. The identity provider and the service run inside this
//! program, on loopback.
#![allow(clippy::print_stdout, reason = "an example prints its results")]

use confidential_client::ConfidentialClient;
use confidential_client::adapter::{BearerAuth, BearerAuthLayer};
use confidential_client::resource::TokenValidator;
use confidential_client::testing::{Application, LocalAuthority};
use http::Request;
use tokio::net::TcpListener;
use tonic::Status;
use tonic::body::Body;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Endpoint, Server};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tower::Layer;
use tower::filter::AsyncFilterLayer;

const TENANT: &str = "contoso.onmicrosoft.com";
const CLIENT_ID: &str = "11111111-2222-3333-4444-555555555555";
const API: &str = "api://health";

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let local = LocalAuthority::start().await?;
    let application = Application::new(CLIENT_ID).secret("s3cret");
    local.register(TENANT, application.role(API, "Health.Read.All"));
    let origin = serve(&local).await?;

    let client = ConfidentialClient::builder(CLIENT_ID)
        .authority(local.authority(TENANT))
        .client_secret("s3cret")
        .build()?;
    let provider = client.token_provider(format!("{API}/.default"))?;
    // tonic's channel adds the origin below the layer, so the layer has to know the origin.
    let auth = BearerAuth::new(provider, [&origin])?;
    let layer = BearerAuthLayer::new(auth).default_origin(&origin)?;
    let channel = Endpoint::from_shared(origin)?.connect().await?;

    let request = HealthCheckRequest::default;
    let mut with_token = HealthClient::new(layer.layer(channel.clone()));
    for _ in 0..2 {
        let response = with_token.check(request()).await?.into_inner();
        println!("{:<16} {}", "with a token", response.status().as_str_name());
    }
    let mut without_token = HealthClient::new(channel);
    if let Err(status) = without_token.check(request()).await {
        println!(
            "{:<16} {:?}: {}",
            "without a token",
            status.code(),
            status.message()
        );
    }
    println!("{:<16} {}", "token requests", local.token_requests().len());
    Ok(())
}

/// Serves gRPC's health check to applications with a role, and returns the origin.
async fn serve(local: &LocalAuthority) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
    let validator = TokenValidator::builder(local.authority(TENANT))
        .audience(API)
        .single_tenant()
        .build()?;
    let check_token = AsyncFilterLayer::new(move |request: Request<Body>| {
        let validator = validator.clone();
        async move {
            let token = validator.validate_headers(request.headers()).await;
            let token =
                token.map_err(|rejection| Status::unauthenticated(rejection.to_string()))?;
            match token.require_application_role("Health.Read.All") {
                Ok(()) => Ok(request),
                Err(rejection) => Err(Status::permission_denied(rejection.to_string())),
            }
        }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let origin = format!("http://{}", listener.local_addr()?);
    let (_, health) = tonic_health::server::health_reporter();
    let server = Server::builder().layer(check_token).add_service(health);
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    Ok(origin)
}
