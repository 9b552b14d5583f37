//! The token is attached by a layer, before any tower service over `http::Request`:
//!
//! ```sh
//! cargo run --example call_api_tower
//! ```
//!
//! Here that service is reqwest, behind a few lines; hyper's and tonic's clients go in its place.
//! Identity provider and API run inside this program, on loopback.
#![allow(clippy::print_stdout, reason = "it reports to a reader")]

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
    let graph = client.token_provider(format!("{GRAPH}/.default"))?;
    // Against Microsoft Graph the origin is GRAPH; no other gets the token.
    let auth = BearerAuth::new(graph, [api.base_url()])?;
    let layer = BearerAuthLayer::new(auth).retry_with(|body: &Bytes| Some(body.clone()));
    // It follows no redirects: the answer at the end of one would be taken for the API's own.
    let http = reqwest::Client::builder()
        .no_proxy()
        .redirect(Policy::none())
        .build()?;
    let service = layer.layer(tower::service_fn(move |request| {
        send(http.clone(), request)
    }));

    for path in ["v1.0/users", "v1.0/groups"] {
        let request = Request::get(format!("{}/{path}", api.base_url())).body(Bytes::new())?;
        let answer = service.clone().oneshot(request).await?;
        let text = String::from_utf8_lossy(answer.body());
        println!("{:<16} {} {text}", path, answer.status());
    }
    println!("{:<16} {}", "token requests", local.token_requests().len());
    Ok(())
}

async fn send(
    http: reqwest::Client,
    request: Request<Bytes>,
) -> Result<Response<Bytes>, reqwest::Error> {
    let answer = http.execute(request.try_into()?).await?;
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = answer.status();
    *response.headers_mut() = answer.headers().clone();
    *response.body_mut() = answer.bytes().await?;
    Ok(response)
}
