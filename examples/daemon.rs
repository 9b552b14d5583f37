//! A daemon that acquires a token for itself and calls a web API with the token.
//!
//! ```sh
//! cargo run --example daemon
//! ```
//!
//! By default the identity provider and the web API run inside this program, on loopback. The
//! program then shows a certificate, a secret and a wrong secret.
//!
//! With `AZURE_TENANT_ID`, `AZURE_CLIENT_ID` and a credential in the environment, the daemon
//! requests the token from Microsoft Entra ID and calls Microsoft Graph.
//! `ConfidentialClient::from_env` lists the variables. The application needs the permission
//! `User.Read.All`.
#![allow(clippy::print_stdout, reason = "an example prints its results")]

use std::time::Instant;

use confidential_client::testing::{Application, LocalAuthority, self_signed_certificate};
use confidential_client::{Certificate, ConfidentialClient};
use reqwest::header::AUTHORIZATION;
use serde_json::Value;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const GRAPH: &str = "https://graph.microsoft.com";
const SCOPE: &str = "https://graph.microsoft.com/.default";

/// Returns errors of the client as they are. Rust prints such an error with all causes.
#[tokio::main]
async fn main() -> Result<()> {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if !is_set("AZURE_TENANT_ID") && !is_set("AZURE_CLIENT_ID") {
        return run_on_loopback().await;
    }
    let client = ConfidentialClient::from_env()?;
    println!("with {client:?}");
    let users_url = format!("{GRAPH}/v1.0/users?$top=3&$select=displayName");
    call_api_twice(&client, &reqwest::Client::new(), &users_url).await
}

/// Acquires a token before each call. The second token comes from the cache.
async fn call_api_twice(
    client: &ConfidentialClient,
    http: &reqwest::Client,
    users_url: &str,
) -> Result<()> {
    for _ in 0..2 {
        let started = Instant::now();
        let token = client.acquire_token_for_client(SCOPE).await?;
        let elapsed = format!("{:.1?}", started.elapsed());
        let source = token.source().as_str();

        let request = http.get(users_url);
        let request = request.header(AUTHORIZATION, token.authorization_header());
        let response = request.send().await?;
        let status = response.status().as_u16();
        let names = display_names(&response.json().await?);
        println!("  token from {source:<18} {elapsed:>8}   the API answered {status}: {names}");
    }
    Ok(())
}

/// Returns the display names in a response of Graph's `/users`, or the message of its error.
fn display_names(body: &Value) -> String {
    if let Some(message) = body.pointer("/error/message").and_then(Value::as_str) {
        return message.to_owned();
    }
    let users = body.get("value").and_then(Value::as_array);
    let names = users.into_iter().flatten();
    let names = names.filter_map(|user| user.get("displayName")?.as_str());
    names.collect::<Vec<_>>().join(", ")
}

/// Shows three credentials with an identity provider and a web API on loopback.
async fn run_on_loopback() -> Result<()> {
    let tenant = "contoso.onmicrosoft.com";
    let client_id = "11111111-2222-3333-4444-555555555555";
    let secret = "correct horse battery staple";
    let certificate = Certificate::from_pem(self_signed_certificate("daemon")?)?;

    let local = LocalAuthority::start().await?;
    local.register(
        tenant,
        Application::new(client_id)
            .certificate(&certificate)
            .secret(secret)
            .role(GRAPH, "User.Read.All"),
    );
    let users_url = users_api::start(&local, tenant).await?;
    // Connects to loopback directly, even if a proxy is configured.
    let http = reqwest::Client::builder().no_proxy().build()?;
    println!("{:<18} {}/{tenant}", "identity provider", local.base_url());
    println!("{:<18} {users_url}\n", "web API");

    let builder = || ConfidentialClient::builder(client_id).authority(local.authority(tenant));

    println!("with a certificate");
    let client = builder().certificate(certificate).build()?;
    call_api_twice(&client, &http, &users_url).await?;

    println!("with a secret");
    let client = builder().client_secret(secret).build()?;
    call_api_twice(&client, &http, &users_url).await?;

    println!("with a wrong secret");
    let client = builder().client_secret("a wrong secret").build()?;
    let Err(error) = client.acquire_token_for_client(SCOPE).await else {
        return Err("the identity provider accepted a wrong secret".into());
    };
    println!("  {:<16} {}", "for the log", error.chain());
    // A program that acts on the error reads its parts.
    let server = error.server_error().ok_or("the error has no response")?;
    let (status, codes) = (server.status(), server.error_codes());
    // A trace id, the correlation id and a timestamp follow the description.
    let description = server.error_description().unwrap_or("none");
    let description = description.split(" Trace ID").next().unwrap_or("none");
    let help = server.help().unwrap_or("unknown");
    let correlation_id = server.correlation_id().unwrap_or("none");
    println!("  {:<16} {status} {codes:?}", server.error());
    println!("  {:<16} {description}", "what it says");
    println!("  {:<16} {help}", "what to do");
    println!("  {:<16} {correlation_id}", "correlation id");

    let requests = local.token_requests().len();
    println!("\n{:<18} {requests}", "token requests");
    Ok(())
}

/// A protected web API with the response of Microsoft Graph's `/v1.0/users`.
mod users_api {
    use axum::routing::get;
    use axum::{Json, Router};
    use confidential_client::adapter::AcceptedToken;
    use confidential_client::resource::{TokenRejection, TokenValidator};
    use confidential_client::testing::LocalAuthority;
    use serde_json::{Value, json};
    use tokio::net::TcpListener;

    /// Serves the API on loopback and returns its URL.
    pub(super) async fn start(local: &LocalAuthority, tenant: &str) -> super::Result<String> {
        let validator = TokenValidator::builder(local.authority(tenant))
            .audience(super::GRAPH)
            .single_tenant()
            .build()?;
        let router = Router::new().route("/v1.0/users", get(users));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/v1.0/users", listener.local_addr()?);
        tokio::spawn(axum::serve(listener, router.with_state(validator)).into_future());
        Ok(url)
    }

    async fn users(AcceptedToken(token): AcceptedToken) -> Result<Json<Value>, TokenRejection> {
        token.require_application_role("User.Read.All")?;
        let names = ["Adele Vance", "Alex Wilber", "Megan Bowen"];
        let users = names.map(|name| json!({ "displayName": name }));
        Ok(Json(json!({ "value": users })))
    }
}
