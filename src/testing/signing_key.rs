use aws_lc_rs::rsa::PublicKey;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::crypto::JwtSigner;
use jsonwebtoken::{Header, jwk};
use serde_json::Value;
use uuid::Uuid;

use crate::assertion::sign_compact;
use crate::certificate::key::aws_lc::RsaSigner;
use crate::error::{Error, Failure};

/// The key an authority signs its tokens with.
pub(super) struct SigningKey {
    signer: RsaSigner,
    id: String,
}

impl SigningKey {
    pub(super) fn generate() -> Result<Self, Error> {
        match RsaSigner::generate() {
            Ok(signer) => Ok(Self {
                signer,
                id: Uuid::new_v4().simple().to_string(),
            }),
            Err(error) => Err(Error::Credential(
                Failure::new("no signing key could be made")
                    .source(Box::new(error))
                    .into(),
            )),
        }
    }

    pub(super) fn sign(&self, claims: &Value) -> Result<String, Error> {
        let mut header = Header::new(self.signer.algorithm());
        header.kid = Some(self.id.clone());
        sign_compact(&header, claims, &self.signer)
    }

    /// The public half, as it is published.
    pub(super) fn to_jwk(&self) -> jwk::Jwk {
        let public: &PublicKey = self.signer.public_key();
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
