//! Credentials that authenticate the application to the identity provider.
//!
//! | credential | method of the builder | use for |
//! |---|---|---|
//! | [`FederatedTokenFile`] | [`client_assertion`] | Kubernetes workload identity, without a secret |
//! | [`ManagedIdentity`] | [`client_assertion`] | a host in Azure, without a secret |
//! | [`TokenProvider`] | [`client_assertion`] | the token of another application as the assertion |
//! | closure, [`ClientAssertionProvider`] | [`client_assertion`] | a signing service |
//! | [`Signer`] with [`Certificate::from_signer`] | [`certificate`] | a private key in an HSM, a TPM or a key vault |
//! | `adapter::Pkcs11Token` (feature `pkcs11`) | [`certificate_source`] | a private key in an HSM or on a smart card |
//! | [`CertificateFile`] | [`certificate_source`] | a certificate file that is rotated |
//! | [`Certificate`] | [`certificate`] | a certificate that is deployed with the program |
//! | [`SecretFile`] | [`client_secret_source`] | a secret in a mounted file that is rotated |
//! | [`MutualTls`] with a [`Certificate`] or a [`CertificateFile`] | [`tls_client_auth`], [`self_signed_tls_client_auth`] | a client certificate of TLS, at an OpenID provider |
//! | `adapter::KeyVaultCertificate` | [`certificate_source`] | a certificate in Azure Key Vault, with its key or without |
//! | closure, [`CredentialSource`] | [`certificate_source`], [`client_secret_source`] | a certificate or a secret in another vault |
//! | [`Secret`] | [`client_secret`] | a quick start, and providers without certificates |
//!
//! Prefer the first kind that your platform supports. With an assertion, the program has no
//! long-lived credential. With a certificate, the private key is never sent. A secret is sent with
//! every token request. A client has exactly one credential.
//!
//! A program that needs no app registration uses a [`ManagedIdentityClient`] instead of a
//! [`ConfidentialClient`](crate::ConfidentialClient).
//! A [`CredentialChainClient`] uses the first available credential of a [`CredentialChain`], so
//! that one program runs in Azure and on a developer's machine.
//! [`ConfidentialClient::from_env`] selects the credential from environment variables.
//!
//! A [`DpopKey`] is no credential. A client with such a key gets tokens that are bound to the key
//! ([`dpop`](crate::ConfidentialClientBuilder::dpop)), whatever its credential.
//!
//! [`SigningAlgorithm`], [`TokenEndpointAuthMethod`] and [`AssertionAudience`] override the choices
//! that the client makes for the identity provider.
//!
//! # Rotation
//!
//! The client calls a [`CredentialSource`] before every token request, so a rotation needs no
//! restart. A broken file or a failing vault does not stop the client while the last valid
//! credential works. Plain [`Secret`] and [`Certificate`] values stay the same for the life of the
//! client. The log warns once a day when a certificate has fewer than 30 days left.
//!
//! [`Certificate`]: crate::Certificate
//! [`Certificate::from_signer`]: crate::Certificate::from_signer
//! [`ConfidentialClient::from_env`]: crate::ConfidentialClient::from_env
//! [`CredentialChainClient`]: crate::CredentialChainClient
//! [`ManagedIdentityClient`]: crate::ManagedIdentityClient
//! [`MutualTls`]: crate::transport::MutualTls
//! [`Secret`]: crate::Secret
//! [`TokenProvider`]: crate::TokenProvider
//! [`certificate`]: crate::ConfidentialClientBuilder::certificate
//! [`certificate_source`]: crate::ConfidentialClientBuilder::certificate_source
//! [`client_assertion`]: crate::ConfidentialClientBuilder::client_assertion
//! [`client_secret`]: crate::ConfidentialClientBuilder::client_secret
//! [`client_secret_source`]: crate::ConfidentialClientBuilder::client_secret_source
//! [`self_signed_tls_client_auth`]: crate::ConfidentialClientBuilder::self_signed_tls_client_auth
//! [`tls_client_auth`]: crate::ConfidentialClientBuilder::tls_client_auth
#![doc(alias = "client_credential")]

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use uuid::Uuid;

use crate::authority::Rules;
use crate::certificate::Certificate;
use crate::error::{CredentialKind, CredentialOrigin, Error};
use crate::response::MIN_SECRET;
use crate::secret::Secret;

mod assertion_provider;
mod authenticate;
mod callback;
mod client_assertion;
mod dpop_key;
mod file;
pub(crate) mod pasted;
mod source;
mod supplied_assertion;
mod tls_certificate;
mod token_file;
mod user_federated_credential;

