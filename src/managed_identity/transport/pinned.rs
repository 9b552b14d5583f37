//! TLS to a server whose certificate is known by its thumbprint.

use std::error::Error as StdError;
use std::sync::Arc;

use rustls::client::ClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, OtherError, SignatureScheme};
use sha1::{Digest, Sha1};

use crate::error::{Error, Failure};
use crate::managed_identity::service_fabric::Thumbprint;
use crate::transport::{causes, provider};

/// Builds a configuration that accepts one certificate and no other.
pub(super) fn client_config(thumbprint: Thumbprint) -> Result<ClientConfig, Error> {
    // The process-wide provider may be missing, and then `ClientConfig::builder` may panic.
    let provider = provider();
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| {
            let failure = Failure::new("TLS for the Service Fabric endpoint cannot be set up");
            Error::Config(failure.source(Box::new(error)).into())
        })?;
    let verifier = PinnedCertificate {
        thumbprint,
        provider,
    };
    Ok(builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth())
}

/// A verifier that accepts the certificate with one thumbprint, whatever its name and its dates.
///
/// The signature of the handshake is checked as for any certificate. The check proves that the
/// server has the private key, because the certificate alone is public.
#[derive(Debug)]
struct PinnedCertificate {
    thumbprint: Thumbprint,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedCertificate {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let presented = Thumbprint(Sha1::digest(certificate).into());
        if presented == self.thumbprint {
            return Ok(ServerCertVerified::assertion());
        }
        let expected = self.thumbprint;
        let mismatch = OtherError(Arc::new(ThumbprintMismatch {
            presented,
            expected,
        }));
        Err(CertificateError::Other(mismatch).into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

/// A certificate other than the pinned one.
#[derive(Debug, thiserror::Error)]
#[error(
    "the server's certificate has the SHA-1 thumbprint {presented}, and IDENTITY_SERVER_THUMBPRINT is {expected}; restart the program with the variables of the host, and look for another server at IDENTITY_ENDPOINT"
)]
struct ThumbprintMismatch {
    presented: Thumbprint,
    expected: Thumbprint,
}

/// Returns the text of a [`ThumbprintMismatch`] among the causes of an error.
pub(super) fn mismatch(error: &(dyn StdError + 'static)) -> Option<String> {
    causes(error).find_map(|cause| match cause.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidCertificate(CertificateError::Other(other)) => {
            let mismatch = other.0.downcast_ref::<ThumbprintMismatch>()?;
            Some(mismatch.to_string())
        }
        _ => None,
    })
}
