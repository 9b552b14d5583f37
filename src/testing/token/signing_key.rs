use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, Header, jwk};
use serde_json::Value;
use uuid::Uuid;

use super::jwt::ReceivedJwt;
use crate::crypto::{self, PrivateKey, SigningAlgorithm};
use crate::error::{Error, Failure};
use crate::jwt::UnsignedJwt;

/// An RSA key that signs tokens.
pub(crate) struct TokenSigningKey {
    key: PrivateKey,
    id: String,
    /// The only application whose tokens the key signs.
    application: Option<String>,
}

impl TokenSigningKey {
    pub(crate) fn generate() -> Result<Self, Error> {
        Ok(Self {
            key: PrivateKey::generate_rsa()?,
            id: Uuid::new_v4().simple().to_string(),
            application: None,
        })
    }

    /// Generates a key that signs only the tokens for an application.
    pub(crate) fn generate_for(client_id: &str) -> Result<Self, Error> {
        Ok(Self {
            application: Some(client_id.to_owned()),
            ..Self::generate()?
        })
    }

    /// Returns whether the key belongs to this application, or to the tenants for `None`.
    pub(crate) fn is_of(&self, application: Option<&str>) -> bool {
        match (&self.application, application) {
            (None, None) => true,
            (Some(own), Some(application)) => own.eq_ignore_ascii_case(application),
            _ => false,
        }
    }

    pub(crate) fn application(&self) -> Option<&str> {
        self.application.as_deref()
    }

    pub(crate) fn sign(
        &self,
        claims: &Value,
        algorithm: SigningAlgorithm,
    ) -> Result<String, Error> {
        let mut header = Header::new(match algorithm {
            SigningAlgorithm::PS256 => Algorithm::PS256,
            _ => Algorithm::RS256,
        });
        header.kid = Some(self.id.clone());
        let unsigned = UnsignedJwt::new(&header, claims).map_err(cannot_sign)?;
        let signature = self.key.sign(algorithm, unsigned.message());
        Ok(unsigned.signed(&signature.map_err(cannot_sign)?))
    }

    /// Returns whether a JWT names this key (`kid`) and has a valid signature.
    pub(crate) fn verifies<C>(&self, jwt: &ReceivedJwt<'_, C>) -> bool {
        let (public_key, message) = (self.key.public_key(), jwt.message.as_bytes());
        let algorithm = match jwt.header.alg {
            Algorithm::PS256 => SigningAlgorithm::PS256,
            _ => SigningAlgorithm::RS256,
        };
        let is_valid = || crypto::verify(public_key, algorithm, message, &jwt.signature);
        jwt.header.kid.as_ref() == Some(&self.id) && is_valid() == Ok(true)
    }

    /// Returns the public key as a JWK for one algorithm.
    pub(crate) fn to_jwk(&self, algorithm: SigningAlgorithm) -> Option<jwk::Jwk> {
        let (modulus, exponent) = self.key.rsa_components()?;
        Some(jwk::Jwk {
            common: jwk::CommonParameters {
                public_key_use: Some(jwk::PublicKeyUse::Signature),
                key_algorithm: Some(match algorithm {
                    SigningAlgorithm::PS256 => jwk::KeyAlgorithm::PS256,
                    _ => jwk::KeyAlgorithm::RS256,
                }),
                key_id: Some(self.id.clone()),
                ..Default::default()
            },
            algorithm: jwk::AlgorithmParameters::RSA(jwk::RSAKeyParameters {
                key_type: jwk::RSAKeyType::RSA,
                n: BASE64_URL_SAFE_NO_PAD.encode(modulus),
                e: BASE64_URL_SAFE_NO_PAD.encode(exponent),
            }),
        })
    }
}

fn cannot_sign(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Credential(
        Failure::new("the LocalAuthority cannot sign the token")
            .source(source.into())
            .into(),
    )
}