pub use crate::authority::AssertionAudience;
pub use crate::certificate::{Signer, SignerFuture};
pub use crate::client_auth::TokenEndpointAuthMethod;
pub use crate::credential_chain::{
    AzureCli, AzureDeveloperCli, ChainLink, CredentialChain, LinkUnavailable,
};
pub use crate::crypto::SigningAlgorithm;
pub use crate::managed_identity::{HostEnvironment, ManagedIdentity};
pub(crate) use assertion_provider::ProviderSettings;
pub use assertion_provider::{AssertionContext, ClientAssertionFuture, ClientAssertionProvider};
pub(crate) use authenticate::Credential;
#[cfg(all(feature = "reqwest", any(feature = "ring", feature = "rustls")))]
pub(crate) use authenticate::check_signature;
pub(crate) use callback::call as call_provider;
pub use dpop_key::DpopKey;
pub(crate) use file::read as read_file;
pub use file::{CertificateFile, SecretFile};
use source::CallReason;
pub(crate) use source::Rotating;
pub use source::{CredentialFuture, CredentialSource};
pub(crate) use supplied_assertion::AssertionSupplier;
use tls_certificate::ExpiryWarnings;
pub(crate) use tls_certificate::TlsCertificate;
pub use token_file::FederatedTokenFile;
pub use user_federated_credential::UserFederatedCredential;
pub(crate) use user_federated_credential::rejects_exchanged_token;

/// The credential in the client's configuration.
pub(crate) enum CredentialConfig {
    Secret(Secret),
    Certificate(Certificate),
    Assertion(Arc<dyn ClientAssertionProvider>),
    SecretSource(Rotating<Secret>),
    CertificateSource(Rotating<Certificate>),
    /// The certificate of the connections, and the method of client authentication.
    Tls(TlsCertificate, TokenEndpointAuthMethod),
}

impl CredentialConfig {
    /// Lets an assertion provider become the provider that the client calls.
    pub(crate) fn prepare(self, settings: &ProviderSettings) -> Result<Self, Error> {
        match self {
            Self::Assertion(provider) => match provider.prepare(settings) {
                Some(prepared) => Ok(Self::Assertion(prepared?)),
                None => Ok(Self::Assertion(provider)),
            },
            other => Ok(other),
        }
    }
}

/// The client's credential. Fetches the credential again if the credential has a source.
pub(crate) struct CredentialStore {
    config: CredentialConfig,
    rules: Rules,
    /// Longest time for one call to a source.
    limit: Duration,
    warnings: ExpiryWarnings,
}

impl CredentialStore {
    /// Checks a secret or a certificate. Does no I/O and calls no source.
    pub(crate) fn new(
        config: CredentialConfig,
        rules: Rules,
        limit: Duration,
        now: SystemTime,
    ) -> Result<Self, Error> {
        let store = Self {
            config,
            rules,
            limit,
            warnings: ExpiryWarnings::default(),
        };
        match &store.config {
            CredentialConfig::Secret(secret) => {
                check_secret(secret)?;
                store.warn_about_secret(secret);
            }
            CredentialConfig::Certificate(certificate) => {
                store.check_certificate(certificate, now)?;
                store.warnings.warn_if_expiring(certificate, now);
            }
            CredentialConfig::Tls(certificate, _) => {
                certificate.check(now)?;
            }
            CredentialConfig::Assertion(_)
            | CredentialConfig::SecretSource(_)
            | CredentialConfig::CertificateSource(_) => {}
        }
        Ok(store)
    }

    /// Returns the credential for the next token request. Calls the source, and falls back to the
    /// last valid credential.
    pub(crate) async fn current(&self, now: SystemTime) -> Result<Credential, Error> {
        self.get(CallReason::Request, now).await
    }

    async fn get(&self, reason: CallReason, now: SystemTime) -> Result<Credential, Error> {
        let credential = match &self.config {
            CredentialConfig::Secret(secret) => Credential::Secret(secret.clone()),
            CredentialConfig::Certificate(certificate) => {
                certificate.check_validity(now)?;
                Credential::Certificate(certificate.clone())
            }
            CredentialConfig::Assertion(provider) => {
                Credential::Assertion(AssertionSupplier::new(Arc::clone(provider)))
            }
            CredentialConfig::SecretSource(source) => {
                let on_new = |secret: &Secret| self.warn_about_secret(secret);
                Credential::Secret(
                    source
                        .current(reason, self.limit, check_secret, on_new)
                        .await?,
                )
            }
            CredentialConfig::CertificateSource(source) => {
                let check = |certificate: &Certificate| self.check_certificate(certificate, now);
                Credential::Certificate(source.current(reason, self.limit, check, |_| {}).await?)
            }
            CredentialConfig::Tls(certificate, _) => {
                Credential::Tls(certificate.get(reason, self.limit, now).await?)
            }
        };
        if let Credential::Certificate(certificate) = &credential {
            self.warnings.warn_if_expiring(certificate, now);
        }
        Ok(credential)
    }

