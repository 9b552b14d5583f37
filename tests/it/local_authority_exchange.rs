//! The token exchange and the introspection of the local identity provider, over HTTP.

use std::time::Duration;

use confidential_client::credential::DpopKey;
use confidential_client::delegated::{TokenExchange, TokenTypeIdentifier};
use confidential_client::resource::{Holder, RejectionReason, TokenValidator};
use confidential_client::testing::{
    Application, LocalAuthority, ManualClock, ProviderRules, User, self_signed_certificate,
};
use confidential_client::{
    Authority, Certificate, ConfidentialClient, ConfidentialClientBuilder, Error, RetryPolicy,
    TokenScheme, TokenSource,
};
use serde_json::{Value, json};

use crate::support::{SECRET, TENANT, claims_of, header_of, log_capture};

const ADELE: &str = "adele@contoso.com";
const ORDERS: &str = "api://orders";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// An app calls a gateway for Adele, and the gateway calls the orders API.
struct World {
    local: LocalAuthority,
    clock: ManualClock,
}

impl World {
    async fn start(opaque: bool) -> Self {
        log_capture::start();
        let clock = ManualClock::new();
        let local = LocalAuthority::builder()
            .rules(ProviderRules::openid())
            .clock(clock.clone())
            .start()
            .await
            .unwrap();
        let gateway = Application::new("gateway")
            .secret(SECRET)
            .publishes("api://gateway", ["call"])
            .exchange(ORDERS, ["read", "write"]);
        let mut orders = Application::new("orders")
            .secret(SECRET)
            .publishes(ORDERS, ["read", "write"]);
        if opaque {
            orders = orders.opaque_access_tokens();
        }
        local.register(TENANT, gateway);
        local.register(TENANT, orders);
        local.register(
            TENANT,
            Application::new("app")
                .secret(SECRET)
                .role("api://gateway", "Call"),
        );
        local.register_user(TENANT, User::new(ADELE));
        local.consent(TENANT, "app", ADELE, "api://gateway/call");
        Self { local, clock }
    }

    fn client(&self, client_id: &str) -> ConfidentialClientBuilder {
        ConfidentialClient::builder(client_id)
            .authority(Authority::oidc(self.local.issuer(TENANT).unwrap()))
            .retry(RetryPolicy::none())
            .clock(self.clock.clone())
    }

    fn gateway(&self) -> ConfidentialClient {
        self.client("gateway")
            .client_secret(SECRET)
            .build()
            .unwrap()
    }

    /// Returns the token that the app calls the gateway with.
    fn adeles(&self) -> String {
        let token = self
            .local
            .user_token(TENANT, "app", ADELE, "api://gateway/call");
        token.unwrap()
    }

    fn validator(&self) -> TokenValidator {
        let client = self.client("orders").client_secret(SECRET).build().unwrap();
        TokenValidator::introspecting(&client)
            .audience(ORDERS)
            .single_tenant()
            .holder(|token| match token.string("username") {
                Some(_) => Holder::User,
                None => token.holder(),
            })
            .build()
            .unwrap()
    }
}

fn exchange(token: &str) -> TokenExchange {
    TokenExchange::new(token, TokenTypeIdentifier::ACCESS_TOKEN)
}

fn with_other_signature(jwt: &str) -> String {
    let (message, signature) = jwt.rsplit_once('.').unwrap();
    let first = if signature.starts_with('A') { "B" } else { "A" };
    format!("{message}.{first}{}", &signature[1..])
}

