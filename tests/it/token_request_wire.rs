//! The token request, field by field.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use confidential_client::testing::{Application, Fault, LocalAuthority, RecordedRequest};
use confidential_client::{Certificate, Error, TokenRequest, TokenSource};
use http::header::LOCATION;
use rsa::pss::{Signature, VerifyingKey};
use rsa::signature::Verifier;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use x509_cert::der::Decode;

use crate::support::{CLIENT_ID, PEM, SCOPE, SECRET, TENANT, client_of};

/// An authority with one application, which holds a secret and a certificate.
async fn authority() -> (LocalAuthority, Certificate) {
    let certificate = Certificate::from_pem(&*PEM).unwrap();
    let local = LocalAuthority::start().await.unwrap();
    local.register(
        TENANT,
        Application::new(CLIENT_ID)
            .secret(SECRET)
            .certificate(&certificate)
            .role("https://graph.microsoft.com", "User.Read.All"),
    );
    (local, certificate)
}

fn assert_headers(request: &RecordedRequest, correlation_id: &str) {
    let names: BTreeSet<&str> = request.headers().keys().map(|name| name.as_str()).collect();
    let expected = [
        "accept",
        "client-request-id",
        "content-length",
        "content-type",
        "host",
        "return-client-request-id",
        "x-client-os",
        "x-client-sku",
        "x-client-ver",
        "x-ms-lib-capability",
    ];
    assert_eq!(names, BTreeSet::from(expected));
    for (name, value) in [
        ("accept", "application/json"),
        ("content-type", "application/x-www-form-urlencoded"),
        ("client-request-id", correlation_id),
        ("return-client-request-id", "true"),
        ("x-client-os", std::env::consts::OS),
        ("x-client-sku", "confidential-client.rs"),
        ("x-client-ver", env!("CARGO_PKG_VERSION")),
        ("x-ms-lib-capability", "retry-after, h429"),
    ] {
        assert_eq!(request.header(name), Some(value), "{name}");
    }
}

#[tokio::test]
async fn a_request_with_a_secret() {
    let (local, _) = authority().await;
    let client = client_of(&local).client_secret(SECRET).build().unwrap();
    let token = client.acquire_token_for_client(SCOPE).await.unwrap();
    assert_eq!(token.source(), TokenSource::IdentityProvider);
    assert_eq!(token.tenant_id(), Some(TENANT));
    assert_eq!(token.scopes(), SCOPE);

    let [request] = &local.token_requests()[..] else {
        panic!("one POST and no other request");
    };
    assert_eq!(request.path(), format!("/{TENANT}/oauth2/v2.0/token"));
    assert_headers(request, token.correlation_id());
    let form: Vec<(&str, &str)> = request
        .form()
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(
        form,
        [
            ("client_id", CLIENT_ID),
            ("client_secret", SECRET),
            ("scope", SCOPE),
            ("grant_type", "client_credentials"),
            ("client_info", "2"),
        ]
    );
}

#[tokio::test]
async fn a_request_with_a_certificate() {
    let (local, certificate) = authority().await;
    let client = client_of(&local).certificate(certificate).build().unwrap();
    let before = unix_seconds();
    let token = client.acquire_token_for_client(SCOPE).await.unwrap();
    let after = unix_seconds();

    let [request] = &local.token_requests()[..] else {
        panic!("one POST and no other request");
    };
    assert_headers(request, token.correlation_id());
    let names: Vec<&str> = request
        .form()
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(
        names,
        [
            "client_id",
            "client_assertion_type",
            "client_assertion",
            "scope",
            "grant_type",
            "client_info",
        ]
    );
    for (name, value) in [
        ("client_id", CLIENT_ID),
        (
            "client_assertion_type",
            "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        ),
        ("scope", SCOPE),
        ("grant_type", "client_credentials"),
        ("client_info", "2"),
    ] {
        assert_eq!(request.field(name), Some(value), "{name}");
    }

    let assertion = request.field("client_assertion").unwrap();
    let [header, claims, signature] = assertion.split('.').collect::<Vec<_>>()[..] else {
        panic!("three parts");
    };
    let recorded = [request.assertion_header(), request.assertion_claims()];
    for (recorded, part) in recorded.into_iter().zip([header, claims]) {
        let recorded: Value = serde_json::from_str(&recorded.unwrap()).unwrap();
        assert_eq!(recorded, decode(part), "as the record decodes it");
    }
    let der = CertificateDer::from_pem_slice(PEM.as_bytes()).unwrap();
    let x509 = x509_cert::Certificate::from_der(&der).unwrap();
    let thumbprint = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(&der));
    let header = decode(header);
    let expected = serde_json::json!({ "alg": "PS256", "typ": "JWT", "x5t#S256": thumbprint });
    assert_eq!(header, expected);

    let claims = decode(claims);
    let names: BTreeSet<&String> = claims.as_object().unwrap().keys().collect();
    let expected = ["aud", "exp", "iss", "jti", "nbf", "sub"].map(String::from);
    assert_eq!(names, expected.iter().collect());
    let endpoint = format!("{}/{TENANT}/oauth2/v2.0/token", local.base_url());
    assert_eq!(claims["aud"], endpoint);
    assert_eq!(claims["iss"], CLIENT_ID);
    assert_eq!(claims["sub"], CLIENT_ID);
    let nbf = claims["nbf"].as_u64().expect("a number, not a string");
    assert!(
        (before - 60..=after - 60).contains(&nbf),
        "a minute of skew"
    );
    assert_eq!(claims["exp"].as_u64(), Some(nbf + 600));
    uuid::Uuid::try_parse(claims["jti"].as_str().unwrap()).unwrap();

    // A second judge: the rsa crate, which took no part in signing.
    let (message, _) = assertion.rsplit_once('.').unwrap();
    let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
    let signature = Signature::try_from(signature.as_slice()).unwrap();
    let spki = x509.tbs_certificate().subject_public_key_info();
    let public_key =
        rsa::pkcs1::DecodeRsaPublicKey::from_pkcs1_der(spki.subject_public_key.raw_bytes());
    let judge = VerifyingKey::<rsa::sha2::Sha256>::new(public_key.unwrap());
    judge.verify(message.as_bytes(), &signature).unwrap();
    assert!(judge.verify(b"another message", &signature).is_err());
}

