use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::cache::{Cache, CacheOptions};

mod acquire;
mod application; // First, so that rustdoc shows its methods first.
mod builder;
mod delegated;
mod environment;
mod fetch;
mod fetch_for_user;
mod provider;
mod requests_by_text;
mod sign_in;
mod token_cache;
mod warm_up;

pub use builder::ConfidentialClientBuilder;
use fetch::TokenFetcher;
pub use provider::TokenProvider;
use requests_by_text::RequestsByText;
pub use token_cache::TokenCache;
pub use warm_up::WarmUp;

/// An OAuth 2.0 confidential client: an application that authenticates with a credential.
///
/// Create one client per process with [`builder`](Self::builder), and share the client. A client is
/// cheap to clone (an `Arc` inside), and holds the token cache and the HTTP connections. Every
/// method takes `&self`.
///
/// Methods that may send a token request need a tokio runtime with time and I/O enabled, such as
/// the one of `#[tokio::main]`. A runtime without time panics, as tokio's own timers do.
///
/// A process that forks creates its client in the child, after `fork`. The parent's threads do not
/// exist in the child, a lock that a parent thread held stays locked, and a shared connection would
/// mix requests. Programs started with `exec`, such as by [`std::process::Command`], are not
/// affected.
#[doc(alias = "ConfidentialClientApplication")]
#[doc(alias = "ClientSecretCredential")]
#[doc(alias = "ClientCertificateCredential")]
#[derive(Clone)]
pub struct ConfidentialClient(Arc<Inner>);

struct Inner {
    /// Tells the clients of a process apart, in what requests remember.
    id: u64,
    requests: RequestsByText,
    cache: Cache,
    fetcher: Arc<TokenFetcher>,
}

impl ConfidentialClient {
    fn new(options: &CacheOptions, fetcher: TokenFetcher) -> Self {
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        let limit = fetcher.retry.total_timeout();
        Self(Arc::new(Inner {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            requests: RequestsByText::default(),
            cache: Cache::new(options, limit, fetcher.clock.clone()),
            fetcher: Arc::new(fetcher),
        }))
    }
}

impl fmt::Debug for ConfidentialClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fetcher = &self.0.fetcher;
        f.debug_struct("ConfidentialClient")
            .field("client_id", &fetcher.client_id)
            .field("authority", &fetcher.endpoints.to_string())
            .field("credential", &fetcher.credential)
            .finish_non_exhaustive()
    }
}
