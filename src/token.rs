use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::HeaderValue;
use serde_json::value::RawValue;

use crate::scope::is_granted;
use crate::time::TimeSource;

mod binding;
mod copies;
mod hash;
mod issued;
mod key;
mod lifetime;

pub use binding::TokenScheme;
pub(crate) use binding::{Thumbprint, TokenBinding};
pub(crate) use copies::Turns;
pub(crate) use hash::TokenHash;
pub(crate) use issued::IssuedToken;
pub(crate) use key::{CacheKey, UserKey};
pub(crate) use lifetime::{Lifetime, Stage};

/// An access token and its metadata. Cheap to clone. `Debug` hides the token.
///
/// ```
/// # use bytes::Bytes;
/// # use confidential_client::{ConfidentialClient, TokenSource};
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
/// let token = client.acquire_token_for_client("https://graph.microsoft.com/.default").await?;
/// let request = http::Request::get("https://graph.microsoft.com/v1.0/users")
///     .header("authorization", token.authorization_header())
///     .body(())?;
/// # assert_eq!(request.headers()["authorization"], "Bearer abc");
/// assert_eq!(token.source(), TokenSource::IdentityProvider);
/// assert!(token.expires_on() > std::time::SystemTime::now());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[doc(alias = "access_token")]
#[doc(alias = "AuthenticationResult")]
pub struct AccessToken {
    issued: Arc<IssuedToken>,
    source: TokenSource,
}

impl AccessToken {
    /// Returns `None` if the token was issued for a key other than `key`.
    ///
    /// The check keeps a token of the wrong tenant from a caller even if the cache has a bug.
    // A plain `inline` leaves a call in every hit.
    #[inline(always)]
    pub(crate) fn from_cache(
        issued: Arc<IssuedToken>,
        key: &Arc<CacheKey>,
        source: TokenSource,
    ) -> Option<Self> {
        issued.is_for(key).then_some(Self { issued, source })
    }

    pub(crate) fn issued(&self) -> &Arc<IssuedToken> {
        &self.issued
    }

    /// Returns the token's text, without `Bearer `.
    ///
    /// Do not log the token, and do not parse the token. The content is meant for the API alone.
    #[doc(alias = "access_token")]
    #[doc(alias = "token")]
    pub fn secret(&self) -> &str {
        self.issued.secret()
    }

    /// Returns the value of the `Authorization` header ([RFC 6750 section 2.1]).
    ///
    /// The value is built once per issued token and marked sensitive. A call clones the value
    /// without copying the token.
    ///
    /// A token of the scheme [`NotApplicable`](TokenScheme::NotApplicable) is not for an API call.
    /// The value is then `N_A` without the token, which every API rejects.
    ///
    /// [RFC 6750 section 2.1]: https://www.rfc-editor.org/rfc/rfc6750#section-2.1
    #[doc(alias = "create_authorization_header")]
    pub fn authorization_header(&self) -> HeaderValue {
        self.issued.authorization().clone()
    }

    /// Returns the time at which the token expires (UTC), by this machine's clock.
    ///
    /// A client stops returning the token ten seconds earlier. If the lifetime is under 100
    /// seconds, the margin is a tenth of the lifetime.
    pub fn expires_on(&self) -> SystemTime {
        self.issued.lifetime.expires_on()
    }

    /// Returns the time left until [`expires_on`](Self::expires_on), by the system's wall clock.
    ///
    /// Returns zero if the token has expired. The system clock is read on every call, even if the
    /// client has a [`Clock`](crate::time::Clock) of a test.
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
    /// let token = client.acquire_token_for_client("https://graph.microsoft.com/.default").await?;
    /// println!("the token expires in {} min", token.expires_in().as_secs() / 60);
    /// # assert!(token.expires_in().as_secs() > 3500);
    /// # Ok(())
    /// # }
    /// ```
    pub fn expires_in(&self) -> Duration {
        let now = TimeSource::System.wall();
        self.expires_on().duration_since(now).unwrap_or_default()
    }