#[tokio::test]
async fn a_token_is_exchanged_for_the_scopes_of_the_next_api() {
    let world = World::start(false).await;
    let gateway = world.gateway();
    let adeles = world.adeles();
    let all = exchange(&adeles).audience(ORDERS);
    let token = gateway.exchange_token(&all).await.unwrap();
    assert_eq!(token.scopes(), "read write");
    assert_eq!(token.issued_token_type(), Some(ACCESS_TOKEN));
    let claims = claims_of(token.secret());
    assert_eq!(
        (&claims["aud"], &claims["azp"]),
        (&json!(ORDERS), &json!("gateway"))
    );
    assert_eq!(
        (&claims["scp"], &claims["oid"]),
        (&json!("read write"), &claims_of(&adeles)["oid"])
    );
    assert_eq!(claims["act"], Value::Null);
    assert_eq!(
        gateway.exchange_token(&all).await.unwrap().source(),
        TokenSource::Cache
    );
    let read = exchange(&adeles).resource(ORDERS).scopes(["read"]);
    let read = gateway.exchange_token(&read).await.unwrap();
    assert_eq!(claims_of(read.secret())["scp"], "read");
    let by_scope = exchange(&adeles).scopes(["api://orders/write"]);
    let by_scope = gateway.exchange_token(&by_scope).await.unwrap();
    assert_eq!(claims_of(by_scope.secret())["scp"], "write");
    assert_eq!(world.local.token_requests().len(), 3);
    let jwt = exchange(&adeles)
        .audience(ORDERS)
        .requested_token_type(TokenTypeIdentifier::JWT);
    let jwt = gateway.exchange_token(&jwt).await.unwrap();
    assert_eq!(
        jwt.issued_token_type(),
        Some(TokenTypeIdentifier::JWT.as_str())
    );
    assert_eq!(jwt.scheme(), TokenScheme::Bearer);
    let id_token = exchange(&adeles)
        .audience(ORDERS)
        .requested_token_type(TokenTypeIdentifier::ID_TOKEN);
    let id_token = gateway.exchange_token(&id_token).await.unwrap();
    assert_eq!(id_token.scheme(), TokenScheme::NotApplicable);
    assert_eq!(claims_of(id_token.secret())["aud"], "gateway");
    assert_eq!(id_token.authorization_header(), "N_A");
}

#[tokio::test]
async fn a_token_is_bound_to_the_proof_key_of_the_client_that_exchanges_it() {
    let world = World::start(false).await;
    let key = DpopKey::generate().unwrap();
    let gateway = world.client("gateway").client_secret(SECRET);
    let gateway = gateway.dpop(key.clone()).build().unwrap();
    let token = exchange(&world.adeles()).audience(ORDERS);
    let token = gateway.exchange_token(&token).await.unwrap();
    assert_eq!(token.scheme(), TokenScheme::Dpop);
    assert_eq!(claims_of(token.secret())["cnf"]["jkt"], key.thumbprint());
}

#[tokio::test]
async fn an_actor_is_named_in_the_token() {
    let world = World::start(false).await;
    let app = world.client("app").client_secret(SECRET).build().unwrap();
    let actor = app
        .acquire_token_for_client("api://gateway/.default")
        .await
        .unwrap();
    let exchange = exchange(&world.adeles())
        .actor_token(actor.secret(), TokenTypeIdentifier::JWT)
        .audience(ORDERS);
    let token = world.gateway().exchange_token(&exchange).await.unwrap();
    let claims = claims_of(token.secret());
    assert_eq!(claims["act"]["client_id"], "app");
    assert_eq!(claims["act"]["sub"], claims_of(actor.secret())["sub"]);
}

