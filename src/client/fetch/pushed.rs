//! The pushed authorization request, which authenticates the client as a token request does.

use std::borrow::Cow;

use tokio::time::Instant;

use super::{Attempt, AuthenticatedRequest, Fetch, Phase, TokenFetcher};
use crate::endpoint::PushedEndpoint;
use crate::error::Error;
use crate::request::PushedHttpRequest;
use crate::response::PushedResponse;
use crate::secret::Secret;
use crate::token::Thumbprint;

/// The parameters of an authorization request, and the endpoint that they are pushed to.
#[derive(Clone, Copy)]
struct PushedRequest<'a> {
    endpoint: &'a PushedEndpoint,
    parameters: &'a [(&'a str, Cow<'a, str>)],
}

impl TokenFetcher {
    /// Pushes the parameters of an authorization request ([RFC 9126 section 2.1]).
    ///
    /// Retries as a token request does: the provider keeps each push apart.
    ///
    /// [RFC 9126 section 2.1]: https://www.rfc-editor.org/rfc/rfc9126#section-2.1
    pub(in crate::client) async fn push(
        &self,
        fetch: &Fetch,
        endpoint: &PushedEndpoint,
        parameters: &[(&str, Cow<'_, str>)],
    ) -> Result<PushedResponse, Error> {
        let request = PushedRequest {
            endpoint,
            parameters,
        };
        let deadline = Instant::now() + self.retry.total_timeout();
        let pushing = self.request(fetch, request, deadline);
        self.with_deadline(fetch, deadline, pushing).await
    }

    /// Returns the thumbprint of the key that authorization codes are bound to.
    ///
    /// A user may come back to another process, which does not have a generated key.
    pub(in crate::client) fn proof_key_of_codes(&self) -> Option<Thumbprint> {
        let proofs = self.proofs.as_ref()?;
        proofs.shared_key()
    }

    async fn push_once(
        &self,
        fetch: &Fetch,
        attempt: Attempt<'_>,
        request: PushedRequest<'_>,
        deadline: Instant,
    ) -> Result<PushedResponse, Error> {
        let id = fetch.correlation_id.as_str();
        fetch.enter(Phase::Credential);
        let endpoint = &request.endpoint.token;
        if attempt.identity.is_some() {
            // The token request after the sign-in would fail.
            self.check_certificate_binding(endpoint)?;
        }
        let authentication = self.authenticate(fetch, attempt, endpoint).await?;
        let http = PushedHttpRequest {
            endpoint: &request.endpoint.uri,
            client_auth: &authentication,
            parameters: request.parameters,
            headers: &fetch.headers,
            correlation_id: id,
        };
        let http = http.to_http()?;
        tracing::debug!(correlation_id = id, "pushed authorization request");
        fetch.enter(Phase::PushedResponse);
        let sending = self.send(http, attempt.identity, None, PUSHED_ENDPOINT, id, deadline);
        let response = sending.await?;
        let now = self.clock.now();
        let origin = self.credential.origin();
        let headers = fetch.headers.secrets();
        let secrets: Vec<&Secret> = authentication.secrets().chain(&headers).collect();
        let context = self.response_context(fetch, &origin, &secrets, PUSHED_ENDPOINT);
        let parsed = PushedResponse::parse(&response, &context, now);
        let pushed = parsed
            .map_err(|error| attempt.explain(error, &authentication, response.headers(), now))?;
        let expires_in_s = pushed.expires_in.as_secs();
        tracing::debug!(
            correlation_id = id,
            expires_in_s,
            "the authorization request is pushed"
        );
        Ok(pushed)
    }
}

impl AuthenticatedRequest for PushedRequest<'_> {
    type Response = PushedResponse;

    const NAME: &'static str = "a pushed authorization request";

    fn can_be_sent(self) -> bool {
        true
    }

    async fn attempt(
        self,
        fetcher: &TokenFetcher,
        fetch: &Fetch,
        attempt: Attempt<'_>,
        deadline: Instant,
    ) -> Result<PushedResponse, Error> {
        fetcher.push_once(fetch, attempt, self, deadline).await
    }
}

const PUSHED_ENDPOINT: &str = "the pushed authorization request endpoint";
