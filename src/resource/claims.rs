use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use serde_json::{Map, Value, json};

use super::access_denied::UserNotAllowed;
use super::rejection::{RejectionReason, TokenRejection};
use crate::authority::Rules;
use crate::jwt::{self, IssuerKeys, JwtError};

/// The claims of a validated token, with the client, the user and their permissions.
///
/// Clones are cheap. `Debug` shows the ids, the scopes and the roles, and hides the token and every
/// other claim.
#[doc(alias("ClaimsPrincipal", "TokenData", "app_permission"))]
#[derive(Clone)]
pub struct Claims(Arc<ValidatedToken>);

struct ValidatedToken {
    claims: Map<String, Value>,
    /// The name of the claim that lists the scopes.
    scope_claim: &'static str,
    principal: Principal,
    expires_on: SystemTime,
    authorization_uri: Option<Arc<str>>,
    token: Box<str>,
}

/// The identity that a client acts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Principal {
    User,
    Application,
    /// A device, or an identity that the claims do not tell. Passes neither check.
    Unknown,
}

impl Claims {
    pub(super) fn new(
        claims: Map<String, Value>,
        token: &str,
        rules: Rules,
        keys: &IssuerKeys,
    ) -> Result<Self, JwtError> {
        let scope_claim = match rules {
            // Microsoft Entra ID writes `scp`. A claim named `scope` has another origin there.
            Rules::OpenId if !claims.contains_key("scp") => "scope",
            _ => "scp",
        };
        Ok(Self(Arc::new(ValidatedToken {
            principal: principal(&claims, scope_claim, rules),
            scope_claim,
            expires_on: jwt::time_claim(&claims, "exp")?.ok_or(JwtError::Claim("exp"))?,
            authorization_uri: keys.authorization_endpoint.clone(),
            token: token.into(),
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
        client_id(&self.0.claims)
    }

    /// Returns the scopes that the user or an administrator granted to the client, in no order.
    ///
    /// The claim is `scp`, or `scope` from an OpenID provider that does not write `scp`. An
    /// application token of Microsoft Entra ID has no scopes.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        let claim = self.0.claims.get(self.0.scope_claim);
        texts(claim).flat_map(str::split_ascii_whitespace)
    }

    /// Returns the roles in the token (`roles`).
    ///
    /// In a user token the roles are app roles assigned to the user. In an application token the
    /// roles are permissions granted to the application. Use
    /// [`require_user_role`](Self::require_user_role) or
    /// [`require_application_role`](Self::require_application_role), which check the kind of token.
    pub fn roles(&self) -> impl Iterator<Item = &str> {
        texts(self.0.claims.get("roles"))
    }

    /// Returns whether the client acts for a user.
    ///
    /// [`is_application`](Self::is_application) has the rules.
    pub fn is_user(&self) -> bool {
        self.0.principal == Principal::User
    }

    /// Returns whether the client acts for an application, without a user.
    ///
    /// The optional claim `idtyp` decides, if the API's registration requests that claim. Otherwise
    /// the rules for Microsoft Entra ID and AD FS are:
    ///
    /// - A token with `scp` is a user token.
    /// - A token without `scp` is an application token if `sub` equals `oid`. If there is no
    ///   `oid`, `sub` must equal the client id or be absent, as in tokens of AD FS.
    /// - Any other token is neither. This method and [`is_user`](Self::is_user) return `false`.
    ///
    /// Other OpenID providers grant scopes to applications, too. A token with scopes is an
    /// application token in these cases, and otherwise a user token:
    ///
    /// - `sub` equals the client id ([RFC 9068 section 2.2]) or is absent.
    /// - `gty` is `client-credentials`, as in tokens of Auth0.
    ///
    /// Keycloak creates a user for each application, and such a token counts as a user token. For
    /// Keycloak, check a claim that only real users have.
    ///
    /// [RFC 9068 section 2.2]: https://www.rfc-editor.org/rfc/rfc9068#section-2.2
    pub fn is_application(&self) -> bool {
        self.0.principal == Principal::Application
    }

    /// Returns the time at which the token expires.
    pub fn expires_on(&self) -> SystemTime {
        self.0.expires_on
    }

    /// Returns a claim by name, if the claim is a string.
    pub fn string(&self, name: &str) -> Option<&str> {
        self.0.claims.get(name)?.as_str()
    }

    /// Returns a claim by name, as JSON text.
    pub fn json(&self, name: &str) -> Option<String> {
        Some(self.0.claims.get(name)?.to_string())
    }

    /// Returns all claims as the text of a JSON object.
    pub fn to_json(&self) -> String {
        json!(self.0.claims).to_string()
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
            return Err(UserNotAllowed::no_user());
        }
        match self.roles().any(|assigned| assigned == role) {
            true => Ok(()),
            false => Err(UserNotAllowed::missing_role(role)),
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
        let rejected = |reason, message| Err(TokenRejection::insufficient(reason, message, scopes));
        match self.0.principal {
            Principal::User if !scopes.is_empty() => {
                if self.scopes().any(|granted| scopes.contains(&granted)) {
                    return Ok(());
                }
                rejected(
                    RejectionReason::MissingScope,
                    format!("the client was not granted {}", any_of("scope", scopes)),
                )
            }
            Principal::Application if !roles.is_empty() => {
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
    /// # Errors
    ///
    /// Returns a claims challenge, a 401 rejection with `insufficient_claims`. A client that
    /// declares the capability `cp1` requests a token with the challenge's claims. The identity
    /// provider issues such a token after the user has met the context.
    #[doc(alias("acrs", "step_up"))]
    pub fn require_authentication_context(&self, id: &str) -> Result<(), TokenRejection> {
        if texts(self.0.claims.get("acrs")).any(|met| met == id) {
            return Ok(());
        }
        let acrs = json!({ "essential": true, "value": id });
        Err(TokenRejection::challenge(
            format!("the token does not show that the user met the authentication context '{id}'"),
            json!({ "access_token": { "acrs": acrs } }).to_string(),
            self.0.authorization_uri.clone(),
        ))
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
            return Err(UserNotAllowed::no_user());
        }
        match is_allowed(self) {
            true => Ok(()),
            false => Err(UserNotAllowed::not_allowed()),
        }
    }

    /// Returns whether the claims identify an access token. Needed if the header does not.
    ///
    /// An ID token has no scopes, and has a client id only together with a nonce or a hash.
    pub(super) fn identify_access_token(&self) -> bool {
        let has = |name: &str| self.0.claims.contains_key(name);
        if has("at_hash") || has("c_hash") || self.string("typ") == Some("ID") {
            return false;
        }
        has(self.0.scope_claim) || (self.client_id().is_some() && !has("nonce"))
    }
}

fn principal(claims: &Map<String, Value>, scope_claim: &str, rules: Rules) -> Principal {
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    let subject = text("sub");
    let is_client = || subject.is_none() || subject == client_id(claims);
    let is_application = || match text("oid") {
        Some(object) => subject == Some(object),
        None => is_client(),
    };
    match (claims.get("idtyp"), claims.contains_key(scope_claim)) {
        (Some(kind), _) if kind == "app" => Principal::Application,
        (Some(kind), _) if kind == "user" => Principal::User,
        (Some(_), _) => Principal::Unknown,
        // Other providers grant scopes to applications. Auth0 marks such tokens with `gty`.
        (None, true) if rules == Rules::OpenId && (is_client() || has_no_user(claims)) => {
            Principal::Application
        }
        (None, true) => Principal::User,
        (None, false) if is_application() => Principal::Application,
        (None, false) => Principal::Unknown,
    }
}

fn has_no_user(claims: &Map<String, Value>) -> bool {
    claims
        .get("gty")
        .is_some_and(|grant| grant == "client-credentials")
}

fn client_id(claims: &Map<String, Value>) -> Option<&str> {
    let mut names = ["azp", "appid", "client_id", "cid"].into_iter();
    names.find_map(|name| claims.get(name)?.as_str())
}

/// Returns the strings of a claim that is a string or a list.
fn texts(claim: Option<&Value>) -> impl Iterator<Item = &str> {
    let (text, list) = match claim {
        Some(Value::String(text)) => (Some(text.as_str()), None),
        Some(Value::Array(list)) => (None, Some(list)),
        _ => (None, None),
    };
    let list = list.into_iter().flatten().filter_map(Value::as_str);
    text.into_iter().chain(list)
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
            .field("principal", &self.0.principal)
            .field("client_id", &self.client_id())
            .field("tenant_id", &self.tenant_id())
            .field("object_id", &self.object_id())
            .field("scopes", &self.scopes().collect::<Vec<_>>())
            .field("roles", &self.roles().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
