//! How to test a daemon of your own without Azure: a job, and the tests of it that matter at night.
//!
//! ```sh
//! cargo run --example test_your_daemon
//! cargo test --example test_your_daemon
//! ```
#![allow(clippy::print_stdout, reason = "it reports to a reader")]

use std::error::Error as StdError;
use std::time::Duration;

use confidential_client::testing::{Application, Fault, LocalAuthority};
use confidential_client::{ConfidentialClient, TokenProvider};
use http::HeaderMap;

type Result<T> = std::result::Result<T, Box<dyn StdError>>;

/// What the daemon does after a run.
#[derive(Debug, PartialEq)]
enum Next {
    Done,
    /// Time may cure it: the job runs again after this.
    Again(Duration),
    /// Somebody has to act, and this is what to tell them.
    Alarm(String),
}

/// The job: it needs a token for its call, and decides what to do without one.
async fn run(graph: &TokenProvider) -> Next {
    let mut headers = HeaderMap::new();
    match graph.authorize(&mut headers).await {
        Ok(()) => Next::Done, // here it calls the API with these headers
        Err(error) if error.is_transient() => Next::Again(error.retry_after().unwrap_or_default()),
        Err(error) => Next::Alarm(error.to_string()), // it says what to do, too
    }
}

const TENANT: &str = "contoso.onmicrosoft.com";
const CLIENT_ID: &str = "11111111-2222-3333-4444-555555555555";

/// The job's provider, which has this secret where `s3cret` is right.
fn graph(local: &LocalAuthority, secret: &str) -> Result<TokenProvider> {
    local.register(TENANT, Application::new(CLIENT_ID).secret("s3cret"));
    let client = ConfidentialClient::builder(CLIENT_ID)
        .authority(local.authority(TENANT))
        .client_secret(secret)
        .build()?;
    Ok(client.token_provider("https://graph.microsoft.com/.default")?)
}

async fn it_asks_for_one_token_and_keeps_it() -> Result<()> {
    let local = LocalAuthority::start().await?;
    let graph = graph(&local, "s3cret")?;
    for _ in 0..3 {
        assert_eq!(run(&graph).await, Next::Done);
    }
    assert_eq!(local.token_requests().len(), 1);
    Ok(())
}

async fn it_waits_as_long_as_it_is_told() -> Result<()> {
    let local = LocalAuthority::start().await?;
    let graph = graph(&local, "s3cret")?;
    local.script([Fault::status(429).retry_after(7)]);
    assert_eq!(run(&graph).await, Next::Again(Duration::from_secs(7)));
    assert!(matches!(run(&graph).await, Next::Again(_)));
    assert_eq!(local.token_requests().len(), 1, "and asks nobody meanwhile");
    Ok(())
}

async fn it_comes_back_when_the_network_does() -> Result<()> {
    let local = LocalAuthority::start().await?;
    let graph = graph(&local, "s3cret")?;
    // One dropped connection would go unnoticed: the client tries again by itself.
    local.begin_outage(Fault::dropped());
    let Next::Again(wait) = run(&graph).await else {
        return Err("an outage is no alarm".into());
    };
    assert_eq!(local.token_requests().len(), 3);
    local.end_outage();
    tokio::time::sleep(wait).await;
    assert_eq!(run(&graph).await, Next::Done);
    Ok(())
}

async fn it_says_what_is_wrong_with_its_secret() -> Result<()> {
    let local = LocalAuthority::start().await?;
    let graph = graph(&local, "s3cret-id")?;
    let Next::Alarm(text) = run(&graph).await else {
        return Err("a wrong secret is an alarm".into());
    };
    assert!(text.contains("not its secret ID"), "{text}");
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    it_asks_for_one_token_and_keeps_it().await?;
    println!("ok  it asks for one token and keeps it");
    it_waits_as_long_as_it_is_told().await?;
    println!("ok  it waits as long as it is told");
    it_comes_back_when_the_network_does().await?;
    println!("ok  it comes back when the network does");
    it_says_what_is_wrong_with_its_secret().await?;
    println!("ok  it says what is wrong with its secret");
    Ok(())
}

#[cfg(test)]
mod tests {
    #[tokio::test]
    async fn it_asks_for_one_token_and_keeps_it() -> super::Result<()> {
        super::it_asks_for_one_token_and_keeps_it().await
    }

    #[tokio::test]
    async fn it_waits_as_long_as_it_is_told() -> super::Result<()> {
        super::it_waits_as_long_as_it_is_told().await
    }

    #[tokio::test]
    async fn it_comes_back_when_the_network_does() -> super::Result<()> {
        super::it_comes_back_when_the_network_does().await
    }

    #[tokio::test]
    async fn it_says_what_is_wrong_with_its_secret() -> super::Result<()> {
        super::it_says_what_is_wrong_with_its_secret().await
    }
}
