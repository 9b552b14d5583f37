//! The token is written once, where the HTTP client is made; after that, the daemon only calls:
//!
//! ```sh
//! cargo run --example call_api_reqwest
//! ```
//!
//! Identity provider and API run inside this program, on loopback.
#![allow(clippy::print_stdout, reason = "it reports to a reader")]

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
    let graph = client.token_provider(format!("{GRAPH}/.default"))?;
    // Against Microsoft Graph the origin is GRAPH; no other gets the token.
    let auth = BearerAuth::new(graph, [api.base_url()])?;
    // On loopback, where a proxy has no business.
    let http = reqwest::Client::builder().no_proxy().build()?;
    let http = reqwest_middleware::ClientBuilder::new(http)
        .with(auth)
        .build();

    for path in ["v1.0/users", "v1.0/groups"] {
        let answer = http
            .get(format!("{}/{path}", api.base_url()))
            .send()
            .await?;
        println!("{:<16} {} {}", path, answer.status(), answer.text().await?);
    }
    println!("{:<16} {}", "token requests", local.token_requests().len());
    Ok(())
}
