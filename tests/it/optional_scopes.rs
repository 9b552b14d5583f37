//! Scopes of OpenID Connect that a provider does not have, as Google has no `offline_access`.

use confidential_client::delegated::{AuthorizationCodeFlow, AuthorizationRequest, Prompt};
use confidential_client::testing::{Application, LocalAuthority, ProviderRules, User};
use confidential_client::{Authority, ConfidentialClient, Error, TokenRequest, TokenSource};
use serde_json::{Value, json};
use url::Url;

use crate::support::openid::{BACK, FILES, ISSUER, OpenId, kinds};
use crate::support::{CLIENT_ID, SECRET, TENANT, client_of};

const DRIVE: &str = "api://drive/Files.Read";
const ADELE: &str = "adele@contoso.onmicrosoft.com";

fn parameter(page: &str, name: &str) -> Option<String> {
    let page = Url::parse(page).unwrap();
    let mut pairs = page.query_pairs();
    let pair = pairs.find(|(known, _)| known == name);
    pair.map(|(_, value)| value.into_owned())
}

#[tokio::test]
async fn a_scope_that_the_metadata_do_not_have_is_left_out() {
    let all = "files.read openid profile offline_access";
    for (supported, scopes, expected) in [
        (None, FILES, all),
        (
            Some(json!(["openid", "profile", "offline_access"])),
            FILES,
            all,
        ),
        (
            Some(json!(["openid", "email", "profile"])),
            FILES,
            "files.read openid profile",
        ),
        (
            Some(json!(["openid", "offline_access"])),
            FILES,
            "files.read openid offline_access",
        ),
        (Some(json!(["openid"])), FILES, "files.read openid"),
        (Some(json!("openid")), FILES, all),
        (Some(Value::Null), FILES, all),
        // The caller knows better than the metadata.
        (
            Some(json!(["openid"])),
            "files.read offline_access",
            "files.read offline_access openid",
        ),
    ] {
        let provider = OpenId::new(ISSUER);
        if let Some(supported) = &supported {
            provider.publish("scopes_supported", supported.clone());
        }
        let client = provider.client(Authority::oidc(ISSUER));
        let request = AuthorizationRequest::new(BACK, scopes);
        let (page, _) = client.authorization_request_url(&request).await.unwrap();
        assert_eq!(
            parameter(&page, "scope").unwrap(),
            expected,
            "{supported:?}"
        );
        let signed_in = provider.sign_in_with(&client, &request, provider.claims());
        let signed_in = signed_in.await.unwrap();
        assert_eq!(provider.forms()[0]["scope"], expected, "{supported:?}");
        // The key of the token has the caller's scopes alone.
        let again = client
            .acquire_token_silent(signed_in.account(), scopes)
            .await;
        assert_eq!(again.unwrap().source(), TokenSource::Cache, "{supported:?}");
    }
}

#[tokio::test]
async fn microsofts_authorities_get_all_scopes() {
    for (authority, issuer, _) in kinds() {
        if authority.to_string() == ISSUER {
            continue;
        }
        let provider = OpenId::new(&issuer);
        provider.publish("scopes_supported", json!(["openid"]));
        let client = provider.client(authority.clone());
        let request = AuthorizationRequest::new(BACK, FILES);
        let (page, _) = client.authorization_request_url(&request).await.unwrap();
        let scope = parameter(&page, "scope").unwrap();
        assert!(
            scope.ends_with("openid profile offline_access"),
            "{authority}"
        );
    }
}

async fn google_like() -> (LocalAuthority, ConfidentialClient) {
    let rules = ProviderRules::openid().without_offline_access();
    let local = LocalAuthority::builder()
        .rules(rules)
        .start()
        .await
        .unwrap();
    let app = Application::new(CLIENT_ID)
        .secret(SECRET)
        .redirect_uri(BACK)
        .delegated("api://drive", "Files.Read");
    local.register(TENANT, app);
    local.register_user(TENANT, User::new(ADELE));
    let authority = Authority::oidc(local.issuer(TENANT).unwrap());
    let client = client_of(&local).authority(authority).client_secret(SECRET);
    (local, client.build().unwrap())
}

/// Google has the query parameter `access_type=offline` in place of the scope.
#[tokio::test]
async fn a_user_signs_in_where_offline_access_is_rejected() {
    let (local, client) = google_like().await;
    for is_offline in [false, true] {
        let mut request = AuthorizationRequest::new(BACK, DRIVE).prompt(Prompt::Consent);
        if is_offline {
            request = request.query_parameter("access_type", "offline");
        }
        let (page, flow) = client.authorization_request_url(&request).await.unwrap();
        assert_eq!(parameter(&page, "access_type").is_some(), is_offline);
        let kept = serde_json::to_string(&flow).unwrap();
        let flow: AuthorizationCodeFlow = serde_json::from_str(&kept).unwrap();
        let back = local.sign_in(page, ADELE).await.unwrap();
        let signed_in = client.acquire_token_by_authorization_code(flow, back);
        let account = signed_in.await.unwrap().account().clone();
        let sent = local.token_requests().pop().unwrap();
        assert_eq!(
            sent.field("scope"),
            Some("api://drive/Files.Read openid profile")
        );
        assert_eq!(sent.field("access_type"), None);
        let forced = TokenRequest::new(DRIVE).force_refresh();
        let refreshed = client.acquire_token_silent(&account, forced).await;
        match is_offline {
            true => assert_eq!(refreshed.unwrap().source(), TokenSource::IdentityProvider),
            false => {
                let error = refreshed.unwrap_err();
                assert!(matches!(error, Error::InteractionRequired(_)), "{error:?}");
            }
        }
    }
    // The provider is as strict as it says.
    let request = AuthorizationRequest::new(BACK, [DRIVE, "offline_access"].as_slice());
    let (page, flow) = client.authorization_request_url(&request).await.unwrap();
    let back = local.sign_in(page, ADELE).await.unwrap();
    let rejected = client.acquire_token_by_authorization_code(flow, back).await;
    let error = rejected.unwrap_err();
    assert_eq!(error.server_error().unwrap().error(), "invalid_scope");
}

#[tokio::test]
async fn a_parameter_of_the_page_is_not_one_that_the_client_sends() {
    let provider = OpenId::new(ISSUER);
    let client = provider.client(Authority::oidc(ISSUER));
    let request = || AuthorizationRequest::new(BACK, FILES);
    for (request, expected) in [
        (
            request().query_parameter("scope", "a"),
            "'scope' is reserved",
        ),
        (request().query_parameter("", "a"), "no name"),
        (
            request()
                .login_hint("adele")
                .query_parameter("login_hint", "megan"),
            "'login_hint' is in the URL",
        ),
        (
            request()
                .prompt(Prompt::Consent)
                .query_parameter("Prompt", "none"),
            "'Prompt' is in the URL",
        ),
        (
            AuthorizationRequest::new(
                BACK,
                TokenRequest::new(FILES).query_parameter("login_hint", "megan"),
            )
            .login_hint("adele"),
            "'login_hint' is in the URL",
        ),
    ] {
        let error = client
            .authorization_request_url(&request)
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        assert!(error.to_string().contains(expected), "{error}");
    }
    let twice = request()
        .query_parameter("b", "1")
        .query_parameter("b", "2");
    let (page, _) = client.authorization_request_url(&twice).await.unwrap();
    assert!(page.ends_with("&b=1&b=2"), "{page}");
}
