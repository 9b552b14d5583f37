//! The token request of a chain: checks, fetch, report.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use crate::client::fetch::{Fetch, Phase};
use crate::client::resolve::ResolvedRequest;
use crate::credential_chain::{Chain, LinkRequest, LinkToken};
use crate::error::{Error, Failure};
use crate::metrics::Observer;
use crate::request::TokenRequest;
use crate::time::{TimeSource, jitter};
use crate::token::IssuedToken;

/// Fetches the tokens of a chain, and reports each fetch.
pub(in crate::client) struct ChainFetcher {
    pub(super) chain: Chain,
    /// The time limit of a token request through all links.
    pub(super) deadline: Duration,
    pub(super) observer: Observer,
    pub(super) clock: TimeSource,
}

impl ChainFetcher {
    /// Checks everything that can be known before the network.
    ///
    /// The key has the resource's `/.default` scope, even if the request has the resource alone.
    pub(in crate::client) fn resolve(request: TokenRequest) -> Result<ResolvedRequest, Error> {
        ResolvedRequest::of_resource(
            request,
            "each credential of a chain has tokens of its own tenant; leave tenant(..) out, and set the tenant in AZURE_TENANT_ID or AzureCli::tenant(..)",
            "not every credential of a chain sends one; leave form_parameter(..), query_parameter(..), header(..) and client_assertion_claims(..) out",
        )
    }

    #[cfg(any(feature = "metrics", feature = "opentelemetry"))]
    pub(in crate::client) fn observer(&self) -> &Observer {
        &self.observer
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
        let request = LinkRequest {
            scopes: &fetch.scopes,
            tenant: None,
            claims: fetch.claims.as_deref(),
            rejected_token: fetch.rejected,
            correlation_id,
            deadline,
            spare: self.deadline.saturating_sub(self.chain.time_limit()),
            on_send: &|| fetch.enter(Phase::Response),
        };
        let key = fetch.key.clone();
        let token = match self.chain.fetch(&request).await? {
            LinkToken::Application(issued) => return Ok(issued.belonging_to(key)),
            LinkToken::Identity(token) => token,
        };
        let issued = token.into_issued(key, fetch.scopes.clone(), correlation_id, jitter());
        issued.ok_or_else(|| {
            let message = "the token of the credential chain cannot be sent in a header";
            Error::InvalidResponse(Failure::new(message).correlation_id(correlation_id).into())
        })
    }
}

/// Shows the client.
impl fmt::Debug for ChainFetcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialChainClient")
            .field("links", &self.chain.names().collect::<Vec<_>>())
            .field("selected_link", &self.chain.winner())
            .finish_non_exhaustive()
    }
}
