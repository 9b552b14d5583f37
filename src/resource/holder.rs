use super::claim_values::CLIENT_IDS;
use crate::authority::Rules;
use crate::jwt::{ClaimValue, ClaimsSet};

/// The identity that a token acts for: a user, or an application without a user.
///
/// [`Claims::holder`](super::Claims::holder) returns the holder of a validated token. A token
/// without evidence has an unknown holder, and passes neither as a user's nor as an application's.
///
/// # Evidence
///
/// The claim `idtyp` decides if the token has the claim: `user`, `app`, or any other value for an
/// unknown holder. Without `idtyp` the claims of the authority's kind decide.
///
/// | Authority | User | Application |
/// | --- | --- | --- |
/// | Entra, External ID | `scp` | no `scp`, `sub` equals `oid`, and `azpacr` or `appidacr` is 1 or 2 |
/// | Azure AD B2C | `scp`, a user flow in `tfp` or `acr`, and a `sub` other than the client's id | no `scp`, and `sub` equals the client's id |
/// | AD FS | `scp`, and `upn`, `unique_name` or an `apptype` of `Public` | none |
/// | OpenID provider | `sub`, and an `auth_time` other than 0 or `amr` ([RFC 9068 section 2.2.1]) or Okta's `uid` and `cid` | `sub` equals the client's id ([RFC 9068 section 2.2]) |
///
/// The client's id is `azp`, `appid`, `client_id` or `cid`. Evidence for both makes the holder
/// unknown.
///
/// # Rules for other tokens
///
/// Many providers issue tokens without this evidence. The author of an API knows the provider, and
/// sets a rule with
/// [`TokenValidatorBuilder::holder`](super::TokenValidatorBuilder::holder). The rule receives the
/// validated claims, and its result is final.
///
/// | Provider | Tokens without evidence | Rule |
/// | --- | --- | --- |
/// | Auth0 | `gty` is `client-credentials`, or `sub` is `{client id}@clients` | [application](#auth0) |
/// | Auth0, npm's oidc-provider, Ory Hydra | users have only `sub` | [user](#providers-whose-applications-are-their-own-subject) |
/// | Keycloak | an application has a user named `service-account-{client id}`, and `client_id` | [application](#keycloak) |
/// | Keycloak 25 and later | users without `sub`, if the client lacks the scope `basic` | none: add the scope |
/// | AD FS | applications have no `sub`, and users may have no `upn` | [application](#ad-fs) |
///
/// ## Keycloak
///
/// ```
/// use confidential_client::resource::{Claims, Holder};
///
/// fn keycloak(token: &Claims) -> Holder {
///     // Keycloak adds `client_id` for applications alone. A user may choose such a name.
///     let client = token.string("client_id").unwrap_or_default();
///     match token.string("preferred_username") {
///         Some(name) if name == format!("service-account-{client}") => Holder::Application,
///         _ => token.holder(),
///     }
/// }
/// # let _ = keycloak;
/// ```
///
/// ## Auth0
///
/// ```
/// use confidential_client::resource::{Claims, Holder};
///
/// fn auth0(token: &Claims) -> Holder {
///     let client = token.client_id().unwrap_or_default();
///     match token.subject() {
///         Some(subject) if subject == format!("{client}@clients") => Holder::Application,
///         Some(_) => Holder::User,
///         None => Holder::Unknown,
///     }
/// }
/// # let _ = auth0;
/// ```
///
/// ## Providers whose applications are their own subject
///
/// ```
/// use confidential_client::resource::{Claims, Holder};
///
/// fn oidc_provider(token: &Claims) -> Holder {
///     match token.holder() {
///         // Only if every application token of the provider has the client's id as `sub`.
///         Holder::Unknown if token.subject().is_some() => Holder::User,
///         holder => holder,
///     }
/// }
/// # let _ = oidc_provider;
/// ```
///
/// ## AD FS
///
/// ```
/// use confidential_client::resource::{Claims, Holder};
///
/// fn ad_fs(token: &Claims) -> Holder {
///     match token.client_id() {
///         // The clients of this API that are daemons and sign no users in.
///         Some("0a1b2c3d-0000-4000-8000-000000000001") => Holder::Application,
///         _ => token.holder(),
///     }
/// }
/// # let _ = ad_fs;
/// ```
///
/// [RFC 9068 section 2.2]: https://www.rfc-editor.org/rfc/rfc9068#section-2.2
/// [RFC 9068 section 2.2.1]: https://www.rfc-editor.org/rfc/rfc9068#section-2.2.1
#[doc(alias("idtyp", "gty", "service account"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Holder {
    /// A user. The client acts on behalf of the user.
    User,
    /// An application that acts without a user.
    Application,
    /// An identity that the claims do not tell, or another kind such as a device.
    Unknown,
}

