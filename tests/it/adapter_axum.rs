//! Protected routes of an axum server, called over HTTP.

use axum::Router;
use axum::extract::{FromRef, Path};
use axum::response::IntoResponse;
use axum::routing::get;
use confidential_client::adapter::{AcceptedToken, PermittedToken};
use confidential_client::delegated::UserAssertion;
use confidential_client::resource::{AccessDenied, Permission, TokenValidator, UserNotAllowed};
use confidential_client::testing::{Application, Fault, LocalAuthority, User};
use confidential_client::{Authority, Challenge};
use http::StatusCode;
use reqwest::Response;

use crate::support::issuer::{
    API, Issuer, RSA, STRANGER, application_claims, header, user_claims, user_token, with,
};
use crate::support::{CLIENT_ID, SECRET, TENANT, client_of};

const ADELE: &str = "adele@contoso.onmicrosoft.com";
const WEB: &str = "11111111-0000-0000-0000-000000000001";
const DRIVE: &str = "33333333-0000-0000-0000-000000000003";

struct ReadFiles;

impl Permission for ReadFiles {
    const SCOPES: &'static [&'static str] = &["Files.Read"];
    const ROLES: &'static [&'static str] = &["Files.Read.All"];
}

/// The state of an application, with the validator as a part.
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
    Ok("the content of the file")
}

async fn greeting(token: Option<AcceptedToken>) -> String {
    match &token {
        Some(AcceptedToken(token)) => format!("hello {}", token.object_id().unwrap_or_default()),
        None => "hello stranger".to_owned(),
    }
}

async fn public_files(token: Option<PermittedToken<ReadFiles>>) -> &'static str {
    match token {
        Some(_) => "all files",
        None => "public files",
    }
}

async fn edit(AcceptedToken(token): AcceptedToken) -> Result<&'static str, AccessDenied> {
    token.require_any(&["Files.Read"], &["Editor"])?;
    token.require_user_role("Editor")?;
    Ok("edited")
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
        .route("/greeting", get(greeting))
        .route("/public", get(public_files))
        .route("/edit", get(edit))
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
async fn the_response_has_the_status_and_challenge_of_the_rejection() {
    let base = serve(Issuer::new().validator()).await;
    let user = user_token();
    let other = RSA.sign(&header(), &with(user_claims(), "scp", "User.Read"));
    let application = RSA.sign(&header(), &application_claims());
    let capable = RSA.sign(&header(), &with(user_claims(), "xms_cc", "cp1"));
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
            "the content of the file",
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
            Some(&capable),
            401,
            Some("insufficient_claims"),
            "authentication context 'c1'",
        ),
        (
            "vault",
            Some(&user),
            403,
            Some("insufficient_scope"),
            "does not declare that it can answer a claims challenge",
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
async fn an_optional_token_is_none_only_without_an_authorization_header() {
    let base = serve(Issuer::new().validator()).await;
    let bearer = |token: String| format!("Bearer {token}");
    let user = bearer(user_token());
    let other_scope = bearer(RSA.sign(&header(), &with(user_claims(), "scp", "User.Read")));
    let expired = bearer(RSA.sign(&header(), &with(user_claims(), "exp", 1)));
    let other_api = bearer(RSA.sign(&header(), &with(user_claims(), "aud", "api://other")));
    let forged = bearer(STRANGER.sign(&header(), &user_claims()));
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let invalid_token = Some("invalid_token");
    for (name, headers, status, error, greeting, public) in [
        ("none", vec![], 200, None, "hello stranger", "public files"),
        ("valid", vec![&*user], 200, None, "hello adele", "all files"),
        (
            "expired",
            vec![&expired],
            401,
            invalid_token,
            "has expired",
            "has expired",
        ),
        (
            "for another API",
            vec![&other_api],
            401,
            invalid_token,
            "audience",
            "audience",
        ),
        (
            "forged",
            vec![&forged],
            401,
            invalid_token,
            "signature",
            "signature",
        ),
        (
            "no JWT",
            vec!["Bearer x"],
            401,
            invalid_token,
            "not a signed JWT",
            "not a signed JWT",
        ),
        (
            "another scheme",
            vec!["Basic YTpi"],
            401,
            None,
            "no bearer token",
            "no bearer token",
        ),
        (
            "an empty header",
            vec![""],
            401,
            None,
            "no bearer token",
            "no bearer token",
        ),
        (
            "an empty token",
            vec!["Bearer "],
            400,
            Some("invalid_request"),
            "no token",
            "no token",
        ),
        (
            "two",
            vec![&user, &user],
            400,
            Some("invalid_request"),
            "more than one",
            "more than one",
        ),
    ] {
        for (path, body) in [("greeting", greeting), ("public", public)] {
            let mut request = http.get(format!("{base}/{path}"));
            for value in &headers {
                request = request.header("authorization", *value);
            }
            let response = request.send().await.unwrap();
            assert_eq!(response.status(), status, "{name}: {path}");
            let challenges = Challenge::from_headers(response.headers());
            assert_eq!(
                challenges.len(),
                usize::from(status != 200),
                "{name}: {path}"
            );
            let found = challenges.first().and_then(Challenge::error);
            assert_eq!(found, error, "{name}: {path}");
            let text = response.text().await.unwrap();
            assert!(text.contains(body), "{name}: {path}: {text}");
        }
    }
    // A valid token without the permission is not treated as no token.
    for (path, status) in [("greeting", 200), ("public", 403)] {
        let request = http.get(format!("{base}/{path}"));
        let request = request.header("authorization", &other_scope);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), status, "{path}");
        let challenges = Challenge::from_headers(response.headers());
        let expected = (status == 403).then_some("insufficient_scope");
        let found = challenges.first().and_then(Challenge::error);
        assert_eq!(found, expected, "{path}");
    }
}