    /// Returns the time from which a client refreshes the token in the background (UTC).
    ///
    /// The time is the first of these that applies:
    ///
    /// - the server's `refresh_in`, counted from the response;
    /// - half the lifetime, if the lifetime is two hours or more;
    /// - five minutes before the expiry, but not before half the lifetime.
    ///
    /// A random jitter then makes the time earlier, by at most five minutes and at most a tenth of
    /// the lifetime. The jitter keeps many processes from refreshing at once.
    #[doc(alias = "refresh_in")]
    pub fn refresh_on(&self) -> SystemTime {
        self.issued.lifetime.refresh_on()
    }

    /// Returns the granted scopes, separated by spaces.
    ///
    /// If the response named no scope, these are the requested scopes ([RFC 6749 section 5.1]).
    ///
    /// [RFC 6749 section 5.1]: https://www.rfc-editor.org/rfc/rfc6749#section-5.1
    pub fn scopes(&self) -> &str {
        self.issued.scopes()
    }

    /// Returns the requested scopes that were not granted, for example because a user consented to
    /// fewer.
    ///
    /// Empty for nearly every token. OpenID Connect's scopes and a resource's `/.default` are never
    /// included. A granted scope counts even if the provider's response omits the scope's resource.
    pub fn declined_scopes(&self) -> impl Iterator<Item = &str> {
        let requested = self.issued.key().scopes.as_str();
        let granted = self.scopes();
        let requested = requested.split(' ').filter(|scope| !scope.is_empty());
        requested.filter(move |scope| !is_granted(scope, granted))
    }

    /// Returns the tenant as requested: an id or a domain.
    pub fn tenant_id(&self) -> Option<&str> {
        self.issued.tenant()
    }

    /// Returns the scheme of the `Authorization` header.
    ///
    /// The API accepts the token with this scheme alone. A token of the scheme
    /// [`Dpop`](TokenScheme::Dpop) also needs a proof for each request, which
    /// [`TokenProvider::authorize`](crate::TokenProvider::authorize) makes.
    pub fn scheme(&self) -> TokenScheme {
        self.issued.scheme()
    }

    /// Returns the scheme of the `Authorization` header as text: `Bearer`, `DPoP` or `mtls_pop`.
    /// Returns `N_A` for a token that is not for an API call.
    pub fn token_type(&self) -> &str {
        self.scheme().as_str()
    }

    /// Returns the type of the token that a [token exchange][exchange] issued, a URI
    /// ([RFC 8693 section 3]).
    ///
    /// Returns `None` for every other token, and if the provider named no type. Then the token is
    /// an access token. [`TokenTypeIdentifier`](crate::delegated::TokenTypeIdentifier) has the
    /// standard types.
    ///
    /// [exchange]: crate::ConfidentialClient::exchange_token
    /// [RFC 8693 section 3]: https://www.rfc-editor.org/rfc/rfc8693#section-3
    pub fn issued_token_type(&self) -> Option<&str> {
        self.issued.issued_token_type()
    }

    /// Returns the members of the token response that this crate does not know, as a JSON object
    /// ([RFC 6749 section 5.1]).
    ///
    /// Returns `{}` for most tokens. The members are those of the response that brought the token,
    /// so a token from the cache has them, too. The token keeps at most 64 members with 4 KiB of
    /// names and values. A member beyond these limits is left out. A member that is `null` counts
    /// as absent.
    ///
    /// A provider may send secrets in such a member. `Debug` hides the members. The tokens of
    /// managed identities and of a developer's tools have none.
    ///
    /// [RFC 6749 section 5.1]: https://www.rfc-editor.org/rfc/rfc6749#section-5.1
    #[doc(alias = "AdditionalResponseParameters")]
    #[doc(alias = "WithAdditionalCacheParameters")]
    pub fn additional_response_parameters(&self) -> &str {
        self.issued.additional_parameters().unwrap_or("{}")
    }

