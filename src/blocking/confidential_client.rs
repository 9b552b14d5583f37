use std::fmt;

use http::HeaderMap;

use super::thread::{ClientThread, at_once};
use super::{TokenProvider, WarmUp};
use crate::certificate::Certificate;
use crate::client::{
    AuthorizeRequest, ConfidentialClientBuilder, ResolvedRequest, Subject, TokenCache,
};
use crate::error::Error;
use crate::request::{IntoTokenRequest, TokenRequest};
use crate::token::AccessToken;

/// A blocking [`ConfidentialClient`](crate::ConfidentialClient).
///
/// Create one client per process, and share the client between the threads. A client is cheap to
/// clone, and the clones share the cache, the HTTP connections and the hidden thread.
///
/// [`ConfidentialClientBuilder::build_blocking`], [`from_env`](Self::from_env) and
/// `From<crate::ConfidentialClient>` create one. The [module](super) has an example.
#[doc(alias = "ConfidentialClientApplication")]
#[derive(Clone)]
pub struct ConfidentialClient {
    client: crate::ConfidentialClient,
    thread: ClientThread,
}

impl ConfidentialClientBuilder {
    /// Checks all settings, and builds a client for a program that is not async.
    ///
    /// Does what [`build`](Self::build) does. Starts no thread.
    ///
    /// # Errors
    ///
    /// The errors of [`build`](Self::build).
    pub fn build_blocking(self) -> Result<ConfidentialClient, Error> {
        self.build().map(ConfidentialClient::from)
    }
}

/// Uses the cache and the connections of the async client.
impl From<crate::ConfidentialClient> for ConfidentialClient {
    fn from(client: crate::ConfidentialClient) -> Self {
        let thread = ClientThread::default();
        Self { client, thread }
    }
}

impl ConfidentialClient {
    /// Returns a builder, whose [`build_blocking`](ConfidentialClientBuilder::build_blocking)
    /// creates the client.
    pub fn builder(client_id: impl Into<String>) -> ConfidentialClientBuilder {
        crate::ConfidentialClient::builder(client_id)
    }

    /// Builds a client from the environment variables that
    /// [`ConfidentialClient::from_env`](crate::ConfidentialClient::from_env) lists.
    ///
    /// # Errors
    ///
    /// The errors of that function.
    pub fn from_env() -> Result<Self, Error> {
        ConfidentialClientBuilder::from_env()?.build_blocking()
    }

    /// Returns the async client with the same cache, for the async part of a program and for the
    /// adapters.
    pub fn as_async(&self) -> &crate::ConfidentialClient {
        &self.client
    }

    /// Acquires a token for the application itself, like
    /// [`acquire_token_for_client`](crate::ConfidentialClient::acquire_token_for_client).
    ///
    /// A cached token is returned without the hidden thread. Many threads that wait for the same
    /// token share one token request.
    ///
    /// # Errors
    ///
    /// The errors of the async method, and the [errors of a blocking call](super#errors).
    #[doc(alias = "get_token")]
    pub fn acquire_token_for_client(
        &self,
        request: impl IntoTokenRequest,
    ) -> Result<AccessToken, Error> {
        let acquirer = self.client.acquirer();
        acquirer.acquire_for_application_with(request, |request| {
            let instead = "client.as_async().acquire_token_for_client(..)";
            self.thread.acquire(instead, acquirer, request)
        })
    }

    /// Returns a [`TokenProvider`] for repeated calls with the same request, like
    /// [`token_provider`](crate::ConfidentialClient::token_provider).
    ///
    /// Does no I/O.
    ///
    /// # Errors
    ///
    /// The errors of the async client's method.
    #[doc(alias = "get_bearer_token_provider")]
    pub fn token_provider(&self, request: impl IntoTokenRequest) -> Result<TokenProvider, Error> {
        let provider = self.client.token_provider(request)?;
        Ok(self.provider(provider))
    }

