//! `ProtectedApi`, the API for tests: the accepted tokens and the challenges.

use std::time::Duration;

use confidential_client::adapter::{BearerAuth, BearerAuthLayer};
use confidential_client::testing::{Application, LocalAuthority, ProtectedApi};
use confidential_client::{Challenge, ConfidentialClient, ConfidentialClientBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use reqwest::Response;
use serde_json::Value;
use tower::{Layer, ServiceExt};

use crate::support::{CLIENT_ID, SECRET, TENANT, claims_of, client_of};

const GRAPH: &str = "https://graph.microsoft.com";
const SCOPE: &str = "https://graph.microsoft.com/.default";

async fn start(application: Application) -> (LocalAuthority, ProtectedApi) {
    let local = LocalAuthority::start().await.unwrap();
    let application = application.secret(SECRET).role(GRAPH, "User.Read.All");
    local.register(TENANT, application.role("api://other", "Run"));
    let api = local.protected_api(GRAPH).await.unwrap();
    (local, api)
}

fn builder(local: &LocalAuthority) -> ConfidentialClientBuilder {
    client_of(local).client_secret(SECRET)
}

async fn token(client: &ConfidentialClient, scope: &str) -> String {
    let token = client.acquire_token_for_client(scope).await.unwrap();
    token.secret().to_owned()
}

async fn call(api: &ProtectedApi, token: &str) -> Response {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("{}/v1.0/users", api.base_url());
    http.get(url)
        .header("authorization", token)
        .send()
        .await
        .unwrap()
}

/// The version of Entra's tokens for Microsoft Graph.
#[tokio::test]
async fn a_token_of_version_1_is_accepted() {
    let (local, api) = start(Application::new(CLIENT_ID)).await;
    let graph = Application::new("graph").publishes(GRAPH, ["User.Read"]);
    local.register(TENANT, graph.access_token_version(1));
    let client = builder(&local).build().unwrap();
    let good = token(&client, SCOPE).await;
    assert_eq!(claims_of(&good)["ver"], "1.0");
    let answer = call(&api, &format!("Bearer {good}")).await;
    assert_eq!(answer.status(), 200);
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body["azp"], CLIENT_ID);
}

#[tokio::test]
async fn only_tokens_of_the_authority_for_the_api_are_accepted() {
    let (local, api) = start(Application::new(CLIENT_ID)).await;
    let client = builder(&local).build().unwrap();
    let good = token(&client, SCOPE).await;
    let answer = call(&api, &format!("Bearer {good}")).await;
    assert_eq!(answer.status(), 200);
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body["azp"], CLIENT_ID);
    assert_eq!(body["roles"], serde_json::json!(["User.Read.All"]));

    let other = token(&client, "api://other/.default").await;
    let (elsewhere, _) = start(Application::new(CLIENT_ID)).await;
    let foreign = token(&builder(&elsewhere).build().unwrap(), SCOPE).await;
    let (head, signature) = good.rsplit_once('.').unwrap();
    let (_, claims) = head.split_once('.').unwrap();
    for (name, header) in [
        ("none", String::new()),
        ("another scheme", format!("Basic {good}")),
        ("no token", "Bearer x".to_owned()),
        ("another resource's", format!("Bearer {other}")),
        ("another authority's", format!("Bearer {foreign}")),
        ("unsigned", format!("Bearer {head}.")),
        (
            "no algorithm",
            format!("Bearer eyJhbGciOiJub25lIn0.{claims}."),
        ),
        ("a part of it", format!("Bearer {claims}.{signature}")),
    ] {
        let answer = call(&api, &header).await;
        assert_eq!(answer.status(), 401, "{name}");
        let challenge = &Challenge::from_headers(answer.headers())[0];
        assert!(
            challenge.is_bearer() && challenge.claims().is_none(),
            "{name}"
        );
        let body: Value = answer.json().await.unwrap();
        assert_eq!(
            body["error"]["code"], "InvalidAuthenticationToken",
            "{name}"
        );
    }
    assert_eq!(api.requests(), 9);
}

#[tokio::test]
async fn an_expired_token_is_rejected() {
    let second = Duration::from_secs(1);
    let (local, api) = start(Application::new(CLIENT_ID).token_lifetime(second)).await;
    let header = format!(
        "Bearer {}",
        token(&builder(&local).build().unwrap(), SCOPE).await
    );
    while call(&api, &header).await.status() == 200 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let body: Value = call(&api, &header).await.json().await.unwrap();
    assert!(body.to_string().contains("the token is expired"), "{body}");
}

/// As in Entra, a client that declares `cp1` gets tokens for a day, which can be revoked.
#[tokio::test]
async fn a_token_of_a_client_with_cp1_can_be_revoked() {
    let (local, api) = start(Application::new(CLIENT_ID)).await;
    for (capabilities, lifetime, status) in [(&[][..], 3599, 200), (&["cp1"], 86_399, 401)] {
        let client = builder(&local).client_capabilities(capabilities.iter().copied());
        let client = client.build().unwrap();
        let token = token(&client, SCOPE).await;
        let claims = claims_of(&token);
        let times = ["exp", "nbf"].map(|name| claims[name].as_u64().unwrap());
        assert_eq!(times[0] - times[1], lifetime);
        let header = format!("Bearer {token}");
        assert_eq!(call(&api, &header).await.status(), 200);
        local.revoke_tokens(TENANT, CLIENT_ID);
        let answer = call(&api, &header).await;
        assert_eq!(answer.status(), status);
        if status == 401 {
            let challenge = &Challenge::from_headers(answer.headers())[0];
            assert_eq!(challenge.error(), Some("insufficient_claims"));
            assert!(challenge.claims().unwrap().contains("nbf"));
        }
        // A token that is issued after the revocation is valid.
        let client = builder(&local)
            .client_capabilities(["cp1"])
            .build()
            .unwrap();
        let header = format!("Bearer {}", self::token(&client, SCOPE).await);
        assert_eq!(call(&api, &header).await.status(), 200);
    }
    local.revoke_tokens("nobody.example", CLIENT_ID);
}

/// The layer wraps a client of hyper.
#[tokio::test]
async fn the_client_of_hyper_continues_after_a_revocation() {
    let (local, api) = start(Application::new(CLIENT_ID)).await;
    let client = builder(&local)
        .client_capabilities(["cp1"])
        .build()
        .unwrap();
    let provider = client.token_provider(SCOPE).unwrap();
    let auth = BearerAuth::new(provider, [api.base_url()]).unwrap();
    let hyper: Client<_, String> = Client::builder(TokioExecutor::new()).build_http();
    let service = BearerAuthLayer::new(auth)
        .retry_with(|body: &String| Some(body.clone()))
        .layer(hyper);
    for token_requests in [1, 2] {
        let request = http::Request::get(format!("{}/v1.0/users", api.base_url()));
        let request = request.body(String::new()).unwrap();
        let answer = service.clone().oneshot(request).await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(local.token_requests().len(), token_requests);
        local.revoke_tokens(TENANT, CLIENT_ID);
    }
    assert_eq!(api.requests(), 3);
}
