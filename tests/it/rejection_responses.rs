//! The status and the challenge of each rejection, as a client reads them.

use confidential_client::delegated::UserAssertion;
use confidential_client::resource::{
    AccessDenied, Claims, RejectionReason, TokenRejection, TokenValidator,
};
use confidential_client::{Challenge, RetryPolicy};
use http::HeaderMap;
use serde_json::json;

use crate::support::Provider;
use crate::support::issuer::{
    Issuer, RSA, application_claims, header, user_claims, user_token, with,
};
use crate::support::log_capture::Log;

async fn claims(validator: &TokenValidator, claims: &serde_json::Value) -> Claims {
    validator
        .validate(&RSA.sign(&header(), claims))
        .await
        .unwrap()
}

fn challenge(rejection: &TokenRejection) -> Challenge {
    let value = rejection.www_authenticate().unwrap();
    let mut challenges = Challenge::parse(value.to_str().unwrap());
    assert_eq!(challenges.len(), 1, "{value:?}");
    let challenge = challenges.remove(0);
    assert!(challenge.is_bearer());
    challenge
}

#[tokio::test]
async fn each_rejection_has_the_status_and_challenge_of_the_standard() {
    let validator = Issuer::new().validator();
    let user = claims(&validator, &user_claims()).await;
    let application = claims(&validator, &application_claims()).await;
    let expired = with(user_claims(), "exp", 1);
    let two = &["Files.Write", "Files.ReadWrite"];
    for (name, rejection, status, error, scope) in [
        (
            "no token",
            validator
                .validate_headers(&HeaderMap::new())
                .await
                .unwrap_err(),
            401,
            None,
            None,
        ),
        (
            "no JWT",
            validator.validate("x").await.unwrap_err(),
            401,
            Some("invalid_token"),
            None,
        ),
        (
            "expired",
            validator
                .validate(&RSA.sign(&header(), &expired))
                .await
                .unwrap_err(),
            401,
            Some("invalid_token"),
            None,
        ),
        (
            "no scope",
            user.require_scope("Files.Write").unwrap_err(),
            403,
            Some("insufficient_scope"),
            Some("Files.Write"),
        ),
        (
            "none of two",
            user.require_any(two, &["x"]).unwrap_err(),
            403,
            Some("insufficient_scope"),
            Some("Files.Write Files.ReadWrite"),
        ),
        (
            "not for users",
            user.require_application_role("Files.Read.All").unwrap_err(),
            403,
            Some("insufficient_scope"),
            None,
        ),
        (
            "no role",
            application
                .require_application_role("Files.Write.All")
                .unwrap_err(),
            403,
            Some("insufficient_scope"),
            None,
        ),
        (
            "not for applications",
            application.require_scope("Files.Read").unwrap_err(),
            403,
            Some("insufficient_scope"),
            Some("Files.Read"),
        ),
    ] {
        let challenge = challenge(&rejection);
        assert_eq!(rejection.status(), status, "{name}");
        assert_eq!(challenge.error(), error, "{name}");
        assert_eq!(challenge.scope(), scope, "{name}");
        let description = challenge.parameter("error_description");
        assert_eq!(description.is_some(), error.is_some(), "{name}");
        assert!(rejection.retry_after().is_none(), "{name}");
    }
}

#[tokio::test]
async fn each_rejection_names_the_missing_permission() {
    let validator = Issuer::new().validator();
    let user = claims(&validator, &user_claims()).await;
    let application = claims(&validator, &application_claims()).await;
    for (rejection, expected) in [
        (
            user.require_scope("Files.Write").unwrap_err(),
            "the client was not granted the scope 'Files.Write'",
        ),
        (
            user.require_any(&["a", "b"], &[]).unwrap_err(),
            "the client was not granted any of the scopes 'a', 'b'",
        ),
        (
            user.require_application_role("R").unwrap_err(),
            "this operation requires an application token with the role 'R'",
        ),
        (
            application.require_scope("S").unwrap_err(),
            "this operation requires a user token with the scope 'S'",
        ),
        (
            application.require_application_role("R").unwrap_err(),
            "the application was not granted the role 'R'",
        ),
    ] {
        assert_eq!(rejection.to_string(), expected);
    }
    let graph = with(user_claims(), "aud", "https://graph.microsoft.com");
    let graph = validator
        .validate(&RSA.sign(&header(), &graph))
        .await
        .unwrap_err();
    assert!(
        graph
            .to_string()
            .starts_with("the token is for Microsoft Graph, and not for this application")
    );
}

