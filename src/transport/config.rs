use std::sync::Arc;
use std::time::Duration;

use url::Url;

use crate::error::Error;
use crate::transport::Transport;
use crate::transport::mutual_tls::ConnectionTls;

/// The transport settings of a builder.
pub(crate) struct TransportConfig {
    /// The name of the builder, for messages.
    #[cfg_attr(
        not(feature = "reqwest"),
        expect(dead_code, reason = "reqwest's messages need it")
    )]
    builder: &'static str,
    pub(crate) transport: Option<Arc<dyn Transport>>,
    pub(crate) connect_timeout: Option<Duration>,
    #[cfg(feature = "reqwest")]
    pub(crate) reqwest: Option<reqwest::ClientBuilder>,
    /// The TLS of [`MutualTls`](crate::transport::MutualTls).
    tls: Option<Arc<ConnectionTls>>,
}

impl TransportConfig {
    /// Creates the settings of the named builder.
    pub(crate) fn of(builder: &'static str) -> Self {
        Self {
            builder,
            transport: None,
            connect_timeout: None,
            #[cfg(feature = "reqwest")]
            reqwest: None,
            tls: None,
        }
    }

    /// Sets the TLS of the connections.
    pub(super) fn with_tls(mut self, tls: Arc<ConnectionTls>) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Returns `true` if the caller has set neither a transport nor a reqwest builder.
    pub(crate) fn is_default(&self) -> bool {
        #[cfg(feature = "reqwest")]
        if self.reqwest.is_some() {
            return false;
        }
        self.transport.is_none()
    }

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
            None => self.default_transport(origin),
            #[cfg(not(feature = "reqwest"))]
            None => {
                let _ = origin;
                Err(Error::config(
                    "no transport is set; call transport(..), or enable the feature 'reqwest' of confidential-client",
                ))
            }
        }
    }

    #[cfg(feature = "reqwest")]
    fn default_transport(mut self, origin: &Url) -> Result<Arc<dyn Transport>, Error> {
        use crate::transport::reqwest::ReqwestTransport;

        if origin.scheme() == "https"
            && !cfg!(any(
                feature = "rustls",
                feature = "ring",
                feature = "native-tls"
            ))
        {
            return Err(Error::config(
                "the authority is https, but TLS is not compiled in; enable the feature 'rustls', 'ring' or 'native-tls' of confidential-client",
            ));
        }
        #[cfg(feature = "rustls")]
        if origin.scheme() == "https" {
            crate::transport::tls::draw_ahead();
        }
        let reqwest = self.reqwest.take();
        let settings = self.settings(origin);
        Ok(Arc::new(ReqwestTransport::new(reqwest, &settings)?))
    }

    /// Sets a reqwest builder with the default TLS library and without a proxy.
    #[cfg(feature = "reqwest")]
    pub(crate) fn without_proxy(mut self, origin: &Url) -> Result<Self, Error> {
        let builder = crate::transport::tls::default_builder(&self.settings(origin))?;
        let builder = Some(builder.no_proxy());
        self.reqwest = builder;
        Ok(self)
    }

    #[cfg(feature = "reqwest")]
    fn settings<'a>(&'a self, origin: &'a Url) -> crate::transport::reqwest::ReqwestSettings<'a> {
        crate::transport::reqwest::ReqwestSettings {
            connect_timeout: self.connect_timeout.unwrap_or(CONNECT_TIMEOUT),
            origin,
            builder: self.builder,
            #[cfg(any(feature = "ring", feature = "rustls"))]
            tls: self.tls.as_deref(),
        }
    }
}

/// Builds the error for a timeout of zero. `setter` is the name of the builder's method.
pub(crate) fn zero_timeout(setter: &str) -> Error {
    Error::config(format!("{setter} must be greater than zero"))
}

pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
