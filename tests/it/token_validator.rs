//! The tokens that a validator accepts and rejects, one row for each decision.

use std::time::Duration;

use confidential_client::credential::SigningAlgorithm;
use confidential_client::resource::{RejectionReason, TokenValidator};
use confidential_client::testing::ManualClock;
use confidential_client::{Authority, Cloud, Error};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

use crate::support::issuer::{
    API, Issuer, P256, RSA, STRANGER, TEMPLATE, TENANT_ID, application_claims, encode, header,
    sign_with, user_claims, user_token, with, without,
};

const CONSUMERS: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";
const FABRIKAM: &str = "0a1b2c3d-0000-4000-8000-000000000001";

/// Returns the reason for a rejection, if the token is rejected.
async fn rejection(validator: &TokenValidator, token: &str) -> Option<RejectionReason> {
    let outcome = validator.validate(token).await;
    outcome.err().map(|rejected| rejected.reason())
}

fn in_tenant(tenant: &str) -> Value {
    let claims = with(user_claims(), "tid", tenant);
    with(claims, "iss", TEMPLATE.replace("{tenantid}", tenant))
}

#[tokio::test]
async fn a_token_with_one_flaw_is_rejected_for_that_flaw() {
    let issuer = Issuer::new();
    let encryption = with(with(RSA.jwk.clone(), "kid", "encryption"), "use", "enc");
    let elsewhere = with(
        with(RSA.jwk.clone(), "kid", "elsewhere"),
        "issuer",
        TEMPLATE.replace("{tenantid}", CONSUMERS),
    );
    let pinned = with(with(RSA.jwk.clone(), "kid", "pinned"), "alg", "PS256");
    issuer.publish(&[
        RSA.jwk.clone(),
        P256.jwk.clone(),
        encryption,
        elsewhere,
        pinned,
    ]);
    let validator = issuer
        .builder(TENANT_ID)
        .audience("client")
        .single_tenant()
        .build()
        .unwrap();
    let good = user_token();
    validator.validate(&good).await.unwrap();

    let parts: Vec<&str> = good.split('.').collect();
    let [head, body, signature] = parts[..] else {
        panic!()
    };
    let headed = |name: &str, value: Value| RSA.sign(&with(header(), name, value), &user_claims());
    let claiming =
        |name: &str, value: Value| RSA.sign(&header(), &with(user_claims(), name, value));
    let claiming_without_scope = |name: &str, value: Value| {
        RSA.sign(&header(), &with(without(user_claims(), "scp"), name, value))
    };
    let lacking = |name: &str| RSA.sign(&header(), &without(user_claims(), name));
    let now = jsonwebtoken::get_current_timestamp();
    let none = with(header(), "alg", "none");
    let hmac = {
        // A validator that uses the public key as an HMAC secret would accept this token.
        let secret = EncodingKey::from_secret(RSA.jwk["n"].as_str().unwrap().as_bytes());
        sign_with(
            &secret,
            Algorithm::HS256,
            &with(header(), "alg", "HS256"),
            &user_claims(),
        )
    };
    use RejectionReason as Is;
    for (name, token, reason) in [
        ("another's key of that name", STRANGER.sign(&header(), &user_claims()), Is::InvalidSignature),
        ("changed claims", format!("{head}.{}.{signature}", encode(with(user_claims(), "oid", "b").to_string())), Is::InvalidSignature),
        ("no signature", format!("{head}.{body}."), Is::InvalidSignature),
        ("alg none", format!("{}.{body}.", encode(none.to_string())), Is::UnsupportedAlgorithm),
        ("alg none with a signature", RSA.sign(&none, &user_claims()), Is::UnsupportedAlgorithm),
        ("HMAC with the public key", hmac, Is::UnsupportedAlgorithm),
        ("RS512", headed("alg", json!("RS512")), Is::UnsupportedAlgorithm),
        ("an unknown key", headed("kid", json!("unknown")), Is::NoMatchingKey),
        ("an unknown key that it brings along", RSA.sign(&with(with(header(), "kid", "own"), "jwk", RSA.jwk.clone()), &user_claims()), Is::NoMatchingKey),
        ("a key for encryption", headed("kid", json!("encryption")), Is::NoMatchingKey),
        ("a key for another algorithm", headed("kid", json!("pinned")), Is::NoMatchingKey),
        ("a key of another kind", headed("kid", json!("curve")), Is::NoMatchingKey),
        ("no key named, of two", RSA.sign(&without(header(), "kid"), &user_claims()), Is::NoMatchingKey),
        ("a key of another issuer", headed("kid", json!("elsewhere")), Is::InvalidIssuer),
        ("crit", headed("crit", json!(["exp"])), Is::Malformed),
        ("a JWS in JSON form with two signatures", json!({ "payload": body, "signatures": [
            { "protected": head, "signature": signature }, { "protected": head, "signature": signature },
        ] }).to_string(), Is::Malformed),
        ("four parts", format!("{good}.{signature}"), Is::Malformed),
        ("an encrypted token", format!("{good}.a.a"), Is::Malformed),
        ("nothing", String::new(), Is::Malformed),
        ("text", "abc".to_owned(), Is::Malformed),
        ("oversized", format!("{head}.{}.{signature}", "A".repeat(64 * 1024)), Is::Malformed),
        ("another audience", claiming("aud", json!("api://other")), Is::InvalidAudience),
        ("an audience that begins like ours", claiming("aud", json!("api://drive/")), Is::InvalidAudience),
        ("no audience", lacking("aud"), Is::Malformed),
        ("another issuer", claiming("iss", json!("https://evil.example/v2.0")), Is::InvalidIssuer),
        ("another tenant's issuer", RSA.sign(&header(), &in_tenant(FABRIKAM)), Is::InvalidIssuer),
        ("no issuer", lacking("iss"), Is::Malformed),
        ("expired", claiming("exp", json!(now - 301)), Is::Expired),
        ("without end", lacking("exp"), Is::Malformed),
        ("an end that is text", claiming("exp", json!("9999999999")), Is::Malformed),
        ("not yet valid", claiming("nbf", json!(now + 400)), Is::NotYetValid),
        ("a logout token", headed("typ", json!("logout+jwt")), Is::NotAnAccessToken),
        ("an ID token", RSA.sign(&header(), &without(without(with(user_claims(), "nonce", "n"), "scp"), "azp")), Is::NotAnAccessToken),
        ("an ID token with roles", RSA.sign(&header(), &with(without(without(user_claims(), "scp"), "azp"), "roles", json!(["Files.Read.All"]))), Is::NotAnAccessToken),
        ("an ID token that says to whom", RSA.sign(&header(), &with(without(user_claims(), "scp"), "nonce", "n")), Is::NotAnAccessToken),
        ("an ID token with a hash", claiming("at_hash", json!("h")), Is::NotAnAccessToken),
        ("an ID token of Keycloak", claiming("typ", json!("ID")), Is::NotAnAccessToken),
        ("an ID token without nonce or hash", claiming_without_scope("aud", json!("client")), Is::NotAnAccessToken),
        ("an ID token for a list", claiming_without_scope("aud", json!(["client"])), Is::NotAnAccessToken),
        ("an ID token for its client and another", claiming_without_scope("aud", json!(["client", "api://drive"])), Is::NotAnAccessToken),
        ("a refresh token of Keycloak", claiming("typ", json!("Refresh")), Is::NotAnAccessToken),
        ("an offline token of Keycloak", claiming("typ", json!("Offline")), Is::NotAnAccessToken),
        ("a logout token of Keycloak", claiming("typ", json!("Logout")), Is::NotAnAccessToken),
        ("a logout token by its events", claiming("events", json!({ "http://schemas.openid.net/event/backchannel-logout": {} })), Is::NotAnAccessToken),
        ("a token bound to a DPoP key", claiming("cnf", json!({ "jkt": "h" })), Is::BoundToKey),
        ("a token bound to a certificate", claiming("cnf", json!({ "x5t#S256": "h" })), Is::BoundToKey),
        ("a token bound to a key of its own", claiming("cnf", json!({ "jwk": P256.jwk.clone() })), Is::BoundToKey),
        ("a token bound to a named key", claiming("cnf", json!({ "kid": "k" })), Is::BoundToKey),
        ("a token bound in a new way", claiming("cnf", json!({ "new": "k" })), Is::BoundToKey),
        ("a token bound in no form", claiming("cnf", json!("jkt")), Is::BoundToKey),
        ("a token for Graph by its name", claiming("aud", json!("https://graph.microsoft.com")), Is::ForGraph),
        ("a token for Graph by its id", claiming("aud", json!("00000003-0000-0000-c000-000000000000")), Is::ForGraph),
        ("a token for Graph by its header", format!("{}.{body}.{signature}", encode(with(header(), "nonce", "n").to_string())), Is::ForGraph),
    ] {
        assert_eq!(rejection(&validator, &token).await, Some(reason), "{name}");
    }
    // No URL in a token is fetched. The unknown key makes the validator fetch the keys once more.
    assert_eq!(issuer.asked(), (2, 2));
}

