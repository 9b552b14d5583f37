//! A command-line program that is not async: it calls a web API with ureq.
//!
//! ```sh
//! cargo run --example blocking
//! ```
//!
//! By default the identity provider and the web API run inside this program, on loopback.
//!
//! With `AZURE_TENANT_ID`, `AZURE_CLIENT_ID` and a credential in the environment, the program
//! requests the token from Microsoft Entra ID and calls the URL of its argument. ureq then needs its
//! default features for https. `ConfidentialClient::from_env` lists the variables.
#![allow(clippy::print_stdout, reason = "an example prints its results")]

use std::thread;

use confidential_client::Error;
use confidential_client::blocking::{ConfidentialClient, TokenProvider};
use confidential_client::testing::{Application, LocalAuthority, block_on};
use ureq::Agent;
use ureq::http::Request;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const GRAPH: &str = "https://graph.microsoft.com";
const SCOPE: &str = "https://graph.microsoft.com/.default";

fn main() -> Result<()> {
    match std::env::args().nth(1) {
        None => run_on_loopback(),
        Some(url) => {
            let graph = ConfidentialClient::from_env()?.token_provider(SCOPE)?;
            println!("{}", call(&Agent::new_with_defaults(), &graph, &url)?);
            Ok(())
        }
    }
}

/// Calls the API with a token, and returns the body of the response.
fn call(http: &Agent, graph: &TokenProvider, url: &str) -> Result<String> {
    let mut request = Request::get(url).body(())?;
    graph.authorize(&mut request)?;
    Ok(http.run(request)?.body_mut().read_to_string()?)
}

/// Shows the calls with an identity provider and a web API on loopback.
fn run_on_loopback() -> Result<()> {
    let local = block_on(LocalAuthority::start())?;
    let application = Application::new("cli").secret("s3cret");
    local.register("contoso.com", application.role(GRAPH, "User.Read.All"));
    let api = block_on(local.protected_api(GRAPH))?;
    // Connects to loopback directly, even if a proxy is configured.
    let http = Agent::config_builder().proxy(None).build().new_agent();

    let client = ConfidentialClient::builder("cli")
        .authority(local.authority("contoso.com"))
        .client_secret("s3cret")
        .build_blocking()?;
    let graph = client.token_provider(SCOPE)?;
    for _ in 0..2 {
        let source = graph.token()?.source().as_str();
        println!(
            "token from {source:<18} {}",
            call(&http, &graph, api.base_url())?
        );
    }

    // Threads share the client. The token is in the cache, so nobody waits.
    let calls = thread::scope(|threads| {
        let call = || call(&http, &graph, api.base_url());
        let calls: Vec<_> = (0..8).map(|_| threads.spawn(call)).collect();
        calls
            .into_iter()
            .filter_map(|call| call.join().ok()?.ok())
            .count()
    });
    println!("{:<29} {calls}", "calls of eight threads");
    println!("{:<29} {}", "token requests", local.token_requests().len());

    // Async code awaits the same client instead.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let storage = "https://storage.azure.com/.default";
    let refused = runtime.block_on(async { client.acquire_token_for_client(storage) });
    println!("inside a runtime: {}", error_of(refused)?);
    runtime.block_on(client.as_async().acquire_token_for_client(storage))?;
    client.acquire_token_for_client(storage)?;
    println!("{:<29} {}", "token requests", local.token_requests().len());
    Ok(())
}

fn error_of<T>(result: std::result::Result<T, Error>) -> Result<Error> {
    match result {
        Ok(_) => Err("the call waited inside a runtime".into()),
        Err(error) => Ok(error),
    }
}
