use std::time::{Duration, SystemTime};

use serde::Deserialize;
use serde_json::Value;

use crate::testing::aadsts::Refusal;
use crate::testing::directory::scopes::Scopes;
use crate::testing::http::response::timestamp;
use crate::testing::token::client::Caller;
use crate::testing::token::client_assertion::Jwt;
use crate::testing::token::issuer::Issuer;
use crate::testing::token::sessions::{RefreshToken, Sessions};
use crate::time::unix_seconds;

/// What is looked at of the token that a web API was called with.
#[derive(Deserialize)]
struct Claims {
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
    caller: &Caller<'_>,
    issuer: &Issuer<'_>,
    sessions: &mut Sessions,
) -> Result<Value, Refusal> {
    if caller.required("requested_token_use")? != "on_behalf_of" {
        return Err(Refusal::bad_request(
            "invalid_request",
            9002313,
            "Invalid request. Request is malformed or invalid.",
        ));
    }
    let jwt = caller.required("assertion")?;
    let scope = caller.required("scope")?;
    let scopes = Scopes::parse(scope)?;
    let now = SystemTime::now();
    let name = check(jwt, caller, issuer, now)?;
    let user = caller.user(&name)?;
    let access = caller.access(user, &scopes)?;
    let mut answer = access.answer(issuer, unix_seconds(now), caller.wants_client_info())?;
    if scopes.offline_access {
        let client_id = caller.application.client_id();
        let first = RefreshToken::first(caller.directory.id, client_id, user.id(), scope);
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
    caller: &Caller<'_>,
    issuer: &Issuer<'_>,
    now: SystemTime,
) -> Result<String, Refusal> {
    let Some(assertion) = Jwt::<Claims>::split(jwt) else {
        return Err(Refusal::malformed_user_assertion());
    };
    let claims = &assertion.claims;
    let directory = caller.directory;
    if !issuer.verifies(&assertion) {
        let refusal = Refusal::unsigned_user_assertion("The key was not found.");
        return Err(refusal);
    }
    let issuers = [
        directory.issuer(issuer.base),
        format!("{}/{}/", issuer.base, directory.id),
    ];
    if !issuers.contains(&claims.iss) {
        let refusal = Refusal::unsigned_user_assertion("It was issued in another tenant.");
        return Err(refusal);
    }
    if claims.exp <= unix_seconds(now) {
        let end = SystemTime::UNIX_EPOCH + Duration::from_secs(claims.exp);
        let refusal = Refusal::user_assertion_outside_its_time(&timestamp(now), &timestamp(end));
        return Err(refusal);
    }
    let client_id = caller.application.client_id();
    if !caller.application.is_resource(&claims.aud) {
        let refusal = Refusal::user_assertion_of_another(&claims.aud, client_id);
        return Err(refusal);
    }
    if claims.azp.is_none() && claims.appid.is_none() {
        return Err(Refusal::id_token_as_user_assertion());
    }
    match &claims.oid {
        Some(user) if claims.idtyp.as_deref() != Some("app") => Ok(user.clone()),
        _ => Err(Refusal::application_as_user(client_id)),
    }
}
