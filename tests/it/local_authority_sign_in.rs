//! `LocalAuthority`'s authorization endpoint and authorization codes.

use confidential_client::testing::{Application, LocalAuthority, LocalAuthorityBuilder, User};
use reqwest::{Client, Response};
use serde_json::Value;
use url::{Url, form_urlencoded};

use crate::support::{TENANT, claims_of};

const WEB: &str = "11111111-0000-0000-0000-000000000001";
const ADELE: &str = "adele@contoso.onmicrosoft.com";
const GRADY: &str = "grady@contoso.onmicrosoft.com";
const BACK: &str = "https://web.example.org/signed-in?from=here";
/// RFC 7636, appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

async fn authority(builder: LocalAuthorityBuilder) -> (LocalAuthority, User) {
    let local = builder.start().await.unwrap();
    local.register(
        TENANT,
        Application::new(WEB)
            .secret("web")
            .redirect_uri(BACK)
            .redirect_uri("https://web.example.org/other")
            .delegated("api://drive", "Files.Read"),
    );
    local.register(
        TENANT,
        Application::new("drive").publishes("api://drive", ["Files.Read", "Files.Write"]),
    );
    local.register(TENANT, Application::new("other").secret("other"));
    let adele = User::new(ADELE).name("Adele <b>Vance</b>");
    local.register_user(TENANT, adele.clone());
    local.register_user(TENANT, User::new(GRADY));
    (local, adele)
}

/// An authorization request; a later field replaces an earlier one of its name.
fn request(local: &LocalAuthority, tenant: &str, fields: &[(&str, &str)]) -> String {
    let mut query = vec![
        ("client_id", WEB),
        ("response_type", "code"),
        ("redirect_uri", BACK),
        (
            "scope",
            "api://drive/Files.Read openid profile offline_access",
        ),
        ("state", "s t&a=te"),
        ("nonce", "n-1"),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ];
    query.retain(|(name, _)| fields.iter().all(|(other, _)| name != other));
    query.extend(fields.iter().filter(|(_, value)| !value.is_empty()));
    let mut encoded = form_urlencoded::Serializer::new(String::new());
    let encoded = encoded.extend_pairs(query).finish();
    format!(
        "{}/{tenant}/oauth2/v2.0/authorize?{encoded}",
        local.base_url()
    )
}

/// It follows no redirect: those lead to the client, which is not there.
fn browser() -> Client {
    let client = Client::builder().no_proxy();
    client
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap()
}

/// The page's form, and the hidden fields in it.
fn form(page: &str) -> (String, Vec<(String, String)>) {
    let attribute = |tag: &str, name: &str| {
        let start = tag.find(&format!("{name}=\"")).unwrap() + name.len() + 2;
        let end = start + tag[start..].find('"').unwrap();
        tag[start..end].replace("&amp;", "&")
    };
    let start = page.find("<form").unwrap();
    let (tag, _) = page[start..].split_once('>').unwrap();
    let hidden = page.split("<input type=\"hidden\"").skip(1);
    let hidden = hidden.map(|tag| (attribute(tag, "name"), attribute(tag, "value")));
    (attribute(tag, "action"), hidden.collect())
}

async fn submit(local: &LocalAuthority, page: &str, button: (&str, &str)) -> Response {
    let (action, mut fields) = form(page);
    fields.push((button.0.to_owned(), button.1.to_owned()));
    let mut body = form_urlencoded::Serializer::new(String::new());
    let body = body.extend_pairs(fields).finish();
    let sent = browser().post(format!("{}{action}", local.base_url()));
    let sent = sent.header("content-type", "application/x-www-form-urlencoded");
    sent.body(body).send().await.unwrap()
}

async fn page(response: Response) -> String {
    assert_eq!(response.status(), 200);
    response.text().await.unwrap()
}

/// The query of the URL that the browser is sent to.
fn sent_back(response: &Response) -> Vec<(String, String)> {
    assert_eq!(response.status(), 303);
    query(response.headers()["location"].to_str().unwrap())
}

fn query(url: &str) -> Vec<(String, String)> {
    Url::parse(url)
        .unwrap()
        .query_pairs()
        .into_owned()
        .collect()
}

fn value<'a>(query: &'a [(String, String)], name: &str) -> &'a str {
    let field = query.iter().find(|(known, _)| known == name);
    field.map_or("", |(_, value)| value)
}

