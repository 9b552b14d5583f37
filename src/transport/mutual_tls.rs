use std::error::Error as StdError;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use crate::certificate::Certificate;
use crate::credential::{CertificateFile, CredentialSource, TlsCertificate};
use crate::error::{Error, Failure};

#[cfg(all(feature = "reqwest", any(feature = "ring", feature = "rustls")))]
mod api_client;
#[cfg(all(feature = "reqwest", any(feature = "ring", feature = "rustls")))]
mod connection_tls;
#[cfg(all(feature = "reqwest", any(feature = "ring", feature = "rustls")))]
mod handshake;
#[cfg(all(feature = "reqwest", any(feature = "ring", feature = "rustls")))]
mod handshake_key;
mod identities;
#[cfg(not(all(feature = "reqwest", any(feature = "ring", feature = "rustls"))))]
mod none;
mod token_transport;

#[cfg(all(feature = "reqwest", any(feature = "ring", feature = "rustls")))]
pub(super) use connection_tls::ConnectionTls;
#[cfg(all(feature = "reqwest", any(feature = "ring", feature = "rustls")))]
pub(super) use handshake::from_caller;
#[cfg(all(feature = "reqwest", any(feature = "ring", feature = "rustls")))]
pub(crate) use handshake::{rejects_certificate, signing_error};
use identities::TlsIdentities;
pub(crate) use identities::{RotationListener, TlsIdentity};
#[cfg(not(all(feature = "reqwest", any(feature = "ring", feature = "rustls"))))]
pub(super) use none::NoConnectionTls as ConnectionTls;
pub(crate) use token_transport::TokenTransport;

/// The client certificate of TLS connections, for [`tls_client_auth`] and for calls to an API with
/// certificate-bound tokens ([RFC 8705]).
///
/// A certificate-bound token is accepted only over a connection with the certificate that the token
/// is bound to. [`client_for`](Self::client_for) returns an HTTP client with that certificate.
///
/// A `MutualTls` is made from a [`Certificate`], from a [`CertificateFile`] or from another
/// [`CredentialSource`]. It is cheap to clone, and clones share the certificate and the HTTP
/// clients. Set the CA certificates and the reqwest settings first, then pass clones to the builder
/// and to the code that calls the API.
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
/// Mutual TLS needs the feature `rustls` or `ring`. The private key never leaves the process, and
/// no type of rustls is part of the API.
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
    identities: Arc<TlsIdentities>,
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

    /// Returns the identity of the source's current certificate.
    pub(crate) async fn identity(
        &self,
        now: SystemTime,
        limit: Duration,
    ) -> Result<Arc<TlsIdentity>, Error> {
        let certificate = self.certificate.current(limit, now).await?;
        self.identities.checked();
        self.identity_of(&certificate)
    }

    /// Returns the identity of a certificate, which becomes the current one if it is new.
    pub(crate) fn identity_of(&self, certificate: &Certificate) -> Result<Arc<TlsIdentity>, Error> {
        let is_latest = |other: &Certificate| {
            let last = self.certificate.last();
            last.is_none_or(|last| last.sha256() == other.sha256())
        };
        self.identities.get_or_add(certificate, is_latest, || {
            ConnectionTls::new(certificate, self.roots.as_deref(), invalid_roots)
        })
    }

    /// Returns TLS without a certificate, for requests that never carry the certificate. `None` if
    /// the default transport does as well.
    pub(crate) fn without_certificate(&self) -> Result<Option<ConnectionTls>, Error> {
        let roots = self.roots.as_deref();
        #[cfg(feature = "reqwest")]
        let has_settings = self.reqwest.is_some();
        #[cfg(not(feature = "reqwest"))]
        let has_settings = false;
        // A builder of the caller has no TLS by ring of its own.
        let is_needed = roots.is_some() || has_settings;
        let tls = is_needed.then(|| ConnectionTls::without_certificate(roots, invalid_roots));
        tls.transpose()
    }

    /// Calls the caller's closure for a builder.
    #[cfg(feature = "reqwest")]
    pub(crate) fn reqwest_builder(&self) -> Option<reqwest::ClientBuilder> {
        self.reqwest.as_ref().map(|builder| builder())
    }

    /// Calls `listener` when a rotation is noticed, until the listener is dropped.
    pub(crate) fn listen(&self, listener: Weak<dyn RotationListener>) {
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

impl fmt::Debug for MutualTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MutualTls")
            .field("certificate", &self.certificate)
            .field("has_own_roots", &self.roots.is_some())
            .finish_non_exhaustive()
    }
}

fn invalid_roots(source: Option<Box<dyn StdError + Send + Sync>>) -> Error {
    let failure = Failure::new(
        "the CA certificates of MutualTls::trusted_roots_pem(..) cannot be read; write at least one certificate as PEM",
    );
    let failure = match source {
        Some(source) => failure.source(source),
        None => failure,
    };
    Error::Config(failure.into())
}
