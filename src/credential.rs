//! Credentials beyond a plain [`Secret`](crate::Secret) or [`Certificate`](crate::Certificate):
//! files, sources, signers and client assertions.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use uuid::Uuid;

use crate::authority::Rules;
use crate::certificate::Certificate;
use crate::error::Error;
use crate::secret::Secret;

mod assertion_provider;
mod authenticate;
mod callback;
mod client_assertion;
mod file;
mod source;

pub use crate::certificate::{Signer, SignerFuture};
pub use crate::client_auth::TokenEndpointAuthMethod;
pub use crate::crypto::SigningAlgorithm;
pub use assertion_provider::{AssertionContext, ClientAssertionFuture, ClientAssertionProvider};
pub(crate) use authenticate::Credential;
pub use file::{CertificateFile, FederatedTokenFile, SecretFile};
pub(crate) use source::Rotating;
pub use source::{CredentialFuture, CredentialSource};

/// What a client was given to prove its identity with.
pub(crate) enum CredentialConfig {
    Secret(Secret),
    Certificate(Certificate),
    Assertion(Arc<dyn ClientAssertionProvider>),
    SecretSource(Rotating<Secret>),
    CertificateSource(Rotating<Certificate>),
}

/// Holds what was given, and has it fetched again where it can change.
pub(crate) struct CredentialStore {
    given: CredentialConfig,
    rules: Rules,
    /// For a source to answer.
    limit: Duration,
    /// The days that were left when the log last warned of a certificate's end.
    days_warned_of: AtomicI64,
}

impl CredentialStore {
    /// Checks what can be known before the network and without I/O.
    pub(crate) fn new(
        given: CredentialConfig,
        rules: Rules,
        limit: Duration,
        now: SystemTime,
    ) -> Result<Self, Error> {
        let holder = Self {
            given,
            rules,
            limit,
            days_warned_of: AtomicI64::new(WARNED_OF_NONE),
        };
        match &holder.given {
            CredentialConfig::Secret(secret) => {
                check_secret(secret)?;
                holder.warn_of_an_id(secret);
            }
            CredentialConfig::Certificate(certificate) => {
                holder.check_certificate(certificate, now)?;
                holder.warn_of_its_end(certificate, now);
            }
            CredentialConfig::Assertion(_)
            | CredentialConfig::SecretSource(_)
            | CredentialConfig::CertificateSource(_) => {}
        }
        Ok(holder)
    }

    /// The credential for the next request. A source is asked for it; should that fail, the last
    /// good one is used.
    pub(crate) async fn current(&self, now: SystemTime) -> Result<Credential, Error> {
        let credential = match &self.given {
            CredentialConfig::Secret(secret) => Credential::Secret(secret.clone()),
            CredentialConfig::Certificate(certificate) => {
                certificate.check_validity(now)?;
                Credential::Certificate(certificate.clone())
            }
            CredentialConfig::Assertion(provider) => Credential::Assertion(Arc::clone(provider)),
            CredentialConfig::SecretSource(source) => {
                let on_new = |secret: &Secret| self.warn_of_an_id(secret);
                Credential::Secret(source.current(self.limit, check_secret, on_new).await?)
            }
            CredentialConfig::CertificateSource(source) => {
                let check = |certificate: &Certificate| self.check_certificate(certificate, now);
                Credential::Certificate(source.current(self.limit, check, |_| {}).await?)
            }
        };
        if let Credential::Certificate(certificate) = &credential {
            self.warn_of_its_end(certificate, now);
        }
        Ok(credential)
    }

    /// What to try instead of a credential that was refused: what the source has by now, or the one
    /// that was accepted before, since a new one may be deployed before it is registered.
    pub(crate) async fn other_than(
        &self,
        refused: &Credential,
        now: SystemTime,
    ) -> Option<Credential> {
        let accepted = match &self.given {
            CredentialConfig::SecretSource(source) => source.accepted().map(Credential::Secret),
            CredentialConfig::CertificateSource(source) => source
                .accepted()
                .filter(|accepted| self.check_certificate(accepted, now).is_ok())
                .map(Credential::Certificate),
            CredentialConfig::Secret(_)
            | CredentialConfig::Certificate(_)
            | CredentialConfig::Assertion(_) => return None,
        };
        let newest = self.current(now).await;
        let newest = newest.inspect_err(|error| {
            tracing::warn!(error = %error.chain(), "no credential could be had in place of a refused one");
        });
        let mut others = newest.ok().into_iter().chain(accepted);
        others.find(|other| !other.is_same(refused))
    }

    /// Remembers a credential that the identity provider accepted.
    pub(crate) fn accepted(&self, credential: &Credential) {
        match (&self.given, credential) {
            (CredentialConfig::SecretSource(source), Credential::Secret(secret)) => {
                source.accept(secret)
            }
            (CredentialConfig::CertificateSource(source), Credential::Certificate(certificate)) => {
                source.accept(certificate);
            }
            _ => {}
        }
    }

    /// Whether it is a secret, which goes another way than an assertion.
    pub(crate) fn is_secret(&self) -> bool {
        matches!(
            self.given,
            CredentialConfig::Secret(_) | CredentialConfig::SecretSource(_)
        )
    }

    /// The certificate that was last used, or is to be.
    pub(crate) fn certificate(&self) -> Option<Certificate> {
        match &self.given {
            CredentialConfig::Certificate(certificate) => Some(certificate.clone()),
            CredentialConfig::CertificateSource(source) => source.last(),
            CredentialConfig::Secret(_)
            | CredentialConfig::Assertion(_)
            | CredentialConfig::SecretSource(_) => None,
        }
    }

    fn check_certificate(&self, certificate: &Certificate, now: SystemTime) -> Result<(), Error> {
        if self.rules.requires_rsa() && !certificate.is_rsa() {
            return Err(Error::credential(format!(
                "the certificate of '{}' has a P-256 key, and {} takes RSA alone for client assertions; use a certificate with an RSA key of 2048 bits or more",
                certificate.subject(),
                self.rules.name()
            )));
        }
        certificate.check_algorithm()?;
        certificate.check_validity(now)
    }

    /// A secret's id is a GUID at Microsoft Entra ID, and its value is none.
    fn warn_of_an_id(&self, secret: &Secret) {
        if self.rules == Rules::Entra && Uuid::try_parse(secret.expose()).is_ok() {
            tracing::warn!(
                "the client secret looks like a GUID: it is probably the secret's id; use its value, shown once when it is created"
            );
        }
    }

    /// Once a day, with less than 30 days left.
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

pub(crate) fn check_secret(secret: &Secret) -> Result<(), Error> {
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
    let invisible = |c: char| c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{feff}');
    if text.contains(invisible) {
        return Err(Error::config(
            "the client secret holds a character that cannot be seen, such as a line break or a byte order mark; copy it anew",
        ));
    }
    Ok(())
}

/// Which kind it is, and nothing else.
impl fmt::Debug for CredentialConfig {
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

impl fmt::Debug for CredentialStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.given.fmt(f)
    }
}

/// In days.
const WARNED_FROM: i64 = 30;
const WARNED_OF_NONE: i64 = i64::MAX;