async fn redeem(
    local: &LocalAuthority,
    tenant: &str,
    code: &str,
    fields: &[(&str, &str)],
) -> (u16, Value) {
    let mut form = vec![
        ("client_id", WEB),
        ("client_secret", "web"),
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", BACK),
        ("code_verifier", VERIFIER),
    ];
    form.retain(|(name, _)| fields.iter().all(|(other, _)| name != other));
    form.extend(fields.iter().filter(|(_, value)| !value.is_empty()));
    let mut body = form_urlencoded::Serializer::new(String::new());
    let body = body.extend_pairs(form).finish();
    let url = format!("{}/{tenant}/oauth2/v2.0/token", local.base_url());
    let sent = browser().post(url);
    let sent = sent.header("content-type", "application/x-www-form-urlencoded");
    let sent = sent.body(body).send().await.unwrap();
    (sent.status().as_u16(), sent.json().await.unwrap())
}

#[tokio::test]
async fn a_user_signs_in_and_consents_on_its_pages() {
    let (local, adele) = authority(LocalAuthority::builder()).await;
    let url = request(&local, TENANT, &[]);
    let first = browser().get(&url).send().await.unwrap();
    for (name, expected) in [
        ("cache-control", "no-store"),
        ("referrer-policy", "no-referrer"),
        ("x-content-type-options", "nosniff"),
        ("content-type", "text/html; charset=utf-8"),
    ] {
        assert_eq!(first.headers()[name], expected);
    }
    let policy = first.headers()["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'; "), "{policy}");
    assert!(
        policy.contains("form-action 'self' https://web.example.org;"),
        "{policy}"
    );

    let users = page(first).await;
    assert!(users.contains("Adele &lt;b&gt;Vance&lt;/b&gt;"), "{users}");
    assert!(users.contains(GRADY));
    let consent = page(submit(&local, &users, ("user", &adele.object_id())).await).await;
    for listed in [
        "api://drive/Files.Read",
        "(openid)",
        "(profile)",
        "(offline_access)",
    ] {
        assert!(consent.contains(listed), "{consent}");
    }
    let back = submit(&local, &consent, ("answer", "accept")).await;
    assert_eq!(back.headers()["cache-control"], "no-store");
    let location = back.headers()["location"].to_str().unwrap();
    assert!(location.starts_with("https://web.example.org/signed-in?from=here&code="));
    let back = sent_back(&back);
    assert_eq!(value(&back, "state"), "s t&a=te");
    assert!(!value(&back, "session_state").is_empty());

    let (status, answer) = redeem(
        &local,
        TENANT,
        value(&back, "code"),
        &[("client_info", "1"), ("scope", "api://drive/Files.Read")],
    )
    .await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["scope"], "api://drive/Files.Read");
    assert!(answer["refresh_token"].is_string());
    assert!(answer["client_info"].is_string());
    let access = claims_of(answer["access_token"].as_str().unwrap());
    assert_eq!(access["aud"], "api://drive");
    assert_eq!(access["scp"], "Files.Read");
    let id = claims_of(answer["id_token"].as_str().unwrap());
    for (name, expected) in [
        ("aud", WEB),
        ("iss", &*local.issuer(TENANT).unwrap()),
        ("nonce", "n-1"),
        ("oid", &adele.object_id()),
        ("preferred_username", ADELE),
        ("name", "Adele <b>Vance</b>"),
        ("ver", "2.0"),
    ] {
        assert_eq!(id[name], expected, "{name}");
    }
    assert_eq!(id["tid"], access["tid"]);
    assert!(id["exp"].as_u64() > id["iat"].as_u64());

    // The second time there is nothing to consent to.
    let users = page(browser().get(&url).send().await.unwrap()).await;
    let back = submit(&local, &users, ("user", &adele.object_id())).await;
    assert!(!value(&sent_back(&back), "code").is_empty());
}

