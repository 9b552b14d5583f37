use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use serde_json::{Map, Value, json};

use super::access_denied::UserNotAllowed;
use super::claim_values::client_ids;
use super::confirmation::AcceptedSchemes;
use super::holder::Holder;
use super::rejection::{RejectionReason, TokenRejection};
use super::rejection_log::RejectionLog;
use crate::authority::Rules;
use crate::error::Error;
use crate::jwt::{self, ClaimsSet, IssuerKeys, JwtError, SignedJwt, is_guid};
use crate::response::{ActiveToken, json_object};
use crate::token::TokenScheme;

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

    /// Requires a client that acts for a user and was granted `scope`, such as `Files.Read`.
    ///
    /// An application token never passes. The scope says nothing about the rights of the user. Call
    /// [`authorize_user`](Self::authorize_user) or [`require_user_role`](Self::require_user_role)
    /// for the user.
    ///
    /// # Errors
    ///
    /// Returns a 403 rejection with `insufficient_scope` and the scope.
    #[doc(alias("RequiredScope", "VerifyUserHasAnyAcceptedScope"))]
    pub fn require_scope(&self, scope: &str) -> Result<(), TokenRejection> {
        self.require_any(&[scope], &[])
    }

    /// Requires an application that acts without a user and was granted `role`, such as
    /// `Files.Read.All`.
    ///
    /// A user token never passes, even if the user has a role of that name.
    ///
    /// # Errors
    ///
    /// Returns a 403 rejection with `insufficient_scope`.
    #[doc(alias("RequiredScopeOrAppPermission", "ValidateAppRole"))]
    pub fn require_application_role(&self, role: &str) -> Result<(), TokenRejection> {
        self.require_any(&[], &[role])
    }

    /// Requires a user who has the app role `role`, such as `Editor`.
    ///
    /// App roles are defined in the API's registration and assigned to users or groups there. An
    /// application token never passes, even if the application has a role of that name. The role
    /// says nothing about the permissions of the client. Call
    /// [`require_scope`](Self::require_scope) first.
    ///
    /// ```
    /// use confidential_client::resource::{AccessDenied, Claims};
    ///
    /// fn may_edit(token: &Claims) -> Result<(), AccessDenied> {
    ///     token.require_scope("Files.ReadWrite")?; // The client was granted the scope.
    ///     token.require_user_role("Editor")?; // The user has the role.
    ///     Ok(())
    /// }
    /// # let _ = may_edit;
    /// ```
    ///
    /// # Errors
    ///
    /// Returns [`UserNotAllowed`], a 403 without a challenge, because another token does not help.
    #[doc(alias("IsInRole", "RequireRole", "require_role"))]
    pub fn require_user_role(&self, role: &str) -> Result<(), UserNotAllowed> {
        if !self.is_user() {
            return Err(self.denied(UserNotAllowed::no_user()));
        }
        match self.roles().any(|assigned| assigned == role) {
            true => Ok(()),
            false => Err(self.denied(UserNotAllowed::missing_role(role))),
        }
    }

    /// Requires one of `scopes` from a user token, or one of `roles` from an application token.
    ///
    /// A user token passes with a scope only, and an application token with a role only. An empty
    /// list rejects every token of that kind.
    ///
    /// # Errors
    ///
    /// Returns a 403 rejection with `insufficient_scope` and the scopes.
    pub fn require_any(&self, scopes: &[&str], roles: &[&str]) -> Result<(), TokenRejection> {
        let rejected = |reason, message| {
            let detail = self.description();
            let rejection = TokenRejection::insufficient(reason, message, detail, scopes);
            Err(self.rejected(rejection))
        };
        match self.holder() {
            Holder::User if !scopes.is_empty() => {
                if self.scopes().any(|granted| scopes.contains(&granted)) {
                    return Ok(());
                }
                rejected(
                    RejectionReason::MissingScope,
                    format!("the client was not granted {}", any_of("scope", scopes)),
                )
            }
            Holder::Application if !roles.is_empty() => {
                if self.roles().any(|granted| roles.contains(&granted)) {
                    return Ok(());
                }
                rejected(
                    RejectionReason::MissingRole,
                    format!("the application was not granted {}", any_of("role", roles)),
                )
            }
            _ if scopes.is_empty() => rejected(
                RejectionReason::NeedsApplication,
                format!(
                    "this operation requires an application token with {}",
                    any_of("role", roles)
                ),
            ),
            _ => rejected(
                RejectionReason::NeedsUser,
                format!(
                    "this operation requires a user token with {}",
                    any_of("scope", scopes)
                ),
            ),
        }
    }

    /// Requires a user who has met the authentication context `id`, such as `c1`.
    ///
    /// A Conditional Access policy defines the context, for example a second factor.
    ///
    /// A client answers a claims challenge only if the client declares the capability `cp1`. Entra
    /// writes the client's capabilities into the optional claim `xms_cc`. Request that claim in the
    /// API's registration, because without `xms_cc` no client gets a challenge.
    ///
    /// # Errors
    ///
    /// - A claims challenge for a client with the capability `cp1`. The response is a 401 with
    ///   `insufficient_claims`. The client requests a token with the challenge's claims, and the
    ///   identity provider issues such a token after the user has met the context.
    /// - A 403 without a claims challenge for every other client.
    /// - A 403 with `insufficient_scope` for a token that does not act for a user.
    #[doc(alias("acrs", "step_up", "xms_cc"))]
    pub fn require_authentication_context(&self, id: &str) -> Result<(), TokenRejection> {
        if !self.is_user() {
            return Err(self.rejected(TokenRejection::insufficient(
                RejectionReason::NeedsUser,
                format!(
                    "this operation requires a user token with the authentication context '{id}'"
                ),
                self.description(),
                &[],
            )));
        }
        let met = || self.0.claims.strings("acrs");
        if met().any(|met| met == id) {
            return Ok(());
        }
        let acrs = json!({ "essential": true, "value": id });
        let claims = json!({ "access_token": { "acrs": acrs } }).to_string();
        let has_capability = self.answers_challenges();
        let message =
            format!("the token does not show that the user met the authentication context '{id}'");
        let message = match has_capability {
            true => message,
            false => format!(
                "{message}, and the client does not declare that it can answer a claims challenge (cp1)"
            ),
        };
        let detail = format!(
            "the token's contexts (acrs) are {}, and the client's capabilities (xms_cc, an optional claim that the API's registration requests) are {}; {}",
            jwt::listed(met()),
            jwt::listed(self.capabilities()),
            self.description(),
        );
        Err(self.rejected(TokenRejection::needs_authentication_context(
            message,
            detail,
            has_capability.then_some(claims),
            self.0.authorization_uri.clone(),
        )))
    }

    /// Creates the claims challenge that hands an error of an on-behalf-of call on to the client.
    ///
    /// An API that calls another API for the user cannot show the user a page. If the identity
    /// provider demands another factor, [`Error::claims_challenge`] has the claims. The challenge
    /// is a 401 response with these claims and `insufficient_claims`. The client requests a token
    /// with the claims and calls this API again. The response contains neither the provider's text
    /// nor its ids. [`TokenRejection::chain`] has the provider's error.
    ///
    /// The capability `cp1` is not required, because no other response helps a client.
    ///
    /// Returns `None` if the error has no claims, or claims that are not a JSON object of at most
    /// 6 KB. If [`Error::needs_user_interaction`] is true then, for example because the user did
    /// not consent, no challenge helps the client. Respond 403, and let the user or an
    /// administrator consent in the client's own sign-in.
    ///
    /// ```
    /// use confidential_client::delegated::UserAssertion;
    /// use confidential_client::resource::{Claims, TokenRejection};
    /// use confidential_client::{AccessToken, ConfidentialClient, Error};
    ///
    /// enum Failed {
    ///     Rejected(TokenRejection), // The response is the claims challenge.
    ///     Unavailable(Error),
    /// }
    ///
    /// async fn mail(client: &ConfidentialClient, token: &Claims) -> Result<AccessToken, Failed> {
    ///     let user = UserAssertion::new(token.token());
    ///     let scope = "https://graph.microsoft.com/Mail.Read";
    ///     let outcome = client.acquire_token_on_behalf_of(&user, scope).await;
    ///     outcome.map_err(|error| match token.challenge_from(&error) {
    ///         Some(challenge) => Failed::Rejected(challenge),
    ///         None => Failed::Unavailable(error),
    ///     })
    /// }
    /// # let _ = mail;
    /// ```
    #[doc(alias("ReplyForbiddenWithWwwAuthenticateHeader", "claims_challenge"))]
    pub fn challenge_from(&self, error: &Error) -> Option<TokenRejection> {
        let challenge = TokenRejection::needs_claims(error, self.0.authorization_uri.clone())?;
        Some(self.rejected(challenge))
    }

    /// Requires a user that `is_allowed` accepts, such as the owner of a file.
    ///
    /// Call [`require_scope`](Self::require_scope) first, because the rights of the user say
    /// nothing about the permissions of the client. The closure is synchronous. Load the data for
    /// the decision before the call.
    ///
    /// # Errors
    ///
    /// Returns [`UserNotAllowed`] if `is_allowed` returns `false`, or if the token does not act for
    /// a user. The response is a 403 without a challenge, because another token does not help.
    pub fn authorize_user(
        &self,
        is_allowed: impl FnOnce(&Self) -> bool,
    ) -> Result<(), UserNotAllowed> {
        if !self.is_user() {
            return Err(self.denied(UserNotAllowed::no_user()));
        }
        match is_allowed(self) {
            true => Ok(()),
            false => Err(self.denied(UserNotAllowed::not_allowed())),
        }
    }

    /// Returns the capabilities that the client declares (`xms_cc`), such as `cp1`.
    fn capabilities(&self) -> impl Iterator<Item = &str> {
        let names = self.0.claims.strings("xms_cc");
        let names = names.flat_map(|names| names.split([' ', ',']));
        names.filter(|name| !name.is_empty())
    }

    fn answers_challenges(&self) -> bool {
        self.capabilities()
            .any(|name| name.eq_ignore_ascii_case("cp1"))
    }

    /// Describes the token for the operator, without claims that name a person.
    fn description(&self) -> String {
        let id = |id: Option<&str>| jwt::listed(id.filter(|id| is_guid(id)));
        format!(
            "the holder is {:?}, the client is {}, the tenant is {}, the object id is {}, the scopes are {}, and the roles are {}",
            self.holder(),
            jwt::listed(self.client_id()),
            id(self.tenant_id()),
            id(self.object_id()),
            jwt::listed(self.scopes()),
            jwt::listed(self.roles()),
        )
    }

    fn rejected(&self, rejection: TokenRejection) -> TokenRejection {
        let rejection = match &self.0.schemes {
            Some((schemes, used)) => rejection.with_schemes(schemes, *used, None),
            None => rejection,
        };
        self.0.log.token(&rejection);
        rejection
    }

    fn denied(&self, denial: UserNotAllowed) -> UserNotAllowed {
        self.0.log.user(&denial, &self.description());
        denial
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

fn any_of(noun: &str, names: &[&str]) -> String {
    match names {
        [name] => format!("the {noun} '{name}'"),
        names => format!("any of the {noun}s '{}'", names.join("', '")),
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
