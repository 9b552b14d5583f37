use std::fmt;
use std::sync::Arc;
#[cfg(test)]
use std::time::Duration;
use std::time::SystemTime;

use bytes::Bytes;
use http::HeaderValue;

use crate::authority::Tenant;
use crate::request::parameters::Parameters;
use crate::scope::{ScopeSet, is_granted};
#[cfg(test)]
use crate::time::Now;

mod lifetime;

pub(crate) use lifetime::{Lifetime, Stage};

/// An access token and what is known about it. Cheap to clone; `Debug` hides the token.
///
/// ```
/// # use bytes::Bytes;
/// # use confidential_client::{ConfidentialClient, TokenSource};
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
pub struct AccessToken {
    issued: Arc<IssuedToken>,
    source: TokenSource,
}

impl AccessToken {
    /// `None` if the token was issued for something else than `key`: a token of the wrong tenant
    /// is never handed out, whatever went wrong before.
    #[inline]
    pub(crate) fn hand_out(
        issued: Arc<IssuedToken>,
        key: &Arc<CacheKey>,
        source: TokenSource,
    ) -> Option<Self> {
        // Nearly always the very same, which saves a look at either.
        let same = Arc::ptr_eq(&issued.key, key) || issued.key == *key;
        same.then_some(Self { issued, source })
    }

    pub(crate) fn issued(&self) -> &Arc<IssuedToken> {
        &self.issued
    }

    /// The token itself, as it goes behind `Bearer `. Do not log it, and do not parse it: it is
    /// meant for the API alone.
    pub fn secret(&self) -> &str {
        self.issued.secret()
    }

    /// The value of the `Authorization` header ([RFC 6750 section 2.1]): made once when the token
    /// was issued, marked sensitive, and only cloned here, without copying the token.
    ///
    /// [RFC 6750 section 2.1]: https://www.rfc-editor.org/rfc/rfc6750#section-2.1
    pub fn authorization_header(&self) -> HeaderValue {
        self.issued.authorization.clone()
    }

    /// When the token ends (UTC), by this machine's clock. A client stops serving it a little
    /// earlier: by ten seconds, or by a tenth of a lifetime under 100 seconds.
    pub fn expires_on(&self) -> SystemTime {
        self.issued.lifetime.expires_on()
    }

    /// From when on a client renews the token behind the caller's back (UTC).
    ///
    /// What the server asked for with `refresh_in`; else half the lifetime from two hours up; else
    /// five minutes before the end, but not before half the lifetime. Then earlier by a jitter of
    /// at most five minutes or a tenth of the lifetime, so that a fleet does not renew in step.
    pub fn refresh_on(&self) -> SystemTime {
        self.issued.lifetime.refresh_on()
    }

    /// The scopes granted, separated by spaces; those asked for where the server named none.
    pub fn scopes(&self) -> &str {
        self.issued.scopes()
    }

    /// The scopes that were asked for and not granted, as where a user consented to less. None for
    /// nearly every token, and never one of OpenID Connect's, nor a resource's `/.default`.
    ///
    /// A provider that leaves a scope's resource out is understood.
    pub fn declined_scopes(&self) -> impl Iterator<Item = &str> {
        let asked = self.issued.key.scopes.as_str();
        let granted = self.scopes();
        let asked = asked.split(' ').filter(|scope| !scope.is_empty());
        asked.filter(move |scope| !is_granted(scope, granted))
    }

    /// The tenant, as it was asked for: an id or a domain.
    pub fn tenant_id(&self) -> Option<&str> {
        self.issued.tenant()
    }

    /// The scheme of the `Authorization` header: `Bearer`.
    pub fn token_type(&self) -> &str {
        SCHEME.trim_end()
    }

    /// Where this call got the token from.
    pub fn source(&self) -> TokenSource {
        self.source
    }

    /// The correlation id of the token request that brought the token. It is the request's, not
    /// the call's: everyone served from the cache sees the same.
    pub fn correlation_id(&self) -> &str {
        self.issued.correlation_id()
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessToken")
            .field("secret", &"[redacted]")
            .field("source", &self.source)
            .field("expires_on", &self.expires_on())
            .field("refresh_on", &self.refresh_on())
            .field("scopes", &self.scopes())
            .field("tenant_id", &self.tenant_id())
            .field("correlation_id", &self.correlation_id())
            .finish()
    }
}

/// Where a token came from, in MSAL's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenSource {
    /// The client's memory.
    Cache,
    /// A token request, this caller's own or one it joined.
    IdentityProvider,
}

/// What a token is for: the full identity of a request, as the cache tells requests apart.
///
/// It belongs to one client, so authority and client id are not in it; and nothing that differs
/// from call to call is, such as a correlation id.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CacheKey {
    pub(crate) tenant: Option<Tenant>,
    pub(crate) scopes: ScopeSet,
    pub(crate) kind: Kind,
    pub(crate) parameters: Parameters,
}

/// Whose token it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Application,
    User(Arc<User>),
}

impl Kind {
    pub(crate) fn is_user(&self, user: &User) -> bool {
        matches!(self, Self::User(own) if **own == *user)
    }
}

/// A user, as the cache tells them from each other.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) enum User {
    /// Who called with this user assertion, by its SHA-256.
    Assertion([u8; 32]),
    /// Who signed in, by the home account id.
    Account(Box<str>),
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Assertion(_) => "Assertion(..)",
            Self::Account(_) => "Account(..)",
        })
    }
}

