//! Users who sign in to a web app, and their refresh tokens.

use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use confidential_client::delegated::{
    Account, AuthenticationResult, AuthorizationCodeFlow, AuthorizationRequest, Prompt,
};
use confidential_client::testing::{
    Application, Fault, LocalAuthority, LocalAuthorityBuilder, ManualClock, User,
};
use confidential_client::{
    Authority, ConfidentialClient, ConfidentialClientBuilder, Error, TokenRequest, TokenSource,
};
use http::{Request, Response};
use serde_json::{Value, json};
use url::Url;

use crate::support::{CLIENT_ID, SECRET, TENANT, claims_of, client_of, poll_once};

const BACK: &str = "https://app.example.org/signed-in";
const FILES: &str = "api://drive/Files.Read";
const MAIL: &str = "api://mail/Mail.Read";
const ADELE: &str = "adele@contoso.onmicrosoft.com";
const MEGAN: &str = "megan@contoso.onmicrosoft.com";

async fn authority(builder: LocalAuthorityBuilder) -> LocalAuthority {
    let local = builder.start().await.unwrap();
    let app = Application::new(CLIENT_ID)
        .secret(SECRET)
        .redirect_uri(BACK)
        .delegated("api://drive", "Files.Read")
        .delegated("api://mail", "Mail.Read");
    local.register(TENANT, app);
    local.register_user(TENANT, User::new(ADELE).name("Adele Vance"));
    local.register_user(TENANT, User::new(MEGAN).name("Megan Bowen"));
    for user in [ADELE, MEGAN] {
        local.consent(TENANT, CLIENT_ID, user, format!("{FILES} {MAIL}"));
    }
    local
}

async fn start() -> (LocalAuthority, ConfidentialClient) {
    let local = authority(LocalAuthority::builder()).await;
    let client = client_of(&local).client_secret(SECRET).build().unwrap();
    (local, client)
}

fn drive() -> AuthorizationRequest {
    AuthorizationRequest::new(BACK, FILES)
}

/// Begins a sign-in, and brings what the browser comes back with.
async fn come_back(
    local: &LocalAuthority,
    client: &ConfidentialClient,
    user: &str,
) -> (AuthorizationCodeFlow, String) {
    let (page, flow) = client.authorization_request_url(&drive()).await.unwrap();
    let back = local.sign_in(page, user).await.unwrap();
    (flow, back)
}

async fn sign_in(
    local: &LocalAuthority,
    client: &ConfidentialClient,
    user: &str,
) -> AuthenticationResult {
    let (flow, back) = come_back(local, client, user).await;
    let signed_in = client.acquire_token_by_authorization_code(flow, back);
    signed_in.await.unwrap()
}

/// The same flow with a member changed, as by a session store that mixes users up.
fn changed(flow: &AuthorizationCodeFlow, member: &str, value: &str) -> AuthorizationCodeFlow {
    let mut kept = serde_json::to_value(flow).unwrap();
    kept[member] = value.into();
    serde_json::from_value(kept).unwrap()
}

#[tokio::test]
async fn a_user_signs_in_and_the_client_refreshes_silently() {
    let (local, client) = start().await;
    let signed_in = sign_in(&local, &client, ADELE).await;
    let token = signed_in.access_token();
    assert_eq!(token.source(), TokenSource::IdentityProvider);
    assert_eq!(claims_of(token.secret())["scp"], "Files.Read");
    assert_eq!(token.declined_scopes().count(), 0);
    let account = signed_in.account();
    assert_eq!(
        (account.username(), account.name()),
        (Some(ADELE), Some("Adele Vance"))
    );
    let claims: Value = serde_json::from_str(signed_in.id_token_claims()).unwrap();
    assert_eq!(claims["aud"], CLIENT_ID);
    let (oid, tid) = (
        claims["oid"].as_str().unwrap(),
        claims["tid"].as_str().unwrap(),
    );
    assert_eq!(account.local_account_id(), oid);
    assert_eq!(account.tenant_id(), Some(tid));
    assert_eq!(account.home_account_id(), format!("{oid}.{tid}"));
    assert_eq!(local.token_requests().len(), 1);

    // Through the session store and back.
    let kept = serde_json::to_string(account).unwrap();
    let account: Account = serde_json::from_str(&kept).unwrap();
    assert_eq!(&account, signed_in.account());
    let again = client.acquire_token_silent(&account, FILES).await.unwrap();
    assert_eq!(again.source(), TokenSource::Cache);
    assert_eq!(again.secret(), token.secret());

    // For another API, by the refresh token.
    let mail = client.acquire_token_silent(&account, MAIL).await.unwrap();
    assert_eq!(claims_of(mail.secret())["scp"], "Mail.Read");
    assert_eq!(claims_of(mail.secret())["oid"], oid);
    let requests = local.token_requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[1].field("grant_type"), Some("refresh_token"));
    assert_eq!(requests[1].field("client_info"), Some("1"));

    let provider = client.token_provider_silent(&account, MAIL).unwrap();
    assert_eq!(provider.token().await.unwrap().secret(), mail.secret());
    client.remove_account(&account).await.unwrap();
    for error in [
        client
            .acquire_token_silent(&account, FILES)
            .await
            .unwrap_err(),
        provider.token().await.unwrap_err(),
    ] {
        assert!(matches!(error, Error::InteractionRequired(_)), "{error:?}");
        assert!(error.needs_user_interaction() && !error.is_transient());
    }
    assert_eq!(local.token_requests().len(), 2);
}

