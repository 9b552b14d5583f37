use std::sync::{Arc, OnceLock};
use std::time::Duration;

use zeroize::Zeroizing;

use super::read_assertion;
use super::rejected::OUTSIDE_ITS_TIME;
use crate::client_auth::ClientAuthentication;
use crate::credential::assertion_provider::{AssertionContext, ClientAssertionProvider};
use crate::credential::{callback, rejects_exchanged_token};
use crate::error::{Error, ServerError};
use crate::secret::Secret;

/// The provider of the assertions of one token request, and its rejected assertions.
#[derive(Clone)]
pub(crate) struct AssertionSupplier {
    provider: Arc<dyn ClientAssertionProvider>,
    /// `true` if the assertion is a token of a cache, whose key may not be known any more.
    is_token: bool,
    /// The assertion that the identity provider rejected, for the retry with another one.
    replaced: Option<Secret>,
    /// The assertion of this supplier that the identity provider rejected as expired.
    rejected: OnceLock<Secret>,
}

impl AssertionSupplier {
    pub(crate) fn new(provider: Arc<dyn ClientAssertionProvider>) -> Self {
        Self {
            provider,
            is_token: false,
            replaced: None,
            rejected: OnceLock::new(),
        }
    }

    /// Creates a supplier whose assertions are tokens of a cache.
    pub(crate) fn of_tokens(provider: Arc<dyn ClientAssertionProvider>) -> Self {
        Self {
            is_token: true,
            ..Self::new(provider)
        }
    }

    /// Fetches an assertion from the provider.
    ///
    /// # Errors
    ///
    /// [`Error::Credential`]: the provider failed, the text is no assertion, or the provider
    /// returned the rejected assertion again.
    pub(in crate::credential) async fn fetch(
        &self,
        mut context: AssertionContext,
        limit: Duration,
    ) -> Result<ClientAuthentication, Error> {
        context.rejected_assertion = self.replaced.clone();
        let provider = Arc::clone(&self.provider);
        let assertion = async move { provider.client_assertion(context).await };
        let assertion = callback::call(
            "the assertion provider returned no client assertion",
            limit,
            assertion,
        )
        .await?;
        let assertion = Zeroizing::new(assertion);
        let assertion = read_assertion(&assertion, &self.describe())?;
        let replaced = self.replaced.as_ref().map(Secret::expose);
        if replaced == Some(assertion.expose()) {
            return Err(Error::credential(format!(
                "the {} is the rejected one again",
                self.describe()
            )));
        }
        Ok(ClientAuthentication::Assertion(assertion))
    }

    /// Remembers the assertion if the error rejects the assertion as expired.
    pub(in crate::credential) fn note_rejection(&self, error: &Error, assertion: &Secret) {
        let codes = error.server_error().map(ServerError::error_codes);
        let is_expired = codes.is_some_and(|codes| codes.contains(&OUTSIDE_ITS_TIME));
        let is_rejected = match self.is_token {
            true => rejects_exchanged_token(error),
            false => is_expired && !error.is_transient(),
        };
        if is_rejected {
            // No assertion of this supplier is sent after the first rejection.
            let _ = self.rejected.set(assertion.clone());
        }
    }

    /// Returns whether the identity provider rejected an assertion as expired.
    pub(in crate::credential) fn is_rejected(&self) -> bool {
        self.rejected.get().is_some()
    }

    /// Returns the supplier of an assertion in the place of the rejected one.
    pub(in crate::credential) fn after_rejection(&self) -> Option<Self> {
        let rejected = self.rejected.get()?;
        Some(Self {
            provider: Arc::clone(&self.provider),
            is_token: self.is_token,
            replaced: Some(rejected.clone()),
            rejected: OnceLock::new(),
        })
    }

    pub(crate) fn describe(&self) -> String {
        self.provider.describe()
    }
}
