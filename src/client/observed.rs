//! A client as the adapters for metrics see it.

use std::sync::{Arc, Weak};

use super::TokenAcquirer;
use super::acquire::Shared;
use super::issuer::Issuer;
use crate::cache::{CacheFigures, CacheStats, KeptCounters};
use crate::metrics::Acquisition;
use crate::shared_cache::SharedLevel;

/// The numbers of one client. Keeps the counters, and not the client.
pub(crate) struct ObservedClient {
    client: Weak<Shared>,
    /// Held by tasks that outlive the client, and count failures of the shared cache.
    level: Option<Weak<SharedLevel>>,
    counters: KeptCounters,
}

impl TokenAcquirer {
    /// Adds the callback of an adapter, and returns the client's numbers. `None` if the adapter
    /// observes the client already.
    pub(crate) fn observe(
        &self,
        adapter: u64,
        callback: impl Fn(&Acquisition) + Send + Sync + 'static,
    ) -> Option<ObservedClient> {
        let issuer = &self.0.issuer;
        let observer = match issuer {
            Issuer::Confidential(fetcher) => &fetcher.observer,
            Issuer::ManagedIdentity(fetcher) => fetcher.observer(),
            Issuer::CredentialChain(fetcher) => fetcher.observer(),
        };
        let level = issuer.shared();
        let shared = level.map(|level| Arc::clone(&level.counters));
        observer.add(adapter, callback).then(|| ObservedClient {
            client: Arc::downgrade(&self.0),
            level: level.map(Arc::downgrade),
            counters: self.0.cache.keep_counters(shared),
        })
    }

    /// Returns the host that gets the token requests. `None` for a chain, whose links have several.
    pub(crate) fn server_address(&self) -> Option<Arc<str>> {
        match &self.0.issuer {
            Issuer::Confidential(fetcher) => {
                fetcher.endpoints.token_origin().host_str().map(Arc::from)
            }
            Issuer::ManagedIdentity(fetcher) => fetcher.host().map(Arc::from),
            Issuer::CredentialChain(_) => None,
        }
    }
}

impl ObservedClient {
    pub(crate) fn stats(&self) -> CacheStats {
        self.counters.read()
    }

    /// Returns what is cached now. `None` once the client was dropped.
    pub(crate) fn figures(&self) -> Option<CacheFigures> {
        Some(self.client.upgrade()?.cache.figures())
    }

    /// Returns `true` if the client was dropped, and the counters do not change any more.
    pub(crate) fn is_gone(&self) -> bool {
        let level = self.level.as_ref();
        self.client.strong_count() == 0 && level.is_none_or(|level| level.strong_count() == 0)
    }
}
