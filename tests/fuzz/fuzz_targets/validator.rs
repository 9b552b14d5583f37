//! Validates arbitrary tokens with arbitrary documents of the issuer: no panic, no unsigned token
//! accepted, no token accepted for both a user and an application, and rejections of one line.
//!
//! The first byte selects the meaning of the rest: a token, a header and claims to sign (one line
//! each), or metadata and keys for a valid token (one line each).
#![no_main]

use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use confidential_client::resource::{Claims, Holder, TokenRejection, TokenValidator};
use confidential_client::time::Clock;
use confidential_client::{Authority, Challenge, Cloud};
use http::{Request, Response};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use tokio::runtime::Runtime;

fuzz_target!(|input: &[u8]| {
    let Some((kind, rest)) = input.split_first() else {
        return;
    };
    let text = String::from_utf8_lossy(rest);
    let (first, second) = text.split_once('\n').unwrap_or((&text, ""));
    match kind % 3 {
        0 => {
            let outcome = validate(&VALIDATOR, &text);
            check_rejection(&outcome.expect_err("the token is not signed"));
        }
        1 => match validate(&VALIDATOR, &signed(first, second)) {
            Ok(claims) => check_claims(&claims, second),
            Err(rejection) => check_rejection(&rejection),
        },
        _ => {
            let validator = validator(first.to_owned(), second.to_owned());
            match validate(&validator, &signed(HEADER, &valid_claims())) {
                Ok(claims) => assert_eq!(claims.object_id(), Some("adele")),
                Err(rejection) => check_rejection(&rejection),
            }
        }
    }
});

fn check_claims(claims: &Claims, sent: &str) {
    let sent: Value = serde_json::from_str(sent).expect("it was read");
    assert_eq!(claims.tenant_id(), Some(TENANT));
    assert!(sent["aud"] == AUDIENCE || sent["aud"].as_array().is_some());
    assert!(claims.expires_on() + Duration::from_secs(300) > NOW);
    let scope = claims.scopes().next();
    let role = claims.roles().next();
    let as_user = scope.is_some_and(|scope| claims.require_scope(scope).is_ok());
    let as_application = role.is_some_and(|role| claims.require_application_role(role).is_ok());
    assert!(!(as_user && as_application), "{claims:?}");
    assert!(!(claims.is_user() && claims.is_application()));
    assert!(sent["cnf"].is_null(), "a bound token is no bearer's");
    assert!(sent["events"].is_null(), "a security event token");
    let has_scope = scope.is_some_and(|scope| !scope.is_empty());
    match claims.holder() {
        Holder::User => assert!(sent["idtyp"] == "user" || has_scope, "{claims:?}"),
        Holder::Application => assert!(
            sent["idtyp"] == "app"
                || (sent["scp"].is_null()
                    && sent["oid"].is_string()
                    && sent["oid"] == sent["sub"]
                    && ["azpacr", "appidacr"]
                        .iter()
                        .any(|name| sent[name] == "1" || sent[name] == "2")),
            "{claims:?}"
        ),
        _ => assert!(!as_user && !as_application, "{claims:?}"),
    }
}

fn check_rejection(rejection: &TokenRejection) {
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
    let Some(value) = rejection.www_authenticate() else {
        assert_eq!(rejection.status(), 503);
        return;
    };
    let challenges = Challenge::parse(value.to_str().expect("ASCII"));
    assert_eq!(challenges.len(), 1, "{value:?}");
    assert!(rejection.status().is_client_error());
}

fn validate(validator: &TokenValidator, token: &str) -> Result<Claims, TokenRejection> {
    RUNTIME.block_on(validator.validate(token))
}

fn signed(header: &str, claims: &str) -> String {
    let message = format!("{}.{}", encode(header), encode(claims));
    let signature = KEY.sign(&SystemRandom::new(), message.as_bytes());
    format!("{message}.{}", encode(signature.expect("a signature")))
}

fn validator(metadata: String, keys: String) -> TokenValidator {
    TokenValidator::builder(Authority::entra(Cloud::Public, TENANT))
        .audience(AUDIENCE)
        .single_tenant()
        .clock(FixedClock(Instant::now()))
        .transport(move |request: Request<Bytes>| {
            let is_metadata = request.uri().path().ends_with("openid-configuration");
            let body = if is_metadata { &metadata } else { &keys }.clone();
            async move { Ok(Response::new(Bytes::from(body))) }
        })
        .build()
        .expect("a validator")
}

fn valid_claims() -> String {
    format!(
        r#"{{"iss":"{ISSUER}","tid":"{TENANT}","aud":"{AUDIENCE}","oid":"adele","azp":"c","scp":"s","exp":1800000000}}"#
    )
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

struct FixedClock(Instant);

impl Clock for FixedClock {
    fn wall(&self) -> SystemTime {
        NOW
    }

    fn monotonic(&self) -> Instant {
        self.0
    }
}

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().build().expect("a runtime")
});

static KEY: LazyLock<EcdsaKeyPair> =
    LazyLock::new(|| EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key"));

static VALIDATOR: LazyLock<TokenValidator> = LazyLock::new(|| {
    let metadata = format!(r#"{{"issuer":"{ISSUER}","jwks_uri":"https://keys.example/"}}"#);
    let point = KEY.public_key().as_ref();
    let (x, y) = (encode(&point[1..33]), encode(&point[33..]));
    let key = format!(r#"{{"kty":"EC","crv":"P-256","kid":"1","x":"{x}","y":"{y}"}}"#);
    validator(metadata, format!(r#"{{"keys":[{key}]}}"#))
});

/// Earlier than the expiry of every seed.
const NOW: SystemTime = SystemTime::UNIX_EPOCH;
const TENANT: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";
const ISSUER: &str = "https://login.microsoftonline.com/72f988bf-86f1-41af-91ab-2d7cd011db47/v2.0";
const AUDIENCE: &str = "api://drive";
const HEADER: &str = r#"{"alg":"ES256","kid":"1"}"#;
