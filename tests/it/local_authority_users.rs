//! `LocalAuthority` and users: which client gets a token for which user, over raw HTTP.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use confidential_client::Error;
use confidential_client::testing::{
    Application, Fault, LocalAuthority, LocalAuthorityBuilder, User,
};
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use reqwest::Client;
use serde_json::{Value, json};

use crate::support::{TENANT, claims_of};

const ADELE: &str = "adele@contoso.onmicrosoft.com";
const GRADY: &str = "grady@contoso.onmicrosoft.com";
/// What users sign in to.
const WEB: &str = "11111111-0000-0000-0000-000000000001";
/// The web API that acts for them.
const MIDDLE: &str = "22222222-0000-0000-0000-000000000002";
/// The web API that it calls.
const DRIVE: &str = "33333333-0000-0000-0000-000000000003";
const MIDDLE_URI: &str = "api://middle";
const ON_BEHALF_OF: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// Adele has consented to everything that the rows ask for, Grady to the middle tier alone.
async fn authority(builder: LocalAuthorityBuilder) -> (LocalAuthority, User) {
    let local = builder.start().await.unwrap();
    let web = Application::new(WEB).secret("web");
    let middle = Application::new(MIDDLE).secret("middle");
    let middle = middle.publishes(MIDDLE_URI, ["Work.Do"]);
    let middle = middle.delegated("api://drive", "Files.Read");
    let drive = Application::new(DRIVE).publishes("api://drive", ["Files.Read", "Files.Write"]);
    for application in [web, middle, drive] {
        local.register(TENANT, application);
    }
    let adele = User::new(ADELE).name("Adele Vance");
    local.register_user(TENANT, adele.clone());
    local.register_user(TENANT, User::new(GRADY));
    local.admin_consent(TENANT, WEB, "api://middle/Work.Do");
    local.consent(TENANT, MIDDLE, ADELE, "api://drive/Files.Read User.Read");
    (local, adele)
}

async fn post(local: &LocalAuthority, tenant: &str, form: &[(&str, &str)]) -> (u16, Value) {
    let mut body = url::form_urlencoded::Serializer::new(String::new());
    body.extend_pairs(form);
    let url = format!("{}/{tenant}/oauth2/v2.0/token", local.base_url());
    let http = Client::builder().no_proxy().build().unwrap();
    let form = "application/x-www-form-urlencoded";
    let sent = http.post(url).header("content-type", form);
    let sent = sent.body(body.finish()).send().await.unwrap();
    (sent.status().as_u16(), sent.json().await.unwrap())
}

/// As the middle tier; a later field replaces an earlier one of its name.
async fn on_behalf_of(local: &LocalAuthority, fields: &[(&str, &str)]) -> (u16, Value) {
    let mut form = vec![
        ("client_id", MIDDLE),
        ("client_secret", "middle"),
        ("grant_type", ON_BEHALF_OF),
        ("requested_token_use", "on_behalf_of"),
        ("scope", "api://drive/Files.Read"),
    ];
    form.retain(|(name, _)| fields.iter().all(|(other, _)| name != other));
    form.extend(fields.iter().filter(|(_, value)| !value.is_empty()));
    post(local, TENANT, &form).await
}

#[tokio::test]
async fn a_web_api_gets_a_token_in_its_callers_name() {
    let (local, adele) = authority(LocalAuthority::builder()).await;
    let assertion = local
        .user_token(TENANT, WEB, ADELE, "api://middle/Work.Do")
        .unwrap();
    let (status, answer) = on_behalf_of(
        &local,
        &[
            ("assertion", &assertion),
            ("client_info", "1"),
            (
                "scope",
                "api://drive/Files.Read openid profile offline_access",
            ),
        ],
    )
    .await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["scope"], "api://drive/Files.Read");
    assert_eq!(answer["token_type"], "Bearer");
    assert_eq!(answer["expires_in"], 3599);
    assert!(answer["refresh_token"].is_string());

    let claims = claims_of(answer["access_token"].as_str().unwrap());
    let (tid, iss) = (&claims["tid"], local.issuer(TENANT).unwrap());
    for (name, expected) in [
        ("aud", "api://drive"),
        ("iss", &iss),
        ("azp", MIDDLE),
        ("azpacr", "1"),
        ("scp", "Files.Read"),
        ("oid", &adele.object_id()),
        ("name", "Adele Vance"),
        ("preferred_username", ADELE),
        ("ver", "2.0"),
    ] {
        assert_eq!(claims[name], expected, "{name}");
    }
    assert!(claims.get("idtyp").is_none());
    assert!(claims.get("roles").is_none());
    assert_ne!(claims["sub"], claims["oid"]);

    let id = claims_of(answer["id_token"].as_str().unwrap());
    assert_eq!(id["aud"], MIDDLE);
    assert_eq!(id["oid"], adele.object_id());
    assert_ne!(id["sub"], claims["sub"], "it is another for each audience");
    let info = answer["client_info"].as_str().unwrap();
    let info = BASE64_URL_SAFE_NO_PAD.decode(info).unwrap();
    let info: Value = serde_json::from_slice(&info).unwrap();
    assert_eq!(info, json!({ "uid": adele.object_id(), "utid": tid }));
}

