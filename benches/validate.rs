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
use std::time::{Duration, Instant, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
    ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, UnparsedPublicKey,
};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use confidential_client::Authority;
use confidential_client::resource::{
    DpopPolicy, ResourceRequest, TokenValidator, TokenValidatorBuilder,
};
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
    let (rsa, p256) = (Issuer::rsa()?, Issuer::p256()?);
    let mut accepted = [
        Accepted::new("RS256, 2048 bits", &rsa, 1, &runtime)?,
        Accepted::new("RS256, with the last of 8 keys", &rsa, 8, &runtime)?,
        Accepted::new("ES256", &p256, 1, &runtime)?,
    ];
    let mut rejected = Rejected::all(&rsa)?;
    let mut bound = [
        Bound::new("RS256, with a proof of ES256", &rsa, &p256, rounds * calls)?,
        Bound::new("ES256, with a proof of ES256", &p256, &p256, rounds * calls)?,
    ];
    for _ in 0..rounds {
        for row in &mut accepted {
            row.round(calls, &runtime)?;
        }
        for row in &mut rejected {
            row.round(calls, &runtime)?;
        }
        for row in &mut bound {
            row.round(calls, &runtime)?;
        }
    }
    let micros = |time: Duration| time.as_secs_f64() * 1e6 / f64::from(calls);
    println!("Microseconds, least of {rounds} rounds of {calls} calls.\n");
    println!(
        "| a token of | bare signature check | with a parsed key | validated | ratio to the bare check, goal 1.25 | ratio to the parsed key's |"
    );
    println!("| --- | ---: | ---: | ---: | ---: | ---: |");
    for row in &accepted {
        let (bare, parsed) = (micros(row.bare_time), micros(row.parsed_time));
        let whole = micros(row.validation.time);
        println!(
            "| {} | {bare:.1} | {parsed:.1} | {whole:.1} | {:.2} | {:.2} |",
            row.name,
            whole / bare,
            whole / parsed
        );
    }
    let [reference, ..] = &accepted;
    let reference = micros(reference.validation.time);
    println!("\n| a rejected token of RS256 | rejected | beside an accepted one, goal 1 |");
    println!("| --- | ---: | ---: |");
    for row in &rejected {
        let time = micros(row.validation.time);
        println!("| {} | {time:.1} | {:.2} |", row.name, time / reference);
    }
    println!(
        "\n| a token that is bound by DPoP | both bare signature checks | validated | ratio, goal 1.25 |"
    );
    println!("| --- | ---: | ---: | ---: |");
    for row in &bound {
        let (bare, whole) = (micros(row.bare_time), micros(row.time));
        println!(
            "| {} | {bare:.1} | {whole:.1} | {:.2} |",
            row.name,
            whole / bare
        );
    }
    Ok(())
}

/// A token that is accepted, beside the signature check alone.
struct Accepted {
    name: &'static str,
    bare: Bare,
    bare_time: Duration,
    /// The key that verifies the signature without parsing the key again.
    parsed: ParsedPublicKey,
    parsed_time: Duration,
    validation: Validation,
}

/// A token that is rejected.
struct Rejected {
    name: &'static str,
    validation: Validation,
}

struct Validation {
    validator: TokenValidator,
    token: String,
    time: Duration,
}

/// A signature with the message and the key that verify the signature.
struct Bare {
    key: UnparsedPublicKey<Vec<u8>>,
    message: String,
    signature: Vec<u8>,
}

