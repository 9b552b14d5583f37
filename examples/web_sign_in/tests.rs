use std::collections::HashMap;
use std::io::{Write, stderr};

use confidential_client::delegated::AuthorizationRequest;
use confidential_client::testing::{Application, Fault, LocalAuthority};
use url::Url;

use crate::browser::Browser;
use crate::redis_server::RedisServer;
use crate::services::{ADELE, CLIENT_ID, MEGAN, Services, TENANT, client, in_redis, listen};
use crate::sessions::Session;
use crate::{App, FILES};

async fn sign_in(app: &App) -> Browser {
    let mut browser = Browser::new().unwrap();
    browser.open(&format!("{}/sign-in", app.url)).await.unwrap();
    browser.press(ADELE).await.unwrap();
    if browser.html.contains("Permissions requested") {
        browser.press("Accept").await.unwrap();
    }
    assert_eq!(browser.to_string(), "200  Your file                /file");
    browser
}

fn session_cookie(browser: &Browser) -> String {
    browser.cookies.values().next().unwrap().clone()
}

#[tokio::test]
async fn each_user_consents_and_sees_their_own_file() {
    let Services { app, local } = Services::start().await.unwrap();
    for name in [ADELE, MEGAN] {
        let mut browser = Browser::new().unwrap();
        browser.open(&app.url).await.unwrap();
        browser.follow("Sign in").await.unwrap();
        assert!(browser.url.as_str().starts_with(local.base_url()));
        browser.press(name).await.unwrap();
        assert!(browser.html.contains(FILES), "{}", browser.html);
        browser.press("Accept").await.unwrap();
        let file = format!("<pre>{name}&#39;s notes: &lt;b&gt;1 &lt; 2&lt;/b&gt;</pre>");
        assert!(browser.html.contains(&file), "{}", browser.html);
    }
}

