#![warn(clippy::arithmetic_side_effects, reason = "it reads what others wrote")]

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

/// A user who signed in: what [`acquire_token_silent`] gets their tokens by.
///
/// Cheap to clone, and made to be kept in the user's session: it serialises, and holds no token. The
/// tokens stay in the client's memory, under the home account id; so keep it where the user cannot
/// change it, on the server or in a cookie that is signed. After a restart of the process the account
/// is as it was and the tokens are gone: the user signs in again.
///
/// [`acquire_token_silent`]: crate::ConfidentialClient::acquire_token_silent
#[derive(Clone, Serialize, Deserialize)]
#[serde(from = "AccountProfile", into = "AccountProfile")]
pub struct Account(Arc<AccountParts>);

struct AccountParts {
    profile: AccountProfile,
    user: Arc<UserKey>,
    tenant: Option<Tenant>,
}

/// What is known of a user.
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
    /// Who it is, wherever they work: with Microsoft Entra ID `{object id}.{tenant id}` of the home
    /// tenant, in MSAL's words; with another provider the subject (`sub`).
    pub fn home_account_id(&self) -> &str {
        &self.0.profile.home_account_id
    }

    /// Who it is in the tenant they signed in to: the object id (`oid`), or the subject (`sub`).
    pub fn local_account_id(&self) -> &str {
        &self.0.profile.local_account_id
    }

    /// The id of the tenant they signed in to; `None` where there are no tenants.
    pub fn tenant_id(&self) -> Option<&str> {
        self.0.profile.tenant_id.as_deref()
    }

    /// The name they sign in by (`preferred_username`), to be shown. It may change, and be given to
    /// somebody else, so it decides nothing.
    pub fn username(&self) -> Option<&str> {
        self.0.profile.username.as_deref()
    }

    /// The name to greet them by (`name`).
    pub fn name(&self) -> Option<&str> {
        self.0.profile.name.as_deref()
    }

    /// Who signed in, by the claims of an ID token that was validated, and by what Entra says beside it.
    ///
    /// Elsewhere `sub` alone tells users apart, and what is called `tid` or `oid` may be anything, be it
    /// a field that users fill in themselves ([OpenID Connect Core section 5.7]).
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
                "its nonce is not the one that was sent, so it is of another sign-in; begin again",
            ));
        }
        let Some(subject) = text("sub") else {
            return Err(invalid_id_token("it has no 'sub'"));
        };
        let tenant_id = text("tid").filter(|tid| is_entra && Uuid::try_parse(tid).is_ok());
        let client_info = client_info.filter(|_| is_entra);
        let object_id = text("oid").filter(|_| tenant_id.is_some());
        let local_account_id = object_id.unwrap_or(subject);
        let home_account_id = match (client_info.map(home), &tenant_id) {
            (Some(Some(home)), _) => home,
            (Some(None), _) => {
                return Err(invalid_id_token(
                    "the 'client_info' beside it cannot be read",
                ));
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

/// `{uid}.{utid}`, as MSAL writes it.
fn home(client_info: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct ClientInfo {
        uid: String,
        utid: String,
    }
    let json = BASE64_URL_SAFE_NO_PAD.decode(client_info.trim_end_matches('='));
    let ClientInfo { uid, utid } = serde_json::from_slice(&json.ok()?).ok()?;
    (!uid.is_empty() && !utid.is_empty()).then(|| format!("{uid}.{utid}"))
}

pub(crate) fn invalid_id_token(why: &str) -> Error {
    let message = format!("the ID token cannot be used: {why}");
    Error::InvalidResponse(Failure::new(message).into())
}
