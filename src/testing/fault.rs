use http::header::RETRY_AFTER;
use http::{HeaderName, HeaderValue, StatusCode};

/// What a token request gets instead of its answer; see
/// [`LocalAuthority::script`](super::LocalAuthority::script).
#[derive(Clone, Debug)]
pub struct Fault {
    pub(super) status: StatusCode,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) body: Option<String>,
}

impl Fault {
    /// An answer with this status and, unless [`body`](Self::body) sets another, an OAuth error
    /// that fits it.
    ///
    /// # Panics
    ///
    /// If `status` is not a status: three digits from 100 on.
    #[track_caller]
    #[expect(
        clippy::panic,
        reason = "a wrong number is a mistake in the test's own text"
    )]
    pub fn status(status: u16) -> Self {
        let Ok(status) = StatusCode::from_u16(status) else {
            panic!("{status} is not an HTTP status");
        };
        Self {
            status,
            headers: Vec::new(),
            body: None,
        }
    }

    /// Sends `Retry-After` with this many seconds.
    pub fn retry_after(self, seconds: u64) -> Self {
        self.header(RETRY_AFTER, seconds.into())
    }

    /// Sends this header, in place of the answer's own of that name.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Sends this text as the body, as `text/html`.
    pub fn body(mut self, body: impl Into<String>) -> Self {
        self.body = Some(body.into());
        self
    }
}
