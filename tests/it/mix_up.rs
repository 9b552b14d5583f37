//! Responses of one provider that are passed off as another's ([RFC 9207], [RFC 9700 section 4.4]).
//!
//! [RFC 9207]: https://www.rfc-editor.org/rfc/rfc9207
//! [RFC 9700 section 4.4]: https://www.rfc-editor.org/rfc/rfc9700#section-4.4

use confidential_client::delegated::{AuthorizationCodeFlow, AuthorizationRequest};
use confidential_client::{Authority, Cloud, ConfidentialClient, Error};
use serde_json::{Value, json};
use url::form_urlencoded::byte_serialize;

use crate::support::issuer::{TEMPLATE, TENANT_ID, with};
use crate::support::openid::{
    Answer, BACK, CLIENT, FILES, ISSUER, OpenId, id_token, kinds, nonce_of, tokens,
};

const ANNOUNCED: &str = "authorization_response_iss_parameter_supported";

async fn begin(client: &ConfidentialClient) -> AuthorizationCodeFlow {
    let request = AuthorizationRequest::new(BACK, FILES);
    client.authorization_request_url(&request).await.unwrap().1
}

fn encoded(text: &str) -> String {
    byte_serialize(text.as_bytes()).collect()
}

/// Redeems a code with this `iss`, and returns the error. The response is Adele's.
async fn redeem(
    provider: &OpenId,
    client: &ConfidentialClient,
    iss: Option<&str>,
) -> Result<(), Error> {
    let flow = begin(client).await;
    let mut query = format!("code=c&state={}", flow.state());
    if let Some(iss) = iss {
        query = format!("{query}&iss={}", encoded(iss));
    }
    let claims = with(provider.claims(), "nonce", nonce_of(&flow));
    let body = with(tokens(1), "id_token", id_token(&claims));
    provider.answer(Answer::json(&body));
    let outcome = client
        .acquire_token_by_authorization_code(flow, query)
        .await;
    outcome.map(drop)
}

#[tokio::test]
async fn a_response_that_names_another_issuer_is_refused_before_the_code_is_sent() {
    for (authority, issuer, _) in kinds() {
        for announced in [json!(true), json!(false), json!(null), json!("absent")] {
            for (iss, is_accepted) in [
                (Some(&*issuer), true),
                (None, announced != json!(true)),
                (Some("https://evil.example"), false),
                (Some(""), false),
                (Some(&*format!("{issuer}/x")), false),
                (Some(&*issuer.to_uppercase()), false),
            ] {
                let provider = OpenId::new(&issuer);
                if announced != json!("absent") {
                    provider.publish(ANNOUNCED, announced.clone());
                }
                let client = provider.client(authority.clone());
                let outcome = redeem(&provider, &client, iss).await;
                let name = format!("{authority}, {announced}: {iss:?}");
                assert_eq!(outcome.is_ok(), is_accepted, "{name}: {outcome:?}");
                let Err(error) = outcome else { continue };
                assert!(
                    matches!(error, Error::InvalidResponse(_)),
                    "{name}: {error:?}"
                );
                let text = match iss {
                    Some(_) => "another issuer",
                    None => "names no issuer",
                };
                assert!(error.to_string().contains(text), "{name}: {error}");
                assert!(error.to_string().contains(&issuer), "{name}: {error}");
                assert!(provider.forms().is_empty(), "{name}");
                assert!(client.cache().is_empty(), "{name}");
            }
        }
    }
}

/// The issuer of a client for many tenants has the tenant of the user.
#[tokio::test]
async fn a_response_of_another_tenant_than_the_id_tokens_is_refused() {
    let of = |tenant: &str| TEMPLATE.replace("{tenantid}", tenant);
    let other = "11111111-86f1-41af-91ab-2d7cd011db47";
    for (iss, text, is_sent) in [
        (Some(of(TENANT_ID)), None, true),
        (None, None, true),
        (Some(of(other)), Some("response named"), true),
        (Some(of("contoso.com")), Some("another issuer"), false),
        (Some(TEMPLATE.to_owned()), Some("another issuer"), false),
        (
            Some("https://sts.windows.net/x/".to_owned()),
            Some("another issuer"),
            false,
        ),
    ] {
        let provider = OpenId::new(&of(TENANT_ID));
        provider.publish("issuer", TEMPLATE);
        let client = provider.client(Authority::entra(Cloud::Public, "organizations"));
        let outcome = redeem(&provider, &client, iss.as_deref()).await;
        let error = outcome.err().map(|error| error.to_string());
        match (&error, text) {
            (None, None) => {}
            (Some(error), Some(text)) => assert!(error.contains(text), "{iss:?}: {error}"),
            _ => panic!("{iss:?}: {error:?}"),
        }
        assert_eq!(provider.forms().len(), usize::from(is_sent), "{iss:?}");
        assert_eq!(client.cache().is_empty(), text.is_some(), "{iss:?}");
    }
}

