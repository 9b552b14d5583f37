//! The signing keys of a token validator.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::timeout;
use uuid::Uuid;

use super::rejection::TokenRejection;
use super::validator::{TokenValidator, ValidatorConfig};
use crate::endpoint::{Found, Lookup};
use crate::error::{Error, Failure};
use crate::jwt::{IssuerKeys, JwtError, SignedJwt};

impl TokenValidator {
    /// Fetches the identity provider's signing keys now, for an operator who knows that a key was
    /// replaced or withdrawn.
    ///
    /// The validator fetches new keys by itself, so no program needs to call this method. The call
    /// sends two requests, for the metadata and for the key set, however old the cached keys are.
    /// Concurrent calls share one fetch. The fetched keys replace the cached keys. A key that is no
    /// longer published then verifies no token.
    ///
    /// ```
    /// # use confidential_client::testing::LocalAuthority;
    /// use confidential_client::resource::TokenValidator;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let local = LocalAuthority::start().await?;
    /// # local.register_resource("contoso.com", "api://orders");
    /// # let authority = local.authority("contoso.com");
    /// let validator = TokenValidator::builder(authority)
    ///     .audience("api://orders")
    ///     .single_tenant()
    ///     .build()?;
    /// # local.roll_key()?;
    /// # local.retire_old_keys();
    /// validator.refresh_keys().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The validator keeps the cached keys after an error.
    ///
    /// - [`Error::Transport`]: no response within 10 seconds.
    /// - [`Error::Throttled`]: the identity provider asked to wait.
    /// - [`Error::InvalidResponse`]: the metadata or the key set cannot be used.
    /// - [`Error::Config`]: the metadata are those of another authority, or there is no tokio
    ///   runtime.
    #[doc(alias = "RequestRefresh")]
    pub async fn refresh_keys(&self) -> Result<(), Error> {
        self.fetch(|config, lookup| async move {
            let tenant = config.keys_tenant.as_ref();
            let lookup = config.lookup(&lookup);
            config.endpoints.refresh_issuer_keys(tenant, &lookup).await
        })
        .await
    }

    /// Validates a token with the cached keys, or else with fetched keys. Returns these keys, too.
    ///
    /// `check` validates the token with one set of keys.
    pub(super) async fn check_with_keys<T>(
        &self,
        jwt: &SignedJwt<'_>,
        check: impl Fn(&IssuerKeys) -> Result<T, JwtError>,
    ) -> Result<(T, Arc<IssuerKeys>), TokenRejection> {
        let current = self.current_keys().await;
        let current = current.map_err(TokenRejection::keys_unavailable)?;
        let error = match check(&current.value) {
            Ok(checked) => return Ok((checked, current.value)),
            Err(error) => error,
        };
        if current.is_looked_up || !jwt.may_need_newer_keys(&error) {
            return Err(self.rejection(error));
        }
        let newer = self.newer_keys(&current.value).await;
        let newer = newer.map_err(TokenRejection::keys_unavailable)?;
        if Arc::ptr_eq(&newer, &current.value) {
            return Err(self.rejection(error));
        }
        let checked = check(&newer).map_err(|error| self.rejection(error))?;
        Ok((checked, newer))
    }

    fn rejection(&self, error: JwtError) -> TokenRejection {
        match error {
            JwtError::UnknownKey(_) if self.0.endpoints.may_lack_application_keys() => {
                TokenRejection::of_jwt(error, APPLICATION_KEYS_HINT)
            }
            error => error.into(),
        }
    }

    async fn current_keys(&self) -> Result<Found<IssuerKeys>, Error> {
        let config = &*self.0;
        let now = config.clock.now();
        let tenant = config.keys_tenant.as_ref();
        if let Some(value) = config.endpoints.cached_issuer_keys(tenant, &now) {
            return Ok(Found {
                value,
                is_looked_up: false,
            });
        }
        let fetched = self.fetch(|config, lookup| async move {
            let tenant = config.keys_tenant.as_ref();
            let lookup = config.lookup(&lookup);
            config.endpoints.issuer_keys(tenant, &lookup).await
        });
        let Some(old) = config.endpoints.old_issuer_keys(tenant, &now) else {
            return fetched.await;
        };
        // The task goes on after this caller has stopped to wait.
        timeout(PATIENCE_WITH_OLD_KEYS, fetched)
            .await
            .unwrap_or(Ok(Found {
                value: old,
                is_looked_up: false,
            }))
    }

    /// Returns keys that are newer than `old`, or `old` if the keys were fetched a short time ago.
    async fn newer_keys(&self, old: &Arc<IssuerKeys>) -> Result<Arc<IssuerKeys>, Error> {
        let config = &*self.0;
        let now = config.clock.now();
        let tenant = config.keys_tenant.as_ref();
        let old = Arc::clone(old);
        // A flood of invalid tokens must not start a task for each token.
        if !config.endpoints.may_find_newer_keys(tenant, &old, &now) {
            return Ok(old);
        }
        self.fetch(|config, lookup| async move {
            let tenant = config.keys_tenant.as_ref();
            let lookup = config.lookup(&lookup);
            let newer = config.endpoints.newer_issuer_keys(tenant, &old, &lookup);
            newer.await
        })
        .await
    }

    /// Runs a fetch as a task, so that a cancelled caller does not cancel it for the others.
    /// `fetch` receives the correlation id.
    async fn fetch<T, F>(
        &self,
        fetch: impl FnOnce(Arc<ValidatorConfig>, String) -> F,
    ) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let Ok(runtime) = Handle::try_current() else {
            return Err(Error::config(
                "the identity provider's signing keys must be fetched, and there is no tokio runtime; call from within a runtime, such as under #[tokio::main]",
            ));
        };
        let correlation_id = Uuid::new_v4().to_string();
        let task = runtime.spawn(fetch(Arc::clone(&self.0), correlation_id));
        task.await.unwrap_or_else(|error| {
            let failure = Failure::new(
                "the task that fetches the identity provider's signing keys did not finish",
            );
            Err(Error::Transport(failure.source(Box::new(error)).into()))
        })
    }
}

impl ValidatorConfig {
    fn lookup<'a>(&'a self, correlation_id: &'a str) -> Lookup<'a> {
        Lookup {
            transport: &*self.transport,
            clock: &self.clock,
            correlation_id,
            limit: KEYS_TIMEOUT,
        }
    }
}

/// The advice to the author of the API.
const APPLICATION_KEYS_HINT: &str = "; if the API's registration has its own signing key (claims mapping), set application_keys(..) on the API's TokenValidatorBuilder";
/// The longest wait of a caller for keys, while the old keys can be used.
const PATIENCE_WITH_OLD_KEYS: Duration = Duration::from_secs(2);
/// Time limit for fetching the metadata and the key set together.
const KEYS_TIMEOUT: Duration = Duration::from_secs(10);
