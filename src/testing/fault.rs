use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, RETRY_AFTER, TRANSFER_ENCODING};
use http::{HeaderName, HeaderValue, StatusCode};

/// What a token request gets instead of its answer; see
/// [`LocalAuthority::script`](crate::testing::LocalAuthority::script) and
/// [`begin_outage`](crate::testing::LocalAuthority::begin_outage).
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
    AadstsError(u64),
    /// The request's own answer.
    Answer,
    Truncated,
    Dropped,
    DroppedInBody,
}

impl Fault {
    /// An answer with this status and, unless [`body`](Self::body) sets another, an OAuth error
    /// that fits it.
    ///
    /// # Panics
    ///
    /// If `status` is not that of a final answer: three digits from 200 on.
    #[track_caller]
    #[expect(
        clippy::panic,
        reason = "a wrong number is a mistake in the test's own text"
    )]
    pub fn status(status: u16) -> Self {
        match StatusCode::from_u16(status) {
            Ok(status) if !status.is_informational() => Self::new(FaultKind::Status(status)),
            _ => panic!("{status} is not the HTTP status of a final answer"),
        }
    }

    /// Entra's refusal with this AADSTS code, with the status, `error` and text that Entra sends
    /// it with: 7000215, 7000216, 7000218, 7000222, 700016, 90002, 700027, 700024, 700211, 700212,
    /// 700213, 70011, 1002012, 500011, 50049, 53003 (with `claims`), 90033 and 90055; of what is
    /// asked for in a user's name, 65001 (`consent_required`), 50076 (`invalid_grant`,
    /// `basic_action`, with `claims`), 50079 (`interaction_required`, with `claims`), 50013, 500131,
    /// 500133, 50173, 70008, 70000, 54005, 501481, 50034, 240002, 7000114, 28000 and 9002313. Other
    /// codes come as 400 `invalid_request`.
    pub fn aadsts(code: u64) -> Self {
        Self::new(FaultKind::AadstsError(code))
    }

    /// The request's own answer, after this time.
    pub fn delayed(by: Duration) -> Self {
        Self::new(FaultKind::Answer).delay(by)
    }

    /// The request's own answer, of which the second half is missing: well-formed HTTP and broken
    /// JSON.
    pub fn truncated() -> Self {
        Self::new(FaultKind::Truncated)
    }

    /// No answer: the connection is closed.
    pub fn dropped() -> Self {
        Self::new(FaultKind::Dropped)
    }

    /// The connection is closed half-way through the body of the request's own answer.
    pub fn dropped_in_body() -> Self {
        Self::new(FaultKind::DroppedInBody)
    }

    /// Waits this long before anything is sent.
    pub fn delay(mut self, by: Duration) -> Self {
        self.delay = by;
        self
    }

    /// Sends `Retry-After` with this many seconds.
    pub fn retry_after(self, seconds: u64) -> Self {
        self.header(RETRY_AFTER, seconds.into())
    }

    /// Sends `Retry-After` as a date (UTC, whole seconds), its other form
    /// ([RFC 9110 section 10.2.3]).
    ///
    /// [RFC 9110 section 10.2.3]: https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3
    pub fn retry_after_date(self, date: SystemTime) -> Self {
        match HeaderValue::try_from(httpdate::fmt_http_date(date)) {
            Ok(value) => self.header(RETRY_AFTER, value),
            Err(_) => self,
        }
    }

    /// Sends this header, in place of the answer's own of that name. Those that frame the message,
    /// `Content-Length` and `Transfer-Encoding`, are the server's to set.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        if name != CONTENT_LENGTH && name != TRANSFER_ENCODING {
            self.headers.push((name, value));
        }
        self
    }

    /// Sends these bytes as the body, as `text/html` unless [`header`](Self::header) says
    /// otherwise.
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