#[tokio::test]
async fn a_failed_sign_in_of_another_issuer_is_not_shown_as_the_providers() {
    for (authority, issuer, _) in kinds() {
        for (iss, is_announced, text) in [
            (Some(&*issuer), true, "access_denied"),
            (None, false, "access_denied"),
            (None, true, "names no issuer"),
            (Some("https://evil.example"), false, "another issuer"),
        ] {
            let provider = OpenId::new(&issuer);
            provider.publish(ANNOUNCED, is_announced);
            let client = provider.client(authority.clone());
            let flow = begin(&client).await;
            let mut query = format!("error=access_denied&state={}", flow.state());
            if let Some(iss) = iss {
                query = format!("{query}&iss={}", encoded(iss));
            }
            let outcome = client
                .acquire_token_by_authorization_code(flow, query)
                .await;
            let error = outcome.unwrap_err().to_string();
            assert!(error.contains(text), "{authority}: {error}");
        }
    }
}

#[tokio::test]
async fn a_flow_of_one_client_is_refused_by_another_before_anything_is_sent() {
    let provider = OpenId::new(ISSUER);
    let client = provider.client(Authority::oidc(ISSUER));
    for (authority, client_id) in [
        (Authority::oidc("https://evil.example"), CLIENT),
        (Authority::oidc(format!("{ISSUER}/")), CLIENT),
        (Authority::oidc(ISSUER), "another"),
        (Authority::oidc(ISSUER), "Web"),
        (Authority::entra(Cloud::Public, TENANT_ID), CLIENT),
        (Authority::adfs("id.example.org"), CLIENT),
    ] {
        let flow = begin(&client).await;
        let name = format!("{client_id} at {authority}");
        let other = ConfidentialClient::builder(client_id)
            .authority(authority)
            .client_secret("s")
            .transport(|_: http::Request<bytes::Bytes>| async { panic!("something was sent") })
            .build()
            .unwrap();
        let query = format!("code=c&state={}", flow.state());
        let outcome = other.acquire_token_by_authorization_code(flow, query).await;
        let error = outcome.unwrap_err();
        assert!(
            matches!(error, Error::InvalidResponse(_)),
            "{name}: {error:?}"
        );
        let text = "the client 'web' began the sign-in at 'https://id.example.org'";
        assert!(error.to_string().contains(text), "{name}: {error}");
        assert!(error.to_string().contains(client_id), "{name}: {error}");
    }
    assert!(provider.forms().is_empty());
    // Another client of the same application and authority may redeem the code.
    let flow = begin(&client).await;
    let same = provider.client(Authority::oidc(ISSUER));
    let claims = with(provider.claims(), "nonce", nonce_of(&flow));
    let body = with(tokens(1), "id_token", id_token(&claims));
    provider.answer(Answer::json(&body));
    let query = format!("code=c&state={}", flow.state());
    same.acquire_token_by_authorization_code(flow, query)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_whole_redirect_url_that_is_another_is_refused_before_anything_is_sent() {
    let provider = OpenId::new(ISSUER);
    let client = provider.client(Authority::oidc(ISSUER));
    for url in [
        "https://evil.example/back",
        "https://app.example.org/back-of-another",
        "https://app.example.org:8443/back",
        "http://app.example.org/back",
        "https://app.example.org@evil.example/back",
    ] {
        let flow = begin(&client).await;
        let redirected = format!("{url}?code=secret-code&state={}", flow.state());
        let outcome = client
            .acquire_token_by_authorization_code(flow, redirected)
            .await;
        let error = outcome.unwrap_err();
        assert!(
            matches!(error, Error::InvalidResponse(_)),
            "{url}: {error:?}"
        );
        assert!(error.to_string().contains(url), "{error}");
        assert!(error.to_string().contains(BACK), "{error}");
        assert!(!format!("{error:?}").contains("secret-code"), "{error:?}");
    }
    assert!(provider.forms().is_empty());
}

/// Sessions hold flows over a deployment.
#[tokio::test]
async fn a_flow_of_an_earlier_version_is_still_redeemed() {
    let provider = OpenId::new(ISSUER);
    let client = provider.client(Authority::oidc(ISSUER));
    let flow = serde_json::to_value(begin(&client).await).unwrap();
    let before = ["state", "nonce", "code_verifier", "redirect_uri", "scopes"];
    let older: serde_json::Map<String, Value> = before
        .iter()
        .map(|name| ((*name).to_owned(), flow[*name].clone()))
        .collect();
    assert_eq!(flow["client_id"], CLIENT);
    assert_eq!(flow["authority"], ISSUER);
    let flow: AuthorizationCodeFlow = serde_json::from_value(older.into()).unwrap();
    let claims = with(provider.claims(), "nonce", nonce_of(&flow));
    let body = with(tokens(1), "id_token", id_token(&claims));
    provider.answer(Answer::json(&body));
    let query = format!("code=c&state={}", flow.state());
    client
        .acquire_token_by_authorization_code(flow, query)
        .await
        .unwrap();
}
