use serde_json::Value;

use crate::testing::aadsts::error::AadstsError;
use crate::testing::directory::scopes::ScopeParameter;
use crate::testing::token::client::AuthenticatedClient;
use crate::testing::token::code::CodeRedemption;
use crate::testing::token::issuer::TokenIssuer;
use crate::testing::token::sessions::{IssuedRefreshToken, Sessions};
use crate::time::unix_seconds;

/// Redeems an authorization code ([RFC 6749 section 4.1.3]).
///
/// [RFC 6749 section 4.1.3]: https://www.rfc-editor.org/rfc/rfc6749#section-4.1.3
pub(crate) fn respond(
    client: &AuthenticatedClient<'_>,
    issuer: &TokenIssuer<'_>,
    sessions: &mut Sessions,
) -> Result<Value, AadstsError> {
    let secret = client.required("code")?;
    let redemption = CodeRedemption {
        client_id: client.application.client_id(),
        redirect_uri: client.required("redirect_uri")?,
        verifier: client.request.field("code_verifier"),
        proof_key: client.proof_key,
    };
    let now = issuer.now;
    let code = sessions.check_code(secret, &redemption, now)?;
    if code.tenant != client.directory.id {
        return Err(AadstsError::issued_to_other_client("code"));
    }
    let id = code.user.to_string();
    let user = client.user(&id)?;
    // The authorization request decides whether there is an ID token and a refresh token. The
    // token request can only select the resource.
    let signed_in = ScopeParameter::parse(&code.scope)?;
    let scopes = match client.scope() {
        None => signed_in.first_resource(),
        Some(scope) => ScopeParameter {
            resources: ScopeParameter::parse(scope)?.resources,
            ..signed_in
        },
    };
    let access = client.access(user, &scopes)?.nonce(code.nonce);
    let mut response =
        access.token_response(issuer, unix_seconds(now), client.wants_client_info())?;
    sessions.codes.redeem(secret);
    if scopes.offline_access {
        let (tenant, client_id) = (client.directory.id, client.application.client_id());
        let mut token = IssuedRefreshToken::first(tenant, client_id, user.id(), &code.scope);
        token.family = code.family;
        let refresh_token = sessions.issue_refresh_token(token);
        if let Some(members) = response.as_object_mut() {
            members.insert("refresh_token".to_owned(), refresh_token.into());
        }
    }
    Ok(response)
}
