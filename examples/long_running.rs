//! A daemon as it runs for months: work at an interval, a graceful end on SIGTERM or Ctrl-C, logs, and
//! a health report:
//!
//! ```sh
//! cargo run --example long_running
//! ```
//!
//! It ends after seven rounds; `-- 0` goes on until it is told to end. Identity provider and API run
//! inside this program, on loopback. From the third round to the fifth the identity provider is down,
//! which no round notices, and then the secret's file is replaced.

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
    let file = std::env::temp_dir().join(format!("long-running-{}", std::process::id()));
    let ran = run(&file, rounds).await;
    fs::remove_file(&file)?;
    ran
}

async fn run(file: &Path, rounds: u64) -> Result<()> {
    fs::write(file, "first s3cret")?;
    let local = LocalAuthority::start().await?;
    let application = Application::new(CLIENT_ID)
        .secret("first s3cret")
        .secret("second s3cret")
        // Short, so that it is renewed while somebody looks on.
        .token_lifetime(Duration::from_secs(6));
    local.register(TENANT, application.role(GRAPH, "User.Read.All"));
    let api = local.protected_api(GRAPH).await?;

    // Everything that can be wrong with the configuration is found here, before the first round.
    let client = ConfidentialClient::builder(CLIENT_ID)
        .authority(local.authority(TENANT))
        .client_secret_source(SecretFile::new(file))
        .observer(report)
        .build()?;
    let graph = client.token_provider(format!("{GRAPH}/.default"))?;
    // On loopback, where a proxy has no business.
    let http = reqwest::Client::builder().no_proxy().build()?;
    let http = reqwest_middleware::ClientBuilder::new(http)
        .with(BearerAuth::new(graph.clone(), [api.base_url()])?)
        .build();

    let mut told_to_end = pin!(told_to_end()?);
    let mut ticks = interval(Duration::from_secs(1));
    // After a slow round the next comes later, and not two at once.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut round = 0;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = &mut told_to_end => break,
        }
        round += 1;
        match round {
            3 => local.begin_outage(Fault::status(503)),
            5 => {
                local.end_outage();
                fs::write(file, "second s3cret")?;
            }
            _ => {}
        }
        // A round that has begun is brought to its end before the daemon ends.
        work(round, &http, api.base_url()).await;
        health(&client, &graph);
        if round == rounds {
            break;
        }
    }
    // Nothing waits for a renewal under way: it ends with the client.
    info!(
        rounds = round,
        token_requests = client.cache().stats().requests,
        "ended"
    );
    Ok(())
}

/// Ctrl-C or, where there is one, SIGTERM.
fn told_to_end() -> Result<impl Future<Output = ()>> {
    #[cfg(unix)]
    let mut signals = signal(SignalKind::terminate())?;
    Ok(async move {
        #[cfg(unix)]
        let terminated = signals.recv();
        #[cfg(not(unix))]
        let terminated = std::future::pending::<()>();
        tokio::select! {
            _ = terminated => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    })
}

/// One round. A failure is the next round's business, unless somebody has to act.
async fn work(round: u64, http: &ClientWithMiddleware, api: &str) {
    match http.get(format!("{api}/v1.0/users")).send().await {
        Ok(answer) if answer.status().is_success() => info!(round, "done"),
        Ok(answer) => warn!(round, status = answer.status().as_u16(), "the API says no"),
        Err(reqwest_middleware::Error::Middleware(cause)) => {
            // No token: ours says who must act.
            match cause.downcast_ref::<confidential_client::Error>() {
                Some(cause) if cause.is_transient() => warn!(round, %cause, "later"),
                _ => error!(round, %cause, "somebody has to act"),
            }
        }
        Err(cause) => warn!(round, %cause, "the API cannot be reached"),
    }
}

/// What a health endpoint would say: how long the token at hand is good, and the certificate.
fn health(client: &ConfidentialClient, graph: &TokenProvider) {
    let left = |until: SystemTime| until.duration_since(SystemTime::now()).unwrap_or_default();
    let token = graph
        .cached()
        .map(|token| left(token.expires_on()).as_secs());
    let certificate = client
        .certificate()
        .map(|certificate| certificate.days_left());
    info!(
        token_good_for_s = token,
        certificate_good_for_days = certificate,
        failures = client.cache().stats().server_errors + client.cache().stats().transport_errors,
        "health"
    );
}

/// For metrics; here they are logged.
fn report(acquisition: Acquisition) {
    info!(
        outcome = acquisition.outcome.as_str(),
        renewal = acquisition.is_refresh,
        attempts = acquisition.attempts,
        "token request"
    );
}
