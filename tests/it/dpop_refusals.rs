//! Wrong proofs, made by jsonwebtoken: what `LocalAuthority` and `ProtectedApi` refuse (RFC 9449).

use confidential_client::testing::{Application, LocalAuthority, ProtectedApi};
use confidential_client::{Challenge, ConfidentialClient, TokenScheme};
use http::header::AUTHORIZATION;
use serde_json::{Value, json};

use crate::support::dpop::{
    KEY, ORDERS, OTHER_KEY, claims, client_of, hash, http, key, signed, start,
};
use crate::support::{CLIENT_ID, SECRET, TENANT, claims_of};

/// A change to the claims of a correct proof.
type Change = fn(&mut Value);

/// The rows that both servers refuse with `invalid_dpop_proof`.
const WRONG: [(&str, Change); 9] = [
    ("htm", |claims| claims["htm"] = json!("PUT")),
    ("htm in lower case", |claims| {
        claims["htm"] = json!(claims["htm"].as_str().unwrap().to_lowercase());
    }),
    ("htu of another path", |claims| {
        claims["htu"] = json!(format!("{}x", claims["htu"].as_str().unwrap()));
    }),
    ("htu of another host", |claims| {
        claims["htu"] = json!("https://evil.example/");
    }),
    ("stale", |claims| {
        claims["iat"] = json!(claims["iat"].as_u64().unwrap() - 120);
    }),
    ("future", |claims| {
        claims["iat"] = json!(claims["iat"].as_u64().unwrap() + 120);
    }),
    ("no jti", |claims| claims["jti"] = json!("")),
    ("no iat", |claims| {
        claims.as_object_mut().unwrap().remove("iat");
    }),
    ("no htu", |claims| {
        claims.as_object_mut().unwrap().remove("htu");
    }),
];

fn token_endpoint(local: &LocalAuthority) -> String {
    let issuer = local.issuer(TENANT).unwrap();
    let (tenant, _) = issuer.rsplit_once("/v2.0").unwrap();
    format!("{tenant}/oauth2/v2.0/token")
}

