//! Identity bindings of AKS: a proxy in the cluster stands for the identity provider.
//!
//! The projected token of a pod with an identity binding has an audience that the proxy alone
//! accepts, so all requests of the client go to the proxy.

use std::error::Error as StdError;
use std::ffi::OsString;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use tokio::task::spawn_blocking;

use crate::error::Error;
use crate::transport::{Transport, TransportFuture, zero_timeout};

mod client;
mod roots;
mod settings;

use client::{explained, proxy_client};
use roots::{Roots, RootsSource};
use settings::BindingSettings;

/// A transport to the token proxy of an identity binding.
///
/// Every request goes to the proxy, discovery included. The proxy's certificate is checked against
/// the roots of the variables alone. The file with the roots is compared before each request, and
/// a change gives a new HTTP client.
pub(crate) struct IdentityBindingProxy {
    settings: BindingSettings,
    connect_timeout: Option<Duration>,
    current: Mutex<Connected>,
}

/// The HTTP client, and the roots that the client trusts.
#[derive(Clone)]
struct Connected {
    roots: Roots,
    client: Arc<dyn Transport>,
}

impl IdentityBindingProxy {
    /// Reads the variables of an identity binding, and the file with the roots.
    ///
    /// `None` if there is no identity binding.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] with the name of the variable, and [`Error::Credential`] for a file that
    /// cannot be read.
    pub(crate) fn from_variables(
        read: impl Fn(&str) -> Option<OsString>,
        connect_timeout: Option<Duration>,
    ) -> Result<Option<Self>, Error> {
        let Some(settings) = BindingSettings::read(read)? else {
            return Ok(None);
        };
        let roots = settings.roots.load()?;
        let client = proxy_client(&settings, &roots, connect_timeout)?;
        Ok(Some(Self {
            settings,
            connect_timeout,
            current: Mutex::new(Connected { roots, client }),
        }))
    }

    /// Sets the longest time of a connection attempt.
    pub(crate) fn connect_timeout(mut self, limit: Option<Duration>) -> Result<Self, Error> {
        match limit {
            None => return Ok(self),
            Some(limit) if limit.is_zero() => return Err(zero_timeout("connect_timeout")),
            Some(_) => self.connect_timeout = limit,
        }
        let roots = self.lock().roots.clone();
        self.lock().client = proxy_client(&self.settings, &roots, limit)?;
        Ok(self)
    }

    /// Returns the client for the next request, with the current roots.
    async fn client(&self) -> Arc<dyn Transport> {
        let current = self.lock().clone();
        let RootsSource::File(_) = &self.settings.roots else {
            return current.client;
        };
        let source = self.settings.roots.clone();
        let loaded = match spawn_blocking(move || source.load()).await {
            Ok(Ok(roots)) if roots == current.roots => return current.client,
            Ok(loaded) => loaded,
            Err(_) => return current.client,
        };
        let renewed = loaded.and_then(|roots| {
            let client = proxy_client(&self.settings, &roots, self.connect_timeout)?;
            Ok(Connected { roots, client })
        });
        match renewed {
            Ok(renewed) => {
                tracing::info!("the CA certificates of the identity binding's proxy have changed");
                *self.lock() = renewed.clone();
                renewed.client
            }
            // In the middle of a rotation the file may be empty.
            Err(error) => {
                tracing::warn!(error = %error.chain(), "the CA certificates of the identity binding's proxy cannot be read again, so the former ones stay");
                current.client
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Connected> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Transport for IdentityBindingProxy {
    fn send(&self, request: Request<Bytes>) -> TransportFuture<'_> {
        Box::pin(async move {
            let request = self.settings.redirect(request)?;
            let sent = self.client().await.send(request).await;
            sent.map_err(|error: Box<dyn StdError + Send + Sync>| explained(error, &self.settings))
        })
    }
}

#[cfg(test)]
#[cfg(all(
    feature = "testing",
    any(
        feature = "rustls",
        feature = "native-tls",
        all(feature = "ring", feature = "reqwest")
    )
))]
mod tests;
