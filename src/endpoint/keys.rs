use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Endpoints;
use super::cached_lookup::{A_DAY, AFTER_A_FAILURE, CachedLookup, Found, LookupLimits};
use super::key_source::KeySource;
use super::kind::EndpointKind;
use super::lookup::Lookup;
use crate::authority::Tenant;
use crate::crypto::check_backend;
use crate::error::Error;
use crate::jwt::{IssuerKeys, JwtError, SignedJwt};
use crate::time::{Now, TimeSource};

/// The cached issuer and keys of each tenant. An authority without tenants has one entry.
pub(super) struct PublishedKeys {
    entries: Mutex<HashMap<KeyOwner, Arc<CachedLookup<IssuerKeys>>>>,
    /// The application whose own keys are fetched in place of the tenant's.
    application: Option<Arc<str>>,
    /// The longest time for which keys are used while every lookup fails.
    max_age: Duration,
}

/// The tenant that keys are published for, and the application whose own keys these are.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct KeyOwner {
    pub(super) tenant: Option<Tenant>,
    pub(super) application: Option<Arc<str>>,
}

impl Default for PublishedKeys {
    fn default() -> Self {
        Self {
            entries: Mutex::default(),
            application: None,
            max_age: DEFAULT_MAX_AGE,
        }
    }
}

impl PublishedKeys {
    /// Expires all keys. The next use fetches new keys.
    pub(super) fn force_refresh(&self, clock: &TimeSource) {
        for cached in self.lock().values() {
            cached.force_refresh(clock);
        }
    }

