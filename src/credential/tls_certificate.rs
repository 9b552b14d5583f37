use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use super::source::{CallReason, CredentialSource, Rotating};
use crate::certificate::Certificate;
use crate::error::Error;

/// The certificate of a client's TLS connections: a fixed one, or the current one of a source.
///
/// Clones share the source and its last valid certificate.
#[derive(Clone)]
pub(crate) struct TlsCertificate(Arc<SharedCertificate>);

struct SharedCertificate {
    kind: TlsCertificateKind,
    warnings: ExpiryWarnings,
}

enum TlsCertificateKind {
    Fixed(Certificate),
    Source(Rotating<Certificate>),
}

impl TlsCertificate {
    pub(crate) fn fixed(certificate: Certificate) -> Self {
        Self::new(TlsCertificateKind::Fixed(certificate))
    }

    pub(crate) fn from_source(source: impl CredentialSource<Certificate>) -> Self {
        Self::new(TlsCertificateKind::Source(Rotating::new(source)))
    }

    fn new(kind: TlsCertificateKind) -> Self {
        let warnings = ExpiryWarnings::default();
        Self(Arc::new(SharedCertificate { kind, warnings }))
    }

    /// Returns the certificate for the next connection. Calls the source, and falls back to the
    /// last valid certificate.
    ///
    /// # Errors
    ///
    /// [`Error::Credential`] if there is no certificate that is valid now.
    pub(crate) async fn current(
        &self,
        limit: Duration,
        now: SystemTime,
    ) -> Result<Certificate, Error> {
        self.get(CallReason::Request, limit, now).await
    }

    /// Returns the certificate like [`current`](Self::current), for a call with a reason.
    pub(super) async fn get(
        &self,
        reason: CallReason,
        limit: Duration,
        now: SystemTime,
    ) -> Result<Certificate, Error> {
        let check = |certificate: &Certificate| certificate.check_validity(now);
        let certificate = match &self.0.kind {
            TlsCertificateKind::Fixed(certificate) => {
                check(certificate)?;
                certificate.clone()
            }
            TlsCertificateKind::Source(source) => {
                source.current(reason, limit, check, |_| {}).await?
            }
        };
        self.0.warnings.warn_if_expiring(&certificate, now);
        Ok(certificate)
    }

    /// Checks a fixed certificate. A source is not called.
    pub(crate) fn check(&self, now: SystemTime) -> Result<(), Error> {
        match &self.0.kind {
            TlsCertificateKind::Fixed(certificate) => {
                certificate.check_validity(now)?;
                self.0.warnings.warn_if_expiring(certificate, now);
                Ok(())
            }
            TlsCertificateKind::Source(_) => Ok(()),
        }
    }

    /// Returns the fixed certificate, or the last valid one of the source.
    pub(crate) fn last(&self) -> Option<Certificate> {
        match &self.0.kind {
            TlsCertificateKind::Fixed(certificate) => Some(certificate.clone()),
            TlsCertificateKind::Source(source) => source.last(),
        }
    }

    /// Returns the certificate that the identity provider accepted last, if the certificate may
    /// change.
    pub(super) fn accepted(&self) -> Option<Certificate> {
        match &self.0.kind {
            TlsCertificateKind::Fixed(_) => None,
            TlsCertificateKind::Source(source) => source.accepted(),
        }
    }

    pub(super) fn mark_accepted(&self, certificate: &Certificate) {
        if let TlsCertificateKind::Source(source) = &self.0.kind {
            source.mark_accepted(certificate);
        }
    }

    pub(super) fn is_fixed(&self) -> bool {
        matches!(self.0.kind, TlsCertificateKind::Fixed(_))
    }

    /// Describes the source. `None` for a fixed certificate.
    pub(super) fn source(&self) -> Option<String> {
        match &self.0.kind {
            TlsCertificateKind::Fixed(_) => None,
            TlsCertificateKind::Source(source) => Some(source.describe()),
        }
    }
}

impl fmt::Debug for TlsCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.kind {
            TlsCertificateKind::Fixed(certificate) => certificate.fmt(f),
            TlsCertificateKind::Source(source) => f.write_str(&source.describe()),
        }
    }
}

/// The log warnings about the end of a certificate, once a day.
pub(super) struct ExpiryWarnings {
    /// Days left at the last warning.
    last_days: AtomicI64,
}

impl Default for ExpiryWarnings {
    fn default() -> Self {
        Self {
            last_days: AtomicI64::new(NO_WARNING),
        }
    }
}

impl ExpiryWarnings {
    /// Logs a warning while fewer than 30 days are left.
    pub(super) fn warn_if_expiring(&self, certificate: &Certificate, now: SystemTime) {
        let days = certificate.days_left_at(now);
        if days < WARNING_DAYS && self.last_days.swap(days, Ordering::Relaxed) != days {
            tracing::warn!(
                days_left = days,
                subject = certificate.subject(),
                thumbprint = certificate.thumbprint_sha1(),
                "the client certificate expires soon; register a new certificate with the application and deploy it"
            );
        }
    }
}

/// Days before the end of a certificate when the log warnings start.
const WARNING_DAYS: i64 = 30;
const NO_WARNING: i64 = i64::MAX;
