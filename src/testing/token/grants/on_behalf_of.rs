use std::time::{Duration, SystemTime};

use serde::Deserialize;
use serde_json::Value;

use crate::testing::aadsts::AadstsError;
use crate::testing::directory::scopes::ScopeParameter;
use crate::testing::http::response::timestamp;
use crate::testing::token::client::AuthenticatedClient;
use crate::testing::token::client_assertion::ReceivedJwt;
use crate::testing::token::issuer::TokenIssuer;
use crate::testing::token::sessions::{IssuedRefreshToken, Sessions};
use crate::time::unix_seconds;

/// What is looked at of the token that a web API was called with.
#[derive(Deserialize)]
struct UserAssertionClaims {
    aud: String,
    iss: String,
    exp: u64,
    oid: Option<String>,
    idtyp: Option<String>,
    /// Of an access token: the client that it was issued to.
    azp: Option<String>,
    appid: Option<String>,
}

/// A token for a web API that acts for the user who called it ([RFC 7523 section 2.1]).
///
/// [RFC 7523 section 2.1]: https://www.rfc-editor.org/rfc/rfc7523#section-2.1
pub(crate) fn answer(
    caller: &AuthenticatedClient<'_>,
    issuer: &TokenIssuer<'_>,
    sessions: &mut Sessions,
) -> Result<Value, AadstsError> {
    if caller.required("requested_token_use")? != "on_behalf_of" {
        return Err(AadstsError::bad_request(
            "invalid_request",
            9002313,
            "Invalid request. Request is malformed or invalid.",
        ));
    }
    let jwt = caller.required("assertion")?;
    let scope = caller.required("scope")?;
    let scopes = ScopeParameter::parse(scope)?;
    let now = SystemTime::now();
    let name = check(jwt, caller, issuer, now)?;
    let user = caller.user(&name)?;
    let access = caller.access(user, &scopes)?;
    let mut answer = access.answer(issuer, unix_seconds(now), caller.wants_client_info())?;
    if scopes.offline_access {
        let client_id = caller.application.client_id();
        let first = IssuedRefreshToken::first(caller.directory.id, client_id, user.id(), scope);
        if let Some(members) = answer.as_object_mut() {
            members.insert("refresh_token".to_owned(), sessions.keep(first).into());
        }
    }
    Ok(answer)
}

/// The object id of the user in whose name the token was issued, if it was issued here, to a client
/// of this web API, and has not ended.
fn check(
    jwt: &str,
    caller: &AuthenticatedClient<'_>,
    issuer: &TokenIssuer<'_>,
    now: SystemTime,
) -> Result<String, AadstsError> {
    let Some(assertion) = ReceivedJwt::<UserAssertionClaims>::split(jwt) else {
        return Err(AadstsError::malformed_user_assertion());
    };
    let claims = &assertion.claims;
    let directory = caller.directory;
    if !issuer.verifies(&assertion) {
        let refusal = AadstsError::unverified_user_assertion("The key was not found.");
        return Err(refusal);
    }
    let issuers = [
        directory.issuer(issuer.base),
        format!("{}/{}/", issuer.base, directory.id),
    ];
    if !issuers.contains(&claims.iss) {
        let refusal = AadstsError::unverified_user_assertion("It was issued in another tenant.");
        return Err(refusal);
    }
    if claims.exp <= unix_seconds(now) {
        let end = SystemTime::UNIX_EPOCH + Duration::from_secs(claims.exp);
        let refusal = AadstsError::expired_user_assertion(&timestamp(now), &timestamp(end));
        return Err(refusal);
    }
    let client_id = caller.application.client_id();
    if !caller.application.is_resource(&claims.aud) {
        let refusal = AadstsError::user_assertion_for_other_audience(&claims.aud, client_id);
        return Err(refusal);
    }
    if claims.azp.is_none() && claims.appid.is_none() {
        return Err(AadstsError::id_token_as_user_assertion());
    }
    match &claims.oid {
        Some(user) if claims.idtyp.as_deref() != Some("app") => Ok(user.clone()),
        _ => Err(AadstsError::application_token_as_user_assertion(client_id)),
    }
}
