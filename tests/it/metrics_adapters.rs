//! The adapters for metrics, read by the SDK of OpenTelemetry and by a recorder of `metrics-util`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use confidential_client::adapter::{FacadeMetrics, ObservableClient, OpenTelemetryMetrics};
use confidential_client::cache::{EncryptionKey, SharedCacheOptions};
use confidential_client::credential::{CredentialChain, HostEnvironment, ManagedIdentity};
use confidential_client::delegated::UserIdentifier;
use confidential_client::testing::{LocalSharedCache, ManualClock, StoreFault};
use confidential_client::{
    CacheOptions, ConfidentialClient, CredentialChainClient, ManagedIdentityClient, RetryPolicy,
    TokenRequest,
};
use http::{Request, Response};
use metrics::{Key, LocalRecorderGuard, Metadata, Recorder, SharedString, Unit};
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use opentelemetry::KeyValue;
use opentelemetry::metrics::{
    Histogram, HistogramBuilder, InstrumentProvider, Meter, MeterProvider, SyncInstrument,
};
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, Metric, MetricData};
use opentelemetry_sdk::metrics::{InMemoryMetricExporter, PeriodicReader, SdkMeterProvider};
use tokio::runtime::Builder;

use crate::support::{
    CLIENT_ID, Provider, SCOPE, SECRET, TENANT, let_others_run, log_capture, scope, success,
};

/// An adapter, and what reads its metrics.
enum Judge {
    OpenTelemetry {
        metrics: OpenTelemetryMetrics,
        provider: SdkMeterProvider,
        exporter: InMemoryMetricExporter,
    },
    Facade {
        metrics: FacadeMetrics,
        snapshotter: Snapshotter,
        /// What earlier snapshots took out of the recorder.
        so_far: Mutex<BTreeMap<String, f64>>,
        _guard: LocalRecorderGuard<'static>,
    },
}

/// The value of each time series, as Prometheus spells it. A histogram has its count and its sum.
type Series = BTreeMap<String, f64>;

impl Judge {
    /// Returns both judges, one after the other, since the recorder of a thread is one.
    fn each() -> impl Iterator<Item = Self> {
        [Self::open_telemetry as fn() -> Self, Self::facade]
            .into_iter()
            .map(|judge| judge())
    }

    fn open_telemetry() -> Self {
        let exporter = InMemoryMetricExporter::default();
        let reader = PeriodicReader::builder(exporter.clone()).build();
        let provider = SdkMeterProvider::builder().with_reader(reader).build();
        let metrics = OpenTelemetryMetrics::new(&provider.meter("confidential_client"));
        Self::OpenTelemetry {
            metrics,
            provider,
            exporter,
        }
    }

    fn facade() -> Self {
        let recorder: &'static DebuggingRecorder = Box::leak(Box::new(DebuggingRecorder::new()));
        Self::Facade {
            metrics: FacadeMetrics::new(),
            snapshotter: recorder.snapshotter(),
            so_far: Mutex::default(),
            _guard: metrics::set_default_local_recorder(recorder),
        }
    }

    fn observe<'a>(&self, client: impl Into<ObservableClient<'a>>) {
        match self {
            Self::OpenTelemetry { metrics, .. } => drop(metrics.observe(client).clone()),
            Self::Facade { metrics, .. } => drop(metrics.observe(client).clone()),
        }
    }

    fn observe_as<'a>(&self, name: &str, client: impl Into<ObservableClient<'a>>) {
        match self {
            Self::OpenTelemetry { metrics, .. } => drop(metrics.observe_as(name, client).clone()),
            Self::Facade { metrics, .. } => drop(metrics.observe_as(name, client).clone()),
        }
    }

    fn collect(&self) -> Series {
        match self {
            Self::OpenTelemetry {
                provider, exporter, ..
            } => {
                exporter.reset();
                provider.force_flush().unwrap();
                let exported = exporter.get_finished_metrics().unwrap();
                let scopes = exported
                    .iter()
                    .flat_map(|exported| exported.scope_metrics());
                let metrics = scopes.flat_map(|scope| scope.metrics());
                let mut series = Series::new();
                metrics.for_each(|metric| add_metric(&mut series, metric));
                series
            }
            Self::Facade {
                metrics,
                snapshotter,
                so_far,
                ..
            } => {
                metrics.publish();
                let mut so_far = so_far.lock().unwrap();
                for (key, _, _, value) in snapshotter.snapshot().into_vec() {
                    let key = key.key();
                    let labels = key
                        .labels()
                        .map(|label| format!("{}={}", label.key(), label.value()));
                    let labels = braced(labels.collect());
                    let name = key.name();
                    match value {
                        DebugValue::Counter(count) => {
                            let sum = so_far.entry(format!("{name}{labels}")).or_default();
                            match name.contains("_attempts") {
                                true => *sum += count as f64,
                                false => *sum = count as f64,
                            }
                        }
                        DebugValue::Gauge(value) => {
                            so_far.insert(format!("{name}{labels}"), value.into_inner());
                        }
                        DebugValue::Histogram(values) => {
                            let count = format!("{name}_count{labels}");
                            *so_far.entry(count).or_default() += values.len() as f64;
                            let sum: f64 = values.iter().map(|value| value.into_inner()).sum();
                            *so_far.entry(format!("{name}_sum{labels}")).or_default() += sum;
                        }
                    }
                }
                let mut series = so_far.clone();
                series.retain(|_, value| !value.is_nan());
                series
            }
        }
    }

    /// Returns the series of one metric, without the common start of the names.
    fn series(&self, metric: &str) -> Series {
        let name = format!("confidential_client_{metric}");
        let series = self.collect().into_iter();
        let series = series.filter_map(|(key, value)| {
            let labels = key.strip_prefix(&name)?;
            (labels.is_empty() || labels.starts_with('{')).then(|| (labels.to_owned(), value))
        });
        series.collect()
    }

    /// Returns the value of a metric with one series, whatever its labels.
    fn value(&self, metric: &str) -> Option<f64> {
        let series = self.series(metric);
        assert!(series.len() <= 1, "{metric}: {series:?}");
        series.into_values().next()
    }
}