    /// Attaches a token of this client to an outgoing request, like
    /// [`authorize`](crate::ConfidentialClient::authorize).
    ///
    /// A `Bearer` token, and a proof by a [`DpopKey`](crate::credential::DpopKey) in memory, need
    /// no thread. A proof by a signer does.
    ///
    /// # Errors
    ///
    /// The errors of the async method. For a proof by a signer also the
    /// [errors of a blocking call](super#errors). The request is then unchanged.
    pub fn authorize<R: AuthorizeRequest>(
        &self,
        token: &AccessToken,
        request: &mut R,
    ) -> Result<(), Error> {
        let instead = "client.as_async().authorize(..)";
        self.thread
            .authorize(instead, self.client.acquirer(), token, request)
    }

    /// Stores the nonce of an API's response, like
    /// [`record_nonce`](crate::ConfidentialClient::record_nonce).
    ///
    /// Does no I/O. Returns `true` if the request may succeed with another proof.
    pub fn record_nonce(&self, uri: impl AsRef<str>, response_headers: &HeaderMap) -> bool {
        self.client.record_nonce(uri, response_headers)
    }

    /// Removes a token from the cache that an API rejected, like
    /// [`invalidate`](crate::ConfidentialClient::invalidate).
    ///
    /// Does not wait. The hidden thread tells a shared cache.
    pub fn invalidate(&self, token: &AccessToken) {
        let runtime = || self.thread.for_refresh();
        self.client.acquirer().invalidate_on(token, runtime);
    }

    /// Acquires the tokens of many requests, a bounded number at a time, like
    /// [`warm_up`](crate::ConfidentialClient::warm_up).
    ///
    /// The returned [`WarmUp`] is an iterator.
    pub fn warm_up<R: IntoTokenRequest>(&self, requests: impl IntoIterator<Item = R>) -> WarmUp {
        let requests = requests.into_iter().map(R::into_token_request).collect();
        WarmUp::new(self.client.clone(), self.thread.clone(), requests)
    }

    /// Returns the URL of the page where a tenant's administrator consents, like
    /// [`admin_consent_url`](crate::ConfidentialClient::admin_consent_url).
    ///
    /// Does no I/O.
    ///
    /// # Errors
    ///
    /// The errors of the async client's method.
    pub fn admin_consent_url(
        &self,
        tenant: impl AsRef<str>,
        redirect_uri: impl AsRef<str>,
        state: impl AsRef<str>,
    ) -> Result<String, Error> {
        self.client.admin_consent_url(tenant, redirect_uri, state)
    }

    /// Returns the certificate that the client authenticates with, like
    /// [`certificate`](crate::ConfidentialClient::certificate). Does no I/O.
    pub fn certificate(&self) -> Option<Certificate> {
        self.client.certificate()
    }

    /// Returns the client's token cache: its size, its statistics, and a way to clear it.
    pub fn cache(&self) -> TokenCache<'_> {
        self.client.cache()
    }

    /// Acquires a token of a user: from the cache, or on the thread.
    pub(super) fn acquire(
        &self,
        instead: &str,
        request: TokenRequest,
        subject: Subject,
    ) -> Result<AccessToken, Error> {
        let request = self.client.acquirer().resolve(request, subject)?;
        self.acquire_resolved(instead, request)
    }

    pub(super) fn acquire_resolved(
        &self,
        instead: &str,
        request: ResolvedRequest,
    ) -> Result<AccessToken, Error> {
        self.thread
            .acquire(instead, self.client.acquirer(), request)
    }

    /// Runs a call of the async client on the thread, and waits for the outcome.
    pub(super) fn wait<T, F>(
        &self,
        instead: &str,
        call: impl FnOnce(crate::ConfidentialClient) -> F,
    ) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        self.thread.wait(instead, call(self.client.clone()))
    }

    /// Runs a call of the async client: at once if the call does no I/O, else on the thread.
    pub(super) fn wait_unless<T, F>(
        &self,
        needs_no_io: bool,
        instead: &str,
        call: impl FnOnce(crate::ConfidentialClient) -> F,
    ) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        match needs_no_io {
            true => at_once(instead, call(self.client.clone())),
            false => self.wait(instead, call),
        }
    }

    pub(super) fn provider(&self, provider: crate::TokenProvider) -> TokenProvider {
        TokenProvider::new(provider, self.thread.clone())
    }
}

impl fmt::Debug for ConfidentialClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.client.fmt(f)
    }
}
