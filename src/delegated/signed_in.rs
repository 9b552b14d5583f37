#![warn(clippy::arithmetic_side_effects, reason = "it reads what others wrote")]

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::account::{Account, Profile};
use super::authorization::AuthorizationCodeFlow;
use crate::error::{Answer, Error, Escaped, Failure};
use crate::redirect::{Redirected, Twice};
use crate::secret::Secret;
use crate::token::AccessToken;

/// A user who has just signed in: what [`acquire_token_by_authorization_code`] brings.
///
/// [`acquire_token_by_authorization_code`]: crate::ConfidentialClient::acquire_token_by_authorization_code
#[derive(Clone)]
pub struct SignedIn {
    access_token: AccessToken,
    account: Account,
    id_token_claims: String,
}

impl SignedIn {
    pub(crate) fn new(
        access_token: AccessToken,
        account: Account,
        claims: Map<String, Value>,
    ) -> Self {
        Self {
            access_token,
            account,
            id_token_claims: Value::Object(claims).to_string(),
        }
    }

    /// The token for the scopes that were asked for, or those of them that were granted.
    pub fn access_token(&self) -> &AccessToken {
        &self.access_token
    }

    /// Who signed in: what the next tokens are asked for by. Keep it in the user's session.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// The claims of the ID token, which was validated, as a JSON object
    /// ([OpenID Connect Core section 2](https://openid.net/specs/openid-connect-core-1_0.html#IDToken)).
    pub fn id_token_claims(&self) -> &str {
        &self.id_token_claims
    }
}

impl fmt::Debug for SignedIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedIn")
            .field("access_token", &self.access_token)
            .field("account", &self.account)
            .finish_non_exhaustive()
    }
}

/// The code that a user came back with ([RFC 6749 section 4.1.2]), if it is an answer to `flow`.
/// `issuer` is the authority's, where its answers name it ([RFC 9207]).
///
/// [RFC 6749 section 4.1.2]: https://www.rfc-editor.org/rfc/rfc6749#section-4.1.2
/// [RFC 9207]: https://www.rfc-editor.org/rfc/rfc9207
pub(crate) fn code(
    redirected: &str,
    flow: &AuthorizationCodeFlow,
    issuer: Option<&str>,
) -> Result<Secret, Error> {
    let query = Redirected::new(redirected);
    let one = |name: &str| query.one(name).map_err(|Twice(why)| unreadable(&why));
    // An empty state is nobody's, be it the flow's own by a mistake of the session store.
    let state = one("state")?.filter(|state| !state.is_empty());
    if state.as_deref() != Some(flow.state()) {
        return Err(unreadable(
            "its state is not the one that was sent, so it may be somebody else's answer; begin again",
        ));
    }
    if let (Some(named), Some(issuer)) = (one("iss")?, issuer)
        && named != issuer
    {
        return Err(unreadable(
            "it names another issuer than the one that was asked; begin again",
        ));
    }
    if let Some(error) = one("error")? {
        return Err(refused(error, one("error_description")?));
    }
    match one("code")?.filter(|code| !code.is_empty()) {
        Some(code) => Ok(Secret::from(code)),
        None => Err(unreadable("it has neither a 'code' nor an 'error'")),
    }
}

/// Who signed in, by the claims of an ID token that was validated, and by what Entra says beside it.
pub(crate) fn account(
    claims: &Map<String, Value>,
    client_info: Option<&str>,
    flow: &AuthorizationCodeFlow,
) -> Result<Account, Error> {
    let text = |name: &str| {
        let text = claims.get(name).and_then(Value::as_str);
        text.filter(|text| !text.is_empty()).map(ToOwned::to_owned)
    };
    if text("nonce").as_deref() != Some(flow.nonce()) {
        return Err(invalid(
            "its nonce is not the one that was sent, so it is of another sign-in; begin again",
        ));
    }
    let Some(subject) = text("sub") else {
        return Err(invalid("it has no 'sub'"));
    };
    let local_account_id = text("oid").unwrap_or(subject);
    let tenant_id = text("tid").filter(|tid| Uuid::try_parse(tid).is_ok());
    let home_account_id = match (client_info.map(home), &tenant_id) {
        (Some(Some(home)), _) => home,
        (Some(None), _) => {
            return Err(invalid("the 'client_info' beside it cannot be read"));
        }
        (None, Some(tenant)) => format!("{local_account_id}.{tenant}"),
        (None, None) => local_account_id.clone(),
    };
    Ok(Account::from(Profile {
        home_account_id,
        local_account_id,
        tenant_id,
        username: text("preferred_username").or_else(|| text("upn")),
        name: text("name"),
    }))
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

/// The provider sent the user back without a code.
fn refused(error: String, description: Option<String>) -> Error {
    let mut message = format!(
        "the user came back without a code: {}",
        Escaped(&shortened(&error))
    );
    if let Some(description) = &description {
        message.push_str(": ");
        message.push_str(&Escaped(&shortened(description)).to_string());
    }
    let mut answer = Answer::new(StatusCode::FOUND, shortened(&error));
    answer.error_description = description.as_deref().map(shortened);
    let failure = Failure::new(message).server(Some(answer.into()));
    Error::InteractionRequired(failure.into())
}

fn unreadable(why: &str) -> Error {
    let message = format!("what the user came back with cannot be used: {why}");
    Error::InvalidResponse(Failure::new(message).into())
}

pub(crate) fn invalid(why: &str) -> Error {
    let message = format!("the ID token cannot be used: {why}");
    Error::InvalidResponse(Failure::new(message).into())
}

/// Anybody can send a browser here, with a text of any length.
fn shortened(text: &str) -> String {
    text.chars().take(500).collect()
}
