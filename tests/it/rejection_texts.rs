//! The two texts of each rejection: one for the client, and one for the operator and the log.

use std::time::Duration;

use confidential_client::Authority;
use confidential_client::credential::SigningAlgorithm;
use confidential_client::resource::{
    Claims, RejectionReason, TokenRejection, TokenValidator, TokenValidatorBuilder,
};
use confidential_client::testing::ManualClock;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};

use crate::support::issuer::{
    API, ISSUER, Issuer, P256, RSA, STRANGER, TEMPLATE, TENANT_ID, application_claims, encode,
    header, user_claims, user_token, with, without,
};
use crate::support::log_capture::Log;

const FABRIKAM: &str = "0a1b2c3d-0000-4000-8000-00000000000f";
const OBJECT_ID: &str = "0a1b2c3d-0000-4000-8000-0000000000ad";
const MINUTE: Duration = Duration::from_secs(60);

fn claiming(name: &str, value: impl Into<Value>) -> String {
    RSA.sign(&header(), &with(user_claims(), name, value))
}

fn headed(name: &str, value: impl Into<Value>) -> String {
    RSA.sign(&with(header(), name, value), &user_claims())
}

fn in_tenant(tenant: &str) -> Value {
    let claims = with(user_claims(), "tid", tenant);
    with(claims, "iss", TEMPLATE.replace("{tenantid}", tenant))
}

async fn rejected(builder: TokenValidatorBuilder, token: &str) -> TokenRejection {
    builder.build().unwrap().validate(token).await.unwrap_err()
}

/// Checks that the client reads `text` alone, and that the operator reads all of `compared`.
fn check(name: &str, rejection: &TokenRejection, text: &str, compared: &[&str]) {
    let (shown, chain) = (rejection.to_string(), rejection.chain().to_string());
    assert_eq!(shown, text, "{name}");
    let for_client = format!("{shown} {:?}", rejection.www_authenticate());
    let debug = format!("{rejection:?}");
    for value in compared {
        assert!(chain.contains(value), "{name}: {value} is not in {chain}");
        assert!(
            debug.contains(&value.replace('\\', "\\\\")),
            "{name}: {debug}"
        );
        assert!(!for_client.contains(value), "{name}: {for_client}");
    }
    for text in [&chain, &for_client, &debug] {
        assert!(!text.contains(char::is_control), "{name}: {text}");
        assert!(!text.contains("eyJ"), "{name}: {text}");
    }
}

