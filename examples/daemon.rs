//! A daemon gets a token for itself and calls a web API with it:
//!
//! ```sh
//! cargo run --example daemon
//! ```
//!
//! By default identity provider and web API run inside this program, on loopback, and it shows a
//! certificate, a secret and a wrong secret. With `AZURE_TENANT_ID`, `AZURE_CLIENT_ID` and a
//! credential in the environment, as `ConfidentialClient::from_env` reads it, it asks Microsoft
//! Entra ID and calls Microsoft Graph instead; the application needs the permission
//! `User.Read.All`.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "it reports to a reader"
)]

use std::error::Error;
use std::process::ExitCode;
use std::time::Instant;

use confidential_client::testing::{Application, LocalAuthority, self_signed_certificate};
use confidential_client::{Certificate, ConfidentialClient, TokenSource};
use reqwest::header::AUTHORIZATION;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const GRAPH: &str = "https://graph.microsoft.com";
const SCOPE: &str = "https://graph.microsoft.com/.default";

#[tokio::main]
async fn main() -> ExitCode {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let ran = match is_set("AZURE_TENANT_ID") || is_set("AZURE_CLIENT_ID") {
        true => on_entra().await,
        false => on_this_machine().await,
    };
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{:<18} {error}", "failed");
            let mut cause = error.source();
            while let Some(error) = cause {
                eprintln!("{:<18} {error}", "because");
                cause = error.source();
            }
            ExitCode::FAILURE
        }
    }
}

/// Everything on loopback.
async fn on_this_machine() -> Result<()> {
    let tenant = "contoso.onmicrosoft.com";
    let client_id = "11111111-2222-3333-4444-555555555555";
    let certificate = Certificate::from_pem(self_signed_certificate("daemon")?)?;

    let local = LocalAuthority::start().await?;
    local.register(
        tenant,
        Application::new(client_id)
            .certificate(&certificate)
            .secret("correct horse battery staple")
            .role(GRAPH, "User.Read.All"),
    );
    let users = users_api::start(&local.keys()).await?;
    let http = reqwest::Client::builder().no_proxy().build()?;
    println!("{:<18} {}/{tenant}", "identity provider", local.base_url());
    println!("{:<18} {users}\n", "web API");

    let builder = || ConfidentialClient::builder(client_id).authority(local.authority(tenant));

    println!("with a certificate");
    let client = builder().certificate(certificate).build()?;
    call_twice(&client, &http, &users).await?;

    println!("with a secret");
    let client = builder()
        .client_secret("correct horse battery staple")
        .build()?;
    call_twice(&client, &http, &users).await?;

    println!("with a wrong secret");
    let client = builder()
        .client_secret("correct horse battery stapler")
        .build()?;
    match client.acquire_token_for_client(SCOPE).await {
        Err(confidential_client::Error::Server(server)) => {
            let description = server.error_description().unwrap_or("nothing");
            let said = description.split(" Trace ID").next().unwrap_or(description);
            println!(
                "  {:<16} {} {:?}",
                server.error(),
                server.status(),
                server.error_codes()
            );
            println!("  {:<16} {said}", "what it says");
            println!(
                "  {:<16} {}",
                "what to do",
                server.help().unwrap_or("unknown")
            );
            println!(
                "  {:<16} {}",
                "correlation id",
                server.correlation_id().unwrap_or("none")
            );
        }
        other => return Err(format!("a wrong secret got {other:?}").into()),
    }
    println!(
        "\n{:<18} {}",
        "token requests",
        local.token_requests().len()
    );
    Ok(())
}

/// The same against Microsoft Entra ID and Microsoft Graph.
async fn on_entra() -> Result<()> {
    let client = ConfidentialClient::from_env()?;
    println!("with {client:?}");
    let users = format!("{GRAPH}/v1.0/users?$top=3&$select=displayName");
    call_twice(&client, &reqwest::Client::new(), &users).await
}

