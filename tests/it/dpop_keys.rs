//! Proof keys: every kind of key, and a private key that signs elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use confidential_client::credential::{DpopKey, SigningAlgorithm};
use confidential_client::{Authority, ConfidentialClient, Error, RetryPolicy};
use http::Request;

use crate::support::dpop::{JudgedProof, KEY, PUBLIC_KEY, es256, key, vault_key};
use crate::support::{Provider, SECRET};

/// The key of [`KEY`] as SEC 1, from `openssl ec`.
const SEC1: &str = "-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIHr2cy9YHQBa/PIW9jhf9jcQKSQsxghA3X0qelUDt9IcoAoGCCqGSM49
AwEHoUQDQgAEEVs/o5+uQbTjL3chynL4wXgUg2R9q9UU8I5mEovUf86QZ7kOBIjJ
wqnzD1omageEHWwHdBO6B+dFabmdT9POxg==
-----END EC PRIVATE KEY-----
";
const BOUND: &str = r#"{"token_type":"DPoP","expires_in":3599,"access_token":"t"}"#;

fn client(provider: &Provider, key: DpopKey) -> ConfidentialClient {
    let authority = Authority::oidc("https://id.example.org");
    ConfidentialClient::builder("daemon")
        .authority(authority.token_endpoint("https://id.example.org/token"))
        .client_secret(SECRET)
        .retry(RetryPolicy::none())
        .dpop(key)
        .transport(provider.transport())
        .build()
        .unwrap()
}

/// Acquires a token, and returns the proof of a request with the token.
async fn proof(key: DpopKey) -> Result<JudgedProof, Error> {
    let provider = Provider::open();
    provider.answer(200, BOUND);
    let client = client(&provider, key);
    let token = client.acquire_token_for_client("orders").await?;
    let sent = provider.header(0, "dpop").unwrap();
    JudgedProof::of(sent.to_str().unwrap());
    let mut request = Request::get("https://orders.example.org/")
        .body(())
        .unwrap();
    client.authorize(&token, &mut request).await?;
    Ok(JudgedProof::of(request.headers()["dpop"].to_str().unwrap()))
}

fn rsa_pem() -> String {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256);
    key.unwrap().serialize_pem()
}

#[tokio::test]
async fn every_kind_of_key_signs_proofs_that_another_library_verifies() {
    let rsa = rsa_pem();
    let rs256 = |key: DpopKey| key.signing_algorithm(SigningAlgorithm::RS256).unwrap();
    for (name, key, alg) in [
        ("generated", DpopKey::generate().unwrap(), "ES256"),
        ("PKCS#8", DpopKey::from_pem(KEY).unwrap(), "ES256"),
        ("SEC 1", DpopKey::from_pem(SEC1).unwrap(), "ES256"),
        ("RSA", DpopKey::from_pem(&rsa).unwrap(), "PS256"),
        (
            "RSA by RS256",
            rs256(DpopKey::from_pem(&rsa).unwrap()),
            "RS256",
        ),
        ("a vault", vault_key(|| true), "ES256"),
    ] {
        assert_eq!(key.algorithm().to_string(), alg, "{name}");
        let proof = proof(key).await.unwrap();
        assert_eq!(proof.header["alg"], alg, "{name}");
        let jwk = proof.header["jwk"].as_object().unwrap();
        let members: Vec<&str> = jwk.keys().map(String::as_str).collect();
        match alg {
            "ES256" => assert_eq!(members, ["crv", "kty", "x", "y"], "{name}"),
            _ => assert_eq!(members, ["e", "kty", "n"], "{name}"),
        }
    }
    let sec1 = DpopKey::from_pem(SEC1).unwrap();
    assert_eq!(sec1.thumbprint(), key().thumbprint(), "one key");
    assert_eq!(vault_key(|| true).thumbprint(), key().thumbprint());
    assert_ne!(
        DpopKey::generate().unwrap().thumbprint(),
        DpopKey::generate().unwrap().thumbprint()
    );
}