/// Nobody is sent to an address that is not known to be the client's: these end on a page.
#[tokio::test]
async fn errors_of_the_client_are_shown_on_a_page() {
    let (local, _) = authority(LocalAuthority::builder()).await;
    for (tenant, fields, code) in [
        ("nowhere.example", vec![], "AADSTS90002"),
        (TENANT, vec![("client_id", "")], "AADSTS900144"),
        (TENANT, vec![("client_id", "nobody")], "AADSTS700016"),
        (
            "organizations",
            vec![("client_id", "nobody")],
            "AADSTS700016",
        ),
        (TENANT, vec![("redirect_uri", "")], "AADSTS900971"),
        (
            TENANT,
            vec![("redirect_uri", "https://evil.example/")],
            "AADSTS50011",
        ),
        (
            TENANT,
            vec![("redirect_uri", "https://web.example.org/signed-in")],
            "AADSTS50011",
        ),
        (
            TENANT,
            vec![("redirect_uri", "https://web.example.org/Other")],
            "AADSTS50011",
        ),
        (
            TENANT,
            vec![("state", "1"), ("state", "2")],
            "AADSTS9000411",
        ),
        (TENANT, vec![("client_id", "other")], "AADSTS50011"),
        (
            TENANT,
            vec![("redirect_uri", "<script>\"'&")],
            "&lt;script&gt;&quot;&#39;&amp;",
        ),
    ] {
        let url = request(&local, tenant, &fields);
        let answer = browser().get(&url).send().await.unwrap();
        assert_eq!(answer.status(), 400, "{fields:?}");
        assert!(answer.headers().get("location").is_none());
        assert!(
            answer.headers()["content-security-policy"]
                .to_str()
                .unwrap()
                .contains("'none'")
        );
        let page = answer.text().await.unwrap();
        assert!(page.contains(code), "{fields:?}: {page}");
        assert!(!page.contains("<form"), "{fields:?}: {page}");
        assert!(local.sign_in(&url, ADELE).await.is_err());
    }
}

/// Everything else the client is told, with its state.
#[tokio::test]
async fn other_errors_are_sent_to_the_client() {
    let (local, _) = authority(LocalAuthority::builder()).await;
    local.register_resource(TENANT, "api://known");
    for (fields, error, code) in [
        (vec![("response_type", "")], "invalid_request", 900144),
        (
            vec![("response_type", "token")],
            "unsupported_response_type",
            700054,
        ),
        (
            vec![("response_type", "code id_token")],
            "unsupported_response_type",
            700054,
        ),
        (
            vec![("response_mode", "fragment")],
            "invalid_request",
            70007,
        ),
        (
            vec![("code_challenge_method", "plain")],
            "invalid_request",
            9002313,
        ),
        (
            vec![("code_challenge_method", "")],
            "invalid_request",
            9002313,
        ),
        (vec![("code_challenge", "")], "invalid_request", 900144),
        (vec![("code_challenge", "short")], "invalid_request", 501491),
        (vec![("prompt", "other")], "invalid_request", 90023),
        (vec![("scope", "")], "invalid_request", 900144),
        (vec![("scope", "api://drive")], "invalid_scope", 70011),
        (vec![("prompt", "none")], "login_required", 50058),
        (
            vec![("prompt", "none"), ("login_hint", "nobody")],
            "login_required",
            50058,
        ),
        (
            vec![("prompt", "none"), ("login_hint", ADELE)],
            "consent_required",
            65001,
        ),
        (
            vec![
                ("scope", "api://drive/X"),
                ("prompt", "none"),
                ("login_hint", ADELE),
            ],
            "invalid_client",
            650053,
        ),
        (
            vec![
                ("scope", "api://x/X"),
                ("prompt", "none"),
                ("login_hint", ADELE),
            ],
            "invalid_resource",
            500011,
        ),
    ] {
        let url = request(&local, TENANT, &fields);
        let back = sent_back(&browser().get(&url).send().await.unwrap());
        assert_eq!(value(&back, "error"), error, "{fields:?}");
        let description = value(&back, "error_description");
        assert!(
            description.starts_with(&format!("AADSTS{code}: ")),
            "{description}"
        );
        assert_eq!(value(&back, "state"), "s t&a=te", "{fields:?}");
        assert_eq!(value(&back, "code"), "", "{fields:?}");
    }
}

