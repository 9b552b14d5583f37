//! The TLS library of the default transport.
//!
//! The features of this crate select the library: `rustls` (rustls with aws-lc), or else `ring`
//! (rustls with ring), or else `native-tls`.

#[cfg(feature = "rustls")]
use std::sync::{Arc, Once};

#[cfg(feature = "rustls")]
use rustls::crypto::CryptoProvider;

#[cfg(feature = "rustls")]
use crate::crypto::random;
use crate::error::{Error, Failure};
use crate::transport::connection_failure::causes;
use crate::transport::reqwest::ReqwestSettings;

#[cfg(any(feature = "ring", feature = "rustls"))]
pub(super) mod client_config;
#[cfg(all(feature = "ring", not(feature = "rustls")))]
mod ring;

#[cfg(all(feature = "ring", not(feature = "rustls")))]
pub(super) use self::ring::{build, machine_lacks_ca_certificates};
#[cfg(all(feature = "ring", not(feature = "rustls")))]
pub(crate) use self::ring::{provider, trusting};

/// Returns a builder with the TLS library that this crate's features select.
///
/// Otherwise a feature that another crate enables could change reqwest's default library.
///
/// # Errors
///
/// With `ring`, [`Error::Config`] if the authority is https and the machine has no CA certificates.
/// With the other libraries, reqwest returns this error when the client is built.
pub(super) fn default_builder(
    settings: &ReqwestSettings<'_>,
) -> Result<reqwest::ClientBuilder, Error> {
    let builder = reqwest::Client::builder();
    #[cfg(any(feature = "ring", feature = "rustls"))]
    if let Some(tls) = settings.tls {
        return Ok(tls.configure(builder));
    }
    #[cfg(feature = "rustls")]
    let builder = builder.tls_backend_rustls();
    #[cfg(all(feature = "ring", not(feature = "rustls")))]
    let builder = builder.tls_backend_preconfigured(ring::config(settings)?);
    let _ = settings;
    Ok(builder)
}

/// Returns the provider of a configuration that this crate makes itself.
///
/// A configuration without a provider of its own panics in a process without a provider.
#[cfg(feature = "rustls")]
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Builds a client from a builder of the caller.
#[cfg(not(all(feature = "ring", not(feature = "rustls"))))]
pub(super) fn build(
    builder: reqwest::ClientBuilder,
    settings: &ReqwestSettings<'_>,
) -> Result<reqwest::Client, Error> {
    built(builder.build(), settings)
}

/// Words the error of a client that cannot be built.
pub(super) fn built(
    built: Result<reqwest::Client, reqwest::Error>,
    settings: &ReqwestSettings<'_>,
) -> Result<reqwest::Client, Error> {
    built.map_err(|error| {
        let message = match &error {
            error if lacks_ca_certificates(error) => no_ca_certificates(settings),
            error if is_of_another_version(error) => format!(
                "the HTTP client cannot be built, because its TLS configuration is of another version of rustls than reqwest uses; compare the versions in 'cargo tree --duplicates', and give tls_backend_preconfigured(..) in {}::reqwest(..) a configuration of reqwest's version",
                settings.builder
            ),
            _ => "the HTTP client cannot be built".to_owned(),
        };
        let failure = Failure::new(message).source(Box::new(error.without_url()));
        Error::Config(failure.into())
    })
}

/// Returns whether the verifier of certificates found no CA certificate on the machine.
pub(super) fn lacks_ca_certificates(error: &reqwest::Error) -> bool {
    causes(error).any(|cause| cause.to_string().contains("No CA certificates were loaded"))
}

fn no_ca_certificates(settings: &ReqwestSettings<'_>) -> String {
    format!(
        "the HTTP client cannot be built, because this machine has no CA certificates; install the package 'ca-certificates', correct SSL_CERT_FILE and SSL_CERT_DIR where they are set, or set tls_certs_only(..) in {}::reqwest(..)",
        settings.builder
    )
}

/// Returns whether reqwest rejected the type of a TLS configuration.
fn is_of_another_version(error: &reqwest::Error) -> bool {
    causes(error).any(|cause| cause.to_string().starts_with("Unknown TLS backend"))
}

/// Returns whether a client that verifies certificates cannot be built on this machine.
#[cfg(not(all(feature = "ring", not(feature = "rustls"))))]
pub(super) fn machine_lacks_ca_certificates(settings: &ReqwestSettings<'_>) -> bool {
    let client = default_builder(settings).map(reqwest::ClientBuilder::build);
    matches!(client, Ok(Err(error)) if lacks_ca_certificates(&error))
}

/// Lets the machine's CA certificates be absent, which http does not need.
pub(super) fn without_ca_certificates(builder: reqwest::ClientBuilder) -> reqwest::ClientBuilder {
    #[cfg(any(feature = "rustls", feature = "ring", feature = "native-tls"))]
    let builder = builder.tls_certs_only([]);
    builder
}

/// Draws the first random octet of the TLS library, before the first handshake needs one.
#[cfg(feature = "rustls")]
pub(super) fn draw_ahead() {
    draw_ahead_from(CryptoProvider::get_default());
}

/// Draws from the provider of the process. Without such a provider, reqwest uses aws-lc.
#[cfg(feature = "rustls")]
fn draw_ahead_from(provider: Option<&Arc<CryptoProvider>>) {
    static ONCE: Once = Once::new();
    let Some(provider) = provider else {
        return random::draw_ahead();
    };
    let source = provider.secure_random;
    random::draw_ahead_by(&ONCE, move || {
        let _ = source.fill(&mut [0]);
    });
}

#[cfg(all(test, feature = "rustls"))]
mod tests {
    use std::sync::mpsc::{SyncSender, sync_channel};
    use std::time::Duration;

    use rustls::crypto::{GetRandomFailed, SecureRandom};
    use url::Url;

    use super::*;
    use crate::crypto::random::tests::CALLS;

    #[test]
    fn a_configuration_of_another_version_of_rustls_is_an_error_with_the_reason() {
        struct OtherClientConfig;

        let origin = Url::parse("https://login.microsoftonline.com").unwrap();
        let settings = ReqwestSettings {
            connect_timeout: Duration::from_secs(1),
            origin: &origin,
            builder: "ConfidentialClientBuilder",
            tls: None,
        };
        let builder = reqwest::Client::builder().tls_backend_preconfigured(OtherClientConfig);
        let error = build(builder, &settings).unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        assert!(
            error.to_string().contains("another version of rustls"),
            "{error}"
        );
    }

    /// Sends the number of octets of each draw.
    #[derive(Debug)]
    struct Recording(SyncSender<usize>);

    impl SecureRandom for Recording {
        fn fill(&self, octets: &mut [u8]) -> Result<(), GetRandomFailed> {
            self.0.send(octets.len()).map_err(|_| GetRandomFailed)
        }
    }

    #[test]
    fn the_provider_of_the_process_draws() {
        let (sender, drawn) = sync_channel(2);
        let provider = CryptoProvider {
            secure_random: Box::leak(Box::new(Recording(sender))),
            ..rustls::crypto::aws_lc_rs::default_provider()
        };
        draw_ahead_from(Some(&Arc::new(provider)));
        assert_eq!(drawn.recv(), Ok(1));
        draw_ahead_from(None);
        assert_eq!(CALLS.get(), 2);
    }
}
