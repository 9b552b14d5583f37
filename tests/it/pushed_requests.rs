//! Pushed authorization requests (RFC 9126), over HTTP at a `LocalAuthority` and in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use confidential_client::credential::{DpopKey, TokenEndpointAuthMethod};
use confidential_client::delegated::{AuthorizationRequest, Prompt};
use confidential_client::testing::{
    Application, LocalAuthority, ManualClock, ProviderRules, RecordedRequest, User,
};
use confidential_client::{
    Authority, Certificate, Cloud, ConfidentialClient, ConfidentialClientBuilder, Error,
    RetryPolicy, Secret, TokenRequest,
};
use serde_json::{Value, json};
use url::Url;
use url::form_urlencoded::byte_serialize;

use crate::support::dpop;
use crate::support::openid::{Answer, BACK, FILES, ISSUER, OpenId};
use crate::support::{CLIENT_ID, PEM, SECRET, TENANT};

const ADELE: &str = "adele@contoso.onmicrosoft.com";
const DRIVE: &str = "api://drive/Files.Read";
const URI: &str = "urn:ietf:params:oauth:request_uri:6esc_11ACC5bwc014ltc14eY22c";

async fn authority(rules: ProviderRules, clock: &ManualClock) -> LocalAuthority {
    let local = LocalAuthority::builder().rules(rules).clock(clock.clone());
    let local = local.start().await.unwrap();
    let app = Application::new(CLIENT_ID)
        .secret(SECRET)
        .certificate(certificate())
        .redirect_uri(BACK)
        .delegated("api://drive", "Files.Read");
    local.register(TENANT, app);
    local.register(TENANT, Application::new("other").redirect_uri(BACK));
    local.register_user(TENANT, User::new(ADELE));
    local.consent(TENANT, CLIENT_ID, ADELE, DRIVE);
    local
}

fn certificate() -> Certificate {
    Certificate::from_pem(&*PEM).unwrap()
}

fn builder(local: &LocalAuthority, clock: &ManualClock) -> ConfidentialClientBuilder {
    ConfidentialClient::builder(CLIENT_ID)
        .authority(Authority::oidc(local.issuer(TENANT).unwrap()))
        .clock(clock.clone())
}

fn drive() -> AuthorizationRequest {
    AuthorizationRequest::new(BACK, DRIVE)
}

fn parameters_of(page: &str) -> Vec<(String, String)> {
    let page = Url::parse(page).unwrap();
    page.query_pairs().into_owned().collect()
}

fn names_of(page: &str) -> Vec<String> {
    let parameters = parameters_of(page).into_iter();
    parameters.map(|(name, _)| name).collect()
}

fn assertion_id(request: &RecordedRequest) -> Option<String> {
    let claims: Value = serde_json::from_str(&request.assertion_claims()?).unwrap();
    Some(claims["jti"].as_str().unwrap().to_owned())
}