#[tokio::test]
async fn the_url_says_what_is_asked_for() {
    let (local, client) = start().await;
    let request = TokenRequest::new(FILES)
        .tenant("fabrikam.com")
        .claims(r#"{"id_token":{"acr":null}}"#)
        .query_parameter("hsu", "1");
    let request = AuthorizationRequest::new(BACK, request)
        .prompt(Prompt::Consent)
        .login_hint(ADELE)
        .domain_hint("contoso.com")
        .form_post();
    let (page, flow) = client.authorization_request_url(&request).await.unwrap();
    let page = Url::parse(&page).unwrap();
    let start = format!("{}/fabrikam.com/oauth2/v2.0/authorize?", local.base_url());
    assert!(page.as_str().starts_with(&start), "{page}");
    let value = |name: &str| {
        let values: Vec<_> = page.query_pairs().filter(|(key, _)| key == name).collect();
        assert_eq!(values.len(), 1, "{name}: {page}");
        values[0].1.to_string()
    };
    for (name, expected) in [
        ("client_id", CLIENT_ID),
        ("response_type", "code"),
        ("redirect_uri", BACK),
        (
            "scope",
            "api://drive/Files.Read openid profile offline_access",
        ),
        ("state", flow.state()),
        ("code_challenge_method", "S256"),
        ("prompt", "consent"),
        ("login_hint", ADELE),
        ("domain_hint", "contoso.com"),
        ("response_mode", "form_post"),
        ("claims", r#"{"id_token":{"acr":null}}"#),
        ("hsu", "1"),
    ] {
        assert_eq!(value(name), expected);
    }
    assert_eq!(value("code_challenge").len(), 43);
    let (other_page, other) = client.authorization_request_url(&request).await.unwrap();
    for (name, one) in [("state", value("state")), ("nonce", value("nonce"))] {
        assert!(one.len() >= 43 && !other_page.contains(&one), "{name}");
    }
    assert_ne!(other.state(), flow.state());
    let shown = format!("{flow:?} {request:?}");
    let kept = serde_json::to_value(&flow).unwrap();
    for member in ["state", "nonce", "code_verifier"] {
        assert!(!shown.contains(kept[member].as_str().unwrap()), "{member}");
    }
}

#[tokio::test]
async fn a_prompt_is_sent_by_its_name() {
    let (_local, client) = start().await;
    for (prompt, name) in [
        (Prompt::None, "prompt=none"),
        (Prompt::Login, "prompt=login"),
        (Prompt::SelectAccount, "prompt=select_account"),
    ] {
        let request = drive().prompt(prompt);
        let (page, _) = client.authorization_request_url(&request).await.unwrap();
        assert!(page.contains(name), "{page}");
    }
}

#[tokio::test]
async fn an_invalid_sign_in_request_is_rejected_before_the_network() {
    let (local, client) = start().await;
    let request = |redirect_uri: &str, request: TokenRequest| {
        AuthorizationRequest::new(redirect_uri, request)
    };
    for (request, text) in [
        (
            request("http://app.example.org/back", FILES.into()),
            "neither https nor",
        ),
        (
            request("https://app.example.org/#x", FILES.into()),
            "fragment",
        ),
        (request(BACK, "".into()), "no scope"),
        (
            request(BACK, "User.Read,Mail.Read".into()),
            "use 'User.Read Mail.Read'",
        ),
        (
            request(BACK, "scope=User.Read%20Mail.Read".into()),
            "use 'User.Read Mail.Read'",
        ),
        (
            request(BACK, "https://graph.microsoft.com/".into()),
            "use 'https://graph.microsoft.com//.default'",
        ),
        (
            request(BACK, TokenRequest::new(FILES).claims("cp1")),
            "not a JSON object",
        ),
        (
            request(BACK, TokenRequest::new(FILES).tenant("a/b")),
            "neither an id nor a domain",
        ),
        (
            request(BACK, TokenRequest::new(FILES).query_parameter("state", "x")),
            "is reserved",
        ),
    ] {
        let error = client
            .authorization_request_url(&request)
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        assert!(error.to_string().contains(text), "{error}");
    }
    assert!(local.token_requests().is_empty());
}

#[tokio::test]
async fn an_answer_that_is_not_to_this_sign_in_is_refused_before_the_network() {
    let (local, client) = start().await;
    let (flow, back) = come_back(&local, &client, ADELE).await;
    let (_, of_another) = come_back(&local, &client, MEGAN).await;
    let state = flow.state();
    for (redirected, text) in [
        (of_another, "state"),
        (back.replace(state, ""), "state"),
        (back.replace(&format!("&state={state}"), ""), "state"),
        (format!("{back}&state={state}"), "'state' twice"),
        (format!("{back}&code=x"), "'code' twice"),
        (format!("?state={state}"), "neither a 'code' nor an 'error'"),
        (
            format!("?state={state}&code="),
            "neither a 'code' nor an 'error'",
        ),
        (String::new(), "state"),
    ] {
        let error = client.acquire_token_by_authorization_code(flow.clone(), &redirected);
        let error = error.await.unwrap_err();
        assert!(matches!(error, Error::InvalidResponse(_)), "{error:?}");
        assert!(error.to_string().contains(text), "{redirected}: {error}");
    }
    for back in ["?code=x", "?code=x&state="] {
        let without = changed(&flow, "state", "");
        let error = client.acquire_token_by_authorization_code(without, back);
        assert!(error.await.unwrap_err().to_string().contains("state"));
    }
    assert!(local.token_requests().is_empty());

    // The query alone will do, as the body of a posted form is one.
    let query = back.split_once('?').unwrap().1;
    client
        .acquire_token_by_authorization_code(flow, query)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_user_who_comes_back_without_a_code_is_told_why() {
    let (local, client) = start().await;
    let (_, flow) = client.authorization_request_url(&drive()).await.unwrap();
    let back = format!(
        "{BACK}?error=access_denied&error_description=AADSTS65004%3A+declined%1b%5b2J&state={}",
        flow.state()
    );
    let error = client.acquire_token_by_authorization_code(flow.clone(), back);
    let error = error.await.unwrap_err();
    assert!(matches!(error, Error::InteractionRequired(_)), "{error:?}");
    assert!(error.needs_user_interaction());
    let server = error.server_error().unwrap();
    assert_eq!(server.error(), "access_denied");
    let text = error.to_string();
    assert!(
        text.contains("access_denied: AADSTS65004: declined\\u{1b}"),
        "{text}"
    );

    // Whoever sends a long text from somewhere is not written to the log.
    let long = format!("?error={}&state={}", "x".repeat(100_000), flow.state());
    let error = client.acquire_token_by_authorization_code(flow, long);
    assert!(error.await.unwrap_err().to_string().len() < 1_000);
    assert!(local.token_requests().is_empty());
}

#[tokio::test]
async fn a_code_is_good_once_and_with_its_own_verifier() {
    let (local, client) = start().await;
    for (member, value) in [
        (
            "code_verifier",
            "another-verifier-that-is-long-enough-for-rfc-7636",
        ),
        ("redirect_uri", "https://app.example.org/elsewhere"),
    ] {
        let (flow, back) = come_back(&local, &client, ADELE).await;
        let flow = changed(&flow, member, value);
        // The query alone: a whole URL is compared with the redirect URI.
        let query = back.split_once('?').unwrap().1;
        let error = client.acquire_token_by_authorization_code(flow, query);
        let error = error.await.unwrap_err();
        assert!(matches!(error, Error::Server(_)), "{member}: {error:?}");
        assert!(
            error.needs_user_interaction() || member == "redirect_uri",
            "{error:?}"
        );
    }
    let (flow, back) = come_back(&local, &client, ADELE).await;
    let first = client.acquire_token_by_authorization_code(flow.clone(), &back);
    let account = first.await.unwrap().account().clone();
    let error = client
        .acquire_token_by_authorization_code(flow, &back)
        .await
        .unwrap_err();
    assert!(error.needs_user_interaction(), "{error:?}");
    assert!(error.to_string().contains("sign in again"), "{error}");
    client.acquire_token_silent(&account, FILES).await.unwrap();
}

/// A client of the authority, whose token responses are changed on their way.
fn meddled(
    local: &LocalAuthority,
    meddle: impl Fn(&mut Value) + Send + Sync + 'static,
) -> ConfidentialClientBuilder {
    let http = reqwest::Client::new();
    let meddle = Arc::new(meddle);
    client_of(local)
        .client_secret(SECRET)
        .transport(move |request: Request<Bytes>| {
            let (http, meddle) = (http.clone(), Arc::clone(&meddle));
            async move {
                let is_token = request.uri().path().ends_with("/token");
                let request = reqwest::Request::try_from(request.map(reqwest::Body::from))?;
                let answer = http.execute(request).await?;
                let status = answer.status();
                let mut body = answer.bytes().await?;
                if is_token {
                    let mut json: Value = serde_json::from_slice(&body)?;
                    meddle(&mut json);
                    body = json.to_string().into();
                }
                Ok(Response::builder().status(status).body(body)?)
            }
        })
}

fn with_claims(id_token: &str, change: impl FnOnce(&mut Value)) -> String {
    use base64::Engine;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;
    let mut claims = claims_of(id_token);
    change(&mut claims);
    let claims = BASE64_URL_SAFE_NO_PAD.encode(claims.to_string());
    let parts: Vec<_> = id_token.split('.').collect();
    format!("{}.{claims}.{}", parts[0], parts[2])
}

#[tokio::test]
async fn an_invalid_id_token_is_rejected() {
    let local = authority(LocalAuthority::builder()).await;
    type Meddle = fn(&mut Value);
    let rows: [(&str, Meddle, &str); 6] = [
        (
            "none",
            |body| drop(body.as_object_mut().unwrap().remove("id_token")),
            "sent none",
        ),
        (
            "no JWT",
            |body| body["id_token"] = "abc".into(),
            "three parts",
        ),
        (
            "somebody else's name",
            |body| {
                let id_token = body["id_token"].as_str().unwrap().to_owned();
                body["id_token"] = with_claims(&id_token, |claims| {
                    claims["preferred_username"] = "ceo@contoso.com".into();
                })
                .into();
            },
            "signature is wrong",
        ),
        (
            "an access token",
            |body| body["id_token"] = body["access_token"].clone(),
            "audience",
        ),
        (
            "client_info of no one",
            |body| body["client_info"] = "e30".into(),
            "client_info",
        ),
        (
            "client_info that is none",
            |body| body["client_info"] = "!".into(),
            "client_info",
        ),
    ];
    for (name, meddle, text) in rows {
        let client = meddled(&local, meddle).build().unwrap();
        let (flow, back) = come_back(&local, &client, ADELE).await;
        let error = client.acquire_token_by_authorization_code(flow, back);
        let error = error.await.unwrap_err();
        assert!(
            matches!(error, Error::InvalidResponse(_)),
            "{name}: {error:?}"
        );
        assert!(error.to_string().contains(text), "{name}: {error}");
        assert!(!format!("{error:?}").contains("eyJ"), "{name}");
        assert!(client.cache().is_empty(), "{name}");
    }
}

#[tokio::test]
async fn an_id_token_of_another_sign_in_is_refused() {
    let (local, client) = start().await;
    let (flow, back) = come_back(&local, &client, ADELE).await;
    let flow = changed(&flow, "nonce", "of-another-sign-in");
    let error = client.acquire_token_by_authorization_code(flow, back);
    let error = error.await.unwrap_err();
    assert!(error.to_string().contains("nonce"), "{error}");

    // Properly signed, of another user's sign-in.
    let id_token = Arc::new(Mutex::new(String::new()));
    let foreign = meddled(&local, {
        let id_token = Arc::clone(&id_token);
        move |body| *id_token.lock().unwrap() = body["id_token"].as_str().unwrap().to_owned()
    });
    sign_in(&local, &foreign.build().unwrap(), MEGAN).await;
    let replayed = id_token.lock().unwrap().clone();
    let client = meddled(&local, move |body| {
        body["id_token"] = replayed.clone().into()
    });
    let client = client.build().unwrap();
    let (flow, back) = come_back(&local, &client, ADELE).await;
    let error = client.acquire_token_by_authorization_code(flow, back);
    let error = error.await.unwrap_err();
    assert!(error.to_string().contains("nonce"), "{error}");
    assert!(client.cache().is_empty());
}

#[tokio::test]
async fn a_key_that_is_new_since_the_sign_in_began_is_looked_up() {
    let (local, client) = start().await;
    sign_in(&local, &client, ADELE).await;
    let (flow, back) = come_back(&local, &client, MEGAN).await;
    local.roll_key().unwrap();
    let signed_in = client.acquire_token_by_authorization_code(flow, back);
    assert_eq!(signed_in.await.unwrap().account().username(), Some(MEGAN));
}

#[tokio::test]
async fn two_users_never_get_each_others_tokens() {
    let (local, client) = start().await;
    let adele = sign_in(&local, &client, ADELE).await;
    let megan = sign_in(&local, &client, MEGAN).await;
    for (signed_in, name) in [(&adele, ADELE), (&megan, MEGAN)] {
        for scope in [FILES, MAIL] {
            let token = client.acquire_token_silent(signed_in.account(), scope);
            let token = token.await.unwrap();
            assert_eq!(claims_of(token.secret())["preferred_username"], name);
        }
    }
    client.remove_account(adele.account()).await.unwrap();
    assert!(
        client
            .acquire_token_silent(adele.account(), FILES)
            .await
            .is_err()
    );
    let token = client
        .acquire_token_silent(megan.account(), FILES)
        .await
        .unwrap();
    assert_eq!(token.source(), TokenSource::Cache);
}

/// Each refresh token is taken once, by a provider that takes a second use for a theft.
#[tokio::test]
async fn refresh_tokens_rotate_and_each_is_used_once() {
    let local = authority(LocalAuthority::builder().strict_rotation()).await;
    let client = client_of(&local).client_secret(SECRET).build().unwrap();
    let signed_in = sign_in(&local, &client, ADELE).await;
    let account = signed_in.account();
    // All at once, for different slots.
    let calls = ["api://drive/Files.Read", MAIL].map(|scope| {
        let request = TokenRequest::new(scope).force_refresh();
        client.acquire_token_silent(account, request)
    });
    for outcome in futures_util::future::join_all(calls).await {
        outcome.unwrap();
    }
    for _ in 0..3 {
        let request = TokenRequest::new(FILES).force_refresh();
        let token = client.acquire_token_silent(account, request).await.unwrap();
        assert_eq!(token.source(), TokenSource::IdentityProvider);
    }
    let requests = local.token_requests();
    let mut used: Vec<_> = requests
        .iter()
        .filter_map(|request| request.field("refresh_token"))
        .collect();
    assert_eq!(used.len(), 5);
    used.sort_unstable();
    used.dedup();
    assert_eq!(used.len(), 5);
}

#[tokio::test]
async fn a_session_that_was_revoked_ends_and_signing_in_begins_another() {
    let (local, client) = start().await;
    let signed_in = sign_in(&local, &client, ADELE).await;
    let account = signed_in.account();
    local.revoke_user_sessions(TENANT, ADELE);
    let error = client
        .acquire_token_silent(account, MAIL)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Server(_)), "{error:?}");
    assert!(error.needs_user_interaction());
    // The token that is still good is served, and nobody is asked in vain.
    client.acquire_token_silent(account, FILES).await.unwrap();
    let requests = local.token_requests().len();
    let error = client
        .acquire_token_silent(account, "api://third/x")
        .await
        .unwrap_err();
    assert!(matches!(error, Error::InteractionRequired(_)), "{error:?}");
    assert_eq!(local.token_requests().len(), requests);

    let again = sign_in(&local, &client, ADELE).await;
    assert_eq!(again.account(), account);
    client.acquire_token_silent(account, MAIL).await.unwrap();
}

/// What it calls `tid` and `oid` is its own affair, or its users': they are known by `sub`.
#[tokio::test]
async fn an_openid_providers_user_is_known_by_the_subject_alone() {
    let (local, _) = start().await;
    let client = ConfidentialClient::builder(CLIENT_ID)
        .authority(Authority::oidc(local.issuer(TENANT).unwrap()))
        .client_secret(SECRET)
        .build()
        .unwrap();
    // RFC 9207: an answer that names its issuer names this one.
    let (flow, back) = come_back(&local, &client, ADELE).await;
    let mixed_up = format!(
        "{BACK}?code=x&state={}&iss=https%3A%2F%2Fid.example",
        flow.state()
    );
    let error = client.acquire_token_by_authorization_code(flow.clone(), mixed_up);
    let error = error.await.unwrap_err().to_string();
    assert!(error.contains("another issuer"), "{error}");
    let signed_in = client.acquire_token_by_authorization_code(flow, back);
    let signed_in = signed_in.await.unwrap();
    let claims: Value = serde_json::from_str(signed_in.id_token_claims()).unwrap();
    assert!(claims["tid"].is_string() && claims["oid"] != claims["sub"]);
    let account = signed_in.account();
    assert_eq!(account.home_account_id(), claims["sub"].as_str().unwrap());
    assert_eq!(account.local_account_id(), account.home_account_id());
    assert_eq!(account.tenant_id(), None);
    // What the sign-in brought is found again.
    let token = client.acquire_token_silent(account, FILES).await.unwrap();
    assert_eq!(token.source(), TokenSource::Cache);
    assert_eq!(token.secret(), signed_in.access_token().secret());
}

/// Which of OpenID Connect's scopes were granted, such a provider need not say, and it refuses a
/// refresh for one that was not.
#[tokio::test]
async fn an_openid_provider_is_asked_for_no_scope_more_when_a_token_is_renewed() {
    let (local, _) = start().await;
    let client = ConfidentialClient::builder(CLIENT_ID)
        .authority(Authority::oidc(local.issuer(TENANT).unwrap()))
        .client_secret(SECRET)
        .build()
        .unwrap();
    let signed_in = sign_in(&local, &client, ADELE).await;
    for (scope, sent) in [
        (FILES, FILES),
        ("api://mail/Mail.Read openid", "api://mail/Mail.Read openid"),
    ] {
        let request = TokenRequest::new(scope).force_refresh();
        let token = client.acquire_token_silent(signed_in.account(), request);
        assert_eq!(token.await.unwrap().source(), TokenSource::IdentityProvider);
        let request = local.token_requests().pop().unwrap();
        assert_eq!(request.field("grant_type"), Some("refresh_token"));
        assert_eq!(request.field("scope"), Some(sent));
    }
}

/// Consent that is missing, or another factor, is for the user to add, and the session goes on.
#[tokio::test]
async fn a_required_interaction_keeps_the_session() {
    let (local, client) = start().await;
    let signed_in = sign_in(&local, &client, ADELE).await;
    let account = signed_in.account();
    let error = client
        .acquire_token_silent(account, "api://third/x")
        .await
        .unwrap_err();
    assert!(error.needs_user_interaction(), "{error:?}");
    assert_eq!(
        error.server_error().unwrap().suberror(),
        Some("consent_required")
    );
    local.script([Fault::aadsts(50076)]);
    let request = TokenRequest::new(FILES).force_refresh();
    // The token at hand is still good.
    client.acquire_token_silent(account, request).await.unwrap();
    client.acquire_token_silent(account, MAIL).await.unwrap();
}

#[tokio::test]
async fn an_apis_claims_that_cannot_be_met_silently_are_passed_on() {
    let (_local, client) = start().await;
    let account: Account = serde_json::from_value(json!({
        "home_account_id": "1.2", "local_account_id": "1",
    }))
    .unwrap();
    let claims = r#"{"access_token":{"acrs":{"essential":true,"value":"c1"}}}"#;
    let request = TokenRequest::new(FILES).claims(claims);
    let error = client
        .acquire_token_silent(&account, request)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::InteractionRequired(_)), "{error:?}");
    assert_eq!(error.claims_challenge(), Some(claims));
}

