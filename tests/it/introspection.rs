//! An API that introspects opaque tokens (RFC 7662).

use std::time::Duration;

use confidential_client::credential::TokenEndpointAuthMethod;
use confidential_client::resource::{
    Claims, DpopPolicy, Holder, RejectionReason, ResourceRequest, TokenRejection, TokenValidator,
    TokenValidatorBuilder,
};
use confidential_client::testing::ManualClock;
use confidential_client::time::Clock;
use confidential_client::{
    Authority, Certificate, Cloud, ConfidentialClient, ConfidentialClientBuilder, Error,
    RetryPolicy,
};
use http::{HeaderMap, HeaderValue, Response};
use serde_json::{Value, json};

use crate::support::log_capture::Log;
use crate::support::openid::{ISSUER, OpenId};
use crate::support::proof::ProofKey;
use crate::support::{
    PEM, Provider, SECRET, TENANT, claims_of, header_of, let_others_run, poll_once,
};

const ENDPOINT: &str = "https://id.example.org/introspect";
const API: &str = "orders";
const MINUTE: Duration = Duration::from_secs(60);

fn client(provider: &Provider) -> ConfidentialClientBuilder {
    let authority = Authority::oidc(ISSUER).token_endpoint("https://id.example.org/token");
    ConfidentialClient::builder("the orders API")
        .authority(authority)
        .client_secret(SECRET)
        .retry(RetryPolicy::none())
        .transport(provider.transport())
}

fn builder(client: ConfidentialClientBuilder) -> TokenValidatorBuilder {
    TokenValidator::introspecting(&client.build().unwrap())
        .introspection_endpoint(ENDPOINT)
        .audience(API)
        .single_tenant()
}

fn validator(provider: &Provider, clock: &ManualClock) -> TokenValidator {
    let client = client(provider).clock(clock.clone());
    builder(client).build().unwrap()
}

fn seconds(time: std::time::SystemTime) -> u64 {
    let since = time.duration_since(std::time::SystemTime::UNIX_EPOCH);
    since.unwrap().as_secs()
}

fn active(clock: &ManualClock) -> Value {
    json!({
        "active": true, "iss": ISSUER, "aud": API, "exp": seconds(clock.wall()) + 3600,
        "scope": "read write", "client_id": "web", "sub": "adele", "username": "adele",
        "token_type": "Bearer",
    })
}

fn answer(provider: &Provider, body: &Value) {
    provider.answer(200, &body.to_string());
}

fn reason(result: Result<Claims, TokenRejection>) -> RejectionReason {
    result.unwrap_err().reason()
}

