//! The backend for a tree without aws-lc, ring.

use ::ring::rand::SystemRandom;
use ::ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED,
    ECDSA_P384_SHA384_FIXED_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RSA_PSS_2048_8192_SHA256, RSA_PSS_SHA256,
    RsaEncoding, RsaKeyPair, UnparsedPublicKey, VerificationAlgorithm,
};

use der::asn1::ObjectIdentifier;

use super::asn1::{Asn1Error, Asn1Reader, BIT_STRING, context};
use super::{
    EC, ED25519 as ED25519_KEY, NoBackend, P256, P384, PrivateKeyDer, PrivateKeyKind, RSA,
    SigningAlgorithm, unreadable, unsupported,
};
use crate::error::Error;

/// A private key of ring.
pub(super) enum RingKeyPair {
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl RingKeyPair {
    /// Parses a key. The PKCS#8 and SEC 1 structures are read here, because ring reads fewer of
    /// their versions than OpenSSL writes.
    pub(super) fn parse(der: &PrivateKeyDer) -> Result<Self, Error> {
        match der {
            PrivateKeyDer::Pkcs1(key) => Self::rsa(key, der),
            PrivateKeyDer::Sec1(key) => Self::elliptic_curve(key, None),
            PrivateKeyDer::Pkcs8(pkcs8) => {
                let fields = || {
                    let mut key = Asn1Reader::new(pkcs8).sequence()?;
                    key.unsigned()?;
                    let mut algorithm = key.sequence()?;
                    Ok::<_, Asn1Error>((algorithm.oid()?, algorithm.oid(), key.octets()?))
                };
                match fields().map_err(|_| unreadable())? {
                    (RSA, _, key) => Self::rsa(&key, der),
                    (EC, Ok(curve), key) => Self::elliptic_curve(&key, Some(curve)),
                    (ED25519_KEY, _, _) => {
                        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8);
                        pair.map(Self::Ed25519).map_err(|_| unreadable())
                    }
                    _ => Err(unsupported()),
                }
            }
        }
    }

    fn rsa(key: &[u8], der: &PrivateKeyDer) -> Result<Self, Error> {
        let error = match RsaKeyPair::from_der(key) {
            Ok(pair) => return Ok(Self::Rsa(pair)),
            Err(error) => error.to_string(),
        };
        let Some(PrivateKeyKind::Rsa { bits }) = der.kind() else {
            return Err(unreadable());
        };
        let problem = match error.as_str() {
            "TooLarge" if bits > LARGEST_RSA_BITS => format!("has {bits} bits"),
            "PrivateModulusLenNotMultipleOf512Bits" => format!("has {bits} bits"),
            "TooSmall" => "has a public exponent under 65537".to_owned(),
            "TooLarge" => "has a public exponent of more than 33 bits".to_owned(),
            _ => return Err(unreadable()),
        };
        Err(Error::credential(format!(
            "the RSA key {problem}, and ring signs only with keys of 2048, 3072 or 4096 bits whose public exponent is 65537 or a little more; enable the feature 'aws-lc-rs' in place of 'ring', or create a new key and certificate ('openssl req -x509 -newkey rsa:3072 -nodes -days 365 -subj /CN=daemon -keyout key.pem -out certificate.pem') and register the certificate with the application"
        )))
    }