/// Gets a token and calls the API, and again: the second token comes from the cache.
async fn call_twice(
    client: &ConfidentialClient,
    http: &reqwest::Client,
    users: &str,
) -> Result<()> {
    for _ in 0..2 {
        let started = Instant::now();
        let token = client.acquire_token_for_client(SCOPE).await?;
        let took = format!("{:.1?}", started.elapsed());
        let source = match token.source() {
            TokenSource::Cache => "cache",
            TokenSource::IdentityProvider => "identity provider",
        };

        let answer = http
            .get(users)
            .header(AUTHORIZATION, token.authorization_header())
            .send()
            .await?;
        let status = answer.status().as_u16();
        let names = names(&answer.json().await?);
        println!("  token from {source:<18} {took:>8}   the API answered {status}: {names}");
    }
    Ok(())
}

/// The display names in an answer of Graph's `/users`, or what its error says.
fn names(answer: &serde_json::Value) -> String {
    match answer.get("value").and_then(|value| value.as_array()) {
        Some(users) => {
            let names = users
                .iter()
                .filter_map(|user| user.get("displayName")?.as_str());
            names.collect::<Vec<_>>().join(", ")
        }
        None => answer
            .pointer("/error/message")
            .and_then(|message| message.as_str())
            .unwrap_or("no users")
            .to_owned(),
    }
}

/// A small protected API that answers as Microsoft Graph's `/v1.0/users` does.
mod users_api {
    use std::collections::HashSet;
    use std::sync::Arc;

    use axum::extract::State;
    use axum::http::{HeaderMap, StatusCode};
    use axum::routing::get;
    use axum::{Json, Router};
    use jsonwebtoken::jwk::JwkSet;
    use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
    use serde_json::{Value, json};
    use tokio::net::TcpListener;

    /// Serves it on loopback; the result is its URL.
    pub(super) async fn start(keys: &str) -> super::Result<String> {
        let keys: Arc<JwkSet> = Arc::new(serde_json::from_str(keys)?);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/v1.0/users", listener.local_addr()?);
        let router = Router::new()
            .route("/v1.0/users", get(users))
            .with_state(keys);
        tokio::spawn(axum::serve(listener, router).into_future());
        Ok(url)
    }

    async fn users(
        State(keys): State<Arc<JwkSet>>,
        headers: HeaderMap,
    ) -> (StatusCode, Json<Value>) {
        let Some(claims) = check(&keys, &headers) else {
            let message = "Access token validation failure.";
            return refuse(
                StatusCode::UNAUTHORIZED,
                "InvalidAuthenticationToken",
                message,
            );
        };
        let roles = claims.get("roles").and_then(Value::as_array);
        if !roles.is_some_and(|roles| roles.contains(&json!("User.Read.All"))) {
            let message = "Insufficient privileges to complete the operation.";
            return refuse(
                StatusCode::FORBIDDEN,
                "Authorization_RequestDenied",
                message,
            );
        }
        let user = |name: &str| json!({ "displayName": name });
        let value = ["Adele Vance", "Alex Wilber", "Megan Bowen"].map(user);
        (StatusCode::OK, Json(json!({ "value": value })))
    }

    /// The claims of a token whose signature, audience and expiry are good.
    fn check(keys: &JwkSet, headers: &HeaderMap) -> Option<Value> {
        let token = headers
            .get("authorization")?
            .to_str()
            .ok()?
            .strip_prefix("Bearer ")?;
        let key = keys.find(decode_header(token).ok()?.kid.as_deref()?)?;
        let mut validation = Validation::new(Algorithm::RS256);
        validation.set_audience(&[super::GRAPH]);
        validation.required_spec_claims = HashSet::from(["aud", "exp"].map(String::from));
        let decoded = decode(token, &DecodingKey::from_jwk(key).ok()?, &validation);
        decoded.ok().map(|token| token.claims)
    }

    fn refuse(status: StatusCode, code: &str, message: &str) -> (StatusCode, Json<Value>) {
        (
            status,
            Json(json!({ "error": { "code": code, "message": message } })),
        )
    }
}
