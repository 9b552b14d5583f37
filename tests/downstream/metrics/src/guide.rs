//! The program for Prometheus in the guide to metrics, which the gate compiles.

use axum::{Router, routing::get};
use confidential_client::ConfidentialClient;
use confidential_client::adapter::FacadeMetrics;
use confidential_client::metrics::DURATION_BOUNDARIES;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let durations = Matcher::Suffix("_duration_seconds".to_owned());
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(durations, &DURATION_BOUNDARIES)?
        .install_recorder()?;

    let client = ConfidentialClient::from_env()?;
    let metrics = FacadeMetrics::new();
    metrics.observe(&client);

    let scrape = move || {
        metrics.publish();
        let text = recorder.render();
        async { text }
    };
    let router = Router::new().route("/metrics", get(scrape));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:9000").await?;
    // The program uses `client` beside the server.
    axum::serve(listener, router).await?;
    Ok(())
}
