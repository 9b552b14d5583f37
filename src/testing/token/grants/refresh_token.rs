use std::time::SystemTime;

use serde_json::Value;

use crate::testing::aadsts::AadstsError;
use crate::testing::directory::scopes::ScopeParameter;
use crate::testing::token::client::AuthenticatedClient;
use crate::testing::token::issuer::TokenIssuer;
use crate::testing::token::sessions::Sessions;
use crate::time::unix_seconds;

/// New tokens for a user who signed in before ([RFC 6749 section 6]): of any resource that was
/// consented to, and with the next refresh token.
///
/// [RFC 6749 section 6]: https://www.rfc-editor.org/rfc/rfc6749#section-6
pub(crate) fn answer(
    caller: &AuthenticatedClient<'_>,
    issuer: &TokenIssuer<'_>,
    sessions: &mut Sessions,
) -> Result<Value, AadstsError> {
    let secret = caller.required("refresh_token")?;
    let token = sessions.check(secret, caller.application.client_id())?;
    if token.tenant != caller.directory.id {
        return Err(AadstsError::issued_to_other_client("refresh_token"));
    }
    let id = token.user.to_string();
    let user = caller.user(&id)?;
    let scopes = match caller.scope() {
        None => ScopeParameter::parse(&token.scope)?.first_resource(),
        Some(scope) => ScopeParameter::parse(scope)?,
    };
    let access = caller.access(user, &scopes)?;
    let now = unix_seconds(SystemTime::now());
    let mut answer = access.answer(issuer, now, caller.wants_client_info())?;
    if let Some(members) = answer.as_object_mut() {
        let next = sessions.rotate(secret, token);
        members.insert("refresh_token".to_owned(), next.into());
    }
    Ok(answer)
}
