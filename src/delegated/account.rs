#![warn(clippy::arithmetic_side_effects, reason = "it parses untrusted input")]

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::authority::{Rules, Tenant};
use crate::error::{Error, Failure};
use crate::token::UserKey;

/// A signed-in user, for [`acquire_token_silent`].
///
/// An `Account` is cheap to clone and contains no token. Serialize the account into the user's
/// session.
///
/// The client caches the user's tokens under the home account ID. Store the account where the user
/// cannot change the account, which is on the server or in a signed cookie. After a restart of the
/// process the account is still valid. The tokens are gone without a
/// [shared cache](crate::ConfidentialClientBuilder::shared_cache), and the user must sign in again.
///
/// [`acquire_token_silent`]: crate::ConfidentialClient::acquire_token_silent
#[doc(alias = "IAccount")]
#[doc(alias = "AccountInfo")]
#[doc(alias = "AuthenticationRecord")]
#[derive(Clone, Serialize, Deserialize)]
#[serde(from = "AccountProfile", into = "AccountProfile")]
pub struct Account(Arc<AccountParts>);

/// The serialized part of an account, with the cache key derived from the part.
struct AccountParts {
    profile: AccountProfile,
    user: Arc<UserKey>,
    tenant: Option<Tenant>,
}

/// The serialized form of an account.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct AccountProfile {
    home_account_id: String,
    local_account_id: String,
    #[serde(default)]
    tenant_id: Option<String>,
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    name: Option<String>,
}

impl Account {
    /// Creates the account of a user who signed in with another library, for
    /// [`import_refresh_token`](crate::ConfidentialClient::import_refresh_token).
    ///
    /// MSAL's home account ID is `{object id}.{tenant id}` with the home tenant. For another
    /// provider than Microsoft the ID is the subject (`sub`). The account has no name.
    pub fn from_home_account_id(home_account_id: impl Into<String>) -> Self {
        let home_account_id = home_account_id.into();
        let parts = home_account_id.split_once('.');
        let is_id = |text: &str| Uuid::try_parse(text).is_ok();
        let (local_account_id, tenant_id) = match parts {
            Some((object, tenant)) if is_id(object) && is_id(tenant) => {
                (object.to_owned(), Some(tenant.to_owned()))
            }
            _ => (home_account_id.clone(), None),
        };
        Self::from(AccountProfile {
            home_account_id,
            local_account_id,
            tenant_id,
            username: None,
            name: None,
        })
    }

    /// Returns the user's ID across all tenants.
    ///
    /// For Microsoft Entra ID the format is MSAL's `{object id}.{tenant id}` of the home tenant.
    /// For another provider the ID is the subject (`sub`).
    #[doc(alias = "HomeAccountId")]
    pub fn home_account_id(&self) -> &str {
        &self.0.profile.home_account_id
    }

    /// Returns the user's ID in the tenant of the sign-in, which is the object ID (`oid`) or the
    /// subject (`sub`).
    pub fn local_account_id(&self) -> &str {
        &self.0.profile.local_account_id
    }

    /// Returns the ID of the tenant of the sign-in, or `None` if the provider has no tenants.
    pub fn tenant_id(&self) -> Option<&str> {
        self.0.profile.tenant_id.as_deref()
    }

    /// Returns the user's sign-in name (`preferred_username`), for display.
    ///
    /// Never use the sign-in name for an access decision. The name can change and can be reassigned
    /// to another user.
    pub fn username(&self) -> Option<&str> {
        self.0.profile.username.as_deref()
    }

    /// Returns the user's display name (`name`).
    pub fn name(&self) -> Option<&str> {
        self.0.profile.name.as_deref()
    }

