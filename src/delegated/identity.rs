#![warn(clippy::arithmetic_side_effects, reason = "it parses untrusted input")]

use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::account::{invalid_id_token, parse_home_account_id};
use crate::authority::Rules;
use crate::error::{Error, Failure};
use crate::jwt::time_claim;

/// The user that a token response names, to compare with the user of a later response
/// ([OpenID Connect Core section 12.2]).
///
/// [OpenID Connect Core section 12.2]: https://openid.net/specs/openid-connect-core-1_0.html#RefreshTokenResponse
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct UserIdentity {
    id_token: Option<IdTokenIdentity>,
    /// The user's ID across tenants, from Entra's `client_info`.
    home_account_id: Option<String>,
    /// True for the identity of a sign-in, whose ID token was validated.
    is_validated: bool,
}

/// The claims of an ID token that a refresh must not change.
#[derive(Clone, Serialize, Deserialize)]
struct IdTokenIdentity {
    issuer: Option<String>,
    subject: Option<String>,
    audiences: Vec<String>,
    authorized_party: Option<String>,
    authenticated: Option<SystemTime>,
    nonce: Option<String>,
    /// The directory, for Entra alone.
    tenant: Option<String>,
}

impl UserIdentity {
    /// Returns the identity of a sign-in from the claims of the validated ID token.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidResponse`] if `client_info` cannot be parsed.
    pub(crate) fn of_sign_in(
        claims: &Map<String, Value>,
        client_info: Option<&str>,
        rules: Rules,
    ) -> Result<Self, Error> {
        let identity = Self::of_response(Some(claims), client_info, rules)?;
        Ok(Self {
            is_validated: true,
            ..identity
        })
    }

    /// Returns the identity of a user of another library, by the home account ID.
    ///
    /// `None` at a provider whose responses do not name the home account.
    pub(crate) fn of_account(home_account_id: &str, rules: Rules) -> Option<Self> {
        (rules == Rules::Entra).then(|| Self {
            id_token: None,
            home_account_id: Some(home_account_id.to_owned()),
            is_validated: false,
        })
    }

    /// Returns the identity that a token response names, which may be none.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidResponse`] if `client_info` cannot be parsed.
    pub(crate) fn of_response(
        claims: Option<&Map<String, Value>>,
        client_info: Option<&str>,
        rules: Rules,
    ) -> Result<Self, Error> {
        let client_info = client_info.filter(|_| rules == Rules::Entra);
        let home_account_id = match client_info.map(parse_home_account_id) {
            None => None,
            Some(Ok(home_account_id)) => Some(home_account_id),
            Some(Err(why)) => {
                return Err(invalid_id_token(&format!(
                    "the 'client_info' of the same response {why}"
                )));
            }
        };
        Ok(Self {
            id_token: claims.map(|claims| IdTokenIdentity::of_claims(claims, rules)),
            home_account_id,
            is_validated: false,
        })
    }

    /// Returns the identity with what only the `later` response of the same user names.
    pub(crate) fn completed_by(&self, later: Self) -> Self {
        Self {
            id_token: self.id_token.clone().or(later.id_token),
            home_account_id: self.home_account_id.clone().or(later.home_account_id),
            is_validated: self.is_validated,
        }
    }

    /// Returns the subject of the ID token.
    pub(crate) fn subject(&self) -> Option<&str> {
        self.id_token.as_ref()?.subject.as_deref()
    }

    /// Returns the user's ID across tenants.
    pub(crate) fn home_account_id(&self) -> Option<&str> {
        self.home_account_id.as_deref()
    }

    /// Returns whether the ID token is from the directory of the earlier ID token, or for a user
    /// whom no earlier response named, from the home directory of the account.
    ///
    /// For Entra alone.
    pub(crate) fn is_of_directory_of(&self, before: Option<&Self>, home_account_id: &str) -> bool {
        let tenant = |identity: &Self| Some(identity.id_token.as_ref()?.tenant.clone());
        match before.and_then(tenant) {
            Some(before) => tenant(self) == Some(before),
            None => {
                let home_tenant = home_account_id.split_once('.').map(|(_, tenant)| tenant);
                let is_home = self.home_account_id() == Some(home_account_id);
                is_home && tenant(self).is_some_and(|tenant| tenant.as_deref() == home_tenant)
            }
        }
    }