#[tokio::test]
async fn the_request_has_the_token_and_the_clients_authentication() {
    let (provider, clock) = (Provider::open(), ManualClock::new());
    let validator = validator(&provider, &clock);
    answer(&provider, &active(&clock));
    let claims = validator.validate("opaque-token").await.unwrap();
    let form: Vec<_> = url::form_urlencoded::parse(provider.body(0).as_bytes())
        .into_owned()
        .collect();
    let expected = [
        ("token", "opaque-token"),
        ("token_type_hint", "access_token"),
        ("client_id", "the orders API"),
        ("client_secret", SECRET),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(form, expected);
    assert_eq!(
        (provider.uri(0).as_str(), provider.method(0).as_str()),
        (ENDPOINT, "POST")
    );
    assert_eq!(provider.header(0, "accept").unwrap(), "application/json");
    assert_eq!(
        provider.header(0, "content-type").unwrap(),
        "application/x-www-form-urlencoded"
    );
    assert_eq!(provider.header(0, "authorization"), None);

    assert_eq!(claims.token(), "opaque-token");
    assert_eq!(claims.scopes().collect::<Vec<_>>(), ["read", "write"]);
    assert_eq!(claims.client_id(), Some("web"));
    assert_eq!(claims.subject(), Some("adele"));
    assert_eq!(claims.json("active").as_deref(), Some("true"));
    assert_eq!(seconds(claims.expires_on()), seconds(clock.wall()) + 3600);
    assert_eq!(claims.holder(), Holder::Unknown);
}

#[tokio::test]
async fn the_client_authenticates_by_any_method() {
    let clock = ManualClock::new();
    let provider = Provider::open();
    let basic = client(&provider)
        .token_endpoint_auth_method(TokenEndpointAuthMethod::ClientSecretBasic)
        .clock(clock.clone());
    answer(&provider, &active(&clock));
    builder(basic).build().unwrap().validate("a").await.unwrap();
    let header = provider.header(0, "authorization").unwrap();
    assert!(header.to_str().unwrap().starts_with("Basic "));
    assert_eq!(provider.field(0, "client_id"), None);
    assert_eq!(provider.field(0, "client_secret"), None);
    assert_eq!(provider.field(0, "token").as_deref(), Some("a"));

    let provider = Provider::open();
    let authority = Authority::oidc(ISSUER).token_endpoint("https://id.example.org/token");
    let certified = ConfidentialClient::builder("orders")
        .authority(authority)
        .certificate(Certificate::from_pem(&*PEM).unwrap())
        .transport(provider.transport());
    provider.answer(200, r#"{"active":true,"aud":"orders"}"#);
    builder(certified)
        .build()
        .unwrap()
        .validate("a")
        .await
        .unwrap();
    assert_eq!(
        provider.field(0, "client_assertion_type").as_deref(),
        Some("urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
    );
    let assertion = provider.field(0, "client_assertion").unwrap();
    assert_eq!(claims_of(&assertion)["aud"], ISSUER);
    assert_eq!(claims_of(&assertion)["iss"], "orders");
    assert_eq!(header_of(&assertion)["alg"], "RS256");
}

/// Builds the response with a member changed.
fn with(clock: &ManualClock, name: &str, value: Value) -> Value {
    let mut body = active(clock);
    body[name] = value;
    body
}

#[tokio::test]
async fn the_members_pass_the_checks_of_claims() {
    use RejectionReason as Reason;

    let (provider, clock) = (Provider::open(), ManualClock::new());
    let validator = validator(&provider, &clock);
    let now = seconds(clock.wall());
    for (name, body, expected) in [
        (
            "inactive",
            json!({ "active": false }),
            Some(Reason::Inactive),
        ),
        (
            "inactive, with members all the same",
            with(&clock, "active", false.into()),
            Some(Reason::Inactive),
        ),
        ("no issuer", with(&clock, "iss", Value::Null), None),
        (
            "another issuer",
            with(&clock, "iss", "https://other.example".into()),
            Some(Reason::InvalidIssuer),
        ),
        (
            "an issuer that is no text",
            with(&clock, "iss", 7.into()),
            Some(Reason::Malformed),
        ),
        (
            "several audiences",
            with(&clock, "aud", json!(["a", API])),
            None,
        ),
        (
            "another audience",
            with(&clock, "aud", "invoices".into()),
            Some(Reason::InvalidAudience),
        ),
        (
            "no audience",
            with(&clock, "aud", Value::Null),
            Some(Reason::Malformed),
        ),
        (
            "an empty list of audiences",
            with(&clock, "aud", json!([])),
            Some(Reason::InvalidAudience),
        ),
        ("no expiry", with(&clock, "exp", Value::Null), None),
        (
            "expired within the leeway",
            with(&clock, "exp", (now - 299).into()),
            None,
        ),
        (
            "expired",
            with(&clock, "exp", (now - 300).into()),
            Some(Reason::Expired),
        ),
        (
            "an expiry that is a text",
            with(&clock, "exp", now.to_string().into()),
            Some(Reason::Malformed),
        ),
        (
            "not valid yet",
            with(&clock, "nbf", (now + 301).into()),
            Some(Reason::NotYetValid),
        ),
        (
            "DPoP, without the key",
            with(&clock, "token_type", "dpop".into()),
            Some(Reason::BoundToKey),
        ),
        ("no type", with(&clock, "token_type", Value::Null), None),
        (
            "a refresh token",
            with(&clock, "token_type", "refresh_token".into()),
            Some(Reason::NotAnAccessToken),
        ),
        (
            "not applicable",
            with(&clock, "token_type", "N_A".into()),
            Some(Reason::NotAnAccessToken),
        ),
        (
            "a type that is no text",
            with(&clock, "token_type", json!(["Bearer"])),
            Some(Reason::NotAnAccessToken),
        ),
        (
            "an ID token",
            {
                let mut body = with(&clock, "token_type", Value::Null);
                body["at_hash"] = "h".into();
                body
            },
            Some(Reason::NotAnAccessToken),
        ),
        (
            "Hydra's use",
            with(&clock, "token_use", "access_token".into()),
            None,
        ),
        (
            "Hydra's refresh token",
            with(&clock, "token_use", "refresh_token".into()),
            Some(Reason::NotAnAccessToken),
        ),
        (
            "Keycloak's refresh token",
            with(&clock, "typ", "Refresh".into()),
            Some(Reason::NotAnAccessToken),
        ),
        (
            "a token that is bound to a key",
            with(
                &clock,
                "cnf",
                json!({ "jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I" }),
            ),
            Some(Reason::BoundToKey),
        ),
    ] {
        answer(&provider, &body);
        let token = format!("token-{}", provider.requests());
        let result = validator.validate(&token).await;
        match (result, expected) {
            (Ok(_), None) => {}
            (Err(rejection), Some(expected)) => {
                assert_eq!(rejection.reason(), expected, "{name}: {rejection:?}");
                assert_eq!(rejection.status(), 401, "{name}");
                let header = rejection.www_authenticate().unwrap();
                let header = header.to_str().unwrap();
                assert!(header.contains("invalid_token"), "{name}: {header}");
                let chain = rejection.chain().to_string();
                assert!(!chain.contains(&token), "{name}: {chain}");
            }
            (result, _) => panic!("{name}: {result:?}"),
        }
    }
}

#[tokio::test]
async fn the_scopes_the_holder_and_the_rights_decide_as_for_a_jwt() {
    let (provider, clock) = (Provider::open(), ManualClock::new());
    let client = client(&provider).clock(clock.clone());
    let validator = builder(client)
        .holder(|token| match token.string("username") {
            Some(_) if !token.token().is_empty() => Holder::User,
            _ => token.holder(),
        })
        .build()
        .unwrap();
    answer(&provider, &active(&clock));
    let mut application = with(&clock, "username", Value::Null);
    application["sub"] = "web".into();
    application["roles"] = json!(["Orders.Read.All"]);
    answer(&provider, &application);
    let user = validator.validate("a").await.unwrap();
    user.require_scope("read").unwrap();
    user.authorize_user(|user| user.subject() == Some("adele"))
        .unwrap();
    let missing = user.require_scope("delete").unwrap_err();
    assert_eq!(
        (missing.reason(), missing.status().as_u16()),
        (RejectionReason::MissingScope, 403)
    );
    let application = validator.validate("b").await.unwrap();
    assert!(application.is_application());
    application
        .require_application_role("Orders.Read.All")
        .unwrap();
    application.require_scope("read").unwrap_err();
}

#[tokio::test]
async fn a_response_is_used_for_a_minute_and_never_past_the_expiry() {
    let (provider, clock) = (Provider::open(), ManualClock::new());
    let validator = validator(&provider, &clock);
    answer(&provider, &active(&clock));
    for _ in 0..3 {
        validator.validate("a").await.unwrap();
    }
    clock.advance(MINUTE - Duration::from_secs(1));
    validator.validate("a").await.unwrap();
    assert_eq!(provider.requests(), 1);
    clock.advance(Duration::from_secs(1));
    answer(&provider, &json!({ "active": false }));
    assert_eq!(
        reason(validator.validate("a").await),
        RejectionReason::Inactive
    );
    assert_eq!(provider.requests(), 2);

    let short = with(&clock, "exp", (seconds(clock.wall()) + 20).into());
    answer(&provider, &short);
    validator.validate("b").await.unwrap();
    clock.advance(Duration::from_secs(19));
    validator.validate("b").await.unwrap();
    assert_eq!(provider.requests(), 3);
    clock.advance(Duration::from_secs(1));
    answer(&provider, &json!({ "active": false }));
    assert_eq!(
        reason(validator.validate("b").await),
        RejectionReason::Inactive
    );
    assert_eq!(provider.requests(), 4);

    // A token without an expiry is known for as long as the response is.
    answer(&provider, &with(&clock, "exp", Value::Null));
    let claims = validator.validate("c").await.unwrap();
    assert_eq!(seconds(claims.expires_on()), seconds(clock.wall()) + 60);
}

#[tokio::test]
async fn the_time_of_a_response_can_be_chosen() {
    let (provider, clock) = (Provider::open(), ManualClock::new());
    let cached_for = |time| {
        let client = client(&provider).clock(clock.clone());
        builder(client).introspection_cache(time)
    };
    let never = cached_for(Duration::ZERO).build().unwrap();
    for _ in 0..3 {
        answer(&provider, &active(&clock));
        never.validate("a").await.unwrap();
    }
    assert_eq!(provider.requests(), 3);
    let longer = cached_for(10 * MINUTE).build().unwrap();
    answer(&provider, &active(&clock));
    longer.validate("a").await.unwrap();
    clock.advance(9 * MINUTE);
    longer.validate("a").await.unwrap();
    assert_eq!(provider.requests(), 4);
    let error = cached_for(11 * MINUTE).build().unwrap_err();
    assert!(error.to_string().contains("at most 10 minutes"), "{error}");
}

#[tokio::test]
async fn an_inactive_token_is_remembered_for_ten_seconds() {
    let (provider, clock) = (Provider::open(), ManualClock::new());
    let validator = validator(&provider, &clock);
    answer(&provider, &json!({ "active": false }));
    for _ in 0..3 {
        assert_eq!(
            reason(validator.validate("a").await),
            RejectionReason::Inactive
        );
        clock.advance(Duration::from_secs(3));
    }
    assert_eq!(provider.requests(), 1);
    clock.advance(Duration::from_secs(1));
    answer(&provider, &active(&clock));
    validator.validate("a").await.unwrap();
    assert_eq!(provider.requests(), 2);
}

#[tokio::test]
async fn callers_with_one_token_share_one_request_and_a_cancelled_caller_strands_nobody() {
    let (provider, clock) = (Provider::gated(), ManualClock::new());
    let validator = validator(&provider, &clock);
    answer(&provider, &active(&clock));
    let mut first = Box::pin(validator.validate("a"));
    assert!(poll_once(&mut first).is_pending());
    let mut callers: Vec<_> = (0..100)
        .map(|_| Box::pin(validator.validate("a")))
        .collect();
    for caller in &mut callers {
        assert!(poll_once(caller).is_pending());
    }
    let_others_run().await;
    drop(first);
    provider.release();
    for caller in callers {
        caller.await.unwrap();
    }
    assert_eq!(provider.requests(), 1);
}

/// The runtime of the first caller goes away with the request.
#[test]
fn a_request_that_is_lost_with_its_runtime_is_sent_again() {
    let runtime = || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().build().unwrap()
    };
    let (provider, clock) = (Provider::gated(), ManualClock::new());
    let validator = validator(&provider, &clock);
    let first = runtime();
    first.block_on(async {
        let mut caller = Box::pin(validator.validate("a"));
        assert!(poll_once(&mut caller).is_pending());
        let_others_run().await;
    });
    assert_eq!(provider.requests(), 1);
    let second = runtime();
    second.block_on(async {
        let mut waiting = Box::pin(validator.validate("a"));
        assert!(poll_once(&mut waiting).is_pending());
        first.shutdown_background();
        provider.release();
        answer(&provider, &active(&clock));
        waiting.await.unwrap();
    });
    assert_eq!(provider.requests(), 2);
}

#[tokio::test]
async fn a_failing_endpoint_rejects_no_token() {
    let (provider, clock) = (Provider::open(), ManualClock::new());
    let validator = validator(&provider, &clock);
    provider.answer(503, "");
    let rejection = validator.validate("secret-token").await.unwrap_err();
    assert_eq!(
        rejection.reason(),
        RejectionReason::IntrospectionUnavailable
    );
    assert_eq!(rejection.status(), 503);
    assert_eq!(rejection.www_authenticate(), None);
    assert!(rejection.retry_after().unwrap() <= Duration::from_secs(2));
    let chain = rejection.chain().to_string();
    assert!(
        chain.contains("introspection endpoint") && chain.contains("503"),
        "{chain}"
    );
    assert!(!chain.contains("secret-token"), "{chain}");
    // The failure is remembered for the token alone.
    let again = validator.validate("secret-token").await;
    assert_eq!(reason(again), RejectionReason::IntrospectionUnavailable);
    assert_eq!(provider.requests(), 1);
    answer(&provider, &active(&clock));
    validator.validate("another").await.unwrap();
    clock.advance(Duration::from_secs(2));
    answer(&provider, &active(&clock));
    validator.validate("secret-token").await.unwrap();
}

#[tokio::test]
async fn responses_that_cannot_be_read_reject_no_token() {
    let (provider, clock) = (Provider::open(), ManualClock::new());
    let signed = Response::builder()
        .header(
            "content-type",
            "application/token-introspection+jwt; charset=utf-8",
        )
        .body("eyJhbGciOiJSUzI1NiJ9.e30.c2ln".into())
        .unwrap();
    let cases = [
        (Response::new("{}".into()), "has no 'active'"),
        (
            Response::new(r#"{"active":"true"}"#.into()),
            "'active' is not a boolean",
        ),
        (
            Response::new(r#"{"active":1}"#.into()),
            "'active' is not a boolean",
        ),
        (
            Response::new(r#"{"active":false,"active":true}"#.into()),
            "'active' more than once",
        ),
        (Response::new("[true]".into()), "not a JSON object"),
        (Response::new("".into()), "not a JSON object"),
        (
            Response::new("<html><title>Sign in</title>".into()),
            "Sign in",
        ),
        (
            Response::new("{\"active\":true,\"a\":\"\u{1}\"}".into()),
            "not a JSON object",
        ),
        (signed, "signed response (RFC 9701)"),
        (
            Response::builder().status(204).body("".into()).unwrap(),
            "the status is not 200",
        ),
        (
            Response::new(r#"{"error":"invalid_client"}"#.into()),
            "invalid_client",
        ),
    ];
    for (response, text) in cases {
        let validator = validator(&provider, &clock);
        provider.answer_with(response);
        let rejection = validator.validate("a").await.unwrap_err();
        assert_eq!(
            rejection.reason(),
            RejectionReason::IntrospectionUnavailable
        );
        let chain = rejection.chain().to_string();
        assert!(chain.contains(text), "{chain}");
    }
}

#[tokio::test]
async fn three_failures_in_a_row_pause_the_endpoint_and_one_request_probes_it() {
    let (provider, clock) = (Provider::open(), ManualClock::new());
    let validator = validator(&provider, &clock);
    let unavailable = RejectionReason::IntrospectionUnavailable;
    answer(&provider, &active(&clock));
    validator.validate("known").await.unwrap();
    for token in ["a", "b", "c"] {
        provider.answer(500, "");
        assert_eq!(reason(validator.validate(token).await), unavailable);
    }
    assert_eq!(provider.requests(), 4);
    for token in ["d", "e", "f"] {
        let rejection = validator.validate(token).await.unwrap_err();
        assert_eq!(rejection.reason(), unavailable);
        assert!(rejection.retry_after().unwrap() <= Duration::from_secs(2));
    }
    assert_eq!(provider.requests(), 4, "nothing was sent");
    validator.validate("known").await.unwrap();
    // One request probes the endpoint, and the others do not wait for it.
    clock.advance(Duration::from_secs(2));
    provider.hold();
    let mut probe = Box::pin(validator.validate("d"));
    assert!(poll_once(&mut probe).is_pending());
    let_others_run().await;
    assert_eq!(reason(validator.validate("e").await), unavailable);
    assert_eq!(provider.requests(), 5);
    provider.answer(500, "");
    provider.release();
    assert_eq!(reason(probe.await), unavailable);
    // The pause is longer now.
    clock.advance(Duration::from_millis(1_500));
    assert_eq!(reason(validator.validate("e").await), unavailable);
    assert_eq!(provider.requests(), 5);
    clock.advance(Duration::from_secs(2));
    answer(&provider, &active(&clock));
    validator.validate("e").await.unwrap();
    answer(&provider, &active(&clock));
    validator.validate("f").await.unwrap();
}

#[tokio::test]
async fn a_throttled_or_rejected_client_pauses_at_once_and_a_token_alone_does_not() {
    let unavailable = RejectionReason::IntrospectionUnavailable;
    let throttled = || {
        Response::builder()
            .status(429)
            .header("retry-after", "7")
            .body("".into())
            .unwrap()
    };
    let rejected = || {
        Response::builder()
            .status(401)
            .body(r#"{"error":"invalid_client"}"#.into())
            .unwrap()
    };
    let about_token = || {
        Response::builder()
            .status(400)
            .body(r#"{"error":"invalid_request"}"#.into())
            .unwrap()
    };
    for (response, pause) in [
        (throttled(), Some(7)),
        (rejected(), Some(5)),
        (about_token(), None),
    ] {
        let (provider, clock) = (Provider::open(), ManualClock::new());
        let validator = validator(&provider, &clock);
        let status = response.status();
        provider.answer_with(response);
        assert_eq!(
            reason(validator.validate("a").await),
            unavailable,
            "{status}"
        );
        let Some(pause) = pause else {
            for token in ["b", "c", "d", "e"] {
                provider.answer_with(about_token());
                assert_eq!(reason(validator.validate(token).await), unavailable);
            }
            answer(&provider, &active(&clock));
            validator.validate("f").await.unwrap();
            assert_eq!(
                reason(validator.validate("a").await),
                unavailable,
                "remembered"
            );
            assert_eq!(provider.requests(), 6);
            continue;
        };
        let other = validator.validate("b").await.unwrap_err();
        assert_eq!(other.reason(), unavailable, "{status}");
        let chain = other.chain().to_string();
        assert!(
            chain.contains("the introspection endpoint returned"),
            "{chain}"
        );
        assert_eq!(
            other.retry_after(),
            Some(Duration::from_secs(pause)),
            "{status}"
        );
        assert_eq!(provider.requests(), 1, "{status}");
        clock.advance(Duration::from_secs(pause));
        answer(&provider, &active(&clock));
        validator.validate("b").await.unwrap();
    }
}

#[tokio::test]
async fn text_that_is_no_token_is_not_sent() {
    let (provider, clock) = (Provider::open(), ManualClock::new());
    let validator = validator(&provider, &clock);
    let long = "x".repeat(64 * 1024 + 1);
    for token in ["", "a b", "a\"b", "ä", "null", "Bearer a", "{token}", &long] {
        let rejection = validator.validate(token).await.unwrap_err();
        assert_eq!(rejection.reason(), RejectionReason::Malformed, "{token}");
    }
    let mut headers = HeaderMap::new();
    headers.insert(
        "authorization",
        HeaderValue::from_static("Bearer a, Bearer b"),
    );
    let rejection = validator.validate_headers(&headers).await.unwrap_err();
    assert_eq!(
        (rejection.reason(), rejection.status().as_u16()),
        (RejectionReason::InvalidRequest, 400)
    );
    assert_eq!(provider.requests(), 0);
}

#[tokio::test]
async fn a_flood_of_tokens_sends_32_requests_at_a_time_and_evicts_no_active_token() {
    let (provider, clock) = (Provider::open(), ManualClock::new());
    let validator = validator(&provider, &clock);
    answer(&provider, &active(&clock));
    validator.validate("known").await.unwrap();
    provider.hold();
    let tokens: Vec<String> = (0..1_100)
        .map(|number| format!("garbage-{number}"))
        .collect();
    let mut callers: Vec<_> = tokens
        .iter()
        .map(|token| Box::pin(validator.validate(token)))
        .collect();
    let mut refused = 0;
    for caller in &mut callers {
        if let std::task::Poll::Ready(result) = poll_once(caller) {
            let rejection = result.unwrap_err();
            assert_eq!(
                rejection.reason(),
                RejectionReason::IntrospectionUnavailable
            );
            assert!(
                rejection
                    .chain()
                    .to_string()
                    .contains("1000 tokens are introspected")
            );
            refused += 1;
        }
    }
    assert_eq!(refused, 100, "beyond the thousand that wait");
    let_others_run().await;
    assert_eq!(provider.requests(), 33);
    validator.validate("known").await.unwrap();
    drop(callers);
    for _ in 0..12_000 {
        answer(&provider, &json!({ "active": false }));
    }
    provider.release();
    let_others_run().await;
    for number in 0..10_500 {
        let garbage = validator.validate(&format!("more-{number}")).await;
        assert_eq!(reason(garbage), RejectionReason::Inactive);
    }
    let before = provider.requests();
    validator.validate("known").await.unwrap();
    // The oldest inactive token was evicted, and the latest was not.
    assert_eq!(
        reason(validator.validate("more-10499").await),
        RejectionReason::Inactive
    );
    assert_eq!(provider.requests(), before);
    assert_eq!(
        reason(validator.validate("more-0").await),
        RejectionReason::Inactive
    );
    assert_eq!(provider.requests(), before + 1);
}

#[tokio::test]
async fn the_metadata_name_the_endpoint_and_its_client_authentication() {
    let provider = OpenId::new(ISSUER);
    provider.publish("introspection_endpoint", format!("{ISSUER}/introspect"));
    provider.publish(
        "introspection_endpoint_auth_methods_supported",
        json!(["client_secret_basic"]),
    );
    let client = provider.client(Authority::oidc(ISSUER));
    let validator = || {
        TokenValidator::introspecting(&client)
            .audience(API)
            .single_tenant()
            .build()
            .unwrap()
    };
    let answer = || crate::support::openid::Answer::json(&json!({ "active": true, "aud": API }));
    provider.answer(answer());
    validator().validate("a").await.unwrap();
    let form = provider.forms().remove(0);
    assert_eq!(form["token"], "a");
    assert!(!form.contains_key("client_secret"), "in the header");

    // The list of the token endpoint is the default.
    let provider = OpenId::new(ISSUER);
    provider.publish("introspection_endpoint", format!("{ISSUER}/introspect"));
    let client = provider.client(Authority::oidc(ISSUER));
    provider.answer(answer());
    let validator = TokenValidator::introspecting(&client)
        .audience(API)
        .single_tenant()
        .build()
        .unwrap();
    validator.validate("a").await.unwrap();
    assert_eq!(provider.forms().remove(0)["client_secret"], "s3cret");

    for endpoint in [
        json!(null),
        json!(7),
        json!("http://id.example.org/introspect"),
    ] {
        let provider = OpenId::new(ISSUER);
        provider.publish("introspection_endpoint", endpoint);
        let client = provider.client(Authority::oidc(ISSUER));
        let validator = TokenValidator::introspecting(&client)
            .audience(API)
            .single_tenant()
            .build()
            .unwrap();
        let rejection = validator.validate("a").await.unwrap_err();
        assert_eq!(
            rejection.reason(),
            RejectionReason::IntrospectionUnavailable
        );
        let chain = rejection.chain().to_string();
        assert!(
            chain.contains("publishes no valid 'introspection_endpoint'"),
            "{chain}"
        );
        assert!(provider.forms().is_empty());
    }
}

#[test]
fn settings_that_do_not_fit_are_errors() {
    let provider = Provider::open();
    let introspecting = || builder(client(&provider));
    let signed = || {
        TokenValidator::builder(Authority::oidc(ISSUER))
            .audience(API)
            .single_tenant()
            .transport(provider.transport())
    };
    for (builder, text) in [
        (
            introspecting().require_type("at+jwt"),
            "require_type(..) is set",
        ),
        (
            introspecting().max_key_age(10 * MINUTE),
            "max_key_age(..) is set",
        ),
        (
            introspecting().introspection_endpoint("http://id.example.org/introspect"),
            "http://id.example.org/introspect",
        ),
        (
            introspecting().introspection_endpoint("introspect"),
            "the introspection endpoint",
        ),
        (
            signed().introspection_endpoint(ENDPOINT),
            "introspection_endpoint(..) is set, and the validator introspects no tokens",
        ),
        (
            signed().introspection_cache(MINUTE),
            "introspection_cache(..) is set, and the validator introspects no tokens",
        ),
        (
            signed().introspect_opaque_tokens_only(),
            "introspect_opaque_tokens_only() is set, and the validator introspects no tokens",
        ),
    ] {
        let error = builder.build().unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        assert!(error.to_string().contains(text), "{error}");
    }
    for (authority, name) in [
        (
            Authority::entra(Cloud::Public, TENANT),
            "Microsoft Entra ID",
        ),
        (
            Authority::b2c("contoso.b2clogin.com", "contoso.com", "B2C_1_in"),
            "Azure AD B2C",
        ),
        (Authority::adfs("fs.contoso.com"), "AD FS"),
    ] {
        let error = builder(client(&provider).authority(authority))
            .build()
            .unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        let text = format!("{name} has no introspection endpoint");
        assert!(error.to_string().contains(&text), "{error}");
    }
}

#[test]
fn a_call_outside_a_runtime_says_so() {
    let (provider, clock) = (Provider::open(), ManualClock::new());
    let validator = validator(&provider, &clock);
    let mut call = Box::pin(validator.validate("a"));
    let std::task::Poll::Ready(Err(rejection)) = poll_once(&mut call) else {
        panic!("pending");
    };
    assert!(
        rejection.chain().to_string().contains("no tokio runtime"),
        "{rejection:?}"
    );
    // The next call from a runtime works.
    answer(&provider, &active(&clock));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(validator.validate("a")).unwrap();
}

#[tokio::test]
async fn neither_errors_nor_the_log_have_the_token_or_the_secret() {
    let (provider, clock) = (Provider::open(), ManualClock::new());
    let log = Log::start();
    let client = client(&provider).clock(clock.clone());
    let builder = builder(client);
    let token = "opaque-SECRET-token-1234";
    let mut shown = format!("{builder:?}");
    let validator = builder.build().unwrap();
    for (status, body) in [
        (
            400,
            format!(r#"{{"error":"invalid_request","error_description":"{token} {SECRET}"}}"#),
        ),
        (500, format!("{token} {SECRET}")),
        (200, format!("{token} {SECRET}")),
    ] {
        provider.answer(status, &body);
        let rejection = validator.validate(token).await.unwrap_err();
        shown.push_str(&format!("{rejection} {rejection:?} {}", rejection.chain()));
        clock.advance(MINUTE);
    }
    answer(&provider, &active(&clock));
    shown.push_str(&format!(
        "{:?}{validator:?}",
        validator.validate(token).await.unwrap()
    ));
    let log = log.text();
    for (name, text) in [("an error", &shown), ("the log", &log)] {
        assert!(!text.contains(SECRET), "{name}: {text}");
    }
    assert!(!log.contains(token), "{log}");
}

/// The members of the response have the key, and the token is opaque.
#[tokio::test]
async fn a_token_that_is_bound_to_a_proof_key_needs_a_proof() {
    let (provider, clock) = (Provider::open(), ManualClock::new());
    let validator = builder(client(&provider).clock(clock.clone()))
        .dpop(DpopPolicy::new("https://api.example"))
        .build()
        .unwrap();
    let mut key = ProofKey::new();
    let mut body = with(&clock, "cnf", claims_of(&key.token)["cnf"].clone());
    body["token_type"] = "DPoP".into();
    answer(&provider, &body);
    key.token = "opaque-token".to_owned();
    let call = |scheme: &str, proof: String| {
        let request = http::Request::get("/orders")
            .header("authorization", format!("{scheme} opaque-token"))
            .header("dpop", proof);
        request.body(()).unwrap()
    };
    let good = || key.proof("GET", "https://api.example/orders");
    let other = key.proof("GET", "https://api.example/others");
    for (request, expected) in [
        (call("DPoP", good()), None),
        (call("DPoP", other), Some(RejectionReason::InvalidProof)),
        (call("Bearer", good()), Some(RejectionReason::BoundToKey)),
    ] {
        let result = validator
            .validate_request(ResourceRequest::from(&request))
            .await;
        assert_eq!(result.err().map(|rejection| rejection.reason()), expected);
    }
    assert_eq!(provider.requests(), 1);
}
