use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::HeaderValue;

use crate::scope::ScopeSet;
use crate::time::{Deadline, Now};

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
    issued: Arc<Issued>,
    source: TokenSource,
}

impl AccessToken {
    /// `None` if the token was issued for something else than `key`: a token of the wrong tenant
    /// is never handed out, whatever went wrong before.
    pub(crate) fn hand_out(issued: Arc<Issued>, key: &Key, source: TokenSource) -> Option<Self> {
        (issued.key == *key).then_some(Self { issued, source })
    }

    pub(crate) fn issued(&self) -> &Arc<Issued> {
        &self.issued
    }

    /// The token itself, as it goes behind `Bearer `. Do not log it, and do not parse it: it is
    /// meant for the API alone.
    pub fn secret(&self) -> &str {
        // Built as SCHEME + token.
        self.issued
            .credentials
            .get(SCHEME.len()..)
            .unwrap_or_default()
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
        self.issued.lifetime.expires_on
    }

    /// From when on a client renews the token behind the caller's back (UTC).
    ///
    /// What the server asked for with `refresh_in`; else half the lifetime from two hours up; else
    /// five minutes before the end, but not before half the lifetime. Then earlier by a jitter of
    /// at most five minutes or a tenth of the lifetime, so that a fleet does not renew in step.
    pub fn refresh_on(&self) -> SystemTime {
        self.issued.lifetime.refresh.wall
    }

    /// The scopes granted, separated by spaces; those asked for where the server named none.
    pub fn scopes(&self) -> &str {
        &self.issued.scopes
    }

    /// The tenant, as it was asked for: an id or a domain.
    pub fn tenant_id(&self) -> Option<&str> {
        self.issued.tenant.as_deref()
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
pub(crate) struct Key {
    /// Case folded.
    pub(crate) tenant: Arc<str>,
    pub(crate) scopes: ScopeSet,
    pub(crate) kind: Kind,
}

/// Whose token it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Application,
}

/// A token as it was issued: what the cache keeps, once, whoever asks.
pub(crate) struct Issued {
    /// What it was asked for, to be compared when it is handed out.
    key: Key,
    /// `Bearer ` and the token; the header value shares these bytes.
    credentials: Arc<str>,
    authorization: HeaderValue,
    pub(crate) lifetime: Lifetime,
    scopes: Arc<str>,
    tenant: Option<Arc<str>>,
    correlation_id: Box<str>,
}

impl Issued {
    /// `None` if the token cannot be a header value.
    pub(crate) fn new(
        key: Key,
        token: &str,
        lifetime: Lifetime,
        scopes: Arc<str>,
        tenant: Option<Arc<str>>,
        correlation_id: &str,
    ) -> Option<Self> {
        let credentials: Arc<str> = format!("{SCHEME}{token}").into();
        let bytes = Bytes::from_owner(AsBytes(Arc::clone(&credentials)));
        let mut authorization = HeaderValue::from_maybe_shared(bytes).ok()?;
        authorization.set_sensitive(true);
        Some(Self {
            key,
            credentials,
            authorization,
            lifetime,
            scopes,
            tenant,
            correlation_id: correlation_id.into(),
        })
    }
}

impl Issued {
    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    pub(crate) fn correlation_id(&self) -> &str {
        &self.correlation_id
    }

    /// Whether it is the same token, be it by another response.
    pub(crate) fn is_same_token(&self, other: &Self) -> bool {
        self.credentials == other.credentials
    }
}

#[cfg(test)]
impl Issued {
    pub(crate) fn text(&self) -> &str {
        self.credentials.trim_start_matches(SCHEME)
    }

    /// A token for `tenant` that lives `seconds` from `now`.
    pub(crate) fn sample(tenant: &str, token: &str, seconds: u64, now: Now) -> Self {
        let tenant = Arc::<str>::from(tenant);
        let key = Key {
            tenant: Arc::clone(&tenant),
            scopes: ScopeSet::default(),
            kind: Kind::Application,
        };
        let lifetime = Lifetime::new(Duration::from_secs(seconds), None, now, 0.0);
        Self::new(key, token, lifetime, "s".into(), Some(tenant), "c").expect("a plain token")
    }
}

struct AsBytes(Arc<str>);

impl AsRef<[u8]> for AsBytes {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// The three moments in a token's life.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lifetime {
    expires_on: SystemTime,
    /// From here on it is renewed ahead.
    pub(crate) refresh: Deadline,
    /// From here on it is not served.
    pub(crate) unusable: Deadline,
    /// For how long it is served in all.
    pub(crate) whole: Duration,
}

impl Lifetime {
    /// `jitter`, from 0 to 1, is drawn once, by the caller.
    pub(crate) fn new(
        lifetime: Duration,
        refresh_in: Option<Duration>,
        now: Now,
        jitter: f64,
    ) -> Self {
        let lifetime = lifetime.min(LONGEST);
        let half = lifetime / 2;
        let refresh = match refresh_in {
            Some(refresh_in) if !refresh_in.is_zero() && refresh_in < lifetime => refresh_in,
            _ if lifetime >= LONG => half,
            // Never before half the lifetime: a token shorter than the margin would be renewed
            // without end.
            _ => lifetime.saturating_sub(FIVE_MINUTES).max(half),
        };
        // Never more than half the way: a server that wants a token renewed after a minute must not
        // have it renewed at once, and at once again.
        let jitter = FIVE_MINUTES
            .min(lifetime / 10)
            .min(refresh / 2)
            .mul_f64(jitter.clamp(0.0, 1.0));
        let margin = Duration::from_secs(10).min(lifetime / 10);
        let whole = lifetime.saturating_sub(margin);
        Self {
            expires_on: now.plus(lifetime).wall,
            refresh: now.plus(refresh.saturating_sub(jitter)),
            unusable: now.plus(whole),
            whole,
        }
    }
}

const SCHEME: &str = "Bearer ";
const FIVE_MINUTES: Duration = Duration::from_secs(5 * 60);
const LONG: Duration = Duration::from_secs(2 * 60 * 60);
/// A lifetime beyond this is a server's mistake; no entry is kept for ever.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::TimeSource;