#[tokio::test]
async fn a_user_may_decline() {
    let (local, adele) = authority(LocalAuthority::builder()).await;
    let url = request(&local, TENANT, &[]);
    let users = page(browser().get(&url).send().await.unwrap()).await;
    let consent = page(submit(&local, &users, ("user", &adele.object_id())).await).await;
    let back = sent_back(&submit(&local, &consent, ("answer", "cancel")).await);
    assert_eq!(value(&back, "error"), "access_denied");
    assert!(value(&back, "error_description").starts_with("AADSTS65004: "));
    assert_eq!(value(&back, "state"), "s t&a=te");
    // Nothing was granted by that.
    let silent = request(&local, TENANT, &[("prompt", "none"), ("login_hint", ADELE)]);
    let back = sent_back(&browser().get(silent).send().await.unwrap());
    assert_eq!(value(&back, "error"), "consent_required");
}

/// A form is good once, and on the page that it was on.
#[tokio::test]
async fn a_form_is_sent_once() {
    let (local, adele) = authority(LocalAuthority::builder()).await;
    let url = request(&local, TENANT, &[]);
    let refused = async |page: &str, button: (&str, &str)| {
        let answer = submit(&local, page, button).await;
        assert_eq!(answer.status(), 400);
        assert!(answer.text().await.unwrap().contains("AADSTS165000"));
    };
    let users = page(browser().get(&url).send().await.unwrap()).await;
    let consent = page(submit(&local, &users, ("user", &adele.object_id())).await).await;
    refused(&users, ("user", &adele.object_id())).await;
    submit(&local, &consent, ("answer", "accept")).await;
    refused(&consent, ("answer", "accept")).await;
    let users = page(browser().get(&url).send().await.unwrap()).await;
    let skipped = users.replace("/sign-in/user", "/sign-in/consent");
    refused(&skipped, ("answer", "accept")).await;

    let users = page(browser().get(&url).send().await.unwrap()).await;
    let nobody = submit(&local, &users, ("user", "nobody")).await;
    assert!(nobody.text().await.unwrap().contains("AADSTS50034"));
}

#[tokio::test]
async fn the_prompt_says_which_pages_are_shown() {
    let (local, adele) = authority(LocalAuthority::builder()).await;
    let after_the_user = async |fields: &[(&str, &str)]| {
        let url = request(&local, TENANT, fields);
        let users = page(browser().get(&url).send().await.unwrap()).await;
        submit(&local, &users, ("user", &adele.object_id())).await
    };
    let own = format!("{WEB}/.default openid");
    for (prompt, scope) in [("", &*own), ("consent", &own), ("login", &own)] {
        let answer = after_the_user(&[("prompt", prompt), ("scope", scope)]).await;
        assert_eq!(
            answer.status(),
            303,
            "{prompt}: its own resource asks nothing"
        );
    }
    let first = page(after_the_user(&[("scope", "openid email")]).await).await;
    assert!(first.contains("(email)"), "{first}");
    let declared = page(after_the_user(&[("scope", "api://drive/.default")]).await).await;
    assert!(declared.contains("api://drive/Files.Read"), "{declared}");
    local.consent(TENANT, WEB, ADELE, "api://drive/Files.Read openid");
    for (prompt, scope, listed) in [
        ("", "api://drive/Files.Read openid", None),
        ("select_account", "api://drive/Files.Read openid", None),
        ("login", "openid", None),
        (
            "consent",
            "api://drive/Files.Read",
            Some("api://drive/Files.Read"),
        ),
        ("consent", "openid", Some("(openid)")),
        (
            "",
            "api://drive/Files.Write",
            Some("api://drive/Files.Write"),
        ),
    ] {
        let answer = after_the_user(&[("prompt", prompt), ("scope", scope)]).await;
        match listed {
            None => assert_eq!(answer.status(), 303, "{prompt} {scope}"),
            Some(listed) => assert!(page(answer).await.contains(listed), "{prompt} {scope}"),
        }
    }
    let silent = request(&local, TENANT, &[("prompt", "none"), ("login_hint", ADELE)]);
    let back = sent_back(&browser().get(silent).send().await.unwrap());
    assert!(!value(&back, "code").is_empty());

    let hinted = request(&local, TENANT, &[("login_hint", GRADY)]);
    let users = page(browser().get(hinted).send().await.unwrap()).await;
    assert!(users.find(GRADY) < users.find("Adele"), "{users}");
}

