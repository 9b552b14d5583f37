//! rustls with ring, in a tree without aws-lc.
//!
//! In such a tree reqwest knows no provider of its own, and panics where the process has none. A
//! complete configuration needs no provider of the process, so nothing process-wide is set here.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::{ClientConfig, DEFAULT_VERSIONS, RootCertStore};

use super::client_config::{InvalidRoots, platform_verifier, set_protocols, verifying};
use super::{built, no_ca_certificates};
use crate::error::{Error, Failure};
use crate::transport::reqwest::ReqwestSettings;

/// Returns the configuration of the default client.
///
/// The configuration has the operating system's trusted certificates. An authority over http needs
/// none.
///
/// # Errors
///
/// [`Error::Config`] if the machine has no CA certificates and the authority is https.
pub(super) fn config(settings: &ReqwestSettings<'_>) -> Result<ClientConfig, Error> {
    let failed = |message: String, error: rustls::Error| {
        Error::Config(Failure::new(message).source(Box::new(error)).into())
    };
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| {
            failed("the TLS provider of the process has neither TLS 1.2 nor 1.3; install another with rustls::crypto::CryptoProvider::install_default".to_owned(), error)
        })?;
    let config = match platform_verifier() {
        Ok(verifier) => config
            .dangerous()
            .with_custom_certificate_verifier(verifier),
        Err(_) if settings.origin.scheme() == "http" => {
            config.with_root_certificates(RootCertStore::empty())
        }
        Err(error) => return Err(failed(no_ca_certificates(settings), error)),
    };
    let mut config = config.with_no_client_auth();
    set_protocols(&mut config);
    Ok(config)
}

/// Returns a configuration for HTTP/1.1 that trusts the CA certificates in PEM and no others, or
/// the operating system's.
///
/// # Errors
///
/// The error of `invalid` for PEM that has no certificate or a broken one.
pub(crate) fn trusting(
    pem: Option<&[u8]>,
    invalid: impl Fn(InvalidRoots) -> Error,
) -> Result<ClientConfig, Error> {
    let mut config = verifying(pem, DEFAULT_VERSIONS, invalid)?.with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Builds a client from a builder of the caller.
///
/// The builder stays as it is, because a configuration of ours would silently replace the CA
/// certificates and the identity of the caller.
///
/// # Errors
///
/// [`Error::Config`] if reqwest has no provider of TLS.
pub(in crate::transport) fn build(
    builder: reqwest::ClientBuilder,
    settings: &ReqwestSettings<'_>,
) -> Result<reqwest::Client, Error> {
    // Another crate may have enabled reqwest's own provider, or the builder may hold a complete
    // configuration. Neither can be asked, and reqwest panics if both are missing.
    let panic = match catch_unwind(AssertUnwindSafe(|| builder.build())) {
        Ok(client) => return built(client, settings),
        Err(panic) => panic,
    };
    let message = panic.downcast_ref::<&str>();
    match message.is_some_and(|message| message.contains("No rustls crypto provider")) {
        true => Err(Error::config(format!(
            "reqwest has no TLS provider for the builder in {}::reqwest(..); with the feature 'ring', call rustls::crypto::ring::default_provider().install_default() when the program starts, or set tls_backend_preconfigured(..) in the builder, or leave reqwest(..) out",
            settings.builder
        ))),
        false => resume_unwind(panic),
    }
}

/// Returns whether a client that verifies certificates cannot be built on this machine.
pub(in crate::transport) fn machine_lacks_ca_certificates(_: &ReqwestSettings<'_>) -> bool {
    platform_verifier().is_err()
}

/// Returns the provider of the process, or else ring.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    match CryptoProvider::get_default() {
        Some(provider) => Arc::clone(provider),
        None => Arc::new(ring::default_provider()),
    }
}
