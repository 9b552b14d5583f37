use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::assertion_provider::{AssertionContext, ClientAssertionProvider};
use super::callback;
use super::supplied_assertion::read_assertion;
use crate::error::{Error, ServerError};
use crate::secret::Secret;

/// The token by which an application acts as a user ([`acquire_token_by_user_fic`]).
///
/// The user's federated identity credential is the application's own token for the scope
/// `api://AzureADTokenExchange/.default`. A text, a [`Secret`] and a
/// [`TokenProvider`](crate::TokenProvider) convert into a credential. The client requests the token
/// of a provider only if a token request needs the token.
///
/// [`acquire_token_by_user_fic`]: crate::ConfidentialClient::acquire_token_by_user_fic
#[doc(alias = "user_federated_identity_credential")]
#[derive(Clone)]
pub struct UserFederatedCredential(Source);

#[derive(Clone)]
enum Source {
    Token(Secret),
    Provider(Arc<dyn ClientAssertionProvider>),
}

impl UserFederatedCredential {
    /// Creates a credential from a token that the caller acquired.
    pub fn new(token: impl Into<Secret>) -> Self {
        Self(Source::Token(token.into()))
    }

    /// Creates a credential whose token a provider supplies, for each token request that needs one.
    pub fn from_provider(provider: impl ClientAssertionProvider) -> Self {
        Self(Source::Provider(Arc::new(provider)))
    }

    /// Returns whether another call may return another token.
    pub(crate) fn is_renewable(&self) -> bool {
        matches!(self.0, Source::Provider(_))
    }

    /// Returns the token for one token request. A token that is no JWT is not sent.
    ///
    /// # Errors
    ///
    /// [`Error::Credential`]: the provider failed, or the text is no token.
    pub(crate) async fn fetch(
        &self,
        context: AssertionContext,
        limit: Duration,
    ) -> Result<Secret, Error> {
        match &self.0 {
            Source::Token(token) => read_assertion(token.expose(), NAME),
            Source::Provider(provider) => {
                let called = Arc::clone(provider);
                let fetching = async move { called.client_assertion(context).await };
                let message = "the provider returned no user federated identity credential";
                let token = Secret::from(callback::call(message, limit, fetching).await?);
                read_assertion(token.expose(), &provider.describe())
            }
        }
    }
}

impl From<&str> for UserFederatedCredential {
    fn from(token: &str) -> Self {
        Self::new(token)
    }
}

impl From<String> for UserFederatedCredential {
    fn from(token: String) -> Self {
        Self::new(token)
    }
}

impl From<Secret> for UserFederatedCredential {
    fn from(token: Secret) -> Self {
        Self::new(token)
    }
}

impl From<&UserFederatedCredential> for UserFederatedCredential {
    fn from(credential: &UserFederatedCredential) -> Self {
        credential.clone()
    }
}

/// Shows the kind of the credential, and never the token.
impl fmt::Debug for UserFederatedCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::Token(_) => f.write_str("UserFederatedCredential([redacted])"),
            Source::Provider(provider) => {
                write!(f, "UserFederatedCredential({})", provider.describe())
            }
        }
    }
}

/// Returns whether an error rejects a token that another token of the same issuer may replace: the
/// token is expired, or its key is not known any more.
pub(crate) fn rejects_exchanged_token(error: &Error) -> bool {
    let codes = error.server_error().map(ServerError::error_codes);
    let mut codes = codes.unwrap_or_default().iter();
    !error.is_transient() && codes.any(|code| REJECTED_TOKENS.contains(code))
}

/// Entra's codes for a token outside its time (as an assertion of a client, and of a user), and for
/// a signature by a key that is not known.
const REJECTED_TOKENS: &[u64] = &[700024, 500133, 700027, 7000274, 50013];
const NAME: &str = "user federated identity credential";
