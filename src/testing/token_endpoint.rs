use serde_json::Value;

use super::caller::{Caller, required};
use super::directory::Directory;
use super::grants::{client_credentials, on_behalf_of, refresh_token};
use super::issuer::Issuer;
use super::recorded::RecordedRequest;
use super::refusal::Refusal;
use super::sessions::Sessions;

/// Decides a token request in `tenant`, in Entra's order: the tenant, the application, its
/// credential, then what the grant asks for.
pub(super) fn answer(
    request: &RecordedRequest,
    tenant: &str,
    directories: &[Directory],
    issuer: &Issuer<'_>,
    sessions: &mut Sessions,
) -> Result<Value, Refusal> {
    let mut known = directories.iter();
    let Some(directory) = known.find(|directory| directory.is(tenant)) else {
        return Err(Refusal::tenant_not_found("invalid_request", tenant));
    };
    let grant = Grant::of(required(request, "grant_type")?)?;
    let caller = Caller::authenticate(request, tenant, directory, issuer)?;
    match grant {
        Grant::ClientCredentials => client_credentials::answer(&caller, issuer),
        Grant::OnBehalfOf => on_behalf_of::answer(&caller, issuer, sessions),
        Grant::RefreshToken => refresh_token::answer(&caller, issuer, sessions),
    }
}

enum Grant {
    ClientCredentials,
    OnBehalfOf,
    RefreshToken,
}

impl Grant {
    fn of(grant_type: &str) -> Result<Self, Refusal> {
        Ok(match grant_type {
            "client_credentials" => Self::ClientCredentials,
            "urn:ietf:params:oauth:grant-type:jwt-bearer" => Self::OnBehalfOf,
            "refresh_token" => Self::RefreshToken,
            _ => {
                return Err(Refusal::bad_request(
                    "unsupported_grant_type",
                    70003,
                    "The app requested an unsupported grant type.",
                ));
            }
        })
    }
}
