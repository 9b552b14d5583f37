use serde_json::{Value, json};

use super::client::{AuthenticatedClient, required};
use super::issuer::TokenIssuer;
use super::received_token::ReceivedToken;
use crate::testing::aadsts::error::AadstsError;
use crate::testing::directory::tenant::Directory;
use crate::testing::recorded_request::RecordedRequest;

/// Processes an introspection request to `tenant` ([RFC 7662 section 2]).
///
/// Only the API that a token is for learns anything about the token. For every other client the
/// token is not active.
///
/// [RFC 7662 section 2]: https://www.rfc-editor.org/rfc/rfc7662#section-2
pub(crate) fn respond(
    request: &RecordedRequest,
    tenant: &str,
    directories: &[Directory],
    issuer: &TokenIssuer<'_>,
) -> Result<Value, AadstsError> {
    let Some(directory) = directories.iter().find(|directory| directory.is(tenant)) else {
        return Err(AadstsError::tenant_not_found("invalid_request", tenant));
    };
    let client = AuthenticatedClient::authenticate(request, tenant, directory, issuer)?;
    let token = required(request, "token")?;
    let inactive = json!({ "active": false });
    let Ok(received) = ReceivedToken::check(token, &client, issuer) else {
        return Ok(inactive);
    };
    if !received.is_for(&client) {
        return Ok(inactive);
    }
    let text = |name: &str| received.text(name).map(ToOwned::to_owned);
    let token_type = match received.claims.get("cnf").and_then(|cnf| cnf.get("jkt")) {
        Some(_) => "DPoP",
        None => "Bearer",
    };
    let members = [
        ("active", Some(json!(true))),
        ("token_type", Some(json!(token_type))),
        ("client_id", received.client_id().map(|id| json!(id))),
        ("scope", text("scp").map(Value::from)),
        ("username", text("preferred_username").map(Value::from)),
    ];
    let mut body = received.claims.clone();
    for (name, value) in members {
        body.extend(value.map(|value| (name.to_owned(), value)));
    }
    Ok(body.into())
}