#[tokio::test]
async fn every_form_of_a_valid_token_is_accepted() {
    let issuer = Issuer::new();
    let validator = issuer
        .builder(TENANT_ID)
        .audience("0A1B2C3D-0000-4000-8000-00000000000A")
        .single_tenant()
        .build()
        .unwrap();
    let now = jsonwebtoken::get_current_timestamp();
    let v1 = with(
        with(
            user_claims(),
            "iss",
            format!("https://sts.windows.net/{TENANT_ID}/"),
        ),
        "ver",
        "1.0",
    );
    let v1 = with(without(v1, "azp"), "appid", "client");
    for (name, token) in [
        ("RS256", user_token()),
        (
            "PS256",
            RSA.sign(&with(header(), "alg", "PS256"), &user_claims()),
        ),
        (
            "ES256",
            P256.sign(
                &with(with(header(), "alg", "ES256"), "kid", "curve"),
                &user_claims(),
            ),
        ),
        (
            "the one key for its algorithm",
            RSA.sign(&without(header(), "kid"), &user_claims()),
        ),
        ("version 1", RSA.sign(&header(), &v1)),
        (
            "by its id, which is folded",
            RSA.sign(
                &header(),
                &with(user_claims(), "aud", "0a1b2c3d-0000-4000-8000-00000000000a"),
            ),
        ),
        (
            "for several",
            RSA.sign(&header(), &with(user_claims(), "aud", json!(["a", API]))),
        ),
        (
            "as an access token by its type",
            RSA.sign(
                &with(header(), "typ", "at+jwt"),
                &without(without(user_claims(), "scp"), "azp"),
            ),
        ),
        (
            "ended within the leeway",
            RSA.sign(&header(), &with(user_claims(), "exp", now - 200)),
        ),
        (
            "begins within the leeway",
            RSA.sign(&header(), &with(user_claims(), "nbf", now + 200)),
        ),
        (
            "an application's",
            RSA.sign(&header(), &application_claims()),
        ),
        (
            "an application's without a role",
            RSA.sign(&header(), &without(application_claims(), "roles")),
        ),
        (
            "with keys nobody asked for",
            RSA.sign(
                &with(
                    with(header(), "jku", "https://evil.example"),
                    "x5c",
                    json!(["MII"]),
                ),
                &user_claims(),
            ),
        ),
    ] {
        let outcome = validator.validate(&token).await;
        assert!(outcome.is_ok(), "{name}: {outcome:?}");
    }
}