#[tokio::test]
async fn a_user_who_declines_sees_a_message_and_is_not_signed_in() {
    let services = Services::start().await.unwrap();
    let app = &services.app;
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
async fn a_sign_in_changes_the_session_id() {
    let services = Services::start().await.unwrap();
    let app = &services.app;
    let mut browser = Browser::new().unwrap();
    let page = format!("{}/sign-in", app.url);
    browser.open(&page).await.unwrap();
    let before = session_cookie(&browser);
    browser.press(ADELE).await.unwrap();
    browser.press("Accept").await.unwrap();
    assert_ne!(session_cookie(&browser), before);
    // The id from before the sign-in gives no access.
    for cookie in browser.cookies.values_mut() {
        cookie.clone_from(&before);
    }
    browser.open(&app.url).await.unwrap();
    assert!(browser.html.contains("Sign in"), "{}", browser.html);

    let [(_, cookie)] = app.sessions.insert(Session::default()).await.unwrap();
    assert!(cookie.ends_with("; HttpOnly; SameSite=Lax; Path=/"));
}

#[tokio::test]
async fn a_redirect_is_rejected_in_another_browser() {
    let Services { app, local } = Services::start().await.unwrap();
    let mut adele = sign_in(&app).await;
    let request = AuthorizationRequest::new(format!("{}/signed-in", app.url), FILES);
    let (page, _) = app
        .client
        .authorization_request_url(&request)
        .await
        .unwrap();
    let megans_redirect = local
        .sign_in(page, format!("megan.bowen@{TENANT}"))
        .await
        .unwrap();
    // Adele's browser has no sign-in in progress, and then a sign-in of Adele's.
    assert_eq!(adele.open(&megans_redirect).await.unwrap().status, 400);
    adele.open(&format!("{}/sign-in", app.url)).await.unwrap();
    assert_eq!(adele.open(&megans_redirect).await.unwrap().status, 403);
    adele.open(&app.url).await.unwrap();
    assert!(adele.html.contains("You are Adele Vance"), "{}", adele.html);
}

#[tokio::test]
async fn the_text_of_a_provider_error_is_escaped() {
    let services = Services::start().await.unwrap();
    let app = &services.app;
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
async fn users_do_not_see_errors_of_the_app_registration() {
    let Services { app, local } = Services::start().await.unwrap();
    let mut browser = Browser::new().unwrap();
    browser.open(&format!("{}/sign-in", app.url)).await.unwrap();
    browser.press(ADELE).await.unwrap();
    local.script([Fault::aadsts(7000215)]);
    browser.press("Accept").await.unwrap();
    assert_eq!(
        browser.to_string(),
        "500  Something is wrong       /signed-in"
    );
    assert!(!browser.html.contains("secret"), "{}", browser.html);
}

#[tokio::test]
async fn a_claims_challenge_starts_a_new_sign_in_with_the_claims() {
    let Services { app, local } = Services::start().await.unwrap();
    let mut browser = sign_in(&app).await;
    let account = app.sessions.lock().values().next().unwrap().account.clone();
    let token = app
        .client
        .acquire_token_silent(&account.unwrap(), FILES)
        .await
        .unwrap();
    app.client.invalidate(&token);
    local.script([Fault::aadsts(50076)]);
    browser.open(&format!("{}/file", app.url)).await.unwrap();
    assert!(browser.url.as_str().starts_with(local.base_url()));
    let parameters: HashMap<_, _> = browser.url.query_pairs().into_owned().collect();
    assert!(
        parameters["claims"].contains("access_token"),
        "{parameters:?}"
    );
    assert_eq!(parameters["login_hint"], format!("adele.vance@{TENANT}"));
    browser.press(ADELE).await.unwrap();
    assert_eq!(browser.to_string(), "200  Your file                /file");
}

/// A restart of the app has the same effect.
#[tokio::test]
async fn a_sign_out_in_another_browser_requires_a_new_sign_in() {
    let Services { app, local } = Services::start().await.unwrap();
    let mut here = sign_in(&app).await;
    sign_in(&app).await.press("Sign out").await.unwrap();
    here.open(&format!("{}/file", app.url)).await.unwrap();
    assert!(here.url.as_str().starts_with(local.base_url()));
    here.press(ADELE).await.unwrap();
    assert_eq!(here.to_string(), "200  Your file                /file");
}

/// Starts the app again, as a new process with the same Redis and the same identity provider does.
async fn restart(app: &App, local: &LocalAuthority, redis_url: &str) -> App {
    let (listener, url) = listen().await.unwrap();
    let (client, sessions) = in_redis(client(local.authority(TENANT)), redis_url).unwrap();
    let drive_url = app.file_url.strip_suffix("/file").unwrap();
    let app = App::new(client.build().unwrap(), sessions, url, drive_url).unwrap();
    app.serve(listener);
    app
}

#[tokio::test]
async fn a_restart_with_redis_keeps_users_signed_in() {
    let Some(server) = RedisServer::start().unwrap() else {
        // The test harness does not capture this.
        let line = b"a test of web_sign_in is skipped: install the Debian package redis-server\n";
        stderr().write_all(line).unwrap();
        return;
    };
    let Services { app, local } = Services::start().await.unwrap();
    let before = restart(&app, &local, &server.url()).await;
    let redirect_uri = format!("{}/signed-in", before.url);
    let application = Application::new(CLIENT_ID).secret("s3cret");
    local.register(TENANT, application.redirect_uri(redirect_uri));
    let mut browser = sign_in(&before).await;
    let requests = local.token_requests().len();

    let after = restart(&app, &local, &server.url()).await;
    // A real browser sends the cookie to each port.
    let cookie = session_cookie(&browser);
    let origin = Url::parse(&after.url).unwrap().origin();
    browser.cookies.insert(origin, cookie);
    browser.open(&format!("{}/file", after.url)).await.unwrap();
    assert_eq!(browser.to_string(), "200  Your file                /file");
    assert_eq!(local.token_requests().len(), requests);

    // A sign-out reaches the app before, too.
    browser.press("Sign out").await.unwrap();
    browser.open(&format!("{}/file", before.url)).await.unwrap();
    assert!(browser.url.as_str().starts_with(local.base_url()));
}

#[tokio::test]
async fn a_sign_out_removes_all_tokens() {
    let services = Services::start().await.unwrap();
    let app = &services.app;
    let mut browser = sign_in(app).await;
    // Another site can link to the page, but cannot send a POST with the user's cookie.
    let sign_out = format!("{}/sign-out", app.url);
    assert_eq!(browser.open(&sign_out).await.unwrap().status, 405);
    assert!(!app.client.cache().is_empty());
    browser.open(&format!("{}/file", app.url)).await.unwrap();
    browser.press("Sign out").await.unwrap();
    assert!(browser.html.contains("Sign in"), "{}", browser.html);
    assert!(app.client.cache().is_empty());
    assert!(app.sessions.lock().is_empty());
}