#[tokio::test]
async fn an_optional_token_without_signing_keys_is_an_error() {
    let issuer = Issuer::new();
    issuer.is_down(true);
    let base = serve(issuer.validator()).await;
    for path in ["greeting", "public"] {
        let anonymous = call(format!("{base}/{path}"), None).await;
        assert_eq!(anonymous.status(), 200, "{path}");
        assert_eq!(issuer.asked(), (0, 0), "{path}");
    }
    for path in ["greeting", "public"] {
        let response = call(format!("{base}/{path}"), Some(&user_token())).await;
        assert_eq!(response.status(), 503, "{path}");
        assert!(response.headers().contains_key("retry-after"), "{path}");
    }
}

/// A `LocalAuthority` issues no user roles. The test's own issuer signs the token of the editor.
#[tokio::test]
async fn the_role_of_an_application_is_not_the_role_of_a_user() {
    let local = LocalAuthority::start().await.unwrap();
    let daemon = Application::new(CLIENT_ID).secret(SECRET);
    local.register(TENANT, daemon.role(API, "Editor"));
    let web = Application::new(WEB).secret("web");
    local.register(TENANT, web);
    let drive = Application::new(DRIVE).publishes(API, ["Files.Read"]);
    local.register(TENANT, drive);
    let adele = User::new(ADELE);
    local.register_user(TENANT, adele);
    local.admin_consent(TENANT, WEB, "api://drive/Files.Read");

    let validator = TokenValidator::builder(local.authority(TENANT))
        .audience(API)
        .single_tenant()
        .build()
        .unwrap();
    let client = client_of(&local).client_secret(SECRET).build().unwrap();
    let application = client.acquire_token_for_client("api://drive/.default");
    let application = application.await.unwrap();
    let user = local.user_token(TENANT, WEB, ADELE, "api://drive/Files.Read");
    let user = user.unwrap();
    // The application has the role, and the application's own check passes.
    let claims = validator.validate(application.secret()).await.unwrap();
    claims.require_application_role("Editor").unwrap();
    let base = serve(validator).await;
    for (name, token, body) in [
        (
            "an application with the role",
            application.secret(),
            "does not act for a user",
        ),
        (
            "a user without a role",
            &user,
            "does not have the role 'Editor'",
        ),
    ] {
        let response = call(format!("{base}/edit"), Some(token)).await;
        assert_eq!(response.status(), 403, "{name}");
        // Another token does not help, so there is no challenge.
        assert!(
            !response.headers().contains_key("www-authenticate"),
            "{name}"
        );
        let text = response.text().await.unwrap();
        assert!(text.contains(body), "{name}: {text}");
    }

    let base = serve(Issuer::new().validator()).await;
    let editor = with(user_claims(), "roles", serde_json::json!(["Editor"]));
    let editor = RSA.sign(&header(), &editor);
    let response = call(format!("{base}/edit"), Some(&editor)).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.text().await.unwrap(), "edited");
}

