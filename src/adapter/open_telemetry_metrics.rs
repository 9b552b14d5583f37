use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry::metrics::{AsyncInstrument, Counter, Histogram, Meter};
use opentelemetry::{KeyValue, Value as AnyValue};

use super::instruments::{self as instruments, Attribute, ClientAttributes, Instrument, Value};
use super::observed_clients::{Counts, ObservableClient, ObservedClients};
use crate::cache::{CacheFigures, EntryState};
use crate::metrics::{Acquisition, DURATION_BOUNDARIES};

/// Instruments of OpenTelemetry for the token requests and the caches of clients.
///
/// Create one per meter provider, and give it each client after `build()`. A clone observes the
/// same clients. The instruments stay, and clients stay observed, after the last clone was dropped.
/// The module [`guides::metrics`](crate::guides::metrics) lists the metrics.
///
/// ```
/// # use bytes::Bytes;
/// use confidential_client::ConfidentialClient;
/// use confidential_client::adapter::OpenTelemetryMetrics;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let client = ConfidentialClient::builder("11111111-2222-3333-4444-555555555555")
/// #     .tenant("contoso.onmicrosoft.com")
/// #     .client_secret("the secret's value")
/// #     .transport(|_: http::Request<Bytes>| async {
/// #         let body = r#"{"token_type":"Bearer","expires_in":3599,"access_token":"abc"}"#;
/// #         Ok(http::Response::new(Bytes::from(body)))
/// #     })
/// #     .build()?;
/// // The program sets the meter provider of an SDK first.
/// let meter = opentelemetry::global::meter("confidential_client");
/// let metrics = OpenTelemetryMetrics::new(&meter);
/// metrics.observe(&client);
///
/// client.acquire_token_for_client("https://graph.microsoft.com/.default").await?;
/// # Ok(())
/// # }
/// ```
///
/// A client is held weakly. The counters of a client that was dropped stay in the sums. Cache hits
/// are counted from the call of [`observe`](Self::observe) on, in counters that threads do not
/// share, and read when the SDK collects. No attribute has a tenant, a client ID, a scope or a
/// token.
#[doc(alias = "opentelemetry")]
#[derive(Clone)]
pub struct OpenTelemetryMetrics(Arc<Observing>);

struct Observing {
    clients: ObservedClients,
    duration: Histogram<f64>,
    attempts: Counter<u64>,
    lock_wait: Histogram<f64>,
    snapshot: Mutex<Option<Snapshot>>,
}

/// The figures of all caches, for the instruments of one collection.
struct Snapshot {
    taken: Instant,
    /// The instruments that have the figures, by their places in [`GAUGES`].
    readers: [bool; GAUGES],
    figures: Arc<Figures>,
}

type Figures = HashMap<ClientAttributes, CacheFigures>;

impl OpenTelemetryMetrics {
    /// Creates the instruments of a meter.
    pub fn new(meter: &Meter) -> Self {
        let histogram = |instrument: Instrument| {
            meter
                .f64_histogram(instrument.name)
                .with_unit(instrument.unit)
                .with_description(instrument.description)
                .with_boundaries(DURATION_BOUNDARIES.to_vec())
                .build()
        };
        let attempts = meter
            .u64_counter(instruments::ATTEMPTS.name)
            .with_unit(instruments::ATTEMPTS.unit)
            .with_description(instruments::ATTEMPTS.description)
            .build();
        let observing = Arc::new(Observing {
            clients: ObservedClients::new(),
            duration: histogram(instruments::DURATION),
            attempts,
            lock_wait: histogram(instruments::LOCK_WAIT),
            snapshot: Mutex::default(),
        });
        observing.observe_counters(meter);
        observing.observe_gauges(meter);
        Self(observing)
    }

    /// Observes a client from now on. Without effect for a client that is observed already.
    ///
    /// Accepts a reference to a [`ConfidentialClient`](crate::ConfidentialClient), a
    /// [`ManagedIdentityClient`](crate::ManagedIdentityClient) or a
    /// [`CredentialChainClient`](crate::CredentialChainClient). Clones of a client count as the
    /// client.
    pub fn observe<'a>(&self, client: impl Into<ObservableClient<'a>>) -> &Self {
        self.add(client.into(), None)
    }

    /// Observes a client like [`observe`](Self::observe), with the attribute
    /// `confidential_client.name` on all of the client's metrics.
    ///
    /// Each name is a time series of each metric. Name the few clients of a process by their
    /// purpose, such as `orders`, and not by a customer. A name and a host beyond a hundred
    /// different ones get the name `other` and no host.
    pub fn observe_as<'a>(
        &self,
        name: impl AsRef<str>,
        client: impl Into<ObservableClient<'a>>,
    ) -> &Self {
        self.add(client.into(), Some(name.as_ref()))
    }

    fn add(&self, client: ObservableClient<'_>, name: Option<&str>) -> &Self {
        let observing = Arc::clone(&self.0);
        self.0
            .clients
            .add(client, name, move |client, acquisition| {
                observing.record(client, acquisition);
            });
        self
    }
}

