use std::time::SystemTime;

use serde_json::Value;

use crate::testing::aadsts::Refusal;
use crate::testing::directory::scopes::Scopes;
use crate::testing::token::client::Caller;
use crate::testing::token::issuer::Issuer;
use crate::testing::token::sessions::Sessions;
use crate::time::unix_seconds;

/// New tokens for a user who signed in before ([RFC 6749 section 6]): of any resource that was
/// consented to, and with the next refresh token.
///
/// [RFC 6749 section 6]: https://www.rfc-editor.org/rfc/rfc6749#section-6
pub(crate) fn answer(
    caller: &Caller<'_>,
    issuer: &Issuer<'_>,
    sessions: &mut Sessions,
) -> Result<Value, Refusal> {
    let secret = caller.required("refresh_token")?;
    let token = sessions.check(secret, caller.application.client_id())?;
    if token.tenant != caller.directory.id {
        return Err(Refusal::not_this_clients("refresh_token"));
    }
    let id = token.user.to_string();
    let user = caller.user(&id)?;
    let scopes = match caller.scope() {
        None => Scopes::parse(&token.scope)?.first_resource(),
        Some(scope) => Scopes::parse(scope)?,
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