#[tokio::test]
async fn what_must_not_be_exchanged_is_rejected_in_the_words_of_the_standard() {
    use TokenTypeIdentifier as Type;

    let world = World::start(false).await;
    let gateway = world.gateway();
    let adeles = world.adeles();
    let changed = with_other_signature(&adeles);
    world
        .local
        .consent(TENANT, "app", ADELE, "api://orders/read");
    let for_orders = world
        .local
        .user_token(TENANT, "app", ADELE, "api://orders/read")
        .unwrap();
    let app = world.client("app").client_secret(SECRET).build().unwrap();
    let applications = app
        .acquire_token_for_client("api://gateway/.default")
        .await
        .unwrap();
    let revoked = world.adeles();
    world.local.revoke_access_token(&revoked);
    let other = LocalAuthority::builder()
        .rules(ProviderRules::openid())
        .start()
        .await
        .unwrap();
    other.register(TENANT, Application::new("app"));
    other.register_user(TENANT, User::new(ADELE));
    other.consent(TENANT, "app", ADELE, "api://gateway/call");
    let others = other
        .user_token(TENANT, "app", ADELE, "api://gateway/call")
        .unwrap();
    for (exchange, error, text) in [
        (
            exchange(&changed).audience(ORDERS),
            "invalid_request",
            "signature is invalid",
        ),
        (
            exchange(&others).audience(ORDERS),
            "invalid_request",
            "signature is invalid",
        ),
        (
            exchange("opaque").audience(ORDERS),
            "invalid_request",
            "it is unknown",
        ),
        (
            exchange(&revoked).audience(ORDERS),
            "invalid_request",
            "it was revoked",
        ),
        (
            exchange(&for_orders).audience(ORDERS),
            "invalid_request",
            "it is for another API",
        ),
        (
            exchange(applications.secret()).audience(ORDERS),
            "invalid_request",
            "does not act for a user",
        ),
        (
            TokenExchange::new(&*adeles, Type::SAML2).audience(ORDERS),
            "invalid_request",
            "'subject_token_type' parameter is not supported",
        ),
        (
            exchange(&adeles)
                .audience(ORDERS)
                .actor_token("x", Type::JWT),
            "invalid_request",
            "'actor_token' parameter is not valid",
        ),
        (
            exchange(&adeles)
                .audience(ORDERS)
                .requested_token_type(Type::SAML1),
            "invalid_request",
            "'requested_token_type' parameter is not supported",
        ),
        (
            exchange(&adeles).audience("api://mail"),
            "invalid_target",
            "not permitted",
        ),
        (
            exchange(&adeles).audience(ORDERS).resource("api://mail"),
            "invalid_target",
            "more than one target",
        ),
        (
            exchange(&adeles).audience(ORDERS).scopes(["delete"]),
            "invalid_scope",
            "not permitted",
        ),
    ] {
        let rejected = gateway.exchange_token(&exchange).await.unwrap_err();
        let server = rejected.server_error().unwrap();
        assert_eq!(server.error(), error, "{rejected}");
        assert!(
            server.error_description().unwrap().contains(text),
            "{rejected}"
        );
        assert_eq!(server.status(), 400);
        let has_advice = rejected
            .to_string()
            .contains("compare audience(..) and resource(..)");
        assert_eq!(has_advice, error == "invalid_target", "{rejected}");
    }
    world.clock.advance(Duration::from_secs(3600));
    let rejected = gateway
        .exchange_token(&exchange(&adeles).audience(ORDERS))
        .await
        .unwrap_err();
    assert!(rejected.to_string().contains("it is expired"), "{rejected}");
    // A client without the permission, and a provider without the grant.
    let token = world.adeles();
    let rejected = app
        .exchange_token(&exchange(&token).audience(ORDERS))
        .await
        .unwrap_err();
    assert_eq!(rejected.server_error().unwrap().error(), "invalid_target");
    let entra = LocalAuthority::start().await.unwrap();
    entra.register(TENANT, Application::new("gateway").secret(SECRET));
    let client = ConfidentialClient::builder("gateway")
        .authority(Authority::oidc(entra.issuer(TENANT).unwrap()))
        .client_secret(SECRET)
        .build()
        .unwrap();
    let rejected = client.exchange_token(&exchange(&token)).await.unwrap_err();
    assert_eq!(
        rejected.server_error().unwrap().error(),
        "unsupported_grant_type"
    );
}

#[tokio::test]
async fn an_api_introspects_opaque_tokens_over_http() {
    let world = World::start(true).await;
    let exchange = exchange(&world.adeles()).audience(ORDERS).scopes(["read"]);
    let token = world.gateway().exchange_token(&exchange).await.unwrap();
    assert!(!token.secret().starts_with("eyJ"));
    let validator = world.validator();
    for _ in 0..3 {
        let claims = validator.validate(token.secret()).await.unwrap();
        claims.require_scope("read").unwrap();
        claims.require_scope("write").unwrap_err();
        assert_eq!(claims.client_id(), Some("gateway"));
        assert_eq!(claims.string("username"), Some(ADELE));
        assert_eq!(claims.holder(), Holder::User);
    }
    let requests = world.local.introspection_requests();
    assert_eq!(requests.len(), 1);
    let form: Vec<_> = requests[0]
        .form()
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(
        form,
        ["token", "token_type_hint", "client_id", "client_secret"]
    );
    assert_eq!(requests[0].field("token"), Some(token.secret()));
    // A revoked token is accepted for no more than a minute.
    world.local.revoke_access_token(token.secret());
    validator.validate(token.secret()).await.unwrap();
    world.clock.advance(Duration::from_secs(60));
    let rejection = validator.validate(token.secret()).await.unwrap_err();
    assert_eq!(rejection.reason(), RejectionReason::Inactive);
    let unknown = validator.validate("unknown").await.unwrap_err();
    assert_eq!(unknown.reason(), RejectionReason::Inactive);
}