impl Observing {
    fn record(&self, client: &ClientAttributes, acquisition: &Acquisition) {
        let attributes: Vec<_> = client.with(acquisition).map(key_value).collect();
        self.duration
            .record(acquisition.duration.as_secs_f64(), &attributes);
        self.attempts.add(acquisition.attempts.into(), &attributes);
        if let Some(wait) = acquisition.lock_wait {
            let attributes: Vec<_> = client.each().map(key_value).collect();
            self.lock_wait.record(wait.as_secs_f64(), &attributes);
        }
    }

    /// Registers the counters that are read when the SDK collects.
    ///
    /// Once for all clients, because the API has no way to unregister a callback.
    fn observe_counters(self: &Arc<Self>, meter: &Meter) {
        let counters: [(Instrument, Read<Counts>); 4] = [
            (instruments::HITS, |counts| counts.hits),
            (instruments::MISSES, |counts| counts.misses),
            (instruments::EVICTIONS, |counts| counts.evictions),
            (instruments::SHARED_CACHE_FAILURES, |counts| {
                counts.shared_cache_failures
            }),
        ];
        for (instrument, count) in counters {
            let observing = Arc::clone(self);
            meter
                .u64_observable_counter(instrument.name)
                .with_unit(instrument.unit)
                .with_description(instrument.description)
                .with_callback(move |observer| {
                    for (client, counts) in observing.clients.counts() {
                        let attributes: Vec<_> = client.each().map(key_value).collect();
                        observer.observe(count(&counts), &attributes);
                    }
                })
                .build();
        }
    }

    /// Registers the gauges, which are read when the SDK collects.
    fn observe_gauges(self: &Arc<Self>, meter: &Meter) {
        let observing = Arc::clone(self);
        meter
            .f64_observable_gauge(instruments::REMAINING.name)
            .with_unit(instruments::REMAINING.unit)
            .with_description(instruments::REMAINING.description)
            .with_callback(move |observer| {
                observing.for_each(0, |attributes, figures| {
                    if let Some(remaining) = figures.least_remaining {
                        observer.observe(remaining.as_secs_f64(), attributes);
                    }
                });
            })
            .build();
        let observing = Arc::clone(self);
        meter
            .u64_observable_gauge(instruments::ENTRIES.name)
            .with_unit(instruments::ENTRIES.unit)
            .with_description(instruments::ENTRIES.description)
            .with_callback(move |observer| {
                observing.for_each(1, |attributes, figures| {
                    observe_entries(observer, attributes, figures);
                });
            })
            .build();
        let gauges: [(Instrument, Read<CacheFigures>); 2] = [
            (instruments::COOL_DOWNS, |figures| figures.cool_downs),
            (instruments::CIRCUIT_BREAKER, |figures| {
                figures.circuit_is_open.into()
            }),
        ];
        for (reader, (instrument, figure)) in (2..).zip(gauges) {
            let observing = Arc::clone(self);
            meter
                .u64_observable_gauge(instrument.name)
                .with_unit(instrument.unit)
                .with_description(instrument.description)
                .with_callback(move |observer| {
                    observing.for_each(reader, |attributes, figures| {
                        observer.observe(figure(figures), attributes);
                    });
                })
                .build();
        }
    }

    fn for_each(&self, reader: usize, observe: impl Fn(&[KeyValue], &CacheFigures)) {
        for (client, figures) in &*self.figures(reader) {
            let attributes: Vec<_> = client.each().map(key_value).collect();
            observe(&attributes, figures);
        }
    }

