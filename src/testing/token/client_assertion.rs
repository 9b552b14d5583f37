use std::time::{Duration, SystemTime};

use jsonwebtoken::Header;
use serde::Deserialize;

use super::jwt::ReceivedJwt;
use crate::crypto;
use crate::testing::aadsts::body::timestamp;
use crate::testing::aadsts::error::AadstsError;
use crate::testing::directory::application::Application;
use crate::testing::provider_rules::ProviderRules;

/// A parsed client assertion.
pub(crate) struct ReceivedAssertion<'a>(pub(crate) ReceivedJwt<'a, SignerClaims>);

#[derive(Deserialize)]
pub(crate) struct SignerClaims {
    pub(crate) aud: String,
    pub(crate) iss: String,
    pub(crate) sub: String,
    // Entra accepts fractions, and assertions without `nbf`.
    #[serde(default)]
    nbf: f64,
    exp: f64,
}

impl<'a> ReceivedAssertion<'a> {
    pub(crate) fn parse(jwt: &'a str) -> Result<Self, AadstsError> {
        let parsed = ReceivedJwt::parse(jwt).map(Self);
        parsed.ok_or_else(|| AadstsError::malformed_assertion(""))
    }

    pub(crate) fn claims(&self) -> &SignerClaims {
        &self.0.claims
    }

    /// Returns the certificate thumbprint of the header. A token of another issuer has none.
    pub(crate) fn thumbprint(&self) -> Option<&str> {
        let Header { x5t_s256, x5t, .. } = &self.0.header;
        x5t_s256.as_deref().or(x5t.as_deref())
    }

    /// Checks `nbf` and `exp`, with a tolerance of five minutes.
    pub(crate) fn check_time(&self, now: SystemTime) -> Result<(), AadstsError> {
        let seconds = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs_f64();
        let SignerClaims { nbf, exp, .. } = *self.claims();
        if seconds + CLOCK_SKEW >= nbf && seconds <= exp + CLOCK_SKEW {
            return Ok(());
        }
        let format = |seconds: f64| match Duration::try_from_secs_f64(seconds) {
            Ok(since) => timestamp(SystemTime::UNIX_EPOCH + since),
            Err(_) => "never".to_owned(),
        };
        Err(AadstsError::assertion_not_valid_now(
            &timestamp(now),
            &format(nbf),
            &format(exp),
        ))
    }

    /// Checks an assertion that the application signed, in Entra's order.
    ///
    /// The checks cover the certificate, the signature, `iss` and `sub`, `aud`, and the time.
    /// `audiences` are the accepted URLs of the token endpoint.
    pub(crate) fn check(
        &self,
        application: &Application,
        audiences: &[String],
        rules: &ProviderRules,
        now: SystemTime,
    ) -> Result<(), AadstsError> {
        let ReceivedJwt { header, claims, .. } = &self.0;
        let thumbprint = self.thumbprint().unwrap_or_default();
        let Some(certificate) = application.certificate_with(header) else {
            return Err(AadstsError::unregistered_certificate(
                "The key was not found.",
                thumbprint,
            ));
        };
        let mut algorithms = rules.assertion_algorithms().iter();
        let algorithm = algorithms.find(|(name, _)| *name == header.alg);
        let Some((_, algorithm)) = algorithm else {
            let reason = match rules.is_openid() {
                true => ": its algorithm is not accepted",
                false => "",
            };
            return Err(AadstsError::malformed_assertion(reason));
        };
        if !rules.accepts_type(header.typ.as_deref()) {
            return Err(AadstsError::malformed_assertion(
                ": its type is not 'client-authentication+jwt'",
            ));
        }
        let is_valid = crypto::verify(
            certificate.public_key(),
            *algorithm,
            self.0.message.as_bytes(),
            &self.0.signature,
        );
        if is_valid != Ok(true) {
            return Err(AadstsError::unregistered_certificate(
                "The key was found, but the signature does not match the key.",
                thumbprint,
            ));
        }

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
                match rules.requires_issuer() {
                    true => ": its audience is not the issuer",
                    false => ": its audience is not this token endpoint",
                },
            ));
        }
        self.check_time(now)
    }
}

/// Accepted difference of the two clocks, in seconds.
const CLOCK_SKEW: f64 = 300.0;
