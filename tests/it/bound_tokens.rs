//! Tokens that are bound to a proof key, at the validator of an API: a row for each decision.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use confidential_client::Error;
use confidential_client::credential::SigningAlgorithm;
use confidential_client::resource::{
    Claims, DpopPolicy, ExternalUri, RejectionReason, ReplayCache, ReplayCacheFuture,
    ResourceRequest, TokenRejection, TokenValidator,
};
use confidential_client::testing::ManualClock;
use http::{Method, Request, Uri};
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

use crate::support::issuer::{
    Issuer, P256, RSA, TENANT_ID, encode, header, sign_with, user_claims, user_token, with, without,
};
use crate::support::proof::{ProofKey, now};

const API: &str = "https://api.example/drive";
const FILES: &str = "https://api.example/drive/files";

fn policy() -> DpopPolicy {
    DpopPolicy::new(API)
}

fn validator(policy: DpopPolicy) -> TokenValidator {
    let builder = Issuer::new().builder(TENANT_ID).single_tenant();
    builder.dpop(policy).build().unwrap()
}

/// A request for the files, which the proxy sends on without the prefix `/drive`.
struct Call {
    authorization: String,
    proofs: Vec<String>,
    method: Method,
    path: &'static str,
}

impl Call {
    fn new(authorization: String, proofs: &[String]) -> Self {
        Self {
            authorization,
            proofs: proofs.to_vec(),
            method: Method::GET,
            path: "/files?page=2",
        }
    }

    fn with_proof(key: &ProofKey, proof: &str) -> Self {
        Self::new(format!("DPoP {}", key.token), &[proof.to_owned()])
    }

    async fn send(&self, validator: &TokenValidator) -> Result<Claims, TokenRejection> {
        let mut request = Request::builder()
            .method(&self.method)
            .uri(self.path)
            .header("authorization", &self.authorization);
        for proof in &self.proofs {
            request = request.header("dpop", proof);
        }
        let request = request.body(()).unwrap();
        validator
            .validate_request(ResourceRequest::from(&request))
            .await
    }
}

