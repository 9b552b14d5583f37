use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::assertion_provider::{AssertionContext, ClientAssertionProvider};
use super::callback;
use super::client_assertion;
use super::source::SameAs;

use crate::certificate::{Certificate, CertificateKey};
use crate::client_auth::{ClientAuthentication, TokenEndpointAuthMethod};
use crate::crypto::{self, NoBackend, SigningAlgorithm};
use crate::error::Error;
use crate::jwt::UnsignedJwt;
use crate::secret::Secret;

/// What it proves its identity with in one request.
#[derive(Clone)]
pub(crate) enum Credential {
    Secret(Secret),
    Certificate(Certificate),
    Assertion(Arc<dyn ClientAssertionProvider>),
}

impl Credential {
    /// A proof for one request.
    pub(crate) async fn authenticate(
        &self,
        context: AssertionContext,
        now: SystemTime,
        method: TokenEndpointAuthMethod,
        algorithms: &[SigningAlgorithm],
        limit: Duration,
    ) -> Result<ClientAuthentication, Error> {
        match self {
            Self::Secret(secret) if method == TokenEndpointAuthMethod::ClientSecretBasic => Ok(
                ClientAuthentication::basic(context.client_id(), secret.clone()),
            ),
            Self::Secret(secret) => Ok(ClientAuthentication::Secret(secret.clone())),
            Self::Certificate(certificate) => {
                let certificate = certificate.clone().select_algorithm(algorithms)?;
                sign(&certificate, &context, now, limit).await
            }
            Self::Assertion(provider) => provided(provider, context, limit).await,
        }
    }

    /// Whether a refusal is about this credential, so that another could be accepted. Providers
    /// other than Entra have no codes.
    pub(crate) fn is_refused_by(&self, error: &Error) -> bool {
        let Error::Server(server) = error else {
            return false;
        };
        let codes = server.error_codes();
        let own = match self {
            Self::Secret(_) => REFUSED_SECRETS,
            Self::Certificate(_) => REFUSED_CERTIFICATES,
            Self::Assertion(_) => return false,
        };
        match codes.is_empty() {
            true => error.is_credential_rejected(),
            false => codes.iter().any(|code| own.contains(code)),
        }
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Secret(one), Self::Secret(other)) => one.same_as(other),
            (Self::Certificate(one), Self::Certificate(other)) => one.same_as(other),
            _ => false,
        }
    }
}

/// A key that is here takes a fraction of a millisecond of computing, which is done where it keeps
/// no other task waiting.
async fn sign(
    certificate: &Certificate,
    context: &AssertionContext,
    now: SystemTime,
    limit: Duration,
) -> Result<ClientAuthentication, Error> {
    let (client_id, audience) = (context.client_id(), context.audience());
    let unsigned = client_assertion::client_assertion(certificate, client_id, audience, now)?;
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
                callback::ask("the assertion could not be signed", limit, signing).await?;
            check_signature(certificate, &unsigned, &signature)?;
            unsigned.signed(&signature)
        }
    };
    Ok(ClientAuthentication::Assertion(Secret::from(assertion)))
}

/// A signature made elsewhere may be another key's, or have another form.
fn check_signature(
    certificate: &Certificate,
    unsigned: &UnsignedJwt,
    signature: &[u8],
) -> Result<(), Error> {
    let (public_key, algorithm) = (certificate.public_key(), certificate.algorithm());
    match crypto::verify(public_key, algorithm, unsigned.message(), signature) {
        // Without a backend the identity provider is the first to verify the signature.
        Ok(true) | Err(NoBackend) => return Ok(()),
        Ok(false) => {}
    }
    Err(Error::credential(format!(
        "the signer's signature of {} bytes does not match the certificate of '{}'; does it sign with that certificate's key, by {algorithm}, the message and not its digest, and give the signature as RFC 7518 writes it, neither base64 nor DER?",
        signature.len(),
        certificate.subject()
    )))
}

async fn provided(
    provider: &Arc<dyn ClientAssertionProvider>,
    context: AssertionContext,
    limit: Duration,
) -> Result<ClientAuthentication, Error> {
    let asked = Arc::clone(provider);
    let providing = async move { asked.client_assertion(context).await };
    let assertion = callback::ask("no client assertion could be had", limit, providing).await?;
    match assertion.trim() {
        "" => Err(Error::credential(format!(
            "the {} is empty",
            provider.describe()
        ))),
        assertion => Ok(ClientAuthentication::Assertion(Secret::from(assertion))),
    }
}

/// The codes on which a certificate is asked for anew: key not found or signature invalid,
/// assertion outside its time, certificate revoked, outside its validity.
const REFUSED_CERTIFICATES: &[u64] = &[700027, 700024, 7000214, 1000502, 7000274, 7000277];
/// Secret wrong, secret expired.
const REFUSED_SECRETS: &[u64] = &[7000215, 7000222];
