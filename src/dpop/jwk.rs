use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::de::{Deserializer, IgnoredAny};
use serde::{Deserialize, Serialize};

use super::error::ProofError;
use crate::crypto::SigningAlgorithm;
use crate::crypto::asn1::{Asn1Reader, INTEGER};
use crate::jwt::{ec_point, rsa_public_key};
use crate::token::Thumbprint;

/// A public key as a JSON Web Key ([RFC 7517]): RSA, P-256, P-384 or Ed25519.
///
/// Serialization writes the required members only, in the order of RFC 7638.
///
/// [RFC 7517]: https://www.rfc-editor.org/rfc/rfc7517
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct PublicJwk {
    #[serde(flatten)]
    members: JwkRequiredMembers,
    /// The key as [`crypto::verify`](crate::crypto::verify) reads it.
    #[serde(skip)]
    public_key: Vec<u8>,
}

/// The required members of each type, in lexicographic order. The values are base64url, which JSON
/// does not escape.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
enum JwkRequiredMembers {
    Ec {
        crv: &'static str,
        kty: &'static str,
        x: String,
        y: String,
    },
    Ed25519 {
        crv: &'static str,
        kty: &'static str,
        x: String,
    },
    Rsa {
        e: String,
        kty: &'static str,
        n: String,
    },
}

impl PublicJwk {
    /// Returns the JSON Web Key of a public key for `algorithm`.
    ///
    /// The key is PKCS#1 DER for RSA, an uncompressed point for P-256 and P-384, and 32 bytes for
    /// Ed25519. Returns `None` for another key.
    pub(crate) fn of_key(algorithm: SigningAlgorithm, public_key: &[u8]) -> Option<Self> {
        match algorithm {
            SigningAlgorithm::PS256 | SigningAlgorithm::RS256 => {
                let mut fields = Asn1Reader::new(public_key).sequence().ok()?;
                let n = fields.value(INTEGER).ok()?.content();
                Self::rsa(n, fields.value(INTEGER).ok()?.content())
            }
            SigningAlgorithm::ES256 => Self::ec_of_point(&P256, public_key),
            SigningAlgorithm::ES384 => Self::ec_of_point(&P384, public_key),
            SigningAlgorithm::EdDSA => Self::ed25519(public_key),
        }
    }

    /// Returns the SHA-256 thumbprint of the key ([RFC 7638 section 3]).
    ///
    /// [RFC 7638 section 3]: https://www.rfc-editor.org/rfc/rfc7638#section-3
    pub(crate) fn thumbprint(&self) -> Thumbprint {
        // The fields are strings, so serialization cannot fail.
        Thumbprint::of(&serde_json::to_vec(self).unwrap_or_default())
    }

    /// Returns whether the type of the key is that of the algorithm.
    pub(crate) fn allows(&self, algorithm: SigningAlgorithm) -> bool {
        match (&self.members, algorithm) {
            (JwkRequiredMembers::Rsa { .. }, SigningAlgorithm::PS256 | SigningAlgorithm::RS256)
            | (JwkRequiredMembers::Ed25519 { .. }, SigningAlgorithm::EdDSA) => true,
            (JwkRequiredMembers::Ec { crv, .. }, SigningAlgorithm::ES256) => *crv == P256.name,
            (JwkRequiredMembers::Ec { crv, .. }, SigningAlgorithm::ES384) => *crv == P384.name,
            _ => false,
        }
    }

    /// Returns the key as [`crypto::verify`](crate::crypto::verify) reads it.
    pub(super) fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    /// Reads the key in the header of a proof.
    ///
    /// The numbers of the key are encoded again, so one key has one thumbprint.
    pub(super) fn read(members: &JwkMembers) -> Result<Self, ProofError> {
        if members.has_private_member() {
            return Err(ProofError::PrivateKey);
        }
        members.public_key().ok_or(ProofError::Key)
    }

