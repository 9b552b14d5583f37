use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::certificate::Certificate;
use crate::client_auth::AssertionForm;
use crate::error::{Error, Failure};
use crate::jwt::UnsignedJwt;
use crate::request::AssertionClaimSet;
use crate::time::unix_seconds;

/// The claims of a client assertion ([RFC 7523 section 3]), in the order MSAL writes them.
///
/// [RFC 7523 section 3]: https://www.rfc-editor.org/rfc/rfc7523#section-3
#[derive(Serialize)]
struct AssertionClaims<'a> {
    aud: &'a str,
    iss: &'a str,
    sub: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    iat: Option<u64>,
    nbf: u64,
    exp: u64,
    jti: String,
    #[serde(flatten)]
    extra: &'a Map<String, Value>,
}

/// Builds the unsigned client assertion for one token request.
///
/// Strict providers reject a `jti` that was used before, so every assertion has a new `jti`.
pub(crate) fn client_assertion(
    certificate: &Certificate,
    client_id: &str,
    audience: &str,
    extra: &AssertionClaimSet,
    form: AssertionForm,
    now: SystemTime,
) -> Result<UnsignedJwt, Error> {
    let now = unix_seconds(now);
    let nbf = now.saturating_sub(SKEW.as_secs());
    let (iat, exp) = match form {
        AssertionForm::Microsoft => (None, nbf.saturating_add(VALID_FOR.as_secs())),
        // Keycloak accepts an `iat` of the last minute only, and without `iat` an `exp` within one
        // minute only. So `iat` is not set back as `nbf` is.
        AssertionForm::OpenId { lifetime, .. } => {
            (Some(now), now.saturating_add(lifetime.as_secs()))
        }
    };
    let claims = AssertionClaims {
        aud: audience,
        iss: client_id,
        sub: client_id,
        iat,
        nbf,
        exp,
        jti: Uuid::new_v4().to_string(),
        extra: extra.members(),
    };
    UnsignedJwt::new(&certificate.header(form.header_type()), &claims).map_err(failed)
}

/// Returns the error for a failed signature.
pub(crate) fn failed(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Credential(
        Failure::new("the assertion could not be signed")
            .source(source.into())
            .into(),
    )
}

/// Time from `nbf` to `exp` for Microsoft. Entra recommends five to ten minutes.
const VALID_FOR: Duration = Duration::from_secs(10 * 60);
/// Time from `nbf` to now. The local clock may be ahead of the provider's clock.
const SKEW: Duration = Duration::from_secs(60);
