//! Opaque tokens that an API introspects (RFC 7662) at oidc-provider.

use confidential_client::ConfidentialClient;
use confidential_client::resource::{RejectionReason, TokenValidator};

use super::{ORDERS, Server, resource};

const PARCELS: &str = "https://parcels.example";

fn validator(server: &Server, secret: &str, audience: &str) -> TokenValidator {
    let issuer = &server.is.bound_issuers.bound.issuer;
    let api = server.at(issuer, "parcels").client_secret(secret).build();
    TokenValidator::introspecting(&api.unwrap())
        .audience(audience)
        .single_tenant()
        .build()
        .unwrap()
}

fn daemon(server: &Server) -> ConfidentialClient {
    let daemon = server.with_key(&server.is.bound_issuers.bound, "ps256", "PS256");
    daemon.build().unwrap()
}

#[tokio::test]
#[ignore = "needs node with oidc-provider; .ci/run starts it and runs them"]
async fn an_opaque_token_is_introspected_once() {
    let server = Server::of("introspection");
    let issuer = &server.is.bound_issuers.bound;
    let request = resource(PARCELS).scopes(["parcels.read"]);
    let token = daemon(&server).acquire_token_for_client(request).await;
    let token = token.unwrap();
    assert!(!token.secret().contains('.'), "it is opaque");
    let validator = validator(&server, &issuer.secret, PARCELS);
    for _ in 0..2 {
        let claims = validator.validate(token.secret()).await.unwrap();
        assert_eq!(claims.client_id(), Some("ps256"));
        assert_eq!(claims.string("iss"), Some(&*issuer.issuer));
        assert_eq!(claims.scopes().collect::<Vec<_>>(), ["parcels.read"]);
    }
    let seen = server.seen().await.into_iter();
    let introspections = seen.filter(|seen| seen.url.ends_with("/introspection"));
    assert_eq!(introspections.count(), 1);
}

#[tokio::test]
#[ignore = "needs node with oidc-provider; .ci/run starts it and runs them"]
async fn a_token_that_is_not_for_the_api_is_refused_and_so_is_the_api() {
    let server = Server::of("introspection, refused");
    let issuer = &server.is.bound_issuers.bound;
    let daemon = daemon(&server);
    let parcels = daemon.acquire_token_for_client(resource(PARCELS)).await;
    let parcels = parcels.unwrap();
    for (secret, audience, token, reason) in [
        (
            &*issuer.secret,
            PARCELS,
            "unknown",
            RejectionReason::Inactive,
        ),
        (
            &*issuer.secret,
            ORDERS,
            parcels.secret(),
            RejectionReason::InvalidAudience,
        ),
        (
            "wrong",
            PARCELS,
            parcels.secret(),
            RejectionReason::IntrospectionUnavailable,
        ),
    ] {
        let validator = validator(&server, secret, audience);
        let refused = validator.validate(token).await.unwrap_err();
        assert_eq!(refused.reason(), reason, "{refused}");
    }
}
