use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::Header;
use jsonwebtoken::crypto::JwtSigner;
use serde::Serialize;
use uuid::Uuid;

use crate::certificate::Certificate;
use crate::error::{Error, Failure};
use crate::secret::Secret;

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

/// Signs an assertion that proves `client_id` to `audience`, good for one request: strict
/// providers refuse a `jti` they have seen.
pub(crate) fn client_assertion(
    certificate: &Certificate,
    client_id: &str,
    audience: &str,
    now: SystemTime,
) -> Result<Secret, Error> {
    let nbf = unix_seconds(now).saturating_sub(SKEW.as_secs());
    let claims = Claims {
        aud: audience,
        iss: client_id,
        sub: client_id,
        nbf,
        exp: nbf.saturating_add(VALID_FOR.as_secs()),
        jti: Uuid::new_v4().to_string(),
    };
    let signer = certificate.signer();
    let mut header = Header::new(signer.algorithm());
    header.x5t_s256 = Some(certificate.thumbprint_s256().to_owned());
    sign_compact(&header, &claims, &*signer).map(Secret::from)
}

/// A JWS in compact form ([RFC 7515 section 7.1]).
///
/// jsonwebtoken's own `encode` is not used: it goes through a process-wide provider that panics
/// when a program's crates enable both of its backends, or none.
///
/// [RFC 7515 section 7.1]: https://www.rfc-editor.org/rfc/rfc7515#section-7.1
pub(crate) fn sign_compact(
    header: &Header,
    claims: &impl Serialize,
    signer: &dyn JwtSigner,
) -> Result<String, Error> {
    let encode = |json: serde_json::Result<Vec<u8>>| match json {
        Ok(json) => Ok(BASE64_URL_SAFE_NO_PAD.encode(json)),
        Err(error) => Err(failed(error)),
    };
    let header = encode(serde_json::to_vec(header))?;
    let claims = encode(serde_json::to_vec(claims))?;
    let message = format!("{header}.{claims}");
    let signature = signer.try_sign(message.as_bytes()).map_err(failed)?;
    Ok(format!(
        "{message}.{}",
        BASE64_URL_SAFE_NO_PAD.encode(signature)
    ))
}

pub(crate) fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

/// The error of an assertion that was to be signed and was not.
pub(crate) fn failed(source: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Credential(
        Failure::new("the assertion could not be signed")
            .source(Box::new(source))
            .into(),
    )
}

/// From `nbf` to `exp`; Entra advises five to ten minutes.
const VALID_FOR: Duration = Duration::from_secs(10 * 60);
/// How far `nbf` lies in the past, for a machine whose clock runs ahead of the provider's.
const SKEW: Duration = Duration::from_secs(60);
