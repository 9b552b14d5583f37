use std::time::{Duration, SystemTime};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaKeyPair,
};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Value, json};

use super::*;
use crate::crypto::SigningAlgorithm;
use crate::token::{Thumbprint, TokenHash};

const ALL: [SigningAlgorithm; 5] = [
    SigningAlgorithm::PS256,
    SigningAlgorithm::RS256,
    SigningAlgorithm::ES256,
    SigningAlgorithm::ES384,
    SigningAlgorithm::EdDSA,
];
const URI: &str = "https://resource.example.org/protectedresource";
/// The token, the proof and the thumbprint of RFC 9449 sections 7.1 and 6.1.
const RFC_TOKEN: &str = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU";
const RFC_PROOF: &str = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90ZWN0ZWRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTNFc05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9.2oW9RP35yRqzhrtNP86L-Ey71EOptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA";
const RFC_THUMBPRINT: &str = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";
/// The time of the proof in RFC 9449.
const NOW: u64 = 1_562_262_618;

fn time(seconds: u64) -> SystemTime {
    let since = Duration::from_secs(seconds);
    SystemTime::UNIX_EPOCH.checked_add(since).unwrap()
}

/// A key pair of each type.
enum Keys {
    Ec(SigningAlgorithm, EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(SigningAlgorithm, RsaKeyPair),
}

impl Keys {
    fn generate(algorithm: SigningAlgorithm) -> Self {
        let ec = |scheme| Self::Ec(algorithm, EcdsaKeyPair::generate(scheme).unwrap());
        match algorithm {
            SigningAlgorithm::ES256 => ec(&ECDSA_P256_SHA256_FIXED_SIGNING),
            SigningAlgorithm::ES384 => ec(&ECDSA_P384_SHA384_FIXED_SIGNING),
            SigningAlgorithm::EdDSA => Self::Ed25519(Ed25519KeyPair::generate().unwrap()),
            _ => Self::Rsa(algorithm, RsaKeyPair::generate(KeySize::Rsa2048).unwrap()),
        }
    }

    fn algorithm(&self) -> SigningAlgorithm {
        match self {
            Self::Ec(algorithm, _) | Self::Rsa(algorithm, _) => *algorithm,
            Self::Ed25519(_) => SigningAlgorithm::EdDSA,
        }
    }

