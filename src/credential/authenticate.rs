use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::assertion_provider::AssertionContext;
use super::callback;
use super::client_assertion;
use super::source::SameAs;
use super::supplied_assertion::{AssertionSupplier, explain};
use crate::certificate::{Certificate, CertificateKey};
use crate::client_auth::{AssertionForm, ClientAuthentication, TokenEndpointAuthMethod};
use crate::crypto::{self, NoBackend, SigningAlgorithm};
use crate::error::{Error, ServerError};
use crate::secret::Secret;

/// The credential of one token request.
#[derive(Clone)]
pub(crate) enum Credential {
    Secret(Secret),
    Certificate(Certificate),
    Assertion(AssertionSupplier),
    /// The certificate of the connection.
    Tls(Certificate),
}

impl Credential {
    /// Builds the client authentication for one attempt. Signs or fetches a client assertion, which
    /// needs the context.
    pub(crate) async fn authenticate(
        &self,
        context: impl FnOnce() -> AssertionContext,
        now: SystemTime,
        method: TokenEndpointAuthMethod,
        algorithms: &[SigningAlgorithm],
        form: AssertionForm,
        limit: Duration,
    ) -> Result<ClientAuthentication, Error> {
        match self {
            Self::Secret(secret) if method == TokenEndpointAuthMethod::ClientSecretBasic => Ok(
                ClientAuthentication::basic(context().client_id(), secret.clone()),
            ),
            Self::Secret(secret) => Ok(ClientAuthentication::Secret(secret.clone())),
            Self::Certificate(certificate) => {
                let certificate = certificate.clone().select_algorithm(algorithms)?;
                sign(&certificate, &context(), form, now, limit).await
            }
            Self::Assertion(supplier) => supplier.fetch(context(), limit).await,
            Self::Tls(_) => Ok(ClientAuthentication::Connection),
        }
    }

    /// Returns whether the error rejects this credential, so that a different one may succeed.
    ///
    /// The code does not matter, because Entra adds codes at any time. A temporary error, or a code
    /// that denies the application itself, rejects no credential.
    pub(crate) fn is_rejected_by(&self, error: &Error) -> bool {
        // A rotation may delete the old key after the source has returned the old certificate.
        if error.has_lost_key() {
            return matches!(self, Self::Certificate(_));
        }
        let codes = error.server_error().map(ServerError::error_codes);
        let has = |known: &[u64]| {
            codes
                .unwrap_or_default()
                .iter()
                .any(|code| known.contains(code))
        };
        let rejecting = match self {
            Self::Secret(_) => REJECTED_SECRETS,
            Self::Certificate(_) | Self::Tls(_) => REJECTED_CERTIFICATES,
            Self::Assertion(supplier) => return supplier.is_rejected(),
        };
        let is_rejected = error.is_credential_rejected() && !has(UNKNOWN_APPLICATION);
        !error.is_transient() && (is_rejected || has(rejecting))
    }

    /// Adds advice to the rejection of an assertion that a file or the caller's code supplied, and
    /// remembers an assertion that was rejected as expired.
    ///
    /// `date` is the time of the response by the provider's clock.
    pub(crate) fn explain(
        &self,
        error: Error,
        authentication: &ClientAuthentication,
        date: Option<SystemTime>,
        now: SystemTime,
    ) -> Error {
        let (Self::Assertion(supplier), ClientAuthentication::Assertion(assertion)) =
            (self, authentication)
        else {
            return error;
        };
        supplier.note_rejection(&error, assertion);
        let explained = match &error {
            Error::Server(server) => {
                let source = supplier.describe();
                explain(server, assertion.expose(), &source, date, now)
            }
            _ => None,
        };
        explained.unwrap_or(error)
    }

    pub(super) fn same_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Secret(one), Self::Secret(other)) => one.same_as(other),
            (Self::Certificate(one), Self::Certificate(other))
            | (Self::Tls(one), Self::Tls(other)) => one.same_as(other),
            _ => false,
        }
    }
}

/// Signs a client assertion.
///
/// A local key signs on the blocking thread pool. A signature takes a fraction of a millisecond of
/// CPU time, which would delay other tasks.
async fn sign(
    certificate: &Certificate,
    context: &AssertionContext,
    form: AssertionForm,
    now: SystemTime,
    limit: Duration,
) -> Result<ClientAuthentication, Error> {
    let (client_id, audience) = (context.client_id(), context.audience());
    let extra = &context.extra_claims;
    let unsigned =
        client_assertion::client_assertion(certificate, client_id, audience, extra, form, now)?;
    let assertion = match certificate.key() {
        CertificateKey::Local(key) => {
            let (key, algorithm) = (Arc::clone(key), certificate.algorithm());
            let signing = tokio::task::spawn_blocking(move || {
                let signature = key.sign(algorithm, unsigned.message());
                signature.map(|signature| unsigned.signed(&signature))
            });
            signing
                .await
                .map_err(client_assertion::failed)?
                .map_err(client_assertion::failed)?
        }
        CertificateKey::Remote(signer) => {
            let (signer, algorithm) = (Arc::clone(signer), certificate.algorithm());
            let message = unsigned.message().to_vec();
            let signing = async move { signer.sign(algorithm, message).await };
            let signature =
                callback::call("the assertion could not be signed", limit, signing).await?;
            check_signature(certificate, unsigned.message(), &signature)?;
            unsigned.signed(&signature)
        }
    };
    Ok(ClientAuthentication::Assertion(Secret::from(assertion)))
}

/// Checks a signature from a [`Signer`](crate::credential::Signer), which may use the wrong key or
/// the wrong form.
pub(crate) fn check_signature(
    certificate: &Certificate,
    message: &[u8],
    signature: &[u8],
) -> Result<(), Error> {
    let (public_key, algorithm) = (certificate.public_key(), certificate.algorithm());
    match crypto::verify(public_key, algorithm, message, signature) {
        // Without a backend the identity provider is the first to verify the signature.
        Ok(true) | Err(NoBackend) => return Ok(()),
        Ok(false) => {}
    }
    Err(Error::credential(format!(
        "the signer's signature of {} bytes does not match the certificate of '{}'; the signer must use that certificate's key and {algorithm}, sign the message and not its digest, and return the signature in the form of RFC 7518, neither base64 nor DER",
        signature.len(),
        certificate.subject()
    )))
}

/// Entra's codes for a rejected certificate.
///
/// Key not found or signature invalid, assertion outside its time, certificate revoked, certificate
/// outside its validity.
const REJECTED_CERTIFICATES: &[u64] = &[700027, 700024, 7000214, 1000502, 7000274, 7000277];
/// Entra's codes for an application that is not in the tenant, whatever the credential.
const UNKNOWN_APPLICATION: &[u64] = &[700011, 700016];
/// Entra's codes for a wrong secret and an expired secret.
const REJECTED_SECRETS: &[u64] = &[7000215, 7000222];
