use std::fmt;
use std::sync::Arc;

use http::HeaderMap;
#[cfg(any(feature = "reqwest-middleware", feature = "tower"))]
use http::Method;
#[cfg(feature = "blocking")]
use tokio::runtime::Handle;

use super::TokenAcquirer;
use super::authorize::{AuthorizeRequest, attach_without_proof};
#[cfg(any(feature = "reqwest-middleware", feature = "tower"))]
use super::proofs::{Proof, Proofs};
use super::resolve::ResolvedRequest;
use crate::cache::{HeldSlot, Requirements, SlotBinding, current_runtime};
use crate::credential::{AssertionContext, ClientAssertionFuture, ClientAssertionProvider};
use crate::error::Error;
use crate::token::AccessToken;
#[cfg(feature = "azure-core")]
use crate::token::TokenScheme;

/// A source of tokens for one request, without a cache lookup.
///
/// [`ConfidentialClient::token_provider`], [`ManagedIdentityClient::token_provider`] and
/// [`CredentialChainClient::token_provider`] return one. A provider is cheap to clone, keeps the
/// client alive, and protects the cache entry from eviction.
///
/// [`ConfidentialClient::token_provider`]: crate::ConfidentialClient::token_provider
/// [`CredentialChainClient::token_provider`]: crate::CredentialChainClient::token_provider
/// [`ManagedIdentityClient::token_provider`]: crate::ManagedIdentityClient::token_provider
#[doc(alias = "TokenCredential")]
#[derive(Clone)]
pub struct TokenProvider {
    client: TokenAcquirer,
    slot: HeldSlot,
    requirements: Requirements,
    request: Arc<ResolvedRequest>,
    _binding: SlotBinding,
}

impl TokenProvider {
    pub(super) fn new(
        client: TokenAcquirer,
        slot: HeldSlot,
        binding: SlotBinding,
        request: ResolvedRequest,
    ) -> Self {
        Self {
            client,
            slot,
            requirements: request.requirements().clone(),
            request: Arc::new(request),
            _binding: binding,
        }
    }

    /// Acquires the token like
    /// [`acquire_token_for_client`](crate::ConfidentialClient::acquire_token_for_client) or
    /// [`acquire_token`](crate::ManagedIdentityClient::acquire_token), without a cache lookup.
    ///
    /// # Errors
    ///
    /// The errors of the client's method.
    #[doc(alias = "get_token")]
    pub async fn token(&self) -> Result<AccessToken, Error> {
        let Self { slot, request, .. } = self;
        if let Some(cached) = (self.client).cached_or_refreshed(slot, request, current_runtime) {
            return cached;
        }
        self.client.missed(slot, request).await
    }

    /// Returns the scopes of the provider's request, separated by spaces.
    #[cfg(feature = "azure-core")]
    pub(crate) fn scopes(&self) -> &str {
        self.request.request().requested_scopes().as_requested()
    }

    /// Returns the scheme of the provider's tokens.
    #[cfg(feature = "azure-core")]
    pub(crate) fn scheme(&self) -> TokenScheme {
        self.client.scheme()
    }

    /// Returns the cached token, unless it has expired.
    ///
    /// Does no I/O, never waits, and starts no refresh. For a health check, or for code that is not
    /// async.
    pub fn cached(&self) -> Option<AccessToken> {
        let cached = self.client.cached(&self.slot, &self.requirements);
        if cached.is_some() {
            self.client.count_hit();
        }
        cached
    }

    /// Returns the cached token, unless the token has expired or is due for a refresh.
    #[cfg(any(feature = "blocking", feature = "tower"))]
    #[inline]
    pub(crate) fn fresh(&self) -> Option<AccessToken> {
        let fresh = self.client.fresh(&self.slot, &self.requirements);
        if fresh.is_some() {
            self.client.count_hit();
        }
        fresh
    }

    /// Returns the cached token, unless it has expired. Does not wait.
    ///
    /// A token that is due is refreshed in the background, on the runtime that `runtime` returns.
    #[cfg(feature = "blocking")]
    pub(crate) fn cached_or_refreshed(
        &self,
        runtime: impl FnOnce() -> Option<Handle>,
    ) -> Option<Result<AccessToken, Error>> {
        self.client
            .cached_or_refreshed(&self.slot, &self.request, runtime)
    }

    /// Returns the part of the client that does not depend on the kind of the client.
    #[cfg(feature = "blocking")]
    pub(crate) fn acquirer(&self) -> &TokenAcquirer {
        &self.client
    }

