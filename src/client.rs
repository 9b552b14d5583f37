use std::fmt;
use std::sync::Arc;

use crate::cache::CacheOptions;

mod acquire;
mod agent;
mod application; // First, so that rustdoc shows its methods first.
#[cfg(feature = "blocking")]
mod at_once;
mod authorize;
mod builder;
mod credential_chain;
mod delegated;
mod end_session;
mod environment;
mod fapi2;
mod fetch;
mod fetch_for_user;
mod fetch_shared;
mod introspection;
mod issuer;
mod kept_id_token;
mod long_running;
mod managed_identity;
#[cfg(any(feature = "metrics", feature = "opentelemetry"))]
mod observed;
mod proofs;
mod provider;
mod requests_by_text;
mod resolve;
mod sessions;
mod sign_in;
mod token_cache;
mod user_fic;
mod warm_up;

pub(crate) use acquire::TokenAcquirer;
#[cfg(feature = "blocking")]
pub(crate) use agent::Acting;
pub use agent::AgentIdentity;
pub use authorize::AuthorizeRequest;
#[cfg(any(feature = "reqwest-middleware", feature = "tower"))]
pub(crate) use authorize::check_attachable;
#[cfg(feature = "blocking")]
pub(crate) use authorize::{Target, attach_or_target, attach_with_proof};
pub use builder::ConfidentialClientBuilder;
pub use credential_chain::{CredentialChainClient, CredentialChainClientBuilder};
use fetch::TokenFetcher;
use issuer::Issuer;
pub use managed_identity::{ManagedIdentityClient, ManagedIdentityClientBuilder};
#[cfg(any(feature = "metrics", feature = "opentelemetry"))]
pub(crate) use observed::ObservedClient;
#[cfg(any(feature = "reqwest-middleware", feature = "tower"))]
pub(crate) use proofs::{Proof, ProofRepetitions, rejection_code};
pub use provider::TokenProvider;
#[cfg(feature = "blocking")]
pub(crate) use resolve::ResolvedRequest;
#[cfg(any(feature = "azure-core", feature = "blocking"))]
pub(crate) use resolve::Subject;
pub use token_cache::TokenCache;
#[cfg(feature = "blocking")]
pub(crate) use user_fic::FederatedUser;
pub use warm_up::WarmUp;

/// An OAuth 2.0 confidential client: an application that authenticates with a credential.
///
/// Create one client per process with [`builder`](Self::builder), and share the client. A client is
/// cheap to clone (two `Arc`s inside), and holds the token cache and the HTTP connections. Every
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
pub struct ConfidentialClient {
    acquirer: TokenAcquirer,
    fetcher: Arc<TokenFetcher>,
}

impl ConfidentialClient {
    fn from_parts(options: &CacheOptions, fetcher: TokenFetcher) -> Self {
        let limit = fetcher.retry.total_timeout();
        let clock = fetcher.clock.clone();
        let fetcher = Arc::new(fetcher);
        let issuer = Issuer::Confidential(Arc::clone(&fetcher));
        let acquirer = TokenAcquirer::new(options, limit, clock, issuer);
        if let Some(transport) = &fetcher.mutual_tls {
            acquirer.follow_rotations(transport.mutual_tls());
        }
        Self { acquirer, fetcher }
    }

    /// Returns the part of the client that does not depend on the kind of the client.
    #[cfg(any(
        feature = "azure-core",
        feature = "blocking",
        feature = "metrics",
        feature = "opentelemetry"
    ))]
    pub(crate) fn acquirer(&self) -> &TokenAcquirer {
        &self.acquirer
    }
}

impl fmt::Debug for ConfidentialClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fetcher.fmt(f)
    }
}

/// Shows the client.
impl fmt::Debug for TokenFetcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfidentialClient")
            .field("client_id", &self.client_id)
            .field("authority", &self.endpoints.to_string())
            .field("credential", &self.credential)
            .finish_non_exhaustive()
    }
}
