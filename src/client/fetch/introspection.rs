//! The introspection request, which authenticates the client as a token request does.

use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use tokio::time::Instant;
use uuid::Uuid;

use super::{Attempt, AuthenticatedRequest, Fetch, Phase, TokenFetcher};
use crate::error::Error;
use crate::request::IntrospectionHttpRequest;
use crate::request::parameters::Parameters;
use crate::response::IntrospectionResponse;
use crate::scope::ScopeSet;
use crate::secret::Secret;
use crate::token::{CacheKey, TokenBinding};

/// A token to introspect, and the endpoint if the caller names one.
#[derive(Clone, Copy)]
struct IntrospectionRequest<'a> {
    token: &'a Secret,
    endpoint: Option<&'a Uri>,
}

impl TokenFetcher {
    /// Sends a token to the introspection endpoint ([RFC 7662 section 2.1]) within `limit`.
    ///
    /// Retries as a token request does.
    ///
    /// [RFC 7662 section 2.1]: https://www.rfc-editor.org/rfc/rfc7662#section-2.1
    pub(in crate::client) async fn introspect(
        &self,
        token: &Secret,
        endpoint: Option<&Uri>,
        limit: Duration,
    ) -> Result<IntrospectionResponse, Error> {
        let request = IntrospectionRequest { token, endpoint };
        let fetch = Fetch {
            // The response belongs to no request for a token.
            key: Arc::new(CacheKey {
                tenant: None,
                scopes: ScopeSet::default(),
                user: None,
                parameters: Parameters::default(),
            }),
            tenant: None,
            scopes: "".into(),
            claims: None,
            headers: Default::default(),
            rejected: None,
            correlation_id: Uuid::new_v4().to_string(),
            is_refresh: false,
            requirements: Default::default(),
            has_token: false,
            anchor_mailbox: Default::default(),
            identity: Default::default(),
            binding: TokenBinding::Unbound,
            progress: Default::default(),
            agent: None,
        };
        let limit = limit.min(self.retry.total_timeout());
        let deadline = Instant::now() + limit;
        match tokio::time::timeout_at(deadline, self.request(&fetch, request, deadline)).await {
            Ok(result) => result,
            Err(_) => Err(fetch.timeout_error(limit)),
        }
    }

    async fn introspect_once(
        &self,
        fetch: &Fetch,
        attempt: Attempt<'_>,
        request: IntrospectionRequest<'_>,
        deadline: Instant,
    ) -> Result<IntrospectionResponse, Error> {
        let id = fetch.correlation_id.as_str();
        fetch.enter(Phase::Discovery);
        let discovery = self.lookup(id);
        let endpoint = self
            .endpoints
            .introspection_endpoint(request.endpoint, &discovery)
            .await?;
        fetch.enter(Phase::Credential);
        let authentication = self.authenticate(fetch, attempt, &endpoint.token).await?;
        let http = IntrospectionHttpRequest {
            endpoint: &endpoint.uri,
            client_id: &self.client_id,
            client_auth: &authentication,
            token: request.token,
            correlation_id: id,
        };
        let http = http.to_http()?;
        tracing::debug!(correlation_id = id, "introspection request");
        fetch.enter(Phase::IntrospectionResponse);
        let identity = attempt.identity;
        let sending = self.send(http, identity, None, INTROSPECTION_ENDPOINT, id, deadline);
        let response = sending.await?;
        let status = response.status().as_u16();
        tracing::debug!(correlation_id = id, status, "introspection response");
        let now = self.clock.now();
        let origin = self.credential.origin();
        let secrets: Vec<&Secret> = authentication.secrets().chain([request.token]).collect();
        let context = self.response_context(fetch, &origin, &secrets, INTROSPECTION_ENDPOINT);
        let parsed = IntrospectionResponse::parse(&response, &context, now);
        parsed.map_err(|error| attempt.explain(error, &authentication, response.headers(), now))
    }
}

impl AuthenticatedRequest for IntrospectionRequest<'_> {
    type Response = IntrospectionResponse;

    const NAME: &'static str = "an introspection request";

    fn can_be_sent(self) -> bool {
        true
    }

    async fn attempt(
        self,
        fetcher: &TokenFetcher,
        fetch: &Fetch,
        attempt: Attempt<'_>,
        deadline: Instant,
    ) -> Result<IntrospectionResponse, Error> {
        fetcher
            .introspect_once(fetch, attempt, self, deadline)
            .await
    }
}

const INTROSPECTION_ENDPOINT: &str = "the introspection endpoint";