/// RFC 9126 sections 2.1, 2.2 and 4, with every client authentication.
#[tokio::test]
async fn a_user_signs_in_by_a_pushed_request() {
    let clock = ManualClock::new();
    let local = authority(ProviderRules::openid().require_pushed_requests(), &clock).await;
    let post = TokenEndpointAuthMethod::ClientSecretPost;
    let basic = TokenEndpointAuthMethod::ClientSecretBasic;
    let builder = || builder(&local, &clock);
    for (name, client) in [
        (
            "post",
            builder()
                .client_secret(SECRET)
                .token_endpoint_auth_method(post),
        ),
        (
            "basic",
            builder()
                .client_secret(SECRET)
                .token_endpoint_auth_method(basic),
        ),
        ("private_key_jwt", builder().certificate(certificate())),
    ] {
        let client = client.build().unwrap();
        let request = drive()
            .prompt(Prompt::SelectAccount)
            .login_hint(ADELE)
            .max_age(Duration::from_secs(60));
        let (page, flow) = client.authorization_request_url(&request).await.unwrap();
        assert_eq!(names_of(&page), ["client_id", "request_uri"], "{name}");
        let pushed = local.pushed_requests().pop().unwrap();
        for (parameter, value) in [
            ("client_id", CLIENT_ID),
            ("response_type", "code"),
            ("redirect_uri", BACK),
            (
                "scope",
                "api://drive/Files.Read openid profile offline_access",
            ),
            ("state", flow.state()),
            ("code_challenge_method", "S256"),
            ("prompt", "select_account"),
            ("login_hint", ADELE),
            ("max_age", "60"),
        ] {
            let values = pushed.form().iter().filter(|(name, _)| name == parameter);
            let values: Vec<_> = values.map(|(_, value)| value.as_str()).collect();
            assert_eq!(values, [value], "{name}: {parameter}");
        }
        assert_eq!(pushed.field("code_challenge").unwrap().len(), 43, "{name}");
        assert!(pushed.field("nonce").is_some(), "{name}");
        assert_eq!(pushed.field("dpop_jkt"), None, "{name}");
        let is_secret = pushed.field("client_secret").is_some();
        assert_eq!(is_secret, name == "post");
        let is_basic = pushed.header("authorization").is_some();
        assert_eq!(is_basic, name == "basic");

        // RFC 9207: the response names the issuer, as the metadata announce.
        let back = local.sign_in(&page, ADELE).await.unwrap();
        let issuer = parameters_of(&back)
            .into_iter()
            .find(|(name, _)| name == "iss");
        assert_eq!(issuer.unwrap().1, local.issuer(TENANT).unwrap());
        let redeemed = client.acquire_token_by_authorization_code(flow, back);
        // The LocalAuthority sends no `auth_time`, so that `max_age` cannot be checked.
        let error = redeemed.await.unwrap_err().to_string();
        assert!(error.contains("auth_time"), "{error}");
        let redeemed = local.token_requests().pop().unwrap();
        let ids = (assertion_id(&pushed), assertion_id(&redeemed));
        assert_eq!(ids.0.is_some(), name == "private_key_jwt");
        assert!(
            ids.0.is_none() || ids.0 != ids.1,
            "an assertion is for one request"
        );

        let (page, flow) = client.authorization_request_url(&drive()).await.unwrap();
        let back = local.sign_in(page, ADELE).await.unwrap();
        let signed_in = client.acquire_token_by_authorization_code(flow, back);
        let account = signed_in.await.unwrap().account().clone();
        assert_eq!(account.username(), Some(ADELE), "{name}");
    }
}

/// RFC 9449 section 10.1: the proof at the endpoint binds the code, as `dpop_jkt` does.
#[tokio::test]
async fn the_code_of_a_request_that_was_pushed_with_a_proof_is_bound_to_its_key() {
    let clock = ManualClock::new();
    let local = authority(ProviderRules::openid(), &clock).await;
    let base = format!("{}/{TENANT}/oauth2/v2.0", local.base_url());
    let (endpoint, token_endpoint) = (format!("{base}/par"), format!("{base}/token"));
    let post = async |url: &str, key: &str, form: &[(&str, &str)]| -> Value {
        let mut body = url::form_urlencoded::Serializer::new(String::new());
        body.extend_pairs([("client_id", CLIENT_ID), ("client_secret", SECRET)]);
        let body = body.extend_pairs(form).finish();
        let request = dpop::http().post(url).body(body);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let proof = dpop::signed(&dpop::claims("POST", url, None), key);
        let response = request.header("dpop", proof).send().await.unwrap();
        response.json().await.unwrap()
    };
    let parameters = [
        ("response_type", "code"),
        ("redirect_uri", BACK),
        ("scope", DRIVE),
    ];
    let key_of = |pem: &str| DpopKey::from_pem(pem).unwrap().thumbprint().to_owned();
    let (own, other) = (key_of(dpop::KEY), key_of(dpop::OTHER_KEY));
    for (named, presented, accepted) in [
        (None, dpop::KEY, true),
        (None, dpop::OTHER_KEY, false),
        (Some(&own), dpop::OTHER_KEY, false),
    ] {
        let mut parameters = parameters.to_vec();
        parameters.extend(named.map(|named| ("dpop_jkt", named.as_str())));
        let pushed = post(&endpoint, dpop::KEY, &parameters).await;
        let request_uri = pushed["request_uri"].as_str().unwrap();
        let request_uri: String = byte_serialize(request_uri.as_bytes()).collect();
        let page = format!("{base}/authorize?client_id={CLIENT_ID}&request_uri={request_uri}");
        let back = local.sign_in(&page, ADELE).await.unwrap();
        let code = parameters_of(&back)
            .into_iter()
            .find(|(name, _)| name == "code");
        let redeemed = [
            ("grant_type", "authorization_code"),
            ("redirect_uri", BACK),
            ("code", &code.unwrap().1),
        ];
        let response = post(&token_endpoint, presented, &redeemed).await;
        match accepted {
            true => assert_eq!(response["token_type"], "DPoP", "{response}"),
            false => assert_eq!(response["error"], "invalid_grant", "{response}"),
        }
    }
    let mut two_keys = parameters.to_vec();
    two_keys.push(("dpop_jkt", &other));
    let rejected = post(&endpoint, dpop::KEY, &two_keys).await;
    assert_eq!(rejected["error"], "invalid_dpop_proof", "{rejected}");
}