fn braced(mut labels: Vec<String>) -> String {
    labels.sort();
    match labels.is_empty() {
        true => String::new(),
        false => format!("{{{}}}", labels.join(",")),
    }
}

/// Adds a metric by the rules of OpenTelemetry's exporters for Prometheus.
fn add_metric(series: &mut Series, metric: &Metric) {
    let spelled = |text: &str| text.replace('.', "_");
    let seconds = if metric.unit() == "s" { "_seconds" } else { "" };
    let name = format!("{}{seconds}", spelled(metric.name()));
    let labels = |attributes: Vec<&KeyValue>| {
        let label = |label: &KeyValue| format!("{}={}", spelled(label.key.as_str()), label.value);
        braced(attributes.into_iter().map(label).collect())
    };
    match metric.data() {
        AggregatedMetrics::F64(MetricData::Histogram(histogram)) => {
            for point in histogram.data_points() {
                let bounds: Vec<_> = point.bounds().collect();
                let expected = confidential_client::metrics::DURATION_BOUNDARIES;
                assert_eq!(bounds, expected, "{name}");
                let labels = labels(point.attributes().collect());
                series.insert(format!("{name}_count{labels}"), point.count() as f64);
                series.insert(format!("{name}_sum{labels}"), point.sum());
            }
        }
        AggregatedMetrics::F64(MetricData::Gauge(gauge)) => {
            for point in gauge.data_points() {
                let labels = labels(point.attributes().collect());
                series.insert(format!("{name}{labels}"), point.value());
            }
        }
        AggregatedMetrics::U64(MetricData::Gauge(gauge)) => {
            for point in gauge.data_points() {
                let labels = labels(point.attributes().collect());
                series.insert(format!("{name}{labels}"), point.value() as f64);
            }
        }
        AggregatedMetrics::U64(MetricData::Sum(sum)) => {
            assert!(sum.is_monotonic(), "{name}");
            for point in sum.data_points() {
                let labels = labels(point.attributes().collect());
                let before = series.insert(format!("{name}_total{labels}"), point.value() as f64);
                assert_eq!(before, None, "{name}{labels} twice");
            }
        }
        _ => panic!("{name} is of another kind"),
    }
}

fn expected(series: &[(&str, f64)]) -> Series {
    let series = series.iter();
    series
        .map(|(key, value)| ((*key).to_owned(), *value))
        .collect()
}

const SERVER: &str = "server_address=login.microsoftonline.com";

