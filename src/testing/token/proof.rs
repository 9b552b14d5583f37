use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue};

use super::issuer::TokenIssuer;
use super::random_secret;
use crate::crypto::SigningAlgorithm;
use crate::dpop::{CheckedProof, ExpectedProof, NONCE, PROOF, ProofError, TargetUri, proof_of};
use crate::testing::aadsts::error::AadstsError;
use crate::testing::directory::application::Application;
use crate::testing::recorded_request::RecordedRequest;
use crate::token::{Thumbprint, TokenHash};

/// The proofs that a server accepted, and the nonce of the next proofs.
#[derive(Default)]
pub(crate) struct ReceivedProofs {
    nonce: Option<String>,
    /// Accepted proofs, with the time from which they are too old.
    accepted: HashMap<[u8; 32], SystemTime>,
}

/// A request with a proof.
pub(crate) struct ProvenRequest<'a> {
    pub(crate) method: &'a str,
    pub(crate) uri: &'a str,
    pub(crate) headers: &'a HeaderMap,
    /// The access token of the request, and the key that the token is bound to.
    pub(crate) token: Option<(&'a str, Thumbprint)>,
}

impl ReceivedProofs {
    /// Requires a new nonce in every proof.
    pub(crate) fn require_nonce(&mut self) {
        self.nonce = Some(random_secret());
    }

    /// Adds the nonce to a response.
    pub(crate) fn add_nonce(&self, headers: &mut HeaderMap) {
        let nonce = self.nonce.as_deref();
        if let Some(Ok(nonce)) = nonce.map(HeaderValue::from_str) {
            headers.insert(NONCE, nonce);
        }
    }

    /// Checks the proof of a token request, and returns the key that the token is bound to.
    ///
    /// Without a proof the token is a bearer token, unless the application demands a proof.
    pub(crate) fn check_token_request(
        &mut self,
        request: &RecordedRequest,
        application: &Application,
        issuer: &TokenIssuer<'_>,
    ) -> Result<Option<Thumbprint>, AadstsError> {
        if !request.headers().contains_key(PROOF) && !application.requires_proof {
            // FAPI 2.0 Security Profile, section 5.3.2.1.
            return match request.client_certificate().is_none() && issuer.rules.is_fapi2() {
                true => Err(AadstsError::unbound_token()),
                false => Ok(None),
            };
        }
        self.check_post(request, issuer).map(Some)
    }

    /// Checks the proof of a pushed authorization request, and returns the key that the code is
    /// bound to, which the parameter `dpop_jkt` may name, too ([RFC 9449 section 10.1]).
    ///
    /// [RFC 9449 section 10.1]: https://www.rfc-editor.org/rfc/rfc9449#section-10.1
    pub(crate) fn check_pushed_request(
        &mut self,
        request: &RecordedRequest,
        issuer: &TokenIssuer<'_>,
    ) -> Result<Option<Thumbprint>, AadstsError> {
        if !request.headers().contains_key(PROOF) {
            return Ok(None);
        }
        let key = self.check_post(request, issuer)?;
        match request.field("dpop_jkt") {
            Some(named) if named != key.to_string() => Err(AadstsError::without_code(
                "invalid_dpop_proof",
                "The proof has another key than 'dpop_jkt' names.",
            )),
            Some(_) | None => Ok(Some(key)),
        }
    }

    /// Checks the proof of a request to an endpoint of the authority.
    fn check_post(
        &mut self,
        request: &RecordedRequest,
        issuer: &TokenIssuer<'_>,
    ) -> Result<Thumbprint, AadstsError> {
        let proven = ProvenRequest {
            method: "POST",
            uri: &format!("{}{}", issuer.base, request.path()),
            headers: request.headers(),
            token: None,
        };
        let checked = self.check(&proven, issuer.now);
        checked.map(|proof| proof.key).map_err(|error| {
            let code = error_code(&error);
            AadstsError::without_code(code, error.for_sender())
        })
    }

    /// Checks a proof, and rejects one that was accepted before.
    pub(crate) fn check(
        &mut self,
        request: &ProvenRequest<'_>,
        now: SystemTime,
    ) -> Result<CheckedProof, ProofError> {
        let uri = TargetUri::of(request.uri).map_err(|error| ProofError::InvalidUri {
            found: request.uri.into(),
            error,
        })?;
        let is_current = |nonce: &str| self.nonce.as_deref() == Some(nonce);
        let expected = ExpectedProof {
            algorithms: PROOF_ALGORITHMS,
            method: request.method,
            uri: &uri,
            token: request.token.map(|(token, _)| TokenHash::of(token)),
            key: request.token.map(|(_, key)| key),
            nonce: self
                .nonce
                .is_some()
                .then_some(&is_current as &dyn Fn(&str) -> bool),
            now,
            window: WINDOW,
        };
        let proof = expected.check(proof_of(request.headers)?)?;
        self.accepted.retain(|_, valid_until| *valid_until > now);
        match self.accepted.insert(proof.replay_key, proof.valid_until) {
            None => Ok(proof),
            Some(_) => Err(ProofError::Replayed),
        }
    }
}

/// Returns the OAuth error of a rejected proof ([RFC 9449 sections 5 and 8]).
///
/// [RFC 9449 sections 5 and 8]: https://www.rfc-editor.org/rfc/rfc9449#section-8
pub(crate) fn error_code(error: &ProofError) -> &'static str {
    match error.needs_nonce() {
        true => "use_dpop_nonce",
        false => "invalid_dpop_proof",
    }
}

/// The accepted algorithms of proofs.
pub(crate) const PROOF_ALGORITHMS: &[SigningAlgorithm] = &[
    SigningAlgorithm::ES256,
    SigningAlgorithm::PS256,
    SigningAlgorithm::RS256,
    SigningAlgorithm::ES384,
    SigningAlgorithm::EdDSA,
];

/// Returns the names of the accepted algorithms.
pub(crate) fn proof_algorithm_names() -> Vec<&'static str> {
    let algorithms = PROOF_ALGORITHMS.iter();
    algorithms.map(|algorithm| algorithm.name()).collect()
}

/// The longest difference between the time of a proof and now.
const WINDOW: Duration = Duration::from_secs(60);
