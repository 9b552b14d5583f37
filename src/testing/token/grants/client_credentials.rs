use serde_json::{Value, json};

use crate::testing::aadsts::error::AadstsError;
use crate::testing::token::client::AuthenticatedClient;
use crate::testing::token::format::{self, AccessTokenFormat};
use crate::testing::token::issuer::TokenIssuer;
use crate::time::unix_seconds;

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
    let now = unix_seconds(issuer.now);
    let capabilities = client.capabilities();
    let settings = &application.token_settings;
    let lifetime = settings.lifetime(&capabilities).as_secs();
    let object_id = application.subject();
    let format = AccessTokenFormat::of(directory, resource, issuer.base);
    let mut claims = format.claims(
        directory,
        application.client_id(),
        client.auth_method,
        (now, lifetime),
        &capabilities,
    );
    for (name, value) in [
        ("idtyp", json!("app")),
        ("oid", json!(object_id)),
        ("sub", json!(object_id)),
        ("roles", json!(application.roles_of(resource))),
        ("uti", json!(issuer.token_id())),
    ] {
        claims.insert(name.to_owned(), value);
    }
    let token = issuer.sign(&claims.into(), directory.web_api_id(resource))?;
    Ok(format::token_response(token, settings, lifetime).into())
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
