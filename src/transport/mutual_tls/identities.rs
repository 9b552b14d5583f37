use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use crate::token::Thumbprint;

use super::ConnectionTls;
#[cfg(all(feature = "reqwest", any(feature = "ring", feature = "rustls")))]
use super::api_client::ApiClient;
use crate::certificate::Certificate;
use crate::error::Error;
use crate::time::TimeSource;

/// A certificate as the identity of TLS connections, with the TLS configuration and the HTTP client
/// of these connections.
pub(crate) struct TlsIdentity {
    certificate: Certificate,
    thumbprint: Thumbprint,
    tls: Arc<ConnectionTls>,
    /// The client for calls to an API.
    #[cfg(all(feature = "reqwest", any(feature = "ring", feature = "rustls")))]
    api_client: ApiClient,
}

/// A holder of tokens that are bound to certificates.
pub(crate) trait RotationListener: Send + Sync {
    /// Refreshes the tokens of the previous certificate, and removes those of older certificates.
    fn rotated(&self, current: Thumbprint, previous: Option<Thumbprint>);
}

/// The identities of the current certificate and of the one before.
#[derive(Default)]
pub(super) struct TlsIdentities(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    current: Option<Arc<TlsIdentity>>,
    previous: Option<Arc<TlsIdentity>>,
    listeners: Vec<Weak<dyn RotationListener>>,
    checked: Option<Instant>,
}

impl TlsIdentity {
    pub(crate) fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Returns the SHA-256 thumbprint of the certificate, which tokens are bound to.
    pub(crate) fn thumbprint(&self) -> Thumbprint {
        self.thumbprint
    }
}

impl TlsIdentities {
    pub(super) fn listen(&self, listener: Weak<dyn RotationListener>) {
        let mut kept = self.lock();
        kept.listeners.retain(|known| known.strong_count() > 0);
        kept.listeners.push(listener);
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TlsIdentity {
    pub(in crate::transport::mutual_tls) fn new(
        certificate: &Certificate,
        tls: ConnectionTls,
    ) -> Self {
        Self {
            certificate: certificate.clone(),
            thumbprint: Thumbprint(*certificate.sha256()),
            tls: Arc::new(tls),
            #[cfg(all(feature = "reqwest", any(feature = "ring", feature = "rustls")))]
            api_client: ApiClient::new(),
        }
    }

    pub(in crate::transport) fn tls(&self) -> &Arc<ConnectionTls> {
        &self.tls
    }

    #[cfg(all(feature = "reqwest", any(feature = "ring", feature = "rustls")))]
    pub(in crate::transport::mutual_tls) fn api_client(&self) -> &ApiClient {
        &self.api_client
    }
}

impl TlsIdentities {
    /// Returns a kept identity.
    pub(in crate::transport::mutual_tls) fn find(
        &self,
        thumbprint: Thumbprint,
    ) -> Option<Arc<TlsIdentity>> {
        let kept = self.lock();
        let identities = [&kept.current, &kept.previous];
        let mut identities = identities.into_iter().flatten();
        let found = identities.find(|identity| identity.thumbprint == thumbprint);
        found.map(Arc::clone)
    }

    /// Returns the identity of a certificate.
    ///
    /// A new certificate becomes the current one, unless `is_latest` denies that, as for a late
    /// caller with an older certificate.
    pub(in crate::transport::mutual_tls) fn get_or_add(
        &self,
        certificate: &Certificate,
        is_latest: impl FnOnce(&Certificate) -> bool,
        tls: impl FnOnce() -> Result<ConnectionTls, Error>,
    ) -> Result<Arc<TlsIdentity>, Error> {
        let thumbprint = Thumbprint(*certificate.sha256());
        if let Some(known) = self.find(thumbprint) {
            // A rotation back to the previous certificate.
            if self.is_previous(thumbprint) && is_latest(certificate) {
                self.make_current(Arc::clone(&known));
            }
            return Ok(known);
        }
        let identity = Arc::new(TlsIdentity::new(certificate, tls()?));
        if !is_latest(certificate) {
            return Ok(identity);
        }
        Ok(self.make_current(identity))
    }

    fn is_previous(&self, thumbprint: Thumbprint) -> bool {
        let kept = self.lock();
        let previous = kept.previous.as_ref();
        previous.is_some_and(|previous| previous.thumbprint == thumbprint)
    }

    /// Makes an identity the current one, and notifies the listeners of a rotation.
    fn make_current(&self, identity: Arc<TlsIdentity>) -> Arc<TlsIdentity> {
        let mut kept = self.lock();
        if let Some(current) = &kept.current
            && current.thumbprint == identity.thumbprint
        {
            // Another caller noticed the rotation, and its connections are used.
            return Arc::clone(current);
        }
        let previous = kept.current.replace(Arc::clone(&identity));
        let Some(previous) = previous else {
            return identity;
        };
        tracing::info!(
            subject = identity.certificate.subject(),
            thumbprint = identity.certificate.thumbprint_sha256(),
            "a new client certificate is used for TLS"
        );
        let replaced = previous.thumbprint;
        kept.previous = Some(previous);
        let listeners: Vec<_> = kept.listeners.iter().filter_map(Weak::upgrade).collect();
        drop(kept);
        for listener in listeners {
            listener.rotated(identity.thumbprint, Some(replaced));
        }
        identity
    }

    #[cfg(all(feature = "reqwest", any(feature = "ring", feature = "rustls")))]
    /// Returns whether the source was not called for some seconds. Only one of several callers
    /// gets `true`.
    pub(in crate::transport::mutual_tls) fn is_check_due(&self) -> bool {
        let now = TimeSource::System.instant();
        let mut kept = self.lock();
        let is_due = kept
            .checked
            .is_none_or(|checked| now.duration_since(checked) >= CHECK_INTERVAL);
        if is_due {
            kept.checked = Some(now);
        }
        is_due
    }

    /// Notes that the source was called.
    pub(in crate::transport::mutual_tls) fn checked(&self) {
        self.lock().checked = Some(TimeSource::System.instant());
    }
}

#[cfg(all(feature = "reqwest", any(feature = "ring", feature = "rustls")))]
/// The time after which a call to an API calls the source again.
const CHECK_INTERVAL: std::time::Duration = std::time::Duration::from_secs(10);
