use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use azure_security_keyvault_certificates::CertificateClient;
use azure_security_keyvault_keys::KeyClient;
use azure_security_keyvault_secrets::SecretClient;
use tokio::time::timeout;

use super::explain::timed_out;
use super::lookup::{LookupReason, VersionLookup};
use super::versions::{LoadedVersion, PrivateKeyAccess, VersionedCertificate};
use super::{LIMIT, check_path_segment};
use crate::certificate::{AssertionOptions, Certificate};
use crate::credential::{CredentialFuture, CredentialSource, SigningAlgorithm};
use crate::error::Error;
use crate::time::{Clock, TimeSource};

/// A certificate in Azure Key Vault, which the client follows through rotations.
///
/// The newest version that is enabled and valid is used. A new version is picked up without a
/// restart. Pass the source to
/// [`certificate_source`](crate::ConfidentialClientBuilder::certificate_source), or to
/// [`MutualTls::from_source`](crate::transport::MutualTls::from_source) for TLS client
/// authentication.
///
/// - [`exportable`](Self::exportable) downloads the private key of each new version. The identity
///   needs the role *Key Vault Certificate User*.
/// - [`non_exportable`](Self::non_exportable) lets the vault sign each assertion. The identity
///   needs the roles *Key Vault Certificate User* and *Key Vault Crypto User*.
///
/// In a vault with access policies, the identity needs *get* and *list* for certificates, and *get*
/// for secrets or *sign* for keys.
///
/// The clients of the Azure SDK authenticate with a managed identity, or with another client of
/// this crate, by [`AzureCredential`](crate::adapter::AzureCredential). The client behind the
/// credential must not use this source, because the client would wait for its own token.
///
/// ```
/// use std::sync::Arc;
///
/// use azure_core::credentials::TokenCredential;
/// use azure_security_keyvault_certificates::CertificateClient;
/// use azure_security_keyvault_secrets::SecretClient;
/// use confidential_client::adapter::{AzureCredential, KeyVaultCertificate};
/// use confidential_client::credential::ManagedIdentity;
/// use confidential_client::{ConfidentialClient, ManagedIdentityClient};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let identity = ManagedIdentityClient::new(ManagedIdentity::system_assigned())?;
/// let credential: Arc<dyn TokenCredential> = Arc::new(AzureCredential::new(identity));
///
/// let vault = "https://contoso.vault.azure.net";
/// let certificate = KeyVaultCertificate::exportable(
///     CertificateClient::new(vault, Arc::clone(&credential), None)?,
///     SecretClient::new(vault, credential, None)?,
///     "daemon",
/// )?;
/// let client = ConfidentialClient::builder("11111111-2222-3333-4444-555555555555")
///     .tenant("contoso.onmicrosoft.com")
///     .certificate_source(certificate)
///     .build()?; // does no I/O
/// # let _ = client;
/// # Ok(())
/// # }
/// ```
///
/// # Rotation
///
/// The first token request reads the certificate from the vault. Later token requests look for a
/// newer version at most every five minutes ([`lookup_interval`](Self::lookup_interval)). A lookup
/// without a new version is one request to the vault. Cached tokens need no lookup. Clones share
/// the certificate, and callers that arrive during a lookup share the result.
///
/// - A version that is disabled, expired or not yet valid by its attributes in the vault is passed
///   over.
/// - If the identity provider rejects the certificate, the client looks for a newer version at
///   once, unless the last lookup is less than 30 seconds old. Without a newer version, the client
///   retries with the certificate that was accepted before. So a certificate may be rotated in the
///   vault before it is registered with the application.
/// - If the vault does not sign with the version, because the version was disabled or deleted, that
///   token request fails. The next one looks for another version, unless the last lookup is less
///   than 30 seconds old.
/// - If the vault fails, the last certificate is used while it is valid, and the log warns. The
///   next lookup is 5 seconds later. The time doubles with each failure, up to a minute, and is
///   longer if the vault sends `Retry-After`.
/// - A version that is already loaded stays in use while no version in the vault is enabled. The
///   vault itself refuses to sign with a disabled key.
///
/// # Limits
///
/// A lookup may take nine seconds. Callers with a valid certificate wait two seconds for a lookup,
/// and then use that certificate. If the last lookup took longer than that, callers do not wait at
/// all. Callers whose certificate was rejected wait five seconds. The lookup continues, and its
/// result serves later token requests. So a vault that is slow or hangs delays one token request.
///
/// By default, the clients of the Azure SDK retry 429, 5xx and lost connections for up to a minute.
/// The error after nine seconds then has no cause. Set `ClientOptions::retry` to
/// `RetryOptions::none()`, and the error says what the vault answered.
///
/// # Errors
///
/// The errors are [`Error::Credential`](crate::Error::Credential). The message names the vault, the
/// certificate and the version, and what to do. A missing role is named.
#[doc(alias = "CertificateClient")]
#[derive(Clone)]
pub struct KeyVaultCertificate {
    certificate: Arc<VersionedCertificate>,
    lookup: Arc<VersionLookup>,
    interval: Duration,
    clock: TimeSource,
    options: AssertionOptions,
}