#[tokio::test]
async fn the_client_does_not_read_the_configuration_and_the_operator_reads_what_was_compared() {
    let issuer = Issuer::new();
    let pinned = with(with(RSA.jwk.clone(), "kid", "pinned"), "alg", "PS256");
    let consumers_key = with(
        with(RSA.jwk.clone(), "kid", "elsewhere"),
        "issuer",
        TEMPLATE.replace("{tenantid}", FABRIKAM),
    );
    issuer.publish(&[
        RSA.jwk.clone(),
        P256.jwk.clone(),
        pinned.clone(),
        consumers_key,
    ]);
    let builder = || issuer.builder(TENANT_ID);
    let single = || builder().audience("api://second").single_tenant();
    let unnamed = RSA.sign(&without(header(), "kid"), &user_claims());
    let other_issuer = with(user_claims(), "iss", "https://evil.example/v2.0");
    let other_tid = with(user_claims(), "tid", FABRIKAM);
    let id_token = with(without(user_claims(), "scp"), "nonce", "n-0nce");
    let bound = claiming("cnf", json!({ "jkt": "thumb" }));
    for (name, builder, token, text, compared) in [
        (
            "an unknown key",
            single(),
            headed("kid", "unknown"),
            "the token is signed with a key that is not accepted",
            &["'unknown'", "'first', 'curve', 'pinned'"][..],
        ),
        (
            "no key named",
            single(),
            unnamed,
            "the token does not name its key",
            &["publishes 2 keys"],
        ),
        (
            "a key for another algorithm",
            single(),
            headed("kid", "pinned"),
            "the token's 'alg' does not match the key of the token",
            &["'alg' is RS256", "key 'pinned'"],
        ),
        (
            "another's signature",
            single(),
            STRANGER.sign(&header(), &user_claims()),
            "the token's signature is wrong",
            &["the key 'first' does not verify"],
        ),
        (
            "a key of another issuer",
            single(),
            headed("kid", "elsewhere"),
            "the token is signed with a key of another issuer",
            &[FABRIKAM, ISSUER],
        ),
        (
            "another algorithm",
            single(),
            headed("alg", "RS512"),
            "the token is signed with an algorithm that is not accepted",
            &["'RS512'", "RS256, PS256, ES256, ES384 or EdDSA"],
        ),
        (
            "an algorithm that is not listed",
            single().algorithms([SigningAlgorithm::PS256, SigningAlgorithm::ES256]),
            user_token(),
            "the token is signed with 'RS256', which this API does not accept",
            &["'PS256', 'ES256'"],
        ),
        (
            "another type",
            single(),
            headed("typ", "logout+jwt"),
            "the token's 'typ' is not accepted; send an access token",
            &["'logout+jwt'"],
        ),
        (
            "not the required type",
            single().require_type("at+jwt"),
            user_token(),
            "the token's 'typ' is not 'at+jwt', which this API requires",
            &["the token's 'typ' is 'jwt'"],
        ),
        (
            "another issuer",
            single(),
            RSA.sign(&header(), &other_issuer),
            "the token's issuer is not trusted by this API",
            &[
                "'https://evil.example/v2.0'",
                ISSUER,
                "'https://sts.windows.net/",
            ],
        ),
        (
            "the tenant of another issuer",
            single(),
            RSA.sign(&header(), &other_tid),
            "the token's tenant does not match the token's issuer",
            &[FABRIKAM, TENANT_ID],
        ),
        (
            "a tenant that is not listed",
            builder().tenants([TENANT_ID]),
            RSA.sign(&header(), &in_tenant(FABRIKAM)),
            "the token's tenant is not accepted by this API",
            &[
                "tenant (tid) is '0a1b2c3d-0000-4000-8000-00000000000f'",
                "accepted tenants are '72f988bf-86f1-41af-91ab-2d7cd011db47'",
            ],
        ),
        (
            "a personal account",
            builder().any_tenant(),
            RSA.sign(
                &header(),
                &in_tenant("9188040d-6c67-4c5b-b112-36a304b66dad"),
            ),
            "the token's tenant is not accepted by this API",
            &["'9188040d-", "no personal account"],
        ),
        (
            "another audience",
            single(),
            claiming("aud", "api://other"),
            "the token's audience is not this API; request a scope of this API",
            &["'api://other'", "'api://drive', 'api://second'"],
        ),
        (
            "a bound token",
            single(),
            bound,
            "the token is bound to a key (cnf), and this API cannot check the binding; send a bearer token",
            &["members of cnf are 'jkt'"],
        ),
        (
            "a refresh token",
            single(),
            claiming("typ", "Refresh"),
            "the token is of another type; send an access token",
            &["the claim 'typ' is 'Refresh'"],
        ),
        (
            "an ID token",
            single(),
            RSA.sign(&header(), &id_token),
            "the token is an ID token, which is meant for the client; send an access token",
            &["has the claims 'nonce', 'azp'", "lacks 'at_hash'"],
        ),
    ] {
        let rejection = rejected(builder, &token).await;
        check(name, &rejection, text, compared);
        for part in token.split('.').filter(|part| part.len() > 10) {
            assert!(!rejection.chain().to_string().contains(part), "{name}");
        }
    }
    let b2c = Authority::b2c(
        "contoso.b2clogin.com",
        "contoso.onmicrosoft.com",
        "B2C_1_in",
    );
    let b2c = TokenValidator::builder(b2c)
        .audience(API)
        .single_tenant()
        .transport(issuer.transport())
        .policies(["B2C_1_in"]);
    let claims = with(
        without(user_claims(), "tid"),
        "iss",
        "https://contoso.b2clogin.com/contoso.onmicrosoft.com/B2C_1_in",
    );
    let reset = RSA.sign(&header(), &with(claims, "tfp", "B2C_1_reset"));
    check(
        "another user flow",
        &rejected(b2c, &reset).await,
        "the token's user flow is not accepted by this API",
        &["is 'B2C_1_reset'", "user flows are 'B2C_1_in'"],
    );
}

