//! Measures the cost of validating a token, beside the bare signature check.
//!
//! ```sh
//! cargo bench --bench validate
//! ```
//!
//! The tokens have the length of Entra's tokens. The issuer is in memory, and the keys are cached.
//! The rows take turns, and a figure is the best round of a row. See `README.md`.
#![allow(clippy::print_stdout, reason = "it reports to a reader")]

use std::error::Error;
use std::hint::black_box;
use std::time::{Duration, Instant};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, UnparsedPublicKey,
    VerificationAlgorithm,
};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use confidential_client::Authority;
use confidential_client::resource::TokenValidator;
use http::{Request, Response};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    // `cargo test` runs the benchmark, too, and needs no figures.
    let (rounds, calls) = match std::env::args().any(|argument| argument == "--bench") {
        // Rounds of less than a millisecond, which another program seldom interrupts.
        true => (2_000, 10),
        false => (2, 2),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    let mut rows = [Row::rsa(&runtime)?, Row::p256(&runtime)?];
    for _ in 0..rounds {
        for row in &mut rows {
            row.round(calls, &runtime)?;
        }
    }
    println!("Microseconds, least of {rounds} rounds of {calls} calls.\n");
    println!("| a token of | bare signature check | validated | ratio, goal 1.3 |");
    println!("| --- | ---: | ---: | ---: |");
    for row in &rows {
        row.print(calls);
    }
    Ok(())
}

struct Row {
    name: &'static str,
    bare: Bare,
    validator: TokenValidator,
    token: String,
    bare_time: Duration,
    time: Duration,
}

/// A signature with the message and the key that verify the signature.
struct Bare {
    key: UnparsedPublicKey<Vec<u8>>,
    message: String,
    signature: Vec<u8>,
}

impl Row {
    fn rsa(runtime: &Runtime) -> Result<Self> {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048)?;
        let public = pair.public_key();
        let jwk = json!({
            "kty": "RSA",
            "kid": "key",
            "n": encode(public.modulus().big_endian_without_leading_zero()),
            "e": encode(public.exponent().big_endian_without_leading_zero()),
        });
        let message = message("RS256");
        let mut signature = vec![0; pair.public_modulus_len()];
        let random = SystemRandom::new();
        pair.sign(
            &RSA_PKCS1_SHA256,
            &random,
            message.as_bytes(),
            &mut signature,
        )?;
        let public = public.as_ref().to_vec();
        let algorithm = &RSA_PKCS1_2048_8192_SHA256;
        Self::new(
            "RS256, 2048 bits",
            jwk,
            algorithm,
            public,
            message,
            signature,
            runtime,
        )
    }

    fn p256(runtime: &Runtime) -> Result<Self> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
        let public = pair.public_key().as_ref().to_vec();
        let (x, y) = public.get(1..).ok_or("no point")?.split_at(32);
        let jwk =
            json!({ "kty": "EC", "crv": "P-256", "kid": "key", "x": encode(x), "y": encode(y) });
        let message = message("ES256");
        let signature = pair.sign(&SystemRandom::new(), message.as_bytes())?;
        let signature = signature.as_ref().to_vec();
        let algorithm = &ECDSA_P256_SHA256_FIXED;
        Self::new("ES256", jwk, algorithm, public, message, signature, runtime)
    }

    fn new(
        name: &'static str,
        jwk: Value,
        algorithm: &'static dyn VerificationAlgorithm,
        public: Vec<u8>,
        message: String,
        signature: Vec<u8>,
        runtime: &Runtime,
    ) -> Result<Self> {
        let validator = validator(json!({ "keys": [jwk] }))?;
        let token = format!("{message}.{}", encode(&signature));
        let claims = runtime.block_on(validator.validate(&token))?;
        claims.require_scope("Files.Read")?;
        Ok(Self {
            name,
            bare: Bare {
                key: UnparsedPublicKey::new(algorithm, public),
                message,
                signature,
            },
            validator,
            token,
            bare_time: Duration::MAX,
            time: Duration::MAX,
        })
    }

    fn round(&mut self, calls: u32, runtime: &Runtime) -> Result<()> {
        let Bare {
            key,
            message,
            signature,
        } = &self.bare;
        let began = Instant::now();
        for _ in 0..calls {
            key.verify(black_box(message.as_bytes()), signature)?;
        }
        self.bare_time = began.elapsed().min(self.bare_time);
        let (validator, token) = (&self.validator, &self.token);
        let began = Instant::now();
        runtime.block_on(async {
            for _ in 0..calls {
                black_box(validator.validate(black_box(token)).await?);
            }
            Result::Ok(())
        })?;
        self.time = began.elapsed().min(self.time);
        Ok(())
    }

    fn print(&self, calls: u32) {
        let micros = |time: Duration| time.as_secs_f64() * 1e6 / f64::from(calls);
        let (bare, whole) = (micros(self.bare_time), micros(self.time));
        println!(
            "| {} | {bare:.1} | {whole:.1} | {:.2} |",
            self.name,
            whole / bare
        );
    }
}

fn validator(keys: Value) -> Result<TokenValidator> {
    let metadata = json!({ "issuer": ISSUER, "jwks_uri": "https://id.example/keys" });
    let validator = TokenValidator::builder(Authority::oidc(ISSUER))
        .audience(AUDIENCE)
        .single_tenant()
        .transport(move |request: Request<Bytes>| {
            let is_metadata = request.uri().path().ends_with("openid-configuration");
            let body = if is_metadata { &metadata } else { &keys }.to_string();
            async move { Ok(Response::new(Bytes::from(body))) }
        });
    Ok(validator.build()?)
}

/// The signed part of a token, with the claims and the length of a user token of Microsoft Entra ID.
fn message(algorithm: &str) -> String {
    let header = json!({ "typ": "JWT", "alg": algorithm, "x5t": "key", "kid": "key" });
    let claims = json!({
        "aud": AUDIENCE, "iss": ISSUER, "iat": 1, "nbf": 1, "exp": 9_999_999_999_u64,
        "aio": "x".repeat(120), "azp": "11111111-2222-3333-4444-555555555555", "azpacr": "1",
        "idtyp": "user", "name": "Adele Vance", "oid": "0a1b2c3d-0000-4000-8000-000000000001",
        "preferred_username": "adele@contoso.com", "rh": "x".repeat(60), "scp": "Files.Read User.Read",
        "sid": "0a1b2c3d-0000-4000-8000-000000000002", "sub": "x".repeat(43),
        "tid": "72f988bf-86f1-41af-91ab-2d7cd011db47", "uti": "x".repeat(22), "ver": "2.0",
        "wids": ["b79fbf4d-3ef9-4689-8143-76b194e85509"], "xms_ftd": "x".repeat(60),
    });
    format!(
        "{}.{}",
        encode(header.to_string()),
        encode(claims.to_string())
    )
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

const ISSUER: &str = "https://id.example";
const AUDIENCE: &str = "api://drive";
