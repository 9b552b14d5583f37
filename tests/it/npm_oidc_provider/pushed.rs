//! Pushed authorization requests (RFC 9126) at oidc-provider.

use confidential_client::delegated::{AuthorizationRequest, Prompt};
use confidential_client::{Error, TokenRequest};
use url::Url;

use super::browser::Browser;
use super::{ORDERS, Server};
use crate::support::claims_of;

fn orders() -> TokenRequest {
    TokenRequest::new("orders.read").resource(ORDERS)
}

fn names_of(page: &Url) -> Vec<String> {
    page.query_pairs().map(|(name, _)| name.into()).collect()
}

/// The application `par` has `require_pushed_authorization_requests`, the metadata do not.
#[tokio::test]
#[ignore = "needs node with oidc-provider; .ci/run starts it and runs them"]
async fn a_request_is_pushed_with_an_assertion() {
    let server = Server::of("pushed");
    let issuers = &server.is.bound_issuers;
    let client = server
        .with_key(&issuers.bound, "par", "ES256")
        .build()
        .unwrap();
    let back = &issuers.redirect_uri;
    let request = AuthorizationRequest::new(back, orders()).prompt(Prompt::Consent);
    let (page, flow) = client
        .authorization_request_url(&request.clone().pushed())
        .await
        .unwrap();
    assert_eq!(
        names_of(&Url::parse(&page).unwrap()),
        ["client_id", "request_uri"]
    );
    let mut browser = Browser::open(&server, &page, back).await;
    browser.submit("login", "adele").await;
    assert!(browser.html.contains("orders.read"), "{}", browser.html);
    browser.submit("consent", "adele").await;
    let signed_in = client.acquire_token_by_authorization_code(flow, browser.at);
    let claims = claims_of(signed_in.await.unwrap().access_token().secret());
    assert_eq!(
        (&claims["aud"], &claims["sub"]),
        (&ORDERS.into(), &"adele".into())
    );

    let seen = server.seen().await;
    let pushed: Vec<_> = seen
        .iter()
        .filter(|seen| seen.url.ends_with("/request"))
        .collect();
    let [pushed] = pushed[..] else {
        panic!(
            "{:?}",
            seen.iter().map(|seen| &seen.url).collect::<Vec<_>>()
        );
    };
    assert_eq!(pushed.refused, None);
    let mut form = pushed.form.clone();
    form.sort();
    assert_eq!(
        form,
        [
            "client_assertion",
            "client_assertion_type",
            "client_id",
            "code_challenge",
            "code_challenge_method",
            "nonce",
            "prompt",
            "redirect_uri",
            "resource",
            "response_type",
            "scope",
            "state",
        ]
    );

    // The provider demands it.
    let (page, flow) = client.authorization_request_url(&request).await.unwrap();
    let browser = Browser::open(&server, &page, back).await;
    let error = client.acquire_token_by_authorization_code(flow, browser.at);
    let error = error.await.unwrap_err();
    let error = error.server_error().unwrap();
    assert!(
        error
            .error_description()
            .unwrap()
            .contains("Pushed Authorization Request must be used"),
        "{error}"
    );
}

#[tokio::test]
#[ignore = "needs node with oidc-provider; .ci/run starts it and runs them"]
async fn a_refusal_to_accept_a_pushed_request_is_told() {
    let server = Server::of("pushed, refused");
    let issuers = &server.is.bound_issuers;
    let wrong_key = server
        .with_key(&issuers.bound, "par", "PS256")
        .build()
        .unwrap();
    let right_key = server
        .with_key(&issuers.bound, "par", "ES256")
        .build()
        .unwrap();
    let elsewhere = "https://elsewhere.example/signed-in";
    for (client, back, error, status, reason) in [
        (
            &wrong_key,
            &*issuers.redirect_uri,
            "invalid_client",
            401,
            "alg mismatch",
        ),
        (
            &right_key,
            elsewhere,
            "invalid_request",
            400,
            "redirect_uri did not match any of the client's registered redirect_uris",
        ),
    ] {
        let request = AuthorizationRequest::new(back, orders()).pushed();
        let Err(Error::Server(refused)) = client.authorization_request_url(&request).await else {
            panic!("{reason}");
        };
        assert_eq!(refused.error(), error);
        assert_eq!(refused.status(), status);
        let seen = server.seen().await.pop().unwrap();
        assert_eq!(seen.refused.as_deref(), Some(reason));
    }
}
