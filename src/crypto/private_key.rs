use der::asn1::ObjectIdentifier;
use zeroize::Zeroizing;

use super::asn1::{Asn1Error, Asn1Reader, INTEGER, OCTET_STRING, SEQUENCE, context};
use crate::error::Error;

/// The encoded private key from a file. The bytes are wiped on drop.
#[derive(PartialEq)]
pub(crate) enum PrivateKeyDer {
    Pkcs8(Zeroizing<Vec<u8>>),
    Pkcs1(Zeroizing<Vec<u8>>),
    Sec1(Zeroizing<Vec<u8>>),
}

impl PrivateKeyDer {
    /// Detects the format by the first values of the DER. Ignores bytes behind the key, such as a
    /// newline.
    pub(crate) fn detect(der: &[u8]) -> Option<Self> {
        let key = Asn1Reader::new(der).value(SEQUENCE).ok()?;
        let bytes = Zeroizing::new(key.encoded().to_vec());
        let mut fields = key.reader();
        let (version, first) = (fields.unsigned().ok()?, fields.any().ok()?);
        match (version, first.tag()) {
            (0 | 1, SEQUENCE) => fields.octets().ok().map(|_| Self::Pkcs8(bytes)),
            (0 | 1, INTEGER) => Some(Self::Pkcs1(bytes)),
            (1, OCTET_STRING) => Some(Self::Sec1(bytes)),
            _ => None,
        }
    }

    /// Returns the kind of the key, `None` if the key cannot be read.
    #[cfg(any(feature = "aws-lc-rs", feature = "ring", feature = "rust-crypto"))]
    pub(super) fn kind(&self) -> Option<PrivateKeyKind> {
        let kind_of_rsa = |key: &[u8]| {
            let mut fields = Asn1Reader::new(key).sequence().ok()?;
            fields.unsigned().ok()?;
            let modulus = fields.value(INTEGER).ok()?.content();
            let bits = unsigned_bits(modulus)?;
            // A DSA key of OpenSSL has five numbers, and an RSA key eight or more.
            let others = std::iter::from_fn(|| fields.any().ok()).count();
            Some(match others > 4 {
                true => PrivateKeyKind::Rsa { bits },
                false => PrivateKeyKind::Other,
            })
        };
        match self {
            Self::Pkcs1(key) => kind_of_rsa(key),
            Self::Sec1(_) => Some(PrivateKeyKind::EllipticCurve),
            Self::Pkcs8(key) => {
                let mut key = Asn1Reader::new(key).sequence().ok()?;
                key.unsigned().ok()?;
                match key.sequence().ok()?.oid().ok()? {
                    RSA | RSASSA_PSS => kind_of_rsa(&key.octets().ok()?),
                    EC => Some(PrivateKeyKind::EllipticCurve),
                    ED25519 => Some(PrivateKeyKind::Ed25519),
                    _ => Some(PrivateKeyKind::Other),
                }
            }
        }
    }

    /// Returns the PKCS#1 key of a PKCS#8 key for RSASSA-PSS, which no backend reads.
    ///
    /// # Errors
    ///
    /// [`Error::Credential`] if the parameters of the key exclude PS256.
    pub(super) fn without_rsa_pss(&self) -> Result<Option<Self>, Error> {
        let Self::Pkcs8(der) = self else {
            return Ok(None);
        };
        let fields = || {
            let mut key = Asn1Reader::new(der).sequence()?;
            key.unsigned()?;
            let mut algorithm = key.sequence()?;
            let is_rsa_pss = algorithm.oid()? == RSASSA_PSS;
            Ok::<_, Asn1Error>((is_rsa_pss, algorithm, key.octets()?))
        };
        // The backend finds what is wrong with another key.
        let Ok((true, algorithm, key)) = fields() else {
            return Ok(None);
        };
        RsaPssParameters::check(algorithm)?;
        Ok(Some(Self::Pkcs1(key)))
    }
}

/// The kind of a private key.
#[cfg(any(feature = "aws-lc-rs", feature = "ring", feature = "rust-crypto"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PrivateKeyKind {
    Rsa { bits: usize },
    EllipticCurve,
    Ed25519,
    Other,
}

/// Returns the number of bits of a positive integer, `None` for another integer.
pub(crate) fn unsigned_bits(content: &[u8]) -> Option<usize> {
    if content.first().is_none_or(|first| *first >= 0x80) {
        return None;
    }
    let zeros = content.iter().take_while(|byte| **byte == 0).count();
    let digits = content.get(zeros..)?;
    let unused = digits.first().map_or(0, |byte| byte.leading_zeros());
    let bits = digits.len().saturating_mul(8);
    Some(bits.saturating_sub(unused as usize))
}

