//! Sends a bound token with arbitrary proofs and with arbitrary certificates in the headers of a
//! proxy: no panic, no unsigned proof accepted, no proof of another request accepted, no token
//! accepted with another certificate, and rejections of one line.
//!
//! The first byte selects the meaning of the rest: a proof, a header and claims of a proof to sign
//! (one line each, with `JWK` and `ATH` in place of the key and the hash of the token), or a header
//! with a certificate in one of four forms.
#![no_main]

use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use confidential_client::resource::{
    CertificateSource, Claims, DpopPolicy, ReplayCache, ReplayCacheFuture, ResourceRequest,
    TokenRejection, TokenValidator,
};
use confidential_client::time::Clock;
use confidential_client::{Authority, Challenge};
use http::{HeaderValue, Request, Response};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use tokio::runtime::Runtime;

fuzz_target!(|input: &[u8]| {
    let Some((kind, rest)) = input.split_first() else {
        return;
    };
    let text = String::from_utf8_lossy(rest);
    let (first, second) = text.split_once('\n').unwrap_or((&text, ""));
    let token = &*PROOF_TOKEN;
    match kind % 6 {
        0 => {
            let outcome = send(&DPOP, "DPoP", token, "dpop", rest);
            let Some(outcome) = outcome else { return };
            check_rejection(&outcome.expect_err("the proof is not signed"), 2);
        }
        1 => {
            let claims = second.replace("ATH", &encode(digest(&SHA256, token.as_bytes())));
            let proof = signed(&first.replace("JWK", &KEYS.1), &claims);
            match send(&DPOP, "DPoP", token, "dpop", proof.as_bytes()) {
                Some(Ok(_)) => check_claims(&claims),
                Some(Err(rejection)) => check_rejection(&rejection, 2),
                None => {}
            }
        }
        form => {
            let (name, validator) = &CERTIFICATES[usize::from(form) - 2];
            let outcome = send(validator, "Bearer", &CERTIFICATE_TOKEN, name, rest);
            match outcome {
                Some(Ok(_)) => assert!(names_certificate(&text), "{text}"),
                Some(Err(rejection)) => check_rejection(&rejection, 1),
                None => {}
            }
        }
    }
});

/// Sends the token with a header. Returns `None` for text that is not the value of a header.
fn send(
    validator: &TokenValidator,
    scheme: &str,
    token: &str,
    name: &'static str,
    value: &[u8],
) -> Option<Result<Claims, TokenRejection>> {
    let value = HeaderValue::from_bytes(value).ok()?;
    let request = Request::get("/files?a=b")
        .header("authorization", format!("{scheme} {token}"))
        .header(name, value);
    let request = request.body(()).expect("a request");
    let request = ResourceRequest::from(&request);
    Some(RUNTIME.block_on(validator.validate_request(request)))
}

/// Checks the claims of an accepted proof.
fn check_claims(claims: &str) {
    let claims: Value = serde_json::from_str(claims).expect("it was read");
    assert_eq!(claims["htm"], "GET");
    let uri = claims["htu"].as_str().expect("a URI");
    let uri = uri.split(['?', '#']).next().unwrap_or_default();
    let scheme = uri.get(..8).unwrap_or_default();
    assert!(scheme.eq_ignore_ascii_case("https://"), "{uri}");
    assert!(claims["jti"].as_str().is_some_and(|jti| !jti.is_empty()));
    assert!(
        claims["iat"]
            .as_f64()
            .is_some_and(|iat| (iat - NOW_SECONDS).abs() <= 60.0)
    );
    let hash = encode(digest(&SHA256, PROOF_TOKEN.as_bytes()));
    assert_eq!(claims["ath"], Value::from(hash));
}

/// Returns whether a text has the certificate in base64, or its hash.
fn names_certificate(text: &str) -> bool {
    let mut parts = text.split('%');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_at_checked(2) {
            Some((digits, rest)) if u8::from_str_radix(digits, 16).is_ok() => {
                let octet = u8::from_str_radix(digits, 16).unwrap_or_default();
                plain.push(char::from(octet));
                plain.push_str(rest);
            }
            _ => plain.push_str(part),
        }
    }
    plain.retain(|c| !c.is_ascii_whitespace());
    plain.contains("MAA") || {
        let hash = hex(digest(&SHA256, &CERTIFICATE).as_ref());
        text.to_ascii_lowercase().contains(&hash)
    }
}