/// A token as it was issued: what the cache keeps, once, whoever asks.
pub(crate) struct IssuedToken {
    /// What it was asked for, to be compared when it is handed out.
    key: Arc<CacheKey>,
    /// `Bearer ` and the token: the one copy of it.
    authorization: HeaderValue,
    pub(crate) lifetime: Lifetime,
    /// Where it differs from the key.
    spelling: Option<Box<AsRequested>>,
    correlation_id: Box<str>,
}

/// The words of the request and of the answer.
struct AsRequested {
    scopes: Arc<str>,
    tenant: Option<Arc<str>>,
}

impl IssuedToken {
    /// `None` if the token cannot be a header value.
    pub(crate) fn new(
        key: Arc<CacheKey>,
        token: &str,
        lifetime: Lifetime,
        scopes: Arc<str>,
        tenant: Option<Arc<str>>,
        correlation_id: &str,
    ) -> Option<Self> {
        let credentials = Bytes::from([SCHEME, token].concat());
        let mut authorization = HeaderValue::from_maybe_shared(credentials).ok()?;
        authorization.set_sensitive(true);
        let as_in_key = *scopes == *key.scopes.as_str()
            && tenant.as_deref() == key.tenant.as_ref().map(Tenant::as_str);
        Some(Self {
            spelling: (!as_in_key).then(|| Box::new(AsRequested { scopes, tenant })),
            key,
            authorization,
            lifetime,
            correlation_id: correlation_id.into(),
        })
    }
}

impl IssuedToken {
    /// The same for `key`, as where it is known only afterwards whose token it is.
    pub(crate) fn belonging_to(mut self, key: Arc<CacheKey>) -> Self {
        if let Some(spelling) = &mut self.spelling
            && key.tenant != self.key.tenant
        {
            spelling.tenant = key.tenant.as_ref().map(Tenant::as_requested).cloned();
        }
        self.key = key;
        self
    }

    pub(crate) fn key(&self) -> &CacheKey {
        &self.key
    }

    pub(crate) fn correlation_id(&self) -> &str {
        &self.correlation_id
    }

    /// Whether it is the same token, be it by another response.
    pub(crate) fn is_same_token(&self, other: &Self) -> bool {
        self.authorization == other.authorization
    }

    pub(crate) fn secret(&self) -> &str {
        // Built as SCHEME + token, of text.
        std::str::from_utf8(self.authorization.as_bytes())
            .ok()
            .and_then(|credentials| credentials.get(SCHEME.len()..))
            .unwrap_or_default()
    }

    fn scopes(&self) -> &str {
        match &self.spelling {
            Some(spelling) => &spelling.scopes,
            None => self.key.scopes.as_str(),
        }
    }

    fn tenant(&self) -> Option<&str> {
        match &self.spelling {
            Some(spelling) => spelling.tenant.as_deref(),
            None => self.key.tenant.as_ref().map(Tenant::as_str),
        }
    }
}

#[cfg(test)]
impl CacheKey {
    pub(crate) fn sample(tenant: &str) -> Arc<Self> {
        Arc::new(Self {
            tenant: Tenant::parse(tenant).ok(),
            scopes: ScopeSet::default(),
            kind: Kind::Application,
            parameters: Parameters::default(),
        })
    }
}

#[cfg(test)]
impl IssuedToken {
    /// A token for `tenant` that lives `seconds` from `now`.
    pub(crate) fn sample(tenant: &str, token: &str, seconds: u64, now: Now) -> Self {
        let key = CacheKey::sample(tenant);
        let tenant = key.tenant.as_ref().map(Tenant::as_requested).cloned();
        let lifetime = Lifetime::new(Duration::from_secs(seconds), None, now, 0.0);
        Self::new(key, token, lifetime, "s".into(), tenant, "c").expect("a plain token")
    }
}

const SCHEME: &str = "Bearer ";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::TimeSource;

    #[test]
    fn the_token_is_kept_once_and_hidden() {
        let issued = Arc::new(IssuedToken::sample(
            "t",
            "abc.def",
            60,
            TimeSource::System.now(),
        ));
        let key = issued.key.clone();
        let token = AccessToken::hand_out(issued, &key, TokenSource::Cache).unwrap();
        assert_eq!(token.secret(), "abc.def");
        assert_eq!(token.authorization_header(), "Bearer abc.def");
        assert!(token.authorization_header().is_sensitive());
        assert_eq!(token.token_type(), "Bearer");
        assert_eq!(
            token.authorization_header().as_bytes()[SCHEME.len()..].as_ptr(),
            token.secret().as_ptr(),
            "the header shares the token's bytes"
        );
        assert!(!format!("{token:?}").contains("abc.def"));
    }

    /// failures.md M4.
    #[test]
    fn a_token_of_another_tenant_is_not_handed_out() {
        let now = TimeSource::System.now();
        let fabrikam = Arc::new(IssuedToken::sample("fabrikam.com", "a", 60, now));
        let contoso = IssuedToken::sample("contoso.com", "b", 60, now).key;
        assert!(AccessToken::hand_out(fabrikam, &contoso, TokenSource::Cache).is_none());
    }

    #[test]
    fn a_token_that_cannot_be_a_header_value_is_no_token() {
        let now = TimeSource::System.now();
        let sample = IssuedToken::sample("t", "a", 60, now);
        assert!(
            IssuedToken::new(sample.key, "a\nb", sample.lifetime, "s".into(), None, "c").is_none()
        );
    }
}
