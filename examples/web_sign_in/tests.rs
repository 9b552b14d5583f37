use std::collections::HashMap;

use confidential_client::delegated::AuthorizationRequest;
use confidential_client::testing::Fault;

use crate::browser::Browser;
use crate::world::{ADELE, MEGAN, TENANT, World};
use crate::{App, FILES, Session};

async fn signed_in(app: &App) -> Browser {
    let mut browser = Browser::new().unwrap();
    browser.open(&format!("{}/sign-in", app.url)).await.unwrap();
    browser.press(ADELE).await.unwrap();
    if browser.html.contains("Permissions requested") {
        browser.press("Accept").await.unwrap();
    }
    assert_eq!(browser.to_string(), "200  Your file                /file");
    browser
}

fn session(browser: &Browser) -> String {
    browser.cookies.values().next().unwrap().clone()
}

#[tokio::test]
async fn each_user_consents_and_sees_their_own_file() {
    let World { app, authority } = World::start().await.unwrap();
    for name in [ADELE, MEGAN] {
        let mut browser = Browser::new().unwrap();
        browser.open(&app.url).await.unwrap();
        browser.follow("Sign in").await.unwrap();
        assert!(browser.url.as_str().starts_with(authority.base_url()));
        browser.press(name).await.unwrap();
        assert!(browser.html.contains(FILES), "{}", browser.html);
        browser.press("Accept").await.unwrap();
        let file = format!("<pre>{name}&#39;s notes: &lt;b&gt;1 &lt; 2&lt;/b&gt;</pre>");
        assert!(browser.html.contains(&file), "{}", browser.html);
    }
}

#[tokio::test]
async fn a_user_who_declines_is_told_so_and_stays_out() {
    let world = World::start().await.unwrap();
    let app = &world.app;
    let mut browser = Browser::new().unwrap();
    browser.open(&format!("{}/file", app.url)).await.unwrap();
    browser.press(MEGAN).await.unwrap();
    browser.press("Cancel").await.unwrap();
    assert_eq!(
        browser.to_string(),
        "403  You declined             /signed-in"
    );
    browser.open(&app.url).await.unwrap();
    assert!(browser.html.contains("Sign in"), "{}", browser.html);
    assert!(app.client.cache().is_empty());
}

#[tokio::test]
async fn a_session_has_another_id_once_its_user_is_known() {
    let world = World::start().await.unwrap();
    let app = &world.app;
    let mut browser = Browser::new().unwrap();
    let page = format!("{}/sign-in", app.url);
    browser.open(&page).await.unwrap();
    let before = session(&browser);
    browser.press(ADELE).await.unwrap();
    browser.press("Accept").await.unwrap();
    assert_ne!(session(&browser), before);
    // Whoever planted or saw the first has nothing.
    for cookie in browser.cookies.values_mut() {
        cookie.clone_from(&before);
    }
    browser.open(&app.url).await.unwrap();
    assert!(browser.html.contains("Sign in"), "{}", browser.html);

    let [(_, cookie)] = app.sessions.keep(Session::default());
    assert!(cookie.ends_with("; HttpOnly; SameSite=Lax; Path=/"));
}

#[tokio::test]
async fn the_address_that_the_provider_sent_to_is_good_once_and_for_one_browser() {
    let World { app, authority } = World::start().await.unwrap();
    let mut adele = signed_in(&app).await;
    let request = AuthorizationRequest::new(format!("{}/signed-in", app.url), FILES);
    let (page, _) = app
        .client
        .authorization_request_url(&request)
        .await
        .unwrap();
    let megans = authority
        .sign_in(page, format!("megan.bowen@{TENANT}"))
        .await
        .unwrap();
    // Nobody is signing in here, and then somebody else is.
    assert_eq!(adele.open(&megans).await.unwrap().status, 400);
    adele.open(&format!("{}/sign-in", app.url)).await.unwrap();
    assert_eq!(adele.open(&megans).await.unwrap().status, 403);
    adele.open(&app.url).await.unwrap();
    assert!(adele.html.contains("You are Adele Vance"), "{}", adele.html);
}

