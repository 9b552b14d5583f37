use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use url::Url;

use super::{ConnectionTls, MutualTls, TlsIdentity};
use crate::certificate::{Certificate, CertificateKey};
use crate::error::Error;
use crate::token::Thumbprint;
use crate::transport::config::CONNECT_TIMEOUT;
use crate::transport::{Transport, TransportConfig};

/// The transport of token requests whose connections carry a client certificate.
pub(crate) struct TokenTransport {
    mutual_tls: MutualTls,
    /// The transports of the latest certificates, the current one last.
    transports: Mutex<Vec<(Thumbprint, Arc<dyn Transport>)>>,
    origin: Url,
    connect_timeout: Option<Duration>,
}

impl TokenTransport {
    pub(crate) fn mutual_tls(&self) -> &MutualTls {
        &self.mutual_tls
    }
}

impl TokenTransport {
    /// Checks the settings. Returns the transport with the certificate, and the settings of the
    /// transport without the certificate, which fetches metadata and keys.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a transport or a reqwest builder of the caller, and for PEM without a
    /// CA certificate.
    pub(crate) fn new(
        mutual_tls: MutualTls,
        mut config: TransportConfig,
        origin: &Url,
    ) -> Result<(Self, TransportConfig), Error> {
        ConnectionTls::check_available()?;
        if config.transport.is_some() {
            return Err(Error::config(
                "a custom transport is set, whose connections do not carry the client certificate, so a token would be bound to another certificate or to none; remove transport(..), and set what it does in MutualTls::reqwest(..)",
            ));
        }
        #[cfg(feature = "reqwest")]
        if config.reqwest.is_some() {
            return Err(Error::config(
                "reqwest(..) builds one HTTP client, and each client certificate needs one; move the settings to MutualTls::reqwest(..), and CA certificates to MutualTls::trusted_roots_pem(..)",
            ));
        }
        let connect_timeout = config.connect_timeout;
        #[cfg(feature = "reqwest")]
        {
            config.reqwest = mutual_tls.reqwest_builder();
        }
        if let Some(tls) = mutual_tls.without_certificate()? {
            config = config.with_tls(Arc::new(tls));
        }
        let transport = Self {
            mutual_tls,
            transports: Mutex::default(),
            origin: origin.clone(),
            connect_timeout,
        };
        Ok((transport, config))
    }

    /// Returns the identity of the certificate for the next token request.
    pub(crate) async fn identity(
        &self,
        now: SystemTime,
        limit: Duration,
    ) -> Result<Arc<TlsIdentity>, Error> {
        self.mutual_tls.identity(now, limit).await
    }

    /// Returns the identity of a certificate.
    pub(crate) fn identity_of(&self, certificate: &Certificate) -> Result<Arc<TlsIdentity>, Error> {
        self.mutual_tls.identity_of(certificate)
    }

    /// Returns the transport whose connections carry the certificate.
    ///
    /// A new certificate has a transport of its own, since a pooled connection keeps the
    /// certificate that it was opened with.
    pub(crate) fn of(&self, identity: &Arc<TlsIdentity>) -> Result<Arc<dyn Transport>, Error> {
        let thumbprint = identity.thumbprint();
        let mut transports = self
            .transports
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some((_, known)) = transports.iter().find(|(known, _)| *known == thumbprint) {
            return Ok(Arc::clone(known));
        }
        let transport = self.build(identity)?;
        if transports.len() == KEPT {
            transports.remove(0);
        }
        transports.push((thumbprint, Arc::clone(&transport)));
        Ok(transport)
    }

    fn build(&self, identity: &Arc<TlsIdentity>) -> Result<Arc<dyn Transport>, Error> {
        let mut config = TransportConfig::of("ConfidentialClientBuilder");
        config.connect_timeout = match identity.certificate().key() {
            CertificateKey::Local(_) => self.connect_timeout,
            // The limits of the connection and of the signature apply one after the other.
            CertificateKey::Remote(_) => Some(
                self.connect_timeout
                    .unwrap_or(CONNECT_TIMEOUT)
                    .saturating_add(SIGNATURE_LIMIT),
            ),
        };
        #[cfg(feature = "reqwest")]
        {
            config.reqwest = self.mutual_tls.reqwest_builder();
        }
        let config = config.with_tls(Arc::clone(identity.tls()));
        config.transport(&self.origin)
    }
}

/// The transports of the current certificate and of the one before.
const KEPT: usize = 2;
/// The longest time of a handshake's signature outside the process, as long as that of an
/// assertion.
pub(super) const SIGNATURE_LIMIT: Duration = Duration::from_secs(10);
