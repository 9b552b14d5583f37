//! An in-memory issuer of tokens for validators.

use std::sync::{Arc, LazyLock, Mutex};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use confidential_client::resource::{TokenValidator, TokenValidatorBuilder};
use confidential_client::testing::ManualClock;
use confidential_client::{Authority, Cloud};
use http::{Request, Response};
use jsonwebtoken::{Algorithm, EncodingKey};
use rsa::RsaPublicKey;
use rsa::pkcs1::DecodeRsaPublicKey;
use rsa::traits::PublicKeyParts;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::support::log_capture;

pub const TENANT_ID: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";
pub const API: &str = "api://drive";
pub const ISSUER: &str =
    "https://login.microsoftonline.com/72f988bf-86f1-41af-91ab-2d7cd011db47/v2.0";
pub const TEMPLATE: &str = "https://login.microsoftonline.com/{tenantid}/v2.0";

/// Keys of the issuer, and a key that the issuer does not publish.
pub static RSA: LazyLock<Key> = LazyLock::new(|| Key::rsa("first"));
pub static NEXT: LazyLock<Key> = LazyLock::new(|| Key::rsa("next"));
pub static P256: LazyLock<Key> = LazyLock::new(Key::p256);
pub static P384: LazyLock<Key> = LazyLock::new(Key::p384);
pub static ED25519: LazyLock<Key> = LazyLock::new(Key::ed25519);
pub static STRANGER: LazyLock<Key> = LazyLock::new(|| Key::rsa("first"));

pub struct Key {
    pub jwk: Value,
    pub pem: String,
}

impl Key {
    fn rsa(kid: &str) -> Self {
        let pair =
            rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048);
        let pair = pair.unwrap();
        let public = RsaPublicKey::from_pkcs1_der(pair.public_key_raw()).unwrap();
        let (n, e) = (
            encode(public.n().to_bytes_be()),
            encode(public.e().to_bytes_be()),
        );
        Self {
            jwk: json!({ "kty": "RSA", "use": "sig", "kid": kid, "n": n, "e": e }),
            pem: pair.serialize_pem(),
        }
    }

    pub fn p256() -> Self {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let point = pair.public_key_raw();
        let (x, y) = (encode(&point[1..33]), encode(&point[33..]));
        Self {
            jwk: json!({ "kty": "EC", "crv": "P-256", "kid": "curve", "x": x, "y": y }),
            pem: pair.serialize_pem(),
        }
    }

    fn p384() -> Self {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let point = pair.public_key_raw();
        let (x, y) = (encode(&point[1..49]), encode(&point[49..]));
        Self {
            jwk: json!({ "kty": "EC", "crv": "P-384", "kid": "longer curve", "x": x, "y": y }),
            pem: pair.serialize_pem(),
        }
    }

    fn ed25519() -> Self {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let x = encode(pair.public_key_raw());
        Self {
            jwk: json!({ "kty": "OKP", "crv": "Ed25519", "kid": "twisted curve", "x": x }),
            pem: pair.serialize_pem(),
        }
    }

    /// Returns a token with this header and these claims, signed by the header's algorithm if
    /// possible.
    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        let pem = self.pem.as_bytes();
        let (algorithm, key) = match header["alg"].as_str() {
            Some("ES256") => (Algorithm::ES256, EncodingKey::from_ec_pem(pem)),
            Some("ES384") => (Algorithm::ES384, EncodingKey::from_ec_pem(pem)),
            Some("EdDSA") => (Algorithm::EdDSA, EncodingKey::from_ed_pem(pem)),
            Some("PS256") => (Algorithm::PS256, EncodingKey::from_rsa_pem(pem)),
            _ => (Algorithm::RS256, EncodingKey::from_rsa_pem(pem)),
        };
        sign_with(&key.unwrap(), algorithm, header, claims)
    }
}

pub fn sign_with(
    key: &EncodingKey,
    algorithm: Algorithm,
    header: &Value,
    claims: &Value,
) -> String {
    let message = format!(
        "{}.{}",
        encode(header.to_string()),
        encode(claims.to_string())
    );
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), key, algorithm).unwrap();
    format!("{message}.{signature}")
}

