use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use der::DateTime;
use der::asn1::ObjectIdentifier;
use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::name::Name;
use crate::crypto::asn1::{
    Asn1Error, Asn1Reader, Asn1Value, BIT_STRING, CONSTRUCTED, INTEGER, SEQUENCE, context,
};
use crate::crypto::{
    EC, ED25519, HAS_ALL_CURVES, P256, P384, RSA, RSASSA_PSS, RsaPssParameters, SigningAlgorithm,
    unsigned_bits,
};
use crate::error::{Error, Escaped};

/// A parsed X.509 certificate without private key.
///
/// The reader accepts what OpenSSL accepts, such as a serial number of over 20 octets and `true`
/// written as 1. The bytes of the certificate stay as they are, since they are signed.
pub(super) struct X509 {
    der: Vec<u8>,
    subject: Name,
    issuer: Name,
    not_before: SystemTime,
    not_after: SystemTime,
    key_algorithm: ObjectIdentifier,
    /// The encoded parameters of the key's algorithm.
    key_parameters: Vec<u8>,
    public_key: Vec<u8>,
    subject_key_identifier: Option<Vec<u8>>,
    authority_key_identifier: Option<Vec<u8>>,
}

/// The kind of a certificate's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyKind {
    Rsa {
        bits: usize,
        /// True if the key is only for RSASSA-PSS.
        is_pss: bool,
    },
    P256,
    P384,
    Ed25519,
}

impl KeyKind {
    /// Returns the name with its article.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Rsa { is_pss: true, .. } => "an RSA-PSS key",
            Self::Rsa { is_pss: false, .. } => "an RSA key",
            Self::P256 => "a P-256 key",
            Self::P384 => "a P-384 key",
            Self::Ed25519 => "an Ed25519 key",
        }
    }

    pub(super) fn fits(self, algorithm: SigningAlgorithm) -> bool {
        match self {
            Self::Rsa { is_pss: true, .. } => algorithm == SigningAlgorithm::PS256,
            Self::Rsa { is_pss: false, .. } => algorithm.is_rsa(),
            Self::P256 => algorithm == SigningAlgorithm::ES256,
            Self::P384 => algorithm == SigningAlgorithm::ES384,
            Self::Ed25519 => algorithm == SigningAlgorithm::EdDSA,
        }
    }

    /// Adds the restriction of a private key for RSASSA-PSS.
    pub(super) fn restricted(mut self, to_pss: bool) -> Self {
        if let Self::Rsa { is_pss, .. } = &mut self {
            *is_pss |= to_pss;
        }
        self
    }
}

impl X509 {
    /// Reads the first value of `der`. Ignores what follows, such as a newline or the trust
    /// settings of a `TRUSTED CERTIFICATE`.
    pub(super) fn parse(der: &[u8]) -> Result<Self, Error> {
        Self::read(der).map_err(|error| {
            Error::credential(match error {
                Asn1Error::Truncated => {
                    "a certificate cannot be read: it is cut off; copy it again"
                }
                Asn1Error::Malformed => {
                    "a certificate cannot be read: it is not the DER of an X.509 certificate"
                }
            })
        })
    }

    fn read(der: &[u8]) -> Result<Self, Asn1Error> {
        let certificate = Asn1Reader::new(der).value(SEQUENCE)?;
        let mut parts = certificate.reader();
        let mut fields = parts.sequence()?;
        parts.sequence()?;
        parts.value(BIT_STRING)?;

        fields.optional(context(0))?;
        fields.value(INTEGER)?;
        fields.sequence()?;
        let issuer = Name::parse(fields.sequence()?)?;
        let mut validity = fields.sequence()?;
        let (not_before, not_after) = (date(validity.any()?)?, date(validity.any()?)?);
        let subject = Name::parse(fields.sequence()?)?;
        let mut key = fields.sequence()?;
        let algorithm = key.value(SEQUENCE)?;
        let mut algorithm_fields = algorithm.reader();
        let key_algorithm = algorithm_fields.oid()?;
        let key_parameters = match algorithm_fields.is_empty() {
            true => Vec::new(),
            false => algorithm_fields.any()?.encoded().to_vec(),
        };
        let public_key = match key.value(BIT_STRING)?.content() {
            [0, public_key @ ..] => public_key.to_vec(),
            _ => return Err(Asn1Error::Malformed),
        };
        let mut certificate = Self {
            der: certificate.encoded().to_vec(),
            subject,
            issuer,
            not_before,
            not_after,
            key_algorithm,
            key_parameters,
            public_key,
            subject_key_identifier: None,
            authority_key_identifier: None,
        };
        // Identifiers of issuer and subject, implicit bit strings, are before the extensions.
        while !fields.is_empty() {
            let field = fields.any()?;
            if field.tag() == context(3) {
                certificate.read_extensions(field.reader().sequence()?)?;
            }
        }
        Ok(certificate)
    }

