//! Access tokens of oidc-provider checked by `TokenValidator`, and tokens of `LocalAuthority`
//! checked by jose.

use std::fs;
use std::time::Duration;

use confidential_client::Authority;
use confidential_client::resource::{Holder, RejectionReason, TokenValidator};
use confidential_client::testing::{Application, LocalAuthority, ManualClock, User};
use http::header::CONTENT_TYPE;
use jsonwebtoken::{Algorithm, EncodingKey};
use rsa::RsaPrivateKey;
use rsa::pkcs8::{DecodePrivateKey, EncodePublicKey, LineEnding};
use serde_json::{Value, json};

use super::sign_in::{client_of, sign_in};
use super::{INVOICES, ORDERS, Server, Tenant, resource};
use crate::support::issuer::{P256, encode, sign_with, with, without};
use crate::support::{TENANT, claims_of, header_of};

fn validator(server: &Server, tenant: &Tenant, audience: &str) -> TokenValidator {
    on(server, tenant, audience, ManualClock::new())
}

fn on(server: &Server, tenant: &Tenant, audience: &str, clock: ManualClock) -> TokenValidator {
    TokenValidator::builder(Authority::oidc(&tenant.issuer))
        .audience(audience)
        .single_tenant()
        .holder(|token| match token.holder() {
            // The subject of its application tokens is the client.
            Holder::Unknown if token.subject().is_some() => Holder::User,
            holder => holder,
        })
        .reqwest(server.builder())
        .clock(clock)
        .build()
        .unwrap()
}

impl Tenant {
    fn key(&self) -> EncodingKey {
        EncodingKey::from_rsa_pem(&fs::read(&self.key).unwrap()).unwrap()
    }
}

#[tokio::test]
#[ignore = "needs node with oidc-provider; .ci/run starts it and runs them"]
async fn its_access_tokens_are_accepted() {
    let server = Server::of("validator");
    for tenant in server.tenants() {
        let validator = validator(&server, tenant, ORDERS);
        let client = client_of(&server, tenant);
        let signed_in = sign_in(&server, &client, tenant, "adele").await;
        let user = validator.validate(signed_in.access_token().secret()).await;
        let user = user.unwrap();
        assert!(user.is_user() && !user.is_application());
        assert_eq!(user.subject(), Some("adele"));
        assert_eq!(user.client_id(), Some("web"));
        user.require_scope("orders.read").unwrap();
        let missing = user.require_scope("orders.write").unwrap_err();
        assert_eq!(missing.reason(), RejectionReason::MissingScope);

        let daemon = server.with_secret(tenant).build().unwrap();
        let request = resource(ORDERS).scopes(["orders.read"]);
        let token = daemon.acquire_token_for_client(request).await.unwrap();
        let application = validator.validate(token.secret()).await.unwrap();
        assert!(application.is_application() && !application.is_user());
        let refused = application.require_scope("orders.read").unwrap_err();
        assert_eq!(refused.reason(), RejectionReason::NeedsUser);
    }
}

#[tokio::test]
#[ignore = "needs node with oidc-provider; .ci/run starts it and runs them"]
async fn its_tokens_for_others_are_refused() {
    let server = Server::of("for others");
    let [one, two] = server.tenants();
    let client = client_of(&server, one);
    let signed_in = sign_in(&server, &client, one, "adele").await;
    let token = signed_in.access_token();
    let later = ManualClock::new();
    later.advance(Duration::from_secs(600 + 5 * 60));
    for (validator, reason) in [
        (
            validator(&server, one, INVOICES),
            RejectionReason::InvalidAudience,
        ),
        // Whose keys are others.
        (
            validator(&server, two, ORDERS),
            RejectionReason::NoMatchingKey,
        ),
        (on(&server, one, ORDERS, later), RejectionReason::Expired),
    ] {
        let refused = validator.validate(token.secret()).await.unwrap_err();
        assert_eq!(refused.reason(), reason, "{refused}");
    }
}

/// Returns an access token that the tenant binds to a key of the client.
async fn bound_token(
    server: &Server,
    tenant: &Tenant,
    client_id: &str,
    proof: Option<String>,
) -> String {
    // The PEM has the key and the certificate.
    let pem = fs::read(&tenant.signers[0].pem).unwrap();
    let http = server
        .builder()
        .identity(reqwest::Identity::from_pem(&pem).unwrap());
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", client_id),
        ("client_secret", &tenant.secret),
        ("scope", "orders.read"),
        ("resource", ORDERS),
    ];
    let body: String = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(form)
        .finish();
    let mut request = http
        .build()
        .unwrap()
        .post(format!("{}/token", tenant.issuer));
    if let Some(proof) = proof {
        request = request.header("DPoP", proof);
    }
    let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    let response = request.body(body).send().await.unwrap();
    let response: Value = response.json().await.unwrap();
    let token = response["access_token"].as_str();
    token.unwrap_or_else(|| panic!("{response}")).to_owned()
}

