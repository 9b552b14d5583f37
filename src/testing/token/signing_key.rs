use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeySize, PublicKey};
use aws_lc_rs::signature::{
    KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, UnparsedPublicKey,
};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, Header, jwk};
use serde_json::Value;
use uuid::Uuid;

use crate::error::{Error, Failure};
use crate::jwt::UnsignedJwt;

/// The key an authority signs its tokens with.
pub(crate) struct TokenSigningKey {
    pair: RsaKeyPair,
    id: String,
}

impl TokenSigningKey {
    pub(crate) fn generate() -> Result<Self, Error> {
        match RsaKeyPair::generate(KeySize::Rsa2048) {
            Ok(pair) => Ok(Self {
                pair,
                id: Uuid::new_v4().simple().to_string(),
            }),
            Err(error) => Err(Error::Credential(
                Failure::new("no signing key could be made")
                    .source(Box::new(error))
                    .into(),
            )),
        }
    }

    pub(crate) fn sign(&self, claims: &Value) -> Result<String, Error> {
        let mut header = Header::new(Algorithm::RS256);
        header.kid = Some(self.id.clone());
        let unsigned = UnsignedJwt::new(&header, claims).map_err(failed)?;
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(
                &RSA_PKCS1_SHA256,
                &SystemRandom::new(),
                unsigned.message(),
                &mut signature,
            )
            .map_err(failed)?;
        Ok(unsigned.signed(&signature))
    }

    /// Whether a token of this `kid` has this key's signature.
    pub(crate) fn verifies(&self, kid: Option<&str>, message: &str, signature: &[u8]) -> bool {
        let public = self.pair.public_key().as_ref();
        let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public);
        kid == Some(&self.id) && public.verify(message.as_bytes(), signature).is_ok()
    }

    /// The public half, as it is published.
    pub(crate) fn to_jwk(&self) -> jwk::Jwk {
        let public: &PublicKey = self.pair.public_key();
        let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        jwk::Jwk {
            common: jwk::CommonParameters {
                public_key_use: Some(jwk::PublicKeyUse::Signature),
                key_algorithm: Some(jwk::KeyAlgorithm::RS256),
                key_id: Some(self.id.clone()),
                ..Default::default()
            },
            algorithm: jwk::AlgorithmParameters::RSA(jwk::RSAKeyParameters {
                key_type: jwk::RSAKeyType::RSA,
                n: encode(public.modulus().big_endian_without_leading_zero()),
                e: encode(public.exponent().big_endian_without_leading_zero()),
            }),
        }
    }
}

fn failed(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Credential(
        Failure::new("the token could not be signed")
            .source(source.into())
            .into(),
    )
}