#[tokio::test]
async fn every_request_has_an_assertion_of_its_own() {
    let (local, certificate) = authority().await;
    let client = client_of(&local).certificate(certificate).build().unwrap();
    for scope in ["api://a/.default", "api://b/.default"] {
        client.acquire_token_for_client(scope).await.unwrap();
    }
    let jti = |request: &RecordedRequest| {
        let assertion = request.field("client_assertion").unwrap();
        decode(assertion.split('.').nth(1).unwrap())["jti"].clone()
    };
    let requests = local.token_requests();
    assert_eq!(requests.len(), 2);
    assert_ne!(jti(&requests[0]), jti(&requests[1]));
}

/// `LocalAuthority` refuses an assertion whose audience is another tenant's token endpoint.
#[tokio::test]
async fn an_assertion_is_for_the_tenant_that_is_asked() {
    let (local, certificate) = authority().await;
    local.register(
        "fabrikam.com",
        Application::new(CLIENT_ID).certificate(&certificate),
    );
    let client = client_of(&local).certificate(certificate).build().unwrap();
    let request = TokenRequest::new(SCOPE).tenant("fabrikam.com");
    client.acquire_token_for_client(request).await.unwrap();
}

#[tokio::test]
async fn the_callers_correlation_id_goes_out_and_comes_back() {
    let (local, _) = authority().await;
    let client = client_of(&local).client_secret("wrong").build().unwrap();
    let id = "A1A2A3A4-B1B2-C1C2-D1D2-E1E2E3E4E5E6";
    let request = TokenRequest::new(SCOPE).correlation_id(id);
    let error = client.acquire_token_for_client(&request).await.unwrap_err();
    let id = id.to_lowercase();
    assert_eq!(error.correlation_id(), Some(id.as_str()));
    let sent = &local.token_requests()[0];
    assert_eq!(sent.header("client-request-id"), Some(id.as_str()));
}

#[tokio::test]
async fn a_correlation_id_is_fresh_for_every_request() {
    let (local, _) = authority().await;
    let client = client_of(&local).client_secret(SECRET).build().unwrap();
    let first = client.acquire_token_for_client("api://a/.default").await;
    let second = client.acquire_token_for_client("api://b/.default").await;
    let (first, second) = (first.unwrap(), second.unwrap());
    uuid::Uuid::try_parse(first.correlation_id()).unwrap();
    assert_ne!(first.correlation_id(), second.correlation_id());
}

/// A redirect would send the secret to another host.
#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (local, _) = authority().await;
    let (elsewhere, _) = authority().await;
    let location = format!("{}/{TENANT}/oauth2/v2.0/token", elsewhere.base_url());
    for status in [301, 302, 307, 308] {
        let location = location.parse().unwrap();
        local.script([Fault::status(status)
            .header(LOCATION, location)
            .body("moved")]);
        let client = client_of(&local).client_secret(SECRET).build().unwrap();
        let error = client.acquire_token_for_client(SCOPE).await.unwrap_err();
        assert!(matches!(error, Error::InvalidResponse(_)), "{error:?}");
        assert_eq!(error.status().unwrap(), status);
    }
    assert!(elsewhere.token_requests().is_empty());
}

#[cfg(feature = "reqwest")]
#[tokio::test]
async fn a_loopback_authority_is_not_asked_through_a_proxy() {
    let (local, _) = authority().await;
    let nowhere = reqwest::Proxy::all("http://127.0.0.1:1").unwrap();
    let client = client_of(&local)
        .client_secret(SECRET)
        .reqwest(reqwest::Client::builder().proxy(nowhere))
        .build()
        .unwrap();
    client.acquire_token_for_client(SCOPE).await.unwrap();
}

fn decode(part: &str) -> Value {
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}
