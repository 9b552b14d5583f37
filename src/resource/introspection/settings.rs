use std::fmt;
use std::time::Duration;

use super::{Introspection, IntrospectionCache};
use crate::cache::RequestLimit;
use crate::client::ConfidentialClient;
use crate::endpoint::Endpoints;
use crate::error::Error;
use crate::resource::TokenValidatorBuilder;

/// The settings of a validator that introspects tokens.
#[derive(Default)]
pub(in crate::resource) struct IntrospectionSettings {
    client: Option<ConfidentialClient>,
    endpoint: Option<String>,
    cache_for: Option<Duration>,
    opaque_tokens_only: bool,
}

/// # Introspection
///
/// For a builder of [`TokenValidator::introspecting`](super::TokenValidator::introspecting).
impl TokenValidatorBuilder {
    /// Sets the introspection endpoint, in place of the `introspection_endpoint` of the provider's
    /// metadata.
    pub fn introspection_endpoint(mut self, url: impl Into<String>) -> Self {
        self.introspection.endpoint = Some(url.into());
        self
    }

    /// Sets the time for which a response about an active token is used.
    ///
    /// The default is one minute, and the maximum is ten minutes. A token that is revoked in this
    /// time is accepted until its end. A response is never used after the token's expiry. With zero
    /// every call introspects the token.
    pub fn introspection_cache(mut self, cache_for: Duration) -> Self {
        self.introspection.cache_for = Some(cache_for);
        self
    }

    /// Introspects opaque tokens alone, and validates a signed JWT with the provider's keys.
    ///
    /// For a provider that issues both kinds. A revoked JWT is then accepted until its expiry.
    pub fn introspect_opaque_tokens_only(mut self) -> Self {
        self.introspection.opaque_tokens_only = true;
        self
    }
}

impl IntrospectionSettings {
    pub(in crate::resource) fn of(client: &ConfidentialClient) -> Self {
        Self {
            client: Some(client.clone()),
            ..Self::default()
        }
    }

    /// Returns the client if the validator introspects tokens.
    pub(in crate::resource) fn client(&self) -> Option<&ConfidentialClient> {
        self.client.as_ref()
    }

    /// Returns whether the validator needs the keys of the identity provider.
    pub(in crate::resource) fn needs_keys(&self) -> bool {
        self.client.is_none() || self.opaque_tokens_only
    }

    /// Checks the settings. Does no I/O.
    pub(in crate::resource) fn build(
        self,
        endpoints: &Endpoints,
    ) -> Result<Option<Introspection>, Error> {
        let Self {
            client,
            endpoint,
            cache_for,
            opaque_tokens_only,
        } = self;
        let Some(client) = client else {
            let misplaced = match () {
                () if endpoint.is_some() => "introspection_endpoint(..)",
                () if cache_for.is_some() => "introspection_cache(..)",
                () if opaque_tokens_only => "introspect_opaque_tokens_only()",
                () => return Ok(None),
            };
            return Err(Error::config(format!(
                "{misplaced} is set, and the validator introspects no tokens; begin with TokenValidator::introspecting(..), or remove {misplaced}"
            )));
        };
        endpoints.check_introspection()?;
        let cache_for = cache_for.unwrap_or(DEFAULT_CACHE);
        if cache_for > LONGEST_CACHE {
            return Err(Error::config(format!(
                "introspection_cache({cache_for:?}) must be at most 10 minutes, because a revoked token is accepted for that long; choose a shorter time"
            )));
        }
        let endpoint = endpoint.map(|url| endpoints.custom_endpoint(ENDPOINT, &url));
        Ok(Some(Introspection {
            client,
            endpoint: endpoint.transpose()?,
            opaque_tokens_only,
            cache: IntrospectionCache::new(cache_for),
            limit: RequestLimit::new(Some(MOST_REQUESTS), super::LIMIT + super::LIMIT),
        }))
    }
}

impl fmt::Debug for IntrospectionSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IntrospectionSettings")
            .field("client", &self.client)
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

const ENDPOINT: &str = "the introspection endpoint";
const DEFAULT_CACHE: Duration = Duration::from_secs(60);
const LONGEST_CACHE: Duration = Duration::from_secs(10 * 60);
/// The number of introspection requests at a time.
const MOST_REQUESTS: usize = 32;
