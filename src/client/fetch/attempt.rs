//! One attempt of a request that authenticates the client: proof, client authentication, HTTP.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, Uri};
use tokio::time::{Instant, timeout};

use super::{Fetch, Phase, TokenFetcher};
use crate::client::proofs::{Proof, ProofRejection, ProofRepetitions};
use crate::client_auth::ClientAuthentication;
use crate::credential::{AssertionContext, Credential};
use crate::dpop::PROOF;
use crate::endpoint::{Lookup, TokenEndpoint};
use crate::error::{CredentialOrigin, Error, Failure};
use crate::grant::{Grant, SingleUseGrant};
use crate::request::{AssertionClaimSet, TokenHttpRequest};
use crate::response::{self, ResponseContext, TokenResponse};
use crate::secret::Secret;
use crate::time::{self, Now, jitter};
use crate::token::{TokenBinding, TokenScheme};
use crate::transport::{SendOnce, TlsIdentity, no_response, was_not_sent};
#[cfg(all(feature = "reqwest", any(feature = "ring", feature = "rustls")))]
use crate::transport::{rejects_certificate, signing_error};

impl TokenFetcher {
    /// Sends one token request, and once more after each kind of rejected proof.
    ///
    /// A provider checks the proof before the grant is redeemed (RFC 9449 section 8), so a
    /// repetition is no retry. Each repetition has a new proof and a new assertion.
    async fn attempt(
        &self,
        fetch: &Fetch,
        attempt: Attempt<'_>,
        grant: Grant<'_>,
        deadline: Instant,
    ) -> Result<TokenResponse, Error> {
        let mut repetitions = ProofRepetitions::default();
        loop {
            // Boxed, since every caller up to the flight would hold the large future.
            let sending = Box::pin(self.send_once(fetch, attempt, grant, deadline));
            let failed = match sending.await {
                Ok(response) => return Ok(response),
                Err(failed) => failed,
            };
            match failed.rejection {
                Some(rejection) if grant.can_be_presented() && repetitions.allow(rejection) => {
                    tracing::debug!(
                        correlation_id = fetch.correlation_id,
                        reason = rejection.as_str(),
                        "the identity provider rejected a proof; the request is repeated with another"
                    );
                }
                _ => return Err(failed.error),
            }
        }
    }