#[tokio::test]
async fn the_client_can_read_the_claims_challenge() {
    let validator = Issuer::new().validator();
    let user = claims(&validator, &with(user_claims(), "xms_cc", json!(["cp1"]))).await;
    let rejection = user.require_authentication_context("c1").unwrap_err();
    assert_eq!(rejection.status(), 401);
    let challenge = challenge(&rejection);
    assert_eq!(challenge.error(), Some("insufficient_claims"));
    let asked: serde_json::Value = serde_json::from_str(&challenge.claims().unwrap()).unwrap();
    assert_eq!(
        asked,
        json!({ "access_token": { "acrs": { "essential": true, "value": "c1" } } })
    );
    let sign_in = challenge.authorization_uri().unwrap();
    assert!(
        sign_in.starts_with("https://login.microsoftonline.com/"),
        "{sign_in}"
    );
    for acrs in [json!(["c2", "c1"]), json!("c1")] {
        let met = claims(&validator, &with(user_claims(), "acrs", acrs)).await;
        met.require_authentication_context("c1").unwrap();
        met.require_authentication_context("c3").unwrap_err();
    }
}

#[tokio::test]
async fn the_client_and_the_user_get_different_errors() {
    let validator = Issuer::new().validator();
    let granted = user_token();
    let not_granted = RSA.sign(&header(), &with(user_claims(), "scp", "User.Read"));
    let application = RSA.sign(&header(), &application_claims());
    let validator = &validator;
    let read = async move |token: &str, owner: &str| -> Result<(), AccessDenied> {
        let token = validator.validate(token).await?;
        token.require_any(&["Files.Read"], &["Files.Read.All"])?;
        token.authorize_user(|user| user.object_id() == Some(owner))?;
        Ok(())
    };
    read(&granted, "adele").await.unwrap();
    let denied = read(&granted, "ben").await.unwrap_err();
    assert!(matches!(denied, AccessDenied::User(_)), "{denied:?}");
    assert_eq!(
        (denied.status().as_u16(), denied.www_authenticate()),
        (403, None)
    );
    assert_eq!(
        denied.to_string(),
        "the user may not do this, whatever the client was granted"
    );
    for owner in ["adele", "ben"] {
        let denied = read(&not_granted, owner).await.unwrap_err();
        assert!(matches!(denied, AccessDenied::Client(_)), "{denied:?}");
        assert_eq!(denied.status(), 403);
        assert!(denied.www_authenticate().is_some());
    }
    // The object id is the owner's, but the token does not act for a user.
    let denied = read(&application, "adele").await.unwrap_err();
    assert!(matches!(denied, AccessDenied::User(_)), "{denied:?}");
    assert!(
        denied.to_string().contains("does not act for a user"),
        "{denied}"
    );
}

#[tokio::test]
async fn a_client_that_cannot_answer_a_claims_challenge_does_not_get_one() {
    let validator = Issuer::new().validator();
    let plain = claims(&validator, &user_claims()).await;
    for (name, capabilities, is_challenged) in [
        ("a list", json!(["cp1"]), true),
        ("a string", json!("cp1"), true),
        ("capitals", json!(["CP1"]), true),
        ("among others", json!(["cp2", "cp1"]), true),
        ("a list in a string", json!("cp2,cp1"), true),
        ("words in a string", json!("cp2 cp1"), true),
        ("another", json!(["cp2"]), false),
        ("one that begins like it", json!("cp10"), false),
        ("none", json!([]), false),
        ("an empty string", json!(""), false),
        ("null", json!(null), false),
        ("another type", json!({ "values": ["cp1"] }), false),
    ] {
        let user = claims(&validator, &with(user_claims(), "xms_cc", capabilities)).await;
        let rejection = user.require_authentication_context("c1").unwrap_err();
        let reason = RejectionReason::NeedsAuthenticationContext;
        assert_eq!(rejection.reason(), reason, "{name}");
        assert_eq!(
            challenge(&rejection).claims().is_some(),
            is_challenged,
            "{name}"
        );
        let status = if is_challenged { 401 } else { 403 };
        assert_eq!(rejection.status(), status, "{name}");
    }
    let rejection = plain.require_authentication_context("c1").unwrap_err();
    let challenge = challenge(&rejection);
    assert_eq!(rejection.status(), 403);
    assert_eq!(challenge.error(), Some("insufficient_scope"));
    assert_eq!(
        (challenge.authorization_uri(), challenge.scope()),
        (None, None)
    );
    let description = challenge.parameter("error_description").unwrap();
    assert!(description.contains("does not declare that it can answer a claims challenge"));
    let chain = rejection.chain().to_string();
    assert!(
        chain.contains("(xms_cc, an optional claim that the API's registration requests) are none"),
        "{chain}"
    );
    // A context that was met needs no capability.
    let met = claims(&validator, &with(user_claims(), "acrs", "c1")).await;
    met.require_authentication_context("c1").unwrap();
}

