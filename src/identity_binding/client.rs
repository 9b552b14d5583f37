//! The HTTP client of the proxy.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use super::roots::Roots;
use super::settings::BindingSettings;
use crate::error::Error;
use crate::transport::Transport;

/// Builds a client that connects to the proxy under the server's name, without a further proxy.
#[cfg(any(feature = "rustls", feature = "native-tls"))]
pub(super) fn proxy_client(
    settings: &BindingSettings,
    roots: &Roots,
    connect_timeout: Option<Duration>,
) -> Result<Arc<dyn Transport>, Error> {
    use crate::transport::TransportConfig;

    // The header `Host` of HTTP/2 is the name in the URL.
    let mut builder = reqwest::Client::builder().no_proxy().http1_only();
    #[cfg(feature = "rustls")]
    {
        builder = builder.tls_backend_rustls();
    }
    if let Some(pem) = &roots.0 {
        builder = builder.tls_certs_only(certificates(pem)?);
    }
    if settings.server_name.is_some() {
        builder = builder.dns_resolver(Arc::new(resolver::ProxyResolver::of(&settings.proxy)));
    }
    let mut config = TransportConfig::of("ConfidentialClientBuilder");
    config.connect_timeout = connect_timeout;
    config.reqwest = Some(builder);
    config.transport(&settings.origin())
}

#[cfg(not(any(feature = "rustls", feature = "native-tls")))]
pub(super) fn proxy_client(
    _: &BindingSettings,
    _: &Roots,
    _: Option<Duration>,
) -> Result<Arc<dyn Transport>, Error> {
    Err(Error::config(
        "the identity binding of AZURE_KUBERNETES_TOKEN_PROXY needs TLS; enable the feature 'rustls' or 'native-tls' of confidential-client",
    ))
}

/// Parses the CA certificates. An empty list would trust no server, and is an error.
#[cfg(any(feature = "rustls", feature = "native-tls"))]
fn certificates(pem: &[u8]) -> Result<Vec<reqwest::Certificate>, Error> {
    use crate::error::Failure;

    let invalid = |failure: Failure| Err(Error::Config(failure.into()));
    let failure = Failure::new(
        "the CA certificates of the identity binding's proxy cannot be read; write them as PEM",
    );
    match reqwest::Certificate::from_pem_bundle(pem) {
        Ok(certificates) if certificates.is_empty() => invalid(failure),
        Ok(certificates) => Ok(certificates),
        Err(error) => invalid(failure.source(Box::new(error))),
    }
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
    #[cfg(feature = "rustls")]
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
#[cfg(feature = "rustls")]
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

#[cfg(any(feature = "rustls", feature = "native-tls"))]
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
