use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use serde_json::{Map, Value, json};

use super::access_denied::UserNotAllowed;
use super::rejection::{RejectionReason, TokenRejection};
use crate::authority::Rules;
use crate::jwt::{self, IssuerKeys, JwtError};

/// What a token says that was checked: who sent it, for whom, and what its client was granted.
///
/// Cheap to clone. `Debug` shows who and what, and neither the token nor anything else in it.
#[derive(Clone)]
pub struct Claims(Arc<Parts>);

struct Parts {
    all: Map<String, Value>,
    /// The claim that lists the scopes.
    scopes: &'static str,
    principal: Principal,
    expires_on: SystemTime,
    authorization_uri: Option<Arc<str>>,
    token: Box<str>,
}

/// In whose name a client acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Principal {
    User,
    Application,
    /// That of a device, or nobody can tell: it passes for neither.
    Unknown,
}

impl Claims {
    pub(super) fn new(
        all: Map<String, Value>,
        token: &str,
        rules: Rules,
        keys: &IssuerKeys,
    ) -> Result<Self, JwtError> {
        let scopes = match rules {
            // Theirs is `scp`, and another may be anybody's.
            Rules::OpenId if !all.contains_key("scp") => "scope",
            _ => "scp",
        };
        Ok(Self(Arc::new(Parts {
            principal: principal(&all, scopes, rules),
            scopes,
            expires_on: jwt::time_claim(&all, "exp")?.ok_or(JwtError::Claim("exp"))?,
            authorization_uri: keys.authorization_endpoint.clone(),
            token: token.into(),
            all,
        })))
    }

    /// The tenant whose token it is (`tid`), a GUID.
    pub fn tenant_id(&self) -> Option<&str> {
        self.string("tid")
    }

    /// The user or, in an application's own token, its service principal, by the directory's id
    /// (`oid`): the same for every API, and what to store. With [`tenant_id`](Self::tenant_id) it is
    /// unique.
    pub fn object_id(&self) -> Option<&str> {
        self.string("oid")
    }

    /// Whom the token is about (`sub`). Microsoft Entra ID calls the same user otherwise at each
    /// API.
    pub fn subject(&self) -> Option<&str> {
        self.string("sub")
    }

    /// The client that was issued the token: `azp`, `appid` in version 1, `client_id`, or Okta's `cid`.
    pub fn client_id(&self) -> Option<&str> {
        client_id(&self.0.all)
    }

