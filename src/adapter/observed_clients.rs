//! The clients that an adapter for metrics observes.

use std::collections::HashMap;
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
        let attributes = ClientAttributes {
            name: name.map(Into::into),
            server_address: client.server_address(),
        };
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