pub fn encode(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

pub fn with(mut value: Value, name: &str, to: impl Into<Value>) -> Value {
    value[name] = to.into();
    value
}

pub fn without(mut value: Value, name: &str) -> Value {
    value.as_object_mut().unwrap().remove(name);
    value
}

pub fn header() -> Value {
    json!({ "typ": "JWT", "alg": "RS256", "kid": "first" })
}

/// Returns current claims of a client that acts for a user.
pub fn user_claims() -> Value {
    let now = jsonwebtoken::get_current_timestamp();
    json!({
        "aud": API, "iss": ISSUER, "tid": TENANT_ID, "ver": "2.0",
        "iat": now, "nbf": now, "exp": now + 3600,
        "azp": "client", "oid": "adele", "sub": "pairwise", "scp": "Files.Read User.Read",
    })
}

/// Returns current claims of an application that acts for itself.
pub fn application_claims() -> Value {
    let claims = with(with(user_claims(), "sub", "adele"), "azpacr", "1");
    with(without(claims, "scp"), "roles", json!(["Files.Read.All"]))
}

pub fn user_token() -> String {
    RSA.sign(&header(), &user_claims())
}

/// Published documents, and the number of requests for them.
#[derive(Clone)]
pub struct Issuer(Arc<State>);

struct State {
    keys: Mutex<Vec<Value>>,
    asked: Mutex<Vec<String>>,
    is_down: Mutex<bool>,
    gate: Mutex<Arc<Semaphore>>,
}

impl Issuer {
    /// Creates an issuer with the keys [`RSA`] and [`P256`].
    pub fn new() -> Self {
        let issuer = Self::gated();
        issuer.open();
        issuer
    }

    /// Creates an issuer that responds after [`open`](Self::open).
    pub fn gated() -> Self {
        log_capture::start();
        Self(Arc::new(State {
            keys: Mutex::new(vec![RSA.jwk.clone(), P256.jwk.clone()]),
            asked: Mutex::default(),
            is_down: Mutex::default(),
            gate: Mutex::new(Arc::new(Semaphore::new(0))),
        }))
    }

    pub fn open(&self) {
        self.0.gate.lock().unwrap().close();
    }

    /// Stops responding until the next [`open`](Self::open).
    pub fn hold(&self) {
        *self.0.gate.lock().unwrap() = Arc::new(Semaphore::new(0));
    }

    pub fn publish(&self, keys: &[Value]) {
        *self.0.keys.lock().unwrap() = keys.to_vec();
    }

    pub fn is_down(&self, is_down: bool) {
        *self.0.is_down.lock().unwrap() = is_down;
    }

    /// Returns the number of requests for metadata and for keys.
    pub fn asked(&self) -> (usize, usize) {
        let asked = self.0.asked.lock().unwrap();
        let metadata = asked.iter().filter(|url| url.ends_with(METADATA)).count();
        (metadata, asked.len() - metadata)
    }

    pub fn transport(&self) -> impl confidential_client::transport::Transport + use<> {
        let state = Arc::clone(&self.0);
        move |request: Request<Bytes>| {
            let state = Arc::clone(&state);
            async move {
                let url = request.uri().to_string();
                state.asked.lock().unwrap().push(url.clone());
                let gate = Arc::clone(&state.gate.lock().unwrap());
                let _ = gate.acquire().await;
                if *state.is_down.lock().unwrap() {
                    return Err("no route to host".into());
                }
                Ok(Response::new(Bytes::from(state.answer(&url).to_string())))
            }
        }
    }

    /// Returns a validator of one tenant's tokens for [`API`].
    pub fn validator(&self) -> TokenValidator {
        self.builder(TENANT_ID).single_tenant().build().unwrap()
    }

    pub fn validator_at(&self, clock: &ManualClock) -> TokenValidator {
        let builder = self.builder(TENANT_ID).single_tenant();
        builder.clock(clock.clone()).build().unwrap()
    }

    pub fn builder(&self, tenant: &str) -> TokenValidatorBuilder {
        TokenValidator::builder(Authority::entra(Cloud::Public, tenant))
            .audience(API)
            .transport(self.transport())
    }
}

impl State {
    fn answer(&self, url: &str) -> Value {
        match url.strip_suffix(METADATA) {
            Some(base) => {
                let base = base.trim_end_matches("/v2.0");
                let issuer = match base.rsplit('/').next() {
                    Some("common" | "organizations") => TEMPLATE.to_owned(),
                    _ if base.starts_with("https://login.microsoftonline.com") => {
                        format!("{base}/v2.0")
                    }
                    _ => base.to_owned(),
                };
                json!({
                    "issuer": issuer,
                    "jwks_uri": "https://login.microsoftonline.com/common/discovery/v2.0/keys",
                    "authorization_endpoint": format!("{base}/oauth2/v2.0/authorize"),
                })
            }
            None => json!({ "keys": *self.keys.lock().unwrap() }),
        }
    }
}

const METADATA: &str = "/.well-known/openid-configuration";
