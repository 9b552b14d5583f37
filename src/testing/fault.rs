use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, RETRY_AFTER, TRANSFER_ENCODING};
use http::{HeaderName, HeaderValue, StatusCode};

/// A response, or a missing response, in the place of the regular response to a token request.
///
/// [`LocalAuthority::script`] applies faults to the next requests. [`LocalAuthority::begin_outage`]
/// applies one fault to all requests. A [`LocalManagedIdentity`] has the same methods, and words
/// the errors as the source of the request does.
///
/// [`LocalManagedIdentity`]: super::LocalManagedIdentity
/// [`LocalAuthority::script`]: super::LocalAuthority::script
/// [`LocalAuthority::begin_outage`]: super::LocalAuthority::begin_outage
///
/// ```
/// use std::time::Duration;
/// use confidential_client::testing::Fault;
///
/// let script = [
///     Fault::status(429).retry_after(2),
///     Fault::status(503).body("<html>Service Unavailable</html>"),
///     Fault::aadsts(53003),
///     Fault::delayed(Duration::from_millis(50)),
///     Fault::dropped_in_body(),
/// ];
/// # let _ = script;
/// ```
#[derive(Clone, Debug)]
pub struct Fault {
    pub(crate) kind: FaultKind,
    pub(crate) delay: Duration,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) body: Option<Bytes>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum FaultKind {
    Status(StatusCode),
    Aadsts(u64),
    /// The regular response.
    Regular,
    Truncated,
    Dropped,
    DroppedInBody,
    /// A token of another identity, at the endpoint of a host.
    AnotherIdentity,
}

impl Fault {
    /// Responds with this status and a suitable OAuth error.
    ///
    /// [`body`](Self::body) replaces the OAuth error.
    ///
    /// # Panics
    ///
    /// If `status` is not the status of a final response: three digits, 200 or greater.
    #[track_caller]
    #[expect(clippy::panic, reason = "an invalid status is a mistake in the test")]
    pub fn status(status: u16) -> Self {
        match StatusCode::from_u16(status) {
            Ok(status) if !status.is_informational() => Self::new(FaultKind::Status(status)),
            _ => panic!("{status} is not the HTTP status of a final response; use 200 to 999"),
        }
    }

    /// Responds with Entra's error for this AADSTS code.
    ///
    /// For these codes, the status, the `error` and the text are Entra's:
    ///
    /// | subject | AADSTS codes |
    /// |---|---|
    /// | tenant and application | 90002, 700016 |
    /// | secret | 7000215, 7000222 |
    /// | no credential | 7000216, 7000218 |
    /// | assertion | 700027, 700024, 1000502, 7000214, 7000277 |
    /// | federated credential | 700211, 700212, 700213, 7000274 |
    /// | scope and resource | 70011, 1002012, 28000, 500011 |
    /// | instance | 50049 |
    /// | conditional access | 53003 with `claims` |
    /// | throttling and transient errors | 90055, 90033 |
    /// | consent | 65001 (`suberror` `consent_required`) |
    /// | multi-factor authentication | 50076 with `claims` (`invalid_grant`, `suberror` `basic_action`), 50079 with `claims` (`interaction_required`) |
    /// | user | 50034 |
    /// | code and refresh token | 9002313, 70000, 70008, 50173, 54005, 501481 |
    /// | token that a web API was called with | 50013, 500131, 500133, 240002, 7000114 |
    ///
    /// Other codes are sent as 400 `invalid_request`.
    pub fn aadsts(code: u64) -> Self {
        Self::new(FaultKind::Aadsts(code))
    }

    /// Sends the regular response after this time.
    pub fn delayed(by: Duration) -> Self {
        Self::new(FaultKind::Regular).delay(by)
    }

    /// Sends the first half of the regular response's body, as valid HTTP with broken JSON.
    pub fn truncated() -> Self {
        Self::new(FaultKind::Truncated)
    }

    /// Closes the connection without a response.
    pub fn dropped() -> Self {
        Self::new(FaultKind::Dropped)
    }

    /// Closes the connection in the middle of the regular response's body.
    pub fn dropped_in_body() -> Self {
        Self::new(FaultKind::DroppedInBody)
    }

    /// Responds with a token of another identity than the identity of the request.
    ///
    /// Old agents of Azure Arc respond so to a request for a user-assigned identity. Only
    /// [`LocalManagedIdentity`](super::LocalManagedIdentity) has identities. A `LocalAuthority`
    /// sends the regular response.
    pub fn another_identity() -> Self {
        Self::new(FaultKind::AnotherIdentity)
    }

    /// Sets the time to wait before the response.
    pub fn delay(mut self, by: Duration) -> Self {
        self.delay = by;
        self
    }

    /// Sends `Retry-After` with this many seconds.
    pub fn retry_after(self, seconds: u64) -> Self {
        self.header(RETRY_AFTER, seconds.into())
    }

    /// Sends `Retry-After` as a date in UTC with whole seconds ([RFC 9110 section 10.2.3]).
    ///
    /// [RFC 9110 section 10.2.3]: https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3
    pub fn retry_after_date(self, date: SystemTime) -> Self {
        match HeaderValue::try_from(httpdate::fmt_http_date(date)) {
            Ok(value) => self.header(RETRY_AFTER, value),
            Err(_) => self,
        }
    }

    /// Sends this header, and replaces the regular header of that name.
    ///
    /// `Content-Length` and `Transfer-Encoding` are ignored, because the server sets them.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        if name != CONTENT_LENGTH && name != TRANSFER_ENCODING {
            self.headers.push((name, value));
        }
        self
    }

    /// Sends this body with the content type `text/html`.
    ///
    /// [`header`](Self::header) can set another content type.
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = Some(Bytes::copy_from_slice(body.as_ref()));
        self
    }

    fn new(kind: FaultKind) -> Self {
        Self {
            kind,
            delay: Duration::ZERO,
            headers: Vec::new(),
            body: None,
        }
    }
}