#[test]
fn a_text_that_is_no_key_is_an_error_that_shows_no_part_of_it() {
    let twice = format!("{KEY}{}", rsa_pem());
    for (pem, part) in [
        ("", "this is no PEM"),
        (PUBLIC_KEY, "holds no private key"),
        (&*twice, "two private keys"),
        (
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMBAwDgYJKoZIhvcNAQUNMAEEAQA=\n-----END ENCRYPTED PRIVATE KEY-----",
            "encrypted",
        ),
        (&KEY.replace("MIGH", "MIGG"), "cannot be read"),
    ] {
        let error = DpopKey::from_pem(pem).unwrap_err();
        assert!(matches!(error, Error::Credential(_)), "{error:?}");
        assert!(error.to_string().contains(part), "{part}: {error}");
        assert!(!format!("{error:?}{error}").contains("evZzL1gd"), "{error}");
    }
    let signer = |_: SigningAlgorithm, _: Vec<u8>| async { Err("closed".into()) };
    for (pem, part) in [
        (KEY, "no public key"),
        ("hello", "no public key"),
        (
            &PUBLIC_KEY.replace("MFkwEwYH", "MFgwEwYH"),
            "cannot be read",
        ),
    ] {
        let error = DpopKey::from_signer(pem, signer).unwrap_err();
        assert!(matches!(error, Error::Credential(_)), "{error:?}");
        assert!(error.to_string().contains(part), "{part}: {error}");
    }
    let error = key()
        .signing_algorithm(SigningAlgorithm::PS256)
        .unwrap_err();
    assert!(matches!(error, Error::Config(_)), "{error:?}");
    assert!(error.to_string().contains("does not fit PS256"), "{error}");
}

#[tokio::test]
async fn a_signature_in_the_wrong_form_is_not_sent() {
    for (name, change) in [
        (
            "another key",
            (|mut signature| {
                signature[9] ^= 1;
                signature
            }) as fn(Vec<u8>) -> Vec<u8>,
        ),
        ("cut off", |signature| signature[..63].to_vec()),
    ] {
        let signer =
            move |_: SigningAlgorithm, message: Vec<u8>| async move { Ok(change(es256(&message))) };
        let key = DpopKey::from_signer(PUBLIC_KEY, signer).unwrap();
        let provider = Provider::open();
        let client = client(&provider, key);
        let error = client.acquire_token_for_client("orders").await.unwrap_err();
        assert!(matches!(error, Error::Credential(_)), "{name}: {error:?}");
        let error = error.to_string();
        assert!(error.contains("does not match the public key"), "{error}");
        assert_eq!(provider.requests(), 0, "{name}");
    }
}

/// The client waits for at most ten seconds, at the token endpoint and at the API.
#[tokio::test(start_paused = true)]
async fn a_signer_that_never_answers_has_a_time_limit() {
    let calls = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&calls);
    let signer = move |_: SigningAlgorithm, message: Vec<u8>| {
        let hangs = seen.fetch_add(1, Ordering::SeqCst) != 1;
        async move {
            match hangs {
                true => std::future::pending().await,
                false => Ok(es256(&message)),
            }
        }
    };
    let key = DpopKey::from_signer(PUBLIC_KEY, signer).unwrap();
    let provider = Provider::open();
    provider.answer(200, BOUND);
    let client = client(&provider, key);
    let limit = "the proof could not be signed within 10 s";
    let error = client.acquire_token_for_client("orders").await.unwrap_err();
    assert!(error.to_string().contains(limit), "{error}");
    client.cache().clear();
    let token = client.acquire_token_for_client("orders").await.unwrap();
    let mut request = Request::get("https://orders.example.org/")
        .body(())
        .unwrap();
    let error = client.authorize(&token, &mut request).await.unwrap_err();
    assert!(matches!(error, Error::Credential(_)), "{error:?}");
    assert!(error.to_string().contains(limit), "{error}");
    assert!(request.headers().is_empty());
    assert_eq!(calls.load(Ordering::SeqCst), 3);
}

/// A key in memory signs without a runtime, and a signer says that it cannot.
#[test]
fn outside_of_a_runtime_only_a_key_in_memory_signs() {
    for (key, works) in [(key(), true), (vault_key(|| true), false)] {
        let provider = Provider::open();
        provider.answer(200, BOUND);
        let client = client(&provider, key);
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().unwrap();
        let token = runtime.block_on(client.acquire_token_for_client("orders"));
        let token = token.unwrap();
        let mut request = Request::get("https://orders.example.org/")
            .body(())
            .unwrap();
        let authorized = client.authorize(&token, &mut request);
        let authorized = futures_util::FutureExt::now_or_never(authorized).unwrap();
        match works {
            true => authorized.unwrap(),
            false => {
                let error = authorized.unwrap_err();
                assert!(matches!(error, Error::Config(_)), "{error:?}");
                assert!(error.to_string().contains("tokio runtime"), "{error}");
            }
        }
    }
}

/// `tracing` has the request for a token, and neither the proof nor its key.
#[tokio::test]
async fn the_log_has_no_proof() {
    let log = crate::support::log_capture::Log::start();
    let provider = Provider::open();
    provider.answer(400, r#"{"error":"use_dpop_nonce"}"#);
    let client = client(&provider, key());
    let error = client.acquire_token_for_client("orders").await.unwrap_err();
    let sent = provider.header(0, "dpop").unwrap();
    let sent = sent.to_str().unwrap();
    let shown = format!("{}{error}{error:?}{client:?}", log.text());
    for part in sent.split('.') {
        assert!(!shown.contains(part), "{part}");
    }
}
