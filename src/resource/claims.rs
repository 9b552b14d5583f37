use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use serde_json::{Map, Value, json};

use super::claim_values::client_ids;
use super::confirmation::AcceptedSchemes;
use super::holder::Holder;
use super::rejection_log::RejectionLog;
use crate::authority::Rules;
use crate::jwt::{ClaimsSet, IssuerKeys, JwtError, SignedJwt};
use crate::response::{ActiveToken, json_object};
use crate::token::TokenScheme;

mod requirements;

/// The claims of a validated token, with the client, the user and their permissions.
///
/// Clones are cheap. `Debug` shows the ids, the scopes and the roles, and hides the token and every
/// other claim.
#[doc(alias("ClaimsPrincipal", "TokenData", "app_permission"))]
#[derive(Clone)]
pub struct Claims(Arc<ValidatedToken>);

#[derive(Clone)]
struct ValidatedToken {
    claims: ClaimsSet,
    /// The claims as JSON, parsed by the first call that returns JSON.
    json: OnceLock<Map<String, Value>>,
    /// The introspection response with the claims. Otherwise the token has the claims.
    introspected: Option<Arc<ActiveToken>>,
    /// The name of the claim that lists the scopes.
    scope_claim: &'static str,
    holder: Holder,
    expires_on: SystemTime,
    authorization_uri: Option<Arc<str>>,
    /// The schemes of the API, and whether the token was sent with `DPoP`, for the challenges.
    schemes: Option<(Arc<AcceptedSchemes>, TokenScheme)>,
    token: Box<str>,
    /// The log of the validator.
    log: Arc<RejectionLog>,
}

/// A rule of the API's author that decides the holder of a token.
pub(super) type HolderRule = dyn Fn(&Claims) -> Holder + Send + Sync;

impl Claims {
    pub(super) fn new(
        claims: ClaimsSet,
        token: &str,
        rules: Rules,
        keys: &IssuerKeys,
        log: &Arc<RejectionLog>,
    ) -> Result<Self, JwtError> {
        Ok(Self(Arc::new(ValidatedToken {
            holder: Holder::by_evidence(&claims, rules),
            scope_claim: scope_claim(&claims, rules),
            expires_on: claims.time("exp")?.ok_or(JwtError::Claim("exp"))?,
            authorization_uri: keys.authorization_endpoint.clone(),
            schemes: None,
            token: token.into(),
            log: Arc::clone(log),
            json: OnceLock::new(),
            introspected: None,
            claims,
        })))
    }

    /// Returns the claims of an introspected token, which are the members of the response.
    ///
    /// `until` is the end of the response's use, and the expiry of a token that names none.
    pub(super) fn introspected(
        active: &Arc<ActiveToken>,
        token: &str,
        rules: Rules,
        until: SystemTime,
        log: &Arc<RejectionLog>,
    ) -> Result<Self, JwtError> {
        let claims = active.members.clone();
        Ok(Self(Arc::new(ValidatedToken {
            holder: Holder::by_evidence(&claims, rules),
            scope_claim: scope_claim(&claims, rules),
            expires_on: claims.time("exp")?.unwrap_or(until),
            authorization_uri: None,
            schemes: None,
            token: token.into(),
            log: Arc::clone(log),
            json: OnceLock::new(),
            introspected: Some(Arc::clone(active)),
            claims,
        })))
    }

    /// Returns the id of the tenant that issued the token (`tid`), a GUID.
    pub fn tenant_id(&self) -> Option<&str> {
        self.string("tid")
    }

    /// Returns the directory's id of the user (`oid`), or of the service principal in an
    /// application token.
    ///
    /// The id is the same for every API and, together with [`tenant_id`](Self::tenant_id), unique.
    /// Store this id to recognize a user.
    pub fn object_id(&self) -> Option<&str> {
        self.string("oid")
    }

    /// Returns the subject of the token (`sub`).
    ///
    /// Microsoft Entra ID gives one user a different subject at each API.
    pub fn subject(&self) -> Option<&str> {
        self.string("sub")
    }

    /// Returns the id of the client that requested the token.
    ///
    /// The claim is `azp`, `appid` in version 1 tokens, `client_id`, or `cid` from Okta.
    pub fn client_id(&self) -> Option<&str> {
        client_ids(&self.0.claims).next()
    }