#[tokio::test]
async fn a_refresh_token_is_good_for_the_next() {
    let (local, _) = authority(LocalAuthority::builder()).await;
    let first = first_refresh_token(&local, ADELE).await;
    let used = async |token: &str| refresh(&local, TENANT, &[("refresh_token", token)]).await;
    let (status, answer) = used(&first).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["scope"], "api://drive/Files.Read");
    let second = refresh_token(&answer);
    assert_ne!(first, second);
    assert_eq!(used(&second).await.0, 200);
    assert_eq!(used(&first).await.0, 200, "as Entra does");
}

#[tokio::test]
async fn consent_is_asked_for_by_its_code() {
    let (local, _) = authority(LocalAuthority::builder()).await;
    let assertion = local
        .user_token(TENANT, WEB, GRADY, "api://middle/Work.Do")
        .unwrap();
    let (status, refused) = on_behalf_of(&local, &[("assertion", &assertion)]).await;
    assert_eq!((status, &refused["error_codes"]), (400, &json!([65001])));
    assert_eq!(refused["error"], "invalid_grant");
    assert_eq!(refused["suberror"], "consent_required");
}

/// One row for each decision about an on-behalf-of request.
#[tokio::test]
async fn it_checks_every_part_of_an_on_behalf_of_request() {
    let (local, _) = authority(LocalAuthority::builder()).await;
    let brief = Application::new("brief").token_lifetime(Duration::ZERO);
    local.register(TENANT, brief);
    local.admin_consent(TENANT, "brief", "api://middle/Work.Do");
    local.admin_consent(TENANT, WEB, "api://drive/Files.Read");
    let token = |client: &str, user: &str, scope: &str| {
        local.user_token(TENANT, client, user, scope).unwrap()
    };
    let good = token(WEB, ADELE, "api://middle/Work.Do");
    let grady = token(WEB, GRADY, "api://middle/Work.Do");
    let ended = token("brief", ADELE, "api://middle/Work.Do");
    let for_drive = token(WEB, ADELE, "api://drive/Files.Read");
    local.register("fabrikam.com", Application::new(WEB));
    local.register_user("fabrikam.com", User::new(ADELE));
    local.admin_consent("fabrikam.com", WEB, "api://middle/Work.Do");
    let elsewhere = local
        .user_token("fabrikam.com", WEB, ADELE, "api://middle/Work.Do")
        .unwrap();
    let gone = User::new("gone@contoso.com");
    local.register_user(TENANT, gone);
    let of_gone = token(WEB, "gone@contoso.com", "api://middle/Work.Do");
    local.register_user(TENANT, User::new("gone@contoso.com"));
    let with_id_token = [("assertion", &*good), ("scope", "User.Read openid")];
    let (_, answer) = on_behalf_of(&local, &with_id_token).await;
    let id_token = answer["id_token"].as_str().unwrap();
    let application = [
        ("client_id", WEB),
        ("client_secret", "web"),
        ("grant_type", "client_credentials"),
        ("scope", "api://middle/.default"),
    ];
    let (_, answer) = post(&local, TENANT, &application).await;
    let applications = answer["access_token"].as_str().unwrap();
    let (message, signature) = good.rsplit_once('.').unwrap();
    let other_signature = match signature.strip_prefix('A') {
        Some(rest) => format!("{message}.B{rest}"),
        None => format!("{message}.A{}", &signature[1..]),
    };
    let mixed = {
        let parts = |jwt: &str| jwt.split('.').map(str::to_owned).collect::<Vec<_>>();
        let (one, other) = (parts(&good), parts(&grady));
        format!("{}.{}.{}", one[0], other[1], one[2])
    };

    let with = |name: &'static str, value| vec![("assertion", &*good), (name, value)];
    for (fields, status, error, code) in [
        (with("", ""), 200, "", 0),
        (
            with("requested_token_use", ""),
            400,
            "invalid_request",
            900144,
        ),
        (
            with("requested_token_use", "x"),
            400,
            "invalid_request",
            9002313,
        ),
        (with("scope", ""), 400, "invalid_request", 900144),
        (with("scope", "api://drive"), 400, "invalid_scope", 70011),
        (with("scope", "/x"), 400, "invalid_scope", 70011),
        (with("scope", "a/b c/d"), 400, "invalid_scope", 28000),
        (
            with("scope", "api://drive/Other"),
            400,
            "invalid_scope",
            70011,
        ),
        (
            with("scope", "api://drive/Files.Write"),
            400,
            "invalid_grant",
            65001,
        ),
        (with("client_secret", ""), 401, "invalid_client", 7000218),
        (with("client_secret", "x"), 401, "invalid_client", 7000215),
        (vec![], 400, "invalid_request", 900144),
        (vec![("assertion", "a.b.c")], 400, "invalid_request", 50027),
        (
            vec![("assertion", &other_signature)],
            400,
            "invalid_grant",
            50013,
        ),
        (vec![("assertion", &mixed)], 400, "invalid_grant", 50013),
        (vec![("assertion", &elsewhere)], 400, "invalid_grant", 50013),
        (vec![("assertion", &ended)], 400, "invalid_grant", 500133),
        (
            vec![("assertion", &for_drive)],
            400,
            "invalid_grant",
            500131,
        ),
        (vec![("assertion", id_token)], 400, "invalid_grant", 240002),
        (
            vec![("assertion", applications)],
            400,
            "invalid_grant",
            7000114,
        ),
        (vec![("assertion", &of_gone)], 400, "invalid_grant", 50034),
        (vec![("assertion", &grady)], 400, "invalid_grant", 65001),
    ] {
        let (answered, answer) = on_behalf_of(&local, &fields).await;
        let name = format!("{fields:?}: {answer}");
        assert_eq!(answered, status, "{name}");
        if status == 200 {
            continue;
        }
        assert_eq!(answer["error"], error, "{name}");
        assert_eq!(answer["error_codes"], json!([code]), "{name}");
    }

    local.register_resource(TENANT, "api://known");
    let unknown = on_behalf_of(&local, &with("scope", "api://unknown/Any")).await;
    assert_eq!(unknown.1["error_codes"], json!([500011]));
    local.roll_key().unwrap();
    assert_eq!(on_behalf_of(&local, &with("", "")).await.0, 200);
    local.retire_old_keys();
    let unsigned = on_behalf_of(&local, &with("", "")).await;
    assert_eq!(unsigned.1["error_codes"], json!([50013]));
}

