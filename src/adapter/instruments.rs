//! The instruments of the adapters for metrics, in one list for all of them.

use std::sync::Arc;

use crate::metrics::{Acquisition, Outcome};

/// The name of an instrument, by OpenTelemetry's conventions and as Prometheus spells it.
pub(super) struct Instrument {
    /// The name for OpenTelemetry.
    #[cfg(feature = "opentelemetry")]
    pub(super) name: &'static str,
    /// The name for the `metrics` facade. OpenTelemetry's exporters for Prometheus write the same.
    #[cfg(feature = "metrics")]
    pub(super) prometheus: &'static str,
    /// The unit as UCUM spells it.
    #[cfg(feature = "opentelemetry")]
    pub(super) unit: &'static str,
    pub(super) description: &'static str,
}

/// The name of an attribute, for OpenTelemetry and as Prometheus spells it.
pub(super) struct Attribute {
    #[cfg(feature = "opentelemetry")]
    pub(super) name: &'static str,
    #[cfg(feature = "metrics")]
    pub(super) prometheus: &'static str,
}

macro_rules! instruments {
    ($($constant:ident, $name:literal, $prometheus:literal, $unit:literal, $description:literal;)*) => {
        $(pub(super) const $constant: Instrument = Instrument {
            #[cfg(feature = "opentelemetry")]
            name: $name,
            #[cfg(feature = "metrics")]
            prometheus: $prometheus,
            #[cfg(feature = "opentelemetry")]
            unit: $unit,
            description: $description,
        };)*

        #[cfg(test)]
        const ALL: &[(&str, &str, &str, &str)] = &[$(($name, $prometheus, $unit, $description),)*];
    };
}

instruments! {
    DURATION, "confidential_client.token.acquisition.duration",
        "confidential_client_token_acquisition_duration_seconds", "s",
        "Duration of token requests, retries included.";
    ATTEMPTS, "confidential_client.token.acquisition.attempts",
        "confidential_client_token_acquisition_attempts_total", "{attempt}",
        "HTTP requests sent for tokens.";
    REMAINING, "confidential_client.token.remaining_lifetime",
        "confidential_client_token_remaining_lifetime_seconds", "s",
        "Shortest remaining lifetime of the tokens in use, 0 if callers get errors.";
    ENTRIES, "confidential_client.token.cache.entries",
        "confidential_client_token_cache_entries", "{entry}",
        "Entries of the cache in memory.";
    HITS, "confidential_client.token.cache.hits",
        "confidential_client_token_cache_hits_total", "{hit}",
        "Calls that the cache in memory served.";
    MISSES, "confidential_client.token.cache.misses",
        "confidential_client_token_cache_misses_total", "{miss}",
        "Calls that the cache in memory could not serve.";
    EVICTIONS, "confidential_client.token.cache.evictions",
        "confidential_client_token_cache_evictions_total", "{eviction}",
        "Entries evicted by the maximum number of entries.";
    COOL_DOWNS, "confidential_client.token.cache.cool_downs",
        "confidential_client_token_cache_cool_downs", "{entry}",
        "Entries that send no token request for a while after a failure.";
    LOCK_WAIT, "confidential_client.shared_cache.lock_wait.duration",
        "confidential_client_shared_cache_lock_wait_duration_seconds", "s",
        "Waits for the token request of another process.";
    SHARED_CACHE_FAILURES, "confidential_client.shared_cache.failures",
        "confidential_client_shared_cache_failures_total", "{failure}",
        "Failed calls of the shared cache.";
    CIRCUIT_BREAKER, "confidential_client.circuit_breaker.open",
        "confidential_client_circuit_breaker_open", "{circuit}",
        "1 while the identity provider counts as down, else 0.";
}

macro_rules! attributes {
    ($($constant:ident, $name:literal, $prometheus:literal;)*) => {
        $(pub(super) const $constant: Attribute = Attribute {
            #[cfg(feature = "opentelemetry")]
            name: $name,
            #[cfg(feature = "metrics")]
            prometheus: $prometheus,
        };)*

        #[cfg(test)]
        const ALL_ATTRIBUTES: &[(&str, &str)] = &[$(($name, $prometheus),)*];
    };
}

