//! A daemon whose tokens are bound to a key (DPoP), so that a stolen token is useless.
//!
//! ```sh
//! cargo run --example dpop
//! ```
//!
//! The program generates a proof key, and gets a token that only this key can use. An adapter makes
//! a proof for each request, and the program makes one by hand. A thief who has the token alone is
//! rejected. The identity provider and the API run inside this program, on loopback.
#![allow(clippy::print_stdout, reason = "an example prints its results")]

use confidential_client::adapter::BearerAuth;
use confidential_client::credential::DpopKey;
use confidential_client::testing::{Application, LocalAuthority};
use confidential_client::{Authority, ConfidentialClient};
use reqwest::header::AUTHORIZATION;
use reqwest::{Method, Request};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const TENANT: &str = "contoso.example";
const CLIENT_ID: &str = "orders-daemon";
const ORDERS: &str = "api://orders";

#[tokio::main]
async fn main() -> Result<()> {
    let local = LocalAuthority::start().await?;
    let application = Application::new(CLIENT_ID).secret("s3cret");
    let application = application.role(ORDERS, "Orders.Read");
    local.register(TENANT, application.dpop_bound_access_tokens());
    let api = local.protected_api(ORDERS).await?;
    // Both servers demand a nonce, which a client learns from the first response.
    local.require_dpop_nonce();
    api.require_dpop_nonce();

    let issuer = local.issuer(TENANT).ok_or("the tenant has no issuer")?;
    let client = ConfidentialClient::builder(CLIENT_ID)
        .authority(Authority::oidc(issuer))
        .client_secret("s3cret")
        .dpop(DpopKey::generate()?)
        .build()?;
    let provider = client.token_provider(format!("{ORDERS}/.default"))?;
    let token = provider.token().await?;
    println!("{:<28} {}", "scheme of the token", token.token_type());
    println!("{:<28} {}", "token requests", local.token_requests().len());

    // The adapter makes a proof for each request, and repeats a request for a new nonce.
    let direct = reqwest::Client::builder().no_proxy().build()?;
    let http = reqwest_middleware::ClientBuilder::new(direct.clone())
        .with(BearerAuth::new(provider.clone(), [api.base_url()])?)
        .build();
    for path in ["v1/orders", "v1/invoices"] {
        let response = http
            .get(format!("{}/{path}", api.base_url()))
            .send()
            .await?;
        println!("{path:<28} {}", response.status());
    }
    println!("{:<28} {}", "requests to the API", api.requests());

    // Without an adapter: the proof names the method and the URI of one request.
    let url = format!("{}/v1/orders/1", api.base_url());
    let mut request = Request::new(Method::DELETE, url.parse()?);
    provider.authorize(&mut request).await?;
    let copy = request.try_clone().ok_or("a body cannot be copied")?;
    let response = direct.execute(request).await?;
    provider.record_nonce(&url, response.headers());
    println!("{:<28} {}", "with a proof", response.status());

    // The same proof again, and the token alone.
    let response = direct.execute(copy).await?;
    println!("{:<28} {}", "the proof a second time", response.status());
    let stolen = format!("Bearer {}", token.secret());
    let response = direct
        .get(&url)
        .header(AUTHORIZATION, stolen)
        .send()
        .await?;
    println!("{:<28} {}", "the stolen token", response.status());
    Ok(())
}
