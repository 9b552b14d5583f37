//! A tower layer that attaches the token to each request of an HTTP client.
//!
//! ```sh
//! cargo run --example call_api_tower
//! ```
//!
//! The layer works with any tower service over `http::Request`, such as hyper's and tonic's
//! clients. hyper's client needs only
//! `Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>()` below the layer, and
//! `retry_with(|body: &Full<Bytes>| Some(body.clone()))`. Here the service is reqwest, behind a few
//! lines.
//! The identity provider and the API run inside this program, on loopback.
#![allow(clippy::print_stdout, reason = "an example prints its results")]

use bytes::Bytes;
use confidential_client::ConfidentialClient;
use confidential_client::adapter::{BearerAuth, BearerAuthLayer};
use confidential_client::testing::{Application, LocalAuthority};
use http::{Request, Response};
use reqwest::redirect::Policy;
use tower::{Layer, ServiceExt};

const TENANT: &str = "contoso.onmicrosoft.com";
const CLIENT_ID: &str = "11111111-2222-3333-4444-555555555555";
const GRAPH: &str = "https://graph.microsoft.com";

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let local = LocalAuthority::start().await?;
    let application = Application::new(CLIENT_ID).secret("s3cret");
    local.register(TENANT, application.role(GRAPH, "User.Read.All"));
    let api = local.protected_api(GRAPH).await?;

    let client = ConfidentialClient::builder(CLIENT_ID)
        .authority(local.authority(TENANT))
        .client_secret("s3cret")
        .build()?;
    let provider = client.token_provider(format!("{GRAPH}/.default"))?;
    // Only requests to the listed origins get the token. For Microsoft Graph, list GRAPH.
    let auth = BearerAuth::new(provider, [api.base_url()])?;
    // A retry after a challenge needs a copy of the body.
    let layer = BearerAuthLayer::new(auth).retry_with(|body: &Bytes| Some(body.clone()));
    // Without redirects. The layer would treat the response after a redirect as the API's own.
    let http = reqwest::Client::builder()
        .no_proxy()
        .redirect(Policy::none())
        .build()?;
    let send = tower::service_fn(move |request| send(http.clone(), request));
    let service = layer.layer(send);

    for path in ["v1.0/users", "v1.0/groups"] {
        let request = Request::get(format!("{}/{path}", api.base_url())).body(Bytes::new())?;
        let response = service.clone().oneshot(request).await?;
        let text = String::from_utf8_lossy(response.body());
        println!("{path:<16} {} {text}", response.status());
    }
    println!("{:<16} {}", "token requests", local.token_requests().len());
    Ok(())
}

/// Sends the request with reqwest and collects the response.
async fn send(
    http: reqwest::Client,
    request: Request<Bytes>,
) -> Result<Response<Bytes>, reqwest::Error> {
    let received = http.execute(request.try_into()?).await?;
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = received.status();
    *response.headers_mut() = received.headers().clone();
    *response.body_mut() = received.bytes().await?;
    Ok(response)
}
