//! A daemon that runs for months, with logs, a health report and a graceful shutdown.
//!
//! ```sh
//! cargo run --example long_running
//! ```
//!
//! The daemon works in rounds, one a second, and stops on SIGTERM or Ctrl-C. By default the daemon
//! stops after seven rounds. With `-- 0` the daemon runs until a signal.
//!
//! The identity provider and the API run inside this program, on loopback. The identity provider is
//! down from the third round to the fifth, and no round fails. Then the secret's file is replaced.

use std::fs;
use std::path::Path;
use std::pin::pin;
use std::time::{Duration, SystemTime};

use confidential_client::adapter::BearerAuth;
use confidential_client::credential::SecretFile;
use confidential_client::metrics::Acquisition;
use confidential_client::testing::{Application, Fault, LocalAuthority};
use confidential_client::{ConfidentialClient, TokenProvider};
use reqwest_middleware::ClientWithMiddleware;
#[cfg(unix)]
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, info, warn};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const TENANT: &str = "contoso.onmicrosoft.com";
const CLIENT_ID: &str = "11111111-2222-3333-4444-555555555555";
const GRAPH: &str = "https://graph.microsoft.com";

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::INFO)
        .init();
    let rounds = match std::env::args().nth(1) {
        Some(rounds) => rounds.parse()?,
        None => 7_u64,
    };
    let secret_file = std::env::temp_dir().join(format!("long-running-{}", std::process::id()));
    let result = run(&secret_file, rounds).await;
    fs::remove_file(&secret_file)?;
    result
}

async fn run(secret_file: &Path, rounds: u64) -> Result<()> {
    fs::write(secret_file, "first s3cret")?;
    let local = LocalAuthority::start().await?;
    let application = Application::new(CLIENT_ID)
        .secret("first s3cret")
        .secret("second s3cret")
        // A short lifetime shows the refresh within the seven rounds.
        .token_lifetime(Duration::from_secs(6));
    local.register(TENANT, application.role(GRAPH, "User.Read.All"));
    let api = local.protected_api(GRAPH).await?;

    // An invalid configuration fails here, before the first round.
    let client = ConfidentialClient::builder(CLIENT_ID)
        .authority(local.authority(TENANT))
        .client_secret_source(SecretFile::new(secret_file))
        .observer(log_token_request)
        .build()?;
    let provider = client.token_provider(format!("{GRAPH}/.default"))?;
    // Connects to loopback directly, even if a proxy is configured.
    let http = reqwest::Client::builder().no_proxy().build()?;
    let http = reqwest_middleware::ClientBuilder::new(http)
        .with(BearerAuth::new(provider.clone(), [api.base_url()])?)
        .build();

    let mut shutdown = pin!(shutdown_signal()?);
    let mut ticks = interval(Duration::from_secs(1));
    // After a slow round, the next round starts a full interval later.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut round = 0;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = &mut shutdown => break,
        }
        round += 1;
        match round {
            3 => local.begin_outage(Fault::status(503)),
            5 => {
                local.end_outage();
                fs::write(secret_file, "second s3cret")?;
            }
            _ => {}
        }
        // Outside of `select!`, so that a signal does not interrupt a round.
        work(round, &http, api.base_url()).await;
        log_health(&client, &provider);
        if round == rounds {
            break;
        }
    }
    // Dropping the client stops a refresh in flight, so the shutdown does not wait for a refresh.
    info!(
        rounds = round,
        token_requests = client.cache().stats().requests,
        "ended"
    );
    Ok(())
}

/// Completes on Ctrl-C, or on SIGTERM where the platform has signals.
fn shutdown_signal() -> Result<impl Future<Output = ()>> {
    #[cfg(unix)]
    let mut signals = signal(SignalKind::terminate())?;
    Ok(async move {
        #[cfg(unix)]
        let terminate = signals.recv();
        #[cfg(not(unix))]
        let terminate = std::future::pending::<()>();
        tokio::select! {
            _ = terminate => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    })
}

/// Runs one round. The next round retries after a transient failure. An operator must act on any
/// other failure of the token request.
async fn work(round: u64, http: &ClientWithMiddleware, api_url: &str) {
    match http.get(format!("{api_url}/v1.0/users")).send().await {
        Ok(response) if response.status().is_success() => info!(round, "done"),
        Ok(response) => {
            let status = response.status().as_u16();
            warn!(round, status, "the API returned an error");
        }
        Err(reqwest_middleware::Error::Middleware(error)) => {
            // The middleware's error is the client's error.
            match error.downcast_ref::<confidential_client::Error>() {
                Some(error) if error.is_transient() => {
                    warn!(round, error = %error.chain(), "no token, the next round retries");
                }
                Some(error) => error!(round, error = %error.chain(), "no token, act on this"),
                None => error!(round, %error, "the request failed"),
            }
        }
        Err(error) => warn!(round, %error, "the API cannot be reached"),
    }
}

/// Logs the remaining lifetimes of the cached token and the certificate, as for a health endpoint.
fn log_health(client: &ConfidentialClient, provider: &TokenProvider) {
    let now = SystemTime::now();
    let remaining = provider.cached().map(|token| {
        let remaining = token.expires_on().duration_since(now);
        remaining.unwrap_or_default().as_secs()
    });
    let certificate = client.certificate();
    let days_left = certificate.map(|certificate| certificate.days_left());
    let stats = client.cache().stats();
    info!(
        token_good_for_s = remaining,
        certificate_good_for_days = days_left,
        failures = stats.server_errors + stats.transport_errors,
        "health"
    );
}

/// Logs each token request. A daemon with metrics counts the token requests here.
fn log_token_request(acquisition: Acquisition) {
    info!(
        outcome = acquisition.outcome.as_str(),
        refresh = acquisition.is_refresh,
        attempts = acquisition.attempts,
        "token request"
    );
}