    /// Returns a different credential after a rejection.
    ///
    /// The result is the source's current credential, or else the credential that the identity
    /// provider accepted before. A new credential may be deployed before its registration. The
    /// provider of an expired assertion is called again.
    pub(crate) async fn other_than(
        &self,
        rejected: &Credential,
        now: SystemTime,
    ) -> Option<Credential> {
        if let Credential::Assertion(supplier) = rejected {
            return supplier.after_rejection().map(Credential::Assertion);
        }
        let accepted = match &self.config {
            CredentialConfig::SecretSource(source) => source.accepted().map(Credential::Secret),
            CredentialConfig::CertificateSource(source) => source
                .accepted()
                .filter(|accepted| self.check_certificate(accepted, now).is_ok())
                .map(Credential::Certificate),
            CredentialConfig::Tls(certificate, _) if !certificate.is_fixed() => certificate
                .accepted()
                .filter(|accepted| accepted.check_validity(now).is_ok())
                .map(Credential::Tls),
            CredentialConfig::Tls(..)
            | CredentialConfig::Secret(_)
            | CredentialConfig::Certificate(_)
            | CredentialConfig::Assertion(_) => return None,
        };
        let newest = self.get(CallReason::Rejection, now).await;
        let newest = newest.inspect_err(|error| {
            tracing::warn!(error = %error.chain(), "after a rejection, the credential source returned no valid credential");
        });
        let mut candidates = newest.ok().into_iter().chain(accepted);
        candidates.find(|candidate| !candidate.same_as(rejected))
    }

    /// Stores a credential that the identity provider accepted.
    pub(crate) fn mark_accepted(&self, credential: &Credential) {
        match (&self.config, credential) {
            (CredentialConfig::SecretSource(source), Credential::Secret(secret)) => {
                source.mark_accepted(secret)
            }
            (CredentialConfig::CertificateSource(source), Credential::Certificate(certificate)) => {
                source.mark_accepted(certificate);
            }
            (CredentialConfig::Tls(certificate, _), Credential::Tls(accepted)) => {
                certificate.mark_accepted(accepted);
            }
            _ => {}
        }
    }

    /// Returns the method by which the certificate of the connection authenticates the client.
    pub(crate) fn tls_method(&self) -> Option<TokenEndpointAuthMethod> {
        match &self.config {
            CredentialConfig::Tls(_, method) => Some(*method),
            _ => None,
        }
    }

    /// Returns whether the credential is a secret.
    pub(crate) fn is_secret(&self) -> bool {
        matches!(
            self.config,
            CredentialConfig::Secret(_) | CredentialConfig::SecretSource(_)
        )
    }

    /// Checks that the client signs its assertions, to which it can add claims.
    pub(crate) fn check_assertion_claims(&self) -> Result<(), Error> {
        let reason = match &self.config {
            CredentialConfig::Certificate(_) | CredentialConfig::CertificateSource(_) => {
                return Ok(());
            }
            CredentialConfig::Secret(_) | CredentialConfig::SecretSource(_) => {
                "the client authenticates with a secret and sends no assertion; use certificate(..), or leave client_assertion_claims(..) out"
            }
            CredentialConfig::Assertion(_) => {
                "the client's assertion comes from client_assertion(..); add the claims there, and leave client_assertion_claims(..) out"
            }
            CredentialConfig::Tls(..) => {
                "the client authenticates with the certificate of the connection and sends no assertion; leave client_assertion_claims(..) out"
            }
        };
        Err(Error::config(format!(
            "no claim can be added to the client assertion: {reason}"
        )))
    }

    /// Returns whether this process signs, or may sign, the assertions.
    #[cfg(feature = "aws-lc-rs")]
    pub(crate) fn signs(&self) -> bool {
        match &self.config {
            CredentialConfig::Certificate(certificate) => certificate.has_private_key(),
            CredentialConfig::CertificateSource(_) => true,
            // TLS draws ahead by itself.
            CredentialConfig::Tls(..)
            | CredentialConfig::Secret(_)
            | CredentialConfig::SecretSource(_)
            | CredentialConfig::Assertion(_) => false,
        }
    }

