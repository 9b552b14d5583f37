//! The newest version of a certificate in a vault.

use std::sync::{Arc, Weak};
use std::time::SystemTime;

use azure_core::time::OffsetDateTime;
use azure_security_keyvault_certificates::CertificateClient;
use azure_security_keyvault_certificates::models::{
    Certificate as CertificateVersion, CertificateClientGetCertificateOptions,
    CertificateProperties,
};
use azure_security_keyvault_keys::KeyClient;
use azure_security_keyvault_secrets::SecretClient;
use azure_security_keyvault_secrets::models::SecretClientGetSecretOptions;
use futures_util::TryStreamExt;
use sha2::{Digest, Sha256};
use tokio::task::spawn_blocking;
use url::Url;

use super::explain::Operation;
use super::lookup::VersionLookup;
use super::{KeyVaultSigner, check_path_segment};
use crate::certificate::Certificate;
use crate::credential::{Signer, SignerFuture, SigningAlgorithm};
use crate::error::Error;
use crate::secret::Secret;

/// A certificate in a vault, and the way to its private key.
pub(super) struct VersionedCertificate {
    pub(super) certificates: Arc<CertificateClient>,
    pub(super) private_key: PrivateKeyAccess,
    pub(super) name: String,
}

/// The way to the private key of a certificate.
pub(super) enum PrivateKeyAccess {
    /// The secret of the certificate has the private key.
    Download(Arc<SecretClient>),
    /// The private key stays in the vault, which signs.
    Sign(Arc<KeyClient>),
}

/// A version of the certificate with its private key or its signer.
#[derive(Clone)]
pub(super) struct LoadedVersion {
    pub(super) version: String,
    pub(super) certificate: Certificate,
}

impl VersionedCertificate {
    /// Returns the newest version that is enabled and valid at `now`. Returns `known` if that is
    /// the newest version, which costs one request.
    ///
    /// A signer of the version notes in `lookup` that the vault does not sign.
    pub(super) async fn load(
        &self,
        known: Option<LoadedVersion>,
        lookup: &Arc<VersionLookup>,
        now: SystemTime,
    ) -> Result<LoadedVersion, Error> {
        let version = self.newest(now).await?;
        if let Some(known) = known.filter(|known| known.version == version) {
            return Ok(known);
        }
        let details = self.details(&version).await?;
        let certificate = match &self.private_key {
            PrivateKeyAccess::Download(secrets) => {
                self.download(secrets, &version, details).await?
            }
            PrivateKeyAccess::Sign(keys) => self.with_signer(keys, lookup, &version, details)?,
        };
        Ok(LoadedVersion {
            version,
            certificate,
        })
    }

    async fn newest(&self, now: SystemTime) -> Result<String, Error> {
        let operation = Operation::list_versions(self.certificates.endpoint(), &self.name);
        let versions = self
            .certificates
            .list_certificate_properties_versions(&self.name, None);
        let versions = match versions {
            Ok(versions) => versions.try_collect::<Vec<CertificateProperties>>().await,
            Err(error) => Err(error),
        };
        let versions = versions.map_err(|error| operation.failed(error))?;
        // Azure Key Vault lists the versions of an unknown certificate as an empty list.
        if versions.is_empty() {
            return Err(operation.not_found());
        }
        let now = OffsetDateTime::from(now);
        match newest(&versions, now) {
            Some(version) => {
                check_path_segment("the version in the vault's list", version).map_err(
                    |error| {
                        let vault = self.certificates.endpoint();
                        let (name, error) = (&self.name, error.to_string());
                        Error::credential(format!(
                            "the response of the Key Vault {vault} about the certificate '{name}' cannot be used: {error}"
                        ))
                    },
                )?;
                Ok(version.to_owned())
            }
            None => Err(self.no_usable_version(&versions, now)),
        }
    }

    fn no_usable_version(&self, versions: &[CertificateProperties], now: OffsetDateTime) -> Error {
        let count = |kind| {
            let states = versions
                .iter()
                .map(|version| VersionState::of(version, now));
            states.filter(|state| *state == kind).count()
        };
        Error::credential(format!(
            "the Key Vault {} has no version of the certificate '{}' that is enabled and valid now: {} disabled, {} expired, {} not yet valid; enable a version, or create one",
            self.certificates.endpoint(),
            self.name,
            count(VersionState::Disabled),
            count(VersionState::Expired),
            count(VersionState::NotYetValid),
        ))
    }

    async fn details(&self, version: &str) -> Result<CertificateVersion, Error> {
        let vault = self.certificates.endpoint();
        let operation = Operation::get_certificate(vault, &self.name, version);
        let options = CertificateClientGetCertificateOptions {
            certificate_version: Some(version.to_owned()),
            ..CertificateClientGetCertificateOptions::default()
        };
        let response = self
            .certificates
            .get_certificate(&self.name, Some(options))
            .await;
        let response = response.map_err(|error| operation.failed(error))?;
        response.into_model().map_err(|_| operation.unreadable())
    }

