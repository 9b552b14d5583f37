use serde::Deserialize;
use url::Url;

use crate::testing::aadsts::error::AadstsError;
use crate::testing::directory::tenant::{Directory, is_multi_tenant, sign_in_tenants};
use crate::testing::token::issuer::TokenIssuer;
use crate::testing::token::jwt::ReceivedJwt;

/// The claims of an ID token that a sign-out names.
#[derive(Deserialize)]
struct HintClaims {
    iss: String,
    aud: String,
}

/// Checks a sign-out, and returns the URL that the browser returns to
/// ([OpenID Connect RP-Initiated Logout section 2]).
///
/// The ID token may have expired. The browser never returns to a URI that is not registered for the
/// client of the ID token or of the request.
///
/// [OpenID Connect RP-Initiated Logout section 2]: https://openid.net/specs/openid-connect-rpinitiated-1_0.html#RPLogout
pub(crate) fn respond(
    query: &[(String, String)],
    tenant: &str,
    directories: &[Directory],
    issuer: &TokenIssuer<'_>,
) -> Result<Option<String>, AadstsError> {
    let field = |name: &str| {
        let field = query.iter().find(|(known, _)| known == name);
        field.map(|(_, value)| value.as_str())
    };
    let mut tenants: Vec<_> = sign_in_tenants(tenant, directories).collect();
    if tenants.is_empty() && !is_multi_tenant(tenant) {
        return Err(AadstsError::tenant_not_found("invalid_request", tenant));
    }
    let hint = match field("id_token_hint") {
        None => None,
        Some(hint) => Some(check_hint(hint, issuer)?),
    };
    if let Some(hint) = &hint {
        tenants.retain(|directory| directory.issuer(issuer.base) == hint.iss);
    }
    let client_id = match (&hint, field("client_id")) {
        (Some(hint), Some(client_id)) if hint.aud != client_id => {
            return Err(rejected("The id_token_hint was issued to another client."));
        }
        (Some(hint), _) => Some(hint.aud.as_str()),
        (None, client_id) => client_id,
    };
    let Some(uri) = field("post_logout_redirect_uri") else {
        return Ok(None);
    };
    let Some(client_id) = client_id else {
        return Err(rejected(
            "Neither id_token_hint nor client_id names the client.",
        ));
    };
    let is_registered = tenants.iter().any(|directory| {
        let application = directory.application(client_id);
        application.is_some_and(|application| {
            // Entra has one list for both.
            let of_sign_in = !issuer.rules.is_openid() && application.has_redirect_uri(uri);
            of_sign_in || application.has_post_logout_redirect_uri(uri)
        })
    });
    if !is_registered {
        return Err(AadstsError::unknown_redirect_uri(uri, client_id));
    }
    let mut url = Url::parse(uri).map_err(|_| AadstsError::missing_redirect_uri())?;
    if let Some(state) = field("state") {
        url.query_pairs_mut().append_pair("state", state);
    }
    Ok(Some(url.into()))
}

fn check_hint(hint: &str, issuer: &TokenIssuer<'_>) -> Result<HintClaims, AadstsError> {
    let jwt = ReceivedJwt::<HintClaims>::parse(hint);
    let jwt = jwt.filter(|jwt| issuer.verifies(jwt));
    let jwt = jwt.ok_or_else(|| rejected("The id_token_hint is no ID token of this authority."))?;
    Ok(jwt.claims)
}

fn rejected(reason: &str) -> AadstsError {
    AadstsError::without_code("invalid_request", reason)
}