    /// Returns the figures of all caches. The gauges of one collection share them, because a cache
    /// may have a hundred thousand entries to look at.
    fn figures(&self, reader: usize) -> Arc<Figures> {
        if let Some(figures) = self
            .snapshot()
            .as_mut()
            .and_then(|last| last.read_by(reader))
        {
            return figures;
        }
        // Without the lock, since a client may be dropped here, and code of the program runs.
        let figures = Arc::new(self.clients.figures());
        let mut snapshot = Snapshot {
            taken: Instant::now(),
            readers: [false; GAUGES],
            figures: Arc::clone(&figures),
        };
        snapshot.read_by(reader);
        *self.snapshot() = Some(snapshot);
        figures
    }

    fn snapshot(&self) -> MutexGuard<'_, Option<Snapshot>> {
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Snapshot {
    /// Returns the figures if they are of this collection: recent, and new to the instrument.
    fn read_by(&mut self, reader: usize) -> Option<Arc<Figures>> {
        let has_read = self.readers.get_mut(reader)?;
        let is_new = !std::mem::replace(has_read, true);
        (is_new && self.taken.elapsed() < SNAPSHOT_AGE).then(|| Arc::clone(&self.figures))
    }
}

fn observe_entries(
    observer: &dyn AsyncInstrument<u64>,
    attributes: &[KeyValue],
    figures: &CacheFigures,
) {
    for state in EntryState::ALL {
        let label = Value::Label(state.as_str());
        let mut attributes = attributes.to_vec();
        attributes.push(key_value((instruments::ENTRY_STATE, label)));
        observer.observe(figures.entries(state), &attributes);
    }
}

fn key_value((attribute, value): (Attribute, Value)) -> KeyValue {
    let value = match value {
        Value::Text(text) => AnyValue::from(text),
        Value::Label(label) => AnyValue::from(label),
        Value::Flag(flag) => AnyValue::from(flag),
        Value::Number(number) => AnyValue::from(i64::from(number)),
    };
    KeyValue::new(attribute.name, value)
}

impl fmt::Debug for OpenTelemetryMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenTelemetryMetrics")
            .finish_non_exhaustive()
    }
}

/// Reads one number.
type Read<T> = fn(&T) -> u64;

/// The number of gauges that share a snapshot.
const GAUGES: usize = 4;
/// The age after which no gauge reads a snapshot. An SDK calls the callbacks one after the other.
const SNAPSHOT_AGE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;
    use std::time::SystemTime;

    use bytes::Bytes;
    use http::{Request, Response};

    use super::*;
    use crate::client::ConfidentialClient;
    use crate::time::Clock;

    /// A clock of the program's, which reads the metrics.
    #[derive(Clone, Default)]
    struct CollectingClock(Arc<OnceLock<OpenTelemetryMetrics>>);

    impl Clock for CollectingClock {
        fn wall(&self) -> SystemTime {
            if let Some(metrics) = self.0.get() {
                drop(metrics.0.snapshot());
            }
            SystemTime::now()
        }

        fn monotonic(&self) -> Instant {
            Instant::now()
        }
    }

    /// A look at all entries is the cost of a collection.
    #[test]
    fn the_gauges_of_one_collection_share_one_look_at_the_entries() {
        let metrics = OpenTelemetryMetrics::new(&opentelemetry::global::meter("test"));
        let figures = |reader| metrics.0.figures(reader);
        let first = figures(0);
        assert!((1..GAUGES).all(|reader| Arc::ptr_eq(&figures(reader), &first)));
        let second = figures(0);
        assert!(!Arc::ptr_eq(&second, &first), "another collection");
        metrics.0.snapshot().as_mut().unwrap().taken -= SNAPSHOT_AGE;
        assert!(!Arc::ptr_eq(&second, &figures(1)), "a later collection");
    }

    #[test]
    fn code_of_the_program_runs_without_the_lock_of_a_collection() {
        let clock = CollectingClock::default();
        let client = ConfidentialClient::builder("11111111-2222-3333-4444-555555555555")
            .tenant("contoso.onmicrosoft.com")
            .client_secret("the secret's value")
            .transport(|_: Request<Bytes>| async { Ok(Response::new(Bytes::new())) })
            .clock(clock.clone())
            .build()
            .unwrap();
        let metrics = OpenTelemetryMetrics::new(&opentelemetry::global::meter("test"));
        metrics.observe(&client);
        drop(clock.0.set(metrics.clone()));
        let (sender, collected) = std::sync::mpsc::channel();
        std::thread::spawn(move || sender.send(metrics.0.figures(0).len()));
        let collected = collected.recv_timeout(Duration::from_secs(60));
        assert_eq!(collected, Ok(1), "the collection waits for itself");
    }
}
