//! A judge of DPoP proofs, a maker of wrong ones, and an authority that demands proofs.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use confidential_client::credential::{DpopKey, SigningAlgorithm};
use confidential_client::testing::{Application, LocalAuthority, ProtectedApi};
use confidential_client::{Authority, ConfidentialClient, ConfidentialClientBuilder, RetryPolicy};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{DecodingKey, EncodingKey, Header, Validation};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{CLIENT_ID, SECRET, TENANT, log_capture};

/// A P-256 key of these tests, from `openssl genpkey`.
pub const KEY: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgevZzL1gdAFr88hb2
OF/2NxApJCzGCEDdfSp6VQO30hyhRANCAAQRWz+jn65BtOMvdyHKcvjBeBSDZH2r
1RTwjmYSi9R/zpBnuQ4EiMnCqfMPWiZqB4QdbAd0E7oH50VpuZ1P087G
-----END PRIVATE KEY-----
";

/// Another P-256 key, from `openssl genpkey`.
pub const OTHER_KEY: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgeKlXJOk6IGcPRCJv
UcJfMJLCDYsO2nO38yXnlWBEdA+hRANCAARcWygmHVMk2VEcgRPrGJrp66Y76JzP
z+mOPAOWKUEw+mAmBSqiCjek9hAXZdGSEw1wA5sbiGa/gz2e0mxJqZWO
-----END PRIVATE KEY-----
";

/// The resource of [`ProtectedApi`], and the scope of its tokens.
pub const RESOURCE: &str = "api://orders";
pub const ORDERS: &str = "api://orders/.default";

/// The header and the claims of a proof whose signature jsonwebtoken verified.
pub struct JudgedProof {
    pub header: Value,
    pub claims: Value,
}

impl JudgedProof {
    /// Verifies a proof by the key in its header.
    pub fn of(proof: &str) -> Self {
        let header = jsonwebtoken::decode_header(proof).unwrap();
        assert_eq!(header.typ.as_deref(), Some("dpop+jwt"));
        let key = DecodingKey::from_jwk(header.jwk.as_ref().unwrap()).unwrap();
        let mut validation = Validation::new(header.alg);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        let claims = jsonwebtoken::decode::<Value>(proof, &key, &validation).unwrap();
        let part = proof.split('.').next().unwrap();
        let header = BASE64_URL_SAFE_NO_PAD.decode(part).unwrap();
        Self {
            header: serde_json::from_slice(&header).unwrap(),
            claims: claims.claims,
        }
    }

    /// Returns the thumbprint of the key in the header.
    pub fn thumbprint(&self) -> String {
        let jwk = &self.header["jwk"];
        let (x, y) = (jwk["x"].as_str().unwrap(), jwk["y"].as_str().unwrap());
        hash(&format!(
            r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#
        ))
    }

    pub fn text(&self, claim: &str) -> &str {
        self.claims[claim].as_str().unwrap_or_default()
    }
}

/// Returns the SHA-256 in base64url.
pub fn hash(text: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(text))
}

pub fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Returns the claims of a correct proof of now.
pub fn claims(method: &str, uri: &str, token: Option<&str>) -> Value {
    let mut claims = json!({
        "jti": uuid(),
        "htm": method,
        "htu": uri,
        "iat": seconds(SystemTime::now()),
    });
    if let Some(token) = token {
        claims["ath"] = hash(token).into();
    }
    claims
}

fn uuid() -> String {
    use std::hash::{BuildHasher, Hasher, RandomState};
    let random = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", random(), random())
}

/// Signs a proof with the PEM key, by jsonwebtoken.
pub fn signed(claims: &Value, pem: &str) -> String {
    let key = EncodingKey::from_ec_pem(pem.as_bytes()).unwrap();
    let mut header = Header::new(jsonwebtoken::Algorithm::ES256);
    header.typ = Some("dpop+jwt".to_owned());
    let mut jwk = Jwk::from_encoding_key(&key, jsonwebtoken::Algorithm::ES256).unwrap();
    jwk.common = Default::default();
    header.jwk = Some(jwk);
    jsonwebtoken::encode(&header, claims, &key).unwrap()
}

/// Starts an authority with an application that demands proofs, and an API for its tokens.
pub async fn start() -> (LocalAuthority, ProtectedApi) {
    log_capture::start();
    let local = LocalAuthority::start().await.unwrap();
    let application = Application::new(CLIENT_ID).secret(SECRET);
    local.register(
        TENANT,
        application
            .role(RESOURCE, "Orders.Read")
            .dpop_bound_access_tokens(),
    );
    let api = local.protected_api(RESOURCE).await.unwrap();
    (local, api)
}

/// Returns the builder of a client of the authority as an OpenID provider, without retries.
pub fn client_of(local: &LocalAuthority) -> ConfidentialClientBuilder {
    ConfidentialClient::builder(CLIENT_ID)
        .authority(Authority::oidc(local.issuer(TENANT).unwrap()))
        .client_secret(SECRET)
        .retry(RetryPolicy::none())
}

pub fn key() -> DpopKey {
    DpopKey::from_pem(KEY).unwrap()
}

/// Returns the proofs of the token requests so far.
pub fn token_proofs(local: &LocalAuthority) -> Vec<JudgedProof> {
    let requests = local.token_requests();
    let proofs = requests.iter().map(|request| request.header("dpop"));
    proofs
        .map(|proof| JudgedProof::of(proof.unwrap()))
        .collect()
}

/// Returns an HTTP client that uses no proxy.
pub fn http() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

/// The public key of [`KEY`], from `openssl pkey -pubout`.
pub const PUBLIC_KEY: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEEVs/o5+uQbTjL3chynL4wXgUg2R9
q9UU8I5mEovUf86QZ7kOBIjJwqnzD1omageEHWwHdBO6B+dFabmdT9POxg==
-----END PUBLIC KEY-----
";

/// Returns a proof key whose signer signs with [`KEY`] while it is open.
pub fn vault_key(is_open: impl Fn() -> bool + Send + Sync + 'static) -> DpopKey {
    let signer = move |_: SigningAlgorithm, message: Vec<u8>| {
        let is_open = is_open();
        async move {
            match is_open {
                true => Ok(es256(&message)),
                false => Err("the vault is closed".into()),
            }
        }
    };
    DpopKey::from_signer(PUBLIC_KEY, signer).unwrap()
}

/// Signs with [`KEY`], by aws-lc.
pub fn es256(message: &[u8]) -> Vec<u8> {
    let key = EncodingKey::from_ec_pem(KEY.as_bytes()).unwrap();
    let signature =
        jsonwebtoken::crypto::sign(message, &key, jsonwebtoken::Algorithm::ES256).unwrap();
    BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap()
}
