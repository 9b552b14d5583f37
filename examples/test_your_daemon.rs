//! A job and its tests, without an Azure account.
//!
//! ```sh
//! cargo run --example test_your_daemon
//! cargo test --example test_your_daemon
//! ```
//!
//! The tests cover the cache, throttling, an outage and a wrong secret.
#![allow(clippy::print_stdout, reason = "an example prints its results")]

use std::time::Duration;

use confidential_client::testing::{Application, Fault, LocalAuthority};
use confidential_client::{ConfidentialClient, TokenProvider};
use http::HeaderMap;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The outcome of one run of the job.
#[derive(Debug, PartialEq)]
enum Outcome {
    Done,
    /// The failure is transient. The job runs again after the delay.
    RetryAfter(Duration),
    /// An operator must act on the message.
    Alert(String),
}

/// Runs the job once. The job needs a token for its API call.
async fn run_job(provider: &TokenProvider) -> Outcome {
    let mut headers = HeaderMap::new();
    match provider.authorize(&mut headers).await {
        // A real job calls the API with these headers here.
        Ok(()) => Outcome::Done,
        Err(error) if error.is_transient() => {
            Outcome::RetryAfter(error.retry_after().unwrap_or_default())
        }
        // The message also says what to do.
        Err(error) => Outcome::Alert(error.chain().to_string()),
    }
}

const TENANT: &str = "contoso.onmicrosoft.com";
const CLIENT_ID: &str = "11111111-2222-3333-4444-555555555555";

/// Builds the job's provider. The identity provider accepts only the secret `s3cret`.
fn token_provider(local: &LocalAuthority, secret: &str) -> Result<TokenProvider> {
    local.register(TENANT, Application::new(CLIENT_ID).secret("s3cret"));
    let client = ConfidentialClient::builder(CLIENT_ID)
        .authority(local.authority(TENANT))
        .client_secret(secret)
        .build()?;
    Ok(client.token_provider("https://graph.microsoft.com/.default")?)
}

async fn three_runs_send_one_token_request() -> Result<()> {
    let local = LocalAuthority::start().await?;
    let provider = token_provider(&local, "s3cret")?;
    for _ in 0..3 {
        assert_eq!(run_job(&provider).await, Outcome::Done);
    }
    assert_eq!(local.token_requests().len(), 1);
    Ok(())
}

async fn a_throttled_job_waits_for_retry_after() -> Result<()> {
    let local = LocalAuthority::start().await?;
    let provider = token_provider(&local, "s3cret")?;
    local.script([Fault::status(429).retry_after(7)]);
    let seven_seconds = Duration::from_secs(7);
    let outcome = run_job(&provider).await;
    assert_eq!(outcome, Outcome::RetryAfter(seven_seconds));
    // An early retry fails without a second request.
    assert!(matches!(run_job(&provider).await, Outcome::RetryAfter(_)));
    assert_eq!(local.token_requests().len(), 1);
    Ok(())
}

async fn the_job_recovers_after_an_outage() -> Result<()> {
    let local = LocalAuthority::start().await?;
    let provider = token_provider(&local, "s3cret")?;
    // The client retries a single dropped connection, so the test needs a whole outage.
    local.begin_outage(Fault::dropped());
    let Outcome::RetryAfter(delay) = run_job(&provider).await else {
        return Err("the outage must be transient".into());
    };
    assert_eq!(local.token_requests().len(), 3);
    local.end_outage();
    tokio::time::sleep(delay).await;
    assert_eq!(run_job(&provider).await, Outcome::Done);
    Ok(())
}

async fn a_wrong_secret_alerts_an_operator() -> Result<()> {
    let local = LocalAuthority::start().await?;
    let provider = token_provider(&local, "s3cret-id")?;
    let Outcome::Alert(message) = run_job(&provider).await else {
        return Err("a wrong secret must alert an operator".into());
    };
    assert!(message.contains("not its secret ID"), "{message}");
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    three_runs_send_one_token_request().await?;
    println!("ok  three runs send one token request");
    a_throttled_job_waits_for_retry_after().await?;
    println!("ok  a throttled job waits for Retry-After");
    the_job_recovers_after_an_outage().await?;
    println!("ok  the job recovers after an outage");
    a_wrong_secret_alerts_an_operator().await?;
    println!("ok  a wrong secret alerts an operator");
    Ok(())
}

// In your daemon, write the tests directly in this module. Here `main` runs the tests too.
#[cfg(test)]
mod tests {
    use super::Result;

    #[tokio::test]
    async fn three_runs_send_one_token_request() -> Result<()> {
        super::three_runs_send_one_token_request().await
    }

    #[tokio::test]
    async fn a_throttled_job_waits_for_retry_after() -> Result<()> {
        super::a_throttled_job_waits_for_retry_after().await
    }

    #[tokio::test]
    async fn the_job_recovers_after_an_outage() -> Result<()> {
        super::the_job_recovers_after_an_outage().await
    }

    #[tokio::test]
    async fn a_wrong_secret_alerts_an_operator() -> Result<()> {
        super::a_wrong_secret_alerts_an_operator().await
    }
}
