//! The chain of assertions of agent identities: T1 of the blueprint, T2 of the agent.

use std::time::{Duration, SystemTime};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::client::AuthenticatedClient;
use super::client_assertion::ReceivedAssertion;
use super::issuer::TokenIssuer;
use super::jwt::ReceivedJwt;
use crate::testing::aadsts::body::timestamp;
use crate::testing::aadsts::error::AadstsError;
use crate::testing::directory::application::Application;
use crate::testing::directory::tenant::Directory;
use crate::testing::directory::user::User;
use crate::time::unix_seconds;

/// Returns the claims of the blueprint's token (T1) for an agent identity.
pub(crate) fn blueprint_token_claims(
    directory: &Directory,
    blueprint: &Application,
    fmi_path: &str,
) -> Map<String, Value> {
    let blueprint_id = blueprint.client_id();
    Map::from_iter([
        ("aud".to_owned(), json!(blueprint_id)),
        (
            "sub".to_owned(),
            json!(subject(directory, blueprint_id, fmi_path)),
        ),
    ])
}

/// Checks the client assertion of an agent identity: a token (T1) of its blueprint, with its client
/// id as the path.
pub(crate) fn check_blueprint_token(
    assertion: &ReceivedAssertion<'_>,
    agent: &Application,
    blueprint_id: &str,
    directory: &Directory,
    issuer: &TokenIssuer<'_>,
) -> Result<(), AadstsError> {
    let claims = assertion.claims();
    let mismatch = |code, claim, presented: &str| {
        Err(AadstsError::no_matching_federated_credential(
            code, claim, presented,
        ))
    };
    if claims.iss != directory.issuer(issuer.base) {
        return mismatch(700211, "issuer", &claims.iss);
    }
    if !issuer.verifies(&assertion.0) {
        return Err(AadstsError::invalid_assertion_signature());
    }
    let expected = subject(directory, blueprint_id, agent.client_id());
    if !claims.sub.eq_ignore_ascii_case(&expected) {
        return mismatch(700213, "subject", &claims.sub);
    }
    if !claims.aud.eq_ignore_ascii_case(blueprint_id) {
        return mismatch(700212, "audience", &claims.aud);
    }
    assertion.check_time(issuer.now)
}

/// The checked claims of an agent's exchange token (T2).
#[derive(Deserialize)]
struct ExchangeTokenClaims {
    aud: String,
    iss: String,
    exp: u64,
    idtyp: Option<String>,
    azp: Option<String>,
}

/// Checks the user federated identity credential of an agent identity: its own unexpired token (T2)
/// for the exchange.
pub(crate) fn check_exchange_token(
    jwt: &str,
    client: &AuthenticatedClient<'_>,
    issuer: &TokenIssuer<'_>,
) -> Result<(), AadstsError> {
    let Some(token) = ReceivedJwt::<ExchangeTokenClaims>::parse(jwt) else {
        return Err(AadstsError::malformed_user_assertion());
    };
    if !issuer.verifies(&token) {
        return Err(AadstsError::unverified_user_assertion(
            "The key was not found.",
        ));
    }
    let claims = &token.claims;
    if claims.iss != client.directory.issuer(issuer.base) {
        let reason = "The assertion was issued in another tenant.";
        return Err(AadstsError::unverified_user_assertion(reason));
    }
    if claims.exp <= unix_seconds(issuer.now) {
        let exp = SystemTime::UNIX_EPOCH + Duration::from_secs(claims.exp);
        let (now, exp) = (timestamp(issuer.now), timestamp(exp));
        return Err(AadstsError::expired_user_assertion(&now, &exp));
    }
    let client_id = client.application.client_id();
    if !is_exchange(&claims.aud) {
        return Err(AadstsError::user_assertion_for_other_audience(
            &claims.aud,
            client_id,
        ));
    }
    let is_own = claims
        .azp
        .as_deref()
        .is_some_and(|azp| azp.eq_ignore_ascii_case(client_id));
    match is_own && claims.idtyp.as_deref() == Some("app") {
        true => Ok(()),
        false => Err(AadstsError::foreign_exchange_token(client_id)),
    }
}

/// Returns the claims by which an API recognizes the token of an agent identity.
///
/// `user` is the user whom the agent acts for.
pub(crate) fn agent_claims(agent: &Application, user: Option<&User>) -> Map<String, Value> {
    let Some(blueprint_id) = agent.blueprint_id() else {
        return Map::new();
    };
    let subject = match user {
        None => Some(AGENT_IDENTITY),
        Some(user) if user.is_of_agent(agent.client_id()) => Some(AGENT_USER),
        Some(_) => None,
    };
    let relation = if user.is_some() {
        MEMBER
    } else {
        SERVICE_PRINCIPAL
    };
    let facts = [
        ("xms_par_app_azp", Some(blueprint_id)),
        ("xms_act_fct", Some(AGENT_IDENTITY)),
        ("xms_sub_fct", subject),
        ("xms_idrel", Some(relation)),
    ];
    let facts = facts.into_iter();
    facts
        .filter_map(|(name, value)| Some((name.to_owned(), json!(value?))))
        .collect()
}

/// Returns whether a resource is the one of exchange tokens, in any cloud.
pub(crate) fn is_exchange(resource: &str) -> bool {
    EXCHANGES.contains(&resource)
}

/// Returns the `sub` of the blueprint's token, in the form of a federated managed identity.
fn subject(directory: &Directory, blueprint_id: &str, fmi_path: &str) -> String {
    format!("/eid1/c/pub/t/{}/a/{blueprint_id}/{fmi_path}", directory.id)
}

const EXCHANGES: [&str; 3] = [
    "api://AzureADTokenExchange",
    "api://AzureADTokenExchangeUSGov",
    "api://AzureADTokenExchangeChina",
];
const AGENT_IDENTITY: &str = "11";
const AGENT_USER: &str = "13";
const MEMBER: &str = "1";
const SERVICE_PRINCIPAL: &str = "7";