/// Requests a token, and returns the status and the error.
async fn request_token(local: &LocalAuthority, proofs: &[&str]) -> (u16, Value) {
    let form = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("client_id", CLIENT_ID)
        .append_pair("client_secret", SECRET)
        .append_pair("grant_type", "client_credentials")
        .append_pair("scope", ORDERS)
        .finish();
    let mut request = http().post(token_endpoint(local)).body(form);
    request = request.header("content-type", "application/x-www-form-urlencoded");
    for proof in proofs {
        request = request.header("dpop", *proof);
    }
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

/// Calls the API, and returns the status and the error of the challenge for a proof.
async fn call(api: &ProtectedApi, authorization: &str, proofs: &[&str]) -> (u16, Option<String>) {
    let mut request = http().get(orders(api)).header(AUTHORIZATION, authorization);
    for proof in proofs {
        request = request.header("dpop", *proof);
    }
    let response = request.send().await.unwrap();
    let challenges = Challenge::from_headers(response.headers());
    let challenge = challenges.iter().find(|challenge| challenge.is_dpop());
    let error = challenge.and_then(|challenge| challenge.error().map(ToOwned::to_owned));
    (response.status().as_u16(), error)
}

fn orders(api: &ProtectedApi) -> String {
    format!("{}/v1/orders", api.base_url())
}

const INVALID: &str = "invalid_dpop_proof";

#[tokio::test]
async fn the_token_endpoint_accepts_a_correct_proof_once() {
    let (local, _api) = start().await;
    let uri = token_endpoint(&local);
    let proof = signed(&claims("POST", &uri, None), KEY);
    let (status, body) = request_token(&local, &[&proof]).await;
    assert_eq!((status, &body["token_type"]), (200, &json!("DPoP")));
    let token = body["access_token"].as_str().unwrap();
    assert_eq!(claims_of(token)["cnf"]["jkt"], key().thumbprint());
    let (status, body) = request_token(&local, &[&proof]).await;
    assert_eq!((status, &body["error"]), (400, &json!(INVALID)), "a replay");
    assert_eq!(body["error_description"], "the proof was used before");
    assert_eq!(body.get("error_codes"), None, "Entra has no such error");
}

#[tokio::test]
async fn the_token_endpoint_refuses_every_wrong_proof() {
    let (local, _api) = start().await;
    let uri = token_endpoint(&local);
    for (name, change) in WRONG {
        let mut claims = claims("POST", &uri, None);
        change(&mut claims);
        let (status, body) = request_token(&local, &[&signed(&claims, KEY)]).await;
        assert_eq!((status, &body["error"]), (400, &json!(INVALID)), "{name}");
    }
    let proof = || signed(&claims("POST", &uri, None), KEY);
    let (one, other) = (proof(), proof());
    let cut = &one[..one.len() - 1];
    for (name, proofs) in [
        ("none", &[][..]),
        ("two", &[&*one, &*other]),
        ("not signed", &[cut]),
        ("no JWT", &["proof"]),
    ] {
        let (status, body) = request_token(&local, proofs).await;
        assert_eq!((status, &body["error"]), (400, &json!(INVALID)), "{name}");
    }
    let (status, _) = request_token(&local, &[&one]).await;
    assert_eq!(status, 200, "the correct one");
}

#[tokio::test]
async fn the_api_refuses_every_wrong_proof() {
    let (local, api) = start().await;
    let client = client_of(&local).dpop(key()).build().unwrap();
    let token = client.acquire_token_for_client(ORDERS).await.unwrap();
    assert_eq!(token.scheme(), TokenScheme::Dpop);
    let (secret, uri) = (token.secret(), orders(&api));
    let bound = format!("DPoP {secret}");
    let correct = || claims("GET", &uri, Some(secret));
    for (name, change) in WRONG.into_iter().chain::<[(&str, Change); 2]>([
        ("ath of another token", |claims| {
            claims["ath"] = json!(hash("other"))
        }),
        ("no ath", |claims| {
            claims.as_object_mut().unwrap().remove("ath");
        }),
    ]) {
        let mut claims = correct();
        change(&mut claims);
        let answer = call(&api, &bound, &[&signed(&claims, KEY)]).await;
        assert_eq!(answer, (401, Some(INVALID.to_owned())), "{name}");
    }
    let other_key = signed(&correct(), OTHER_KEY);
    let (one, other) = (signed(&correct(), KEY), signed(&correct(), KEY));
    for (name, proofs) in [
        ("another key", &[&*other_key][..]),
        ("none", &[]),
        ("two", &[&*one, &*other]),
    ] {
        let answer = call(&api, &bound, proofs).await;
        assert_eq!(answer, (401, Some(INVALID.to_owned())), "{name}");
    }
    assert_eq!(call(&api, &bound, &[&one]).await, (200, None));
    let replay = call(&api, &bound, &[&one]).await;
    assert_eq!(replay, (401, Some(INVALID.to_owned())), "a replay");
    let as_bearer = call(&api, &format!("Bearer {secret}"), &[&other]).await;
    assert_eq!(as_bearer, (401, Some("invalid_token".to_owned())));
    let lower_case = call(&api, &format!("dpop {secret}"), &[&other]).await;
    assert_eq!(lower_case, (200, None), "a scheme has no case");
}

#[tokio::test]
async fn an_api_that_requires_proofs_refuses_a_bearer_token() {
    let (local, api) = start().await;
    local.register(TENANT, Application::new("bearer").secret(SECRET));
    let client = ConfidentialClient::builder("bearer")
        .authority(local.authority(TENANT))
        .client_secret(SECRET)
        .build()
        .unwrap();
    let token = client.acquire_token_for_client(ORDERS).await.unwrap();
    let bearer = format!("Bearer {}", token.secret());
    assert_eq!(call(&api, &bearer, &[]).await, (200, None));
    api.require_dpop();
    let refused = (401, Some("invalid_token".to_owned()));
    assert_eq!(call(&api, &bearer, &[]).await, refused);
    assert_eq!(
        call(&api, &format!("DPoP {}", token.secret()), &[]).await,
        refused
    );
    assert_eq!(call(&api, "", &[]).await, (401, None), "no token, no error");
}
