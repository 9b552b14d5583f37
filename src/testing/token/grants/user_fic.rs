use serde_json::Value;
use uuid::Uuid;

use crate::testing::aadsts::error::AadstsError;
use crate::testing::directory::scopes::ScopeParameter;
use crate::testing::token::agent::check_exchange_token;
use crate::testing::token::client::AuthenticatedClient;
use crate::testing::token::issuer::TokenIssuer;
use crate::testing::token::sessions::{IssuedRefreshToken, Sessions};
use crate::time::unix_seconds;

/// Issues a token for an agent identity that acts as its user (Entra's grant `user_fic`).
///
/// The order of the checks is this server's: the credential, the user, the consent.
pub(crate) fn respond(
    client: &AuthenticatedClient<'_>,
    issuer: &TokenIssuer<'_>,
    sessions: &mut Sessions,
) -> Result<Value, AadstsError> {
    let credential = client.required("user_federated_identity_credential")?;
    let scope = client.required("scope")?;
    let scopes = ScopeParameter::parse(scope)?;
    let client_id = client.application.client_id();
    if client.application.blueprint_id().is_none() {
        return Err(AadstsError::not_an_agent_identity(client_id));
    }
    check_exchange_token(credential, client, issuer)?;
    let user = client.user(user_name(client)?)?;
    if !user.is_of_agent(client_id) {
        return Err(AadstsError::user_of_other_agent(client_id));
    }
    let access = client.access(user, &scopes)?;
    let now = unix_seconds(issuer.now);
    let mut response = access.token_response(issuer, now, client.wants_client_info())?;
    if scopes.offline_access {
        let token = IssuedRefreshToken::first(client.directory.id, client_id, user.id(), scope);
        let refresh_token = sessions.issue_refresh_token(token);
        if let Some(members) = response.as_object_mut() {
            members.insert("refresh_token".to_owned(), refresh_token.into());
        }
    }
    Ok(response)
}

/// Returns the object id or the username of the request, which has one of both.
fn user_name<'a>(client: &AuthenticatedClient<'a>) -> Result<&'a str, AadstsError> {
    let field = |name| client.request.field(name).filter(|value| !value.is_empty());
    let is_hyphenated = |id: &str| id.len() == 36 && Uuid::try_parse(id).is_ok();
    match (field("user_id"), field("username")) {
        (Some(id), None) if is_hyphenated(id) => Ok(id),
        (None, Some(name)) if Uuid::try_parse(name).is_err() => Ok(name),
        (None, None) => Err(AadstsError::missing_parameter("user_id")),
        _ => Err(AadstsError::bad_request(
            "invalid_request",
            9002313,
            "Invalid request. Request is malformed or invalid.",
        )),
    }
}