/// The parameters of a key for RSASSA-PSS ([RFC 4055 section 3.1]).
///
/// [RFC 4055 section 3.1]: https://www.rfc-editor.org/rfc/rfc4055#section-3.1
pub(crate) struct RsaPssParameters;

impl RsaPssParameters {
    /// Checks that the key may sign with PS256. A key without parameters may.
    ///
    /// `parameters` is what follows the object identifier of the algorithm.
    ///
    /// # Errors
    ///
    /// [`Error::Credential`] with the reason.
    pub(crate) fn check(parameters: Asn1Reader<'_>) -> Result<(), Error> {
        if parameters.is_empty() {
            return Ok(());
        }
        let why = match Self::allow_ps256(parameters) {
            Ok(true) => return Ok(()),
            Ok(false) => "are not for SHA-256 with a salt of at most 32 bytes, which PS256 needs",
            Err(_) => "cannot be read",
        };
        Err(Error::credential(format!(
            "the parameters of the RSA-PSS key {why}; use an RSA key without this restriction ('openssl genpkey -algorithm RSA')"
        )))
    }

    fn allow_ps256(mut parameters: Asn1Reader<'_>) -> Result<bool, Asn1Error> {
        let mut fields = parameters.sequence()?;
        let (mut is_sha256, mut is_mask_sha256, mut salt_length) = (false, false, 20);
        if let Some(hash) = fields.optional(context(0))? {
            is_sha256 = hash.reader().sequence()?.oid()? == SHA256;
        }
        if let Some(mask) = fields.optional(context(1))? {
            let mut mask = mask.reader().sequence()?;
            is_mask_sha256 = mask.oid()? == MGF1 && mask.sequence()?.oid()? == SHA256;
        }
        if let Some(salt) = fields.optional(context(2))? {
            salt_length = salt.reader().unsigned()?;
        }
        Ok(is_sha256 && is_mask_sha256 && salt_length <= 32)
    }
}

/// `rsaEncryption` ([RFC 8017 appendix C](https://www.rfc-editor.org/rfc/rfc8017#appendix-C)).
pub(crate) const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
/// `id-ecPublicKey` ([RFC 5480 section 2.1.1]).
///
/// [RFC 5480 section 2.1.1]: https://www.rfc-editor.org/rfc/rfc5480#section-2.1.1
pub(crate) const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
/// `secp256r1` ([RFC 5480 section 2.1.1](https://www.rfc-editor.org/rfc/rfc5480#section-2.1.1)).
pub(crate) const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
/// `secp384r1` ([RFC 5480 section 2.1.1](https://www.rfc-editor.org/rfc/rfc5480#section-2.1.1)).
pub(crate) const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
/// `id-Ed25519` ([RFC 8410 section 3](https://www.rfc-editor.org/rfc/rfc8410#section-3)).
pub(crate) const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
/// `id-RSASSA-PSS` ([RFC 4055 section 3.1](https://www.rfc-editor.org/rfc/rfc4055#section-3.1)).
pub(crate) const RSASSA_PSS: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10");
const MGF1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.8");
const SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");

#[cfg(test)]
mod tests {
    use super::*;

    /// Hash, mask and salt length as `openssl genpkey -algorithm RSA-PSS` writes them.
    #[test]
    fn only_parameters_that_allow_ps256_pass() {
        let hash = |last: u8| {
            [
                &[
                    0xa0, 15, 0x30, 13, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, last,
                ][..],
                &[5, 0],
            ]
            .concat()
        };
        let mask = |last: u8| {
            let hash = &hash(last)[2..];
            let mgf1 = [6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 13, 1, 1, 8];
            [&[0xa1, 28, 0x30, 26][..], &mgf1, hash].concat()
        };
        let salt = |length: u8| vec![0xa2, 3, 2, 1, length];
        for (fields, passes) in [
            (vec![hash(1), mask(1), salt(32)], true),
            (vec![hash(1), mask(1)], true),
            (vec![hash(1), mask(1), salt(33)], false),
            (vec![hash(1), mask(2), salt(32)], false),
            (vec![hash(2), mask(1), salt(32)], false),
            (vec![hash(1), salt(32)], false),
            (vec![], false),
        ] {
            let fields = fields.concat();
            let encoded = [&[0x30, fields.len() as u8][..], &fields].concat();
            let checked = RsaPssParameters::check(Asn1Reader::new(&encoded));
            assert_eq!(checked.is_ok(), passes, "{encoded:02x?}");
        }
        assert!(RsaPssParameters::check(Asn1Reader::new(b"")).is_ok());
        let error = RsaPssParameters::check(Asn1Reader::new(b"\x30\x05")).unwrap_err();
        assert!(error.to_string().contains("cannot be read"));
    }
}