    /// Sends one token request, and parses the response.
    async fn send_once(
        &self,
        fetch: &Fetch,
        attempt: Attempt<'_>,
        grant: Grant<'_>,
        deadline: Instant,
    ) -> Result<TokenResponse, FailedRequest> {
        let id = fetch.correlation_id.as_str();
        fetch.enter(Phase::Discovery);
        let discovery = self.lookup(id);
        let endpoint = self
            .endpoints
            .token_endpoint(fetch.tenant.as_ref(), &discovery)
            .await?;
        if attempt.identity.is_some() {
            self.check_certificate_binding(&endpoint)?;
        }
        fetch.enter(Phase::Credential);
        let authentication = self.authenticate(fetch, attempt, &endpoint).await?;
        // A token lives from when it was issued. The clock is read before the request is sent.
        let now = self.clock.now();
        let claims = self.capabilities.with(fetch.claims.as_deref());
        let request = TokenHttpRequest {
            endpoint: &endpoint.uri,
            client_id: self.client_id_of(fetch),
            client_auth: &authentication,
            grant,
            scopes: &fetch.scopes,
            parameters: &fetch.key.parameters,
            headers: &fetch.headers,
            anchor_mailbox: fetch.anchor_mailbox.get(),
            claims: claims.as_deref(),
            correlation_id: id,
            rules: self.endpoints.rules(),
            token_type: match fetch.binding() {
                TokenBinding::EntraCertificate(_) => Some(TokenScheme::MtlsPop.as_str()),
                _ => None,
            },
        };
        let mut request = request.to_http()?;
        let proof = self.prove(&mut request, &endpoint).await?;
        // After the deadline another request may redeem the refresh token. A runtime that stops and
        // continues notices the deadline here first.
        if Instant::now() >= deadline {
            return Err(fetch.timeout_error(self.retry.total_timeout()).into());
        }
        tracing::debug!(correlation_id = id, "token request");
        fetch.enter(Phase::Response);
        if let Some(grant) = grant.single_use() {
            request.extensions_mut().insert(SendOnce);
            // Before the request: a dropped task says nothing about a request that has left.
            grant.mark_sent();
        }
        let response = self
            .send(
                request,
                attempt.identity,
                grant.single_use(),
                TOKEN_ENDPOINT,
                id,
                deadline,
            )
            .await?;
        let status = response.status().as_u16();
        tracing::debug!(correlation_id = id, status, "token response");
        if let (Some(proofs), Some(proof)) = (&self.proofs, &proof) {
            proofs.learn(proof, response.headers());
        }
        let origin = match &fetch.agent {
            None => self.credential.origin(),
            Some(agent) => agent.origin(),
        };
        let headers = fetch.headers.secrets();
        let secrets = authentication.secrets().chain(grant.secrets());
        let secrets: Vec<&Secret> = secrets.chain(&headers).collect();
        let context = ResponseContext {
            is_interactive: grant.is_interactive(),
            is_token_exchange: grant.is_token_exchange(),
            binding: match attempt.identity {
                Some(identity) => self.binding_to(fetch, identity),
                None => fetch.binding,
            },
            longest_lifetime: attempt.identity.map(|identity| {
                // Without a valid certificate, no API accepts the token.
                let certificate = identity.certificate();
                let left = certificate.not_after().duration_since(now.wall());
                left.unwrap_or_default()
            }),
            ..self.response_context(fetch, &origin, &secrets, TOKEN_ENDPOINT)
        };
        let parsed = response::parse(&response, context, now, jitter())
            .map_err(|error| attempt.explain(error, &authentication, response.headers(), now));
        if let (Err(error), Some(grant)) = (&parsed, grant.single_use())
            && error.is_before_redemption()
        {
            grant.mark_not_redeemed();
        }
        let parsed = parsed.map_err(|error| FailedRequest {
            rejection: self.rejection(proof.as_ref(), &error, response.headers()),
            error,
        })?;
        if parsed.is_cut {
            tracing::debug!(
                correlation_id = id,
                "the token response has more unknown members than a token keeps"
            );
        }
        if parsed.is_lifetime_assumed && !self.assumed_a_lifetime.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                correlation_id = id,
                lifetime_s = self.assumed_lifetime.as_secs(),
                "the identity provider's token response has no expires_in, so assumed_token_lifetime is the lifetime"
            );
        }
        Ok(parsed)
    }

    /// Adds the proof of a token request, if the client has a proof key.
    async fn prove(
        &self,
        request: &mut Request<Bytes>,
        endpoint: &TokenEndpoint,
    ) -> Result<Option<Proof>, Error> {
        let Some(proofs) = &self.proofs else {
            return Ok(None);
        };
        proofs.check_algorithm(endpoint.proof_algorithms.as_deref())?;
        let (method, uri) = (request.method().clone(), request.uri().to_string());
        // Boxed, to keep the flight of a client without a proof key small.
        let proof = Box::pin(proofs.prove(&method, &uri, None)).await?;
        request.headers_mut().insert(PROOF, proof.header.clone());
        Ok(Some(proof))
    }

    /// Returns why the provider rejected the proof of a token request, if another may be accepted.
    fn rejection(
        &self,
        proof: Option<&Proof>,
        error: &Error,
        headers: &HeaderMap,
    ) -> Option<ProofRejection> {
        let code = error.server_error()?.error();
        self.proofs.as_ref()?.rejection(proof?, code, headers)
    }

    /// Returns the context of a response without an access token, for the parser and the errors.
    pub(super) fn response_context<'a>(
        &'a self,
        fetch: &'a Fetch,
        origin: &'a CredentialOrigin,
        secrets: &'a [&'a Secret],
        endpoint: &'static str,
    ) -> ResponseContext<'a> {
        ResponseContext {
            key: &fetch.key,
            tenant: fetch.tenant.as_ref(),
            scopes: &fetch.scopes,
            correlation_id: &fetch.correlation_id,
            client_id: self.client_id_of(fetch),
            rules: self.endpoints.rules(),
            assumed_lifetime: self.assumed_lifetime,
            origin,
            received: self.clock.wall(),
            secrets,
            is_interactive: false,
            is_token_exchange: false,
            binding: fetch.binding,
            endpoint,
            longest_lifetime: None,
        }
    }

    /// Returns the means to discover an endpoint or keys.
    pub(in crate::client) fn lookup<'a>(&'a self, correlation_id: &'a str) -> Lookup<'a> {
        Lookup {
            transport: &*self.transport,
            clock: &self.clock,
            correlation_id,
            limit: self.retry.step_limit().min(self.attempt_timeout),
        }
    }

    /// Authenticates the client for one attempt: strict providers accept no assertion twice.
    pub(super) async fn authenticate(
        &self,
        fetch: &Fetch,
        attempt: Attempt<'_>,
        endpoint: &TokenEndpoint,
    ) -> Result<ClientAuthentication, Error> {
        let method = match self.auth_method.or(self.credential.tls_method()) {
            Some(method) if method.is_mutual_tls() => {
                endpoint.methods.check_mutual_tls(method)?;
                method
            }
            _ if fetch.agent.is_some() => endpoint.methods.for_assertion()?,
            Some(method) => method,
            None if self.credential.is_secret() => endpoint.methods.for_secret()?,
            None => endpoint.methods.for_assertion()?,
        };
        let context = || self.assertion_context(fetch, endpoint, attempt.number);
        let now = self.clock.wall();
        let algorithms = endpoint.methods.algorithms();
        let limit = self.retry.step_limit();
        let form = endpoint.assertion_form;
        let authentication = attempt
            .credential
            .authenticate(context, now, method, algorithms, form, limit)
            .await?;
        self.check_assertion(authentication)
    }

    /// Returns the client id of a token request: an agent identity's, or the application's own.
    fn client_id_of<'a>(&'a self, fetch: &'a Fetch) -> &'a str {
        match &fetch.agent {
            None => &self.client_id,
            Some(agent) => agent.id(),
        }
    }

    /// Returns the parameters of a token request, for the caller's code that supplies an assertion.
    pub(in crate::client) fn assertion_context(
        &self,
        fetch: &Fetch,
        endpoint: &TokenEndpoint,
        attempt: u32,
    ) -> AssertionContext {
        AssertionContext {
            client_id: self.client_id_of(fetch).to_owned(),
            tenant_id: fetch
                .tenant
                .as_ref()
                .map(|tenant| tenant.as_str().to_owned()),
            token_endpoint: endpoint.uri.to_string(),
            audience: endpoint.audience(),
            correlation_id: fetch.correlation_id.clone(),
            claims: fetch.claims.clone(),
            capabilities: Arc::clone(self.capabilities.names()),
            attempt,
            fmi_path: fetch.key.parameters.fmi_path().map(ToOwned::to_owned),
            extra_claims: AssertionClaimSet::of(&fetch.key.parameters),
            rejected_assertion: None,
        }
    }

    /// Checks that the token endpoint binds tokens to the client certificate, if the caller or the
    /// profile demands that.
    pub(super) fn check_certificate_binding(&self, endpoint: &TokenEndpoint) -> Result<(), Error> {
        // FAPI 2.0 section 5.3.3.1 demands bound tokens of a client that authenticates by TLS, too.
        let is_fapi2 = self.endpoints.fapi2_issuer().is_some() && self.proofs.is_none();
        let demands_binding = self.credential.tls_method().is_none() || is_fapi2;
        if demands_binding && endpoint.binds_to_certificates == Some(false) {
            return Err(Error::config(
                "the OpenID provider does not bind tokens to client certificates (its metadata have no tls_client_certificate_bound_access_tokens of true); enable them at the provider, or leave certificate_bound_tokens(..) out",
            ));
        }
        Ok(())
    }

    /// Sends an HTTP request within the limits of one attempt and of the whole fetch.
    ///
    /// With an identity, the connection carries its certificate.
    pub(super) async fn send(
        &self,
        request: Request<Bytes>,
        identity: Option<&Arc<TlsIdentity>>,
        grant: Option<&SingleUseGrant>,
        endpoint_name: &str,
        correlation_id: &str,
        deadline: Instant,
    ) -> Result<Response<Bytes>, Error> {
        let uri = request.uri().clone();
        let failure = |message: String| Failure::new(message).correlation_id(correlation_id);
        let left = deadline.saturating_duration_since(Instant::now());
        let limit = self.attempt_timeout.min(left);
        let transport = match (identity, &self.mutual_tls) {
            (Some(_), _) if uri.scheme_str() != Some("https") => {
                return Err(Error::config(format!(
                    "{endpoint_name} {} is not https, so no client certificate can be presented; use the https URL of the provider",
                    without_query(&uri)
                )));
            }
            (Some(identity), Some(transport)) => &transport.of(identity)?,
            _ => &self.transport,
        };
        match timeout(limit, transport.send(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(source)) => {
                if let Some(grant) = grant
                    && was_not_sent(&*source)
                {
                    grant.mark_not_redeemed();
                }
                #[cfg(all(feature = "reqwest", any(feature = "ring", feature = "rustls")))]
                if let Some(error) = signing_error(&*source) {
                    return Err(error);
                }
                let endpoint = without_query(&uri);
                let message = format!("no response from {endpoint_name} {endpoint}");
                #[cfg(all(feature = "reqwest", any(feature = "ring", feature = "rustls")))]
                let is_rejected = identity.is_some() && rejects_certificate(&*source);
                #[cfg(not(all(feature = "reqwest", any(feature = "ring", feature = "rustls"))))]
                let is_rejected = false;
                let failure = no_response(message, source).correlation_id(correlation_id);
                let failure = failure.rejects_credential(is_rejected);
                Err(Error::Transport(failure.into()))
            }
            Err(_) => {
                let endpoint = without_query(&uri);
                let limit = time::format_limit(limit);
                let message = format!("no response from {endpoint_name} {endpoint} within {limit}");
                Err(Error::Transport(failure(message).into()))
            }
        }
    }
}

