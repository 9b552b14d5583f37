use std::fmt;
use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::{HeaderMap, StatusCode};

use super::origin::{Origin, RequestOrigin};
use crate::challenge::Challenge;
use crate::client::TokenProvider;
use crate::error::Error;
use crate::token::AccessToken;

/// Whose token is attached, and to calls of which APIs. Cheap to clone.
///
/// ```
/// use confidential_client::ConfidentialClient;
/// use confidential_client::adapter::BearerAuth;
///
/// # fn main() -> Result<(), confidential_client::Error> {
/// let client = ConfidentialClient::builder("11111111-2222-3333-4444-555555555555")
///     .tenant("contoso.onmicrosoft.com")
///     .client_secret("the secret's value")
///     .build()?;
/// let graph = client.token_provider("https://graph.microsoft.com/.default")?;
/// let auth = BearerAuth::new(graph, ["https://graph.microsoft.com"])?;
/// # let _ = auth;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct BearerAuth {
    provider: TokenProvider,
    origins: Arc<[Origin]>,
}

impl BearerAuth {
    /// Attaches the provider's tokens to requests to these origins, such as
    /// `https://graph.microsoft.com`, and to no other: neither after a redirect nor to a URL that
    /// somebody configured. A request elsewhere, one whose `Host` header is of another origin, and one
    /// that has an `Authorization` header already are sent as they are; so a chain may have one
    /// `BearerAuth` for each API. Does no I/O.
    ///
    /// # Errors
    ///
    /// [`Error::Config`]: no origin, one with more than scheme, host and port, or one that is neither
    /// https nor http to a loopback address.
    pub fn new<O: AsRef<str>>(
        provider: TokenProvider,
        origins: impl IntoIterator<Item = O>,
    ) -> Result<Self, Error> {
        let origins = origins
            .into_iter()
            .map(|origin| Origin::parse(origin.as_ref()));
        let origins = origins.collect::<Result<Arc<[Origin]>, Error>>()?;
        if origins.is_empty() {
            return Err(Error::config(
                "no origin, so no request would have a token; name the API's, such as 'https://graph.microsoft.com'",
            ));
        }
        Ok(Self { provider, origins })
    }

    /// Whether a request there may have a token.
    pub(super) fn is_for(&self, target: &RequestOrigin<'_>, headers: &HeaderMap) -> bool {
        let mut origins = self.origins.iter();
        origins.any(|origin| origin.is_of(target) && origin.is_of_host(headers))
    }

    /// Sets the header of a request that may have a token, and says with which.
    pub(super) async fn attach(
        &self,
        may_have_it: bool,
        headers: &mut HeaderMap,
    ) -> Result<Option<AccessToken>, Error> {
        if !may_have_it || headers.contains_key(AUTHORIZATION) {
            return Ok(None);
        }
        let token = self.provider.token().await?;
        headers.insert(AUTHORIZATION, token.authorization_header());
        Ok(Some(token))
    }

    /// Another token, where the answer says that this one does not do and another may.
    ///
    /// `None` where there is nothing to be done, or nothing new; the answer is then the caller's.
    pub(super) async fn answer(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        rejected: &AccessToken,
    ) -> Option<AccessToken> {
        if status != StatusCode::UNAUTHORIZED {
            return None;
        }
        let challenges = Challenge::from_headers(headers);
        let bearer = || challenges.iter().filter(|challenge| challenge.is_bearer());
        let is_about = |error: &str| {
            bearer().find(|challenge| {
                let said = challenge.error();
                said.is_some_and(|said| said.eq_ignore_ascii_case(error))
            })
        };
        let renewed = match is_about("insufficient_claims").and_then(Challenge::claims) {
            Some(claims) => self.provider.token_with_claims(claims, rejected).await,
            None if is_about("invalid_token").is_some() => {
                self.provider.invalidate(rejected);
                self.provider.token().await
            }
            None => return None,
        };
        let renewed = renewed.inspect_err(|error| {
            tracing::warn!(
                error = %error.chain(),
                correlation_id = error.correlation_id(),
                "an API did not take a token, and there is no other"
            );
        });
        renewed
            .ok()
            .filter(|token| token.secret() != rejected.secret())
    }
}

impl fmt::Debug for BearerAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BearerAuth")
            .field("provider", &self.provider)
            .field("origins", &self.origins)
            .finish()
    }
}
