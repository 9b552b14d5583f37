use serde_json::{Value, json};

use crate::testing::aadsts::error::AadstsError;
use crate::testing::directory::resource::DEFAULT_SCOPE;
use crate::testing::directory::scopes::{RequestedScopes, ScopeParameter};
use crate::testing::token::access::DelegatedAccess;
use crate::testing::token::client::AuthenticatedClient;
use crate::testing::token::issuer::TokenIssuer;
use crate::testing::token::received_token::ReceivedToken;
use crate::time::unix_seconds;

/// Exchanges a user's access token for another token ([RFC 8693 section 2]).
///
/// The client is the API that the subject token is for, or the client that the subject token was
/// issued to. The application's registration names the APIs and scopes that it may exchange for.
///
/// [RFC 8693 section 2]: https://www.rfc-editor.org/rfc/rfc8693#section-2
pub(crate) fn respond(
    client: &AuthenticatedClient<'_>,
    issuer: &TokenIssuer<'_>,
) -> Result<Value, AadstsError> {
    let subject = presented(client, issuer, "subject_token")?;
    let client_id = client.application.client_id();
    let is_own = |token: &ReceivedToken| {
        let issued_to = token.client_id();
        token.is_for(client) || issued_to.is_some_and(|id| id.eq_ignore_ascii_case(client_id))
    };
    if !is_own(&subject) {
        return Err(rejected("subject_token", "it is for another API"));
    }
    let actor = match client.request.field("actor_token") {
        Some(_) => Some(presented(client, issuer, "actor_token")?),
        None if client.request.field("actor_token_type").is_some() => {
            return Err(AadstsError::missing_parameter("actor_token"));
        }
        None => None,
    };
    let user = subject
        .text("oid")
        .filter(|_| subject.text("idtyp") != Some("app"));
    let Some(user) = user else {
        return Err(rejected("subject_token", "it does not act for a user"));
    };
    let user = client.user(user)?;
    let requested = requested(client)?;
    let granted = granted(client, &requested)?;
    let scopes = ScopeParameter {
        resources: vec![requested.clone()],
        ..ScopeParameter::default()
    };
    let act =
        actor.map(|actor| json!({ "sub": actor.text("sub"), "client_id": actor.client_id() }));
    let access = DelegatedAccess::exchanged(client, user, &scopes, requested, granted)
        .acting(act)
        .confirmed_by(client.confirmation());
    let now = unix_seconds(issuer.now);
    let mut response = access.token_response(issuer, now, false)?;
    let token_type = client.request.field("requested_token_type");
    let (issued_token_type, other) = match token_type.unwrap_or(ACCESS_TOKEN) {
        ACCESS_TOKEN => (ACCESS_TOKEN, None),
        JWT => (JWT, None),
        ID_TOKEN => (ID_TOKEN, Some(access.id_token(issuer, now)?)),
        _ => {
            return Err(invalid_request(
                "The provided value for the 'requested_token_type' parameter is not supported.",
            ));
        }
    };
    if let Some(members) = response.as_object_mut() {
        members.insert("issued_token_type".to_owned(), issued_token_type.into());
        if let Some(token) = other {
            members.insert("access_token".to_owned(), token.into());
            members.insert("token_type".to_owned(), "N_A".into());
        }
    }
    Ok(response)
}

/// Checks a token of the request and its type.
fn presented(
    client: &AuthenticatedClient<'_>,
    issuer: &TokenIssuer<'_>,
    name: &str,
) -> Result<ReceivedToken, AadstsError> {
    let token = client.required(name)?;
    let token_type = format!("{name}_type");
    match client.required(&token_type)? {
        ACCESS_TOKEN | JWT => {}
        _ => {
            return Err(invalid_request(&format!(
                "The provided value for the '{token_type}' parameter is not supported."
            )));
        }
    }
    ReceivedToken::check(token, client, issuer).map_err(|reason| rejected(name, reason))
}

/// Returns the requested API and its scopes.
fn requested(client: &AuthenticatedClient<'_>) -> Result<RequestedScopes, AadstsError> {
    let form = client.request.form().iter();
    let mut targets = form.filter(|(name, _)| ["audience", "resource"].contains(&name.as_str()));
    let scope = client.scope().unwrap_or_default();
    let target = match (targets.next(), targets.next()) {
        (Some((_, target)), None) => target,
        (Some(_), Some(_)) => return Err(invalid_target("The request has more than one target.")),
        (None, _) => return ScopeParameter::parse(scope)?.one_resource(),
    };
    let prefix = format!("{}/", target.trim_end_matches('/'));
    let names = scope.split_ascii_whitespace();
    let names = names.map(|name| name.strip_prefix(&prefix).unwrap_or(name).to_owned());
    Ok(RequestedScopes {
        resource: target.clone(),
        prefix: String::new(),
        names: names.collect(),
    })
}

/// Returns the granted scopes: the requested ones, or all that the application may exchange for.
fn granted(
    client: &AuthenticatedClient<'_>,
    requested: &RequestedScopes,
) -> Result<Vec<String>, AadstsError> {
    let directory = client.directory;
    let mut exchanges = client.application.exchanges();
    let permitted =
        exchanges.find(|(resource, _)| directory.is_one_resource(resource, &requested.resource));
    let Some((_, scopes)) = permitted else {
        return Err(invalid_target(&format!(
            "The application is not permitted to exchange a token for '{}'.",
            requested.resource
        )));
    };
    let names = requested.names.iter().filter(|name| *name != DEFAULT_SCOPE);
    let names: Vec<String> = names.cloned().collect();
    match names.iter().find(|name| !scopes.contains(name)) {
        Some(name) => Err(AadstsError::invalid_scope(
            name,
            "The application is not permitted to exchange a token for this scope.",
        )),
        None if names.is_empty() => Ok(scopes.to_vec()),
        None => Ok(names),
    }
}

/// Builds the response to an unacceptable token ([RFC 8693 section 2.2.2]).
///
/// [RFC 8693 section 2.2.2]: https://www.rfc-editor.org/rfc/rfc8693#section-2.2.2
fn rejected(name: &str, reason: &str) -> AadstsError {
    invalid_request(&format!(
        "The provided value for the '{name}' parameter is not valid: {reason}."
    ))
}

fn invalid_request(text: &str) -> AadstsError {
    AadstsError::bad_request("invalid_request", 9002313, text)
}

fn invalid_target(text: &str) -> AadstsError {
    AadstsError::bad_request("invalid_target", 9002313, text)
}

const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
