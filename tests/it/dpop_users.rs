//! Users' tokens that are bound to a proof key: sign-in, refresh, on-behalf-of.

use confidential_client::delegated::{AuthorizationRequest, UserAssertion};
use confidential_client::testing::{Application, LocalAuthority, ProviderRules, User};
use confidential_client::{ConfidentialClient, Error, TokenScheme, TokenSource};
use reqwest::Url;

use crate::support::dpop::{OTHER_KEY, client_of, key, token_proofs};
use crate::support::{CLIENT_ID, SECRET, TENANT, claims_of};

const ADELE: &str = "adele@contoso.onmicrosoft.com";
const BACK: &str = "https://web.example.org/signed-in";
const FILES: &str = "api://drive/Files.Read";

async fn authority() -> LocalAuthority {
    let rules = ProviderRules::openid();
    let local = LocalAuthority::builder().rules(rules).strict_rotation();
    let local = local.start().await.unwrap();
    let web = Application::new(CLIENT_ID)
        .secret(SECRET)
        .redirect_uri(BACK)
        .publishes("api://web", ["access"])
        .dpop_bound_access_tokens();
    local.register(TENANT, web.delegated("api://drive", "Files.Read"));
    local.register(
        TENANT,
        Application::new("front").delegated("api://web", "access"),
    );
    local.register_user(TENANT, User::new(ADELE));
    local.consent(TENANT, CLIENT_ID, ADELE, FILES);
    local.consent(TENANT, "front", ADELE, "api://web/access");
    local
}

fn client(local: &LocalAuthority) -> ConfidentialClient {
    client_of(local).dpop(key()).build().unwrap()
}

/// Signs Adele in, and returns the flow and the redirect.
async fn sign_in(
    local: &LocalAuthority,
    client: &ConfidentialClient,
) -> (
    confidential_client::delegated::AuthorizationCodeFlow,
    String,
) {
    let request = AuthorizationRequest::new(BACK, FILES);
    let (page, flow) = client.authorization_request_url(&request).await.unwrap();
    let parsed = Url::parse(&page).unwrap();
    let bound = parsed.query_pairs().find(|(name, _)| name == "dpop_jkt");
    assert_eq!(bound.unwrap().1, key().thumbprint(), "RFC 9449 section 10");
    (flow, local.sign_in(&page, ADELE).await.unwrap())
}

#[tokio::test]
async fn a_users_tokens_are_bound_whatever_the_grant() {
    let local = authority().await;
    let client = client(&local);
    let (flow, back) = sign_in(&local, &client).await;
    let signed_in = client.acquire_token_by_authorization_code(flow, back);
    let signed_in = signed_in.await.unwrap();
    let account = signed_in.account().clone();
    let first = signed_in.access_token().clone();

    let request = confidential_client::TokenRequest::new(FILES).force_refresh();
    let refreshed = client
        .acquire_token_silent(&account, &request)
        .await
        .unwrap();
    assert_ne!(refreshed.secret(), first.secret());

    let assertion = local.user_token(TENANT, "front", ADELE, "api://web/access");
    let assertion = UserAssertion::new(assertion.unwrap());
    let on_behalf_of = client.acquire_token_on_behalf_of(&assertion, FILES);
    let on_behalf_of = on_behalf_of.await.unwrap();
    for token in [&first, &refreshed, &on_behalf_of] {
        assert_eq!(token.scheme(), TokenScheme::Dpop);
        assert_eq!(token.source(), TokenSource::IdentityProvider);
        let claims = claims_of(token.secret());
        assert_eq!(claims["cnf"]["jkt"], key().thumbprint());
        let mut request = http::Request::get("https://drive.example/")
            .body(())
            .unwrap();
        client.authorize(token, &mut request).await.unwrap();
    }
    let grants: Vec<_> = local.token_requests().iter().map(grant_type).collect();
    let expected = [
        "authorization_code",
        "refresh_token",
        "urn:ietf:params:oauth:grant-type:jwt-bearer",
    ];
    assert_eq!(grants, expected);
    assert_eq!(token_proofs(&local).len(), 3);
}

fn grant_type(request: &confidential_client::testing::RecordedRequest) -> String {
    request.field("grant_type").unwrap().to_owned()
}

/// A provider that refuses the proof has not redeemed the code or the refresh token, which strict
/// rotation would show.
#[tokio::test]
async fn a_grant_that_is_valid_once_survives_the_demand_for_a_nonce() {
    let local = authority().await;
    local.require_dpop_nonce();
    let client = client(&local);
    let (flow, back) = sign_in(&local, &client).await;
    let signed_in = client.acquire_token_by_authorization_code(flow, back);
    let account = signed_in.await.unwrap().account().clone();
    assert_eq!(local.token_requests().len(), 2, "the code, and again");
    local.require_dpop_nonce();
    let request = confidential_client::TokenRequest::new(FILES).force_refresh();
    let token = client
        .acquire_token_silent(&account, &request)
        .await
        .unwrap();
    assert_eq!(token.source(), TokenSource::IdentityProvider);
    let requests = local.token_requests();
    assert_eq!(requests.len(), 4, "the refresh token, and again");
    let sent = |request: usize, field: &str| requests[request].field(field).unwrap().to_owned();
    assert_eq!(sent(0, "code"), sent(1, "code"));
    assert_eq!(sent(2, "refresh_token"), sent(3, "refresh_token"));
    client
        .acquire_token_silent(&account, &request)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_code_is_bound_to_the_key_of_the_sign_in() {
    let local = authority().await;
    let other = confidential_client::credential::DpopKey::from_pem(OTHER_KEY).unwrap();
    let other = client_of(&local).dpop(other).build().unwrap();
    let (flow, back) = sign_in(&local, &client(&local)).await;
    let redeemed = other.acquire_token_by_authorization_code(flow, back).await;
    let error = redeemed.unwrap_err();
    let Error::Server(server) = &error else {
        panic!("{error:?}");
    };
    assert_eq!(server.error(), "invalid_grant");
    assert!(error.to_string().contains("dpop_jkt"), "{error}");
}

/// Refresh tokens of confidential clients are bound to the credential and not to the key.
#[tokio::test]
async fn a_refresh_token_outlives_the_key() {
    let local = authority().await;
    let store = confidential_client::testing::LocalSharedCache::new();
    let client = |pem: &str| {
        let options = confidential_client::cache::SharedCacheOptions::without_encryption(
            "a name key of thirty-two letters",
        );
        let key = confidential_client::credential::DpopKey::from_pem(pem).unwrap();
        let client = client_of(&local)
            .dpop(key)
            .shared_cache(store.clone(), options);
        client.build().unwrap()
    };
    let first = client(crate::support::dpop::KEY);
    let (flow, back) = sign_in(&local, &first).await;
    let signed_in = first.acquire_token_by_authorization_code(flow, back);
    let account = signed_in.await.unwrap().account().clone();
    // A later deployment has another key, and the user stays signed in.
    let second = client(OTHER_KEY);
    let token = second.acquire_token_silent(&account, FILES).await.unwrap();
    assert_eq!(token.source(), TokenSource::IdentityProvider);
    let mut request = http::Request::get("https://drive.example/")
        .body(())
        .unwrap();
    second.authorize(&token, &mut request).await.unwrap();
    let grants: Vec<_> = local.token_requests().iter().map(grant_type).collect();
    assert_eq!(grants, ["authorization_code", "refresh_token"]);
}
