//! Sign-outs at the identity provider ([OpenID Connect RP-Initiated Logout 1.0]).
//!
//! [OpenID Connect RP-Initiated Logout 1.0]: https://openid.net/specs/openid-connect-rpinitiated-1_0.html

use confidential_client::delegated::{AuthorizationRequest, EndSessionRequest};
use confidential_client::testing::{Application, LocalAuthority, ProviderRules, User};
use confidential_client::{Authority, Cloud, ConfidentialClient, Error};
use http::StatusCode;
use http::header::LOCATION;

use crate::support::openid::{ISSUER, OpenId};
use crate::support::{CLIENT_ID, SECRET, TENANT, client_of};

const BACK: &str = "https://app.example.org/signed-in";
const BYE: &str = "https://app.example.org/signed-out";
const FILES: &str = "api://drive/Files.Read";
const ADELE: &str = "adele@contoso.onmicrosoft.com";
const OTHER: &str = "22222222-3333-4444-5555-666666666666";

fn request() -> EndSessionRequest {
    EndSessionRequest::new()
}

#[tokio::test]
async fn each_kind_of_authority_has_its_page() {
    let provider = OpenId::new(ISSUER);
    provider.publish("end_session_endpoint", "https://id.example.org/bye?theme=a");
    for (authority, tenant, expected) in [
        (
            Authority::entra(Cloud::Public, TENANT),
            None,
            "https://login.microsoftonline.com/contoso.onmicrosoft.com/oauth2/v2.0/logout?client_id=web",
        ),
        (
            Authority::entra(Cloud::UsGovernment, TENANT),
            Some("fabrikam.com"),
            "https://login.microsoftonline.us/fabrikam.com/oauth2/v2.0/logout?client_id=web",
        ),
        (
            Authority::external_id("login.contoso.com", "contoso.com"),
            None,
            "https://login.contoso.com/contoso.com/oauth2/v2.0/logout?client_id=web",
        ),
        (
            Authority::b2c("contoso.b2clogin.com", "contoso.com", "B2C_1_in"),
            None,
            "https://contoso.b2clogin.com/contoso.com/B2C_1_in/oauth2/v2.0/logout?client_id=web",
        ),
        (
            Authority::adfs("fs.contoso.com"),
            None,
            "https://fs.contoso.com/adfs/oauth2/logout?client_id=web",
        ),
        (
            Authority::oidc(ISSUER),
            None,
            "https://id.example.org/bye?theme=a&client_id=web",
        ),
    ] {
        let mut request = request();
        if let Some(tenant) = tenant {
            request = request.tenant(tenant);
        }
        let page = provider
            .client(authority.clone())
            .end_session_url(&request)
            .await;
        assert_eq!(page.unwrap(), expected, "{authority}");
    }
    assert_eq!(provider.forms().len(), 0);
}

#[tokio::test]
async fn a_sign_out_that_cannot_work_is_an_error() {
    let provider = OpenId::new(ISSUER);
    let client = provider.client(Authority::oidc(ISSUER));
    for (endpoint, expected) in [
        (None, "'end_session_endpoint'"),
        (Some("http://id.example.org/bye"), "'end_session_endpoint'"),
        (Some("bye"), "'end_session_endpoint'"),
    ] {
        if let Some(endpoint) = endpoint {
            provider.publish("end_session_endpoint", endpoint);
        }
        client.cache().clear();
        let error = client.end_session_url(&request()).await.unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        assert!(error.to_string().contains(expected), "{error}");
        assert!(error.to_string().contains(ISSUER), "{error}");
    }
    provider.publish("end_session_endpoint", "https://id.example.org/bye");
    client.cache().clear();
    client.end_session_url(&request()).await.unwrap();
    for (request, expected) in [
        (
            request().state("7"),
            "state(..) needs post_logout_redirect_uri",
        ),
        (
            request().post_logout_redirect_uri("/bye"),
            "the redirect URI \"/bye\"",
        ),
        (
            request().post_logout_redirect_uri("http://app.example.org"),
            "neither https",
        ),
        (request().id_token_hint("h1dden"), "not a JWT"),
        (request().id_token_hint(""), "not a JWT"),
        (request().id_token_hint(".."), "not a JWT"),
        (
            request().query_parameter("id_token_hint", "h1dden"),
            "by id_token_hint(..) alone",
        ),
        (
            request().query_parameter("post_logout_redirect_uri", "http://app.example.org"),
            "by post_logout_redirect_uri(..) alone",
        ),
        (
            request().query_parameter("Logout_Hint", "h1dden"),
            "by logout_hint(..) alone",
        ),
        (
            request().query_parameter("State", "7"),
            "'State' is reserved",
        ),
        (request().tenant("contoso.com"), "has no tenants"),
        (
            request()
                .logout_hint("h1dden")
                .query_parameter("logout_hint", "b"),
            "'logout_hint' is in the URL",
        ),
        (
            request().query_parameter("client_id", "b"),
            "'client_id' is reserved",
        ),
    ] {
        let error = client.end_session_url(&request).await.unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        assert!(error.to_string().contains(expected), "{error}");
        assert!(
            !format!("{error:?} {request:?}").contains("h1dden"),
            "{error:?}"
        );
    }
    let cognito = request().query_parameter("logout_uri", "https://app.example.org");
    let page = client.end_session_url(&cognito).await.unwrap();
    assert!(
        page.ends_with("client_id=web&logout_uri=https%3A%2F%2Fapp.example.org"),
        "{page}"
    );
}