#[tokio::test]
async fn what_a_provider_says_is_no_part_of_the_page() {
    let world = World::start().await.unwrap();
    let app = &world.app;
    let mut browser = Browser::new().unwrap();
    browser.open(&format!("{}/sign-in", app.url)).await.unwrap();
    let state = browser
        .url
        .query_pairs()
        .find(|(name, _)| name == "state")
        .map(|(_, state)| state.into_owned())
        .unwrap();
    let url = format!(
        "{}/signed-in?state={state}&error=x&error_description=%3Cscript%3E%27%22",
        app.url
    );
    browser.open(&url).await.unwrap();
    assert_eq!(browser.status, 403);
    assert!(browser.html.contains("&lt;script&gt;"), "{}", browser.html);
    assert!(!browser.html.contains("<script"), "{}", browser.html);
}

#[tokio::test]
async fn what_is_wrong_with_the_app_is_not_told_its_users() {
    let World { app, authority } = World::start().await.unwrap();
    let mut browser = Browser::new().unwrap();
    browser.open(&format!("{}/sign-in", app.url)).await.unwrap();
    browser.press(ADELE).await.unwrap();
    authority.script([Fault::aadsts(7000215)]);
    browser.press("Accept").await.unwrap();
    assert_eq!(
        browser.to_string(),
        "500  Something is wrong       /signed-in"
    );
    assert!(!browser.html.contains("secret"), "{}", browser.html);
}

#[tokio::test]
async fn a_user_who_has_to_prove_more_signs_in_again_with_the_claims() {
    let World { app, authority } = World::start().await.unwrap();
    let mut browser = signed_in(&app).await;
    let account = app.sessions.lock().values().next().unwrap().account.clone();
    let token = app
        .client
        .acquire_token_silent(&account.unwrap(), FILES)
        .await
        .unwrap();
    app.client.invalidate(&token);
    authority.script([Fault::aadsts(50076)]);
    browser.open(&format!("{}/file", app.url)).await.unwrap();
    assert!(browser.url.as_str().starts_with(authority.base_url()));
    let asked: HashMap<_, _> = browser.url.query_pairs().into_owned().collect();
    assert!(asked["claims"].contains("access_token"), "{asked:?}");
    assert_eq!(asked["login_hint"], format!("adele.vance@{TENANT}"));
    browser.press(ADELE).await.unwrap();
    assert_eq!(browser.to_string(), "200  Your file                /file");
}

/// So is whoever comes after the app was started anew.
#[tokio::test]
async fn who_signed_out_in_another_browser_is_asked_to_sign_in() {
    let World { app, authority } = World::start().await.unwrap();
    let mut here = signed_in(&app).await;
    signed_in(&app).await.press("Sign out").await.unwrap();
    here.open(&format!("{}/file", app.url)).await.unwrap();
    assert!(here.url.as_str().starts_with(authority.base_url()));
    here.press(ADELE).await.unwrap();
    assert_eq!(here.to_string(), "200  Your file                /file");
}

#[tokio::test]
async fn who_signs_out_leaves_no_token_behind() {
    let world = World::start().await.unwrap();
    let app = &world.app;
    let mut browser = signed_in(app).await;
    // Another site can link here, and not post in the user's name.
    let sign_out = format!("{}/sign-out", app.url);
    assert_eq!(browser.open(&sign_out).await.unwrap().status, 405);
    assert!(!app.client.cache().is_empty());
    browser.open(&format!("{}/file", app.url)).await.unwrap();
    browser.press("Sign out").await.unwrap();
    assert!(browser.html.contains("Sign in"), "{}", browser.html);
    assert!(app.client.cache().is_empty());
    assert!(app.sessions.lock().is_empty());
}
