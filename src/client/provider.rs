use std::fmt;
use std::sync::Arc;

use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::cache::{Binding, Slot};
use crate::client::{Call, ConfidentialClient};
use crate::credential::{AssertionContext, ClientAssertionFuture, ClientAssertionProvider};
use crate::error::Error;
use crate::token::AccessToken;

/// A request bound to its place in the cache: the fastest path to its token.
///
/// Made by [`ConfidentialClient::token_provider`]; cheap to clone, and keeps its client alive.
#[derive(Clone)]
pub struct TokenProvider {
    client: ConfidentialClient,
    slot: Arc<Slot>,
    call: Call,
    _binding: Binding,
}

impl TokenProvider {
    pub(crate) fn new(
        client: ConfidentialClient,
        (slot, binding): (Arc<Slot>, Binding),
        call: Call,
    ) -> Self {
        Self {
            client,
            slot,
            call,
            _binding: binding,
        }
    }

    /// Gets the token as
    /// [`acquire_token_for_client`](ConfidentialClient::acquire_token_for_client) does, without
    /// looking its place up.
    ///
    /// # Errors
    ///
    /// Those of `acquire_token_for_client`.
    pub async fn token(&self) -> Result<AccessToken, Error> {
        self.client.token(&self.slot, &self.call).await
    }

    /// The token in memory, if there is a good one. Does no I/O, never waits and starts nothing:
    /// for a health check, or for code that is not async.
    pub fn cached(&self) -> Option<AccessToken> {
        self.client.cached(&self.slot, &self.call)
    }

    /// A token with the claims that an API asked for when it turned this one down.
    #[cfg(any(feature = "reqwest-middleware", feature = "tower"))]
    pub(crate) async fn token_with_claims(
        &self,
        claims: String,
        rejected: &AccessToken,
    ) -> Result<AccessToken, Error> {
        let request = self.call.request().clone();
        let request = request.claims(claims).rejected_token(rejected);
        let subject = self.call.subject().clone();
        let (slot, call) = self.client.place(request, subject)?;
        self.client.token(&slot, &call).await
    }

    /// Forgets a token that an API turned down, as
    /// [`ConfidentialClient::invalidate`](crate::ConfidentialClient::invalidate) does.
    #[cfg(any(feature = "reqwest-middleware", feature = "tower"))]
    pub(crate) fn invalidate(&self, rejected: &AccessToken) {
        self.client.invalidate(rejected);
    }

    /// Gets the token and sets the `Authorization` header of an outgoing request to it.
    ///
    /// ```
    /// # use bytes::Bytes;
    /// # use confidential_client::ConfidentialClient;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = ConfidentialClient::builder("11111111-2222-3333-4444-555555555555")
    /// #     .tenant("contoso.onmicrosoft.com")
    /// #     .client_secret("s3cret")
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
    /// Those of [`token`](Self::token); the headers are then as they were.
    pub async fn authorize(&self, headers: &mut HeaderMap) -> Result<(), Error> {
        let token = self.token().await?;
        headers.insert(AUTHORIZATION, token.authorization_header());
        Ok(())
    }
}

/// An application that vouches for another: its token is the other's assertion. Its scope is
/// `api://AzureADTokenExchange/.default`.
impl ClientAssertionProvider for TokenProvider {
    fn client_assertion(&self, _: AssertionContext) -> ClientAssertionFuture<'_> {
        Box::pin(async { Ok(self.token().await?.secret().to_owned()) })
    }

    fn describe(&self) -> String {
        "token of another application".to_owned()
    }
}

impl fmt::Debug for TokenProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenProvider")
            .field("client", &self.client)
            .field("cached", &self.cached())
            .finish_non_exhaustive()
    }
}