#[tokio::test]
async fn a_token_at_the_wrong_time_is_not_rejected_without_the_times() {
    let validator = Issuer::new().validator();
    let later = with(user_claims(), "exp", 4_100_000_000_u64);
    for (name, claims, text, compared) in [
        (
            "expired",
            with(user_claims(), "exp", 1_700_000_000),
            "the token has expired",
            [
                "'exp' is 2023-11-14T22:13:20Z",
                " s before this machine's clock (20",
                "clock skew is 300 s",
            ],
        ),
        (
            "not yet valid",
            with(later, "nbf", 4_000_000_000_u64),
            "the token is not valid yet",
            [
                "'nbf' is 2096-10-02T07:06:40Z",
                " s after this machine's clock (20",
                "clock skew is 300 s",
            ],
        ),
    ] {
        let token = RSA.sign(&header(), &claims);
        let rejection = validator.validate(&token).await.unwrap_err();
        check(name, &rejection, text, &compared);
    }
}

#[tokio::test]
async fn a_tenant_in_capitals_is_not_rejected_as_another_issuer_and_is_not_accepted() {
    let issuer = Issuer::new();
    let builder = || issuer.builder(TENANT_ID);
    let capitals = TENANT_ID.to_ascii_uppercase();
    let tid_alone = RSA.sign(&header(), &with(user_claims(), "tid", capitals.as_str()));
    let both = RSA.sign(&header(), &in_tenant(&capitals));
    for (name, builder, token) in [
        ("single tenant", builder().single_tenant(), &tid_alone),
        ("listed", builder().tenants([TENANT_ID]), &tid_alone),
        (
            "listed, in the issuer too",
            builder().tenants([TENANT_ID]),
            &both,
        ),
        ("any tenant", builder().any_tenant(), &tid_alone),
        (
            "any tenant, in the issuer too",
            builder().any_tenant(),
            &both,
        ),
    ] {
        let rejection = rejected(builder, token).await;
        assert_eq!(rejection.reason(), RejectionReason::InvalidIssuer, "{name}");
        let text = "the token's tenant id (tid) is not in lower case";
        check(name, &rejection, text, &[&capitals, "Microsoft Entra ID"]);
    }
}

#[tokio::test]
async fn a_long_list_of_keys_or_texts_of_a_token_does_not_fill_the_log() {
    let issuer = Issuer::new();
    let key = |number: usize| with(RSA.jwk.clone(), "kid", format!("key-{number}"));
    issuer.publish(&(0..500).map(key).collect::<Vec<_>>());
    let validator = issuer.validator();
    let token = headed("kid", "k".repeat(9_999));
    let chain = validator.validate(&token).await.unwrap_err();
    let chain = chain.chain().to_string();
    assert!(
        chain.contains("'key-9' and 490 more") && chain.len() < 1_000,
        "{chain}"
    );
    let scopes: Vec<String> = (0..500).map(|number| format!("s-{number}")).collect();
    issuer.publish(std::slice::from_ref(&RSA.jwk));
    let validator = issuer.validator();
    let token = claiming("scp", scopes.join(" "));
    let claims = validator.validate(&token).await.unwrap();
    let chain = claims.require_scope("x").unwrap_err().chain().to_string();
    assert!(
        chain.contains("'s-9' and 490 more") && chain.len() < 1_000,
        "{chain}"
    );
}

async fn accepted(validator: &TokenValidator, claims: &Value) -> Claims {
    let token = RSA.sign(&header(), claims);
    validator.validate(&token).await.unwrap()
}

fn with_personal_data(claims: Value) -> Value {
    let mut claims = with(claims, "oid", OBJECT_ID);
    for name in [
        "upn",
        "name",
        "email",
        "preferred_username",
        "unique_name",
        "sub",
    ] {
        claims = with(claims, name, format!("adele.{name}@contoso.com"));
    }
    claims
}

#[tokio::test]
async fn a_missing_permission_is_not_reported_without_the_permissions_held_and_wanted() {
    let validator = Issuer::new().validator();
    let user = with(with_personal_data(user_claims()), "roles", json!(["Owner"]));
    let user = accepted(&validator, &user).await;
    let application = with(application_claims(), "sub", OBJECT_ID);
    let application = with(application, "oid", OBJECT_ID);
    let application = accepted(&validator, &application).await;
    let held_by_user = [
        "'Files.Read', 'User.Read'",
        "'Owner'",
        "'client'",
        OBJECT_ID,
    ];
    let held_by_application = ["'Files.Read.All'", "'client'", TENANT_ID];
    for (name, rejection, text, compared) in [
        (
            "scope",
            user.require_scope("Files.Write"),
            "the client was not granted the scope 'Files.Write'",
            &held_by_user[..],
        ),
        (
            "no application",
            user.require_application_role("R"),
            "this operation requires an application token with the role 'R'",
            &held_by_user,
        ),
        (
            "role",
            application.require_application_role("R"),
            "the application was not granted the role 'R'",
            &held_by_application,
        ),
        (
            "no user",
            application.require_scope("S"),
            "this operation requires a user token with the scope 'S'",
            &held_by_application,
        ),
    ] {
        let rejection = rejection.unwrap_err();
        check(name, &rejection, text, compared);
        assert!(!rejection.chain().to_string().contains("@contoso.com"));
    }
}

