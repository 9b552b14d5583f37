use std::fmt;
use std::sync::Arc;

use crate::certificate::Certificate;
use crate::credential::{CertificateFile, CredentialSource, TlsCertificate};
use crate::error::Error;

#[cfg(all(feature = "reqwest", any(feature = "ring", feature = "rustls")))]
mod connection_tls;
#[cfg(all(feature = "reqwest", any(feature = "ring", feature = "rustls")))]
mod handshake;
#[cfg(all(feature = "reqwest", any(feature = "ring", feature = "rustls")))]
mod handshake_key;
mod identities;
mod token_transport;

#[cfg(all(feature = "reqwest", any(feature = "ring", feature = "rustls")))]
pub(super) use connection_tls::ConnectionTls;
#[cfg(all(feature = "reqwest", any(feature = "ring", feature = "rustls")))]
pub(super) use handshake::from_caller;
#[cfg(all(feature = "reqwest", any(feature = "ring", feature = "rustls")))]
pub(crate) use handshake::signing_error;
use identities::Identities;
pub(crate) use identities::{RotationListener, TlsIdentity};
pub(crate) use token_transport::TokenTransport;

/// The client certificate of TLS connections, for [`tls_client_auth`] and for calls to an API with
/// certificate-bound tokens ([RFC 8705]).
///
/// A certificate-bound token is accepted only over a connection with the certificate that the token
/// is bound to. [`client_for`](Self::client_for) returns an HTTP client with that certificate.
///
/// A `MutualTls` is made from a [`Certificate`], from a [`CertificateFile`] or from another
/// [`CredentialSource`]. It is cheap to clone, and clones share the certificate and the HTTP clients.
/// Set the CA certificates and the reqwest settings first, then pass clones to the builder and to
/// the code that calls the API.
///
/// ```
/// use confidential_client::credential::CertificateFile;
/// use confidential_client::transport::MutualTls;
/// use confidential_client::{Authority, ConfidentialClient};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mutual_tls = MutualTls::from(CertificateFile::new("/var/run/secrets/daemon/tls.pem"));
/// let client = ConfidentialClient::builder("daemon")
///     .authority(Authority::oidc("https://id.example.org"))
///     .tls_client_auth(mutual_tls.clone())
///     .build()?;
/// # let _ = client;
/// # Ok(())
/// # }
/// ```
///
/// # Rotation
///
/// The client calls the source before every token request, and [`client_for`](Self::client_for)
/// calls the source at most every ten seconds. A new certificate has connections of its own: no
/// pooled connection and no TLS session of the old certificate is used with it.
///
/// - The first token request after a rotation uses the new certificate.
/// - Cached tokens that are bound to the old certificate stay valid. They are refreshed in the
///   background when they are next used.
/// - The current certificate and the one before are kept. After a second rotation the tokens of the
///   first certificate are removed from the cache.
/// - A file whose certificate and key do not match, such as a half-written pair, is not used. The
///   last valid certificate is used, and the log warns.
///
/// # Private keys outside the process
///
/// A certificate of [`Certificate::from_signer`] signs each handshake by its
/// [`Signer`](crate::credential::Signer), for which a handshake waits at most ten seconds. One
/// thread of the process makes the connections, so no thread of the program waits. TLS 1.3 accepts
/// no RS256 signature. If the certificate's algorithm is
/// [`RS256`](crate::credential::SigningAlgorithm::RS256), connections use TLS 1.2.
///
/// # TLS library
///
/// Mutual TLS needs the feature `rustls` or `ring`. The private key never leaves the process, and no
/// type of rustls is part of the API.
///
/// [`tls_client_auth`]: crate::ConfidentialClientBuilder::tls_client_auth
/// [RFC 8705]: https://www.rfc-editor.org/rfc/rfc8705
#[doc(alias = "mTLS")]
#[doc(alias = "RFC 8705")]
#[derive(Clone)]
#[must_use]
pub struct MutualTls {
    certificate: TlsCertificate,
    roots: Option<Arc<[u8]>>,
    #[cfg(feature = "reqwest")]
    reqwest: Option<Arc<dyn Fn() -> reqwest::ClientBuilder + Send + Sync>>,
    identities: Arc<Identities>,
}

