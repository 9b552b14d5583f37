//! Tokens that are bound to a proof key (DPoP, RFC 9449): the client, the token endpoint, an API.

use std::time::SystemTime;

use confidential_client::cache::SharedCacheOptions;
use confidential_client::credential::DpopKey;
use confidential_client::testing::LocalSharedCache;
use confidential_client::{Authority, Cloud, ConfidentialClient, Error, TokenScheme, TokenSource};
use http::Request;
use http::header::AUTHORIZATION;

use crate::support::dpop::{
    JudgedProof, ORDERS, OTHER_KEY, client_of, hash, http, key, seconds, start, token_proofs,
};
use crate::support::{CLIENT_ID, Provider, SCOPE, SECRET, TENANT, claims_of};

#[tokio::test]
async fn a_token_is_bound_and_each_request_has_a_proof_of_its_own() {
    let (local, api) = start().await;
    let before = seconds(SystemTime::now());
    let client = client_of(&local).dpop(key()).build().unwrap();
    let provider = client.token_provider(ORDERS).unwrap();
    let url = format!("{}/v1/orders?page=2#top", api.base_url());
    let mut ids = Vec::new();
    for _ in 0..3 {
        let mut request = reqwest::Request::new(http::Method::GET, url.parse().unwrap());
        provider.authorize(&mut request).await.unwrap();
        let proof = &request.headers()["dpop"];
        assert!(proof.is_sensitive());
        let proof = JudgedProof::of(proof.to_str().unwrap());
        let token = request.headers()[AUTHORIZATION].to_str().unwrap();
        let token = token.strip_prefix("DPoP ").unwrap();
        assert_eq!(proof.thumbprint(), key().thumbprint());
        assert_eq!(proof.text("htm"), "GET");
        assert_eq!(proof.text("htu"), format!("{}/v1/orders", api.base_url()));
        assert_eq!(proof.text("ath"), hash(token));
        let iat = proof.claims["iat"].as_u64().unwrap();
        assert!((before..=seconds(SystemTime::now())).contains(&iat));
        assert_eq!(claims_of(token)["cnf"]["jkt"], key().thumbprint());
        ids.push(proof.text("jti").to_owned());
        assert_eq!(http().execute(request).await.unwrap().status(), 200);
    }
    let proofs = token_proofs(&local);
    assert_eq!(proofs.len(), 1, "one token request");
    let uri = format!("{}{}", local.base_url(), local.token_requests()[0].path());
    assert_eq!(proofs[0].text("htm"), "POST");
    assert_eq!(proofs[0].text("htu"), uri);
    assert_eq!(proofs[0].claims.get("ath"), None, "no token yet");
    assert_eq!(proofs[0].header.as_object().unwrap().len(), 3);
    ids.push(proofs[0].text("jti").to_owned());
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 4, "each proof has its own jti");
}

#[test]
fn a_key_that_no_token_can_be_bound_to_is_an_error_of_build() {
    let builder = |authority: Authority| {
        ConfidentialClient::builder(CLIENT_ID)
            .authority(authority)
            .client_secret(SECRET)
            .dpop(key())
    };
    for (authority, name) in [
        (
            Authority::entra(Cloud::Public, TENANT),
            "Microsoft Entra ID",
        ),
        (Authority::adfs("fs.contoso.com"), "AD FS"),
        (
            Authority::b2c(
                "contoso.b2clogin.com",
                "contoso.onmicrosoft.com",
                "B2C_1_sign_in",
            ),
            "Azure AD B2C",
        ),
    ] {
        let error = builder(authority).build().unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        let error = error.to_string();
        assert!(
            error.starts_with(&format!("{name} issues no DPoP")),
            "{error}"
        );
        assert!(error.contains("mutual TLS"), "{error}");
    }
    let oidc = || builder(Authority::oidc("https://id.example.org"));
    let store = || LocalSharedCache::new();
    let generated = oidc().dpop(DpopKey::generate().unwrap());
    let error = generated.shared_cache(store(), options()).build();
    let error = error.unwrap_err();
    assert!(matches!(error, Error::Config(_)), "{error:?}");
    assert!(
        error.to_string().contains("DpopKey::from_pem(..)"),
        "{error}"
    );
    oidc().shared_cache(store(), options()).build().unwrap();
    oidc().dpop(DpopKey::generate().unwrap()).build().unwrap();
}