#[tokio::test]
async fn a_form_can_take_the_code_back() {
    let (local, _) = authority(LocalAuthority::builder()).await;
    let evil = "\"><script>alert('1')</script>";
    local.admin_consent(TENANT, WEB, "api://drive/Files.Read");
    let fields = [
        ("response_mode", "form_post"),
        ("state", evil),
        ("prompt", "none"),
        ("login_hint", ADELE),
    ];
    let url = request(&local, TENANT, &fields);
    let answer = browser().get(&url).send().await.unwrap();
    let policy = answer.headers()["content-security-policy"]
        .to_str()
        .unwrap();
    assert!(
        policy.contains("form-action 'self' https://web.example.org;"),
        "{policy}"
    );
    let page = page(answer).await;
    assert!(!page.contains("<script"), "{page}");
    let (action, fields) = form(&page);
    assert_eq!(action, BACK);
    assert!(!value(&fields, "code").is_empty());
    let state = value(&fields, "state");
    assert_eq!(
        state,
        "&quot;&gt;&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;"
    );
    // A test's shortcut shows them as a query.
    let back = query(&local.sign_in(&url, ADELE).await.unwrap());
    assert_eq!(value(&back, "state"), evil);
}

/// Chromium applies it to where a form is redirected, and takes no IPv6 address in it.
#[tokio::test]
async fn a_forms_policy_lets_it_end_at_the_client() {
    let (local, _) = authority(LocalAuthority::builder()).await;
    for (back, ends_at) in [
        ("https://web.example.org/", "https://web.example.org"),
        ("http://localhost:5000/back", "http://localhost:5000"),
        ("http://127.0.0.1:5000/back", "http://127.0.0.1:5000"),
        ("http://[::1]:5000/back", "http:"),
        ("com.example.app:/back", "com.example.app:"),
    ] {
        local.register(TENANT, Application::new(WEB).redirect_uri(back));
        let url = request(&local, TENANT, &[("redirect_uri", back)]);
        let page = browser().get(url).send().await.unwrap();
        let policy = page.headers()["content-security-policy"].to_str().unwrap();
        let ends = format!("; form-action 'self' {ends_at}; ");
        assert!(policy.contains(&ends), "{back}: {policy}");
    }
}

async fn code(local: &LocalAuthority, fields: &[(&str, &str)]) -> String {
    let back = local.sign_in(request(local, TENANT, fields), ADELE).await;
    value(&query(&back.unwrap()), "code").to_owned()
}

