use serde_json::Value;

use super::client::{AuthenticatedClient, is_mtls_pop, required};
use super::grants::{
    authorization_code, client_credentials, on_behalf_of, refresh_token, token_exchange, user_fic,
};
use super::issuer::TokenIssuer;
use super::proof::ReceivedProofs;
use super::sessions::Sessions;
use crate::testing::aadsts::error::AadstsError;
use crate::testing::directory::tenant::{Directory, is_multi_tenant};
use crate::testing::provider_rules::ProviderRules;
use crate::testing::recorded_request::RecordedRequest;

/// Processes a token request to `tenant`.
///
/// The checks have Entra's order: the tenant, the grant type, the application, its credential, the
/// grant. A proof is checked before the grant, so that a code or a refresh token stays valid.
pub(crate) fn respond(
    request: &RecordedRequest,
    tenant: &str,
    directories: &[Directory],
    issuer: &TokenIssuer<'_>,
    sessions: &mut Sessions,
    proofs: &mut ReceivedProofs,
) -> Result<Value, AadstsError> {
    let directory = match find_directory(request, tenant, directories, sessions) {
        Some(directory) => directory?,
        None => return Err(AadstsError::tenant_not_found("invalid_request", tenant)),
    };
    let grant_type = GrantType::parse(required(request, "grant_type")?, issuer.rules)?;
    let scope = request.field("scope").unwrap_or_default();
    if issuer.rules.rejects_scopes(scope) {
        let reason = "There is no scope 'offline_access'.";
        return Err(AadstsError::invalid_scope(scope, reason));
    }
    let mut client = AuthenticatedClient::authenticate(request, tenant, directory, issuer)?;
    client.proof_key = proofs.check_token_request(request, client.application, issuer)?;
    let response = match grant_type {
        GrantType::AuthorizationCode => authorization_code::respond(&client, issuer, sessions),
        GrantType::ClientCredentials => client_credentials::respond(&client, issuer),
        GrantType::OnBehalfOf => on_behalf_of::respond(&client, issuer, sessions),
        GrantType::RefreshToken => refresh_token::respond(&client, issuer, sessions),
        GrantType::TokenExchange => token_exchange::respond(&client, issuer),
        GrantType::UserFic => user_fic::respond(&client, issuer, sessions),
    };
    let mut response = response?;
    if let (true, Some(members)) = (is_mtls_pop(request), response.as_object_mut()) {
        members.insert("token_type".to_owned(), "mtls_pop".into());
    }
    Ok(response)
}

/// Returns the tenant of the URL. For `organizations`, returns the tenant of the code or of the
/// refresh token.
fn find_directory<'a>(
    request: &RecordedRequest,
    tenant: &str,
    directories: &'a [Directory],
    sessions: &Sessions,
) -> Option<Result<&'a Directory, AadstsError>> {
    let mut directories = directories.iter();
    if !is_multi_tenant(tenant) {
        let found = directories.find(|directory| directory.is(tenant));
        return found.map(Ok);
    }
    let field = |name: &str| request.field(name).unwrap_or_default();
    let id = match field("grant_type") {
        "authorization_code" => sessions.codes.find(field("code")).map(|code| code.tenant),
        "refresh_token" => sessions.tenant_of(field("refresh_token")),
        _ => return None,
    };
    match id {
        None => Some(Err(AadstsError::malformed_grant())),
        Some(id) => directories.find(|directory| directory.id == id).map(Ok),
    }
}

enum GrantType {
    AuthorizationCode,
    ClientCredentials,
    OnBehalfOf,
    RefreshToken,
    TokenExchange,
    UserFic,
}

impl GrantType {
    fn parse(grant_type: &str, rules: &ProviderRules) -> Result<Self, AadstsError> {
        Ok(match grant_type {
            "authorization_code" => Self::AuthorizationCode,
            "client_credentials" => Self::ClientCredentials,
            "urn:ietf:params:oauth:grant-type:jwt-bearer" => Self::OnBehalfOf,
            "refresh_token" => Self::RefreshToken,
            "urn:ietf:params:oauth:grant-type:token-exchange" if rules.is_openid() => {
                Self::TokenExchange
            }
            "user_fic" if !rules.is_openid() => Self::UserFic,
            _ => {
                return Err(AadstsError::bad_request(
                    "unsupported_grant_type",
                    70003,
                    "The app requested an unsupported grant type.",
                ));
            }
        })
    }
}
