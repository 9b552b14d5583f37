//! A web API that calls another API on behalf of its user.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use confidential_client::delegated::UserAssertion;
use confidential_client::testing::{Application, LocalAuthority, ManualClock, User};
use confidential_client::{
    AccessToken, CacheOptions, ConfidentialClient, Error, IntoTokenRequest, TokenRequest,
    TokenSource,
};

use crate::support::{
    CLIENT_ID, Provider, SCOPE, SECRET, TENANT, claims_of, client_of, in_memory, let_others_run,
    poll_once,
};

const FILES: &str = "api://drive/Files.Read";
const INVALID_GRANT: &str = r#"{"error":"invalid_grant","error_description":"AADSTS700082: expired","error_codes":[700082]}"#;

fn assertion(user: &str) -> UserAssertion {
    UserAssertion::new(token_of(user))
}

fn token_of(user: &str) -> String {
    let claims = format!(r#"{{"oid":"{user}","scp":"access_as_user","tid":"{TID}"}}"#);
    let claims = BASE64_URL_SAFE_NO_PAD.encode(claims);
    format!("eyJhbGciOiJSUzI1NiJ9.{claims}.c2lnbmF0dXJl")
}

const TID: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";

async fn on_behalf_of(
    client: &ConfidentialClient,
    user: &str,
    request: impl IntoTokenRequest,
) -> Result<AccessToken, Error> {
    client
        .acquire_token_on_behalf_of(&assertion(user), request)
        .await
}

/// An answer with a refresh token.
fn with_refresh_token(token: &str, refresh_token: &str) -> String {
    format!(
        r#"{{"token_type":"Bearer","expires_in":3599,"access_token":"{token}","refresh_token":"{refresh_token}","scope":"{FILES}"}}"#
    )
}

#[tokio::test]
async fn the_request_is_entras_on_behalf_of_flow() {
    let provider = Provider::open();
    let client = provider.client();
    let token = on_behalf_of(&client, "adele", FILES).await.unwrap();
    assert_eq!(token.secret(), "token-1");
    assert_eq!(token.source(), TokenSource::IdentityProvider);
    let field = |name: &str| provider.field(0, name);
    assert_eq!(
        field("grant_type").as_deref(),
        Some("urn:ietf:params:oauth:grant-type:jwt-bearer")
    );
    assert_eq!(field("assertion").as_deref(), Some(&*token_of("adele")));
    assert_eq!(
        field("requested_token_use").as_deref(),
        Some("on_behalf_of")
    );
    assert_eq!(
        field("scope").as_deref(),
        Some("api://drive/Files.Read openid profile offline_access")
    );
    assert_eq!(field("client_info").as_deref(), Some("1"));
    assert!(field("client_secret").is_some());
    assert!(provider.uri(0).contains(TENANT));
}

#[tokio::test]
async fn a_token_is_cached_under_its_assertion_and_under_no_other() {
    let provider = Provider::open();
    let client = provider.client();
    let adele = on_behalf_of(&client, "adele", FILES);
    assert_eq!(adele.await.unwrap().secret(), "token-1");
    let again = on_behalf_of(&client, "adele", FILES);
    let again = again.await.unwrap();
    assert_eq!(
        (again.secret(), again.source()),
        ("token-1", TokenSource::Cache)
    );
    let megan = on_behalf_of(&client, "megan", FILES);
    assert_eq!(megan.await.unwrap().secret(), "token-2");
    // What is not of the API makes no other token, and another scope does.
    let reserved = TokenRequest::new("openid").scopes([FILES, "Offline_Access"]);
    let same = on_behalf_of(&client, "adele", reserved);
    assert_eq!(same.await.unwrap().secret(), "token-1");
    let write = on_behalf_of(&client, "adele", "api://drive/Files.Write");
    assert_eq!(write.await.unwrap().secret(), "token-3");
}

/// The same words, and another's token.
#[tokio::test]
async fn a_users_token_and_the_applications_own_are_two() {
    let provider = Provider::open();
    let client = provider.client();
    let of_a_user = on_behalf_of(&client, "adele", SCOPE);
    assert_eq!(of_a_user.await.unwrap().secret(), "token-1");
    let own = client.acquire_token_for_client(SCOPE).await.unwrap();
    assert_eq!(own.secret(), "token-2");
    let of_a_user = on_behalf_of(&client, "adele", SCOPE);
    assert_eq!(of_a_user.await.unwrap().secret(), "token-1");
    let rejected = TokenRequest::new(SCOPE).rejected_token(&own);
    let error = on_behalf_of(&client, "adele", rejected);
    assert!(matches!(error.await, Err(Error::Config(_))));
}

#[tokio::test]
async fn a_thousand_calls_with_one_assertion_are_one_request() {
    let provider = Provider::gated();
    let client = provider.client();
    let adele = assertion("adele");
    let mut calls: Vec<_> = (0..1_000)
        .map(|_| Box::pin(client.acquire_token_on_behalf_of(&adele, FILES)))
        .collect();
    for call in &mut calls {
        assert!(poll_once(call).is_pending());
    }
    provider.release();
    for call in calls {
        assert_eq!(call.await.unwrap().secret(), "token-1");
    }
    assert_eq!(provider.requests(), 1);
}

/// There is no refresh token yet that only one may redeem.
#[tokio::test]
async fn a_slow_token_request_does_not_delay_another_api() {
    let provider = Provider::gated();
    let client = provider.client();
    let adele = assertion("adele");
    let mut files = Box::pin(client.acquire_token_on_behalf_of(&adele, FILES));
    let mut mail = Box::pin(client.acquire_token_on_behalf_of(&adele, "api://mail/Mail.Read"));
    assert!(poll_once(&mut files).is_pending() && poll_once(&mut mail).is_pending());
    let_others_run().await;
    assert_eq!(provider.requests(), 2);
    provider.release();
    assert_ne!(files.await.unwrap().secret(), mail.await.unwrap().secret());
}

#[tokio::test]
async fn a_refresh_token_is_replaced_by_the_next() {
    let (provider, clock) = (Provider::open(), ManualClock::new());
    let client = provider.client_at(&clock);
    let adele = assertion("adele");
    provider.answer(200, &with_refresh_token("token-1", "refresh-1"));
    provider.answer(200, &with_refresh_token("token-2", "refresh-2"));
    for expected in ["token-1", "token-2", "token-3"] {
        let token = client
            .acquire_token_on_behalf_of(&adele, FILES)
            .await
            .unwrap();
        assert_eq!(token.secret(), expected);
        clock.advance(Duration::from_secs(3600));
    }
    // The answer to the third had none, so the second is still the one.
    let token = client
        .acquire_token_on_behalf_of(&adele, FILES)
        .await
        .unwrap();
    assert_eq!(token.secret(), "token-4");
    let sent = |request| {
        assert_eq!(provider.field(request, "assertion"), None);
        assert_eq!(provider.field(request, "client_info").as_deref(), Some("1"));
        let grant = provider.field(request, "grant_type");
        assert_eq!(grant.as_deref(), Some("refresh_token"));
        provider.field(request, "refresh_token").unwrap()
    };
    assert_eq!(
        [sent(1), sent(2), sent(3)],
        ["refresh-1", "refresh-2", "refresh-2"]
    );
}

#[tokio::test]
async fn a_rejected_refresh_token_is_replaced_by_the_assertion() {
    let (provider, clock) = (Provider::open(), ManualClock::new());
    let client = provider.client_at(&clock);
    let adele = assertion("adele");
    provider.answer(200, &with_refresh_token("token-1", "refresh-1"));
    client
        .acquire_token_on_behalf_of(&adele, FILES)
        .await
        .unwrap();
    clock.advance(Duration::from_secs(3600));
    provider.answer(400, INVALID_GRANT);
    let token = client
        .acquire_token_on_behalf_of(&adele, FILES)
        .await
        .unwrap();
    assert_eq!(token.secret(), "token-3");
    clock.advance(Duration::from_secs(3600));
    client
        .acquire_token_on_behalf_of(&adele, FILES)
        .await
        .unwrap();
    let grants = (0..4).map(|request| provider.field(request, "grant_type").unwrap());
    let by_assertion: Vec<_> = grants.map(|grant| grant != "refresh_token").collect();
    assert_eq!(by_assertion, [true, false, true, true]);
}

#[tokio::test]
async fn a_refresh_token_survives_an_outage_and_a_required_interaction() {
    let (provider, clock) = (Provider::open(), ManualClock::new());
    let client = provider.client_at(&clock);
    let adele = assertion("adele");
    provider.answer(200, &with_refresh_token("token-1", "refresh-1"));
    client
        .acquire_token_on_behalf_of(&adele, FILES)
        .await
        .unwrap();
    for (status, body) in [
        (
            400,
            r#"{"error":"invalid_grant","suberror":"basic_action","error_codes":[50076]}"#,
        ),
        (400, r#"{"error":"invalid_grant","error_codes":[65001]}"#),
        (400, r#"{"error":"interaction_required"}"#),
        (503, "{}"),
    ] {
        clock.advance(Duration::from_secs(3600));
        provider.answer(status, body);
        let before = provider.requests();
        let error = client
            .acquire_token_on_behalf_of(&adele, FILES)
            .await
            .unwrap_err();
        assert_eq!(error.needs_user_interaction(), status == 400, "{body}");
        assert_eq!(provider.requests(), before + 1, "{body}");
        let sent = provider.field(before, "refresh_token");
        assert_eq!(sent.as_deref(), Some("refresh-1"), "{body}");
    }
}

#[tokio::test]
async fn a_required_interaction_returns_the_claims_challenge() {
    let provider = Provider::open();
    let client = provider.client();
    let body = r#"{"error":"interaction_required","error_codes":[50079],"suberror":"basic_action","claims":"{\"access_token\":{\"acrs\":{\"essential\":true,\"value\":\"c1\"}}}"}"#;
    provider.answer(400, body);
    let error = on_behalf_of(&client, "adele", FILES).await.unwrap_err();
    assert!(error.needs_user_interaction());
    assert!(error.claims_challenge().unwrap().contains("acrs"));
    assert!(
        error.to_string().contains("more than one factor"),
        "{error}"
    );
}

#[tokio::test]
async fn a_wrong_assertion_is_told_before_the_network() {
    let provider = Provider::open();
    let client = provider.client();
    let of_an_application = BASE64_URL_SAFE_NO_PAD.encode(r#"{"idtyp":"app"}"#);
    let of_an_application = format!("eyJhbGciOiJSUzI1NiJ9.{of_an_application}.c2ln");
    for (token, scope, text) in [
        (
            of_an_application.as_str(),
            FILES,
            "an application token, which has no user",
        ),
        ("", FILES, "assertion is empty"),
        ("Bearer abc", FILES, "without 'Bearer'"),
        ("abc", "", "no scope"),
        ("abc", "api://ä/x", "character that no scope"),
    ] {
        let assertion = UserAssertion::new(token);
        let error = client.acquire_token_on_behalf_of(&assertion, scope).await;
        let error = error.unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        assert!(error.to_string().contains(text), "{error}");
        assert!(
            client
                .token_provider_on_behalf_of(&assertion, scope)
                .is_err()
        );
    }
    assert_eq!(provider.requests(), 0);
}

#[tokio::test]
async fn a_client_of_many_tenants_asks_the_one_that_the_user_is_from() {
    for (own, requested, asked) in [
        ("organizations", None, TID),
        ("common", None, TID),
        ("organizations", Some("fabrikam.com"), "fabrikam.com"),
        (TENANT, None, TENANT),
    ] {
        let provider = Provider::open();
        let client = in_memory(&provider)
            .tenant(own)
            .client_secret("s")
            .build()
            .unwrap();
        let mut request = TokenRequest::new(FILES);
        if let Some(tenant) = requested {
            request = request.tenant(tenant);
        }
        let token = on_behalf_of(&client, "adele", &request);
        assert_eq!(token.await.unwrap().tenant_id(), Some(asked));
        assert!(provider.uri(0).contains(&format!("/{asked}/")), "{own}");
    }
}

#[tokio::test]
async fn what_was_asked_for_and_not_granted_can_be_seen() {
    let provider = Provider::open();
    let client = provider.client();
    let request = TokenRequest::new("api://drive/Files.Read").scopes(["api://drive/Files.Write"]);
    for (user, granted, declined) in [
        (
            "a",
            "api://drive/Files.Read",
            vec!["api://drive/Files.Write"],
        ),
        ("b", "Files.Write openid", vec!["api://drive/Files.Read"]),
        (
            "c",
            "api://DRIVE/files.read api://drive/Files.Write",
            vec![],
        ),
        (
            "d",
            "api://other/Files.Read Files.Write",
            vec!["api://drive/Files.Read"],
        ),
        ("e", "", vec![]),
    ] {
        provider.answer(
            200,
            &format!(r#"{{"token_type":"Bearer","expires_in":60,"access_token":"t","scope":"{granted}"}}"#),
        );
        let token = on_behalf_of(&client, user, &request);
        let token = token.await.unwrap();
        assert_eq!(
            token.declined_scopes().collect::<Vec<_>>(),
            declined,
            "{granted}"
        );
    }
    let own = client.acquire_token_for_client(SCOPE).await.unwrap();
    assert_eq!(own.declined_scopes().count(), 0);
}

#[tokio::test]
async fn the_bound_on_entries_applies_to_users() {
    let provider = Provider::open();
    let options = CacheOptions::default().max_entries(10);
    let client = provider.builder().cache(options).build().unwrap();
    for user in 0..100 {
        provider.answer(200, &with_refresh_token("t", "r"));
        let user = assertion(&user.to_string());
        client
            .acquire_token_on_behalf_of(&user, FILES)
            .await
            .unwrap();
        assert!(client.cache().len() <= 10);
    }
    assert_eq!(client.cache().stats().evictions, 90);
}

#[tokio::test]
async fn users_without_a_refresh_token_evict_no_user_with_one() {
    let provider = Provider::open();
    let client = provider
        .builder()
        .cache(CacheOptions::default().max_entries(2));
    let client = client.build().unwrap();
    provider.answer(200, &with_refresh_token("token-1", "refresh-1"));
    for user in ["adele", "a", "b", "c", "d"] {
        on_behalf_of(&client, user, FILES).await.unwrap();
    }
    let mail = on_behalf_of(&client, "adele", "api://mail/Mail.Read");
    mail.await.unwrap();
    assert_eq!(
        provider.field(5, "refresh_token").as_deref(),
        Some("refresh-1")
    );
}

#[tokio::test]
async fn a_provider_serves_a_users_request_and_an_apis_claims() {
    let provider = Provider::open();
    let client = provider.client();
    let adele = assertion("adele");
    let files = client.token_provider_on_behalf_of(&adele, FILES).unwrap();
    let token = files.token().await.unwrap();
    assert_eq!(token.secret(), "token-1");
    assert_eq!(files.cached().unwrap().secret(), "token-1");
    client.invalidate(&token);
    assert_eq!(files.token().await.unwrap().secret(), "token-2");
    let direct = client
        .acquire_token_on_behalf_of(&adele, FILES)
        .await
        .unwrap();
    assert_eq!(direct.secret(), "token-2");
}

#[tokio::test]
async fn nothing_of_the_user_is_shown() {
    let provider = Provider::open();
    let client = provider.client();
    let secret = "eyJhbGciOiJSUzI1NiJ9.eyJvaWQiOiJhZGVsZSJ9.bG9uZyBzaWduYXR1cmU";
    let adele = UserAssertion::new(secret);
    provider.answer(
        400,
        &format!(r#"{{"error":"invalid_grant","error_description":"AADSTS50013: {secret}"}}"#),
    );
    let error = client
        .acquire_token_on_behalf_of(&adele, FILES)
        .await
        .unwrap_err();
    provider.answer(500, secret);
    let other = client
        .acquire_token_on_behalf_of(&adele, "api://b/x")
        .await
        .unwrap_err();
    let files = client.token_provider_on_behalf_of(&adele, FILES).unwrap();
    let shown = format!("{error:?} {error} {other:?} {other} {adele:?} {files:?}");
    assert!(!shown.contains("eyJvaWQi"), "{shown}");
    assert!(shown.contains("[redacted]"), "{shown}");
}

/// A middle tier, the drive behind it, and an app that a user calls from, over HTTP.
async fn three_of_them() -> (LocalAuthority, ConfidentialClient) {
    let local = LocalAuthority::start().await.unwrap();
    let tier = Application::new(CLIENT_ID).secret(SECRET);
    let tier = tier.publishes("api://tier", ["access_as_user"]);
    local.register(TENANT, tier);
    local.register(
        TENANT,
        Application::new("drive").publishes("api://drive", ["Files.Read", "Files.Write"]),
    );
    local.register(TENANT, Application::new("app"));
    local.register_user(TENANT, User::new(ADELE));
    local.consent(TENANT, "app", ADELE, "api://tier/access_as_user");
    let client = client_of(&local).client_secret(SECRET).build().unwrap();
    (local, client)
}

const ADELE: &str = "adele@contoso.onmicrosoft.com";

fn called_with(local: &LocalAuthority) -> UserAssertion {
    let token = local.user_token(TENANT, "app", ADELE, "api://tier/access_as_user");
    UserAssertion::new(token.unwrap())
}

#[tokio::test]
async fn a_token_of_the_users_comes_over_http_once_they_consented() {
    let (local, client) = three_of_them().await;
    let adele = called_with(&local);
    let error = client
        .acquire_token_on_behalf_of(&adele, FILES)
        .await
        .unwrap_err();
    assert!(error.needs_user_interaction(), "{error:?}");
    assert!(error.to_string().contains("consent"), "{error}");

    local.consent(TENANT, CLIENT_ID, ADELE, FILES);
    client.cache().clear();
    let token = client.acquire_token_on_behalf_of(&adele, FILES).await;
    let token = token.unwrap();
    let claims = claims_of(token.secret());
    assert_eq!(claims["preferred_username"], ADELE);
    assert_eq!(
        (&claims["scp"], &claims["azp"]),
        (&"Files.Read".into(), &CLIENT_ID.into())
    );
    assert_eq!(token.scopes().split(' ').next(), Some(FILES));
    // The refresh token that came with it serves when the token has to be another.
    let request = TokenRequest::new(FILES).force_refresh();
    let another = client.acquire_token_on_behalf_of(&adele, request).await;
    assert_ne!(another.unwrap().secret(), token.secret());
    let requests = local.token_requests();
    assert_eq!(requests.len(), 3);
    assert_eq!(requests[2].field("grant_type"), Some("refresh_token"));
}

#[tokio::test]
async fn an_assertion_for_another_audience_is_rejected_with_advice() {
    let (local, client) = three_of_them().await;
    local.consent(TENANT, "app", ADELE, FILES);
    let of_the_drive = local.user_token(TENANT, "app", ADELE, FILES).unwrap();
    let of_the_drive = UserAssertion::new(of_the_drive);
    let error = client
        .acquire_token_on_behalf_of(&of_the_drive, FILES)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Server(_)), "{error:?}");
    assert!(!error.needs_user_interaction(), "{error:?}");
    let text = "the calling client must request a scope of this API";
    assert!(error.to_string().contains(text), "{error}");
}

#[tokio::test]
async fn a_misspelled_scope_of_a_user_is_not_sent() {
    let provider = Provider::open();
    let client = provider.client();
    for (scope, expected) in [
        ("User.Read,Mail.Read", "use 'User.Read Mail.Read'"),
        (
            "https://database.windows.net/",
            "use 'https://database.windows.net//.default'",
        ),
        (
            "https%3A%2F%2Fgraph.microsoft.com%2FUser.Read",
            "use 'https://graph.microsoft.com/User.Read'",
        ),
    ] {
        let error = on_behalf_of(&client, "adele", scope).await.unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        assert!(error.to_string().contains(expected), "{error}");
    }
    assert_eq!(provider.requests(), 0);
}
