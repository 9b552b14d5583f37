use std::time::Duration;

use serde_json::{Map, Value};

use super::{Fetch, TokenFetcher};
use crate::authority::Tenant;
use crate::delegated::{IdTokenRules, UserIdentity, invalid_id_token};
use crate::endpoint::Lookup;
use crate::error::Error;
use crate::jwt::{IssuerKeys, JwtError, SignedJwt};
use crate::response::TokenResponse;
use crate::secret::Secret;

/// The reason why an ID token is not validated.
pub(in crate::client) enum IdTokenFailure {
    Invalid(Error),
    /// No cached key verifies the ID token, and newer keys cannot be looked up.
    KeysUnavailable(Error),
}

impl IdTokenFailure {
    pub(in crate::client) fn into_error(self) -> Error {
        match self {
            Self::Invalid(error) | Self::KeysUnavailable(error) => error,
        }
    }
}

/// The user that the response to a refresh names.
pub(in crate::client) struct RefreshedIdentity {
    pub(in crate::client) identity: UserIdentity,
    /// True if the ID token of the response was validated.
    pub(in crate::client) is_validated: bool,
}

impl TokenFetcher {
    /// Validates an ID token, and returns the claims.
    ///
    /// `max_age` is the longest time since the user authenticated.
    pub(in crate::client) async fn validate_id_token(
        &self,
        id_token: &Secret,
        tenant: Option<&Tenant>,
        max_age: Option<Duration>,
        lookup: &Lookup<'_>,
    ) -> Result<Map<String, Value>, IdTokenFailure> {
        let invalid =
            |error: JwtError| IdTokenFailure::Invalid(invalid_id_token(&error.to_string()));
        let id_token = SignedJwt::parse(id_token.expose()).map_err(invalid)?;
        let algorithm = id_token.algorithm();
        if self.endpoints.fapi2_issuer().is_some() && !algorithm.is_in_fapi2() {
            return Err(IdTokenFailure::Invalid(invalid_id_token(&format!(
                "it is signed with {algorithm}, and FAPI 2.0 allows PS256, ES256 and EdDSA (Security Profile, section 5.4.1)"
            ))));
        }
        let now = self.clock.wall();
        let client_id = &*self.client_id;
        let check = |keys: &IssuerKeys| id_token.id_token(keys, client_id, now, LEEWAY);
        let validated = self
            .endpoints
            .validate_for_client(tenant, client_id, &id_token, lookup, check);
        let validated = validated.await.map_err(IdTokenFailure::KeysUnavailable)?;
        let claims = validated.map_err(invalid)?;
        let rules = IdTokenRules {
            client_id: &self.client_id,
            trusted_audiences: &self.id_token_audiences,
            max_age,
            now,
            leeway: LEEWAY,
        };
        rules.check(&claims).map_err(IdTokenFailure::Invalid)?;
        Ok(claims)
    }

    /// Returns the user that the response to a refresh names.
    ///
    /// The ID token is validated if the ID token of the first response was. Otherwise, and while
    /// the keys of the provider are unavailable, the claims are trusted, because the token endpoint
    /// sent the ID token ([OpenID Connect Core section 3.1.3.7], number 6). An error would lose a
    /// refresh token that is valid once.
    ///
    /// [OpenID Connect Core section 3.1.3.7]: https://openid.net/specs/openid-connect-core-1_0.html#IDTokenValidation
    pub(in crate::client) async fn refreshed_identity(
        &self,
        fetch: &Fetch,
        response: &TokenResponse,
        is_validated: bool,
    ) -> Result<RefreshedIdentity, Error> {
        let mut validated = None;
        if let (Some(id_token), true) = (&response.id_token, is_validated) {
            let lookup = self.lookup(&fetch.correlation_id);
            let tenant = fetch.tenant.as_ref();
            validated = match self
                .validate_id_token(id_token, tenant, None, &lookup)
                .await
            {
                Ok(claims) => Some(claims),
                Err(IdTokenFailure::Invalid(error)) => return Err(error),
                Err(IdTokenFailure::KeysUnavailable(error)) => {
                    tracing::warn!(
                        error = %error.chain(),
                        correlation_id = fetch.correlation_id,
                        "the signature of a refreshed ID token is not checked, because the keys of the identity provider are unavailable; the ID token is not kept"
                    );
                    None
                }
            };
        }
        let is_validated = validated.is_some();
        let unverified = || SignedJwt::unverified_claims(response.id_token.as_ref()?.expose());
        let claims = validated.or_else(unverified);
        let client_info = response.client_info.as_deref();
        let rules = self.endpoints.rules();
        let identity = UserIdentity::of_response(claims.as_ref(), client_info, rules)?;
        Ok(RefreshedIdentity {
            identity,
            is_validated,
        })
    }
}

/// The largest accepted difference between the provider's clock and this one.
const LEEWAY: Duration = Duration::from_secs(300);
