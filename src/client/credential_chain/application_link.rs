//! An application of the environment's variables as a link.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::client::builder::ConfidentialClientBuilder;
use crate::client::environment::missing_token_file;
use crate::client::fetch::{Fetch, TokenFetcher};
use crate::client::resolve::Subject;
use crate::credential_chain::{Link, LinkFailure, LinkFuture, LinkRequest, LinkToken};
use crate::error::Error;
use crate::grant::Grant;
use crate::managed_identity::HostEnvironment;
use crate::request::TokenRequest;
use crate::time::TimeSource;
use crate::transport::Transport;

/// The settings of an [`ApplicationLink`].
pub(super) struct ApplicationSettings {
    pub(super) name: &'static str,
    pub(super) variables: HostEnvironment,
    pub(super) capabilities: Vec<String>,
    pub(super) transport: Option<Arc<dyn Transport>>,
    pub(super) clock: TimeSource,
}

impl ApplicationSettings {
    /// Returns a message if the token file of the variables does not exist. Blocks the thread.
    pub(super) fn missing_token_file(&self) -> Option<String> {
        missing_token_file(|name| self.variables.value(name))
    }

    /// Reads the variables, and the certificate file or the token file. Blocks the thread.
    ///
    /// # Errors
    ///
    /// - [`Error::Config`]: a variable cannot be used.
    /// - [`Error::Credential`]: the file cannot be used.
    pub(super) fn link(&self) -> Result<ApplicationLink, Error> {
        let read = |name: &str| self.variables.value(name);
        let builder = ConfidentialClientBuilder::from_variables(read)?;
        let mut builder = builder.client_capabilities(self.capabilities.iter().cloned());
        builder.clock = self.clock.clone();
        builder.transport.transport = self.transport.clone();
        Ok(ApplicationLink {
            name: self.name,
            fetcher: builder.build()?.fetcher,
        })
    }
}

/// A link that requests tokens from the identity provider, for an application.
pub(super) struct ApplicationLink {
    name: &'static str,
    fetcher: Arc<TokenFetcher>,
}

impl ApplicationLink {
    async fn token(&self, request: &LinkRequest<'_>) -> Result<LinkToken, LinkFailure> {
        let scopes = TokenRequest::new(request.scopes);
        let resolved = self.fetcher.resolve(scopes, Subject::Application)?;
        let fetch = Fetch {
            tenant: resolved.key.tenant.clone(),
            key: Arc::new(resolved.key),
            scopes: request.scopes.into(),
            claims: request.claims.map(Arc::from),
            headers: Default::default(),
            rejected: None,
            correlation_id: request.correlation_id.to_owned(),
            is_refresh: false,
            requirements: Default::default(),
            has_token: false,
            binding: self.fetcher.token_binding(),
            anchor_mailbox: Default::default(),
            identity: Default::default(),
            progress: Default::default(),
            agent: None,
        };
        let limit = self.time_limit() + request.spare;
        let deadline = request.deadline.min(Instant::now() + limit);
        let grant = Grant::ClientCredentials;
        let fetching = self.fetcher.request_token(&fetch, grant, deadline);
        let result = match timeout_at(deadline, fetching).await {
            Ok(result) => result,
            Err(_) => Err(fetch.timeout_error(limit)),
        };
        let sent = fetch.progress().sent;
        (0..sent).for_each(|_| (request.on_send)());
        Ok(LinkToken::Application(result?.issued))
    }
}

impl Link for ApplicationLink {
    fn name(&self) -> &str {
        self.name
    }

    fn time_limit(&self) -> Duration {
        self.fetcher.retry.total_timeout()
    }

    fn fetch<'a>(&'a self, request: &'a LinkRequest<'a>) -> LinkFuture<'a> {
        Box::pin(self.token(request))
    }
}