#[tokio::test]
async fn a_web_app_of_many_tenants_keeps_the_tokens_of_each_in_its_own() {
    let local = authority(LocalAuthority::builder()).await;
    let app = Application::new(CLIENT_ID)
        .secret(SECRET)
        .redirect_uri(BACK);
    local.register("fabrikam.com", app);
    local.register_user("fabrikam.com", User::new("ian@fabrikam.com"));
    local.consent("fabrikam.com", CLIENT_ID, "ian@fabrikam.com", FILES);
    let client = ConfidentialClient::builder(CLIENT_ID)
        .authority(local.authority("organizations"))
        .client_secret(SECRET)
        .build()
        .unwrap();
    for user in [ADELE, "ian@fabrikam.com"] {
        let signed_in = sign_in(&local, &client, user).await;
        let token = signed_in.access_token();
        let tenant = signed_in.account().tenant_id().unwrap();
        assert_eq!(token.tenant_id(), Some(tenant));
        assert_eq!(claims_of(token.secret())["tid"], tenant);
        let again = client
            .acquire_token_silent(signed_in.account(), FILES)
            .await
            .unwrap();
        assert_eq!(again.source(), TokenSource::Cache);
        let request = TokenRequest::new(FILES).force_refresh();
        client
            .acquire_token_silent(signed_in.account(), request)
            .await
            .unwrap();
        let request = local.token_requests().pop().unwrap();
        assert!(request.path().contains(tenant), "{}", request.path());
    }
}