    /// Reads the structure of SEC 1 ([RFC 5915 section 3]). `curve` is named outside of the
    /// structure in PKCS#8.
    ///
    /// [RFC 5915 section 3]: https://www.rfc-editor.org/rfc/rfc5915#section-3
    fn elliptic_curve(key: &[u8], curve: Option<ObjectIdentifier>) -> Result<Self, Error> {
        let fields = || {
            let mut key = Asn1Reader::new(key).sequence()?;
            key.unsigned()?;
            let private_key = key.octets()?;
            let inner_curve = match key.optional(context(0))? {
                Some(parameters) => parameters.reader().oid().ok(),
                None => None,
            };
            let public_key = match key.optional(context(1))? {
                Some(public_key) => Some(public_key.reader().value(BIT_STRING)?.content()),
                None => None,
            };
            Ok::<_, Asn1Error>((private_key, inner_curve, public_key))
        };
        let (private_key, inner_curve, public_key) = fields().map_err(|_| unreadable())?;
        let (algorithm, wrap, name): (_, fn(EcdsaKeyPair) -> Self, _) = match curve.or(inner_curve)
        {
            Some(P256) => (&ECDSA_P256_SHA256_FIXED_SIGNING, Self::P256, "P-256"),
            Some(P384) => (&ECDSA_P384_SHA384_FIXED_SIGNING, Self::P384, "P-384"),
            _ => return Err(unsupported()),
        };
        // The first octet is the number of unused bits. The second says that both coordinates
        // follow.
        let Some([0, public_key @ ..]) = public_key.filter(|key| key.starts_with(&[0, 4])) else {
            return Err(Error::credential(format!(
                "the {name} private key holds no public key, or a compressed one, and ring needs both coordinates; add the public key ('openssl ec -in key.pem -conv_form uncompressed -out new-key.pem'), or enable the feature 'aws-lc-rs' in place of 'ring'"
            )));
        };
        let pair = EcdsaKeyPair::from_private_key_and_public_key(
            algorithm,
            &private_key,
            public_key,
            &SystemRandom::new(),
        );
        pair.map(wrap).map_err(|_| unreadable())
    }

    /// Returns `None` if the operating system has no random numbers.
    pub(super) fn generate_p256() -> Option<Self> {
        let (algorithm, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let key = EcdsaKeyPair::generate_pkcs8(algorithm, &random).ok()?;
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, key.as_ref(), &random);
        pair.map(Self::P256).ok()
    }

    pub(super) fn public_key(&self) -> &[u8] {
        match self {
            Self::Rsa(pair) => pair.public().as_ref(),
            Self::P256(pair) | Self::P384(pair) => pair.public_key().as_ref(),
            Self::Ed25519(pair) => pair.public_key().as_ref(),
        }
    }

    pub(super) fn sign(&self, algorithm: SigningAlgorithm, message: &[u8]) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        let (pair, encoding): (_, &'static dyn RsaEncoding) = match (self, algorithm) {
            (Self::Rsa(pair), SigningAlgorithm::PS256) => (pair, &RSA_PSS_SHA256),
            (Self::Rsa(pair), SigningAlgorithm::RS256) => (pair, &RSA_PKCS1_SHA256),
            (Self::P256(pair), SigningAlgorithm::ES256)
            | (Self::P384(pair), SigningAlgorithm::ES384) => {
                let signature = pair.sign(&random, message).ok()?;
                return Some(signature.as_ref().to_vec());
            }
            (Self::Ed25519(pair), SigningAlgorithm::EdDSA) => {
                return Some(pair.sign(message).as_ref().to_vec());
            }
            _ => return None,
        };
        let mut signature = vec![0; pair.public().modulus_len()];
        pair.sign(encoding, &random, message, &mut signature).ok()?;
        Some(signature)
    }
}

/// Verifies a signature with a public key: PKCS#1 DER for RSA, an uncompressed point for P-256 and
/// P-384, and 32 bytes for Ed25519.
pub(super) fn verify(
    public_key: &[u8],
    algorithm: SigningAlgorithm,
    message: &[u8],
    signature: &[u8],
) -> Result<bool, NoBackend> {
    let algorithm: &'static dyn VerificationAlgorithm = match algorithm {
        SigningAlgorithm::PS256 => &RSA_PSS_2048_8192_SHA256,
        SigningAlgorithm::RS256 => &RSA_PKCS1_2048_8192_SHA256,
        SigningAlgorithm::ES256 => &ECDSA_P256_SHA256_FIXED,
        SigningAlgorithm::ES384 => &ECDSA_P384_SHA384_FIXED,
        SigningAlgorithm::EdDSA => &ED25519,
    };
    let key = UnparsedPublicKey::new(algorithm, public_key);
    Ok(key.verify(message, signature).is_ok())
}

/// Largest RSA key that ring signs with.
const LARGEST_RSA_BITS: usize = 4096;
