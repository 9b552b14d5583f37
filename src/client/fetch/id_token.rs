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
    ) -> Result<Map<String, Value>, Error> {
        let invalid = |error: JwtError| invalid_id_token(&error.to_string());
        let id_token = SignedJwt::parse(id_token.expose()).map_err(invalid)?;
        let algorithm = id_token.algorithm();
        if self.endpoints.fapi2_issuer().is_some() && !algorithm.is_in_fapi2() {
            return Err(invalid_id_token(&format!(
                "it is signed with {algorithm}, and FAPI 2.0 allows PS256, ES256 and EdDSA (Security Profile, section 5.4.1)"
            )));
        }
        let now = self.clock.wall();
        let client_id = &*self.client_id;
        let check = |keys: &IssuerKeys| id_token.id_token(keys, client_id, now, LEEWAY);
        let validated = self
            .endpoints
            .validate_for_client(tenant, client_id, &id_token, lookup, check);
        let claims = validated.await?.map_err(invalid)?;
        let rules = IdTokenRules {
            client_id: &self.client_id,
            trusted_audiences: &self.id_token_audiences,
            max_age,
            now,
            leeway: LEEWAY,
        };
        rules.check(&claims)?;
        Ok(claims)
    }

    /// Returns the user that the response to a refresh names.
    ///
    /// The ID token is validated if the ID token of the first response was. Otherwise the claims
    /// are trusted, because the token endpoint sent the ID token ([OpenID Connect Core section
    /// 3.1.3.7], number 6).
    ///
    /// [OpenID Connect Core section 3.1.3.7]: https://openid.net/specs/openid-connect-core-1_0.html#IDTokenValidation
    pub(in crate::client) async fn refreshed_identity(
        &self,
        fetch: &Fetch,
        response: &TokenResponse,
        is_validated: bool,
    ) -> Result<UserIdentity, Error> {
        let claims = match &response.id_token {
            Some(id_token) if is_validated => {
                let lookup = self.lookup(&fetch.correlation_id);
                let tenant = fetch.tenant.as_ref();
                let claims = self.validate_id_token(id_token, tenant, None, &lookup);
                Some(claims.await?)
            }
            Some(id_token) => SignedJwt::unverified_claims(id_token.expose()),
            None => None,
        };
        let client_info = response.client_info.as_deref();
        UserIdentity::of_response(claims.as_ref(), client_info, self.endpoints.rules())
    }
}

/// The largest accepted difference between the provider's clock and this one.
const LEEWAY: Duration = Duration::from_secs(300);
