//! A gateway that exchanges its caller's token for a token of the next API, which introspects it.
//!
//! ```sh
//! cargo run --example token_exchange
//! ```
//!
//! A user's app calls the gateway. The gateway exchanges the user's token (RFC 8693) for a token of
//! the orders API. The tokens of the orders API are opaque, so the API asks the identity provider
//! about them (RFC 7662). The identity provider and the API run inside this program and communicate
//! over HTTP, on loopback. The provider could be Keycloak, Okta or Auth0.
#![allow(clippy::print_stdout, reason = "an example prints its results")]

use std::time::Duration;

use axum::Router;
use axum::routing::get;
use confidential_client::adapter::AcceptedToken;
use confidential_client::delegated::{TokenExchange, TokenTypeIdentifier};
use confidential_client::resource::{AccessDenied, Holder, TokenValidator};
use confidential_client::testing::{Application, LocalAuthority, ManualClock, ProviderRules, User};
use confidential_client::{Authority, ConfidentialClient, ConfidentialClientBuilder, Error};
use reqwest::StatusCode;
use tokio::net::TcpListener;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const TENANT: &str = "contoso.example";
const GATEWAY: &str = "api://gateway";
const ORDERS: &str = "api://orders";
const ADELE: &str = "adele@contoso.example";

#[tokio::main]
async fn main() -> Result<()> {
    let clock = ManualClock::new();
    let local = identity_provider(&clock).await?;
    let issuer = local.issuer(TENANT).ok_or("the tenant is not registered")?;
    let client = |client_id: &str| -> ConfidentialClientBuilder {
        ConfidentialClient::builder(client_id)
            .authority(Authority::oidc(&issuer))
            .client_secret("s3cret")
            .clock(clock.clone())
    };
    let orders = start_orders(&client("orders").build()?).await?;
    let gateway = Gateway {
        client: client("gateway").build()?,
        http: reqwest::Client::new(),
        orders,
    };

    let received = local.user_token(TENANT, "app", ADELE, format!("{GATEWAY}/call"))?;
    for _ in 0..3 {
        let (status, text) = gateway.call_for(&received, "read").await?;
        println!("the gateway for adele: {} {text}", status.as_u16());
    }
    println!(
        "exchanges: {}, introspections: {}",
        local.token_requests().len(),
        local.introspection_requests().len()
    );

    let rejected = gateway.call_for(&received, "delete").await.err();
    let rejected = rejected
        .as_deref()
        .and_then(|error| error.downcast_ref::<Error>());
    if let Some(error) = rejected.and_then(Error::server_error) {
        println!(
            "for the scope delete: {} {}",
            error.status().as_u16(),
            error.error()
        );
    }

    // The provider revokes the token. The API notices within a minute.
    let exchange = gateway.exchange(&received, "read");
    local.revoke_access_token(gateway.client.exchange_token(&exchange).await?.secret());
    clock.advance(Duration::from_secs(60));
    let (status, text) = gateway.call_for(&received, "read").await?;
    println!("after the revocation: {} {text}", status.as_u16());
    Ok(())
}

/// An API that calls the orders API for its users.
struct Gateway {
    client: ConfidentialClient,
    http: reqwest::Client,
    orders: String,
}

impl Gateway {
    /// A gateway validates the received token first: the client returns a known token without
    /// asking the identity provider.
    fn exchange(&self, received: &str, scope: &str) -> TokenExchange {
        TokenExchange::new(received, TokenTypeIdentifier::ACCESS_TOKEN)
            .audience(ORDERS)
            .scopes([scope])
    }

    async fn call_for(&self, received: &str, scope: &str) -> Result<(StatusCode, String)> {
        let exchange = self.exchange(received, scope);
        let tokens = self.client.token_provider_for_exchange(&exchange)?;
        let mut request = self.http.get(&self.orders).build()?;
        tokens.authorize(&mut request).await?;
        let response = self.http.execute(request).await?;
        Ok((response.status(), response.text().await?))
    }
}

/// Responds to a user whose client has the scope `read`.
async fn list_orders(
    AcceptedToken(token): AcceptedToken,
) -> std::result::Result<String, AccessDenied> {
    token.require_scope("read")?;
    token.authorize_user(|user| user.string("username") == Some(ADELE))?;
    let client = token.client_id().unwrap_or("an unknown client");
    Ok(format!("three orders, by {client}"))
}

/// Starts the orders API, and returns its URL.
async fn start_orders(client: &ConfidentialClient) -> Result<String> {
    let validator = TokenValidator::introspecting(client)
        .audience(ORDERS)
        .single_tenant()
        // The tokens of this provider name a user, or act for an application.
        .holder(|token| match token.string("username") {
            Some(_) => Holder::User,
            None => token.holder(),
        })
        .build()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/orders", listener.local_addr()?);
    let router = Router::new()
        .route("/orders", get(list_orders))
        .with_state(validator);
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(url)
}

/// Starts an identity provider with the app, the gateway, the orders API and a user.
async fn identity_provider(clock: &ManualClock) -> Result<LocalAuthority> {
    let rules = ProviderRules::openid();
    let builder = LocalAuthority::builder().rules(rules).clock(clock.clone());
    let local = builder.start().await?;
    let gateway = Application::new("gateway")
        .secret("s3cret")
        .publishes(GATEWAY, ["call"])
        .exchange(ORDERS, ["read"]);
    let orders = Application::new("orders")
        .secret("s3cret")
        .publishes(ORDERS, ["read", "delete"])
        .opaque_access_tokens();
    for application in [gateway, orders, Application::new("app")] {
        local.register(TENANT, application);
    }
    local.register_user(TENANT, User::new(ADELE));
    local.consent(TENANT, "app", ADELE, format!("{GATEWAY}/call"));
    Ok(local)
}