/// The application's own API: no consent is asked.
#[tokio::test]
async fn an_application_gets_a_users_token_for_itself() {
    let (local, client) = start().await;
    let itself = format!("{CLIENT_ID}/.default");
    let request = AuthorizationRequest::new(BACK, itself.as_str());
    let (page, flow) = client.authorization_request_url(&request).await.unwrap();
    let back = local.sign_in(page, MEGAN).await.unwrap();
    let signed_in = client
        .acquire_token_by_authorization_code(flow, back)
        .await
        .unwrap();
    assert_eq!(
        claims_of(signed_in.access_token().secret())["aud"],
        CLIENT_ID
    );
    assert_eq!(signed_in.access_token().declined_scopes().count(), 0);
    client
        .acquire_token_silent(signed_in.account(), itself)
        .await
        .unwrap();
    assert_eq!(local.token_requests().len(), 1);
}

#[tokio::test]
async fn the_keys_are_there_before_the_code_is_spent() {
    let (local, client) = start().await;
    let (flow, back) = come_back(&local, &client, ADELE).await;
    let dead =
        client_of(&local)
            .client_secret(SECRET)
            .transport(|request: Request<Bytes>| async move {
                assert!(
                    !request.uri().path().ends_with("/token"),
                    "the code was spent"
                );
                Err("no route".into())
            });
    let error = dead.build().unwrap();
    let error = error
        .acquire_token_by_authorization_code(flow.clone(), &back)
        .await;
    assert!(matches!(error, Err(Error::Transport(_))), "{error:?}");
    client
        .acquire_token_by_authorization_code(flow, back)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_call_that_waits_for_a_refresh_token_is_not_told_to_sign_in() {
    let (local, client) = start().await;
    let signed_in = sign_in(&local, &client, ADELE).await;
    let account = signed_in.account();
    let mut first = Box::pin(client.acquire_token_silent(account, MAIL));
    assert!(poll_once(&mut first).is_pending());
    // The flight has the refresh token in its hands.
    let second = client.acquire_token_silent(account, TokenRequest::new(FILES).force_refresh());
    let (first, second) = tokio::join!(first, second);
    first.unwrap();
    second.unwrap();
}

/// Moves the time past the first token's end; the refresh token goes on.
#[tokio::test]
async fn a_token_that_has_ended_is_renewed_by_the_refresh_token() {
    let local = authority(LocalAuthority::builder()).await;
    let clock = ManualClock::new();
    let client = client_of(&local)
        .client_secret(SECRET)
        .clock(clock.clone())
        .build()
        .unwrap();
    let signed_in = sign_in(&local, &client, ADELE).await;
    clock.advance(Duration::from_secs(4000));
    let token = client
        .acquire_token_silent(signed_in.account(), FILES)
        .await
        .unwrap();
    assert_eq!(token.source(), TokenSource::IdentityProvider);
    assert_ne!(token.secret(), signed_in.access_token().secret());
}

/// As where the API asked for another factor: what was asked for without it has no say any more.
#[tokio::test]
async fn a_new_sign_in_overrides_requests_in_flight() {
    let (local, client) = start().await;
    let signed_in = sign_in(&local, &client, ADELE).await;
    let account = signed_in.account().clone();
    let (flow, back) = come_back(&local, &client, ADELE).await;
    local.script([Fault::delayed(Duration::from_secs(20))]);
    let caller = client.clone();
    let asked = account.clone();
    let waiting = tokio::spawn(async move {
        let request = TokenRequest::new(FILES).force_refresh();
        caller.acquire_token_silent(&asked, request).await
    });
    while local.token_requests().len() < 2 {
        tokio::task::yield_now().await;
    }
    let again = client
        .acquire_token_by_authorization_code(flow, back)
        .await
        .unwrap();
    // Whoever waited still wants another than what is there, and asks again.
    let served = waiting.await.unwrap().unwrap();
    assert_ne!(served.secret(), signed_in.access_token().secret());
    let asked = local.token_requests();
    let used = |number: usize| asked[number].field("refresh_token").unwrap().to_owned();
    assert_eq!(asked.len(), 4);
    assert_ne!(used(3), used(1), "the refresh token is the new sign-in's");
    drop(again);
}

#[tokio::test]
async fn removing_an_account_fails_waiting_calls() {
    let (local, client) = start().await;
    let signed_in = sign_in(&local, &client, ADELE).await;
    local.script([Fault::delayed(Duration::from_secs(20))]);
    let account = signed_in.account().clone();
    let caller = client.clone();
    let waiting = tokio::spawn(async move { caller.acquire_token_silent(&account, MAIL).await });
    while local.token_requests().len() < 2 {
        tokio::task::yield_now().await;
    }
    client.remove_account(signed_in.account()).await.unwrap();
    let error = waiting.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::InteractionRequired(_)), "{error:?}");
    assert_eq!(local.token_requests().len(), 2);
}