#[tokio::test]
#[ignore = "needs node with oidc-provider; .ci/run starts it and runs them"]
async fn its_tokens_bound_to_a_key_do_not_pass_as_a_bearers() {
    let server = Server::of("bound");
    let tenant = &server.is.one;
    let header =
        json!({ "typ": "dpop+jwt", "alg": "ES256", "jwk": without(P256.jwk.clone(), "kid") });
    let proof = json!({
        "jti": uuid::Uuid::new_v4().to_string(), "htm": "POST", "htu": format!("{}/token", tenant.issuer),
        "iat": jsonwebtoken::get_current_timestamp(),
    });
    let proof = P256.sign(&header, &proof);
    let validator = validator(&server, tenant, ORDERS);
    for (member, client_id, proof) in [
        ("jkt", &tenant.client_id, Some(proof)),
        ("x5t#S256", &tenant.bound, None),
    ] {
        let token = bound_token(&server, tenant, client_id, proof).await;
        assert!(claims_of(&token)["cnf"][member].is_string(), "{member}");
        let rejected = validator.validate(&token).await.unwrap_err();
        assert_eq!(rejected.reason(), RejectionReason::BoundToKey, "{member}");
        assert_eq!(rejected.status(), 401, "{member}");
    }
}

/// Each is one of its own but for one thing, and signed by its key unless that is the thing.
#[tokio::test]
#[ignore = "needs node with oidc-provider; .ci/run starts it and runs them"]
async fn a_token_with_one_flaw_is_refused() {
    let server = Server::of("flaws");
    let [one, two] = server.tenants();
    let validator = validator(&server, one, ORDERS);
    let client = client_of(&server, one);
    let signed_in = sign_in(&server, &client, one, "adele").await;
    let token = signed_in.access_token().secret().to_owned();
    let header = json!({ "alg": "RS256", "typ": "at+jwt", "kid": "one" });
    assert_eq!(header_of(&token), header);
    let claims = claims_of(&token);
    let sign =
        |header: &Value, claims: &Value| sign_with(&one.key(), Algorithm::RS256, header, claims);
    let own = sign(&header, &claims);
    validator.validate(&own).await.unwrap();

    let parts: Vec<_> = own.split('.').collect();
    let keys: Value = server.json(&format!("{}/jwks", one.issuer)).await;
    let public = keys["keys"][0]["n"].as_str().unwrap();
    let pem = RsaPrivateKey::from_pkcs8_pem(&fs::read_to_string(&one.key).unwrap()).unwrap();
    let pem = pem
        .to_public_key()
        .to_public_key_pem(LineEnding::LF)
        .unwrap();
    let symmetric = with(header.clone(), "alg", "HS256");
    let hmac = |secret: &[u8]| {
        let key = EncodingKey::from_secret(secret);
        sign_with(&key, Algorithm::HS256, &symmetric, &claims)
    };
    let none = encode(with(header.clone(), "alg", "none").to_string());
    let id_token = without(with(claims.clone(), "nonce", "n"), "scope");
    let expired = with(claims.clone(), "exp", claims["exp"].as_u64().unwrap() - 901);
    let critical = with(header.clone(), "crit", json!(["exp"]));
    for (flaw, token, reason) in [
        (
            "a wrong key",
            sign_with(&two.key(), Algorithm::RS256, &header, &claims),
            RejectionReason::InvalidSignature,
        ),
        (
            "another's claims",
            format!("{}.{}.{}", parts[0], encode(expired.to_string()), parts[2]),
            RejectionReason::InvalidSignature,
        ),
        (
            "audience",
            sign(&header, &with(claims.clone(), "aud", INVOICES)),
            RejectionReason::InvalidAudience,
        ),
        (
            "issuer",
            sign(&header, &with(claims.clone(), "iss", &*two.issuer)),
            RejectionReason::InvalidIssuer,
        ),
        ("expired", sign(&header, &expired), RejectionReason::Expired),
        (
            "no end",
            sign(&header, &without(claims.clone(), "exp")),
            RejectionReason::Malformed,
        ),
        (
            "none",
            format!("{none}.{}.", parts[1]),
            RejectionReason::UnsupportedAlgorithm,
        ),
        (
            "none, with the signature",
            format!("{none}.{}.{}", parts[1], parts[2]),
            RejectionReason::UnsupportedAlgorithm,
        ),
        (
            "HMAC with the public key",
            hmac(public.as_bytes()),
            RejectionReason::UnsupportedAlgorithm,
        ),
        (
            "HMAC with its PEM",
            hmac(pem.as_bytes()),
            RejectionReason::UnsupportedAlgorithm,
        ),
        (
            "HMAC with the JWK",
            hmac(keys["keys"][0].to_string().as_bytes()),
            RejectionReason::UnsupportedAlgorithm,
        ),
        (
            "an unknown kid",
            sign(&with(header.clone(), "kid", "three"), &claims),
            RejectionReason::NoMatchingKey,
        ),
        ("crit", sign(&critical, &claims), RejectionReason::Malformed),
        (
            "two signatures",
            format!("{own}.{}", parts[2]),
            RejectionReason::Malformed,
        ),
        (
            "two signatures, as JSON",
            json!({ "payload": parts[1], "signatures": [
                { "protected": parts[0], "signature": parts[2] },
                { "protected": parts[0], "signature": parts[2] },
            ] })
            .to_string(),
            RejectionReason::Malformed,
        ),
        (
            "oversized",
            sign(
                &header,
                &with(claims.clone(), "padding", "x".repeat(64 * 1024)),
            ),
            RejectionReason::Malformed,
        ),
        (
            "an ID token",
            sign(&with(header.clone(), "typ", "JWT"), &id_token),
            RejectionReason::NotAnAccessToken,
        ),
    ] {
        let Err(refused) = validator.validate(&token).await else {
            panic!("{flaw} is accepted");
        };
        assert_eq!(refused.reason(), reason, "{flaw}: {refused}");
        assert_eq!(refused.status(), 401, "{flaw}");
    }
    validator.validate(&token).await.unwrap();
}