fn check_rejection(rejection: &TokenRejection, most: usize) {
    let text = rejection.to_string();
    assert!(
        text.len() < 1200 && !text.contains(char::is_control),
        "{text:?}"
    );
    let chain = rejection.chain().to_string();
    assert!(
        chain.len() < 8000 && !chain.contains(char::is_control),
        "{chain:?}"
    );
    let value = rejection.www_authenticate().expect("a challenge");
    let challenges = Challenge::parse(value.to_str().expect("ASCII"));
    assert_eq!(challenges.len(), most, "{value:?}");
    assert_eq!(rejection.status(), 401);
}

fn signed(header: &str, claims: &str) -> String {
    let message = format!("{}.{}", encode(header), encode(claims));
    let signature = KEYS.0.sign(&SystemRandom::new(), message.as_bytes());
    format!("{message}.{}", encode(signature.expect("a signature")))
}

fn validator(change: impl FnOnce(Builder) -> Builder) -> TokenValidator {
    let builder = TokenValidator::builder(Authority::oidc(ISSUER))
        .audience(AUDIENCE)
        .single_tenant()
        .clock(FixedClock(Instant::now()))
        .transport(|request: Request<Bytes>| {
            let is_metadata = request.uri().path().ends_with("openid-configuration");
            let body = match is_metadata {
                true => format!(r#"{{"issuer":"{ISSUER}","jwks_uri":"{ISSUER}/keys"}}"#),
                false => format!(r#"{{"keys":[{}]}}"#, KEYS.1),
            };
            async move { Ok(Response::new(Bytes::from(body))) }
        });
    change(builder).build().expect("a validator")
}

fn token(cnf: &str) -> String {
    signed(
        r#"{"alg":"ES256"}"#,
        &format!(
            r#"{{"iss":"{ISSUER}","aud":"{AUDIENCE}","sub":"adele","client_id":"c","scope":"s","exp":1800000000,"cnf":{cnf}}}"#
        ),
    )
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Accepts every proof as new, so that an input has the same outcome each time.
struct Forgetful;

impl ReplayCache for Forgetful {
    fn insert<'a>(&'a self, _: &'a str, _: Duration) -> ReplayCacheFuture<'a> {
        Box::pin(async { Ok(true) })
    }
}

struct FixedClock(Instant);

impl Clock for FixedClock {
    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs_f64(NOW_SECONDS)
    }

    fn monotonic(&self) -> Instant {
        self.0
    }
}

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().build().expect("a runtime")
});

/// A key pair, and its JSON Web Key with the members in the order of a thumbprint.
static KEYS: LazyLock<(EcdsaKeyPair, String)> = LazyLock::new(|| {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
    let point = pair.public_key().as_ref();
    let (x, y) = (encode(&point[1..33]), encode(&point[33..]));
    let jwk = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
    (pair, jwk)
});

static PROOF_TOKEN: LazyLock<String> = LazyLock::new(|| {
    let jkt = encode(digest(&SHA256, KEYS.1.as_bytes()));
    token(&format!(r#"{{"jkt":"{jkt}"}}"#))
});

static CERTIFICATE_TOKEN: LazyLock<String> = LazyLock::new(|| {
    let thumbprint = encode(digest(&SHA256, &CERTIFICATE));
    token(&format!(r#"{{"x5t#S256":"{thumbprint}"}}"#))
});

static DPOP: LazyLock<TokenValidator> = LazyLock::new(|| {
    let policy = DpopPolicy::new("https://api.example").replay_cache(Forgetful);
    validator(|builder| builder.dpop(policy))
});

static CERTIFICATES: LazyLock<[(&str, TokenValidator); 4]> = LazyLock::new(|| {
    [
        ("x-cert", CertificateSource::url_encoded_pem("x-cert")),
        ("x-cert", CertificateSource::base64_der("x-cert")),
        ("x-forwarded-client-cert", CertificateSource::envoy()),
        ("client-cert", CertificateSource::rfc9440()),
    ]
    .map(|(name, source)| (name, validator(|builder| builder.certificate_bound(source))))
});

type Builder = confidential_client::resource::TokenValidatorBuilder;

const ISSUER: &str = "https://id.example";
const AUDIENCE: &str = "api";
const NOW_SECONDS: f64 = 1_700_000_000.0;
/// An empty sequence, which stands for a certificate.
const CERTIFICATE: [u8; 2] = [0x30, 0];
