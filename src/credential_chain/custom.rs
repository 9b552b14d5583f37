//! A function of the caller's as a link.

use std::error::Error as StdError;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::{ChainLink, Kind, Link, LinkFailure, LinkFuture, LinkRequest, TIME_LIMIT};
use crate::credential::call_provider;
use crate::managed_identity::IdentityToken;
use crate::secret::Secret;
use crate::time::TimeSource;

type BoxError = Box<dyn StdError + Send + Sync>;
type TokenFuture = Pin<Box<dyn Future<Output = Result<(Secret, Duration), BoxError>> + Send>>;

impl ChainLink {
    /// Describes an asynchronous function that returns a token and its remaining lifetime.
    ///
    /// The function receives the scope, such as `https://vault.azure.net/.default`. The client
    /// caches the token, and calls the function again before the token expires. A call has a time
    /// limit of 30 seconds. `name` stands for the link in messages and in the log.
    ///
    /// [`LinkUnavailable`] passes the link over. Every other error ends the chain with
    /// [`Error::Credential`](crate::Error::Credential).
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use confidential_client::credential::{ChainLink, CredentialChain, LinkUnavailable};
    /// use confidential_client::{CredentialChainClient, Secret};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let broker = ChainLink::from_fn("broker", |_scope| async {
    ///     Err(LinkUnavailable::new("no socket").into())
    /// });
    /// let agent = ChainLink::from_fn("agent", |scope| async move {
    ///     // Ask an agent for a token of the scope here.
    ///     Ok((Secret::from(format!("token-of-{scope}")), Duration::from_secs(3600)))
    /// });
    /// let chain = CredentialChain::new().then(broker).then(agent);
    /// let client = CredentialChainClient::new(chain)?;
    /// let token = client.acquire_token("api://reports/.default").await?;
    /// assert_eq!(token.secret(), "token-of-api://reports/.default");
    /// assert_eq!(client.selected_link(), Some("agent"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_fn<F, R>(name: impl Into<String>, function: F) -> Self
    where
        F: Fn(String) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(Secret, Duration), Box<dyn StdError + Send + Sync>>>
            + Send
            + 'static,
    {
        Self(Kind::Custom(CustomLink {
            name: name.into().into(),
            function: Arc::new(move |scope| Box::pin(function(scope))),
            clock: TimeSource::default(),
        }))
    }
}

/// The reason why a function of [`ChainLink::from_fn`] has no token on this host.
///
/// The chain continues with the next link. The error of a chain without an available link has the
/// reason, which must not contain a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkUnavailable(String);

impl LinkUnavailable {
    /// Creates the error from a reason in a few words.
    pub fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

impl fmt::Display for LinkUnavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for LinkUnavailable {}

/// A link that calls a function of the caller's.
#[derive(Clone)]
pub(crate) struct CustomLink {
    name: Arc<str>,
    function: Arc<dyn Fn(String) -> TokenFuture + Send + Sync>,
    clock: TimeSource,
}

impl CustomLink {
    /// Sets the clock that dates the tokens.
    pub(crate) fn clock(mut self, clock: TimeSource) -> Self {
        self.clock = clock;
        self
    }

    async fn token(&self, request: &LinkRequest<'_>) -> Result<IdentityToken, LinkFailure> {
        let function = Arc::clone(&self.function);
        let scope = request.scopes.to_owned();
        // A token lives from when it was issued. The clock is read before the call.
        let requested_at = self.clock.now();
        let call = async move {
            match function(scope).await {
                Ok(token) => Ok(Ok(token)),
                Err(error) => match error.downcast::<LinkUnavailable>() {
                    Ok(unavailable) => Ok(Err(unavailable)),
                    Err(error) => Err(error),
                },
            }
        };
        let message = format!("{} returned no token", self.name);
        match call_provider(&message, TIME_LIMIT, call).await? {
            Ok((secret, expires_in)) => Ok(IdentityToken {
                secret,
                expires_in,
                refresh_in: None,
                requested_at,
            }),
            Err(unavailable) => Err(LinkFailure::Unavailable(unavailable.0)),
        }
    }
}

impl Link for CustomLink {
    fn name(&self) -> &str {
        &self.name
    }

    fn fetch<'a>(&'a self, request: &'a LinkRequest<'a>) -> LinkFuture<'a> {
        Box::pin(async { Ok(self.token(request).await?.into()) })
    }
}