impl KeyVaultCertificate {
    /// Creates a source for a certificate whose private key can be exported. Does no I/O.
    ///
    /// The private key is in the secret that has the name and the version of the certificate. The
    /// secret is PKCS#12 or PEM. After the download the private key is in the memory of this
    /// process, and the vault is not called for signatures. The key is wiped on drop. The buffers
    /// of the Azure SDK, which had the response of the vault, are not.
    ///
    /// # Errors
    ///
    /// [`Error::Config`](crate::Error::Config) for a name that Azure Key Vault does not allow.
    pub fn exportable(
        certificates: impl Into<Arc<CertificateClient>>,
        secrets: impl Into<Arc<SecretClient>>,
        name: impl Into<String>,
    ) -> Result<Self, Error> {
        let private_key = PrivateKeyAccess::Download(secrets.into());
        Self::new(certificates.into(), private_key, name.into())
    }

    /// Creates a source for a certificate whose private key stays in the vault. Does no I/O.
    ///
    /// Each signature is a request to the vault, which is one for each token request. The vault
    /// signs with the version of the key that belongs to the certificate. The constructor also
    /// works for a key that can be exported.
    ///
    /// [`send_x5c`](Self::send_x5c) sends the certificate alone, because the vault returns the
    /// chain only with the secret.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use azure_core::credentials::TokenCredential;
    /// # use azure_security_keyvault_certificates::CertificateClient;
    /// # use azure_security_keyvault_keys::KeyClient;
    /// # use confidential_client::adapter::{AzureCredential, KeyVaultCertificate};
    /// # use confidential_client::credential::ManagedIdentity;
    /// # use confidential_client::{Error, ManagedIdentityClient};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let identity = ManagedIdentityClient::new(ManagedIdentity::system_assigned())?;
    /// # let credential: Arc<dyn TokenCredential> = Arc::new(AzureCredential::new(identity));
    /// # let vault = "https://contoso.vault.azure.net";
    /// let certificate = KeyVaultCertificate::non_exportable(
    ///     CertificateClient::new(vault, Arc::clone(&credential), None)?,
    ///     KeyClient::new(vault, credential, None)?,
    ///     "daemon",
    /// )?;
    /// # let _ = certificate;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Config`](crate::Error::Config) for a name that Azure Key Vault does not allow.
    pub fn non_exportable(
        certificates: impl Into<Arc<CertificateClient>>,
        keys: impl Into<Arc<KeyClient>>,
        name: impl Into<String>,
    ) -> Result<Self, Error> {
        let private_key = PrivateKeyAccess::Sign(keys.into());
        Self::new(certificates.into(), private_key, name.into())
    }

    fn new(
        certificates: Arc<CertificateClient>,
        private_key: PrivateKeyAccess,
        name: String,
    ) -> Result<Self, Error> {
        check_path_segment("the name of the certificate", &name)?;
        Ok(Self {
            certificate: Arc::new(VersionedCertificate {
                certificates,
                private_key,
                name,
            }),
            lookup: Arc::new(VersionLookup::new()),
            interval: DEFAULT_INTERVAL,
            clock: TimeSource::System,
            options: AssertionOptions::default(),
        })
    }