/// A request that authenticates the client, to the token endpoint or another endpoint.
pub(super) trait AuthenticatedRequest: Copy + Send + Sync {
    type Response: Send;

    /// The name of the request with its article, for the log.
    const NAME: &'static str;

    /// Returns whether the request may be sent, for the first time or again.
    fn can_be_sent(self) -> bool;

    /// Sends the request once, and parses the response.
    fn attempt(
        self,
        fetcher: &TokenFetcher,
        fetch: &Fetch,
        attempt: Attempt<'_>,
        deadline: Instant,
    ) -> impl Future<Output = Result<Self::Response, Error>> + Send;
}

impl AuthenticatedRequest for Grant<'_> {
    type Response = TokenResponse;

    const NAME: &'static str = "a token request";

    fn can_be_sent(self) -> bool {
        self.can_be_presented()
    }

    async fn attempt(
        self,
        fetcher: &TokenFetcher,
        fetch: &Fetch,
        attempt: Attempt<'_>,
        deadline: Instant,
    ) -> Result<TokenResponse, Error> {
        fetcher.attempt(fetch, attempt, self, deadline).await
    }
}

/// The credential of one attempt, and the number of the attempt from 1.
#[derive(Clone, Copy)]
pub(super) struct Attempt<'a> {
    pub(super) credential: &'a Credential,
    /// The client certificate of the connection.
    pub(super) identity: Option<&'a Arc<TlsIdentity>>,
    pub(super) number: u32,
}

impl Attempt<'_> {
    /// Returns the error of a response, with what the credential says about a rejection.
    pub(super) fn explain(
        self,
        error: Error,
        authentication: &ClientAuthentication,
        headers: &HeaderMap,
        now: Now,
    ) -> Error {
        let date = response::date(headers);
        self.credential
            .explain(error, authentication, date, now.wall())
    }
}

/// The error of one token request.
struct FailedRequest {
    error: Error,
    /// `None` if another proof does not help.
    rejection: Option<ProofRejection>,
}

impl From<Error> for FailedRequest {
    fn from(error: Error) -> Self {
        Self {
            error,
            rejection: None,
        }
    }
}

const TOKEN_ENDPOINT: &str = "the token endpoint";

/// A query may hold a key, and is not shown.
fn without_query(endpoint: &Uri) -> String {
    let mut shown = endpoint.to_string();
    shown.truncate(shown.find('?').unwrap_or(shown.len()));
    shown
}