    /// Reads the secret of the certificate's version, which is PKCS#12 or PEM.
    async fn download(
        &self,
        secrets: &SecretClient,
        version: &str,
        details: CertificateVersion,
    ) -> Result<Certificate, Error> {
        let subject = format!("version {version} of the certificate '{}'", self.name);
        let key_properties = details.policy.and_then(|policy| policy.key_properties);
        if key_properties.and_then(|key| key.exportable) == Some(false) {
            return Err(Error::credential(format!(
                "the private key of {subject} cannot be exported; {USE_THE_KEY}"
            )));
        }
        let operation = Operation::get_secret(secrets.endpoint(), &self.name, version);
        let options = SecretClientGetSecretOptions {
            secret_version: Some(version.to_owned()),
            ..SecretClientGetSecretOptions::default()
        };
        let response = secrets.get_secret(&self.name, Some(options)).await;
        let response = response.map_err(|error| operation.failed(error))?;
        let secret = response.into_model().map_err(|_| operation.unreadable())?;
        let value = Secret::from(secret.value.ok_or_else(|| operation.unreadable())?);
        let parsing =
            spawn_blocking(move || Certificate::from_file(value.expose().as_bytes(), None));
        let parsed = parsing.await.map_err(|_| operation.unreadable())?;
        let certificate = parsed.map_err(|error| {
            // The secret of a key that cannot be exported has the certificate alone.
            let advice = match error.to_string().contains("holds no private key") {
                true => format!("; if the key cannot be exported, {USE_THE_KEY}"),
                false => String::new(),
            };
            Error::credential(format!(
                "the secret of {subject} (content type {:?}) cannot be used: {error}{advice}",
                secret.content_type.unwrap_or_default()
            ))
        })?;
        match details.cer {
            Some(cer) if certificate.sha256()[..] != Sha256::digest(&cer)[..] => {
                Err(Error::credential(format!(
                    "the secret of {subject} has another certificate than that version; import the certificate with its private key again"
                )))
            }
            _ => Ok(certificate),
        }
    }

    /// Builds the certificate whose private key stays in the vault.
    fn with_signer(
        &self,
        keys: &Arc<KeyClient>,
        lookup: &Arc<VersionLookup>,
        version: &str,
        details: CertificateVersion,
    ) -> Result<Certificate, Error> {
        let subject = format!("version {version} of the certificate '{}'", self.name);
        let Some((key, key_version)) = details.kid.as_deref().and_then(key_of) else {
            return Err(Error::credential(format!("{subject} names no key ('kid')")));
        };
        let Some(cer) = details.cer else {
            return Err(Error::credential(format!(
                "the Key Vault returned {subject} without the certificate ('cer')"
            )));
        };
        let unusable =
            |error: Error| Error::credential(format!("{subject} cannot be used: {error}"));
        let signer = VersionSigner {
            signer: KeyVaultSigner::new(Arc::clone(keys), key, key_version).map_err(unusable)?,
            version: version.to_owned(),
            lookup: Arc::downgrade(lookup),
        };
        Certificate::from_signer(cer, signer).map_err(unusable)
    }
}

/// The signer of a version that a lookup found.
struct VersionSigner {
    signer: KeyVaultSigner,
    /// The version of the certificate.
    version: String,
    lookup: Weak<VersionLookup>,
}

impl Signer for VersionSigner {
    fn sign(&self, algorithm: SigningAlgorithm, message: Vec<u8>) -> SignerFuture<'_> {
        Box::pin(async move {
            let signature = self.signer.signature(algorithm, &message).await;
            if let (Err(error), Some(lookup)) = (&signature, self.lookup.upgrade())
                && !error.is_transient()
            {
                lookup.mark_suspect(&self.version);
            }
            Ok(signature?)
        })
    }
}

/// The state of a version by its attributes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum VersionState {
    Usable,
    Disabled,
    Expired,
    NotYetValid,
}

impl VersionState {
    fn of(version: &CertificateProperties, now: OffsetDateTime) -> Self {
        let Some(attributes) = &version.attributes else {
            return Self::Usable;
        };
        match attributes {
            _ if attributes.enabled == Some(false) => Self::Disabled,
            _ if attributes.expires.is_some_and(|expires| expires <= now) => Self::Expired,
            _ if attributes.not_before.is_some_and(|start| start > now) => Self::NotYetValid,
            _ => Self::Usable,
        }
    }
}

/// Returns the newest usable version.
///
/// The newest version of all may be disabled, and the vault returns that version where a request
/// names no version.
fn newest(versions: &[CertificateProperties], now: OffsetDateTime) -> Option<&str> {
    let usable = versions
        .iter()
        .filter(|version| VersionState::of(version, now) == VersionState::Usable);
    let newest = usable.max_by_key(|version| {
        let attributes = version.attributes.as_ref();
        // Versions of the same second differ in their validity.
        let created = attributes.and_then(|attributes| attributes.created);
        let expires = attributes.and_then(|attributes| attributes.expires);
        (created, expires)
    })?;
    // https://NAME.vault.azure.net/certificates/CERTIFICATE/VERSION
    newest
        .id
        .as_deref()?
        .trim_end_matches('/')
        .rsplit('/')
        .next()
}

/// Returns the name and the version in a key's identifier.
fn key_of(kid: &str) -> Option<(String, String)> {
    let kid = Url::parse(kid).ok()?;
    let mut segments = kid.path_segments()?;
    match (segments.next()?, segments.next()?, segments.next()?) {
        ("keys", name, version) if !version.is_empty() => {
            Some((name.to_owned(), version.to_owned()))
        }
        _ => None,
    }
}

const USE_THE_KEY: &str = "create the source with KeyVaultCertificate::non_exportable(..), or create a version with an exportable key";