    /// Returns the kind and the source of the credential, for the advice in errors.
    pub(crate) fn origin(&self) -> CredentialOrigin {
        let (kind, source) = match &self.config {
            CredentialConfig::Secret(_) => (CredentialKind::Secret, None),
            CredentialConfig::SecretSource(source) => {
                (CredentialKind::Secret, Some(source.describe()))
            }
            CredentialConfig::Certificate(_) => (CredentialKind::Certificate, None),
            CredentialConfig::CertificateSource(source) => {
                (CredentialKind::Certificate, Some(source.describe()))
            }
            CredentialConfig::Tls(certificate, _) => {
                (CredentialKind::TlsCertificate, certificate.source())
            }
            CredentialConfig::Assertion(provider) => {
                // A closure describes itself as a client assertion, and not as its source.
                let described = match provider.describe() {
                    text if text == "client assertion" => "assertion provider".to_owned(),
                    text => text,
                };
                (CredentialKind::Assertion, Some(described))
            }
        };
        CredentialOrigin { kind, source }
    }

    /// Returns the configured certificate, or the last certificate from the source.
    pub(crate) fn certificate(&self) -> Option<Certificate> {
        match &self.config {
            CredentialConfig::Certificate(certificate) => Some(certificate.clone()),
            CredentialConfig::CertificateSource(source) => source.last(),
            CredentialConfig::Tls(certificate, _) => certificate.last(),
            CredentialConfig::Secret(_)
            | CredentialConfig::Assertion(_)
            | CredentialConfig::SecretSource(_) => None,
        }
    }

    /// Checks the key, the algorithm and the validity of a certificate.
    fn check_certificate(&self, certificate: &Certificate, now: SystemTime) -> Result<(), Error> {
        if self.rules.requires_rsa() && !certificate.is_rsa() {
            return Err(Error::credential(format!(
                "the certificate of '{}' has {}, and {} accepts only RSA for client assertions; use a certificate with an RSA key of 2048 bits or more",
                certificate.subject(),
                certificate.key_name(),
                self.rules.name()
            )));
        }
        certificate.check_algorithm()?;
        certificate.check_key_id()?;
        certificate.check_validity(now)
    }

    /// Logs a warning for a secret that is too short to be masked in the text of errors, and for a
    /// GUID, which is probably the secret's id in Microsoft Entra ID.
    fn warn_about_secret(&self, secret: &Secret) {
        if secret.expose().chars().count() < MIN_SECRET {
            tracing::warn!(
                "the client secret has fewer than {MIN_SECRET} characters: it is easy to guess, and is not masked where the identity provider's error repeats it; use a longer secret"
            );
        }
        if pasted::unquoted(secret.expose()).is_some() {
            tracing::warn!(
                "the client secret begins and ends with a quotation mark; if the quotation marks come from a file or a variable, remove them"
            );
        }
        let is_of_entra = matches!(self.rules, Rules::Entra | Rules::B2c);
        if is_of_entra && Uuid::try_parse(pasted::bare(secret.expose())).is_ok() {
            tracing::warn!(
                "the client secret looks like a GUID: it is probably the secret's id; use its value, shown once when it is created"
            );
        }
    }
}

/// Rejects a secret that is empty, is surrounded by white space or contains invisible characters.
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
    // A private key must not be sent. The line breaks of a variable may be written as `\n`.
    if text.contains("-----BEGIN ") {
        return Err(Error::config(
            "the client secret is PEM; a certificate with its private key belongs in certificate(..) or in the file of AZURE_CLIENT_CERTIFICATE_PATH",
        ));
    }
    let invisible = |c: char| c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{feff}');
    if text.contains(invisible) {
        return Err(Error::config(
            "the client secret contains a character that cannot be seen, such as a line break or a byte order mark; copy the secret again",
        ));
    }
    Ok(())
}

/// Shows the kind of the credential, and never the credential.
impl fmt::Debug for CredentialConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secret(_) => f.write_str("client secret"),
            Self::Certificate(certificate) => certificate.fmt(f),
            Self::Assertion(provider) => f.write_str(&provider.describe()),
            Self::SecretSource(source) => f.write_str(&source.describe()),
            Self::CertificateSource(source) => f.write_str(&source.describe()),
            Self::Tls(certificate, _) => certificate.fmt(f),
        }
    }
}

impl fmt::Debug for CredentialStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.config.fmt(f)
    }
}
