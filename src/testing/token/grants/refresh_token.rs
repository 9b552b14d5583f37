use serde_json::Value;

use crate::testing::aadsts::error::AadstsError;
use crate::testing::directory::scopes::ScopeParameter;
use crate::testing::token::client::AuthenticatedClient;
use crate::testing::token::issuer::TokenIssuer;
use crate::testing::token::sessions::Sessions;
use crate::time::unix_seconds;

/// Redeems a refresh token ([RFC 6749 section 6]).
///
/// The new tokens can be for any consented resource. The response contains the next refresh token.
///
/// [RFC 6749 section 6]: https://www.rfc-editor.org/rfc/rfc6749#section-6
pub(crate) fn respond(
    client: &AuthenticatedClient<'_>,
    issuer: &TokenIssuer<'_>,
    sessions: &mut Sessions,
) -> Result<Value, AadstsError> {
    let secret = client.required("refresh_token")?;
    let token = sessions.check_refresh_token(secret, client.application.client_id())?;
    if token.tenant != client.directory.id {
        return Err(AadstsError::issued_to_other_client("refresh_token"));
    }
    let id = token.user.to_string();
    let user = client.user(&id)?;
    let scopes = match client.scope() {
        None => ScopeParameter::parse(&token.scope)?.first_resource(),
        Some(scope) => ScopeParameter::parse(scope)?,
    };
    let access = client.access(user, &scopes)?;
    let now = unix_seconds(issuer.now);
    let mut response = access.token_response(issuer, now, client.wants_client_info())?;
    if let Some(members) = response.as_object_mut() {
        let next = sessions.rotate(secret, token);
        members.insert("refresh_token".to_owned(), next.into());
    }
    Ok(response)
}