#[tokio::test]
async fn an_algorithm_that_the_provider_does_not_accept_is_an_error_before_the_request() {
    for (listed, accepted) in [
        (r#"["RS256","PS256"]"#, false),
        ("[]", false),
        (r#"["EdDSA","ES256"]"#, true),
        ("null", true),
    ] {
        let provider = Provider::open();
        provider.answer(
            200,
            &format!(
                r#"{{"issuer":"https://id.example.org","token_endpoint":"https://id.example.org/token","dpop_signing_alg_values_supported":{listed}}}"#
            ),
        );
        provider.answer(200, BOUND);
        let client = ConfidentialClient::builder("daemon")
            .authority(Authority::oidc("https://id.example.org"))
            .client_secret(SECRET)
            .dpop(key())
            .transport(provider.transport())
            .build()
            .unwrap();
        let result = client.acquire_token_for_client("orders").await;
        match accepted {
            true => assert_eq!(result.unwrap().scheme(), TokenScheme::Dpop, "{listed}"),
            false => {
                let error = result.unwrap_err();
                assert!(matches!(error, Error::Config(_)), "{error:?}");
                let error = error.to_string();
                assert!(error.contains("the proof key signs with ES256"), "{error}");
                assert_eq!(provider.requests(), 1, "no token request");
            }
        }
    }
}

#[tokio::test]
async fn a_token_that_is_not_bound_is_discarded() {
    let provider = Provider::open();
    let client = in_memory(&provider, key());
    let error = client.acquire_token_for_client("orders").await.unwrap_err();
    assert!(matches!(error, Error::InvalidResponse(_)), "{error:?}");
    let error = error.to_string();
    assert!(
        error.contains("is not bound to the client's key"),
        "{error}"
    );
}

#[tokio::test]
async fn a_request_that_no_proof_can_be_made_for_stays_unchanged() {
    let provider = Provider::open();
    let client = in_memory(&provider, key());
    provider.answer(200, BOUND);
    let token = client.acquire_token_for_client("orders").await.unwrap();
    let mut headers = http::HeaderMap::new();
    let error = client.authorize(&token, &mut headers).await.unwrap_err();
    assert!(
        error.to_string().contains("pass the http::Request"),
        "{error}"
    );
    assert!(headers.is_empty());
    for (uri, part) in [
        (
            "/v1/orders?key=hunter2",
            "'/v1/orders': the URI is not an absolute URI",
        ),
        ("ftp://orders.example.org/", "neither https nor http"),
        (
            "https://adele:hunter2@orders.example.org/v1",
            "'https://orders.example.org/v1': the URI has a user name",
        ),
    ] {
        let mut request = Request::get(uri).body(()).unwrap();
        let error = client.authorize(&token, &mut request).await.unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        assert!(error.to_string().contains(part), "{error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
        assert!(request.headers().is_empty());
    }
    let bearer = Provider::open();
    let bearer = bearer.client();
    let others = [in_memory(&provider, DpopKey::generate().unwrap()), bearer];
    for (other, part) in others
        .iter()
        .zip(["another proof key", "this client has none"])
    {
        let mut request = Request::get("https://orders.example.org/")
            .body(())
            .unwrap();
        let error = other.authorize(&token, &mut request).await.unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        assert!(error.to_string().contains(part), "{error}");
        assert!(request.headers().is_empty());
    }
}

#[tokio::test]
async fn a_client_with_a_proof_key_attaches_a_bearer_token_as_one() {
    let provider = Provider::open();
    let bearer = provider
        .client()
        .acquire_token_for_client(SCOPE)
        .await
        .unwrap();
    let client = in_memory(&provider, key());
    let mut headers = http::HeaderMap::new();
    client.authorize(&bearer, &mut headers).await.unwrap();
    assert_eq!(headers[AUTHORIZATION], "Bearer token-1");
    assert_eq!(headers.len(), 1);
}

/// All forms of a request, with the method and the URI in the proof.
#[tokio::test]
async fn every_form_of_a_request_gets_its_own_method_and_uri() {
    let provider = Provider::open();
    let client = in_memory(&provider, key());
    provider.answer(200, BOUND);
    let token = client.acquire_token_for_client("orders").await.unwrap();
    let check = |headers: &http::HeaderMap, method: &str| {
        let proofs: Vec<_> = headers.get_all("dpop").iter().collect();
        assert_eq!(proofs.len(), 1, "an old proof is replaced");
        let proof = JudgedProof::of(proofs[0].to_str().unwrap());
        assert_eq!(proof.text("htm"), method);
        assert_eq!(proof.text("htu"), "https://orders.example.org/a%2fb");
        assert_eq!(headers[AUTHORIZATION], "DPoP t");
    };
    let uri = "https://Orders.example.org:443/a%2fb?c#d";
    let request = |method: &str| {
        let request = Request::builder().method(method).uri(uri);
        request.header("dpop", "old").body(()).unwrap()
    };
    let mut whole = request("POST");
    client.authorize(&token, &mut whole).await.unwrap();
    check(whole.headers(), "POST");
    let (mut parts, ()) = request("PATCH").into_parts();
    client.authorize(&token, &mut parts).await.unwrap();
    check(&parts.headers, "PATCH");
    let mut sent = reqwest::Request::new(http::Method::DELETE, uri.parse().unwrap());
    client.authorize(&token, &mut sent).await.unwrap();
    check(sent.headers(), "DELETE");
}

/// Two processes with one key share a token. A process with another key has its own.
#[tokio::test]
async fn a_shared_cache_has_a_token_for_each_key() {
    let (local, api) = start().await;
    let store = LocalSharedCache::new();
    let client = |key: DpopKey| {
        let client = client_of(&local)
            .dpop(key)
            .shared_cache(store.clone(), options());
        client.build().unwrap()
    };
    let other_key = || DpopKey::from_pem(OTHER_KEY).unwrap();
    let mut sources = Vec::new();
    for key in [key(), key(), other_key(), other_key()] {
        let client = client(key);
        let token = client.acquire_token_for_client(ORDERS).await.unwrap();
        let url = api.base_url().parse().unwrap();
        let mut request = reqwest::Request::new(http::Method::GET, url);
        client.authorize(&token, &mut request).await.unwrap();
        assert_eq!(http().execute(request).await.unwrap().status(), 200);
        sources.push(token.source());
    }
    use TokenSource::{IdentityProvider, SharedCache};
    assert_eq!(
        sources,
        [IdentityProvider, SharedCache, IdentityProvider, SharedCache]
    );
}

fn options() -> SharedCacheOptions {
    SharedCacheOptions::without_encryption("a name key of thirty-two letters")
}

/// A client of an in-memory OpenID provider.
fn in_memory(provider: &Provider, key: DpopKey) -> ConfidentialClient {
    let authority = Authority::oidc("https://id.example.org");
    ConfidentialClient::builder("daemon")
        .authority(authority.token_endpoint("https://id.example.org/token"))
        .client_secret(SECRET)
        .dpop(key)
        .transport(provider.transport())
        .build()
        .unwrap()
}

const BOUND: &str = r#"{"token_type":"DPoP","expires_in":3599,"access_token":"t"}"#;
