use std::error::Error as StdError;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, DEFAULT_VERSIONS, SupportedProtocolVersion, version};

use super::handshake::HandshakeLayer;
use super::handshake_key::HandshakeKey;
use crate::certificate::{Certificate, CertificateKey};
use crate::crypto::SigningAlgorithm;
use crate::error::Error;
use crate::transport::tls::client_config::{set_protocols, verifying};

/// The TLS of the connections of one certificate, or of connections without a certificate.
pub(crate) struct ConnectionTls {
    /// Cloned for each HTTP client. A clone and a client cost some 3 us.
    config: ClientConfig,
    certificate: Option<Certificate>,
}

impl ConnectionTls {
    /// Checks that TLS by rustls is compiled in.
    pub(super) fn check_available() -> Result<(), Error> {
        Ok(())
    }

    /// Builds the TLS of connections with a certificate.
    ///
    /// # Errors
    ///
    /// The error of `invalid` for PEM without a CA certificate, and [`Error::Config`] for a machine
    /// without CA certificates.
    pub(super) fn new(
        certificate: &Certificate,
        roots: Option<&[u8]>,
        invalid: impl Fn(Option<Box<dyn StdError + Send + Sync>>) -> Error,
    ) -> Result<Self, Error> {
        let chain = certificate.chain_der().into_iter();
        let chain = chain.map(CertificateDer::from).collect();
        let key = Arc::new(HandshakeKey::new(certificate));
        let resolver = SingleCertAndKey::from(CertifiedKey::new(chain, key));
        let config = verifying(roots, versions(certificate), invalid)?;
        let mut config = config.with_client_cert_resolver(Arc::new(resolver));
        // A resumed session keeps the certificate of the first handshake, for its whole life.
        config.resumption = Resumption::disabled();
        set_protocols(&mut config);
        Ok(Self {
            config,
            certificate: Some(certificate.clone()),
        })
    }

    /// Builds the TLS of connections that never carry a certificate.
    ///
    /// # Errors
    ///
    /// The error of `invalid` for PEM without a CA certificate.
    pub(super) fn without_certificate(
        roots: Option<&[u8]>,
        invalid: impl Fn(Option<Box<dyn StdError + Send + Sync>>) -> Error,
    ) -> Result<Self, Error> {
        let config = verifying(roots, DEFAULT_VERSIONS, invalid)?;
        let mut config = config.with_no_client_auth();
        set_protocols(&mut config);
        Ok(Self {
            config,
            certificate: None,
        })
    }

    /// Sets the TLS of a builder.
    pub(in crate::transport) fn configure(
        &self,
        builder: reqwest::ClientBuilder,
    ) -> reqwest::ClientBuilder {
        let builder = builder.tls_backend_preconfigured(self.config.clone());
        match self.certificate.as_ref().map(Certificate::key) {
            Some(CertificateKey::Remote(_)) => builder.connector_layer(HandshakeLayer),
            Some(CertificateKey::Local(_)) | None => builder,
        }
    }

    /// Returns the subject of the certificate.
    pub(in crate::transport) fn subject(&self) -> Option<&str> {
        self.certificate.as_ref().map(Certificate::subject)
    }
}

/// Returns the versions of TLS in which the key can sign.
fn versions(certificate: &Certificate) -> &'static [&'static SupportedProtocolVersion] {
    match certificate.handshake_algorithms().as_slice() {
        // TLS 1.3 accepts no RSASSA-PKCS1-v1_5 (RFC 8446 section 4.2.3).
        [SigningAlgorithm::RS256] => TLS12_ALONE,
        _ => DEFAULT_VERSIONS,
    }
}

static TLS12_ALONE: &[&SupportedProtocolVersion] = &[&version::TLS12];