    /// Returns one of the [`additional_response_parameters`](Self::additional_response_parameters).
    ///
    /// A string is returned without quotation marks, and any other value as JSON. Each call parses
    /// the members.
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
    /// #         let body = r#"{"token_type":"Bearer","expires_in":3599,"access_token":"abc",
    /// #             "instance_url":"https://eu7.example.org","limits":[5]}"#;
    /// #         Ok(http::Response::new(Bytes::from(body)))
    /// #     })
    /// #     .build()?;
    /// let token = client.acquire_token_for_client("https://graph.microsoft.com/.default").await?;
    /// // The response has `"instance_url": "https://eu7.example.org"` and `"limits": [5]`.
    /// let url = token.additional_response_parameter("instance_url");
    /// assert_eq!(url.as_deref(), Some("https://eu7.example.org"));
    /// assert_eq!(token.additional_response_parameter("limits").as_deref(), Some("[5]"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn additional_response_parameter(&self, name: &str) -> Option<String> {
        let members = self.issued.additional_parameters()?;
        let members: HashMap<Cow<'_, str>, &RawValue> = serde_json::from_str(members).ok()?;
        let json = members.get(name)?.get();
        let text = serde_json::from_str::<String>(json);
        Some(text.unwrap_or_else(|_| json.to_owned()))
    }

    /// Returns the source of the token for this call: the cache or the identity provider.
    #[doc(alias = "token_source")]
    pub fn source(&self) -> TokenSource {
        self.source
    }

    /// Returns the correlation id of the token request that brought the token.
    ///
    /// All calls that get the same token from the cache see the same id.
    pub fn correlation_id(&self) -> &str {
        self.issued.correlation_id()
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessToken")
            .field("secret", &"[redacted]")
            .field("scheme", &self.scheme())
            .field("source", &self.source)
            .field("expires_on", &self.expires_on())
            .field("refresh_on", &self.refresh_on())
            .field("scopes", &self.scopes())
            .field("tenant_id", &self.tenant_id())
            .field("correlation_id", &self.correlation_id())
            .finish()
    }
}

/// The source of a token, in MSAL's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenSource {
    /// The client's cache in memory.
    Cache,
    /// The cache that processes share. Another process acquired the token.
    SharedCache,
    /// A token request, sent for this call or shared with other callers.
    IdentityProvider,
}

impl TokenSource {
    /// Returns the source as a label: `cache`, `shared_cache` or `identity_provider`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cache => "cache",
            Self::SharedCache => "shared_cache",
            Self::IdentityProvider => "identity_provider",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::TimeSource;

    #[test]
    fn the_token_is_stored_once_and_hidden() {
        let issued = Arc::new(IssuedToken::sample(
            "t",
            "abc.def",
            60,
            TimeSource::System.now(),
        ));
        let key = issued.shared_key().clone();
        let token = AccessToken::from_cache(issued, &key, TokenSource::Cache).unwrap();
        assert_eq!(token.secret(), "abc.def");
        assert_eq!(token.authorization_header(), "Bearer abc.def");
        assert!(token.authorization_header().is_sensitive());
        assert_eq!(token.token_type(), "Bearer");
        assert_eq!(
            token.authorization_header().as_bytes()["Bearer ".len()..].as_ptr(),
            token.secret().as_ptr(),
            "the header shares the token's bytes"
        );
        assert!(!format!("{token:?}").contains("abc.def"));
    }

    /// docs/failures.md M4.
    #[test]
    fn a_token_of_another_tenant_is_not_returned() {
        let now = TimeSource::System.now();
        let fabrikam = Arc::new(IssuedToken::sample("fabrikam.com", "a", 60, now));
        let contoso = CacheKey::sample("contoso.com");
        assert!(AccessToken::from_cache(fabrikam, &contoso, TokenSource::Cache).is_none());
    }

    #[test]
    fn expires_in_counts_down_to_zero() {
        let token = |age: i64| {
            let issued_at = TimeSource::System.now().moved(-age, 0);
            let issued = Arc::new(IssuedToken::sample("t", "a", 60, issued_at));
            let key = issued.shared_key().clone();
            AccessToken::from_cache(issued, &key, TokenSource::Cache).unwrap()
        };
        let left = token(20).expires_in();
        assert!(left <= Duration::from_secs(40), "{left:?}");
        assert!(left > Duration::from_secs(30), "{left:?}");
        assert_eq!(token(60).expires_in(), Duration::ZERO);
        assert_eq!(token(3600).expires_in(), Duration::ZERO);
    }
}
