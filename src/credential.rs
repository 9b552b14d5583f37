use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::SystemTime;

use uuid::Uuid;

use crate::assertion::{self, Unsigned};
use crate::certificate::{Certificate, SigningKey, key};
use crate::error::{Error, Failure};
use crate::request::Proof;
use crate::secret::Secret;

mod assertion_provider;
mod file;
mod source;

pub use assertion_provider::{AssertionContext, ClientAssertionFuture, ClientAssertionProvider};
pub use file::{CertificateFile, FederatedTokenFile, SecretFile};
use source::Distinct;
pub(crate) use source::Rotating;
pub use source::{CredentialFuture, CredentialSource};

/// What a client was given to prove its identity with.
pub(crate) enum Given {
    Secret(Secret),
    Certificate(Certificate),
    Assertion(Arc<dyn ClientAssertionProvider>),
    SecretSource(Rotating<Secret>),
    CertificateSource(Rotating<Certificate>),
}

/// What it proves its identity with in one request.
#[derive(Clone)]
pub(crate) enum Credential {
    Secret(Secret),
    Certificate(Certificate),
    Assertion(Arc<dyn ClientAssertionProvider>),
}

/// Holds what was given, and has it fetched again where it can change.
pub(crate) struct CredentialHolder {
    given: Given,
    takes: Takes,
    /// The days that were left when the log last warned of a certificate's end.
    days_warned_of: AtomicI64,
}

/// What an identity provider takes.
#[derive(Clone, Copy)]
pub(crate) struct Takes {
    /// Certificates with a key on an elliptic curve.
    pub(crate) elliptic_curves: bool,
    /// Secrets that look like a GUID are probably their ids.
    pub(crate) secrets_have_ids: bool,
}

impl CredentialHolder {
    /// Checks what can be known before the network and without I/O.
    pub(crate) fn new(given: Given, takes: Takes, now: SystemTime) -> Result<Self, Error> {
        let holder = Self {
            given,
            takes,
            days_warned_of: AtomicI64::new(WARNED_OF_NONE),
        };
        match &holder.given {
            Given::Secret(secret) => holder.check_secret(secret)?,
            Given::Certificate(certificate) => {
                holder.check_certificate(certificate, now)?;
                holder.warn_of_its_end(certificate, now);
            }
            Given::Assertion(_) | Given::SecretSource(_) | Given::CertificateSource(_) => {}
        }
        Ok(holder)
    }

    /// The credential for the next request. A source is asked for it; should that fail, the last
    /// good one is used.
    pub(crate) async fn current(&self, now: SystemTime) -> Result<Credential, Error> {
        let credential = match &self.given {
            Given::Secret(secret) => Credential::Secret(secret.clone()),
            Given::Certificate(certificate) => {
                certificate.check_validity(now)?;
                Credential::Certificate(certificate.clone())
            }
            Given::Assertion(provider) => Credential::Assertion(Arc::clone(provider)),
            Given::SecretSource(source) => {
                let check = |secret: &Secret| self.check_secret(secret);
                Credential::Secret(source.current(check).await?)
            }
            Given::CertificateSource(source) => {
                let check = |certificate: &Certificate| self.check_certificate(certificate, now);
                Credential::Certificate(source.current(check).await?)
            }
        };
        if let Credential::Certificate(certificate) = &credential {
            self.warn_of_its_end(certificate, now);
        }
        Ok(credential)
    }

    /// What the source has instead of a credential that was refused, if it has another.
    pub(crate) async fn other_than(
        &self,
        refused: &Credential,
        now: SystemTime,
    ) -> Option<Credential> {
        if !matches!(
            self.given,
            Given::SecretSource(_) | Given::CertificateSource(_)
        ) {
            return None;
        }
        let other = self.current(now).await.ok();
        other.filter(|other| !other.is_same(refused))
    }

    /// The certificate that was last used, or is to be.
    pub(crate) fn certificate(&self) -> Option<Certificate> {
        match &self.given {
            Given::Certificate(certificate) => Some(certificate.clone()),
            Given::CertificateSource(source) => source.last(),
            Given::Secret(_) | Given::Assertion(_) | Given::SecretSource(_) => None,
        }
    }

    fn check_certificate(&self, certificate: &Certificate, now: SystemTime) -> Result<(), Error> {
        if !self.takes.elliptic_curves && !certificate.is_rsa() {
            return Err(Error::credential(format!(
                "the certificate of '{}' has a P-256 key, and Microsoft Entra ID takes RSA alone for client assertions; use a certificate with an RSA key of 2048 bits or more",
                certificate.subject()
            )));
        }
        certificate.check_algorithm()?;
        certificate.check_validity(now)
    }

    fn check_secret(&self, secret: &Secret) -> Result<(), Error> {
        let text = secret.expose();
        if text.trim().is_empty() {
            return Err(Error::config(
                "the client secret is empty; was its environment variable or file set?",
            ));
        }
        if text.trim() != text {
            return Err(Error::config(
                "the client secret begins or ends with white space; a file usually ends in a newline, so trim what was read from it",
            ));
        }
        let invisible =
            |c: char| c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{feff}');
        if text.contains(invisible) {
            return Err(Error::config(
                "the client secret holds a character that cannot be seen, such as a line break or a byte order mark; copy it anew",
            ));
        }
        if self.takes.secrets_have_ids && Uuid::try_parse(text).is_ok() {
            tracing::warn!(
                "the client secret looks like a GUID: it is probably the secret's id; use its value, shown once when it is created"
            );
        }
        Ok(())
    }

