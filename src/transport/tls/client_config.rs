//! Configurations of rustls that this crate makes itself.

use std::error::Error as StdError;
use std::sync::{Arc, OnceLock};

use rustls::client::WantsClientCert;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, SupportedProtocolVersion};
use rustls_platform_verifier::Verifier;

use super::provider;
use crate::error::{Error, Failure};

/// A reason why PEM is not accepted as CA certificates. `None` if the PEM has no certificate.
pub(crate) type InvalidRoots = Option<Box<dyn StdError + Send + Sync>>;

/// Begins a configuration that trusts the CA certificates in PEM and no others, or the operating
/// system's.
///
/// # Errors
///
/// The error of `invalid` for PEM that has no certificate or a broken one.
pub(crate) fn verifying(
    pem: Option<&[u8]>,
    versions: &[&'static SupportedProtocolVersion],
    invalid: impl Fn(InvalidRoots) -> Error,
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, Error> {
    let unusable = |error: rustls::Error| {
        let failure = Failure::new("TLS cannot be set up");
        Error::Config(failure.source(Box::new(error)).into())
    };
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .map_err(unusable)?;
    let Some(pem) = pem else {
        let verifier = platform_verifier().map_err(unusable)?;
        return Ok(config
            .dangerous()
            .with_custom_certificate_verifier(verifier));
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| invalid(Some(Box::new(error))))?;
        let added = roots.add(certificate);
        added.map_err(|error| invalid(Some(Box::new(error))))?;
    }
    match roots.is_empty() {
        true => Err(invalid(None)),
        false => Ok(config.with_root_certificates(roots)),
    }
}

/// Returns the verifier of certificates, which reads the operating system's certificates once per
/// process.
pub(super) fn platform_verifier() -> Result<Arc<Verifier>, rustls::Error> {
    static VERIFIER: OnceLock<Arc<Verifier>> = OnceLock::new();
    if let Some(verifier) = VERIFIER.get() {
        return Ok(Arc::clone(verifier));
    }
    // An error is not kept, so that a machine can be mended while the program runs.
    let verifier = Arc::new(Verifier::new(provider())?);
    Ok(Arc::clone(VERIFIER.get_or_init(|| verifier)))
}

/// Sets the application protocols of a handshake, because reqwest takes a configuration as it is.
pub(crate) fn set_protocols(config: &mut ClientConfig) {
    config.alpn_protocols = PROTOCOLS.iter().map(|name| name.to_vec()).collect();
}

/// The application protocols of a handshake, the preferred one first.
const PROTOCOLS: &[&[u8]] = &[
    #[cfg(feature = "http2")]
    b"h2",
    b"http/1.1",
];