impl Accepted {
    /// `keys` is the number of published keys. The last of them signs.
    fn new(name: &'static str, issuer: &Issuer, keys: usize, runtime: &Runtime) -> Result<Self> {
        let message = message(issuer.algorithm, &claims());
        let signature = issuer.sign(&message)?;
        let validation = Validation {
            validator: validator(issuer.published(keys))?,
            token: format!("{message}.{}", encode(&signature)),
            time: Duration::MAX,
        };
        let accepted = runtime.block_on(validation.validator.validate(&validation.token))?;
        accepted.require_scope("Files.Read")?;
        let key = issuer.public_key();
        Ok(Self {
            name,
            parsed: key.parse()?,
            parsed_time: Duration::MAX,
            bare: Bare {
                key,
                message,
                signature,
            },
            bare_time: Duration::MAX,
            validation,
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
        let began = Instant::now();
        for _ in 0..calls {
            self.parsed
                .verify_sig(black_box(message.as_bytes()), signature)?;
        }
        self.parsed_time = began.elapsed().min(self.parsed_time);
        self.validation.round(calls, true, runtime)
    }
}

impl Rejected {
    fn all(issuer: &Issuer) -> Result<Vec<Self>> {
        let signed = |message: String| -> Result<String> {
            let signature = issuer.sign(&message)?;
            Ok(format!("{message}.{}", encode(signature)))
        };
        let with = |name: &str, value: Value| {
            let mut claims = claims();
            if let Some(claims) = claims.as_object_mut() {
                claims.insert(name.to_owned(), value);
            }
            signed(message(issuer.algorithm, &claims))
        };
        let token = with("sub", "user".into())?;
        let tokens = [
            ("has expired", with("exp", 2.into())?),
            ("for another API", with("aud", "api://other".into())?),
            (
                "of another issuer",
                with("iss", "https://other.example".into())?,
            ),
            ("an ID token", with("c_hash", "x".repeat(22).into())?),
            ("with a changed signature", changed(&token)?),
            (
                "without a signature",
                token.rsplit_once('.').ok_or("no dot")?.0.to_owned(),
            ),
            ("of random letters", "x".repeat(token.len())),
        ];
        let validator = validator(issuer.published(1))?;
        let rows = tokens.into_iter().map(|(name, token)| Self {
            name,
            validation: Validation {
                validator: validator.clone(),
                token,
                time: Duration::MAX,
            },
        });
        Ok(rows.collect())
    }

    fn round(&mut self, calls: u32, runtime: &Runtime) -> Result<()> {
        self.validation.round(calls, false, runtime)
    }
}

impl Validation {
    fn round(&mut self, calls: u32, is_accepted: bool, runtime: &Runtime) -> Result<()> {
        let Self {
            validator, token, ..
        } = self;
        let began = Instant::now();
        let expected = runtime.block_on(async {
            for _ in 0..calls {
                let outcome = black_box(validator.validate(black_box(token)).await);
                if outcome.is_ok() != is_accepted {
                    return false;
                }
            }
            true
        });
        self.time = began.elapsed().min(self.time);
        match expected {
            true => Ok(()),
            false => Err("the outcome of a validation is not the expected one".into()),
        }
    }
}

/// A token that is bound to a proof key, beside the signature checks of the token and of a proof.
struct Bound {
    name: &'static str,
    token: Bare,
    proof: Bare,
    bare_time: Duration,
    validator: TokenValidator,
    /// A request for each call, because a proof is accepted once.
    requests: Vec<Request<()>>,
    time: Duration,
}

impl Bound {
    fn new(name: &'static str, issuer: &Issuer, key: &Issuer, calls: u32) -> Result<Self> {
        let members: Vec<String> = ["crv", "kty", "x", "y"]
            .into_iter()
            .filter_map(|name| Some(format!(r#""{name}":{}"#, key.jwk.get(name)?)))
            .collect();
        let jwk = format!("{{{}}}", members.join(","));
        let mut claims = claims();
        if let Some(claims) = claims.as_object_mut() {
            let thumbprint = encode(digest(&SHA256, jwk.as_bytes()));
            claims.insert("cnf".to_owned(), json!({ "jkt": thumbprint }));
        }
        let message = message(issuer.algorithm, &claims);
        let signature = issuer.sign(&message)?;
        let token = format!("{message}.{}", encode(&signature));
        let header = format!(r#"{{"typ":"dpop+jwt","alg":"ES256","jwk":{jwk}}}"#);
        let header = encode(header);
        let hash = encode(digest(&SHA256, token.as_bytes()));
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        let sign = |number: u32| -> Result<Bare> {
            let claims = json!({
                "jti": format!("0a1b2c3d-0000-4000-8000-{number:012}"), "htm": "GET",
                "htu": "https://api.example/drives/1/files", "iat": now.as_secs(), "ath": hash,
            });
            let message = format!("{header}.{}", encode(claims.to_string()));
            Ok(Bare {
                key: key.public_key(),
                signature: key.sign(&message)?,
                message,
            })
        };
        let request = |number: u32| -> Result<Request<()>> {
            let proof = sign(number)?;
            let proof = format!("{}.{}", proof.message, encode(proof.signature));
            let request = Request::get("/drives/1/files?$top=100")
                .header("authorization", format!("DPoP {token}"))
                .header("dpop", proof);
            Ok(request.body(())?)
        };
        // The proofs are made before the first round.
        let window = Duration::from_secs(10 * 60);
        let policy = DpopPolicy::new("https://api.example").proof_window(window);
        Ok(Self {
            name,
            proof: sign(0)?,
            requests: (1..=calls).map(request).collect::<Result<_>>()?,
            token: Bare {
                key: issuer.public_key(),
                message,
                signature,
            },
            bare_time: Duration::MAX,
            validator: builder(issuer.published(1)).dpop(policy).build()?,
            time: Duration::MAX,
        })
    }

    fn round(&mut self, calls: u32, runtime: &Runtime) -> Result<()> {
        let began = Instant::now();
        for _ in 0..calls {
            for bare in [&self.token, &self.proof] {
                let message = black_box(bare.message.as_bytes());
                bare.key.verify(message, &bare.signature)?;
            }
        }
        self.bare_time = began.elapsed().min(self.bare_time);
        let rest = self.requests.len().saturating_sub(usize::try_from(calls)?);
        let requests = self.requests.split_off(rest);
        let validator = &self.validator;
        let began = Instant::now();
        let accepted = runtime.block_on(async {
            for request in &requests {
                let request = ResourceRequest::from(black_box(request));
                if black_box(validator.validate_request(request).await).is_err() {
                    return false;
                }
            }
            true
        });
        self.time = began.elapsed().min(self.time);
        match accepted {
            true => Ok(()),
            false => Err("a bound token was rejected".into()),
        }
    }
}

/// A key pair that signs tokens.
struct Issuer {
    algorithm: &'static str,
    pair: Pair,
    /// The public key as a JSON Web Key, without a name.
    jwk: Value,
}

enum Pair {
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
}

impl Issuer {
    fn rsa() -> Result<Self> {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048)?;
        let public = pair.public_key();
        let jwk = json!({
            "kty": "RSA",
            "n": encode(public.modulus().big_endian_without_leading_zero()),
            "e": encode(public.exponent().big_endian_without_leading_zero()),
        });
        Ok(Self {
            algorithm: "RS256",
            pair: Pair::Rsa(pair),
            jwk,
        })
    }

    fn p256() -> Result<Self> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
        let point = pair.public_key().as_ref();
        let (x, y) = point.get(1..).ok_or("no point")?.split_at(32);
        let jwk = json!({ "kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y) });
        Ok(Self {
            algorithm: "ES256",
            pair: Pair::P256(pair),
            jwk,
        })
    }

    /// Returns a key set with `count` keys. The last key has the name of the tokens' key.
    fn published(&self, count: usize) -> Value {
        // Names that differ in the last letter take the longest to tell apart.
        let others = (1..count).map(|number| KEY.replace('U', &number.to_string()));
        let keys = others.chain([KEY.to_owned()]).map(|name| {
            let mut jwk = self.jwk.clone();
            if let Some(members) = jwk.as_object_mut() {
                members.insert("kid".to_owned(), name.into());
            }
            jwk
        });
        json!({ "keys": keys.collect::<Vec<_>>() })
    }

    fn sign(&self, message: &str) -> Result<Vec<u8>> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(
                    &RSA_PKCS1_SHA256,
                    &random,
                    message.as_bytes(),
                    &mut signature,
                )?;
                Ok(signature)
            }
            Pair::P256(pair) => Ok(pair.sign(&random, message.as_bytes())?.as_ref().to_vec()),
        }
    }

    fn public_key(&self) -> UnparsedPublicKey<Vec<u8>> {
        match &self.pair {
            Pair::Rsa(pair) => {
                let public = pair.public_key().as_ref().to_vec();
                UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public)
            }
            Pair::P256(pair) => {
                let public = pair.public_key().as_ref().to_vec();
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, public)
            }
        }
    }
}

/// Returns the token with another last letter but one, which changes the signature.
fn changed(token: &str) -> Result<String> {
    let (rest, end) = token.split_at(token.len() - 2);
    let last = end.get(1..).ok_or("not ASCII")?;
    let other = if end.starts_with('A') { 'B' } else { 'A' };
    Ok(format!("{rest}{other}{last}"))
}

fn validator(keys: Value) -> Result<TokenValidator> {
    Ok(builder(keys).build()?)
}

fn builder(keys: Value) -> TokenValidatorBuilder {
    let metadata = json!({ "issuer": ISSUER, "jwks_uri": "https://id.example/keys" });
    TokenValidator::builder(Authority::oidc(ISSUER))
        .audience(AUDIENCE)
        .single_tenant()
        .transport(move |request: Request<Bytes>| {
            let is_metadata = request.uri().path().ends_with("openid-configuration");
            let body = if is_metadata { &metadata } else { &keys }.to_string();
            async move { Ok(Response::new(Bytes::from(body))) }
        })
}

/// The signed part of a token.
fn message(algorithm: &str, claims: &Value) -> String {
    let header = json!({ "typ": "JWT", "alg": algorithm, "x5t": KEY, "kid": KEY });
    format!(
        "{}.{}",
        encode(header.to_string()),
        encode(claims.to_string())
    )
}

/// The claims of a user token, which has the length of a token of Microsoft Entra ID.
fn claims() -> Value {
    json!({
        "aud": AUDIENCE, "iss": ISSUER, "iat": 1, "nbf": 1, "exp": 9_999_999_999_u64,
        "aio": "x".repeat(120), "azp": "11111111-2222-3333-4444-555555555555", "azpacr": "1",
        "idtyp": "user", "name": "Adele Vance", "oid": "0a1b2c3d-0000-4000-8000-000000000001",
        "preferred_username": "adele@contoso.com", "rh": "x".repeat(60), "scp": "Files.Read User.Read",
        "sid": "0a1b2c3d-0000-4000-8000-000000000002", "sub": "x".repeat(43),
        "tid": "72f988bf-86f1-41af-91ab-2d7cd011db47", "uti": "x".repeat(22), "ver": "2.0",
        "wids": ["b79fbf4d-3ef9-4689-8143-76b194e85509"], "xms_ftd": "x".repeat(60),
    })
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

const ISSUER: &str = "https://id.example";
const AUDIENCE: &str = "api://drive";
/// A thumbprint, which Entra names keys by.
const KEY: &str = "q-23falevZhhD3hm9CQbkP5MQyU";