#[tokio::test]
async fn only_the_configured_tenants_are_accepted() {
    let issuer = Issuer::new();
    let token = |tenant: &str| RSA.sign(&header(), &in_tenant(tenant));
    let listed = || {
        issuer
            .builder(TENANT_ID)
            .tenants([FABRIKAM.to_ascii_uppercase()])
    };
    let both = || issuer.builder(TENANT_ID).tenants([FABRIKAM, CONSUMERS]);
    let any = |own| issuer.builder(own).any_tenant();
    use RejectionReason::{InvalidIssuer, Malformed, TenantNotAccepted};
    for (name, builder, tenant, reason) in [
        (
            "its own",
            issuer.builder(TENANT_ID).single_tenant(),
            TENANT_ID,
            None,
        ),
        (
            "not its own",
            issuer.builder(TENANT_ID).single_tenant(),
            FABRIKAM,
            Some(InvalidIssuer),
        ),
        (
            "its own, not listed",
            listed(),
            TENANT_ID,
            Some(TenantNotAccepted),
        ),
        ("listed", listed(), FABRIKAM, None),
        ("personal accounts, listed", both(), CONSUMERS, None),
        ("any", any(TENANT_ID), FABRIKAM, None),
        ("any of organizations", any("organizations"), FABRIKAM, None),
        (
            "personal accounts",
            any(TENANT_ID),
            CONSUMERS,
            Some(TenantNotAccepted),
        ),
        (
            "personal accounts of organizations",
            any("organizations"),
            CONSUMERS,
            Some(TenantNotAccepted),
        ),
        (
            "personal accounts of common",
            any("common"),
            CONSUMERS,
            None,
        ),
        ("no id", any("common"), "contoso.com", Some(InvalidIssuer)),
    ] {
        let validator = builder.build().unwrap();
        assert_eq!(
            rejection(&validator, &token(tenant)).await,
            reason,
            "{name}"
        );
    }
    // Found by the fuzzer. The `tid` that the application reads must be the tenant of the issuer.
    let validator = issuer.builder(TENANT_ID).single_tenant().build().unwrap();
    let token = RSA.sign(&header(), &with(in_tenant(TENANT_ID), "tid", FABRIKAM));
    assert_eq!(rejection(&validator, &token).await, Some(InvalidIssuer));
    let token = RSA.sign(&header(), &without(in_tenant(TENANT_ID), "tid"));
    assert_eq!(rejection(&validator, &token).await, Some(Malformed));

    let validator = any(TENANT_ID).build().unwrap();
    for (name, claims) in [
        (
            "another tenant than its issuer",
            with(in_tenant(FABRIKAM), "tid", TENANT_ID),
        ),
        ("no tenant", without(in_tenant(FABRIKAM), "tid")),
        ("the template", in_tenant("{tenantid}")),
    ] {
        let token = RSA.sign(&header(), &claims);
        assert_eq!(
            rejection(&validator, &token).await,
            Some(InvalidIssuer),
            "{name}"
        );
    }
    let v1 = with(
        in_tenant(FABRIKAM),
        "iss",
        format!("https://sts.windows.net/{FABRIKAM}/"),
    );
    validator.validate(&RSA.sign(&header(), &v1)).await.unwrap();
}

