use serde_json::Value;

use crate::testing::aadsts::AadstsError;
use crate::testing::authorize::request::is_any_tenant;
use crate::testing::directory::tenant::Directory;
use crate::testing::recorded_request::RecordedRequest;
use crate::testing::token::client::{AuthenticatedClient, required};
use crate::testing::token::grants::{
    authorization_code, client_credentials, on_behalf_of, refresh_token,
};
use crate::testing::token::issuer::TokenIssuer;
use crate::testing::token::sessions::Sessions;

/// Decides a token request in `tenant`, in Entra's order: the tenant, the application, its
/// credential, then what the grant asks for.
pub(crate) fn answer(
    request: &RecordedRequest,
    tenant: &str,
    directories: &[Directory],
    issuer: &TokenIssuer<'_>,
    sessions: &mut Sessions,
) -> Result<Value, AadstsError> {
    let directory = match directory(request, tenant, directories, sessions) {
        Some(directory) => directory?,
        None => return Err(AadstsError::tenant_not_found("invalid_request", tenant)),
    };
    let grant = GrantType::of(required(request, "grant_type")?)?;
    let caller = AuthenticatedClient::authenticate(request, tenant, directory, issuer)?;
    match grant {
        GrantType::AuthorizationCode => authorization_code::answer(&caller, issuer, sessions),
        GrantType::ClientCredentials => client_credentials::answer(&caller, issuer),
        GrantType::OnBehalfOf => on_behalf_of::answer(&caller, issuer, sessions),
        GrantType::RefreshToken => refresh_token::answer(&caller, issuer, sessions),
    }
}

/// The tenant that is named; of `organizations`, the one in which the user signed in.
fn directory<'a>(
    request: &RecordedRequest,
    tenant: &str,
    directories: &'a [Directory],
    sessions: &Sessions,
) -> Option<Result<&'a Directory, AadstsError>> {
    let mut known = directories.iter();
    if !is_any_tenant(tenant) {
        return known.find(|known| known.is(tenant)).map(Ok);
    }
    let field = |name: &str| request.field(name).unwrap_or_default();
    let id = match field("grant_type") {
        "authorization_code" => sessions.codes.find(field("code")).map(|code| code.tenant),
        "refresh_token" => sessions.tenant_of(field("refresh_token")),
        _ => return None,
    };
    match id {
        None => Some(Err(AadstsError::malformed_grant())),
        Some(id) => known.find(|known| known.id == id).map(Ok),
    }
}

enum GrantType {
    AuthorizationCode,
    ClientCredentials,
    OnBehalfOf,
    RefreshToken,
}

impl GrantType {
    fn of(grant_type: &str) -> Result<Self, AadstsError> {
        Ok(match grant_type {
            "authorization_code" => Self::AuthorizationCode,
            "client_credentials" => Self::ClientCredentials,
            "urn:ietf:params:oauth:grant-type:jwt-bearer" => Self::OnBehalfOf,
            "refresh_token" => Self::RefreshToken,
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