    /// Sets the time after which a token request looks for a newer version.
    ///
    /// The default is five minutes. A time under one minute counts as one minute. Azure Key Vault
    /// limits the requests of all callers of a vault together.
    #[must_use]
    pub fn lookup_interval(mut self, interval: Duration) -> Self {
        self.interval = interval.max(SHORTEST_INTERVAL);
        self
    }

    /// Sets the clock of the lookups, for tests. The default is the system's clock.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = TimeSource::Injected(Arc::new(clock));
        self
    }

    /// Sets the signing algorithm, like [`Certificate::signing_algorithm`].
    #[must_use]
    pub fn signing_algorithm(mut self, algorithm: SigningAlgorithm) -> Self {
        self.options.algorithm = Some(algorithm);
        self
    }

    /// Sends the certificate and its chain in each assertion, like [`Certificate::send_x5c`].
    #[doc(alias = "sendX5C")]
    #[must_use]
    pub fn send_x5c(mut self) -> Self {
        self.options.x5c = true;
        self
    }

    /// Sets the key id (`kid`) of each assertion, like [`Certificate::key_id`].
    #[must_use]
    pub fn key_id(mut self, key_id: impl Into<String>) -> Self {
        self.options.key_id = Some(key_id.into());
        self
    }

    /// Returns the version of the certificate in the vault that is in use.
    ///
    /// `None` before the first successful lookup. Does no I/O. For a health check or a log.
    pub fn version(&self) -> Option<String> {
        self.lookup.version()
    }

    async fn get(&self, reason: LookupReason) -> Result<Certificate, Error> {
        let source = self.clone();
        let load = |known: Option<LoadedVersion>| async move { source.load(known).await };
        let certificate = self
            .lookup
            .get(reason, self.interval, &self.clock, load)
            .await?;
        Ok(self.options.apply(certificate))
    }

    /// Looks for a newer version within a time limit, and logs the outcome.
    async fn load(&self, known: Option<LoadedVersion>) -> Result<LoadedVersion, Error> {
        let version = known.as_ref().map(|known| known.version.clone());
        let loading = self
            .certificate
            .load(known, &self.lookup, self.clock.wall());
        let loaded = timeout(LIMIT, loading).await.unwrap_or_else(|_| {
            let vault = self.certificate.certificates.endpoint();
            let action = format!("return the certificate '{}'", self.certificate.name);
            Err(timed_out(vault, &action, LIMIT))
        });
        match &loaded {
            Ok(loaded) if version.as_ref() != Some(&loaded.version) => tracing::info!(
                source = self.describe(),
                version = loaded.version,
                "a version of the certificate was loaded from the Key Vault"
            ),
            Ok(_) => {}
            Err(error) => tracing::warn!(
                source = self.describe(),
                version,
                error = %error.chain(),
                "the newest version of the certificate could not be looked up; the last version is used while it is valid"
            ),
        }
        loaded
    }
}

impl CredentialSource<Certificate> for KeyVaultCertificate {
    fn credential(&self) -> CredentialFuture<'_, Certificate> {
        Box::pin(async move { Ok(self.get(LookupReason::Request).await?) })
    }

    fn credential_after_rejection(&self) -> CredentialFuture<'_, Certificate> {
        Box::pin(async move { Ok(self.get(LookupReason::Rejection).await?) })
    }

    fn describe(&self) -> String {
        let VersionedCertificate {
            certificates, name, ..
        } = &*self.certificate;
        format!(
            "certificate '{name}' of the Key Vault {}",
            certificates.endpoint()
        )
    }
}

impl fmt::Debug for KeyVaultCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let VersionedCertificate {
            certificates,
            private_key,
            name,
        } = &*self.certificate;
        f.debug_struct("KeyVaultCertificate")
            .field("vault", &certificates.endpoint().as_str())
            .field("name", name)
            .field(
                "exportable",
                &matches!(private_key, PrivateKeyAccess::Download(_)),
            )
            .field("version", &self.version())
            .field("lookup_interval", &self.interval)
            .finish_non_exhaustive()
    }
}

const DEFAULT_INTERVAL: Duration = Duration::from_secs(5 * 60);
const SHORTEST_INTERVAL: Duration = Duration::from_secs(60);