fn challenge(rejection: &TokenRejection) -> String {
    let challenge = rejection.www_authenticate().unwrap();
    challenge.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_request_with_one_flaw_is_rejected_for_that_flaw() {
    let validator = validator(policy());
    let (key, other) = (ProofKey::new(), ProofKey::new());
    let claims = || key.claims("GET", FILES);
    let claiming = |name: &str, value: Value| key.sign(&key.header(), &with(claims(), name, value));
    let headed = |name: &str, value: Value| key.sign(&with(key.header(), name, value), &claims());
    let lacking = |name: &str| key.sign(&key.header(), &without(claims(), name));
    let with_proof = |proof: String| Call::with_proof(&key, &proof);
    let dpop = |proofs: &[String]| Call::new(format!("DPoP {}", key.token), proofs);
    let good = || key.proof("GET", FILES);
    let used = good();
    with_proof(used.clone()).send(&validator).await.unwrap();
    let private = with(key.jwk.clone(), "d", "AA");
    let symmetric = {
        // A validator that uses the public key as an HMAC secret would accept this proof.
        let secret = EncodingKey::from_secret(key.jwk["x"].as_str().unwrap().as_bytes());
        let header = with(key.header(), "alg", "HS256");
        sign_with(&secret, Algorithm::HS256, &header, &claims())
    };
    let unsigned = good().rsplit_once('.').unwrap().0.to_owned();
    use RejectionReason as Is;
    for (name, call, expected) in [
        ("valid", with_proof(good()), None),
        (
            "another spelling of the URI",
            with_proof(claiming(
                "htu",
                json!("HTTPS://API.example:443/%64rive/./files?x#y"),
            )),
            None,
        ),
        (
            "the scheme in lower case",
            Call::new(format!("dpop {}", key.token), &[good()]),
            None,
        ),
        (
            "a nonce that nobody asked for",
            with_proof(claiming("nonce", json!("n"))),
            None,
        ),
        ("sent before", with_proof(used), Some(Is::InvalidProof)),
        (
            "another path",
            with_proof(key.proof("GET", "https://api.example/drive/file")),
            Some(Is::InvalidProof),
        ),
        (
            "the path without the prefix",
            with_proof(key.proof("GET", "https://api.example/files")),
            Some(Is::InvalidProof),
        ),
        (
            "another host",
            with_proof(key.proof("GET", "https://evil.example/drive/files")),
            Some(Is::InvalidProof),
        ),
        (
            "another port",
            with_proof(key.proof("GET", "https://api.example:8443/drive/files")),
            Some(Is::InvalidProof),
        ),
        (
            "http",
            with_proof(key.proof("GET", "http://api.example/drive/files")),
            Some(Is::InvalidProof),
        ),
        (
            "another method",
            with_proof(key.proof("POST", FILES)),
            Some(Is::InvalidProof),
        ),
        (
            "the hash of another token",
            with_proof(claiming("ath", json!(encode([0; 32])))),
            Some(Is::InvalidProof),
        ),
        (
            "no hash of the token",
            with_proof(lacking("ath")),
            Some(Is::InvalidProof),
        ),
        ("no jti", with_proof(lacking("jti")), Some(Is::InvalidProof)),
        (
            "no time",
            with_proof(lacking("iat")),
            Some(Is::InvalidProof),
        ),
        (
            "stale",
            with_proof(claiming("iat", json!(now() - 61))),
            Some(Is::InvalidProof),
        ),
        (
            "from the future",
            with_proof(claiming("iat", json!(now() + 90))),
            Some(Is::InvalidProof),
        ),
        (
            "another key",
            with_proof(other.sign(&other.header(), &claims())),
            Some(Is::BoundToKey),
        ),
        (
            "another key under the name of the token's",
            with_proof(other.sign(&key.header(), &claims())),
            Some(Is::InvalidProof),
        ),
        (
            "no signature",
            with_proof(format!("{unsigned}.")),
            Some(Is::InvalidProof),
        ),
        ("no proof", dpop(&[]), Some(Is::InvalidProof)),
        (
            "two proofs",
            dpop(&[good(), good()]),
            Some(Is::InvalidProof),
        ),
        (
            "two proofs in one header",
            dpop(&[format!("{}, {}", good(), good())]),
            Some(Is::InvalidProof),
        ),
        (
            "a symmetric algorithm",
            with_proof(symmetric),
            Some(Is::InvalidProof),
        ),
        (
            "no algorithm",
            with_proof(headed("alg", json!("none"))),
            Some(Is::InvalidProof),
        ),
        (
            "a private key",
            with_proof(headed("jwk", private)),
            Some(Is::InvalidProof),
        ),
        (
            "the type of a token",
            with_proof(headed("typ", json!("at+jwt"))),
            Some(Is::InvalidProof),
        ),
        (
            "the token as the proof",
            with_proof(key.token.clone()),
            Some(Is::InvalidProof),
        ),
        (
            "as a bearer token",
            Call::new(format!("Bearer {}", key.token), &[]),
            Some(Is::BoundToKey),
        ),
        (
            "as a bearer token with a proof",
            Call::new(format!("Bearer {}", key.token), &[good()]),
            Some(Is::BoundToKey),
        ),
        (
            "not bound, with DPoP",
            Call::new(format!("DPoP {}", user_token()), &[good()]),
            Some(Is::NotBound),
        ),
        (
            "not bound, without DPoP",
            Call::new(format!("Bearer {}", user_token()), &[]),
            None,
        ),
        (
            "mtls_pop",
            Call::new(format!("mtls_pop {}", key.token), &[good()]),
            Some(Is::MissingToken),
        ),
        (
            "a token that is wrong itself",
            Call::new("DPoP x".to_owned(), &[good()]),
            Some(Is::Malformed),
        ),
        (
            "no space",
            Call::new(format!("DPoP\t{}", key.token), &[good()]),
            Some(Is::InvalidRequest),
        ),
    ] {
        let outcome = call.send(&validator).await;
        assert_eq!(
            outcome.as_ref().err().map(TokenRejection::reason),
            expected,
            "{name}"
        );
        let Err(rejection) = outcome else { continue };
        let expected_status = if expected == Some(Is::InvalidRequest) {
            400
        } else {
            401
        };
        assert_eq!(rejection.status(), expected_status, "{name}");
        // Neither text quotes the token or the proof.
        for text in [
            rejection.to_string(),
            rejection.chain().to_string(),
            challenge(&rejection),
        ] {
            assert!(!text.contains("eyJ"), "{name}: {text}");
        }
    }
}

#[tokio::test]
async fn the_challenges_are_those_of_the_standard() {
    const ALL: &str = r#"algs="ES256 ES384 EdDSA PS256 RS256""#;
    let both = validator(policy());
    let only = |policy| {
        let builder = Issuer::new().builder(TENANT_ID).single_tenant();
        builder.dpop(policy).require_bound_tokens().build().unwrap()
    };
    let bound_only = only(policy().algorithms([SigningAlgorithm::ES256]));
    let key = ProofKey::new();
    let expired = key.proof("GET", FILES);
    let late = RSA.sign(
        &header(),
        &with(
            with(user_claims(), "cnf", json!({ "jkt": encode([7; 32]) })),
            "exp",
            1,
        ),
    );
    let bearer = |token: &str| Call::new(format!("Bearer {token}"), &[]);
    let dpop = |token: &str, proof: &str| Call::new(format!("DPoP {token}"), &[proof.to_owned()]);
    let missing = Call::new("Basic x".to_owned(), &[]);
    let bearer_text = r#"error="invalid_token", error_description="the token is bound to a proof key, and was sent without a proof; send the token with the scheme 'DPoP' and a proof in the header 'DPoP'""#;
    for (name, validator, call, expected) in [
        ("no token", &both, &missing, format!(r#"Bearer realm="", DPoP {ALL}"#)),
        ("no token, bound tokens only", &bound_only, &missing, r#"DPoP algs="ES256""#.to_owned()),
        ("a bound token as bearer", &both, &bearer(&key.token), format!(r#"Bearer realm="", {bearer_text}, DPoP {ALL}"#)),
        ("a bound token as bearer, bound tokens only", &bound_only, &bearer(&key.token), format!(r#"DPoP {bearer_text}, algs="ES256""#)),
        (
            "a bearer token, bound tokens only", &bound_only, &bearer(&user_token()),
            r#"DPoP error="invalid_token", error_description="the token is not bound to a key, and this API accepts only bound tokens", algs="ES256""#.to_owned(),
        ),
        (
            "an invalid proof", &both, &dpop(&key.token, "x"),
            format!(r#"DPoP error="invalid_dpop_proof", error_description="the proof is not a signed JWT: it does not have three parts separated by dots", {ALL}, Bearer realm="""#),
        ),
        (
            "an expired token", &bound_only, &dpop(&late, &expired),
            r#"DPoP error="invalid_token", error_description="the token has expired", algs="ES256""#.to_owned(),
        ),
    ] {
        let rejection = call.send(validator).await.unwrap_err();
        assert_eq!(challenge(&rejection), expected, "{name}");
        assert_eq!(rejection.dpop_nonce(), None, "{name}");
    }
    // A permission that lacks is in the challenge of the scheme, too.
    let claims = Call::with_proof(&key, &key.proof("GET", FILES))
        .send(&both)
        .await
        .unwrap();
    let rejection = claims.require_scope("Files.Write").unwrap_err();
    assert_eq!(
        challenge(&rejection),
        format!(
            r#"DPoP error="insufficient_scope", error_description="the client was not granted the scope 'Files.Write'", scope="Files.Write", {ALL}, Bearer realm="""#
        )
    );
    let claims = bearer(&user_token()).send(&both).await.unwrap();
    let rejection = claims.require_scope("Files.Write").unwrap_err();
    assert!(challenge(&rejection).starts_with(r#"Bearer realm="", error="insufficient_scope""#));
    assert!(challenge(&rejection).ends_with(&format!(r#"scope="Files.Write", DPoP {ALL}"#)));
}

#[tokio::test]
async fn the_operator_reads_the_compared_values() {
    let validator = validator(policy());
    let (key, other) = (ProofKey::new(), ProofKey::new());
    let claims = || key.claims("GET", FILES);
    let at = |iat: u64| key.sign(&key.header(), &with(claims(), "iat", iat));
    for (proof, sender, operator) in [
        (
            key.proof("POST", FILES),
            "'htm' is not the method",
            &["'POST'", "'GET'"][..],
        ),
        (
            key.proof("GET", "https://api.example/other"),
            "'htu' is not the URI",
            &["'https://api.example/other'", FILES],
        ),
        (
            at(now() - 500),
            "the proof is too old",
            &["before this machine's clock", "clock skew is"],
        ),
        (
            at(now() + 500),
            "'iat' is in the future",
            &["after this machine's clock"],
        ),
        (
            other.sign(&other.header(), &claims()),
            "another key than the key of the access token",
            &["the access token is bound to '"],
        ),
    ] {
        let rejection = Call::with_proof(&key, &proof)
            .send(&validator)
            .await
            .unwrap_err();
        let (text, chain) = (rejection.to_string(), rejection.chain().to_string());
        assert!(text.contains(sender), "{text}");
        for value in operator {
            assert!(chain.contains(value), "{chain}");
            assert!(!text.contains(value), "{text}");
        }
    }
}

#[tokio::test]
async fn a_key_of_each_type_and_the_accepted_algorithms() {
    let validator = validator(policy().algorithms([SigningAlgorithm::RS256]));
    let key = ProofKey::new();
    let rejection = Call::with_proof(&key, &key.proof("GET", FILES))
        .send(&validator)
        .await;
    assert_eq!(
        rejection.unwrap_err().to_string(),
        "the proof is signed with an algorithm that is not accepted"
    );

    let rsa: jsonwebtoken::jwk::Jwk = serde_json::from_value(RSA.jwk.clone()).unwrap();
    let jkt = rsa
        .thumbprint(jsonwebtoken::jwk::ThumbprintHash::SHA256)
        .unwrap();
    let token = RSA.sign(
        &header(),
        &with(user_claims(), "cnf", json!({ "jkt": jkt })),
    );
    let mut key = ProofKey::new();
    key.token = token;
    let header = json!({ "typ": "dpop+jwt", "alg": "RS256", "jwk": RSA.jwk });
    let proof = RSA.sign(&header, &key.claims("GET", FILES));
    Call::with_proof(&key, &proof)
        .send(&validator)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_required_nonce_rotates() {
    let clock = ManualClock::new();
    let build = |policy: DpopPolicy, clock: &ManualClock| {
        let builder = Issuer::new().builder(TENANT_ID).single_tenant();
        builder.dpop(policy).clock(clock.clone()).build().unwrap()
    };
    let long = || policy().proof_window(Duration::from_secs(600));
    let validator = build(long().require_nonce(), &clock);
    let key = ProofKey::new();
    let call = |nonce: Option<&str>| {
        let claims = key.claims("GET", FILES);
        let claims = nonce.map_or(claims.clone(), |nonce| with(claims, "nonce", nonce));
        Call::with_proof(&key, &key.sign(&key.header(), &claims))
    };
    let rejection = call(None).send(&validator).await.unwrap_err();
    assert_eq!(rejection.reason(), RejectionReason::NeedsNonce);
    assert_eq!(rejection.status(), 401);
    assert!(challenge(&rejection).starts_with(
        r#"DPoP error="use_dpop_nonce", error_description="the proof has no nonce, and the server requires one", algs=""#
    ));
    let nonce = rejection.dpop_nonce().unwrap();
    assert_eq!(validator.dpop_nonce(), Some(nonce.clone()));
    let nonce = nonce.to_str().unwrap();
    call(Some(nonce)).send(&validator).await.unwrap();
    let rejection = call(Some("another")).send(&validator).await.unwrap_err();
    assert_eq!(rejection.reason(), RejectionReason::NeedsNonce);

    // The nonce of the period before is accepted, and the response has the new nonce.
    clock.advance(Duration::from_secs(300));
    call(Some(nonce)).send(&validator).await.unwrap();
    assert_ne!(validator.dpop_nonce().unwrap(), nonce);
    clock.advance(Duration::from_secs(300));
    let rejection = call(Some(nonce)).send(&validator).await.unwrap_err();
    assert_eq!(rejection.reason(), RejectionReason::NeedsNonce);
    // A request without a token gets a nonce, too.
    let rejection = Call::new("Basic x".to_owned(), &[])
        .send(&validator)
        .await
        .unwrap_err();
    assert_eq!(rejection.dpop_nonce(), validator.dpop_nonce());

    // Processes with the same key accept each other's nonces, and those without do not.
    let keyed = || build(policy().nonce_key("k".repeat(32)), &clock);
    assert_eq!(keyed().dpop_nonce(), keyed().dpop_nonce());
    assert_ne!(
        build(long().require_nonce(), &clock).dpop_nonce(),
        validator.dpop_nonce()
    );
    assert_eq!(build(long(), &clock).dpop_nonce(), None);
}

#[tokio::test]
async fn a_proof_is_accepted_once_until_it_is_too_old() {
    let clock = ManualClock::new();
    let builder = Issuer::new().builder(TENANT_ID).single_tenant();
    let validator = builder.dpop(policy()).clock(clock.clone()).build().unwrap();
    let key = ProofKey::new();
    let ahead = key.sign(
        &key.header(),
        &with(key.claims("GET", FILES), "iat", now() + 55),
    );
    let call = Call::with_proof(&key, &ahead);
    call.send(&validator).await.unwrap();
    for seconds in [0, 60, 50] {
        clock.advance(Duration::from_secs(seconds));
        let rejection = call.send(&validator).await.unwrap_err();
        assert_eq!(
            rejection.to_string(),
            "the proof was used before",
            "{seconds}"
        );
    }
    clock.advance(Duration::from_secs(10));
    let rejection = call.send(&validator).await.unwrap_err();
    assert!(rejection.to_string().contains("too old"), "{rejection}");
}

#[tokio::test]
async fn a_full_replay_cache_rejects_with_503() {
    let validator = validator(policy().max_replay_entries(1));
    let key = ProofKey::new();
    let call = || Call::with_proof(&key, &key.proof("GET", FILES));
    call().send(&validator).await.unwrap();
    let rejection = call().send(&validator).await.unwrap_err();
    assert_eq!(rejection.reason(), RejectionReason::ReplayCacheUnavailable);
    assert_eq!(rejection.status(), 503);
    assert_eq!(rejection.retry_after(), Some(Duration::from_secs(5)));
    assert_eq!(rejection.www_authenticate(), None);
    assert!(
        rejection
            .chain()
            .to_string()
            .contains("max_replay_entries(..)")
    );
}

/// A store that several processes share.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<HashSet<String>>>, &'static str);

impl ReplayCache for Shared {
    fn insert<'a>(&'a self, proof: &'a str, lifetime: Duration) -> ReplayCacheFuture<'a> {
        assert_eq!(proof.len(), 43);
        assert!((58..=61).contains(&lifetime.as_secs()), "{lifetime:?}");
        Box::pin(async move {
            match self.1 {
                "fails" => Err("connection refused".into()),
                "hangs" => std::future::pending().await,
                _ => Ok(self.0.lock().unwrap().insert(proof.to_owned())),
            }
        })
    }
}

#[tokio::test(start_paused = true)]
async fn processes_share_a_replay_cache_and_a_cache_that_fails_accepts_nothing() {
    let shared = Shared::default();
    let (one, other) = (
        validator(policy().replay_cache(shared.clone())),
        validator(policy().replay_cache(shared.clone())),
    );
    let key = ProofKey::new();
    let call = Call::with_proof(&key, &key.proof("GET", FILES));
    call.send(&one).await.unwrap();
    for validator in [&other, &one] {
        let rejection = call.send(validator).await.unwrap_err();
        assert_eq!(rejection.to_string(), "the proof was used before");
    }
    for (behaviour, cause) in [
        ("fails", "connection refused"),
        ("hangs", "did not respond within two seconds"),
    ] {
        let validator = validator(policy().replay_cache(Shared(shared.0.clone(), behaviour)));
        let call = Call::with_proof(&key, &key.proof("GET", FILES));
        let rejection = call.send(&validator).await.unwrap_err();
        assert_eq!(rejection.reason(), RejectionReason::ReplayCacheUnavailable);
        assert_eq!(rejection.status(), 503);
        assert!(rejection.retry_after().is_some());
        let chain = rejection.chain().to_string();
        assert!(chain.contains(cause), "{chain}");
    }
}

#[tokio::test]
async fn an_api_may_have_several_urls_and_a_uri_of_its_own() {
    let validator = validator(policy().external_url("http://localhost:8080"));
    let key = ProofKey::new();
    for (uri, is_accepted) in [
        (FILES, true),
        ("http://localhost:8080/files", true),
        ("https://localhost:8080/files", false),
        ("http://localhost:8080/drive/files", false),
    ] {
        let outcome = Call::with_proof(&key, &key.proof("GET", uri))
            .send(&validator)
            .await;
        assert_eq!(outcome.is_ok(), is_accepted, "{uri}");
    }
    let headers = |proof: String| {
        let request = Request::builder()
            .header("authorization", format!("DPoP {}", key.token))
            .header("dpop", proof);
        request.body(()).unwrap()
    };
    // The parts of a request that is no `http::Request`. Its host and its scheme do not matter.
    let (method, uri) = (Method::POST, Uri::from_static("http://10.0.0.7:3000/files"));
    let request = headers(key.proof("POST", FILES));
    let request = ResourceRequest::new(&method, &uri, request.headers());
    validator.validate_request(request).await.unwrap();
    // A router has removed a prefix from the URI.
    let mut request = headers(key.proof("GET", "https://api.example/drive/v1/files"));
    *request.uri_mut() = Uri::from_static("/files");
    request
        .extensions_mut()
        .insert(ExternalUri(Uri::from_static("/v1/files")));
    let (parts, ()) = request.into_parts();
    validator
        .validate_request(ResourceRequest::from(&parts))
        .await
        .unwrap();
    // The whole server.
    let mut request = headers(key.proof("OPTIONS", "https://api.example/drive/"));
    (*request.method_mut(), *request.uri_mut()) = (Method::OPTIONS, Uri::from_static("*"));
    validator
        .validate_request(ResourceRequest::from(&request))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_proof_cannot_be_checked_without_the_request() {
    let validator = validator(policy());
    let key = ProofKey::new();
    let rejection = validator.validate(&key.token).await.unwrap_err();
    assert_eq!(rejection.reason(), RejectionReason::BoundToKey);
    let request = Request::builder()
        .header("authorization", format!("DPoP {}", key.token))
        .header("dpop", key.proof("GET", FILES));
    let request = request.body(()).unwrap();
    let rejection = validator
        .validate_headers(request.headers())
        .await
        .unwrap_err();
    assert_eq!(rejection.reason(), RejectionReason::BoundToKey);
    assert!(rejection.chain().to_string().contains("validate_request"));
}

#[tokio::test]
async fn a_confirmation_that_cannot_be_checked_is_rejected() {
    let validator = validator(policy());
    let mut key = ProofKey::new();
    let jkt = crate::support::claims_of(&key.token)["cnf"]["jkt"].clone();
    for (cnf, is_accepted) in [
        (json!({ "jkt": jkt }), true),
        (json!({ "jkt": jkt, "kid": "another member" }), true),
        (json!({ "jkt": jkt, "x5t#S256": encode([0; 32]) }), false),
        (json!({ "jkt": "short" }), false),
        (json!({ "jkt": 7 }), false),
        (json!({ "jkt": null }), false),
        (json!({ "jwk": P256.jwk.clone() }), false),
        (json!({ "kid": "k" }), false),
        (json!({}), false),
        (json!([jkt]), false),
        (jkt.clone(), false),
    ] {
        key.token = RSA.sign(&header(), &with(user_claims(), "cnf", cnf.clone()));
        let call = Call::with_proof(&key, &key.proof("GET", FILES));
        let reason = call
            .send(&validator)
            .await
            .err()
            .map(|rejection| rejection.reason());
        let expected = (!is_accepted).then_some(RejectionReason::BoundToKey);
        assert_eq!(reason, expected, "{cnf}");
    }
}

#[test]
fn wrong_settings_are_reported() {
    let build = |policy: DpopPolicy| {
        let builder = Issuer::new().builder(TENANT_ID).single_tenant();
        match builder.dpop(policy).build() {
            Ok(_) => String::new(),
            Err(error @ Error::Config(_)) => error.to_string(),
            Err(error) => panic!("{error:?}"),
        }
    };
    let seconds = Duration::from_secs;
    for (policy, expected) in [
        (policy(), ""),
        (DpopPolicy::new("http://localhost:3000"), ""),
        (DpopPolicy::new("http://127.0.0.1:3000/"), ""),
        (
            policy().proof_window(seconds(1)).proof_window(seconds(600)),
            "",
        ),
        (policy().nonce_period(seconds(10)).require_nonce(), ""),
        (policy().nonce_key("k".repeat(32)).require_nonce(), ""),
        (
            DpopPolicy::new("http://api.example"),
            "\"http://api.example\" of DpopPolicy is not https",
        ),
        (DpopPolicy::new("api.example"), "is not an absolute URI"),
        (
            DpopPolicy::new("https://api.example?key=s3cret"),
            "\"https://api.example\" of DpopPolicy has a query",
        ),
        (DpopPolicy::new("https://user@api.example"), "user name"),
        (
            policy().external_url("wss://api.example"),
            "neither https nor http",
        ),
        (policy().algorithms([]), "empty list"),
        (
            policy().proof_window(seconds(601)),
            "proof_window(601s) must be from 1 second",
        ),
        (policy().proof_window(Duration::ZERO), "proof_window(0ns)"),
        (
            policy().max_replay_entries(0),
            "max_replay_entries must be at least 1",
        ),
        (policy().nonce_period(seconds(60)), "proofs need no nonce"),
        (
            policy().require_nonce().nonce_period(seconds(9)),
            "nonce_period(9s)",
        ),
        (
            policy().require_nonce().nonce_period(seconds(86_401)),
            "nonce_period(86401s)",
        ),
        (
            policy().nonce_key("s3cret-but-short"),
            "fewer than 32 bytes",
        ),
    ] {
        let message = build(policy);
        assert!(
            message.contains(expected) && message.is_empty() == expected.is_empty(),
            "{message}"
        );
        assert!(!message.contains("s3cret"), "{message}");
    }
    let builder = Issuer::new().builder(TENANT_ID).single_tenant();
    let error = builder.require_bound_tokens().build().unwrap_err();
    assert!(
        error
            .to_string()
            .contains("call dpop(..), certificate_bound(..) or both")
    );
}