    fn rsa(n: &[u8], e: &[u8]) -> Option<Self> {
        let encode_number = |number: &[u8]| {
            let zeros = number.iter().take_while(|byte| **byte == 0).count();
            BASE64_URL_SAFE_NO_PAD.encode(number.get(zeros..).unwrap_or_default())
        };
        Some(Self {
            members: JwkRequiredMembers::Rsa {
                e: encode_number(e),
                kty: "RSA",
                n: encode_number(n),
            },
            public_key: rsa_public_key(n, e)?,
        })
    }

    fn ec(curve: &Curve, x: &[u8], y: &[u8]) -> Option<Self> {
        Some(Self {
            public_key: ec_point(x, y, curve.coordinate_bytes)?,
            members: JwkRequiredMembers::Ec {
                crv: curve.name,
                kty: "EC",
                x: BASE64_URL_SAFE_NO_PAD.encode(x),
                y: BASE64_URL_SAFE_NO_PAD.encode(y),
            },
        })
    }

    /// Reads an uncompressed point.
    fn ec_of_point(curve: &Curve, point: &[u8]) -> Option<Self> {
        let (x, y) = point
            .strip_prefix(&[4])?
            .split_at_checked(curve.coordinate_bytes)?;
        Self::ec(curve, x, y)
    }

    fn ed25519(x: &[u8]) -> Option<Self> {
        (x.len() == ED25519_BYTES).then(|| Self {
            members: JwkRequiredMembers::Ed25519 {
                crv: "Ed25519",
                kty: "OKP",
                x: BASE64_URL_SAFE_NO_PAD.encode(x),
            },
            public_key: x.to_vec(),
        })
    }
}

/// The members of a JSON Web Key in the header of a proof. serde rejects a member that appears
/// twice, and ignores members that the key does not need.
#[derive(Deserialize)]
pub(super) struct JwkMembers {
    kty: String,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
    /// The private exponent of RSA, or the private key of the other types.
    #[serde(default, deserialize_with = "is_present")]
    d: bool,
    #[serde(default, deserialize_with = "is_present")]
    p: bool,
    #[serde(default, deserialize_with = "is_present")]
    q: bool,
    #[serde(default, deserialize_with = "is_present")]
    dp: bool,
    #[serde(default, deserialize_with = "is_present")]
    dq: bool,
    #[serde(default, deserialize_with = "is_present")]
    qi: bool,
    #[serde(default, deserialize_with = "is_present")]
    oth: bool,
    /// A symmetric key.
    #[serde(default, deserialize_with = "is_present")]
    k: bool,
}

impl JwkMembers {
    /// Returns whether the key has a member of a private or symmetric key, even `null`.
    fn has_private_member(&self) -> bool {
        let of_rsa = self.p || self.q || self.dp || self.dq || self.qi || self.oth;
        self.d || self.k || of_rsa
    }

    fn public_key(&self) -> Option<PublicJwk> {
        let number = |member: &Option<String>| {
            let text = member.as_ref()?;
            BASE64_URL_SAFE_NO_PAD.decode(text).ok()
        };
        match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => PublicJwk::rsa(&number(&self.n)?, &number(&self.e)?),
            ("EC", Some("P-256")) => PublicJwk::ec(&P256, &number(&self.x)?, &number(&self.y)?),
            ("EC", Some("P-384")) => PublicJwk::ec(&P384, &number(&self.x)?, &number(&self.y)?),
            ("OKP", Some("Ed25519")) => PublicJwk::ed25519(&number(&self.x)?),
            _ => None,
        }
    }
}

/// An elliptic curve of ECDSA ([RFC 7518 section 6.2.1]).
///
/// [RFC 7518 section 6.2.1]: https://www.rfc-editor.org/rfc/rfc7518#section-6.2.1
struct Curve {
    name: &'static str,
    coordinate_bytes: usize,
}

pub(super) fn is_present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

const P256: Curve = Curve {
    name: "P-256",
    coordinate_bytes: 32,
};
const P384: Curve = Curve {
    name: "P-384",
    coordinate_bytes: 48,
};
const ED25519_BYTES: usize = 32;
