use std::time::{Duration, SystemTime};

use serde::Serialize;
use uuid::Uuid;

use crate::certificate::Certificate;
use crate::error::{Error, Failure};
use crate::jwt::UnsignedJwt;
use crate::time::unix_seconds;

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
) -> Result<UnsignedJwt, Error> {
    let nbf = unix_seconds(now).saturating_sub(SKEW.as_secs());
    let claims = Claims {
        aud: audience,
        iss: client_id,
        sub: client_id,
        nbf,
        exp: nbf.saturating_add(VALID_FOR.as_secs()),
        jti: Uuid::new_v4().to_string(),
    };
    UnsignedJwt::new(&certificate.header(), &claims).map_err(failed)
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