    /// Acquires a token with the claims of an API's challenge, after the API rejected a token.
    #[cfg(any(feature = "reqwest-middleware", feature = "tower"))]
    pub(crate) async fn token_with_claims(
        &self,
        claims: String,
        rejected: &AccessToken,
    ) -> Result<AccessToken, Error> {
        let request = self.request.request().clone();
        let request = request.claims(claims).rejected_token(rejected);
        let subject = self.request.subject().clone();
        self.client.resolve_and_acquire(request, subject).await
    }

    /// Removes a rejected token from the cache, like
    /// [`ConfidentialClient::invalidate`](crate::ConfidentialClient::invalidate).
    #[cfg(any(feature = "reqwest-middleware", feature = "tower"))]
    pub(crate) fn invalidate(&self, rejected: &AccessToken) {
        self.client.invalidate(rejected);
    }

    /// Acquires the token, and sets the `Authorization` header of an outgoing request.
    ///
    /// A token of the scheme [`Dpop`](crate::TokenScheme::Dpop) also gets a proof in the header
    /// `DPoP`. A proof is valid for one request, so authorize each request, and authorize a request
    /// again before a retry.
    ///
    /// Accepts an `http::Request`, the `http::request::Parts` of one, or the headers alone. The
    /// headers alone are enough for a token of the scheme `Bearer`. A token that is bound to a
    /// proof key needs the method and the URI, which the proof names.
    ///
    /// ```
    /// # use bytes::Bytes;
    /// # use confidential_client::ConfidentialClient;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = ConfidentialClient::builder("11111111-2222-3333-4444-555555555555")
    /// #     .tenant("contoso.onmicrosoft.com")
    /// #     .client_secret("the secret's value")
    /// #     .transport(|_: http::Request<Bytes>| async {
    /// #         let body = r#"{"token_type":"Bearer","expires_in":3599,"access_token":"abc"}"#;
    /// #         Ok(http::Response::new(Bytes::from(body)))
    /// #     })
    /// #     .build()?;
    /// let graph = client.token_provider("https://graph.microsoft.com/.default")?;
    ///
    /// let mut outgoing = http::Request::new(());
    /// graph.authorize(outgoing.headers_mut()).await?;
    /// assert_eq!(outgoing.headers()["authorization"], "Bearer abc");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The errors of [`token`](Self::token), and [`Error::Config`] for headers alone where the
    /// token needs a proof. The request is then unchanged.
    pub async fn authorize<R: AuthorizeRequest>(&self, request: &mut R) -> Result<(), Error> {
        let token = self.token().await?;
        match attach_without_proof(&token, request) {
            true => Ok(()),
            // Boxed, to keep the future of a bearer token small.
            false => Box::pin(self.client.authorize(&token, request)).await,
        }
    }

    /// Stores the nonce of an API's response (`DPoP-Nonce`) for the next proofs to its origin, like
    /// [`ConfidentialClient::record_nonce`](crate::ConfidentialClient::record_nonce).
    pub fn record_nonce(&self, uri: impl AsRef<str>, response_headers: &HeaderMap) -> bool {
        self.client.record_nonce(uri.as_ref(), response_headers)
    }

    /// Makes the proof of a request to an API.
    #[cfg(any(feature = "reqwest-middleware", feature = "tower"))]
    pub(crate) async fn prove(
        &self,
        token: &AccessToken,
        method: &Method,
        uri: &str,
    ) -> Result<Proof, Error> {
        self.client.prove(token, method, uri).await
    }

    /// Returns the proofs of a client with a proof key.
    #[cfg(any(feature = "reqwest-middleware", feature = "tower"))]
    pub(crate) fn proofs(&self) -> Option<&Arc<Proofs>> {
        self.client.proofs()
    }
}

/// The token of one application as the client assertion of another. The scope is
/// `api://AzureADTokenExchange/.default`.
impl ClientAssertionProvider for TokenProvider {
    fn client_assertion(&self, context: AssertionContext) -> ClientAssertionFuture<'_> {
        Box::pin(async move {
            let mut token = self.token().await?;
            if context.rejected_assertion() == Some(token.secret()) {
                let request = self.request.request().clone().rejected_token(&token);
                let subject = self.request.subject().clone();
                token = self.client.resolve_and_acquire(request, subject).await?;
            }
            Ok(token.secret().to_owned())
        })
    }

    fn describe(&self) -> String {
        "token of another application".to_owned()
    }
}

impl fmt::Debug for TokenProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenProvider")
            .field("client", &self.client)
            .field(
                "cached",
                &self.client.cached(&self.slot, &self.requirements),
            )
            .finish_non_exhaustive()
    }
}
