//! `LocalAuthority` and users: who may have a token in whose name, said over raw HTTP.

use confidential_client::testing::{Application, LocalAuthority, LocalAuthorityBuilder, User};
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
    use base64::Engine;
    let info = answer["client_info"].as_str().unwrap();
    let info = base64::prelude::BASE64_URL_SAFE_NO_PAD
        .decode(info)
        .unwrap();
    let info: Value = serde_json::from_slice(&info).unwrap();
    assert_eq!(info, json!({ "uid": adele.object_id(), "utid": tid }));
}

#[tokio::test]
async fn a_refresh_token_is_good_for_the_next() {
    let (local, _) = authority(LocalAuthority::builder()).await;
    let assertion = local
        .user_token(TENANT, WEB, ADELE, "api://middle/Work.Do")
        .unwrap();
    let scope = "api://drive/Files.Read offline_access";
    let (_, first) = on_behalf_of(&local, &[("assertion", &assertion), ("scope", scope)]).await;
    let refresh = |token: String| {
        let local = &local;
        async move {
            let form = [
                ("client_id", MIDDLE),
                ("client_secret", "middle"),
                ("grant_type", "refresh_token"),
                ("refresh_token", &token),
            ];
            post(local, TENANT, &form).await
        }
    };
    let token = |answer: &Value| answer["refresh_token"].as_str().unwrap().to_owned();
    let (status, second) = refresh(token(&first)).await;
    assert_eq!(status, 200, "{second}");
    assert_eq!(second["scope"], "api://drive/Files.Read");
    assert_ne!(token(&first), token(&second));
    assert_eq!(refresh(token(&first)).await.0, 200, "as Entra does");

    local.revoke_user_sessions(TENANT, ADELE);
    let (status, refused) = refresh(token(&second)).await;
    assert_eq!((status, &refused["error_codes"]), (400, &json!([50173])));
    assert_eq!(refused["error"], "invalid_grant");
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
