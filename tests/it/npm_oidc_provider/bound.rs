//! The issuers of `tests/interop/oidc_provider/bound.mjs`, whose tokens are bound to a key, and the
//! API that is called with them.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use confidential_client::{Certificate, ConfidentialClientBuilder};
use serde::Deserialize;
use serde_json::Value;

use super::Server;

#[derive(Deserialize)]
pub struct Issuers {
    pub bound: Issuer,
    pub fapi: Issuer,
    pub redirect_uri: String,
    /// The API.
    pub orders: String,
    /// The API, where TLS clients present a certificate.
    pub mtls_orders: String,
    /// PEM files with the certificate and the key, by name. Some are named by the algorithm.
    certificates: HashMap<String, PathBuf>,
}

#[derive(Deserialize)]
pub struct Issuer {
    pub issuer: String,
    /// The secret of each application that has one.
    #[serde(default)]
    pub secret: String,
}

/// The response of the API.
#[derive(Debug, Deserialize)]
pub struct Called {
    pub scheme: String,
    #[serde(default)]
    pub cnf: Value,
    /// The hash of the caller's TLS certificate.
    pub certificate: Option<String>,
}

impl Issuers {
    pub fn pem(&self, name: &str) -> Vec<u8> {
        fs::read(&self.certificates[name]).unwrap()
    }

    pub fn certificate(&self, name: &str) -> Certificate {
        Certificate::from_pem(self.pem(name)).unwrap()
    }
}

impl Server {
    /// A client that signs assertions by the algorithm.
    pub fn with_key(
        &self,
        issuer: &Issuer,
        client_id: &str,
        algorithm: &str,
    ) -> ConfidentialClientBuilder {
        self.at(&issuer.issuer, client_id)
            .certificate(self.is.bound_issuers.certificate(algorithm))
    }
}

/// The `x5t#S256` of the certificate.
pub fn thumbprint(certificate: &Certificate) -> String {
    let hex = certificate.thumbprint_sha256();
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

impl Called {
    pub async fn accepted(response: reqwest::Response) -> Self {
        let status = response.status();
        let body = response.text().await.unwrap();
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }
}
