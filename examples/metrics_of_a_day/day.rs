//! The day: two clients, their APIs, their callers, and an identity provider with an outage.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use confidential_client::adapter::OpenTelemetryMetrics;
use confidential_client::testing::ManualClock;
use confidential_client::time::Clock;
use confidential_client::{ConfidentialClient, TokenProvider};
use http::{Request, Response};
use opentelemetry::metrics::MeterProvider;
use opentelemetry_sdk::metrics::{InMemoryMetricExporter, PeriodicReader, SdkMeterProvider};

use crate::Result;
use crate::readings::Readings;

/// A client of the daemon.
pub(crate) struct Client {
    pub(crate) name: &'static str,
    pub(crate) apis: usize,
    /// The lifetime of its tokens, in seconds.
    pub(crate) lifetime: u64,
    /// The minute of the first call to its first API. The others follow every three minutes.
    pub(crate) first_call: u32,
}

pub(crate) const CLIENTS: [Client; 2] = [
    Client {
        name: "orders",
        apis: 4,
        lifetime: 3_599,
        first_call: 0,
    },
    Client {
        name: "reports",
        apis: 2,
        lifetime: 7_200,
        first_call: 38,
    },
];
pub(crate) const MINUTES: u32 = 24 * 60;
/// The minutes in which the identity provider does not respond.
pub(crate) const OUTAGE: Range<u32> = 13 * 60 + 45..14 * 60 + 25;

/// The time between two rounds of calls.
const STEP: Duration = Duration::from_secs(10);

/// Runs the day, and reads the metrics once a minute.
pub(crate) async fn simulate() -> Result<Readings> {
    let exporter = InMemoryMetricExporter::default();
    let reader = PeriodicReader::builder(exporter.clone()).build();
    let meters = SdkMeterProvider::builder().with_reader(reader).build();
    // The adapter, as a program uses it.
    let metrics = OpenTelemetryMetrics::new(&meters.meter("confidential_client"));

    let clock = ManualClock::new();
    let start = clock.monotonic();
    let mut callers: Vec<(ConfidentialClient, Vec<TokenProvider>)> = Vec::new();
    for described in &CLIENTS {
        let client = client(described, &clock)?;
        metrics.observe_as(described.name, &client);
        let providers = (0..described.apis).map(|api| {
            let scope = format!("api://{}-{api}/.default", described.name);
            client.token_provider(scope)
        });
        let providers = providers.collect::<std::result::Result<_, _>>()?;
        callers.push((client, providers));
    }

    let mut readings = Readings::default();
    let mut calls = 0.0;
    for minute in 0..MINUTES {
        for step in 0..6 {
            let begins = Duration::from_secs(60 * u64::from(minute)) + STEP * step;
            let since_start = clock.monotonic().duration_since(start);
            clock.advance(begins.saturating_sub(since_start));
            calls += calls_per_second(minute) * STEP.as_secs_f64();
            for (client, (_, apis)) in CLIENTS.iter().zip(&callers) {
                let first_calls = (client.first_call..).step_by(3);
                for (_, api) in first_calls.zip(apis).filter(|(first, _)| *first <= minute) {
                    for _ in 0..calls as u32 {
                        // A caller gets a token, or an error at once.
                        let _ = api.token().await;
                    }
                }
            }
            calls -= calls.floor();
            // Lets the refreshes in the background end, with their retries.
            tokio::time::sleep(STEP).await;
        }
        exporter.reset();
        meters.force_flush()?;
        readings.add(&exporter.get_finished_metrics()?);
    }
    Ok(readings)
}

fn client(described: &Client, clock: &ManualClock) -> Result<ConfidentialClient> {
    let (start, transport_clock) = (clock.monotonic(), clock.clone());
    let lifetime = described.lifetime;
    let client = ConfidentialClient::builder("11111111-2222-3333-4444-555555555555")
        .tenant("contoso.onmicrosoft.com")
        .client_secret("the secret's value")
        .clock(clock.clone())
        .transport(move |_: Request<Bytes>| {
            transport_clock.advance(Duration::from_millis(120));
            let seconds = transport_clock.monotonic().duration_since(start).as_secs();
            let minute = u32::try_from(seconds / 60).unwrap_or(u32::MAX);
            async move {
                if OUTAGE.contains(&minute) {
                    return Err("connection refused".into());
                }
                let body = format!(
                    r#"{{"token_type":"Bearer","expires_in":{lifetime},"access_token":"a token"}}"#
                );
                Ok(Response::new(Bytes::from(body)))
            }
        })
        .build()?;
    Ok(client)
}

/// Returns the calls of each API: few at night, most before and after lunch.
fn calls_per_second(minute: u32) -> f64 {
    let hour = f64::from(minute) / 60.0;
    let around = |center: f64, width: f64| (-((hour - center) / width).powi(2)).exp();
    0.1 + 1.6 * around(10.5, 2.0) + 1.4 * around(15.5, 2.2) + 0.3 * around(20.0, 1.5)
}