/// Who consented to what, what is asked for, and the `scp` of the token or the code of the refusal.
#[tokio::test]
async fn a_token_says_what_was_consented_to() {
    const READ: &str = "api://drive/Files.Read";
    const WRITE: &str = "api://drive/Files.Write";
    const DEFAULT: &str = "api://drive/.default";
    let own_id = format!("{MIDDLE}/.default");
    let own_uri = format!("api://{MIDDLE}/.default");
    let drive_by_id = format!("{DRIVE}/Files.Read");
    for (by_user, by_administrator, asked, expected) in [
        (READ, "", READ, Ok("Files.Read")),
        (READ, "", WRITE, Err("AADSTS65001")),
        (
            READ,
            "",
            "api://drive/Files.Read api://drive/Files.Write",
            Err("AADSTS65001"),
        ),
        // As Entra's do, a token has all that was granted at its resource.
        (READ, WRITE, READ, Ok("Files.Read Files.Write")),
        ("", READ, READ, Ok("Files.Read")),
        ("", "", READ, Err("AADSTS65001")),
        ("", "", DEFAULT, Err("AADSTS65001")),
        (DEFAULT, "", READ, Ok("Files.Read")),
        (DEFAULT, "", WRITE, Err("AADSTS65001")),
        (DEFAULT, "", DEFAULT, Ok("Files.Read")),
        (WRITE, "", DEFAULT, Ok("Files.Write")),
        ("api://other/Files.Read", "", READ, Err("AADSTS65001")),
        (&drive_by_id, "", READ, Ok("Files.Read")),
        (READ, "", &drive_by_id, Ok("Files.Read")),
        (
            "api://other/.default",
            "",
            "api://other/.default",
            Err("AADSTS65001"),
        ),
        (
            "api://other/Any.Thing",
            "",
            "api://other/Any.Thing",
            Ok("Any.Thing"),
        ),
        (
            "User.Read",
            "",
            "https://graph.microsoft.com/User.Read",
            Ok("User.Read"),
        ),
        (
            "User.Read",
            "",
            "User.Read openid email",
            Ok("User.Read openid email"),
        ),
        ("", "", "openid profile", Ok("openid profile")),
        // Itself.
        ("", "", "api://middle/Work.Do", Ok("Work.Do")),
        ("", "", &own_id, Ok("Work.Do")),
        ("", "", &own_uri, Ok("Work.Do")),
        ("", "", "api://middle/Other", Err("AADSTS70011")),
    ] {
        let local = LocalAuthority::start().await.unwrap();
        let middle = Application::new(MIDDLE).publishes(MIDDLE_URI, ["Work.Do"]);
        local.register(TENANT, middle.delegated("api://drive", "Files.Read"));
        let drive = Application::new(DRIVE);
        local.register(
            TENANT,
            drive.publishes("api://drive", ["Files.Read", "Files.Write"]),
        );
        local.register_user(TENANT, User::new(ADELE));
        if !by_user.is_empty() {
            local.consent(TENANT, MIDDLE, ADELE, by_user);
        }
        if !by_administrator.is_empty() {
            local.admin_consent(TENANT, MIDDLE, by_administrator);
        }
        // Neither another user's consent nor one to another client is this one.
        local.consent(
            TENANT,
            MIDDLE,
            GRADY,
            "api://drive/Files.Read api://drive/Files.Write",
        );
        local.consent(
            TENANT,
            WEB,
            ADELE,
            "api://drive/Files.Read api://drive/Files.Write",
        );
        let name = format!("{by_user:?} {by_administrator:?} {asked:?}");
        match (local.user_token(TENANT, MIDDLE, ADELE, asked), expected) {
            (Ok(token), Ok(expected)) => assert_eq!(claims_of(&token)["scp"], expected, "{name}"),
            (Err(error), Err(expected)) => {
                let text = error.to_string();
                assert!(text.contains(&format!("{expected}: ")), "{name}: {text}");
            }
            (token, _) => panic!("{name}: {token:?}"),
        }
    }
}

