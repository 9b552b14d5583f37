use std::time::SystemTime;

use serde_json::Value;

use crate::testing::aadsts::AadstsError;
use crate::testing::directory::scopes::ScopeParameter;
use crate::testing::token::client::AuthenticatedClient;
use crate::testing::token::code::CodeRedemption;
use crate::testing::token::issuer::TokenIssuer;
use crate::testing::token::sessions::{IssuedRefreshToken, Sessions};
use crate::time::unix_seconds;

/// Tokens for the code that a sign-in ended with ([RFC 6749 section 4.1.3]).
///
/// [RFC 6749 section 4.1.3]: https://www.rfc-editor.org/rfc/rfc6749#section-4.1.3
pub(crate) fn answer(
    caller: &AuthenticatedClient<'_>,
    issuer: &TokenIssuer<'_>,
    sessions: &mut Sessions,
) -> Result<Value, AadstsError> {
    let secret = caller.required("code")?;
    let redemption = CodeRedemption {
        client_id: caller.application.client_id(),
        redirect_uri: caller.required("redirect_uri")?,
        verifier: caller.request.field("code_verifier"),
    };
    let now = SystemTime::now();
    let code = sessions.check_code(secret, &redemption, now)?;
    if code.tenant != caller.directory.id {
        return Err(AadstsError::issued_to_other_client("code"));
    }
    let id = code.user.to_string();
    let user = caller.user(&id)?;
    // Which tokens come of a sign-in was said when it began.
    let signed_in = ScopeParameter::parse(&code.scope)?;
    let scopes = match caller.scope() {
        None => signed_in.first_resource(),
        Some(scope) => ScopeParameter {
            resources: ScopeParameter::parse(scope)?.resources,
            ..signed_in
        },
    };
    let access = caller.access(user, &scopes)?.nonce(code.nonce);
    let mut answer = access.answer(issuer, unix_seconds(now), caller.wants_client_info())?;
    sessions.codes.redeem(secret);
    if scopes.offline_access {
        let client_id = caller.application.client_id();
        let mut first =
            IssuedRefreshToken::first(caller.directory.id, client_id, user.id(), &code.scope);
        first.family = code.family;
        if let Some(members) = answer.as_object_mut() {
            members.insert("refresh_token".to_owned(), sessions.keep(first).into());
        }
    }
    Ok(answer)
}
