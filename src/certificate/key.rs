use std::sync::Arc;

use jsonwebtoken::crypto::JwtSigner;
use zeroize::Zeroizing;

use crate::error::Error;

/// A private key as it stands in a file; wiped when dropped.
#[cfg_attr(
    not(feature = "aws-lc-rs"),
    expect(dead_code, reason = "no signing backend reads it")
)]
pub(crate) enum PrivateKeyDer {
    Pkcs8(Zeroizing<Vec<u8>>),
    Pkcs1(Zeroizing<Vec<u8>>),
}

/// A private key, parsed once: parsing costs half as much as a signature.
pub(crate) struct PrivateKey {
    signer: Arc<dyn JwtSigner + Send + Sync>,
    public_key: Vec<u8>,
}

impl PrivateKey {
    pub(crate) fn signer(&self) -> Arc<dyn JwtSigner + Send + Sync> {
        Arc::clone(&self.signer)
    }

    /// The public half as PKCS#1 DER, to be compared with a certificate's.
    pub(crate) fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    #[cfg(feature = "aws-lc-rs")]
    pub(crate) fn parse(der: &PrivateKeyDer) -> Result<Self, Error> {
        let (signer, public_key) = aws_lc::RsaSigner::parse(der)?;
        Ok(Self {
            signer: Arc::new(signer),
            public_key,
        })
    }

    #[cfg(not(feature = "aws-lc-rs"))]
    pub(crate) fn parse(_: &PrivateKeyDer) -> Result<Self, Error> {
        Err(Error::config(
            "no signing backend is compiled in; enable the feature 'aws-lc-rs' of confidential-client to use a certificate",
        ))
    }
}

/// Signing with aws-lc-rs, which the default TLS brings along anyway.
#[cfg(feature = "aws-lc-rs")]
pub(crate) mod aws_lc {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{KeyPair, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaKeyPair};
    use jsonwebtoken::Algorithm;
    use jsonwebtoken::crypto::JwtSigner;
    use jsonwebtoken::signature;

    use super::PrivateKeyDer;
    use crate::error::Error;

    pub(crate) struct RsaSigner {
        pair: RsaKeyPair,
        algorithm: Algorithm,
    }

    impl RsaSigner {
        /// A PS256 signer and its public key.
        pub(super) fn parse(der: &PrivateKeyDer) -> Result<(Self, Vec<u8>), Error> {
            let pair = match der {
                PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der),
                PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der),
            };
            let pair = pair.map_err(|rejected| match rejected.description_() {
                "TooSmall" => Error::credential(
                    "the RSA key has under 2048 bits, which is not safe; make a new key and certificate and register it with the application",
                ),
                "WrongAlgorithm" => crate::certificate::not_rsa(),
                _ => Error::credential(
                    "the private key cannot be read: it is not a PKCS#8 or PKCS#1 RSA key",
                ),
            })?;
            let public_key = pair.public_key().as_ref().to_vec();
            let algorithm = Algorithm::PS256;
            Ok((Self { pair, algorithm }, public_key))
        }

        /// A fresh RS256 signer, for a test's identity provider.
        #[cfg(feature = "testing")]
        pub(crate) fn generate() -> Result<Self, aws_lc_rs::error::Unspecified> {
            Ok(Self {
                pair: RsaKeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048)?,
                algorithm: Algorithm::RS256,
            })
        }

        #[cfg(feature = "testing")]
        pub(crate) fn public_key(&self) -> &aws_lc_rs::rsa::PublicKey {
            self.pair.public_key()
        }
    }

    impl signature::Signer<Vec<u8>> for RsaSigner {
        fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, signature::Error> {
            let mut signature = vec![0; self.pair.public_modulus_len()];
            let random = SystemRandom::new();
            match self.algorithm {
                Algorithm::RS256 => {
                    self.pair
                        .sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                }
                _ => self
                    .pair
                    .sign(&RSA_PSS_SHA256, &random, message, &mut signature),
            }
            .map_err(|_| signature::Error::new())?;
            Ok(signature)
        }
    }

    impl JwtSigner for RsaSigner {
        fn algorithm(&self) -> Algorithm {
            self.algorithm
        }
    }
}
