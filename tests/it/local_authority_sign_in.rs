//! `LocalAuthority`'s authorization endpoint and the codes that come of it, with a client that
//! follows its pages as a browser would.

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