/// The provider tells nobody else about a token.
#[tokio::test]
async fn only_the_api_of_a_token_learns_that_it_is_active() {
    let world = World::start(true).await;
    let exchange = exchange(&world.adeles()).audience(ORDERS);
    let token = world.gateway().exchange_token(&exchange).await.unwrap();
    let of_gateway = TokenValidator::introspecting(&world.gateway())
        .audience(ORDERS)
        .single_tenant()
        .build()
        .unwrap();
    let rejection = of_gateway.validate(token.secret()).await.unwrap_err();
    assert_eq!(rejection.reason(), RejectionReason::Inactive);
    // The gateway's own tokens are JWTs, which are introspected, too.
    let of_gateway = TokenValidator::introspecting(&world.gateway())
        .audience("api://gateway")
        .single_tenant()
        .build()
        .unwrap();
    let adeles = world.adeles();
    let claims = of_gateway.validate(&adeles).await.unwrap();
    assert_eq!(claims.scopes().collect::<Vec<_>>(), ["call"]);
    world.clock.advance(Duration::from_secs(3600));
    let rejection = of_gateway.validate(&adeles).await.unwrap_err();
    assert_eq!(rejection.reason(), RejectionReason::Inactive);
    // A wrong secret is not a rejection of the token.
    let wrong = world
        .client("orders")
        .client_secret("wrong")
        .build()
        .unwrap();
    let wrong = TokenValidator::introspecting(&wrong)
        .audience(ORDERS)
        .single_tenant();
    let rejection = wrong
        .build()
        .unwrap()
        .validate(token.secret())
        .await
        .unwrap_err();
    assert_eq!(
        rejection.reason(),
        RejectionReason::IntrospectionUnavailable
    );
    assert!(
        rejection.chain().to_string().contains("invalid_client"),
        "{rejection:?}"
    );
}

#[tokio::test]
async fn opaque_tokens_are_introspected_and_signed_ones_validated_by_the_keys() {
    let world = World::start(true).await;
    let pem = self_signed_certificate("orders").unwrap();
    let certificate = Certificate::from_pem(&*pem).unwrap();
    let orders = Application::new("orders")
        .certificate(&certificate)
        .publishes(ORDERS, ["read"])
        .opaque_access_tokens();
    world.local.register(TENANT, orders);
    let client = world
        .client("orders")
        .certificate(certificate)
        .build()
        .unwrap();
    let validator = TokenValidator::introspecting(&client)
        .audience(ORDERS)
        .audience("api://gateway")
        .single_tenant()
        .introspect_opaque_tokens_only()
        .build()
        .unwrap();
    let adeles = world.adeles();
    validator.validate(&adeles).await.unwrap();
    assert_eq!(world.local.introspection_requests().len(), 0);
    let exchange = exchange(&adeles).audience(ORDERS).scopes(["read"]);
    let token = world.gateway().exchange_token(&exchange).await.unwrap();
    validator.validate(token.secret()).await.unwrap();
    let requests = world.local.introspection_requests();
    assert_eq!(requests.len(), 1);
    let assertion = requests[0].field("client_assertion").unwrap();
    assert_eq!(header_of(assertion)["alg"], "PS256");
    let changed = with_other_signature(&adeles);
    let rejection = validator.validate(&changed).await.unwrap_err();
    assert_ne!(rejection.reason(), RejectionReason::Inactive);
    assert_eq!(world.local.introspection_requests().len(), 1);
}

#[tokio::test]
async fn an_entra_authority_has_neither_grant_nor_endpoint() {
    let local = LocalAuthority::start().await.unwrap();
    local.register(TENANT, Application::new("orders").secret(SECRET));
    let client = ConfidentialClient::builder("orders")
        .authority(local.authority(TENANT))
        .client_secret(SECRET)
        .build()
        .unwrap();
    let error = TokenValidator::introspecting(&client)
        .audience(ORDERS)
        .single_tenant()
        .build()
        .unwrap_err();
    assert!(matches!(error, Error::Config(_)), "{error:?}");
    let error = client.exchange_token(&exchange("a")).await.unwrap_err();
    assert!(
        error.to_string().contains("acquire_token_on_behalf_of"),
        "{error}"
    );
    assert!(local.token_requests().is_empty());
}
