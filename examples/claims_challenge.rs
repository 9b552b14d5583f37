//! An API takes a token back, and the daemon goes on with another (continuous access evaluation):
//!
//! ```sh
//! cargo run --example claims_challenge
//! ```
//!
//! Identity provider and API run inside this program, on loopback. What happens by itself with
//! `BearerAuth` happens here twice: by itself, and by hand, as for an HTTP client that it does not
//! know.
#![allow(clippy::print_stdout, reason = "it reports to a reader")]

use confidential_client::adapter::BearerAuth;
use confidential_client::testing::{Application, LocalAuthority, ProtectedApi};
use confidential_client::{Challenge, ConfidentialClient, TokenRequest};
use reqwest::header::AUTHORIZATION;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const TENANT: &str = "contoso.onmicrosoft.com";
const CLIENT_ID: &str = "11111111-2222-3333-4444-555555555555";
const GRAPH: &str = "https://graph.microsoft.com";

#[tokio::main]
async fn main() -> Result<()> {
    let local = LocalAuthority::start().await?;
    let application = Application::new(CLIENT_ID).secret("s3cret");
    local.register(TENANT, application.role(GRAPH, "User.Read.All"));
    let api = local.protected_api(GRAPH).await?;
    let client = ConfidentialClient::builder(CLIENT_ID)
        .authority(local.authority(TENANT))
        .client_secret("s3cret")
        .client_capabilities(["cp1"])
        .build()?;
    let http = reqwest::Client::builder().no_proxy().build()?;

    println!("by itself");
    let provider = client.token_provider(format!("{GRAPH}/.default"))?;
    let with_token = reqwest_middleware::ClientBuilder::new(http.clone())
        .with(BearerAuth::new(provider, [api.base_url()])?)
        .build();
    for _ in 0..2 {
        let answer = with_token.get(api.base_url()).send().await?;
        report(answer.status(), &api, &local);
        local.revoke_tokens(TENANT, CLIENT_ID);
    }

    println!("by hand");
    let request = TokenRequest::new(format!("{GRAPH}/.default"));
    let token = client.acquire_token_for_client(&request).await?;
    let answer = http
        .get(api.base_url())
        .header(AUTHORIZATION, token.authorization_header());
    let answer = answer.send().await?;
    report(answer.status(), &api, &local);
    let challenges = Challenge::from_headers(answer.headers());
    let asked = challenges.iter().find_map(Challenge::claims);
    let claims = asked.ok_or("the API asks for no claims")?;
    println!("  {:<16} {claims}", "the API asks for");
    let request = request.claims(claims).rejected_token(&token);
    let token = client.acquire_token_for_client(request).await?;
    let answer = http
        .get(api.base_url())
        .header(AUTHORIZATION, token.authorization_header());
    report(answer.send().await?.status(), &api, &local);
    Ok(())
}

fn report(status: reqwest::StatusCode, api: &ProtectedApi, local: &LocalAuthority) {
    println!(
        "  {:<16} {} after {} calls and {} token requests",
        "the API says",
        status.as_u16(),
        api.requests(),
        local.token_requests().len()
    );
}
