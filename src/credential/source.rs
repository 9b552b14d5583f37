use std::error::Error as StdError;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::callback;
use crate::certificate::Certificate;
use crate::error::Error;
use crate::secret::Secret;

/// The future of a [`CredentialSource`], with the credential or an error.
pub type CredentialFuture<'a, T> =
    Pin<Box<dyn Future<Output = Result<T, Box<dyn StdError + Send + Sync>>> + Send + 'a>>;

/// A source of a credential that can be rotated without a restart and without loss of tokens.
///
/// `T` is [`Certificate`](crate::Certificate) or [`Secret`](crate::Secret). A closure that returns
/// a future is a source. [`CertificateFile`](crate::credential::CertificateFile) and
/// [`SecretFile`](crate::credential::SecretFile) are sources, too.
///
/// The client calls the source before every token request, which is about once an hour for each
/// tenant and scope. A cached token needs no call.
///
/// - If the source fails, returns an invalid credential or takes more than ten seconds, the client
///   uses the last valid credential and logs a warning. The next token request calls the source
///   again.
/// - If the identity provider rejects the credential, the client calls
///   [`credential_after_rejection`](Self::credential_after_rejection) at once and retries the token
///   request once with a different credential. If the source has none, the client retries with the
///   credential that the identity provider accepted before. A new certificate may be deployed
///   before the registration is complete everywhere.
///
/// ```
/// use confidential_client::{ConfidentialClient, Secret};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let client = ConfidentialClient::builder("11111111-2222-3333-4444-555555555555")
///     .tenant("contoso.onmicrosoft.com")
///     .client_secret_source(|| async {
///         // Read the secret from a vault here.
///         Ok(Secret::from("the secret of today"))
///     })
///     .build()?; // does not call the source
/// # Ok(())
/// # }
/// ```
pub trait CredentialSource<T>: Send + Sync + 'static {
    /// Reads or fetches the current credential.
    ///
    /// # Errors
    ///
    /// If there is no last valid credential, the client returns
    /// [`Error::Credential`](crate::Error::Credential) with this error as its source. The error
    /// must not contain the credential.
    fn credential(&self) -> CredentialFuture<'_, T>;

    /// Reads or fetches the credential after the identity provider rejected the last one.
    ///
    /// The default calls [`credential`](Self::credential). A source that caches the credential
    /// fetches the credential anew, if the last fetch is some seconds old.
    ///
    /// # Errors
    ///
    /// The errors of [`credential`](Self::credential). The client then retries with the credential
    /// that the identity provider accepted before.
    fn credential_after_rejection(&self) -> CredentialFuture<'_, T> {
        self.credential()
    }

    /// Describes the source for `Debug` output, errors and the log. The text must not contain the
    /// credential.
    fn describe(&self) -> String {
        "credential source".to_owned()
    }
}

impl<T, F, R> CredentialSource<T> for F
where
    F: Fn() -> R + Send + Sync + 'static,
    R: Future<Output = Result<T, Box<dyn StdError + Send + Sync>>> + Send + 'static,
{
    fn credential(&self) -> CredentialFuture<'_, T> {
        Box::pin(self())
    }
}

/// A credential that can be compared with another one.
pub(crate) trait SameAs {
    fn same_as(&self, other: &Self) -> bool;
}

impl SameAs for Secret {
    fn same_as(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

/// Compares the certificate and the header of assertions.
impl SameAs for Certificate {
    fn same_as(&self, other: &Self) -> bool {
        self.sha256() == other.sha256() && self.header("JWT") == other.header("JWT")
    }
}

/// The event that makes the client call a source.
#[derive(Clone, Copy)]
pub(crate) enum CallReason {
    /// A request that needs the credential.
    Request,
    /// The identity provider rejected the last credential.
    Rejection,
}

/// A source and the last valid credential from it.
pub(crate) struct Rotating<T: 'static> {
    source: Arc<dyn CredentialSource<T>>,
    /// Number of calls to the source.
    calls: AtomicU64,
    last: Mutex<Option<LastLoaded<T>>>,
    /// Last credential that the identity provider accepted.
    accepted: Mutex<Option<T>>,
}

/// The last valid credential and the number of the call that returned it.
struct LastLoaded<T> {
    call: u64,
    credential: T,
}

impl<T: Clone + SameAs + Send + 'static> Rotating<T> {
    pub(crate) fn new(source: impl CredentialSource<T>) -> Self {
        Self {
            source: Arc::new(source),
            calls: AtomicU64::new(0),
            last: Mutex::new(None),
            accepted: Mutex::new(None),
        }
    }

    pub(crate) fn describe(&self) -> String {
        self.source.describe()
    }

    pub(crate) fn last(&self) -> Option<T> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().map(|last| last.credential.clone())
    }

    /// Returns the source's credential if `check` accepts it, or else the last valid credential.
    ///
    /// Calls `on_new` for each new credential.
    pub(crate) async fn current(
        &self,
        reason: CallReason,
        limit: Duration,
        check: impl Fn(&T) -> Result<(), Error>,
        on_new: impl Fn(&T),
    ) -> Result<T, Error> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        let error = match self.load(reason, limit, &check).await {
            Ok(new) => match self.update(&new, call) {
                Update::Outdated(newer) => return Ok(newer),
                Update::Known => return Ok(new),
                Update::New => {
                    tracing::info!(source = self.describe(), "a new credential is used");
                    on_new(&new);
                    return Ok(new);
                }
            },
            Err(error) => error,
        };
        let last = self.last().filter(|last| check(last).is_ok());
        if last.is_some() {
            tracing::warn!(
                source = self.describe(),
                error = %error.chain(),
                "the credential source returned no valid credential; the last valid credential is used"
            );
        }
        last.ok_or(error)
    }

    /// Calls the source and checks the returned credential.
    async fn load(
        &self,
        reason: CallReason,
        limit: Duration,
        check: impl Fn(&T) -> Result<(), Error>,
    ) -> Result<T, Error> {
        let (source, describe) = (Arc::clone(&self.source), self.describe());
        let credential = async move {
            match reason {
                CallReason::Request => source.credential().await,
                CallReason::Rejection => source.credential_after_rejection().await,
            }
        };
        let message = format!("the {describe} returned no credential");
        let new = callback::call(&message, limit, credential).await?;
        match check(&new) {
            Ok(()) => Ok(new),
            Err(error) => Err(Error::credential(format!(
                "the credential of the {describe} cannot be used: {error}"
            ))),
        }
    }

    /// Returns the last credential that the identity provider accepted.
    pub(super) fn accepted(&self) -> Option<T> {
        let accepted = self.accepted.lock();
        accepted.unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn mark_accepted(&self, credential: &T) {
        let mut accepted = self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        if !accepted
            .as_ref()
            .is_some_and(|known| known.same_as(credential))
        {
            *accepted = Some(credential.clone());
        }
    }

    /// Stores the result of the latest call. An earlier call may return later.
    fn update(&self, credential: &T, call: u64) -> Update<T> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = match &*last {
            Some(last) if last.call > call => return Update::Outdated(last.credential.clone()),
            Some(last) => last.credential.same_as(credential),
            None => false,
        };
        *last = Some(LastLoaded {
            call,
            credential: credential.clone(),
        });
        match is_known {
            true => Update::Known,
            false => Update::New,
        }
    }
}

/// The effect of a credential from the source.
enum Update<T> {
    New,
    Known,
    /// A later call already returned this newer credential.
    Outdated(T),
}
