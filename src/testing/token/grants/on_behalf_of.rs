use std::time::{Duration, SystemTime};

use serde::Deserialize;
use serde_json::Value;

use crate::testing::aadsts::body::timestamp;
use crate::testing::aadsts::error::AadstsError;
use crate::testing::directory::scopes::ScopeParameter;
use crate::testing::token::client::AuthenticatedClient;
use crate::testing::token::issuer::TokenIssuer;
use crate::testing::token::jwt::ReceivedJwt;
use crate::testing::token::sessions::{IssuedRefreshToken, Sessions};
use crate::time::unix_seconds;

/// The checked claims of the token that a web API was called with.
#[derive(Deserialize)]
struct UserAssertionClaims {
    aud: String,
    iss: String,
    exp: u64,
    oid: Option<String>,
    idtyp: Option<String>,
    /// The client of an access token of version 2.
    azp: Option<String>,
    /// The client of an access token of version 1.
    appid: Option<String>,
}

/// Issues a token for a web API that acts on behalf of its caller ([RFC 7523 section 2.1]).
///
/// [RFC 7523 section 2.1]: https://www.rfc-editor.org/rfc/rfc7523#section-2.1
pub(crate) fn respond(
    client: &AuthenticatedClient<'_>,
    issuer: &TokenIssuer<'_>,
    sessions: &mut Sessions,
) -> Result<Value, AadstsError> {
    if client.required("requested_token_use")? != "on_behalf_of" {
        return Err(AadstsError::bad_request(
            "invalid_request",
            9002313,
            "Invalid request. Request is malformed or invalid.",
        ));
    }
    let jwt = client.required("assertion")?;
    let scope = client.required("scope")?;
    let scopes = ScopeParameter::parse(scope)?;
    let now = issuer.now;
    let user_id = check_assertion(jwt, client, issuer, now)?;
    let user = client.user(&user_id)?;
    let access = client.access(user, &scopes)?;
    let mut response =
        access.token_response(issuer, unix_seconds(now), client.wants_client_info())?;
    if scopes.offline_access {
        let (tenant, client_id) = (client.directory.id, client.application.client_id());
        let token = IssuedRefreshToken::first(tenant, client_id, user.id(), scope);
        let refresh_token = sessions.issue_refresh_token(token);
        if let Some(members) = response.as_object_mut() {
            members.insert("refresh_token".to_owned(), refresh_token.into());
        }
    }
    Ok(response)
}

/// Checks the caller's token and returns the object id of the user.
///
/// The token must be an unexpired access token of this tenant for a user, with this web API as its
/// audience.
fn check_assertion(
    jwt: &str,
    client: &AuthenticatedClient<'_>,
    issuer: &TokenIssuer<'_>,
    now: SystemTime,
) -> Result<String, AadstsError> {
    let Some(assertion) = ReceivedJwt::<UserAssertionClaims>::parse(jwt) else {
        return Err(AadstsError::malformed_user_assertion());
    };
    let claims = &assertion.claims;
    let directory = client.directory;
    if !issuer.verifies(&assertion) {
        let reason = "The key was not found.";
        return Err(AadstsError::unverified_user_assertion(reason));
    }
    let issuers = [
        directory.issuer(issuer.base),
        format!("{}/{}/", issuer.base, directory.id),
    ];
    if !issuers.contains(&claims.iss) {
        let reason = "The assertion was issued in another tenant.";
        return Err(AadstsError::unverified_user_assertion(reason));
    }
    if claims.exp <= unix_seconds(now) {
        let exp = SystemTime::UNIX_EPOCH + Duration::from_secs(claims.exp);
        let (now, exp) = (timestamp(now), timestamp(exp));
        return Err(AadstsError::expired_user_assertion(&now, &exp));
    }
    let client_id = client.application.client_id();
    // Users call the blueprint of an agent identity.
    let called = match client.application.blueprint_id() {
        None => Some(client.application),
        Some(blueprint_id) => directory.application(blueprint_id),
    };
    if !called.is_some_and(|called| called.is_resource(&claims.aud)) {
        let audience = &claims.aud;
        return Err(AadstsError::user_assertion_for_other_audience(
            audience, client_id,
        ));
    }
    if claims.azp.is_none() && claims.appid.is_none() {
        return Err(AadstsError::id_token_as_user_assertion());
    }
    match &claims.oid {
        Some(user) if claims.idtyp.as_deref() != Some("app") => Ok(user.clone()),
        _ => Err(AadstsError::application_token_as_user_assertion(client_id)),
    }
}