    /// Returns the entry of `owner`. A full cache drops another entry.
    fn of(&self, owner: KeyOwner) -> Arc<CachedLookup<IssuerKeys>> {
        let mut entries = self.lock();
        if let Some(cached) = entries.get(&owner) {
            return Arc::clone(cached);
        }
        if entries.len() >= MOST_TENANTS
            && let Some(other) = entries.keys().next().cloned()
        {
            entries.remove(&other);
        }
        let cached = Arc::new(CachedLookup::limited(LookupLimits {
            pause: PAUSE_AFTER_FAILURE,
            // A provider far away needs seconds, and a withdrawn key must not verify for a week.
            with_old_value: Duration::MAX,
            max_age: self.max_age,
        }));
        entries.insert(owner, Arc::clone(&cached));
        cached
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<KeyOwner, Arc<CachedLookup<IssuerKeys>>>> {
        // No code panics while it holds the lock.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Signing keys.
impl Endpoints {
    /// Checks that this build can verify signatures.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] in a build without a signing backend.
    pub(crate) fn check_can_verify() -> Result<(), Error> {
        check_backend().map_err(|error| {
            Error::config(format!(
                "the signatures of tokens cannot be verified: {error}"
            ))
        })
    }

    /// Sets the longest time for which keys are used while every lookup fails.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if the time is shorter than 5 minutes or longer than a year.
    pub(crate) fn with_max_key_age(mut self, max_age: Duration) -> Result<Self, Error> {
        if !(SHORTEST_MAX_AGE..=LONGEST_MAX_AGE).contains(&max_age) {
            return Err(Error::config(format!(
                "max_key_age is {} s, and must be from 5 minutes to 365 days; a shorter time would reject every token after a short outage of the identity provider",
                max_age.as_secs()
            )));
        }
        self.keys.max_age = max_age;
        Ok(self)
    }

    /// Fetches the keys of an application that has its own signing key.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if the authority is not Microsoft Entra ID, or if `client_id` is no id.
    pub(crate) fn with_application_keys(mut self, client_id: String) -> Result<Self, Error> {
        if !matches!(self.kind, EndpointKind::Tenants { .. }) {
            return Err(Error::config(format!(
                "application_keys({client_id:?}) is set, and '{self}' is not Microsoft Entra ID, where alone an application has its own signing key; remove application_keys(..)"
            )));
        }
        // The characters that are safe in a tenant are safe in a client id.
        if Tenant::parse(&client_id).is_err() {
            return Err(Error::config(format!(
                "application_keys({client_id:?}) is not a client id; pass the API's application (client) id, a GUID"
            )));
        }
        self.keys.application = Some(client_id.into());
        Ok(self)
    }

    /// Returns whether the authority may sign with an application's own key, and these keys are not
    /// fetched.
    pub(crate) fn may_lack_application_keys(&self) -> bool {
        matches!(self.kind, EndpointKind::Tenants { .. }) && self.keys.application.is_none()
    }

    /// Returns the issuer and the keys that verify tokens of `tenant`, or of the default tenant.
    ///
    /// The first call sends the discovery requests, and concurrent calls share the result. The
    /// result is cached for as long as the provider allows, from 5 minutes to a day, and for longer
    /// while the provider is down.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] in a build without a signing backend. Otherwise the error of the failed
    /// discovery.
    pub(crate) async fn issuer_keys(
        &self,
        tenant: Option<&Tenant>,
        lookup: &Lookup<'_>,
    ) -> Result<Found<IssuerKeys>, Error> {
        self.keys_of(self.key_owner(tenant), lookup).await
    }

    async fn keys_of(
        &self,
        owner: KeyOwner,
        lookup: &Lookup<'_>,
    ) -> Result<Found<IssuerKeys>, Error> {
        Self::check_can_verify()?;
        let source = self.key_source(&owner);
        let fetch = async |lookup: Lookup<'_>, _| source.fetch(&lookup).await;
        self.keys.of(owner.clone()).get(lookup, fetch).await
    }

    /// Returns the keys from a lookup that began after the lookup of `old`.
    ///
    /// For a token that `old` does not verify. The keys are fetched at most once in five minutes,
    /// and `old` is returned in between and after a failure.
    pub(crate) async fn newer_issuer_keys(
        &self,
        tenant: Option<&Tenant>,
        old: &Arc<IssuerKeys>,
        lookup: &Lookup<'_>,
    ) -> Result<Arc<IssuerKeys>, Error> {
        self.newer_keys_of(self.key_owner(tenant), old, lookup)
            .await
    }

    async fn newer_keys_of(
        &self,
        owner: KeyOwner,
        old: &Arc<IssuerKeys>,
        lookup: &Lookup<'_>,
    ) -> Result<Arc<IssuerKeys>, Error> {
        let source = self.key_source(&owner);
        let fetch = async |lookup: Lookup<'_>, _| source.fetch(&lookup).await;
        self.keys
            .of(owner.clone())
            .other_than(old, REFETCH_INTERVAL, lookup, fetch)
            .await
    }

    /// Fetches the keys, however old the cached keys are. A failure keeps the cached keys.
    pub(crate) async fn refresh_issuer_keys(
        &self,
        tenant: Option<&Tenant>,
        lookup: &Lookup<'_>,
    ) -> Result<(), Error> {
        Self::check_can_verify()?;
        let owner = self.key_owner(tenant);
        let source = self.key_source(&owner);
        let fetch = async |lookup: Lookup<'_>, _| source.fetch(&lookup).await;
        let refreshed = self.keys.of(owner.clone()).refresh(lookup, fetch).await;
        refreshed.map(drop)
    }

    /// Returns the cached keys of `tenant`. Returns `None` if the keys must be fetched.
    pub(crate) fn cached_issuer_keys(
        &self,
        tenant: Option<&Tenant>,
        now: &Now,
    ) -> Option<Arc<IssuerKeys>> {
        self.keys.of(self.key_owner(tenant)).known(now)
    }

    /// Returns the cached keys of `tenant`, even if the keys must be fetched again.
    pub(crate) fn old_issuer_keys(
        &self,
        tenant: Option<&Tenant>,
        now: &Now,
    ) -> Option<Arc<IssuerKeys>> {
        self.keys.of(self.key_owner(tenant)).old(now)
    }

    /// Returns whether [`newer_issuer_keys`](Self::newer_issuer_keys) may return other keys than
    /// `old`.
    pub(crate) fn may_find_newer_keys(
        &self,
        tenant: Option<&Tenant>,
        old: &Arc<IssuerKeys>,
        now: &Now,
    ) -> bool {
        self.keys
            .of(self.key_owner(tenant))
            .may_find_other_than(old, REFETCH_INTERVAL, now)
    }

    /// Validates an ID token of a client with the keys of `tenant`. Fetches the keys if the cached
    /// keys are old or do not verify the token.
    ///
    /// `check` validates the token with one set of keys. An error that newer keys could mend makes
    /// this method look the keys up and call `check` once more. The client's own keys at Microsoft
    /// Entra ID verify the token, too.
    ///
    /// # Errors
    ///
    /// The outer error is that of a failed discovery, also if the cached keys do not verify the
    /// token and newer keys cannot be looked up. The inner error is the token's.
    pub(crate) async fn validate_for_client<T>(
        &self,
        tenant: Option<&Tenant>,
        client_id: &str,
        jwt: &SignedJwt<'_>,
        lookup: &Lookup<'_>,
        check: impl Fn(&IssuerKeys) -> Result<T, JwtError>,
    ) -> Result<Result<T, JwtError>, Error> {
        let owner = self.key_owner(tenant);
        let validated = self.validate_by_all(owner.clone(), client_id, jwt, lookup, check);
        let outcome = validated.await?;
        match (&outcome, self.keys.of(owner).failure()) {
            (Err(error), Some(failure)) if jwt.may_need_newer_keys(error) => Err(failure),
            _ => Ok(outcome),
        }
    }

    async fn validate_by_all<T>(
        &self,
        owner: KeyOwner,
        client_id: &str,
        jwt: &SignedJwt<'_>,
        lookup: &Lookup<'_>,
        check: impl Fn(&IssuerKeys) -> Result<T, JwtError>,
    ) -> Result<Result<T, JwtError>, Error> {
        let application = KeyOwner {
            application: Some(client_id.into()),
            ..owner.clone()
        };
        let error = match self.validate_by(owner, jwt, lookup, &check).await? {
            Err(error @ JwtError::UnknownKey(_)) if self.may_lack_application_keys() => error,
            outcome => return Ok(outcome),
        };
        match self.validate_by(application, jwt, lookup, &check).await {
            // A provider that knows no application keys.
            Err(failure) if !failure.is_transient() => Ok(Err(error)),
            outcome => outcome,
        }
    }

    async fn validate_by<T>(
        &self,
        owner: KeyOwner,
        jwt: &SignedJwt<'_>,
        lookup: &Lookup<'_>,
        check: &impl Fn(&IssuerKeys) -> Result<T, JwtError>,
    ) -> Result<Result<T, JwtError>, Error> {
        let current = self.keys_of(owner.clone(), lookup).await?;
        let error = match check(&current.value) {
            Err(error) if !current.is_looked_up && jwt.may_need_newer_keys(&error) => error,
            outcome => return Ok(outcome),
        };
        let newer = self.newer_keys_of(owner, &current.value, lookup).await?;
        Ok(match Arc::ptr_eq(&newer, &current.value) {
            true => Err(error),
            false => check(&newer),
        })
    }

    /// Returns the owner of the keys of `tenant` or else of the default tenant.
    fn key_owner(&self, tenant: Option<&Tenant>) -> KeyOwner {
        KeyOwner {
            tenant: tenant.or(self.tenant()).cloned(),
            application: self.keys.application.clone(),
        }
    }

    fn key_source<'a>(&'a self, owner: &'a KeyOwner) -> KeySource<'a> {
        KeySource::new(&self.kind, &self.http_hosts, self.rules, owner)
    }
}

/// Largest number of tenants with cached keys.
const MOST_TENANTS: usize = 256;
/// Shortest pause after a failed lookup without cached keys.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);
/// Shortest time between two lookups for keys that verify a token.
const REFETCH_INTERVAL: Duration = AFTER_A_FAILURE;
const DEFAULT_MAX_AGE: Duration = Duration::from_secs(7 * A_DAY.as_secs());
const SHORTEST_MAX_AGE: Duration = AFTER_A_FAILURE;
const LONGEST_MAX_AGE: Duration = Duration::from_secs(365 * A_DAY.as_secs());

#[cfg(test)]
mod tests;
