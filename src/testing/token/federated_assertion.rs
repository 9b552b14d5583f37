use std::time::SystemTime;

use crate::testing::aadsts::AadstsError;
use crate::testing::directory::application::Application;
use crate::testing::token::client_assertion::Assertion;
use crate::testing::token::signing_key::TokenSigningKey;

/// Checks a token that vouches for `application`: it was issued here, under one of `keys`, and is
/// what one of the federated credentials asks for.
pub(crate) fn check(
    assertion: &Assertion<'_>,
    application: &Application,
    keys: &[TokenSigningKey],
    now: SystemTime,
) -> Result<(), AadstsError> {
    let claims = &assertion.claims;
    let mut known: Vec<_> = application.federated_credentials().iter().collect();
    known.retain(|known| known.issuer == claims.iss);
    if known.is_empty() {
        let refusal = AadstsError::no_matching_federated_credential(700211, "issuer", &claims.iss);
        return Err(refusal);
    }
    let kid = assertion.header.kid.as_deref();
    let mut keys = keys.iter();
    if !keys.any(|key| key.verifies(kid, assertion.message, &assertion.signature)) {
        return Err(AadstsError::invalid_assertion_signature());
    }
    known.retain(|known| known.subject == claims.sub);
    if known.is_empty() {
        let refusal = AadstsError::no_matching_federated_credential(700213, "subject", &claims.sub);
        return Err(refusal);
    }
    if !known.iter().any(|known| known.audience == claims.aud) {
        let refusal =
            AadstsError::no_matching_federated_credential(700212, "audience", &claims.aud);
        return Err(refusal);
    }
    assertion.check_time(now)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    /// The authority issues no token that has ended, so these are made by hand.
    #[test]
    fn a_token_vouches_in_its_time_alone() {
        let key = TokenSigningKey::generate().unwrap();
        let application = Application::new("daemon").federated_credential("iss", "sub", "aud");
        let claims = json!({ "iss": "iss", "sub": "sub", "aud": "aud", "nbf": 5000, "exp": 8600 });
        let token = key.sign(&claims).unwrap();
        let assertion = Assertion::parse(&token).ok().unwrap();
        for (seconds, code) in [
            (4699, Some(700024)),
            (4700, None),
            (8900, None),
            (8901, Some(700024)),
        ] {
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            let checked = check(&assertion, &application, std::slice::from_ref(&key), now);
            assert_eq!(checked.err().map(|refusal| refusal.code), code, "{seconds}");
        }
    }
}
