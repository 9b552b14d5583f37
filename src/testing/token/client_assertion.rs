use std::time::{Duration, SystemTime};

use aws_lc_rs::signature::{
    RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey,
};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, Header};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::testing::aadsts::AadstsError;
use crate::testing::directory::application::Application;
use crate::testing::http::response::timestamp;

/// A client assertion, taken apart.
pub(crate) type Assertion<'a> = ReceivedJwt<'a, SignerClaims>;

/// A signed JWT ([RFC 7515 section 7.1](https://www.rfc-editor.org/rfc/rfc7515#section-7.1)).
pub(crate) struct ReceivedJwt<'a, C> {
    pub(crate) header: Header,
    pub(crate) claims: C,
    /// What is signed.
    pub(crate) message: &'a str,
    pub(crate) signature: Vec<u8>,
}

#[derive(Deserialize)]
pub(crate) struct SignerClaims {
    pub(crate) aud: String,
    pub(crate) iss: String,
    pub(crate) sub: String,
    // Numbers with a fraction are taken, and no `nbf` is, as Entra takes them.
    #[serde(default)]
    nbf: f64,
    exp: f64,
}

impl<'a, C: DeserializeOwned> ReceivedJwt<'a, C> {
    /// Takes it apart; the signature is not verified yet.
    pub(crate) fn split(jwt: &'a str) -> Option<Self> {
        let (message, signature) = jwt.rsplit_once('.')?;
        let (header, claims) = message.split_once('.')?;
        Some(Self {
            header: decode(header)?,
            claims: decode(claims)?,
            message,
            signature: BASE64_URL_SAFE_NO_PAD.decode(signature).ok()?,
        })
    }
}

impl<'a> Assertion<'a> {
    pub(crate) fn parse(jwt: &'a str) -> Result<Self, AadstsError> {
        Self::split(jwt).ok_or_else(|| AadstsError::malformed_assertion(""))
    }

    /// The thumbprint of the certificate whose key signed it; a token of somebody else has none.
    pub(crate) fn thumbprint(&self) -> Option<&str> {
        let Header { x5t_s256, x5t, .. } = &self.header;
        x5t_s256.as_deref().or(x5t.as_deref())
    }

    pub(crate) fn check_time(&self, now: SystemTime) -> Result<(), AadstsError> {
        let seconds = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs_f64();
        let SignerClaims { nbf, exp, .. } = self.claims;
        if seconds + SKEW >= nbf && seconds <= exp + SKEW {
            return Ok(());
        }
        let at = |seconds: f64| match Duration::try_from_secs_f64(seconds) {
            Ok(since) => timestamp(SystemTime::UNIX_EPOCH + since),
            Err(_) => "never".to_owned(),
        };
        Err(AadstsError::assertion_not_valid_now(
            &timestamp(now),
            &at(nbf),
            &at(exp),
        ))
    }
}

/// Checks an assertion that the application signed itself, as Entra does: the certificate by its
/// thumbprint, the signature, and who it is from, for whom, and when. `audiences` are the spellings
/// of the token endpoint.
pub(crate) fn check(
    assertion: &Assertion<'_>,
    application: &Application,
    audiences: &[String],
    now: SystemTime,
) -> Result<(), AadstsError> {
    let Assertion { header, claims, .. } = assertion;
    let thumbprint = assertion.thumbprint().unwrap_or_default();
    let Some(certificate) = application.certificate_with(header) else {
        return Err(AadstsError::unregistered_certificate(
            "The key was not found.",
            thumbprint,
        ));
    };
    let algorithm = match header.alg {
        Algorithm::PS256 => &RSA_PSS_2048_8192_SHA256,
        Algorithm::RS256 => &RSA_PKCS1_2048_8192_SHA256,
        _ => return Err(AadstsError::malformed_assertion("")),
    };
    UnparsedPublicKey::new(algorithm, certificate.public_key())
        .verify(assertion.message.as_bytes(), &assertion.signature)
        .map_err(|_| {
            AadstsError::unregistered_certificate(
                "The key was found, but the signature is not its.",
                thumbprint,
            )
        })?;

    if certificate.check_validity(now).is_err() {
        return Err(AadstsError::certificate_not_valid_now());
    }
    if claims.iss != application.client_id() || claims.sub != application.client_id() {
        return Err(AadstsError::invalid_client(
            700021,
            "Client assertion application identifier doesn't match 'client_id' parameter.",
        ));
    }
    if !audiences.contains(&claims.aud) {
        return Err(AadstsError::malformed_assertion(
            ": its audience is not this token endpoint",
        ));
    }
    assertion.check_time(now)
}

fn decode<T: DeserializeOwned>(part: &str) -> Option<T> {
    let json = BASE64_URL_SAFE_NO_PAD.decode(part).ok()?;
    serde_json::from_slice(&json).ok()
}

/// How far the two clocks may be apart, in seconds.
const SKEW: f64 = 300.0;