#[tokio::test]
async fn no_rejection_is_left_out_of_the_log() {
    let log = Log::start();
    let validator = Issuer::new().validator();
    let token = user_token();
    let bearer = format!("Bearer {token}");
    let headers = |values: &[&str]| {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        headers
    };
    for values in [&[][..], &[bearer.as_str(), &bearer]] {
        let headers = headers(values);
        validator.validate_headers(&headers).await.unwrap_err();
    }
    let forged = STRANGER.sign(&header(), &user_claims());
    validator.validate(&forged).await.unwrap_err();
    let user = accepted(&validator, &with_personal_data(user_claims())).await;
    user.require_scope("Files.Write").unwrap_err();
    user.require_application_role("R").unwrap_err();
    user.require_authentication_context("c1").unwrap_err();
    user.require_user_role("Editor").unwrap_err();
    user.authorize_user(|_| false).unwrap_err();
    let application = accepted(&validator, &application_claims()).await;
    application.require_scope("S").unwrap_err();
    application.require_application_role("R").unwrap_err();
    application.require_user_role("Editor").unwrap_err();
    let text = log.text();
    for (reason, said) in [
        ("MissingToken", "the request carries no bearer token"),
        ("InvalidRequest", "more than one Authorization header"),
        ("InvalidSignature", "the key 'first' does not verify"),
        ("MissingScope", "the scopes are 'Files.Read', 'User.Read'"),
        ("NeedsApplication", "the role 'R'"),
        ("NeedsAuthenticationContext", "contexts (acrs) are none"),
        ("MissingUserRole", "the role 'Editor': the holder is User"),
        ("UserNotAllowed", OBJECT_ID),
        ("NeedsUser", "the scope 'S'"),
        ("MissingRole", "the roles are 'Files.Read.All'"),
        ("NoUser", "requires a user: the holder is Application"),
    ] {
        let line = text.lines().find(|line| {
            line.contains(" WARN ") && line.contains(&format!("reason={reason} suppressed=0"))
        });
        let line = line.unwrap_or_else(|| panic!("{reason} is not in {text}"));
        assert!(line.contains(said), "{line}");
    }
    assert_eq!(text.matches(" WARN ").count(), 11, "{text}");
    assert!(!text.contains("@contoso.com"), "{text}");
    let parts = [&token, &forged];
    for part in parts.iter().flat_map(|token| token.split('.')) {
        assert!(!text.contains(part), "{text}");
    }
}

#[tokio::test]
async fn a_flood_of_one_rejection_makes_no_more_than_one_warning_a_minute() {
    let log = Log::start();
    let clock = ManualClock::new();
    let issuer = Issuer::new();
    let validator = issuer.validator_at(&clock);
    let warnings = || log.text().matches(" WARN ").count();
    let missing = HeaderMap::new();
    let flood = async |validator: &TokenValidator, number: usize| {
        for _ in 0..number {
            validator.validate_headers(&missing).await.unwrap_err();
        }
    };
    flood(&validator, 100).await;
    assert_eq!(warnings(), 1);
    // The other rejections are logged in full at DEBUG.
    let text = log.text();
    let debug = text
        .lines()
        .filter(|line| line.contains("DEBUG") && line.contains("carries no bearer token"));
    assert_eq!(debug.count(), 99);
    clock.advance(MINUTE - Duration::from_millis(1));
    flood(&validator, 1).await;
    assert_eq!(warnings(), 1);
    clock.advance(Duration::from_millis(1));
    flood(&validator, 50).await;
    assert_eq!(warnings(), 2);
    assert!(log.text().contains("reason=MissingToken suppressed=100"));
    let clone = validator.clone();
    clone.validate("x").await.unwrap_err();
    assert_eq!(warnings(), 3, "another reason");
    flood(&clone, 1).await;
    assert_eq!(warnings(), 3, "a clone shares the limit");
    let claims = accepted(&clone, &user_claims()).await;
    for _ in 0..5 {
        claims.require_scope("x").unwrap_err();
        claims.clone().authorize_user(|_| false).unwrap_err();
    }
    assert_eq!(warnings(), 5, "two reasons");
    flood(&issuer.validator_at(&clock), 1).await;
    assert_eq!(warnings(), 6, "another validator");
    // A stopped monotonic clock does not silence the log.
    clock.advance_wall(MINUTE);
    flood(&validator, 1).await;
    assert_eq!(warnings(), 7);
    assert!(log.text().contains("reason=MissingToken suppressed=50"));
}