    /// Returns `true` if the ID tokens of a refresh must be validated, too.
    pub(crate) fn is_validated(&self) -> bool {
        self.is_validated
    }

    /// Checks that a refresh named the same user as before. A response that names no user passes.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidResponse`] with the name of the claim that differs, and without its value.
    pub(crate) fn check_refreshed(&self, refreshed: &Self) -> Result<(), Error> {
        let of_another = |what: &str| {
            let message = format!(
                "the tokens of the response cannot be used: {what} is not the one of the earlier response, so the tokens may belong to another user; nothing of the response is cached, and the user has to sign in again"
            );
            Err(Error::InvalidResponse(Failure::new(message).into()))
        };
        let home_account = match (&self.home_account_id, &refreshed.home_account_id) {
            (Some(before), Some(now)) => Some(before == now),
            _ => None,
        };
        if home_account == Some(false) {
            return of_another("the home account of 'client_info'");
        }
        let (Some(before), Some(now)) = (&self.id_token, &refreshed.id_token) else {
            return Ok(());
        };
        // A token of another directory has another issuer, and may have another subject. The home
        // account alone is the same.
        if before.tenant != now.tenant {
            return match home_account {
                Some(true) => Ok(()),
                _ => of_another("the ID token's 'tid'"),
            };
        }
        match before.difference(now) {
            Some(claim) => of_another(&format!("the ID token's '{claim}'")),
            None => Ok(()),
        }
    }
}

impl IdTokenIdentity {
    fn of_claims(claims: &Map<String, Value>, rules: Rules) -> Self {
        let text = |name: &str| {
            let text = claims.get(name).and_then(Value::as_str);
            text.map(ToOwned::to_owned)
        };
        let audiences = match claims.get("aud") {
            Some(Value::Array(audiences)) => audiences.as_slice(),
            Some(audience) => std::slice::from_ref(audience),
            None => &[],
        };
        let audiences = audiences.iter().filter_map(Value::as_str);
        Self {
            issuer: text("iss"),
            subject: text("sub"),
            audiences: audiences.map(ToOwned::to_owned).collect(),
            authorized_party: text("azp"),
            authenticated: time_claim(claims, "auth_time").ok().flatten(),
            nonce: text("nonce"),
            tenant: text("tid").filter(|_| rules == Rules::Entra),
        }
    }