/// The provider knows each reference once, for a minute, and for the client that pushed.
#[tokio::test]
async fn a_reference_is_valid_once_for_one_client_and_one_minute() {
    let clock = ManualClock::new();
    let local = authority(ProviderRules::openid(), &clock).await;
    let client = builder(&local, &clock).client_secret(SECRET);
    let client = client.build().unwrap();
    let pushed = drive().pushed();
    let page = async || client.authorization_request_url(&pushed).await.unwrap().0;
    let rejected = async |page: &str| {
        let error = local.sign_in(page, ADELE).await.unwrap_err().to_string();
        assert!(error.contains("request_uri is not known"), "{error}");
    };

    let used = page().await;
    local.sign_in(&used, ADELE).await.unwrap();
    rejected(&used).await;
    let of_another = page().await.replace(CLIENT_ID, "other");
    rejected(&of_another).await;
    let expired = page().await;
    clock.advance(Duration::from_secs(59));
    let valid = page().await;
    clock.advance(Duration::from_secs(1));
    rejected(&expired).await;
    local.sign_in(&valid, ADELE).await.unwrap();
    let guessed = page().await;
    let (start, _) = guessed.split_at(guessed.len() - 1);
    rejected(&format!("{start}_")).await;
}

#[tokio::test]
async fn the_authority_checks_the_credential_and_the_parameters_of_a_push() {
    let clock = ManualClock::new();
    let local = authority(ProviderRules::openid().require_pushed_requests(), &clock).await;
    let builder = || builder(&local, &clock).retry(RetryPolicy::none());
    let wrong = builder().client_secret("another secret").build().unwrap();
    let error = wrong.authorization_request_url(&drive()).await.unwrap_err();
    assert!(matches!(error, Error::Server(_)), "{error:?}");
    assert!(error.is_credential_rejected(), "{error:?}");
    assert!(error.server_error().unwrap().help().is_some());

    let client = builder().client_secret(SECRET).build().unwrap();
    let elsewhere = AuthorizationRequest::new("https://elsewhere.example.org", DRIVE);
    let error = client.authorization_request_url(&elsewhere).await;
    let error = error.unwrap_err();
    assert_eq!(error.server_error().unwrap().error(), "invalid_request");
    assert!(!error.needs_user_interaction(), "{error:?}");
    assert_eq!(local.token_requests().len(), 0);

    // Another client's parameters, and a reference in the place of parameters.
    let http = reqwest::Client::new();
    let url = format!("{}/{TENANT}/oauth2/v2.0/par", local.base_url());
    let push = async |fields: &[(&str, &str)]| {
        let form = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(fields)
            .finish();
        let request = http
            .post(&url)
            .body(form)
            .basic_auth(CLIENT_ID, Some(SECRET));
        let response = request.header("content-type", "application/x-www-form-urlencoded");
        let response = response.send().await.unwrap();
        let status = response.status().as_u16();
        let body: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
        (status, body["error"].as_str().map(ToOwned::to_owned))
    };
    let parameters = [
        ("response_type", "code"),
        ("redirect_uri", BACK),
        ("scope", DRIVE),
    ];
    let with = |extra: (&'static str, &'static str)| [&parameters[..], &[extra]].concat();
    assert_eq!(push(&with(("client_id", CLIENT_ID))).await, (201, None));
    let invalid = (400, Some("invalid_request".to_owned()));
    assert_eq!(push(&with(("client_id", "other"))).await, invalid);
    let mut nested = with(("client_id", CLIENT_ID));
    nested.push(("request_uri", URI));
    let unknown = (400, Some("invalid_request_uri".to_owned()));
    assert_eq!(push(&nested).await, unknown);
    assert_eq!(push(&parameters).await.0, 400, "without client_id");

    // Section 5: `require_pushed_authorization_requests`.
    let page = format!(
        "{}/{TENANT}/oauth2/v2.0/authorize?client_id={CLIENT_ID}&response_type=code&scope=openid&redirect_uri={BACK}",
        local.base_url()
    );
    let error = local.sign_in(page, ADELE).await.unwrap_err().to_string();
    assert!(error.contains("requires pushed authorization"), "{error}");
}

/// A provider with an endpoint for pushed requests.
fn provider() -> OpenId {
    let provider = OpenId::new(ISSUER);
    let endpoint = format!("{ISSUER}/par");
    provider.publish("pushed_authorization_request_endpoint", endpoint);
    provider
}

