//! The checks of the FAPI 2.0 Security Profile that need no network.
//!
//! The endpoints check what the metadata must have, and the redirects what a response must have.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::TokenFetcher;
use crate::authority::{AssertionAudience, Authority, AuthorityKind};
use crate::client_auth::ClientAuthentication;
use crate::credential::{CredentialStore, DpopKey};
use crate::crypto::SigningAlgorithm;
use crate::error::{Error, Escaped};
use crate::transport::MutualTls;

/// Checks the settings of a client whose authority has the profile.
///
/// # Errors
///
/// [`Error::Config`] with the requirement, its section, and what to do.
pub(super) fn check_settings(
    authority: &Authority,
    credential: &CredentialStore,
    mutual_tls: Option<&MutualTls>,
    proof_key: Option<&DpopKey>,
) -> Result<(), Error> {
    let AuthorityKind::Oidc { issuer } = &authority.kind else {
        // The endpoints have rejected the profile at another authority.
        return Ok(());
    };
    let is_http = issuer
        .trim_start()
        .to_ascii_lowercase()
        .starts_with("http:");
    if is_http && authority.http_hosts.named().is_none() {
        return Err(forbidden(
            "an issuer without TLS",
            "5.2",
            "use the https URL of the provider; a test calls allow_insecure_http() of the Authority, or starts the LocalAuthority with tls()",
        ));
    }
    if authority.token_endpoint.is_some() {
        return Err(forbidden(
            "a token endpoint that is not from the metadata",
            "5.3.3.1",
            "remove token_endpoint(..)",
        ));
    }
    match &authority.client_assertion_audience {
        None | Some(AssertionAudience::Issuer) => {}
        Some(AssertionAudience::Custom(audience)) if audience == issuer => {}
        Some(_) => {
            return Err(forbidden(
                "another audience of client assertions than the issuer",
                "5.3.3.1",
                "remove client_assertion_audience(..)",
            ));
        }
    }
    if credential.is_secret() {
        return Err(forbidden(
            "a client secret",
            "5.3.3.1",
            "authenticate with certificate(..), client_assertion(..) or tls_client_auth(..)",
        ));
    }
    // TLS signs with its own algorithms.
    let signing = credential.certificate();
    let signing = signing.filter(|_| credential.tls_method().is_none());
    if let Some(certificate) = signing
        && !certificate.algorithm().is_in_fapi2()
    {
        return Err(forbidden(
            &format!(
                "{}, which signs with the certificate of '{}'",
                certificate.algorithm(),
                certificate.subject()
            ),
            "5.4.1",
            "do not set the algorithm, or use a certificate with an RSA, P-256 or Ed25519 key",
        ));
    }
    if let Some(key) = proof_key
        && !key.algorithm().is_in_fapi2()
    {
        return Err(forbidden(
            &format!("{} for proofs", key.algorithm()),
            "5.4.1",
            "do not set the algorithm of the DpopKey, or use an RSA, P-256 or Ed25519 key",
        ));
    }
    match is_sender_constrained(mutual_tls, proof_key) {
        true => Ok(()),
        false => Err(forbidden(
            "access tokens that are not bound to a key",
            "5.3.3.1",
            "call dpop(..), certificate_bound_tokens(..) or tls_client_auth(..)",
        )),
    }
}

/// Checks that the provider redirects the user's browser over TLS.
pub(super) fn check_redirect_uri(redirect_uri: &str) -> Result<(), Error> {
    match redirect_uri.to_ascii_lowercase().starts_with("https:") {
        true => Ok(()),
        false => Err(forbidden(
            "a redirect URI without TLS",
            "5.3.2.2",
            "use an https redirect URI of the application's registration",
        )),
    }
}

impl TokenFetcher {
    /// Checks a client assertion, which a provider of the caller may have made.
    ///
    /// # Errors
    ///
    /// [`Error::Credential`] for an algorithm that the profile does not allow, and for another
    /// audience than the issuer as one text.
    pub(super) fn check_assertion(
        &self,
        authentication: ClientAuthentication,
    ) -> Result<ClientAuthentication, Error> {
        let issuer = self.endpoints.fapi2_issuer();
        let (Some(issuer), ClientAuthentication::Assertion(assertion)) = (issuer, &authentication)
        else {
            return Ok(authentication);
        };
        let invalid = |why: &str| Error::credential(forbidden_text(why, "5.4.1 and 5.3.3.1"));
        let part = |index: usize| {
            let part = assertion.expose().split('.').nth(index)?;
            let json = BASE64_URL_SAFE_NO_PAD.decode(part).ok()?;
            serde_json::from_slice::<Map<String, Value>>(&json).ok()
        };
        let text = |index: usize, name: &str| {
            let part = part(index)?;
            Some(part.get(name)?.as_str()?.to_owned())
        };
        let mut allowed = SigningAlgorithm::OF_FAPI2.iter();
        let algorithm = text(0, "alg").unwrap_or_default();
        if !allowed.any(|allowed| allowed.name() == algorithm) {
            let algorithm: String = Escaped(&algorithm).to_string().chars().take(20).collect();
            return Err(invalid(&format!(
                "a client assertion that is signed with '{algorithm}', and allows PS256, ES256 and EdDSA"
            )));
        }
        match text(1, "aud") {
            Some(audience) if audience == issuer => Ok(authentication),
            _ => Err(invalid(&format!(
                "a client assertion whose audience is not the issuer '{issuer}' as one text"
            ))),
        }
    }
}

/// Returns whether the client's tokens are worthless without the client's key.
fn is_sender_constrained(mutual_tls: Option<&MutualTls>, proof_key: Option<&DpopKey>) -> bool {
    mutual_tls.is_some() || proof_key.is_some()
}

/// Returns the error for a setting that the profile forbids.
fn forbidden(what: &str, section: &str, advice: &str) -> Error {
    Error::config(format!("{}; {advice}", forbidden_text(what, section)))
}

fn forbidden_text(what: &str, section: &str) -> String {
    format!("FAPI 2.0 forbids {what} (FAPI 2.0 Security Profile, section {section})")
}
