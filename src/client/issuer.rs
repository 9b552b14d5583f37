//! The issuer of a client's tokens, by the kind of the client.

use std::fmt;
use std::sync::Arc;

use tokio::time::Instant;

use super::credential_chain::ChainFetcher;
use super::fetch::{Fetch, TokenFetcher};
use super::fetch_for_user::FlightGrant;
use super::fetch_shared::SharedFetch;
use super::managed_identity::IdentityFetcher;
use super::proofs::Proofs;
use super::resolve::{ResolvedRequest, Subject};
use crate::cache::FlightOutcome;
use crate::error::Error;
use crate::request::TokenRequest;
use crate::shared_cache::SharedLevel;
use crate::time::TimeSource;
#[cfg(feature = "azure-core")]
use crate::token::TokenScheme;
use crate::token::{TokenBinding, TokenSource};

/// The sender of a client's token requests.
///
/// A flight holds an issuer and never the client: dropping the client ends all flights.
#[derive(Clone)]
pub(super) enum Issuer {
    /// The identity provider, for an application with a credential.
    Confidential(Arc<TokenFetcher>),
    /// The endpoint of the host, for a managed identity.
    ManagedIdentity(Arc<IdentityFetcher>),
    /// The first available link of a credential chain.
    CredentialChain(Arc<ChainFetcher>),
}

impl Issuer {
    /// Checks everything that can be known before the network.
    pub(super) fn resolve(
        &self,
        request: TokenRequest,
        subject: Subject,
    ) -> Result<ResolvedRequest, Error> {
        match self {
            Self::Confidential(fetcher) => fetcher.resolve(request, subject),
            Self::ManagedIdentity(_) => IdentityFetcher::resolve(request),
            Self::CredentialChain(_) => ChainFetcher::resolve(request),
        }
    }

    /// Returns the scopes of the token request.
    pub(super) fn scopes_to_send(&self, request: &ResolvedRequest) -> Arc<str> {
        match self {
            Self::Confidential(fetcher) => fetcher.scopes_to_send(request),
            Self::ManagedIdentity(_) | Self::CredentialChain(_) => {
                request.key.scopes.as_str().into()
            }
        }
    }

    /// Fetches a token by the deadline.
    pub(super) async fn fetch(
        &self,
        fetch: Fetch,
        grant: FlightGrant,
        deadline: Instant,
    ) -> FlightOutcome {
        let step = fetch.agent_step();
        let user = fetch.key.user.clone();
        let outcome = self.fetch_step(fetch, grant, deadline).await;
        outcome.map_err(|mut error| {
            if user.is_some_and(|user| user.is_federated()) {
                error = error.about_user_credential();
            }
            match &step {
                None => error,
                Some(step) => error.in_chain(step),
            }
        })
    }

    async fn fetch_step(
        &self,
        fetch: Fetch,
        grant: FlightGrant,
        deadline: Instant,
    ) -> FlightOutcome {
        let issued = match self {
            Self::Confidential(fetcher) => match &fetcher.shared {
                None => fetcher.fetch(&fetch, grant, deadline).await,
                // Boxed, to keep the flight of an application small.
                Some(level) => {
                    let shared = SharedFetch {
                        level: Arc::clone(level),
                        fetcher: Arc::clone(fetcher),
                        fetch,
                        deadline,
                    };
                    return Box::pin(shared.fetch(grant)).await;
                }
            },
            Self::ManagedIdentity(fetcher) => Box::pin(fetcher.fetch(&fetch, deadline)).await,
            Self::CredentialChain(fetcher) => Box::pin(fetcher.fetch(&fetch, deadline)).await,
        };
        Ok((Arc::new(issued?), TokenSource::IdentityProvider))
    }

    /// Returns the key that the next token must be bound to.
    pub(super) fn token_binding(&self) -> TokenBinding {
        match self {
            Self::Confidential(fetcher) => fetcher.token_binding(),
            Self::ManagedIdentity(_) | Self::CredentialChain(_) => TokenBinding::Unbound,
        }
    }

    /// Returns the scheme of the next token.
    #[cfg(feature = "azure-core")]
    pub(super) fn token_scheme(&self) -> TokenScheme {
        match self {
            Self::Confidential(fetcher) => fetcher.token_scheme(),
            Self::ManagedIdentity(_) | Self::CredentialChain(_) => TokenScheme::Bearer,
        }
    }

    /// Returns the proofs of a client with a proof key. Only an application may have one.
    pub(super) fn proofs(&self) -> Option<&Arc<Proofs>> {
        match self {
            Self::Confidential(fetcher) => fetcher.proofs.as_ref(),
            Self::ManagedIdentity(_) | Self::CredentialChain(_) => None,
        }
    }

    /// Returns the cache that the client shares with other processes.
    pub(super) fn shared(&self) -> Option<&Arc<SharedLevel>> {
        match self {
            Self::Confidential(fetcher) => fetcher.shared.as_ref(),
            Self::ManagedIdentity(_) | Self::CredentialChain(_) => None,
        }
    }

    /// Returns `true` if a refresh token in doubt must not be sent again.
    pub(super) fn rotates_refresh_tokens(&self) -> bool {
        match self {
            Self::Confidential(fetcher) => fetcher.refresh_token_rotation,
            Self::ManagedIdentity(_) | Self::CredentialChain(_) => false,
        }
    }

    /// Lets the next token request discover the metadata again.
    pub(super) fn force_refresh(&self, clock: &TimeSource) {
        match self {
            Self::Confidential(fetcher) => fetcher.endpoints.force_refresh(clock),
            Self::ManagedIdentity(_) | Self::CredentialChain(_) => {}
        }
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Confidential(fetcher) => fetcher.fmt(f),
            Self::ManagedIdentity(fetcher) => fetcher.fmt(f),
            Self::CredentialChain(fetcher) => fetcher.fmt(f),
        }
    }
}
