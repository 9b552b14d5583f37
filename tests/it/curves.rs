//! ES384 and EdDSA: assertions with such keys, and tokens of such keys. `certificate_formats` has the
//! files, verified by openssl. Here jsonwebtoken verifies and signs.

use confidential_client::credential::{DpopKey, SigningAlgorithm};
use confidential_client::delegated::AuthorizationRequest;
use confidential_client::resource::{RejectionReason, TokenValidator};
use confidential_client::testing::{Application, LocalAuthority, ProviderRules};
use confidential_client::{Authority, Certificate, Cloud, ConfidentialClient, Error};
use jsonwebtoken::{Algorithm, DecodingKey};
use rcgen::{CertificateParams, DnType, KeyPair, SignatureAlgorithm};
use serde_json::{Value, json};

use crate::fapi2::bound;
use crate::support::dpop::JudgedProof;
use crate::support::issuer::{
    ED25519, Issuer, Key, P256, P384, RSA, TENANT_ID, encode, header, user_claims, with, without,
};
use crate::support::openid::{Answer, OpenId, tokens};
use crate::support::{CLIENT_ID, SECRET, TENANT, claims_of, header_of};

/// A key with its certificate, and the certificate with the public key.
struct Pair {
    certificate: Certificate,
    public_key: Vec<u8>,
}

fn pair(kind: &'static SignatureAlgorithm) -> Pair {
    let key = KeyPair::generate_for(kind).unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "daemon");
    let certificate = params.self_signed(&key).unwrap().pem();
    let pem = format!("{certificate}{}", key.serialize_pem());
    Pair {
        certificate: Certificate::from_pem(pem).unwrap(),
        public_key: key.public_key_raw().to_vec(),
    }
}

