//! A daemon that continues after an API revoked the token (continuous access evaluation).
//!
//! ```sh
//! cargo run --example claims_challenge
//! ```
//!
//! `BearerAuth` answers the claims challenge automatically. The second half of the program answers
//! a challenge by hand, for HTTP clients without an adapter.
//! The identity provider and the API run inside this program, on loopback.
#![allow(clippy::print_stdout, reason = "an example prints its results")]

use confidential_client::adapter::BearerAuth;
use confidential_client::testing::{Application, LocalAuthority, ProtectedApi};
use confidential_client::{Challenge, ConfidentialClient, TokenRequest};
use reqwest::StatusCode;
use reqwest::header::AUTHORIZATION;

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
        // "cp1" declares that this client answers claims challenges.
        .client_capabilities(["cp1"])
        .build()?;
    let http = reqwest::Client::builder().no_proxy().build()?;

    println!("automatically");
    let provider = client.token_provider(format!("{GRAPH}/.default"))?;
    let http_with_token = reqwest_middleware::ClientBuilder::new(http.clone())
        .with(BearerAuth::new(provider, [api.base_url()])?)
        .build();
    for _ in 0..2 {
        let response = http_with_token.get(api.base_url()).send().await?;
        print_status(response.status(), &api, &local);
        local.revoke_tokens(TENANT, CLIENT_ID);
    }

    println!("by hand");
    let request = TokenRequest::new(format!("{GRAPH}/.default"));
    let token = client.acquire_token_for_client(&request).await?;
    let call = http.get(api.base_url());
    let call = call.header(AUTHORIZATION, token.authorization_header());
    let response = call.send().await?;
    print_status(response.status(), &api, &local);

    let challenges = Challenge::from_headers(response.headers());
    let claims = challenges.iter().find_map(Challenge::claims);
    let claims = claims.ok_or("the API's response holds no claims challenge")?;
    println!("  {:<16} {claims}", "the API asks for");
    // `rejected_token` requests a token other than the token in the cache.
    let request = request.claims(claims).rejected_token(&token);
    let token = client.acquire_token_for_client(request).await?;
    let call = http.get(api.base_url());
    let call = call.header(AUTHORIZATION, token.authorization_header());
    let response = call.send().await?;
    print_status(response.status(), &api, &local);
    Ok(())
}

fn print_status(status: StatusCode, api: &ProtectedApi, local: &LocalAuthority) {
    println!(
        "  {:<16} {} after {} calls and {} token requests",
        "the API says",
        status.as_u16(),
        api.requests(),
        local.token_requests().len()
    );
}