async fn start(rules: ProviderRules) -> (LocalAuthority, ConfidentialClient) {
    let is_openid = format!("{rules:?}").contains("OpenId");
    let local = LocalAuthority::builder()
        .rules(rules)
        .start()
        .await
        .unwrap();
    let app = |id: &str| {
        Application::new(id)
            .secret(SECRET)
            .redirect_uri(BACK)
            .delegated("api://drive", "Files.Read")
    };
    local.register(TENANT, app(CLIENT_ID).post_logout_redirect_uri(BYE));
    local.register(TENANT, app(OTHER));
    local.register_user(TENANT, User::new(ADELE));
    let client = match is_openid {
        true => client_of(&local).authority(Authority::oidc(local.issuer(TENANT).unwrap())),
        false => client_of(&local),
    };
    (local, client.client_secret(SECRET).build().unwrap())
}

/// Opens the page as a browser does, and returns where the browser is sent.
async fn open(page: &str) -> (StatusCode, Option<String>, String) {
    let browser = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
    let response = browser.build().unwrap().get(page).send().await.unwrap();
    let location = response.headers().get(LOCATION);
    let location = location.map(|location| location.to_str().unwrap().to_owned());
    (response.status(), location, response.text().await.unwrap())
}

#[tokio::test]
async fn a_user_signs_out_and_comes_back_with_the_state() {
    for rules in [ProviderRules::entra(), ProviderRules::openid()] {
        let (local, client) = start(rules).await;
        let sign_in = AuthorizationRequest::new(BACK, FILES);
        let (page, flow) = client.authorization_request_url(&sign_in).await.unwrap();
        let back = local.sign_in(page, ADELE).await.unwrap();
        let signed_in = client.acquire_token_by_authorization_code(flow, back);
        let signed_in = signed_in.await.unwrap();

        client.remove_account(signed_in.account()).await.unwrap();
        let sign_out = request()
            .id_token_hint(signed_in.id_token().clone())
            .post_logout_redirect_uri(BYE)
            .state("s 7");
        let page = client.end_session_url(&sign_out).await.unwrap();
        let (status, location, _) = open(&page).await;
        assert_eq!(status, StatusCode::SEE_OTHER);
        assert_eq!(location.unwrap(), format!("{BYE}?state=s+7"));
        let gone = client
            .acquire_token_silent(signed_in.account(), FILES)
            .await;
        assert!(gone.unwrap_err().needs_user_interaction());

        // Without a URI the browser stays.
        let page = client.end_session_url(&request()).await.unwrap();
        let (status, location, html) = open(&page).await;
        assert_eq!((status, location), (StatusCode::OK, None));
        assert!(html.contains("Signed out"), "{html}");
    }
}

#[tokio::test]
async fn the_authority_redirects_to_a_registered_uri_alone() {
    let (local, client) = start(ProviderRules::openid()).await;
    let sign_in = AuthorizationRequest::new(BACK, FILES);
    let (page, flow) = client.authorization_request_url(&sign_in).await.unwrap();
    let back = local.sign_in(page, ADELE).await.unwrap();
    let signed_in = client.acquire_token_by_authorization_code(flow, back);
    let signed_in = signed_in.await.unwrap();
    let id_token = signed_in.id_token().expose();
    let (message, _) = id_token.rsplit_once('.').unwrap();
    let hint = |id_token: &str| {
        request()
            .id_token_hint(id_token)
            .post_logout_redirect_uri(BYE)
    };
    let other = ConfidentialClient::builder(OTHER)
        .authority(Authority::oidc(local.issuer(TENANT).unwrap()))
        .client_secret(SECRET)
        .build()
        .unwrap();
    for (client, request, expected) in [
        (&client, hint(id_token), StatusCode::SEE_OTHER),
        (
            &client,
            request().post_logout_redirect_uri(BYE),
            StatusCode::SEE_OTHER,
        ),
        (
            &client,
            hint(&format!("{message}.AAAA")),
            StatusCode::BAD_REQUEST,
        ),
        (
            &client,
            hint(signed_in.access_token().secret()),
            StatusCode::BAD_REQUEST,
        ),
        // A redirect URI of sign-ins is not one of sign-outs here.
        (
            &client,
            request().post_logout_redirect_uri(BACK),
            StatusCode::BAD_REQUEST,
        ),
        (&other, hint(id_token), StatusCode::BAD_REQUEST),
        (
            &other,
            request().post_logout_redirect_uri(BYE),
            StatusCode::BAD_REQUEST,
        ),
    ] {
        let page = client.end_session_url(&request).await.unwrap();
        let (status, location, html) = open(&page).await;
        assert_eq!(status, expected, "{request:?}: {html}");
        assert_eq!(location.is_some(), expected == StatusCode::SEE_OTHER);
    }
}