    fn jwk(&self) -> PublicJwk {
        let public_key = match self {
            Self::Ec(_, pair) => pair.public_key().as_ref(),
            Self::Ed25519(pair) => pair.public_key().as_ref(),
            Self::Rsa(_, pair) => pair.public_key().as_ref(),
        };
        PublicJwk::of_key(self.algorithm(), public_key).unwrap()
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Ec(_, pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            Self::Rsa(algorithm, pair) => {
                let encoding = match algorithm {
                    SigningAlgorithm::PS256 => &RSA_PSS_SHA256,
                    _ => &RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(encoding, &random, message, &mut signature)
                    .unwrap();
                signature
            }
        }
    }

    /// Signs any header and claims.
    fn proof(&self, header: &str, claims: &str) -> String {
        let encode = |text: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(text);
        let message = format!(
            "{}.{}",
            encode(header.as_bytes()),
            encode(claims.as_bytes())
        );
        let signature = self.sign(message.as_bytes());
        format!("{message}.{}", encode(&signature))
    }
}

fn check(
    proof: &str,
    change: impl FnOnce(&mut ExpectedProof<'_>),
) -> Result<CheckedProof, ProofError> {
    let uri = TargetUri::of(URI).unwrap();
    let mut expected = ExpectedProof {
        algorithms: &ALL,
        method: "GET",
        uri: &uri,
        token: Some(TokenHash::of(RFC_TOKEN)),
        key: None,
        nonce: None,
        now: time(NOW),
        window: Duration::from_secs(60),
    };
    change(&mut expected);
    expected.check(proof)
}

/// Returns a claims object of a valid proof, with the changed claims. `null` removes a claim.
fn claims(changes: Value) -> Value {
    let mut claims = json!({
        "jti": "e1j3V_bKic8-LAEB", "htm": "GET", "htu": URI, "iat": NOW,
        "ath": "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo",
    });
    change(&mut claims, changes);
    claims
}

fn header(keys: &Keys, changes: Value) -> Value {
    let mut header = json!({
        "typ": "dpop+jwt", "alg": keys.algorithm().name(), "jwk": keys.jwk(),
    });
    change(&mut header, changes);
    header
}

fn change(object: &mut Value, changes: Value) {
    let object = object.as_object_mut().unwrap();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(object.remove(name)),
            value => drop(object.insert(name.clone(), value.clone())),
        }
    }
}

#[test]
fn the_thumbprints_are_those_of_the_standards() {
    let rsa = json!({
        "kty": "RSA", "e": "AQAB", "alg": "RS256", "kid": "2011-04-29",
        "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
    });
    let ec = json!({
        "kty": "EC", "crv": "P-256",
        "x": "l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs",
        "y": "9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA",
    });
    let ed25519 = json!({
        "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
    });
    for (jwk, expected) in [
        // RFC 7638 section 3.1, RFC 9449 section 6.1, and RFC 8037 appendix A.3.
        (rsa, "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"),
        (ec, RFC_THUMBPRINT),
        (ed25519, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"),
    ] {
        let members = serde_json::from_value(jwk).unwrap();
        let jwk = PublicJwk::read(&members).unwrap();
        assert_eq!(jwk.thumbprint().to_string(), expected);
    }
}

#[test]
fn the_proof_of_the_standard_is_accepted() {
    let checked = check(RFC_PROOF, |expected| {
        expected.key = Thumbprint::parse(RFC_THUMBPRINT);
    });
    let checked = checked.unwrap();
    assert_eq!(checked.key.to_string(), RFC_THUMBPRINT);
    assert_eq!(checked.valid_until, time(NOW + 60));
    let ath = String::from(TokenHash::of(RFC_TOKEN));
    assert_eq!(ath, "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo");
}

/// jsonwebtoken verifies the proof with the key in the header, as a second judge.
#[test]
fn a_proof_of_each_type_of_key_is_made_and_accepted() {
    for algorithm in ALL {
        let keys = Keys::generate(algorithm);
        let jwk = keys.jwk();
        let uri = TargetUri::of(&format!("{URI}?a=b")).unwrap();
        let made = ProofHeader::new(&jwk, algorithm)
            .unwrap()
            .unsigned(&ProofClaims {
                jti: "one",
                htm: "GET",
                htu: &uri,
                iat: NOW,
                ath: Some(TokenHash::of(RFC_TOKEN)),
                nonce: Some("abc"),
            });
        let made = made.unwrap();
        let signature = keys.sign(made.message());
        let proof = made.signed(&signature);

        let checked = check(&proof, |expected| {
            expected.key = Some(jwk.thumbprint());
            expected.nonce = Some(&|nonce| nonce == "abc");
        });
        assert_eq!(checked.unwrap().key, jwk.thumbprint(), "{algorithm}");

        let header = jsonwebtoken::decode_header(&proof).unwrap();
        assert_eq!(header.typ.as_deref(), Some("dpop+jwt"));
        let other = header.jwk.unwrap();
        let algorithm: Algorithm = algorithm.name().parse().unwrap();
        let mut validation = Validation::new(algorithm);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        let key = DecodingKey::from_jwk(&other).unwrap();
        let judged = jsonwebtoken::decode::<Value>(&proof, &key, &validation).unwrap();
        let expected = json!({
            "jti": "one", "htm": "GET", "htu": URI, "iat": NOW, "nonce": "abc",
            "ath": "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo",
        });
        assert_eq!(judged.claims, expected);
        let thumbprint = other.thumbprint(jsonwebtoken::jwk::ThumbprintHash::SHA256);
        assert_eq!(thumbprint.unwrap(), jwk.thumbprint().to_string());
    }
}

#[test]
fn one_proof_is_required() {
    let proofs = |values: &[&'static [u8]]| {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(PROOF, HeaderValue::from_bytes(value).unwrap());
        }
        proof_of(&headers).map(ToOwned::to_owned)
    };
    assert_eq!(proofs(&[b" a.b.c\t"]), Ok("a.b.c".to_owned()));
    assert_eq!(proofs(&[]), Err(ProofError::Missing));
    assert_eq!(proofs(&[b"a.b.c", b"a.b.c"]), Err(ProofError::Several));
    let not_ascii = proofs(&[b"\xff"]).unwrap_err();
    assert!(matches!(not_ascii, ProofError::Malformed(_)));
    // Two proofs in one header.
    let joined = format!("{RFC_PROOF}, {RFC_PROOF}");
    assert!(matches!(
        check(&joined, |_| ()),
        Err(ProofError::Malformed(_))
    ));
}

#[test]
fn a_header_that_breaks_a_rule_is_rejected() {
    let keys = Keys::generate(SigningAlgorithm::ES256);
    let jwk = json!(keys.jwk());
    let with = |name: &str, value: Value| {
        let mut jwk = jwk.clone();
        jwk[name] = value;
        json!({ "jwk": jwk })
    };
    let algorithm = |name: &str| ProofError::Algorithm(name.into());
    let malformed = ProofError::Malformed(
        "its header is not a JSON object with 'typ', 'alg' and a public key in 'jwk'",
    );
    for (changes, expected) in [
        (json!({}), None),
        (json!({ "typ": "DPOP+JWT", "kid": "1" }), None),
        (json!({ "typ": "application/dpop+jwt" }), None),
        (with("kid", json!("1")), None),
        (json!({ "typ": "JWT" }), Some(ProofError::Type)),
        (json!({ "typ": "jwt/dpop+jwt" }), Some(ProofError::Type)),
        (json!({ "typ": null }), Some(malformed.clone())),
        (json!({ "alg": null }), Some(malformed.clone())),
        (json!({ "alg": "none" }), Some(algorithm("none"))),
        (json!({ "alg": "HS256" }), Some(algorithm("HS256"))),
        (json!({ "alg": "ES256K" }), Some(algorithm("ES256K"))),
        (json!({ "alg": "es256" }), Some(algorithm("es256"))),
        (
            json!({ "alg": "Ed25519" }),
            Some(ProofError::UnfitKey(SigningAlgorithm::EdDSA)),
        ),
        (
            json!({ "alg": "ES384" }),
            Some(ProofError::UnfitKey(SigningAlgorithm::ES384)),
        ),
        (
            json!({ "alg": "RS256" }),
            Some(ProofError::UnfitKey(SigningAlgorithm::RS256)),
        ),
        (
            json!({ "crit": ["b64"], "b64": false }),
            Some(ProofError::Critical),
        ),
        (json!({ "jwk": null }), Some(malformed.clone())),
        (json!({ "jwk": "key" }), Some(malformed.clone())),
        (with("kty", Value::Null), Some(malformed)),
        (with("kty", json!("ec")), Some(ProofError::Key)),
        (with("crv", json!("P-521")), Some(ProofError::Key)),
        (with("crv", json!("P-384")), Some(ProofError::Key)),
        (with("x", json!("AA")), Some(ProofError::Key)),
        (with("y", json!("not base64!")), Some(ProofError::Key)),
        (with("y", Value::Null), Some(ProofError::Key)),
        (with("d", json!("AA")), Some(ProofError::PrivateKey)),
        (with("d", Value::Null), Some(ProofError::PrivateKey)),
        (with("k", json!("AA")), Some(ProofError::PrivateKey)),
        (with("p", json!("AA")), Some(ProofError::PrivateKey)),
        (with("q", json!("AA")), Some(ProofError::PrivateKey)),
        (with("dp", json!("AA")), Some(ProofError::PrivateKey)),
        (with("dq", json!("AA")), Some(ProofError::PrivateKey)),
        (with("qi", json!("AA")), Some(ProofError::PrivateKey)),
        (with("oth", json!([])), Some(ProofError::PrivateKey)),
        (
            json!({ "jwk": { "kty": "oct", "k": "AA" } }),
            Some(ProofError::PrivateKey),
        ),
        // Another key, and a point that is not on the curve.
        (
            json!({ "jwk": Keys::generate(SigningAlgorithm::ES256).jwk() }),
            Some(ProofError::Signature),
        ),
        (with("x", jwk["y"].clone()), Some(ProofError::Signature)),
    ] {
        let header = header(&keys, changes.clone()).to_string();
        let checked = check(&keys.proof(&header, &claims(json!({})).to_string()), |_| ());
        assert_eq!(checked.err(), expected, "{changes}");
    }
}

#[test]
fn only_the_accepted_algorithms_pass() {
    let keys = Keys::generate(SigningAlgorithm::EdDSA);
    for (alg, accepted, expected) in [
        ("EdDSA", &ALL[..], None),
        ("Ed25519", &ALL[..], None),
        (
            "EdDSA",
            &ALL[..4],
            Some(ProofError::Algorithm("EdDSA".into())),
        ),
        (
            "Ed25519",
            &ALL[..4],
            Some(ProofError::Algorithm("Ed25519".into())),
        ),
    ] {
        let header = header(&keys, json!({ "alg": alg })).to_string();
        let proof = keys.proof(&header, &claims(json!({})).to_string());
        let checked = check(&proof, |expected| expected.algorithms = accepted);
        assert_eq!(checked.err(), expected, "{alg}");
    }
}

/// The key of RFC 7638, with leading zeros, is the same key.
#[test]
fn leading_zeros_of_an_rsa_key_do_not_change_the_thumbprint() {
    let keys = Keys::generate(SigningAlgorithm::RS256);
    let mut jwk = json!(keys.jwk());
    for name in ["n", "e"] {
        let number = BASE64_URL_SAFE_NO_PAD
            .decode(jwk[name].as_str().unwrap())
            .unwrap();
        jwk[name] = json!(BASE64_URL_SAFE_NO_PAD.encode([&[0], &number[..]].concat()));
    }
    let header = header(&keys, json!({ "jwk": jwk })).to_string();
    let proof = keys.proof(&header, &claims(json!({})).to_string());
    let checked = check(&proof, |expected| {
        expected.key = Some(keys.jwk().thumbprint())
    });
    assert!(checked.is_ok(), "{checked:?}");
}

#[test]
fn an_rsa_key_that_is_too_small_or_has_exponent_one_is_rejected() {
    for (n, e) in [
        (127, &[1, 0, 1][..]),
        (1025, &[1, 0, 1]),
        (256, &[1]),
        (256, &[]),
    ] {
        let jwk = json!({
            "kty": "RSA",
            "n": BASE64_URL_SAFE_NO_PAD.encode(vec![0xff; n]),
            "e": BASE64_URL_SAFE_NO_PAD.encode(e),
        });
        let members = serde_json::from_value(jwk).unwrap();
        assert_eq!(PublicJwk::read(&members), Err(ProofError::Key), "{n} {e:?}");
    }
}

#[test]
fn claims_that_break_a_rule_are_rejected() {
    let keys = Keys::generate(SigningAlgorithm::ES256);
    let malformed = ProofError::Malformed("its claims are not a JSON object of known types");
    let compared = |iat: u64| crate::jwt::ComparedTime {
        claim: time(iat),
        now: time(NOW),
        leeway: Duration::from_secs(60),
    };
    let method = |found: &str| ProofError::Method {
        found: found.into(),
        expected: "GET".into(),
    };
    let uri = |found: &str| ProofError::Uri {
        found: found.into(),
        expected: URI.into(),
    };
    for (changes, expected) in [
        (json!({}), None),
        (
            json!({ "htu": "HTTPS://Resource.example.org:443/%70rotectedresource?a#b" }),
            None,
        ),
        (json!({ "nonce": "unasked", "other": [1] }), None),
        (json!({ "iat": NOW - 59 }), None),
        (json!({ "iat": NOW + 60 }), None),
        (json!({ "iat": NOW as f64 + 0.5 }), None),
        (json!({ "jti": null }), Some(ProofError::Claim("jti"))),
        (json!({ "jti": "" }), Some(ProofError::Claim("jti"))),
        (json!({ "jti": 1 }), Some(malformed.clone())),
        (json!({ "htm": null }), Some(ProofError::Claim("htm"))),
        (json!({ "htm": "POST" }), Some(method("POST"))),
        (json!({ "htm": "get" }), Some(method("get"))),
        (json!({ "htu": null }), Some(ProofError::Claim("htu"))),
        (
            json!({ "htu": format!("{URI}/") }),
            Some(uri(&format!("{URI}/"))),
        ),
        (
            json!({ "htu": URI.replace("https", "http") }),
            Some(uri(&URI.replace("https", "http"))),
        ),
        (
            json!({ "htu": "/protectedresource" }),
            Some(ProofError::InvalidUri {
                found: "/protectedresource".into(),
                error: target_uri::TargetUriError::NotAbsolute,
            }),
        ),
        (json!({ "iat": null }), Some(ProofError::Claim("iat"))),
        (json!({ "iat": -1 }), Some(ProofError::Claim("iat"))),
        (json!({ "iat": u64::MAX }), Some(ProofError::Claim("iat"))),
        (json!({ "iat": "1562262618" }), Some(malformed)),
        (
            json!({ "iat": NOW - 60 }),
            Some(ProofError::Stale(compared(NOW - 60))),
        ),
        (
            json!({ "iat": NOW + 61 }),
            Some(ProofError::Future(compared(NOW + 61))),
        ),
        (json!({ "ath": null }), Some(ProofError::Claim("ath"))),
        (
            json!({ "ath": String::from(TokenHash::of("other")) }),
            Some(ProofError::TokenHash),
        ),
        (json!({ "ath": "short" }), Some(ProofError::TokenHash)),
    ] {
        let header = header(&keys, json!({})).to_string();
        let proof = keys.proof(&header, &claims(changes.clone()).to_string());
        assert_eq!(check(&proof, |_| ()).err(), expected, "{changes}");
    }
}

#[test]
fn a_required_nonce_must_be_current() {
    let keys = Keys::generate(SigningAlgorithm::ES256);
    for (nonce, expected) in [
        (json!("current"), None),
        (json!("old"), Some(ProofError::NonceNotAccepted)),
        (Value::Null, Some(ProofError::NonceMissing)),
    ] {
        let claims = claims(json!({ "nonce": nonce })).to_string();
        let proof = keys.proof(&header(&keys, json!({})).to_string(), &claims);
        let checked = check(&proof, |expected| {
            expected.nonce = Some(&|nonce| nonce == "current");
        });
        assert_eq!(
            checked.as_ref().is_err_and(ProofError::needs_nonce),
            expected.is_some()
        );
        assert_eq!(checked.err(), expected);
    }
}

#[test]
fn a_proof_without_a_token_needs_no_hash_and_may_have_any_key() {
    let keys = Keys::generate(SigningAlgorithm::ES256);
    let header = header(&keys, json!({})).to_string();
    let proof = keys.proof(&header, &claims(json!({ "ath": null })).to_string());
    let checked = check(&proof, |expected| expected.token = None).unwrap();
    assert_eq!(checked.key, keys.jwk().thumbprint());
    let other = Thumbprint::of(b"another key");
    let error = check(&proof, |expected| {
        expected.token = None;
        expected.key = Some(other);
    });
    let expected = ProofError::OtherKey {
        found: checked.key,
        expected: other,
    };
    assert_eq!(error.unwrap_err(), expected);
}

#[test]
fn the_replay_key_is_that_of_the_key_and_the_jti() {
    let keys = [(); 2].map(|()| Keys::generate(SigningAlgorithm::ES256));
    let replay_key = |keys: &Keys, changes: Value| {
        let header = header(keys, json!({})).to_string();
        let proof = keys.proof(&header, &claims(changes).to_string());
        check(&proof, |_| ()).unwrap().replay_key
    };
    let [one, other] = &keys;
    let first = replay_key(one, json!({}));
    assert_eq!(first, replay_key(one, json!({ "iat": NOW - 1 })));
    assert_ne!(first, replay_key(one, json!({ "jti": "another" })));
    assert_ne!(first, replay_key(other, json!({})));
}

#[test]
fn a_text_that_is_not_a_proof_is_rejected() {
    let keys = Keys::generate(SigningAlgorithm::ES256);
    let header = header(&keys, json!({})).to_string();
    let claims = claims(json!({})).to_string();
    let signed = keys.proof(&header, &claims);
    let (message, _) = signed.rsplit_once('.').unwrap();
    let twice = |text: &str, member: &str| text.replacen('{', &format!("{{{member},"), 1);
    for proof in [
        String::new(),
        "..".to_owned(),
        message.to_owned(),
        format!("{signed}."),
        format!("{signed}.e30"),
        format!("{signed}="),
        keys.proof("[\"dpop+jwt\",\"ES256\",{}]", &claims),
        keys.proof(&header, "[]"),
        keys.proof(&header, "null"),
        keys.proof(&header, &format!("{claims}{claims}")),
        keys.proof(&twice(&header, r#""typ":"dpop+jwt""#), &claims),
        keys.proof(&header, &twice(&claims, r#""jti":"x""#)),
        keys.proof(
            &header.replacen(r#""kty""#, r#""x":"AA","kty""#, 1),
            &claims,
        ),
    ] {
        let checked = check(&proof, |_| ());
        assert!(
            matches!(checked, Err(ProofError::Malformed(_))),
            "{proof} {checked:?}"
        );
    }
    for proof in [
        format!("{message}."),
        format!(
            "{message}.{}",
            BASE64_URL_SAFE_NO_PAD.encode(keys.sign(b"another"))
        ),
    ] {
        assert_eq!(check(&proof, |_| ()).err(), Some(ProofError::Signature));
    }
    let long = keys.proof(&header, &format!("{claims}{}", " ".repeat(8 * 1024)));
    assert_eq!(check(&long, |_| ()).err(), Some(ProofError::TooLong));
}