    fn read_extensions(&mut self, mut extensions: Asn1Reader<'_>) -> Result<(), Asn1Error> {
        while !extensions.is_empty() {
            let mut extension = extensions.sequence()?;
            let id = extension.oid()?;
            extension.optional(BOOLEAN)?;
            let value = extension.octets()?;
            let mut value = Asn1Reader::new(&value);
            // An identifier that cannot be read is the same as none.
            if id == SUBJECT_KEY_IDENTIFIER {
                let identifier = value.octets().ok();
                self.subject_key_identifier = identifier.map(|octets| octets.to_vec());
            } else if id == AUTHORITY_KEY_IDENTIFIER {
                let identifier = value.sequence().and_then(|mut fields| {
                    let identifier = fields.optional(context(0) & !CONSTRUCTED)?;
                    Ok(identifier.map(|identifier| identifier.content().to_vec()))
                });
                self.authority_key_identifier = identifier.ok().flatten();
            }
        }
        Ok(())
    }

    pub(super) fn subject(&self) -> String {
        Escaped(&self.subject.to_string()).to_string()
    }

    /// Returns the public key, PKCS#1 DER for RSA, a point for P-256 and P-384, and 32 bytes for
    /// Ed25519.
    pub(super) fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    /// Returns whether the certificate is for the public key of a private key.
    ///
    /// A point of a certificate may be compressed. The point of a private key is not.
    pub(super) fn is_for(&self, public_key: &[u8]) -> bool {
        if self.public_key == public_key {
            return true;
        }
        match (self.public_key.split_first(), public_key.split_first()) {
            (Some((&sign @ (2 | 3), compressed)), Some((4, point))) => {
                let is_odd = point.last().is_some_and(|last| last & 1 == 1);
                point.len() == compressed.len().saturating_mul(2)
                    && point.starts_with(compressed)
                    && (sign == 3) == is_odd
            }
            _ => false,
        }
    }

    pub(super) fn key_kind(&self) -> Result<KeyKind, Error> {
        let curve = || Asn1Reader::new(&self.key_parameters).oid().ok();
        let rsa = |is_pss| modulus_bits(&self.public_key).map(|bits| KeyKind::Rsa { bits, is_pss });
        let kind = match self.key_algorithm {
            RSA => rsa(false),
            RSASSA_PSS => {
                RsaPssParameters::check(Asn1Reader::new(&self.key_parameters))?;
                rsa(true)
            }
            EC if curve() == Some(P256) => Some(KeyKind::P256),
            EC if curve() == Some(P384) => Some(KeyKind::P384).filter(|_| HAS_ALL_CURVES),
            ED25519 => Some(KeyKind::Ed25519).filter(|_| HAS_ALL_CURVES),
            _ => None,
        };
        match kind {
            Some(KeyKind::Rsa { bits, .. }) if bits < 2048 => Err(Error::credential(format!(
                "the RSA key of the certificate of '{}' has {bits} bits, and under 2048 bits is not safe; create a new key and certificate and register the certificate with the application",
                self.subject()
            ))),
            Some(kind) => Ok(kind),
            None => Err(Error::credential(format!(
                "the certificate of '{}' is for a key that is neither {}; Microsoft Entra ID accepts only RSA keys of 2048 bits or more",
                self.subject(),
                match HAS_ALL_CURVES {
                    true => "RSA nor P-256, P-384 or Ed25519",
                    false =>
                        "RSA nor P-256, and the feature 'rust-crypto' supports no others (enable 'aws-lc-rs' or 'ring' for P-384 and Ed25519)",
                },
            ))),
        }
    }

    pub(super) fn not_before(&self) -> SystemTime {
        self.not_before
    }

    pub(super) fn not_after(&self) -> SystemTime {
        self.not_after
    }

    pub(super) fn sha1(&self) -> [u8; 20] {
        Sha1::digest(&self.der).into()
    }

    pub(super) fn sha256(&self) -> [u8; 32] {
        Sha256::digest(&self.der).into()
    }

    /// Returns the certificate for `x5c`, in base64 and not base64url.
    pub(super) fn to_base64(&self) -> String {
        BASE64_STANDARD.encode(&self.der)
    }

