//! Routes of an axum server that the extractors protect, over real HTTP.

use axum::Router;
use axum::extract::{FromRef, Path};
use axum::routing::get;
use confidential_client::adapter::{AcceptedToken, PermittedToken};
use confidential_client::resource::{AccessDenied, Permission, TokenValidator, UserNotAllowed};
use confidential_client::testing::{Application, LocalAuthority};
use confidential_client::{Authority, Challenge};
use reqwest::Response;

use crate::support::issuer::{
    API, Issuer, RSA, application_claims, header, user_claims, user_token, with,
};
use crate::support::{CLIENT_ID, SECRET, TENANT, client_of};

struct ReadFiles;

impl Permission for ReadFiles {
    const SCOPES: &'static [&'static str] = &["Files.Read"];
    const ROLES: &'static [&'static str] = &["Files.Read.All"];
}

/// An application's state, of which the validator is a part.
#[derive(Clone)]
struct App {
    validator: TokenValidator,
}

impl FromRef<App> for TokenValidator {
    fn from_ref(app: &App) -> Self {
        app.validator.clone()
    }
}

async fn me(AcceptedToken(token): AcceptedToken) -> String {
    token.client_id().unwrap_or_default().to_owned()
}

async fn files(token: PermittedToken<ReadFiles>) -> String {
    format!("{}", token.is_user())
}

async fn own_file(
    Path(owner): Path<String>,
    token: PermittedToken<ReadFiles>,
) -> Result<&'static str, UserNotAllowed> {
    token.authorize_user(|user| user.object_id() == Some(&owner))?;
    Ok("what is in the file")
}

async fn step_up(AcceptedToken(token): AcceptedToken) -> Result<&'static str, AccessDenied> {
    token.require_authentication_context("c1")?;
    Ok("the vault")
}

async fn serve(validator: TokenValidator) -> String {
    let router = Router::new()
        .route("/me", get(me))
        .route("/files", get(files))
        .route("/drives/{owner}/file", get(own_file))
        .route("/vault", get(step_up));
    let app = App { validator };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router.with_state(app)).await });
    base
}

async fn call(url: String, token: Option<&str>) -> Response {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut request = http.get(url);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    request.send().await.unwrap()
}

#[tokio::test]
async fn a_route_answers_as_the_refusal_says() {
    let base = serve(Issuer::new().validator()).await;
    let user = user_token();
    let other = RSA.sign(&header(), &with(user_claims(), "scp", "User.Read"));
    let application = RSA.sign(&header(), &application_claims());
    for (path, token, status, error, body) in [
        ("me", None, 401, None, "the request carries no bearer token"),
        (
            "me",
            Some("x"),
            401,
            Some("invalid_token"),
            "the token is not a signed JWT",
        ),
        ("me", Some(&*user), 200, None, "client"),
        ("files", None, 401, None, "no bearer token"),
        ("files", Some(&user), 200, None, "true"),
        ("files", Some(&application), 200, None, "false"),
        (
            "files",
            Some(&other),
            403,
            Some("insufficient_scope"),
            "not granted the scope 'Files.Read'",
        ),
        (
            "drives/adele/file",
            Some(&user),
            200,
            None,
            "what is in the file",
        ),
        (
            "drives/ben/file",
            Some(&user),
            403,
            None,
            "the user may not do this",
        ),
        (
            "drives/adele/file",
            Some(&other),
            403,
            Some("insufficient_scope"),
            "not granted",
        ),
        (
            "drives/ben/file",
            Some(&other),
            403,
            Some("insufficient_scope"),
            "not granted",
        ),
        (
            "drives/adele/file",
            Some(&application),
            403,
            None,
            "does not act for a user",
        ),
        (
            "vault",
            Some(&user),
            401,
            Some("insufficient_claims"),
            "authentication context 'c1'",
        ),
    ] {
        let response = call(format!("{base}/{path}"), token).await;
        assert_eq!(response.status(), status, "{path}");
        let challenges = Challenge::from_headers(response.headers());
        assert_eq!(
            challenges.first().and_then(Challenge::error),
            error,
            "{path}"
        );
        let text = response.text().await.unwrap();
        assert!(text.contains(body), "{path}: {text}");
    }
}

#[tokio::test]
async fn without_keys_a_route_says_when_to_come_again() {
    let issuer = Issuer::new();
    issuer.is_down(true);
    let base = serve(issuer.validator()).await;
    let response = call(format!("{base}/me"), Some(&user_token())).await;
    assert_eq!(response.status(), 503);
    assert!(
        response.headers()["retry-after"]
            .to_str()
            .unwrap()
            .parse::<u64>()
            .unwrap()
            > 0
    );
    assert!(!response.headers().contains_key("www-authenticate"));
}

#[tokio::test]
async fn a_daemon_of_a_local_authority_is_let_in_by_its_role() {
    let local = LocalAuthority::start().await.unwrap();
    local.register(
        TENANT,
        Application::new(CLIENT_ID)
            .secret(SECRET)
            .role(API, "Files.Read.All"),
    );
    let as_openid = Authority::oidc(issuer_of(&local).await);
    let builder = |authority| TokenValidator::builder(authority).audience(API);
    for validator in [
        builder(local.authority(TENANT)).single_tenant(),
        builder(local.authority(TENANT)).any_tenant(),
        builder(as_openid).single_tenant(),
    ] {
        let base = serve(validator.build().unwrap()).await;
        let client = client_of(&local).client_secret(SECRET).build().unwrap();
        for (scope, status) in [("api://drive/.default", 200), ("api://other/.default", 401)] {
            let token = client.acquire_token_for_client(scope).await.unwrap();
            let response = call(format!("{base}/files"), Some(token.secret())).await;
            assert_eq!(response.status(), status, "{scope}");
        }
    }
}

/// As its metadata says.
async fn issuer_of(local: &LocalAuthority) -> String {
    let url = format!(
        "{}/v2.0/.well-known/openid-configuration",
        local.authority(TENANT)
    );
    let metadata: serde_json::Value = call(url, None).await.json().await.unwrap();
    metadata["issuer"].as_str().unwrap().to_owned()
}