#[tokio::test]
async fn a_web_api_says_of_which_version_its_tokens_are() {
    let local = LocalAuthority::start().await.unwrap();
    local.register_user(TENANT, User::new(ADELE));
    local.register(TENANT, Application::new(WEB).secret("web"));
    local.admin_consent(TENANT, WEB, "api://drive/Files.Read");
    let of_version = |version: u8| {
        let drive = Application::new(DRIVE).publishes("api://drive", ["Files.Read"]);
        local.register(TENANT, drive.access_token_version(version));
        let token = local.user_token(TENANT, WEB, ADELE, "api://drive/Files.Read");
        claims_of(&token.unwrap())
    };
    let issuer = local.issuer(TENANT).unwrap();
    let second = of_version(2);
    let tid = second["tid"].as_str().unwrap();
    for (name, expected) in [
        ("aud", json!(DRIVE)),
        ("iss", json!(issuer)),
        ("ver", json!("2.0")),
        ("azp", json!(WEB)),
        ("azpacr", json!("1")),
        ("preferred_username", json!(ADELE)),
        ("appid", Value::Null),
        ("upn", Value::Null),
    ] {
        assert_eq!(second[name], expected, "{name}");
    }
    let first = of_version(1);
    let v1 = format!("{}/{tid}/", local.base_url());
    for (name, expected) in [
        ("aud", json!("api://drive")),
        ("iss", json!(v1)),
        ("ver", json!("1.0")),
        ("appid", json!(WEB)),
        ("appidacr", json!("1")),
        ("upn", json!(ADELE)),
        ("unique_name", json!(ADELE)),
        ("scp", json!("Files.Read")),
        ("azp", Value::Null),
        ("preferred_username", Value::Null),
    ] {
        assert_eq!(first[name], expected, "{name}");
    }

    // An application's follow it too.
    let form = [
        ("client_id", WEB),
        ("client_secret", "web"),
        ("grant_type", "client_credentials"),
        ("scope", "api://drive/.default"),
    ];
    let (_, answer) = post(&local, TENANT, &form).await;
    let claims = claims_of(answer["access_token"].as_str().unwrap());
    assert_eq!(
        (&claims["iss"], &claims["appid"]),
        (&json!(v1), &json!(WEB))
    );
}

