//! A reqwest client that attaches the token to each request.
//!
//! ```sh
//! cargo run --example call_api_reqwest
//! ```
//!
//! `BearerAuth` acquires, refreshes and attaches the token. The calls themselves name no token.
//! The identity provider and the API run inside this program, on loopback.
#![allow(clippy::print_stdout, reason = "an example prints its results")]

use confidential_client::ConfidentialClient;
use confidential_client::adapter::BearerAuth;
use confidential_client::testing::{Application, LocalAuthority};

const TENANT: &str = "contoso.onmicrosoft.com";
const CLIENT_ID: &str = "11111111-2222-3333-4444-555555555555";
const GRAPH: &str = "https://graph.microsoft.com";

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
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
    // Connects to loopback directly, even if a proxy is configured.
    let http = reqwest::Client::builder().no_proxy().build()?;
    let http = reqwest_middleware::ClientBuilder::new(http)
        .with(auth)
        .build();

    for path in ["v1.0/users", "v1.0/groups"] {
        let url = format!("{}/{path}", api.base_url());
        let response = http.get(url).send().await?;
        println!(
            "{path:<16} {} {}",
            response.status(),
            response.text().await?
        );
    }
    println!("{:<16} {}", "token requests", local.token_requests().len());
    Ok(())
}
