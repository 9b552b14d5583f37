use serde_json::{Map, Value};

use crate::testing::aadsts::error::AadstsError;
use crate::testing::token::agent;
use crate::testing::token::app_token::AppToken;
use crate::testing::token::client::AuthenticatedClient;
use crate::testing::token::format;
use crate::testing::token::issuer::TokenIssuer;

/// Issues a token for the application itself ([RFC 6749 section 4.4]).
///
/// [RFC 6749 section 4.4]: https://www.rfc-editor.org/rfc/rfc6749#section-4.4
pub(crate) fn respond(
    client: &AuthenticatedClient<'_>,
    issuer: &TokenIssuer<'_>,
) -> Result<Value, AadstsError> {
    let AuthenticatedClient {
        directory,
        application,
        ..
    } = client;
    let resource = resource(client.required("scope")?)?;
    if !directory.has_resource(resource) {
        return Err(AadstsError::resource_not_found(resource, &directory.name));
    }
    let fmi_path = client
        .request
        .field("fmi_path")
        .filter(|path| !path.is_empty());
    let is_openid = issuer.rules.is_openid();
    let blueprint_token = match fmi_path.filter(|_| !is_openid) {
        None => Map::new(),
        Some(path) if agent::is_exchange(resource) => {
            agent::blueprint_token_claims(directory, application, path)
        }
        Some(_) => {
            let reason = "A token with an fmi_path is for api://AzureADTokenExchange.";
            return Err(AadstsError::invalid_scope(
                client.required("scope")?,
                reason,
            ));
        }
    };
    let capabilities = client.capabilities();
    let confirmation = client.confirmation();
    let token = AppToken {
        directory,
        application,
        auth_method: client.auth_method,
        resource,
        capabilities: &capabilities,
        claims: confirmation
            .iter()
            .map(|confirmation| ("cnf".to_owned(), confirmation.clone()))
            .chain(blueprint_token)
            .collect(),
    };
    let lifetime = token.lifetime();
    let token = token.issue(issuer)?;
    let settings = &application.token_settings;
    Ok(format::token_response(token, settings, lifetime, confirmation.as_ref()).into())
}

/// Returns the resource of a `/.default` scope.
///
/// The scopes of OpenID Connect are ignored, because MSAL Go sends them.
fn resource(scope: &str) -> Result<&str, AadstsError> {
    let is_resource_scope =
        |scope: &&str| !matches!(*scope, "openid" | "profile" | "offline_access");
    let mut scopes = scope.split_ascii_whitespace().filter(is_resource_scope);
    match scopes.next().map(|first| first.strip_suffix("/.default")) {
        Some(Some("")) | None => {
            let reason = "No resource is named.";
            Err(AadstsError::invalid_scope(scope, reason))
        }
        Some(Some(_)) if scopes.next().is_some() => {
            let reason = "The /.default of more than one resource is requested.";
            Err(AadstsError::invalid_scope(scope, reason))
        }
        Some(Some(resource)) => Ok(resource),
        Some(None) => Err(AadstsError::scope_without_default(scope)),
    }
}