#[tokio::test]
async fn without_signing_keys_the_response_is_a_503_with_retry_after() {
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
async fn a_daemon_of_a_local_authority_is_accepted_by_role() {
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

/// Reads the issuer from the metadata.
async fn issuer_of(local: &LocalAuthority) -> String {
    let url = format!(
        "{}/v2.0/.well-known/openid-configuration",
        local.authority(TENANT)
    );
    let metadata: serde_json::Value = call(url, None).await.json().await.unwrap();
    metadata["issuer"].as_str().unwrap().to_owned()
}

/// Serves a web API that calls the drive on behalf of its user.
async fn serve_middle_tier(local: &LocalAuthority) -> String {
    let validator = TokenValidator::builder(local.authority(TENANT))
        .audience("api://tier")
        .single_tenant()
        .build()
        .unwrap();
    let client = client_of(local).client_secret(SECRET).build().unwrap();
    let mail = async move |AcceptedToken(token): AcceptedToken| {
        let user = UserAssertion::new(token.token());
        let scope = "api://drive/Files.Read";
        let outcome = client.acquire_token_on_behalf_of(&user, scope).await;
        outcome
            .map(|_| "the mail")
            .map_err(|error| match token.challenge_from(&error) {
                Some(challenge) => challenge.into_response(),
                None => StatusCode::FORBIDDEN.into_response(),
            })
    };
    let router = Router::new()
        .route("/mail", get(mail))
        .with_state(validator);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    base
}

#[tokio::test]
async fn an_on_behalf_of_refusal_does_not_reach_the_caller_without_the_claims_or_with_aadsts_text()
{
    let local = LocalAuthority::start().await.unwrap();
    let tier = Application::new(CLIENT_ID)
        .secret(SECRET)
        .publishes("api://tier", ["access_as_user"]);
    local.register(TENANT, tier);
    let drive = Application::new(DRIVE).publishes("api://drive", ["Files.Read"]);
    local.register(TENANT, drive);
    local.register(TENANT, Application::new(WEB).secret("web"));
    local.register_user(TENANT, User::new(ADELE));
    local.consent(TENANT, WEB, ADELE, "api://tier/access_as_user");
    for code in [50076, 50079, 53003] {
        let base = serve_middle_tier(&local).await;
        let token = local
            .user_token(TENANT, WEB, ADELE, "api://tier/access_as_user")
            .unwrap();
        local.script([Fault::aadsts(code)]);
        let response = call(format!("{base}/mail"), Some(&token)).await;
        assert_eq!(response.status(), 401, "{code}");
        let header = response.headers()["www-authenticate"].to_str().unwrap();
        let header = header.to_owned();
        let challenge = Challenge::from_headers(response.headers()).remove(0);
        assert_eq!(challenge.error(), Some("insufficient_claims"), "{code}");
        assert!(challenge.authorization_uri().is_some(), "{code}");
        let claims = challenge.claims().unwrap();
        assert!(claims.contains("capolids"), "{code}: {claims}");
        let text = response.text().await.unwrap();
        for hidden in [
            "AADSTS",
            &code.to_string(),
            "Trace",
            "Correlation",
            "multi-factor",
        ] {
            assert!(!header.contains(hidden), "{code}: {header}");
            assert!(!text.contains(hidden), "{code}: {text}");
        }
    }
    // Without consent there are no claims that the client could send.
    let base = serve_middle_tier(&local).await;
    let token = local
        .user_token(TENANT, WEB, ADELE, "api://tier/access_as_user")
        .unwrap();
    let response = call(format!("{base}/mail"), Some(&token)).await;
    assert_eq!(response.status(), 403);
    assert!(!response.headers().contains_key("www-authenticate"));
    local.consent(TENANT, CLIENT_ID, ADELE, "api://drive/Files.Read");
    let base = serve_middle_tier(&local).await;
    let response = call(format!("{base}/mail"), Some(&token)).await;
    assert_eq!(response.text().await.unwrap(), "the mail");
}