#[tokio::test(start_paused = true)]
async fn token_requests_are_counted_by_their_outcome_with_attempts_and_duration() {
    for judge in Judge::each() {
        let (clock, provider) = (ManualClock::new(), Provider::open());
        let builder = provider.builder().retry(RetryPolicy::default());
        let client = builder.clock(clock.clone()).build().unwrap();
        judge.observe(&client);
        // Two attempts, then a rejection, then a token after three seconds, and its refresh.
        provider.fail("no route");
        client.acquire_token_for_client(scope(1)).await.unwrap();
        provider.answer(401, r#"{"error":"invalid_client"}"#);
        client.acquire_token_for_client(scope(2)).await.unwrap_err();
        provider.hold();
        let (acquired, ()) = tokio::join!(client.acquire_token_for_client(scope(3)), async {
            let_others_run().await;
            clock.advance(Duration::from_secs(3));
            provider.release();
        });
        acquired.unwrap();
        clock.advance(Duration::from_secs(3400));
        client.acquire_token_for_client(scope(3)).await.unwrap();
        let_others_run().await;

        let issued = format!(
            "{{confidential_client_outcome=issued,confidential_client_refresh=false,confidential_client_token_source=identity_provider,{SERVER}}}"
        );
        let refreshed = issued.replace("refresh=false", "refresh=true");
        let rejected = format!(
            "{{confidential_client_outcome=failed,confidential_client_refresh=false,confidential_client_token_source=identity_provider,error_type=server,http_response_status_code=401,{SERVER}}}"
        );
        let counts = |issued_count, rejected_count, refreshed_count| {
            expected(&[
                (&issued, issued_count),
                (&rejected, rejected_count),
                (&refreshed, refreshed_count),
            ])
        };
        let duration = "token_acquisition_duration_seconds";
        let attempts = "token_acquisition_attempts_total";
        assert_eq!(
            judge.series(&format!("{duration}_count")),
            counts(2.0, 1.0, 1.0)
        );
        assert_eq!(
            judge.series(&format!("{duration}_sum")),
            counts(3.0, 0.0, 0.0)
        );
        assert_eq!(judge.series(attempts), counts(3.0, 1.0, 1.0));
    }
}

#[tokio::test]
async fn each_call_counts_once_as_a_hit_or_a_miss() {
    for judge in Judge::each() {
        let (clock, provider) = (ManualClock::new(), Provider::open());
        let builder = provider.builder().clock(clock.clone());
        let client = builder
            .cache(CacheOptions::default().max_entries(1))
            .build()
            .unwrap();
        assert_eq!(client.cache().stats().hits, None, "nobody wants the number");
        client.acquire_token_for_client(SCOPE).await.unwrap();
        client.acquire_token_for_client(SCOPE).await.unwrap();
        judge.observe(&client);

        let token = client.token_provider(SCOPE).unwrap();
        let request = TokenRequest::new(SCOPE);
        token.token().await.unwrap();
        assert!(token.cached().is_some());
        let mut headers = http::HeaderMap::new();
        token.authorize(&mut headers).await.unwrap();
        for _ in 0..3 {
            client.acquire_token_for_client(&request).await.unwrap();
            client.acquire_token_for_client(SCOPE).await.unwrap();
            client.acquire_token_for_client([SCOPE]).await.unwrap();
        }
        let _ = format!("{token:?}, {:?}", client.cache());
        assert_eq!(client.cache().stats().hits, Some(12));
        // A token that is due is a hit, and its refresh is none.
        clock.advance(Duration::from_secs(3400));
        token.token().await.unwrap();
        let_others_run().await;
        // Two misses, of which the second evicts the first.
        for number in [1, 2] {
            client
                .acquire_token_for_client(scope(number))
                .await
                .unwrap();
        }
        assert_eq!(judge.value("token_cache_hits_total"), Some(13.0));
        assert_eq!(judge.value("token_cache_misses_total"), Some(3.0));
        assert_eq!(judge.value("token_cache_evictions_total"), Some(1.0));
        assert_eq!(judge.value("shared_cache_failures_total"), Some(0.0));
        token.token().await.unwrap();
        assert_eq!(judge.value("token_cache_hits_total"), Some(14.0));
    }
}

#[test]
fn the_hits_of_a_blocking_client_are_counted() {
    let provider = Provider::open();
    let options = CacheOptions::default().count_hits(true);
    let client = provider.builder().cache(options).build_blocking().unwrap();
    client.acquire_token_for_client(SCOPE).unwrap();
    client.acquire_token_for_client(SCOPE).unwrap();
    let token = client.token_provider(SCOPE).unwrap();
    token.token().unwrap();
    assert!(token.cached().is_some());
    assert_eq!(client.cache().stats().hits, Some(3));
    let judge = Judge::open_telemetry();
    judge.observe(client.as_async());
    token.token().unwrap();
    assert_eq!(judge.value("token_cache_hits_total"), Some(4.0));
}

#[tokio::test]
async fn hits_are_counted_for_a_program_without_an_adapter() {
    let provider = Provider::open();
    for (counts, hits) in [(false, None), (true, Some(1))] {
        let options = CacheOptions::default().count_hits(counts);
        let client = provider.builder().cache(options).build().unwrap();
        client.acquire_token_for_client(SCOPE).await.unwrap();
        client.acquire_token_for_client(SCOPE).await.unwrap();
        assert_eq!(client.cache().stats().hits, hits);
    }
}

/// Returns the number of entries by state, without those that are zero.
fn entries(judge: &Judge) -> Vec<(String, f64)> {
    let entries = judge.series("token_cache_entries").into_iter();
    let entries = entries.filter(|(_, count)| *count > 0.0);
    let state = |labels: String| {
        let (_, state) = labels.split_once("entry_state=").unwrap();
        state.split([',', '}']).next().unwrap().to_owned()
    };
    entries
        .map(|(labels, count)| (state(labels), count))
        .collect()
}

/// An alarm on few seconds left must not ring for a token that nobody uses any more.
#[tokio::test]
async fn the_remaining_lifetime_falls_to_zero_for_tokens_in_use_alone() {
    for judge in Judge::each() {
        let (clock, provider) = (ManualClock::new(), Provider::open());
        let client = provider.client_at(&clock);
        judge.observe(&client);
        let remaining = || judge.value("token_remaining_lifetime_seconds");
        let acquire = async |number| {
            let acquired = client.acquire_token_for_client(scope(number)).await;
            let_others_run().await;
            acquired.is_ok()
        };
        let valid = |count| vec![("valid".to_owned(), count)];
        assert_eq!((remaining(), entries(&judge)), (None, vec![]));

        assert!(acquire(1).await && acquire(2).await);
        assert_eq!((remaining(), entries(&judge)), (Some(3589.0), valid(2.0)));
        clock.advance(Duration::from_secs(1000));
        assert_eq!(remaining(), Some(2589.0));

        // Only the first is used, and refreshed. The second is due, and runs out unused.
        clock.advance(Duration::from_secs(2400));
        assert!(acquire(1).await);
        assert_eq!((remaining(), entries(&judge)), (Some(3589.0), valid(2.0)));
        clock.advance(Duration::from_secs(200));
        let unused = vec![("unused".to_owned(), 1.0), ("valid".to_owned(), 1.0)];
        assert_eq!((remaining(), entries(&judge)), (Some(3389.0), unused));

        // An outage: the token is returned while its refresh fails, and then runs out.
        clock.advance(Duration::from_secs(3200));
        provider.fail("no route");
        assert!(acquire(1).await);
        let failing = vec![("failing".to_owned(), 1.0), ("unused".to_owned(), 1.0)];
        assert_eq!((remaining(), entries(&judge)), (Some(189.0), failing));
        assert_eq!(judge.value("token_cache_cool_downs"), Some(1.0));
        clock.advance(Duration::from_secs(189));
        provider.fail("no route");
        assert!(!acquire(1).await);
        let unavailable = vec![("unavailable".to_owned(), 1.0), ("unused".to_owned(), 1.0)];
        assert_eq!((remaining(), entries(&judge)), (Some(0.0), unavailable));

        // Nobody asks any more.
        clock.advance(Duration::from_secs(15 * 60));
        let unused = vec![("unused".to_owned(), 2.0)];
        assert_eq!((remaining(), entries(&judge)), (None, unused));
        assert_eq!(judge.value("token_cache_cool_downs"), Some(0.0));

        assert!(acquire(1).await);
        assert_eq!(remaining(), Some(3589.0));
    }
}

/// While the circuit is open, no request of such an entry fails, because none is sent.
#[tokio::test]
async fn an_open_circuit_is_one_until_the_host_responds() {
    for judge in Judge::each() {
        let (clock, provider) = (ManualClock::new(), Provider::open());
        let client = provider.client_at(&clock);
        judge.observe(&client);
        client.acquire_token_for_client(scope(0)).await.unwrap();
        clock.advance(Duration::from_secs(3400));
        assert_eq!(judge.value("circuit_breaker_open"), Some(0.0));
        for number in 1..=3 {
            provider.fail("no route");
            client
                .acquire_token_for_client(scope(number))
                .await
                .unwrap_err();
        }
        let labels = format!("{{{SERVER}}}");
        assert_eq!(
            judge.series("circuit_breaker_open"),
            expected(&[(&labels, 1.0)])
        );
        assert_eq!(judge.value("token_remaining_lifetime_seconds"), Some(0.0));
        assert!(
            entries(&judge).contains(&("valid".to_owned(), 1.0)),
            "not asked for"
        );

        client.acquire_token_for_client(scope(0)).await.unwrap();
        let denied = [("failing".to_owned(), 1.0), ("unavailable".to_owned(), 3.0)];
        assert_eq!(entries(&judge), denied);
        client.acquire_token_for_client(scope(4)).await.unwrap_err();
        let denied = [("failing".to_owned(), 1.0), ("unavailable".to_owned(), 4.0)];
        assert_eq!(entries(&judge), denied);
        assert_eq!(provider.requests(), 4, "the circuit is open");

        clock.advance(Duration::from_secs(60));
        client.acquire_token_for_client(scope(1)).await.unwrap();
        assert_eq!(judge.value("circuit_breaker_open"), Some(0.0));
    }
}

/// Lets a client wait three seconds for another process, and then lose the shared cache.
async fn wait_for_another_process(judge: &Judge) -> ConfidentialClient {
    let (clock, provider) = (ManualClock::new(), Provider::gated());
    let store = LocalSharedCache::with_clock(clock.clone());
    let process = || {
        let key = EncryptionKey::from_bytes([1; 32]);
        let options = SharedCacheOptions::encrypted("the name key of the tests", [key]);
        let builder = provider.builder().clock(clock.clone());
        let builder = builder.shared_cache(store.clone(), options);
        builder.build().unwrap()
    };
    let (first, second) = (process(), process());
    judge.observe_as("second", &second);
    let (one, other, ()) = tokio::join!(
        first.acquire_token_for_client(SCOPE),
        second.acquire_token_for_client(SCOPE),
        async {
            while second.cache().stats().lock_waits == 0 {
                tokio::task::yield_now().await;
            }
            clock.advance(Duration::from_secs(3));
            provider.release();
        }
    );
    assert!(one.is_ok() && other.is_ok());
    store.begin_outage(StoreFault::Error);
    second.acquire_token_for_client(scope(1)).await.unwrap();
    second
}

#[tokio::test(start_paused = true)]
async fn the_shared_cache_has_its_failures_and_the_waits_for_other_processes() {
    for judge in Judge::each() {
        let second = wait_for_another_process(&judge).await;
        let labels = format!("{{confidential_client_name=second,{SERVER}}}");
        let of_second = |value| expected(&[(&labels, value)]);
        let wait = "shared_cache_lock_wait_duration_seconds";
        assert_eq!(judge.series(&format!("{wait}_count")), of_second(1.0));
        assert_eq!(judge.series(&format!("{wait}_sum")), of_second(3.0));
        let failures = second.cache().stats().shared_cache_failures;
        assert!(failures > 0);
        assert_eq!(
            judge.series("shared_cache_failures_total"),
            of_second(failures as f64)
        );
        let sources = judge.series("token_acquisition_duration_seconds_count");
        let sources: Vec<_> = sources.into_iter().collect();
        assert_eq!(sources.len(), 2, "{sources:?}");
        for (source, (labels, count)) in ["identity_provider", "shared_cache"].iter().zip(sources) {
            assert!(labels.contains(&format!("source={source}")), "{labels}");
            assert_eq!(count, 1.0);
        }
    }
}

#[tokio::test]
async fn a_client_that_is_observed_twice_counts_once_and_clients_add_up() {
    for judge in Judge::each() {
        let provider = Provider::open();
        let (one, other) = (provider.client(), provider.client());
        judge.observe(&one);
        judge.observe(&one.clone());
        judge.observe_as("late", &one);
        judge.observe(&other);
        judge.observe_as("orders", &provider.client());
        for client in [&one, &other] {
            client.acquire_token_for_client(SCOPE).await.unwrap();
            client.acquire_token_for_client(SCOPE).await.unwrap();
        }
        assert_eq!(judge.value("token_acquisition_attempts_total"), Some(2.0));
        let unnamed = format!("{{{SERVER}}}");
        let named = format!("{{confidential_client_name=orders,{SERVER}}}");
        for (metric, value) in [
            ("token_cache_hits_total", 2.0),
            ("token_cache_misses_total", 2.0),
        ] {
            let expected = expected(&[(&named, 0.0), (&unnamed, value)]);
            assert_eq!(judge.series(metric), expected, "{metric}");
        }
        let all = judge.series("token_cache_entries");
        assert_eq!(all.into_values().sum::<f64>(), 2.0);
    }
}

#[tokio::test]
async fn every_kind_of_client_is_observed_at_its_own_address() {
    for judge in Judge::each() {
        let respond = |_: Request<Bytes>| async {
            let body = r#"{"token_type":"Bearer","expires_in":"3599","access_token":"abc"}"#;
            Ok(Response::new(Bytes::from(body)))
        };
        let identity = ManagedIdentityClient::builder(ManagedIdentity::system_assigned())
            .environment(HostEnvironment::from_variables([(
                "MSI_ENDPOINT",
                "http://localhost:50342/oauth2/token",
            )]))
            .transport(respond)
            .build()
            .unwrap();
        let chain = CredentialChainClient::builder(CredentialChain::default())
            .environment(HostEnvironment::from_variables([
                ("AZURE_TENANT_ID", TENANT),
                ("AZURE_CLIENT_ID", CLIENT_ID),
                ("AZURE_CLIENT_SECRET", SECRET),
            ]))
            .transport(respond)
            .build()
            .unwrap();
        judge.observe(&identity);
        judge.observe(&chain);
        let vault = "https://vault.azure.net/.default";
        for _ in 0..2 {
            identity.acquire_token(vault).await.unwrap();
            chain.acquire_token(vault).await.unwrap();
        }
        let expected = expected(&[("", 1.0), ("{server_address=localhost}", 1.0)]);
        assert_eq!(judge.series("token_cache_hits_total"), expected);
        let requests = judge.series("token_acquisition_duration_seconds_count");
        assert_eq!(requests.into_values().sum::<f64>(), 2.0);
    }
}

#[tokio::test]
async fn a_client_that_is_dropped_is_freed_and_its_counts_stay() {
    for judge in Judge::each() {
        let held = Arc::new(());
        for round in 1..=50 {
            let held = Arc::clone(&held);
            let transport = Provider::open().transport();
            let transport = Arc::new(transport);
            let client = ConfidentialClient::builder(CLIENT_ID)
                .tenant(TENANT)
                .client_secret(SECRET)
                .transport(move |request: Request<Bytes>| {
                    let (_held, transport) = (Arc::clone(&held), Arc::clone(&transport));
                    async move {
                        confidential_client::transport::Transport::send(&*transport, request).await
                    }
                })
                .build()
                .unwrap();
            judge.observe(&client);
            client.acquire_token_for_client(SCOPE).await.unwrap();
            client.acquire_token_for_client(SCOPE).await.unwrap();
            if round % 10 == 0 {
                assert_eq!(
                    judge.value("token_cache_hits_total"),
                    Some(f64::from(round))
                );
            }
        }
        let_others_run().await;
        assert_eq!(Arc::strong_count(&held), 1, "a client lives on");
        assert_eq!(judge.value("token_cache_hits_total"), Some(50.0));
        assert_eq!(judge.value("token_cache_misses_total"), Some(50.0));
        // The caches are gone, and nothing runs out.
        assert_eq!(judge.value("token_remaining_lifetime_seconds"), None);
        let entries = judge.series("token_cache_entries");
        assert_eq!(entries.into_values().sum::<f64>(), 0.0);
    }
}

/// A recorder with a bug.
struct Panicking;

impl Recorder for Panicking {
    fn describe_counter(&self, _: metrics::KeyName, _: Option<Unit>, _: SharedString) {
        panic!("a bug of the recorder's");
    }

    fn describe_gauge(&self, _: metrics::KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: metrics::KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> metrics::Counter {
        panic!("a bug of the recorder's")
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> metrics::Gauge {
        panic!("a bug of the recorder's")
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> metrics::Histogram {
        panic!("a bug of the recorder's")
    }
}

/// A meter provider with a bug.
#[derive(Default)]
struct PanickingProvider(Arc<AtomicBool>);

impl InstrumentProvider for PanickingProvider {
    fn f64_histogram(&self, _: HistogramBuilder<'_, Histogram<f64>>) -> Histogram<f64> {
        Histogram::new(Arc::new(PanickingInstrument(Arc::clone(&self.0))))
    }
}

struct PanickingInstrument(Arc<AtomicBool>);

impl SyncInstrument<f64> for PanickingInstrument {
    fn measure(&self, _: f64, _: &[KeyValue]) {
        self.0.store(true, Ordering::Relaxed);
        panic!("a bug of the meter's");
    }
}

#[tokio::test]
async fn a_recorder_or_a_meter_that_panics_fails_no_token_request() {
    let provider = Provider::open();
    let client = provider.client();
    let _guard = metrics::set_default_local_recorder(&Panicking);
    FacadeMetrics::new().observe(&client);
    let meter = PanickingProvider::default();
    let was_called = Arc::clone(&meter.0);
    OpenTelemetryMetrics::new(&Meter::new(Arc::new(meter))).observe(&client);
    for number in 0..3 {
        client
            .acquire_token_for_client(scope(number))
            .await
            .unwrap();
    }
    assert!(
        was_called.load(Ordering::Relaxed),
        "after the other panicked"
    );
}

/// Runs a test that a deadlock would stop.
fn in_time<T: Send + 'static>(test: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, outcome) = mpsc::channel();
    thread::spawn(move || sender.send(test()));
    outcome
        .recv_timeout(Duration::from_secs(60))
        .unwrap_or_else(|error| panic!("a deadlock or a panic: {error}"))
}

/// What a recorder or a meter does while a value is recorded.
type Callback = Arc<dyn Fn() + Send + Sync>;

/// A recorder that calls back.
struct CallingRecorder(Callback);

impl Recorder for CallingRecorder {
    fn describe_counter(&self, _: metrics::KeyName, _: Option<Unit>, _: SharedString) {
        (self.0)();
    }

    fn describe_gauge(&self, _: metrics::KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: metrics::KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> metrics::Counter {
        (self.0)();
        metrics::Counter::noop()
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> metrics::Gauge {
        (self.0)();
        metrics::Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> metrics::Histogram {
        (self.0)();
        metrics::Histogram::noop()
    }
}

/// A meter provider that calls back.
struct CallingProvider(Callback);

impl InstrumentProvider for CallingProvider {
    fn f64_histogram(&self, _: HistogramBuilder<'_, Histogram<f64>>) -> Histogram<f64> {
        Histogram::new(Arc::new(CallingInstrument(Arc::clone(&self.0))))
    }
}

struct CallingInstrument(Callback);

impl SyncInstrument<f64> for CallingInstrument {
    fn measure(&self, _: f64, _: &[KeyValue]) {
        (self.0)();
    }
}

/// No lock of the crate is held while code of the program runs.
#[test]
fn a_recorder_and_a_meter_may_call_the_client_and_the_adapter() {
    let calls = in_time(|| {
        let client = Provider::open().client();
        let adapter = FacadeMetrics::new();
        let calls = Arc::new(AtomicUsize::new(0));
        let callback = {
            let (client, adapter, calls) = (client.clone(), adapter.clone(), Arc::clone(&calls));
            Arc::new(move || {
                // The calls of the callback call back, too.
                if calls.fetch_add(1, Ordering::Relaxed) % 1000 > 0 {
                    return;
                }
                adapter.observe(&client).publish();
                FacadeMetrics::new().observe_as("another", &client);
                let _ = client.token_provider(SCOPE).unwrap().cached();
                let _ = (client.cache().stats(), client.cache().len());
                client.cache().clear();
            })
        };
        let recorder = CallingRecorder(Arc::clone(&callback) as _);
        let _guard = metrics::set_default_local_recorder(&recorder);
        let meter = Meter::new(Arc::new(CallingProvider(callback)));
        OpenTelemetryMetrics::new(&meter).observe(&client);
        adapter.observe(&client);
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        for number in 0..3 {
            let token = client.acquire_token_for_client(scope(number));
            runtime.block_on(token).unwrap();
        }
        calls.load(Ordering::Relaxed)
    });
    assert!(calls > 10, "{calls}");
}

/// A recorder that forgets its metrics, as exporters do with those that had no value for a while.
#[derive(Default)]
struct Forgetful {
    values: Mutex<BTreeMap<String, Arc<AtomicU64>>>,
    descriptions: Mutex<Vec<(String, Option<Unit>, String)>>,
}

impl Forgetful {
    fn register(&self, key: &Key) -> Arc<AtomicU64> {
        let name = key.name().to_owned();
        Arc::clone(self.values.lock().unwrap().entry(name).or_default())
    }

    /// Returns the names of the metrics, and forgets them.
    fn take_names(&self) -> Vec<String> {
        let values = std::mem::take(&mut *self.values.lock().unwrap());
        values.into_keys().collect()
    }

    fn describe(&self, name: metrics::KeyName, unit: Option<Unit>, text: SharedString) {
        let description = (name.as_str().to_owned(), unit, text.into_owned());
        self.descriptions.lock().unwrap().push(description);
    }
}

impl Recorder for Forgetful {
    fn describe_counter(&self, name: metrics::KeyName, unit: Option<Unit>, text: SharedString) {
        self.describe(name, unit, text);
    }

    fn describe_gauge(&self, name: metrics::KeyName, unit: Option<Unit>, text: SharedString) {
        self.describe(name, unit, text);
    }

    fn describe_histogram(&self, name: metrics::KeyName, unit: Option<Unit>, text: SharedString) {
        self.describe(name, unit, text);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> metrics::Counter {
        metrics::Counter::from_arc(self.register(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> metrics::Gauge {
        metrics::Gauge::from_arc(self.register(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> metrics::Histogram {
        self.register(key);
        metrics::Histogram::noop()
    }
}

#[tokio::test]
async fn a_metric_that_an_exporter_forgot_comes_back_with_its_next_value() {
    let client = Provider::open().client();
    let recorder = Forgetful::default();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let adapter = FacadeMetrics::new();
    adapter.observe(&client);
    let mut names = Vec::new();
    for number in 0..2 {
        client
            .acquire_token_for_client(scope(number))
            .await
            .unwrap();
        adapter.publish();
        names.push(recorder.take_names());
    }
    assert!(names[0].len() > 8, "{names:?}");
    assert_eq!(names[0], names[1]);
}

/// A program that never calls `publish` still has its counters.
#[tokio::test]
async fn a_token_request_publishes_the_counters_and_rarely_the_gauges() {
    let client = Provider::open().client();
    let recorder = Forgetful::default();
    let _guard = metrics::set_default_local_recorder(&recorder);
    FacadeMetrics::new().observe(&client);
    for (number, has_gauges) in [(0, true), (1, false)] {
        client
            .acquire_token_for_client(scope(number))
            .await
            .unwrap();
        let names = recorder.take_names();
        let has = |name: &str| names.contains(&format!("confidential_client_{name}"));
        assert!(has("token_cache_misses_total"), "{names:?}");
        assert!(has("token_acquisition_attempts_total"), "{names:?}");
        assert_eq!(has("token_cache_entries"), has_gauges, "{names:?}");
    }
}

#[tokio::test]
async fn each_metric_is_described_once_with_the_unit_and_the_words_of_the_guide() {
    let guide = include_str!("../../docs/metrics.md");
    let client = Provider::open().client();
    let recorder = Forgetful::default();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let adapter = FacadeMetrics::new();
    adapter.observe(&client);
    client.acquire_token_for_client(SCOPE).await.unwrap();
    adapter.publish();
    let descriptions = recorder.descriptions.lock().unwrap();
    let names: BTreeSet<_> = descriptions.iter().map(|(name, ..)| name).collect();
    assert_eq!((descriptions.len(), names.len()), (11, 11));
    for (name, unit, text) in &*descriptions {
        let expected = match name.ends_with("_seconds") {
            true => Unit::Seconds,
            false => Unit::Count,
        };
        assert_eq!(*unit, Some(expected), "{name}");
        let row = format!("| `{name}` |");
        let row = guide.lines().find(|line| line.contains(&row)).unwrap();
        assert!(row.contains(text.trim_end_matches('.')), "{name}: {text}");
    }
}

/// What tells the other processes goes on without the client, and counts what fails.
#[tokio::test]
async fn a_failure_after_the_client_was_dropped_is_counted() {
    for judge in Judge::each() {
        let store = LocalSharedCache::new();
        let key = EncryptionKey::from_bytes([1; 32]);
        let options = SharedCacheOptions::encrypted("the name key of the tests", [key]);
        let builder = Provider::open().builder();
        let builder = builder.shared_cache(store.clone(), options);
        let client = builder.build().unwrap();
        judge.observe(&client);
        let rejected = client.acquire_token_for_client(SCOPE).await.unwrap();
        store.begin_outage(StoreFault::Error);
        client.invalidate(&rejected);
        drop(client);
        let failures = || judge.value("shared_cache_failures_total");
        assert_eq!(failures(), Some(0.0));
        let_others_run().await;
        assert_eq!(failures(), Some(1.0));
    }
}

/// Each name is a time series of each metric, and no counter may be taken back.
#[tokio::test]
async fn the_names_beyond_a_hundred_share_one_time_series() {
    for judge in Judge::each() {
        let log = log_capture::Log::start();
        for number in 0..150 {
            let client = Provider::open().client();
            judge.observe_as(&format!("name-{number}"), &client);
            client.acquire_token_for_client(SCOPE).await.unwrap();
        }
        for metric in [
            "token_cache_misses_total",
            "token_acquisition_attempts_total",
        ] {
            let series = judge.series(metric);
            assert_eq!(series.values().sum::<f64>(), 150.0, "{metric}");
            assert_eq!(series.len(), 101, "{metric}");
            let mut others = series
                .iter()
                .filter(|(labels, _)| labels.contains("name=other"));
            assert_eq!(others.next().unwrap().1, &50.0, "{metric}");
        }
        let warnings = log.text().matches("more than 100 names").count();
        assert_eq!(warnings, 1, "{}", log.text());
        let client = Provider::open().client();
        judge.observe_as("name-99", &client);
        client.acquire_token_for_client(SCOPE).await.unwrap();
        let series = judge.series("token_cache_misses_total");
        let known = format!("{{confidential_client_name=name-99,{SERVER}}}");
        assert_eq!((series[&known], series.len()), (2.0, 101));
    }
}

/// A counter that falls is a restart of the process, to Prometheus.
#[test]
fn no_counter_falls_while_threads_count_and_clients_are_dropped() {
    const THREADS: u64 = 8;
    const ROUNDS: u64 = 200;
    for judge in Judge::each() {
        let finished = AtomicUsize::new(0);
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let clients: Vec<_> = (0..ROUNDS).map(|_| Provider::open().client()).collect();
        for client in &clients {
            judge.observe(client);
            runtime
                .block_on(client.acquire_token_for_client(SCOPE))
                .unwrap();
        }
        let clients = Mutex::new(clients);
        thread::scope(|threads| {
            for _ in 0..THREADS {
                threads.spawn(|| {
                    let next = || clients.lock().unwrap().pop();
                    while let Some(client) = next() {
                        let token = client.token_provider(SCOPE).unwrap();
                        (0..100).for_each(|_| drop(token.cached().unwrap()));
                    }
                    finished.fetch_add(1, Ordering::SeqCst);
                });
            }
            let mut before = 0.0;
            while finished.load(Ordering::SeqCst) < THREADS as usize {
                let hits = judge.value("token_cache_hits_total").unwrap();
                assert!(hits >= before, "{hits} after {before}");
                before = hits;
            }
        });
        let hits = judge.value("token_cache_hits_total");
        assert_eq!(hits, Some((ROUNDS * 100) as f64));
    }
}

/// Returns the words of a text that can be names of metrics or of labels of this crate.
fn names_in(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words
        .filter(|word| word.starts_with("confidential_client_"))
        .collect()
}

/// A query with a name that does not exist shows nothing, and no error.
#[tokio::test(start_paused = true)]
async fn the_dashboard_and_the_guide_name_what_the_adapters_publish_and_the_dashboard_all_of_it() {
    let dashboard = include_str!("../../docs/grafana-dashboard.json");
    let dashboard: serde_json::Value = serde_json::from_str(dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels
        .filter_map(|panel| panel["targets"].as_array())
        .flatten();
    let queries: Vec<_> = targets
        .map(|target| target["expr"].as_str().unwrap())
        .collect();
    assert!(queries.len() > 20, "{queries:?}");
    let variables = dashboard["templating"].to_string();
    let queries = queries.join("\n");
    let guide = include_str!("../../docs/metrics.md");
    for judge in Judge::each() {
        wait_for_another_process(&judge).await;
        let provider = Provider::open();
        let client = provider.client();
        judge.observe(&client);
        provider.answer(401, r#"{"error":"invalid_client"}"#);
        client.acquire_token_for_client(SCOPE).await.unwrap_err();
        let (mut metrics, mut labels) = (BTreeSet::new(), BTreeSet::new());
        for key in judge.collect().into_keys() {
            let (name, rest) = key.split_once('{').unwrap_or((&key, ""));
            let base = name.trim_end_matches("_sum").trim_end_matches("_count");
            metrics.insert(base.to_owned());
            let pairs = rest.trim_end_matches('}').split(',');
            labels.extend(pairs.filter_map(|pair| Some(pair.split_once('=')?.0.to_owned())));
        }
        let base = |name: &str| {
            let suffixes = ["_bucket", "_count", "_sum"];
            let ends = suffixes.iter().find_map(|suffix| name.strip_suffix(suffix));
            ends.unwrap_or(name).to_owned()
        };
        for text in [&*queries, &*variables, guide] {
            for name in names_in(text) {
                let is_known = metrics.contains(&base(name)) || labels.contains(name);
                assert!(is_known, "nothing publishes {name}");
            }
        }
        let queried: BTreeSet<_> = names_in(&queries).into_iter().map(base).collect();
        let missing: Vec<_> = metrics.difference(&queried).collect();
        assert!(missing.is_empty(), "no panel shows {missing:?}");
        for label in ["error_type", "http_response_status_code", "server_address"] {
            assert!(labels.contains(label) && queries.contains(label), "{label}");
        }
    }
}

/// Also proves that no adapter adds an attribute with many values.
#[tokio::test]
async fn no_attribute_has_a_tenant_a_client_a_scope_or_a_secret() {
    for judge in Judge::each() {
        let provider = Provider::open();
        let client = provider.builder().observe_tenants().build().unwrap();
        judge.observe(&client);
        let request = TokenRequest::new("https://vault.azure.net/.default").tenant("fabrikam.com");
        client.acquire_token_for_client(&request).await.unwrap();
        provider.answer(400, &format!(r#"{{"error":"{SECRET}"}}"#));
        client.acquire_token_for_client(scope(1)).await.unwrap_err();
        for _ in 0..3 {
            provider.answer_with(success("e30.e30.c2ln", 3599));
        }
        let agent = client.agent_identity("f47ac10b-58cc-4372-a567-0e02b2c3d479");
        let user = UserIdentifier::object_id("99999999-8888-7777-6666-555555555555");
        let of_user = agent.unwrap().acquire_token_by_user_fic(&user, SCOPE).await;
        of_user.unwrap();
        let series = judge.collect();
        assert!(series.len() > 12, "{series:?}");
        for key in series.keys() {
            for secret in [
                SECRET,
                TENANT,
                "fabrikam",
                "vault",
                CLIENT_ID,
                "token-",
                "/.default",
                "f47ac10b",
                "99999999",
            ] {
                assert!(!key.contains(secret), "{key}");
            }
        }
    }
}
