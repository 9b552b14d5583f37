#![warn(clippy::arithmetic_side_effects, reason = "it parses untrusted input")]

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use serde_json::{Map, Value};

use crate::jwt::time_claim;

/// The claims of a validated ID token ([OpenID Connect Core section 2]).
///
/// Returned by [`AuthenticationResult::claims`](super::AuthenticationResult::claims). Cheap to
/// clone. `Debug` shows the names of the claims and no values.
///
/// A claim of another type than the standard's counts as absent, because a provider may give a name
/// another meaning. A list may be written as one string, and `email_verified` as a string.
///
/// # Claims and access decisions
///
/// An application that stores data for a user finds the data by [`subject`](Self::subject) with
/// [`issuer`](Self::issuer), or at Microsoft Entra ID by [`object_id`](Self::object_id) with
/// [`tenant_id`](Self::tenant_id). The names and the email address can change, and can belong to
/// another user later. **Never use** [`name`](Self::name),
/// [`preferred_username`](Self::preferred_username), [`email`](Self::email) or
/// [`login_hint`](Self::login_hint) for authorization.
///
/// ```
/// use confidential_client::delegated::AuthenticationResult;
///
/// /// Returns the key of the user's data.
/// fn key_of(signed_in: &AuthenticationResult) -> (String, String) {
///     let claims = signed_in.claims();
///     let issuer = claims.issuer().unwrap_or_default();
///     (issuer.to_owned(), claims.subject().to_owned())
/// }
/// # let _ = key_of;
/// ```
///
/// [OpenID Connect Core section 2]: https://openid.net/specs/openid-connect-core-1_0.html#IDToken
#[doc(alias = "ClaimsPrincipal")]
#[doc(alias = "id_token_claims")]
#[derive(Clone)]
pub struct IdTokenClaims(Arc<Map<String, Value>>);

impl IdTokenClaims {
    pub(crate) fn new(claims: Map<String, Value>) -> Self {
        Self(Arc::new(claims))
    }

    /// Returns the identity provider that issued the ID token (`iss`).
    pub fn issuer(&self) -> Option<&str> {
        self.text("iss")
    }

    /// Returns the user's ID at the issuer (`sub`), which never belongs to another user.
    ///
    /// At Microsoft Entra ID the subject differs for each application.
    #[doc(alias = "UniqueId")]
    pub fn subject(&self) -> &str {
        // The sign-in rejects an ID token without a subject.
        self.text("sub").unwrap_or_default()
    }

    /// Returns the applications that the ID token is for (`aud`).
    pub fn audiences(&self) -> impl Iterator<Item = &str> {
        self.list("aud")
    }

    /// Returns the time of the issue (`iat`).
    pub fn issued_at(&self) -> Option<SystemTime> {
        self.time("iat")
    }

    /// Returns the expiry of the ID token (`exp`).
    ///
    /// The expiry limits the use of the ID token as evidence of a sign-in. The session of the
    /// application may be longer or shorter.
    pub fn expires_on(&self) -> Option<SystemTime> {
        self.time("exp")
    }

    /// Returns the user's ID in the tenant (`oid`), for Microsoft Entra ID alone. The ID is the
    /// same for all applications of the tenant.
    ///
    /// Users of other providers may edit a claim of this name.
    #[doc(alias = "oid")]
    #[doc(alias = "LocalAccountId")]
    pub fn object_id(&self) -> Option<&str> {
        self.text("oid")
    }

    /// Returns the ID of the tenant of the sign-in (`tid`), for Microsoft Entra ID alone.
    #[doc(alias = "tid")]
    #[doc(alias = "TenantId")]
    pub fn tenant_id(&self) -> Option<&str> {
        self.text("tid")
    }

    /// Returns the display name (`name`). Not for authorization.
    pub fn name(&self) -> Option<&str> {
        self.text("name")
    }

    /// Returns the given name (`given_name`). Not for authorization.
    pub fn given_name(&self) -> Option<&str> {
        self.text("given_name")
    }

    /// Returns the family name (`family_name`). Not for authorization.
    pub fn family_name(&self) -> Option<&str> {
        self.text("family_name")
    }

    /// Returns the sign-in name for display (`preferred_username`). Not for authorization, since
    /// the name can change.
    #[doc(alias = "Username")]
    #[doc(alias = "upn")]
    pub fn preferred_username(&self) -> Option<&str> {
        self.text("preferred_username")
    }