#[tokio::test]
async fn tokens_of_an_openid_provider_are_accepted_by_issuer() {
    let issuer = Issuer::new();
    let validator = TokenValidator::builder(Authority::oidc("https://id.example"))
        .audience(API)
        .single_tenant()
        .transport(issuer.transport())
        .build()
        .unwrap();
    let now = jsonwebtoken::get_current_timestamp();
    let claims = json!({
        "iss": "https://id.example", "aud": API, "sub": "adele", "client_id": "client",
        "scope": "files:read openid", "exp": now + 60,
    });
    let at = with(header(), "typ", "at+jwt");
    let token = validator.validate(&RSA.sign(&at, &claims)).await.unwrap();
    assert_eq!(token.client_id(), Some("client"));
    assert_eq!(token.scopes().collect::<Vec<_>>(), ["files:read", "openid"]);
    let user = with(claims.clone(), "auth_time", now);
    let user = validator.validate(&RSA.sign(&at, &user)).await.unwrap();
    user.require_scope("files:read").unwrap();
    // The claims of Okta.
    let okta = with(
        without(claims.clone(), "scope"),
        "scp",
        json!(["files:read"]),
    );
    let okta = with(
        with(without(okta, "client_id"), "cid", "client"),
        "uid",
        "adele",
    );
    let okta = validator.validate(&RSA.sign(&at, &okta)).await.unwrap();
    okta.require_scope("files:read").unwrap();
    assert_eq!(okta.client_id(), Some("client"));
    validator
        .validate(&RSA.sign(&header(), &claims))
        .await
        .unwrap();
    let id_token = with(without(claims.clone(), "scope"), "nonce", "n");
    let reason = rejection(&validator, &RSA.sign(&header(), &id_token)).await;
    assert_eq!(reason, Some(RejectionReason::NotAnAccessToken));
    // A claim named `tid` can have any meaning there.
    for tid in [
        json!(7),
        json!(["a"]),
        json!("A0B1C2D3-0000-4000-8000-000000000001"),
    ] {
        let token = RSA.sign(&at, &with(claims.clone(), "tid", tid.clone()));
        assert_eq!(rejection(&validator, &token).await, None, "{tid}");
    }
    let other = with(claims, "iss", "https://id.example/");
    assert_eq!(
        rejection(&validator, &RSA.sign(&at, &other)).await,
        Some(RejectionReason::InvalidIssuer)
    );
}