    /// Returns the name of a claim of the later ID token that differs.
    ///
    /// A refresh may omit `azp`, `auth_time` and `nonce`.
    fn difference(&self, now: &Self) -> Option<&'static str> {
        fn differs<T: PartialEq>(before: &Option<T>, now: &Option<T>) -> bool {
            matches!((before, now), (Some(before), Some(now)) if before != now)
        }
        let lacks_audience = |audience: &String| !now.audiences.contains(audience);
        match () {
            () if self.issuer != now.issuer => Some("iss"),
            () if self.subject != now.subject => Some("sub"),
            () if self.audiences.iter().any(lacks_audience) => Some("aud"),
            () if differs(&self.authorized_party, &now.authorized_party) => Some("azp"),
            () if differs(&self.authenticated, &now.authenticated) => Some("auth_time"),
            // A nonce that the sign-in did not have is another sign-in's.
            () if now.nonce.is_some() && self.nonce != now.nonce => Some("nonce"),
            () => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;
    use serde_json::json;

    use super::*;

    fn identity(claims: &Value, home_account: Option<&str>, rules: Rules) -> UserIdentity {
        let client_info = home_account.map(|home_account| {
            let (uid, utid) = home_account.split_once('.').unwrap();
            BASE64_URL_SAFE_NO_PAD.encode(json!({ "uid": uid, "utid": utid }).to_string())
        });
        UserIdentity::of_response(claims.as_object(), client_info.as_deref(), rules).unwrap()
    }

    fn claims() -> Value {
        json!({
            "iss": "https://id.example", "sub": "adele", "aud": "client", "azp": "client",
            "auth_time": 1_800_000_000, "nonce": "n", "tid": "t1",
        })
    }

    fn with(name: &str, value: Value) -> Value {
        let mut claims = claims();
        claims[name] = value;
        claims
    }

    fn without(name: &str) -> Value {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(name);
        claims
    }

    /// OpenID Connect Core section 12.2.
    #[test]
    fn a_claim_of_another_user_or_another_sign_in_is_named() {
        for (refreshed, expected) in [
            (claims(), None),
            (Value::Null, None),
            (without("nonce"), None),
            (without("azp"), None),
            (without("auth_time"), None),
            (with("iat", json!(1)), None),
            (with("aud", json!(["client"])), None),
            (with("aud", json!(["b", "client"])), None),
            (with("auth_time", json!(1_800_000_000.0)), None),
            (with("iss", json!("https://id.example/")), Some("iss")),
            (without("iss"), Some("iss")),
            (with("sub", json!("Adele")), Some("sub")),
            (with("sub", json!(7)), Some("sub")),
            (with("sub", Value::Null), Some("sub")),
            (without("sub"), Some("sub")),
            (with("aud", json!("b")), Some("aud")),
            (without("aud"), Some("aud")),
            (with("azp", json!("b")), Some("azp")),
            (with("auth_time", json!(1_800_000_001)), Some("auth_time")),
            (with("nonce", json!("m")), Some("nonce")),
        ] {
            let [before, now] = [&claims(), &refreshed].map(|claims| {
                // A provider other than Entra may call anything `tid`.
                identity(claims, None, Rules::OpenId)
            });
            let outcome = before.check_refreshed(&now);
            match (outcome, expected) {
                (Ok(()), None) => {}
                (Err(error), Some(claim)) => {
                    let text = error.to_string();
                    assert!(text.contains(&format!("'{claim}'")), "{refreshed}: {text}");
                    assert!(!text.to_ascii_lowercase().contains("adele"), "{text}");
                }
                (outcome, _) => panic!("{refreshed}: {outcome:?}"),
            }
        }
        let first = without("nonce");
        let first = identity(&first, None, Rules::OpenId);
        let later = identity(&claims(), None, Rules::OpenId);
        assert!(first.check_refreshed(&later).is_err(), "a nonce of another");
    }

    #[test]
    fn a_token_of_another_directory_is_compared_by_the_home_account() {
        let other = |sub: &str| {
            let mut claims = with("tid", json!("t2"));
            claims["iss"] = json!("https://id.example/t2");
            claims["sub"] = json!(sub);
            claims
        };
        for (home, refreshed, home_then, is_same) in [
            (Some("a.t1"), claims(), Some("a.t1"), true),
            (Some("a.t1"), claims(), None, true),
            (Some("a.t1"), Value::Null, Some("a.t1"), true),
            (Some("a.t1"), Value::Null, None, true),
            (None, claims(), Some("a.t1"), true),
            (Some("a.t1"), other("as a guest"), Some("a.t1"), true),
            (Some("a.t1"), claims(), Some("b.t1"), false),
            (Some("a.t1"), claims(), Some("a.t2"), false),
            (Some("a.t1"), Value::Null, Some("b.t1"), false),
            (Some("a.t1"), other("adele"), Some("b.t1"), false),
            (Some("a.t1"), other("adele"), None, false),
            (None, other("adele"), Some("a.t1"), false),
            (Some("a.t1"), with("sub", json!("b")), Some("a.t1"), false),
            (Some("a.t1"), without("tid"), None, false),
        ] {
            let before = identity(&claims(), home, Rules::Entra);
            let now = identity(&refreshed, home_then, Rules::Entra);
            let outcome = before.check_refreshed(&now);
            assert_eq!(outcome.is_ok(), is_same, "{home_then:?}: {refreshed}");
        }
    }
}