    #[test]
    fn the_thresholds_follow_from_the_lifetime() {
        let now = TimeSource::System.now();
        // lifetime, refresh_in, jitter => refresh, unusable (seconds)
        for (name, lifetime, refresh_in, jitter, refresh, unusable) in [
            (
                "an hour: five minutes before the end",
                3600,
                None,
                0.0,
                3300.0,
                3590.0,
            ),
            ("just under two hours", 7199, None, 0.0, 6899.0, 7189.0),
            ("two hours: half", 7200, None, 0.0, 3600.0, 7190.0),
            ("a day: half", 86_400, None, 0.0, 43_200.0, 86_390.0),
            ("eight minutes: half", 480, None, 0.0, 240.0, 470.0),
            (
                "one minute: half, margin a tenth",
                60,
                None,
                0.0,
                30.0,
                54.0,
            ),
            ("one second", 1, None, 0.0, 0.5, 0.9),
            ("the server's word", 3600, Some(1800), 0.0, 1800.0, 3590.0),
            (
                "refresh_in not below the lifetime",
                3600,
                Some(3600),
                0.0,
                3300.0,
                3590.0,
            ),
            ("refresh_in of zero", 3600, Some(0), 0.0, 3300.0, 3590.0),
            (
                "jitter is at most five minutes",
                3600,
                None,
                1.0,
                3000.0,
                3590.0,
            ),
            ("jitter is at most a tenth", 600, None, 1.0, 240.0, 590.0),
            (
                "jitter is at most half the way",
                3600,
                Some(60),
                1.0,
                30.0,
                3590.0,
            ),
            ("jitter is a share", 3600, Some(1800), 0.5, 1650.0, 3590.0),
        ] {
            let made = Lifetime::new(
                Duration::from_secs(lifetime),
                refresh_in.map(Duration::from_secs),
                now,
                jitter,
            );
            assert_eq!(
                made.refresh.remaining(&now).as_secs_f64(),
                refresh,
                "{name}"
            );
            assert_eq!(
                made.unusable.remaining(&now).as_secs_f64(),
                unusable,
                "{name}"
            );
            assert_eq!(
                made.expires_on,
                now.wall + Duration::from_secs(lifetime),
                "{name}"
            );
        }
    }

    #[test]
    fn a_lifetime_beyond_reason_is_cut_and_never_endless() {
        let now = TimeSource::System.now();
        let made = Lifetime::new(Duration::MAX, None, now, 0.0);
        assert_eq!(made.expires_on, now.wall + LONGEST);
    }

    #[test]
    fn the_token_is_kept_once_and_hidden() {
        let issued = Arc::new(Issued::sample("t", "abc.def", 60, TimeSource::System.now()));
        let key = issued.key.clone();
        let token = AccessToken::hand_out(issued, &key, TokenSource::Cache).unwrap();
        assert_eq!(token.secret(), "abc.def");
        assert_eq!(token.authorization_header(), "Bearer abc.def");
        assert!(token.authorization_header().is_sensitive());
        assert_eq!(token.token_type(), "Bearer");
        assert_eq!(
            token.authorization_header().as_bytes().as_ptr(),
            token.issued.credentials.as_ptr(),
            "the header shares the token's bytes"
        );
        assert!(!format!("{token:?}").contains("abc.def"));
    }

    /// failures.md M4.
    #[test]
    fn a_token_of_another_tenant_is_not_handed_out() {
        let now = TimeSource::System.now();
        let fabrikam = Arc::new(Issued::sample("fabrikam.com", "a", 60, now));
        let contoso = Issued::sample("contoso.com", "b", 60, now).key;
        assert!(AccessToken::hand_out(fabrikam, &contoso, TokenSource::Cache).is_none());
    }

    #[test]
    fn a_token_that_cannot_be_a_header_value_is_no_token() {
        let now = TimeSource::System.now();
        let sample = Issued::sample("t", "a", 60, now);
        assert!(Issued::new(sample.key, "a\nb", sample.lifetime, "s".into(), None, "c").is_none());
    }
}
