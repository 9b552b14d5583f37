use std::sync::Arc;
use std::time::Duration;

use url::Url;

use crate::error::Error;
use crate::transport::Transport;

/// The transport settings of a builder.
#[derive(Default)]
pub(crate) struct TransportConfig {
    pub(crate) transport: Option<Arc<dyn Transport>>,
    pub(crate) connect_timeout: Option<Duration>,
    #[cfg(feature = "reqwest")]
    pub(crate) reqwest: Option<reqwest::ClientBuilder>,
}

impl TransportConfig {
    /// Returns the configured transport, or the default transport.
    pub(crate) fn transport(self, origin: &Url) -> Result<Arc<dyn Transport>, Error> {
        if self.connect_timeout.is_some_and(|limit| limit.is_zero()) {
            return Err(zero_timeout("connect_timeout"));
        }
        match self.transport {
            #[cfg(feature = "reqwest")]
            Some(_) if self.reqwest.is_some() => Err(Error::config(
                "both a transport and a reqwest builder are set; remove one of transport(..) and reqwest(..)",
            )),
            Some(_) if self.connect_timeout.is_some() => Err(Error::config(
                "connect_timeout(..) is for reqwest, and a custom transport is set; set the limit in the transport and remove connect_timeout(..)",
            )),
            Some(transport) => Ok(transport),
            #[cfg(feature = "reqwest")]
            None => default_transport(self.reqwest, self.connect_timeout, origin),
            #[cfg(not(feature = "reqwest"))]
            None => {
                let _ = origin;
                Err(Error::config(
                    "no transport is set; call transport(..), or enable the feature 'reqwest' of confidential-client",
                ))
            }
        }
    }
}

/// Builds the error for a timeout of zero. `setter` is the name of the builder's method.
pub(crate) fn zero_timeout(setter: &str) -> Error {
    Error::config(format!("{setter} must be greater than zero"))
}

#[cfg(feature = "reqwest")]
fn default_transport(
    builder: Option<reqwest::ClientBuilder>,
    connect_timeout: Option<Duration>,
    origin: &Url,
) -> Result<Arc<dyn Transport>, Error> {
    use crate::authority::address::is_loopback;
    use crate::transport::reqwest::ReqwestTransport;

    if origin.scheme() == "https" && !cfg!(any(feature = "rustls", feature = "native-tls")) {
        return Err(Error::config(
            "the authority is https, but TLS is not compiled in; enable the feature 'rustls' or 'native-tls' of confidential-client",
        ));
    }
    Ok(Arc::new(ReqwestTransport::new(
        builder,
        connect_timeout.unwrap_or(CONNECT_TIMEOUT),
        is_loopback(origin),
    )?))
}

#[cfg(feature = "reqwest")]
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