impl MutualTls {
    /// Creates a handle for the certificates of a source, such as a vault.
    ///
    /// The source is called later.
    pub fn from_source(source: impl CredentialSource<Certificate>) -> Self {
        Self::new(TlsCertificate::from_source(source))
    }

    fn new(certificate: TlsCertificate) -> Self {
        Self {
            certificate,
            roots: None,
            #[cfg(feature = "reqwest")]
            reqwest: None,
            identities: Arc::default(),
        }
    }

    /// Trusts the CA certificates in PEM, and no others. The default is the operating system's.
    ///
    /// The CA certificates apply to the identity provider and to the API. Those of a
    /// `reqwest::ClientBuilder` are ignored by reqwest.
    ///
    /// [`build()`](crate::ConfidentialClientBuilder::build) returns an error for PEM without a
    /// certificate.
    pub fn trusted_roots_pem(mut self, pem: impl AsRef<[u8]>) -> Self {
        self.roots = Some(pem.as_ref().into());
        self.identities = Arc::default();
        self
    }

    /// Sets the reqwest settings of all connections: a proxy, a local address, timeouts.
    ///
    /// The closure is called for each certificate, because a rotated certificate needs a new HTTP
    /// client. TLS settings of the returned builder are ignored. Token requests never follow
    /// redirects and are never retried by reqwest.
    #[cfg(feature = "reqwest")]
    pub fn reqwest(
        mut self,
        builder: impl Fn() -> reqwest::ClientBuilder + Send + Sync + 'static,
    ) -> Self {
        self.reqwest = Some(Arc::new(builder));
        self.identities = Arc::default();
        self
    }

    /// Returns the certificate of new connections, for a health check.
    ///
    /// Returns `None` before a source was first called. Does no I/O.
    pub fn certificate(&self) -> Option<Certificate> {
        self.certificate.last()
    }

    pub(crate) fn tls_certificate(&self) -> &TlsCertificate {
        &self.certificate
    }

    /// Calls `listener` when a rotation is noticed, until the listener is dropped.
    pub(crate) fn listen(&self, listener: std::sync::Weak<dyn RotationListener>) {
        self.identities.listen(listener);
    }
}

impl From<Certificate> for MutualTls {
    fn from(certificate: Certificate) -> Self {
        Self::new(TlsCertificate::fixed(certificate))
    }
}

impl From<CertificateFile> for MutualTls {
    fn from(file: CertificateFile) -> Self {
        Self::from_source(file)
    }
}

#[cfg(all(feature = "reqwest", any(feature = "ring", feature = "rustls")))]
mod with_rustls {
    use std::time::SystemTime;

    use super::*;
    use crate::error::Failure;
    use crate::time::TimeSource;
    use crate::token::{AccessToken, TokenBinding};