/// One row for each decision about a code.
#[tokio::test]
async fn it_checks_every_part_of_a_redemption() {
    let (local, _) = authority(LocalAuthority::builder()).await;
    local.register("fabrikam.com", Application::new(WEB).secret("web"));
    let other = ("redirect_uri", "https://web.example.org/other");
    for (tenant, fields, status, expected) in [
        (TENANT, vec![], 200, None),
        ("organizations", vec![], 200, None),
        (
            TENANT,
            vec![("code", "")],
            400,
            Some(("invalid_request", 900144)),
        ),
        (
            TENANT,
            vec![("redirect_uri", "")],
            400,
            Some(("invalid_request", 900144)),
        ),
        (
            TENANT,
            vec![("code", "1.x")],
            400,
            Some(("invalid_grant", 9002313)),
        ),
        (
            "organizations",
            vec![("code", "1.x")],
            400,
            Some(("invalid_grant", 9002313)),
        ),
        (TENANT, vec![other], 400, Some(("invalid_grant", 500112))),
        (
            TENANT,
            vec![("code_verifier", "")],
            400,
            Some(("invalid_grant", 501481)),
        ),
        (
            TENANT,
            vec![("code_verifier", "wrong")],
            400,
            Some(("invalid_grant", 501481)),
        ),
        (
            TENANT,
            vec![("code_verifier", CHALLENGE)],
            400,
            Some(("invalid_grant", 501481)),
        ),
        (
            TENANT,
            vec![("client_secret", "")],
            401,
            Some(("invalid_client", 7000218)),
        ),
        (
            TENANT,
            vec![("client_secret", "x")],
            401,
            Some(("invalid_client", 7000215)),
        ),
        (
            TENANT,
            vec![("client_id", "other"), ("client_secret", "other")],
            400,
            Some(("invalid_grant", 70000)),
        ),
        ("fabrikam.com", vec![], 400, Some(("invalid_grant", 70000))),
        (
            TENANT,
            vec![("scope", "api://drive/Files.Write")],
            400,
            Some(("invalid_grant", 65001)),
        ),
        (
            TENANT,
            vec![("scope", "User.Read api://drive/Files.Read")],
            400,
            Some(("invalid_scope", 28000)),
        ),
    ] {
        let code = code(&local, &[]).await;
        let (answered, answer) = redeem(&local, tenant, &code, &fields).await;
        let name = format!("{tenant} {fields:?}: {answer}");
        assert_eq!(answered, status, "{name}");
        if let Some((error, code)) = expected {
            assert_eq!(answer["error"], error, "{name}");
            assert_eq!(answer["error_codes"], serde_json::json!([code]), "{name}");
        }
    }

    // Without a challenge a verifier is as wrong as none with one.
    let bare = [("code_challenge", ""), ("code_challenge_method", "")];
    let bare_code = code(&local, &bare).await;
    let (_, refused) = redeem(&local, TENANT, &bare_code, &[]).await;
    assert_eq!(refused["error_codes"], serde_json::json!([501481]));
    let (status, _) = redeem(&local, TENANT, &bare_code, &[("code_verifier", "")]).await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn a_code_is_good_once() {
    for strict in [false, true] {
        let builder = LocalAuthority::builder();
        let builder = if strict {
            builder.strict_rotation()
        } else {
            builder
        };
        let (local, _) = authority(builder).await;
        let code = code(&local, &[]).await;
        let (_, first) = redeem(&local, TENANT, &code, &[]).await;
        let (status, again) = redeem(&local, TENANT, &code, &[]).await;
        assert_eq!(status, 400);
        assert_eq!(again["error"], "invalid_grant");
        assert_eq!(again["error_codes"], serde_json::json!([54005]));
        let fields = [
            ("grant_type", "refresh_token"),
            ("refresh_token", first["refresh_token"].as_str().unwrap()),
        ];
        let (status, _) = redeem(&local, TENANT, "", &fields).await;
        assert_eq!(status, if strict { 400 } else { 200 });
    }
}

/// Which tokens come is said by the authorization request, for which resource by the token request.
#[tokio::test]
async fn a_code_brings_what_the_sign_in_asked_for() {
    let (local, _) = authority(LocalAuthority::builder()).await;
    let both = "api://drive/Files.Read User.Read openid offline_access";
    let first = code(&local, &[("scope", both)]).await;
    let (_, answer) = redeem(&local, TENANT, &first, &[]).await;
    assert_eq!(answer["scope"], "api://drive/Files.Read");
    let second = [
        ("grant_type", "refresh_token"),
        ("refresh_token", answer["refresh_token"].as_str().unwrap()),
        ("scope", "User.Read"),
    ];
    let (status, answer) = redeem(&local, TENANT, "", &second).await;
    assert_eq!((status, &answer["scope"]), (200, &"User.Read".into()));

    let bare = code(
        &local,
        &[("scope", "api://drive/Files.Read"), ("nonce", "")],
    )
    .await;
    let scope = "api://drive/Files.Read openid offline_access";
    let (_, answer) = redeem(&local, TENANT, &bare, &[("scope", scope)]).await;
    for name in ["refresh_token", "id_token", "client_info"] {
        assert!(answer.get(name).is_none(), "{name}");
    }
    let signed_in = code(&local, &[("scope", "openid"), ("nonce", "")]).await;
    let (_, answer) = redeem(&local, TENANT, &signed_in, &[]).await;
    let id = claims_of(answer["id_token"].as_str().unwrap());
    assert!(id.get("nonce").is_none());
    let graph = claims_of(answer["access_token"].as_str().unwrap());
    assert_eq!(graph["aud"], "https://graph.microsoft.com");
    assert_eq!(
        graph["scp"], "User.Read openid",
        "with what was consented to before"
    );
}

/// `organizations`: whoever is a user of a tenant in which the client is registered.
#[tokio::test]
async fn users_of_every_tenant_sign_in_to_organizations() {
    let (local, _) = authority(LocalAuthority::builder()).await;
    let lee = User::new("lee@fabrikam.com");
    let application = Application::new(WEB).secret("web").redirect_uri(BACK);
    local.register("fabrikam.com", application);
    local.register_user("fabrikam.com", lee.clone());
    local.register_user("tailspin.com", User::new("mo@tailspin.com"));
    local.register("wingtip.com", Application::new(WEB).secret("web"));
    local.register_user("wingtip.com", User::new("kim@wingtip.com"));

    for tenant in ["organizations", "common"] {
        let url = request(&local, tenant, &[("scope", "openid profile")]);
        let users = page(browser().get(&url).send().await.unwrap()).await;
        for user in [ADELE, "lee@fabrikam.com", "mo@tailspin.com"] {
            assert!(users.contains(user), "{users}");
        }
        let back = query(&local.sign_in(&url, "lee@fabrikam.com").await.unwrap());
        let (status, answer) = redeem(&local, tenant, value(&back, "code"), &[]).await;
        assert_eq!(status, 200, "{answer}");
        let id = claims_of(answer["id_token"].as_str().unwrap());
        assert_eq!(id["iss"], local.issuer("fabrikam.com").unwrap());
        assert_eq!(id["oid"], lee.object_id());

        let back = query(&local.sign_in(&url, "mo@tailspin.com").await.unwrap());
        assert_eq!(value(&back, "error"), "unauthorized_client");
        let error = local.sign_in(&url, "kim@wingtip.com").await.unwrap_err();
        assert!(error.to_string().contains("AADSTS50011"), "{error}");
    }
    let contosos = request(&local, TENANT, &[]);
    let users = page(browser().get(&contosos).send().await.unwrap()).await;
    assert!(!users.contains("lee@fabrikam.com"), "{users}");
    let error = local
        .sign_in(&contosos, "lee@fabrikam.com")
        .await
        .unwrap_err();
    assert!(error.to_string().contains("AADSTS50034"), "{error}");
}

/// One person in two tenants is issued the tokens of the tenant that was asked.
#[tokio::test]
async fn a_guest_signs_in_to_the_tenant_that_was_asked() {
    let (local, adele) = authority(LocalAuthority::builder()).await;
    let application = Application::new(WEB).secret("web").redirect_uri(BACK);
    local.register("fabrikam.com", application);
    local.register_user("fabrikam.com", adele);
    let url = request(&local, "fabrikam.com", &[("scope", "openid")]);
    // With the consent page, and without it.
    for _ in 0..2 {
        let back = query(&local.sign_in(&url, ADELE).await.unwrap());
        let (_, answer) = redeem(&local, "fabrikam.com", value(&back, "code"), &[]).await;
        let id = claims_of(answer["id_token"].as_str().unwrap());
        assert_eq!(id["iss"], local.issuer("fabrikam.com").unwrap());
        local.consent(TENANT, WEB, ADELE, "openid");
    }
}

#[tokio::test]
async fn a_sign_in_needs_a_url_of_this_authority() {
    let (local, _) = authority(LocalAuthority::builder()).await;
    let good = request(&local, TENANT, &[]);
    for url in [
        "",
        "not a url",
        "https://login.microsoftonline.com/common/oauth2/v2.0/authorize?client_id=x",
        &good.replace("/authorize", "/token"),
        &good.replace("http:", "https:"),
    ] {
        let error = local.sign_in(url, ADELE).await.unwrap_err();
        assert!(matches!(error, confidential_client::Error::Config(_)));
        assert!(error.to_string().contains(local.base_url()), "{error}");
    }
    local.sign_in(&good, ADELE).await.unwrap();
}

#[tokio::test]
async fn the_metadata_says_what_is_offered() {
    let (local, _) = authority(LocalAuthority::builder()).await;
    let metadata = async |tenant: &str| {
        let base = local.base_url();
        let url = format!("{base}/{tenant}/v2.0/.well-known/openid-configuration");
        let answer: Value = browser()
            .get(url)
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        answer
    };
    let answer = metadata(TENANT).await;
    assert_eq!(
        answer["response_types_supported"],
        serde_json::json!(["code"])
    );
    assert_eq!(answer["issuer"], local.issuer(TENANT).unwrap());
    let authorize = format!("{}/{TENANT}/oauth2/v2.0/authorize", local.base_url());
    assert_eq!(answer["authorization_endpoint"], authorize);
    let everyones = metadata("organizations").await;
    assert_eq!(
        everyones["issuer"],
        format!("{}/{{tenantid}}/v2.0", local.base_url())
    );
    assert_eq!(metadata("nowhere.example").await["error"], "invalid_tenant");
}