/// What is issued to users and to applications, by an independent validator that is told where the
/// keys are.
#[tokio::test]
#[ignore = "needs node with oidc-provider; .ci/run starts it and runs them"]
async fn jose_accepts_what_local_authority_issues() {
    let server = Server::of("jose");
    let local = LocalAuthority::start().await.unwrap();
    let back = "https://app.example/signed-in";
    let web = Application::new("web").secret("s3cret").redirect_uri(back);
    local.register(TENANT, web.role("api://drive", "Files.Read.All"));
    local.register_user(TENANT, User::new(ADELE));
    let base = format!("{}/{TENANT}", local.base_url());
    let page = format!(
        "{base}/oauth2/v2.0/authorize?client_id=web&response_type=code&redirect_uri={back}\
         &scope=openid+api://drive/Files.Read&nonce=n-1"
    );
    let sent_back = local.sign_in(page, ADELE).await.unwrap();
    let (_, code) = sent_back.split_once("code=").unwrap();
    let code = code.split('&').next().unwrap();
    let ask = async |form: String| -> Value {
        let form = format!("client_id=web&client_secret=s3cret&{form}");
        let sent = server.http.post(format!("{base}/oauth2/v2.0/token"));
        let sent = sent.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        let answer = sent.body(form).send().await.unwrap();
        answer.json().await.unwrap()
    };
    let form = format!("grant_type=authorization_code&redirect_uri={back}&code={code}");
    let users = ask(form).await;
    let form = "grant_type=client_credentials&scope=api://drive/.default";
    let applications = ask(form.to_owned()).await;

    let judge = async |token: &str, audience: &str| -> Value {
        let case = json!({
            "token": token,
            "keys": format!("{base}/discovery/v2.0/keys"),
            "issuer": local.issuer(TENANT).unwrap(),
            "audience": audience,
            "algorithms": ["RS256"],
            "typ": "JWT",
            "requiredClaims": ["exp", "iat", "nbf", "sub", "tid"],
        });
        let sent = server.http.post(&server.is.judge).json(&case);
        sent.send().await.unwrap().json().await.unwrap()
    };
    for (answer, member, audience, claim, value) in [
        (
            &users,
            "access_token",
            "api://drive",
            "scp",
            json!("Files.Read"),
        ),
        (&users, "id_token", "web", "nonce", json!("n-1")),
        (
            &applications,
            "access_token",
            "api://drive",
            "roles",
            json!(["Files.Read.All"]),
        ),
    ] {
        let token = answer[member].as_str().unwrap();
        let judged = judge(token, audience).await;
        assert_eq!(judged["payload"][claim], value, "{judged}");
        assert_eq!(judged["payload"], claims_of(token));

        // It does look.
        let judged = judge(token, "api://mail").await;
        assert_eq!(judged["refused"], "ERR_JWT_CLAIM_VALIDATION_FAILED");
        let parts: Vec<_> = token.split('.').collect();
        let claims = with(claims_of(token), claim, "another");
        let another = format!("{}.{}.{}", parts[0], encode(claims.to_string()), parts[2]);
        let judged = judge(&another, audience).await;
        assert_eq!(judged["refused"], "ERR_JWS_SIGNATURE_VERIFICATION_FAILED");
    }
}

const ADELE: &str = "adele@contoso.onmicrosoft.com";
