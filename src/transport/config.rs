use std::sync::Arc;
use std::time::Duration;

use crate::endpoint::Endpoints;
use crate::error::Error;
use crate::transport::Transport;

/// What a builder was told of how to send.
#[derive(Default)]
pub(crate) struct TransportConfig {
    pub(crate) transport: Option<Arc<dyn Transport>>,
    pub(crate) connect_timeout: Option<Duration>,
    #[cfg(feature = "reqwest")]
    pub(crate) reqwest: Option<reqwest::ClientBuilder>,
}

impl TransportConfig {
    /// The one transport that this names, or that there is by default.
    pub(crate) fn transport(self, endpoints: &Endpoints) -> Result<Arc<dyn Transport>, Error> {
        if self.connect_timeout.is_some_and(|limit| limit.is_zero()) {
            return Err(no_time());
        }
        match self.transport {
            #[cfg(feature = "reqwest")]
            Some(_) if self.reqwest.is_some() => Err(Error::config(
                "both a transport and a reqwest builder were given; one is used, so leave the other out",
            )),
            Some(_) if self.connect_timeout.is_some() => Err(Error::config(
                "connect_timeout(..) is for reqwest, and a transport was given, which has limits of its own; leave it out",
            )),
            Some(transport) => Ok(transport),
            #[cfg(feature = "reqwest")]
            None => default_transport(self.reqwest, self.connect_timeout, endpoints),
            #[cfg(not(feature = "reqwest"))]
            None => {
                let _ = endpoints;
                Err(Error::config(
                    "no transport; call transport(..), or enable the feature 'reqwest' of confidential-client",
                ))
            }
        }
    }
}

pub(crate) fn no_time() -> Error {
    Error::config(
        "in no time nothing can be asked; give attempt_timeout(..) and connect_timeout(..) some, or leave them out",
    )
}

#[cfg(feature = "reqwest")]
fn default_transport(
    builder: Option<reqwest::ClientBuilder>,
    connect_timeout: Option<Duration>,
    endpoints: &Endpoints,
) -> Result<Arc<dyn Transport>, Error> {
    use crate::transport::reqwest::ReqwestTransport;

    if endpoints.is_https() && !cfg!(any(feature = "rustls", feature = "native-tls")) {
        return Err(Error::config(
            "the authority is https and no TLS is compiled in; enable the feature 'rustls' or 'native-tls' of confidential-client",
        ));
    }
    Ok(Arc::new(ReqwestTransport::new(
        builder,
        connect_timeout.unwrap_or(CONNECT_TIMEOUT),
        endpoints.is_loopback(),
    )?))
}

#[cfg(feature = "reqwest")]
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
