use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::random_secret;
use crate::testing::aadsts::error::AadstsError;
use crate::token::Thumbprint;

/// Issued authorization codes, by secret.
#[derive(Default)]
pub(crate) struct AuthorizationCodes(HashMap<String, AuthorizationCode>);

/// The sign-in that an authorization code stands for.
#[derive(Clone)]
pub(crate) struct AuthorizationCode {
    pub(crate) tenant: Uuid,
    pub(crate) client_id: String,
    pub(crate) redirect_uri: String,
    pub(crate) user: Uuid,
    pub(crate) scope: String,
    pub(crate) nonce: Option<String>,
    /// The S256 code challenge.
    pub(crate) challenge: Option<String>,
    /// The thumbprint of the proof key that the code is bound to (`dpop_jkt`).
    pub(crate) proof_key: Option<String>,
    /// Id of the sign-in, shared with the refresh tokens of the sign-in.
    pub(crate) family: Uuid,
    pub(crate) issued: SystemTime,
    /// Longest time between the sign-in and the token request.
    pub(crate) lifetime: Duration,
    pub(crate) is_redeemed: bool,
}

/// The parameters of a token request that redeems a code.
pub(crate) struct CodeRedemption<'a> {
    pub(crate) client_id: &'a str,
    pub(crate) redirect_uri: &'a str,
    pub(crate) verifier: Option<&'a str>,
    pub(crate) proof_key: Option<Thumbprint>,
}

impl AuthorizationCodes {
    pub(crate) fn issue(&mut self, code: AuthorizationCode) -> String {
        let secret = random_secret();
        self.0.insert(secret.clone(), code);
        secret
    }

    pub(crate) fn find(&self, secret: &str) -> Option<&AuthorizationCode> {
        self.0.get(secret)
    }

    /// Checks the client, the age, the redirect URI and the code verifier ([RFC 7636 section 4.6]).
    ///
    /// A code can be redeemed once.
    ///
    /// [RFC 7636 section 4.6]: https://www.rfc-editor.org/rfc/rfc7636#section-4.6
    pub(crate) fn check(
        &self,
        secret: &str,
        redemption: &CodeRedemption<'_>,
        now: SystemTime,
    ) -> Result<AuthorizationCode, AadstsError> {
        let Some(code) = self.0.get(secret) else {
            return Err(AadstsError::malformed_grant());
        };
        if !code.client_id.eq_ignore_ascii_case(redemption.client_id) {
            return Err(AadstsError::issued_to_other_client("code"));
        }
        if code.is_redeemed {
            return Err(AadstsError::code_redeemed());
        }
        if now.duration_since(code.issued).unwrap_or_default() > code.lifetime {
            return Err(AadstsError::expired_grant());
        }
        if code.redirect_uri != redemption.redirect_uri {
            let (presented, requested) = (redemption.redirect_uri, &code.redirect_uri);
            return Err(AadstsError::different_redirect_uri(presented, requested));
        }
        // RFC 9449 section 10.
        let is_other = |bound: &String| {
            let presented = redemption.proof_key.map(|key| key.to_string());
            presented.as_ref() != Some(bound)
        };
        if code.proof_key.as_ref().is_some_and(is_other) {
            return Err(AadstsError::without_code(
                "invalid_grant",
                "The proof has another key than the authorization request named in 'dpop_jkt'.",
            ));
        }
        // A verifier without a challenge is an attack too (RFC 9700 section 4.8.2).
        let challenge = redemption.verifier.map(challenge_of);
        match challenge == code.challenge {
            true => Ok(code.clone()),
            false => Err(AadstsError::wrong_verifier()),
        }
    }

    pub(crate) fn redeem(&mut self, secret: &str) {
        if let Some(code) = self.0.get_mut(secret) {
            code.is_redeemed = true;
        }
    }
}

fn challenge_of(verifier: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(verifier))
}

pub(crate) const CODE_LIFETIME: Duration = Duration::from_secs(600);
/// FAPI 2.0 Security Profile, section 5.3.2.1.
pub(crate) const FAPI2_CODE_LIFETIME: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn code(issued: SystemTime) -> AuthorizationCode {
        AuthorizationCode {
            tenant: Uuid::nil(),
            client_id: "client".to_owned(),
            redirect_uri: "https://web/".to_owned(),
            user: Uuid::nil(),
            scope: "openid".to_owned(),
            nonce: None,
            // From RFC 7636 appendix B.
            challenge: Some("E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM".to_owned()),
            proof_key: None,
            family: Uuid::nil(),
            issued,
            lifetime: CODE_LIFETIME,
            is_redeemed: false,
        }
    }

    #[test]
    fn a_code_expires_after_ten_minutes() {
        let now = SystemTime::now();
        let mut codes = AuthorizationCodes::default();
        let secret = codes.issue(code(now));
        let redemption = CodeRedemption {
            client_id: "client",
            redirect_uri: "https://web/",
            verifier: Some("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
            proof_key: None,
        };
        for (seconds, expected) in [(0, None), (600, None), (601, Some(70008))] {
            let checked = codes.check(&secret, &redemption, now + Duration::from_secs(seconds));
            assert_eq!(checked.err().map(|error| error.code), expected);
        }
    }
}