    /// Once a day from 30 days on.
    fn warn_of_its_end(&self, certificate: &Certificate, now: SystemTime) {
        let days = certificate.days_left_at(now);
        if days < WARNED_FROM && self.days_warned_of.swap(days, Ordering::Relaxed) != days {
            tracing::warn!(
                days_left = days,
                subject = certificate.subject(),
                thumbprint = certificate.thumbprint_sha1(),
                "the client certificate ends soon; register a new one with the application and deploy it"
            );
        }
    }
}

impl Credential {
    /// A proof for one request.
    pub(crate) async fn prove(
        &self,
        context: AssertionContext,
        now: SystemTime,
        basic: bool,
    ) -> Result<Proof, Error> {
        match self {
            Self::Secret(secret) if basic => Ok(Proof::basic(context.client_id(), secret.clone())),
            Self::Secret(secret) => Ok(Proof::Secret(secret.clone())),
            Self::Certificate(certificate) => sign(certificate, &context, now).await,
            Self::Assertion(provider) => provided(&**provider, context).await,
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

    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Secret(one), Self::Secret(other)) => one.is(other),
            (Self::Certificate(one), Self::Certificate(other)) => one.is(other),
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
) -> Result<Proof, Error> {
    let (client_id, audience) = (context.client_id(), context.audience());
    let unsigned = assertion::client_assertion(certificate, client_id, audience, now)?;
    let assertion = match certificate.key() {
        SigningKey::Here(key) => {
            let (key, algorithm) = (Arc::clone(key), certificate.algorithm());
            let signing = tokio::task::spawn_blocking(move || {
                let signature = key.sign(algorithm, unsigned.message());
                signature.map(|signature| unsigned.signed(&signature))
            });
            signing
                .await
                .map_err(assertion::failed)?
                .map_err(assertion::failed)?
        }
        SigningKey::Elsewhere(signer) => {
            let message = unsigned.message().to_vec();
            let signature = signer.sign(certificate.algorithm(), message).await;
            let signature = signature.map_err(assertion::failed)?;
            check_signature(certificate, &unsigned, &signature)?;
            unsigned.signed(&signature)
        }
    };
    Ok(Proof::Assertion(Secret::from(assertion)))
}

/// A signature made elsewhere may be another key's, or have another form.
fn check_signature(
    certificate: &Certificate,
    unsigned: &Unsigned,
    signature: &[u8],
) -> Result<(), Error> {
    let (public_key, algorithm) = (certificate.public_key(), certificate.algorithm());
    if key::verify(public_key, algorithm, unsigned.message(), signature) {
        return Ok(());
    }
    Err(Error::credential(format!(
        "the signer's signature of {} bytes does not fit the certificate of '{}'; does it sign with that certificate's key, by {algorithm}, the message and not its digest, and give the signature as RFC 7518 writes it, neither base64 nor DER?",
        signature.len(),
        certificate.subject()
    )))
}

async fn provided(
    provider: &dyn ClientAssertionProvider,
    context: AssertionContext,
) -> Result<Proof, Error> {
    match provider.client_assertion(context).await {
        Ok(assertion) if assertion.trim().is_empty() => Err(Error::credential(format!(
            "the {} is empty",
            provider.describe()
        ))),
        Ok(assertion) => Ok(Proof::Assertion(Secret::from(assertion.trim()))),
        Err(source) => Err(source_failed("no client assertion could be had", source)),
    }
}

/// The error of someone who was asked; one of ours says it all.
fn source_failed(message: &str, source: Box<dyn StdError + Send + Sync>) -> Error {
    match source.downcast::<Error>() {
        Ok(error) => *error,
        Err(source) => Error::Credential(Failure::new(message).source(source).into()),
    }
}

/// Which kind it is, and nothing else.
impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secret(_) => f.write_str("client secret"),
            Self::Certificate(certificate) => certificate.fmt(f),
            Self::Assertion(provider) => f.write_str(&provider.describe()),
            Self::SecretSource(source) => f.write_str(&source.describe()),
            Self::CertificateSource(source) => f.write_str(&source.describe()),
        }
    }
}

impl fmt::Debug for CredentialHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.given.fmt(f)
    }
}

/// The codes on which a certificate is asked for anew: key not found or signature invalid,
/// assertion outside its time, certificate revoked, outside its validity.
const REFUSED_CERTIFICATES: &[u64] = &[700027, 700024, 7000214, 1000502, 7000274, 7000277];
/// Secret wrong, secret expired.
const REFUSED_SECRETS: &[u64] = &[7000215, 7000222];
/// In days.
const WARNED_FROM: i64 = 30;
const WARNED_OF_NONE: i64 = i64::MAX;