/// Nobody can meet the context for an application.
#[tokio::test]
async fn a_token_without_a_user_does_not_pass_for_a_user_who_met_a_context() {
    let validator = Issuer::new().validator();
    let capable = |claims| with(claims, "xms_cc", json!(["cp1"]));
    let device = with(application_claims(), "idtyp", "device");
    for no_user in [application_claims(), device] {
        for token in [capable(no_user.clone()), with(no_user, "acrs", "c1")] {
            let token = claims(&validator, &token).await;
            let rejection = token.require_authentication_context("c1").unwrap_err();
            assert_eq!(rejection.reason(), RejectionReason::NeedsUser);
            assert_eq!(rejection.status(), 403);
        }
    }
}

#[tokio::test]
async fn claims_that_cannot_be_handed_on_do_not_become_a_challenge() {
    let log = Log::start();
    let validator = Issuer::new().validator();
    // The capability `cp1` is not needed.
    let user = claims(&validator, &user_claims()).await;
    let assertion = UserAssertion::new(user.token());
    // The client drops claims of more characters than these.
    let letters = |letter: &str, number| format!(r#"{{"a":"{}"}}"#, letter.repeat(number));
    let odd = "{\"access_token\": {\"a\": \"\\\"\\u00e9\r\n\"}}".replace("\r\n", "");
    for (name, asked, is_handed_on) in [
        ("claims", json!(r#"{"access_token":{"acrs":null}}"#), true),
        (
            "an object",
            json!({ "access_token": { "acrs": null } }),
            true,
        ),
        ("quotes and other letters", json!(odd), true),
        ("long claims", json!(letters("x", 3_000)), true),
        (
            "as many bytes as fit",
            json!(letters("\u{e9}", 3_068)),
            true,
        ),
        (
            "more bytes than fit",
            json!(letters("\u{e9}", 3_069)),
            false,
        ),
        ("a list", json!("[1]"), false),
        ("text", json!("acrs"), false),
        ("nothing", json!(""), false),
        ("no claims", json!(null), false),
    ] {
        let provider = Provider::open();
        let refused = json!({
            "error": "interaction_required", "error_codes": [50079], "suberror": "basic_action",
            "error_description": "AADSTS50079: enroll. Trace ID: 7c3f", "claims": asked,
            "correlation_id": "8c0a3c7a-0000-4000-8000-000000000001",
        });
        provider.answer(400, &refused.to_string());
        let error = provider
            .client()
            .acquire_token_on_behalf_of(&assertion, "api://drive/Files.Read")
            .await
            .unwrap_err();
        let rejection = user.challenge_from(&error);
        assert_eq!(rejection.is_some(), is_handed_on, "{name}");
        let Some(rejection) = rejection else { continue };
        assert_eq!(rejection.reason(), RejectionReason::NeedsClaims, "{name}");
        assert_eq!(rejection.status(), 401, "{name}");
        assert_eq!(rejection.retry_after(), None, "{name}");
        let challenge = challenge(&rejection);
        assert_eq!(challenge.error(), Some("insufficient_claims"), "{name}");
        assert_eq!(
            challenge.claims().as_deref(),
            error.claims_challenge(),
            "{name}"
        );
        let uri = challenge.authorization_uri().unwrap();
        assert!(
            uri.starts_with("https://login.microsoftonline.com/"),
            "{name}: {uri}"
        );
        let for_client = format!("{rejection} {:?}", rejection.www_authenticate());
        for hidden in [
            "AADSTS",
            "50079",
            "7c3f",
            "8c0a3c7a",
            "basic_action",
            "enroll",
        ] {
            assert!(!for_client.contains(hidden), "{name}: {for_client}");
        }
        let chain = rejection.chain().to_string();
        assert!(chain.contains("AADSTS50079: enroll"), "{name}: {chain}");
    }
    assert!(log.text().contains("reason=NeedsClaims suppressed=0"));
}

#[tokio::test]
async fn an_error_without_a_response_does_not_become_a_challenge() {
    let validator = Issuer::new().validator();
    let user = claims(&validator, &user_claims()).await;
    let provider = Provider::open();
    provider.fail("connection refused");
    let assertion = UserAssertion::new(user.token());
    let client = provider
        .builder()
        .retry(RetryPolicy::none())
        .build()
        .unwrap();
    let error = client
        .acquire_token_on_behalf_of(&assertion, "api://drive/Files.Read")
        .await
        .unwrap_err();
    assert!(user.challenge_from(&error).is_none(), "{error:?}");
}