fn curves() -> [(&'static SignatureAlgorithm, SigningAlgorithm, Algorithm); 3] {
    [
        (
            &rcgen::PKCS_ECDSA_P256_SHA256,
            SigningAlgorithm::ES256,
            Algorithm::ES256,
        ),
        (
            &rcgen::PKCS_ECDSA_P384_SHA384,
            SigningAlgorithm::ES384,
            Algorithm::ES384,
        ),
        (
            &rcgen::PKCS_ED25519,
            SigningAlgorithm::EdDSA,
            Algorithm::EdDSA,
        ),
    ]
}

/// The key decides, and the metadata must list its algorithm.
#[tokio::test]
async fn an_assertion_is_signed_by_the_algorithm_of_the_curve() {
    let list = "token_endpoint_auth_signing_alg_values_supported";
    for (kind, algorithm, judge) in curves() {
        let Pair {
            certificate,
            public_key,
        } = pair(kind);
        assert_eq!(certificate.algorithm(), algorithm);
        let name = algorithm.to_string();
        for (listed, expected) in [
            (json!(null), true),
            (json!(["RS256", "ES256", "ES384", "EdDSA"]), true),
            (json!([name]), true),
            (json!(["RS256", "PS256"]), false),
        ] {
            let provider = OpenId::new("https://id.example.org");
            provider.publish(
                "token_endpoint_auth_methods_supported",
                json!(["private_key_jwt"]),
            );
            provider.publish(list, listed.clone());
            provider.answer(Answer::json(&tokens(1)));
            let client = provider.without_credential(Authority::oidc("https://id.example.org"));
            let client = client.certificate(certificate.clone()).build().unwrap();
            let token = client.acquire_token_for_client("").await;
            assert_eq!(token.is_ok(), expected, "{name}: {listed}: {token:?}");
            let Some(form) = provider.forms().pop() else {
                let error = token.unwrap_err().to_string();
                assert!(
                    error.contains("a key for none of the algorithms"),
                    "{error}"
                );
                continue;
            };
            let assertion = &form["client_assertion"];
            assert_eq!(header_of(assertion)["alg"], name);
            let (message, signature) = assertion.rsplit_once('.').unwrap();
            let key = match judge {
                Algorithm::EdDSA => DecodingKey::from_ed_der(&public_key),
                _ => DecodingKey::from_ec_der(&public_key),
            };
            let is_valid = |message: &str| {
                jsonwebtoken::crypto::verify(signature, message.as_bytes(), &key, judge).unwrap()
            };
            assert!(is_valid(message), "{name}");
            assert!(!is_valid(&format!("{message}x")), "{name}");
        }
    }
}

/// A registered key is verified for real, and Microsoft Entra ID accepts RSA alone.
#[tokio::test]
async fn a_local_authority_verifies_each_curve() {
    let local = LocalAuthority::builder().rules(ProviderRules::openid());
    let local = local.start().await.unwrap();
    local.register(TENANT, Application::new("other"));
    let issuer = local.issuer(TENANT).unwrap();
    for (kind, algorithm, _) in curves() {
        let (registered, another) = (pair(kind).certificate, pair(kind).certificate);
        for (certificate, expected) in [(registered.clone(), true), (another, false)] {
            let application = Application::new(CLIENT_ID).certificate(registered.clone());
            local.register(TENANT, application);
            let client = ConfidentialClient::builder(CLIENT_ID)
                .authority(Authority::oidc(&issuer))
                .certificate(certificate)
                .build()
                .unwrap();
            let token = client
                .acquire_token_for_client("api://orders/.default")
                .await;
            assert_eq!(token.is_ok(), expected, "{algorithm}: {token:?}");
        }
        let entra = ConfidentialClient::builder(CLIENT_ID)
            .authority(Authority::entra(Cloud::Public, TENANT))
            .certificate(registered);
        let error = entra.build().unwrap_err();
        assert!(matches!(error, Error::Credential(_)), "{error:?}");
        let text = "Microsoft Entra ID accepts only RSA for client assertions";
        assert!(error.to_string().contains(text), "{error}");
    }
}

/// Section 5.4.1 of the FAPI 2.0 Security Profile allows Ed25519 and no P-384.
#[test]
fn fapi2_allows_two_of_the_curves() {
    for (kind, algorithm, _) in curves() {
        let provider = OpenId::new("https://id.example.org");
        let authority = Authority::oidc("https://id.example.org").fapi2();
        let builder = bound(provider.without_credential(authority));
        let built = builder.certificate(pair(kind).certificate).build();
        match (algorithm, built) {
            (SigningAlgorithm::ES256 | SigningAlgorithm::EdDSA, Ok(_)) => {}
            (SigningAlgorithm::ES384, Err(error)) => {
                let text = "FAPI 2.0 forbids ES384, which signs with the certificate of 'CN=";
                assert!(error.to_string().contains(text), "{error}");
            }
            (algorithm, built) => panic!("{algorithm}: {built:?}"),
        }
    }
}

/// RFC 9449 and RFC 7638: proofs of each curve, verified by jsonwebtoken, an authority and an API.
#[tokio::test]
async fn a_token_is_bound_to_a_proof_key_of_each_curve() {
    let local = LocalAuthority::builder().rules(ProviderRules::openid());
    let local = local.start().await.unwrap();
    let back = "https://app.example.org/back";
    let app = Application::new(CLIENT_ID)
        .secret(SECRET)
        .redirect_uri(back);
    local.register(TENANT, app);
    let api = local.protected_api("api://orders").await.unwrap();
    api.require_dpop();
    for (kind, algorithm, _) in curves() {
        let key = KeyPair::generate_for(kind).unwrap();
        let given = DpopKey::from_pem(key.serialize_pem()).unwrap();
        assert_eq!(given.algorithm(), algorithm);
        let signer = |_: SigningAlgorithm, _: Vec<u8>| async { Err("unused".into()) };
        let elsewhere = DpopKey::from_signer(key.public_key_pem(), signer).unwrap();
        assert_eq!(elsewhere.thumbprint(), given.thumbprint(), "{algorithm}");
        assert_eq!(elsewhere.algorithm(), algorithm);

        let client = ConfidentialClient::builder(CLIENT_ID)
            .authority(Authority::oidc(local.issuer(TENANT).unwrap()))
            .client_secret(SECRET)
            .dpop(given.clone())
            .build()
            .unwrap();
        let provider = client.token_provider("api://orders/.default").unwrap();
        let url = format!("{}/orders", api.base_url());
        let mut request = reqwest::Request::new(http::Method::GET, url.parse().unwrap());
        provider.authorize(&mut request).await.unwrap();
        let token = provider.token().await.unwrap();
        let bound_to = &claims_of(token.secret())["cnf"]["jkt"];
        assert_eq!(*bound_to, given.thumbprint(), "{algorithm}");
        let sent = local.token_requests().pop().unwrap();
        let proof = JudgedProof::of(sent.header("dpop").unwrap());
        assert_eq!(proof.header["alg"], algorithm.to_string());
        let status = reqwest::Client::new().execute(request).await.unwrap();
        assert_eq!(status.status(), 200, "{algorithm}");

        // RFC 9449 section 10: the code is bound to a given key.
        let sign_in = AuthorizationRequest::new(back, "api://orders/read").pushed();
        client.authorization_request_url(&sign_in).await.unwrap();
        let pushed = local.pushed_requests().pop().unwrap();
        assert_eq!(pushed.field("dpop_jkt"), Some(&*given.thumbprint()));
    }
    let p521 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap();
    let error = DpopKey::from_pem(p521.serialize_pem()).unwrap_err();
    assert!(
        error.to_string().contains("P-256, P-384 or Ed25519"),
        "{error}"
    );
    let signer = |_: SigningAlgorithm, _: Vec<u8>| async { Err("unused".into()) };
    let error = DpopKey::from_signer(p521.public_key_pem(), signer).unwrap_err();
    assert!(
        error.to_string().contains("P-256, P-384 or Ed25519"),
        "{error}"
    );
}

fn validator(keys: &[Value]) -> TokenValidator {
    let issuer = Issuer::new();
    issuer.publish(keys);
    issuer.validator()
}

fn signed_by(key: &Key, algorithm: &str) -> String {
    let header = with(header(), "alg", algorithm);
    key.sign(&with(header, "kid", key.jwk["kid"].clone()), &user_claims())
}

/// RFC 8037, RFC 7518: tokens of an API, and the keys of the provider.
#[tokio::test]
async fn a_token_of_each_curve_is_accepted_from_its_key_alone() {
    let keys = [&RSA, &P256, &P384, &ED25519].map(|key| key.jwk.clone());
    let all = validator(&keys);
    for (key, algorithm) in [(&P256, "ES256"), (&P384, "ES384"), (&ED25519, "EdDSA")] {
        let token = signed_by(key, algorithm);
        all.validate(&token).await.unwrap();
        // The one key of its type, for a token that names no key.
        let unnamed = with(without(header(), "kid"), "alg", algorithm);
        all.validate(&key.sign(&unnamed, &user_claims()))
            .await
            .unwrap();
        // The signature of other claims.
        let (head, rest) = token.split_once('.').unwrap();
        let signature = rest.split_once('.').unwrap().1;
        let others = encode(with(user_claims(), "oid", "megan").to_string());
        let stranger = format!("{head}.{others}.{signature}");
        let rejected = all.validate(&stranger).await.unwrap_err();
        assert_eq!(
            rejected.reason(),
            RejectionReason::InvalidSignature,
            "{algorithm}"
        );
        // A key verifies the algorithm of its type alone.
        for other in ["ES256", "ES384", "EdDSA", "RS256"] {
            if other == algorithm {
                continue;
            }
            let confused = with(with(header(), "alg", other), "kid", key.jwk["kid"].clone());
            let confused = format!("{}.{rest}", encode(confused.to_string()));
            all.validate(&confused).await.unwrap_err();
        }
        // Keys that are no keys of the type.
        for flaw in [
            with(key.jwk.clone(), "x", "AAAA"),
            without(key.jwk.clone(), "x"),
            with(key.jwk.clone(), "crv", "P-521"),
            with(key.jwk.clone(), "alg", "RS256"),
            with(key.jwk.clone(), "use", "enc"),
        ] {
            let flawed = validator(&[RSA.jwk.clone(), flaw.clone()]);
            flawed.validate(&token).await.expect_err(&flaw.to_string());
        }
        let right = validator(&[with(key.jwk.clone(), "alg", algorithm)]);
        right.validate(&token).await.unwrap();
        // The caller's choice of algorithms.
        let issuer = Issuer::new();
        issuer.publish(&keys);
        let narrow = issuer.builder(TENANT_ID).single_tenant();
        let narrow = narrow
            .algorithms([SigningAlgorithm::RS256])
            .build()
            .unwrap();
        let rejected = narrow.validate(&token).await.unwrap_err();
        assert_eq!(
            rejected.reason(),
            RejectionReason::UnsupportedAlgorithm,
            "{algorithm}"
        );
    }
}