impl Holder {
    /// Decides the holder by evidence in the claims. Returns `Unknown` for contradictions.
    pub(super) fn by_evidence(claims: &ClaimsSet, rules: Rules) -> Self {
        if let Some(kind) = claims.get("idtyp") {
            return match kind.as_str() {
                Some("user") => Self::User,
                Some("app") => Self::Application,
                _ => Self::Unknown,
            };
        }
        let evidence = match rules {
            Rules::Entra => entra(claims),
            Rules::B2c => b2c(claims),
            Rules::Adfs => ad_fs(claims),
            Rules::OpenId => openid(claims),
        };
        match evidence {
            Evidence {
                user: true,
                application: false,
            } => Self::User,
            Evidence {
                user: false,
                application: true,
            } => Self::Application,
            _ => Self::Unknown,
        }
    }
}

/// The evidence in a token for each kind of holder.
struct Evidence {
    user: bool,
    application: bool,
}

fn entra(claims: &ClaimsSet) -> Evidence {
    let authenticated = ["azpacr", "appidacr"]
        .into_iter()
        .filter_map(|name| text(claims, name))
        // A client without a credential, which is 0, has no tokens of its own.
        .any(|method| matches!(method, "1" | "2"));
    let object = text(claims, "oid");
    Evidence {
        user: has_scope(claims),
        application: claims.get("scp").is_none()
            && authenticated
            && object.is_some()
            && object == text(claims, "sub"),
    }
}

fn b2c(claims: &ClaimsSet) -> Evidence {
    let user_flow = ["tfp", "acr"]
        .iter()
        .any(|name| text(claims, name).is_some());
    let is_client = subject_is_client(claims);
    Evidence {
        user: has_scope(claims) && user_flow && text(claims, "sub").is_some() && !is_client,
        application: claims.get("scp").is_none() && is_client,
    }
}

fn ad_fs(claims: &ClaimsSet) -> Evidence {
    let has_name = ["upn", "unique_name"]
        .iter()
        .any(|name| claims.strings(name).any(|name| !name.is_empty()));
    let is_public_client = text(claims, "apptype") == Some("Public");
    Evidence {
        user: has_scope(claims) && (has_name || is_public_client),
        application: false,
    }
}

fn openid(claims: &ClaimsSet) -> Evidence {
    let is_client = subject_is_client(claims);
    // An older Keycloak writes the time 0 into the tokens of applications.
    let time = claims.get("auth_time").and_then(ClaimValue::as_f64);
    let authenticated = time.is_some_and(|time| time > 0.0)
        || claims.strings("amr").any(|method| !method.is_empty())
        // Okta names the client in a claim of its own. Elsewhere a service may have a `uid`.
        || (text(claims, "uid").is_some() && text(claims, "cid").is_some());
    Evidence {
        user: text(claims, "sub").is_some() && authenticated,
        application: is_client,
    }
}

/// Returns whether `sub` is the id of the client ([RFC 9068 section 2.2]).
///
/// [RFC 9068 section 2.2]: https://www.rfc-editor.org/rfc/rfc9068#section-2.2
fn subject_is_client(claims: &ClaimsSet) -> bool {
    let Some(subject) = text(claims, "sub") else {
        return false;
    };
    let mut clients = CLIENT_IDS
        .into_iter()
        .filter_map(|name| claims.get(name))
        .peekable();
    // An id that is no text is another client's.
    clients.peek().is_some() && clients.all(|client| client.as_str() == Some(subject))
}

fn has_scope(claims: &ClaimsSet) -> bool {
    claims
        .strings("scp")
        .any(|scopes| !scopes.trim().is_empty())
}

/// Returns a claim that is a string with characters.
fn text<'a>(claims: &'a ClaimsSet, name: &str) -> Option<&'a str> {
    claims.string(name).filter(|text| !text.is_empty())
}
