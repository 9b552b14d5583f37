//! What the metrics said, minute by minute.

use std::collections::HashMap;

use opentelemetry::KeyValue;
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData, ResourceMetrics};

/// The numbers of each client and metric, one for each minute.
#[derive(Default)]
pub(crate) struct Readings {
    minutes: usize,
    series: HashMap<(String, &'static str), Vec<f64>>,
    /// The last values of the counters, to subtract.
    /// The sums of the counters at the last collection, over all attributes but the name.
    sums: HashMap<(String, &'static str), f64>,
}

/// In seconds.
pub(crate) const REMAINING: &str = "remaining lifetime";
pub(crate) const UNAVAILABLE: &str = "entries without a token";
/// 1 or 0.
pub(crate) const OPEN: &str = "open circuit";
/// Counts of the minute.
pub(crate) const HITS: &str = "hits";
pub(crate) const MISSES: &str = "misses";
pub(crate) const ISSUED: &str = "issued tokens";
pub(crate) const REFRESHED: &str = "issued tokens of refreshes";
pub(crate) const FAILED: &str = "failed token requests";

impl Readings {
    /// Adds the metrics that the SDK collected at the end of a minute.
    pub(crate) fn add(&mut self, collected: &[ResourceMetrics]) {
        self.minutes += 1;
        let scopes = collected.iter().flat_map(ResourceMetrics::scope_metrics);
        for metric in scopes.flat_map(|scope| scope.metrics()) {
            match (metric.name(), metric.data()) {
                (
                    "confidential_client.token.acquisition.duration",
                    AggregatedMetrics::F64(MetricData::Histogram(histogram)),
                ) => {
                    for point in histogram.data_points() {
                        let labels = Labels::of(point.attributes());
                        let outcome = labels.text("confidential_client.outcome");
                        let figure = if outcome == "issued" { ISSUED } else { FAILED };
                        self.count(&labels, figure, point.count());
                        if labels.text("confidential_client.refresh") == "true"
                            && outcome == "issued"
                        {
                            self.count(&labels, REFRESHED, point.count());
                        }
                    }
                }
                (
                    "confidential_client.token.remaining_lifetime",
                    AggregatedMetrics::F64(MetricData::Gauge(gauge)),
                ) => {
                    for point in gauge.data_points() {
                        self.set(&Labels::of(point.attributes()), REMAINING, point.value());
                    }
                }
                (
                    "confidential_client.token.cache.entries",
                    AggregatedMetrics::U64(MetricData::Gauge(gauge)),
                ) => {
                    for point in gauge.data_points() {
                        let labels = Labels::of(point.attributes());
                        if labels.text("confidential_client.entry.state") == "unavailable" {
                            self.set(&labels, UNAVAILABLE, point.value() as f64);
                        }
                    }
                }
                (
                    "confidential_client.circuit_breaker.open",
                    AggregatedMetrics::U64(MetricData::Gauge(gauge)),
                ) => {
                    for point in gauge.data_points() {
                        self.set(&Labels::of(point.attributes()), OPEN, point.value() as f64);
                    }
                }
                (name, AggregatedMetrics::U64(MetricData::Sum(sum))) => {
                    let figure = match name {
                        "confidential_client.token.cache.hits" => HITS,
                        "confidential_client.token.cache.misses" => MISSES,
                        _ => continue,
                    };
                    for point in sum.data_points() {
                        self.count(&Labels::of(point.attributes()), figure, point.value());
                    }
                }
                _ => {}
            }
        }
        // A counter has its sum since the start.
        for (key, value) in std::mem::take(&mut self.sums) {
            let series = self.series.entry(key.clone()).or_default();
            series.resize(self.minutes, 0.0);
            let so_far: f64 = series.iter().take(self.minutes - 1).sum();
            if let Some(last) = series.last_mut() {
                *last = value - so_far;
            }
        }
    }

    fn count(&mut self, labels: &Labels, figure: &'static str, count: u64) {
        let sum = self.sums.entry((labels.client(), figure)).or_default();
        *sum += count as f64;
    }

    fn set(&mut self, labels: &Labels, figure: &'static str, value: f64) {
        let series = self.series.entry((labels.client(), figure)).or_default();
        series.resize(self.minutes, f64::NAN);
        if let Some(last) = series.last_mut() {
            *last = value;
        }
    }

    /// Returns the numbers of a client, one for each minute.
    pub(crate) fn of(&self, client: &str, figure: &'static str) -> &[f64] {
        let series = self.series.get(&(client.to_owned(), figure));
        series.map_or(&[], Vec::as_slice)
    }

    pub(crate) fn total(&self, client: &str, figure: &'static str) -> f64 {
        self.of(client, figure)
            .iter()
            .filter(|it| !it.is_nan())
            .sum()
    }

    /// Returns the number of minutes in which callers got errors.
    pub(crate) fn minutes_with_errors(&self, client: &str) -> usize {
        let unavailable = self.of(client, UNAVAILABLE);
        unavailable.iter().filter(|entries| **entries > 0.0).count()
    }
}

/// The attributes of a data point.
struct Labels(HashMap<String, String>);

impl Labels {
    fn of<'a>(attributes: impl Iterator<Item = &'a KeyValue>) -> Self {
        let label = |label: &KeyValue| (label.key.to_string(), label.value.to_string());
        Self(attributes.map(label).collect())
    }

    fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    fn client(&self) -> String {
        self.text("confidential_client.name").to_owned()
    }
}