    /// What the user, or an administrator, granted the client: `scp`, or `scope` of an OpenID
    /// provider that has no `scp`. In no order; none in an application's own token.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        let claim = self.0.all.get(self.0.scopes);
        texts(claim).flat_map(str::split_ascii_whitespace)
    }

    /// What was granted to the application, or to the user within the application that the API is
    /// (`roles`); [`is_application`](Self::is_application) tells which.
    pub fn roles(&self) -> impl Iterator<Item = &str> {
        texts(self.0.all.get("roles"))
    }

    /// Whether the client acts for a user.
    pub fn is_user(&self) -> bool {
        self.0.principal == Principal::User
    }

    /// Whether the client acts for itself, without a user.
    ///
    /// `idtyp` says so, where the API asks for that optional claim. Elsewhere a token with `scp` is a
    /// user's, and one without it an application's if its `sub` is the application too: its `oid`,
    /// or its client id; or if it has no `sub`, as AD FS's. A token of which neither can be said is
    /// taken for neither.
    ///
    /// An OpenID provider gives scopes to applications, too: there a token with scopes is an
    /// application's if its `sub` is the client ([RFC 9068 section 2.2]), and a user's otherwise. One
    /// that makes up a user for each application, as Keycloak does, is not seen through: ask such a
    /// token for what only a user's has.
    ///
    /// [RFC 9068 section 2.2]: https://www.rfc-editor.org/rfc/rfc9068#section-2.2
    pub fn is_application(&self) -> bool {
        self.0.principal == Principal::Application
    }

    /// When the token ends.
    pub fn expires_on(&self) -> SystemTime {
        self.0.expires_on
    }

    /// Any claim that is text.
    pub fn string(&self, name: &str) -> Option<&str> {
        self.0.all.get(name)?.as_str()
    }

    /// Any claim, as JSON.
    pub fn json(&self, name: &str) -> Option<String> {
        Some(self.0.all.get(name)?.to_string())
    }

    /// All of them, as a JSON object.
    pub fn to_json(&self) -> String {
        json!(self.0.all).to_string()
    }

    /// The token itself, to call the next API on behalf of its user.
    pub fn token(&self) -> &str {
        &self.0.token
    }

    /// Lets through a client that acts for a user and was granted `scope`, such as `Files.Read`;
    /// never an application's own token. Whether *this* user may is the other question:
    /// [`authorize_user`](Self::authorize_user).
    ///
    /// # Errors
    ///
    /// 403 with `insufficient_scope` and the scope.
    pub fn require_scope(&self, scope: &str) -> Result<(), TokenRejection> {
        self.require_any(&[scope], &[])
    }

    /// Lets through an application that acts for itself and was granted `role`, such as
    /// `Files.Read.All`; never a user's token, even where the user has a role of that name.
    ///
    /// # Errors
    ///
    /// 403 with `insufficient_scope`.
    pub fn require_application_role(&self, role: &str) -> Result<(), TokenRejection> {
        self.require_any(&[], &[role])
    }

    /// Lets through a client that acts for a user and was granted any of `scopes`, or an application
    /// that acts for itself and was granted any of `roles`.
    ///
    /// # Errors
    ///
    /// 403 with `insufficient_scope` and the scopes.
    pub fn require_any(&self, scopes: &[&str], roles: &[&str]) -> Result<(), TokenRejection> {
        let refused = |reason, message| Err(TokenRejection::insufficient(reason, message, scopes));
        match self.0.principal {
            Principal::User if !scopes.is_empty() => {
                if self.scopes().any(|granted| scopes.contains(&granted)) {
                    return Ok(());
                }
                refused(
                    RejectionReason::MissingScope,
                    format!("the client was not granted {}", any_of("scope", scopes)),
                )
            }
            Principal::Application if !roles.is_empty() => {
                if self.roles().any(|granted| roles.contains(&granted)) {
                    return Ok(());
                }
                refused(
                    RejectionReason::MissingRole,
                    format!("the application was not granted {}", any_of("role", roles)),
                )
            }
            _ if scopes.is_empty() => refused(
                RejectionReason::NeedsApplication,
                format!(
                    "this takes an application's own token with {}",
                    any_of("role", roles)
                ),
            ),
            _ => refused(
                RejectionReason::NeedsUser,
                format!("this takes a user's token with {}", any_of("scope", scopes)),
            ),
        }
    }

    /// Lets through a user who has met the authentication context `id`, such as `c1`: a second
    /// factor just now, or whatever Conditional Access says of it.
    ///
    /// # Errors
    ///
    /// A claims challenge: 401 with `insufficient_claims`. A client that declares the capability
    /// `cp1` answers it with a token that has met it, after its user has.
    pub fn require_authentication_context(&self, id: &str) -> Result<(), TokenRejection> {
        if texts(self.0.all.get("acrs")).any(|met| met == id) {
            return Ok(());
        }
        let acrs = json!({ "essential": true, "value": id });
        Err(TokenRejection::challenge(
            format!("the token does not say that its user met the authentication context '{id}'"),
            json!({ "access_token": { "acrs": acrs } }).to_string(),
            self.0.authorization_uri.clone(),
        ))
    }

    /// Asks the application whether this user may: it owns the file, has the role, is on the list.
    /// Call it behind [`require_scope`](Self::require_scope): what a client was granted says nothing
    /// of what its user may, nor the other way round. What takes an `.await` is asked before, and
    /// its answer given here.
    ///
    /// # Errors
    ///
    /// If `is_allowed` says no, or there is no user: 403, which is not about the token, and no
    /// [`TokenRejection`].
    pub fn authorize_user(
        &self,
        is_allowed: impl FnOnce(&Self) -> bool,
    ) -> Result<(), UserNotAllowed> {
        match self.is_user() && is_allowed(self) {
            true => Ok(()),
            false => Err(UserNotAllowed::new(self.is_user())),
        }
    }

    /// Whether they are what an access token has, for one that does not say so in its header. An ID
    /// token has neither scopes nor, without a nonce or a hash, the client it was issued to.
    pub(super) fn are_of_an_access_token(&self) -> bool {
        let has = |name: &str| self.0.all.contains_key(name);
        if has("at_hash") || has("c_hash") || self.string("typ") == Some("ID") {
            return false;
        }
        has(self.0.scopes) || (self.client_id().is_some() && !has("nonce"))
    }
}

fn principal(claims: &Map<String, Value>, scopes: &str, rules: Rules) -> Principal {
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    let subject = text("sub");
    let is_client = || subject.is_none() || subject == client_id(claims);
    let is_application = || match text("oid") {
        Some(object) => subject == Some(object),
        None => is_client(),
    };
    match (claims.get("idtyp"), claims.contains_key(scopes)) {
        (Some(kind), _) if kind == "app" => Principal::Application,
        (Some(kind), _) if kind == "user" => Principal::User,
        (Some(_), _) => Principal::Unknown,
        // Elsewhere an application's own token has scopes as well; Auth0 says so by `gty`.
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

/// A claim that is a text, or several.
fn texts(claim: Option<&Value>) -> impl Iterator<Item = &str> {
    let (one, several) = match claim {
        Some(Value::String(text)) => (Some(text.as_str()), None),
        Some(Value::Array(texts)) => (None, Some(texts)),
        _ => (None, None),
    };
    let several = several.into_iter().flatten().filter_map(Value::as_str);
    one.into_iter().chain(several)
}

fn any_of(what: &str, names: &[&str]) -> String {
    match names {
        [name] => format!("the {what} '{name}'"),
        names => format!("any of the {what}s '{}'", names.join("', '")),
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