    /// Returns whether `self` can be the issuer of `other`.
    ///
    /// The names must match, and the key identifiers too if both certificates have one.
    pub(super) fn issued(&self, other: &Self) -> bool {
        let is_self_signed = other.issuer == other.subject;
        if is_self_signed || self.subject != other.issuer {
            return false;
        }
        match (
            &self.subject_key_identifier,
            &other.authority_key_identifier,
        ) {
            (Some(issuer_key), Some(named)) => issuer_key == named,
            _ => true,
        }
    }
}

/// Reads a `UTCTime` or a `GeneralizedTime`, with or without seconds, in UTC or with an offset.
///
/// A time before 1970 counts as 1970.
fn date(value: Asn1Value<'_>) -> Result<SystemTime, Asn1Error> {
    let year_digits = match value.tag() {
        UTC_TIME => 2,
        GENERALIZED_TIME => 4,
        _ => return Err(Asn1Error::Malformed),
    };
    let text = std::str::from_utf8(value.content()).map_err(|_| Asn1Error::Malformed)?;
    parse_date(text, year_digits).ok_or(Asn1Error::Malformed)
}

fn parse_date(text: &str, year_digits: usize) -> Option<SystemTime> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (digits, zone) = text.split_at_checked(end)?;
    let (year, rest) = digits.split_at_checked(year_digits)?;
    let year: u16 = year.parse().ok()?;
    let year = match year_digits {
        // RFC 5280 section 4.1.2.5.1.
        2 if year >= 50 => year.checked_add(1900)?,
        2 => year.checked_add(2000)?,
        _ => year,
    };
    let mut parts = [1, 1, 0, 0, 0];
    if !matches!(rest.len(), 8 | 10) {
        return None;
    }
    for (part, digits) in parts.iter_mut().zip(rest.as_bytes().chunks_exact(2)) {
        *part = std::str::from_utf8(digits).ok()?.parse().ok()?;
    }
    // A fraction of a second is dropped.
    let zone = match zone.strip_prefix('.') {
        Some(fraction) => fraction.trim_start_matches(|c: char| c.is_ascii_digit()),
        None => zone,
    };
    let [month, day, hour, minute, second] = parts;
    let time = match DateTime::new(year.max(1970), month, day, hour, minute, second) {
        Ok(_) if year < 1970 => return Some(UNIX_EPOCH),
        Ok(time) => time.to_system_time(),
        Err(_) => return None,
    };
    let (sign, offset) = match zone {
        "Z" => return Some(time),
        _ => zone.split_at_checked(1)?,
    };
    if offset.len() != 4 || !offset.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let (hours, minutes) = offset.split_at_checked(2)?;
    let (hours, minutes): (u64, u64) = (hours.parse().ok()?, minutes.parse().ok()?);
    let offset = hours.checked_mul(60)?.checked_add(minutes)?;
    let offset = std::time::Duration::from_secs(offset.checked_mul(60)?);
    match sign {
        "+" => Some(time.checked_sub(offset)?.max(UNIX_EPOCH)),
        "-" => time.checked_add(offset),
        _ => None,
    }
}

/// Returns the size of a PKCS#1 RSA key in bits.
fn modulus_bits(public_key: &[u8]) -> Option<usize> {
    let mut key = Asn1Reader::new(public_key).sequence().ok()?;
    let modulus = key.value(INTEGER).ok()?.content();
    key.value(INTEGER).ok()?;
    unsigned_bits(modulus)
}

const BOOLEAN: u8 = 0x01;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

const SUBJECT_KEY_IDENTIFIER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.14");
const AUTHORITY_KEY_IDENTIFIER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.35");

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_read_in_every_form_that_openssl_reads() {
        let seconds = |seconds| Some(UNIX_EPOCH + Duration::from_secs(seconds));
        for (text, year_digits, expected) in [
            ("261128000000Z", 2, seconds(1_795_824_000)),
            ("20261128000000Z", 4, seconds(1_795_824_000)),
            ("2611280000Z", 2, seconds(1_795_824_000)),
            ("20261128000000.5Z", 4, seconds(1_795_824_000)),
            ("261128010000+0100", 2, seconds(1_795_824_000)),
            ("261127233000-0030", 2, seconds(1_795_824_000)),
            ("99991231235959Z", 4, seconds(253_402_300_799)),
            ("500101000000Z", 2, seconds(0)),
            ("700101000000+0100", 2, seconds(0)),
            ("261328000000Z", 2, None),
            ("261128000000", 2, None),
            ("2611280000000Z", 2, None),
            ("261128000000+1", 2, None),
            ("261128000000+01é", 2, None),
            ("", 2, None),
        ] {
            assert_eq!(parse_date(text, year_digits), expected, "{text}");
        }
    }
}
