//! The clients that an adapter for metrics observes.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::instruments::ClientAttributes;
use crate::cache::{CacheFigures, CacheStats};
use crate::client::{
    ConfidentialClient, CredentialChainClient, ManagedIdentityClient, ObservedClient, TokenAcquirer,
};
use crate::metrics::Acquisition;

/// A client that an adapter for metrics can observe.
///
/// Made from a reference to a [`ConfidentialClient`], a [`ManagedIdentityClient`] or a
/// [`CredentialChainClient`].
#[derive(Clone, Copy, Debug)]
pub struct ObservableClient<'a>(&'a TokenAcquirer);

impl<'a> From<&'a ConfidentialClient> for ObservableClient<'a> {
    fn from(client: &'a ConfidentialClient) -> Self {
        Self(client.acquirer())
    }
}

impl<'a> From<&'a ManagedIdentityClient> for ObservableClient<'a> {
    fn from(client: &'a ManagedIdentityClient) -> Self {
        Self(client.acquirer())
    }
}

impl<'a> From<&'a CredentialChainClient> for ObservableClient<'a> {
    fn from(client: &'a CredentialChainClient) -> Self {
        Self(client.acquirer())
    }
}

/// The clients of one adapter, each held weakly.
///
/// The counters of a client that was dropped stay in the sums, since a counter never falls.
pub(super) struct ObservedClients {
    /// Tells the adapters of a process apart.
    adapter: u64,
    clients: Mutex<Clients>,
}

#[derive(Default)]
struct Clients {
    /// The attributes of all clients so far. A counter never falls, so no attributes are removed.
    known: HashSet<ClientAttributes>,
    observed: Vec<(ClientAttributes, Arc<ObservedClient>)>,
    /// The sums of clients that were dropped.
    gone: HashMap<ClientAttributes, Counts>,
    /// The number of clients at which those that were dropped are looked for.
    clean_up_at: usize,
}

/// The counters of clients with the same attributes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) hits: u64,
    pub(super) misses: u64,
    pub(super) evictions: u64,
    pub(super) shared_cache_failures: u64,
}

impl ObservedClients {
    pub(super) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            adapter: NEXT.fetch_add(1, Ordering::Relaxed),
            clients: Mutex::default(),
        }
    }

    /// Adds a client, and calls `record` for each of its token requests from now on. Without effect
    /// for a client that was added before.
    pub(super) fn add(
        &self,
        client: ObservableClient<'_>,
        name: Option<&str>,
        record: impl Fn(&ClientAttributes, &Acquisition) + Send + Sync + 'static,
    ) {
        let ObservableClient(client) = client;
        let attributes = self.lock().admit(ClientAttributes {
            name: name.map(Into::into),
            server_address: client.server_address(),
        });
        let callback = {
            let attributes = attributes.clone();
            move |acquisition: &Acquisition| record(&attributes, acquisition)
        };
        if let Some(observed) = client.observe(self.adapter, callback) {
            let mut clients = self.lock();
            clients.observed.push((attributes, Arc::new(observed)));
            if clients.observed.len() >= clients.clean_up_at {
                clients.clean_up();
                clients.clean_up_at = MIN_CLEAN_UP.max(2 * clients.observed.len());
            }
        }
    }

    /// Returns the counters of all clients so far, also of those that were dropped.
    pub(super) fn counts(&self) -> HashMap<ClientAttributes, Counts> {
        let mut clients = self.lock();
        clients.clean_up();
        let mut sums = clients.gone.clone();
        for (attributes, client) in &clients.observed {
            let sum = sums.entry(attributes.clone()).or_default();
            sum.add(&client.stats());
        }
        sums
    }

    /// Returns what the caches of the clients hold now. Looks at each entry.
    pub(super) fn figures(&self) -> HashMap<ClientAttributes, CacheFigures> {
        // Without the lock, since a client may have many entries, or be dropped here.
        let clients = self.lock().observed.clone();
        let mut sums = HashMap::<_, CacheFigures>::new();
        for (attributes, client) in clients {
            if let Some(figures) = client.figures() {
                let sum = sums.entry(attributes);
                sum.and_modify(|sum| sum.merge(&figures)).or_insert(figures);
            }
        }
        sums
    }

    fn lock(&self) -> MutexGuard<'_, Clients> {
        // Every field is whole after each statement.
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clients {
    /// Returns the attributes, or those of all further clients if too many clients differ.
    fn admit(&mut self, attributes: ClientAttributes) -> ClientAttributes {
        if self.known.contains(&attributes) {
            return attributes;
        }
        if self.known.len() < MAX_ATTRIBUTES {
            self.known.insert(attributes.clone());
            return attributes;
        }
        let other = ClientAttributes {
            name: Some(OTHER.into()),
            server_address: None,
        };
        if self.known.insert(other.clone()) {
            tracing::warn!(
                "more than {MAX_ATTRIBUTES} names and hosts of clients are observed, and the metrics of all further ones have the name `{OTHER}`"
            );
        }
        other
    }

    /// Moves the counters of clients that were dropped into the sums.
    fn clean_up(&mut self) {
        let Self { observed, gone, .. } = self;
        observed.retain(|(attributes, client)| {
            let is_gone = client.is_gone();
            if is_gone {
                let sum = gone.entry(attributes.clone()).or_default();
                sum.add(&client.stats());
            }
            !is_gone
        });
    }
}

impl Counts {
    fn add(&mut self, stats: &CacheStats) {
        self.hits += stats.hits.unwrap_or(0);
        self.misses += stats.misses;
        self.evictions += stats.evictions;
        self.shared_cache_failures += stats.shared_cache_failures;
    }
}

const MIN_CLEAN_UP: usize = 16;
/// The number of names and hosts with separate time series.
const MAX_ATTRIBUTES: usize = 100;
/// The name of all clients beyond.
const OTHER: &str = "other";

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{Request, Response};

    use super::*;

    fn client() -> ConfidentialClient {
        let respond = |_: Request<Bytes>| async {
            let body = r#"{"token_type":"Bearer","expires_in":3599,"access_token":"abc"}"#;
            Ok(Response::new(Bytes::from(body)))
        };
        ConfidentialClient::builder("11111111-2222-3333-4444-555555555555")
            .tenant("contoso.onmicrosoft.com")
            .client_secret("the secret's value")
            .transport(respond)
            .build()
            .unwrap()
    }

    /// Each adapter keeps the counters of a client, and must not keep those of the other adapter.
    #[tokio::test]
    async fn a_client_that_two_adapters_observe_is_forgotten_by_both() {
        let adapters = [ObservedClients::new(), ObservedClients::new()];
        let most = 100;
        for _ in 0..most {
            let client = client();
            for adapter in &adapters {
                adapter.add((&client).into(), None, |_, _| {});
            }
            let token = client.acquire_token_for_client("https://graph.microsoft.com/.default");
            token.await.unwrap();
        }
        tokio::task::yield_now().await;
        for adapter in &adapters {
            let observed = adapter.lock().observed.len();
            assert!(
                observed < 2 * MIN_CLEAN_UP,
                "{observed} without a collection"
            );
            let misses: u64 = adapter.counts().values().map(|counts| counts.misses).sum();
            assert_eq!(misses, most);
            assert!(adapter.lock().observed.is_empty());
        }
    }
}