fn created() -> Answer {
    let body = json!({ "request_uri": URI, "expires_in": 60 });
    Answer::status(201, &body.to_string())
}

fn files() -> AuthorizationRequest {
    AuthorizationRequest::new(BACK, FILES)
}

/// The caller's choice, or `require_pushed_authorization_requests` of the metadata.
#[tokio::test]
async fn a_request_is_pushed_by_choice_or_by_the_metadata() {
    for (required, request, is_pushed) in [
        (json!(null), files(), false),
        (json!(false), files(), false),
        (json!("true"), files(), false),
        (json!(null), files().pushed(), true),
        (json!(true), files(), true),
        (json!(true), files().without_id_token(), true),
    ] {
        let provider = provider();
        provider.publish("require_pushed_authorization_requests", required.clone());
        provider.answer(created());
        let client = provider.client(Authority::oidc(ISSUER));
        let request_uri = TokenRequest::new(FILES).query_parameter("request_uri", URI);
        let error = client
            .authorization_request_url(&AuthorizationRequest::new(BACK, request_uri))
            .await;
        let error = error.unwrap_err().to_string();
        assert!(error.contains("'request_uri' is reserved"), "{error}");

        let (page, _) = client.authorization_request_url(&request).await.unwrap();
        assert_eq!(provider.forms().len(), usize::from(is_pushed), "{required}");
        match is_pushed {
            true => assert_eq!(
                page,
                format!(
                    "{ISSUER}/authorize?client_id=web&request_uri={}",
                    URI.replace(':', "%3A")
                )
            ),
            false => assert!(names_of(&page).contains(&"code_challenge".to_owned())),
        }
    }
}

