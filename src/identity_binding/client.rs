//! The HTTP client of the proxy.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use super::roots::Roots;
use super::settings::BindingSettings;
use crate::error::Error;
use crate::transport::Transport;

/// Builds a client that connects to the proxy under the server's name, without a further proxy.
#[cfg(any(
    feature = "rustls",
    feature = "native-tls",
    all(feature = "ring", feature = "reqwest")
))]
pub(super) fn proxy_client(
    settings: &BindingSettings,
    roots: &Roots,
    connect_timeout: Option<Duration>,
) -> Result<Arc<dyn Transport>, Error> {
    use crate::transport::TransportConfig;

    // The header `Host` of HTTP/2 is the name in the URL.
    let mut builder = trusting(roots)?.no_proxy().http1_only();
    if settings.server_name.is_some() {
        builder = builder.dns_resolver(Arc::new(resolver::ProxyResolver::of(&settings.proxy)));
    }
    let mut config = TransportConfig::of("ConfidentialClientBuilder");
    config.connect_timeout = connect_timeout;
    config.reqwest = Some(builder);
    config.transport(&settings.origin())
}

/// Returns a builder that trusts the roots and no others.
#[cfg(any(feature = "rustls", all(feature = "native-tls", not(feature = "ring"))))]
fn trusting(roots: &Roots) -> Result<reqwest::ClientBuilder, Error> {
    let mut builder = reqwest::Client::builder();
    #[cfg(feature = "rustls")]
    {
        builder = builder.tls_backend_rustls();
    }
    if let Some(pem) = &roots.0 {
        builder = builder.tls_certs_only(certificates(pem)?);
    }
    Ok(builder)
}

/// Returns a builder that trusts the roots and no others.
#[cfg(all(feature = "ring", feature = "reqwest", not(feature = "rustls")))]
fn trusting(roots: &Roots) -> Result<reqwest::ClientBuilder, Error> {
    let config = crate::transport::trusting(roots.0.as_deref(), invalid_roots)?;
    Ok(reqwest::Client::builder().tls_backend_preconfigured(config))
}

#[cfg(not(any(
    feature = "rustls",
    feature = "native-tls",
    all(feature = "ring", feature = "reqwest")
)))]
pub(super) fn proxy_client(
    _: &BindingSettings,
    _: &Roots,
    _: Option<Duration>,
) -> Result<Arc<dyn Transport>, Error> {
    Err(Error::config(
        "the identity binding of AZURE_KUBERNETES_TOKEN_PROXY needs TLS; enable the feature 'rustls', 'ring' or 'native-tls' of confidential-client",
    ))
}

/// Parses the CA certificates. An empty list would trust no server, and is an error.
#[cfg(any(feature = "rustls", all(feature = "native-tls", not(feature = "ring"))))]
fn certificates(pem: &[u8]) -> Result<Vec<reqwest::Certificate>, Error> {
    match reqwest::Certificate::from_pem_bundle(pem) {
        Ok(certificates) if certificates.is_empty() => Err(invalid_roots(None)),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(invalid_roots(Some(Box::new(error)))),
    }
}

#[cfg(any(
    feature = "rustls",
    feature = "native-tls",
    all(feature = "ring", feature = "reqwest")
))]
fn invalid_roots(source: Option<Box<dyn StdError + Send + Sync>>) -> Error {
    let failure = crate::error::Failure::new(
        "the CA certificates of the identity binding's proxy cannot be read; write them as PEM",
    );
    let failure = match source {
        Some(source) => failure.source(source),
        None => failure,
    };
    Error::Config(failure.into())
}

/// Names the proxy in an error of the client, which knows the server's name alone.
pub(super) fn explained(
    error: Box<dyn StdError + Send + Sync>,
    settings: &BindingSettings,
) -> Box<dyn StdError + Send + Sync> {
    let proxy = settings.proxy_authority();
    let name = match &settings.server_name {
        Some(name) => format!(" (server name '{name}')"),
        None => String::new(),
    };
    #[cfg(all(feature = "reqwest", any(feature = "rustls", feature = "ring")))]
    if let Some(problem) = certificate_error(&*error) {
        let message = format!(
            "the TLS certificate of the identity binding's proxy '{proxy}'{name} is not accepted; correct AZURE_KUBERNETES_CA_FILE or AZURE_KUBERNETES_CA_DATA, which has the only trusted CAs, and AZURE_KUBERNETES_SNI_NAME"
        );
        let source = Box::new(problem);
        return ProxyFailure { message, source }.into();
    }
    let message = format!("the identity binding's proxy '{proxy}'{name} gave no response");
    ProxyFailure {
        message,
        source: error,
    }
    .into()
}

/// Returns the error of TLS about a certificate.
#[cfg(all(feature = "reqwest", any(feature = "rustls", feature = "ring")))]
fn certificate_error(error: &(dyn StdError + 'static)) -> Option<rustls::Error> {
    crate::transport::causes(error).find_map(|cause| {
        let error = cause.downcast_ref::<rustls::Error>()?;
        matches!(error, rustls::Error::InvalidCertificate(_)).then(|| error.clone())
    })
}

/// An error of the connection to the proxy.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct ProxyFailure {
    message: String,
    source: Box<dyn StdError + Send + Sync>,
}

#[cfg(any(
    feature = "rustls",
    feature = "native-tls",
    all(feature = "ring", feature = "reqwest")
))]
mod resolver {
    use std::net::SocketAddr;

    use reqwest::dns::{Addrs, Name, Resolve, Resolving};
    use tokio::net::lookup_host;
    use url::{Host, Url};

    /// A resolver that returns the proxy's addresses for the server's name.
    ///
    /// The client asks for each connection, so the proxy's address may change.
    pub(super) struct ProxyResolver(Host);

    impl ProxyResolver {
        pub(super) fn of(proxy: &Url) -> Self {
            let host = proxy.host().map(|host| host.to_owned());
            Self(host.unwrap_or_else(|| Host::Domain(String::new())))
        }
    }

    impl Resolve for ProxyResolver {
        fn resolve(&self, _: Name) -> Resolving {
            let host = self.0.clone();
            Box::pin(async move {
                // The client takes the port from the URL.
                let addresses: Vec<SocketAddr> = match host {
                    Host::Ipv4(address) => vec![(address, 0).into()],
                    Host::Ipv6(address) => vec![(address, 0).into()],
                    Host::Domain(name) => lookup_host((name, 0)).await?.collect(),
                };
                let addresses: Addrs = Box::new(addresses.into_iter());
                Ok(addresses)
            })
        }
    }
}
