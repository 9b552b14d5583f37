use std::error::Error as StdError;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::callback;
use crate::certificate::Certificate;
use crate::error::Error;
use crate::secret::Secret;

/// What a [`CredentialSource`] returns: the credential, or why there is none.
pub type CredentialFuture<'a, T> =
    Pin<Box<dyn Future<Output = Result<T, Box<dyn StdError + Send + Sync>>> + Send + 'a>>;

/// Where a credential comes from, and comes again when it has been replaced: a rotation needs no
/// restart and loses no token. `T` is [`Certificate`](crate::Certificate) or
/// [`Secret`](crate::Secret).
///
/// Asked before every token request, so about once an hour for each tenant and scope; never for a
/// token in memory. Should it fail, give something that cannot be used, or take more than ten
/// seconds, the last good credential is used, with a warning in the log, and it is asked again at
/// the next token request. When the identity provider refuses the credential, it is asked at once,
/// and the request is repeated once if there is another by now, or with the one that was accepted
/// before: a new certificate may be deployed before it is registered everywhere.
///
/// Closures that return a future are sources, and so are [`CertificateFile`](crate::credential::CertificateFile)
/// and [`SecretFile`](crate::credential::SecretFile).
///
/// ```
/// use confidential_client::{ConfidentialClient, Secret};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let client = ConfidentialClient::builder("11111111-2222-3333-4444-555555555555")
///     .tenant("contoso.onmicrosoft.com")
///     .client_secret_source(|| async {
///         // A vault is asked here.
///         Ok(Secret::from("the secret of today"))
///     })
///     .build()?; // does not ask yet
/// # Ok(())
/// # }
/// ```
pub trait CredentialSource<T>: Send + Sync + 'static {
    /// Reads or fetches the credential of now.
    ///
    /// # Errors
    ///
    /// Where there is no last good credential, any error becomes the source of
    /// [`Error::Credential`](crate::Error::Credential). It must not contain the credential.
    fn credential(&self) -> CredentialFuture<'_, T>;

    /// What it is, for `Debug` of the client and the log: never the credential.
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

/// A credential that can be told from another.
pub(crate) trait SameAs {
    fn same_as(&self, other: &Self) -> bool;
}

impl SameAs for Secret {
    fn same_as(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

/// The same certificate, signing in the same way.
impl SameAs for Certificate {
    fn same_as(&self, other: &Self) -> bool {
        self.sha256() == other.sha256() && self.header() == other.header()
    }
}

/// A source and the last good credential it gave.
pub(crate) struct Rotating<T: 'static> {
    source: Arc<dyn CredentialSource<T>>,
    /// Counts the times it was asked.
    asked: AtomicU64,
    last: Mutex<Option<Last<T>>>,
    accepted: Mutex<Option<T>>,
}

struct Last<T> {
    asked: u64,
    credential: T,
}

impl<T: Clone + SameAs + Send + 'static> Rotating<T> {
    pub(crate) fn new(source: impl CredentialSource<T>) -> Self {
        Self {
            source: Arc::new(source),
            asked: AtomicU64::new(0),
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

    /// The source's credential if `check` finds it good, else the last good one; `on_new` is shown
    /// each that is new.
    pub(crate) async fn current(
        &self,
        limit: Duration,
        check: impl Fn(&T) -> Result<(), Error>,
        on_new: impl Fn(&T),
    ) -> Result<T, Error> {
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        let error = match self.load(limit, &check).await {
            Ok(new) => match self.keep(&new, asked) {
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
                "no credential that can be used could be had; the last good one is used"
            );
        }
        last.ok_or(error)
    }

    async fn load(
        &self,
        limit: Duration,
        check: impl Fn(&T) -> Result<(), Error>,
    ) -> Result<T, Error> {
        let (source, describe) = (Arc::clone(&self.source), self.describe());
        let asking = async move { source.credential().await };
        let new =
            callback::ask(&format!("the {describe} gave no credential"), limit, asking).await?;
        match check(&new) {
            Ok(()) => Ok(new),
            Err(error) => Err(Error::credential(format!(
                "the credential of the {describe} cannot be used: {error}"
            ))),
        }
    }

    /// The last that the identity provider accepted.
    pub(super) fn accepted(&self) -> Option<T> {
        let accepted = self.accepted.lock();
        accepted.unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn accept(&self, credential: &T) {
        let mut accepted = self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        if !accepted
            .as_ref()
            .is_some_and(|known| known.same_as(credential))
        {
            *accepted = Some(credential.clone());
        }
    }

    /// Keeps the answer to the latest question: one that was asked earlier may answer later.
    fn keep(&self, credential: &T, asked: u64) -> Update<T> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = match &*last {
            Some(last) if last.asked > asked => return Update::Outdated(last.credential.clone()),
            Some(last) => last.credential.same_as(credential),
            None => false,
        };
        *last = Some(Last {
            asked,
            credential: credential.clone(),
        });
        match is_known {
            true => Update::Known,
            false => Update::New,
        }
    }
}

/// What became of an answer.
enum Update<T> {
    New,
    Known,
    /// There is a newer one.
    Outdated(T),
}
