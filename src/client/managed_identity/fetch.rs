//! The token request of a managed identity: checks, fetch, report.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use crate::client::fetch::{Fetch, Phase};
use crate::client::resolve::ResolvedRequest;
use crate::error::{Error, Failure};
use crate::managed_identity::{
    IdentityTokenRequest, ManagedIdentity, ManagedIdentityFetcher, Resource,
};
use crate::metrics::Observer;
use crate::request::TokenRequest;
use crate::time::{TimeSource, jitter};
use crate::token::IssuedToken;

/// Fetches the tokens of one managed identity, and reports each fetch.
pub(in crate::client) struct IdentityFetcher {
    pub(super) fetcher: ManagedIdentityFetcher,
    /// The time limit of a token request with all retries.
    pub(super) deadline: Duration,
    pub(super) observer: Observer,
    pub(super) clock: TimeSource,
}

impl IdentityFetcher {
    pub(super) fn deadline(&self) -> Duration {
        self.deadline
    }

    pub(super) fn identity(&self) -> &ManagedIdentity {
        self.fetcher.identity()
    }

    pub(super) fn clock(&self) -> &TimeSource {
        &self.clock
    }

    #[cfg(any(feature = "metrics", feature = "opentelemetry"))]
    pub(in crate::client) fn observer(&self) -> &Observer {
        &self.observer
    }

    /// Returns the host of the endpoint that the environment selects.
    #[cfg(any(feature = "metrics", feature = "opentelemetry"))]
    pub(in crate::client) fn host(&self) -> Option<String> {
        self.fetcher.host()
    }

    /// Checks everything that can be known before the network.
    ///
    /// The key has the resource's `/.default` scope, even if the request has the resource alone.
    pub(in crate::client) fn resolve(request: TokenRequest) -> Result<ResolvedRequest, Error> {
        ResolvedRequest::of_resource(
            request,
            "a managed identity has tokens of its own tenant alone; leave tenant(..) out",
            "the endpoints of managed identities accept none; leave form_parameter(..), query_parameter(..), header(..) and client_assertion_claims(..) out",
        )
    }

    /// Fetches a token by the deadline, and reports the outcome to the span and the observer.
    pub(in crate::client) async fn fetch(
        &self,
        fetch: &Fetch,
        deadline: Instant,
    ) -> Result<IssuedToken, Error> {
        let requesting = self.request_token(fetch, deadline);
        fetch.measure(requesting, &self.clock, &self.observer).await
    }

    async fn request_token(&self, fetch: &Fetch, deadline: Instant) -> Result<IssuedToken, Error> {
        let correlation_id = fetch.correlation_id.as_str();
        let request = IdentityTokenRequest {
            resource: &Resource::of_key(&fetch.key.scopes),
            correlation_id,
            is_revoked: fetch.claims.is_some() || fetch.rejected.is_some(),
            rejected_token: fetch.rejected,
            on_send: &|| fetch.enter(Phase::Response),
        };
        let token = self.fetcher.fetch(request, deadline).await?;
        let (key, scopes) = (fetch.key.clone(), fetch.scopes.clone());
        let issued = token.into_issued(key, scopes, correlation_id, jitter());
        issued.ok_or_else(|| {
            let message = "the token of the managed identity endpoint cannot be sent in a header";
            Error::InvalidResponse(Failure::new(message).correlation_id(correlation_id).into())
        })
    }
}

/// Shows the client.
impl fmt::Debug for IdentityFetcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManagedIdentityClient")
            .field("identity", self.fetcher.identity())
            .finish_non_exhaustive()
    }
}