/// In either version, the token that a web API was called with is one for it.
#[tokio::test]
async fn a_token_of_either_version_is_good_on_behalf_of_its_user() {
    for version in [1, 2] {
        let (local, _) = authority(LocalAuthority::builder()).await;
        let middle = Application::new(MIDDLE).secret("middle");
        let middle = middle.publishes(MIDDLE_URI, ["Work.Do"]);
        local.register(TENANT, middle.access_token_version(version));
        let assertion = local
            .user_token(TENANT, WEB, ADELE, "api://middle/Work.Do")
            .unwrap();
        let (status, answer) = on_behalf_of(&local, &[("assertion", &assertion)]).await;
        assert_eq!(status, 200, "{version}: {answer}");
    }
}

async fn refresh(local: &LocalAuthority, tenant: &str, fields: &[(&str, &str)]) -> (u16, Value) {
    let mut form = vec![
        ("client_id", MIDDLE),
        ("client_secret", "middle"),
        ("grant_type", "refresh_token"),
    ];
    form.retain(|(name, _)| fields.iter().all(|(other, _)| name != other));
    form.extend(fields.iter());
    post(local, tenant, &form).await
}

/// A sign-in's first refresh token.
async fn first_refresh_token(local: &LocalAuthority, user: &str) -> String {
    let assertion = local.user_token(TENANT, WEB, user, "api://middle/Work.Do");
    let scope = "api://drive/Files.Read offline_access";
    let fields = [("assertion", &*assertion.unwrap()), ("scope", scope)];
    let (_, answer) = on_behalf_of(local, &fields).await;
    refresh_token(&answer)
}

