//! The header `x-anchormailbox`, by which Microsoft Entra ID routes a request for a user.

use confidential_client::delegated::{AuthorizationRequest, UserAssertion};
use confidential_client::testing::{Application, LocalAuthority, ProviderRules, User};
use confidential_client::{Authority, ConfidentialClient, TokenRequest};

use crate::support::openid::{client_info, tokens};
use crate::support::{CLIENT_ID, Provider, SCOPE, SECRET, TENANT, client_of};

const BACK: &str = "https://app.example.org/signed-in";
const FILES: &str = "api://drive/Files.Read";
const MAIL: &str = "api://mail/Mail.Read";
const ADELE: &str = "adele@contoso.onmicrosoft.com";

async fn start(rules: ProviderRules) -> (LocalAuthority, ConfidentialClient) {
    let is_openid = format!("{rules:?}").contains("OpenId");
    let local = LocalAuthority::builder()
        .rules(rules)
        .start()
        .await
        .unwrap();
    let app = Application::new(CLIENT_ID)
        .secret(SECRET)
        .redirect_uri(BACK)
        .delegated("api://drive", "Files.Read")
        .delegated("api://mail", "Mail.Read");
    local.register(TENANT, app);
    local.register_user(TENANT, User::new(ADELE));
    local.consent(TENANT, CLIENT_ID, ADELE, format!("{FILES} {MAIL}"));
    let client = match is_openid {
        true => client_of(&local).authority(Authority::oidc(local.issuer(TENANT).unwrap())),
        false => client_of(&local),
    };
    (local, client.client_secret(SECRET).build().unwrap())
}

fn last_header(local: &LocalAuthority) -> Option<String> {
    let request = local.token_requests().pop().unwrap();
    request.header("x-anchormailbox").map(ToOwned::to_owned)
}

#[tokio::test]
async fn a_request_for_a_user_names_the_user_and_one_for_an_application_does_not() {
    let (local, client) = start(ProviderRules::entra()).await;
    client.acquire_token_for_client(SCOPE).await.unwrap();
    assert_eq!(last_header(&local), None);
    for (hint, expected) in [
        (None, None),
        (Some(ADELE), Some("upn:adele@contoso.onmicrosoft.com")),
        // The claim `login_hint` of an ID token, which is no name.
        (Some("O.CiQ4Zj"), None),
    ] {
        let mut request = AuthorizationRequest::new(BACK, FILES);
        if let Some(hint) = hint {
            request = request.login_hint(hint);
        }
        let (page, flow) = client.authorization_request_url(&request).await.unwrap();
        let kept = serde_json::to_string(&flow).unwrap();
        let flow = serde_json::from_str(&kept).unwrap();
        let back = local.sign_in(page, ADELE).await.unwrap();
        let signed_in = client.acquire_token_by_authorization_code(flow, back);
        let account = signed_in.await.unwrap().account().clone();
        assert_eq!(last_header(&local).as_deref(), expected);

        let (oid, tid) = account.home_account_id().split_once('.').unwrap();
        let forced = TokenRequest::new(MAIL).force_refresh();
        client
            .acquire_token_silent(&account, &forced)
            .await
            .unwrap();
        assert_eq!(last_header(&local).unwrap(), format!("oid:{oid}@{tid}"));
        // The caller knows better.
        let routed = forced.header("X-AnchorMailbox", "upn:megan@contoso.com");
        client
            .acquire_token_silent(&account, &routed)
            .await
            .unwrap();
        assert_eq!(last_header(&local).unwrap(), "upn:megan@contoso.com");
    }
}

/// MSAL names the user of a long-running process, whose home account the first response named.
#[tokio::test]
async fn an_assertion_is_sent_without_the_header_and_its_refresh_token_with_it() {
    let provider = Provider::open();
    let client = provider.client();
    let mut body = tokens(1);
    body["client_info"] = client_info("adele.contoso").into();
    provider.answer(200, &body.to_string());
    let assertion = UserAssertion::new("opaque");
    let key = client.start_long_running_on_behalf_of(&assertion, FILES);
    let key = key.await.unwrap();
    assert_eq!(provider.header(0, "x-anchormailbox"), None);
    let token = client.continue_long_running_on_behalf_of(&key, MAIL);
    token.await.unwrap();
    let header = provider.header(1, "x-anchormailbox").unwrap();
    assert_eq!(header, "oid:adele@contoso");
    assert!(header.is_sensitive());
}

#[tokio::test]
async fn another_provider_gets_no_header() {
    let (local, client) = start(ProviderRules::openid()).await;
    let request = AuthorizationRequest::new(BACK, FILES).login_hint(ADELE);
    let (page, flow) = client.authorization_request_url(&request).await.unwrap();
    let back = local.sign_in(page, ADELE).await.unwrap();
    let signed_in = client.acquire_token_by_authorization_code(flow, back);
    let account = signed_in.await.unwrap().account().clone();
    assert_eq!(last_header(&local), None);
    client.acquire_token_silent(&account, MAIL).await.unwrap();
    assert_eq!(last_header(&local), None);
    assert_eq!(local.token_requests().len(), 2);
}