#[tokio::test]
async fn a_due_token_without_a_refresh_token_is_returned() {
    let local = authority(LocalAuthority::builder()).await;
    let clock = ManualClock::new();
    let client = meddled(&local, |body| {
        drop(body.as_object_mut().unwrap().remove("refresh_token"))
    });
    let client = client.clock(clock.clone()).build().unwrap();
    let signed_in = sign_in(&local, &client, ADELE).await;
    clock.advance(Duration::from_secs(3500));
    let token = client
        .acquire_token_silent(signed_in.account(), FILES)
        .await;
    assert_eq!(token.unwrap().source(), TokenSource::Cache);
    assert_eq!(client.cache().stats().refreshes, 0);
}

#[tokio::test]
async fn clearing_the_cache_keeps_the_sessions() {
    let (local, client) = start().await;
    let signed_in = sign_in(&local, &client, ADELE).await;
    client.cache().clear();
    let token = client
        .acquire_token_silent(signed_in.account(), FILES)
        .await;
    assert_eq!(token.unwrap().source(), TokenSource::IdentityProvider);
    assert_eq!(local.token_requests().len(), 2);
}

#[test]
fn outside_a_runtime_nobody_panics() {
    let client = ConfidentialClient::builder(CLIENT_ID)
        .tenant(TENANT)
        .client_secret(SECRET)
        .build()
        .unwrap();
    let request = drive();
    let mut page = Box::pin(client.authorization_request_url(&request));
    let Poll::Ready(Ok((_, flow))) = poll_once(&mut page) else {
        panic!("Entra's page needs no network");
    };
    let back = format!("?code=x&state={}", flow.state());
    let mut redeemed = Box::pin(client.acquire_token_by_authorization_code(flow, back));
    let Poll::Ready(Err(error)) = poll_once(&mut redeemed) else {
        panic!("it waits for something");
    };
    assert!(error.to_string().contains("no tokio runtime"), "{error}");

    let client = ConfidentialClient::builder(CLIENT_ID)
        .authority(Authority::oidc("https://id.example.org"))
        .client_secret(SECRET)
        .build()
        .unwrap();
    let mut page = Box::pin(client.authorization_request_url(&request));
    let Poll::Ready(Err(error)) = poll_once(&mut page) else {
        panic!("it waits for something");
    };
    assert!(error.to_string().contains("no tokio runtime"), "{error}");
}