#[tokio::test]
async fn a_user_and_an_application_never_pass_for_each_other() {
    let validator = Issuer::new().validator();
    let user = user_claims();
    let powerful = with(user.clone(), "roles", json!(["Files.Read.All"]));
    let application = application_claims();
    let scoped = with(
        with(application.clone(), "idtyp", "app"),
        "scp",
        "Files.Read",
    );
    let unknown = with(
        without(user.clone(), "scp"),
        "roles",
        json!(["Files.Read.All"]),
    );
    use RejectionReason::{MissingRole, MissingScope, NeedsApplication, NeedsUser};
    for (name, claims, scope, role, any) in [
        ("a user", user.clone(), None, Some(NeedsApplication), None),
        (
            "a user who was granted another",
            with(user.clone(), "scp", "Files.ReadWrite"),
            Some(MissingScope),
            Some(NeedsApplication),
            Some(MissingScope),
        ),
        (
            "a user who was granted one in other letters",
            with(user.clone(), "scp", "files.read"),
            Some(MissingScope),
            Some(NeedsApplication),
            Some(MissingScope),
        ),
        (
            "a user with a role of that name",
            powerful.clone(),
            None,
            Some(NeedsApplication),
            None,
        ),
        (
            "a user with the role alone",
            with(powerful.clone(), "scp", "x"),
            Some(MissingScope),
            Some(NeedsApplication),
            Some(MissingScope),
        ),
        (
            "a user by idtyp",
            with(
                with(without(powerful, "scp"), "sub", "adele"),
                "idtyp",
                "user",
            ),
            Some(MissingScope),
            Some(NeedsApplication),
            Some(MissingScope),
        ),
        (
            "an application",
            application.clone(),
            Some(NeedsUser),
            None,
            None,
        ),
        (
            "an application without a role",
            without(application.clone(), "roles"),
            Some(NeedsUser),
            Some(MissingRole),
            Some(MissingRole),
        ),
        (
            "an application with another",
            with(application.clone(), "roles", json!(["Files.Write.All"])),
            Some(NeedsUser),
            Some(MissingRole),
            Some(MissingRole),
        ),
        (
            "an application with a scope",
            scoped,
            Some(NeedsUser),
            None,
            None,
        ),
        (
            "an application with one role as text",
            with(application.clone(), "roles", "Files.Read.All"),
            Some(NeedsUser),
            None,
            None,
        ),
        (
            "a device",
            with(application, "idtyp", "device"),
            Some(NeedsUser),
            Some(NeedsApplication),
            Some(NeedsUser),
        ),
        (
            "a principal of no known kind",
            unknown,
            Some(NeedsUser),
            Some(NeedsApplication),
            Some(NeedsUser),
        ),
    ] {
        let claims = validator
            .validate(&RSA.sign(&header(), &claims))
            .await
            .unwrap();
        let reason = |outcome: Result<(), confidential_client::resource::TokenRejection>| {
            outcome.err().map(|rejected| rejected.reason())
        };
        assert_eq!(reason(claims.require_scope("Files.Read")), scope, "{name}");
        assert_eq!(
            reason(claims.require_application_role("Files.Read.All")),
            role,
            "{name}"
        );
        let both = claims.require_any(&["Files.Read"], &["Files.Read.All"]);
        assert_eq!(reason(both), any, "{name}");
    }
}

#[tokio::test]
async fn only_a_user_with_the_role_passes_as_a_user_with_the_role() {
    let validator = Issuer::new().validator();
    let user = user_claims();
    let application = with(application_claims(), "roles", json!(["Editor"]));
    let editor = with(user.clone(), "roles", json!(["Reader", "Editor"]));
    let no_user = "the token does not act for a user, and this operation requires a user";
    let no_role = "the user does not have the role 'Editor'";
    for (name, claims, denial) in [
        ("a user with the role", editor.clone(), None),
        (
            "a user with one role as text",
            with(user.clone(), "roles", "Editor"),
            None,
        ),
        (
            "a user by idtyp",
            with(without(editor.clone(), "scp"), "idtyp", "user"),
            None,
        ),
        ("a user without roles", user.clone(), Some(no_role)),
        (
            "a user with an empty list",
            with(user.clone(), "roles", json!([])),
            Some(no_role),
        ),
        (
            "a user with another role",
            with(user.clone(), "roles", json!(["Reader"])),
            Some(no_role),
        ),
        (
            "a user with a role in other letters",
            with(user.clone(), "roles", json!(["editor"])),
            Some(no_role),
        ),
        (
            "a user with a role that begins like it",
            with(user.clone(), "roles", json!(["Editors", "Editor All"])),
            Some(no_role),
        ),
        (
            "a user with a scope of that name",
            with(user.clone(), "scp", "Editor"),
            Some(no_role),
        ),
        (
            "a user with a group of that name",
            with(user, "groups", json!(["Editor"])),
            Some(no_role),
        ),
        ("an application", application.clone(), Some(no_user)),
        (
            "an application with a scope",
            with(
                with(application.clone(), "idtyp", "app"),
                "scp",
                "Files.Read",
            ),
            Some(no_user),
        ),
        (
            "a device",
            with(application, "idtyp", "device"),
            Some(no_user),
        ),
        (
            "a principal of no known kind",
            without(editor, "scp"),
            Some(no_user),
        ),
    ] {
        let token = RSA.sign(&header(), &claims);
        let claims = validator.validate(&token).await.unwrap();
        let outcome = claims.require_user_role("Editor");
        let message = outcome.as_ref().err().map(ToString::to_string);
        assert_eq!(message.as_deref(), denial, "{name}");
        if let Err(denied) = outcome {
            assert_eq!(denied.status(), 403, "{name}");
            let denied = confidential_client::resource::AccessDenied::from(denied);
            assert!(denied.www_authenticate().is_none(), "{name}");
        }
    }
}

