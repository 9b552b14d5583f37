use std::time::SystemTime;

use super::client_assertion::ReceivedAssertion;
use super::signing_key::TokenSigningKey;
use crate::testing::aadsts::error::AadstsError;
use crate::testing::directory::application::Application;

/// Checks a token of this authority that replaces an assertion of the application.
///
/// One of `keys` must have signed the token, and the token must match a federated credential of the
/// application.
pub(crate) fn check(
    assertion: &ReceivedAssertion<'_>,
    application: &Application,
    keys: &[TokenSigningKey],
    now: SystemTime,
) -> Result<(), AadstsError> {
    let claims = assertion.claims();
    let mut candidates: Vec<_> = application.federated_credentials().iter().collect();
    candidates.retain(|credential| credential.issuer == claims.iss);
    if candidates.is_empty() {
        let issuer = &claims.iss;
        return Err(AadstsError::no_matching_federated_credential(
            700211, "issuer", issuer,
        ));
    }
    if !keys.iter().any(|key| key.verifies(&assertion.0)) {
        return Err(AadstsError::invalid_assertion_signature());
    }
    candidates.retain(|credential| credential.subject == claims.sub);
    if candidates.is_empty() {
        let subject = &claims.sub;
        return Err(AadstsError::no_matching_federated_credential(
            700213, "subject", subject,
        ));
    }
    if !candidates
        .iter()
        .any(|credential| credential.audience == claims.aud)
    {
        let audience = &claims.aud;
        return Err(AadstsError::no_matching_federated_credential(
            700212, "audience", audience,
        ));
    }
    assertion.check_time(now)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::crypto::SigningAlgorithm;

    /// A `LocalAuthority` issues no expired tokens, so this test signs its own.
    #[test]
    fn a_federated_token_is_accepted_between_nbf_and_exp() {
        let key = TokenSigningKey::generate().unwrap();
        let application = Application::new("daemon").federated_credential("iss", "sub", "aud");
        let claims = json!({ "iss": "iss", "sub": "sub", "aud": "aud", "nbf": 5000, "exp": 8600 });
        let token = key.sign(&claims, SigningAlgorithm::RS256).unwrap();
        let assertion = ReceivedAssertion::parse(&token).ok().unwrap();
        for (seconds, code) in [
            (4699, Some(700024)),
            (4700, None),
            (8900, None),
            (8901, Some(700024)),
        ] {
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            let checked = check(&assertion, &application, std::slice::from_ref(&key), now);
            assert_eq!(checked.err().map(|error| error.code), code, "{seconds}");
        }
    }
}