attributes! {
    NAME, "confidential_client.name", "confidential_client_name";
    SERVER_ADDRESS, "server.address", "server_address";
    OUTCOME, "confidential_client.outcome", "confidential_client_outcome";
    SOURCE, "confidential_client.token.source", "confidential_client_token_source";
    REFRESH, "confidential_client.refresh", "confidential_client_refresh";
    ERROR_TYPE, "error.type", "error_type";
    STATUS_CODE, "http.response.status_code", "http_response_status_code";
    ENTRY_STATE, "confidential_client.entry.state", "confidential_client_entry_state";
}

/// The attributes that all numbers of a client have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct ClientAttributes {
    /// The name that the program gave to the client.
    pub(super) name: Option<Arc<str>>,
    pub(super) server_address: Option<Arc<str>>,
}

/// The value of an attribute.
pub(super) enum Value {
    Text(Arc<str>),
    Label(&'static str),
    Flag(bool),
    Number(u16),
}

impl ClientAttributes {
    pub(super) fn each(&self) -> impl Iterator<Item = (Attribute, Value)> {
        let name = self.name.clone().map(|name| (NAME, Value::Text(name)));
        let address = self.server_address.clone();
        let address = address.map(|address| (SERVER_ADDRESS, Value::Text(address)));
        name.into_iter().chain(address)
    }

    /// Returns the attributes of a token request.
    pub(super) fn with(
        &self,
        acquisition: &Acquisition,
    ) -> impl Iterator<Item = (Attribute, Value)> {
        let (outcome, error) = match acquisition.outcome {
            Outcome::Issued => ("issued", None),
            failed @ Outcome::Failed(_) => ("failed", Some(failed.as_str())),
        };
        let status = acquisition.status;
        [
            (OUTCOME, Value::Label(outcome)),
            (SOURCE, Value::Label(acquisition.source.as_str())),
            (REFRESH, Value::Flag(acquisition.is_refresh)),
        ]
        .into_iter()
        .chain(error.map(|error| (ERROR_TYPE, Value::Label(error))))
        .chain(status.map(|status| (STATUS_CODE, Value::Number(status))))
        .chain(self.each())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUIDE: &str = include_str!("../../docs/metrics.md");

    /// The rules of OpenTelemetry's exporters for Prometheus.
    #[test]
    fn both_spellings_are_of_the_same_name() {
        for (name, prometheus, unit, _) in ALL {
            let seconds = if *unit == "s" { "_seconds" } else { "" };
            let spelled = format!("{}{seconds}", name.replace('.', "_"));
            let total = format!("{spelled}_total");
            assert!(*prometheus == spelled || *prometheus == total, "{name}");
        }
        for (name, prometheus) in ALL_ATTRIBUTES {
            assert_eq!(name.replace('.', "_"), *prometheus);
        }
    }

    #[test]
    fn the_guide_has_a_row_for_each_instrument_and_each_attribute() {
        let row = |start: &str| {
            let row = GUIDE.lines().find(|line| line.starts_with(start));
            row.unwrap_or_else(|| panic!("no row {start}"))
        };
        for (name, prometheus, unit, description) in ALL {
            let row = row(&format!("| `{name}` | "));
            assert!(row.contains(&format!("| `{prometheus}` |")), "{row}");
            assert!(row.contains(&format!(" `{unit}` |")), "{row}");
            assert!(row.contains(description.trim_end_matches('.')), "{row}");
        }
        for (name, prometheus) in ALL_ATTRIBUTES {
            row(&format!("| `{name}` | `{prometheus}` |"));
        }
        let rows = GUIDE
            .lines()
            .filter(|line| line.starts_with("| `") && !line.contains("(conf"));
        assert_eq!(rows.count(), ALL.len() + ALL_ATTRIBUTES.len());
    }
}