/// Parameters for the sign-in page go to the endpoint, and those of the token request do not.
#[tokio::test]
async fn extra_parameters_and_claims_are_pushed() {
    let provider = provider();
    provider.answer(created());
    let client = provider.builder(Authority::oidc(ISSUER));
    let client = client.client_capabilities(["cp1"]).build().unwrap();
    let request = TokenRequest::new(FILES)
        .query_parameter("acr_values", "gold silver")
        .form_parameter("token_format", "jwt")
        .claims(r#"{"id_token":{"acr":null}}"#);
    let request = AuthorizationRequest::new(BACK, request)
        .form_post()
        .pushed();
    client.authorization_request_url(&request).await.unwrap();
    let form = provider.forms().pop().unwrap();
    assert_eq!(form["acr_values"], "gold silver");
    assert_eq!(form["response_mode"], "form_post");
    assert_eq!(form["client_secret"], "s3cret");
    assert!(form["claims"].contains("acr") && form["claims"].contains("xms_cc"));
    assert!(!form.contains_key("token_format"), "{form:?}");
}

#[tokio::test]
async fn an_authority_without_the_endpoint_is_an_error_of_the_configuration() {
    let without = OpenId::new(ISSUER);
    let required = OpenId::new(ISSUER);
    required.publish("require_pushed_authorization_requests", true);
    let insecure = OpenId::new(ISSUER);
    insecure.publish(
        "pushed_authorization_request_endpoint",
        "http://id.example.org/par",
    );
    let entra = Authority::entra(Cloud::Public, TENANT);
    let adfs = Authority::adfs("fs.contoso.com");
    let oidc = || Authority::oidc(ISSUER);
    for (provider, authority, request, part) in [
        (
            &without,
            oidc(),
            files().pushed(),
            "'pushed_authorization_request_endpoint'",
        ),
        (
            &required,
            oidc(),
            files(),
            "'require_pushed_authorization_requests'",
        ),
        (
            &insecure,
            oidc(),
            files().pushed(),
            "no valid 'pushed_authorization_request_endpoint'",
        ),
        (&without, entra, files().pushed(), "remove pushed()"),
        (&without, adfs, files().pushed(), "remove pushed()"),
    ] {
        let client = provider.client(authority);
        let error = client.authorization_request_url(&request).await;
        let error = error.unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        assert!(error.to_string().contains(part), "{part}: {error}");
        assert!(provider.forms().is_empty());
    }
}

/// A response of the endpoint is a response of the token endpoint, in the type of the error.
#[tokio::test]
async fn errors_are_those_of_a_token_request() {
    let busy = || Answer::status(503, "busy");
    let oauth = r#"{"error":"invalid_request","error_description":"no s3cret-Value~1 here"}"#;
    let redirect = http::Response::builder()
        .status(302)
        .header("location", "https://evil.example/par")
        .body(bytes::Bytes::new())
        .unwrap();
    let throttled = http::Response::builder()
        .status(429)
        .header("retry-after", "7")
        .body(bytes::Bytes::new())
        .unwrap();
    let ok = json!({ "request_uri": URI, "expires_in": 60 }).to_string();
    for (answers, variant, part) in [
        (
            vec![Answer::status(400, oauth)],
            "Server",
            "invalid_request: no ",
        ),
        (
            vec![busy(), busy(), busy()],
            "InvalidResponse",
            "the pushed authorization request endpoint returned 503",
        ),
        (vec![Answer::Http(throttled)], "Throttled", "429"),
        (
            vec![Answer::Http(redirect)],
            "InvalidResponse",
            "a redirect to 'evil.example', which is not followed",
        ),
        (
            vec![Answer::status(200, &ok)],
            "InvalidResponse",
            "the status is not 201",
        ),
        (
            vec![Answer::status(200, oauth)],
            "Server",
            "invalid_request",
        ),
        (
            vec![Answer::status(201, "<html><title>Sign in</title></html>")],
            "InvalidResponse",
            "the pushed authorization request endpoint's response cannot be read: the body is not a JSON object",
        ),
        (
            vec![Answer::status(201, r#"{"request_uri":"urn:a"}"#)],
            "InvalidResponse",
            "no 'expires_in'",
        ),
        (
            vec![Answer::status(201, r#"{"expires_in":60}"#)],
            "InvalidResponse",
            "no 'request_uri'",
        ),
        (
            vec![Answer::Error("cut".into())],
            "Transport",
            "no response from the pushed authorization request endpoint https://id.example.org/par",
        ),
    ] {
        let provider = provider();
        let sent = answers.len();
        answers
            .into_iter()
            .for_each(|answer| provider.answer(answer));
        let attempts = u32::try_from(sent).unwrap();
        let client = provider
            .without_credential(Authority::oidc(ISSUER))
            .client_secret(SECRET)
            .retry(
                RetryPolicy::default()
                    .max_attempts(attempts)
                    .base_delay(Duration::ZERO),
            )
            .build()
            .unwrap();
        let error = client.authorization_request_url(&files().pushed()).await;
        let error = error.unwrap_err();
        assert!(format!("{error:?}").starts_with(variant), "{error:?}");
        assert!(error.to_string().contains(part), "{part}: {error}");
        assert!(!format!("{error:?}{error}").contains(SECRET), "{error:?}");
        assert!(!format!("{error:?}{error}").contains(URI), "{error:?}");
        assert_eq!(provider.forms().len(), sent, "{error}");
        assert!(error.correlation_id().is_some(), "{error:?}");
    }
}

/// Each push is kept apart by the provider, so that one may be repeated.
#[tokio::test]
async fn a_push_is_retried_and_sent_with_another_credential() {
    let provider = provider();
    provider.answer(Answer::status(503, ""));
    provider.answer(Answer::status(401, r#"{"error":"invalid_client"}"#));
    provider.answer(created());
    let calls = Arc::new(AtomicUsize::new(0));
    let source = move || {
        let number = calls.fetch_add(1, Ordering::Relaxed);
        async move { Ok(Secret::from(format!("secret-number-{number}"))) }
    };
    let client = provider
        .without_credential(Authority::oidc(ISSUER))
        .client_secret_source(source)
        .retry(RetryPolicy::default().base_delay(Duration::ZERO))
        .build()
        .unwrap();
    let (page, _) = client
        .authorization_request_url(&files().pushed())
        .await
        .unwrap();
    assert!(page.contains("request_uri="), "{page}");
    let secrets = provider.forms();
    let secrets: Vec<_> = secrets.iter().map(|form| &*form["client_secret"]).collect();
    assert_eq!(
        secrets,
        ["secret-number-0", "secret-number-0", "secret-number-1"]
    );
}

/// The limit of all attempts covers the push, and the error names the endpoint.
#[tokio::test(start_paused = true)]
async fn a_push_without_a_response_ends_at_the_deadline() {
    for (attempt, part) in [
        (
            5,
            "no response from the pushed authorization request endpoint https://id.example.org/par within 5 s",
        ),
        (
            60,
            "no response from the pushed authorization request endpoint",
        ),
    ] {
        let provider = provider();
        provider.answer(Answer::Hang);
        let client = provider
            .builder(Authority::oidc(ISSUER))
            .attempt_timeout(Duration::from_secs(attempt))
            .retry(RetryPolicy::none())
            .build()
            .unwrap();
        let error = client.authorization_request_url(&files().pushed()).await;
        let error = error.unwrap_err();
        assert!(matches!(error, Error::Transport(_)), "{error:?}");
        assert!(error.to_string().contains(part), "{error}");
    }
}