#[tokio::test]
async fn a_mistake_around_the_token_gets_the_message_that_fits_and_is_not_echoed() {
    let validator = Issuer::new().validator();
    let token = user_token();
    let secret = "c2VjcmV0LXRleHQ";
    use RejectionReason::{InvalidRequest, Malformed, MissingToken};
    for (name, value, reason, status, text) in [
        (
            "twice",
            format!("Bearer Bearer {token}"),
            InvalidRequest,
            400,
            "begins with the word 'Bearer'",
        ),
        (
            "twice, in small letters",
            format!("bearer bearer {token}"),
            InvalidRequest,
            400,
            "begins with the word 'Bearer'",
        ),
        (
            "two tokens",
            format!("Bearer {token}, Bearer {token}"),
            InvalidRequest,
            400,
            "more than one credential",
        ),
        (
            "two tokens without a space",
            format!("Bearer {token},Bearer {token}"),
            InvalidRequest,
            400,
            "more than one credential",
        ),
        (
            "two tokens in one scheme",
            format!("Bearer {token};{token}"),
            InvalidRequest,
            400,
            "more than one credential",
        ),
        (
            "another scheme after",
            format!("Bearer {token}, Basic {secret}"),
            InvalidRequest,
            400,
            "more than one credential",
        ),
        (
            "another scheme before",
            format!("Basic {secret}, Bearer {token}"),
            InvalidRequest,
            400,
            "more than one credential",
        ),
        (
            "quotes",
            format!("Bearer \"{token}\""),
            InvalidRequest,
            400,
            "the token is in quotes",
        ),
        (
            "single quotes",
            format!("Bearer '{token}'"),
            InvalidRequest,
            400,
            "the token is in quotes",
        ),
        (
            "one quote",
            format!("Bearer {token}\""),
            InvalidRequest,
            400,
            "the token is in quotes",
        ),
        (
            "quotes around all",
            format!("\"Bearer {token}\""),
            InvalidRequest,
            400,
            "header is in quotes",
        ),
        (
            "white space inside",
            format!("Bearer {} {}", &token[..40], &token[40..]),
            InvalidRequest,
            400,
            "white space",
        ),
        (
            "a tab inside",
            format!("Bearer {}\t{}", &token[..40], &token[40..]),
            InvalidRequest,
            400,
            "white space",
        ),
        (
            "a name",
            format!("Bearer token={token}"),
            InvalidRequest,
            400,
            "contains '='",
        ),
        (
            "percent-encoded",
            format!("Bearer {token}%0A"),
            InvalidRequest,
            400,
            "contains a character",
        ),
        (
            "a placeholder",
            "Bearer {access_token}".to_owned(),
            InvalidRequest,
            400,
            "begins with a bracket",
        ),
        (
            "a colon",
            format!("Bearer: {token}"),
            InvalidRequest,
            400,
            "no space between 'Bearer' and the token",
        ),
        (
            "a tab",
            format!("Bearer\t{token}"),
            InvalidRequest,
            400,
            "no space between",
        ),
        (
            "no space",
            format!("Bearer{token}"),
            InvalidRequest,
            400,
            "no space between",
        ),
        (
            "no text",
            "Bearer".to_owned(),
            InvalidRequest,
            400,
            "contains no token",
        ),
        (
            "null",
            "Bearer null".to_owned(),
            Malformed,
            401,
            "text of a missing value",
        ),
        (
            "undefined",
            "Bearer undefined".to_owned(),
            Malformed,
            401,
            "text of a missing value",
        ),
        (
            "a JavaScript object",
            "Bearer [object Object]".to_owned(),
            Malformed,
            401,
            "text of a missing value",
        ),
        (
            "no JWT",
            format!("Bearer {secret}"),
            Malformed,
            401,
            "three parts separated by dots",
        ),
        (
            "no scheme",
            token.clone(),
            MissingToken,
            401,
            "header has no scheme; send 'Bearer'",
        ),
        (
            "Basic",
            format!("Basic {secret}"),
            MissingToken,
            401,
            "is 'Basic', and not 'Bearer'",
        ),
        (
            "Token",
            format!("token {token}"),
            MissingToken,
            401,
            "is 'Token', and not 'Bearer'",
        ),
        (
            "DPoP",
            format!("DPoP {token}"),
            MissingToken,
            401,
            "is 'DPoP', and not 'Bearer'",
        ),
        (
            "Digest with commas",
            "Digest username=\"a\", realm=\"b\"".to_owned(),
            MissingToken,
            401,
            "is 'Digest', and not 'Bearer'",
        ),
        (
            "an unknown scheme",
            format!("{secret} {token}"),
            MissingToken,
            401,
            "is not 'Bearer'",
        ),
        (
            "a longer word",
            format!("Bearer-ish {secret}"),
            MissingToken,
            401,
            "is not 'Bearer'",
        ),
        (
            "an empty header",
            String::new(),
            MissingToken,
            401,
            "is not 'Bearer'",
        ),
    ] {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_str(&value).unwrap());
        let rejection = validator.validate_headers(&headers).await.unwrap_err();
        assert_eq!(
            (rejection.reason(), rejection.status().as_u16()),
            (reason, status),
            "{name}: {rejection}"
        );
        let shown = format!("{rejection} {} {rejection:?}", rejection.chain());
        assert!(rejection.to_string().contains(text), "{name}: {rejection}");
        for hidden in [secret, "eyJ", "username", &token[40..]] {
            assert!(!shown.contains(hidden), "{name}: {shown}");
        }
    }
    for (name, text, said) in [
        (
            "the whole header",
            format!("Bearer {token}"),
            "begins with the word 'Bearer'",
        ),
        (
            "a line break",
            format!("{token}\n"),
            "white space or a line break",
        ),
        ("quotes", format!("\"{token}\""), "in quotes"),
    ] {
        let rejection = validator.validate(&text).await.unwrap_err();
        assert_eq!(
            (rejection.reason(), rejection.status().as_u16()),
            (Malformed, 401),
            "{name}"
        );
        assert!(rejection.to_string().contains(said), "{name}: {rejection}");
    }
    for value in [format!("  Bearer {token}"), format!("Bearer   {token} \t")] {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_str(&value).unwrap());
        validator.validate_headers(&headers).await.unwrap();
    }
}