#[tokio::test]
async fn the_claims_are_readable_and_debug_hides_the_token() {
    let validator = Issuer::new().validator();
    let claims = with(user_claims(), "roles", json!(["Owner"]));
    let claims = with(
        with(claims, "name", "Adele Vance"),
        "groups",
        json!(["g1", "g2"]),
    );
    let token = RSA.sign(&header(), &claims);
    let read = validator.validate(&token).await.unwrap();
    assert_eq!(read.tenant_id(), Some(TENANT_ID));
    assert_eq!(read.object_id(), Some("adele"));
    assert_eq!(read.subject(), Some("pairwise"));
    assert_eq!(read.client_id(), Some("client"));
    assert_eq!(
        read.scopes().collect::<Vec<_>>(),
        ["Files.Read", "User.Read"]
    );
    assert_eq!(read.roles().collect::<Vec<_>>(), ["Owner"]);
    assert_eq!(read.string("name"), Some("Adele Vance"));
    assert_eq!(read.json("groups").as_deref(), Some(r#"["g1","g2"]"#));
    assert_eq!(
        serde_json::from_str::<Value>(&read.to_json()).unwrap(),
        claims
    );
    let left = read
        .expires_on()
        .duration_since(std::time::SystemTime::UNIX_EPOCH)
        .unwrap();
    assert_eq!(left.as_secs(), claims["exp"].as_u64().unwrap());
    assert_eq!(read.token(), token);
    assert!(read.is_user() && !read.is_application());

    let forged = STRANGER.sign(&header(), &claims);
    let rejected = validator.validate(&forged).await.unwrap_err();
    let texts = format!("{read:?} {rejected:?} {rejected} {validator:?}");
    for part in token.split('.').chain(forged.split('.')) {
        assert!(!texts.contains(part), "{texts}");
    }
    assert!(!texts.contains("Adele Vance"), "{texts}");
}

#[tokio::test]
async fn a_rejection_quotes_one_line_of_a_token_at_most() {
    let validator = Issuer::new().validator();
    let evil = format!("a\r\nb\u{1b}[31m\"\\{}", "x".repeat(5000));
    for claims in [
        with(user_claims(), "aud", evil.as_str()),
        with(user_claims(), "iss", evil.as_str()),
    ] {
        let rejected = validator
            .validate(&RSA.sign(&header(), &claims))
            .await
            .unwrap_err();
        let text = rejected.to_string();
        assert!(
            text.len() < 400 && !text.contains(char::is_control),
            "{text:?}"
        );
        let chain = rejected.chain().to_string();
        assert!(
            chain.len() < 1200 && !chain.contains(char::is_control),
            "{chain:?}"
        );
        assert!(chain.contains("a b\\u{1b}[31m"), "{chain:?}");
        assert!(!format!("{rejected:?}").contains(char::is_control));
        rejected.www_authenticate().unwrap();
    }
}

#[tokio::test]
async fn exactly_one_bearer_header_is_accepted() {
    let validator = Issuer::new().validator();
    let token = user_token();
    let headers = |values: &[&str]| {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        headers
    };
    for value in [format!("Bearer {token}"), format!("bEARER  {token} ")] {
        validator
            .validate_headers(&headers(&[&value]))
            .await
            .unwrap();
    }
    let bearer = format!("Bearer {token}");
    let two_in_one = format!("Bearer {token}, Bearer {token}");
    use RejectionReason::{InvalidRequest, MissingToken};
    for (name, values, reason, status) in [
        ("none", vec![], MissingToken, 401),
        ("another scheme", vec!["Basic YTpi"], MissingToken, 401),
        ("the token alone", vec![token.as_str()], MissingToken, 401),
        ("no token", vec!["Bearer"], InvalidRequest, 400),
        ("an empty token", vec!["Bearer  "], InvalidRequest, 400),
        ("two", vec![&bearer, &bearer], InvalidRequest, 400),
        (
            "a second one",
            vec![&bearer, "Basic YTpi"],
            InvalidRequest,
            400,
        ),
        ("two in one", vec![&two_in_one], InvalidRequest, 400),
        ("no ASCII", vec!["Bearer \u{e9}"], InvalidRequest, 400),
    ] {
        let rejected = validator
            .validate_headers(&headers(&values))
            .await
            .unwrap_err();
        assert_eq!(
            (rejected.reason(), rejected.status().as_u16()),
            (reason, status),
            "{name}"
        );
    }
}

#[tokio::test]
async fn an_algorithm_that_is_not_listed_is_rejected_even_if_the_key_allows_the_algorithm() {
    let issuer = Issuer::new();
    let only = |algorithm| {
        let builder = issuer.builder(TENANT_ID).single_tenant();
        builder.algorithms([algorithm]).build().unwrap()
    };
    // The published RSA key has no `alg`.
    let signed = |algorithm: &str| RSA.sign(&with(header(), "alg", algorithm), &user_claims());
    for (accepted, algorithm, reason) in [
        (SigningAlgorithm::RS256, "RS256", None),
        (SigningAlgorithm::PS256, "PS256", None),
        (
            SigningAlgorithm::RS256,
            "PS256",
            Some(RejectionReason::UnsupportedAlgorithm),
        ),
        (
            SigningAlgorithm::PS256,
            "RS256",
            Some(RejectionReason::UnsupportedAlgorithm),
        ),
        (
            SigningAlgorithm::ES256,
            "RS256",
            Some(RejectionReason::UnsupportedAlgorithm),
        ),
    ] {
        let rejected = rejection(&only(accepted), &signed(algorithm)).await;
        assert_eq!(rejected, reason, "{accepted} and {algorithm}");
    }
}

#[tokio::test]
async fn a_token_of_another_type_than_the_required_one_is_rejected() {
    let issuer = Issuer::new();
    let builder = issuer.builder(TENANT_ID).single_tenant();
    let validator = builder.require_type("at+JWT").build().unwrap();
    let typed = |typ: &str| RSA.sign(&with(header(), "typ", typ), &user_claims());
    let untyped = RSA.sign(&without(header(), "typ"), &user_claims());
    for (name, token, reason) in [
        ("at+jwt", typed("at+jwt"), None),
        ("with a prefix", typed("application/at+jwt"), None),
        ("JWT", typed("JWT"), Some(RejectionReason::NotAnAccessToken)),
        ("no type", untyped, Some(RejectionReason::NotAnAccessToken)),
    ] {
        assert_eq!(rejection(&validator, &token).await, reason, "{name}");
    }
}

#[tokio::test]
async fn a_token_of_another_user_flow_is_rejected() {
    let authority = Authority::b2c(
        "contoso.b2clogin.com",
        "contoso.onmicrosoft.com",
        "B2C_1_in",
    );
    let issuer = "https://contoso.b2clogin.com/contoso.onmicrosoft.com/B2C_1_in";
    let builder = TokenValidator::builder(authority)
        .audience(API)
        .single_tenant()
        .transport(Issuer::new().transport());
    let validator = builder.policies(["B2C_1_in", "B2C_1_mfa"]).build().unwrap();
    let claims = with(without(user_claims(), "tid"), "iss", issuer);
    let of = |name: &str, policy: &str| RSA.sign(&header(), &with(claims.clone(), name, policy));
    let rejected = Some(RejectionReason::PolicyNotAccepted);
    for (name, token, reason) in [
        ("listed", of("tfp", "B2C_1_mfa"), None),
        ("listed, in other letters", of("tfp", "b2c_1_MFA"), None),
        ("listed, of an older setting", of("acr", "b2c_1_in"), None),
        ("another", of("tfp", "B2C_1_reset"), rejected),
        (
            "one that begins like a listed one",
            of("tfp", "B2C_1_in2"),
            rejected,
        ),
        ("none", RSA.sign(&header(), &claims), rejected),
    ] {
        assert_eq!(rejection(&validator, &token).await, reason, "{name}");
    }
}

#[test]
fn build_rejects_settings_that_conflict() {
    let builder = |authority| {
        TokenValidator::builder(authority)
            .audience(API)
            .transport(Issuer::new().transport())
    };
    let entra = |tenant: &str| builder(Authority::entra(Cloud::Public, tenant));
    let oidc = || builder(Authority::oidc("https://id.example"));
    let b2c = || {
        let authority = Authority::b2c("x.b2clogin.com", "x.onmicrosoft.com", "B2C_1_in");
        builder(authority).single_tenant()
    };
    let without = TokenValidator::builder(Authority::entra(Cloud::Public, TENANT_ID))
        .transport(Issuer::new().transport())
        .single_tenant();
    for (builder, expected) in [
        (
            entra(TENANT_ID),
            "call single_tenant(), tenants(..) or any_tenant()",
        ),
        (
            entra(TENANT_ID).single_tenant().any_tenant(),
            "tenants are set twice",
        ),
        (
            entra(TENANT_ID).tenants([TENANT_ID]).tenants([FABRIKAM]),
            "tenants are set twice",
        ),
        (entra("common").single_tenant(), "'common' stands for many"),
        (entra("Organizations").single_tenant(), "stands for many"),
        (
            entra(TENANT_ID).tenants(["contoso.com"]),
            "directory's GUID",
        ),
        (entra(TENANT_ID).tenants([""; 0]), "got an empty list"),
        (entra("consumers").any_tenant(), "that of personal accounts"),
        (entra("Consumers").any_tenant(), "that of personal accounts"),
        (entra(CONSUMERS).any_tenant(), "that of personal accounts"),
        (
            entra(&CONSUMERS.to_uppercase()).any_tenant(),
            "that of personal accounts",
        ),
        (entra("consumers").tenants([FABRIKAM]), FABRIKAM),
        (entra(CONSUMERS).tenants([CONSUMERS, FABRIKAM]), FABRIKAM),
        (
            entra("organizations").tenants([FABRIKAM, CONSUMERS]),
            "use the authority's tenant 'common'",
        ),
        (
            entra(TENANT_ID).single_tenant().algorithms([]),
            "algorithms(..)",
        ),
        (
            entra(TENANT_ID).single_tenant().require_type("dpop+jwt"),
            "dpop+jwt",
        ),
        (
            entra(TENANT_ID).single_tenant().require_type(""),
            "require_type",
        ),
        (
            entra(TENANT_ID).single_tenant().policies(["B2C_1_in"]),
            "has no user flows",
        ),
        (b2c().policies([""; 0]), "got an empty list"),
        (b2c().policies(["B2C_1_in "]), "white space"),
        (b2c().policies([""]), "is empty"),
        (oidc().any_tenant(), "call single_tenant()"),
        (
            builder(Authority::adfs("fs.contoso.com")).tenants([TENANT_ID]),
            "call single_tenant()",
        ),
        (
            builder(Authority::external_id("x.ciamlogin.com", TENANT_ID)).any_tenant(),
            "call single_tenant()",
        ),
        (without, "no audience"),
        (
            entra(TENANT_ID).audience(" ").single_tenant(),
            "white space",
        ),
        (entra(TENANT_ID).audience("").single_tenant(), "is empty"),
        (
            entra(TENANT_ID)
                .single_tenant()
                .leeway(Duration::from_secs(601)),
            "leeway",
        ),
        (entra("").single_tenant(), "names no tenant"),
        (
            entra(TENANT_ID)
                .single_tenant()
                .reqwest(reqwest::Client::builder()),
            "both a transport",
        ),
    ] {
        let error = builder.build().unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        assert!(error.to_string().contains(expected), "{error}");
    }
    for builder in [
        entra("consumers").single_tenant(),
        entra("common").tenants([TENANT_ID]),
        oidc().single_tenant().leeway(Duration::ZERO),
        entra("consumers").tenants([CONSUMERS]),
        entra("common").tenants([CONSUMERS, FABRIKAM]),
        entra(TENANT_ID)
            .single_tenant()
            .require_type("application/AT+JWT"),
        b2c(),
        b2c().policies(["B2C_1_in"]),
    ] {
        builder.build().unwrap();
    }
}

#[tokio::test]
async fn without_leeway_a_token_expires_at_exp() {
    let clock = ManualClock::new();
    let builder = Issuer::new()
        .builder(TENANT_ID)
        .single_tenant()
        .clock(clock.clone());
    let validator = builder.leeway(Duration::ZERO).build().unwrap();
    let token = user_token();
    validator.validate(&token).await.unwrap();
    clock.advance(Duration::from_secs(3600));
    assert_eq!(
        rejection(&validator, &token).await,
        Some(RejectionReason::Expired)
    );
}
