//! Tokens bound to a proof key (RFC 9449) at oidc-provider, and at an API that npm's oauth4webapi
//! protects.

use confidential_client::adapter::BearerAuth;
use confidential_client::credential::{DpopKey, SigningAlgorithm};
use confidential_client::{
    ConfidentialClient, ConfidentialClientBuilder, TokenProvider, TokenScheme,
};
use url::Url;

use super::bound::Called;
use super::{ORDERS, Server, refusal, resource};
use crate::support::claims_of;

const PARCELS: &str = "https://parcels.example";

fn with_secret(server: &Server, client_id: &str) -> ConfidentialClientBuilder {
    let issuer = &server.is.bound_issuers.bound;
    server
        .at(&issuer.issuer, client_id)
        .client_secret(issuer.secret.as_str())
}

fn http(server: &Server, provider: &TokenProvider) -> reqwest_middleware::ClientWithMiddleware {
    let api = Url::parse(&server.is.bound_issuers.orders).unwrap();
    let auth = BearerAuth::new(provider.clone(), [api.origin().ascii_serialization()]).unwrap();
    let http = server.builder().build().unwrap();
    reqwest_middleware::ClientBuilder::new(http)
        .with(auth)
        .build()
}

/// The refusals of requests to `url`, in order. The nonce of a request is the last response's.
async fn refusals(server: &Server, url: &str) -> Vec<Option<String>> {
    let seen = server.seen().await.into_iter();
    let seen = seen.filter(|seen| seen.url == url);
    seen.map(|seen| seen.refused).collect()
}

#[tokio::test]
#[ignore = "needs node with oidc-provider; .ci/run starts it and runs them"]
async fn a_bound_token_is_accepted_with_a_proof_and_the_nonce_of_each_response() {
    let server = Server::of("DPoP");
    let key = DpopKey::generate().unwrap();
    let client = with_secret(&server, "dpop")
        .dpop(key.clone())
        .build()
        .unwrap();
    let provider = client.token_provider(resource(ORDERS)).unwrap();
    let http = http(&server, &provider);
    let orders = &server.is.bound_issuers.orders;
    for query in ["", "?page=2", "?page=3"] {
        let response = http.get(format!("{orders}{query}")).send().await.unwrap();
        let called = Called::accepted(response).await;
        assert_eq!(called.scheme, "DPoP");
        assert_eq!(called.cnf["jkt"], key.thumbprint());
    }
    let token = provider.cached().unwrap();
    assert_eq!(token.scheme(), TokenScheme::Dpop);

    // The first has no nonce and is repeated. Each other has the nonce of the response before.
    let seen = server.seen().await.into_iter();
    let seen = seen.filter(|seen| seen.url.starts_with(orders));
    let refused: Vec<_> = seen.map(|seen| seen.refused).collect();
    assert_eq!(
        refused,
        [Some("use_dpop_nonce: none".to_owned()), None, None, None]
    );
}

/// The provider refuses the first assertion's repetition, too: it would be a replay.
#[tokio::test]
#[ignore = "needs node with oidc-provider; .ci/run starts it and runs them"]
async fn a_token_request_is_repeated_once_with_the_providers_nonce_and_a_new_assertion() {
    let server = Server::of("DPoP, nonce");
    let issuer = &server.is.bound_issuers.bound;
    let client = server.with_key(issuer, "dpop-nonce", "ES256");
    let client = client.dpop(DpopKey::generate().unwrap()).build().unwrap();
    for audience in [ORDERS, PARCELS] {
        let token = client.acquire_token_for_client(resource(audience)).await;
        assert_eq!(token.unwrap().scheme(), TokenScheme::Dpop);
    }
    let token = format!("{}/token", issuer.issuer);
    let demanded = Some("nonce is required in the DPoP proof".to_owned());
    assert_eq!(refusals(&server, &token).await, [demanded, None, None]);
}

#[tokio::test]
#[ignore = "needs node with oidc-provider; .ci/run starts it and runs them"]
async fn proofs_are_accepted_by_every_kind_of_key() {
    use SigningAlgorithm::{ES256, PS256, RS256};

    let server = Server::of("DPoP, algorithms");
    for (pem, algorithm) in [("ES256", ES256), ("PS256", PS256), ("RS256", RS256)] {
        let key = DpopKey::from_pem(server.is.bound_issuers.pem(pem)).unwrap();
        let key = key.signing_algorithm(algorithm).unwrap();
        let client = with_secret(&server, "dpop")
            .dpop(key.clone())
            .build()
            .unwrap();
        let token = client
            .acquire_token_for_client(resource(ORDERS))
            .await
            .unwrap();
        assert_eq!(claims_of(token.secret())["cnf"]["jkt"], key.thumbprint());
        let provider = client.token_provider(resource(ORDERS)).unwrap();
        let response = http(&server, &provider).get(&server.is.bound_issuers.orders);
        Called::accepted(response.send().await.unwrap()).await;
    }
}

#[tokio::test]
#[ignore = "needs node with oidc-provider; .ci/run starts it and runs them"]
async fn a_bound_token_without_its_key_is_refused() {
    let server = Server::of("DPoP, refused");
    let orders = &server.is.bound_issuers.orders;
    let build = |builder: ConfidentialClientBuilder| -> ConfidentialClient {
        builder.dpop(DpopKey::generate().unwrap()).build().unwrap()
    };
    let client = build(with_secret(&server, "dpop"));
    let token = client
        .acquire_token_for_client(resource(ORDERS))
        .await
        .unwrap();
    let bearer = server.http.get(orders).bearer_auth(token.secret());
    assert_eq!(bearer.send().await.unwrap().status(), 401);
    let stranger = build(with_secret(&server, "dpop"));
    let mut request = http::Request::get(orders).body(()).unwrap();
    stranger.authorize(&token, &mut request).await.unwrap_err();
    assert!(request.headers().is_empty());

    // An application without this setting gets bearer tokens, which the client does not want.
    let plain = with_secret(&server, "dpop").build().unwrap();
    let refused = refusal(&plain, resource(ORDERS)).await;
    assert_eq!(refused.error(), "invalid_grant");
}
