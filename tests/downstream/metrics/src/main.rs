#[expect(dead_code, reason = "the program is compiled, and not run")]
mod guide;
#[path = "../../provider.rs"]
mod provider;

use std::collections::BTreeSet;

use confidential_client::adapter::{FacadeMetrics, OpenTelemetryMetrics};
use confidential_client::metrics::DURATION_BOUNDARIES;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use opentelemetry::metrics::MeterProvider;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Encoder, Registry, TextEncoder};

/// Reads the metrics through real exporters for Prometheus, and compares the names with the guide's.
fn main() {
    let registry = Registry::new();
    let exporter = opentelemetry_prometheus::exporter().with_registry(registry.clone());
    let exporter = exporter.build().expect("an exporter");
    let meters = SdkMeterProvider::builder().with_reader(exporter).build();
    let by_meter = OpenTelemetryMetrics::new(&meters.meter("confidential_client"));
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(
            Matcher::Suffix("_duration_seconds".to_owned()),
            &DURATION_BOUNDARIES,
        )
        .expect("boundaries")
        .install_recorder()
        .expect("a recorder");
    let by_facade = FacadeMetrics::new();

    let client = provider::builder("client_secret").client_secret("s3cret");
    let client = client.build().expect("a client");
    by_meter.observe_as("orders", &client);
    by_facade.observe_as("orders", &client);
    provider::acquire(&client).expect("a token");
    provider::acquire(&client).expect("the cached token");
    by_facade.publish();

    let mut text = Vec::new();
    let encoded = TextEncoder::new().encode(&registry.gather(), &mut text);
    encoded.expect("the text of the registry");
    let of_meter = String::from_utf8(text).expect("text");
    let of_facade = recorder.render();
    for (name, text) in [("OpenTelemetry", &of_meter), ("the facade", &of_facade)] {
        assert_eq!(names(text), names_of_guide(), "{name}:\n{text}");
        for line in [
            "confidential_client_token_cache_hits_total{confidential_client_name=\"orders\"",
            "confidential_client_token_acquisition_duration_seconds_bucket{",
            "confidential_client_entry_state=\"valid\"",
            "le=\"0.005\"",
            "server_address=\"login.microsoftonline.com\"",
        ] {
            assert!(text.contains(line), "{name} has no {line}:\n{text}");
        }
    }
    println!(
        "{}: the same names by both exporters",
        env!("CARGO_PKG_NAME")
    );
}

/// Returns the names of the metrics in a text of Prometheus.
fn names(text: &str) -> BTreeSet<String> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let names = types.filter_map(|line| line.split(' ').next());
    let names = names.filter(|name| name.starts_with("confidential_client_"));
    names.map(str::to_owned).collect()
}

/// Returns the names in the guide. There is no shared cache here to wait for.
fn names_of_guide() -> BTreeSet<String> {
    let guide = include_str!("../../../../docs/metrics.md");
    let rows = guide
        .lines()
        .filter(|line| line.starts_with("| `confidential_client."));
    let kinds = ["counter", "gauge", "histogram"];
    let metrics = rows.filter(|row| {
        kinds
            .iter()
            .any(|kind| row.contains(&format!("| {kind} |")))
    });
    let names = metrics.filter_map(|row| row.split('`').nth(3));
    let names = names.filter(|name| !name.contains("lock_wait"));
    names.map(str::to_owned).collect()
}