#[tokio::test]
async fn bytes_that_are_not_utf_8_do_not_pass_in_any_header_or_claim() {
    let validator = Issuer::new().validator();
    let token = user_token();
    for bytes in [
        &b"Bearer \xff"[..],
        b"Bearer \xc3\xa9",
        b"\xffBearer x",
        b"Basic \x80",
    ] {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_bytes(bytes).unwrap());
        let rejection = validator.validate_headers(&headers).await.unwrap_err();
        assert_eq!(rejection.reason(), RejectionReason::InvalidRequest);
        assert!(rejection.to_string().contains("not ASCII"), "{rejection}");
    }
    let parts: Vec<&str> = token.split('.').collect();
    for (name, head) in [
        (
            "an ignored value",
            &b"{\"alg\":\"RS256\",\"kid\":\"first\",\"x5u\":\"\xff\"}"[..],
        ),
        (
            "an ignored name",
            b"{\"alg\":\"RS256\",\"kid\":\"first\",\"\xff\":1}",
        ),
        (
            "inside an ignored list",
            b"{\"alg\":\"RS256\",\"kid\":\"first\",\"x5c\":[\"\xe2\x82\"]}",
        ),
        (
            "half of a surrogate pair",
            br#"{"alg":"RS256","kid":"first","x5u":"\ud800"}"#,
        ),
    ] {
        let token = format!("{}.{}.{}", encode(head), parts[1], parts[2]);
        let rejection = validator.validate(&token).await.unwrap_err();
        assert_eq!(rejection.reason(), RejectionReason::Malformed, "{name}");
    }
}