    /// Returns the email address (`email`). Not for authorization.
    ///
    /// Any tenant of Microsoft Entra ID can give its users any address. An application that finds
    /// accounts by the address lets a stranger's tenant take them over.
    pub fn email(&self) -> Option<&str> {
        self.text("email")
    }

    /// Returns whether the provider verified the email address (`email_verified`), or `None` if the
    /// provider does not say so.
    ///
    /// `"true"` and `"false"` count as booleans, since Amazon Cognito sends them. Microsoft Entra
    /// ID does not send the claim.
    pub fn email_verified(&self) -> Option<bool> {
        match self.0.get("email_verified")? {
            Value::Bool(is_verified) => Some(*is_verified),
            Value::String(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// Returns the time at which the user authenticated (`auth_time`).
    ///
    /// [`AuthorizationRequest::max_age`](super::AuthorizationRequest::max_age) limits the time.
    #[doc(alias = "auth_time")]
    pub fn authenticated_at(&self) -> Option<SystemTime> {
        self.time("auth_time")
    }

    /// Returns the level of the authentication (`acr`), in the provider's words.
    #[doc(alias = "acr")]
    pub fn authentication_context_class(&self) -> Option<&str> {
        self.text("acr")
    }

    /// Returns the methods of the authentication (`amr`), such as `pwd` and `mfa`
    /// ([RFC 8176](https://www.rfc-editor.org/rfc/rfc8176)).
    #[doc(alias = "amr")]
    pub fn authentication_methods(&self) -> impl Iterator<Item = &str> {
        self.list("amr")
    }

    /// Returns the user's roles in this application (`roles`).
    ///
    /// At Microsoft Entra ID these are the app roles that an administrator assigned, which an
    /// application may use for authorization.
    pub fn roles(&self) -> impl Iterator<Item = &str> {
        self.list("roles")
    }

    /// Returns the user's groups (`groups`), by ID at Microsoft Entra ID.
    ///
    /// Empty if there are too many: see [`has_too_many_groups`](Self::has_too_many_groups). Names
    /// of groups are not unique, so decide by IDs.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.list("groups")
    }

    /// Returns whether Microsoft Entra ID left the groups out, because the user is in too many
    /// (`hasgroups`, or `groups` in `_claim_names`). The application then reads them from Microsoft
    /// Graph.
    pub fn has_too_many_groups(&self) -> bool {
        let names = self.0.get("_claim_names");
        let is_elsewhere = names.and_then(|names| names.get("groups")).is_some();
        is_elsewhere || self.0.get("hasgroups") == Some(&Value::Bool(true))
    }

    /// Returns the opaque hint of the user for a later sign-in or sign-out (`login_hint`), an
    /// optional claim of Microsoft Entra ID. Not for authorization.
    ///
    /// [`EndSessionRequest::logout_hint`](super::EndSessionRequest::logout_hint) takes the hint.
    pub fn login_hint(&self) -> Option<&str> {
        self.text("login_hint")
    }

    /// Returns the ID of the user's session at the provider (`sid`), which a logout request of the
    /// provider names.
    #[doc(alias = "sid")]
    pub fn session_id(&self) -> Option<&str> {
        self.text("sid")
    }

    /// Returns any claim. A string is returned without quotation marks, and any other value as
    /// JSON. A claim that is `null` is absent.
    pub fn claim(&self, name: &str) -> Option<String> {
        match self.0.get(name)? {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            value => Some(value.to_string()),
        }
    }

    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(&*self.0).unwrap_or_default()
    }

    fn text(&self, name: &str) -> Option<&str> {
        let text = self.0.get(name)?.as_str()?;
        Some(text).filter(|text| !text.is_empty())
    }

    fn time(&self, name: &'static str) -> Option<SystemTime> {
        time_claim(&self.0, name).ok().flatten()
    }

    /// Returns the texts of a list, or of a single text.
    fn list(&self, name: &str) -> impl Iterator<Item = &str> {
        let values = match self.0.get(name) {
            Some(Value::Array(values)) => values.as_slice(),
            Some(value) => std::slice::from_ref(value),
            None => &[],
        };
        let texts = values.iter().filter_map(Value::as_str);
        texts.filter(|text| !text.is_empty())
    }
}

impl fmt::Debug for IdTokenClaims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdTokenClaims")?;
        f.debug_list().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    fn claims(claims: Value) -> IdTokenClaims {
        match claims {
            Value::Object(claims) => IdTokenClaims::new(claims),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn a_text_of_another_type_is_absent() {
        type Accessor = fn(&IdTokenClaims) -> Option<&str>;
        let accessors: [(&str, Accessor); 14] = [
            ("iss", IdTokenClaims::issuer),
            ("oid", IdTokenClaims::object_id),
            ("tid", IdTokenClaims::tenant_id),
            ("name", IdTokenClaims::name),
            ("given_name", IdTokenClaims::given_name),
            ("family_name", IdTokenClaims::family_name),
            ("preferred_username", IdTokenClaims::preferred_username),
            ("email", IdTokenClaims::email),
            ("acr", IdTokenClaims::authentication_context_class),
            ("login_hint", IdTokenClaims::login_hint),
            ("sid", IdTokenClaims::session_id),
            ("sub", |claims| {
                Some(claims.subject()).filter(|sub| !sub.is_empty())
            }),
            ("amr", |claims| claims.authentication_methods().next()),
            ("aud", |claims| claims.audiences().next()),
        ];
        for (name, accessor) in accessors {
            for (value, expected) in [
                (json!("a"), Some("a")),
                (json!(""), None),
                (json!(7), None),
                (json!(null), None),
                (json!({ "a": "b" }), None),
                (json!(true), None),
            ] {
                let claims = claims(json!({ name: value, "other": "b" }));
                assert_eq!(accessor(&claims), expected, "{name}: {claims:?}");
            }
            assert_eq!(accessor(&claims(json!({}))), None, "{name}");
        }
    }

    #[test]
    fn lists_booleans_and_times_may_be_written_in_two_ways() {
        for (value, expected) in [
            (json!(["a", "b"]), vec!["a", "b"]),
            (json!("a"), vec!["a"]),
            (json!(["a", 7, null, "", ["b"], "c"]), vec!["a", "c"]),
            (json!({ "a": "b" }), vec![]),
            (json!(null), vec![]),
        ] {
            let claims = claims(json!({
                "amr": value, "roles": value, "groups": value, "aud": value,
            }));
            let lists: [Vec<&str>; 4] = [
                claims.authentication_methods().collect(),
                claims.roles().collect(),
                claims.groups().collect(),
                claims.audiences().collect(),
            ];
            assert!(
                lists.iter().all(|list| *list == expected),
                "{value}: {lists:?}"
            );
        }
        for (value, expected) in [
            (json!(true), Some(true)),
            (json!("true"), Some(true)),
            (json!(false), Some(false)),
            (json!("false"), Some(false)),
            (json!("TRUE"), None),
            (json!(1), None),
            (json!(null), None),
        ] {
            let claims = claims(json!({ "email_verified": value }));
            assert_eq!(claims.email_verified(), expected, "{value}");
        }
        let seconds = |seconds| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        for (value, expected) in [
            (json!(1_800_000_000_u64), seconds(1_800_000_000)),
            (json!("then"), None),
            (json!(null), None),
        ] {
            let claims = claims(json!({ "auth_time": value, "iat": value, "exp": value }));
            let times = [
                claims.authenticated_at(),
                claims.issued_at(),
                claims.expires_on(),
            ];
            assert_eq!(times, [expected; 3], "{value}");
        }
        for (value, expected) in [
            (json!({}), false),
            (json!({ "hasgroups": true }), true),
            (json!({ "hasgroups": "no" }), false),
            (json!({ "_claim_names": { "groups": "src1" } }), true),
            (json!({ "_claim_names": { "roles": "src1" } }), false),
        ] {
            assert_eq!(
                claims(value.clone()).has_too_many_groups(),
                expected,
                "{value}"
            );
        }
    }

    #[test]
    fn any_claim_is_readable_and_none_is_shown() {
        let claims = claims(json!({ "a": "h1dden", "b": [1, "h1dden"], "c": null }));
        let one = |name| claims.claim(name);
        assert_eq!(one("a").as_deref(), Some("h1dden"));
        assert_eq!(one("b").as_deref(), Some(r#"[1,"h1dden"]"#));
        assert_eq!((one("c"), one("d")), (None, None));
        assert_eq!(format!("{claims:?}"), r#"IdTokenClaims["a", "b", "c"]"#);
    }
}
