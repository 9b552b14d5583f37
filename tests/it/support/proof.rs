//! Proofs of DPoP, made by jsonwebtoken.

use jsonwebtoken::jwk::{Jwk, ThumbprintHash};
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::support::issuer::{Key, RSA, encode, header, sign_with, user_claims, with};

/// A proof key, with its token and its proofs for one request.
pub struct ProofKey {
    key: Key,
    pub jwk: Value,
    pub token: String,
}

impl ProofKey {
    /// Creates a key and a user token that is bound to the key.
    pub fn new() -> Self {
        let key = Key::p256();
        let mut jwk = key.jwk.clone();
        jwk.as_object_mut().unwrap().remove("kid");
        let thumbprint: Jwk = serde_json::from_value(jwk.clone()).unwrap();
        let thumbprint = thumbprint.thumbprint(ThumbprintHash::SHA256).unwrap();
        let claims = with(user_claims(), "cnf", json!({ "jkt": thumbprint }));
        Self {
            token: RSA.sign(&header(), &claims),
            key,
            jwk,
        }
    }

    /// Returns the header of a proof.
    pub fn header(&self) -> Value {
        json!({ "typ": "dpop+jwt", "alg": "ES256", "jwk": self.jwk })
    }

    /// Returns the claims of a proof with a new `jti`, for a request with the token.
    pub fn claims(&self, method: &str, uri: &str) -> Value {
        json!({
            "jti": uuid::Uuid::new_v4().to_string(), "htm": method, "htu": uri, "iat": now(),
            "ath": encode(Sha256::digest(&self.token)),
        })
    }

    pub fn proof(&self, method: &str, uri: &str) -> String {
        self.sign(&self.header(), &self.claims(method, uri))
    }

    /// Signs by ES256, whatever the header says.
    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        let key = EncodingKey::from_ec_pem(self.key.pem.as_bytes()).unwrap();
        sign_with(&key, Algorithm::ES256, header, claims)
    }
}

pub fn now() -> u64 {
    jsonwebtoken::get_current_timestamp()
}