    /// Builds the account from the claims of a validated ID token and from Entra's `client_info`.
    ///
    /// For a provider other than Entra only `sub` identifies a user ([OpenID Connect Core section
    /// 5.7]). Claims named `tid` or `oid` can have any meaning there, and users may even edit the
    /// claims' values.
    ///
    /// [OpenID Connect Core section 5.7]: https://openid.net/specs/openid-connect-core-1_0.html#ClaimStability
    pub(crate) fn from_id_token(
        claims: &Map<String, Value>,
        client_info: Option<&str>,
        nonce: &str,
        rules: Rules,
    ) -> Result<Self, Error> {
        let is_entra = rules == Rules::Entra;
        let text = |name: &str| {
            let text = claims.get(name).and_then(Value::as_str);
            text.filter(|text| !text.is_empty()).map(ToOwned::to_owned)
        };
        if text("nonce").as_deref() != Some(nonce) {
            return Err(invalid_id_token(
                "its nonce is not the one that was sent, so the ID token belongs to another sign-in; start the sign-in again",
            ));
        }
        let Some(subject) = text("sub") else {
            return Err(invalid_id_token("it has no 'sub'"));
        };
        let tenant_id = text("tid").filter(|tid| is_entra && Uuid::try_parse(tid).is_ok());
        let client_info = client_info.filter(|_| is_entra);
        let object_id = text("oid").filter(|_| tenant_id.is_some());
        let local_account_id = object_id.unwrap_or(subject);
        let home_account_id = match (client_info.map(parse_home_account_id), &tenant_id) {
            (Some(Ok(home_account_id)), _) => home_account_id,
            (Some(Err(why)), _) => {
                return Err(invalid_id_token(&format!(
                    "the 'client_info' of the same response {why}"
                )));
            }
            (None, Some(tenant)) => format!("{local_account_id}.{tenant}"),
            (None, None) => local_account_id.clone(),
        };
        Ok(Self::from(AccountProfile {
            home_account_id,
            local_account_id,
            tenant_id,
            username: text("preferred_username").or_else(|| text("upn")),
            name: text("name"),
        }))
    }

    pub(crate) fn user(&self) -> &Arc<UserKey> {
        &self.0.user
    }

    pub(crate) fn tenant(&self) -> Option<&Tenant> {
        self.0.tenant.as_ref()
    }
}

impl From<AccountProfile> for Account {
    fn from(profile: AccountProfile) -> Self {
        let tenant = profile.tenant_id.as_deref().map(Tenant::parse);
        Self(Arc::new(AccountParts {
            user: Arc::new(UserKey::Account(profile.home_account_id.as_str().into())),
            tenant: tenant.and_then(Result::ok),
            profile,
        }))
    }
}

impl From<Account> for AccountProfile {
    fn from(account: Account) -> Self {
        account.0.profile.clone()
    }
}

impl PartialEq for Account {
    fn eq(&self, other: &Self) -> bool {
        self.0.profile == other.0.profile
    }
}

impl Eq for Account {}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account")
            .field("home_account_id", &self.home_account_id())
            .field("tenant_id", &self.tenant_id())
            .finish_non_exhaustive()
    }
}

/// Returns `{uid}.{utid}` of the `client_info`, in MSAL's format, or what is wrong. A member that
/// is `null` is absent.
pub(super) fn parse_home_account_id(client_info: &str) -> Result<String, &'static str> {
    #[derive(Deserialize)]
    struct ClientInfo {
        uid: Option<String>,
        utid: Option<String>,
    }
    let json = BASE64_URL_SAFE_NO_PAD.decode(client_info.trim_end_matches('='));
    let parsed = json
        .ok()
        .and_then(|json| serde_json::from_slice(&json).ok());
    let ClientInfo { uid, utid } = parsed.ok_or("cannot be parsed")?;
    let present = |id: &String| !id.is_empty();
    let uid = uid.filter(present).ok_or("has no 'uid'")?;
    let utid = utid.filter(present).ok_or("has no 'utid'")?;
    Ok(format!("{uid}.{utid}"))
}

/// Builds the error for an invalid ID token.
pub(crate) fn invalid_id_token(reason: &str) -> Error {
    let message = format!("the ID token cannot be used: {reason}");
    Error::InvalidResponse(Failure::new(message).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_null_in_client_info_does_not_count_as_an_id() {
        for (json, expected) in [
            (r#"{"uid":"u","utid":"t"}"#, Ok("u.t")),
            (r#"{"uid":"u","utid":"t","xms_tdbr":null}"#, Ok("u.t")),
            (r#"{"uid":null,"utid":"t"}"#, Err("has no 'uid'")),
            (r#"{"uid":"u","utid":null}"#, Err("has no 'utid'")),
            (r#"{"uid":"u"}"#, Err("has no 'utid'")),
            (r#"{"uid":"","utid":"t"}"#, Err("has no 'uid'")),
            (r#"{"uid":7,"utid":"t"}"#, Err("cannot be parsed")),
            ("null", Err("cannot be parsed")),
            ("[]", Err("cannot be parsed")),
        ] {
            let encoded = BASE64_URL_SAFE_NO_PAD.encode(json);
            let parsed = parse_home_account_id(&encoded);
            assert_eq!(parsed.as_deref().map_err(|why| *why), expected, "{json}");
        }
    }
}