fn refresh_token(answer: &Value) -> String {
    answer["refresh_token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn it_checks_every_part_of_a_refresh() {
    let (local, adele) = authority(LocalAuthority::builder()).await;
    local.register("fabrikam.com", Application::new(MIDDLE).secret("middle"));
    let token = first_refresh_token(&local, ADELE).await;
    let good = ("refresh_token", &*token);
    for (tenant, fields, code) in [
        (TENANT, vec![good], None),
        (TENANT, vec![good, ("scope", "")], None),
        (TENANT, vec![good, ("scope", "User.Read")], None),
        (
            TENANT,
            vec![good, ("scope", "api://drive/Files.Write")],
            Some(65001),
        ),
        (
            TENANT,
            vec![good, ("scope", "api://drive/Other")],
            Some(70011),
        ),
        (
            TENANT,
            vec![good, ("scope", "User.Read api://drive/Files.Read")],
            Some(28000),
        ),
        (TENANT, vec![], Some(900144)),
        (TENANT, vec![("refresh_token", "1.unknown")], Some(9002313)),
        (
            TENANT,
            vec![good, ("client_id", WEB), ("client_secret", "web")],
            Some(70000),
        ),
        ("fabrikam.com", vec![good], Some(70000)),
        ("organizations", vec![good], None),
        (
            "organizations",
            vec![("refresh_token", "1.unknown")],
            Some(9002313),
        ),
        ("consumers", vec![good], Some(90002)),
    ] {
        let (status, answer) = refresh(&local, tenant, &fields).await;
        let name = format!("{tenant} {fields:?}: {answer}");
        assert_eq!(answer["error_codes"][0].as_u64(), code, "{name}");
        assert_eq!(status == 200, code.is_none(), "{name}");
    }

    let graph = [
        good,
        ("scope", "User.Read openid profile"),
        ("client_info", "1"),
    ];
    let (_, answer) = refresh(&local, TENANT, &graph).await;
    assert_eq!(answer["scope"], "User.Read openid profile");
    let claims = claims_of(answer["access_token"].as_str().unwrap());
    assert_eq!(claims["aud"], "https://graph.microsoft.com");
    assert_eq!(claims["oid"], adele.object_id());
    let id = claims_of(answer["id_token"].as_str().unwrap());
    assert_eq!(id["oid"], adele.object_id());
    assert!(answer["client_info"].is_string());

    local.register_user(TENANT, User::new(ADELE));
    let (_, answer) = refresh(&local, TENANT, &[good]).await;
    assert_eq!(answer["error_codes"], json!([50034]));
}

#[tokio::test]
async fn a_users_sessions_end_and_nobody_elses() {
    let (local, _) = authority(LocalAuthority::builder()).await;
    local.consent(TENANT, MIDDLE, GRADY, "api://drive/Files.Read");
    let adeles = first_refresh_token(&local, ADELE).await;
    let gradys = first_refresh_token(&local, GRADY).await;
    local.revoke_user_sessions(TENANT, ADELE);
    local.revoke_user_sessions(TENANT, "nobody");
    local.revoke_user_sessions("nowhere.example", GRADY);
    let (_, refused) = refresh(&local, TENANT, &[("refresh_token", &adeles)]).await;
    assert_eq!(refused["error_codes"], json!([50173]));
    assert_eq!(
        refresh(&local, TENANT, &[("refresh_token", &gradys)])
            .await
            .0,
        200
    );
    let again = first_refresh_token(&local, ADELE).await;
    assert_eq!(
        refresh(&local, TENANT, &[("refresh_token", &again)])
            .await
            .0,
        200
    );
}

#[tokio::test]
async fn a_strict_authority_takes_a_refresh_token_once() {
    let (local, _) = authority(LocalAuthority::builder().strict_rotation()).await;
    let first = first_refresh_token(&local, ADELE).await;
    let another = first_refresh_token(&local, ADELE).await;
    let used = async |token: &str| refresh(&local, TENANT, &[("refresh_token", token)]).await;
    let (status, answer) = used(&first).await;
    assert_eq!(status, 200, "{answer}");
    let second = refresh_token(&answer);
    for stolen in [&first, &second] {
        let (_, refused) = used(stolen).await;
        assert_eq!(refused["error_codes"], json!([70008]), "{refused}");
        assert_eq!(refused["error"], "invalid_grant");
    }
    assert_eq!(used(&another).await.0, 200, "another sign-in's");
}

#[tokio::test]
async fn without_offline_access_and_openid_there_is_neither_token() {
    let (local, _) = authority(LocalAuthority::builder()).await;
    let assertion = local
        .user_token(TENANT, WEB, ADELE, "api://middle/Work.Do")
        .unwrap();
    let (_, answer) = on_behalf_of(&local, &[("assertion", &assertion)]).await;
    for name in ["refresh_token", "id_token", "client_info"] {
        assert!(answer.get(name).is_none(), "{name}");
    }
    let only_openid = [("assertion", &*assertion), ("scope", "User.Read openid")];
    let (_, answer) = on_behalf_of(&local, &only_openid).await;
    let id = claims_of(answer["id_token"].as_str().unwrap());
    for name in ["oid", "name", "preferred_username", "nonce"] {
        assert!(
            id.get(name).is_none(),
            "{name}: the profile scope was not asked for"
        );
    }
}

#[tokio::test]
async fn a_client_that_declares_cp1_gets_it_in_a_users_token_too() {
    let (local, _) = authority(LocalAuthority::builder()).await;
    let assertion = local
        .user_token(TENANT, WEB, ADELE, "api://middle/Work.Do")
        .unwrap();
    let claims = r#"{"access_token":{"xms_cc":{"values":["cp1"]}}}"#;
    let (_, answer) = on_behalf_of(&local, &[("assertion", &assertion), ("claims", claims)]).await;
    assert_eq!(answer["expires_in"], 86_399);
    let token = claims_of(answer["access_token"].as_str().unwrap());
    assert_eq!(token["xms_cc"], json!(["cp1"]));
}

/// They are recorded, and scripted refusals come as Entra words them.
#[tokio::test]
async fn faults_apply_to_users_requests() {
    let (local, _) = authority(LocalAuthority::builder()).await;
    for (code, error, suberror, has_claims) in [
        (65001, "invalid_grant", Some("consent_required"), false),
        (50076, "invalid_grant", Some("basic_action"), true),
        (50079, "interaction_required", None, true),
        (53003, "invalid_grant", Some("message_only"), true),
        (50013, "invalid_grant", None, false),
        (500131, "invalid_grant", None, false),
        (500133, "invalid_grant", None, false),
        (50173, "invalid_grant", None, false),
        (70008, "invalid_grant", None, false),
        (54005, "invalid_grant", None, false),
        (501481, "invalid_grant", None, false),
    ] {
        local.script([Fault::aadsts(code)]);
        let (status, answer) = on_behalf_of(&local, &[("assertion", "x")]).await;
        assert_eq!(status, 400, "{answer}");
        assert_eq!(answer["error"], error, "{code}");
        assert_eq!(answer["error_codes"], json!([code]));
        assert_eq!(
            answer.get("suberror").and_then(Value::as_str),
            suberror,
            "{code}"
        );
        assert_eq!(answer.get("claims").is_some(), has_claims, "{code}");
    }
    let requests = local.token_requests();
    assert_eq!(requests.len(), 11);
    assert_eq!(requests[0].field("grant_type"), Some(ON_BEHALF_OF));
    let shown = format!("{:?}", requests[0]);
    assert!(
        shown.contains("on_behalf_of") && !shown.contains("\"middle\""),
        "{shown}"
    );
}

#[tokio::test]
async fn a_users_token_needs_everything_to_be_registered() {
    let (local, _) = authority(LocalAuthority::builder()).await;
    for (tenant, client, user, scope, text) in [
        (
            "nowhere.example",
            WEB,
            ADELE,
            "api://middle/Work.Do",
            "AADSTS90002",
        ),
        (
            TENANT,
            "nobody",
            ADELE,
            "api://middle/Work.Do",
            "AADSTS700016",
        ),
        (TENANT, WEB, "nobody", "api://middle/Work.Do", "AADSTS50034"),
        (TENANT, WEB, ADELE, "", "AADSTS70011"),
        (
            TENANT,
            WEB,
            ADELE,
            "api://drive/Files.Read",
            "call consent()",
        ),
    ] {
        let error = local.user_token(tenant, client, user, scope).unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        assert!(error.to_string().contains(text), "{error}");
    }
    assert!(local.token_requests().is_empty());
}

/// A user is known by object id too, and a name is not a matter of case.
#[tokio::test]
async fn a_user_has_one_subject_for_each_audience() {
    let (local, adele) = authority(LocalAuthority::builder()).await;
    let token = |user: &str| {
        let token = local.user_token(TENANT, WEB, user, "api://middle/Work.Do");
        claims_of(&token.unwrap())
    };
    let (by_id, by_name) = (token(&adele.object_id()), token(&ADELE.to_uppercase()));
    assert_eq!(by_id["sub"], by_name["sub"]);
    assert_ne!(by_id["uti"], by_name["uti"]);
    assert_ne!(by_id["sub"], token(GRADY)["sub"]);
    local.admin_consent(TENANT, WEB, "api://drive/Files.Read");
    let drive = local.user_token(TENANT, WEB, ADELE, "api://drive/Files.Read");
    assert_ne!(by_id["sub"], claims_of(&drive.unwrap())["sub"]);
}

/// By a verifier that shares no code with what signed them.
#[tokio::test]
async fn another_verifier_accepts_users_tokens() {
    let (local, _) = authority(LocalAuthority::builder()).await;
    let assertion = local
        .user_token(TENANT, WEB, ADELE, "api://middle/Work.Do")
        .unwrap();
    let scope = "api://drive/Files.Read openid";
    let (_, answer) = on_behalf_of(&local, &[("assertion", &assertion), ("scope", scope)]).await;
    let keys: JwkSet = serde_json::from_str(&local.keys()).unwrap();
    let tokens = [
        (assertion.as_str(), MIDDLE_URI),
        (answer["access_token"].as_str().unwrap(), "api://drive"),
        (answer["id_token"].as_str().unwrap(), MIDDLE),
    ];
    for (token, audience) in tokens {
        let header = decode_header(token).unwrap();
        assert_eq!(header.alg, Algorithm::RS256);
        let key = DecodingKey::from_jwk(keys.find(&header.kid.unwrap()).unwrap()).unwrap();
        let mut validation = Validation::new(Algorithm::RS256);
        validation.set_audience(&[audience]);
        validation.set_issuer(&[local.issuer(TENANT).unwrap()]);
        validation.set_required_spec_claims(&["aud", "iss", "sub", "exp", "nbf"]);
        validation.validate_nbf = true;
        validation.leeway = 0;
        decode::<Value>(token, &key, &validation).unwrap();
        validation.set_audience(&["another"]);
        decode::<Value>(token, &key, &validation).unwrap_err();
    }
}
