use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::Header;
use serde::Serialize;
use uuid::Uuid;

use crate::certificate::Certificate;
use crate::error::{Error, Failure};

/// The claims of a client assertion ([RFC 7523 section 3]), in the order MSAL writes them.
///
/// [RFC 7523 section 3]: https://www.rfc-editor.org/rfc/rfc7523#section-3
#[derive(Serialize)]
struct Claims<'a> {
    aud: &'a str,
    iss: &'a str,
    sub: &'a str,
    nbf: u64,
    exp: u64,
    jti: String,
}

/// What is to be signed to prove `client_id` to `audience`, good for one request: strict providers
/// refuse a `jti` they have seen.
pub(crate) fn client_assertion(
    certificate: &Certificate,
    client_id: &str,
    audience: &str,
    now: SystemTime,
) -> Result<Unsigned, Error> {
    let nbf = unix_seconds(now).saturating_sub(SKEW.as_secs());
    let claims = Claims {
        aud: audience,
        iss: client_id,
        sub: client_id,
        nbf,
        exp: nbf.saturating_add(VALID_FOR.as_secs()),
        jti: Uuid::new_v4().to_string(),
    };
    Unsigned::new(&certificate.header(), &claims)
}

/// A JWS in compact form ([RFC 7515 section 7.1]) that lacks its signature.
///
/// jsonwebtoken's own `encode` is not used: it goes through a process-wide provider that panics
/// when a program's crates enable both of its backends, or none.
///
/// [RFC 7515 section 7.1]: https://www.rfc-editor.org/rfc/rfc7515#section-7.1
pub(crate) struct Unsigned(String);

impl Unsigned {
    pub(crate) fn new(header: &Header, claims: &impl Serialize) -> Result<Self, Error> {
        let header = serde_json::to_vec(header).map_err(failed)?;
        let claims = serde_json::to_vec(claims).map_err(failed)?;
        let encode = |part: Vec<u8>| BASE64_URL_SAFE_NO_PAD.encode(part);
        Ok(Self(format!("{}.{}", encode(header), encode(claims))))
    }

    pub(crate) fn message(&self) -> &[u8] {
        self.0.as_bytes()
    }

    pub(crate) fn signed(mut self, signature: &[u8]) -> String {
        self.0.push('.');
        BASE64_URL_SAFE_NO_PAD.encode_string(signature, &mut self.0);
        self.0
    }
}

pub(crate) fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

/// The error of an assertion that was to be signed and was not.
pub(crate) fn failed(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Credential(
        Failure::new("the assertion could not be signed")
            .source(source.into())
            .into(),
    )
}

/// From `nbf` to `exp`; Entra advises five to ten minutes.
const VALID_FOR: Duration = Duration::from_secs(10 * 60);
/// How far `nbf` lies in the past, for a machine whose clock runs ahead of the provider's.
const SKEW: Duration = Duration::from_secs(60);