    /// Returns the scopes that the user or an administrator granted to the client, in no order.
    ///
    /// The claim is `scp`, or `scope` from an OpenID provider that does not write `scp`. An
    /// application token of Microsoft Entra ID has no scopes.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        let scopes = self.0.claims.strings(self.0.scope_claim);
        scopes.flat_map(str::split_ascii_whitespace)
    }

    /// Returns the roles in the token (`roles`).
    ///
    /// In a user token the roles are app roles assigned to the user. In an application token the
    /// roles are permissions granted to the application. Use
    /// [`require_user_role`](Self::require_user_role) or
    /// [`require_application_role`](Self::require_application_role), which check the kind of token.
    pub fn roles(&self) -> impl Iterator<Item = &str> {
        self.0.claims.strings("roles")
    }

    /// Returns the identity that the token acts for.
    ///
    /// [`Holder`] has the evidence for each kind of authority. A rule of the API's author, set with
    /// [`TokenValidatorBuilder::holder`](super::TokenValidatorBuilder::holder), decides instead.
    pub fn holder(&self) -> Holder {
        self.0.holder
    }

    /// Returns whether the token acts for a user.
    pub fn is_user(&self) -> bool {
        self.holder() == Holder::User
    }

    /// Returns whether the token acts for an application without a user.
    pub fn is_application(&self) -> bool {
        self.holder() == Holder::Application
    }

    /// Returns the time at which the token expires.
    pub fn expires_on(&self) -> SystemTime {
        self.0.expires_on
    }

    /// Returns a claim by name, if the claim is a string.
    pub fn string(&self, name: &str) -> Option<&str> {
        self.0.claims.string(name)
    }

    /// Returns a claim by name, as JSON text.
    ///
    /// The first call of this method or of [`to_json`](Self::to_json) parses the claims as JSON.
    pub fn json(&self, name: &str) -> Option<String> {
        Some(self.json_claims().get(name)?.to_string())
    }

    /// Returns all claims as the text of a JSON object.
    ///
    /// The first call of this method or of [`json`](Self::json) parses the claims as JSON.
    pub fn to_json(&self) -> String {
        json!(self.json_claims()).to_string()
    }

    /// Returns the token, to call another API on behalf of the user.
    pub fn token(&self) -> &str {
        &self.0.token
    }

    pub(super) fn all(&self) -> &ClaimsSet {
        &self.0.claims
    }

    fn json_claims(&self) -> &Map<String, Value> {
        // The text was parsed before, so parsing cannot fail.
        let parse = || match &self.0.introspected {
            Some(active) => json_object(active.json.as_bytes()).unwrap_or_default(),
            None => SignedJwt::unverified_claims(&self.0.token).unwrap_or_default(),
        };
        self.0.json.get_or_init(parse)
    }

    pub(super) fn has_scope_claim(&self) -> bool {
        self.0.claims.get(self.0.scope_claim).is_some()
    }

    /// Sets the schemes of the API and the scheme of the request.
    pub(super) fn set_schemes(&mut self, schemes: &Arc<AcceptedSchemes>, used: TokenScheme) {
        Arc::make_mut(&mut self.0).schemes = Some((Arc::clone(schemes), used));
    }

    /// Decides the holder by the rule of the API's author.
    pub(super) fn decide_holder(&mut self, rule: &HolderRule) {
        let holder = rule(self);
        Arc::make_mut(&mut self.0).holder = holder;
    }
}

/// Returns the name of the claim that lists the scopes.
fn scope_claim(claims: &ClaimsSet, rules: Rules) -> &'static str {
    match rules {
        // Microsoft Entra ID writes `scp`. A claim named `scope` has another origin there.
        Rules::OpenId if claims.get("scp").is_none() => "scope",
        _ => "scp",
    }
}

impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claims")
            .field("holder", &self.holder())
            .field("client_id", &self.client_id())
            .field("tenant_id", &self.tenant_id())
            .field("object_id", &self.object_id())
            .field("scopes", &self.scopes().collect::<Vec<_>>())
            .field("roles", &self.roles().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
