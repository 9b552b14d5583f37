//! The connections to the endpoints of Azure's hosts: without a proxy, redirects or a CA.

use std::error::Error as StdError;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use url::Url;

use super::service_fabric::Thumbprint;
use super::source::Source;
use crate::error::Error;
use crate::transport::{Transport, TransportConfig};

#[cfg(all(feature = "reqwest", any(feature = "rustls", feature = "ring")))]
mod pinned;

/// The transports of a client, each of which is built for the first request that needs one.
///
/// The endpoints are on this machine or next to it. A proxy would see the secrets of the machine,
/// and IMDS rejects forwarded requests.
pub(super) struct DirectTransports {
    /// A transport of the caller, which serves every request.
    supplied: Option<Arc<dyn Transport>>,
    connect_timeout: Option<Duration>,
    built: Mutex<Vec<(Server, Arc<dyn Transport>)>>,
}

/// The servers that one transport reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Server {
    Http,
    Https,
    /// A server with this certificate.
    Pinned(Thumbprint),
}

impl DirectTransports {
    pub(super) fn new(
        supplied: Option<Arc<dyn Transport>>,
        connect_timeout: Option<Duration>,
    ) -> Self {
        Self {
            supplied,
            connect_timeout,
            built: Mutex::default(),
        }
    }

    /// Returns the transport for the requests of a source.
    pub(super) fn for_source(&self, source: &Source) -> Result<Arc<dyn Transport>, Error> {
        if let Some(supplied) = &self.supplied {
            return Ok(Arc::clone(supplied));
        }
        let endpoint = source.endpoint();
        let server = match source.thumbprint() {
            Some(thumbprint) => Server::Pinned(thumbprint),
            None if endpoint.scheme() == "http" => Server::Http,
            None => Server::Https,
        };
        let mut built = self.built.lock().unwrap_or_else(PoisonError::into_inner);
        let known = built.iter().find(|(known, _)| *known == server);
        if let Some((_, transport)) = known {
            return Ok(Arc::clone(transport));
        }
        // A thumbprint that was replaced is not needed again.
        built.retain(|(known, _)| !matches!(known, Server::Pinned(_)));
        let transport = self.build(server, endpoint)?;
        built.push((server, Arc::clone(&transport)));
        Ok(transport)
    }

    #[cfg(feature = "reqwest")]
    fn build(&self, server: Server, endpoint: &Url) -> Result<Arc<dyn Transport>, Error> {
        let mut config = self.config();
        match server {
            // The default builder of a transport uses no proxy for http.
            Server::Http => {}
            Server::Https => config = config.without_proxy(endpoint)?,
            Server::Pinned(thumbprint) => {
                config.reqwest = Some(with_pinned_certificate(thumbprint)?);
            }
        }
        config.transport(endpoint)
    }

    #[cfg(not(feature = "reqwest"))]
    fn build(&self, _: Server, endpoint: &Url) -> Result<Arc<dyn Transport>, Error> {
        self.config().transport(endpoint)
    }

    fn config(&self) -> TransportConfig {
        let mut config = TransportConfig::of(BUILDER);
        config.connect_timeout = self.connect_timeout;
        config
    }
}

#[cfg(all(feature = "reqwest", any(feature = "rustls", feature = "ring")))]
fn with_pinned_certificate(thumbprint: Thumbprint) -> Result<reqwest::ClientBuilder, Error> {
    let tls = pinned::client_config(thumbprint)?;
    let builder = reqwest::Client::builder().no_proxy();
    Ok(builder.tls_backend_preconfigured(tls))
}

#[cfg(all(feature = "reqwest", not(any(feature = "rustls", feature = "ring"))))]
fn with_pinned_certificate(_: Thumbprint) -> Result<reqwest::ClientBuilder, Error> {
    Err(Error::config(
        "the managed identity endpoint of Service Fabric has a self-signed certificate, which confidential-client compares with IDENTITY_SERVER_THUMBPRINT; enable the feature 'rustls' or 'ring' of confidential-client",
    ))
}

/// Returns the text of a certificate that is not the pinned one, from the error of a transport.
#[cfg(all(feature = "reqwest", any(feature = "rustls", feature = "ring")))]
pub(super) fn pin_mismatch(error: &(dyn StdError + 'static)) -> Option<String> {
    pinned::mismatch(error)
}

#[cfg(not(all(feature = "reqwest", any(feature = "rustls", feature = "ring"))))]
pub(super) fn pin_mismatch(_: &(dyn StdError + 'static)) -> Option<String> {
    None
}

/// The builder of the client, for messages.
const BUILDER: &str = "ManagedIdentityClientBuilder";
