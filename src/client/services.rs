use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::Uri;
use tokio::time::{Instant, timeout_at};

use crate::authority::Tenant;
use crate::credential::{AssertionContext, Credential, CredentialHolder};
use crate::endpoint::Endpoints;
use crate::error::{Error, Failure};
use crate::request::{TokenEndpointAuthMethod, TokenHttpRequest};
use crate::response::{self, Asked};
use crate::time::{TimeSource, jitter};
use crate::token::{Issued, Key};
use crate::transport::Transport;

/// What a flight takes along. It never holds the client, whose end ends the flight.
pub(crate) struct Services {
    pub(crate) client_id: String,
    pub(crate) endpoints: Endpoints,
    pub(crate) credential: CredentialHolder,
    pub(crate) auth_method: TokenEndpointAuthMethod,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) clock: TimeSource,
}

/// One token request: for what, and what the request is known by.
pub(super) struct Errand {
    pub(super) key: Arc<Key>,
    pub(super) tenant: Option<Tenant>,
    pub(super) scopes: Arc<str>,
    pub(super) claims: Option<Arc<str>>,
    pub(super) correlation_id: String,
    /// Whether it has gone out.
    pub(super) sent: AtomicBool,
}

impl Services {
    /// A token by the credential of now; by the next one, should it be refused and replaced.
    pub(super) async fn request_token(
        &self,
        errand: &Errand,
        deadline: Instant,
    ) -> Result<Issued, Error> {
        let credential = self.credential.current(self.clock.now().wall).await?;
        let refusal = match self.ask(errand, &credential).await {
            Ok(issued) => {
                self.credential.accepted(&credential);
                return Ok(issued);
            }
            Err(error) if credential.is_refused_by(&error) => error,
            Err(error) => return Err(error),
        };
        // A refusal says more than that there was no time left to look for another credential.
        match timeout_at(deadline, self.ask_with_another(errand, &credential)).await {
            Ok(Some(answer)) => answer,
            Ok(None) | Err(_) => Err(refusal),
        }
    }

    async fn ask_with_another(
        &self,
        errand: &Errand,
        refused: &Credential,
    ) -> Option<Result<Issued, Error>> {
        let now = self.clock.now();
        let other = self.credential.other_than(refused, now.wall).await?;
        tracing::warn!(
            correlation_id = errand.correlation_id,
            "the identity provider refused the credential; the request is repeated with another"
        );
        let answer = self.ask(errand, &other).await;
        if answer.is_ok() {
            self.credential.accepted(&other);
        }
        Some(answer)
    }

    /// One token request, from proof to parsed answer.
    async fn ask(&self, errand: &Errand, credential: &Credential) -> Result<Issued, Error> {
        let id = errand.correlation_id.as_str();
        let endpoint = self.endpoints.token_endpoint(errand.tenant.as_ref());
        let now = self.clock.now();
        let tenant = errand.tenant.as_ref().map(Tenant::as_asked);
        let context = AssertionContext {
            client_id: self.client_id.clone(),
            tenant_id: tenant.map(ToString::to_string),
            token_endpoint: endpoint.to_string(),
            audience: self.endpoints.audience(&endpoint).to_owned(),
            correlation_id: id.to_owned(),
        };
        let basic = self.auth_method == TokenEndpointAuthMethod::ClientSecretBasic;
        let proof = credential.prove(context, now.wall, basic).await?;
        let request = TokenHttpRequest {
            endpoint: &endpoint,
            client_id: &self.client_id,
            proof: &proof,
            scopes: &errand.scopes,
            claims: errand.claims.as_deref(),
            correlation_id: id,
            is_entra: self.endpoints.is_entra(),
        }
        .to_http()?;
        tracing::debug!(correlation_id = id, "token request");
        let uri = request.uri().clone();
        errand.sent.store(true, Ordering::Relaxed);
        let response = match self.transport.send(request).await {
            Ok(response) => response,
            Err(source) => return Err(no_answer(&uri, id, source)),
        };
        tracing::debug!(
            correlation_id = id,
            status = response.status().as_u16(),
            "token response"
        );
        // The clock was read before the request went out: a token lives from when it was issued.
        let asked = Asked {
            key: &errand.key,
            tenant,
            scopes: &errand.scopes,
            correlation_id: id,
            proof: &proof,
        };
        response::parse(&response, asked, now, jitter())
    }
}

fn no_answer(
    endpoint: &Uri,
    correlation_id: &str,
    source: Box<dyn std::error::Error + Send + Sync>,
) -> Error {
    // Without the query, which may hold a key.
    let shown = endpoint.to_string();
    let shown = shown.split('?').next().unwrap_or_default();
    Error::Transport(
        Failure::new(format!("no answer from the token endpoint {shown}"))
            .correlation_id(correlation_id)
            .source(source)
            .into(),
    )
}
