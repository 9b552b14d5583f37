use std::time::SystemTime;

use serde_json::{Value, json};

use crate::testing::aadsts::AadstsError;
use crate::testing::token::client::AuthenticatedClient;
use crate::testing::token::format::{self, AccessTokenFormat};
use crate::testing::token::issuer::TokenIssuer;
use crate::time::unix_seconds;

/// A token for the application itself ([RFC 6749 section 4.4]).
///
/// [RFC 6749 section 4.4]: https://www.rfc-editor.org/rfc/rfc6749#section-4.4
pub(crate) fn answer(
    caller: &AuthenticatedClient<'_>,
    issuer: &TokenIssuer<'_>,
) -> Result<Value, AadstsError> {
    let AuthenticatedClient {
        directory,
        application,
        ..
    } = caller;
    let resource = resource(caller.required("scope")?)?;
    if !directory.knows(resource) {
        return Err(AadstsError::resource_not_found(resource, &directory.name));
    }
    let now = unix_seconds(SystemTime::now());
    let capabilities = caller.capabilities();
    let lifetime = application.tokens.lifetime(&capabilities).as_secs();
    let object_id = application.subject();
    let form = AccessTokenFormat::of(directory, resource, issuer.base);
    let mut claims = form.claims(
        directory,
        application.client_id(),
        caller.method,
        (now, lifetime),
        &capabilities,
    );
    for (name, value) in [
        ("idtyp", json!("app")),
        ("oid", json!(object_id)),
        ("sub", json!(object_id)),
        ("roles", json!(application.roles_of(resource))),
        ("uti", json!(issuer.uti())),
    ] {
        claims.insert(name.to_owned(), value);
    }
    let token = issuer.sign(&claims.into())?;
    Ok(format::success(token, &application.tokens, lifetime).into())
}

/// The resource whose `/.default` is asked for. The scopes of OpenID Connect are tolerated beside
/// it, as Go's MSAL sends them.
fn resource(scope: &str) -> Result<&str, AadstsError> {
    let reserved = |scope: &&str| !matches!(*scope, "openid" | "profile" | "offline_access");
    let mut scopes = scope.split_ascii_whitespace().filter(reserved);
    match scopes.next().map(|first| first.strip_suffix("/.default")) {
        Some(Some("")) | None => Err(AadstsError::invalid_scope(scope, "It names no resource.")),
        Some(Some(_)) if scopes.next().is_some() => Err(AadstsError::invalid_scope(
            scope,
            "It asks for more than one resource's /.default.",
        )),
        Some(Some(resource)) => Ok(resource),
        Some(None) => Err(AadstsError::scope_without_default(scope)),
    }
}
