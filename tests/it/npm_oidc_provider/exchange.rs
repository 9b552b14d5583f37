//! Token exchange (RFC 8693) by a grant of `tests/interop/oidc_provider/bound.mjs`.

use confidential_client::delegated::{TokenExchange, TokenTypeIdentifier};
use confidential_client::{Error, TokenSource};

use super::bound::Called;
use super::{ORDERS, Server, resource};
use crate::support::claims_of;

#[tokio::test]
#[ignore = "needs node with oidc-provider; .ci/run starts it and runs them"]
async fn a_gateway_exchanges_its_callers_token() {
    let server = Server::of("exchange");
    let issuers = &server.is.bound_issuers;
    let caller = server.with_key(&issuers.bound, "es256", "ES256");
    let caller = caller.build().unwrap();
    let received = caller.acquire_token_for_client(resource(ORDERS)).await;
    let received = received.unwrap();
    let gateway = server.at(&issuers.bound.issuer, "gateway");
    let gateway = gateway.client_secret(issuers.bound.secret.as_str());
    let gateway = gateway.build().unwrap();
    let exchange = |subject: &str| {
        TokenExchange::new(subject, TokenTypeIdentifier::ACCESS_TOKEN)
            .requested_token_type(TokenTypeIdentifier::ACCESS_TOKEN)
            .resource(ORDERS)
            .audience("orders")
            .scopes(["orders.read"])
    };
    let exchanged = exchange(received.secret());
    let token = gateway.exchange_token(&exchanged).await.unwrap();
    let claims = claims_of(token.secret());
    assert_eq!(claims["aud"], serde_json::json!([ORDERS, "orders"]));
    assert_eq!(
        (&claims["sub"], &claims["act"]["sub"]),
        (&"es256".into(), &"gateway".into())
    );
    assert_eq!(token.scopes(), "orders.read");
    assert_eq!(
        token.issued_token_type(),
        Some(TokenTypeIdentifier::ACCESS_TOKEN.as_str())
    );
    let again = gateway.exchange_token(&exchanged).await.unwrap();
    assert_eq!(again.source(), TokenSource::Cache);
    let call = server.http.get(&issuers.orders);
    let call = call.header("authorization", token.authorization_header());
    assert_eq!(
        Called::accepted(call.send().await.unwrap()).await.scheme,
        "Bearer"
    );

    for (exchange, error) in [
        (
            exchange(&format!("{}A", received.secret())),
            "invalid_request",
        ),
        (
            exchange(received.secret()).audience("unknown"),
            "invalid_target",
        ),
    ] {
        let Err(Error::Server(refused)) = gateway.exchange_token(&exchange).await else {
            panic!("{error}");
        };
        assert_eq!(refused.error(), error);
    }
}