    impl MutualTls {
        /// Returns an HTTP client whose connections carry the certificate that the token is bound
        /// to.
        ///
        /// The client has the settings of [`reqwest`](Self::reqwest) and is cached, so a call is
        /// cheap. Do not keep the client: after a rotation, a new token needs another client. The
        /// caller attaches the token, as in
        /// `client.get(url).header(AUTHORIZATION, token.authorization_header())`.
        ///
        /// ```
        /// # use confidential_client::testing::{Application, LocalAuthority, self_signed_certificate};
        /// # use confidential_client::transport::MutualTls;
        /// # use confidential_client::{Authority, Certificate, ConfidentialClient};
        /// # #[tokio::main(flavor = "current_thread")]
        /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
        /// # let local = LocalAuthority::builder().mutual_tls().start().await?;
        /// # let certificate = Certificate::from_pem(self_signed_certificate("daemon")?)?;
        /// # let application = Application::new("daemon").self_signed_tls_client_auth(&certificate);
        /// # local.register("contoso.com", application);
        /// # let authority = Authority::oidc(local.issuer("contoso.com").expect("registered"));
        /// # let ca = local.ca_pem().expect("started with TLS");
        /// let mutual_tls = MutualTls::from(certificate).trusted_roots_pem(ca);
        /// let client = ConfidentialClient::builder("daemon")
        ///     .authority(authority)
        ///     .self_signed_tls_client_auth(mutual_tls.clone())
        ///     .build()?;
        ///
        /// let token = client.acquire_token_for_client("api://orders/.default").await?;
        /// let http = mutual_tls.client_for(&token).await?;
        /// # let url = local.base_url();
        /// let request = http.get(url).header("authorization", token.authorization_header());
        /// # request.send().await?;
        /// # Ok(())
        /// # }
        /// ```
        ///
        /// # Errors
        ///
        /// - [`Error::Config`]: the token is not bound to a certificate; PEM without a CA
        ///   certificate; reqwest settings that reqwest rejects.
        /// - [`Error::Credential`]: the certificate of the token has expired, or was replaced twice.
        ///   Acquire a new token.
        pub async fn client_for(&self, token: &AccessToken) -> Result<reqwest::Client, Error> {
            let (TokenBinding::Certificate(thumbprint)
            | TokenBinding::EntraCertificate(thumbprint)) = token.issued().binding()
            else {
                return Err(Error::config(
                    "the token is not bound to a certificate; acquire it from a client with tls_client_auth(..), self_signed_tls_client_auth(..) or certificate_bound_tokens(..), or call the API with any HTTP client",
                ));
            };
            let now = TimeSource::System.wall();
            if self.identities.is_check_due() {
                // A failure is logged, and does not concern this token.
                let _ = self.identity(now, SOURCE_LIMIT).await;
            }
            let identity = self.identities.find(thumbprint).ok_or_else(|| {
                Error::credential(format!(
                    "the certificate with the thumbprint {thumbprint}, which the token is bound to, is not known to this MutualTls, or was replaced twice; acquire a new token from the client that this MutualTls belongs to"
                ))
            })?;
            identity.certificate().check_validity(now)?;
            identity.api_client(|| self.api_client(&identity))
        }

        /// Returns the identity of the source's current certificate.
        pub(crate) async fn identity(
            &self,
            now: SystemTime,
            limit: std::time::Duration,
        ) -> Result<Arc<TlsIdentity>, Error> {
            let certificate = self.certificate.current(limit, now).await?;
            self.identities.checked();
            self.identity_of(&certificate)
        }

        /// Returns the identity of a certificate, which becomes the current one if it is new.
        pub(crate) fn identity_of(
            &self,
            certificate: &Certificate,
        ) -> Result<Arc<TlsIdentity>, Error> {
            let is_latest = |other: &Certificate| {
                let last = self.certificate.last();
                last.is_none_or(|last| last.sha256() == other.sha256())
            };
            self.identities.get_or_add(certificate, is_latest, || {
                ConnectionTls::new(certificate, self.roots.as_deref(), invalid_roots)
            })
        }

        /// Returns TLS without a certificate, for requests that never carry the certificate. `None`
        /// for the operating system's CA certificates.
        pub(crate) fn without_certificate(&self) -> Result<Option<ConnectionTls>, Error> {
            let roots = self.roots.as_deref();
            let tls = roots.map(|roots| ConnectionTls::without_certificate(roots, invalid_roots));
            tls.transpose()
        }

        /// Calls the caller's closure for a builder.
        pub(crate) fn reqwest_builder(&self) -> Option<reqwest::ClientBuilder> {
            self.reqwest.as_ref().map(|builder| builder())
        }

        fn api_client(&self, identity: &TlsIdentity) -> Result<reqwest::Client, Error> {
            let builder = self.reqwest_builder().unwrap_or_default();
            let client = identity.tls().configure(builder).build();
            client.map_err(|error| {
                let failure = Failure::new(
                    "the HTTP client cannot be built; correct the settings of MutualTls::reqwest(..)",
                );
                Error::Config(failure.source(Box::new(error.without_url())).into())
            })
        }
    }

    fn invalid_roots(source: Option<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        let failure = Failure::new(
            "the CA certificates of MutualTls::trusted_roots_pem(..) cannot be read; write at least one certificate as PEM",
        );
        let failure = match source {
            Some(source) => failure.source(source),
            None => failure,
        };
        Error::Config(failure.into())
    }

    /// The longest time of a call to a source, as for every credential.
    const SOURCE_LIMIT: std::time::Duration = std::time::Duration::from_secs(10);
}

impl fmt::Debug for MutualTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MutualTls")
            .field("certificate", &self.certificate)
            .field("has_own_roots", &self.roots.is_some())
            .finish_non_exhaustive()
    }
}
